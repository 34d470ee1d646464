"""All rooms of one chat node."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from engine.contract.chat import RoomSettings
from engine.muc.room import Outgoing, Room
from engine.xmpp.stanza import Stanza


class Rooms:
    """The rooms of every alias of a node: they share one limit (guide 7761).

    ``rooms`` by bare JID; ``where``: full JID of an occupant to the rooms it is in. The owner of this object may set
    ``im_enabled`` and ``sharing`` (whether a user's availability may be shown in rooms, by bare JID; guide 5541) at any
    time.
    """

    def __init__(self, settings: RoomSettings, token: Callable[[], str] = lambda: secrets.token_hex(8)) -> None:
        """``token``: unguessable text, new at each call."""
        self.settings = settings
        self.token = token
        self.rooms: dict[str, Room] = {}
        self.where: dict[str, set[str]] = {}
        self.administrators: frozenset[str] = frozenset()
        self.sharing: Callable[[str], bool] = lambda _bare: True
        self.im_enabled = True

    def receive(self, sender: str, to: str, stanza: Stanza, now: float) -> Outgoing:
        """What is to be sent because ``sender`` (prepared full JID) sent this stanza to ``to`` (prepared: an alias, a
        room or an occupant). ``now``: seconds since the epoch."""
        return []

    def gone(self, sender: str, now: float) -> Outgoing:
        """Stanzas do not reach this full JID any more: it leaves all its rooms (status 333)."""
        return []

    def administer(self, administrators: frozenset[str], now: float) -> Outgoing:
        """The group chat system administrators (bare JIDs) are now these; occupants are told of changed roles."""
        return []

    def close(self, domain: str | None = None) -> Outgoing:
        """The service stops (status 332): every room of this alias, of all aliases with None, ends."""
        return []
