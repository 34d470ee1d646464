"""Dual connections (guide 2309-2364, spec 02, 11): beside its active connection a client has an inactive one to the
other node of the redundancy group, and goes on there at once when that node takes over.

``urn:imp:dual:0``, a protocol of this service, offered under TLS while High Availability is on:

    <dual xmlns='urn:imp:dual:0' peer='ADDRESS' lower='120' upper='537'/>

in the stream features after sign-in names the other node and, in seconds, between which limits the client chooses at
random when to connect there (or, without dual connections, to sign in again). There it binds with

    <bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>...</resource><inactive xmlns='urn:imp:dual:0'/></bind>

and gets nothing but answers to pings: nobody sees the connection and no stanza reaches it. When the active one has
ended it sends

    <iq type='set' id='1'><activate xmlns='urn:imp:dual:0'/></iq>

The result means that it is an ordinary session now, with the presence the client last sent, its interest in the contact
list and message carbons as they were; what waited for the user follows. While this node does not serve the user the
answer is an error of the type ``wait``. With the same resource as the active connection contacts see no interruption:
every node knows which clients have an inactive connection and where, and does not show them as gone before that ends,
or ``GRACE_S`` after the takeover. Chat rooms are left all the same: the client enters them again.

Cost: one look-up for each change of presence and each end of a session.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Final

import structlog

from engine.cluster import frames
from engine.contract import jid
from engine.contract.restarts import parameter_value
from engine.contract.service_keys import SERVER_RECOVERY_MANAGER
from engine.features.registry import became_available, iq, presence_updated
from engine.services.presence_engine import elsewhere, visibility
from engine.session import BindRefused, Connection, Session
from engine.xmpp import ns
from engine.xmpp import stanza as xml
from engine.xmpp.stanza import Stanza

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.cluster.link import Link
    from engine.services.presence_engine import PresenceEngine
    from engine.services.xcp_router.router import XcpRouter
    from engine.store.users import User

log = structlog.get_logger(__name__)

GRACE_S: Final = 30.0
"""After a takeover: when a client has not activated its connection by then, its contacts are told that it is gone."""
LIMBO_S: Final = 600.0
"""A client that is signed in nowhere is shown no longer than this."""
_ACTIVATE: Final = f'{{{ns.DUAL}}}activate'
_PING: Final = f'{{{ns.PING}}}ping'


def feature(router: XcpRouter) -> bytes:
    """The stream feature of this node; b'' while dual connections are not offered."""
    node = router.node
    peer = node.config.peer_of(node.id)
    if peer is None:
        return b''
    lower, upper = (
        parameter_value(node.config, node.name, SERVER_RECOVERY_MANAGER, name)
        for name in ('relogin_lower_s', 'relogin_upper_s')
    )
    address = xml.quote(node.ownership.address_of(peer))
    return f"<dual xmlns='{ns.DUAL}' peer='{address}' lower='{lower}' upper='{upper}'/>".encode()


class Dual:
    """``here``: inactive connections of this node, by full JID. ``elsewhere``: those of other nodes, with the link.
    ``state``: what the node of the active connection told of clients with an inactive one here. ``limbo``: clients that
    are signed in nowhere at the moment and are still shown, because they may go on over their inactive connection; with
    the users here who were told by this node when the client was here, and the end of it."""

    def __init__(self, router: XcpRouter) -> None:
        self.router = router
        self.here: dict[str, Session] = {}
        self._count: Counter[int] = Counter()
        self.elsewhere: dict[str, Link] = {}
        self.state: dict[str, frames.Mirror] = {}
        self.limbo: dict[str, tuple[tuple[str, ...], asyncio.TimerHandle]] = {}
        self.going_on: set[str] = set()
        """Activated here; their contacts are told next."""

    # ---- inactive connections here

    def bind(self, user: User, resource: str, connection: Connection) -> Session:
        """An inactive connection. Raises BindRefused."""
        router, node = self.router, self.router.node
        group = node.config.group_of(node.id)
        if group is None or not group.ha or user.node_id not in group.nodes:
            raise BindRefused('not-allowed', 'This node does not stand in for the home node of the user.')
        session = Session(user, jid.prepare_resource(resource), connection)
        old = self.here.get(session.jid)
        limit = int(router.param('max_sessions_per_user'))
        if old is None and self._count[user.id] >= limit:
            raise BindRefused('resource-constraint', f'{limit} inactive connections are the maximum for a user.')
        if old is not None:
            old.close('conflict', 'Another client has bound the same resource.')
            self.ended(old)
        self.here[session.jid] = session
        self._count[user.id] += 1
        self._tell(session.jid, on=True)
        return session

    def receive(self, session: Session, stanza: Stanza) -> None:
        """A stanza of a client whose connection was inactive when it was read."""
        if session.account is not None:
            self.router.receive(session, stanza)
            return
        payload = stanza.payload if stanza.name == 'iq' else None
        tag = payload.tag if payload is not None else ''
        if tag == _ACTIVATE and stanza.type == 'set':
            self._activate(session, stanza)
        elif tag == _PING and stanza.type == 'get':
            session.send(xml.iq_result(stanza))
        elif stanza.type not in ('error', 'result'):
            session.send(xml.error(stanza, 'unexpected-request', 'wait', 'Activate the connection first.'))

    def _activate(self, session: Session, stanza: Stanza) -> None:
        router = self.router
        if not router.node.ownership.owns(session.user.node_id):
            text = 'This node does not serve you yet. Try again in a moment.'
            session.send(xml.error(stanza, 'recipient-unavailable', 'wait', text))
            return
        try:
            router.enroll(session)
        except BindRefused as refusal:
            session.send(xml.error(stanza, refusal.condition, text=refusal.text))
            return
        state = self._taken_out(session)
        session.connection.entered()
        session.send(xml.iq_result(stanza))
        log.info('inactive connection activated', jid=session.jid)
        if state is None or not state.presence:
            self._tell(session.jid, on=False)
            self.over(session.jid)
            return
        self.goes_on(session.jid)
        self.going_on.add(session.jid)
        session.interested = state.interested
        account = router.accounts[session.bare]
        if state.carbons and router.mdm:
            session.carbons = True
            account.carbons += 1
        router.receive(session, xml.parse(state.presence))

    def _taken_out(self, session: Session) -> frames.Mirror | None:
        del self.here[session.jid]
        self._count[session.user.id] -= 1
        if not self._count[session.user.id]:
            del self._count[session.user.id]
        return self.state.pop(session.jid, None)

    def ended(self, session: Session) -> None:
        """The connection of an inactive client is gone."""
        if self.here.get(session.jid) is session:
            self._taken_out(session)
            session.end()
            self._tell(session.jid, on=False)
            self.over(session.jid)

    def close(self, condition: str, text: str, users: Iterable[int] | None = None) -> None:
        """End the inactive connections of these users (ids), or all."""
        chosen = None if users is None else set(users)
        for session in [one for one in self.here.values() if chosen is None or one.user.id in chosen]:
            session.close(condition, text)
            self.ended(session)

    def stop(self) -> None:
        """The router stops."""
        self.close('system-shutdown', '')
        for full in list(self.limbo):
            self.goes_on(full)

    def taken_over(self, homes: set[int]) -> None:
        """This node serves these sets from now on: their clients may activate, for a while unnoticed."""
        waiting = [session for session in self.here.values() if session.user.node_id in homes]
        if waiting:
            asyncio.get_running_loop().call_later(GRACE_S, self._late, waiting)

    def _late(self, sessions: list[Session]) -> None:
        for session in sessions:
            if self.here.get(session.jid) is session:
                self._tell(session.jid, on=False)
                self.over(session.jid)

    # ---- what other nodes know

    def _tell(self, full: str, on: bool) -> None:
        if self.router.nodes is not None:
            self.router.nodes.tell(frames.Standby(full, on))

    def began(self, link: Link) -> None:
        """A node is there (again)."""
        for full in self.here:
            link.put(frames.Standby(full, on=True))

    def standby(self, link: Link, full: str, on: bool) -> None:
        """Another node has an inactive connection of a client, or no longer."""
        if on:
            self.elsewhere[full] = link
            if (session := self.router.full.get(full)) is not None:
                self.mirror(session)
        elif self.elsewhere.get(full) is link:
            del self.elsewhere[full]
            self.over(full)

    def forget(self, link: Link) -> None:
        """A node is gone, and with it the inactive connections there."""
        for full in [full for full, where in self.elsewhere.items() if where is link]:
            del self.elsewhere[full]
            self.over(full)

    def mirror(self, session: Session) -> None:
        """Tell the node of the inactive connection what the client would go on with."""
        link = self.elsewhere.get(session.jid)
        if link is not None:
            presence = b''
            if session.presence is not None:
                head, tail = session.presence
                presence = xml.with_attributes(b'%b%b%b' % (head, session.bare.encode(), tail), {'to': None})
            link.put(frames.Mirror(session.jid, presence, session.interested, session.carbons), None, len(presence))

    # ---- clients between two connections

    def keeps(self, full: str) -> bool:
        """Whether a client that is gone is shown as long as it may go on elsewhere."""
        return full in self.elsewhere or full in self.here

    def leaves(self, session: Session, engine: PresenceEngine | None = None) -> bool:
        """This node gives up the user, or its services stop: a client with an inactive connection elsewhere goes
        without a word. Whether it is one."""
        engine = engine or self.router.presence_engine()
        if session.jid not in self.elsewhere or not session.shown or engine is None:
            return False
        self.waits(session.jid, visibility.watching(engine, session))
        session.shown = False
        self.router.chat.left(session)
        session.directed = None
        return True

    def waits(self, full: str, watchers: tuple[str, ...] = ()) -> None:
        """A client is signed in nowhere and is still shown, for a while."""
        if full not in self.limbo:
            self.limbo[full] = watchers, asyncio.get_running_loop().call_later(LIMBO_S, self.over, full)

    def goes_on(self, full: str) -> tuple[str, ...] | None:
        """A client is signed in again, or it is told that it is gone; None: it was not waited for."""
        if (found := self.limbo.pop(full, None)) is None:
            return None
        found[1].cancel()
        return found[0]

    def over(self, full: str) -> None:
        """A client does not go on: whoever still sees it is told."""
        watchers = self.goes_on(full)
        if watchers is not None and (engine := self.router.presence_engine()) is not None:
            elsewhere.lost(engine, full, watchers)

    def announced(self, session: Session) -> None:
        """Contacts have seen a client go on here: its inactive connection is none any more."""
        self.going_on.discard(session.jid)
        self._tell(session.jid, on=False)
        engine = self.router.presence_engine()
        person = engine.people.get(session.bare) if engine is not None else None
        for watcher in person.watchers() if person is not None else ():
            if engine is not None and (other := engine.people.get(watcher)) is not None:
                elsewhere.note(engine, other, session.jid, None)


@iq.on('set', ns.DUAL, 'activate', 'self', 'host')
def on_activate(session: Session, stanza: Stanza, router: XcpRouter) -> bytes:
    """The connection is active already: the answer to the first request was lost."""
    return xml.iq_result(stanza)


@presence_updated.on()
def on_presence(router: XcpRouter, session: Session, _stanza: Stanza) -> None:
    """The node of the inactive connection knows it, too."""
    if session.jid in router.dual.elsewhere:
        router.dual.mirror(session)


@became_available.on()
def on_available(router: XcpRouter, session: Session) -> None:
    """Its contacts have been told."""
    router.dual.goes_on(session.jid)
    if session.jid in router.dual.going_on:
        router.dual.announced(session)
