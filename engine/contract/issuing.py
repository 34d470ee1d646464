"""Keys, self-signed certificates and signing requests, and how a private key travels to the node that may use it.

A key is made by the console and sealed at once (HPKE, RFC 9180) to the public key of each node that shall show the
certificate: the database keeps what only that node can read (decision 0032)."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa, x25519
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from engine.contract.certificates import Purpose, usages

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
RSA_BITS: Final = (2048, 3072, 4096)
CURVES: Final = {256: ec.SECP256R1(), 384: ec.SECP384R1(), 521: ec.SECP521R1()}
HASHES: Final[dict[str, hashes.SHA256 | hashes.SHA384 | hashes.SHA512]] = {
    'SHA256': hashes.SHA256(),
    'SHA384': hashes.SHA384(),
    'SHA512': hashes.SHA512(),
}
_SUITE: Final = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)


@dataclass(frozen=True, slots=True)
class Terms:
    """What the maker of a certificate chose."""

    subject: x509.Name
    names: Sequence[x509.GeneralName]
    days: int = 5 * 365
    algorithm: str = 'SHA256'


def make_key(bits: int) -> Key:
    """A new key: RSA_BITS make an RSA key, the sizes of CURVES an elliptic-curve key."""
    if bits in CURVES:
        return ec.generate_private_key(CURVES[bits])
    return rsa.generate_private_key(65537, bits)


def key_pem(key: Key) -> bytes:
    """The key in clear, for the node that uses it. Never stored or logged like this."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def self_signed(key: Key, purpose: Purpose, terms: Terms) -> x509.Certificate:
    """A certificate that is its own issuer: a client that chooses to trust it needs that."""
    now = datetime.now(UTC)
    usage, extended = usages(purpose, signs=True)
    return (
        x509.CertificateBuilder()
        .subject_name(terms.subject)
        .issuer_name(terms.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=terms.days))
        .add_extension(x509.SubjectAlternativeName(terms.names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(extended, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, HASHES[terms.algorithm])
    )


def request(key: Key, purpose: Purpose, terms: Terms) -> x509.CertificateSigningRequest:
    """A certificate signing request."""
    usage, extended = usages(purpose)
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(terms.subject)
        .add_extension(x509.SubjectAlternativeName(terms.names), critical=False)
        .add_extension(usage, critical=True)
        .add_extension(extended, critical=False)
        .sign(key, HASHES[terms.algorithm])
    )


# ---- sealing


def public_text(key: x25519.X25519PrivateKey) -> str:
    """The public half of a node's key, as the table ``node_key`` has it."""
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()


def seal(public: str, clear: bytes, about: str) -> str:
    """``clear`` for the node with this public key alone. ``about``: what it belongs to; needed again to open it."""
    key = x25519.X25519PublicKey.from_public_bytes(base64.b64decode(public))
    return base64.b64encode(_SUITE.encrypt(clear, key, _info(about))).decode()


def unseal(key: x25519.X25519PrivateKey, sealed: str, about: str) -> bytes | None:
    """What was sealed to ``key``; None when it was sealed to another key, is about something else, or was changed."""
    try:
        return _SUITE.decrypt(base64.b64decode(sealed), key, _info(about))
    except (InvalidTag, ValueError):
        return None


def _info(about: str) -> bytes:
    return b'imp certificate key ' + about.encode()
