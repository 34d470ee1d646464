"""The service: listeners, requests in their order, the users behind them."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

import structlog

from engine import tls
from engine.contract import jid
from engine.contract.certificates import CUP, PURPOSES
from engine.contract.messages import Text, message
from engine.contract.restarts import parameter_value
from engine.contract.services import SIP_PROXY, XCP_ROUTER
from engine.listening import accept, listen
from engine.services.base import Service
from engine.services.sip_proxy import exchange, messaging, registrar, watching
from engine.services.sip_proxy.exchange import ALLOW, Calls, Incoming, acceptable, incoming
from engine.services.sip_proxy.flows import PENDING, Flow, StreamFlow, UdpListener
from engine.services.sip_proxy.line import Line
from engine.services.sip_proxy.trust import Trust
from engine.session import BindRefused
from engine.sip.address import read_uri, to_jid
from engine.sip.message import BadMessage, Request, Response
from engine.sip.pidf import CONTENT_TYPE
from engine.sip.transactions import ServerTransactions
from engine.store import user_data, users
from engine.store.pool import Unavailable
from engine.supervisor import describe

if TYPE_CHECKING:
    import socket

    from cryptography import x509

    from engine.contract.config import Node as NodeConfig
    from engine.node import Node
    from engine.services.presence_engine import PresenceEngine
    from engine.services.xcp_router import XcpRouter

log = structlog.get_logger(__name__)

RETRY_S: Final = 30
"""When to try again while something is not running."""
VISIT_S: Final = 60.0
"""How long a client that is not registered stays after its last request."""
TEND_S: Final = 1.0
GOODBYE_S: Final = 2.0

_REFUSALS: Final = {'resource-constraint': 503, 'remote-connection-failed': 503}


class Moved(Exception):
    """The user is served by the node with this address."""


class SipProxy(Service):
    """``lines``: bare JID -> resource -> SIP client; ``by_flow``: the same by the way they came."""

    key: ClassVar[str] = SIP_PROXY

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self.loop = asyncio.get_running_loop()
        self.counters = node.counters
        self.lines: dict[str, dict[str, Line]] = {}
        self.by_flow: dict[Hashable, set[Line]] = {}
        self.calls = Calls()
        self.watching = watching.Watching(self)
        self.transactions = ServerTransactions()
        self.persist = bool(self.param('persist_tcp'))
        self._servers: list[UdpListener] = []
        self._accepting: list[asyncio.Task[None]] = []
        self._flows: set[StreamFlow] = set()
        self._per_ip: dict[str, int] = {}
        self._queues: dict[Flow, deque[Incoming]] = {}
        self._apply()

    def _apply(self) -> None:
        self.max_body = int(self.param('max_body_bytes'))
        self.timeouts = float(self.param('request_timeout_s')), float(self.param('idle_timeout_s'))

    def configure(self, newest: Any) -> None:
        """Limits hold for what comes from now on."""
        super().configure(newest)
        self._apply()
        self.own_names = self._own_names()

    # ---- start and stop

    async def start(self) -> None:
        """Prepare certificate and trust, and listen. Raises OSError naming the port or address that cannot be used,
        ValueError a certificate or a name server that is none."""
        self.router = cast('XcpRouter', self.node.service(XCP_ROUTER))
        self.own_names = self._own_names()
        servers = [text.strip() for text in self.param('dns_servers').split(',') if text.strip()]
        self.trust = Trust(self.config.incoming_acl, servers, bool(self.param('udp_trusted')), self.loop.time)
        host = self.param('bind_address')
        port, tls_port, mutual = (int(self.param(name)) for name in ('port', 'tls_port', 'mutual_tls_port'))
        identities = await self.node.certificates.identities(self.config, CUP)
        peers = await self.node.certificates.trusted(PURPOSES[CUP].trust)
        wanted = [(port, None), (tls_port, self._context(identities))]
        if peers:
            wanted.append((mutual, self._context(identities, peers)))
        else:
            log.warning('nobody can connect with a certificate: no authority is trusted', store=PURPOSES[CUP].trust)
        udp = UdpListener(self, self._shown(host, port))
        ways: list[tuple[socket.socket, ssl.SSLContext | None]] = []
        try:
            for number, context in wanted:
                ways.append((listen(host, number), context))
            datagrams = listen(host, port, datagrams=True)
            await self.loop.create_datagram_endpoint(lambda: udp, sock=datagrams)
        except BaseException:
            for listener, _ in ways:
                listener.close()
            raise
        self._servers.append(udp)
        for listener, context in ways:
            self._accepting.append(self.spawn(self._accept(listener, context), 'accept SIP connections'))
        self.spawn(self._tend(), 'SIP registrations')
        self.detail = message(Text.LISTENING_SIP, address=self._shown(host, port), tls=tls_port)
        if peers:
            self.detail = message(Text.LISTENING_SIP_MUTUAL, listening=self.detail, mutual=mutual)
        log.info(self.detail)

    def _context(self, identities: Sequence[tls.Identity], peers: Iterable[x509.Certificate] = ()) -> ssl.SSLContext:
        """TLS; with ``peers`` those who connect must show a certificate of one of them."""
        context = tls.context(identities, ('sip',))
        if peers:
            tls.ask_for_certificates(context, peers)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _shown(self, host: str, port: int) -> str:
        if host in ('0.0.0.0', '::'):  # noqa: S104 - what is said instead of it
            own = self.config.node(self.node.name)
            host = own.address if own else host
        return f'[{host}]:{port}' if ':' in host else f'{host}:{port}'

    def _own_names(self) -> frozenset[str]:
        """Hosts in SIP addresses whose user part is a user ID."""
        publisher = next((node for node in self.config.nodes if node.publisher), None)
        names = {self.param('cucm_domain') or _dns_domain(publisher), self.param('srv_cluster_name'),
                 self.param('server_name')}  # fmt: skip
        for node in self.config.nodes:
            names.update((node.name, node.address))
        return frozenset(name.lower() for name in names if name)

    async def stop(self) -> None:
        """Stop listening, tell the clients that watch, let go of everybody."""
        for task in self._accepting:
            task.cancel()
        for line in [line for group in self.lines.values() for line in group.values()]:
            line.end()
        await asyncio.sleep(0)
        for server in self._servers:
            server.close()
        for flow in list(self._flows):
            flow.close()
        if gone := [flow.gone for flow in self._flows]:
            await asyncio.wait(gone, timeout=GOODBYE_S)
        if self._accepting:
            await asyncio.wait(self._accepting)

    async def _accept(self, listener: socket.socket, context: ssl.SSLContext | None) -> None:
        def take(connection: socket.socket, peer: tuple[Any, ...]) -> None:
            if self._per_ip.get(peer[0], 0) >= self.param('connections_per_ip'):
                self.counters.connections_refused += 1
                connection.close()
                return
            self._per_ip[peer[0]] = self._per_ip.get(peer[0], 0) + 1
            self.spawn(self._serve_connection(connection, peer, context), f'SIP connection of {peer[0]}')

        await accept(listener, take)

    async def _serve_connection(
        self, connection: socket.socket, peer: tuple[Any, ...], context: ssl.SSLContext | None
    ) -> None:
        own = connection.getsockname()
        flow = StreamFlow(self, peer[0], peer[1], self._shown(own[0], own[1]), 'TLS' if context else 'TCP')
        secured: dict[str, Any] = {}
        if context is not None:
            secured = {'ssl': context, 'ssl_handshake_timeout': self.timeouts[0], 'ssl_shutdown_timeout': GOODBYE_S}
        try:
            await self.loop.connect_accepted_socket(lambda: flow, connection, **secured)
            self._flows.add(flow)
            await flow.gone
        except (OSError, TimeoutError) as error:  # a handshake that failed
            log.debug('SIP connection ended', address=peer[0], error=describe(error))
        finally:
            self._flows.discard(flow)
            if (left := self._per_ip[peer[0]] - 1) > 0:
                self._per_ip[peer[0]] = left
            else:
                del self._per_ip[peer[0]]

    async def _tend(self) -> None:
        while True:
            await asyncio.sleep(TEND_S)
            now = self.loop.time()
            for line in [line for group in self.lines.values() for line in group.values()]:
                if line.ends <= now and (line.contact or line.publication is None):
                    line.end()
                else:
                    self.watching.tend(line, now)

    # ---- requests

    def receive(self, flow: Flow, found: Request | Response) -> None:
        """One message of a peer."""
        if isinstance(found, Response):
            self.calls.answered(flow, found)
            return
        try:
            one = incoming(flow, found)
        except ValueError as problem:
            log.debug('SIP request dropped', address=flow.address, reason=str(problem))
            return
        if found.method == 'ACK':
            return
        self.counters.sip_requests_in += 1
        if not flow.identities and self.trust.listed(flow.address, flow.transport) is False:
            self.counters.sip_requests_refused += 1
            answer = one.response(403).encode()
            if flow.reliable or len(answer) <= 2 * flow.asked:  # to no forged address much more than came from it
                flow.send(answer, one.port())
            return
        try:
            known = self.transactions.begin(one.key, self.loop.time())
        except OverflowError:
            flow.send(one.response(503, Retry_After=str(RETRY_S)).encode(), one.port())
            return
        if known is not None:
            if known:
                flow.send(known, one.port())
            return
        queue = self._queues.get(flow)
        flow.waiting += 1
        if flow.waiting == PENDING:
            flow.pause()
        if queue is not None:
            queue.append(one)
            return
        self._queues[flow] = deque((one,))
        self.spawn(self._work(flow), f'SIP requests of {flow.address}')

    async def _work(self, flow: Flow) -> None:
        """The requests of one flow, one after the other."""
        queue = self._queues[flow]
        try:
            while queue:
                one = queue.popleft()
                await self._serve(one)
                if flow.waiting == PENDING:
                    flow.resume()
                flow.waiting -= 1
        finally:
            del self._queues[flow]
            self._spend(flow)

    def _spend(self, flow: Flow) -> None:
        """A connection that nobody needs any more ends, unless it persists."""
        if not self.persist and flow.key not in self.by_flow and flow not in self._queues:
            flow.close()

    async def _serve(self, one: Incoming) -> None:
        try:
            acceptable(one)
            await self._do(one)
        except BadMessage as problem:
            self.reply(one, one.response(problem.status, problem.reason))
        except Moved as moved:
            self.reply(one, one.response(302, Contact=f'<sip:{moved}>'))
        except Unavailable as error:
            log.warning('SIP request cannot be served: the database is not reachable', error=describe(error))
            self.reply(one, one.response(503, Retry_After=str(RETRY_S)))
        except Exception:
            log.exception('SIP request failed', method=one.request.method, address=one.flow.address)
            self.reply(one, one.response(500))

    async def _do(self, one: Incoming) -> None:
        method = one.request.method
        if method in ('CANCEL', 'BYE', 'NOTIFY'):
            raise BadMessage(481, '')
        if method not in exchange.METHODS:
            self.reply(one, one.response(405 if method in exchange.KNOWN else 501, Allow=ALLOW))
            return
        if required := one.headers.all('require'):
            self.reply(one, one.response(420, Unsupported=', '.join(required)[:500]))
            return
        if method == 'OPTIONS':
            await self.listed(one.flow, '')
            accepted = f'text/plain, {CONTENT_TYPE}'
            self.reply(one, one.response(200, Allow=ALLOW, Accept=accepted, Allow_Events=watching.PACKAGE))
            return
        if method != 'REGISTER' and self.presence_engine() is None:
            self.reply(one, one.response(503, Retry_After=str(RETRY_S)))
            return
        await _METHODS[method](self, one)

    def reply(self, one: Incoming, response: Response) -> None:
        """The final answer to a request."""
        data = response.encode()
        if one.flow.reliable:
            self.transactions.forget(one.key)
        else:
            self.transactions.finish(one.key, data, self.loop.time())
        one.flow.send(data, one.port())

    # ---- users

    def presence_engine(self) -> PresenceEngine | None:
        """Cisco Presence Engine while it runs."""
        return self.router.presence_engine()

    async def listed(self, flow: Flow, bare: str) -> None:
        """Raises BadMessage unless what comes this way may speak for ``bare``; '' for anybody."""
        if flow.identities and (not bare or bare in flow.identities):
            return
        listed = self.trust.listed(flow.address, flow.transport)
        if listed or (listed is None and await self.trust.look_up(flow.address)):
            return
        self.counters.sip_requests_refused += 1
        raise BadMessage(403, '')

    async def resolve(self, text: str) -> str:
        """The bare JID that a SIP address stands for. Raises BadMessage."""
        uri = read_uri(text)
        host = uri.host.rstrip('.')
        if host in self.router.domains or host not in self.own_names:
            return to_jid(uri)
        if self.config.address_scheme == 'userid':
            bare = jid.im_address('userid', self.config.default_domain, uri.user, '')
        else:
            person = await user_data.load(self.node.store, uri.user)
            bare = person.bare if person is not None else ''
        if not bare:
            raise BadMessage(404, '')
        return bare

    async def speaker(self, flow: Flow, text: str) -> str:
        """The bare JID of the user a request is from. Raises BadMessage when the flow may not speak for that user."""
        bare = await self.resolve(text)
        await self.listed(flow, bare)
        if bare.rpartition('@')[2] not in self.router.domains:
            raise BadMessage(403, 'The sender is no user of this server')
        return bare

    async def line_for(self, flow: Flow, bare: str) -> Line:
        """The client of the user behind this flow; one that is not registered is made for the occasion."""
        for line in self.lines.get(bare, {}).values():
            if line.flow.key == flow.key:
                if not line.contact:
                    line.ends = self.loop.time() + VISIT_S
                return line
        return await self.bind(flow, bare, '', self.loop.time() + VISIT_S)

    async def bind(self, flow: Flow, bare: str, resource: str, ends: float) -> Line:
        """A new session of the user. Raises BadMessage, Moved."""
        user = (await users.load_for_login(self.node.store, [bare])).get(bare)
        if user is None:
            raise BadMessage(403, 'There is no such user')
        if flow.closed:
            raise BadMessage(408, '')
        line = Line(self, bare, flow)
        line.ends = ends
        try:
            line.session = self.router.bind(user.signed_in(), resource, line)
        except BindRefused as refusal:
            if refusal.condition == 'see-other-host':
                raise Moved(self._elsewhere(self.node.ownership.owner(user.node_id), flow)) from None
            raise BadMessage(_REFUSALS.get(refusal.condition, 403), refusal.text) from None
        self.lines.setdefault(bare, {})[line.session.resource] = line
        self.attach(line, flow)
        return line

    def _elsewhere(self, node_id: int | None, flow: Flow) -> str:
        home = next(node for node in self.config.nodes if node.id == node_id)
        name = 'port' if not flow.secure else 'mutual_tls_port' if flow.identities else 'tls_port'
        host = f'[{home.address}]' if ':' in home.address else home.address
        transport = 'udp' if flow.transport == 'UDP' else flow.transport.lower()
        return f'{host}:{parameter_value(self.config, home.name, SIP_PROXY, name)};transport={transport}'

    def attach(self, line: Line, flow: Flow) -> None:
        """The client came over this flow."""
        self._detach(line)
        former, line.flow, line.address = line.flow, flow, flow.address
        self.by_flow.setdefault(flow.key, set()).add(line)
        if former.key != flow.key:
            line.moved()

    def _detach(self, line: Line) -> None:
        group = self.by_flow.get(line.flow.key)
        if group is not None:
            group.discard(line)
            if not group:
                del self.by_flow[line.flow.key]
                self._spend(line.flow)

    def forget(self, line: Line) -> None:
        """The client is gone."""
        self._detach(line)
        group = self.lines.get(line.bare, {})
        if group.get(line.session.resource) is line:
            del group[line.session.resource]
            if not group:
                del self.lines[line.bare]

    def registered_over(self, flow: Flow) -> bool:
        """Whether a client is reached this way."""
        return any(line.contact for line in self.by_flow.get(flow.key, ()))

    def flow_lost(self, flow: Flow) -> None:
        """A connection is gone, and with it the clients behind it."""
        for line in list(self.by_flow.get(flow.key, ())):
            line.end()
        self.calls.lost(flow)


def _dns_domain(node: NodeConfig | None) -> str:
    """The DNS domain of a node, '' when neither its address nor its name has one."""
    for name in (node.address, node.name) if node is not None else ():
        if not name.rpartition('.')[2].isdigit() and ':' not in name and '.' in name:
            return name.partition('.')[2]
    return ''


_METHODS: dict[str, Callable[[SipProxy, Incoming], Awaitable[None]]] = {
    'REGISTER': registrar.register,
    'MESSAGE': messaging.send,
    'SUBSCRIBE': watching.subscribe,
    'PUBLISH': watching.publish,
}
