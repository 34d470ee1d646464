"""Somebody else saved since a form was opened: both versions of each field that differs, and which one is saved.

A form carries, hidden, what was saved when it was drawn (``seen``). So it can be told apart what only he changed (taken
over, unless the user picks his own), what both changed (the user must pick), and what only the user changed (saved as
he typed it). ``pick-NAME`` is ``mine`` or ``theirs``; ``apart`` names every field that asks. Saving checks the version
that was shown last, so a third editor is noticed again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from django import forms
from django.db import models
from django.utils.translation import gettext

from impadmin.console import audit
from impadmin.console.models import AuditEntry

Pick = Literal['mine', 'theirs', '']


@dataclass(frozen=True, slots=True)
class Choice:
    """A field of which two versions are there now, as texts. pick: which is to be saved; '' must still be chosen."""

    mine: str
    theirs: str
    pick: Pick
    who: str = ''


@dataclass(frozen=True, slots=True)
class Answers:
    """What a posted form says of all this: ``seen`` as JSON values by name, and the picks."""

    seen: Mapping[str, Any] = field(default_factory=dict)
    picks: Mapping[str, Pick] = field(default_factory=dict)

    def taken(self, name: str) -> bool:
        """Whether the saved value of a field was picked."""
        return self.picks.get(name) == 'theirs'


def answers(data: Any) -> Answers:
    """Read them; what is no answer counts as not given."""
    try:
        seen = json.loads(data.get('seen', ''))
    except ValueError:
        seen = None
    known: dict[str, Pick] = {'mine': 'mine', 'theirs': 'theirs'}
    picks: dict[str, Pick] = {name: known.get(data.get(f'pick-{name}', ''), '') for name in data.getlist('apart')}
    return Answers(seen if isinstance(seen, dict) else {}, picks)


def written(values: Mapping[str, Any]) -> str:
    """``seen`` for the form."""
    return json.dumps(values, ensure_ascii=False, default=str)


def typed(form: forms.Form) -> dict[str, Any]:
    """The values of a bound form in the shape of a snapshot; what is not valid as it was typed."""
    valid = form.cleaned_data if form.is_valid() or form.errors else {}
    return {bound.name: plain(valid[bound.name]) if bound.name in valid else str(bound.value() or '') for bound in form}


def plain(value: Any) -> Any:
    """A cleaned value as a snapshot has it."""
    return audit.plain(value.astimezone(UTC).replace(microsecond=0) if isinstance(value, datetime) else value)


def same(one: Any, other: Any) -> bool:
    """Whether two snapshot values are the same to a user: nothing is nothing, and relations have no order."""
    return bool(_comparable(one) == _comparable(other))


def _comparable(value: Any) -> Any:
    if isinstance(value, list):
        return sorted(json.dumps(_comparable(one), sort_keys=True) for one in value)
    if isinstance(value, Mapping) and set(value) == {'pk', 'label'}:
        return str(value['pk'])
    return '' if value is None else value


def saved(obj: models.Model, names: Iterable[str]) -> dict[str, Any]:
    """The saved values of these fields."""
    taken = audit.snapshot(obj) or {}
    found = {name: taken[name] for name in names if name in taken}
    times = {name: value for name in found if isinstance(value := getattr(obj, name), datetime)}
    return {**found, **{name: plain(value) for name, value in times.items()}}


def choices(
    given: Answers, form: forms.Form, saved: Mapping[str, Any], text: Callable[[str, Any], str], who: str
) -> dict[str, Choice]:
    """The fields somebody else changed, by name. ``saved``: the values now; ``text``: a value as people read it."""
    mine, found = typed(form), {}
    for name, now in saved.items():
        own = given.seen.get(name) if given.taken(name) else mine.get(name)
        if name not in mine or same(own, now) or (name in given.seen and same(given.seen[name], now)):
            continue
        untouched = name in given.seen and same(own, given.seen[name])
        found[name] = Choice(text(name, own), text(name, now), 'theirs' if untouched else '', who)
    return found


def asked_again(
    given: Answers, form: forms.Form, saved: Mapping[str, Any], text: Callable[[str, Any], str], who: str
) -> dict[str, Choice]:
    """The choices of the form before, when it is drawn again for another reason."""
    mine = typed(form)
    return {
        name: Choice(text(name, mine.get(name)), text(name, saved[name]), pick, who)
        for name, pick in given.picks.items()
        if name in saved
    }


def settle(form: forms.Form, picks: Mapping[str, Pick]) -> None:
    """Leave out of a bound form what stays as it is saved; name as an error what was not picked."""
    for name, pick in picks.items():
        if name not in form.fields:
            continue
        if pick == 'theirs':
            form.errors.pop(name, None)
            form.cleaned_data.pop(name, None)
        elif not pick:
            form.add_error(name, gettext('Somebody else changed it, too. Choose which value is saved.'))


def last_editor(**entries: Any) -> str:
    """Who wrote the newest of these entries of the history."""
    last = AuditEntry.objects.filter(**entries).order_by('-at', '-pk').first()
    return last.actor if last is not None and last.actor else gettext('Somebody else')
