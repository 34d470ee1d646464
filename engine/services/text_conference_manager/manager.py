"""The service: while it runs, the group chat server aliases of this node have rooms.

The machine of the rooms (engine/muc) says what is to be sent; here it gets to the occupants: clients of this node, of
other nodes, of other servers. Whom it cannot reach leaves the rooms (status 333). A stanza that a room has taken is
acknowledged to its sender (XEP-0198); what becomes of the copies is a matter between room and occupants, so nobody
waits for them, and nobody stores one.

The aliases are those of the home nodes whose users this node serves: after a failover the backup hosts those of the
failed node, with new rooms. Settings and aliases are those of the start (guide 5732).

Cost of a message to 50 clients here: 0.5 microseconds for each, the machine included, and what their sockets cost; for
clients of another node 2.3 microseconds here and 1 there.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final, cast
from xml.etree.ElementTree import ParseError

import structlog

from engine.cluster import frames
from engine.contract.config import Config
from engine.contract.messages import Text, message
from engine.contract.services import TEXT_CONFERENCE_MANAGER, XCP_ROUTER
from engine.delivery import NOW
from engine.muc.rooms import Rooms
from engine.services.base import Service
from engine.services.xcp_router import chat, remote
from engine.services.xcp_router.availability import SUBSCRIPTION_TYPES
from engine.services.xcp_router.remote import Peer, RemoteSender
from engine.xmpp import stanza as xml

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.cluster.link import Link
    from engine.muc.room import Outgoing
    from engine.node import Node
    from engine.services.xcp_router.remote import Failed, Sender
    from engine.services.xcp_router.router import XcpRouter
    from engine.xmpp.stanza import Stanza

log = structlog.get_logger(__name__)

PORTION: Final = 5000
"""Copies after which the rest of the process comes first: what rooms were sent meanwhile waits for the next turn."""
SHOWN: Final = 5
"""Aliases that are named beside the state of the service."""
_MESSAGE: Final = b'<message'


class TextConferenceManager(Service):
    """The chat node of this node. ``rooms`` is the machine, ``aliases`` are those it hosts now."""

    key: ClassVar[str] = TEXT_CONFERENCE_MANAGER
    router: XcpRouter
    rooms: Rooms

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self.aliases: frozenset[str] = frozenset()
        self._waiting: deque[tuple[str, str, Stanza, Sender | None]] = deque()
        self._copies = 0
        self._unwatch: Callable[[], None] | None = None

    # ---- life

    async def start(self) -> None:
        """Host the rooms of this node."""
        self.router = router = cast('XcpRouter', self.node.service(XCP_ROUTER))
        self.rooms = Rooms(self.config.chat.settings)
        self.rooms.im_enabled = router.im_enabled
        self.rooms.sharing = self._sharing
        self._peer = Peer(self, set(), _nothing, _nothing, inside=True)
        self._administer()
        self._unwatch = self.node.ownership.on_change(lambda _gained, _lost: self._host())
        self._host()

    async def stop(self) -> None:
        """Every room ends, and its occupants are told (status 332)."""
        if self._unwatch is None:
            return
        self._unwatch()
        self._unwatch = None
        self._copies = 0
        while self._waiting:
            self._next()
            self._copies = 0
        self._send(self.rooms.close())
        self.router.chat.serve(self, ())

    def configure(self, newest: Config) -> None:
        """The list of administrators is taken at once (guide 5672)."""
        super().configure(newest)
        if self._unwatch is not None:
            self._administer()

    def _administer(self) -> None:
        settings = self.config.chat
        chosen = settings.administrators if self.router.config.chat.administrators_enabled else ()
        self._send(self.rooms.administer(frozenset(one.jid for one in chosen), time.time()))

    def _host(self) -> None:
        """Have rooms at the aliases that are this node's now, and at no others."""
        ownership = self.node.ownership
        aliases = frozenset(one.alias for one in self.config.chat.aliases if ownership.owns(one.node_id))
        for alias in sorted(self.aliases - aliases):
            self._send(self.rooms.close(alias))
        self.aliases = aliases
        self._peer.domains = set(aliases)
        self.router.chat.serve(self, aliases)
        if aliases:
            named = sorted(aliases)[:SHOWN] + ['…'] * (len(aliases) > SHOWN)
            self.tell(message(Text.HOSTING_ROOMS, aliases=', '.join(named)))
        else:
            self.tell(message(Text.NO_ALIAS))

    def _sharing(self, _bare: str) -> bool:
        """Whether availability is shared at all. A user who does not shares nothing with rooms (chat.discreet)."""
        engine = self.router.presence_engine()
        return engine is None or engine.sharing

    # ---- in

    def take(self, sender: str, to: str, stanza: Stanza, session: Sender | None) -> None:
        """As chat.Host.take. In the order they come, but no more in one turn than others can wait for."""
        if self._waiting or self._copies > PORTION:
            if not self._waiting:
                asyncio.get_running_loop().call_soon(self._next)
            self._waiting.append((sender, to, stanza, session))
            if session is not None:
                session.begin(len(stanza.raw))
            return
        self._receive(sender, to, stanza, session)

    def _next(self) -> None:
        """What waited for this turn."""
        self._copies = 0
        waiting = self._waiting
        while waiting and self._copies <= PORTION:
            sender, to, stanza, session = waiting.popleft()
            try:
                self._receive(sender, to, stanza, session)
            except Exception:
                log.exception('stanza failed', stanza=stanza.name, jid=sender)
            finally:
                if session is not None:
                    session.finish(len(stanza.raw))
        if waiting and self._unwatch is not None:
            asyncio.get_running_loop().call_soon(self._next)

    def _receive(self, sender: str, to: str, stanza: Stanza, session: Sender | None) -> None:
        if stanza.name == 'message':
            self.node.counters.tc_messages_in += 1
        elif stanza.name == 'presence' and stanza.type in SUBSCRIPTION_TYPES:
            if stanza.type == 'subscribe':  # nobody sees more of a room than who is in it
                self._route(xml.element('presence', '', from_=to, to=sender, type='unsubscribed').encode())
            return
        self._send(self.rooms.receive(sender, to, stanza, time.time()), session)

    def send(self, raw: bytes, sender: str, to: str, failed: Failed | None) -> None:
        """Answers to what rooms sent through the router, see ``remote.Route``."""
        self.take(sender, to, xml.parse(raw), None)

    def gone(self, client: str) -> None:
        """As chat.Host.gone."""
        if client in self.rooms.where:
            self._send(self.rooms.gone(client, time.time()))

    def vanished(self, users: set[str]) -> None:
        """As chat.Host.vanished."""
        here = self.router.full
        for client in [one for one in self.rooms.where if one.partition('/')[0] in users and one not in here]:
            self.gone(client)

    # ---- out

    def _send(self, outgoing: Outgoing, session: Sender | None = None) -> None:
        """Deliver what rooms say. ``session`` made them say it: it is slowed down when nodes do not keep up."""
        if not outgoing:
            return
        before = NOW.stanza, NOW.asker, NOW.delivery
        NOW.stanza = NOW.asker = NOW.delivery = None
        self._copies += len(outgoing)
        clients, copies = self.router.full, 0
        lost: list[str] = []
        links: set[Link] = set()
        try:
            for to, raw in outgoing:
                is_message = raw.startswith(_MESSAGE)
                copies += is_message
                client = clients.get(to)
                if is_message and client is not None and client.filter is None:
                    client.send(raw)
                elif not self._give(to, raw, links):
                    lost.append(to)
        finally:
            NOW.stanza, NOW.asker, NOW.delivery = before
        self.node.counters.tc_messages_out += copies
        nodes = self.router.nodes
        for link in links:
            if nodes is not None and session is not None and link.size > nodes.high_water:
                nodes.hold(link, session)
        for client_jid in lost:
            self.gone(client_jid)

    def _give(self, to: str, raw: bytes, links: set[Link]) -> bool:
        """One stanza to whoever it is for. False: there is no such client."""
        router = self.router
        bare, _, resource = to.partition('/')
        if not resource or raw.startswith(b'<iq'):
            self._route(raw)
            return True
        if chat.give(router, to, raw):
            return True
        if router.nodes is not None and (link := router.nodes.where.get(bare)) is not None:
            links.add(link)
            link.put(frames.Copy(to, raw), None, len(raw))
            return True
        return router.outside(bare) and remote.post(router, raw, chat.sender_of(raw), to, partial(self._failed, to))

    def _failed(self, client: str, _condition: str, _text: str) -> None:
        """Another server cannot be reached, or does not take it. Not at once: the other copies are under way."""
        asyncio.get_running_loop().call_soon(self.gone, client)

    def _route(self, raw: bytes) -> None:
        """A stanza that is not for a client in a room goes the way of any other: an invitation, a request."""
        try:
            stanza = xml.parse(raw)
            sender = RemoteSender(self._peer, stanza)
        except (ParseError, ValueError):
            log.exception('a room made something that is no stanza')
            return
        self.router.receive_remote(sender, stanza)


def _nothing() -> None:
    """What rooms send is not read from anywhere."""
