"""The listener of Cisco XCP Router for external components (XEP-0114), and the routes to them.

Every configured component has its route from the start, so its domain is never looked for in DNS; while it is not
connected the senders get ``service-unavailable``. A second connection with the secret takes the place of the first,
which ends with ``conflict``: after a silent network failure a component need not wait until the old one is noticed.
Components and their secrets are taken live; cost for messages between users: nothing.
"""

from __future__ import annotations

import asyncio
import os
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from engine.contract.config import Component
from engine.listening import listen
from engine.services.presence_engine import elsewhere
from engine.services.xcp_router.remote import Peer, RemoteSender
from engine.xmpp import stanza as xml
from engine.xmpp.component import ComponentStream, Connected
from engine.xmpp.cutting import outbound
from engine.xmpp.events import Close, Send
from engine.xmpp.s2s import Limits
from engine.xmpp.stanza import Stanza

if TYPE_CHECKING:
    from engine.services.xcp_router.remote import Failed
    from engine.services.xcp_router.router import XcpRouter

log = structlog.get_logger(__name__)

GULP = 128 * 1024
LINGER_S = 3.0
_ALARM = 'ExternalComponents'
_PREAUTH_BYTES = 8192
_PREAUTH_ELEMENTS = 16


class ComponentRoute:
    """The way to one component."""

    def __init__(self, components: Components, settings: Component) -> None:
        self.components = components
        self.settings = settings
        self.connection: ComponentConnection | None = None

    def send(self, raw: bytes, sender: str, to: str, failed: Failed | None) -> None:
        """As Route.send."""
        connection = self.connection
        if connection is None:
            problem = ('service-unavailable', 'The component is not connected.')
        elif connection.waiting() + len(raw) > self.components.router.param('component_queue_bytes'):
            problem = ('resource-constraint', 'The component is slow. Send it again later.')
        else:
            self.components.router.node.counters.component_out += 1
            connection.write(outbound(raw))
            return
        if failed is not None:
            failed(*problem)


class Components:
    """Those of one router. ``routes`` by domain."""

    def __init__(self, router: XcpRouter) -> None:
        self.router = router
        self.loop = asyncio.get_running_loop()
        self.routes: dict[str, ComponentRoute] = {}
        self.connections: set[ComponentConnection] = set()
        self._per_ip: dict[str, int] = {}
        self._server: asyncio.Server | None = None
        self._starting: asyncio.Task[None] | None = None
        self._stopped = False

    def configure(self) -> None:
        """Take the present configuration."""
        router = self.router
        wanted = {one.domain: one for one in router.config.components}
        for domain, route in list(self.routes.items()):
            new = wanted.get(domain)
            if new is None or domain in router.domains:
                self._remove(domain, route)
            elif new != route.settings:
                changed = new.secret != route.settings.secret
                route.settings = new
                if changed and route.connection is not None:
                    route.connection.close('not-authorized', 'The secret of the component has changed.')
        for domain, settings in wanted.items():
            if domain in self.routes:
                continue
            if domain in router.domains or domain in router.routes:
                log.error('component not served: its domain is taken', domain=domain)
                continue
            route = self.routes[domain] = ComponentRoute(self, settings)
            router.routes[domain] = route
        if self.routes and self._server is None and self._starting is None:
            self._starting = self.loop.create_task(self._listen())
        elif not self.routes and self._server is not None:
            self._server.close()
            self._server = None
            router.node.clear_alarm(_ALARM)

    def _remove(self, domain: str, route: ComponentRoute) -> None:
        del self.routes[domain]
        if self.router.routes.get(domain) is route:
            del self.router.routes[domain]
        if route.connection is not None:
            route.connection.close('host-gone', 'The component was removed.')

    async def _listen(self) -> None:
        router = self.router
        host = router.param('component_bind_address')
        port = router.param('component_port')
        try:
            listener = listen(host, port)
            server = await self.loop.create_server(partial(ComponentConnection, self), sock=listener)
        except OSError as error:
            router.node.raise_alarm(_ALARM, f'External components cannot connect: {error.strerror}')
        else:
            if self._stopped or not self.routes:
                server.close()
            else:
                self._server = server
                log.info('listening for components', host=host, port=port)
                router.node.clear_alarm(_ALARM)
        finally:
            self._starting = None

    def stop(self) -> None:
        """The router stops."""
        self._stopped = True
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.close('system-shutdown')
        for domain, route in list(self.routes.items()):
            self._remove(domain, route)

    def secret_of(self, domain: str) -> str:
        """The secret of a component, '' when there is none."""
        route = self.routes.get(domain)
        return route.settings.secret if route is not None else ''

    def items(self) -> bytes:
        """The connected components for disco#items of the server."""
        return b''.join(
            xml.element('item', jid=domain, name=route.settings.name or None).encode()
            for domain, route in self.routes.items()
            if route.connection is not None
        )

    def admit(self, connection: ComponentConnection) -> bool:
        """Count a connection; False when its address has too many."""
        count = self._per_ip.get(connection.address, 0)
        if self._stopped or count >= self.router.param('component_connections_per_ip'):
            return False
        self._per_ip[connection.address] = count + 1
        self.connections.add(connection)
        return True

    def forget(self, connection: ComponentConnection) -> None:
        """A connection is gone."""
        if connection in self.connections:
            self.connections.discard(connection)
            left = self._per_ip[connection.address] - 1
            if left:
                self._per_ip[connection.address] = left
            else:
                del self._per_ip[connection.address]


class ComponentConnection(asyncio.Protocol):
    """One connection, proven or not."""

    def __init__(self, components: Components) -> None:
        self.components = components
        self.address = ''
        self.route: ComponentRoute | None = None
        self.ended = False
        self._transport: Any = None
        self._out: list[bytes] = []
        self._waiting = 0
        self._paused = 0
        self._timer: asyncio.TimerHandle | None = None
        router = components.router
        limits = Limits(
            before_auth_bytes=_PREAUTH_BYTES,
            before_auth_elements=_PREAUTH_ELEMENTS,
            before_auth_s=float(router.param('component_timeout_s')),
            stanza_bytes=router.param('component_max_stanza_bytes'),
        )
        self.stream = ComponentStream(limits, os.urandom, components.secret_of, self._on_event, components.loop.time())
        self.stream.on_stanza = self._deliver
        self._peer: Peer | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TCP is there."""
        self._transport = transport
        self.address = (transport.get_extra_info('peername') or ('?',))[0]
        if not self.components.admit(self):
            self.ended = True
            self._transport.abort()
            return
        if self.stream.deadline is not None:
            self._timer = self.components.loop.call_at(self.stream.deadline, self._tick)

    def _tick(self) -> None:
        self.stream.tick(self.components.loop.time())

    def data_received(self, data: bytes) -> None:
        """Bytes from the component."""
        if self.ended:
            return
        if len(data) >= GULP:
            self.pause()
            self.components.loop.call_soon(self.resume)
        try:
            self.stream.receive(data)
        except Exception:
            log.exception('component connection failed', domain=self.stream.domain)
            self.close('internal-server-error')

    def connection_lost(self, error: Exception | None) -> None:
        """The socket is gone."""
        if self._timer is not None:
            self._timer.cancel()
        self._end()
        self.components.forget(self)

    def _on_event(self, event: object) -> None:
        match event:
            case Send():
                self.write(event.data)
            case Connected():
                self._connected(event.domain)
            case Close():
                if event.condition:
                    log.info('component stream error', domain=self.stream.domain, condition=event.condition)
                self.flush()
                self._end()
                self._transport.close()
                self._timer = self.components.loop.call_later(LINGER_S, self._transport.abort)

    def _connected(self, domain: str) -> None:
        route = self.components.routes[domain]
        if route.connection is not None:
            route.connection.close('conflict', 'The component connected again.')
        if self._timer is not None:
            self._timer.cancel()
        self.route, route.connection = route, self
        self._peer = Peer(route, {domain}, self.pause, self.resume, inside=True)
        log.info('component connected', domain=domain, address=self.address)
        if engine := self.components.router.presence_engine():
            elsewhere.domain_back(engine, domain)

    def _deliver(self, domain: str, _to: str, name: str, attrs: dict[str, str], raw: bytes) -> None:
        router = self.components.router
        router.node.counters.component_in += 1
        stanza = Stanza(name, attrs, raw)
        peer = self._peer
        assert peer is not None
        try:
            sender = RemoteSender(peer, stanza)
        except ValueError as error:  # InvalidJID
            if stanza.type not in ('error', 'result'):
                self.write(xml.error(stanza, 'jid-malformed', text=str(error)))
            return
        if not router.receive_remote(sender, stanza):
            self.close('invalid-from', f"'from' must be an address of {domain}.")

    def write(self, data: bytes) -> None:
        """Queue bytes; they go out once per turn of the loop."""
        if not self._out:
            self.components.loop.call_soon(self.flush)
        self._out.append(data)
        self._waiting += len(data)

    def waiting(self) -> int:
        """Bytes the component has not taken yet."""
        size: int = self._transport.get_write_buffer_size()
        return size + self._waiting

    def flush(self) -> None:
        """Give what was collected to the transport."""
        out, self._out, self._waiting = self._out, [], 0
        if out and not self._transport.is_closing():
            self._transport.write(b''.join(out))

    def pause(self) -> None:
        """Stop reading. Counted."""
        self._paused += 1
        if self._paused == 1 and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        self._paused -= 1
        if self._paused == 0 and not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self, condition: str = '', text: str = '') -> None:
        """End the stream."""
        self.stream.close(condition, text)

    def _end(self) -> None:
        if self.ended:
            return
        self.ended = True
        self.stream.eof()
        if self._peer is not None:
            self._peer.closed = True
        if self.route is not None and self.route.connection is self:
            self.route.connection = None
            log.info('component gone', domain=self.stream.domain)
            if engine := self.components.router.presence_engine():
                elsewhere.domain_lost(engine, self.stream.domain)
