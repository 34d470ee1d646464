"""HTTP-Redirect binding (SAML Bindings 3.4): a deflated message in the query string, signed as it stands there."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote_plus, unquote_plus, urlencode

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

ALGORITHMS: dict[str, hashes.HashAlgorithm] = {
    'http://www.w3.org/2001/04/xmldsig-more#rsa-sha256': hashes.SHA256(),
    'http://www.w3.org/2001/04/xmldsig-more#rsa-sha384': hashes.SHA384(),
    'http://www.w3.org/2001/04/xmldsig-more#rsa-sha512': hashes.SHA512(),
}
"""Signatures that are believed; SHA-1 is not."""
OURS = next(iter(ALGORITHMS))
LARGEST = 100_000
"""Bytes of an inflated message."""


class Unsigned(Exception):
    """The message cannot be read or was not signed by the other side; the text is the reason."""


@dataclass(frozen=True, slots=True)
class Message:
    """kind: SAMLRequest or SAMLResponse."""

    kind: str
    xml: bytes
    relay_state: str


def address(location: str, kind: str, xml: str, key: rsa.RSAPrivateKey, relay_state: str = '') -> str:
    """Where to send the browser with a signed message."""
    packer = zlib.compressobj(wbits=-15)
    packed = base64.b64encode(packer.compress(xml.encode()) + packer.flush())
    pairs = [(kind, packed.decode()), *([('RelayState', relay_state)] if relay_state else []), ('SigAlg', OURS)]
    signed = urlencode(pairs)
    signature = base64.b64encode(key.sign(signed.encode(), padding.PKCS1v15(), ALGORITHMS[OURS])).decode()
    return f'{location}{"&" if "?" in location else "?"}{signed}&Signature={quote_plus(signature)}'


def verified(query: str, certificates: Iterable[x509.Certificate]) -> Message:
    """The message of a raw query string that the key of one of the certificates signed. Raises Unsigned."""
    raw = dict(part.partition('=')[::2] for part in reversed(query.split('&')))
    kind = next((one for one in ('SAMLRequest', 'SAMLResponse') if one in raw), '')
    signed = '&'.join(f'{name}={raw[name]}' for name in (kind, 'RelayState', 'SigAlg') if name in raw)
    algorithm = ALGORITHMS.get(unquote_plus(raw.get('SigAlg', '')))
    if not kind or algorithm is None or 'Signature' not in raw:
        raise Unsigned('not signed')
    try:
        signature = base64.b64decode(unquote_plus(raw['Signature']), validate=True)
        packed = base64.b64decode(unquote_plus(raw[kind]))
    except ValueError:
        raise Unsigned('not readable') from None
    if not any(_signs(one.public_key(), signature, signed.encode(), algorithm) for one in certificates):
        raise Unsigned('wrong signature')
    opener = zlib.decompressobj(wbits=-15)
    try:
        xml = opener.decompress(packed, LARGEST)
    except zlib.error:
        raise Unsigned('not readable') from None
    if opener.unconsumed_tail:
        raise Unsigned('too large')
    return Message(kind, xml, unquote_plus(raw.get('RelayState', '')))


def _signs(key: object, signature: bytes, signed: bytes, algorithm: hashes.HashAlgorithm) -> bool:
    if not isinstance(key, rsa.RSAPublicKey):
        return False
    try:
        key.verify(signature, signed, padding.PKCS1v15(), algorithm)
    except InvalidSignature:
        return False
    return True
