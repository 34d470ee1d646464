"""A small HTTP/1.1 server for requests without a body (RFC 9112), parsed by h11."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qs, unquote

import h11

HEAD_BYTES: Final = 8 * 1024
"""Request line and headers."""
METHODS: Final = ('GET', 'HEAD', 'PUT')


@dataclass(frozen=True, slots=True)
class Request:
    """One request. ``path``: its parts, decoded; ``query``: the first value of each name."""

    method: str
    path: tuple[str, ...]
    query: dict[str, str]
    headers: dict[str, str]
    address: str


@dataclass(frozen=True, slots=True)
class Response:
    """One answer."""

    status: int
    body: str
    headers: tuple[tuple[str, str], ...] = field(default=())


class Unreadable(Exception):
    """What came is no request that is answered here: the status to close with, and why."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


Answer = Callable[[Request], Awaitable[Response]]
Refusal = Callable[[int, str], Response]


async def serve(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    address: str,
    answer: Answer,
    refusal: Refusal,
    patience_s: float,
) -> None:
    """Answer the requests of one connection in turn. It ends when the client leaves, breaks the rules, or lets
    ``patience_s`` seconds pass before its next request is complete or an answer is taken."""
    http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES)
    while True:
        method = 'GET'
        try:
            async with asyncio.timeout(patience_s):
                found = await _next(http, reader)
            if found is None:
                return
            request = _understood(found, address)
            method = request.method
            response = await answer(request)
        except TimeoutError:
            return
        except h11.RemoteProtocolError as error:
            response = refusal(error.error_status_hint, 'The request is not valid HTTP.')
        except Unreadable as error:
            response = refusal(error.status, str(error))
        last = http.their_state is not h11.DONE
        if not _answerable(http):
            return
        async with asyncio.timeout(patience_s):
            writer.write(_bytes(http, response, method, last))
            await writer.drain()
        if last or http.our_state is not h11.DONE:
            return
        http.start_next_cycle()


def _answerable(http: h11.Connection) -> bool:
    """Whether a response may still be begun: not after a client that spoke no HTTP at all."""
    return http.our_state in (h11.IDLE, h11.SEND_RESPONSE)


async def _next(http: h11.Connection, reader: asyncio.StreamReader) -> h11.Request | None:
    """The next complete request; None when the client is gone."""
    request = None
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(await reader.read(HEAD_BYTES))
        elif isinstance(event, h11.Request):
            request = event
            if any(name == b'transfer-encoding' or (name == b'content-length' and value != b'0')
                   for name, value in event.headers):  # fmt: skip
                raise Unreadable(413, 'Requests have no body here.')
        elif isinstance(event, h11.EndOfMessage):
            return request
        else:  # ConnectionClosed
            return None


def _understood(found: h11.Request, address: str) -> Request:
    method = found.method.decode('ascii')
    if method not in METHODS:
        raise Unreadable(405, 'Send GET, HEAD or PUT.')
    path, _, query = found.target.decode('latin-1').partition('?')
    if not path.startswith('/'):
        raise Unreadable(400, 'The request target must be a path.')
    headers = {name.decode('latin-1'): value.decode('latin-1') for name, value in found.headers}
    try:
        parts = tuple(unquote(part, errors='strict') for part in path.strip('/').split('/'))
        values = parse_qs(query, errors='strict', max_num_fields=20)
    except ValueError:
        raise Unreadable(400, 'The address is not UTF-8.') from None
    return Request(method, parts, {name: found[0] for name, found in values.items()}, headers, address)


def _bytes(http: h11.Connection, response: Response, method: str, last: bool) -> bytes:
    body = response.body.encode()
    headers = [
        ('Date', formatdate(time.time(), usegmt=True)),
        ('Content-Type', 'application/xml; charset=utf-8'),
        ('Content-Length', str(len(body))),
        ('Cache-Control', 'no-store'),
        ('X-Content-Type-Options', 'nosniff'),
        *response.headers,
        *([('Connection', 'close')] if last else []),
    ]
    reason = HTTPStatus(response.status).phrase.encode()
    data = http.send(h11.Response(status_code=response.status, headers=headers, reason=reason)) or b''
    if method != 'HEAD':
        data += http.send(h11.Data(data=body)) or b''
    return data + (http.send(h11.EndOfMessage()) or b'')
