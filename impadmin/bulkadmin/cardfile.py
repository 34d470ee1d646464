"""The file of non-presence contacts: one row for each contact and group, the card at the end (guide 10959-10982)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from django.utils.translation import gettext_noop

from engine.contract import cards
from engine.contract.cards import Card
from impadmin.bulkadmin.addressing import LENGTH, prepared
from impadmin.bulkadmin.contactfile import CONTACT_ID, CONTROL, FEW, INVALID_FORMAT, NOT_LOCAL, NOT_XML, Refusal
from impadmin.console.bulk import Layout, unprotect

COLUMNS = ('User JID', 'Contact JID', 'Group Name', 'Content Type', 'Version', 'Info')
LAYOUT = Layout(free=len(COLUMNS), line_limit=160 * 1024)
"""30,000 characters of Info take up to 120,000 bytes."""
_LIMITS = (LENGTH, LENGTH, 255, 128, 16, cards.LENGTH)

_EMPTY = (
    gettext_noop('User JID is empty'),
    gettext_noop('Contact JID is empty'),
    '',
    gettext_noop('Content Type is empty'),
    gettext_noop('Version is empty'),
    gettext_noop('Info is empty'),
)
_LONG = (
    gettext_noop('User JID is longer than 255 characters'),
    gettext_noop('Contact JID is longer than 255 characters'),
    gettext_noop('Group Name is longer than 255 characters'),
    gettext_noop('Content Type is longer than 128 characters'),
    gettext_noop('Version is longer than 16 characters'),
    gettext_noop('Info is longer than 30000 characters'),
)
_NO_VCARD = gettext_noop('Info does not begin with BEGIN:VCARD and end with END:VCARD')
_TYPE = re.compile(r'[A-Za-z0-9.+-]+/[A-Za-z0-9.+-]+')
_NO_TYPE = gettext_noop('Content Type is not a type and subtype like text/directory')


class Row(NamedTuple):
    """One row. ``name`` is what the card calls the contact, ``card`` as it is stored; ``group`` '' for none."""

    owner: str
    jid: str
    group: str
    name: str
    card: str


def subject(fields: list[str] | str) -> str:
    """``user -> contact`` of a row, as far as it has them."""
    if isinstance(fields, str):
        return ''
    return ' -> '.join(field[:150] for field in fields[:2])


def lengths(values: list[str], limits: Iterable[int], empty: tuple[str, ...], long: tuple[str, ...]) -> Refusal | None:
    """Why a row is refused for an empty or a long field; no text in ``empty``: the field may be empty."""
    for place, (value, limit) in enumerate(zip(values, limits, strict=True)):
        if not value and empty[place]:
            return Refusal(INVALID_FORMAT, empty[place])
        if len(value) > limit:
            return Refusal(INVALID_FORMAT, long[place])
    return None


def parse(fields: list[str] | str) -> Row | Refusal:
    """Check one row."""
    if isinstance(fields, str):
        return Refusal(INVALID_FORMAT, fields)
    if len(fields) != len(COLUMNS):
        return Refusal(INVALID_FORMAT, FEW)
    values = [unprotect(field) for field in fields]
    values[5] = cards.one_line(values[5])
    if refusal := lengths(values, _LIMITS, _EMPTY, _LONG):
        return refusal
    user, contact, group, kind, version, info = values
    if not _TYPE.fullmatch(kind):
        return Refusal(INVALID_FORMAT, _NO_TYPE)
    known = kind.lower() in cards.VCARDS
    if known and not cards.is_vcard(info):
        return Refusal(INVALID_FORMAT, _NO_VCARD)
    if NOT_XML.search(group) or NOT_XML.search(info) or NOT_XML.search(version):
        return Refusal(INVALID_FORMAT, CONTROL)
    jid = prepared(contact)
    if jid is None:
        return Refusal(INVALID_FORMAT, CONTACT_ID)
    owner = prepared(user)
    if owner is None:
        return Refusal(NOT_LOCAL)
    name, card = _read(info, kind, version, known)
    return Row(owner, jid, group.strip(), name, card)


@lru_cache(maxsize=1000)
def _read(info: str, kind: str, version: str, known: bool) -> tuple[str, str]:
    """Name and stored form of a card; the rows of one contact in several groups follow each other."""
    name = cards.display_name(cards.properties(info)) if known else ''
    return name, cards.dump(Card(info, kind, version))
