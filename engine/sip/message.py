"""SIP messages: reading with strict limits and writing (RFC 3261 7 and 25).

Every limit is checked before the work it bounds, and each step is linear in the size of the head. What is read is text
in UTF-8; header names are compared in lower case, compact forms (RFC 3261 7.3.3) by their long names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

HEAD_BYTES: Final = 16 * 1024
"""Start line and headers together."""
HEADERS: Final = 100
"""Header lines after unfolding."""
BODY_BYTES: Final = 64 * 1024
VERSION: Final = 'SIP/2.0'
_COMPACT: Final = {
    'a': 'accept-contact', 'b': 'referred-by', 'c': 'content-type', 'e': 'content-encoding', 'f': 'from',
    'i': 'call-id', 'k': 'supported', 'l': 'content-length', 'm': 'contact', 'o': 'event', 'r': 'refer-to',
    's': 'subject', 't': 'to', 'u': 'allow-events', 'v': 'via',
}  # fmt: skip
_ONCE: Final = frozenset(
    (
        'call-id', 'content-encoding', 'content-length', 'content-type', 'cseq', 'event', 'expires', 'from',
        'max-forwards', 'sip-etag', 'sip-if-match', 'subject', 'subscription-state', 'to',
    )
)  # fmt: skip
_SPELLED: Final = {'call-id': 'Call-ID', 'cseq': 'CSeq', 'sip-etag': 'SIP-ETag', 'sip-if-match': 'SIP-If-Match'}
_TOKEN: Final = re.compile(r"[A-Za-z0-9.!%*_+`'~-]{1,64}")
_REQUEST: Final = re.compile(r"([A-Za-z0-9.!%*_+`'~-]{1,32}) ([^ \t]{1,2048}) (SIP/[0-9]{1,3}\.[0-9]{1,3})", re.I)
_STATUS: Final = re.compile(r'SIP/2\.0 ([1-6][0-9]{2}) ([^\r\n]*)', re.I)
_CONTROL: Final = re.compile('[\x00-\x08\x0a-\x1f\x7f]')
_FOLD: Final = re.compile(r'\r\n[ \t]+')
_NUMBER: Final = re.compile('[0-9]{1,10}')

REASONS: Final = {
    200: 'OK', 202: 'Accepted', 302: 'Moved Temporarily', 400: 'Bad Request', 403: 'Forbidden', 404: 'Not Found',
    405: 'Method Not Allowed', 406: 'Not Acceptable', 408: 'Request Timeout', 410: 'Gone',
    412: 'Conditional Request Failed', 413: 'Request Entity Too Large', 415: 'Unsupported Media Type',
    416: 'Unsupported URI Scheme', 420: 'Bad Extension', 423: 'Interval Too Brief', 480: 'Temporarily Unavailable',
    481: 'Call/Transaction Does Not Exist', 483: 'Too Many Hops', 486: 'Busy Here', 488: 'Not Acceptable Here',
    489: 'Bad Event', 500: 'Server Internal Error', 501: 'Not Implemented', 503: 'Service Unavailable',
    504: 'Server Time-out', 505: 'Version Not Supported', 513: 'Message Too Large',
}  # fmt: skip


class BadMessage(Exception):
    """What came is no message that can be worked with: the status to answer with, and why."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Headers:
    """Header lines in their order; names in lower case."""

    __slots__ = ('lines',)

    def __init__(self, lines: Iterable[tuple[str, str]] = ()) -> None:
        self.lines: list[tuple[str, str]] = list(lines)

    def get(self, name: str) -> str:
        """The first value, '' without one."""
        return next((value for key, value in self.lines if key == name), '')

    def all(self, name: str) -> list[str]:
        """Every value, in order; several in one line count one by one."""
        return [one for key, value in self.lines if key == name for one in split(value)]

    def add(self, name: str, value: str) -> None:
        """One more line. Raises ValueError for a value that would not be one line."""
        if _CONTROL.search(value):
            raise ValueError(f'a control character in the header {name}')
        self.lines.append((name, value))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Headers) and other.lines == self.lines

    __hash__ = None  # type: ignore[assignment]


@dataclass(slots=True)
class Request:
    """One request. ``uri`` is the Request-URI as it was written."""

    method: str
    uri: str
    headers: Headers = field(default_factory=Headers)
    body: bytes = b''

    def encode(self) -> bytes:
        """The bytes to send."""
        return _encode(f'{self.method} {self.uri} {VERSION}', self.headers, self.body)


@dataclass(slots=True)
class Response:
    """One response."""

    status: int
    reason: str = ''
    headers: Headers = field(default_factory=Headers)
    body: bytes = b''

    def encode(self) -> bytes:
        """The bytes to send."""
        reason = self.reason or REASONS.get(self.status, '')
        return _encode(f'{VERSION} {self.status} {reason}', self.headers, self.body)


def _encode(first: str, headers: Headers, body: bytes) -> bytes:
    named = ((_SPELLED.get(name) or name.title(), value) for name, value in headers.lines if name != 'content-length')
    lines = [first, *(f'{name}: {value}' for name, value in named)]
    lines.append(f'Content-Length: {len(body)}\r\n\r\n')
    return '\r\n'.join(lines).encode() + body


def read_head(head: bytes) -> Request | Response:
    """A message without its body from start line and headers, without the empty line at their end. Raises
    BadMessage."""
    if len(head) > HEAD_BYTES:
        raise BadMessage(513, f'The headers have more than {HEAD_BYTES} bytes')
    try:
        text = head.decode()
    except UnicodeDecodeError:
        raise BadMessage(400, 'The headers are not UTF-8') from None
    first, *lines = _FOLD.sub(' ', text).split('\r\n')
    if len(lines) > HEADERS:
        raise BadMessage(513, f'There are more than {HEADERS} headers')
    headers = Headers(map(_header, lines))
    names = [name for name, _ in headers.lines]
    for name in _ONCE.intersection(names):
        if names.count(name) > 1:
            raise BadMessage(400, f'The header {name} is there more than once')
    if match := _STATUS.fullmatch(first):
        if _CONTROL.search(match[2]):
            raise BadMessage(400, 'The reason has a control character')
        return Response(int(match[1]), match[2], headers)
    match = _REQUEST.fullmatch(first)
    if match is None or _CONTROL.search(match[2]):
        raise BadMessage(400, 'The first line is neither a request nor a status')
    if match[3].upper() != VERSION:
        raise BadMessage(505, 'Only SIP/2.0 is spoken here')
    return Request(match[1], match[2], headers)


def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(':')
    name = name.rstrip(' \t').lower()
    if not colon or not _TOKEN.fullmatch(name):
        raise BadMessage(400, 'A header has no valid name')
    if _CONTROL.search(value):
        raise BadMessage(400, f'The header {name} has a control character')
    return _COMPACT.get(name, name), value.strip(' \t')


def body_length(message: Request | Response) -> int | None:
    """Content-Length, None without one. Raises BadMessage."""
    text = message.headers.get('content-length')
    if not text:
        return None
    if not _NUMBER.fullmatch(text):
        raise BadMessage(400, 'Content-Length is no number')
    return int(text)


def read(data: bytes, most: int = BODY_BYTES) -> Request | Response:
    """The message in one datagram. Without Content-Length the body goes to its end; what is longer is cut off
    (RFC 3261 18.3). Raises BadMessage."""
    head, found, body = data.lstrip(b'\r\n').partition(b'\r\n\r\n')
    if not found:
        raise BadMessage(400, 'The headers do not end')
    message = read_head(head)
    size = body_length(message)
    if size is not None:
        if size > len(body):
            raise BadMessage(400, 'The body is shorter than Content-Length says')
        body = body[:size]
    if len(body) > most:
        raise BadMessage(413, f'The body has more than {most} bytes')
    message.body = body
    return message


def split(value: str) -> list[str]:
    """The parts of a list separated by commas; commas in quotes and angle brackets do not count."""
    if ',' not in value:
        return [value.strip()] if value.strip() else []
    parts, start, quoted, angle, skip = [], 0, False, False, False
    for index, char in enumerate(value):
        if skip:
            skip = False
        elif quoted:
            skip = char == '\\'
            quoted = char != '"'
        elif char == '"':
            quoted = True
        elif char in '<>':
            angle = char == '<'
        elif char == ',' and not angle:
            parts.append(value[start:index].strip())
            start = index + 1
    parts.append(value[start:].strip())
    return [part for part in parts if part]


def number(headers: Headers, name: str) -> int | None:
    """The whole number in a header, None when the header is not there. Raises BadMessage."""
    text = headers.get(name)
    if not text:
        return None
    if not _NUMBER.fullmatch(text):
        raise BadMessage(400, f'The header {name} is no number')
    return int(text)
