"""The service: listeners, policy, and the links to other domains."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import structlog

from engine.contract.certificates import CUP_XMPP_S2S
from engine.contract.config import FederationSettings
from engine.contract.messages import Text, message
from engine.contract.services import FEDERATION_MANAGER, XCP_ROUTER
from engine.listening import listen
from engine.services.base import Service
from engine.services.federation_manager.connection import Item, ServerConnection
from engine.services.federation_manager.incoming import Incoming
from engine.services.federation_manager.links import Link
from engine.services.federation_manager.resolver import Resolver
from engine.services.federation_manager.tls import Contexts
from engine.xmpp import s2s
from engine.xmpp.dialback import Answer
from engine.xmpp.s2s import Limits, ServerSettings, Verify

if TYPE_CHECKING:
    from engine.node import Node
    from engine.services.xcp_router.remote import Failed
    from engine.services.xcp_router.router import XcpRouter

log = structlog.get_logger(__name__)

DRAIN_S = 3.0
"""How long the streams get to end when the service stops."""
SWEEP_S = 5.0
"""How often, at least, idle connections and forgotten links are looked for."""


class FederationManager(Service):
    """The Route (xcp_router/remote.py) to every domain that is not served here. Settings and policy are those the
    router started with (RST-R23); limits and time-outs are read live."""

    key: ClassVar[str] = FEDERATION_MANAGER

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self.loop = asyncio.get_running_loop()
        self.counters = node.counters
        self.router: XcpRouter
        self.settings: ServerSettings
        self.contexts: Contexts
        self.resolver: Resolver
        self.incoming: set[Incoming] = set()
        self.outgoing: set[ServerConnection] = set()
        self.stopping = False
        self._policy = FederationSettings()
        self._exact: dict[str, str] = {}
        self._below: dict[str, str] = {}
        self._links: dict[tuple[str, str], Link] = {}
        self._per_ip: dict[str, int] = {}
        self._servers: list[asyncio.Server] = []
        self._waiting_bytes = 0

    # ---- life

    async def start(self) -> None:
        """Listen and take the router's stanzas. Raises OSError naming the port, ValueError naming a wrong file."""
        router: Any = self.node.service(XCP_ROUTER)
        self.router = router
        self._policy = policy = router.config.federation
        if not policy.enabled:
            self.detail = message(Text.FEDERATION_OFF)
            return
        self._exact = {one.domain: one.direction for one in policy.domains if not one.domain.startswith('*.')}
        self._below = {one.domain[2:]: one.direction for one in policy.domains if one.domain.startswith('*.')}
        certificates = self.node.certificates
        self.contexts = Contexts(
            await certificates.identities(self.config, CUP_XMPP_S2S, router.config),
            await certificates.trusted('cup-xmpp-trust'),
            self.param('system_trust'),
        )
        servers = self.param('dns_servers').split(',')
        self.resolver = Resolver([text.strip() for text in servers if text.strip()])
        self.settings = self._make_settings()
        host = self.param('server_bind_address')
        shown = []
        for direct, name in ((False, 'server_port'), (True, 'server_direct_tls_port')):
            port = self.param(name)
            if direct and (not port or policy.security == 'none'):
                continue
            listener = listen(host, port)
            self._servers.append(await self.loop.create_server(partial(Incoming, self, direct), sock=listener))
            shown.append(str(listener.getsockname()[1]))
        place = f'[{host}]' if ':' in host else host
        self.detail = message(Text.LISTENING_SERVERS, address=f'{place}:{", ".join(shown)}')
        log.info(self.detail, trusted_certificates=self.contexts.trusted)
        self.router.federation = self
        self.spawn(self._sweep(), 'federation sweep')

    async def stop(self) -> None:
        """Stop listening, refuse what waits, end every stream."""
        self.stopping = True
        if getattr(self, 'router', None) is not None and self.router.federation is self:
            self.router.federation = None
        for server in self._servers:
            server.close()
        for link in list(self._links.values()):
            link.close()
        for connection in [*self.incoming, *self.outgoing]:
            connection.close('system-shutdown' if connection.server_side else '')
        end = self.loop.time() + DRAIN_S
        while (self.incoming or self.outgoing) and self.loop.time() < end:
            await asyncio.sleep(0.02)
        for connection in [*self.incoming, *self.outgoing]:
            connection.broken('the service stops')
        self._servers.clear()

    def _make_settings(self) -> ServerSettings:
        policy = self._policy
        secret = policy.secret or secrets.token_hex(16)
        return ServerSettings(
            is_local=self.is_local,
            may=self.may,
            random=os.urandom,
            secret=secret if policy.dialback else '',
            security=policy.security,
            require_certificates=policy.require_certificates,
            external_in=policy.external_in,
            external_out=policy.external_out,
            bidi=self.param('bidirectional'),
            limits=Limits(
                before_auth_bytes=self.param('server_preauth_bytes'),
                before_auth_elements=self.param('server_preauth_elements'),
                before_auth_s=float(self.param('server_preauth_timeout_s')),
                stanza_bytes=self.param('server_max_stanza_bytes'),
                pairs=self.param('domain_pairs'),
            ),
        )

    # ---- policy

    def is_local(self, domain: str) -> bool:
        """Whether a domain is served here, by users or by a component."""
        return domain in self.router.domains or domain in self.router.routes

    def may(self, domain: str, direction: str) -> bool:
        """Whether stanzas may come from ('incoming') or go to ('outgoing') a domain."""
        found = self._exact.get(domain)
        rest = domain
        while found is None and rest:
            rest = rest.partition('.')[2]
            found = self._below.get(rest)
        listed = found is not None and found in ('both', direction)
        return listed is (self._policy.policy == 'deny')

    # ---- Route

    def send(self, raw: bytes, sender: str, to: str, failed: Failed | None) -> None:
        """Take a stanza for a domain that is not served here."""
        local = sender.partition('/')[0].rpartition('@')[2]
        remote = to.partition('/')[0].rpartition('@')[2]
        link = self._links.get((local, remote))
        if link is None:
            reason = self._refusal(remote)
            if reason is not None:
                if failed is not None:
                    failed(*reason)
                return
            link = self._links[local, remote] = Link(self, local, remote)
        link.send(Item(link, raw, failed))

    def send_back(self, raw: bytes, local: str, remote: str) -> None:
        """An answer this service makes itself, when there is a way."""
        if (link := self._links.get((local, remote))) is not None:
            link.send(Item(link, raw, None))

    def _refusal(self, remote: str) -> tuple[str, str] | None:
        if self.stopping:
            return 'remote-server-timeout', 'XMPP federation stops on this node.'
        if not self.may(remote, 'outgoing'):
            return 'not-allowed', f'Federation with {remote} is not allowed by the administrator.'
        if s2s.domain(remote) != remote:
            return 'remote-server-not-found', f'{remote} is not the name of a domain.'
        if len(self._links) >= self.param('links'):
            return 'resource-constraint', 'Too many other servers are connected. Send it again later.'
        return None

    def verify(self, request: Verify, done: Callable[[Verify, Answer], None]) -> None:
        """Ask the authoritative server of a domain for a dialback key."""
        pair = request.local, request.remote
        link = self._links.get(pair)
        if link is None:
            if len(self._links) >= self.param('links'):
                done(request, Answer('resource-constraint', 'Too many servers are connected.'))
                return
            link = self._links[pair] = Link(self, *pair)
        link.verify(request, done)

    def take_back_way(self, connection: Incoming, local: str, remote: str) -> None:
        """XEP-0288: stanzas of the pair may go over a connection the other server made."""
        if not self.may(remote, 'outgoing'):
            return
        link = self._links.get((local, remote))
        if link is None:
            if len(self._links) >= self.param('links'):
                return
            link = self._links[local, remote] = Link(self, local, remote)
        if link.connection is None:
            connection.links.append(link)
            link.opened(connection)

    # ---- what links and connections use

    def reserve(self, size: int, always: bool = False) -> bool:
        """Account for bytes that begin to wait; False when all domains together have too many."""
        if not always and self._waiting_bytes + size > self.param('queue_total_bytes'):
            return False
        self._waiting_bytes += size
        return True

    def free(self, size: int) -> None:
        """Bytes no longer wait."""
        self._waiting_bytes -= size

    def admit(self, connection: Incoming) -> bool:
        """Count a new connection; False when its address has too many."""
        count = self._per_ip.get(connection.address, 0)
        if self.stopping or count >= self.param('server_connections_per_ip'):
            self.counters.s2s_connections_refused += 1
            return False
        self._per_ip[connection.address] = count + 1
        self.incoming.add(connection)
        self.counters.s2s_connections += 1
        return True

    def forget(self, connection: ServerConnection) -> None:
        """A connection is gone."""
        self.outgoing.discard(connection)
        if isinstance(connection, Incoming) and connection in self.incoming:
            self.incoming.discard(connection)
            left = self._per_ip[connection.address] - 1
            if left:
                self._per_ip[connection.address] = left
            else:
                del self._per_ip[connection.address]

    async def _sweep(self) -> None:
        """Keep connections alive, close those nobody uses, forget links without state."""
        while True:
            idle, keepalive = self.param('idle_timeout_s'), self.param('keepalive_s')
            await asyncio.sleep(min(SWEEP_S, idle / 4, keepalive / 2))
            now = self.loop.time()
            for connection in [*self.incoming, *self.outgoing]:
                if connection.ended or not connection.stream.trusted:
                    continue
                if now - connection.last_stanza >= idle:
                    connection.close()
                elif now - connection.last_write >= keepalive:
                    connection.write(b' ')
            for pair, link in list(self._links.items()):
                if link.idle:
                    del self._links[pair]
