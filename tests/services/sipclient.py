"""A SIP client of the tests: plain sockets and text, nothing of the engine's own SIP."""

from __future__ import annotations

import itertools
import socket
import ssl
from email.message import Message
from email.parser import BytesParser

_NUMBERS = itertools.count(1)


class SipMessage:
    """One message: first line, headers, body."""

    def __init__(self, data: bytes) -> None:
        head, _, self.body = data.partition(b'\r\n\r\n')
        self.first, _, rest = head.partition(b'\r\n')
        self.headers: Message = BytesParser().parsebytes(rest + b'\r\n\r\n')

    @property
    def status(self) -> int:
        """Of a response."""
        return int(self.first.split()[1])

    @property
    def method(self) -> str:
        """Of a request."""
        return self.first.split()[0].decode()

    @property
    def text(self) -> str:
        """The body."""
        return self.body.decode()

    def __getitem__(self, name: str) -> str:
        return str(self.headers[name] or '')

    def __repr__(self) -> str:
        return f'{self.first!r} {self.headers.items()} {self.body!r}'


class SipClient:
    """One user over one flow. ``transport``: UDP, TCP or TLS."""

    def __init__(
        self, address: str, port: int, transport: str = 'TCP', context: ssl.SSLContext | None = None, bind: str = ''
    ) -> None:
        self.address, self.transport = address, transport
        self.user, _, self.domain = address.rpartition('@')
        kind = socket.SOCK_DGRAM if transport == 'UDP' else socket.SOCK_STREAM
        self.socket = socket.socket(socket.AF_INET, kind)
        self.socket.settimeout(20)
        if bind:
            self.socket.bind((bind, 0))
        self.socket.connect(('127.0.0.1', port))
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_hostname='127.0.0.1')
        self.host = '{}:{}'.format(*self.socket.getsockname())
        self.call_id = f'call{next(_NUMBERS)}@{self.host}'
        self.tag = f'tag{next(_NUMBERS)}'
        self.cseq = 0
        self.waiting: list[SipMessage] = []
        self._buffer = b''

    def send(self, data: bytes) -> None:
        """Raw bytes."""
        self.socket.sendall(data)

    def compose(self, method: str, uri: str, body: str = '', **headers: str) -> bytes:
        """A request of the user to ``uri``; ``headers`` replace or add, '' leaves one out."""
        self.cseq += 1
        wanted = {
            'Via': f'SIP/2.0/{self.transport} {self.host};branch=z9hG4bK{next(_NUMBERS)};rport',
            'From': f'<sip:{self.address}>;tag={self.tag}', 'To': f'<{uri}>', 'Call-ID': self.call_id,
            'CSeq': f'{self.cseq} {method}', 'Max-Forwards': '70',
        }  # fmt: skip
        if body:
            wanted['Content-Type'] = 'text/plain;charset=utf-8'
        wanted |= {name.replace('_', '-'): value for name, value in headers.items()}
        wanted['Content-Length'] = str(len(body.encode()))
        lines = [f'{method} {uri} SIP/2.0', *(f'{name}: {value}' for name, value in wanted.items() if value)]
        return ('\r\n'.join(lines) + '\r\n\r\n' + body).encode()

    def request(self, method: str, uri: str, body: str = '', **headers: str) -> SipMessage:
        """Send a request; its answer. Requests that come meanwhile wait in ``waiting``."""
        self.send(self.compose(method, uri, body, **headers))
        while not (found := self.receive()).first.startswith(b'SIP/'):
            self.waiting.append(found)
        return found

    def register(self, expires: int = 3600, **headers: str) -> SipMessage:
        """REGISTER this flow."""
        contact = f'<sip:{self.user}@{self.host};transport={self.transport.lower()}>'
        wanted = {'To': f'<sip:{self.address}>', 'Contact': contact, 'Expires': str(expires)}
        return self.request('REGISTER', f'sip:{self.domain}', **(wanted | headers))

    def say(self, to: str, text: str, **headers: str) -> SipMessage:
        """MESSAGE; its answer."""
        return self.request('MESSAGE', f'sip:{to}', text, **headers)

    def expect(self, method: str, status: int = 200, **headers: str) -> SipMessage:
        """The next request; it is answered with ``status`` (0: not)."""
        found = self.waiting.pop(0) if self.waiting else self.receive()
        assert found.method == method, found
        if status:
            self.answer(found, status, **headers)
        return found

    def answer(self, found: SipMessage, status: int, **headers: str) -> None:
        """Answer a request."""
        lines = [f'SIP/2.0 {status} Answer']
        lines += [f'{name}: {found[name]}' for name in ('Via', 'From', 'To', 'Call-ID', 'CSeq')]
        lines += [f'{name}: {value}' for name, value in headers.items()]
        self.send(('\r\n'.join(lines) + '\r\nContent-Length: 0\r\n\r\n').encode())

    def receive(self) -> SipMessage:
        """The next message. TimeoutError when none comes, ConnectionError when the server closed."""
        if self.transport == 'UDP':
            return SipMessage(self.socket.recv(65536))
        while True:
            head, end, rest = self._buffer.partition(b'\r\n\r\n')
            if end and head:
                size = int(SipMessage(head + end)['Content-Length'])
                if len(rest) >= size:
                    self._buffer = rest[size:]
                    return SipMessage(head + end + rest[:size])
            more = self.socket.recv(65536)
            if not more:
                raise ConnectionError('the server closed the connection')
            self._buffer += more

    def close(self) -> None:
        """End it."""
        self.socket.close()
