"""Encrypted assertions (SAML Core 2.3.4, XML Encryption 1.1): one of them is put, in clear, where it stood.

Whoever has this console's metadata can encrypt, so what comes out is believed no more than what comes in clear: the
whole answer is checked afterwards as if it had been posted that way. Nothing is written anew but the element itself,
because signatures are over bytes.

A content cipher without authentication (CBC) lets somebody who may try often learn what a captured assertion says:
``often`` refuses it. RSA with PKCS #1 v1.5 and Triple DES are not taken at all.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from itertools import islice
from xml.etree.ElementTree import Element
from xml.parsers import expat

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from defusedxml import ElementTree

_ENC, _ENC11, _SIGNATURE = (
    'http://www.w3.org/2001/04/xmlenc#',
    'http://www.w3.org/2009/xmlenc11#',
    'http://www.w3.org/2000/09/xmldsig#',
)
_ASSERTION = 'urn:oasis:names:tc:SAML:2.0:assertion'
_OAEP = (f'{_ENC}rsa-oaep-mgf1p', f'{_ENC11}rsa-oaep')
_GCM = {f'{_ENC11}aes{bits}-gcm': bits // 8 for bits in (128, 192, 256)}
_CBC = {f'{_ENC}aes{bits}-cbc': bits // 8 for bits in (128, 192, 256)}
ALGORITHMS = (*reversed(_GCM), *reversed(_CBC), *reversed(_OAEP))
"""What the metadata offers, the best first."""
_HASHES: dict[str, Callable[[], hashes.HashAlgorithm]] = {
    f'{_SIGNATURE}sha1': hashes.SHA1,  # within OAEP it is as good as any: nothing rests on collisions
    f'{_ENC}sha256': hashes.SHA256,
    f'{_ENC}sha512': hashes.SHA512,
    f'{_ENC11}mgf1sha1': hashes.SHA1,
    f'{_ENC11}mgf1sha256': hashes.SHA256,
    f'{_ENC11}mgf1sha384': hashes.SHA384,
    f'{_ENC11}mgf1sha512': hashes.SHA512,
}
_MOST_KEYS = 3
"""Keys of one assertion that are tried: it may be encrypted for several readers."""


class Unreadable(Exception):
    """The assertion cannot be decrypted; the text is the reason, which is for the history only."""


def opened(xml: bytes, key: Callable[[], rsa.RSAPrivateKey], *, often: bool = False) -> bytes:
    """The answer with its assertion in clear; the same bytes when it came so. Raises Unreadable."""
    found = ElementTree.fromstring(xml).findall(f'{{{_ASSERTION}}}EncryptedAssertion')
    if not found:
        return xml
    spans = _spans(xml)
    if len(found) != 1 or len(spans) != 1:
        raise Unreadable('more than one encrypted assertion')
    begin, end = spans[0]
    clear = xml[:begin] + _decrypted(found[0], key(), often) + xml[end:]
    if b'EncryptedAssertion' in clear:
        raise Unreadable('an encrypted assertion within another')
    return clear


def _spans(xml: bytes) -> list[tuple[int, int]]:
    """Where encrypted assertions stand, however deep."""
    begins: list[int] = []
    spans: list[tuple[int, int]] = []
    wanted, parser = f'{_ASSERTION} EncryptedAssertion', expat.ParserCreate(None, ' ')

    def start(name: str, _: object) -> None:
        if name == wanted:
            begins.append(parser.CurrentByteIndex)

    def close(name: str) -> None:
        if name == wanted:
            spans.append((begins.pop(), xml.index(b'>', parser.CurrentByteIndex) + 1))

    def declared(_: str, encoding: str | None, __: int) -> None:
        if (encoding or 'utf-8').lower() != 'utf-8':
            raise Unreadable('not UTF-8')

    parser.StartElementHandler, parser.EndElementHandler = start, close
    parser.XmlDeclHandler = declared
    parser.Parse(xml, True)
    return spans


def _decrypted(encrypted: Element, key: rsa.RSAPrivateKey, often: bool) -> bytes:
    """What the element says. Nothing tells one reason of a failure from another but the text for the history."""
    data = encrypted.find(f'{{{_ENC}}}EncryptedData')
    if data is None:
        raise Unreadable('nothing encrypted')
    algorithm = _algorithm(data)
    size = _GCM.get(algorithm) or _CBC.get(algorithm)
    if size is None:
        raise Unreadable(f'the cipher {algorithm[:60]} is not taken')
    if often and algorithm in _CBC:
        raise Unreadable('too many failed attempts from this address')
    content = _value(data)
    for wrapped in islice(encrypted.iter(f'{{{_ENC}}}EncryptedKey'), _MOST_KEYS):
        try:
            session_key = key.decrypt(_value(wrapped), _padding(wrapped))
            if len(session_key) == size:
                return _content(session_key, content, algorithm in _GCM)
        except (ValueError, InvalidTag):
            continue
    raise Unreadable('the encrypted assertion is not for the key of this console')


def _content(key: bytes, content: bytes, authenticated: bool) -> bytes:
    if authenticated:
        return AESGCM(key).decrypt(content[:12], content[12:], None)
    opener = Cipher(algorithms.AES(key), modes.CBC(content[:16])).decryptor()
    clear = opener.update(content[16:]) + opener.finalize()
    if not clear or not 1 <= clear[-1] <= 16:
        raise ValueError
    return clear[: -clear[-1]]


def _algorithm(encrypted: Element) -> str:
    method = encrypted.find(f'{{{_ENC}}}EncryptionMethod')
    return '' if method is None else str(method.get('Algorithm', ''))


def _value(encrypted: Element) -> bytes:
    return base64.b64decode(encrypted.findtext(f'{{{_ENC}}}CipherData/{{{_ENC}}}CipherValue', ''))


def _padding(wrapped: Element) -> padding.OAEP:
    """How the key is wrapped. Raises ValueError for anything but OAEP."""
    algorithm = _algorithm(wrapped)
    if algorithm not in _OAEP:
        raise ValueError
    method = f'{{{_ENC}}}EncryptionMethod'
    digest = _hash(wrapped.find(f'{method}/{{{_SIGNATURE}}}DigestMethod'))
    mask = _hash(wrapped.find(f'{method}/{{{_ENC11}}}MGF'))
    label = base64.b64decode(wrapped.findtext(f'{method}/{{{_ENC}}}OAEPparams', ''))
    return padding.OAEP(padding.MGF1(mask), digest, label or None)


def _hash(method: Element | None) -> hashes.HashAlgorithm:
    """The hash that is named; SHA-1 where none is."""
    if method is None:
        return hashes.SHA1()  # noqa: S303 - see above
    if (found := _HASHES.get(str(method.get('Algorithm')))) is None:
        raise ValueError
    return found()
