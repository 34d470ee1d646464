"""Presence as the room sends it: who is here, who left, what changed (XEP-0045 7.2.3, 7.6, 7.14, 8, 9)."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from engine.muc.room import (
    LISTED,
    NICK,
    Affiliation,
    Entry,
    Halves,
    Home,
    Occupant,
    Outgoing,
    Refused,
    Role,
    Room,
    Session,
    nick_key,
)
from engine.xmpp import ns
from engine.xmpp.forwarding import address, without
from engine.xmpp.stanza import Stanza, element, escape, quote, with_attributes, with_child

PRESENCE: Final = 8192
"""Most bytes of a presence that a room relays."""
GONE: Final = b"<presence type='unavailable'/>"
AVAILABILITY: Final = frozenset(
    (
        *(f'{ns.CLIENT} {name}' for name in ('show', 'status', 'priority')),
        'urn:xmpp:idle:1 idle',
        f'{ns.LAST} query',
    )
)
"""Children of a presence that show availability: 'namespace name'."""
_OURS: Final = (f'{ns.MUC} ', f'{ns.MUC}#', f'{ns.DELAY} ', f'{ns.STANZA_ID} ', 'urn:xmpp:occupant-id:0 ')
"""What only a room says."""


def cleaned(home: Home, bare: str, stanza: Stanza) -> bytes:
    """The presence of a client as others in a room may see it, without addresses: nothing that only a room says, and
    nothing of the availability of a user whose availability is not shared (guide 5541). Raises Refused."""
    if len(stanza.raw) > PRESENCE:
        raise Refused('policy-violation', f'Presence in a room has at most {PRESENCE} bytes.')
    shared = home.sharing(bare)

    def unwanted(name: str, _attributes: dict[str, str]) -> bool:
        return name.startswith(_OURS) or (not shared and name in AVAILABILITY)

    return with_attributes(without(stanza.raw, unwanted), {'from': None, 'to': None, 'id': None})


def item(affiliation: Affiliation, role: Role, jid: str = '', nick: str = '', reason: str = '', actor: str = '') -> str:
    """The <item/> of muc#user."""
    inside = (f"<actor nick='{quote(actor)}'/>" if actor else '') + (element('reason', '', reason) if reason else '')
    named = (f" jid='{quote(jid)}'" if jid else '') + (f" nick='{quote(nick)}'" if nick else '')
    return f"<item affiliation='{affiliation}' role='{role}'{named}" + (f'>{inside}</item>' if inside else '/>')


def told(inside: str, codes: Iterable[int] = ()) -> bytes:
    """The <x/> of muc#user."""
    statuses = ''.join(f"<status code='{code}'/>" for code in codes)
    return f"<x xmlns='{ns.MUC_USER}'>{inside}{statuses}</x>".encode()


def halves(raw: bytes) -> Halves:
    """(head, tail) of a stanza that has attributes but no addressee: head + address + tail goes to a client."""
    end = raw.index(b' ')
    return raw[:end] + b" to='", b"'" + raw[end:]


def address_to(raw: bytes, session: Session) -> tuple[str, bytes]:
    """``raw``, which has no addressee, for a client."""
    head, tail = halves(raw)
    return session.full, head + session.address + tail


class Notice:
    """One presence of an occupant, for different receivers: some see the JID, the own clients see that it is theirs.

    ``raw`` is without addresses; ``codes`` everybody gets; ``nick``: the new nickname; ``extra`` is put beside the
    item.
    """

    def __init__(
        self, room: Room, occupant: Occupant, raw: bytes, codes: Collection[int] = (), *, role: Role | None = None,
        affiliation: Affiliation | None = None, nick: str = '', reason: str = '', actor: str = '', extra: str = '',
    ) -> None:  # fmt: skip
        self._room = room
        self._occupant = occupant
        self._codes = tuple(codes)
        self._base = with_attributes(raw, {'from': f'{room.jid}/{occupant.nick}'})
        self._affiliation = affiliation or room.affiliation(occupant.bare)
        self._role = role or occupant.role
        self._rest = {'nick': nick, 'reason': reason, 'actor': actor}
        self._extra = extra
        self._jid = occupant.shown.full
        self._made: dict[bool, Halves] = {}

    def _make(self, jid: bool, codes: tuple[int, ...]) -> bytes:
        entry = item(self._affiliation, self._role, self._jid if jid else '', **self._rest)
        return with_child(self._base, told(entry + self._extra, codes))

    def halves(self, sees: bool) -> Halves:
        """The notice for others; ``sees``: they may see the JID."""
        made = self._made.get(sees)
        if made is None:
            made = self._made[sees] = halves(self._make(sees, self._codes))
        return made

    def to(
        self, receiver: Occupant, session: Session, codes: Iterable[int] = (), id: str | None = None
    ) -> tuple[str, bytes]:
        """The notice for one client of ``receiver``; with ``codes`` and ``id`` when it is about that client."""
        sees = self._room.sees_jids(receiver)
        if receiver is self._occupant:
            raw = self._make(sees, (*self._codes, 110, *codes))
            return address_to(with_attributes(raw, {'id': id}) if id else raw, session)
        head, tail = self.halves(sees)
        return session.full, head + session.address + tail

    def everybody(self, out: Outgoing, but: Session | None = None) -> None:
        """The notice for every client in the room but one; of a hidden occupant only for its own clients."""
        for receiver, session in self._room.sessions():
            if session is not but and (receiver is self._occupant or not self._occupant.hidden):
                out.append(self.to(receiver, session))


def shown(room: Room, occupant: Occupant, out: Outgoing, reason: str = '', actor: str = '') -> None:
    """Tell everybody how an occupant is now."""
    Notice(room, occupant, occupant.shown.presence, reason=reason, actor=actor).everybody(out)


def present(room: Room, occupant: Occupant, session: Session, out: Outgoing) -> None:
    """Tell a client that enters who is here, and who belongs here and is not."""
    sees = room.sees_jids(occupant)
    for other in room.occupants.values():
        if other is not occupant and not other.hidden:
            head, tail = _now(room, other, sees)
            out.append((session.full, head + session.address + tail))
    if room.config.absent_visible:
        here = {one.bare for one in room.occupants.values() if not one.hidden or one is occupant}
        for bare, entry in room.entries.items():
            if entry.affiliation in LISTED and bare not in here:
                _absent(room, bare, entry, occupant, session, out)


def _now(room: Room, occupant: Occupant, sees: bool) -> Halves:
    """How an occupant is now, for others. Kept, because everybody who enters is told the same."""
    shown = occupant.shown
    state = (room.affiliation(occupant.bare), occupant.role, occupant.nick, shown.full, shown.presence)
    kept = occupant.told.get(sees)
    if kept is None or kept[0] != state:
        kept = occupant.told[sees] = state, Notice(room, occupant, shown.presence).halves(sees)
    return kept[1]


def absent(room: Room, bare: str, entry: Entry, out: Outgoing) -> None:
    """Tell everybody about somebody who is not here and whose affiliation has changed."""
    for receiver, session in room.sessions():
        _absent(room, bare, entry, receiver, session, out)


def _absent(room: Room, bare: str, entry: Entry, receiver: Occupant, session: Session, out: Outgoing) -> None:
    sees = room.sees_jids(receiver)
    nick = entry.nick
    if not nick or nick_key(nick) in room.occupants:
        # Only the JID can name this one, to those who may have it.
        nick = bare
        if not sees or nick_key(bare[:NICK]) in room.occupants:
            return
    inside = told(item(entry.affiliation, 'none', bare if sees else ''))
    tag = b"<presence type='unavailable' from='%b' to='%b'>" % (escape(f'{room.jid}/{nick}').encode(), session.address)
    out.append((session.full, tag + inside + b'</presence>'))


def from_room(room: Room, name: str, kind: str, inside: bytes) -> bytes:
    """A stanza of the room itself, without addressee."""
    typed = f" type='{kind}'" if kind else ''
    return b"<%b from='%b'%b>%b</%b>" % (name.encode(), address(room.jid), typed.encode(), inside, name.encode())


def note(room: Room, text: str, but: Session | None, out: Outgoing) -> None:
    """Words for the clients that know no presence of rooms (Group Chat 1.0)."""
    old = [session for _, session in room.sessions() if session.gc1 and session is not but]
    if old:
        raw = from_room(room, 'message', 'groupchat', f'<body>{escape(text)}</body>'.encode())
        out.extend(address_to(raw, session) for session in old)
