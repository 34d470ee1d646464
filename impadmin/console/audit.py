"""Audit entries: who changed what, when, from where, with before and after. Secrets never reach it."""

from __future__ import annotations

import contextlib
import datetime
import decimal
import hashlib
import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django import forms
from django.apps import apps
from django.core.exceptions import FieldDoesNotExist
from django.db import models
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.text import capfirst
from django.utils.translation import gettext

from impadmin.console import together
from impadmin.console.models import AuditEntry

if TYPE_CHECKING:
    from impadmin.console.actions import Actor
    from impadmin.console.page import BasePage, Command, Page, SettingsPage

SECRET = frozenset({'password', 'credentials', 'digest', 'secret', 'shared_secret', 'token'})
"""Field names whose value is never recorded."""
UNRECORDED = SECRET | {'person'}
"""Names whose value is left out of an entry: secrets, and whom somebody wants forgotten."""
HIDDEN = '********'
"""What stands in an entry for a secret that was set."""

SHREDDED = '‹shredded›'
"""What stands for a personal value that was taken out of an entry."""
SHREDDED_NEW = '‹shredded, new›'
"""The same after a change, so that an entry still says which fields changed."""

Snapshot = dict[str, Any]
listeners: list[Callable[[Sequence[AuditEntry]], None]] = []
"""Called with new entries, in the transaction of the change; not in a rehearsal."""
_batch: ContextVar[str] = ContextVar('batch', default='')


@dataclass(slots=True)
class Rehearsal:
    """What a preview gathers while it runs: the entries written, what goes with the action, and users touched."""

    entries: list[AuditEntry] = field(default_factory=list)
    impact: list[tuple[str, int | None]] = field(default_factory=list)
    users: int | None = None


rehearsed: ContextVar[Rehearsal | None] = ContextVar('rehearsed', default=None)
"""The preview that runs now; all it writes is rolled back. None: what is written stays."""
written: ContextVar[list[AuditEntry] | None] = ContextVar('written', default=None)
"""The entries of one of several changes made together."""


def snapshot(obj: models.Model | None) -> Snapshot | None:
    """Editable fields of ``obj`` as JSON values: a relation is ``{"pk": .., "label": ..}``, many are a list of them.

    What programs keep for themselves (``editable=False``: counters, times, derived values) and secrets are left out.
    """
    if obj is None:
        return None
    taken: Snapshot = {}
    for one in obj._meta.concrete_fields:
        if one.editable and not one.primary_key and one.name not in SECRET:
            if one.is_relation:
                taken[one.name] = _related(getattr(obj, one.name))
            else:
                taken[one.name] = plain(getattr(obj, one.attname))
    if obj.pk is not None:
        for many in obj._meta.many_to_many:
            if many.editable:
                taken[many.name] = [_related(other) for other in getattr(obj, many.name).order_by('pk')]
    return taken


def digest(obj: models.Model) -> str:
    """Fingerprint of the editable state of ``obj``: a form or an ETag carries it, so that a stale write is noticed."""
    text = json.dumps([obj.pk, snapshot(obj)], sort_keys=True, default=str, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@contextmanager
def batch(name: str) -> Iterator[None]:
    """Entries written inside belong to one bulk action of this name."""
    outer = _batch.set(name)
    try:
        yield
    finally:
        _batch.reset(outer)


def record(
    actor: Actor,
    action: str,
    page: BasePage | None,
    obj: models.Model | None,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any] | None,
    *,
    object_type: str = '',
    object_id: str = '',
    label: str = '',
    menu: str = '',
) -> AuditEntry:
    """Write one entry. ``action``: create, update, delete, or the name of a command. Give the texts when there is
    no object (parameters) or it has no key any more. Of rows done together all are written at their end."""
    entry = AuditEntry(
        actor=actor.name[:150],
        source=actor.source[:64],
        channel=actor.channel[:20],
        action=action[:60],
        page=(menu or (page.menu if page else ''))[:200],
        object_type=(object_type or (obj._meta.label if obj is not None else page.name if page else ''))[:100],
        object_id=(object_id or ('' if obj is None or obj.pk is None else str(obj.pk)))[:100],
        object_label=(label or _label_of(page, obj))[:400],
        before=plain(before),
        after=plain(after),
        approved_by=actor.approved_by[:150],
        batch=_batch.get(),
    )
    together.merged(_write, [entry])
    if (gathered := written.get()) is not None:
        gathered.append(entry)
    return entry


def _write(entries: list[AuditEntry]) -> None:
    AuditEntry.objects.bulk_create(entries)
    if (rehearsal := rehearsed.get()) is not None:
        rehearsal.entries += entries
        return
    for listener in listeners:
        listener(entries)


def as_json(entry: AuditEntry) -> dict[str, Any]:
    """One entry for REST."""
    return {
        'at': entry.at.isoformat(),
        'actor': entry.actor,
        'source': entry.source,
        'channel': entry.channel,
        'action': entry.action,
        'page': entry.page,
        'object': entry.object_label,
        'before': entry.before,
        'after': entry.after,
        'approved_by': entry.approved_by,
        'shredded_at': entry.shredded_at.isoformat() if entry.shredded_at else None,
    }


def _label_of(page: BasePage | None, obj: models.Model | None) -> str:
    """What an entry calls its object: a settings row has no name of its own and is called like its page."""
    if obj is not None and type(obj).__str__ is not models.Model.__str__:
        return str(obj)
    return page.menu.rpartition(' > ')[2] if page else str(obj or '')


def differences(
    model: type[models.Model] | None,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any] | None,
    labels: Mapping[str, str] | None = None,
) -> list[tuple[str, str, str]]:
    """(field label, before, after) as people read them, of the fields that differ between two snapshots. ``labels``
    names what is no model field."""
    old, new = before or {}, after or {}
    places = {name: n for n, name in enumerate(_order(model))}  # stored JSON forgets the order of its names
    names = sorted({**new, **old}, key=lambda name: (places.get(name, len(places)), name))
    return [
        (
            (labels or {}).get(name) or label(model, name),
            display(old[name], model, name) if name in old else '',
            display(new[name], model, name) if name in new else '',
        )
        for name in names
        if old.get(name) != new.get(name)
    ]


def _order(model: type[models.Model] | None) -> list[str]:
    """The fields of ``model`` in the order of its declaration."""
    return [one.name for one in (*model._meta.concrete_fields, *model._meta.many_to_many)] if model is not None else []


def changes(entry: AuditEntry) -> list[tuple[str, str, str]]:
    """(field label, before, after) of one entry."""
    from impadmin.console import parameter_values, registry

    before, after = _mapping(entry.before), _mapping(entry.after)
    if entry.object_type == 'system.ParameterValue':
        return parameter_values.differences(entry.object_id.partition(':')[0], before, after)
    model: Any = None
    if '.' in entry.object_type:
        try:
            model = apps.get_model(entry.object_type)
        except LookupError:
            model = None
    page = next(
        (p for p in registry.pages() if p.name == entry.object_type or (model and getattr(p, 'model', None) is model)),
        None,
    )
    commands = [one for one in getattr(page, 'commands', ()) if model is None or one.name == entry.action]
    labels, words = _asked(commands)
    found = differences(model, before, after, {**extra_labels(page), **labels})
    return [(text, words.get((text, old), old), words.get((text, new), new)) for text, old, new in found]


def _asked(commands: Sequence[Command]) -> tuple[dict[str, str], dict[tuple[str, str], str]]:
    """Of the forms of commands: labels of their fields and of the choices of which many can be taken, and the words
    for the values of the others, by (label, value)."""
    labels: dict[str, str] = {}
    words: dict[tuple[str, str], str] = {}
    declared = [command.form.base_fields for command in commands if command.form is not None]
    for name, one in (item for fields in declared for item in fields.items()):
        labels[name] = str(one.label or name)
        if isinstance(one, forms.ModelChoiceField):
            continue
        for key, text in getattr(one, 'choices', ()):
            if isinstance(one, forms.MultipleChoiceField):
                labels[str(key)] = str(text)
            else:
                words[labels[name], str(key)] = str(text)
    return labels, words


def _mapping(value: Any) -> dict[str, Any] | None:
    return value if isinstance(value, dict) else None


def extra_labels(page: BasePage | None) -> dict[str, str]:
    """What people call the fields of a page's form that are no model fields."""
    return {name: str(factory(None).label or name) for name, factory in getattr(page, 'extra', {}).items()}


def label_on(page: Page | SettingsPage, name: str) -> str:
    """What people call a field of a page's form."""
    return extra_labels(page).get(name) or capfirst(label(page.model, name))


def label(model: type[models.Model] | None, name: str) -> str:
    """What people call the field ``name``."""
    if model is not None:
        try:
            return str(getattr(model._meta.get_field(name), 'verbose_name', name))
        except FieldDoesNotExist:
            pass
    return name


def display(value: Any, model: type[models.Model] | None = None, name: str = '') -> str:
    """A snapshot value as people read it."""
    from impadmin.console import tables

    if value in (SHREDDED, SHREDDED_NEW):
        return gettext('Shredded')
    if model is not None and name:
        found: Any = None
        with contextlib.suppress(FieldDoesNotExist):
            found = model._meta.get_field(name)
        choices = dict(getattr(found, 'flatchoices', None) or ())
        if isinstance(value, str | int) and value in choices:
            return str(choices[value])
        if isinstance(value, list) and (words := getattr(found, 'words', None)) is not None:
            return str(words(value))
        if isinstance(value, str) and (at := _moment(model, name, value)):
            return tables.exactly_when(at)
    if value is True:
        return gettext('On')
    if value is False:
        return gettext('Off')
    if value is None:
        return gettext('No Limit') if model is not None and name and _is_limit(model, name) else ''
    if isinstance(value, Mapping):
        if set(value) == {'pk', 'label'}:
            return str(value['label'])
        return json.dumps(value, ensure_ascii=False, sort_keys=True)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return gettext(', ').join(display(item) for item in value)
    return str(value)


def _moment(model: type[models.Model], name: str, value: str) -> datetime.datetime | None:
    """The time that a snapshot has as text."""
    try:
        if not isinstance(model._meta.get_field(name), models.DateTimeField):
            return None
        found = parse_datetime(value)
    except (FieldDoesNotExist, ValueError):
        return None
    return found if found is not None and timezone.is_aware(found) else None


def _is_limit(model: type[models.Model], name: str) -> bool:
    """Whether None in this field means that there is no limit: a whole number that may be left open."""
    try:
        found = model._meta.get_field(name)
    except FieldDoesNotExist:
        return False
    return isinstance(found, models.IntegerField) and found.null and not found.choices


def plain(value: Any) -> Any:
    """``value`` in JSON types; model objects become ``{"pk": .., "label": ..}``, secrets are hidden."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): HIDDEN if key in UNRECORDED and item else plain(item) for key, item in value.items()}
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, decimal.Decimal | uuid.UUID):
        return str(value)
    if isinstance(value, bytes | memoryview):
        return f'{len(value)} bytes'
    if isinstance(value, models.Model):
        return _related(value)
    if isinstance(value, Sequence | set | frozenset | models.QuerySet):
        return [plain(item) for item in value]
    return str(value)


def _related(obj: models.Model | None) -> dict[str, Any] | None:
    return None if obj is None else {'pk': plain(obj.pk), 'label': str(obj)}
