"""One node: its configuration, its store, and the supervision of its named services."""

from __future__ import annotations

from typing import Any

import redis.asyncio

from engine.contract.config import Config
from engine.contract.events import Live
from engine.metrics import Counters
from engine.services.base import Service
from engine.store.pool import Store


class Node:
    """What every service and feature reaches through ``service.node``.

    name, id    name and primary key of the row in ``node``
    config      the newest valid generation (a service reads its own ``self.config`` instead, see services/base.py)
    store       the PostgreSQL pool; redis: client of REDIS_URL, may be unreachable at any time
    counters    plain integers for the Prometheus endpoint
    """

    name: str
    id: int
    config: Config
    store: Store
    redis: redis.asyncio.Redis
    counters: Counters

    def service(self, key: str) -> Service | None:
        """The instance of a service that is Running, else None. A dictionary look-up: cheap enough for the hot path."""
        raise NotImplementedError

    async def start_service(self, key: str) -> None:
        """Start a service and, after a plain stop, its activated dependents. Raises ``Refused`` with the reason."""
        raise NotImplementedError

    async def stop_service(self, key: str) -> None:
        """Stop a service after its dependents, in reverse order of start."""
        raise NotImplementedError

    async def restart_service(self, key: str) -> None:
        """Stop, then start a service and every dependent that was active."""
        raise NotImplementedError

    async def publish(self, message: Live) -> None:
        """Tell the console's pages. Best effort: never raises, never waits long."""
        raise NotImplementedError

    async def raise_alarm(self, name: str, text: str, severity: str = 'High') -> None:
        """Open an alarm row (once while one of the same name is open) and tell the pages."""
        raise NotImplementedError

    async def clear_alarm(self, name: str) -> None:
        """Close the open alarm of this name, if any."""
        raise NotImplementedError

    def spawn(self, coroutine: Any, name: str) -> None:
        """Run a coroutine in the background; the node keeps it alive and logs its exception."""
        raise NotImplementedError
