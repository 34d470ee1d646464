"""Cisco IM and Presence Data Monitor: holds the other services back until the node's database is ready (guide 891-910).

Ready means: reachable, and every migration of this release applied. The publisher stops waiting after
``release_timeout_s``; a subscriber waits as long as it takes.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar

import structlog

from engine.contract.messages import Text, message
from engine.contract.services import DATA_MONITOR
from engine.services.base import Service
from engine.store import status
from engine.store.pool import Unavailable
from engine.supervisor import describe

log = structlog.get_logger(__name__)

ALARM = 'ReplicationSetupDelayed'
RESTORED = 'ReplicationSetupRestored'
LOOK_S = 1.0


class DataMonitor(Service):
    """Releases the services once; afterwards it keeps watching and reports the state of the database."""

    key: ClassVar[str] = DATA_MONITOR

    async def start(self) -> None:
        """Begin to watch."""
        self.detail = message(Text.DATABASE_CHECK)
        self.spawn(self._watch(), 'data monitor')

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        supervisor = self.node.supervisor
        while True:
            problem = await self._problem()
            if not problem:
                self.node.clear_alarm(ALARM, RESTORED, message(Text.DATABASE_OF_NODE_READY, node=self.node.name))
                self._tell(message(Text.DATABASE_READY))
                await supervisor.release()
                await asyncio.sleep(5 * LOOK_S)
                continue
            shown = {'node': self.node.name, 'problem': problem}
            if supervisor.released:
                self.node.raise_alarm(ALARM, message(Text.DATABASE_PROBLEM, **shown))
                self._tell(problem)
            elif self.node.publisher and loop.time() - began >= self.param('release_timeout_s'):
                log.warning('the services start although the database is not ready', problem=problem)
                self.node.raise_alarm(ALARM, message(Text.DATABASE_PROBLEM_OVER, **shown))
                await supervisor.release()
            else:
                self.node.raise_alarm(ALARM, message(Text.DATABASE_PROBLEM_HELD, **shown, services=supervisor.held()))
                self._tell(problem)
            await asyncio.sleep(LOOK_S)

    async def _problem(self) -> str:
        """What is wrong with the database, as a sentence; '' when it is ready."""
        try:
            missing = await status.missing_migrations(self.node.store)
        except Unavailable as error:
            return message(Text.DATABASE_AWAY_WHY, reason=describe(error))
        if missing:
            return message(Text.MIGRATIONS_MISSING, count=len(missing), name=missing[0])
        return ''

    def _tell(self, detail: str) -> None:
        if detail != self.detail:
            self.tell(detail)
