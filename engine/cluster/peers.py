"""Users of other clusters of the company: who they are, and the links to their nodes. Decision 0031.

``where`` has every user of every peer cluster, as the synchronisation brought them; routing to them is one look-up
where the router knows no such user. Every node here has a link to every node of every peer. A stanza goes to the home
node of its addressee while that link lives, else to any other node of that cluster, which passes it on or stores it.

Otherwise a user of a peer is what a user of another server is: each cluster keeps its own half of a subscription, asks
for presence with probes, and stores messages for its own users. But links lose nothing: what the other side has not
acknowledged when its process ended is sent again, and what no node of a cluster has taken in ``peer_link_timeout_s`` is
answered with an error.

Cost for everybody else: one attribute test where the router knows no such user.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import structlog

from engine.cluster import frames, receiving
from engine.cluster.links import Links, Underway
from engine.contract.messages import Text, message
from engine.services.presence_engine import elsewhere
from engine.services.xcp_router.remote import NodeSender
from engine.xmpp import ns
from engine.xmpp.parser import only_element
from engine.xmpp.stanza import TAG, Stanza

if TYPE_CHECKING:
    from engine.cluster.frames import Frame
    from engine.cluster.link import Link
    from engine.services.xcp_router.remote import Failed, Sender
    from engine.services.xcp_router.router import XcpRouter
    from engine.store.peers import PeerNode

log = structlog.get_logger(__name__)

ALARM = 'InterclusterLinkDown'
STANZAS = {f'{ns.CLIENT} {name}': name for name in ('message', 'presence', 'iq')}
LARGEST = 32 * 1024 * 1024
"""Bytes of a stanza: twice what a client may be allowed to send."""
AWAY = 'The cluster of the user cannot be reached.'
STRANGE = 'Your cluster has a user that this cluster does not know yet. Send it again later.'


def link_id(der: bytes) -> int:
    """By which both ends of a link know a node: its certificate."""
    return int.from_bytes(hashlib.sha256(der).digest()[:8]) >> 1


class Home:
    """Where users of a peer live: ``peer`` is the cluster (row), ``link`` the home node, 0 when it is not known."""

    __slots__ = ('link', 'peer')

    def __init__(self, peer: int, link: int) -> None:
        self.peer = peer
        self.link = link


class Sent(Underway):
    """A stanza of a client on its way to another cluster."""

    __slots__ = ()
    links: Peers

    def lost(self) -> None:
        """Another process, or another node of the cluster, may take it, unless it arrived."""
        link = None if self.delivery is not None and self.delivery.done else self.links.way(self.bare)
        if link is None:
            super().lost()
            return
        if self.passed:
            self.passed = False
            self.session.begin(self.size)
        self.put(link)

    def put(self, link: Link) -> None:
        """Queue it. The other side trusts the stanza only, not what is said about it."""
        raw = self.stanza.raw
        link.put(frames.Routed('', {}, raw, self.awaited(link)), self, len(raw))


class Posted:
    """A stanza of this server on its way to another cluster, whose loss would leave the two sides at odds."""

    __slots__ = ('_bare', '_failed', '_peers', '_raw')

    def __init__(self, peers: Peers, bare: str, raw: bytes, failed: Failed | None) -> None:
        self._peers, self._bare, self._raw, self._failed = peers, bare, raw, failed

    def taken(self) -> None:
        """The other cluster has dealt with it."""

    def lost(self) -> None:
        """As ``Sent.lost``."""
        link = self._peers.way(self._bare)
        if link is not None:
            link.put(frames.Raw(self._raw), self, len(self._raw))
        elif self._failed is not None:
            self._failed('remote-server-timeout', AWAY)


class Peers(Links):
    """``where``: bare JID -> home. ``domains``: those of all peers. ``strange``: peers that have users unknown here."""

    port, address, listening = 'peer_link_port', 'peer_link_address', Text.LISTENING_PEERS
    longest: ClassVar[int] = 256 * 1024 * 1024

    def __init__(self, router: XcpRouter) -> None:
        super().__init__(router)
        self.where: dict[str, Home] = {}
        self.domains: frozenset[str] = frozenset()
        self.strange: set[int] = set()
        self.ends: dict[int, PeerNode] = {}
        """Id of a link -> the node at its other end."""
        self._closed = False
        self.configure()

    def configure(self) -> None:
        """Take the parameters of the newest configuration."""
        self.timeout_s = float(self.router.param('peer_link_timeout_s'))
        self.high_water = int(self.router.param('node_link_queue_kb')) * 1024

    def know(self, ends: dict[int, PeerNode], where: dict[str, Home], domains: frozenset[str]) -> set[str]:
        """Take what the synchronisation brought. Returns the addresses that came or went."""
        changed = where.keys() ^ self.where.keys()
        self.ends, self.where, self.domains = ends, where, domains
        self.keep(ends, trusted=False)
        return set(changed)

    def close(self) -> None:
        """Let go of every connection; what is on its way is answered with an error."""
        self._closed = True
        super().close()

    # ---- as links

    def own_id(self) -> int:
        """From the certificate that the peers know."""
        return link_id(ssl.PEM_cert_to_DER_cert(self.identity.pem))

    async def learn(self) -> None:
        """The certificates came with the nodes; Cisco Intercluster Sync Agent publishes the own one."""
        self.identity.learn({other: end.certificate for other, end in self.ends.items()})

    def place(self, other: int) -> tuple[str, int] | None:
        """As its cluster says."""
        end = self.ends.get(other)
        return (end.address, end.port) if end is not None else None

    def began(self, link: Link) -> None:
        """The users there are to know who sees them here, and the other way round."""
        if (engine := self.router.presence_engine()) is not None:
            elsewhere.back(engine, self._live_at(link.other).__contains__)

    def forget(self, link: Link) -> None:
        """What was seen of the users there holds no longer; another node of their cluster may know better."""
        engine = self.router.presence_engine()
        users = self._live_at(link.other)
        if engine is not None and users:
            receiving.vanished(engine, users)
            if self.link_for(next(iter(users))) not in (None, link):
                elsewhere.back(engine, users.__contains__)

    def _live_at(self, other: int) -> set[str]:
        return {bare for bare, home in self.where.items() if home.link == other}

    def alarm(self) -> None:
        """Nodes of peers that are gone."""
        names = [end.name for other, end in self.ends.items() if self.is_gone(other)]
        if names:
            text = message(Text.PEER_LINK_DOWN, node=self.node.name, others=', '.join(sorted(names)))
            self.node.raise_alarm(ALARM, text)
        else:
            self.node.clear_alarm(ALARM)

    # ---- in

    def take(self, link: Link, frame: Frame) -> None:
        """A stanza of a user of the cluster at the other end, and of nobody else."""
        try:
            if isinstance(frame, frames.Decided):
                receiving.decided(link, frame)
                return
            if not isinstance(frame, frames.Raw | frames.Routed):
                raise ValueError('clusters tell each other stanzas only')
            child = only_element(frame.raw, LARGEST)
            route = partial(self._receive, link, Stanza(STANZAS[child.name], child.attrs, child.raw))
            if isinstance(frame, frames.Routed) and frame.number:
                receiving.awaited(self, link, frame.number, route)
            else:
                route()
        except Exception:
            log.exception('frame of a peer failed', peer=link.other, kind=type(frame).__name__)

    def _receive(self, link: Link, stanza: Stanza) -> None:
        router, end = self.router, self.ends.get(link.other)
        if end is None:
            return
        sender = NodeSender(self.peers[link.other], stanza)
        home = self.where.get(sender.bare)
        if home is None or home.peer != end.peer:
            router.node.counters.remote_refused += 1
            self.strange.add(end.peer)
            if stanza.name != 'presence' or stanza.type == 'subscribe':
                router.refuse(sender, stanza, 'forbidden', STRANGE)
            return
        router.node.counters.remote_in += 1
        router.receive(sender, stanza)

    # ---- out

    def link_for(self, bare: str) -> Link | None:
        """The way to a user: the home node, unless it is gone; then what is up, or may come back."""
        home = self.where.get(bare)
        if home is None:
            return None
        if (link := self.links.get(home.link)) is not None and not self.is_gone(home.link):
            return link
        others = [self.links[other] for other, end in self.ends.items() if end.peer == home.peer]
        usable = [link for link in others if not self.is_gone(link.other)]
        return next((link for link in usable if link.up), usable[0] if usable else None)

    def forward(self, session: Sender, stanza: Stanza, bare: str) -> None:
        """A stanza of a client here to a user of a peer: on its way, or refused."""
        link = None if session.bare in self.where else self.link_for(bare)  # what came from a peer goes to no other
        if link is None:
            self.undeliverable(session, stanza, bare)
            return
        Sent(self, session, stanza, bare).put(link)
        if link.size > self.high_water:
            self.hold(link, session)

    def send(self, raw: bytes, sender: str, to: str, failed: Failed | None) -> None:
        """A stanza of this server, see ``remote.Route``."""
        bare = to.partition('/')[0]
        link = None if sender.partition('/')[0] in self.where else self.link_for(bare)
        if link is None:
            if failed is not None:
                known = bare in self.where
                failed(*(('remote-server-timeout', AWAY) if known else ('service-unavailable', '')))
        elif failed is not None or _lasting(raw):
            link.put(frames.Raw(raw), Posted(self, bare, raw, failed), len(raw))
        elif link.size < 2 * self.high_water:  # presence and answers; they are told anew when a link comes back
            link.put(frames.Raw(raw), None, len(raw))

    def way(self, bare: str) -> Link | None:
        """Where to send what another process did not acknowledge once more."""
        return None if self._closed else self.link_for(bare)

    def undeliverable(self, session: Sender, stanza: Stanza, bare: str) -> None:
        """No node of the cluster of ``bare`` is there."""
        if stanza.name != 'presence' or stanza.type == 'subscribe':
            self.router.refuse(session, stanza, 'remote-server-timeout', AWAY)


def _lasting(raw: bytes) -> bool:
    tag = TAG.match(raw)
    return tag is not None and tag.group().startswith(b'<presence') and b'subscribe' in tag.group()


def ends_of(nodes: Iterable[PeerNode]) -> dict[int, PeerNode]:
    """Link id -> node."""
    return {link_id(ssl.PEM_cert_to_DER_cert(node.certificate)): node for node in nodes}
