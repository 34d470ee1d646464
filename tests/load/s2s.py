"""The other servers of the scenario *s2s*: ten domains that speak just enough of RFC 6120 and XEP-0220 (dialback) to
exchange messages with a server under test, the same for each of them. Keys are not checked: nothing here is protected.

``zone()`` is the name server all servers are told to ask; it knows the ten domains, all at ``PORT`` of 127.0.0.1.
"""

from __future__ import annotations

import asyncio
import functools
import re
import secrets
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.fixtures.federation import Zone
from tests.load.client import tls_context

PORT = 28722
DOMAINS = tuple(f'remote{number}.example.org' for number in range(10))
WAIT_S = 20.0
_ATTRIBUTE = re.compile(rb"\b(from|to|id|type)\s*=\s*(?:'([^']*)'|\"([^\"]*)\")")
_HEADER = re.compile(rb'<stream:stream[^>]*>')
_DIALBACK = re.compile(rb'<db:(result|verify)\b([^>]*)>')
_STARTTLS = b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
_PROCEED = b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"


@functools.cache
def zone() -> Zone:
    """Answers as long as this process lives. ejabberd takes addresses from the C library, hence localhost."""
    made = Zone()
    for domain in DOMAINS:
        made.server(domain, (5, 0, PORT, 'localhost'))
    return made


def _attributes(text: bytes) -> dict[str, str]:
    return {key.decode(): (one or other).decode() for key, one, other in _ATTRIBUTE.findall(text)}


def _header(sender: str, to: str, identity: str = '') -> str:
    number = f" id='{identity}'" if identity else ''
    return (
        f"<?xml version='1.0'?><stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams'"
        f" xmlns:db='jabber:server:dialback' version='1.0' from='{sender}' to='{to}'{number}>"
    )


class Stream(asyncio.Protocol):
    """What both directions share: bytes gathered in ``seen`` until ``on_data`` takes them."""

    def __init__(self, remotes: Remotes) -> None:
        self.remotes = remotes
        self.seen = b''
        self.changed = asyncio.Event()
        self.ended = False
        self.on_data: Callable[[bytes], None] | None = None
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TCP, later TLS."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Bytes of the server under test."""
        if self.on_data is not None:
            self.on_data(data)
            return
        self.seen += data
        self.changed.set()

    def connection_lost(self, error: Exception | None) -> None:
        """The end."""
        self.ended = True
        self.remotes.streams.discard(self)
        self.changed.set()

    async def until(self, needle: re.Pattern[bytes]) -> re.Match[bytes]:
        """Wait, and drop what was read up to there. Raises ConnectionError."""
        while (found := needle.search(self.seen)) is None:
            if self.ended or b'<stream:error' in self.seen:
                raise ConnectionError(f'no {needle.pattern!r}: {self.seen[-400:]!r}')
            self.changed.clear()
            await self.changed.wait()
        self.seen = self.seen[found.end() :]
        return found

    async def secure(self, context: ssl.SSLContext, server_side: bool) -> None:
        """STARTTLS was agreed."""
        self.seen = b''
        self.transport = await asyncio.get_running_loop().start_tls(
            self.transport, self, context, server_side=server_side, server_hostname=None if server_side else 'localhost'
        )
        self.transport.resume_reading()


class Accepted(Stream):
    """A stream the server under test made: it proves a pair of domains, asks for keys, and sends messages."""

    def __init__(self, remotes: Remotes) -> None:
        super().__init__(remotes)
        self.domain = ''
        self.secured = False
        self._head = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember it for the end."""
        super().connection_made(transport)
        self.remotes.streams.add(self)

    def data_received(self, data: bytes) -> None:
        """Messages go to the scenario; everything else is answered at once."""
        if self.domain and b'<db:' not in data and not self.seen:
            self.remotes.on_data(self.domain, data)
            return
        self.seen += data
        if b'<stream:error' in self.seen:
            self.remotes.problem = self.seen[-400:].decode(errors='replace')
        if not self._head:
            found = _HEADER.search(self.seen)
            if found is None:
                return
            self.seen = self.seen[found.end() :]
            self._answer_header(_attributes(found.group()))
        if b'<starttls' in self.seen:
            context, self._head, self.secured = self.remotes.server_context, False, True
            assert context is not None
            self.transport.write(_PROCEED)
            self.transport.pause_reading()
            self.remotes.spawn(self.secure(context, True))
            return
        while found := _DIALBACK.search(self.seen):
            # A result has a key as content, up to its end tag; a verify too.
            end = self.seen.find(b'</db:' + found.group(1) + b'>', found.end())
            if end < 0:
                return
            self._answer_dialback(found.group(1).decode(), _attributes(found.group(2)))
            self.seen = self.seen[end + len(found.group(1)) + 6 :]
        if self.domain and self.seen:
            data, self.seen = self.seen, b''
            self.remotes.on_data(self.domain, data)

    def _answer_header(self, attributes: dict[str, str]) -> None:
        self._head = True
        starttls = _STARTTLS.decode() if self.remotes.server_context is not None and not self.secured else ''
        dialback = "<dialback xmlns='urn:xmpp:features:dialback'><errors/></dialback>"
        header = _header(attributes['to'], attributes.get('from', self.remotes.local), secrets.token_hex(8))
        self.transport.write(f'{header}<stream:features>{starttls}{dialback}</stream:features>'.encode())

    def _answer_dialback(self, kind: str, attributes: dict[str, str]) -> None:
        number = f" id='{attributes['id']}'" if kind == 'verify' else ''
        if kind == 'result' and self.secured != (self.remotes.server_context is not None):
            self.remotes.problem = 'The server does not use STARTTLS.'
            self.transport.abort()
            return
        if kind == 'result':
            self.domain = attributes['to']
        text = f"<db:{kind} from='{attributes['to']}' to='{attributes['from']}'{number} type='valid'/>"
        self.transport.write(text.encode())


class Remotes:
    """All ten domains, accepting and initiating. ``on_data(domain, bytes)`` gets what a server sends to one of them
    after it has proved itself. ``certificate``: with TLS, that of the listener at ``port`` (PEM). ``problem`` is what
    went wrong, if known."""

    def __init__(self, local: str, certificate: Path | None, port: int = PORT) -> None:
        self.local = local
        self.port = port
        self.server_context: ssl.SSLContext | None = None
        if certificate is not None:
            self.server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            self.server_context.load_cert_chain(certificate)
        self.on_data: Callable[[str, bytes], None] = lambda domain, data: None
        self.streams: set[Stream] = set()
        self.problem = ''
        self.out: dict[str, Stream] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server

    async def start(self, port: int) -> None:
        """Listen, and connect every domain to the server at ``port``. Raises ConnectionError, TimeoutError."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Accepted(self), '127.0.0.1', self.port)
        for domain in DOMAINS:
            stream = Stream(self)
            await loop.create_connection(lambda stream=stream: stream, '127.0.0.1', port)  # type: ignore[misc]
            self.streams.add(stream)
            try:
                await asyncio.wait_for(self._prove(stream, domain), WAIT_S)
            except TimeoutError:
                raise TimeoutError(f'{domain} is not let in: {stream.seen[-400:]!r} {self.problem}') from None
            self.out[domain] = stream

    async def _prove(self, stream: Stream, domain: str) -> None:
        header = _header(domain, self.local).encode()
        features = re.compile(rb'</stream:features>|<stream:features/>')
        stream.transport.write(header)
        await stream.until(features)
        if self.server_context is not None:
            stream.transport.write(_STARTTLS)
            await stream.until(re.compile(rb'<proceed[^>]*>'))
            await stream.secure(tls_context(), False)
            stream.transport.write(header)
            await stream.until(features)
        key = secrets.token_hex(16)
        stream.transport.write(f"<db:result from='{domain}' to='{self.local}'>{key}</db:result>".encode())
        found = await stream.until(re.compile(rb'<db:result[^>]*>'))
        if _attributes(found.group()).get('type') != 'valid':
            raise ConnectionError(f'{domain} is refused: {found.group()!r} {stream.seen[-300:]!r}')

    def spawn(self, work: Any) -> None:
        """Run a coroutine and keep it alive."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Close everything."""
        self._server.close()
        for stream in list(self.streams):
            stream.transport.write(b'</stream:stream>')
            stream.transport.close()
        await asyncio.sleep(0.1)
