"""Cisco Sync Agent, on the publisher.

The work itself (assigning users to nodes, the nightly domain audit) is done by the console's tasks, which own those
rules; they run only while this service is Running. The service looks once a minute at what waits for them and shows it.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar

from engine.contract.config import value_at
from engine.contract.messages import Text, message
from engine.contract.services import SYNC_AGENT
from engine.services.base import Service
from engine.store import status
from engine.store.pool import Unavailable

LOOK_S = 60.0


class SyncAgent(Service):
    """Its state is the switch of the assignment and audit tasks; its detail says how many users wait for a node."""

    key: ClassVar[str] = SYNC_AGENT

    async def start(self) -> None:
        """Begin to look."""
        self.spawn(self._watch(), 'sync agent')

    async def _watch(self) -> None:
        while True:
            try:
                waiting = await status.unassigned_users(self.node.store)
            except Unavailable:
                detail: str = message(Text.DATABASE_AWAY)
            else:
                detail = self._describe(waiting)
            if detail != self.detail:
                self.tell(detail)
            await asyncio.sleep(LOOK_S)

    def _describe(self, waiting: int) -> str:
        if not waiting:
            return message(Text.ALL_ASSIGNED)
        if value_at(self.config, 'enterprise.user_assignment_mode', self.node.name) == 'none':
            return message(Text.UNASSIGNED, count=waiting)
        return message(Text.TO_ASSIGN, count=waiting)
