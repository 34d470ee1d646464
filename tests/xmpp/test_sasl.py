"""SASL through the stream: the client half is computed from the formulas of RFC 5802, not by the code under test."""

from __future__ import annotations

import base64
import hashlib
from xml.etree import ElementTree

import pytest

from engine.contract.credentials import ITERATIONS
from engine.xmpp.c2s import Authenticated, AuthFailed, Limits, NeedCredentials, NeedPasswordCheck
from engine.xmpp.sasl import Scram, advertised
from tests.xmpp.peer import BINDINGS, OPEN, VERIFIERS, Peer, ScramClient, auth, payload, response, secure
from tests.xmpp.test_negotiation import ended

SASL = b"xmlns='urn:ietf:params:xml:ns:xmpp-sasl'"
HASH = {'SCRAM-SHA-1': 'sha1', 'SCRAM-SHA-256': 'sha256'}


def login(peer: Peer, mechanism: str, user: str = 'juliet', password: str = 'secret', gs2: str = 'n,,') -> bytes:
    """Run one SCRAM login; the server's last word."""
    client = ScramClient(HASH[mechanism.removesuffix('-PLUS')], user, password, gs2=gs2)
    out = peer.say(auth(mechanism, client.first()))
    if b'<challenge' not in out:
        return out
    kind = gs2.split(',')[0].removeprefix('p=')
    out = peer.say(response(client.final(payload(out), BINDINGS[kind][-1] if kind in BINDINGS else b'')))
    if b'<success' in out:
        assert payload(out) == client.expected
    return out


@pytest.mark.parametrize('mechanism', ['SCRAM-SHA-256', 'SCRAM-SHA-1'])
def test_scram(mechanism: str) -> None:
    peer = secure()
    assert b'<success' in login(peer, mechanism)
    assert peer.of(Authenticated) == [Authenticated('juliet@example.com', mechanism)]


@pytest.mark.parametrize('mechanism', ['SCRAM-SHA-256-PLUS', 'SCRAM-SHA-1-PLUS'])
@pytest.mark.parametrize('binding', ['tls-exporter', 'tls-server-end-point'])
def test_scram_with_channel_binding(mechanism: str, binding: str) -> None:
    assert b'<success' in login(secure(), mechanism, gs2=f'p={binding},,')


def test_another_channel_is_noticed() -> None:
    peer = Peer()
    peer.stream.tls_established({'tls-exporter': (b'of the man in the middle',)})
    peer.say(b"<stream:stream to='example.com' version='1.0' xmlns='jabber:client' "
             b"xmlns:stream='http://etherx.jabber.org/streams'>")  # fmt: skip
    assert b'<not-authorized/>' in login(peer, 'SCRAM-SHA-256-PLUS', gs2='p=tls-exporter,,')


def test_a_removed_offer_is_noticed() -> None:
    assert b'<not-authorized/>' in login(secure(), 'SCRAM-SHA-256', gs2='y,,')
    peer = Peer()
    peer.stream.tls_established({})
    peer.say(b"<stream:stream to='example.com' version='1.0' xmlns='jabber:client' "
             b"xmlns:stream='http://etherx.jabber.org/streams'>")  # fmt: skip
    assert b'<success' in login(peer, 'SCRAM-SHA-256', gs2='y,,')


def test_the_example_of_downgrade_protection() -> None:
    """XEP-0474 6.3: its lists, and the attribute they lead to, behind those every client reads."""
    offer = advertised(['SCRAM-SHA-1-PLUS', 'SCRAM-SHA-1'], ['tls-server-end-point', 'tls-exporter'])
    assert offer == b'SCRAM-SHA-1\x1eSCRAM-SHA-1-PLUS\x1ftls-exporter\x1etls-server-end-point'
    assert advertised(['PLAIN'], []) == b'PLAIN'
    scram = Scram('SCRAM-SHA-1-PLUS')
    scram.first(b'p=tls-exporter,,n=user,r=12C4', True, True, BINDINGS, 'example.com')
    message = scram.challenge(None, '', b'', lambda count: b'', offer)
    assert [part[:2] for part in message.split(b',')] == [b'r=', b's=', b'i=', b'h=']
    assert message.endswith(b',h=G6k/rBLDqgOhRRaCuuatSDFkJ08=')


@pytest.mark.parametrize('mechanism', ['SCRAM-SHA-256', 'SCRAM-SHA-1', 'SCRAM-SHA-256-PLUS'])
@pytest.mark.parametrize('bindings', [BINDINGS, {'tls-server-end-point': (b'certificate hash',)}, {}])
def test_the_offer_is_signed(mechanism: str, bindings: dict[str, tuple[bytes, ...]]) -> None:
    """What the client saw in the stream features is what the server hashed, with and without channel binding."""
    peer = Peer()
    peer.stream.tls_established(bindings)
    features = ElementTree.fromstring(peer.say(OPEN) + b'</stream:stream>')  # noqa: S314 - our own server's
    seen = sorted(str(entry.text) for entry in features.iter('{urn:ietf:params:xml:ns:xmpp-sasl}mechanism'))
    types = sorted(entry.attrib['type'] for entry in features.iter('{urn:xmpp:sasl-cb:0}channel-binding'))
    assert types == sorted(bindings)
    if mechanism not in seen:
        assert not bindings
        return
    text = '\x1e'.join(seen) + ('\x1f' + '\x1e'.join(types) if types else '')
    gs2 = 'p=tls-server-end-point,,' if mechanism.endswith('-PLUS') else 'n,,'
    client = ScramClient(HASH[mechanism.removesuffix('-PLUS')], 'juliet', 'secret', gs2=gs2)
    challenge = payload(peer.say(auth(mechanism, client.first())))
    digest = base64.b64encode(hashlib.new(client.hash, text.encode()).digest())
    assert challenge.endswith(b',h=' + digest)
    bound = bindings['tls-server-end-point'][0] if mechanism.endswith('-PLUS') else b''
    assert b'<success' in peer.say(response(client.final(challenge, bound)))


def test_a_changed_offer_is_noticed() -> None:
    """A man in the middle who shortens the lists and makes the hash fit fails at the proof, which covers the hash."""
    peer = secure()
    client = ScramClient('sha256', 'juliet', 'secret')
    challenge = payload(peer.say(auth('SCRAM-SHA-256', client.first())))
    kept, _, _ = challenge.rpartition(b',h=')
    shortened = base64.b64encode(hashlib.sha256(advertised(['SCRAM-SHA-256', 'PLAIN'], [])).digest())
    assert b'<not-authorized/>' in peer.say(response(client.final(kept + b',h=' + shortened)))
    challenge = payload(peer.say(auth('SCRAM-SHA-256', client.first())))
    assert b'<not-authorized/>' in peer.say(response(client.final(challenge.rpartition(b',h=')[0])))


def test_bindings_are_told_of_only_to_those_who_can_use_them() -> None:
    """XEP-0440: without a -PLUS mechanism there is nothing to bind, in the features and in the hash alike."""
    peer = Peer(mechanisms=('SCRAM-SHA-256',))
    peer.stream.tls_established(BINDINGS)
    assert b'sasl-channel-binding' not in peer.say(OPEN)
    client = ScramClient('sha256', 'juliet', 'secret', gs2='y,,')
    challenge = payload(peer.say(auth('SCRAM-SHA-256', client.first())))
    assert challenge.endswith(b',h=' + base64.b64encode(hashlib.sha256(b'SCRAM-SHA-256').digest()))
    assert b'<success' in peer.say(response(client.final(challenge)))


@pytest.mark.parametrize(('vector', 'algorithm'), [
    # RFC 5802 section 5
    (('SCRAM-SHA-1', 'fyko+d2lbbFgONRv9qkxdawL', '3rfcNHYJY1ZVvWVs7j', 'QSXCR+Q6sek8bf92',
      'v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=', 'rmF9pqV8S7suAoZWja4dJRkFsKQ='), 'sha1'),
    # RFC 7677 section 3
    (('SCRAM-SHA-256', 'rOprNGfwEbeRWgbNEkqO', '%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0', 'W22ZaJ0SNY7soEsUEjb6gQ==',
      'dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=', '6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4='), 'sha256'),
])  # fmt: skip
def test_vectors_of_the_rfcs(vector: tuple[str, ...], algorithm: str) -> None:
    from engine.contract.credentials import verifiers

    mechanism, client_nonce, server_nonce, salt, proof, signature = vector
    scram = Scram(mechanism)
    scram.first(f'n,,n=user,r={client_nonce}'.encode(), False, False, {}, 'example.com')
    stored = verifiers('pencil', 4096, base64.b64decode(salt))
    challenge = scram.challenge(stored, '', b'', lambda count: b'')
    # The RFC's own server nonce is not base64: put it where ours would stand.
    scram._nonce = client_nonce + server_nonce
    scram._server_first = f'r={scram._nonce},s={salt},i=4096'
    assert challenge.endswith(f',s={salt},i=4096'.encode())
    final = scram.final(f'c=biws,r={scram._nonce},p={proof}'.encode())
    assert final == f'v={signature}'.encode()


def test_a_wrong_password_and_an_unknown_user_look_alike() -> None:
    known, unknown = secure(), secure()
    one = login(known, 'SCRAM-SHA-256', password='wrong')
    two = login(unknown, 'SCRAM-SHA-256', user='nobody')
    assert one == two == b'<failure %b><not-authorized/></failure>' % SASL
    failed = unknown.of(AuthFailed)[0]
    assert (failed.localpart, failed.domain, failed.condition) == ('nobody', 'example.com', 'not-authorized')


def test_made_up_salts_are_stable_and_differ_by_user_mechanism_and_secret() -> None:
    def challenge(user: str, mechanism: str, **changes: object) -> bytes:
        client = ScramClient(HASH[mechanism], user, 'x')
        return payload(secure(**changes).say(auth(mechanism, client.first())))

    first = challenge('nobody', 'SCRAM-SHA-256')
    assert first == challenge('nobody', 'SCRAM-SHA-256')
    assert f',i={ITERATIONS},h='.encode() in first
    others = {challenge('noone', 'SCRAM-SHA-256'), challenge('nobody', 'SCRAM-SHA-1'),
              challenge('nobody', 'SCRAM-SHA-256', secret=b'other'), first}  # fmt: skip
    assert len(others) == 4


def test_names_are_prepared_and_escaped() -> None:
    for name in ('JULIET', 'juliet'):
        peer = secure()
        assert b'<success' in login(peer, 'SCRAM-SHA-256', user=name)
    for name in ("d'Artagnan", 'd\\27artagnan'):
        peer = secure()
        assert b'<success' in login(peer, 'SCRAM-SHA-1', user=name, password='one for all')
        assert peer.of(Authenticated)[0].bare == 'd\\27artagnan@example.com'


def test_authorization_identity() -> None:
    assert b'<success' in login(secure(), 'SCRAM-SHA-256', gs2='n,a=Juliet@Example.com,')
    assert b'<invalid-authzid/>' in login(secure(), 'SCRAM-SHA-256', gs2='n,a=romeo@example.com,')
    assert b'<invalid-authzid/>' in login(secure(), 'SCRAM-SHA-256', gs2='n,a=juliet@example.net,')
    assert b'<success' in secure().say(auth('PLAIN', b'juliet@example.com\0juliet\0secret'))
    assert b'<invalid-authzid/>' in secure().say(auth('PLAIN', b'romeo@example.com\0juliet\0secret'))


def test_plain() -> None:
    peer = secure()
    assert b'<not-authorized/>' in peer.say(auth('PLAIN', b'\0juliet\0wrong'))
    assert b'<not-authorized/>' in peer.say(auth('PLAIN', b'\0\xe2\x98\xba :\0secret'))
    assert b'<success' in peer.say(auth('PLAIN', b'\0juliet\0secret'))
    assert 'secret' not in repr(peer.of(NeedPasswordCheck))


def test_the_first_message_may_follow_an_empty_challenge() -> None:
    peer = secure()
    assert peer.say(auth('PLAIN')) == b'<challenge %b/>' % SASL
    assert b'<success' in peer.say(response(b'\0juliet\0secret'))


@pytest.mark.parametrize(('element', 'condition'), [
    (b'<auth %b mechanism="PLAIN">!!!</auth>' % SASL, 'incorrect-encoding'),
    (b'<auth %b mechanism="PLAIN">AGp1bGll</auth>' % SASL, 'malformed-request'),
    (b'<auth %b mechanism="PLAIN"><x/></auth>' % SASL, 'malformed-request'),
    (b'<auth %b mechanism="PLAIN">=</auth>' % SASL, 'malformed-request'),
    (b'<auth %b mechanism="DIGEST-MD5"/>' % SASL, 'invalid-mechanism'),
    (b'<auth %b/>' % SASL, 'invalid-mechanism'),
    (b'<response %b/>' % SASL, 'malformed-request'),
    (b'<abort %b/>' % SASL, 'aborted'),
    (auth('PLAIN', b'\0juliet\0\xff'), 'malformed-request'),
    (auth('PLAIN', b'\0a\0b\0c'), 'malformed-request'),
    (auth('SCRAM-SHA-256', b'n,,n=juliet'), 'malformed-request'),
    (auth('SCRAM-SHA-256', b'n,,n=,r=abc'), 'malformed-request'),
    (auth('SCRAM-SHA-256', b'n,,n=jul=iet,r=abc'), 'malformed-request'),
    (auth('SCRAM-SHA-256', b'n,,m=ext,n=juliet,r=abc'), 'malformed-request'),
    (auth('SCRAM-SHA-256', b'n,,n=juliet,r='), 'malformed-request'),
    (auth('SCRAM-SHA-256', b'n,x,n=juliet,r=abc'), 'malformed-request'),
    (auth('SCRAM-SHA-256', b'z,,n=juliet,r=abc'), 'malformed-request'),
    (auth('SCRAM-SHA-256', b'p=tls-exporter,,n=juliet,r=abc'), 'malformed-request'),
    (auth('SCRAM-SHA-256-PLUS', b'n,,n=juliet,r=abc'), 'malformed-request'),
    (auth('SCRAM-SHA-256-PLUS', b'p=tls-unique,,n=juliet,r=abc'), 'malformed-request'),
    (auth('SCRAM-SHA-256', b'\xff\xfe'), 'malformed-request'),
])  # fmt: skip
def test_malformed_requests(element: bytes, condition: str) -> None:
    peer = secure()
    assert f'<{condition}/>'.encode() in peer.say(element)
    assert peer.closed is None
    assert b'<success' in peer.say(auth('PLAIN', b'\0juliet\0secret')), 'the client may try again'


def test_replays_are_refused() -> None:
    nonce = iter([b'1' * 18, b'2' * 18])
    source = lambda count: next(nonce) if count == 18 else b'\0' * count  # noqa: E731
    client = ScramClient('sha256', 'juliet', 'secret')
    first = secure(random=source)
    final = client.final(payload(first.say(auth('SCRAM-SHA-256', client.first()))))
    assert b'<success' in first.say(response(final))
    second = secure(random=source)
    second.say(auth('SCRAM-SHA-256', client.first()))
    assert b'<not-authorized/>' in second.say(response(final)), 'a recorded answer on another connection'
    assert b'<malformed-request/>' in second.say(response(final)), 'the same answer twice'


def test_a_login_in_a_login_is_refused() -> None:
    peer = secure()
    client = ScramClient('sha256', 'juliet', 'secret')
    peer.say(auth('SCRAM-SHA-256', client.first()))
    assert b'<malformed-request/>' in peer.say(auth('PLAIN', b'\0juliet\0secret'))
    assert not peer.of(Authenticated)


def test_login_after_login_ends_the_stream() -> None:
    peer = secure()
    peer.say(auth('PLAIN', b'\0juliet\0secret'))
    peer.say(b"<stream:stream to='example.com' version='1.0' xmlns='jabber:client' "
             b"xmlns:stream='http://etherx.jabber.org/streams'>")  # fmt: skip
    peer.say(auth('PLAIN', b'\0juliet\0secret'))
    ended(peer, 'policy-violation')


def test_so_many_failures_end_the_stream() -> None:
    peer = secure(limits=Limits(auth_failures=2))
    peer.say(auth('PLAIN', b'\0juliet\0wrong'))
    assert peer.closed is None
    peer.say(b'<abort %b/>' % SASL)
    ended(peer, 'policy-violation')
    assert len(peer.of(AuthFailed)) == 2


def test_late_answers_and_throttling() -> None:
    peer = secure()
    peer.answer = False
    client = ScramClient('sha256', 'juliet', 'secret')
    assert peer.say(auth('SCRAM-SHA-256', client.first())) == b''
    assert peer.of(NeedCredentials) == [NeedCredentials('SCRAM-SHA-256', 'juliet', 'example.com')]
    peer.stream.auth_refused(text='Too many attempts.')
    assert b"<temporary-auth-failure/><text xml:lang='en'>Too many attempts.</text>" in peer.out
    peer.stream.credentials(VERIFIERS['juliet'])
    peer.stream.password_checked(True)
    assert not peer.of(Authenticated), 'an answer nobody waits for changes nothing'
    peer.say(auth('SCRAM-SHA-256', client.first()))
    peer.stream.credentials(VERIFIERS['juliet'])
    assert b'<success' in peer.say(response(client.final(payload(peer.out))))
