"""Links to other processes: made, kept, repaired. Who is at the other end, and what travels, is the subclass's:
nodes.py for the nodes of this cluster, peers.py for those of other clusters.

The side with the higher id connects. A link that breaks is repaired and goes on where it stopped; when it stays broken
for ``timeout_s`` its other end counts as gone. Decision 0011.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, ClassVar

import structlog

from engine.cluster import frames
from engine.cluster.frames import LONGEST, Frame, Hello
from engine.cluster.link import Kept, Link
from engine.cluster.wire import Identity, NodeConnection
from engine.contract.messages import Text, message
from engine.delivery import NOW, Delivery, track
from engine.services.xcp_router.remote import Peer
from engine.store.pool import Unavailable
from engine.supervisor import describe

if TYPE_CHECKING:
    from engine.services.xcp_router.remote import Failed, Sender
    from engine.services.xcp_router.router import XcpRouter
    from engine.xmpp.stanza import Stanza

log = structlog.get_logger(__name__)

TURN_S = 0.5
PING_S = 2.0
REFRESH_S = 5.0
ACK_FRAMES = 64
ACK_S = 0.01


class Underway:
    """A stanza of ``session`` on its way over a link."""

    __slots__ = ('bare', 'delivery', 'links', 'number', 'passed', 'session', 'size', 'stanza')

    def __init__(self, links: Links, session: Sender, stanza: Stanza, bare: str) -> None:
        self.links = links
        self.session = session
        self.stanza = stanza
        self.bare = bare
        self.size = len(stanza.raw)
        self.number = 0
        self.passed = False
        """The other side has it."""
        self.delivery: Delivery | None = None
        if NOW.asker is not None and stanza.name == 'message':
            self.delivery = track(stanza.raw, bare)
        session.begin(self.size)

    def awaited(self, link: Link) -> int:
        """The number by which the other side is to tell that the message is decided; 0: nobody waits for it."""
        if self.delivery is not None:
            self.number = self.links.number()
            link.open[self.number] = self
        return self.number

    def taken(self) -> None:
        """The other side has dealt with it; a client there may still have to acknowledge it."""
        self.passed = True
        self.session.finish(self.size)
        if self.delivery is not None and not self.number:
            self.delivery.finish()

    def decided(self) -> None:
        """A client there has it, or the disk."""
        if self.delivery is not None:
            self.delivery.finish()

    def lost(self) -> None:
        """The other side is gone: keep a message for later, answer a request. A client there may have it already."""
        if not self.passed:
            self.session.finish(self.size)
        if self.delivery is None or not self.delivery.done:
            self.links.undeliverable(self.session, self.stanza, self.bare)
        if self.delivery is not None:
            self.delivery.finish()


class Awaited:
    """A message of another node whose sender waits until it is decided here: the Asker of its deliveries."""

    __slots__ = ('asked', 'link', 'links', 'number', 'open', 'received', 'session')

    def __init__(self, links: Links, link: Link, number: int) -> None:
        self.links, self.link, self.number, self.session = links, link, number, link.session
        self.received, self.asked = 0, True
        self.open = 1

    def wait_for(self, delivery: Delivery) -> None:
        """A client gets it."""
        self.open += 1
        self.links.asking.append(delivery)

    def settled(self) -> None:
        """One of those it waits for is decided."""
        self.open -= 1
        if not self.open and self.link.session == self.session:
            self.links.decided(self.link, self.number)


class LinkRoute:
    """Answers and errors back over a link."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def send(self, raw: bytes, sender: str, to: str, failed: Failed | None) -> None:
        """See ``remote.Route``."""
        self._link.put(frames.Raw(raw), None, len(raw))


class Links:
    """``own``: id of this end. ``links``: id of the other end -> link."""

    port: ClassVar[str]
    address: ClassVar[str]
    """Parameters of the router: where this end listens."""
    listening: ClassVar[Text]
    longest: ClassVar[int] = LONGEST
    """Bytes of an array of frames beyond which the link ends."""

    def __init__(self, router: XcpRouter) -> None:
        self.router = router
        self.node = router.node
        self.loop = asyncio.get_running_loop()
        self.identity = Identity(self.node.var / 'tls' / self.node.name / 'node-link', self.node.name)
        self.node.spawn(self.node.certificates.of_links(self.identity.path), 'certificate of the links')
        self.own = self.own_id()
        self.links: dict[int, Link] = {}
        self.connections: set[NodeConnection] = set()
        self.peers: dict[int, Peer] = {}
        self.timeout_s = 10.0
        self.high_water = 0
        self._lost_at: dict[int, float] = {}
        """Since when a link is broken; taken away when its other end counts as gone."""
        self._held: dict[int, list[Sender]] = {}
        self._dialing: set[int] = set()
        self._owed: set[Link] = set()
        """Links whose acknowledgement waits for company."""
        self.asking: list[Delivery] = []
        """Deliveries here that senders at other ends wait for and that nobody was asked about yet."""
        self._decided: dict[Link, list[int]] = {}
        self._number = 0
        self._server: asyncio.Server | None = None
        self._pinged = self._refreshed = 0.0
        self._wake = asyncio.Event()

    # ---- what differs

    def own_id(self) -> int:
        """By which the other ends know this one."""
        raise NotImplementedError

    async def learn(self) -> None:
        """Read whom to trust: ``identity.learn``. Called every few seconds."""
        raise NotImplementedError

    def place(self, other: int) -> tuple[str, int] | None:
        """Address and port of another end; None: it is not known."""
        raise NotImplementedError

    def take(self, link: Link, frame: Frame) -> None:
        """A numbered frame arrived. Never raises."""
        raise NotImplementedError

    def began(self, link: Link) -> None:
        """A session with another process begins: it knows nothing yet."""

    def forget(self, link: Link) -> None:
        """The other end is gone, or another process: what it said holds no longer."""

    def undeliverable(self, session: Sender, stanza: Stanza, bare: str) -> None:
        """The other end went away with a stanza on its way to ``bare``."""
        raise NotImplementedError

    def abandoned(self, other: int) -> bool:
        """Whether nobody needs to wait for another end that is not there."""
        return False

    def alarm(self) -> None:
        """Raise or clear the alarm about ends that are gone. Called every turn."""

    # ---- life

    def keep(self, wanted: Iterable[int], trusted: bool) -> None:
        """Have links to these ends, and to no others."""
        ids = set(wanted)
        for other in self.links.keys() - ids:
            link = self.links.pop(other)
            self.replace(link)
            self._gone(link)
            del self.peers[other]
        for other in ids - self.links.keys():
            link = self.links[other] = Link(self.own, other)
            self._lost_at[other] = monotonic()
            self.peers[other] = Peer(
                LinkRoute(link), set(), partial(self._pause, link), partial(self._resume, link), trusted=trusted
            )

    async def run(self) -> None:
        """Keep the links until cancelled."""
        try:
            while True:
                try:
                    await self._look()
                except Unavailable as error:
                    log.warning('database not reachable', error=describe(error))
                except Exception:
                    log.exception('node links')
                self._wake.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(TURN_S):
                        await self._wake.wait()
        finally:
            self.close()

    def close(self) -> None:
        """Let go of every connection. What other nodes have not acknowledged is stored or answered."""
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.end()
        for link in self.links.values():
            link.interrupted()
            link.open.clear()  # the other node lives and has them
            for kept in link.reset():
                kept.lost()

    async def _look(self) -> None:
        now = monotonic()
        down = [link for link in self.links.values() if not link.up]
        if now - self._refreshed > REFRESH_S or down:
            self._refreshed = now
            await self.learn()
        if self._server is None:
            await self._listen()
        for link in down:
            if link.other < self.own and link.other not in self._dialing:
                self._dialing.add(link.other)
                self.node.spawn(self._dial(link), 'node link')
        for connection in list(self.connections):
            if now - connection.heard > self.timeout_s and not connection.paused:
                connection.abort()
        for node_id, since in list(self._lost_at.items()):
            if now - since > self.timeout_s or self.abandoned(node_id):
                self._gone(self.links[node_id])
        if now - self._pinged > PING_S:
            self._pinged = now
            for link in self.links.values():
                link.ping()
        self.alarm()

    async def _listen(self) -> None:
        address, port = self.router.param(self.address), int(self.router.param(self.port))
        try:
            self._server = await self.loop.create_server(
                lambda: NodeConnection(self), address, port, ssl=self.identity.accepting, ssl_handshake_timeout=10
            )
        except OSError as error:
            self.router.tell(message(Text.CANNOT_LISTEN, address=address, port=port, reason=describe(error)))
        else:
            self.router.tell(message(self.listening, address=f'{address}:{port}'))

    async def _dial(self, link: Link) -> None:
        connection = NodeConnection(self, link)
        try:
            place = self.place(link.other)
            if place is None:
                return
            async with asyncio.timeout(self.timeout_s):
                await self.loop.create_connection(
                    lambda: connection, *place, ssl=self.identity.connecting, server_hostname=''
                )
                await connection.answered.wait()  # a second question would make an answer to the first one wrong
        except (OSError, TimeoutError) as error:
            log.debug('node not reached', node=link.other, error=describe(error))
            connection.abort()
        finally:
            self._dialing.discard(link.other)

    def is_gone(self, other: int) -> bool:
        """Whether another end has not been there for ``timeout_s``."""
        link = self.links.get(other)
        return link is not None and not link.up and other not in self._lost_at

    # ---- connections

    def say(self, transport: asyncio.Transport, hello: Hello) -> None:
        """A greeting, outside the numbering."""
        transport.write(frames.encode(hello))

    def replace(self, link: Link) -> None:
        """Another connection of this link is about to come: the present one is of no use."""
        if link.wire is not None:
            wire = link.wire
            link.interrupted()
            self.broken(link)
            if isinstance(wire, NodeConnection):
                wire.link = None
                wire.abort()

    def joined(self, link: Link, wire: NodeConnection, received: int, resumed: bool, lost: Iterable[Kept]) -> None:
        """Both sides agreed: frames flow."""
        log.info('node link up', node=link.other, resumed=resumed)
        if not resumed:
            self.forget(link)
        for kept in lost:
            kept.lost()
        link.begin(wire, received)
        self._lost_at.pop(link.other, None)
        if not resumed:
            self.began(link)
        self.peers[link.other].closed = False

    def broken(self, link: Link) -> None:
        """The connection of a link ended."""
        log.info('node link broken', node=link.other, kept=len(link))
        self._wake.set()  # a link that broke is repaired at once, one that cannot be made is tried again every turn
        if self.links.get(link.other) is link:
            self._lost_at.setdefault(link.other, monotonic())

    def _gone(self, link: Link) -> None:
        """The node does not come back soon: nobody waits for it any longer."""
        self._lost_at.pop(link.other, None)
        self.forget(link)
        for kept in link.reset():
            kept.lost()
        self.relieve(link)

    def _pause(self, link: Link) -> None:
        if isinstance(link.wire, NodeConnection):
            link.wire.pause()

    def _resume(self, link: Link) -> None:
        if isinstance(link.wire, NodeConnection) and link.wire.paused:
            link.wire.resume()

    # ---- in

    def settle(self, link: Link) -> None:
        """Acknowledge what came, when every message in it is delivered, stored or refused: soon, for many at once."""
        if link.received - link.reported < ACK_FRAMES:
            if link not in self._owed:
                self._owed.add(link)
                self.loop.call_later(ACK_S, self._settle, link)
            return
        self._settle(link)

    def _settle(self, link: Link) -> None:
        self._owed.discard(link)
        asking, self.asking = self.asking, []
        for delivery in asking:
            if not delivery.done and delivery.holder is not None:
                delivery.holder.request()
        received, session = link.received, link.session
        if not self.peers[link.other].unstored:
            link.acknowledge(received)
            return

        def decided() -> None:
            if link.session == session:
                link.acknowledge(received)

        self.router.writer.after(decided)

    def decided(self, link: Link, number: int) -> None:
        """Tell the other end, soon, for many at once."""
        if not self._decided:
            self.loop.call_soon(self._tell_decided)
        self._decided.setdefault(link, []).append(number)

    def _tell_decided(self) -> None:
        decided, self._decided = self._decided, {}
        for link, numbers in decided.items():
            link.put(frames.Decided(numbers), None, 8 * len(numbers))

    # ---- out

    def number(self) -> int:
        """One for a message whose sender waits."""
        self._number += 1
        return self._number

    def hold(self, link: Link, session: Sender) -> None:
        """The other node takes less than is sent to it: read no further from this sender until it does."""
        held = self._held.setdefault(link.other, [])
        if not any(other is session for other in held[-8:]):
            session.begin(self.high_water)
            held.append(session)

    def relieve(self, link: Link) -> None:
        """The other node has taken something."""
        if link.other in self._held and link.size < self.high_water // 2:
            for session in self._held.pop(link.other):
                session.finish(self.high_water)
