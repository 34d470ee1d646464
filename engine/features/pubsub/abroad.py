"""Contacts' clients elsewhere: at other servers and at other nodes of the cluster. What they announce with the presence
that reaches users here decides, as for clients here, which events they get. Bounded; the longest silent go first."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from engine.features.pubsub.place import dispatch

if TYPE_CHECKING:
    from engine.services.xcp_router.router import XcpRouter

CLIENTS: Final = 20_000
"""Clients elsewhere that are remembered."""
USERS: Final = 1000
"""Users here whom one of them is known to look at."""


class Far:
    """One client elsewhere, with what a Session has that interests.py needs. ``users`` are the bare JIDs here to whom
    it sent presence."""

    __slots__ = ('bare', 'closed', 'jid', 'notes', 'router', 'users')
    available = shown = True

    def __init__(self, router: XcpRouter, full: str) -> None:
        self.router = router
        self.jid = full
        self.bare = full.partition('/')[0]
        self.closed = False
        self.notes: dict[str, Any] | None = {}
        self.users: dict[str, None] = {}

    def send(self, raw: bytes) -> None:
        """To the client."""
        dispatch(self.router, raw, '', self.jid)


class Table:
    """Clients elsewhere by full JID and by bare JID."""

    def __init__(self) -> None:
        self.clients: OrderedDict[str, Far] = OrderedDict()
        self.by_bare: dict[str, dict[str, Far]] = {}

    def add(self, router: XcpRouter, full: str) -> Far:
        """Remember a client."""
        far = self.clients[full] = Far(router, full)
        self.by_bare.setdefault(far.bare, {})[full] = far
        if len(self.clients) > CLIENTS:
            self.remove(next(iter(self.clients)))
        return far

    def remove(self, full: str) -> Far | None:
        """Forget a client."""
        far = self.clients.pop(full, None)
        if far is not None:
            far.closed = True
            mine = self.by_bare[far.bare]
            del mine[full]
            if not mine:
                del self.by_bare[far.bare]
        return far


_TABLES: WeakKeyDictionary[XcpRouter, Table] = WeakKeyDictionary()


def table(router: XcpRouter) -> Table:
    """The clients elsewhere that a router knows of."""
    found = _TABLES.get(router)
    if found is None:
        found = _TABLES[router] = Table()
    return found
