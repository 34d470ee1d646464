"""The other nodes of the cluster as the router sees them: who is signed in where, and the links there.

Each node tells the others who signs in and out, so routing to them is one dictionary, ``where``; nobody asks the
database. When a node is gone for ``node_link_timeout_s`` (links.py), messages on their way to it are stored, requests
are answered with an error, its users are seen as gone, and an alarm stands until it is back. Decision 0011.

Cost of a message to a user of another node beyond the usual: see docs/performance.md. Cost for everybody else: one
attribute test where the router knows no such user.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable
from typing import TYPE_CHECKING

from engine.cluster import frames, receiving
from engine.cluster.frames import Frame
from engine.cluster.link import Link
from engine.cluster.links import Links, Underway
from engine.contract.messages import Text, message
from engine.contract.restarts import parameter_value
from engine.contract.services import XCP_ROUTER
from engine.services.xcp_router.messages import has_content
from engine.services.xcp_router.remote import RemoteSender
from engine.store import nodes as certificates
from engine.xmpp.stanza import TAG

if TYPE_CHECKING:
    from engine.services.presence_engine.visibility import Presence
    from engine.services.xcp_router.remote import Sender
    from engine.services.xcp_router.router import XcpRouter
    from engine.store.rosters import Item
    from engine.xmpp.stanza import Stanza

REMEMBERED = 10_000
"""Users whose stored messages are remembered, to tell the node at which they sign in."""
ALARM = 'NodeLinkDown'
UNAVAILABLE = re.compile(rb"""\stype\s*=\s*['"]unavailable""")


class Nodes(Links):
    """``links``: node id -> link. ``where``: bare JID -> link to the node at which the user is signed in."""

    port, address, listening = 'node_link_port', 'node_link_address', Text.LISTENING_NODES

    def __init__(self, router: XcpRouter) -> None:
        super().__init__(router)
        self.where: dict[str, Link] = {}
        self.serving: dict[Link, set[int]] = {}
        """Home nodes whose users the node there serves."""
        self._recent: OrderedDict[str, None] = OrderedDict()
        self._forgot = False
        self._published = False
        self.configure()

    def configure(self) -> None:
        """Take the nodes and parameters of the newest configuration."""
        self.timeout_s = float(self.router.param('node_link_timeout_s'))
        self.high_water = int(self.router.param('node_link_queue_kb')) * 1024
        self.keep((node.id for node in self.node.config.nodes if node.id != self.node.id), trusted=True)

    def close(self) -> None:
        """Let go of every connection. What other nodes have not acknowledged is stored or answered."""
        super().close()
        self.where.clear()

    # ---- as links

    def own_id(self) -> int:
        """The node's."""
        return self.node.id

    async def learn(self) -> None:
        """The certificates of the nodes stand in the database."""
        if not self._published:
            await certificates.publish(self.node.store, self.node.id, self.identity.pem)
            self._published = True
        self.identity.learn(await certificates.certificates(self.node.store))

    def place(self, other: int) -> tuple[str, int] | None:
        """From the configuration."""
        peer = next((node for node in self.node.config.nodes if node.id == other), None)
        if peer is None:
            return None
        return peer.address, int(parameter_value(self.node.config, peer.name, XCP_ROUTER, 'node_link_port'))

    def take(self, link: Link, frame: Frame) -> None:
        """What another node says."""
        receiving.take(self, link, frame)

    def began(self, link: Link) -> None:
        """Tell who is signed in here."""
        link.put(frames.Online(list(self.router.accounts), all=True), None, 32 * len(self.router.accounts))
        link.put(frames.Serving(sorted(self.node.ownership.served)))
        self.router.chat.began(link)
        self.router.dual.began(link)

    def abandoned(self, other: int) -> bool:
        """Another node serves its users: what is on its way to it is for them."""
        return self.node.ownership.owner(other) != other

    def alarm(self) -> None:
        """Nodes that are gone."""
        names = [node.name for node in self.node.config.nodes if self.is_gone(node.id)]
        if names:
            self.node.raise_alarm(ALARM, message(Text.NODE_LINK_DOWN, node=self.node.name, others=', '.join(names)))
        else:
            self.node.clear_alarm(ALARM)

    def forget(self, link: Link) -> None:
        """Nobody is signed in there any more."""
        lost = {bare for bare, where in self.where.items() if where is link}
        for bare in lost:
            del self.where[bare]
        self.serving.pop(link, None)
        self.router.dual.forget(link)
        self._vanished(lost)
        self.router.chat.forget(link)

    def _vanished(self, users: set[str]) -> None:
        """What was seen of these users holds no longer."""
        engine = self.router.presence_engine()
        if engine is not None and users:
            receiving.vanished(engine, users)
            for bare in users:
                engine.adhoc.left(bare)
        self.router.chat.vanished(users)

    # ---- out

    def forward(self, session: Sender, stanza: Stanza, bare: str) -> bool:
        """A stanza to a user who may be signed in at another node. False: the user is not."""
        link = self.where.get(bare)
        return link is not None and self.carry(link, session, stanza, bare)

    def carry(self, link: Link, session: Sender, stanza: Stanza, bare: str) -> bool:
        """A stanza to ``bare`` at the other node; ``session`` hears what becomes of it. False: it came from a node."""
        # What another node sent here does not travel on: its view of the cluster was another one for a moment.
        if session.account is None and isinstance(session, RemoteSender) and session.peer.trusted:
            return False
        raw = stanza.raw
        underway = Underway(self, session, stanza, bare)
        link.put(frames.Routed(stanza.name, stanza.attrs, raw, underway.awaited(link)), underway, len(raw))
        self.node.counters.nodes_out += 1
        if link.size > self.high_water:
            self.hold(link, session)
        return True

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
        """A user has signed in here, perhaps before the node where he was is known to be gone."""
        self._recent.pop(bare, None)
        if self.where.pop(bare, None) is not None:
            self._vanished({bare})
        self.tell(frames.Online([bare], all=False))

    def offline(self, bare: str) -> None:
        """The last session of a user has ended."""
        self.tell(frames.Offline(bare))

    def tell(self, frame: Frame) -> None:
        """One frame to every node that knows who is here."""
        for link in self.links.values():
            if link.known:
                link.put(frame)

    def stored(self, bare: str) -> None:
        """A message was put into the offline store here: where the user is signed in, or will be, he gets it now."""
        link = self.where.get(bare)
        if bare in self.router.accounts:
            receiving.waiting(self.router, bare)
            return
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
            self.forget(link)
        self._vanished({bare for bare in users if self.where.get(bare) not in (None, link)})
        for bare in users:
            self.where[bare] = link
            if bare in self._recent or (everybody and self._forgot):
                self._recent.pop(bare, None)
                link.put(frames.Stored(bare))

    def undeliverable(self, session: Sender, stanza: Stanza, bare: str) -> None:
        """The node of the addressee went away with the stanza on its way to it."""
        router = self.router
        kind = stanza.type
        here = not router.outside(bare)
        if stanza.name == 'message' and here and kind not in ('error', 'headline', 'groupchat'):
            if has_content(stanza):
                router.offline.store(session, stanza, bare)
        elif stanza.name != 'presence' and kind not in ('error', 'result'):
            text = 'The node of the addressee cannot be reached.'
            router.refuse(
                session, stanza, 'recipient-unavailable' if stanza.name == 'iq' else 'service-unavailable', text
            )
