"""The other nodes of the cluster as the router sees them: who is signed in where, and the links there.

Each node tells the others who signs in and out, so routing to them is one dictionary, ``where``; nobody asks the
database. The node with the higher id connects. A link that breaks is repaired and goes on where it stopped; after
``node_link_timeout_s`` the node counts as gone: messages on their way to it are stored, requests are answered with an
error, its users are seen as gone, and an alarm stands until it is back. Decision 0011.

Cost of a message to a user of another node beyond the usual: see docs/performance.md. Cost for everybody else: one
attribute test where the router knows no such user.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import OrderedDict
from collections.abc import Iterable
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

import structlog

from engine.cluster import frames, receiving
from engine.cluster.frames import Hello
from engine.cluster.link import Kept, Link
from engine.cluster.wire import Identity, NodeConnection
from engine.contract.messages import Text, message
from engine.contract.restarts import parameter_value
from engine.contract.services import XCP_ROUTER
from engine.delivery import NOW, Delivery, track
from engine.services.xcp_router.messages import has_content
from engine.services.xcp_router.remote import Peer, RemoteSender
from engine.store import nodes as certificates
from engine.store.pool import Unavailable
from engine.supervisor import describe
from engine.xmpp.stanza import TAG

if TYPE_CHECKING:
    from engine.services.presence_engine.visibility import Presence
    from engine.services.xcp_router.remote import Failed, Sender
    from engine.services.xcp_router.router import XcpRouter
    from engine.store.rosters import Item
    from engine.xmpp.stanza import Stanza

log = structlog.get_logger(__name__)

TURN_S = 0.5
PING_S = 2.0
REFRESH_S = 5.0
ACK_FRAMES = 64
ACK_S = 0.01
REMEMBERED = 10_000
"""Users whose stored messages are remembered, to tell the node at which they sign in."""
ALARM = 'NodeLinkDown'
UNAVAILABLE = re.compile(rb"""\stype\s*=\s*['"]unavailable""")


class Underway:
    """A stanza of ``session`` on its way to another node."""

    __slots__ = ('bare', 'delivery', 'nodes', 'session', 'size', 'stanza')

    def __init__(self, nodes: Nodes, session: Sender, stanza: Stanza, bare: str) -> None:
        self.nodes = nodes
        self.session = session
        self.stanza = stanza
        self.bare = bare
        self.size = len(stanza.raw)
        self.delivery: Delivery | None = None
        if NOW.asker is not None and stanza.name == 'message':
            self.delivery = track(stanza.raw, bare)
        session.begin(self.size)

    def taken(self) -> None:
        """The other node has dealt with it."""
        self.session.finish(self.size)
        if self.delivery is not None:
            self.delivery.finish()

    def lost(self) -> None:
        """The node is gone: keep a message for later, answer a request."""
        self.session.finish(self.size)
        self.nodes.undeliverable(self.session, self.stanza, self.bare)
        if self.delivery is not None:
            self.delivery.finish()


class NodeRoute:
    """Answers and errors back to users of another node."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def send(self, raw: bytes, sender: str, to: str, failed: Failed | None) -> None:
        """See ``remote.Route``."""
        self._link.put(frames.Raw(raw), None, len(raw))


class Nodes:
    """``links``: node id -> link. ``where``: bare JID -> link to the node at which the user is signed in."""

    def __init__(self, router: XcpRouter) -> None:
        self.router = router
        self.node = router.node
        self.loop = asyncio.get_running_loop()
        self.identity = Identity(self.node.var / 'tls' / self.node.name / 'node-link', self.node.name)
        self.node.shows_certificate('node-link', self.identity.path)
        self.links: dict[int, Link] = {}
        self.where: dict[str, Link] = {}
        self.connections: set[NodeConnection] = set()
        self.peers: dict[int, Peer] = {}
        self._lost_at: dict[int, float] = {}
        """Since when a link is broken; taken away when its node counts as gone."""
        self._held: dict[int, list[Sender]] = {}
        self._dialing: set[int] = set()
        self._owed: set[Link] = set()
        """Links whose acknowledgement waits for company."""
        self._recent: OrderedDict[str, None] = OrderedDict()
        self._forgot = False
        self._server: asyncio.Server | None = None
        self._pinged = self._refreshed = 0.0
        self._published = False
        self._wake = asyncio.Event()
        self.configure()

    # ---- life

    def configure(self) -> None:
        """Take the nodes and parameters of the newest configuration."""
        self.timeout_s = float(self.router.param('node_link_timeout_s'))
        self.high_water = int(self.router.param('node_link_queue_kb')) * 1024
        wanted = {node.id: node for node in self.node.config.nodes if node.id != self.node.id}
        for node_id in self.links.keys() - wanted.keys():
            link = self.links.pop(node_id)
            self.replace(link)
            self._gone(link)
            del self.peers[node_id]
        for node_id in wanted.keys() - self.links.keys():
            link = self.links[node_id] = Link(self.node.id, node_id)
            self._lost_at[node_id] = monotonic()
            self.peers[node_id] = Peer(
                NodeRoute(link), set(), partial(self._pause, link), partial(self._resume, link), trusted=True
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
            for kept in link.reset():
                kept.lost()
        self.where.clear()

    async def _look(self) -> None:
        now = monotonic()
        down = [link for link in self.links.values() if not link.up]
        if now - self._refreshed > REFRESH_S or down:
            self._refreshed = now
            if not self._published:
                await certificates.publish(self.node.store, self.node.id, self.identity.pem)
                self._published = True
            self.identity.learn(await certificates.certificates(self.node.store))
        if self._server is None:
            await self._listen()
        for link in down:
            if link.other < self.node.id and link.other not in self._dialing:
                self._dialing.add(link.other)
                self.node.spawn(self._dial(link), 'node link')
        for connection in list(self.connections):
            if now - connection.heard > self.timeout_s and not connection.paused:
                connection.abort()
        for node_id, since in list(self._lost_at.items()):
            if now - since > self.timeout_s:
                self._gone(self.links[node_id])
        if now - self._pinged > PING_S:
            self._pinged = now
            for link in self.links.values():
                link.ping()
        self._alarm()

    async def _listen(self) -> None:
        address, port = self.router.param('node_link_address'), int(self.router.param('node_link_port'))
        try:
            self._server = await self.loop.create_server(
                lambda: NodeConnection(self), address, port, ssl=self.identity.accepting, ssl_handshake_timeout=10
            )
        except OSError as error:
            self.router.tell(message(Text.CANNOT_LISTEN, address=address, port=port, reason=describe(error)))
        else:
            self.router.tell(message(Text.LISTENING_NODES, address=f'{address}:{port}'))

    async def _dial(self, link: Link) -> None:
        try:
            peer = next((node for node in self.node.config.nodes if node.id == link.other), None)
            if peer is None:
                return
            port = int(parameter_value(self.node.config, peer.name, XCP_ROUTER, 'node_link_port'))
            async with asyncio.timeout(self.timeout_s):
                await self.loop.create_connection(
                    lambda: NodeConnection(self, link), peer.address, port, ssl=self.identity.connecting,
                    server_hostname='',
                )  # fmt: skip
            await asyncio.sleep(TURN_S)  # for the answer
        except (OSError, TimeoutError) as error:
            log.debug('node not reached', node=link.other, error=describe(error))
        finally:
            self._dialing.discard(link.other)

    def _alarm(self) -> None:
        names = [node.name for node in self.node.config.nodes if self._is_gone(node.id)]
        if names:
            self.node.raise_alarm(ALARM, message(Text.NODE_LINK_DOWN, node=self.node.name, others=', '.join(names)))
        else:
            self.node.clear_alarm(ALARM)

    def _is_gone(self, node_id: int) -> bool:
        link = self.links.get(node_id)
        return link is not None and not link.up and node_id not in self._lost_at

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
        self._lost_at.pop(link.other, None)
        if not resumed:
            self._forget_users(link)
        for kept in lost:
            kept.lost()
        link.begin(wire, received)
        if not resumed:
            link.put(frames.Online(list(self.router.accounts), all=True), None, 32 * len(self.router.accounts))
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
        self._forget_users(link)
        for kept in link.reset():
            kept.lost()
        self.relieve(link)

    def _forget_users(self, link: Link) -> None:
        lost = {bare for bare, where in self.where.items() if where is link}
        for bare in lost:
            del self.where[bare]
        engine = self.router.presence_engine()
        if engine is not None and lost:
            receiving.vanished(engine, lost)

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
        received, session = link.received, link.session
        if not self.peers[link.other].unstored:
            link.acknowledge(received)
            return

        def decided() -> None:
            if link.session == session:
                link.acknowledge(received)

        self.router.writer.after(decided)

    # ---- out

    def forward(self, session: Sender, stanza: Stanza, bare: str) -> bool:
        """A stanza to a user who may be signed in at another node. False: the user is not."""
        link = self.where.get(bare)
        # What another node sent here does not travel on: its view of the cluster was another one for a moment.
        if link is None or (session.account is None and isinstance(session, RemoteSender) and session.peer.trusted):
            return False
        raw = stanza.raw
        link.put(frames.Routed(stanza.name, stanza.attrs, raw), Underway(self, session, stanza, bare), len(raw))
        self.node.counters.nodes_out += 1
        if link.size > self.high_water:
            self._hold(link, session)
        return True

    def _hold(self, link: Link, session: Sender) -> None:
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

    def send(self, bare: str, data: bytes) -> None:
        """A stanza this node made for a user, or a client of his, at another node."""
        link = self.where.get(bare)
        if link is not None:
            link.put(frames.Raw(data), None, len(data))

    def presence(self, sender: str, presence: Presence, watchers: Iterable[str]) -> None:
        """Presence of a client here to those of these watchers who are signed in at other nodes."""
        where = self.where
        groups: dict[Link, list[str]] = {}
        for bare in watchers:
            if (link := where.get(bare)) is not None:
                groups.setdefault(link, []).append(bare)
        for link, users in groups.items():
            self.show(link, sender, presence, users)

    def show(self, link: Link, sender: str, presence: Presence, users: list[str]) -> None:
        """Presence of a client here to users of one node."""
        tag = TAG.match(presence[0] + presence[1])
        available = tag is None or UNAVAILABLE.search(tag.group()) is None
        link.put(
            frames.Presence(sender, available, *presence, users),
            None,
            len(tag.string if tag else b'') + 32 * len(users),
        )

    def probe(self, watcher: str, contacts: Iterable[str]) -> None:
        """Ask for the presence of these contacts, as far as they are signed in at other nodes."""
        groups: dict[Link, list[str]] = {}
        for bare in contacts:
            if (link := self.where.get(bare)) is not None:
                groups.setdefault(link, []).append(bare)
        for link, users in groups.items():
            link.put(frames.Probe(watcher, users), None, 32 * len(users))

    def deliver(self, sender: str, bare: str, raw: bytes, interested: bool) -> None:
        """A subscription stanza to the clients of a user at another node."""
        link = self.where.get(bare)
        if link is not None:
            link.put(frames.Deliver(sender, bare, raw, interested), None, len(raw))

    def roster(self, bare: str, user_id: int, version: int, jid: str, item: Item | None, request: bytes) -> None:
        """A committed change of the contact list of a user at another node."""
        link = self.where.get(bare)
        if link is not None:
            link.put(frames.Roster(user_id, version, jid, item, request))

    def online(self, bare: str) -> None:
        """A user has signed in here."""
        self._recent.pop(bare, None)
        for link in self.links.values():
            if link.known:
                link.put(frames.Online([bare], all=False))

    def offline(self, bare: str) -> None:
        """The last session of a user has ended."""
        for link in self.links.values():
            if link.known:
                link.put(frames.Offline(bare))

    def stored(self, bare: str) -> None:
        """A message was put into the offline store here: where the user is signed in, or will be, he gets it now."""
        link = self.where.get(bare)
        if link is not None:
            link.put(frames.Stored(bare))
            return
        self._recent[bare] = None
        if len(self._recent) > REMEMBERED:
            self._recent.popitem(last=False)
            self._forgot = True

    def appeared(self, link: Link, users: list[str], everybody: bool) -> None:
        """These users are signed in at another node."""
        if everybody:
            self._forget_users(link)
        for bare in users:
            self.where[bare] = link
            if bare in self._recent or (everybody and self._forgot):
                self._recent.pop(bare, None)
                link.put(frames.Stored(bare))

    def undeliverable(self, session: Sender, stanza: Stanza, bare: str) -> None:
        """The node of the addressee went away with the stanza on its way to it."""
        router = self.router
        kind = stanza.type
        if stanza.name == 'message' and kind not in ('error', 'headline', 'groupchat'):
            if has_content(stanza):
                router.offline.store(session, stanza, bare)
        elif stanza.name != 'presence' and kind not in ('error', 'result'):
            text = 'The node of the addressee cannot be reached.'
            router.refuse(
                session, stanza, 'recipient-unavailable' if stanza.name == 'iq' else 'service-unavailable', text
            )
