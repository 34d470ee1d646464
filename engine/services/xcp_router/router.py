"""The router service: one dictionary from JID to sessions, and the invariants every stanza keeps."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, cast

import structlog

from engine import features, filters
from engine.capacity import Capacity
from engine.cluster.nodes import Nodes
from engine.cluster.peers import ALARM as LINK_ALARM
from engine.cluster.peers import Peers
from engine.contract import jid
from engine.contract.config import Config
from engine.contract.services import PRESENCE_ENGINE, XCP_ROUTER
from engine.delivery import NOW
from engine.features import registry
from engine.services.base import Service
from engine.services.presence_engine import PresenceEngine
from engine.services.xcp_router import availability, iq, messages, remote
from engine.services.xcp_router.account import Account
from engine.services.xcp_router.archive import Archive
from engine.services.xcp_router.chat import Chat
from engine.services.xcp_router.dual import Dual
from engine.services.xcp_router.offline import OfflineStore
from engine.services.xcp_router.remote import RemoteSender, Route, Sender
from engine.session import BindRefused, Connection, Session
from engine.store import activity, users
from engine.store.pool import Unavailable
from engine.store.users import User
from engine.store.writer import Full, GroupWriter, Write
from engine.xmpp import stanza as xml

if TYPE_CHECKING:
    from engine.managed import Managed
    from engine.node import Node
    from engine.xmpp.stanza import Stanza

log = structlog.get_logger(__name__)

POLL_S = 10.0
"""How often online users are compared with the database, should an event have been lost."""


class XcpRouter(Service):
    """Sessions and stanza routing of one node.

    ``full`` is full JID -> session and ``accounts`` is bare JID -> account with its sessions: where a stanza goes is
    one look-up of the raw ``to``. Addresses are prepared only when that misses, and the result is cached.
    """

    key = XCP_ROUTER

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self.entrance: Final = self.receive
        """``receive`` once for all sessions: a method looked up anew is another object each time."""
        self.full: dict[str, Session] = {}
        self.accounts: dict[str, Account] = {}
        self.by_id: dict[int, Account] = {}
        self.routes: dict[str, Route] = {}
        """Exact domain -> where its stanzas go (components)."""
        self.nodes: Nodes | None = None
        """Users signed in at other nodes of the cluster; None while there is no other node."""
        self.peers: Peers | None = None
        """Users of other clusters of the company; None while there is no peer."""
        self.federation: Route | None = None
        """Where stanzas for every other domain that is not served here go; None: nowhere."""
        self.managed: dict[str, Managed] = {}
        """Streams that can be resumed (XEP-0198), by the id their client was given."""
        self.quiet_total = 0
        """Bytes that wait for inactive clients (engine/quiet.py)."""
        self.started_at = time.monotonic()
        self.writer = GroupWriter(node.store)
        self.sign_ins = activity.SignIns(self.write)
        self.offline = OfflineStore(self)
        self.archive: Archive | None = None
        """The message archive, None while it is switched off."""
        self._apply()
        self.capacity = Capacity(self)
        self.dual = Dual(self)
        self.chat = Chat(self)
        self._poll: asyncio.Task[None] | None = None

    def _apply(self) -> None:
        self.domains = frozenset((*self.config.domains, self.config.default_domain.lower()))
        self.im_enabled = self.config.messaging.im_enabled
        self.suppress_offline = self.config.messaging.suppress_offline
        self.reply_lock_s = float(self.param('reply_lock_timeout_s'))
        self.max_offline = int(self.param('max_offline_messages'))
        self.max_offline_bytes = int(self.param('max_offline_bytes'))
        self.mdm = self.im_enabled and self.param('enable_multi_device_messaging') == 'enabled'
        self.mdm_active_s = float(self.param('mdm_active_s'))
        if self.archive is not None:
            self.archive.configure()
        self.quiet_stanzas = int(self.param('quiet_stanzas'))
        self.quiet_bytes = int(self.param('quiet_bytes'))
        self.quiet_most = int(self.param('quiet_total_bytes'))

    def configure(self, newest: Config) -> None:
        """Take a new generation; what needs a restart stays as it was at the start."""
        super().configure(newest)
        self._apply()
        self._link_nodes()
        if self.peers is not None:
            self.peers.configure()
        self.chat.configure()
        registry.router_configured.fire(self)

    def _link_nodes(self) -> None:
        if self.nodes is not None:
            self.nodes.configure()
        elif len(self.config.nodes) > 1:
            self.nodes = Nodes(self)
            self.spawn(self.nodes.run(), 'node links')

    def link_clusters(self) -> Peers:
        """There are peer clusters (called by Cisco Intercluster Sync Agent)."""
        self.peers = Peers(self)
        self._peering = self.spawn(self.peers.run(), 'links to peers')
        return self.peers

    def unlink_clusters(self) -> None:
        """There is no peer cluster any more."""
        self._peering.cancel()
        self.peers = None
        self.node.clear_alarm(LINK_ALARM)

    async def start(self) -> None:
        """Begin to route."""
        features.load()
        self._apply()
        self.started_at = time.monotonic()
        self.writer.start()
        if self.param('message_archive'):
            self.archive = Archive(self)
            self.spawn(self.archive.keep_tidy(), 'message archive')
        self.spawn(self.offline.keep_tidy(), 'offline messages')
        self.spawn(self.capacity.watch(), 'JSM sessions')
        self._poll = asyncio.create_task(self._reconcile(), name='router reconcile')
        self._link_nodes()
        self.chat.configure()
        registry.router_started.fire(self)

    async def stop(self) -> None:
        """Close every session, then write what was accepted."""
        if self._poll is not None:
            self._poll.cancel()
        for session in list(self.full.values()):
            self.dual.leaves(session)
            session.close('system-shutdown')
            self.unbind(session)
        self.dual.stop()
        registry.router_stopped.fire(self)
        for links in (self.nodes, self.peers):
            if links is not None:
                links.close()
        self.sign_ins.flush()
        await self.writer.stop()

    # sessions

    def bind(self, user: User, resource: str, connection: Connection) -> Session:
        """A session for an authenticated user; ``resource`` '' lets the server choose.

        See ``enroll``. Raises BindRefused.
        """
        if not user.eligible or user.bare.rpartition('@')[2] not in self.domains:
            raise BindRefused('not-allowed', 'The user is not enabled for IM and Presence.')
        ownership = self.node.ownership
        if not ownership.owns(user.node_id):
            if address := ownership.client_address(user.node_id):
                raise BindRefused('see-other-host', address)
            if ownership.owner(user.node_id) != self.node.id:
                raise BindRefused('not-allowed', 'The home node of the user is not known.')
            text = 'Your users are being moved to another node. Sign in again later.'
            raise BindRefused('remote-connection-failed', text)
        try:
            resource = jid.prepare_resource(resource or secrets.token_urlsafe(9))
        except jid.InvalidJID as error:
            raise BindRefused('bad-request', str(error)) from None
        session = Session(user, resource, connection)
        self.enroll(session)
        return session

    def enroll(self, session: Session) -> None:
        """A session takes part from now on. One that already has the resource is closed with ``conflict``. Raises
        BindRefused."""
        user, resource = session.user, session.resource
        account = self.accounts.get(user.bare)
        old = account.sessions.get(resource) if account else None
        limit = int(self.param('max_sessions_per_user'))
        if old is None and account is not None and len(account.sessions) >= limit:
            # A client that lost its connection and comes back as a new one must not be kept out by its own shadow.
            old = next((session for session in account.sessions.values() if session.hibernating), None)
        if old is None and account is not None and len(account.sessions) >= limit:
            raise BindRefused('resource-constraint', f'The user has {limit} sessions, which is the maximum.')
        if old is not None:
            old.close('conflict', 'Another client signed in with the same resource.')
            self.unbind(old)
        account = self.accounts.get(user.bare)
        if account is None:
            account = self.accounts[user.bare] = self.by_id[user.id] = Account(user)
            if self.nodes is not None:
                self.nodes.online(user.bare)
        account.sessions[resource] = session
        session.account = account
        self.full[session.jid] = session
        self.sign_ins.note(user.id)
        registry.session_bound.fire(self, session)

    def unbind(self, session: Session) -> None:
        """Forget a session whose connection has ended. Safe to call twice."""
        if self.full.get(session.jid) is not session:
            self.dual.ended(session)
            return
        availability.unavailable(self, session, None)
        session.end()
        del self.full[session.jid]
        account = self.accounts[session.bare]
        del account.sessions[session.resource]
        account.unlock(session)
        session.account = None
        if not account.sessions:
            del self.accounts[session.bare]
            if self.by_id.get(account.user.id) is account:
                del self.by_id[account.user.id]
            if self.nodes is not None:
                self.nodes.offline(session.bare)
            self.write(activity.signed_out(account.user.id, datetime.now(UTC), session.status))
        if engine := self.presence_engine():
            engine.session_ended(session)
        registry.session_ended.fire(self, session)

    def sessions_of(self, bare: str) -> Collection[Session]:
        """Every session of a user, available or not."""
        account = self.accounts.get(bare)
        return account.sessions.values() if account else ()

    def outside(self, bare: str) -> bool:
        """Whether a prepared address is served elsewhere: by another server, a component or a peer cluster."""
        if bare.rpartition('@')[2] not in self.domains:
            return True
        return self.peers is not None and bare in self.peers.where and bare not in self.accounts

    def presence_engine(self) -> PresenceEngine | None:
        """The presence engine while it runs."""
        service = self.node.service(PRESENCE_ENGINE)
        return service if isinstance(service, PresenceEngine) else None

    def write(self, write: Write) -> None:
        """Queue a small write nobody waits for."""
        try:
            self.writer.put(write)
        except Full:
            log.warning('write dropped: the database does not keep up', write=type(write).__name__)

    # stanzas

    def receive_remote(self, sender: RemoteSender, stanza: Stanza) -> bool:
        """Route one stanza from outside, see ``remote.receive``."""
        return remote.receive(self, sender, stanza)

    def receive(self, session: Sender, stanza: Stanza) -> None:
        """Route one stanza of a session. ``from`` is stamped already. Never raises, never waits."""
        counters = self.node.counters
        NOW.stanza = stanza
        try:
            name = stanza.name
            if name == 'message':
                counters.messages_in += 1
                messages.route(self, session, stanza)
            elif name == 'presence':
                counters.presence_in += 1
                if isinstance(session, RemoteSender):
                    availability.receive_remote(self, session, stanza)
                else:
                    availability.receive(self, cast('Session', session), stanza)
            elif name == 'iq':
                counters.iq_in += 1
                iq.receive(self, session, stanza)
        except Exception:
            log.exception('stanza failed', stanza=stanza.name, jid=session.jid)
            self.refuse(session, stanza, 'internal-server-error')
        NOW.stanza = None

    def address(self, session: Sender, stanza: Stanza, to: str) -> tuple[str, str, str] | None:
        """The prepared parts of an address at a domain served here; None when the stanza went elsewhere or was
        refused."""
        try:
            parts = jid.split(to)
        except jid.InvalidJID as error:
            self.refuse(session, stanza, 'jid-malformed', str(error))
            return None
        bare = f'{parts[0]}@{parts[1]}' if parts[0] else parts[1]
        if self.outside(bare):
            remote.send(self, session, stanza, jid.prepare(to))
            return None
        if self.nodes is not None and bare not in self.accounts and self.nodes.forward(session, stanza, bare):
            return None
        return parts

    def refuse(self, session: Sender, stanza: Stanza, condition: str, text: str = '') -> None:
        """Answer a stanza with an error, unless it is one itself or the result of an IQ."""
        if stanza.type not in ('error', 'result'):
            answer = xml.error(stanza, condition, text=text)
            session.send(answer)
            if stanza.name == 'message':
                messages.refused(self, session, stanza, answer)

    def answer(self, session: Sender, answer: bytes) -> None:
        """Answer an IQ when every message the session sent before is on disk or refused; usually at once."""
        if session.unstored == session.unarchived:
            session.send(answer)
            return

        def decided() -> None:
            session.finish(len(answer))
            session.send(answer)

        session.begin(len(answer))
        self.writer.after(decided)

    # users

    async def users_changed(self, ids: Iterable[int]) -> None:
        """Read these end users again and close sessions that may not go on.

        Deleted or new password: not-authorized. No longer enabled: policy-violation. Moved: see-other-host with the
        address of the new node. New IM address: reset.
        """
        self.capacity.stale = True
        inactive = {session.user.id: session.user for session in self.dual.here.values()}
        online = [user_id for user_id in ids if user_id in self.by_id or user_id in inactive]
        if not online:
            return
        found = await users.load_many(self.node.store, online)
        for user_id in online:
            if user_id in inactive:
                condition, text = self._objection(inactive[user_id], found.get(user_id))
                if condition:
                    self.dual.close(condition, text, (user_id,))
            account = self.by_id.get(user_id)
            if account is None:
                continue
            new = found.get(user_id)
            condition, text = self._objection(account.user, new)
            if new is not None and not condition and not self.node.ownership.owns(new.node_id):
                address = self.node.ownership.client_address(new.node_id)
                condition, text = ('see-other-host', address) if address else ('system-shutdown', '')
            if condition:
                log.info('sessions closed', user=account.user.user_id, condition=condition, reason=text)
                for session in list(account.sessions.values()):
                    session.close(condition, text)
                    self.unbind(session)
                if condition == 'see-other-host' and (engine := self.presence_engine()) is not None:
                    engine.adhoc.left(account.user.bare)
            else:
                account.user.fingerprint = found[user_id].fingerprint
                account.user.node_id = found[user_id].node_id
                if account.user.privacy_version != found[user_id].privacy_version:
                    account.user.privacy_version = found[user_id].privacy_version
                    await filters.reload(self, account)

    def _objection(self, old: User, new: User | None) -> tuple[str, str]:
        if new is None:
            return 'not-authorized', 'The user was deleted.'
        if not new.eligible:
            return 'policy-violation', 'The user is no longer enabled for IM and Presence.'
        if new.bare != old.bare:
            return 'reset', 'The IM address of the user has changed.'
        if new.password != old.password:
            return 'not-authorized', 'The password of the user has changed.'
        return '', ''

    async def reconcile(self) -> None:
        """Compare every online user with the database once."""
        inactive = {session.user.id: session.user for session in self.dual.here.values()}
        known = inactive | {user_id: account.user for user_id, account in self.by_id.items()}
        found = await users.states(self.node.store, list(known))
        changed = [
            user_id for user_id, user in known.items() if user_id not in found or found[user_id][1] != user.fingerprint
        ]
        await self.users_changed(changed)
        if engine := self.presence_engine():
            await engine.compare({user_id: state[0] for user_id, state in found.items()})

    async def _reconcile(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            try:
                await self.reconcile()
            except Unavailable as error:
                log.warning('database not reachable', error=str(error))
            except Exception:
                log.exception('reconcile failed')
