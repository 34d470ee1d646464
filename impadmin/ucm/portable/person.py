"""One <user/> of a XEP-0227 document, checked: what of it can be used, and a sentence for everything that cannot."""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from xml.etree.ElementTree import Element

from django.utils.dateparse import parse_datetime

from engine.contract import jid
from engine.contract.credentials import MECHANISMS, verifiers
from engine.contract.privacy import BLOCK_LIST, Item, PrivacyError, block, list_name, read_jid, read_list
from impadmin.ucm.portable import (
    BLOCKING,
    CLIENT,
    DELAY,
    NS,
    OLD_NS,
    PRIVACY,
    PRIVATE,
    PUBSUB,
    PUBSUB_OWNER,
    ROSTER,
    SCRAM,
    VCARD,
)
from impadmin.ucm.portable import nodes as personal
from impadmin.ucm.portable.markup import attribute, split, written
from impadmin.ucm.portable.reading import Portable

SUBSCRIPTIONS = {'none': 0, 'to': 1, 'from': 2, 'both': 3}
TEXT = 1023
"""Most characters of names and groups."""
GROUPS = 100
MESSAGES = 10_000
REQUEST_BYTES = 4096
VCARD_BYTES = 128 * 1024
PRIVATE_BYTES = 1024 * 1024
LIST_ITEMS = 10_000
LISTS = 100
DIGEST_BYTES = {'SCRAM-SHA-1': 20, 'SCRAM-SHA-256': 32}


@dataclass(slots=True)
class Contact:
    """One entry of a contact list."""

    jid: str
    name: str = ''
    groups: tuple[str, ...] = ()
    subscription: int = 0
    ask: bool = False
    approved: bool = False
    request: bytes | None = None
    """A request of the contact that waits for an answer."""
    is_contact: bool = True


@dataclass(slots=True)
class Person:
    """What can be imported. ``error``: the user cannot be. ``skipped``: parts that cannot, each with its reason."""

    local: str = ''
    host: str = ''
    error: str = ''
    credentials: dict[str, list[str | int]] = field(default_factory=dict)
    first_name: str = ''
    last_name: str = ''
    display_name: str = ''
    contacts: dict[str, Contact] = field(default_factory=dict)
    has_roster: bool = False
    messages: list[tuple[datetime, bytes]] = field(default_factory=list)
    vcard: str = ''
    avatar: str = ''
    private: dict[tuple[str, str], str] = field(default_factory=dict)
    lists: dict[str, tuple[Item, ...]] = field(default_factory=dict)
    default_list: str = ''
    nodes: dict[str, personal.Node] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    """Like ``skipped``, found while writing."""

    @property
    def address(self) -> str:
        """The prepared IM address."""
        return f'{self.local}@{self.host}'


def read(portable: Portable, now: datetime) -> Person:
    """Check one user."""
    person = Person()
    try:
        person.host = jid.prepare_domain(portable.host)
    except jid.InvalidJID as error:
        person.error = f'The host is not valid: {error}.'
        return person
    try:
        person.local = jid.prepare_local(portable.name)
    except jid.InvalidJID as error:
        person.error = f'The name of the user is not valid: {error}.'
        return person
    _credentials(person, portable.element)
    for child in portable.element:
        namespace, name = split(child.tag)
        if child.tag == f'{{{ROSTER}}}query':
            _roster(person, child)
        elif name == 'offline-messages' and namespace in (NS, OLD_NS):
            _messages(person, child, now)
        elif child.tag == f'{{{VCARD}}}vCard':
            _vcard(person, child)
        elif child.tag == f'{{{PRIVATE}}}query':
            _private(person, child)
        elif child.tag == f'{{{PRIVACY}}}query':
            _privacy(person, child)
        elif child.tag == f'{{{BLOCKING}}}blocklist':
            _block_list(person, child)
        elif child.tag == f'{{{PUBSUB_OWNER}}}pubsub':
            personal.read_owner(person.nodes, child, person.address, person.skipped.append)
        elif child.tag == f'{{{PUBSUB}}}pubsub':
            personal.read_items(person.nodes, child, person.address, person.skipped.append)
        elif child.tag == f'{{{CLIENT}}}presence' and child.get('type') == 'subscribe':
            _request(person, child)
        elif child.tag != f'{{{SCRAM}}}scram-credentials':
            person.skipped.append(f'<{name}/> of the namespace {namespace!r} is not imported')
    personal.finish(person.nodes, person.skipped.append)
    return person


def _credentials(person: Person, element: Element) -> None:
    if password := element.get('password', ''):
        try:
            person.credentials = verifiers(password)
        except ValueError as error:
            person.skipped.append(f'password: {error}')
        return
    for child in element.findall(f'{{{SCRAM}}}scram-credentials'):
        mechanism = child.get('mechanism', '')
        if mechanism not in MECHANISMS:
            person.skipped.append(f'credentials for {mechanism[:40]!r}: only {", ".join(MECHANISMS)} are used')
            continue
        values = {name: (child.findtext(f'{{{SCRAM}}}{name}') or '').strip() for name in
                  ('iter-count', 'salt', 'stored-key', 'server-key')}  # fmt: skip
        try:
            iterations = int(values['iter-count'])
            lengths = [len(base64.b64decode(values[name], validate=True)) for name in ('stored-key', 'server-key')]
            salt = base64.b64decode(values['salt'], validate=True)
        except (ValueError, binascii.Error):
            iterations, lengths, salt = 0, [], b''
        if not 1 <= iterations <= 10_000_000 or lengths != [DIGEST_BYTES[mechanism]] * 2 or not salt:
            person.skipped.append(f'credentials for {mechanism} are not complete or not valid')
            continue
        person.credentials[mechanism] = [values['salt'], iterations, values['stored-key'], values['server-key']]
    if set(person.credentials) == {'SCRAM-SHA-1'}:
        person.skipped.append('credentials for SCRAM-SHA-256: there are none, clients must choose SCRAM-SHA-1 or PLAIN')


def _bare(text: str) -> str:
    local, domain, _resource = jid.split(text)
    return f'{local}@{domain}' if local else domain


def _roster(person: Person, query: Element) -> None:
    person.has_roster = True
    for item in query:
        if item.tag != f'{{{ROSTER}}}item':
            continue
        shown = item.get('jid', '')[:100]
        try:
            address = _bare(item.get('jid', ''))
        except jid.InvalidJID as error:
            person.skipped.append(f'contact {shown!r}: {error}')
            continue
        subscription = item.get('subscription', 'none')
        groups = tuple(dict.fromkeys(group.text or '' for group in item.findall(f'{{{ROSTER}}}group')))
        if subscription not in SUBSCRIPTIONS:
            person.skipped.append(f'contact {shown!r}: the subscription {subscription[:40]!r} does not exist')
        elif address == person.address:
            person.skipped.append('contact: the user itself')
        elif len(item.get('name', '')) > TEXT or any(len(group) > TEXT for group in groups) or len(groups) > GROUPS:
            person.skipped.append(f'contact {shown!r}: name or groups are too long or too many')
        elif address in person.contacts and person.contacts[address].is_contact:
            person.skipped.append(f'contact {shown!r}: it is there twice')
        else:
            request = person.contacts[address].request if address in person.contacts else None
            person.contacts[address] = Contact(
                address, item.get('name', ''), tuple(group for group in groups if group), SUBSCRIPTIONS[subscription],
                item.get('ask') == 'subscribe', item.get('approved') in ('true', '1'), request,
            )  # fmt: skip


def _request(person: Person, presence: Element) -> None:
    try:
        address = _bare(presence.get('from', ''))
    except jid.InvalidJID as error:
        person.skipped.append(f'subscription request: {error}')
        return
    data = f"<presence from='{attribute(address)}' to='{attribute(person.address)}' type='subscribe'"
    inside = ''.join(written(child, CLIENT) for child in presence)
    whole = f'{data}>{inside}</presence>'.encode()
    entry = person.contacts.get(address) or Contact(address, is_contact=False)
    entry.request = whole if inside and len(whole) <= REQUEST_BYTES else f'{data}/>'.encode()
    person.contacts[address] = entry


def _messages(person: Person, element: Element, now: datetime) -> None:
    for number, message in enumerate(element, 1):
        if message.tag != f'{{{CLIENT}}}message':
            person.skipped.append(f'offline message {number}: it is no message')
            continue
        if len(person.messages) >= MESSAGES:
            person.skipped.append(f'offline messages after the first {MESSAGES}')
            return
        at = now
        delays = [child for child in message if child.tag == f'{{{DELAY}}}delay']
        if delays:
            stamp = parse_datetime(delays[-1].get('stamp', '')) if len(delays[-1].get('stamp', '')) < 64 else None
            if stamp is not None and stamp.tzinfo is not None:
                at = stamp.astimezone(UTC)
            else:
                person.skipped.append(f'offline message {number}: its time is not readable, today is used')
            message.remove(delays[-1])  # it is written anew when the message is delivered
        try:
            jid.split(message.get('from', ''))
        except jid.InvalidJID as error:
            person.skipped.append(f'offline message {number}: sender: {error}')
            continue
        message.set('to', message.get('to') or person.address)
        message.tail = None
        person.messages.append((at, written(message, CLIENT).encode()))


def _vcard(person: Person, card: Element) -> None:
    text = written(card)
    if len(text.encode()) > VCARD_BYTES:
        person.skipped.append(f'vCard: it has more than {VCARD_BYTES // 1024} KiB')
        return
    person.vcard = text

    def value(path: str) -> str:
        return ' '.join((card.findtext('/'.join(f'{{{VCARD}}}{part}' for part in path.split('/'))) or '').split())

    person.first_name, person.last_name = value('N/GIVEN')[:64], value('N/FAMILY')[:64]
    person.display_name = value('FN')[:128]
    photo = ''.join(value('PHOTO/BINVAL').split())
    try:
        data = base64.b64decode(photo, validate=True)
    except (ValueError, binascii.Error):
        person.skipped.append('picture in the vCard: it is not base64')
        return
    person.avatar = hashlib.sha1(data, usedforsecurity=False).hexdigest() if data else ''


def _private(person: Person, query: Element) -> None:
    for child in query:
        key = split(child.tag)
        child.tail = None
        text = written(child)
        if not key[0] or key[0] in (PRIVATE, CLIENT) or len(key[0]) > 1023 or len(key[1]) > 255:
            person.skipped.append(f'private data <{key[1][:100]}/>: it needs a namespace of its own')
        elif len(text.encode()) > PRIVATE_BYTES:
            person.skipped.append(f'private data <{key[1][:100]}/>: it has more than {PRIVATE_BYTES // 1024} KiB')
        else:
            person.private[key] = text


def _privacy(person: Person, query: Element) -> None:
    for child in query:
        kind = split(child.tag)[1]
        try:
            if kind == 'list':
                if len(person.lists) >= LISTS:
                    raise PrivacyError('', f'there are more than {LISTS}')
                name, items = read_list(child, LIST_ITEMS)
                if items:
                    person.lists[name] = items
            elif kind == 'default' and child.get('name') is not None:
                person.default_list = list_name(child)
        except PrivacyError as error:
            person.skipped.append(f'privacy list {child.get("name", "")[:100]!r}: {error}')
    if person.default_list and person.default_list not in person.lists:
        person.skipped.append(f'default privacy list {person.default_list[:100]!r}: there is no such list')
        person.default_list = ''


def _block_list(person: Person, element: Element) -> None:
    addresses = []
    for item in element:
        try:
            addresses.append(read_jid(item.get('jid', '')))
        except PrivacyError as error:
            person.skipped.append(f'block list: {error}')
    if addresses:
        name = person.default_list or BLOCK_LIST
        person.lists[name] = block(person.lists.get(name, ()), addresses)
        person.default_list = name
