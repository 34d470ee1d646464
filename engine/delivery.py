"""What became of a message on its way to the clients of one user.

A message that waits in memory for clients (queued under XEP-0198, held by quiet mode, not taken by a socket) has a
``Delivery`` all its holders share: one client has it, then nobody stores or returns it; nobody has it, then the last
holder does. The acknowledgement of the sender (XEP-0198 ``<a/>``) waits for it too. The reasons are in
docs/decisions/0009-stream-management.md.

Cost: two attribute stores a stanza (``NOW.stanza``, 0.03 microseconds); the rest only where somebody uses XEP-0198.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

from engine.xmpp.forwarding import is_copy

if TYPE_CHECKING:
    from engine.xmpp.stanza import Stanza

CARBONS = b'urn:xmpp:carbons:2'
_ERROR = b"<message type='error'"


class Kept(bytes):
    """A stanza that is safe elsewhere (on disk) while a client gets it: losing this copy loses nothing."""

    __slots__ = ()


class Asker(Protocol):
    """Who wants to know when a delivery is decided: the inbound half of a sender's managed stream."""

    received: int
    asked: bool

    def settled(self) -> None:
        """A delivery it waits for was decided."""

    def wait_for(self, delivery: Delivery) -> None:
        """Do not acknowledge the stanza being handled before this is decided."""


class Holder(Protocol):
    """Who waits for a client's acknowledgement: the outbound half of a receiver's managed stream."""

    def request(self) -> None:
        """Ask the client now."""


class Link(Protocol):
    """The connection of a client, as far as it is of interest here."""

    blocked: bool


class Client(Protocol):
    """A session, as far as it is of interest here."""

    @property
    def managed(self) -> object | None:
        """Its stream management."""

    @property
    def connection(self) -> Link:
        """Its connection."""


class Delivery:
    """One message to one user. ``done``: decided, a client has it or it is stored or returned. ``holders``: copies
    that wait in memory."""

    __slots__ = ('asker', 'bare', 'done', 'holder', 'holders', 'seq', 'stanza')

    def __init__(self, bare: str, stanza: Stanza | None = None) -> None:
        self.bare = bare
        self.stanza = stanza
        self.done = False
        self.holders = 1
        self.holder: Holder | None = None
        self.asker: Asker | None = None
        self.seq = 0

    def finish(self) -> None:
        """A client has it, or it is stored or returned: nobody else needs to care."""
        if not self.done:
            self.done = True
            self.holder = self.stanza = None
            if self.asker is not None and self.asker.asked:
                self.asker.settled()


class Now:
    """The stanza that is being routed, and who sent it under XEP-0198."""

    __slots__ = ('asker', 'delivery', 'stanza')

    def __init__(self) -> None:
        self.stanza: Stanza | None = None
        self.asker: Asker | None = None
        self.delivery: Delivery | None = None


NOW = Now()


def also_given_to(bare: str, clients: Iterable[Client]) -> None:
    """The message being routed to the user ``bare`` went to all of these: to have it in the hands of one without stream
    management is enough. (If its socket does not take it, its connection sees to that; if the sender waits for an
    acknowledgement, that connection knows.)"""
    delivery = NOW.delivery
    if delivery is None or delivery.stanza is None or delivery.stanza is not NOW.stanza or delivery.bare != bare:
        return
    if NOW.asker is None and any(client.managed is None and not client.connection.blocked for client in clients):
        delivery.finish()


def track(data: bytes, bare: str) -> Delivery | None:
    """The delivery that a message about to wait for a client of ``bare`` belongs to. None: this copy may be lost, it is
    an error, a copy of what somebody else has (XEP-0280), or safe elsewhere."""
    if data.startswith(_ERROR) or type(data) is Kept:
        return None
    now = NOW
    stanza, last = now.stanza, now.delivery
    if stanza is not None and last is not None and last.stanza is stanza and last.bare == bare:
        last.holders += 1
        return last
    if CARBONS in data and is_copy(data, bare):
        return None
    delivery = Delivery(bare, stanza)
    if stanza is not None:
        now.delivery = delivery
        if now.asker is not None:
            delivery.asker = now.asker
            delivery.seq = now.asker.received
            now.asker.wait_for(delivery)
    return delivery
