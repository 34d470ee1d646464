"""The file of user locations: six columns, two orders (guide 10984-11011, 11114-11141).

The export has Created Time before Item ID, the import the other way round; both are read, told apart by what looks like
a time. Guide 11126 prints a broken <description/>: a typing error, rows like it are no XML.
"""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime
from typing import NamedTuple
from xml.parsers import expat

from django.utils.translation import gettext_noop

from impadmin.bulkadmin.addressing import LENGTH, prepared
from impadmin.bulkadmin.cardfile import lengths
from impadmin.bulkadmin.contactfile import FEW, INVALID_FORMAT, NOT_LOCAL, Refusal
from impadmin.console.bulk import Layout, unprotect

NODE = 'http://jabber.org/protocol/geoloc'
"""Name of the node and namespace of the payload (XEP-0080)."""
COLUMNS = ('User JID', 'Access Type', 'Created Time', 'Item ID', 'Resource ID', 'Message Text')
OTHER_ORDER = ('User JID', 'Access Type', 'Item ID', 'Created Time', 'Resource ID', 'Message Text')
LAYOUT = Layout(free=len(COLUMNS), also=OTHER_ORDER, line_limit=160 * 1024)
"""30,000 characters of Message Text take up to 120,000 bytes."""
TEXT = 30_000
DEPTH = 16
IGNORE = 'ignore'
"""Item ID of an item whose id does not matter: it gets one made of what the row says."""
ACCESS = {'W': 'whitelist', 'R': 'roster', 'O': 'open'}
ITEM_ID = re.compile(r'[A-Za-z0-9._:~-]{1,50}')
_LIMITS = (LENGTH, 128, 26, 50, 1023, TEXT)
_TIME = re.compile(r'\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d{1,6})?')
_SPACE = uuid.UUID('6ba7b811-9dad-11d1-80b4-00c04fd430c8')

_EMPTY = (
    gettext_noop('User JID is empty'),
    gettext_noop('Access Type is empty'),
    gettext_noop('Created Time is empty'),
    gettext_noop('Item ID is empty'),
    gettext_noop('Resource ID is empty'),
    gettext_noop('Message Text is empty'),
)
_LONG = (
    gettext_noop('User JID is longer than 255 characters'),
    gettext_noop('Access Type is longer than 128 characters'),
    gettext_noop('Created Time is longer than 26 characters'),
    gettext_noop('Item ID is longer than 50 characters'),
    gettext_noop('Resource ID is longer than 1023 characters'),
    gettext_noop('Message Text is longer than 30000 characters'),
)
_ACCESS = gettext_noop('Access Type is not W, R or O')
_NO_TIME = gettext_noop('Created Time is not like 2021-01-22 10:11:18.000001')
_ITEM = gettext_noop('Item ID is neither the word ignore nor made of letters, digits and . _ : ~ -')
_RESOURCE = gettext_noop('Resource ID has a character that is not allowed')
_XML = gettext_noop('Message Text is not one well-formed geoloc element')
_CONTROL = re.compile('[\x00-\x1f\x7f\ufffe\uffff]')


class Row(NamedTuple):
    """One row."""

    owner: str
    access: str
    item: str
    at: datetime
    resource: str
    payload: bytes


class _NoLocation(Exception):
    pass


def subject(fields: list[str] | str) -> str:
    """``user item`` of a row, as far as it has them."""
    if isinstance(fields, str):
        return ''
    item = '' if len(fields) < 4 else fields[3 if _TIME.fullmatch(fields[2]) else 2]
    return f'{fields[0][:255]} {item[:60]}'.strip()


def parse(fields: list[str] | str) -> Row | Refusal:
    """Check one row of either order."""
    if isinstance(fields, str):
        return Refusal(INVALID_FORMAT, fields)
    if len(fields) != len(COLUMNS):
        return Refusal(INVALID_FORMAT, FEW)
    values = [unprotect(field) for field in fields]
    if not _TIME.fullmatch(values[2]):
        values[2], values[3] = values[3], values[2]
    if refusal := lengths(values, _LIMITS, _EMPTY, _LONG):
        return refusal
    user, access, created, item, resource, text = values
    if access not in ACCESS:
        return Refusal(INVALID_FORMAT, _ACCESS)
    at = moment(created)
    if at is None:
        return Refusal(INVALID_FORMAT, _NO_TIME)
    if not ITEM_ID.fullmatch(item):
        return Refusal(INVALID_FORMAT, _ITEM)
    if _CONTROL.search(resource):
        return Refusal(INVALID_FORMAT, _RESOURCE)
    if not is_location(text):
        return Refusal(INVALID_FORMAT, _XML)
    owner = prepared(user)
    if owner is None:
        return Refusal(NOT_LOCAL)
    if item.lower() == IGNORE:
        item = str(uuid.uuid5(_SPACE, f'{owner}\n{created}\n{resource}\n{text}'))
    return Row(owner, access, item, at, resource, text.encode())


def moment(text: str) -> datetime | None:
    """A Created Time, which is in UTC."""
    if not _TIME.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(f'{text:0<26}' if '.' in text else text).replace(tzinfo=UTC)
    except ValueError:
        return None


def shown(at: datetime) -> str:
    """A Created Time as files have it, 26 characters."""
    return at.astimezone(UTC).strftime('%Y-%m-%d %H:%M:%S.%f')


def is_location(text: str) -> bool:
    """Whether the text is one <geoloc/> that clients may be sent: no DTD, comment or processing instruction."""
    depth = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        if (not depth and name != f'{NODE}}}geoloc') or depth == DEPTH:
            raise _NoLocation
        depth += 1

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1

    def refuse(*_: object) -> None:
        raise _NoLocation

    parser = expat.ParserCreate(namespace_separator='}')
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.StartDoctypeDeclHandler = parser.XmlDeclHandler = refuse
    parser.CommentHandler = parser.ProcessingInstructionHandler = refuse
    try:
        parser.Parse(text, True)
    except (expat.ExpatError, _NoLocation):
        return False
    return True
