"""Cisco IM and Presence Data Monitor: holds the other services back until the node's database is ready (guide 891-910).

Ready means: reachable, and every migration of this release applied. The publisher stops waiting after
``release_timeout_s``; a subscriber waits as long as it takes.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar

import structlog

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
        self.detail = 'checking the database'
        self.spawn(self._watch(), 'data monitor')

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        supervisor = self.node.supervisor
        while True:
            problem = await self._problem()
            if not problem:
                self.node.clear_alarm(ALARM, RESTORED, f'The database of {self.node.name} is ready.')
                self._tell('The database is ready.')
                await supervisor.release()
                await asyncio.sleep(5 * LOOK_S)
                continue
            if supervisor.released:
                self.node.raise_alarm(ALARM, f'{self.node.name}: {problem}')
                self._tell(problem)
            elif self.node.publisher and loop.time() - began >= self.param('release_timeout_s'):
                log.warning('the services start although the database is not ready', problem=problem)
                self.node.raise_alarm(
                    ALARM, f'{self.node.name}: {problem} The time-out is over, the services start all the same.'
                )
                await supervisor.release()
            else:
                held = ', '.join(supervisor.held())
                self.node.raise_alarm(ALARM, f'{self.node.name}: {problem} Held back: {held}.')
                self._tell(problem)
            await asyncio.sleep(LOOK_S)

    async def _problem(self) -> str:
        """What is wrong with the database, as a sentence; '' when it is ready."""
        try:
            missing = await status.missing_migrations(self.node.store)
        except Unavailable as error:
            return f'The database cannot be reached ({describe(error)}).'
        if missing:
            return f'The database lacks {len(missing)} migrations of this release, first {missing[0]}.'
        return ''

    def _tell(self, detail: str) -> None:
        if detail != self.detail:
            self.tell(detail)
