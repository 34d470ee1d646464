"""One transaction for every write: done and announced, or rehearsed and rolled back.

A preview is the action itself, rolled back: the same checks, writers, audit entries and compiled configuration. So it
cannot promise what saving would not do. What it says of the objects is read from the audit entries it wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from django.apps import apps
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import IntegrityError, connection, models, transaction
from django.db.models.deletion import ProtectedError, RestrictedError
from django.utils.translation import gettext

from engine.contract.config import Config
from engine.contract.restarts import pending
from engine.contract.services import BY_KEY
from impadmin.console import audit, generations, together
from impadmin.console.foureyes import Waiting

if TYPE_CHECKING:
    from impadmin.console.page import BasePage


NAMED = 5
"""Objects that the reason of a refusal names."""


class Refused(Exception):
    """The action is not possible in the present state; the text says why and what to do. REST: 409."""


class Stale(Refused):
    """Someone else changed the object since it was read. REST: 412, because the request had If-Match."""


@dataclass(frozen=True, slots=True)
class Change:
    """One of several changes that are made together, see ``actions.do_changes``.

    obj     the object of 'update' and 'delete'; name: what a verdict calls it (default: the object, or the values)
    values  as ``do_create`` and ``do_update`` take them; expected: ``audit.digest`` of what the user saw, or ''
    """

    action: Literal['create', 'update', 'delete']
    values: Mapping[str, Any] = field(default_factory=dict)
    obj: Any = None
    name: str = ''
    expected: str = ''


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one object. action: create, update, delete, a command's name, or '' for *nothing changes*;
    changes: (field label, before, after); problems: (field name or '', text), any of them: it is refused; obj: the
    saved object (None when it was deleted or refused; gone again after a rehearsal)."""

    name: str
    action: str = ''
    changes: tuple[tuple[str, str, str], ...] = ()
    problems: tuple[tuple[str, str], ...] = ()
    obj: Any = None


@dataclass(frozen=True, slots=True)
class Preview:
    """What an action would do.

    verdicts  one for each object; restarts: (service name, node names) that would newly need a restart
    impact    (text, how many or None) of what goes with it; users: how many it touches, None: it is not about users
    message   what a command would say; left: objects beyond those that were tried one by one
    """

    verdicts: tuple[Verdict, ...] = ()
    restarts: tuple[tuple[str, tuple[str, ...]], ...] = ()
    impact: tuple[tuple[str, int | None], ...] = ()
    users: int | None = None
    message: str = ''
    left: int = 0

    @property
    def changes(self) -> tuple[tuple[str, str, str], ...]:
        """Every changed field, when one object changes."""
        return self.verdicts[0].changes if len(self.verdicts) == 1 else ()

    @property
    def changed(self) -> list[Verdict]:
        """The objects that change."""
        return [verdict for verdict in self.verdicts if verdict.changes and not verdict.problems]

    @property
    def groups(self) -> list[tuple[list[Verdict], tuple[tuple[str, str, str], ...]]]:
        """The same for objects whose fields change alike: (the objects, the fields)."""
        found: dict[tuple[tuple[str, str, str], ...], list[Verdict]] = {}
        for verdict in self.changed:
            found.setdefault(verdict.changes, []).append(verdict)
        return [(verdicts, changes) for changes, verdicts in found.items()]

    @property
    def refused(self) -> list[Verdict]:
        """The objects that stay as they are, and why."""
        return [verdict for verdict in self.verdicts if verdict.problems]

    def reason(self, number: int) -> str:
        """Why one of the objects is refused, or ''."""
        return ' '.join(text for _, text in self.verdicts[number].problems) if number < len(self.verdicts) else ''

    @classmethod
    def of_json(cls, data: Mapping[str, Any]) -> Preview:
        """What ``as_json`` gave, as far as it had it."""

        def verdict(one: Mapping[str, Any], **more: Any) -> Verdict:
            changes = tuple((c['field'], c['before'], c['after']) for c in one.get('changes', ()))
            return Verdict(one['object'], one.get('action', ''), changes, **more)

        refused = [
            verdict(one, problems=tuple((r['field'], r['text']) for r in one['reasons'])) for one in data['refused']
        ]
        return cls(
            (*(verdict(one) for one in data['objects']), *refused),
            tuple((one['service'], tuple(one['nodes'])) for one in data['restarts']),
            tuple((one['text'], one['count']) for one in data['impact']),
            data['users'],
            data['message'],
            data['not_tried'],
        )

    def as_json(self) -> dict[str, Any]:
        """For REST, the command line, and requests that wait for approval."""
        return {
            'dry_run': True,
            'changes': fields_json(self.changes),
            'restarts': [{'service': service, 'nodes': list(nodes)} for service, nodes in self.restarts],
            'impact': [{'text': text, 'count': count} for text, count in self.impact],
            'users': self.users,
            'message': self.message,
            'objects': [
                {'object': one.name, 'action': one.action, 'changes': fields_json(one.changes)}
                for one in self.verdicts[:SHOWN]
                if not one.problems
            ],
            'refused': [
                {'object': one.name, 'reasons': [{'field': name, 'text': text} for name, text in one.problems]}
                for one in self.refused
            ],
            'not_tried': self.left,
        }


SHOWN = 100
"""How many objects an answer lists with their fields; verdicts on what is refused are all listed."""


@dataclass(slots=True)
class Done:
    """What the work inside the transaction hands back: the result, and what a preview says beyond the entries."""

    result: Any
    impact: Sequence[tuple[str, int | None]] = ()
    users: int | None = None
    verdicts: Sequence[Verdict] | None = None
    """None: read from the audit entries."""
    refused: Sequence[Verdict] = ()
    """Added to the verdicts."""
    message: str = ''
    left: int = 0


class _Rollback(Exception):
    pass


def rehearses() -> bool:
    """Whether what runs now will be rolled back: it is worth counting what a preview tells."""
    return audit.rehearsed.get() is not None


def transact(work: Callable[[], Done], *, configures: bool, dry_run: bool) -> Any:
    """Run ``work`` in one transaction and return its result; a dry run rolls back and returns a Preview.

    Inside a rehearsal (a command that calls other actions) no generation is stored: the outermost one compares the
    configurations, and gathers what the inner ones tell.
    """
    try:
        if dry_run:
            return _rehearse(work, configures)
        with transaction.atomic():
            done = work()
            if configures:
                generations.store_if_changed()
            if rehearsal := audit.rehearsed.get():
                rehearsal.impact += done.impact
                rehearsal.users = _larger(rehearsal.users, done.users)
            return done.result
    except (ProtectedError, RestrictedError, IntegrityError) as error:
        raise Refused(database_reason(error)) from error
    except Waiting as waiting:
        if not connection.in_atomic_block:
            waiting.keep()
        raise


def _rehearse(work: Callable[[], Done], configures: bool) -> Preview:
    found = audit.Rehearsal()
    outer = audit.rehearsed.set(found)
    preview = Preview()
    try:
        with transaction.atomic():
            before = generations.compiled() if configures else None
            done = work()
            restarts = new_restarts(before, generations.compiled()) if before is not None else ()
            verdicts = done.verdicts if done.verdicts is not None else verdicts_of(found.entries)
            users = _larger(found.users, done.users)
            impact = (*done.impact, *found.impact)
            preview = Preview((*verdicts, *done.refused), restarts, impact, users, done.message, done.left)
            raise _Rollback
    except _Rollback:
        return preview
    finally:
        audit.rehearsed.reset(outer)


def _larger(first: int | None, second: int | None) -> int | None:
    return second if first is None else first if second is None else max(first, second)


def verdicts_of(entries: Sequence[Any]) -> list[Verdict]:
    """What audit entries say happened, one for each object that changed. What a command was asked is no change."""
    found = []
    for entry in entries:
        if entry.before is None and entry.action != 'create':
            continue
        changes = () if entry.action == 'delete' else tuple(audit.changes(entry))
        if changes or entry.action == 'delete':
            found.append(Verdict(str(entry), entry.action, changes))
    return found


def attempt(change: Change, work: Callable[[], Any]) -> Verdict:
    """Run ``work`` for one of several objects; what is refused is taken back and told. Raises together.Apart."""
    name = change.name or (str(change.obj) if change.obj is not None else '')
    entries: list[Any] = []
    outer = audit.written.set(entries)
    try:
        with together.row():
            obj = work()
    except ValidationError as error:
        return Verdict(name, change.action, problems=problems_of(error))
    except (Refused, PermissionDenied) as error:
        return Verdict(name, change.action, problems=(('', str(error)),))
    except (ProtectedError, RestrictedError, IntegrityError) as error:
        return Verdict(name, change.action, problems=(('', database_reason(error)),))
    finally:
        audit.written.reset(outer)
    kept = None if change.action == 'delete' else obj
    found = verdicts_of(entries)
    name = name or (str(obj) if obj is not None else '')
    return Verdict(name, found[0].action, found[0].changes, obj=kept) if found else Verdict(name, obj=kept)


def problems_of(error: ValidationError) -> tuple[tuple[str, str], ...]:
    """(field name or '', text) of every message."""
    if hasattr(error, 'error_dict'):
        return tuple(
            ('' if name == '__all__' else name, text) for name, found in error.message_dict.items() for text in found
        )
    return tuple(('', text) for text in error.messages)


def database_reason(error: Exception) -> str:
    """What a refusal of the database means for people."""
    held: Any = getattr(error, 'protected_objects', None) or getattr(error, 'restricted_objects', None)
    if held is None:
        return gettext('Somebody else saved a conflicting change at the same moment. Load the page again.')
    first = sorted(str(obj) for obj in held)
    names = gettext(', ').join([*first[:NAMED], *(['…'] if len(first) > NAMED else [])])
    return gettext('It is still in use by: %(names)s. Change these first.') % {'names': names}


def new_restarts(before: Config, after: Config) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """(service name, node names) of the restarts that ``after`` needs and ``before`` does not."""
    from impadmin.console.notifications import running

    runs = running()
    old = {(p.service, p.node, p.path) for p in pending(before, runs)}
    found: dict[str, list[str]] = {}
    for one in pending(after, runs):
        if not one.rule.advice and (one.service, one.node, one.path) not in old:
            nodes = found.setdefault(gettext(BY_KEY[one.service].name), [])
            if one.node not in nodes:
                nodes.append(one.node)
    return tuple((service, tuple(nodes)) for service, nodes in found.items())


# ---- how many users are touched: one bounded query, from the declaration


def users_touched(page: BasePage, objs: Sequence[models.Model]) -> int | None:
    """How many users notice a change of ``objs`` (a settings page: of its row); None: the page is not about users."""
    if page.touches is None and not getattr(page, 'configures', False):
        return None
    if not objs:
        return 0
    return page.touches(objs) if page.touches is not None else everybody()


def everybody(objs: Sequence[Any] = ()) -> int:
    """The users whom the nodes serve."""
    return _served().filter(home_node__isnull=False).count()


def of_nodes(nodes: Sequence[Any]) -> int:
    """The users whom these nodes serve."""
    return _served().filter(home_node__in=[node.pk for node in nodes]).count()


def one_each(objs: Sequence[Any]) -> int:
    """Each object is one user."""
    return len(objs)


def _served() -> models.QuerySet[Any]:
    found: models.QuerySet[Any] = apps.get_model('ucm', 'EndUser')._default_manager.filter(active=True, im_enabled=True)
    return found


def fields_json(changes: Sequence[tuple[str, str, str]]) -> list[dict[str, str]]:
    """(field label, before, after) for REST."""
    return [{'field': name, 'before': old, 'after': new} for name, old, new in changes]
