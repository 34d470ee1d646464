"""The way to chat rooms: which node hosts each group chat server alias, and what its own clients hear when it is gone.

Cisco XCP Text Conference Manager of every node says which aliases it hosts, to its router and to the other nodes
(``frames.Hosting``). An alias that nobody hosts has a Route all the same while it is configured: its senders get an
error, and no other server is asked for it.

A client is known to be in a room by its directed presence (RFC 6121 4.6), so the end of its session is told there. The
other way round its node tells it that a room has ended (status 332) when the node that hosted the room is gone, or
another one hosts the alias now: the rooms there are others.

Cost: nothing for stanzas between users.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import unescape
from typing import TYPE_CHECKING, Final, Protocol

from engine.cluster import frames
from engine.contract.messages import Text, message
from engine.filters import takes_message, takes_presence
from engine.muc.presence import AVAILABILITY
from engine.services.xcp_router.remote import Carrier
from engine.xmpp import ns
from engine.xmpp import stanza as xml
from engine.xmpp.forwarding import without
from engine.xmpp.stanza import TAG, Stanza

if TYPE_CHECKING:
    from engine.cluster.link import Link
    from engine.services.xcp_router.remote import Failed, Sender
    from engine.services.xcp_router.router import XcpRouter
    from engine.session import Session

ALARM: Final = 'ChatAliasTaken'
AWAY: Final = 'The chat rooms of this server are not available now.'
_FROM: Final = re.compile(rb"""\sfrom\s*=\s*('[^']*'|"[^"]*")""")
_LEFT: Final = re.compile(rb"""\stype\s*=\s*['"](?:unavailable|error)['"]""")


class Host(Protocol):
    """What hosts rooms: Cisco XCP Text Conference Manager of this node."""

    def take(self, sender: str, to: str, stanza: Stanza, session: Sender | None) -> None:
        """A stanza for an alias, a room or an occupant, both addresses prepared; ``session``: the sender, None: a
        stanza this server made in its name."""

    def gone(self, client: str) -> None:
        """A client (full JID) cannot be reached."""

    def vanished(self, users: set[str]) -> None:
        """The clients these users (bare JIDs) had at another node are gone."""


class ChatRoute(Carrier):
    """The way to the rooms of one alias: ``host`` when they are here, ``link`` when they are at another node."""

    def __init__(self, chat: Chat) -> None:
        self.chat = chat
        self.host: Host | None = None
        self.link: Link | None = None

    @property
    def hosted(self) -> bool:
        """Whether there are rooms now."""
        return self.host is not None or self.link is not None

    def forward(self, session: Sender, stanza: Stanza, to: str) -> None:
        """As Carrier.forward."""
        router = self.chat.router
        if self.host is not None:
            self.host.take(session.jid, to, stanza, session)
            return
        nodes, link = router.nodes, self.link
        if nodes is not None and link is not None and nodes.carry(link, session, stanza, to.partition('/')[0]):
            return
        if stanza.type != 'unavailable':
            router.refuse(session, stanza, 'service-unavailable', AWAY)

    def send(self, raw: bytes, sender: str, to: str, failed: Failed | None) -> None:
        """As Route.send."""
        if self.host is not None:
            self.host.take(sender, to, xml.parse(raw), None)
        elif self.link is not None:
            self.link.put(frames.Raw(raw), None, len(raw))
        elif failed is not None:
            failed('service-unavailable', AWAY)


class Chat:
    """``routes``: alias -> its Route, which is also in ``router.routes``."""

    def __init__(self, router: XcpRouter) -> None:
        self.router = router
        self.routes: dict[str, ChatRoute] = {}
        self._host: Host | None = None
        self._here: frozenset[str] = frozenset()
        self._there: dict[Link, frozenset[str]] = {}

    def configure(self) -> None:
        """Take the aliases of the newest configuration."""
        self._place()

    def serve(self, host: Host, aliases: Iterable[str]) -> None:
        """``host`` has rooms at these aliases, and at no others."""
        self._host, self._here = host, frozenset(aliases)
        self._place()
        if self.router.nodes is not None:
            self.router.nodes.tell(self._hosting())

    def began(self, link: Link) -> None:
        """Tell another node what is here."""
        link.put(self._hosting())

    def announced(self, link: Link, aliases: Iterable[str]) -> None:
        """What another node hosts."""
        self._there.pop(link, None)
        self._there[link] = frozenset(aliases)
        self._place()

    def forget(self, link: Link) -> None:
        """Another node is gone."""
        if self._there.pop(link, None):
            self._place()

    def vanished(self, users: set[str]) -> None:
        """Another node is gone, or these users are at another one now."""
        if self._host is not None:
            self._host.vanished(users)

    def missing(self, client: str) -> None:
        """Another node does not know a client that a room of this one has sent something to."""
        if self._host is not None:
            self._host.gone(client)

    def left(self, session: Session) -> None:
        """A session ends, or goes on at another node, and nobody has told the rooms it is in."""
        for address in session.directed or ():
            if (route := self.routes.get(_alias(address))) is not None:
                raw = xml.element('presence', '', from_=session.jid, to=address, type='unavailable').encode()
                route.send(raw, session.jid, address, None)

    def hosted(self) -> list[str]:
        """The aliases that have rooms now."""
        return [alias for alias, route in self.routes.items() if route.hosted]

    def _hosting(self) -> frames.Hosting:
        return frames.Hosting(sorted(self._here))

    def _place(self) -> None:
        router = self.router
        wanted = self._here.union((one.alias for one in router.config.chat.aliases), *self._there.values())
        ended: set[str] = set()
        for alias in self.routes.keys() - wanted:
            ended.add(alias)
            del self.routes[alias], router.routes[alias]
        taken = sorted(alias for alias in wanted - self.routes.keys() if alias in router.domains | router.routes.keys())
        for alias in sorted(wanted.difference(taken)):
            route = self.routes.get(alias)
            if route is None:
                route = router.routes[alias] = self.routes[alias] = ChatRoute(self)
            before = route.host or route.link
            route.host = self._host if alias in self._here else None
            route.link = next((link for link in reversed(self._there) if alias in self._there[link]), None)
            if before is not None and before is not (route.host or route.link):
                ended.add(alias)
        if taken:
            router.node.raise_alarm(ALARM, message(Text.CHAT_ALIAS_TAKEN, aliases=', '.join(taken)))
        else:
            router.node.clear_alarm(ALARM)
        if ended:
            self._tell(ended)

    def _tell(self, ended: set[str]) -> None:
        """The rooms of these aliases have ended without a word to the clients here."""
        for session in list(self.router.full.values()):
            for address in [address for address in session.directed or () if _alias(address) in ended]:
                if session.directed is not None:
                    session.directed.discard(address)
                session.send(_ended(address, session.jid))


def _alias(address: str) -> str:
    return address.partition('/')[0].rpartition('@')[2]


def _ended(occupant: str, client: str) -> bytes:
    """The last presence of a room that ends (XEP-0045 9.9, status 332)."""
    inside = "<item affiliation='none' role='none'/><status code='110'/><status code='332'/>"
    tag = xml.element('presence', '', from_=occupant, to=client, type='unavailable')
    return f"{tag[:-2]}><x xmlns='{ns.MUC_USER}'>{inside}</x></presence>".encode()


def discreet(stanza: Stanza) -> Stanza:
    """Presence for a room without anything about availability (guide 5541): its user does not share it."""
    return Stanza(stanza.name, stanza.attrs, without(stanza.raw, lambda name, _attributes: name in AVAILABILITY))


def sender_of(raw: bytes) -> str:
    """The ``from`` of a stanza that has one."""
    tag = TAG.match(raw)
    found = _FROM.search(tag.group()) if tag is not None else None
    return unescape(found.group(1)[1:-1].decode()) if found is not None else ''


def give(router: XcpRouter, to: str, raw: bytes) -> bool:
    """A message or presence of a room to a client here, unless it blocks that. False: the client is not here."""
    session = router.full.get(to)
    if session is None:
        return False
    presence = raw.startswith(b'<presence')
    if presence and session.directed and (tag := TAG.match(raw)) is not None and _LEFT.search(tag.group()):
        session.directed.discard(sender_of(raw))
    if session.filter is not None:
        takes = takes_presence if presence else takes_message
        if not takes(session, sender_of(raw), raw, to_bare=False):
            return True
    session.send(raw)
    return True
