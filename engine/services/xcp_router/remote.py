"""Senders and addresses beyond this process's own clients: federated servers, components, other nodes.

Out: ``send`` gives a stanza to the Route of its domain. In: a transport that has verified who speaks calls
``router.receive_remote(RemoteSender(peer, stanza), stanza)``; the rest of the routing works for it as for a Session.

Cost for messages between users of this process: nothing, this begins where the router knows no such client.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

import structlog

from engine.contract import jid
from engine.session import PIECE

if TYPE_CHECKING:
    from engine.filters import Filter
    from engine.services.xcp_router.account import Account
    from engine.services.xcp_router.router import XcpRouter
    from engine.xmpp.stanza import Stanza

log = structlog.get_logger(__name__)

Failed = Callable[[str, str], None]
Answers = deque[tuple[Callable[[], Awaitable[None]], int]]

UNDER_WAY = 4 * 1024 * 1024
"""What one peer may have under way, in bytes, before it is read no further; see ``session.UNDER_WAY``."""


class Sender(Protocol):
    """What routing uses of whoever sent a stanza: a Session or a RemoteSender."""

    @property
    def jid(self) -> str: ...
    @property
    def bare(self) -> str: ...
    @property
    def closed(self) -> bool: ...
    @property
    def filter(self) -> Filter | None: ...
    @property
    def account(self) -> Account | None: ...

    unstored: int
    answers: Answers | None

    @property
    def unarchived(self) -> int: ...

    def send(self, data: bytes) -> None: ...
    def begin(self, size: int = 0) -> None: ...
    def finish(self, size: int = 0) -> None: ...


class Route(Protocol):
    """Where stanzas for addresses without a local account go."""

    def send(self, raw: bytes, sender: str, to: str, failed: Failed | None) -> None:
        """Take one stanza in the default namespace jabber:client with ``from`` and ``to`` in it.

        ``sender`` and ``to`` are the same addresses, prepared. When it cannot be delivered ``failed(condition, text)``
        is called once, now or later; None: nobody wants to know. Never raises, never waits.
        """


class Carrier:
    """A Route that wants to know who sent a stanza: to slow a sender down, or to tell what became of it."""

    def forward(self, session: Sender, stanza: Stanza, to: str) -> None:
        """Take a stanza of ``session`` to the prepared address ``to``, or refuse it. Never raises, never waits."""
        raise NotImplementedError


class Peer:
    """The receiving side of one verified transport: a federated stream, a component, another node.

    ``route`` takes answers and errors back. ``domains`` are those the peer may speak for; the transport adds to them.
    ``inside`` is true for components and nodes of this cluster: they may also send to other servers. ``trusted`` only
    for nodes: what they send in the name of users was checked there.
    ``pause`` and ``resume`` stop and continue reading from the transport, when it sends faster than can be done.
    """

    __slots__ = (
        '_held',
        '_pause',
        '_resume',
        '_under_way',
        'answers',
        'closed',
        'domains',
        'inside',
        'route',
        'trusted',
        'unstored',
    )

    def __init__(
        self,
        route: Route,
        domains: set[str],
        pause: Callable[[], None],
        resume: Callable[[], None],
        inside: bool = False,
        trusted: bool = False,
    ) -> None:
        self.route = route
        self.domains = domains
        self.inside = inside or trusted
        self.trusted = trusted
        self.closed = False
        self.unstored = 0
        self.answers: dict[str, Answers] = {}
        """Requests that wait for the one being answered, by sender."""
        self._pause = pause
        self._resume = resume
        self._under_way = 0
        self._held = False

    def begin(self, size: int = 0) -> None:
        """As ``Session.begin``, for everything that comes from this peer."""
        self._under_way += PIECE + size
        if self._under_way > UNDER_WAY and not self._held:
            self._held = True
            self._pause()

    def finish(self, size: int = 0) -> None:
        """As ``Session.finish``."""
        self._under_way -= PIECE + size
        if self._held and self._under_way <= UNDER_WAY // 2:
            self._held = False
            self._resume()


class RemoteSender:
    """Who sent one stanza that came through ``peer``. Raises InvalidJID when its ``from`` or ``to`` is none.

    ``jid`` is prepared, full or bare, also only a domain. ``user`` is None: the account is not here.
    """

    __slots__ = ('_to', 'bare', 'domain', 'jid', 'peer')

    def __init__(self, peer: Peer, stanza: Stanza) -> None:
        local, self.domain, resource = jid.split(stanza.from_ or '')
        self.bare = f'{local}@{self.domain}' if local else self.domain
        self.jid = f'{self.bare}/{resource}' if resource else self.bare
        self.peer = peer
        self._to = jid.prepare(stanza.to or '')

    user = None
    unarchived = 0
    filter = None
    account = None

    @property
    def closed(self) -> bool:
        """Whether the transport ended."""
        return self.peer.closed

    @property
    def unstored(self) -> int:
        """Messages of this peer on their way to the offline store."""
        return self.peer.unstored

    @unstored.setter
    def unstored(self, value: int) -> None:
        self.peer.unstored = value

    @property
    def answers(self) -> Answers | None:
        """Requests of this sender that wait for the one being answered."""
        return self.peer.answers.get(self.bare)

    @answers.setter
    def answers(self, value: Answers | None) -> None:
        if value is None:
            self.peer.answers.pop(self.bare, None)
        else:
            self.peer.answers[self.bare] = value

    def send(self, data: bytes) -> None:
        """An answer or error: back the way the stanza came."""
        self.peer.route.send(data, self._to, self.jid, None)

    def begin(self, size: int = 0) -> None:
        """As ``Session.begin``."""
        self.peer.begin(size)

    def finish(self, size: int = 0) -> None:
        """As ``Session.finish``."""
        self.peer.finish(size)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemoteSender) and other.jid == self.jid

    def __hash__(self) -> int:
        return hash(self.jid)

    def __repr__(self) -> str:
        return f'<RemoteSender {self.jid}>'


class NodeSender(RemoteSender):
    """The sender of a stanza that another node of the cluster has checked and stamped: nothing is prepared again."""

    __slots__ = ()

    def __init__(self, peer: Peer, stanza: Stanza) -> None:
        attrs = stanza.attrs
        self.jid = attrs.get('from', '')
        self.peer = peer
        self._to = attrs.get('to', '')

    # Nobody asks for these on the way of a message to a client.

    @property
    def bare(self) -> str:  # type: ignore[override]
        """The address without the resource."""
        return self.jid.partition('/')[0]

    @property
    def domain(self) -> str:  # type: ignore[override]
        """The domain of the address."""
        return self.bare.rpartition('@')[2]


def route_for(router: XcpRouter, bare: str) -> Route | None:
    """The way to a bare address, or a domain, that is not served here."""
    domain = bare.rpartition('@')[2]
    if router.peers is not None and (bare in router.peers.where or domain in router.peers.domains):
        return router.peers
    return router.routes.get(domain) or router.federation


def send(router: XcpRouter, session: Sender, stanza: Stanza, to: str) -> None:
    """A stanza of ``session`` to the prepared address ``to`` that is not served here: on its way, or refused."""
    bare = to.partition('/')[0]
    domain = bare.rpartition('@')[2]
    route = route_for(router, bare)
    if route is None or (isinstance(session, RemoteSender) and not _may_pass(router, session, domain)):
        router.refuse(session, stanza, 'remote-server-not-found', f'This server does not know the domain {domain}.')
        return
    router.node.counters.remote_out += 1
    if router.peers is not None and bare in router.peers.where:
        router.peers.forward(session, stanza, bare)
        return
    if isinstance(route, Carrier):
        route.forward(session, stanza, to)
        return
    failed: Failed | None = None
    if stanza.type not in ('error', 'result'):

        def failed(condition: str, text: str) -> None:
            router.refuse(session, stanza, condition, text)

    route.send(stanza.raw, session.jid, to, failed)


def _may_pass(router: XcpRouter, sender: RemoteSender, domain: str) -> bool:
    """Nobody outside uses this server as a relay to others outside."""
    return sender.peer.inside or domain in router.routes


def post(router: XcpRouter, raw: bytes, sender: str, to: str, failed: Failed | None = None) -> bool:
    """A stanza this server made itself, to the prepared address ``to`` that is not served here. False: there is no
    way."""
    route = route_for(router, to.partition('/')[0])
    if route is None:
        return False
    router.node.counters.remote_out += 1
    route.send(raw, sender, to, failed)
    return True


def receive(router: XcpRouter, sender: RemoteSender, stanza: Stanza) -> bool:
    """A stanza from outside. False when ``sender`` may not speak for that address: the transport ends with
    ``invalid-from`` (RFC 6120 4.9.3.9). Never raises, never waits."""
    ours = sender.domain in router.domains or (router.peers is not None and sender.domain in router.peers.domains)
    if not sender.peer.trusted and (sender.domain not in sender.peer.domains or ours):
        router.node.counters.remote_refused += 1
        log.warning('forged sender', sender=sender.jid, domains=sorted(sender.peer.domains)[:10])
        return False
    router.node.counters.remote_in += 1
    router.receive(sender, stanza)
    return True
