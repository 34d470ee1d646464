"""Server side of SASL SCRAM (RFC 5802, RFC 7677, channel binding RFC 5929 and RFC 9266, downgrade protection XEP-0474),
PLAIN (RFC 4616) and EXTERNAL (RFC 4422 A, XEP-0178).

Pure steps: the client's message in, the server's message or ``Failure`` out. Passwords are never kept; SCRAM runs on
the stored verifiers, so no step is slow.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from engine.contract import jid
from engine.contract.credentials import ITERATIONS

HASHES = {'SCRAM-SHA-1': 'sha1', 'SCRAM-SHA-256': 'sha256'}
_NONCE = re.compile(r'[\x21-\x2b\x2d-\x7e]{1,256}')
_BAD_ESCAPE = re.compile(r'=(?!2C|3D)')


class Failure(Exception):
    """The exchange has failed with this SASL condition (RFC 6120 6.5)."""

    def __init__(self, condition: str, text: str = '') -> None:
        super().__init__(condition, text)
        self.condition = condition
        self.text = text


def decode(text: str | None) -> bytes:
    """The bytes of a base64 payload; '=' stands for empty (RFC 6120 6.4.2)."""
    stripped = (text or '').strip()
    if stripped in ('', '='):
        return b''
    try:
        return base64.b64decode(stripped, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Failure('incorrect-encoding', 'The data is not correct base64.') from error


def localpart(name: str) -> str:
    """The prepared localpart of a user name given as localpart or as plain user ID (XEP-0106). '' when it can be
    neither: such a user does not exist, and is treated like any other unknown one."""
    for form in (name, jid.escape_local(name)):
        try:
            return jid.prepare_local(form)
        except jid.InvalidJID:
            continue
    return ''


def check_authzid(authzid: str, local: str, domain: str) -> None:
    """Only oneself may be acted for."""
    if not authzid:
        return
    try:
        right = jid.split(authzid) == (local, domain, '')
    except jid.InvalidJID:
        right = False
    if not right:
        raise Failure('invalid-authzid', 'The authorization identity must be your own address.')


def plain(message: bytes, domain: str) -> tuple[str, str]:
    """(localpart, password) of a PLAIN message."""
    try:
        parts = message.decode().split('\0')
    except UnicodeDecodeError as error:
        raise Failure('malformed-request', 'The data is not UTF-8.') from error
    if len(parts) != 3 or not parts[1] or not parts[2]:
        raise Failure('malformed-request', 'PLAIN needs authorization identity, user name and password.')
    local = localpart(parts[1])
    check_authzid(parts[0], local, domain)
    return local, parts[2]


def external(message: bytes, identities: Collection[str], domain: str) -> str:
    """The localpart that an EXTERNAL message asks for (XEP-0178 2). ``identities``: the bare JIDs of this server that
    the client's certificate is for. Who has several must name one."""
    try:
        authzid = message.decode()
        local, host, resource = jid.split(authzid or (next(iter(identities)) if len(identities) == 1 else ''))
    except UnicodeDecodeError as error:
        raise Failure('malformed-request', 'The data is not UTF-8.') from error
    except jid.InvalidJID:
        local = host = resource = ''
    if resource or host != domain or f'{local}@{host}' not in identities:
        raise Failure('invalid-authzid', 'Name one of the addresses in your certificate.')
    return local


def advertised(mechanisms: Iterable[str], bindings: Iterable[str]) -> bytes:
    """What was offered, in the form that downgrade protection hashes (XEP-0474 6.1): both lists in the order of their
    octets. No ``bindings``: the stream feature of XEP-0440 was not sent."""
    offer = '\x1e'.join(sorted(mechanisms))
    if types := '\x1e'.join(sorted(bindings)):
        offer += f'\x1f{types}'
    return offer.encode()


Bindings = Mapping[str, tuple[bytes, ...]]
"""Channel binding type -> its data; more than one where the server has certificates of two kinds, of which each proves
that nobody stands between: only the server has their keys."""


class Scram:
    """One SCRAM exchange: ``first``, ``challenge``, ``final``, in this order, each once."""

    __slots__ = (
        '_algorithm',
        '_first_bare',
        '_gs2',
        '_nonce',
        '_server_first',
        '_stored',
        'bindings',
        'localpart',
        'name',
    )

    def __init__(self, mechanism: str) -> None:
        self.name = mechanism.removesuffix('-PLUS')
        self._algorithm = HASHES[self.name]
        self.localpart = ''
        self.bindings: tuple[bytes, ...] = (b'',)
        self._gs2 = b''
        self._first_bare = ''
        self._nonce = ''
        self._server_first = ''
        self._stored: tuple[bytes, bytes] | None = None

    def first(self, message: bytes, plus: bool, offered: bool, bindings: Bindings, domain: str) -> None:
        """Read client-first-message. ``plus``: the chosen mechanism binds the channel; ``offered``: such ones were."""
        text = _text(message)
        parts = text.split(',', 2)
        if len(parts) != 3 or (parts[1] and not parts[1].startswith('a=')):
            raise Failure('malformed-request', 'The GS2 header is wrong.')
        flag, authzid, bare = parts
        if flag.startswith('p='):
            if not plus:
                raise Failure('malformed-request', 'Channel binding needs a -PLUS mechanism.')
            if flag[2:] not in bindings:
                raise Failure('malformed-request', 'This channel binding type is not supported.')
            self.bindings = bindings[flag[2:]]
        elif flag not in ('n', 'y') or plus:
            raise Failure('malformed-request', 'A -PLUS mechanism needs channel binding.')
        elif flag == 'y' and offered:
            # The client believes that we cannot bind the channel: someone has removed the -PLUS mechanisms on the way.
            raise Failure('not-authorized', 'Channel binding was offered, but you did not see the offer.')
        fields = bare.split(',')
        if len(fields) < 2 or not fields[0].startswith('n=') or not fields[1].startswith('r='):
            raise Failure('malformed-request', 'The first message needs user name and nonce.')
        if not _NONCE.fullmatch(fields[1][2:]):
            raise Failure('malformed-request', 'The nonce is wrong.')
        user = _name(fields[0][2:])
        if not user:
            raise Failure('malformed-request', 'The user name is empty.')
        self.localpart = localpart(user)
        check_authzid(_name(authzid[2:]), self.localpart, domain)
        self._gs2 = text[: len(text) - len(bare)].encode()
        self._first_bare = bare
        self._nonce = fields[1][2:]

    def challenge(
        self,
        verifiers: Mapping[str, Any] | None,
        address: str,
        secret: bytes,
        random: Callable[[int], bytes],
        offer: bytes = b'',
    ) -> bytes:
        """server-first-message. Without verifiers for the mechanism it looks the same, and the proof will be wrong.

        ``offer``: what ``advertised`` made. Its hash lets the client see that nobody shortened the lists on the way;
        the proof covers it, so nobody can change the hash either. Clients skip attributes they do not know (RFC 5802
        5.1)."""
        entry = (verifiers or {}).get(self.name)
        if entry:
            salt, iterations = str(entry[0]), int(entry[1])
            self._stored = base64.b64decode(entry[2]), base64.b64decode(entry[3])
        else:
            made_up = hmac.digest(secret, f'{self.name} {address}'.encode(), 'sha256')[:16]
            salt, iterations = base64.b64encode(made_up).decode(), ITERATIONS
            self._stored = None
        self._nonce += base64.b64encode(random(18)).decode()
        self._server_first = f'r={self._nonce},s={salt},i={iterations}'
        if offer:
            self._server_first += f',h={base64.b64encode(hashlib.new(self._algorithm, offer).digest()).decode()}'
        return self._server_first.encode()

    def final(self, message: bytes) -> bytes:
        """Check client-final-message; server-final-message when the proof is right. Raises Failure."""
        text = _text(message)
        without, found, proof = text.rpartition(',p=')
        fields = without.split(',')
        if not found or len(fields) < 2 or not fields[0].startswith('c=') or not fields[1].startswith('r='):
            raise Failure('malformed-request', 'The final message needs channel binding, nonce and proof.')
        if decode(fields[0][2:]) not in {self._gs2 + one for one in self.bindings}:
            raise Failure('not-authorized', 'The channel binding does not fit.')
        if not hmac.compare_digest(fields[1][2:].encode(), self._nonce.encode()):
            raise Failure('not-authorized', 'The nonce does not fit.')
        given = decode(proof)
        stored, server = self._stored or (b'', b'')
        signed = f'{self._first_bare},{self._server_first},{without}'.encode()
        signature = hmac.digest(stored, signed, self._algorithm)
        if len(given) != len(signature):
            raise Failure('malformed-request', 'The proof has a wrong length.')
        key = bytes(left ^ right for left, right in zip(given, signature, strict=True))
        if not hmac.compare_digest(hashlib.new(self._algorithm, key).digest(), stored):
            raise Failure('not-authorized')
        return b'v=' + base64.b64encode(hmac.digest(server, signed, self._algorithm))


def _text(message: bytes) -> str:
    try:
        return message.decode()
    except UnicodeDecodeError as error:
        raise Failure('malformed-request', 'The data is not UTF-8.') from error


def _name(text: str) -> str:
    if _BAD_ESCAPE.search(text):
        raise Failure('malformed-request', 'The user name has a wrong escape.')
    return text.replace('=2C', ',').replace('=3D', '=')
