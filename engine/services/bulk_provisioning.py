"""Cisco Bulk Provisioning Service, on the publisher: the console's bulk worker takes jobs only while it is Running."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from engine.contract.messages import Text, message
from engine.contract.services import BULK_PROVISIONING
from engine.services.base import Service
from engine.store import status
from engine.store.pool import Unavailable

LOOK_S = 5.0


class BulkProvisioning(Service):
    """Its state is the switch of the bulk worker; its detail counts the jobs."""

    key: ClassVar[str] = BULK_PROVISIONING

    async def start(self) -> None:
        """Begin to count."""
        self.spawn(self._watch(), 'bulk provisioning')

    async def _watch(self) -> None:
        while True:
            try:
                processing, pending, held = await status.bulk_jobs(self.node.store)
                detail = message(Text.BULK_JOBS, processing=processing, pending=pending, held=held)
            except Unavailable:
                detail = message(Text.DATABASE_AWAY)
            if detail != self.detail:
                self.tell(detail)
            await asyncio.sleep(LOOK_S)
