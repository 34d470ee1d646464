"""Which node serves which users now.

H(n) is the set of users whose home node is n. One node at a time owns a set: its home node, or the other node of the
redundancy group after a failover. The truth is the table ``node_recovery``: owner, and an epoch that grows with every
change. A set is *served* while this node owns it, it is not frozen, and the lease holds.

With High Availability off a set is served as soon as this node owns it. While it is on, whatever a node owns when it
starts, or comes to own, is frozen until the recovery manager says ``adopt``; ``release`` ends that. The lease is the
recovery manager's, too (``renewed``): a node that cannot renew it serves nobody, so two never serve the same user.

Cost: nothing for a stanza; a look at two dictionaries for each sign-in; one statement every two seconds, none while the
cluster has one node.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import structlog

from engine.cluster import frames
from engine.contract.restarts import parameter_value
from engine.contract.services import CONNECTION_MANAGER, XCP_ROUTER
from engine.store import nodes as store
from engine.store import status
from engine.store.pool import Unavailable
from engine.supervisor import describe

if TYPE_CHECKING:
    from engine.node import Node
    from engine.services.xcp_router import XcpRouter
    from engine.session import Session

log = structlog.get_logger(__name__)

POLL_S = 2.0
CLOSE_S = 3.0
"""How long the clients of a set that is given up get to take what is on its way to them."""
XMPP_PORT = 5222
Progress = Callable[[int, int], None]
"""Users done, of how many."""


class NotOwner(Exception):
    """The set belongs to another node, or to this one under another epoch."""


class Ownership:
    """``owners`` and ``epochs`` by home node; a node that is in neither owns itself at epoch 1. ``frozen``: sets this
    node owns and may not serve. ``on_change(gained, lost)`` is called with the home nodes whose sets this node serves
    from now on, or no longer."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.owners: dict[int, int] = {}
        self.epochs: dict[int, int] = {}
        self.frozen: set[int] = set()
        self._protected = False
        self._watchers: list[Callable[[set[int], set[int]], None]] = []
        self._lease: asyncio.TimerHandle | None = None
        self._until = 0.0
        """When the lease ends."""
        self._reading = asyncio.Lock()

    # ---- what everybody asks

    def owner(self, home: int | None) -> int | None:
        """The node that owns H(home)."""
        return home if home is None else self.owners.get(home, home)

    def epoch(self, home: int) -> int:
        """How often the owner of H(home) has changed."""
        return self.epochs.get(home, 1)

    def owns(self, home: int | None) -> bool:
        """Whether this node serves H(home)."""
        return self.owner(home) == self.node.id and home not in self.frozen

    def somebody_serves(self, home: int | None) -> bool:
        """Whether the users of H(home) can be reached at any node, as far as this one knows. Always while their group
        has no high availability: then they wait for their node."""
        if home is None or self.node.config.peer_of(home) is None:
            return True
        router = self._router()
        elsewhere = router.nodes.serving.items() if router is not None and router.nodes is not None else ()
        return self.owns(home) or any(link.up and home in served for link, served in elsewhere)

    @property
    def owned(self) -> set[int]:
        """Home nodes whose sets this node owns, frozen or not."""
        mine = {home for home, owner in self.owners.items() if owner == self.node.id}
        return mine | {self.node.id} if self.owner(self.node.id) == self.node.id else mine

    @property
    def served(self) -> set[int]:
        """Home nodes whose sets this node serves."""
        return self.owned - self.frozen

    def client_address(self, home: int | None) -> str:
        """Where the clients of H(home) are served: the address of the owner, with its port when that is not the usual
        one (RFC 6120 4.9.3.19). '' while it is this node, or nobody that is known."""
        owner = self.owner(home)
        return '' if owner is None or owner == self.node.id else self.address_of(owner)

    def address_of(self, node_id: int) -> str:
        """Where clients reach a node; '' when it is not known."""
        found = next((node for node in self.node.config.nodes if node.id == node_id), None)
        if found is None:
            return ''
        port = int(parameter_value(self.node.config, found.name, CONNECTION_MANAGER, 'client_port'))
        if port == XMPP_PORT:
            return found.address
        return f'[{found.address}]:{port}' if ':' in found.address else f'{found.address}:{port}'

    def on_change(self, watcher: Callable[[set[int], set[int]], None]) -> Callable[[], None]:
        """Call ``watcher(gained, lost)`` after every change; what is returned ends that."""
        self._watchers.append(watcher)
        return lambda: self._watchers.remove(watcher)

    # ---- life

    async def begin(self) -> None:
        """Before any service starts: what the table says. Then it is looked at for ever."""
        self._protected = self.node.config.peer_of(self.node.id) is not None
        await self.refresh()
        if self._protected:
            self.frozen = self.owned
        self.node.spawn(self._poll(), 'ownership')

    def configure(self) -> None:
        """A new generation. High Availability switched on disconnects nobody; switched off, what a node owns it serves
        without a lease."""
        protected = self.node.config.peer_of(self.node.id) is not None
        if self._protected and not protected:
            self.renewed(None)
            self._thaw(set(self.frozen))
            if (router := self._router()) is not None:
                router.dual.close('policy-violation', 'Dual connections are not offered any more.')
        self._protected = protected

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            try:
                await self.refresh()
            except Unavailable as error:
                log.debug('owners not read: database not reachable', error=describe(error))
            except Exception:
                log.exception('ownership')

    async def refresh(self) -> None:
        """Read the table. Sets that were lost are dropped at once; their clients are told where they are served now."""
        if len(self.node.config.nodes) < 2 and not self.owners:
            return
        async with self._reading:  # what was read first is in force first
            self._take(await store.owners(self.node.store))

    def _take(self, rows: list[tuple[int, int, int]]) -> None:
        before = self.owned
        self.owners = {home: owner for home, owner, _ in rows}
        self.epochs = {home: epoch for home, _, epoch in rows}
        after = self.owned
        lost, gained = before - after, after - before
        dropped = lost - self.frozen
        self.frozen -= lost
        for home in lost:
            self._close(home, 'see-other-host', self.client_address(home))
        if self._protected:
            self.frozen |= gained
            gained = set()
        if lost or gained:
            log.info('sets of users', gained=sorted(gained), lost=sorted(lost))
            self._tell(gained, dropped)

    def renewed(self, until: float | None) -> None:
        """The lease on everything this node serves ends at this time of the event loop; None: there is none."""
        if self._lease is not None:
            self._lease.cancel()
        loop = asyncio.get_running_loop()
        self._lease, self._until = (None, 0.0) if until is None else (loop.call_at(until, self.fence), until)

    def fence(self) -> None:
        """The lease has ended: another node may serve these users in this moment. Nothing is served before it is
        adopted again."""
        lost = self.served
        if not lost:
            return
        log.error('the lease has ended: the users of this node are disconnected', sets=sorted(lost))
        self.frozen |= lost
        for home in lost:
            self._close(home, 'system-shutdown', 'This node may not serve you at the moment.')
        self._tell(set(), lost)

    # ---- moving users

    async def release(self, home: int) -> None:
        """Stop serving H(home): refuse sign-ins, end the sessions of exactly these users, and return when their
        connections are gone and everything they were sent or have sent is delivered or on disk."""
        served = self.owns(home)
        self.frozen.add(home)
        closed = self._close(home, 'system-shutdown', 'You are served by another node soon. Sign in again.')
        if served:
            self._tell(set(), {home})
        router = self._router()
        if router is None:
            return
        await _gone(closed)
        router.sign_ins.flush()
        written = asyncio.Event()
        router.writer.after(written.set)
        await written.wait()

    async def adopt(self, home: int, epoch: int, progress: Progress) -> None:
        """Serve H(home), which the table must say is this node's under ``epoch``. Raises NotOwner, also when the lease
        has ended while the database was asked: another node may have taken the set since."""
        total = (await status.assigned_users(self.node.store, (home,)))[home]
        progress(0, total)
        await self.refresh()
        if self.owner(home) != self.node.id or self.epoch(home) != epoch:
            raise NotOwner(f'H({home}) belongs to {self.owner(home)} under epoch {self.epoch(home)}')
        if self._protected and asyncio.get_running_loop().time() >= self._until:
            raise NotOwner(f'the lease on H({home}) has ended')
        # A user without a client needs nothing here but to be counted: whatever lasts is in the database.
        self._thaw({home})
        progress(total, total)

    # ---- the parts

    def _router(self) -> XcpRouter | None:
        return cast('XcpRouter | None', self.node.service(XCP_ROUTER))

    def _thaw(self, homes: set[int]) -> None:
        opened = (homes & self.owned) - self.served
        self.frozen -= homes
        if opened:
            self._tell(opened, set())

    def _tell(self, gained: set[int], lost: set[int]) -> None:
        if (router := self._router()) is not None:
            router.dual.taken_over(gained)
            if router.nodes is not None:
                router.nodes.tell(frames.Serving(sorted(self.served)))
        for watcher in tuple(self._watchers):
            try:
                watcher(gained, lost)
            except Exception:
                log.exception('owner change', gained=sorted(gained), lost=sorted(lost))

    def _close(self, home: int, condition: str, text: str) -> list[Session]:
        """End the sessions of one set; which they were."""
        router = self._router()
        if router is None:
            return []
        found = [
            session
            for account in list(router.accounts.values())
            if account.user.node_id == home
            for session in list(account.sessions.values())
        ]
        for session in found:
            router.dual.leaves(session)
            session.close(condition, text)
            router.unbind(session)
        if (engine := router.presence_engine()) is not None:
            for bare in {session.bare for session in found}:
                engine.adhoc.left(bare)
        if found:
            log.info('sessions closed', home=home, condition=condition, count=len(found))
        return found


async def _gone(sessions: list[Session]) -> None:
    """Wait until the connections of these closed sessions have ended; what a client does not take is stored then."""
    loop = asyncio.get_running_loop()
    end = loop.time() + CLOSE_S
    while waiting := [session.connection for session in sessions if not session.connection.gone]:
        if loop.time() >= end:
            for connection in waiting:
                connection.abort()
            end = loop.time() + CLOSE_S
        await asyncio.sleep(0.02)
