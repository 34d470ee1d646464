"""The contact list file of the original: one row per contact and group, seven columns, and the checks of one row.

Verdicts and their order are the product's (guide 11073-11082, 11181-11186).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from django.utils.translation import gettext_noop

from engine.contract.jid import InvalidJID, escape_local, prepare_domain, prepare_local, unescape_local
from impadmin.console.bulk import unprotect

COLUMNS = ('User ID', 'User Domain', 'Contact ID', 'Contact Domain', 'Nickname', 'Group Name', 'State')
LEAST = 6
"""Files of older releases have no State."""
LIMITS = (132, 128, 132, None, 255, 255)
"""Longest text of each column; a Contact Domain that is too long is an invalid domain."""
REQUIRED = (0, 1, 2, 3, 5)
DEFAULT_GROUP = 'General'
"""Group of a contact that has none (guide 10956 names no text; this is the one of its sample)."""

INVALID_FORMAT = gettext_noop('Invalid format')
INVALID_DOMAIN = gettext_noop('Invalid contact domain')
NOT_LOCAL = gettext_noop('User is not assigned to local node')
SELF = gettext_noop('Cannot add self as a contact')
SIZE = gettext_noop('User contact list size exceeds maximum')
SERVER_ERROR = gettext_noop('Internal server error')
REASONS = (INVALID_FORMAT, INVALID_DOMAIN, NOT_LOCAL, SELF, SIZE)

_EMPTY = (
    gettext_noop('User ID is empty'),
    gettext_noop('User Domain is empty'),
    gettext_noop('Contact ID is empty'),
    gettext_noop('Contact Domain is empty'),
    '',
    gettext_noop('Group Name is empty'),
)
_LONG = (
    gettext_noop('User ID is longer than 132 characters'),
    gettext_noop('User Domain is longer than 128 characters'),
    gettext_noop('Contact ID is longer than 132 characters'),
    '',
    gettext_noop('Nickname is longer than 255 characters'),
    gettext_noop('Group Name is longer than 255 characters'),
)
FEW = gettext_noop('The row has too few columns')
MANY = gettext_noop('The row has too many columns')
_STATE = gettext_noop('State is not a number from 0 to 2147483647')
CONTROL = gettext_noop('A control character stands in the Nickname or Group Name')
_USER_ID = gettext_noop('User ID has a character that is not allowed')
CONTACT_ID = gettext_noop('Contact ID has a character that is not allowed')

_DOMAIN = re.compile(r'(?=.{1,128}\Z)(?:(?!-)[A-Za-z0-9-]{1,63}(?<!-)\.)+[A-Za-z]{2,63}')
NOT_XML = re.compile('[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]')
CACHE = 200_000


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a row is ignored. ``detail`` narrows Invalid format down."""

    reason: str
    detail: str = ''

    @property
    def text(self) -> str:
        """As stored and as written to the log."""
        return f'{self.reason} ({self.detail})' if self.detail else self.reason


Row = tuple[str, str, str, str, int, str]
"""Owner's JID, contact's JID, nickname, group, state, contact's domain."""


def subject(fields: Sequence[str] | str) -> str:
    """``user@domain -> contact@domain`` of a row, as far as it has them."""
    if isinstance(fields, str):
        return ''
    padded = [field[:150] for field in fields[:4]] + [''] * 4
    return f'{padded[0]}@{padded[1]} -> {padded[2]}@{padded[3]}'


class Parser:
    """Turns rows into JIDs and remembers those it has seen: a file names the same users and domains again and again."""

    def __init__(self) -> None:
        self.locals: dict[str, str | None] = {}
        self.domains: dict[str, str | None] = {}
        self.contact_domains: dict[str, str | None] = {}
        self.texts: set[str] = set()

    def parse(self, fields: list[str] | str) -> Row | Refusal:
        """Check format and contact domain of one row."""
        if isinstance(fields, str):
            return Refusal(INVALID_FORMAT, fields)
        count = len(fields)
        if count == 7:
            user, domain, contact, contact_domain, name, group, state_text = fields
        elif count == 6:
            user, domain, contact, contact_domain, name, group = fields
            state_text = ''
        else:
            return Refusal(INVALID_FORMAT, FEW if count < 6 else MANY)
        if user[:1] == "'" or contact[:1] == "'" or name[:1] == "'" or group[:1] == "'":
            user, contact, name, group = unprotect(user), unprotect(contact), unprotect(name), unprotect(group)
        if not (user and domain and contact and contact_domain and group and not group.isspace()):
            values = (user, domain, contact, contact_domain, name, group.strip())
            return Refusal(INVALID_FORMAT, _EMPTY[next(n for n in REQUIRED if not values[n])])
        if len(user) > 132 or len(domain) > 128 or len(contact) > 132 or len(name) > 255 or len(group) > 255:
            values = (user, domain, contact, '', name, group)
            long = next(n for n, limit in enumerate(LIMITS) if limit is not None and len(values[n]) > limit)
            return Refusal(INVALID_FORMAT, _LONG[long])
        if state_text in ('', '0'):
            state = 0
        elif state_text.isascii() and state_text.isdigit() and len(state_text) < 20 and int(state_text) < 1 << 31:
            state = int(state_text)
        else:
            return Refusal(INVALID_FORMAT, _STATE)
        if (name and not self._is_text(name)) or not self._is_text(group):
            return Refusal(INVALID_FORMAT, CONTROL)
        owner_local = self._local(user)
        if owner_local is None:
            return Refusal(INVALID_FORMAT, _USER_ID)
        contact_local = self._local(contact)
        if contact_local is None:
            return Refusal(INVALID_FORMAT, CONTACT_ID)
        try:
            prepared = self.contact_domains[contact_domain]
        except KeyError:
            prepared = contact_domain.lower() if _DOMAIN.fullmatch(contact_domain) else None
            self.contact_domains[contact_domain] = prepared
        if prepared is None:
            return Refusal(INVALID_DOMAIN)
        owner_domain = self._domain(domain)
        if owner_domain is None:
            return Refusal(NOT_LOCAL)
        return f'{owner_local}@{owner_domain}', f'{contact_local}@{prepared}', name, group, state, prepared

    def _is_text(self, text: str) -> bool:
        if text in self.texts:
            return True
        if NOT_XML.search(text):
            return False
        if len(self.texts) < CACHE:
            self.texts.add(text)
        return True

    def _local(self, text: str) -> str | None:
        try:
            return self.locals[text]
        except KeyError:
            try:
                local: str | None = prepare_local(escape_local(text))
            except InvalidJID:
                local = None
            if len(self.locals) > CACHE:
                self.locals.clear()
            self.locals[text] = local
            return local

    def _domain(self, text: str) -> str | None:
        try:
            return self.domains[text]
        except KeyError:
            try:
                domain: str | None = prepare_domain(text)
            except InvalidJID:
                domain = None
            if len(self.domains) > CACHE:
                self.domains.clear()
            self.domains[text] = domain
            return domain


def export_fields(
    owner: str, jid: str, name: str, groups: Sequence[str], state: int, cell: Callable[[str], str]
) -> list[list[str]]:
    """The rows of one contact, one for each group. ``cell`` writes a cell that a spreadsheet might run."""
    user, _, user_domain = owner.rpartition('@')
    contact, _, contact_domain = jid.rpartition('@')
    head = [cell(unescape_local(user)), user_domain, cell(unescape_local(contact)), contact_domain, cell(name)]
    return [[*head, cell(group), str(state)] for group in (groups or (DEFAULT_GROUP,))]
