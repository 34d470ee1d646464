"""The real engine over real TLS, where the client library cannot go: channel binding, the order of negotiation, own
prefixes and strange portions."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import pytest

from tests.fixtures import data
from tests.proves import proves
from tests.services.rawclient import STREAM, RawClient
from tests.xmpp.peer import BIND, ScramClient, auth, payload, response


def connect(engine: Any, direct: bool) -> RawClient:
    """A client up to the features of its stream under TLS."""
    if not direct:
        return RawClient(engine.port).starttls()
    client = RawClient(engine.tls_port, tls=True)
    client.send(STREAM).read_until(b'</stream:features>')
    return client


def sign_in(client: RawClient, mechanism: str, gs2: str, binding: bytes) -> bytes:
    """SCRAM as alice; the server's last answer."""
    algorithm = 'sha256' if '256' in mechanism else 'sha1'
    scram = ScramClient(algorithm, 'alice', data.PASSWORD, gs2=gs2)
    challenge = client.send(auth(mechanism, scram.first())).read_until(b'</challenge>')
    answer = client.send(response(scram.final(payload(challenge), binding))).read_until(b'</')
    if b'<success' in answer:
        if not answer.endswith(b'</success>'):
            answer += client.read_until(b'>')
        assert payload(answer) == scram.expected, 'the server has proved itself'
    return answer


@pytest.mark.parametrize('direct', [False, True])
@pytest.mark.parametrize('mechanism', ['SCRAM-SHA-256-PLUS', 'SCRAM-SHA-1-PLUS'])
def test_the_login_is_bound_to_the_certificate(engine: Any, make_user: Any, mechanism: str, direct: bool) -> None:
    make_user('alice')
    client = connect(engine, direct)
    assert f'<mechanism>{mechanism}</mechanism>'.encode() in client.seen
    assert b"<channel-binding type='tls-server-end-point'/>" in client.seen
    certificate = client.socket.getpeercert(binary_form=True)  # type: ignore[attr-defined]
    digest = hashlib.sha256(certificate).digest()
    gs2 = 'p=tls-server-end-point,,'
    assert b'<success' in sign_in(client, mechanism, gs2, digest)
    other = connect(engine, direct)
    assert b'<not-authorized/>' in sign_in(other, mechanism, gs2, hashlib.sha256(b'of a man in the middle').digest())
    downgraded = connect(engine, direct)
    algorithm = mechanism.removesuffix('-PLUS')
    first = ScramClient('sha1', 'alice', data.PASSWORD, gs2='y,,').first()
    assert b'<not-authorized/>' in downgraded.send(auth(algorithm, first)).read_until(b'</failure>')


@proves('XMP-26')
def test_features_come_in_the_order_of_xep_0170(engine: Any, make_user: Any) -> None:
    make_user('alice')
    client = RawClient(engine.port)
    first = client.send(STREAM).read_until(b'</stream:features>')
    assert b'<starttls' in first
    assert b'<mechanisms' not in first
    assert b'<bind' not in first
    client.send(b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").read_until(b'<proceed')
    client.wrap()
    second = client.send(STREAM).read_until(b'</stream:features>')
    assert b'<starttls' not in second
    assert b'<mechanisms' in second
    assert b'<bind' not in second
    assert b'<success' in client.plain('alice', data.PASSWORD)
    third = client.send(STREAM).read_until(b'</stream:features>')
    assert b'<mechanisms' not in third
    assert b'compress' not in first + second + third
    features = [b'<bind ', b'<session ', b'<ver ', b'<sub ']
    places = [third.find(feature) for feature in features]
    assert -1 not in places
    assert places == sorted(places)
    assert b'/desk</jid>' in client.send(BIND).read_until(b'</iq>')


def test_stanzas_of_every_form_arrive(engine: Any, make_user: Any, xmpp_client: Any) -> None:
    make_user('alice')
    make_user('bob')
    bob = xmpp_client('bob')
    bob.available()
    bob.sync()
    client = connect(engine, True)
    assert b'<success' in client.plain('alice', data.PASSWORD)
    header = STREAM.replace(b"xmlns='jabber:client'", b"xmlns='jabber:client' xmlns:own='urn:own' xml:lang='de'")
    client.send(header).read_until(b'</stream:features>')
    client.send(BIND).read_until(b'</iq>')
    sent = [
        b"<message to='bob@example.com' id='1'><body>one</body></message>",
        b"<message to='bob@example.com' id='2'><body><![CDATA[</message>]]></body></message >",
        b"<c:message xmlns:c='jabber:client' to='bob@example.com' id='3'>"
        b'<c:body>&#x6c49; &gt;</c:body><own:x/></c:message>',
        b"<message from='alice@example.com' to='bob@example.com' id='4'><body>four</body></message>",
    ]
    stream = b'\n'.join(sent)
    for at in range(0, len(stream), 5):
        client.send(stream[at : at + 5])
        time.sleep(0.001)
    for number, body in enumerate(['one', '</message>', '汉 >', 'four'], 1):
        message = bob.expect('message', id=str(number), body=body, from_='alice@example.com/desk')
        assert message.get('{http://www.w3.org/XML/1998/namespace}lang') == 'de'
