"""The only writers. Forms, REST, jobs and commands call these; nothing else saves a configuration object.

Each one, in a single transaction: rights -> lock -> validate (model, then the page's rules) -> save -> audit entry with
before and after -> when the page configures the engine, compile and store a new generation; after commit, announce.
``dry_run=True`` does all of it, rolls back, and returns a ``Preview`` (see rehearsal.py).

They raise ``PermissionDenied`` (403), ``ValidationError`` by field (400) or ``Refused`` (409).

A page's own writers: ``create(actor, values) -> object``, ``update(actor, object, values)``, ``delete(actor, object)``.
They get cleaned values (relations as objects) and, on update, the locked object with its **old** values: set what
changed and save. Validation, rules, audit, generation and announcement are done around them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django import forms
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import models
from django.http import HttpRequest
from django.utils.translation import gettext

from impadmin.console import audit, foureyes, objects, together
from impadmin.console.access import EVERYTHING, Grants, grants_of, is_api, may
from impadmin.console.objects import Lock, Remove
from impadmin.console.rehearsal import (
    Change,
    Done,
    Preview,
    Refused,
    Stale,
    Verdict,
    attempt,
    rehearses,
    transact,
    users_touched,
)

if TYPE_CHECKING:
    from impadmin.console.page import BasePage, Command, Page, SettingsPage


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: user name, what he may do, IP address (or job/task name), channel (browser, rest, job, cli, system).

    approved_by: the second administrator, where the action needed one.
    """

    name: str
    grants: Grants
    source: str = ''
    channel: str = 'system'
    approved_by: str = ''


SYSTEM = Actor('system', EVERYTHING, 'system', 'system')


@dataclass(slots=True)
class Filled:
    """Values put into an object: cleaned model values, many-to-many values, extra values."""

    plain: dict[str, Any] = field(default_factory=dict)
    many: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)

    def all(self) -> dict[str, Any]:
        """Everything, as a page's own writer takes it."""
        return {**self.plain, **self.many, **self.extra}


def actor_of(request: HttpRequest) -> Actor:
    """The actor of a console or REST request."""
    return Actor(
        name=str(getattr(request.user, 'username', '')),
        grants=grants_of(request),
        source=request.META.get('REMOTE_ADDR') or '',
        channel=getattr(request, 'channel', '') or ('rest' if is_api(request) else 'browser'),
        approved_by=getattr(request, 'approved_by', ''),
    )


def require(actor: Actor, page: BasePage, action: str) -> None:
    """Raise PermissionDenied when ``actor`` may not do ``action`` (add, change, delete, do/COMMAND) on ``page``."""
    if not may(actor.grants, page, action):
        raise PermissionDenied(gettext('Your role does not allow this.'))


def preview(actor: Actor, page: Page, changes: Sequence[Change]) -> Preview:
    """What ``do_changes`` would do."""
    found: Preview = do_changes(actor, page, changes, dry_run=True)
    return found


# ---- objects


def do_create(actor: Actor, page: Page, values: Mapping[str, Any], *, dry_run: bool = False) -> Any:
    """Add an object; returns it (or a Preview)."""

    def work() -> Done:
        obj = _create(actor, page, values)
        return Done(obj, users=_users(page, obj))

    return transact(work, configures=page.configures, dry_run=dry_run)


def do_update(
    actor: Actor,
    page: Page,
    obj: models.Model,
    values: Mapping[str, Any],
    *,
    expected: str = '',
    dry_run: bool = False,
) -> Any:
    """Change an object; names that ``values`` does not have stay. ``expected``: ``audit.digest`` of what the user saw;
    another state raises Stale. Returns the saved object (or a Preview)."""

    if not dry_run:
        foureyes.hold(
            actor,
            page,
            'change',
            lambda: {'do': 'update', 'pk': audit.plain(obj.pk), 'values': foureyes.values_of(page, values)},
            lambda: do_update(actor, page, obj, values, expected=expected, dry_run=True),
            str(obj),
        )

    def work() -> Done:
        done = _update(actor, page, obj, values, expected, objects.lock)
        done.users = _users(page, done.result)
        return done

    return transact(work, configures=page.configures, dry_run=dry_run)


def do_update_settings(
    actor: Actor, page: SettingsPage, values: Mapping[str, Any], *, expected: str = '', dry_run: bool = False
) -> Any:
    """Save a settings page; returns the row (or a Preview)."""
    require(actor, page, 'change')
    if not dry_run:
        foureyes.hold(
            actor,
            page,
            'change',
            lambda: {'do': 'settings', 'values': foureyes.values_of(page, values)},
            lambda: do_update_settings(actor, page, values, expected=expected, dry_run=True),
        )

    def work() -> Done:
        page.model._default_manager.get_or_create(pk=1)
        done = _change(actor, page, objects.lock(page.model, 1), values, expected)
        done.users = _users(page, done.result)
        return done

    return transact(work, configures=page.configures, dry_run=dry_run)


def do_delete(
    actor: Actor, page: Page, objs: Sequence[models.Model], *, expected: str = '', dry_run: bool = False
) -> Any:
    """Delete all of ``objs`` or none; returns how many.

    Or a Preview, whose impact counts what goes with them; of several objects ``preview_delete`` makes it."""
    require(actor, page, 'delete')
    if dry_run and len(objs) > 1:
        return preview_delete(actor, page, objs)
    if not dry_run:
        changes = [Change('delete', obj=obj) for obj in objs]
        foureyes.hold(
            actor,
            page,
            'delete',
            lambda: {'do': 'delete', 'rows': foureyes.changes_of(page, changes)},
            lambda: do_delete(actor, page, objs, expected=expected, dry_run=True),
            foureyes.named(objs),
        )

    def work() -> Done:
        keys = sorted({obj.pk for obj in objs})
        held = list(page.model._base_manager.select_for_update().filter(pk__in=keys).order_by('pk'))
        if len(held) != len(keys):
            raise Refused(gettext('Some of it was deleted in the meantime. Load the list again.'))
        done = Done(len(held))
        if rehearses():
            done.impact, done.users = _lost(page, held), users_touched(page, held)
        for obj in held:
            if reason := _undeletable(page, obj):
                raise Refused(f'{obj}: {reason}')
            _delete(actor, page, obj, expected)
        return done

    return transact(work, configures=page.configures, dry_run=dry_run)


TRIED = 100
"""How many objects a preview of a deletion really deletes before it rolls back."""


def preview_delete(actor: Actor, page: Page, objs: Sequence[models.Model]) -> Preview:
    """What deleting ``objs`` would do, with a verdict on each. Beyond TRIED only what the page says of the object is
    asked: a rehearsal of thousands would lock and write them all."""
    tried, rest = objs[:TRIED], objs[TRIED:]

    def work() -> Done:
        gone = [obj for obj in objs if not _undeletable(page, obj)]
        impact, users = _lost(page, gone), users_touched(page, gone)
        verdicts = _attempt_all(actor, page, [Change('delete', obj=obj) for obj in tried])
        refused = [
            Verdict(str(obj), 'delete', problems=(('', reason),)) for obj in rest if (reason := _undeletable(page, obj))
        ]
        return Done(None, impact, users, [*verdicts, *refused], left=len(rest) - len(refused))

    found: Preview = transact(work, configures=page.configures, dry_run=True)
    return found


def do_changes(actor: Actor, page: Page, changes: Sequence[Change], *, dry_run: bool = False) -> Any:
    """Make several changes, each by itself: what is refused stays as it is, the others are made. One transaction, one
    generation. Returns a list of Verdict in the order of ``changes``, or a Preview with them."""
    if not dry_run:
        for verb, action in (('delete', 'delete'), ('update', 'change')):
            objs = [one.obj for one in changes if one.action == verb]
            if objs:
                foureyes.hold(
                    actor,
                    page,
                    action,
                    lambda: {'do': 'changes', 'rows': foureyes.changes_of(page, changes)},
                    lambda: do_changes(actor, page, changes, dry_run=True),
                    foureyes.named(objs),
                )

    def work() -> Done:
        gone = [c.obj for c in changes if dry_run and c.action == 'delete' and not _undeletable(page, c.obj)]
        counts = [users_touched(page, gone)] if dry_run else []
        impact = _lost(page, gone)
        verdicts = _attempt_all(actor, page, changes)
        done = Done(verdicts, impact, verdicts=verdicts)
        if dry_run:
            counts.append(users_touched(page, [v.obj for v in verdicts if v.action and v.obj is not None]))
            about = [count for count in counts if count is not None]
            done.users = (sum if page.touches else max)(about) if about else None
        return done

    return transact(work, configures=page.configures, dry_run=dry_run)


def do_command(
    actor: Actor,
    page: BasePage,
    command: Command,
    objs: Sequence[models.Model],
    data: Mapping[str, Any],
    *,
    dry_run: bool = False,
) -> Any:
    """Run a page's command in a transaction, with an audit entry per object. ``data``: cleaned form values. Returns
    the command's Result (or a Preview)."""
    require(actor, page, f'do/{command.name}')
    if command.when:
        for obj in objs:
            if reason := str(command.when(obj)):
                raise Refused(f'{obj}: {reason}' if len(objs) > 1 else reason)
    if not dry_run:
        foureyes.hold(
            actor,
            page,
            f'do/{command.name}',
            lambda: {
                'do': 'command',
                'keys': [audit.plain(obj.pk) for obj in objs],
                'values': foureyes.form_values(command, data),
            },
            lambda: do_command(actor, page, command, objs, data, dry_run=True),
            foureyes.named(objs),
            foureyes.place(page, objs),
        )

    def work() -> Done:
        named = [(obj._meta.label, str(obj.pk), str(obj), foureyes.place(page, [obj])) for obj in objs]
        users = _users_of_command(page, command, objs, data) if rehearses() else None
        before = {obj.pk: audit.snapshot(obj) for obj in objs}
        result = command.run(actor, objs, data)
        given = _command_data(command, data)
        differing = _differing(page, before)
        for kind, key, label, menu in named:
            old, new = differing.get(key, (None, given))
            audit.record(
                actor, command.name, page, None, old, new, object_type=kind, object_id=key, label=label, menu=menu
            )
        if not named:
            audit.record(actor, command.name, page, None, *(result.changed or (None, given)))
        impact = [(str(text), count) for text, count in result.impact]
        refused = [Verdict(str(name), command.name, problems=(('', str(why)),)) for name, why in result.refused]
        return Done(result, impact, users, message=str(result.message), refused=refused)

    return transact(work, configures=dry_run or bool(getattr(page, 'configures', False)), dry_run=dry_run)


# ---- one object, inside the transaction of the above


def _attempt_all(actor: Actor, page: Page, changes: Sequence[Change]) -> list[Verdict]:
    """Together; one by one when a row is refused after it has begun to write, or when an object is there twice."""
    keys = [change.obj.pk for change in changes if change.obj is not None]
    if len(changes) > 1 and len(keys) == len(set(keys)):
        try:
            with together.rows():
                return _attempt_together(actor, page, changes, keys)
        except together.Apart:
            pass
    return [_attempt(actor, page, change, objects.lock) for change in changes]


def _attempt_together(actor: Actor, page: Page, changes: Sequence[Change], keys: Sequence[Any]) -> list[Verdict]:
    deletes = all(change.action == 'delete' for change in changes)
    remove = objects.remover(actor, page) if deletes else None
    lock: Lock = objects.lock
    if remove or (not deletes and (page.update is None or page.apart)):
        held = {obj.pk: obj for obj in objects.locked(page.model).filter(pk__in=keys).order_by('pk')}

        def lock(model: type[models.Model], pk: Any) -> Any:
            return held.get(pk) or objects.gone()

    return [_attempt(actor, page, change, lock, remove) for change in changes]


def _attempt(actor: Actor, page: Page, change: Change, lock: Lock, remove: Remove | None = None) -> Verdict:
    def work() -> Any:
        if change.action == 'create':
            return _create(actor, page, change.values)
        if change.action == 'update':
            return _update(actor, page, change.obj, change.values, change.expected, lock).result
        return _delete(actor, page, lock(page.model, change.obj.pk), change.expected, remove)

    return attempt(change, work)


def _create(actor: Actor, page: Page, values: Mapping[str, Any]) -> Any:
    require(actor, page, 'add')
    if 'add' not in page.verbs:
        raise Refused(gettext('Nothing can be added here.'))
    candidate = page.model()
    filled = _fill(page, candidate, values)
    _validate(page, candidate, None)
    _take_clean(candidate, filled)
    together.writes()
    obj = page.create(actor, filled.all()) if page.create else _save(candidate, filled)
    audit.record(actor, 'create', page, obj, None, {**(audit.snapshot(obj) or {}), **_extra_marks(page, filled)})
    return obj


def _update(actor: Actor, page: Page, obj: Any, values: Mapping[str, Any], expected: str, lock: Lock) -> Done:
    require(actor, page, 'change')
    if 'edit' not in page.verbs:
        raise Refused(gettext('Nothing can be changed here.'))
    held = lock(page.model, obj.pk)
    if page.locked and (reason := str(page.locked(held))):
        raise Refused(reason)
    return _change(actor, page, held, values, expected)


def _change(actor: Actor, page: Page | SettingsPage, held: Any, values: Mapping[str, Any], expected: str) -> Done:
    if expected and expected != audit.digest(held):
        raise Stale(gettext('Somebody else changed it in the meantime. Load it again, then make your change.'))
    before = audit.snapshot(held)
    candidate = copy.copy(held)
    filled = _fill(page, candidate, values)
    _validate(page, candidate, held)
    _take_clean(candidate, filled)
    touched = _impact(page, held, candidate)
    together.writes()
    if page.update:
        obj = page.update(actor, held, filled.all()) or held
    else:
        obj = _save(candidate, filled)
    after = {**(audit.snapshot(obj) or {}), **_extra_marks(page, filled)}
    if before != after:
        audit.record(actor, 'update', page, obj, before, after)
    return Done(obj, touched)


def _delete(actor: Actor, page: Page, obj: Any, expected: str, remove: Remove | None = None) -> None:
    """``remove``: deletes it together with others, see ``objects.remover``."""
    require(actor, page, 'delete')
    if 'delete' not in page.verbs:
        raise Refused(gettext('Nothing can be deleted here.'))
    if reason := _undeletable(page, obj):
        raise Refused(reason)
    if expected and expected != audit.digest(obj):
        raise Stale(gettext('Somebody else changed it in the meantime. Load it again, then delete it.'))
    objects.demand_unused([obj])
    key, label, before = str(obj.pk), str(obj), audit.snapshot(obj)
    together.writes()
    if remove:
        together.merged(remove, [obj])
    elif page.delete_many:
        page.delete_many(actor, [obj])
    elif page.delete:
        page.delete(actor, obj)
    else:
        obj.delete()
    audit.record(
        actor, 'delete', page, None, before, None,
        object_type=page.model._meta.label, object_id=key, label=label,
    )  # fmt: skip


def _impact(page: Page | SettingsPage, before: Any, after: Any) -> list[tuple[str, int | None]]:
    """What the page says of a change; ``after`` None: of a deletion."""
    return [(str(text), count) for text, count in page.impact(before, after)] if page.impact and rehearses() else []


def _lost(page: Page, objs: Sequence[Any]) -> list[tuple[str, int | None]]:
    """What goes with ``objs``, and what their page says of it."""
    said = [line for obj in objs[:TRIED] for line in _impact(page, obj, None)]
    return [*objects.cascade(objs), *said] if objs else []


def _undeletable(page: Page, obj: Any) -> str:
    return str(page.undeletable(obj)) if page.undeletable else ''


def _differing(page: BasePage, before: Mapping[Any, Any]) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """What a command changed in its objects: key -> (the changed fields before, after)."""
    model: Any = getattr(page, 'model', None)
    if model is None or not before:
        return {}
    relations = [f.name for f in model._meta.concrete_fields if f.is_relation and f.editable]
    now = model._base_manager.select_related(*relations) if relations else model._base_manager
    found = {}
    for obj in now.filter(pk__in=before):
        old, new = before[obj.pk] or {}, audit.snapshot(obj) or {}
        if names := [name for name in new if old.get(name) != new[name]]:
            found[str(obj.pk)] = ({name: old.get(name) for name in names}, {name: new[name] for name in names})
    return found


def _users(page: Page | SettingsPage, obj: Any) -> int | None:
    """How many users a rehearsed change touches: none when it changes nothing."""
    rehearsal = audit.rehearsed.get()
    if rehearsal is None:
        return None
    return users_touched(page, [obj]) if rehearsal.entries else 0


def _users_of_command(
    page: BasePage, command: Command, objs: Sequence[models.Model], data: Mapping[str, Any]
) -> int | None:
    if command.touches is not None:
        return command.touches(objs, data)
    return users_touched(page, objs)


# ---- parts of the above


def _fill(page: Page | SettingsPage, obj: models.Model, values: Mapping[str, Any]) -> Filled:
    """Put ``values`` into ``obj`` (not saved). A name that the page does not write is an error at that name."""
    from impadmin.console.forms import editable_names

    names = set(editable_names(page))
    extra = getattr(page, 'extra', {})
    filled = Filled()
    errors: dict[str, list[str]] = {}
    for name, value in values.items():
        if name not in names and name not in extra:
            errors[name] = [gettext('There is no such field.')]
            continue
        if isinstance(value, str) and (text := unstorable(value)):
            errors[name] = [text]
            continue
        if name in extra:
            filled.extra[name] = value
            continue
        found = obj._meta.get_field(name)
        if isinstance(found, models.ManyToManyField):
            filled.many[name] = value
            continue
        assert isinstance(found, models.Field)
        if value is None and not found.null:
            if not (found.blank and isinstance(found, models.CharField | models.TextField)):
                errors[name] = [gettext('This field must have a value.')]
                continue
            value = ''
        if isinstance(found, models.ForeignKey) and not isinstance(value, models.Model | None):
            setattr(obj, found.attname, value)
        else:
            setattr(obj, name, value)
        filled.plain[name] = value
    if errors:
        raise ValidationError(errors)
    return filled


def unstorable(text: str) -> str:
    """What keeps ``text`` out of the database, or ''."""
    if '\0' in text or any('\ud800' <= char <= '\udfff' for char in text):
        return gettext('The text has a character that cannot be stored. Remove it.')
    return ''


def _validate(page: Page | SettingsPage, candidate: Any, before: Any) -> None:
    """Every message of the model's own validation; when there is none, every message of the page's rules."""
    from impadmin.console.forms import editable_names

    names = set(editable_names(page)).difference(getattr(page, 'extra', ()))
    objects.clean(candidate, before, {f.name for f in candidate._meta.concrete_fields if f.name not in names})
    errors: dict[str, list[Any]] = {}
    for rule in page.rules:
        try:
            rule(candidate, before)
        except ValidationError as error:
            error.update_error_dict(errors)
    if errors:
        raise ValidationError(errors)


def _take_clean(candidate: Any, filled: Filled) -> None:
    """Replace the given values by what validation made of them."""
    for name in filled.plain:
        filled.plain[name] = getattr(candidate, name)


def _save(candidate: Any, filled: Filled) -> Any:
    candidate.save()
    for name, value in filled.many.items():
        getattr(candidate, name).set(value)
    return candidate


def _extra_marks(page: Page | SettingsPage, filled: Filled) -> dict[str, Any]:
    """What the audit entry says of the extra fields: that a password was set, never which."""
    marks: dict[str, Any] = {}
    for name, value in filled.extra.items():
        secret = isinstance(page.extra[name](None).widget, forms.PasswordInput)  # type: ignore[union-attr]
        if not value or (secret and name not in audit.SECRET):
            continue
        marks[name] = audit.HIDDEN if secret or name in audit.SECRET else audit.plain(value)
    return marks


def _command_data(command: Command, data: Mapping[str, Any]) -> dict[str, Any] | None:
    declared = command.form.base_fields if command.form is not None else {}
    given: dict[str, Any] = {}
    for name, value in data.items():
        widget = declared[name].widget if name in declared else None
        if hasattr(value, 'size') and hasattr(value, 'name'):
            value = f'{value.name} ({value.size})'
        given[name] = audit.HIDDEN if value and isinstance(widget, forms.PasswordInput) else audit.plain(value)
    return given or None


from impadmin.console.parameter_values import do_set_parameters  # noqa: E402  (built on the above)

__all__ = [
    'SYSTEM',
    'Actor',
    'Change',
    'Preview',
    'Refused',
    'Stale',
    'Verdict',
    'actor_of',
    'do_changes',
    'do_command',
    'do_create',
    'do_delete',
    'do_set_parameters',
    'do_update',
    'do_update_settings',
    'preview',
    'require',
]
