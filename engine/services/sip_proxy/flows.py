"""The ways to SIP peers: one connection over TCP or TLS, one address over UDP.

A client is only ever spoken to over the flow it opened itself (as RFC 5626): no address out of a message is looked up
or connected to, so nobody can make a node send somewhere, and clients behind address translation are reached.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, Final

import structlog

from engine.sip.framing import PONG, Framing
from engine.sip.message import BadMessage, read

if TYPE_CHECKING:
    from engine.services.sip_proxy.service import SipProxy

log = structlog.get_logger(__name__)

MOST_BEHIND: Final = 1024 * 1024
"""Bytes a connection may wait for its peer to take before it is cut."""
UDP_BYTES: Final = 1300
"""Largest request over UDP (RFC 3261 18.1.1, RFC 3428 8)."""
STRANGER_BYTES: Final = 1300
"""Largest body of a request that will be refused."""
KEEPALIVES: Final = (b'', b'\x00', b'\r\n', b'\r\n\r\n')
PENDING: Final = 64
"""Requests of one flow that may wait their turn; a connection is read no further, datagrams are dropped."""


class Flow:
    """One way to one peer. ``identities``: the users in its certificate. ``local``: host and port for Via."""

    transport = 'UDP'
    reliable = False
    secure = False

    def __init__(self, proxy: SipProxy, address: str, port: int, local: str) -> None:
        self.proxy = proxy
        self.address = address
        self.port = port
        self.local = local
        self.identities: frozenset[str] = frozenset()
        self.closed = False
        self.waiting = 0
        """Requests that wait their turn."""
        self.asked = 0
        """Bytes of the last datagram."""

    @property
    def key(self) -> Hashable:
        """Two flows with the same key are the same way."""
        return self

    def send(self, data: bytes, port: int = 0) -> None:
        """Send one message; ``port``: another one at the same address (UDP only)."""
        raise NotImplementedError

    def pause(self) -> None:
        """Read no further. Counted."""

    def resume(self) -> None:
        """Read again."""

    def close(self) -> None:
        """End the connection, where there is one, after what was sent."""


class UdpFlow(Flow):
    """Datagrams to and from one address."""

    def __init__(self, listener: UdpListener, address: str, port: int) -> None:
        super().__init__(listener.proxy, address, port, listener.local)
        self._listener = listener

    @property
    def key(self) -> Hashable:
        """The address."""
        return ('UDP', self.address, self.port)

    def send(self, data: bytes, port: int = 0) -> None:
        """See Flow."""
        self._listener.send(data, (self.address, port or self.port))


class UdpListener(asyncio.DatagramProtocol):
    """The UDP port."""

    def __init__(self, proxy: SipProxy, local: str) -> None:
        self.proxy = proxy
        self.local = local
        self._transport: Any = None
        self._flows: dict[tuple[str, int], UdpFlow] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The port is open."""
        self._transport = transport

    def send(self, data: bytes, to: tuple[str, int]) -> None:
        """One datagram."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(data, to)

    def datagram_received(self, data: bytes, peer: tuple[Any, ...]) -> None:
        """One datagram. A flow is remembered only while requests of it wait their turn."""
        if data in KEEPALIVES:
            return
        key = (peer[0], peer[1])
        flow = self._flows.get(key)
        if flow is None or not flow.waiting:
            self._flows.pop(key, None)
            flow = UdpFlow(self, *key)
        try:
            message = read(data, self.proxy.max_body)
        except BadMessage as problem:
            log.debug('datagram not readable', address=peer[0], reason=problem.reason)
            return
        if flow.waiting >= PENDING:
            return
        flow.asked = len(data)
        self.proxy.receive(flow, message)
        if flow.waiting:
            self._flows[key] = flow

    def close(self) -> None:
        """Close the port."""
        if self._transport is not None:
            self._transport.close()


class StreamFlow(Flow, asyncio.Protocol):
    """One connection over TCP or TLS."""

    reliable = True

    def __init__(self, proxy: SipProxy, address: str, port: int, local: str, transport: str) -> None:
        Flow.__init__(self, proxy, address, port, local)
        self.transport = transport
        self.secure = transport == 'TLS'
        self._framing = Framing(STRANGER_BYTES)
        self._stranger = True
        """Nothing it says is listened to: it gets no more room and time than its refusal needs."""
        self._transport: Any = None
        self._paused = 0
        self._loop = asyncio.get_running_loop()
        self._heard = self._began = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self.gone = self._loop.create_future()
        """Done when the connection has ended."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TCP, and TLS where it is used, are there."""
        self._transport = transport
        if self.secure:
            self.identities = self.proxy.trust.users_of(transport)
        if self.identities or self.proxy.trust.listed(self.address, self.transport) is not False:
            self._stranger = False
            self._framing = Framing(self.proxy.max_body)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Bytes from the peer."""
        if self.closed:
            return
        self._heard = self._loop.time()
        if self._framing.idle:
            self._began = self._heard
        try:
            messages = self._framing.feed(data)
        except BadMessage as problem:
            log.info('SIP connection closed', address=self.address, reason=problem.reason)
            self.close()
            return
        if self._framing.pings:
            self._framing.pings = 0
            self.send(PONG)
        if messages:
            self._began = self._heard
        for message in messages:
            self.proxy.receive(self, message)

    def connection_lost(self, error: Exception | None) -> None:
        """The connection has ended."""
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        if not self.gone.done():
            self.gone.set_result(None)
        self.proxy.flow_lost(self)

    def send(self, data: bytes, port: int = 0) -> None:
        """See Flow."""
        if self.closed or self._transport.is_closing():
            return
        self._transport.write(data)
        if self._transport.get_write_buffer_size() > MOST_BEHIND:
            log.info('SIP peer takes nothing any more', address=self.address)
            self._transport.abort()

    def pause(self) -> None:
        """See Flow."""
        self._paused += 1
        if self._paused == 1 and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """See Flow."""
        self._paused -= 1
        if self._paused == 0 and not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self) -> None:
        """See Flow."""
        self.closed = True
        if self._transport is not None:
            self._transport.close()

    def _watch(self) -> None:
        """Close a connection that does not get on with a request, or that nobody uses."""
        now = self._loop.time()
        request, idle = self.proxy.timeouts
        late = not self._framing.idle and now - self._began > request
        patience = request if self._stranger else idle
        unused = now - self._heard > patience and not self.proxy.registered_over(self)
        if (late or unused) and not self._paused:
            self.close()
            self._timer = self._loop.call_later(2, self._transport.abort)
            return
        self._timer = self._loop.call_later(min(request, idle) / 2, self._watch)
