"""TLS between servers: the certificate cup-xmpp-s2s, the trust store cup-xmpp-trust, and TLS itself.

Not the ssl module: it ends the handshake when a client shows a certificate that it does not trust, but between servers
such a peer may still prove itself by dialback (XEP-0178 3, XEP-0220). Here every certificate is taken, what is wrong
with it is remembered, and ``certificate_error`` tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import structlog
from cryptography import x509
from cryptography.x509.oid import ExtensionOID
from OpenSSL import SSL, crypto

from engine.contract.certificates import XMPP_ADDRESS
from engine.tls import Identity, as_file, other_names

log = structlog.get_logger(__name__)

ALPN: Final = b'xmpp-server'
CIPHERS: Final = b'ECDHE+AESGCM:ECDHE+CHACHA20'
SRV_NAME: Final = '1.3.6.1.5.5.7.8.7'
_INVALID_PURPOSE: Final = 26
"""X509_V_ERR_INVALID_PURPOSE. Public authorities issue server certificates that may not be shown by a client in the
sense of the web; between servers both sides show the same one, and every implementation takes it."""
_PROBLEMS: Final = {
    9: 'It is not valid yet',
    10: 'It has expired',
    18: 'It is signed by itself and not among the trusted certificates',
    19: 'Its certification authority is not trusted',
    20: 'Its certification authority is not trusted',
    21: 'Its certification authority is not trusted',
    23: 'It is revoked',
}
"""What the verification errors of OpenSSL (X509_V_ERR) mean for the administrator."""
_CHUNK: Final = 65_536


class TlsFailed(Exception):
    """The handshake or the encrypted connection is broken; the text says why."""


class Contexts:
    """What all connections of the node share: server and client side."""

    def __init__(self, own: Sequence[Identity], trusted: Sequence[x509.Certificate], system: bool) -> None:
        """``own``: what is shown; ``trusted``: certificates to trust; ``system``: trust those of the operating system
        too. Raises ValueError naming a certificate that cannot be used."""
        self.server = _context(own)
        self.client = _context(own)
        self.server.set_session_id(b'cup-xmpp-s2s')
        self.server.set_alpn_select_callback(_select)
        self.trusted = len(trusted)
        for context in (self.server, self.client):
            store = context.get_cert_store()
            assert store is not None
            if system:
                context.set_default_verify_paths()
            # A certificate in the store is trusted as it is, also that of a peer that signed its own.
            store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
            for certificate in trusted:
                store.add_cert(crypto.X509.from_cryptography(certificate))


def _context(own: Sequence[Identity]) -> SSL.Context:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_cipher_list(CIPHERS)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_TICKET)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_verify(SSL.VERIFY_PEER, _remember)
    for one in own:
        try:
            with as_file(one) as path:
                context.use_certificate_chain_file(path)
                context.use_privatekey_file(path)
            context.check_privatekey()
        except SSL.Error as error:
            raise ValueError(f'The certificate {one.name} cannot be used: {_reason(error)}') from None
    return context


def _remember(connection: SSL.Connection, _certificate: Any, code: int, depth: int, ok: int) -> bool:
    tls = connection.get_app_data()
    if not ok and isinstance(tls, Tls) and not (code == _INVALID_PURPOSE and depth == 0):
        tls.problem = tls.problem or _PROBLEMS.get(code, f'It cannot be verified (OpenSSL error {code})')
    return True


def _select(_connection: SSL.Connection, offered: list[bytes]) -> Any:
    return ALPN if ALPN in offered else SSL.NO_OVERLAPPING_PROTOCOLS


class Tls:
    """One connection's TLS, between bytes and bytes. ``established`` after the handshake; ``problem`` is what is wrong
    with the chain of the peer's certificate, ''; it does not stop the handshake."""

    def __init__(self, contexts: Contexts, server_side: bool, server_name: str = '', direct: bool = False) -> None:
        self.established = False
        self.problem = ''
        self.closed = False
        self._peer: x509.Certificate | None = None
        self._connection = SSL.Connection(contexts.server if server_side else contexts.client, None)
        self._connection.set_app_data(self)
        if server_side:
            self._connection.set_accept_state()
        else:
            self._connection.set_connect_state()
            self._connection.set_tlsext_host_name(server_name.encode())
            if direct:
                self._connection.set_alpn_protos([ALPN])

    def feed(self, data: bytes) -> bytes:
        """Bytes from the network; returns what they say. Raises TlsFailed. Look at ``take`` afterwards."""
        connection = self._connection
        parts = []
        try:
            while data:
                data = data[connection.bio_write(data) :]
                if not self.established and not self._shake_hands():
                    continue
                try:
                    while True:
                        parts.append(connection.recv(_CHUNK))
                except SSL.WantReadError:
                    pass
                except SSL.ZeroReturnError:
                    self.closed = True
                    break
        except SSL.Error as error:
            raise TlsFailed(_reason(error)) from None
        return parts[0] if len(parts) == 1 else b''.join(parts)

    def begin(self) -> None:
        """Client side: the first bytes."""
        try:
            self._shake_hands()
        except SSL.Error as error:
            raise TlsFailed(_reason(error)) from None

    def _shake_hands(self) -> bool:
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            return False
        self.established = True
        found = self._connection.get_peer_certificate()
        self._peer = found.to_cryptography() if found is not None else None
        return True

    def write(self, data: bytes) -> None:
        """Encrypt; the result comes out of ``take``. Raises TlsFailed."""
        view = memoryview(data)
        try:
            while view:
                view = view[self._connection.send(view[: 1 << 20]) :]
        except SSL.Error as error:
            raise TlsFailed(_reason(error)) from None

    def end(self) -> None:
        """Say that nothing more is written."""
        try:
            if self.established:
                self._connection.shutdown()
        except SSL.Error:
            pass

    def take(self) -> bytes:
        """What must be sent."""
        parts = []
        try:
            while True:
                parts.append(self._connection.bio_read(_CHUNK))
        except SSL.WantReadError:
            return b''.join(parts)

    def certificate_error(self, domain: str) -> str:
        """Why the peer's certificate does not prove that it is ``domain``, or ''."""
        if self._peer is None:
            return 'No certificate was shown.'
        if self.problem:
            return f'{self.problem}.'
        names = certificate_names(self._peer)
        if any(_matches(name, domain) for name in names):
            return ''
        shown = ', '.join(sorted(names)[:5]) or 'no name'
        return f'It is for {shown}.'


def _matches(name: str, domain: str) -> bool:
    if name.startswith('*.'):
        return domain.partition('.')[2] == name[2:]
    return name == domain


def certificate_names(certificate: x509.Certificate) -> set[str]:
    """The server names a certificate is for (RFC 6120 13.7.1.2): dNSName, xmppAddr, SRVName of this service. A
    wildcard stays as it is."""
    try:
        found = certificate.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME).value
    except (x509.ExtensionNotFound, ValueError):
        return set()
    assert isinstance(found, x509.SubjectAlternativeName)
    names = {name.lower().rstrip('.') for name in found.get_values_for_type(x509.DNSName)}
    for kind, text in other_names(certificate):
        if kind == XMPP_ADDRESS.dotted_string:
            names.add(text.lower())
        elif kind == SRV_NAME:
            service, _, host = text.partition('.')
            if service.lower() in ('_xmpp-server', '_xmpps-server'):
                names.add(host.lower().rstrip('.'))
    return {name for name in names if name and '@' not in name and '/' not in name}


def _reason(error: BaseException) -> str:
    """What OpenSSL says, in one line."""
    entries = error.args[0] if error.args else None
    if isinstance(entries, list) and entries:
        return str(entries[0][-1])
    return str(error) or type(error).__name__
