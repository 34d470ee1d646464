"""What is said in a room (XEP-0045 7.4, 7.5, 8.1).

Cost of a message of 170 bytes: 10 microseconds, and 0.15 for each copy; for 50 occupants 0.3 a copy, all in all
(``python -m tests.load.rooms``).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from engine.muc.presence import halves, told
from engine.muc.room import Occupant, Outgoing, Refused, Room, limited, rank
from engine.xmpp import ns
from engine.xmpp.forwarding import address, without
from engine.xmpp.stanza import ERROR_TYPES, Stanza, delay, element, error, with_attributes, with_child

HISTORY: Final = 262_144
"""Most bytes of the history of a room."""
HISTORY_ALL: Final = 268_435_456
"""What the histories of all rooms of a node share."""
PRIVATES: Final = 500
"""Most private messages of a room whose failure still finds their sender."""
_SUSPECT: Final = (ns.STANZA_ID.encode(), ns.DELAY.encode(), b'urn:xmpp:occupant-id')
_XHTML: Final = ns.XHTML_IM.encode()
_PRIVATE: Final = told('')


def groupchat(room: Room, sender: str, stanza: Stanza, now: float, out: Outgoing) -> None:
    """A message to everybody in the room, or its new subject. Raises Refused."""
    occupant = room.occupant(sender)
    role = occupant.role
    if role == 'hidden' or (role == 'visitor' and room.config.moderated):
        raise Refused('forbidden', 'You have no voice in this room.')
    subject = _subject(stanza) if b'subject' in stanza.raw else None
    if subject is not None and rank(role) < rank(room.config.subject_level):
        raise Refused('forbidden', f'The subject is changed by a {room.config.subject_level} or higher.')
    raw = _from_occupant(room, occupant, stanza)
    room.messages += 1
    raw = with_child(
        raw, b"<stanza-id xmlns='urn:xmpp:sid:0' id='%b-%d' by='%b'/>" % (room.stamp, room.messages, address(room.jid))
    )
    head, tail = halves(raw)
    out.extend([(full, head + to + tail) for full, to in room.fan.items()])
    if subject is not None:
        room.topic = subject
        room.subject = with_child(raw, delay(datetime.fromtimestamp(now, UTC), room.jid))
    elif b'<body' in raw:
        size = min(HISTORY, HISTORY_ALL // max(1, len(room.home.rooms)))
        room.history.add(now, raw, room.home.settings.archive_maximum, size)


def _subject(stanza: Stanza) -> str | None:
    """The new subject, when the message changes it: it has one and no body (XEP-0045 8.1). Raises Refused."""
    subjects = [child.text or '' for child in stanza.tree if child.tag == f'{{{ns.CLIENT}}}subject']
    if not subjects or stanza.child(ns.CLIENT, 'body') is not None:
        return None
    limited(''.join(subjects), 'subject')
    return subjects[0]


def private(room: Room, sender: str, nick: str, stanza: Stanza, out: Outgoing) -> None:
    """A message to one occupant: to all clients with which this one is here. Raises Refused."""
    occupant = room.occupant(sender)
    if stanza.type == 'groupchat':
        raise Refused('bad-request', 'Send a message for everybody to the address of the room.')
    if rank(occupant.role) < rank(room.config.private_level):
        raise Refused('forbidden', f'Private messages are sent by a {room.config.private_level} or higher.')
    target = room.named(nick)
    raw = with_child(_from_occupant(room, occupant, stanza), _PRIVATE)
    to_sessions(target, raw, out)
    if stanza.id:
        room.privates[target.shown.full, stanza.id] = sender
        if len(room.privates) > PRIVATES:
            del room.privates[next(iter(room.privates))]


def bounced(room: Room, sender: str, stanza: Stanza, out: Outgoing) -> None:
    """An error for a private message goes to who sent that, as the room's own words: the original could name the real
    address. Errors for what everybody got go nowhere."""
    asker = room.privates.pop((sender, stanza.id or ''), '')
    occupant = room.by_jid.get(sender)
    if occupant is not None and len(occupant.sessions) == 1 and asker in room.by_jid:
        out.append((asker, failure(stanza, f'{room.jid}/{occupant.nick}', asker, stanza.id)))


def conditions(stanza: Stanza) -> set[str]:
    """What an error stanza says is wrong."""
    found = stanza.child(ns.CLIENT, 'error')
    return {child.tag.rpartition('}')[2] for child in found} if found is not None else set()


def failure(stanza: Stanza, sender: str, to: str, id: str | None) -> bytes:
    """An error stanza written anew from one occupant to another: its condition, nothing else."""
    condition = next(iter(sorted(conditions(stanza) & ERROR_TYPES.keys())), 'undefined-condition')
    attributes = {'from': to, 'to': sender} | ({'id': id} if id else {})
    return error(Stanza(stanza.name, attributes, b''), condition)


def to_sessions(target: Occupant, raw: bytes, out: Outgoing) -> None:
    """A stanza for all clients of an occupant."""
    head, tail = halves(raw)
    out.extend((session.full, head + session.address + tail) for session in target.sessions.values())


def _from_occupant(room: Room, occupant: Occupant, stanza: Stanza) -> bytes:
    """The message with the occupant as sender and no addressee, without what only the room says."""
    raw = stanza.raw
    # A reference could hide a namespace; the first question is there because most messages have none of them.
    if b'&#' in raw or b'muc#user' in raw or (b'urn:xmpp:' in raw and any(needle in raw for needle in _SUSPECT)):
        raw = without(raw, lambda name, attributes: _forged((room.jid, occupant.bare), name, attributes))
    if room.config.strip_xhtml and (_XHTML in raw or b'&#' in raw):
        raw = _plain(raw, stanza)
    return with_attributes(raw, {'from': f'{room.jid}/{occupant.nick}', 'to': None})


def _forged(addresses: tuple[str, str], name: str, attributes: dict[str, str]) -> bool:
    """Whether this child is not for the others: only the room says it, or it names who sent the message."""
    if name == f'{ns.DELAY} delay':
        return attributes.get('from', '').partition('/')[0] in addresses
    return name in (f'{ns.STANZA_ID} stanza-id', f'{ns.MUC_USER} x', 'urn:xmpp:occupant-id:0 occupant-id')


def _plain(raw: bytes, stanza: Stanza) -> bytes:
    """The message without XHTML (XEP-0071): when there are no words beside it, its own."""
    html = stanza.child(ns.XHTML_IM, 'html')
    raw = without(raw, lambda name, _attributes: name == f'{ns.XHTML_IM} html')
    if html is not None and stanza.child(ns.CLIENT, 'body') is None:
        raw = with_child(raw, element('body', '', ''.join(html.itertext())).encode())
    return raw
