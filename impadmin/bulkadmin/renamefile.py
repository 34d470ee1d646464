"""The file of Rename Contacts: an IM address and the one that takes its place, two columns (guide 10859-10878)."""

from __future__ import annotations

from typing import NamedTuple

from django.utils.translation import gettext_noop

from impadmin.bulkadmin.addressing import LENGTH, prepared
from impadmin.bulkadmin.cardfile import lengths
from impadmin.bulkadmin.contactfile import CONTACT_ID, FEW, INVALID_FORMAT, MANY, Refusal
from impadmin.console.bulk import unprotect

COLUMNS = ('Contact ID', 'New Contact ID')
_EMPTY = (gettext_noop('Contact ID is empty'), gettext_noop('New Contact ID is empty'))
_LONG = (
    gettext_noop('Contact ID is longer than 255 characters'),
    gettext_noop('New Contact ID is longer than 255 characters'),
)
_NEW_ID = gettext_noop('New Contact ID has a character that is not allowed')
_NO_ADDRESS = gettext_noop('Contact ID and New Contact ID must have the form user@domain')
_SAME = gettext_noop('Contact ID and New Contact ID are the same')
TWICE = gettext_noop('The file renames this Contact ID already')
NOWHERE = gettext_noop('No contact list has this Contact ID')


class Row(NamedTuple):
    """One row."""

    old: str
    new: str


def subject(fields: list[str] | str) -> str:
    """``old -> new`` of a row, as far as it has them."""
    return '' if isinstance(fields, str) else ' -> '.join(field[:255] for field in fields[:2])


def parse(fields: list[str] | str) -> Row | Refusal:
    """Check one row."""
    if isinstance(fields, str):
        return Refusal(INVALID_FORMAT, fields)
    if len(fields) != len(COLUMNS):
        return Refusal(INVALID_FORMAT, FEW if len(fields) < len(COLUMNS) else MANY)
    values = [unprotect(field) for field in fields]
    if refusal := lengths(values, (LENGTH, LENGTH), _EMPTY, _LONG):
        return refusal
    old, new = map(prepared, values)
    if old is None or new is None:
        return Refusal(INVALID_FORMAT, CONTACT_ID if old is None else _NEW_ID)
    if '@' not in old or '@' not in new:
        return Refusal(INVALID_FORMAT, _NO_ADDRESS)
    if old == new:
        return Refusal(INVALID_FORMAT, _SAME)
    return Row(old, new)
