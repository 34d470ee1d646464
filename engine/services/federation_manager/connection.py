"""One connection between servers: socket and TLS below, a stream of ``engine.xmpp.s2s`` above."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import structlog

from engine.listening import keep_alive
from engine.services.federation_manager.tls import Tls, TlsFailed
from engine.services.xcp_router.remote import Peer, RemoteSender
from engine.xmpp import stanza as xml
from engine.xmpp.cutting import outbound
from engine.xmpp.events import Close, Send, StartTLS
from engine.xmpp.s2s import ServerEvent, ServerStream
from engine.xmpp.stanza import Stanza

if TYPE_CHECKING:
    from engine.services.federation_manager.links import Link
    from engine.services.federation_manager.manager import FederationManager

log = structlog.get_logger(__name__)

HIGH_WATER = 256 * 1024
"""Bytes waiting for a slow server above which stanzas stay in the queue of the link."""
GULP = 128 * 1024
"""After so many bytes at once the others come first."""
STALL_S = 60.0
"""A server that took nothing for so long is gone."""
LINGER_S = 5.0
"""How long a closing connection may take to get rid of its last bytes."""
_NEVER = 1 << 62
"""More bytes than a connection will ever be given."""


class Item(NamedTuple):
    """One stanza on its way out over ``link``."""

    link: Link
    raw: bytes
    failed: Callable[[str, str], None] | None


class ServerConnection(asyncio.Protocol):
    """What both directions share. ``last_stanza`` and ``last_write`` are times of the loop.

    ``give`` writes a stanza and remembers it until the operating system has its bytes: ``unsent`` are those that the
    peer cannot have, for whoever sends them again.
    """

    def __init__(self, manager: FederationManager, server_side: bool) -> None:
        self.manager = manager
        self.server_side = server_side
        self.address = ''
        self.congested = False
        self.stream: ServerStream
        self.tls: Tls | None = None
        self.peer = Peer(manager, set(), self.pause, self.resume)
        self.last_stanza = self.last_write = manager.loop.time()
        self.ended = False
        self._transport: Any = None
        self._out: list[bytes] = []
        self._batch: list[Item] = []
        self._given = 0
        self._unsent: deque[tuple[int, list[Item]]] = deque()
        self._paused = 0
        self._timer: asyncio.TimerHandle | None = None
        self._flushing = False

    # ---- asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TCP is there."""
        self._transport = transport
        self.address = (transport.get_extra_info('peername') or ('?',))[0]
        self._transport.set_write_buffer_limits(high=HIGH_WATER)
        if (found := transport.get_extra_info('socket')) is not None:
            keep_alive(found)
        self.connected()

    def data_received(self, data: bytes) -> None:
        """Bytes from the peer."""
        if self.ended:
            return
        if len(data) >= GULP:
            self.pause()
            self.manager.loop.call_soon(self.resume)
        try:
            if self.tls is not None:
                data = self._decrypt(self.tls, data)
            if data and not self.ended:
                self.stream.receive(data)
        except Exception:
            log.exception('connection failed', address=self.address)
            self.close('internal-server-error')
        if not self.ended and self.tls is not None and self.tls.closed:
            self.close()

    def _decrypt(self, tls: Tls, data: bytes) -> bytes:
        before = tls.established
        try:
            data = tls.feed(data)
        except TlsFailed as error:
            self.manager.counters.s2s_tls_failures += 1
            self._send_now(tls.take())
            self.broken(f'TLS: {error}')
            return b''
        self._send_now(tls.take())
        if tls.established and not before:
            self.stream.tls_established(tls.certificate_error)
        return data

    def eof_received(self) -> None:
        """The peer will send no more; the connection closes."""

    def pause_writing(self) -> None:
        """More than HIGH_WATER bytes wait for this server."""
        self.congested = True
        self._watch(self._transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """The server caught up."""
        self.congested = False
        self._forget_sent()
        if self._timer is not None and not self.ended:
            self._timer.cancel()
            self._timer = None
        if not self.ended:
            self.relieved()

    def connection_lost(self, error: Exception | None) -> None:
        """The socket is gone."""
        if self._timer is not None:
            self._timer.cancel()
        self._end()
        self.lost(str(error) if error else '')
        self.manager.forget(self)

    # ---- writing

    def write(self, data: bytes) -> None:
        """Queue bytes; what was queued goes out once per turn of the loop, in order."""
        self._out.append(data)
        if not self._flushing:
            self._flushing = True
            self.manager.loop.call_soon(self.flush)

    def give(self, item: Item) -> None:
        """Queue a stanza."""
        self._batch.append(item)
        self.last_stanza = self.manager.loop.time()
        self.write(outbound(item.raw))

    def flush(self) -> None:
        """Give what was collected to the transport."""
        self._flushing = False
        out, self._out = self._out, []
        batch, self._batch = self._batch, []
        if not out or self._transport is None or self._transport.is_closing():
            if batch:
                self._unsent.append((_NEVER, batch))
            return
        self.last_write = self.manager.loop.time()
        data = out[0] if len(out) == 1 else b''.join(out)
        if self.tls is not None and self.tls.established:
            try:
                self.tls.write(data)
            except TlsFailed as error:
                self._unsent.append((_NEVER, batch))
                self.broken(f'TLS: {error}')
                return
            data = self.tls.take()
        self._send_now(data)
        if batch and self._transport.get_write_buffer_size():
            self._unsent.append((self._given, batch))

    def _send_now(self, data: bytes) -> None:
        if data and not self._transport.is_closing():
            self._given += len(data)
            self._transport.write(data)

    def _forget_sent(self) -> None:
        if self._unsent and self._transport is not None:
            done = self._given - self._transport.get_write_buffer_size()
            while self._unsent and self._unsent[0][0] <= done:
                self._unsent.popleft()

    def unsent(self) -> list[Item]:
        """Stanzas given to this connection that the peer cannot have whole; after the connection has ended."""
        found = [item for _, batch in self._unsent for item in batch] + self._batch
        self._unsent.clear()
        self._batch = []
        return found

    # ---- reading

    def pause(self) -> None:
        """Stop reading from the peer. Counted."""
        self._paused += 1
        if self._paused == 1 and self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        self._paused -= 1
        if self._paused == 0 and self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    # ---- time

    def arm(self) -> None:
        """Watch the deadline of the stream."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.stream.deadline is not None and not self.ended:
            self._timer = self.manager.loop.call_at(self.stream.deadline, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.stream.tick(self.manager.loop.time())
        if not self.ended and not self.congested:
            self.arm()

    def _watch(self, before: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.manager.loop.call_later(STALL_S, self._stalled, before)

    def _stalled(self, before: int) -> None:
        now = self._transport.get_write_buffer_size()
        if now < before:
            self._watch(now)
            return
        log.info('server takes nothing any more', address=self.address, bytes=now)
        self._forget_sent()
        self._transport.abort()

    # ---- the stream

    def on_event(self, event: ServerEvent) -> None:
        """What the stream asks for. The directions handle the rest."""
        match event:
            case Send():
                self.write(event.data)
            case StartTLS():
                self.flush()
                self.begin_tls(False)
            case Close():
                self._closed(event)

    def begin_tls(self, direct: bool) -> None:
        """The TLS handshake begins now."""
        name = '' if self.server_side else self.server_name()
        self.tls = Tls(self.manager.contexts, self.server_side, name, direct)
        if not self.server_side:
            self.tls.begin()
            self._send_now(self.tls.take())

    def server_name(self) -> str:
        """Initiating side: the name asked for in the handshake."""
        return ''

    def close(self, condition: str = '', text: str = '') -> None:
        """End the stream from our side."""
        if self.tls is not None and not self.tls.established:
            self.broken(text or condition)
        else:
            self.stream.close(condition, text)

    def broken(self, reason: str) -> None:
        """End the connection without a word: there is nobody to talk to."""
        log.debug('connection broken', address=self.address, reason=reason)
        self.reason(reason)
        self._end()
        if self._transport is not None:
            self._transport.abort()

    def reason(self, text: str) -> None:
        """Why the connection ends."""

    def _closed(self, event: Close) -> None:
        if event.condition:
            self.manager.counters.s2s_stream_errors += 1
            log.info('stream error', address=self.address, condition=event.condition, text=event.text)
            self.reason(event.text or event.condition)
        self.flush()
        if self.tls is not None and not self._transport.is_closing():
            self.tls.end()
            self._send_now(self.tls.take())
        self._end()
        if self._timer is not None:
            self._timer.cancel()
        if not self._transport.is_closing():
            self._transport.close()
        self._timer = self.manager.loop.call_later(LINGER_S, self._transport.abort)

    def _end(self) -> None:
        if not self.ended:
            self._forget_sent()
            self.ended = True
            self.peer.closed = True
            self.stream.eof()

    def deliver(self, remote: str, local: str, name: str, attrs: dict[str, str], raw: bytes) -> None:
        """A stanza of a verified pair: to the router."""
        self.last_stanza = self.manager.loop.time()
        self.manager.counters.s2s_in += 1
        stanza = Stanza(name, attrs, raw)
        try:
            sender = RemoteSender(self.peer, stanza)
        except ValueError as error:  # InvalidJID: of another implementation's making, or hostile
            if stanza.type not in ('error', 'result'):
                answer = xml.error(stanza, 'jid-malformed', text=str(error))
                self.manager.send_back(answer, local, remote)
            return
        if not self.manager.router.receive_remote(sender, stanza):
            self.close('invalid-from', 'This stream is not verified for that domain.')

    # ---- for the directions

    def connected(self) -> None:
        """TCP is there."""
        raise NotImplementedError

    def relieved(self) -> None:
        """The peer takes bytes again."""

    def lost(self, reason: str) -> None:
        """The connection is gone."""
