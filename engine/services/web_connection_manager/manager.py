"""The service: one HTTPS listener for BOSH, WebSocket and discovery, and what its connections share."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import msgspec
import structlog

from engine.contract.config import Config
from engine.contract.messages import Text, message
from engine.contract.restarts import parameter_value
from engine.contract.services import WEB_CONNECTION_MANAGER
from engine.listening import BACKLOG, listen
from engine.services.connection_manager.manager import ConnectionManager
from engine.services.web_connection_manager import discovery
from engine.services.web_connection_manager.bosh import BoshTransport, on_request
from engine.services.web_connection_manager.http import WebConnection
from engine.xmpp import sm
from engine.xmpp.bosh import Terms
from engine.xmpp.c2s import StreamSettings

if TYPE_CHECKING:
    from engine.node import Node

log = structlog.get_logger(__name__)


class WebConnectionManager(ConnectionManager):
    """Accepts web clients. The Connection Manager's limits and steps of a sign-in hold here too, with the parameters of
    this service."""

    key: ClassVar[str] = WEB_CONNECTION_MANAGER

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self.sessions: dict[str, BoshTransport] = {}
        """BOSH sessions by sid."""
        self.places: dict[str, str] = {}
        """Path -> 'bosh', 'websocket' or the key of a discovery document."""
        self.origins: frozenset[str] = frozenset()
        self.terms = Terms()
        self.most_body = 0
        self.bosh_settings: StreamSettings
        self._secure = True
        self._apply()

    def configure(self, newest: Config) -> None:
        """Limits and origins hold for the connections and requests that come from now on."""
        super().configure(newest)
        self._apply()

    async def start(self) -> None:
        """Prepare the certificate and listen. Raises OSError naming the port or address that cannot be used."""
        await self._prepare_certificate('http/1.1')
        self._secure = self.param('secure_mode')
        self._apply()
        self.settings = self._make_settings()
        paths = {self.param('bosh_path'): 'bosh', self.param('websocket_path'): 'websocket'}
        self.places = {document: document for document in discovery.DOCUMENTS} | paths
        host = os.environ.get('IMP_BIND') or self.param('bind_address')
        listener = listen(host, self.param('port'))
        make = partial(WebConnection, self, self._secure)
        self._servers.append(await self.loop.create_server(make, sock=listener, backlog=BACKLOG))
        self.detail = message(Text.LISTENING_WEB, address=self._base('https', 'http', ''))
        log.info(self.detail)

    async def stop(self) -> None:
        """Stop listening, end every stream with system-shutdown, let responses go out."""
        await super().stop()
        for transport in list(self.sessions.values()):
            transport.session.abandon()
        self.sessions.clear()

    # ---- what connections use

    def on_bosh(self, request: WebConnection, body: bytes) -> None:
        """A request to the BOSH address."""
        on_request(self, request, body)

    def bosh_url(self, host: str = '') -> str:
        """The BOSH address of this node, or of the node with the address ``host``."""
        path: str = self.param('bosh_path')
        return self._base('https', 'http', host) + path

    def websocket_url(self, host: str = '') -> str:
        """The WebSocket address of this node, or of the node with the address ``host``."""
        path: str = self.param('websocket_path')
        return self._base('wss', 'ws', host) + path

    # ---- the parts

    def _base(self, secure: str, plain: str, host: str) -> str:
        public: str = self.param('public_url')
        if public and not host:
            return (plain if public.startswith('http:') else secure) + public[public.index(':') :].rstrip('/')
        # Of another node the newest values count: it has started with them, or will.
        config, name = self.node.config if host else self.config, self.node.name
        address = host
        if host:
            name = next((node.name for node in config.nodes if node.address == host), name)
        elif (own := config.node(name)) is not None:
            address = own.address
        port = parameter_value(config, name, self.key, 'port')
        shown = f'[{address}]' if ':' in address else address
        return f'{secure if self._secure else plain}://{shown}:{port}'

    def _apply(self) -> None:
        self.origins = frozenset(self.param('allowed_origins').lower().split())
        self.most_body = int(self.param('max_body_bytes'))
        self.terms = Terms(
            wait_s=self.param('bosh_wait_s'),
            hold=self.param('bosh_hold'),
            inactivity_s=self.param('bosh_inactivity_s'),
            polling_s=self.param('bosh_polling_s'),
            pause_s=self.param('bosh_pause_s'),
        )

    def _make_settings(self) -> StreamSettings:
        """No STARTTLS over HTTP; without TLS (an administrator's choice) PLAIN is not offered."""
        settings = super()._make_settings()
        settings = msgspec.structs.replace(settings, tls_available=False, tls_required=self._secure)
        # The requests of BOSH are acknowledged themselves: no stream management above them.
        features = settings.features.replace(sm.FEATURE, b'')
        self.bosh_settings = msgspec.structs.replace(settings, features=features, resumption=False)
        return settings
