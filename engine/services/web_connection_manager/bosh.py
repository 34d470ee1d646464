"""BOSH sessions between the HTTP connections of a client and the one ``Connection`` behind them.

``BoshTransport`` is to a ``BoshConnection`` what a socket is to other connections: bytes written to it wait for the
client's next request, and count as delivered when the client has shown that it has the response (XEP-0124 9, 14.3).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import structlog

from engine.delivery import Kept
from engine.services.connection_manager.connection import HIGH_WATER, Connection
from engine.services.web_connection_manager.http import WebConnection
from engine.xmpp.bosh import BadBody, Body, BoshSession, parse_body, terminate
from engine.xmpp.c2s import ClientStream, Close
from engine.xmpp.websocket_framing import other_host, undeclared

if TYPE_CHECKING:
    from engine.services.web_connection_manager.manager import WebConnectionManager

log = structlog.get_logger(__name__)

XML = 'text/xml; charset=utf-8'


class BoshConnection(Connection):
    """The connection of one BOSH session, whatever TCP connections its requests come over."""

    __slots__ = ()
    _low_level_limit = HIGH_WATER
    manager: WebConnectionManager

    def write(self, data: bytes) -> None:
        """Queue elements for the client."""
        if b'<see-other-host' in data and (host := other_host(data)):
            self._transport.uri = self.manager.bosh_url(host)
        if encoded := self._transport.session.encode(data):
            super().write(Kept(encoded) if type(data) is Kept else encoded)

    def _stanza(self, data: bytes) -> bytes:
        return undeclared(data)

    def when_flushed(self, callback: Callable[[bool], None]) -> None:
        """As in Connection; here 'taken' means that the client has it."""
        loop = self.manager.loop
        if self._ended:
            loop.call_soon(callback, False)
            return
        self.flush()
        if self._marks is None:
            self._marks = []
        self._marks.append((self._given, callback))
        loop.call_soon(self.check_marks)

    def _look_later(self) -> None:
        """The session tells when the client has more, see ``BoshTransport.delivered``."""

    def _watch_progress(self, before: int) -> None:
        """A client that stays away too long ends by the inactivity of its session."""

    def _new_stream(self) -> ClientStream:
        return ClientStream(self.manager.bosh_settings, self._on_event, self.manager.loop.time())

    def _close(self, event: Close) -> None:
        self._transport.condition = event.condition
        super()._close(event)


class BoshTransport(asyncio.Transport):
    """The virtual socket of one session, and what its ``BoshSession`` asks for (xmpp/bosh.py Host)."""

    def __init__(self, manager: WebConnectionManager, address: str) -> None:
        super().__init__({'peername': (address, 0)})
        self.manager = manager
        self.session = BoshSession(secrets.token_urlsafe(24), manager.terms, self)
        self.connection = BoshConnection(manager, False)
        self.condition = ''
        self.uri = ''
        self._closing = False
        self._lost = False
        self._high = 65536
        self._full = False
        self._timer: asyncio.TimerHandle | None = None
        self._due: float | None = None

    # ---- requests

    def open(self, body: Body, request: WebConnection) -> None:
        """The request that begins the session."""
        self.connection.connection_made(self)
        if self._closing:
            request.answer(terminate('policy-violation'), XML)
            return
        stream = self.connection._stream
        assert stream is not None
        if request.direct:
            stream.tls_established({})
        self.manager.sessions[self.session.sid] = self
        request.held_by = self
        self.session.open(body, request, self._now())
        self._schedule()

    def receive(self, body: Body, request: WebConnection) -> None:
        """A further request."""
        request.held_by = self
        self.session.receive(body, request, self._now())
        if self.connection._notes:
            self.session.press(self._now())
        self._schedule()

    def refuse(self, request: WebConnection) -> None:
        """A request that names the session and cannot be read: the session ends (XEP-0124 17.2)."""
        self.session.break_off('bad-request', request)
        self._schedule()

    def hurry(self, request: WebConnection) -> None:
        """Another request waits behind this one on the same connection."""
        self.session.hurry(request, self._now())
        self._schedule()

    def lost(self, request: WebConnection) -> None:
        """The connection of a waiting request broke."""
        self.session.lost(request, self._now())
        self._schedule()

    # ---- Host

    def feed(self, data: bytes) -> None:
        """Bytes of the client for its stream."""
        self.connection.data_received(data)

    def answer(self, request: WebConnection, body: bytes, content: str, status: int) -> None:
        """A response is ready."""
        request.answer(body, content, status)
        if self._full and self.session.waiting <= self._high // 4:
            self._full = False
            self.connection.resume_writing()

    def drop(self, request: WebConnection) -> None:
        """The client repeated this request."""
        request.drop()

    def delivered(self) -> None:
        """The client has more than before."""
        self.connection.check_marks()

    def ended(self, condition: str) -> None:
        """The session is over for the client."""
        if condition:
            log.debug('BOSH session ended', address=self.connection.address, condition=condition)
        self.manager.sessions.pop(self.session.sid, None)
        self._lose()

    # ---- asyncio.Transport

    def write(self, data: Any) -> None:
        """Bytes for the client."""
        self.session.write(bytes(data), self._now())
        if not self._full and self.session.waiting > self._high:
            self._full = True
            self.connection.pause_writing()
        self._schedule()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """When the client counts as slow."""
        self._high = high or 0

    def get_write_buffer_size(self) -> int:
        """Bytes the client may not have."""
        return self.session.undelivered

    def is_closing(self) -> bool:
        """Whether the end was asked for."""
        return self._closing

    def pause_reading(self) -> None:
        """Work on no further request."""
        self.session.hold_back(True, self._now())

    def resume_reading(self) -> None:
        """Work on requests again, what waited first."""
        self.session.hold_back(False, self._now())
        self._schedule()

    def close(self) -> None:
        """The stream has ended: the client is told with its next response, if it comes for it."""
        if not self._closing:
            self._closing = True
            self.session.close(self.condition, self._now(), self.uri)
            self._lose()
            self._schedule()

    def abort(self) -> None:
        """End at once."""
        if not self._closing:
            self._closing = True
            self.session.abandon()
            self._lose()

    # ---- the parts

    def _now(self) -> float:
        return self.manager.loop.time()

    def _lose(self) -> None:
        self._closing = True
        if not self._lost:
            self._lost = True
            self.manager.loop.call_soon(self.connection.connection_lost, None)

    def _schedule(self) -> None:
        due = self.session.deadline
        if due == self._due and self._timer is not None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._due = due
        self._timer = None if due is None else self.manager.loop.call_at(due, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.session.tick(self._now())
        self._schedule()


def on_request(manager: WebConnectionManager, request: WebConnection, data: bytes) -> None:
    """One POST to the BOSH address."""
    try:
        body = parse_body(data, manager.settings.limits.stanza_bytes)
    except BadBody as problem:
        log.debug('BOSH request refused', address=request.address, error=str(problem))
        transport = manager.sessions.get(problem.sid)
        if transport is not None:
            transport.refuse(request)
        else:
            request.answer(terminate('bad-request'), XML)
        return
    sid = body.attrs.get('sid')
    transport = manager.sessions.get(sid) if sid is not None else None
    if sid is not None and transport is None:
        request.answer(terminate('item-not-found'), XML, 200)
    elif body.rid < 0:
        if transport is not None:
            transport.refuse(request)
        else:
            request.answer(terminate('bad-request'), XML)
    elif transport is not None:
        transport.receive(body, request)
    else:
        BoshTransport(manager, request.address).open(body, request)
