"""The steps of a transition: stop and start critical services, let go of sets of users, take them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from engine.cluster.ownership import NotOwner
from engine.contract.messages import message
from engine.contract.recovery import DATABASE, Text
from engine.recovery.records import Outcome, Step, Work
from engine.store import recovery as store
from engine.store.pool import Unavailable
from engine.supervisor import describe

if TYPE_CHECKING:
    from engine.services.server_recovery_manager.pair import Pair

log = structlog.get_logger(__name__)

WITHOUT_DATABASE_S = 5.0
"""So long a node that has lost its database waits for what cannot be written now."""
AGAIN_S = 1.0
SHOWN_S = 1.0


class Steps:
    """What ``Machine.work`` asks for."""

    def __init__(self, pair: Pair) -> None:
        self.pair, self.node = pair, pair.node
        self._shown_at = 0.0
        self._moving = asyncio.Lock()

    async def carry_out(self, work: Work) -> Outcome:
        """One step. Everything here may be done again after a crash."""
        supervisor, services = self.node.supervisor, self.pair.services
        match work.step:
            case Step.STOP:
                await supervisor.hold(services, message(Text.KEPT_STOPPED, node=self.node.name))
            case Step.START:
                await supervisor.let_start(services)
                return Outcome.DONE if all(key in self.node.running for key in services) else Outcome.FAILED
            case Step.GIVE:
                async with self._moving:
                    await self._give(work)
            case _:
                async with self._moving:
                    return await self._take(work)
        return Outcome.DONE

    async def _give(self, work: Work) -> None:
        """Disconnect the users of these sets. What they were sent is on disk then, if there is a database."""
        ownership = self.node.ownership
        waiting = [asyncio.ensure_future(ownership.release(home)) for home in work.homes]
        lost = DATABASE in self.pair.machine.down
        try:
            async with asyncio.timeout(WITHOUT_DATABASE_S if lost else None):
                await asyncio.gather(*waiting)
        except TimeoutError:
            log.warning('users are given away although not everything is written', sets=work.homes)

    async def _take(self, work: Work) -> Outcome:
        """Become the owner of these sets in the database, wait for the former owner's lease, serve them."""
        while work.homes:
            try:
                await self.pair.write()  # before anything that a crash could leave half done
                taken = await store.take(self.node.store, self.pair.me, work.homes, work.owners, work.forced)
                await self.pair.read()
                if taken is None:
                    return Outcome.LOST
                await asyncio.sleep(max((one.wait_s for one in taken.values()), default=0.0))
                await self._serve({home: one.epoch for home, one in taken.items()})
                return Outcome.DONE
            except NotOwner:
                await self.pair.read()
                return Outcome.LOST
            except Unavailable as error:
                log.warning('users cannot be taken yet', error=describe(error))
                await asyncio.sleep(AGAIN_S)
        return Outcome.DONE

    async def serve_again(self, home: int) -> None:
        """Serve a set that is this node's in the database but was not served: after a start, after a lease that ended.
        Under a new epoch, so nobody acts on what was said under the old one. Raises what the store raises."""
        if self._moving.locked():
            return  # a step moves users: the next round sees what became of it
        async with self._moving:
            await self._serve_again(home)

    async def _serve_again(self, home: int) -> None:
        machine = self.pair.machine
        free = machine.adopts().get(home)
        if free is None or not (free or home in machine.lapsed):
            return
        expected = {home: machine.owners[home]}
        taken = await store.take(self.node.store, self.pair.me, (home,), expected, forced=False)
        await self.pair.read()
        if taken is None:
            return
        try:
            await self._serve({home: taken[home].epoch})
        except NotOwner:
            return
        machine.served(home)

    async def _serve(self, epochs: dict[int, int]) -> None:
        ownership = self.node.ownership
        await ownership.refresh()
        await self.pair.renew(set(epochs) | (self.pair.machine.serves() & ownership.served))
        for home, epoch in epochs.items():
            await ownership.adopt(home, epoch, self._progress)

    def _progress(self, done: int, total: int) -> None:
        """Show how many users have been moved, not more than once a second."""
        now = asyncio.get_running_loop().time()
        if now - self._shown_at >= SHOWN_S or done == total:
            self._shown_at = now
            self.node.spawn(self._show(done, total), 'recovery progress')

    async def _show(self, done: int, total: int) -> None:
        try:
            await store.progress(self.node.store, self.pair.me, done, total)
        except Unavailable as error:
            log.debug('progress is not shown', error=describe(error))
