"""A client cheap enough to load three servers: raw XMPP on uvloop, TLS or plain, SCRAM-SHA-1, no XML parser."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import ssl
from collections.abc import Callable, Sequence

PASSWORD = 'bench'
WAIT_S = 60.0
_salted: dict[tuple[bytes, int], bytes] = {}


def tls_context() -> ssl.SSLContext:
    """Trusts everyone: what is measured is the server."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _salted_password(salt: bytes, iterations: int) -> bytes:
    key = (salt, iterations)
    if key not in _salted:
        _salted[key] = hashlib.pbkdf2_hmac('sha1', PASSWORD.encode(), salt, iterations)
    return _salted[key]


class Client(asyncio.Protocol):
    """One client. Before ``on_data`` is set, ``ask`` reads; then every piece of bytes goes to ``on_data``."""

    __slots__ = ('_needle', '_seen', '_waiter', 'domain', 'jid', 'on_data', 'transport', 'user')

    def __init__(self, user: str, domain: str) -> None:
        self.user = user
        self.domain = domain
        self.jid = f'{user}@{domain}/r'
        self.on_data: Callable[[bytes], None] | None = None
        self._seen = b''
        self._needle = b''
        self._waiter: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TLS is up."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Bytes of the server."""
        if self.on_data is not None:
            self.on_data(data)
            return
        self._seen += data
        if self._waiter is None or self._waiter.done():
            return
        if self._needle in self._seen:
            self._waiter.set_result(self._seen)
        elif b'<failure' in self._seen or b'<stream:error' in self._seen:
            self._waiter.set_exception(ConnectionError(f'{self.jid}: refused, {self._seen[-300:]!r}'))

    def connection_lost(self, error: Exception | None) -> None:
        """The end."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(ConnectionError(f'{self.jid}: closed, last {self._seen[-300:]!r}'))

    async def ask(self, text: str, needle: bytes) -> bytes:
        """Send, then wait until ``needle`` was seen. Raises ConnectionError, TimeoutError."""
        self._seen, self._needle, self.on_data = b'', needle, None
        self._waiter = asyncio.get_running_loop().create_future()
        self.transport.write(text.encode())
        try:
            return await asyncio.wait_for(self._waiter, WAIT_S)
        except TimeoutError:
            raise TimeoutError(f'{self.jid}: no {needle!r} in {self._seen[-300:]!r}') from None

    async def login(self, port: int, context: ssl.SSLContext | None) -> None:
        """Direct TLS (``context`` None: plain), SCRAM-SHA-1, bind, roster, presence."""
        loop = asyncio.get_running_loop()
        name = self.domain if context else None
        await loop.create_connection(lambda: self, '127.0.0.1', port, ssl=context, server_hostname=name)
        header = (
            f"<?xml version='1.0'?><stream:stream to='{self.domain}' version='1.0' xmlns='jabber:client'"
            " xmlns:stream='http://etherx.jabber.org/streams'>"
        )
        await self.ask(header, b'</stream:features>')
        await self._scram()
        await self.ask(header, b'</stream:features>')
        bind = "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>r</resource></bind>"
        await self.ask(f"<iq type='set' id='b'>{bind}</iq>", b'</iq>')
        await self.ask("<iq type='get' id='roster'><query xmlns='jabber:iq:roster'/></iq>", b'roster')
        await self.ask('<presence/>', b'<presence')

    async def _scram(self) -> None:
        """RFC 5802 without channel binding; the derived key is kept for the next client with the same salt."""
        first = f'n={self.user},r=bench{self.user}'
        start = base64.b64encode(f'n,,{first}'.encode()).decode()
        sasl = "xmlns='urn:ietf:params:xml:ns:xmpp-sasl'"
        answer = await self.ask(f"<auth {sasl} mechanism='SCRAM-SHA-1'>{start}</auth>", b'</challenge>')
        challenge = base64.b64decode(answer.split(b'</challenge>')[0].rpartition(b'>')[2]).decode()
        fields = dict(part.split('=', 1) for part in challenge.split(','))
        salted = _salted_password(base64.b64decode(fields['s']), int(fields['i']))
        key = hmac.digest(salted, b'Client Key', 'sha1')
        final = f'c=biws,r={fields["r"]}'
        signature = hmac.digest(hashlib.sha1(key).digest(), f'{first},{challenge},{final}'.encode(), 'sha1')  # noqa: S324 - the mechanism
        proof = base64.b64encode(bytes(a ^ b for a, b in zip(key, signature, strict=True))).decode()
        response = base64.b64encode(f'{final},p={proof}'.encode()).decode()
        await self.ask(f'<response {sasl}>{response}</response>', b'<success')

    async def ping(self) -> None:
        """An answer from the server: it has dealt with what was sent before."""
        await self.ask(f"<iq type='get' id='p' to='{self.domain}'><ping xmlns='urn:xmpp:ping'/></iq>", b'<iq')

    @property
    def seen(self) -> bytes:
        """What came since the last question."""
        return self._seen

    def close(self) -> None:
        """End the stream."""
        self.on_data = _ignore
        self.transport.write(b'</stream:stream>')
        self.transport.close()


class Counter:
    """Counts a needle in a stream of pieces, also where two pieces meet. An error stanza is never what was measured."""

    __slots__ = ('_needle', '_tail', 'total')

    def __init__(self, needle: bytes) -> None:
        self.total = 0
        self._needle = needle
        self._tail = b''

    def count(self, data: bytes) -> int:
        """How many ended in this piece."""
        if b'<error' in data:
            raise ConnectionError(f'the server answered with an error: {data[:500]!r}')
        data = self._tail + data
        found = data.count(self._needle)
        self._tail = data[1 - len(self._needle) :]
        self.total += found
        return found


def _ignore(data: bytes) -> None:
    pass


async def login_all(clients: Sequence[Client], port: int, tls: bool = True, parallel: int = 50) -> None:
    """Sign everyone in, ``parallel`` at a time. Raises what the first failure raises."""
    context = tls_context() if tls else None
    waiting = iter(clients)

    async def work() -> None:
        for client in waiting:
            await client.login(port, context)

    await asyncio.gather(*(work() for _ in range(parallel)))
