"""A client made of a socket: says exactly the given bytes, for tests of what a real client library would never send."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import socket
import ssl
import time
from pathlib import Path

from tests.fixtures.tls import trusting

STREAM = (
    b"<?xml version='1.0'?><stream:stream to='example.com' version='1.0' xmlns='jabber:client'"
    b" xmlns:stream='http://etherx.jabber.org/streams'>"
)


def scram_proof(algorithm: str, password: str, bound: str, first: str, challenge: str | bytes) -> str:
    """The client's final message of SCRAM in base64. ``bound`` is the channel binding and ``challenge`` the server's
    message, both in base64; ``first`` is what the client began with, without its header."""
    text = base64.b64decode(challenge).decode()
    parts = dict(part.split('=', 1) for part in text.split(','))
    salted = hashlib.pbkdf2_hmac(algorithm, password.encode(), base64.b64decode(parts['s']), int(parts['i']))
    key = hmac.digest(salted, b'Client Key', algorithm)
    final = f'c={bound},r={parts["r"]}'
    signed = hmac.digest(hashlib.new(algorithm, key).digest(), f'{first},{text},{final}'.encode(), algorithm)
    proof = base64.b64encode(bytes(a ^ b for a, b in zip(key, signed, strict=True))).decode()
    return base64.b64encode(f'{final},p={proof}'.encode()).decode()


class RawClient:
    """One connection. ``read_until`` and ``read_all`` return what came, as bytes; everything is kept in ``seen``."""

    def __init__(
        self, port: int, tls: bool = False, certificate: Path | None = None, source: str = '127.0.0.1'
    ) -> None:
        """``certificate``: PEM file with key and certificate to show; ``source``: the address to come from."""
        self.certificate = certificate
        self.socket: socket.socket = socket.create_connection(('127.0.0.1', port), 20, (source, 0))
        self.socket.settimeout(20)
        self.seen = b''
        if tls:
            self.wrap()

    def wrap(self) -> None:
        """TLS from here on."""
        self.socket = trusting(self.certificate).wrap_socket(self.socket, server_hostname='example.com')

    def send(self, data: bytes) -> RawClient:
        """Send; errors of a connection the server has closed are no concern here."""
        with contextlib.suppress(OSError):
            self.socket.sendall(data)
        return self

    def read_until(self, needle: bytes, timeout_s: float = 20) -> bytes:
        """Read until ``needle`` has come; fails when it does not."""
        deadline = time.monotonic() + timeout_s
        start = len(self.seen)
        while needle not in self.seen[start:]:
            assert time.monotonic() < deadline, f'{needle!r} not in {self.seen[start:]!r}'
            self.socket.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                data = self.socket.recv(65536)
            except TimeoutError:
                continue
            assert data, f'closed before {needle!r}: {self.seen[start:]!r}'
            self.seen += data
        return self.seen[start:]

    def read_all(self, timeout_s: float = 20) -> bytes:
        """Read until the server closes; fails when it does not in time."""
        start = len(self.seen)
        self.socket.settimeout(timeout_s)
        while True:
            try:
                data = self.socket.recv(65536)
            except TimeoutError:
                raise AssertionError(f'not closed after {self.seen[start:]!r}') from None
            except (ConnectionResetError, ssl.SSLError):
                return self.seen[start:]
            if not data:
                return self.seen[start:]
            self.seen += data

    def starttls(self) -> RawClient:
        """Open a stream, negotiate TLS, open the stream again up to its features."""
        self.send(STREAM).read_until(b'</stream:features>')
        self.send(b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").read_until(b'<proceed')
        self.wrap()
        self.send(STREAM).read_until(b'</stream:features>')
        return self

    def plain(self, user: str, password: str) -> bytes:
        """Try SASL PLAIN; the answer."""
        token = base64.b64encode(f'\0{user}\0{password}'.encode())
        self.send(b"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>%b</auth>" % token)
        return self.read_until(b'>')

    def scram(self, mechanism: str, user: str, password: str, binding: bytes = b'') -> bytes:
        """SCRAM-*-PLUS with tls-server-end-point; ``binding`` replaces the true hash. The last answer."""
        assert isinstance(self.socket, ssl.SSLSocket)
        algorithm = 'sha256' if '256' in mechanism else 'sha1'
        certificate = self.socket.getpeercert(binary_form=True)
        assert certificate is not None
        header = b'p=tls-server-end-point,,'
        bound = base64.b64encode(header + (binding or hashlib.sha256(certificate).digest())).decode()
        first = f'n={user},r=abcdefgh'
        start = base64.b64encode(header + first.encode()).decode()
        sasl = "xmlns='urn:ietf:params:xml:ns:xmpp-sasl'"
        answer = self.send(f"<auth {sasl} mechanism='{mechanism}'>{start}</auth>".encode()).read_until(b'</challenge>')
        challenge = answer.partition(b'>')[2].partition(b'<')[0]
        done = scram_proof(algorithm, password, bound, first, challenge)
        return self.send(f'<response {sasl}>{done}</response>'.encode()).read_until(b'>')

    def login(self, user: str, password: str, resource: str = 'raw') -> RawClient:
        """Sign in (TLS is up already) and bind."""
        assert b'<success' in self.plain(user, password)
        self.send(STREAM).read_until(b'</stream:features>')
        self.send(
            b"<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>%b</resource></bind></iq>"
            % resource.encode()
        ).read_until(b'</iq>')
        return self

    def close(self) -> None:
        """Cut the connection."""
        self.socket.close()
