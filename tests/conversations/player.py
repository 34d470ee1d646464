"""Playing a conversation with raw clients over TLS against a server that runs already."""

from __future__ import annotations

import base64
import contextlib
import socket
import ssl
import time
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element, ParseError, XMLPullParser, tostring

from tests.conversations.script import Conversation, Mistake, Step, element, filled, fits
from tests.fixtures.tls import trusting

STREAMS = '{http://etherx.jabber.org/streams}'
WAIT_S = 20.0
HEADER = (
    "<?xml version='1.0'?><stream:stream to='{domain}' version='1.0' xmlns='jabber:client'"
    " xmlns:stream='http://etherx.jabber.org/streams'>"
)


@dataclass
class Peer:
    """A server under test. ``rename`` makes a user of a file one of the server's."""

    name: str
    port: int
    domain: str
    password: str
    prefix: str = ''

    def user(self, name: str) -> str:
        """Localpart of a person of the file at this server."""
        return f'{name}{self.prefix}'


class Failed(AssertionError):
    """The conversation went another way."""


class RawClient:
    """One client: a socket, and what was received and not yet taken."""

    def __init__(self, peer: Peer, name: str, user: str, resource: str) -> None:
        self.peer, self.name, self.resource = peer, name, resource
        self.local = peer.user(user)
        self.bare = f'{self.local}@{peer.domain}'
        self.jid = f'{self.bare}/{resource}'
        self.received: list[Element] = []
        self.closed = True
        self.bound = False
        self._socket: socket.socket | None = None
        self._parser, self._depth = XMLPullParser(('start', 'end')), 0
        self._pings = 0

    # connection

    def connect(self, how: str) -> None:
        """'': sign in and bind. 'tcp': nothing but TCP. 'tls': STARTTLS is done, no new stream header was sent.
        'stream': as tls, with a stream opened. 'signed-in': up to the features after SASL."""
        self.received, self.closed, self.bound = [], False, False
        raw = socket.create_connection(('127.0.0.1', self.peer.port), 5)
        self._socket = raw
        if how == 'tcp':
            self._read_on()
            return
        raw.settimeout(10)
        raw.sendall(self._header())
        _until(raw, b'</stream:features>')
        raw.sendall(b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
        _until(raw, b'<proceed')
        self._socket = trusting().wrap_socket(raw, server_hostname=self.peer.domain)
        if how == 'tls':
            self._read_on()
            return
        self._socket.sendall(self._header())
        if how == 'stream':
            self._read_on()
            return
        _until(self._socket, b'</stream:features>')
        token = base64.b64encode(f'\0{self.local}\0{self.peer.password}'.encode()).decode()
        self._socket.sendall(
            f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{token}</auth>".encode()
        )
        _until(self._socket, b'<success')
        self._socket.sendall(self._header())
        self._read_on()
        self.expect(element('<stream:features/>'), {})
        if how == 'signed-in':
            return
        self.send(
            f"<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>"
            f'<resource>{self.resource}</resource></bind></iq>'
        )
        self.expect(element("<iq type='result' id='bind'/>"), {})
        self.received = [one for one in self.received if one.tag != f'{STREAMS}stream']
        self.bound = True

    def _header(self) -> bytes:
        return HEADER.format(domain=self.peer.domain).encode()

    def _read_on(self) -> None:
        self._parser, self._depth = XMLPullParser(('start', 'end')), 0

    def _pull(self, timeout: float) -> None:
        """Read what has come, waiting at most ``timeout``. No thread reads: a TLS connection of this Python is not for
        two at once."""
        assert self._socket is not None
        self._socket.settimeout(max(timeout, 0.001))
        try:
            data = self._socket.recv(65536)
        except (TimeoutError, ssl.SSLWantReadError):
            return
        except OSError:
            data = b''
        if not data:
            self.closed = True
            return
        self._parser.feed(data)
        with contextlib.suppress(ParseError):
            for event, one in self._parser.read_events():
                self._depth += 1 if event == 'start' else -1
                if event == 'start' and self._depth == 1:
                    self.received.append(Element(one.tag, dict(one.attrib)))
                elif event == 'end' and self._depth == 1:
                    self.received.append(one)

    def breaks(self) -> None:
        """Cut the connection."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None
        self.bound = False

    def leaves(self) -> None:
        """End the stream, wait for the end of the other side."""
        self.send('</stream:stream>')
        self.wait_closed()

    # stanzas

    def send(self, text: str) -> None:
        """Send characters."""
        assert self._socket is not None
        with contextlib.suppress(OSError):
            self._socket.settimeout(WAIT_S)
            self._socket.sendall(text.encode())

    def expect(self, pattern: Element, names: dict[str, str]) -> dict[str, str]:
        """Take the first received element that fits; the names learned."""
        deadline = time.monotonic() + WAIT_S
        while True:
            for one in self.received:
                learned = fits(pattern, one, names)
                if learned is not None:
                    self.received.remove(one)
                    return learned
            left = deadline - time.monotonic()
            if left <= 0 or self.closed or self._socket is None:
                raise Failed(f'{self.name} did not receive it; received and not taken:{self.shown()}')
            self._pull(left)

    def shown(self) -> str:
        """What was received and not taken."""
        return ''.join(f'\n    {_short(one)}' for one in self.received) or ' nothing'

    def wait_closed(self) -> None:
        """Wait until the server has closed the connection."""
        deadline = time.monotonic() + WAIT_S
        while not self.closed:
            if time.monotonic() > deadline:
                raise Failed(f'the connection of {self.name} is open; received:{self.shown()}')
            self._pull(deadline - time.monotonic())
        self.bound = False

    def barrier(self) -> None:
        """Everything sent so far was worked on, everything it caused here has arrived."""
        self._pings += 1
        number = f'barrier-{self.name}-{self._pings}'
        self.send(f"<iq type='get' id='{number}' to='{self.peer.domain}'><ping xmlns='urn:xmpp:ping'/></iq>")
        self.expect(element(f"<iq id='{number}'/>"), {})


def _until(source: socket.socket, needle: bytes) -> bytes:
    seen = b''
    while needle not in seen or not seen.endswith(b'>'):
        data = source.recv(65536)
        if not data:
            raise Failed(f'closed before {needle!r}: {seen!r}')
        seen += data
    return seen


def _short(one: Element) -> str:
    return tostring(one, encoding='unicode')[:500]


@dataclass
class Play:
    """One performance. ``run`` raises Failed with file and line."""

    conversation: Conversation
    peer: Peer
    names: dict[str, str] = field(default_factory=dict)

    def run(self) -> None:
        """Every step, in order."""
        clients = {
            name: RawClient(self.peer, name, user, resource)
            for name, (user, resource) in self.conversation.clients.items()
        }
        self.names['domain'] = self.peer.domain
        for name, client in clients.items():
            self.names |= {name: client.jid, f'{name}.bare': client.bare, f'{name}.local': client.local}
        try:
            for step in self.conversation.steps:
                if step.peer in ('', self.peer.name):
                    try:
                        self._step(step, clients)
                    except (Failed, Mistake, OSError) as error:
                        where = f'{self.conversation.path.name}:{step.line}: {step.who} {step.verb} {step.what}'
                        raise Failed(f'{where}\n  at {self.peer.name}: {error}') from None
        finally:
            for client in clients.values():
                client.breaks()

    def _step(self, step: Step, clients: dict[str, RawClient]) -> None:
        client = clients[step.who]
        match step.verb:
            case 'connects':
                client.connect(step.what)
            case 'breaks':
                client.breaks()
            case 'leaves':
                client.leaves()
            case 'closed':
                client.wait_closed()
            case '->':
                client.send(filled(step.what, self.names))
            case '>>':
                client.send(filled(step.what, self.names))
            case '<-' if step.what == 'nothing':
                for other in clients.values():
                    if other.bound and other is not client:
                        other.barrier()
                client.barrier()
                if client.received:
                    raise Failed(f'received:{client.shown()}')
            case '<-':
                self.names |= client.expect(element(step.what), self.names)
