"""Cisco DirSync, on the publisher: the console's tasks synchronize LDAP directories only while it is Running."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from engine.contract.messages import Text, message
from engine.contract.services import DIRSYNC
from engine.services.base import Service
from engine.store import status
from engine.store.pool import Unavailable

LOOK_S = 30.0


class DirSync(Service):
    """Its state is the switch of the synchronizations; its detail counts the directories."""

    key: ClassVar[str] = DIRSYNC

    async def start(self) -> None:
        """Begin to count."""
        self.spawn(self._watch(), 'dirsync')

    async def _watch(self) -> None:
        while True:
            try:
                detail = message(Text.LDAP_DIRECTORIES, count=await status.ldap_directories(self.node.store))
            except Unavailable:
                detail = message(Text.DATABASE_AWAY)
            if detail != self.detail:
                self.tell(detail)
            await asyncio.sleep(LOOK_S)
