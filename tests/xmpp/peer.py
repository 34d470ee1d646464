"""A client's half of a conversation for tests of the sans-io core: no socket, no clock, no chance."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

from engine.contract.credentials import matches, verifiers
from engine.xmpp.c2s import (
    Authenticated,
    AuthFailed,
    BindRequest,
    ClientStream,
    Close,
    Limits,
    NeedCredentials,
    NeedPasswordCheck,
    Send,
    StartTLS,
    StreamSettings,
)
from engine.xmpp.stanza import Stanza

OPEN = (
    b"<?xml version='1.0'?><stream:stream to='example.com' version='1.0' xml:lang='en' xmlns='jabber:client' "
    b"xmlns:stream='http://etherx.jabber.org/streams'>"
)
BIND = b"<iq type='set' id='b1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>desk</resource></bind></iq>"
BINDINGS = {'tls-server-end-point': (b'certificate hash', b'of the other'), 'tls-exporter': (b'exported key',)}
PASSWORDS = {'juliet': 'secret', 'd\\27artagnan': 'one for all'}
VERIFIERS = {user: verifiers(password, 16) for user, password in PASSWORDS.items()}


def settings(**changes: Any) -> StreamSettings:
    """Settings of a test listener; 'random' bytes are all the same."""
    values: dict[str, Any] = {
        'domains': frozenset({'example.com', 'example.net'}),
        'secret': b'of the cluster',
        'random': lambda count: b'\xaa' * count,
    }
    return StreamSettings(**(values | changes))


class Peer:
    """A ClientStream with the shell's part played from PASSWORDS. ``out`` are the bytes sent since the last look,
    ``events`` every event, ``stanzas`` what was delivered. ``answer=False``: the test answers by itself."""

    def __init__(self, answer: bool = True, **changes: Any) -> None:
        self.out = b''
        self.events: list[Any] = []
        self.stanzas: list[Stanza] = []
        self.answer = answer
        self.stream = ClientStream(settings(**changes), self.emit, 1000.0)
        self.stream.on_stanza = self.stanzas.append

    def emit(self, event: Any) -> None:
        self.events.append(event)
        if isinstance(event, Send):
            self.out += event.data
        if not self.answer:
            return
        if isinstance(event, StartTLS):
            self.stream.tls_established(BINDINGS)
        elif isinstance(event, NeedCredentials):
            self.stream.credentials(VERIFIERS.get(event.localpart))
        elif isinstance(event, NeedPasswordCheck):
            stored = VERIFIERS.get(event.localpart)
            self.stream.password_checked(stored is not None and matches(event.password, stored))
        elif isinstance(event, BindRequest):
            self.stream.bound(f'{event.bare}/{event.resource}')

    def say(self, data: bytes) -> bytes:
        """Feed bytes; what comes back."""
        self.out = b''
        self.stream.receive(data)
        return self.out

    @property
    def closed(self) -> Close | None:
        return next((event for event in self.events if isinstance(event, Close)), None)

    def of(self, kind: type) -> list[Any]:
        """All events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def raws(self) -> list[bytes]:
        return [stanza.raw for stanza in self.stanzas]


def secure(**changes: Any) -> Peer:
    """A peer under direct TLS that has opened its stream."""
    peer = Peer(**changes)
    peer.stream.tls_established(BINDINGS)
    peer.say(OPEN)
    return peer


def auth(mechanism: str, message: bytes | None = None) -> bytes:
    """An <auth/> element."""
    text = b'' if message is None else base64.b64encode(message) or b'='
    return b"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='%b'>%b</auth>" % (mechanism.encode(), text)


def response(message: bytes) -> bytes:
    """A <response/> element."""
    return b"<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>%b</response>" % base64.b64encode(message)


def payload(out: bytes) -> bytes:
    """The decoded text of a <challenge/> or <success/>."""
    return base64.b64decode(out.split(b'>', 1)[1].split(b'<', 1)[0])


def logged_in(**changes: Any) -> Peer:
    """A peer that has authenticated and opened its second stream."""
    peer = secure(**changes)
    peer.say(auth('PLAIN', b'\0juliet\0secret'))
    peer.say(OPEN)
    return peer


def bound(header: bytes = OPEN, bind: bytes = BIND, **changes: Any) -> Peer:
    """A peer with a session: juliet@example.com/desk."""
    peer = secure(**changes)
    peer.say(auth('PLAIN', b'\0juliet\0secret'))
    peer.say(header)
    peer.say(bind)
    assert peer.stream.jid == 'juliet@example.com/desk', peer.events
    peer.out = b''
    return peer


class ScramClient:
    """An independent client computation of RFC 5802, written from the RFC's formulas."""

    def __init__(self, hash_name: str, user: str, password: str, nonce: str = 'clientnonce', gs2: str = 'n,,') -> None:
        self.hash = hash_name
        self.password = password.encode()
        self.gs2 = gs2
        self.bare = f'n={user},r={nonce}'

    def first(self) -> bytes:
        return (self.gs2 + self.bare).encode()

    def final(self, challenge: bytes, binding: bytes = b'', **changes: str) -> bytes:
        fields: Mapping[str, str] = dict(part.split('=', 1) for part in challenge.decode().split(','))
        nonce = changes.get('nonce', fields['r'])
        without = 'c=' + base64.b64encode(self.gs2.encode() + binding).decode() + ',r=' + nonce
        salted = hashlib.pbkdf2_hmac(self.hash, self.password, base64.b64decode(fields['s']), int(fields['i']))
        key = hmac.new(salted, b'Client Key', self.hash).digest()
        stored = hashlib.new(self.hash, key).digest()
        message = f'{self.bare},{challenge.decode()},{without}'.encode()
        signature = hmac.new(stored, message, self.hash).digest()
        proof = bytes(left ^ right for left, right in zip(key, signature, strict=True))
        server_key = hmac.new(salted, b'Server Key', self.hash).digest()
        self.expected = b'v=' + base64.b64encode(hmac.new(server_key, message, self.hash).digest())
        return f'{without},p={base64.b64encode(proof).decode()}'.encode()


__all__ = ['AuthFailed', 'Authenticated', 'BindRequest', 'Close', 'Limits', 'Peer', 'StartTLS', 'bound']
