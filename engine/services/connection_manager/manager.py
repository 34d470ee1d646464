"""The service: listeners, limits, and what all connections share."""

from __future__ import annotations

import asyncio
import errno
import gc
import ipaddress
import os
import ssl
import time
from collections.abc import Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, cast

import structlog

from engine import quiet, tls
from engine.contract.certificates import CLIENT_TRUST, CUP_XMPP
from engine.contract.config import Config
from engine.contract.messages import Text, message
from engine.contract.restarts import parameter_value
from engine.contract.services import AUTHENTICATION, CONNECTION_MANAGER, XCP_ROUTER
from engine.features import caps
from engine.listening import BACKLOG, listen, secret
from engine.services.base import Service
from engine.services.connection_manager.connection import STALL_S, Connection
from engine.services.connection_manager.names import ClientNames
from engine.services.xcp_router import dual
from engine.xmpp import sm
from engine.xmpp.c2s import Limits, StreamSettings

if TYPE_CHECKING:
    from engine.node import Node
    from engine.services.xcp_router import XcpRouter


log = structlog.get_logger(__name__)

DRAIN_S = 3.0
"""How long the streams get to end when the service stops."""
WATCH_S = 0.02
COLLECT_AFTER = 100
"""After so many ended connections what was made since the last collection is looked through (about a millisecond)."""
SWEEP_S = 5.0
"""How often it is looked for clients that do not answer an <r/> (XEP-0198)."""
SCRAM = ('SCRAM-SHA-256-PLUS', 'SCRAM-SHA-1-PLUS', 'SCRAM-SHA-256', 'SCRAM-SHA-1')


class ConnectionManager(Service):
    """Accepts clients on the STARTTLS port and the direct TLS port."""

    key: ClassVar[str] = CONNECTION_MANAGER

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self.loop = asyncio.get_running_loop()
        self.counters = node.counters
        self.connections: set[Connection] = set()
        self.serving: Connection | None = None
        """The connection whose bytes are being worked on at this moment."""
        self.names: ClientNames | None = None
        self.tls: ssl.SSLContext
        self.bindings: dict[str, tuple[bytes, ...]] = {}
        self.settings: StreamSettings
        self._domains: frozenset[str] = frozenset()
        self._secret = b''
        self._unencrypted = os.environ.get('IMP_UNENCRYPTED_LOOPBACK') == '1'
        """Whether clients may sign in with SCRAM without TLS: for measurements, on a loopback address only."""
        self._per_ip: dict[str, int] = {}
        self._servers: list[asyncio.Server] = []
        self._gone = 0
        self._dirty: list[Connection] = []
        self._watched: set[Connection] = set()
        self._watching: asyncio.TimerHandle | None = None
        self._sweeping: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def configure(self, newest: Config) -> None:
        """Limits and mechanisms hold for the connections that come from now on."""
        super().configure(newest)
        if self._servers:
            self.settings = self._make_settings()

    async def start(self) -> None:
        """Prepare the certificate and listen. Raises OSError naming the port or address that cannot be used, ValueError
        a file with a certificate that cannot be read."""
        identities = await self._prepare_certificate('xmpp-client')
        self.bindings = tls.bindings(identities)
        if self.param('client_certificates'):
            await self._trust_clients()
        if self.param('reverse_lookup'):
            servers = self.param('dns_servers').split(',')
            self.names = ClientNames(self, [text.strip() for text in servers if text.strip()])
        self.settings = self._make_settings()
        host = os.environ.get('IMP_BIND') or self.param('bind_address')
        if self._unencrypted and not _is_loopback(host):
            raise OSError(errno.EINVAL, f'IMP_UNENCRYPTED_LOOPBACK is for 127.0.0.1 and ::1, not for {host}.')
        ports = []
        for direct, variable, name in (
            (False, 'IMP_CLIENT_PORT', 'client_port'),
            (True, 'IMP_DIRECT_TLS_PORT', 'direct_tls_port'),
        ):
            text = os.environ.get(variable) or self.param(name)
            listener = listen(host, int(text))
            server = await self.loop.create_server(partial(Connection, self, direct), sock=listener, backlog=BACKLOG)
            self._servers.append(server)
            ports.append(listener.getsockname()[1])
        shown = f'[{host}]' if ':' in host else host
        self.detail = message(Text.LISTENING, first=f'{shown}:{ports[0]}', second=f':{ports[1]}')
        log.info(self.detail)

    async def stop(self) -> None:
        """Stop listening, end every stream with system-shutdown, drop what does not go."""
        for server in self._servers:
            server.close()
        router = cast('XcpRouter | None', self.node.service(XCP_ROUTER))
        for connection in list(self.connections):
            if router is not None and connection.session is not None:
                router.dual.leaves(connection.session)
            connection.close('system-shutdown')
        end = self.loop.time() + DRAIN_S
        while self.connections and self.loop.time() < end:
            await asyncio.sleep(0.02)
        for connection in list(self.connections):
            connection.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.sleep(0)
        self._servers.clear()
        for timer in (self._watching, self._sweeping):
            if timer is not None:
                timer.cancel()

    # ---- what connections use

    def identities(self, transport: asyncio.BaseTransport) -> frozenset[str]:
        """The addresses of users in the certificate that a client showed: whose it may be."""
        if self.tls.verify_mode == ssl.CERT_NONE:
            return frozenset()
        certificate = transport.get_extra_info('ssl_object').getpeercert(binary_form=True)
        return tls.user_addresses(certificate) if certificate else frozenset()

    def admit(self, connection: Connection) -> bool:
        """Count a new connection; False when its address has too many."""
        if self._sweeping is None:
            self._sweeping = self.loop.call_later(SWEEP_S, self._sweep)
        count = self._per_ip.get(connection.address, 0)
        if count >= self.param('connections_per_ip'):
            self.counters.connections_refused += 1
            return False
        self._per_ip[connection.address] = count + 1
        self.connections.add(connection)
        self.counters.connections += 1
        return True

    def forget(self, connection: Connection) -> None:
        """A connection is gone."""
        if connection not in self.connections:
            return
        self.connections.discard(connection)
        self._gone += 1
        if self._gone >= COLLECT_AFTER:
            # A connection whose TLS ended badly is a cycle with 60 KiB of OpenSSL behind it, and the collector counts
            # objects, not bytes: left to itself it would come after a thousand of them.
            self._gone = 0
            self.loop.call_soon(gc.collect, 1)
        left = self._per_ip[connection.address] - 1
        if left:
            self._per_ip[connection.address] = left
        else:
            del self._per_ip[connection.address]

    def will_flush(self, connection: Connection) -> None:
        """Flush this connection at the end of the present turn of the loop."""
        if not self._dirty:
            self.loop.call_soon(self._flush)
        self._dirty.append(connection)

    def watch(self, connection: Connection) -> None:
        """Look after this connection's ``when_flushed`` callbacks."""
        self._watched.add(connection)
        if self._watching is None:
            self._watching = self.loop.call_later(0, self._look)

    def task(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a step of a sign-in in the background (never per stanza)."""
        task = self.loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    # ---- the parts

    async def _prepare_certificate(self, protocol: str) -> tuple[tls.Identity, ...]:
        """The certificates cup-xmpp, made when needed and ready to be shown; ``protocol``: for ALPN."""
        router: Any = self.node.service(XCP_ROUTER)
        self._domains = frozenset(router.config.domains)
        identities = await self.node.certificates.identities(router.config, CUP_XMPP)
        self.tls = tls.context(identities, (protocol,))
        self._secret = secret(self.node.var / 'tls' / self.node.name.replace('/', '_'))
        return identities

    async def _trust_clients(self) -> None:
        authorities = await self.node.certificates.trusted(CLIENT_TRUST)
        if authorities:
            tls.ask_for_certificates(self.tls, authorities)
        else:
            log.warning('no client can sign in with a certificate: no authority is trusted', store=CLIENT_TRUST)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error('sign-in step failed', exc_info=error)

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, []
        for connection in dirty:
            connection.flush()

    def _look(self) -> None:
        self._watching = None
        self._watched = {connection for connection in self._watched if connection.check_marks()}
        if self._watched:
            self._watching = self.loop.call_later(WATCH_S, self._look)

    def _sweep(self) -> None:
        """Cut off who does not answer: its session hibernates and its messages get a fate."""
        self._sweeping = None
        late = time.monotonic() - STALL_S
        for connection in list(self.connections):
            session = connection.session
            if session is not None and session.managed is not None:
                asked_at = session.managed.outbound.asked_at
                if asked_at and asked_at < late:
                    log.info('client acknowledges nothing any more', jid=session.jid, address=connection.address)
                    connection.abort()
        if self.connections:
            self._sweeping = self.loop.call_later(SWEEP_S, self._sweep)

    def _make_settings(self) -> StreamSettings:
        router: Any = self.node.service(XCP_ROUTER)
        managed = router.param('stream_management') == 'enabled'
        plain = parameter_value(self.config, self.node.name, AUTHENTICATION, 'allow_plain')
        mechanisms: tuple[str, ...] = (*SCRAM, 'PLAIN') if plain else SCRAM
        if self.config.ldap.enabled:  # only the directory can check a password, and it wants to see it
            mechanisms = ('PLAIN',)
        return StreamSettings(
            domains=self._domains,
            secret=self._secret,
            random=os.urandom,
            tls_required=not self._unencrypted and self.config.security.client_secure_mode,
            mechanisms=mechanisms,
            dual=dual.feature(router),
            features=caps.stream_feature(router) + (sm.FEATURE if managed else b'') + quiet.FEATURE,
            nonzas=sm.NONZAS | quiet.NONZAS,
            resumption=managed,
            limits=Limits(
                before_auth_bytes=self.param('preauth_bytes'),
                before_auth_elements=self.param('preauth_elements'),
                before_auth_s=float(self.param('preauth_timeout_s')),
                stanza_bytes=self.param('max_stanza_bytes'),
            ),
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
