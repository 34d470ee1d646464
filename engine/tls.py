"""TLS of the node: the certificate it makes of itself, server contexts, and what channel binding needs of them."""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from engine.contract import issuing, jid
from engine.contract.certificates import CUP_XMPP, PURPOSES, XMPP_ADDRESS, Purpose, subject_names

log = structlog.get_logger(__name__)

RENEW_BEFORE = timedelta(days=30)
CIPHERS = 'ECDHE+AESGCM:ECDHE+CHACHA20'


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate that the node shows, with its key. ``name``: the product's (``cup-xmpp-ECDSA``); ``key`` and
    ``chain``: PEM, the certificate itself first."""

    name: str
    key: bytes = field(repr=False)
    chain: bytes = field(repr=False)


def certificate(
    folder: Path,
    node_name: str,
    address: str,
    domains: Iterable[str],
    purpose: Purpose = PURPOSES[CUP_XMPP],
) -> Path:
    """Path of a PEM file with key and self-signed certificate for these names; made anew when the names are not those
    of the present one or it ends within 30 days. Written in one step, readable by the owner only."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / 'xmpp.pem'
    wanted = subject_names(node_name, address, domains)
    if path.exists() and (reason := _outdated(path, wanted)) is None:
        return path
    if path.exists():
        log.info('certificate is renewed', reason=reason, path=str(path))
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, node_name[:64])])
    key = ec.generate_private_key(ec.SECP256R1())
    made = issuing.self_signed(key, purpose, issuing.Terms(subject, wanted))
    write_private(path, issuing.key_pem(key) + made.public_bytes(serialization.Encoding.PEM))
    return path


def write_private(path: Path, data: bytes) -> None:
    """A file of the owner only, written in one step."""
    temporary = path.with_name(f'.{path.name}.new')
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, 'wb') as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def context(identities: Sequence[Identity], protocols: Sequence[str] = ()) -> ssl.SSLContext:
    """Server side TLS 1.2 and newer with forward secrecy, no compression, no renegotiation. Of an RSA and an ECDSA
    certificate the one is shown that the client can use. ``protocols``: for ALPN."""
    result = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    result.minimum_version = ssl.TLSVersion.TLSv1_2
    result.set_ciphers(CIPHERS)
    result.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    if protocols:
        result.set_alpn_protocols(list(protocols))
    result.num_tickets = 1  # each costs 20 of a handshake's 260 microseconds; a client that comes back needs one
    for one in identities:
        with as_file(one) as path:
            result.load_cert_chain(path)
    return result


@contextlib.contextmanager
def as_file(identity: Identity) -> Iterator[str]:
    """The path of a file in memory with key and chain: OpenSSL takes a chain of each of two certificates from files
    only."""
    descriptor = os.memfd_create('certificate')
    try:
        os.write(descriptor, identity.key + b'\n' + identity.chain)
        yield f'/proc/self/fd/{descriptor}'
    finally:
        os.close(descriptor)


def trusted_in(folder: Path) -> list[x509.Certificate]:
    """The certificates in the PEM files of a trust store folder. Raises ValueError naming a file that holds none."""
    found: list[x509.Certificate] = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.suffix in ('.pem', '.crt', '.cer'):
            try:
                found += x509.load_pem_x509_certificates(path.read_bytes())
            except (ValueError, OSError) as error:
                raise ValueError(f'{path} is no file of PEM certificates: {error}') from None
    return found


def ask_for_certificates(server: ssl.SSLContext, authorities: Iterable[x509.Certificate]) -> None:
    """Clients may show a certificate; the handshake fails unless it is valid and of one of these authorities."""
    server.load_verify_locations(cadata=b''.join(one.public_bytes(serialization.Encoding.DER) for one in authorities))
    server.verify_mode = ssl.CERT_OPTIONAL
    server.options |= ssl.OP_NO_TICKET  # who comes back is checked again
    server.num_tickets = 0


def user_addresses(certificate: bytes) -> frozenset[str]:
    """The bare JIDs of users in a DER certificate: its id-on-xmppAddr with a localpart, prepared."""
    found = set()
    for kind, text in other_names(x509.load_der_x509_certificate(certificate)):
        try:
            local, domain, resource = jid.split(text)
        except jid.InvalidJID:
            continue
        if kind == XMPP_ADDRESS.dotted_string and local and not resource:
            found.add(f'{local}@{domain}')
    return frozenset(found)


def other_names(certificate: x509.Certificate) -> list[tuple[str, str]]:
    """(object identifier, text) of each otherName among the subject alternative names."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    return [(one.type_id.dotted_string, _der_text(one.value)) for one in names.get_values_for_type(x509.OtherName)]


def _der_text(data: bytes) -> str:
    """The text of a DER UTF8String or IA5String, else ''."""
    if len(data) < 2 or data[0] not in (0x0C, 0x16):
        return ''
    more = data[1] & 0x7F if data[1] > 0x80 else 0  # bytes of a length that does not fit into one
    length = int.from_bytes(data[2 : 2 + more], 'big') if more else data[1]
    text = data[2 + more :]
    return text.decode(errors='replace') if len(text) == length else ''


def bindings(identities: Iterable[Identity]) -> dict[str, tuple[bytes, ...]]:
    """Channel binding data that is the same for every connection: ``tls-server-end-point`` (RFC 5929 4.1), the hash of
    the certificate; one for each, as nobody tells which of them a connection has got. Python 3.11 cannot export keying
    material, so there is no ``tls-exporter``."""
    hashed = []
    for one in identities:
        loaded = x509.load_pem_x509_certificate(one.chain)
        algorithm = loaded.signature_hash_algorithm or hashes.SHA256()
        if isinstance(algorithm, hashes.MD5 | hashes.SHA1):
            algorithm = hashes.SHA256()
        hashed.append(loaded.fingerprint(algorithm))
    return {'tls-server-end-point': tuple(hashed)}


def _outdated(path: Path, wanted: list[x509.GeneralName]) -> str | None:
    try:
        present = x509.load_pem_x509_certificate(path.read_bytes())
        names = list(present.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except (ValueError, x509.ExtensionNotFound):
        return 'the file cannot be read'
    if names != wanted:
        return 'the names changed'
    if present.not_valid_after_utc - datetime.now(UTC) < RENEW_BEFORE:
        return 'it ends soon'
    return None
