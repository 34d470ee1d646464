"""Host names of client addresses (DNS PTR), for the log. The product asks for them during the TLS handshake, which then
times out at clients behind a VPN whose addresses are not in DNS (guide 2430). Here nothing waits for the answer."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

import structlog

from engine.recent import remember
from engine.services.federation_manager.resolver import NotFound, Resolver, Unreachable

if TYPE_CHECKING:
    from engine.services.connection_manager.manager import ConnectionManager

log = structlog.get_logger(__name__)

LIFETIME_S: Final = 1.0
"""How long an answer may take."""
AGAIN_S: Final = 600.0
"""An address is asked for once in this time."""
KNOWN: Final = 10_000
TOGETHER: Final = 100
"""Questions that may be open; addresses of further clients are asked for when they come again."""


class ClientNames:
    """Asks for the names of clients and logs them. Raises ValueError naming a wrong name server."""

    def __init__(self, manager: ConnectionManager, servers: list[str]) -> None:
        self._manager = manager
        self._resolver = Resolver(servers, LIFETIME_S)
        self._asked: OrderedDict[str, float] = OrderedDict()
        self._open = 0

    def note(self, address: str) -> None:
        """A client of this address has connected."""
        now = self._manager.loop.time()
        if self._open < TOGETHER and self._asked.get(address, now - AGAIN_S) <= now - AGAIN_S:
            remember(self._asked, address, now, KNOWN)
            self._open += 1
            self._manager.task(self._ask(address))

    async def _ask(self, address: str) -> None:
        try:
            log.info('client address', address=address, name=await self._resolver.name_of(address))
        except (NotFound, Unreachable) as problem:
            self._manager.counters.reverse_lookups_failed += 1
            log.info('reverse lookup failed', address=address, reason=str(problem.args[0]))
        finally:
            self._open -= 1
