"""What a node writes about its load every ten seconds: gauges, and how far its counters have come since."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from engine.contract.samples import SAMPLE_S
from engine.contract.services import XCP_ROUTER
from engine.metrics import Counters, queues
from engine.store import samples
from engine.store.pool import Unavailable

if TYPE_CHECKING:
    from engine.node import Node

FIRST_S = 1.0
"""Until the first sample is stored: a node that starts shows itself soon."""
COUNTED = ('messages_in', 'logins', 'auth_failures')


async def keep(node: Node) -> None:
    """Sample for ever. While the router does not run or the database is away nothing is stored: charts show a gap."""
    loop = asyncio.get_running_loop()
    before, since = _counts(node.counters), loop.time()
    pause = FIRST_S
    while True:
        await asyncio.sleep(pause)
        now, at = _counts(node.counters), loop.time()
        grown = tuple(new - old for new, old in zip(now, before, strict=True))
        if node.service(XCP_ROUTER) is not None:
            gauges: tuple[Any, ...] = (*node.load()[:2], *queues(node), round(node.lag_ms, 2))
            with suppress(*Unavailable):  # what was counted meanwhile belongs to the gap
                await samples.add(node.store, node.id, at - since, gauges, grown)
                pause = SAMPLE_S
        before, since = now, at


def _counts(counters: Counters) -> tuple[int, ...]:
    return tuple(getattr(counters, name) for name in COUNTED)
