"""Entries of a directory as the users they stand for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from impadmin.console.actions import unstorable
from impadmin.ucm import rules
from impadmin.ucm.ldap_models import LdapDirectory, LdapSystem, ServerType
from impadmin.ucm.models import EndUser

_GUID = {ServerType.AD: 'objectGUID', ServerType.AD_LDS: 'objectGUID', ServerType.ORACLE: 'nsUniqueId'}
_USERS = {
    ServerType.AD: '(&(objectclass=user)(!(objectclass=computer))(!(userAccountControl:1.2.840.113556.1.4.803:=2)))',
    ServerType.AD_LDS: '(&(objectclass=user)(!(objectclass=computer))(!(msDS-UserAccountDisabled=TRUE)))',
}
"""What is a user who may sign in, by type."""
_PEOPLE = '(objectclass=inetOrgPerson)'
MAPPED = ('first_name', 'last_name', 'display_name', 'mail', 'department', 'telephone_number', 'directory_uri')
"""Fields of a user that come from the attribute ``LdapDirectory.FIELD_from``; with the user ID."""
IDENTIFIES = ('user_id', 'mail', 'directory_uri')
"""Too long a value of these is wrong; of the others it is cut."""
_LENGTHS: dict[str, int] = {name: EndUser._meta.get_field(name).max_length for name in (*MAPPED, 'user_id')}


@dataclass(frozen=True, slots=True)
class Schema:
    """What is asked for: the filter, and which attribute is which field."""

    query: str
    guid: str
    attributes: Mapping[str, str]

    @property
    def asked(self) -> list[str]:
        """The attributes to ask for."""
        return [self.guid, *dict.fromkeys(self.attributes.values())]


@dataclass(slots=True)
class Person:
    """One entry. ``problem``: why it cannot be imported, or ''."""

    place: int
    dn: str
    guid: str = ''
    values: dict[str, str] = field(default_factory=dict)
    problem: str = ''

    @property
    def user_id(self) -> str:
        """The user ID, '' without one."""
        return self.values.get('user_id', '')

    @property
    def shown(self) -> str:
        """What a verdict calls it."""
        return f'{self.user_id} ({self.dn})' if self.user_id else self.dn


def schema(row: LdapDirectory, system: LdapSystem) -> Schema:
    """What a synchronization asks for."""
    kind = ServerType(system.server_type)
    query = _USERS.get(kind, _PEOPLE)
    if row.custom_filter is not None:
        query = f'(&{query}{row.custom_filter.filter})'
    attributes = {name: getattr(row, f'{name}_from') for name in MAPPED}
    named = {name: attribute for name, attribute in attributes.items() if attribute}
    return Schema(query, _GUID.get(kind, 'entryUUID'), {'user_id': system.user_id_attribute, **named})


def read(place: int, dn: str, raw: Mapping[str, Any], asked: Schema) -> Person:
    """The person of an entry. ``raw``: attribute name -> list of bytes."""
    person = Person(place, dn)
    given = {name.lower(): values for name, values in raw.items()}
    for guid in given.get(asked.guid.lower(), ())[:1]:
        person.guid = guid.decode().lower() if guid.isascii() and len(guid) > 16 else guid.hex()
    for name, attribute in asked.attributes.items():
        values = given.get(attribute.lower()) or [b'']
        try:
            text = values[0].decode().strip()
        except UnicodeDecodeError:
            person.problem = _('%(attribute)s is not text in UTF-8.') % {'attribute': attribute}
            continue
        if name == 'directory_uri':
            text = text.removeprefix('sip:')
        person.values[name] = text if name in IDENTIFIES else text[: _LENGTHS[name]].rstrip()
    person.problem = person.problem or _problem(person, asked)
    return person


def _problem(person: Person, asked: Schema) -> str:
    for name in ('user_id', 'last_name'):
        if not person.values.get(name):
            return _('It has no %(attribute)s.') % {'attribute': asked.attributes[name]}
    if not person.guid:
        return _('It has no %(attribute)s.') % {'attribute': asked.guid}
    for name, text in person.values.items():
        if problem := unstorable(text):
            return f'{asked.attributes[name]}: {problem}'
    candidate = EndUser(**person.values)
    try:
        candidate.clean_fields(exclude={one.name for one in EndUser._meta.concrete_fields} - set(IDENTIFIES))
        rules.user_id_is_an_address(candidate, None)
        rules.directory_uri_is_valid(candidate, None)
        rules.mail_is_valid(candidate, None)
    except ValidationError as error:
        name, texts = next(iter(error.message_dict.items()))
        return f'{asked.attributes.get(name, name)}: {" ".join(texts)}'
    return ''
