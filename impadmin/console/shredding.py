"""Personal data in the history: shredded by rule when it is old, or for one person at once.

Pages declare which fields belong to a person (``Page.personal``). Their values, and the name of the object, are
replaced by a mark in the entries; that there was such a change, when and by whom stays. What is shredded cannot be
reverted to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext, gettext_lazy, ngettext

from impadmin.console import audit, registry
from impadmin.console.actions import SYSTEM, Actor
from impadmin.console.models import AuditEntry, HistorySettings
from impadmin.console.page import Page, Result

STEP = 1000
"""Entries of one transaction."""


@cache
def personal_fields() -> dict[str, frozenset[str]]:
    """Label of a model -> its fields with personal data."""
    found: dict[str, frozenset[str]] = {}
    for page in registry.pages():
        if isinstance(page, Page) and page.personal:
            label = page.model._meta.label
            found[label] = found.get(label, frozenset()) | frozenset(page.personal)
    return found


@cache
def references() -> dict[str, dict[str, str]]:
    """Label of a model -> its references to people: field -> label of their model."""
    people = personal_fields()
    found: dict[str, dict[str, str]] = {}
    for model in {page.model for page in registry.pages() if isinstance(page, Page)}:
        for field in (*model._meta.concrete_fields, *model._meta.many_to_many):
            target = getattr(field.remote_field, 'model', None)
            if target is not None and target._meta.label in people:
                found.setdefault(model._meta.label, {})[field.name] = target._meta.label
    return found


def shred(entry: AuditEntry) -> bool:
    """Replace what is personal in ``entry`` (not saved). Returns whether there was anything."""
    own = personal_fields().get(entry.object_type, frozenset())
    related = references().get(entry.object_type, {})
    before, after = entry.before, entry.after
    was = (before, after, entry.object_label)
    if isinstance(before, dict):
        entry.before = _without(before, {}, own, related)
    if isinstance(after, dict):
        entry.after = _without(after, before if isinstance(before, dict) else {}, own, related)
    if own and entry.object_label:
        entry.object_label = audit.SHREDDED
    return was != (entry.before, entry.after, entry.object_label)


def _without(
    values: Mapping[str, Any], before: Mapping[str, Any], own: frozenset[str], related: Mapping[str, str]
) -> dict[str, Any]:
    found = dict(values)
    for name in own & set(values):
        if values[name] not in (None, '', audit.HIDDEN):
            same = not before or before.get(name) == values[name]
            found[name] = audit.SHREDDED if same else audit.SHREDDED_NEW
    for name in set(related) & set(values):
        one = values[name]
        found[name] = [_nameless(item) for item in one] if isinstance(one, list) else _nameless(one)
    return found


def _nameless(reference: Any) -> Any:
    return (
        {**reference, 'label': audit.SHREDDED} if isinstance(reference, dict) and reference.get('label') else reference
    )


def _shred_all(entries: QuerySet[AuditEntry]) -> int:
    """Shred these entries in steps; returns how many had something personal."""
    count, last = 0, 0
    while True:
        with transaction.atomic():
            step = list(entries.filter(pk__gt=last).select_for_update().order_by('pk')[:STEP])
            if not step:
                return count
            last = step[-1].pk
            changed = [entry for entry in step if shred(entry)]
            for entry in changed:
                entry.shredded_at = timezone.now()
            AuditEntry.objects.bulk_update(changed, ['before', 'after', 'object_label', 'shredded_at'])
            count += len(changed)


# ---- by rule


def shred_old(now: datetime | None = None) -> int:
    """Shred what is older than the rule allows; returns how many entries. One entry of the history says so."""
    rule = HistorySettings.objects.get_or_create(pk=1)[0]
    if rule.personal_days is None:
        return 0
    until = (now or timezone.now()) - timedelta(days=rule.personal_days)
    types = {*personal_fields(), *references()}
    entries = AuditEntry.objects.filter(object_type__in=types, shredded_at=None, at__lt=until)
    if rule.shredded_until is not None:
        entries = entries.filter(at__gte=rule.shredded_until)
    count = _shred_all(entries)
    HistorySettings.objects.filter(pk=1).update(shredded_until=until)
    if count:
        told = {'entries': count, 'before': until.isoformat()}
        audit.record(SYSTEM, 'shred', registry.page('history-settings'), None, None, told)
    return count


# ---- one person


def _pages() -> list[Page]:
    return [page for page in registry.pages() if isinstance(page, Page) and page.personal]


class PersonForm(forms.Form):
    """Whose data to shred."""

    page = forms.ChoiceField(label=gettext_lazy('Kind'), choices=lambda: [(page.name, page.title) for page in _pages()])
    person = forms.CharField(
        label=gettext_lazy('Name'),
        max_length=400,
        help_text=gettext_lazy('As the history calls the person, for example the user ID.'),
    )


def consequence(objects: Sequence[Any]) -> str:
    """What the dialog says."""
    return gettext(
        'Names, addresses and other personal values in every entry about this person are replaced for good. '
        'The entries stay; they cannot be reverted any more.'
    )


def shred_person(actor: Actor, objects: Sequence[Any], data: Mapping[str, Any]) -> Result:
    """Shred the entries about one person, the object deleted or not."""
    page = registry.page(data['page'])
    assert isinstance(page, Page)
    label = page.model._meta.label
    about = AuditEntry.objects.filter(object_type=label)
    ids = set(about.filter(object_label__iexact=data['person'], shredded_at=None).values_list('object_id', flat=True))
    if not ids:
        raise ValidationError({'person': gettext('The history has no entry about this person.')})
    count = _shred_all(about.filter(object_id__in=ids, shredded_at=None))
    for kind, fields in references().items():
        for name in (name for name, target in fields.items() if target == label):
            count += _shred_all(AuditEntry.objects.filter(_refers(name, ids), object_type=kind, shredded_at=None))
    text = ngettext('%(n)d entry was shredded.', '%(n)d entries were shredded.', count)
    return Result(text % {'n': count}, data={'entries': count})


def _refers(name: str, ids: set[str]) -> Q:
    """Entries whose field ``name`` was one of these objects."""
    query = Q()
    for key in (int(one) if one.isdigit() else one for one in ids):
        for side in ('before', 'after'):
            query |= Q(**{f'{side}__{name}__pk': key}) | Q(**{f'{side}__{name}__contains': [{'pk': key}]})
    return query
