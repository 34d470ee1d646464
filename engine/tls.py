"""The node's certificate for client connections, and what channel binding needs of it."""

from __future__ import annotations

import ipaddress
import os
import ssl
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from engine.contract import jid

log = structlog.get_logger(__name__)

LIFE = timedelta(days=5 * 365)
RENEW_BEFORE = timedelta(days=30)
XMPP_ADDRESS = ObjectIdentifier('1.3.6.1.5.5.7.8.5')
"""id-on-xmppAddr, RFC 6120 13.7.1.4."""
CIPHERS = 'ECDHE+AESGCM:ECDHE+CHACHA20'


def certificate(folder: Path, node_name: str, address: str, domains: Iterable[str], peer: bool = False) -> Path:
    """Path of a PEM file with key and self-signed certificate for these names; made anew when the names are not those
    of the present one or it ends within 30 days. Written in one step, readable by the owner only. ``peer``: it is
    also shown when this node connects to others."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / 'xmpp.pem'
    wanted = _names(node_name, address, domains)
    if path.exists() and (reason := _outdated(path, wanted)) is None:
        return path
    if path.exists():
        log.info('certificate is renewed', reason=reason, path=str(path))
    temporary = folder / '.xmpp.pem.new'
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, 'wb') as file:
        file.write(_make(node_name, wanted, peer))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    return path


def context(path: Path) -> ssl.SSLContext:
    """Server side TLS 1.2 and newer with forward secrecy, no compression, no renegotiation."""
    result = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    result.minimum_version = ssl.TLSVersion.TLSv1_2
    result.set_ciphers(CIPHERS)
    result.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    result.set_alpn_protocols(['xmpp-client'])
    result.num_tickets = 1  # each costs 20 of a handshake's 260 microseconds; a client that comes back needs one
    result.load_cert_chain(path)
    return result


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


def bindings(path: Path) -> dict[str, bytes]:
    """Channel binding data that is the same for every connection: ``tls-server-end-point`` (RFC 5929 4.1), the hash of
    the certificate. Python 3.11 cannot export keying material, so there is no ``tls-exporter``."""
    loaded = _load(path)
    algorithm = loaded.signature_hash_algorithm or hashes.SHA256()
    if isinstance(algorithm, hashes.MD5 | hashes.SHA1):
        algorithm = hashes.SHA256()
    return {'tls-server-end-point': loaded.fingerprint(algorithm)}


def ends_at(path: Path) -> datetime:
    """When the certificate in a PEM file expires."""
    return _load(path).not_valid_after_utc


def _load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def _names(node_name: str, address: str, domains: Iterable[str]) -> list[x509.GeneralName]:
    """Subject alternative names: every hosted domain as dNSName and xmppAddr, the node's name and address."""
    hosts = sorted({domain.lower() for domain in domains})
    names: list[x509.GeneralName] = [x509.DNSName(host) for host in hosts]
    for text in dict.fromkeys((node_name, address)):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(text)))
        except ValueError:
            if text.isascii() and text.lower() not in hosts:
                names.append(x509.DNSName(text.lower()))
    names += [x509.OtherName(XMPP_ADDRESS, _utf8_string(host)) for host in hosts]
    return names


def _utf8_string(text: str) -> bytes:
    """DER of a UTF8String; a domain has at most 255 bytes."""
    data = text.encode()
    return bytes([0x0C]) + (bytes([len(data)]) if len(data) < 128 else bytes([0x81, len(data)])) + data


def _outdated(path: Path, wanted: list[x509.GeneralName]) -> str | None:
    try:
        present = _load(path)
        names = list(present.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except (ValueError, x509.ExtensionNotFound):
        return 'the file cannot be read'
    if names != wanted:
        return 'the names changed'
    if present.not_valid_after_utc - datetime.now(UTC) < RENEW_BEFORE:
        return 'it ends soon'
    return None


def _make(node_name: str, names: list[x509.GeneralName], peer: bool) -> bytes:
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, *([ExtendedKeyUsageOID.CLIENT_AUTH] if peer else [])]
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, node_name[:64])])
    now = datetime.now(UTC)
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=True, crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + LIFE)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        # A client that chooses to trust this certificate needs it to be its own issuer.
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + built.public_bytes(serialization.Encoding.PEM)
