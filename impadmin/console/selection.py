"""The selected rows of a list: rows ticked one by one, over several pages, or everything the search finds.

A selection belongs to one search of one list. It is kept for its administrator while he pages and sorts, and travels
through confirmations as a signed text: of "all found" that is the search itself with the few rows taken out, never
the keys of what it found.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from django.core import signing
from django.core.exceptions import ValidationError
from django.utils.translation import gettext

from impadmin.console import filters, preferences
from impadmin.console.page import Page
from impadmin.console.rehearsal import Refused

MOST = 10_000
"""Most rows ticked one by one (or taken out of all that were found)."""
KEPT_S = 3600
"""How long a selection is kept after the last touch."""
SIGNED_S = 24 * 3600
"""How long a confirmation may stay open."""
SALT = 'imp.selection'


@dataclass(frozen=True, slots=True)
class Selection:
    """Rows of one list. ``everything``: all that the search finds except ``keys``; else exactly ``keys``.

    find: (join, field, operator, value) of each condition; tab: the saved search of the page, or ''
    """

    find: tuple[tuple[str, str, str, str], ...] = ()
    tab: str = ''
    everything: bool = False
    keys: frozenset[Any] = frozenset()

    def has(self, key: Any) -> bool:
        """Whether the row of this key, found by the search, is selected."""
        return (key in self.keys) != self.everything

    def count(self, total: int) -> int:
        """How many rows are selected when the search finds ``total``."""
        return max(0, total - len(self.keys)) if self.everything else len(self.keys)

    def as_json(self) -> dict[str, Any]:
        """For storing and signing."""
        return {
            'find': [list(one) for one in self.find],
            'tab': self.tab,
            'everything': self.everything,
            'keys': sorted(self.keys),
        }


def of_search(conditions: Iterable[filters.Condition], tab: str) -> Selection:
    """Nothing selected yet, for this search."""
    return Selection(tuple((c.join, c.field.name, c.operator, c.value) for c in conditions), tab)


def conditions(page: Page, chosen: Selection) -> list[filters.Condition]:
    """The conditions of a selection. A field that is searched no more refuses it: leaving it out would select more."""
    fields = filters.find_fields(page)
    if any(name not in fields for _, name, _, _ in chosen.find) or chosen.tab not in {
        '',
        *(slug for slug, _, _ in page.tabs),
    }:
        raise Refused(gettext('This search is no longer possible. Open the list and select again.'))
    return [filters.condition(join, fields[name], operator, value) for join, name, operator, value in chosen.find]


# ---- kept between the pages of a list


def kept(user: Any, page: Page, search: Selection) -> Selection:
    """What is selected in ``search``: what was kept for it, else nothing."""
    stored = preferences.load(user, f'selection:{page.name}')
    if not stored or stored.get('at', 0) < time.time() - KEPT_S:
        return search
    found = _of_json(stored)
    return found if (found.find, found.tab) == (search.find, search.tab) else search


def keep(user: Any, page: Page, chosen: Selection) -> None:
    """Remember it until another search of this list is selected in, or for an hour."""
    preferences.store(user, f'selection:{page.name}', {**chosen.as_json(), 'at': int(time.time())})


def marked(page: Page, chosen: Selection, data: Any) -> Selection:
    """``chosen`` after a form of the list: ``pk`` are the ticked rows, ``shown`` all rows it had, ``mark`` is 'all' or
    'none' when that was asked for. Raises Refused beyond MOST."""
    if data.get('mark') == 'all':
        return replace(chosen, everything=True, keys=frozenset())
    if data.get('mark') == 'none':
        return replace(chosen, everything=False, keys=frozenset())
    ticked = keys(page, data.getlist('pk'))
    shown = keys(page, data.getlist('shown')) | ticked
    result = replace(chosen, keys=(chosen.keys - shown) | (shown - ticked if chosen.everything else ticked))
    if len(result.keys) > MOST:
        text = gettext('Tick at most %(most)s rows. For more, search for them and select all found.')
        raise Refused(text % {'most': MOST})
    return result


def keys(page: Page, texts: Iterable[str]) -> frozenset[Any]:
    """Primary keys from a form; what cannot be one is left out."""
    found = set()
    field = page.model._meta.pk
    for text in texts:
        try:
            key = field.to_python(text)
            field.run_validators(key)
        except (ValidationError, ValueError):
            continue
        found.add(key)
    return frozenset(found)


# ---- through confirmations


def sign(page: Page, chosen: Selection) -> str:
    """As a text that only this console can have made."""
    return signing.dumps({'page': page.name, **chosen.as_json()}, salt=SALT, compress=True)


def unsign(page: Page, text: str) -> Selection:
    """The selection of a signed text. Raises Refused when it is not ours, too old, or of another page."""
    try:
        data = signing.loads(text, salt=SALT, max_age=SIGNED_S)
        if data['page'] != page.name:
            raise signing.BadSignature
    except (signing.BadSignature, KeyError, TypeError):
        raise Refused(gettext('This selection is too old. Open the list and select again.')) from None
    return _of_json(data)


def _of_json(data: Mapping[str, Any]) -> Selection:
    find = tuple((str(j), str(f), str(o), str(v)) for j, f, o, v in data['find'])
    return Selection(find, str(data['tab']), bool(data['everything']), frozenset(data['keys']))
