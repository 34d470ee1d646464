"""Cisco Intercluster Sync Agent, on every node: gives the router what is known of peer clusters.

The synchronisation itself, over the peers' REST, is a task of the console that runs while this service is Running on
the publisher. Here what it wrote is read: where a bucket of users changed, that bucket. What the router has been given
stays when this service stops.
"""

from __future__ import annotations

import asyncio
from itertools import groupby
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar

from engine.cluster.peers import Home, Peers, ends_of
from engine.cluster.wire import Identity
from engine.contract.messages import Text, message
from engine.contract.services import INTERCLUSTER_SYNC_AGENT, XCP_ROUTER
from engine.services.base import Service
from engine.services.presence_engine import elsewhere
from engine.store import nodes as certificates
from engine.store import peers as store
from engine.store.pool import Unavailable

if TYPE_CHECKING:
    from engine.node import Node

LOOK_S = 2.0
LOCAL_S = 60.0
"""How often users of peers are compared with those of this cluster, when nothing is known to have changed."""
PAGE = 32
"""Buckets read at a time."""


class InterclusterSyncAgent(Service):
    """``_users``: (peer, bucket) -> digest, addresses, home nodes."""

    key: ClassVar[str] = INTERCLUSTER_SYNC_AGENT

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self._versions: dict[int, int] = {}
        self._users: dict[tuple[int, int], store.Users] = {}
        self._local: frozenset[str] = frozenset()
        self._links: dict[int, bool] = {}
        self._given: Peers | None = None
        self._compared = 0.0

    async def start(self) -> None:
        """Begin to look. Peers are told the node's certificate before the first link."""
        self._identity = Identity(self.node.var / 'tls' / self.node.name / 'node-link', self.node.name)
        self._published = False
        self.spawn(self._watch(), 'intercluster sync agent')

    async def _watch(self) -> None:
        while True:
            try:
                detail = await self._look()
            except Unavailable:
                detail = message(Text.DATABASE_AWAY)
            if detail != self.detail:
                self.tell(detail)
            await asyncio.sleep(LOOK_S)

    async def _look(self) -> str:
        router: Any = self.node.service(XCP_ROUTER)
        if not self._published:
            await certificates.publish(self.node.store, self.node.id, self._identity.pem)
            self._published = True
        versions = await store.versions(self.node.store)
        if router is None:
            return message(Text.NO_PEERS)
        peers: Peers | None = router.peers
        if versions and peers is None:
            peers = router.link_clusters()
        if peers is None:
            return message(Text.NO_PEERS)
        due = monotonic() - self._compared > LOCAL_S
        if versions != self._versions or peers is not self._given or due:
            await self._learn(peers, versions)
        await self._record(peers)
        if not versions:
            router.unlink_clusters()
            return message(Text.NO_PEERS)
        for peer in tuple(peers.strange):
            peers.strange.discard(peer)
            await store.synchronise_soon(self.node.store, peer)
        return message(Text.PEERS, count=len(versions), users=len(peers.where))

    async def _learn(self, peers: Peers, versions: dict[int, int]) -> None:
        if versions != self._versions or peers is not self._given:
            await self._read()
        local = await store.local_ones(self.node.store)
        self._compared = monotonic()
        if (local, versions) == (self._local, self._versions) and peers is self._given:
            return
        ends = ends_of(await store.nodes(self.node.store))
        changed = peers.know(ends, self._where(ends, local), await store.domains(self.node.store))
        self._local, self._versions, self._given = local, versions, peers
        engine = peers.router.presence_engine()
        if engine is not None and changed:
            await elsewhere.moved(engine, changed)

    async def _read(self) -> None:
        """Bring ``_users`` up to date."""
        now = await store.digests(self.node.store)
        for key in self._users.keys() - now.keys():
            del self._users[key]
        stale = sorted(key for key, digest in now.items() if key not in self._users or self._users[key][0] != digest)
        for peer, keys in groupby(stale, key=lambda key: key[0]):
            buckets = [bucket for _, bucket in keys]
            for at in range(0, len(buckets), PAGE):
                for bucket, users in await store.users(self.node.store, peer, buckets[at : at + PAGE]):
                    self._users[peer, bucket] = users

    def _where(self, ends: dict[int, Any], local: frozenset[str]) -> dict[str, Home]:
        """Home of every user of a peer who is not one of this cluster, too; the peer that was added first wins."""
        homes = {(end.peer, end.remote_id): Home(end.peer, other) for other, end in ends.items()}
        somewhere: dict[int, Home] = {}
        where: dict[str, Home] = {}
        for (peer, _), (_, addresses, nodes) in sorted(self._users.items(), key=lambda entry: entry[0], reverse=True):
            default = somewhere.setdefault(peer, Home(peer, 0))
            for address, node in zip(addresses, nodes, strict=True):
                where[address] = homes.get((peer, node), default)
        for address in local:
            where.pop(address, None)
        return where

    async def _record(self, peers: Peers) -> None:
        """Let the console see the links."""
        links = {end.id: peers.links[other].up for other, end in peers.ends.items()}
        if links != self._links:
            await store.record_links(self.node.store, self.node.id, links)
            self._links = links
