"""Presence documents (RFC 3863) with activities (RFC 4480), and XMPP presence: each made from the other (RFC 7248)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final, NamedTuple
from xml.etree.ElementTree import Element, ParseError, XMLParser

from engine.sip.address import from_jid
from engine.sip.message import BadMessage
from engine.xmpp.stanza import escape, quote

CONTENT_TYPE: Final = 'application/pidf+xml'
PIDF: Final = 'urn:ietf:params:xml:ns:pidf'
MODEL: Final = 'urn:ietf:params:xml:ns:pidf:data-model'
RPID: Final = 'urn:ietf:params:xml:ns:pidf:rpid'
NOTE: Final = 1023
"""Characters of a note that are kept."""
_SHOW: Final = {
    'on-the-phone': 'dnd', 'busy': 'dnd', 'meeting': 'dnd', 'in-transit': 'away', 'presentation': 'dnd',
    'away': 'away', 'permanent-absence': 'xa', 'holiday': 'xa', 'vacation': 'xa', 'sleeping': 'xa', 'meal': 'away',
    'appointment': 'away', 'travel': 'away',
}  # fmt: skip
_ACTIVITY: Final = {'away': 'away', 'xa': 'permanent-absence', 'dnd': 'busy'}
_WORDS: Final = {'on-the-phone': 'On the phone', 'meeting': 'In a meeting'}


class Tuple(NamedTuple):
    """One client of a user: its resource, ``show`` of XMPP ('' for available), its text, its priority."""

    resource: str
    show: str = ''
    status: str = ''
    priority: int = 0


class State(NamedTuple):
    """What a document says of a user."""

    is_open: bool
    show: str = ''
    status: str = ''


def write(bare: str, clients: Iterable[Tuple]) -> bytes:
    """The document about the user ``bare``; without clients: closed."""
    address = quote(from_jid(bare))
    tuples, activities = [], []
    for one in clients:
        identity = 'r' + hashlib.sha256(one.resource.encode()).hexdigest()[:16]
        note = f'<note>{escape(one.status)}</note>' if one.status else ''
        priority = round(max(0, one.priority) / 127, 3)
        contact = f"<contact priority='{priority:g}'>im:{address}</contact>"
        tuples.append(f"<tuple id='{identity}'><status><basic>open</basic></status>{contact}{note}</tuple>")
        if activity := _ACTIVITY.get(one.show):
            activities.append(
                f"<dm:person id='p{identity}'><rpid:activities><rpid:{activity}/></rpid:activities></dm:person>"
            )
    if not tuples:
        tuples = ["<tuple id='offline'><status><basic>closed</basic></status></tuple>"]
    return (
        f"<?xml version='1.0' encoding='UTF-8'?>\n<presence xmlns='{PIDF}' xmlns:dm='{MODEL}' xmlns:rpid='{RPID}'"
        f" entity='pres:{address}'>{''.join(tuples)}{''.join(activities)}</presence>"
    ).encode()


def read(document: bytes) -> State:
    """What somebody publishes: open when one of the tuples is. Raises BadMessage."""
    if b'<!DOCTYPE' in document:
        raise BadMessage(400, 'The presence document has declarations')
    parser = XMLParser(encoding='utf-8')  # noqa: S314 - no declarations; at most a message body long
    try:
        parser.feed(document)
        root: Element = parser.close()
    except (ParseError, ValueError) as error:
        raise BadMessage(400, 'The presence document is no XML') from error
    if root.tag != f'{{{PIDF}}}presence':
        raise BadMessage(400, 'The document is no presence document')
    tuples = root.findall(f'{{{PIDF}}}tuple')
    basics = {(one.findtext(f'{{{PIDF}}}status/{{{PIDF}}}basic') or '').strip() for one in tuples}
    if basics - {'open', 'closed', ''}:
        raise BadMessage(400, 'The basic status is open or closed')
    shown = _activities(root)
    notes = [text.strip() for one in root.iter(f'{{{PIDF}}}note') if (text := one.text)]
    note = notes[0] if notes else next((_WORDS[name] for name in shown if name in _WORDS), '')
    show = next((_SHOW[name] for name in shown if name in _SHOW), '')
    return State('open' in basics, show, note[:NOTE])


def _activities(root: Element) -> list[str]:
    found = []
    for activities in root.iter(f'{{{RPID}}}activities'):
        found += [one.tag.partition('}')[2] for one in activities if isinstance(one.tag, str)]
    return found
