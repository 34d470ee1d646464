"""One HTTP connection of a web client: BOSH requests, discovery, or the WebSocket it becomes (RFC 9112, RFC 6455).

HTTP is parsed by h11, WebSocket frames by the sans-io part of ``websockets``. Everything below (TLS, limits per
address, flushing, back-pressure) and above (sign-in, session, end) is the Connection Manager's ``Connection``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
import time
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlsplit

import h11
import structlog
from websockets.exceptions import PayloadTooBig
from websockets.frames import CloseCode, Opcode
from websockets.protocol import Protocol as Frames
from websockets.protocol import Side, State

from engine.delivery import Kept
from engine.services.connection_manager.connection import Connection
from engine.services.connection_manager.encrypting import LINGER_S
from engine.services.web_connection_manager import discovery
from engine.xmpp.c2s import Authenticated, ClientStream, Close, Event
from engine.xmpp.parser import StreamError
from engine.xmpp.websocket_framing import Framing, undeclared

if TYPE_CHECKING:
    from engine.services.web_connection_manager.manager import WebConnectionManager

log = structlog.get_logger(__name__)

HEAD_BYTES: Final = 16 * 1024
"""Request line and headers."""
KEEP_ALIVE_S: Final = 75.0
"""How long a connection may be idle between two requests: longer than a BOSH client stays away."""
TEXT_FRAME: Final = 0x81
"""First byte of a text message in one frame (RFC 6455 5.2)."""
GUID: Final = b'258EAFA5-E914-47DA-95CA-C5AB0DC85B11'
SUBPROTOCOL: Final = 'xmpp'
ALLOWED: Final = {'bosh': 'POST, OPTIONS', 'websocket': 'GET', 'discovery': 'GET, HEAD, OPTIONS'}
Headers = list[tuple[str, str]]


class Holder(Protocol):
    """Who holds a request and will answer it: a BOSH session."""

    def hurry(self, request: WebConnection) -> None:
        """Another request waits behind this one on the same connection."""

    def lost(self, request: WebConnection) -> None:
        """The connection broke before the request was answered."""


class WebConnection(Connection):
    """One connection. It begins as HTTP; after an upgrade it is the connection of one WebSocket client.

    ``held_by`` is the BOSH session that has to answer the request under way; it calls ``answer`` or ``drop``.
    """

    __slots__ = (
        '_body', '_busy', '_deadline', '_frames', '_framing', '_http', '_leaving', '_message', '_queued', '_request',
        'held_by', 'origin',
    )  # fmt: skip
    manager: WebConnectionManager

    def __init__(self, manager: WebConnectionManager, direct: bool) -> None:
        super().__init__(manager, direct)
        self._http: h11.Connection | None = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES)
        self._request: h11.Request | None = None
        self._body = bytearray()
        self._busy = False
        """A complete request is being answered."""
        self._queued = 0
        """Bytes that came while busy."""
        self._leaving = False
        self._deadline: float | None = None
        self._frames: Frames | None = None
        self._framing: Framing | None = None
        self._message: bytearray | None = None
        """The text message whose fragments are coming."""
        self.held_by: Holder | None = None
        self.origin = ''
        """Allowed origin of the page behind the request under way, '' for none."""

    # ---- of Connection

    def connection_made(self, transport: Any) -> None:
        """A client connected. It has to send its first request in the time a client has to sign in."""
        self._deadline = self.manager.loop.time() + self.manager.settings.limits.before_auth_s
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Bytes from the client, after TLS."""
        if self._early is not None:
            super().data_received(data)
        elif self._ended:
            return
        else:
            try:
                if self._frames is not None:
                    self._frames_received(data)
                elif self._http is not None:
                    self._http_received(self._http, data)
            except Exception:
                log.exception('web connection failed', address=self.address)
                self.abort()

    def write(self, data: bytes) -> None:
        """Queue what stream or session say, as WebSocket messages."""
        if self._framing is not None:
            for message in self._framing.encode(data):
                frame = _text_frame(message)
                super().write(Kept(frame) if type(data) is Kept else frame)

    def _stanza(self, data: bytes) -> bytes:
        if not data or data[0] != TEXT_FRAME:
            return b''
        return undeclared(data[{126: 4, 127: 10}.get(data[1], 2) :])

    def close(self, condition: str | None = None, text: str = '') -> None:
        """End: an XMPP stream as such, plain HTTP after the response under way."""
        if self._frames is not None:
            super().close(condition, text)
        elif not self._ended:
            self._leaving = True
            if not self._busy and self._may_steer():
                self._hang_up()

    def connection_lost(self, error: Exception | None) -> None:
        """The socket is gone."""
        super().connection_lost(error)
        holder, self.held_by = self.held_by, None
        if holder is not None:
            holder.lost(self)
        self._http = self._frames = None

    def resume_writing(self) -> None:
        """The client caught up."""
        super().resume_writing()
        if not self._ended:
            self._arm()

    def _arm(self) -> None:
        if self._http is None:
            super()._arm()
            return
        self._cancel_timer()
        if self._deadline is not None and not self.congested:
            self._timer = self.manager.loop.call_at(self._deadline, self._tick)

    def _tick(self) -> None:
        if self._http is None:
            super()._tick()
            return
        self._timer = None
        if self._early is None and (self._queued or self._http.their_state is not h11.IDLE):
            self._refuse(408, 'The request did not come in time.')
        else:
            self.abort()

    def _on_event(self, event: Event) -> None:
        if self._frames is None:
            return  # the stream that waits for the end of the TLS handshake
        super()._on_event(event)
        if isinstance(event, Authenticated) and self._framing is not None:
            self._framing.restart()
            self._frames.max_message_size = self.manager.settings.limits.stanza_bytes

    def _close(self, event: Close) -> None:
        frames = self._frames
        if frames is not None:
            if frames.state is State.OPEN:
                frames.send_close(CloseCode.NORMAL_CLOSURE)
            Connection.write(self, b''.join(frames.data_to_send()))
        super()._close(event)

    # ---- HTTP

    def _http_received(self, http: h11.Connection, data: bytes) -> None:
        self._queued += len(data)
        if self._busy:
            if data and self._queued > HEAD_BYTES:
                self.pause()  # for good: nobody needs so much on one connection at once
            http.receive_data(data)
            if self.held_by is not None:
                self.held_by.hurry(self)
            return
        if self._request is None and self._queued == len(data):
            self._deadline = self.manager.loop.time() + self.manager.settings.limits.before_auth_s
            self._arm()
        http.receive_data(data)
        self._proceed()

    def _proceed(self) -> None:
        """Handle what has come, up to the next complete request."""
        http = self._http
        try:
            while http is not None and not self._busy and self._may_steer():
                event = http.next_event()
                if event is h11.NEED_DATA or event is h11.PAUSED:
                    if http.they_are_waiting_for_100_continue:
                        self._transport.write(
                            http.send(h11.InformationalResponse(status_code=100, headers=[], reason=b'Continue'))
                        )
                    return
                if isinstance(event, h11.Request):
                    self._request = event
                    if problem := self._framing_problem(event):
                        self._refuse(*problem)
                        return
                elif isinstance(event, h11.Data):
                    self._body += event.data
                    if len(self._body) > self.manager.most_body:
                        self._refuse(413, f'A request may have at most {self.manager.most_body} bytes.')
                        return
                elif isinstance(event, h11.EndOfMessage):
                    self._complete(http)
                else:  # ConnectionClosed
                    self._hang_up()
                    return
        except h11.RemoteProtocolError as error:
            self._refuse(error.error_status_hint, f'The request is not valid HTTP: {error}.')

    def _framing_problem(self, request: h11.Request) -> tuple[int, str] | None:
        """What makes the end of this request doubtful or too far away (request smuggling, RFC 9112 11.2)."""
        if len(request.target) + sum(len(name) + len(value) + 4 for name, value in request.headers) > HEAD_BYTES:
            return 431, f'Request line and headers may have at most {HEAD_BYTES} bytes.'  # h11 counts incomplete ones
        lengths = [value for name, value in request.headers if name == b'content-length']
        coded = any(name == b'transfer-encoding' for name, _ in request.headers)
        if coded and (lengths or request.http_version < b'1.1'):
            return 400, 'Content-Length and Transfer-Encoding exclude each other.'
        if lengths and int(lengths[0]) > self.manager.most_body:
            return 413, f'A request may have at most {self.manager.most_body} bytes.'
        if not request.target.startswith(b'/') and request.target != b'*':
            return 400, 'The request target must be a path.'
        return None

    def _complete(self, http: h11.Connection) -> None:
        request = self._request
        assert request is not None
        self._busy, self._deadline, self._queued = True, None, len(http.trailing_data[0])
        self._cancel_timer()
        self.manager.counters.web_requests += 1
        path = request.target.partition(b'?')[0].decode('latin-1').rstrip('/') or '/'
        place = self.manager.places.get(path)
        method = request.method.decode('ascii')
        headers = {name.decode('latin-1'): value.decode('latin-1') for name, value in request.headers}
        self.origin = ''
        if place is None:
            self.respond(404, 'There is nothing here.')
        elif method not in ALLOWED['discovery' if place.startswith('/') else place].split(', '):
            self.respond(405, 'Method not allowed.', [('Allow', ALLOWED.get(place, ALLOWED['discovery']))])
        elif place.startswith('/'):
            self._discover(place, method)
        elif not self._origin_allowed(headers):
            self.respond(403, f'Pages of {headers.get("origin", "")[:200]} may not connect here (Allowed origins).')
        elif method == 'OPTIONS':
            asked = [
                ('Access-Control-Allow-Methods', ALLOWED['bosh']),
                ('Access-Control-Allow-Headers', 'Content-Type'),
                ('Access-Control-Max-Age', '86400'),
            ]
            self.respond(204, '', asked)
        elif place == 'bosh':
            body, self._body = bytes(self._body), bytearray()
            self.manager.on_bosh(self, body)
        else:
            self._upgrade(http, request, headers)

    def _discover(self, place: str, method: str) -> None:
        shared = [('Access-Control-Allow-Origin', '*'), ('Cache-Control', 'public, max-age=300')]
        if method == 'OPTIONS':
            self.respond(204, '', [*shared, ('Access-Control-Allow-Methods', ALLOWED['discovery'])])
            return
        kind, text = discovery.DOCUMENTS[place](self.manager.bosh_url(), self.manager.websocket_url())
        self.respond(200, text, shared, kind)

    def _origin_allowed(self, headers: dict[str, str]) -> bool:
        """Whether the page that sends this may talk to us. Without Origin it is no page (or one of ours)."""
        origin = headers.get('origin')
        if origin is None:
            return True
        allowed = self.manager.origins
        if not ('*' in allowed or origin.lower() in allowed or self._same_host(origin, headers.get('host', ''))):
            self.manager.counters.web_refused += 1
            return False
        self.origin = origin
        return True

    def _same_host(self, origin: str, host: str) -> bool:
        try:
            page, own = urlsplit(origin), urlsplit(f'//{host}')
            same = page.hostname is not None and page.hostname == own.hostname
        except ValueError:
            return False
        return same and (page.scheme == 'https' or (page.scheme == 'http' and not self.direct))

    # ---- responses

    def answer(self, body: bytes, content: str, status: int = 200) -> None:
        """The response to a BOSH request."""
        self.held_by = None
        self.respond(status, body, [('Cache-Control', 'no-store')], content)

    def drop(self) -> None:
        """The client has repeated this request elsewhere: it listens here no more."""
        self.held_by = None
        self._hang_up()

    def respond(
        self, status: int, body: str | bytes, headers: Headers | None = None, kind: str = 'text/plain; charset=utf-8'
    ) -> None:
        """Answer the request under way and go on with the next one."""
        http = self._http
        if http is None or self._ended or not self._may_steer():
            return
        content = body.encode() if isinstance(body, str) else body
        given: Headers = [('Date', _date()), ('X-Content-Type-Options', 'nosniff'), *(headers or ())]
        if self.origin:
            given += [('Access-Control-Allow-Origin', self.origin), ('Vary', 'Origin')]
        if status != 204:
            given += [('Content-Length', str(len(content))), ('Content-Type', kind)]
        if self._leaving:
            given.append(('Connection', 'close'))
        reason = HTTPStatus(status).phrase.encode()
        data = http.send(h11.Response(status_code=status, headers=given, reason=reason)) or b''
        if content and status != 204 and (self._request is None or self._request.method != b'HEAD'):
            data += http.send(h11.Data(data=content)) or b''
        data += http.send(h11.EndOfMessage()) or b''
        self.manager.counters.bytes_out += len(data)
        self._transport.write(data)
        self._busy, self._request = False, None
        self._body.clear()
        if self._leaving or http.our_state is not h11.DONE or http.their_state is not h11.DONE:
            self._hang_up()
            return
        http.start_next_cycle()
        self._deadline = self.manager.loop.time() + KEEP_ALIVE_S
        self._arm()
        if self._queued:
            self._deadline = self.manager.loop.time() + self.manager.settings.limits.before_auth_s
            self.manager.loop.call_soon(self._proceed)

    def _refuse(self, status: int, text: str) -> None:
        """Answer what cannot be understood or may not go on, and end the connection."""
        self.manager.counters.web_refused += 1
        self._leaving = True
        http = self._http
        if http is not None and http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self.origin = ''
            self.respond(status, f'{text}\n')
        else:
            self._hang_up()

    def _hang_up(self) -> None:
        self._leaving = True
        if self._transport.is_closing():
            return
        self._transport.close()
        self._cancel_timer()
        self._timer = self.manager.loop.call_later(LINGER_S, self.abort)

    # ---- WebSocket

    def _upgrade(self, http: h11.Connection, request: h11.Request, headers: dict[str, str]) -> None:
        """RFC 6455 4.2, with the subprotocol of RFC 7395 3.1."""

        def listed(name: str) -> list[str]:
            return [one.strip() for one in headers.get(name, '').split(',')]

        if 'websocket' not in map(str.lower, listed('upgrade')) or 'upgrade' not in map(
            str.lower, listed('connection')
        ):
            self.respond(426, 'This address is for WebSocket connections.', [('Upgrade', 'websocket')])
        elif headers.get('sec-websocket-version') != '13':
            self.respond(426, 'WebSocket version 13 is needed.', [('Sec-WebSocket-Version', '13')])
        elif not _is_key(headers.get('sec-websocket-key', '')):
            self.respond(400, 'Sec-WebSocket-Key is not right.')
        elif SUBPROTOCOL not in listed('sec-websocket-protocol'):
            self.respond(400, f'The WebSocket subprotocol {SUBPROTOCOL!r} is needed (RFC 7395).')
        else:
            digest = hashlib.sha1(headers['sec-websocket-key'].encode() + GUID, usedforsecurity=False).digest()
            accepted = [
                ('Upgrade', 'websocket'),
                ('Connection', 'Upgrade'),
                ('Sec-WebSocket-Accept', base64.b64encode(digest).decode()),
                ('Sec-WebSocket-Protocol', SUBPROTOCOL),
            ]
            data = http.send(
                h11.InformationalResponse(status_code=101, headers=accepted, reason=b'Switching Protocols')
            )
            self._transport.write(data)
            self._begin_websocket(http.trailing_data[0])

    def _begin_websocket(self, rest: bytes) -> None:
        limits = self.manager.settings.limits
        self._http = self._request = None
        self._body = bytearray()
        self._frames = Frames(Side.SERVER, max_size=limits.before_auth_bytes)
        self._framing = Framing(limits.stanza_bytes, self.manager.websocket_url)
        if self._stream is not None:
            self._stream.eof()
        self._stream = self._new_stream()
        if self.direct:
            # No channel binding: behind a proxy with a certificate of its own it would refuse honest clients.
            self._stream.tls_established({})
        self.manager.counters.websockets += 1
        self._arm()
        if rest:
            self._frames_received(rest)

    def _frames_received(self, data: bytes) -> None:
        frames = self._frames
        assert frames is not None
        frames.receive_data(data)
        for frame in frames.events_received():
            if self._ended or not self._message_complete(frame):
                continue
            message, self._message = bytes(self._message or b''), None
            self._message_received(message)
        if self._ended or self._frames is None:
            return
        if (failure := frames.parser_exc) is not None:
            if isinstance(failure, PayloadTooBig):
                self.close('policy-violation', f'A message may have at most {frames.max_message_size} bytes.')
            else:
                log.debug('WebSocket failed', address=self.address, error=str(failure))
        if data := b''.join(frames.data_to_send()):
            Connection.write(self, data)
        if frames.state is not State.OPEN and not self._ended:
            # The other side closed without <close/>, or broke the rules: like a broken connection.
            self.flush()
            self._hang_up()

    def _message_complete(self, frame: Any) -> bool:
        """Collect the fragments of a text message (RFC 6455 5.4)."""
        if frame.opcode is Opcode.BINARY:
            assert self._frames is not None
            self._frames.fail(CloseCode.UNSUPPORTED_DATA, 'XMPP is text (RFC 7395).')
            return False
        if frame.opcode not in (Opcode.TEXT, Opcode.CONT):
            return False
        if self._message is None:
            self._message = bytearray()
        self._message += frame.data
        return bool(frame.fin)

    def _message_received(self, message: bytes) -> None:
        frames, framing, stream = self._frames, self._framing, self._stream
        assert frames is not None
        if framing is None or stream is None or frames.close_sent is not None:
            return
        try:
            if not message.isascii():
                message.decode()
            data = framing.decode(message)
        except UnicodeDecodeError:
            frames.fail(CloseCode.INVALID_DATA, 'not UTF-8')
            return
        except StreamError as error:
            stream.close(error.condition, error.text)
            return
        super().data_received(data)

    def _new_stream(self) -> ClientStream:
        return ClientStream(self.manager.settings, self._on_event, self.manager.loop.time())


def _text_frame(message: bytes) -> bytes:
    """An unmasked text frame (RFC 6455 5.2)."""
    size = len(message)
    if size < 126:
        return bytes((TEXT_FRAME, size)) + message
    if size < 65536:
        return struct.pack('!BBH', TEXT_FRAME, 126, size) + message
    return struct.pack('!BBQ', TEXT_FRAME, 127, size) + message


def _is_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False


def _date() -> str:
    return formatdate(time.time(), usegmt=True)
