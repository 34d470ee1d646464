"""All rooms of one chat node."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final

from engine.contract.chat import RoomSettings
from engine.muc.configuration import close
from engine.muc.entering import available, leave, unavailable
from engine.muc.invitations import message
from engine.muc.lists import affected
from engine.muc.messages import bounced, conditions, groupchat, private
from engine.muc.requests import between, to_room, to_service
from engine.muc.room import Home, Outgoing, Refused
from engine.xmpp.stanza import Stanza, error

_GONE: Final = frozenset(
    (
        'gone', 'item-not-found', 'jid-malformed', 'recipient-unavailable', 'redirect', 'remote-server-not-found',
        'remote-server-timeout', 'service-unavailable',
    )
)  # fmt: skip
"""Errors by which a client says that it is not there (XEP-0045 18.1.2 knows them as ghosts)."""


class Rooms(Home):
    """The rooms of every alias of a node: they share one limit (guide 7761).

    ``rooms`` by bare JID; ``where``: full JID of an occupant to the rooms it is in. The owner of this object may set
    ``im_enabled`` and ``sharing`` (whether a user's availability may be shown in rooms, by bare JID; guide 5541) at any
    time; everything else changes by the methods.
    """

    def __init__(self, settings: RoomSettings, token: Callable[[], str] = lambda: secrets.token_hex(8)) -> None:
        """``token``: unguessable text, new at each call."""
        super().__init__(settings, token)
        self.im_enabled = True

    @property
    def occupants(self) -> int:
        """Nicknames in all rooms together."""
        return sum(len(room.occupants) for room in self.rooms.values())

    def receive(self, sender: str, to: str, stanza: Stanza, now: float) -> Outgoing:
        """What is to be sent because ``sender`` (prepared full JID) sent this stanza to ``to`` (prepared: an alias, a
        room or an occupant). ``now``: seconds since the epoch. A refusal is an error to the sender."""
        out: Outgoing = []
        jid, _, nick = to.partition('/')
        try:
            if stanza.name == 'message':
                self._message(sender, jid, nick, stanza, now, out)
            elif stanza.name == 'presence':
                self._presence(sender, jid, nick, stanza, now, out)
            else:
                self._iq(sender, jid, nick, stanza, out)
        except Refused as refusal:
            if stanza.type in ('error', 'result'):
                return []
            return [(sender, error(stanza, refusal.condition, refusal.type, refusal.text))]
        return out

    def gone(self, sender: str, now: float) -> Outgoing:
        """Stanzas do not reach this full JID any more: it leaves all its rooms (status 333)."""
        out: Outgoing = []
        for jid in sorted(self.where.get(sender, ())):
            leave(self.rooms[jid], sender, out, code=333, tell=False)
        return out

    def administer(self, administrators: frozenset[str], now: float) -> Outgoing:
        """The group chat system administrators (bare JIDs) are now these; occupants are told of changed roles."""
        out: Outgoing = []
        changed = administrators ^ self.administrators
        before = [
            (room, occupant, room.affiliation(occupant.bare))
            for room in self.rooms.values()
            for occupant in room.occupants.values()
            if occupant.bare in changed
        ]
        self.administrators = administrators
        for room, occupant, old in before:
            if room.affiliation(occupant.bare) != old:
                affected(room, occupant, old, out)
        return out

    def close(self, domain: str | None = None) -> Outgoing:
        """The service stops (status 332): every room of this alias, of all aliases with None, ends."""
        out: Outgoing = []
        for room in list(self.rooms.values()):
            if domain is None or room.jid.endswith(f'@{domain}'):
                close(room, out, 332)
                self.rooms.pop(room.jid, None)
        return out

    def _on(self) -> None:
        if not self.im_enabled:
            raise Refused('service-unavailable', 'Instant messaging is turned off.')

    def _message(self, sender: str, jid: str, nick: str, stanza: Stanza, now: float, out: Outgoing) -> None:
        room = self.rooms.get(jid)
        kind = stanza.type
        if kind == 'error':
            if room is not None:
                bounced(room, sender, stanza, out)
                self._ghost(sender, jid, stanza, out)
            return
        self._on()
        if room is None:
            raise Refused('item-not-found', 'There is no such room.')
        if nick:
            private(room, sender, nick, stanza, out)
        elif kind == 'groupchat':
            groupchat(room, sender, stanza, now, out)
        else:
            message(room, sender, stanza, now, out)

    def _presence(self, sender: str, jid: str, nick: str, stanza: Stanza, now: float, out: Outgoing) -> None:
        kind = stanza.type
        if kind == 'error':
            self._ghost(sender, jid, stanza, out)
        elif kind == 'unavailable':
            if (room := self.rooms.get(jid)) is not None:
                unavailable(room, sender, stanza, out)
        elif kind is None and '@' in jid:
            self._on()
            available(self, sender, jid, nick, stanza, now, out)

    def _iq(self, sender: str, jid: str, nick: str, stanza: Stanza, out: Outgoing) -> None:
        asks = stanza.type in ('get', 'set')
        room = self.rooms.get(jid)
        if asks:
            self._on()
        if '@' not in jid:
            if asks:
                out.append((sender, to_service(self, jid, stanza)))
        elif room is None:
            if asks:
                raise Refused('item-not-found', 'There is no such room.')
        elif nick:
            between(room, sender, nick, stanza, out)
        elif asks:
            to_room(room, sender, stanza, out)

    def _ghost(self, sender: str, jid: str, stanza: Stanza, out: Outgoing) -> None:
        """A client whose error says that it is gone leaves the room."""
        room = self.rooms.get(jid)
        if room is not None and sender in room.by_jid and conditions(stanza) & _GONE:
            leave(room, sender, out, code=333, tell=False)
