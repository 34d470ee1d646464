"""Web clients through the outermost door: BOSH, WebSocket, discovery (XEP-0124, XEP-0206, RFC 7395, XEP-0156)."""

from __future__ import annotations

import hashlib
import http.client
from collections.abc import Callable
from typing import Any
from xml.etree.ElementTree import Element

import pytest
from websockets.exceptions import InvalidHandshake, InvalidStatus

from tests.fixtures import data
from tests.fixtures.processes import wait_until
from tests.fixtures.tls import trusting
from tests.proves import proves
from tests.services.webclient import (
    BIND,
    BOSH,
    FRAMING,
    HTTPBIND,
    SASL,
    STREAMS,
    WEBSOCKET,
    BoshClient,
    Closed,
    Web,
    bind,
    later,
    plain,
    start,
    web,
)
from tests.xmppclient import XmppClient, condition

__all__ = ['web']
CLIENT = '{jabber:client}'
ERRORS = '{urn:ietf:params:xml:ns:xmpp-streams}'


def mechanisms(features: Element) -> set[str | None]:
    """SASL mechanisms in stream features."""
    return {one.text for one in features.iter(f'{{{SASL}}}mechanism')}


def message(to: str, body: str) -> str:
    """A chat message that stands by itself."""
    return f"<message xmlns='jabber:client' to='{to}' type='chat'><body>{body}</body></message>"


# ---- RFC 7395


def test_websocket_session(web: Web, make_user: Callable[..., Any], xmpp: Callable[..., XmppClient]) -> None:
    """Framing, sign-in, stanzas both ways, control frames, both kinds of end."""
    make_user('alice')
    make_user('bob')
    bob = xmpp('bob', 'tcp')
    bob.available()
    alice = web.websocket()
    assert alice.subprotocol == 'xmpp'
    features = alice.open()
    assert (alice.opened.get('from'), alice.opened.get('version')) == (data.DOMAIN, '1.0')
    assert alice.opened.get('id')
    assert features.tag == f'{{{STREAMS}}}features'
    assert mechanisms(features) == {'SCRAM-SHA-256', 'SCRAM-SHA-1', 'PLAIN'}, 'no channel binding, so no -PLUS'
    assert features.find('{urn:ietf:params:xml:ns:xmpp-tls}starttls') is None
    # A stream over the WebSocket restarts without </stream>, by a new <open/>.
    assert alice.send(plain('alice', 'wrong')).read().tag == f'{{{SASL}}}failure'
    alice.send(plain('alice')).read_until(f'{{{SASL}}}success')
    assert alice.open().find(f'{{{BIND}}}bind') is not None
    alice.send(bind('ws')).read_until(f'{CLIENT}iq')
    jid = f'alice@{data.DOMAIN}/ws'

    alice.send(message(bob.jid, 'hello &lt; 你好'))
    bob.expect('message', body='hello < 你好', from_=jid)
    # Fragments, with a ping between them, are one message.
    whole = message(bob.jid, 'in three parts')

    alice.protocol.send_text(whole[:20].encode(), fin=False)
    alice.protocol.send_continuation(whole[20:50].encode(), fin=False)
    alice.ping()
    alice.protocol.send_continuation(whole[50:].encode(), fin=True)
    alice.raw(b''.join(alice.protocol.data_to_send()))
    bob.expect('message', body='in three parts')
    bob.raw(f"<message to='{jid}' xmlns='jabber:client' xml:lang='de'><body>1</body></message>")
    bob.raw(f'<message to="{jid}" id="a>b"><body>2</body></message><presence to="{jid}"/>')
    found = [alice.read() for _ in range(3)]
    assert [one.tag.removeprefix(CLIENT) for one in found] == ['message', 'message', 'presence'], 'one stanza a message'
    assert [one.findtext(f'{CLIENT}body') for one in found[:2]] == ['1', '2']

    alice.send(f"<close xmlns='{FRAMING}'/>")
    assert alice.read().tag == f'{{{FRAMING}}}close'
    with pytest.raises(Closed):
        alice.read()
    # Without <close/> the session ends too.
    again = web.websocket().login('alice', 'again')
    again.send("<presence xmlns='jabber:client'/>").read_until(f'{CLIENT}presence')
    again.leave()
    wait_until(lambda: sessions(bob, again.jid) == 'service-unavailable', 'the session is gone')


def sessions(asker: XmppClient, jid: str) -> str | None:
    """Condition of the answer to a ping to this client, None when it is asked."""
    try:
        return condition(asker.iq('get', "<ping xmlns='urn:xmpp:ping'/>", to=jid, timeout=0.3))
    except AssertionError:
        return None  # the client is there and does not answer


OPEN = f"<open xmlns='{FRAMING}' to='{data.DOMAIN}' version='1.0'/>"
WRONG_MESSAGES: list[tuple[str, list[str]]] = [
    ('bad-format', ["<presence xmlns='jabber:client'/>"]),
    ('bad-format', [' ' + OPEN]),
    ('bad-format', [OPEN, OPEN]),
    ('bad-format', [OPEN, 'text']),
    ('bad-format', [OPEN, f'{plain("x")}{plain("y")}']),
    (
        'bad-format',
        [OPEN, f"<open xmlns='{FRAMING}' to='{data.DOMAIN}' version='1.0'/><presence xmlns='jabber:client'/>"],
    ),
    ('not-well-formed', [OPEN, f"<auth xmlns='{SASL}' mechanism='PLAIN'>"]),
    ('not-well-formed', ['<open', " xmlns='x'/>"]),
    ('not-well-formed', [OPEN, '</stream:stream>']),
    ('not-well-formed', [OPEN, '<a></b>']),
    ('not-well-formed', [OPEN, '<message>']),
    ('not-well-formed', ["<!DOCTYPE a [<!ENTITY b 'c'>]><open/>"]),
    ('restricted-xml', [OPEN, '<!-- x --><a/>']),
    ('unsupported-stanza-type', [OPEN, '<stream:stream/>']),
    ('unsupported-stanza-type', [OPEN, "<open xmlns='elsewhere'/>"]),
    ('host-unknown', [OPEN.replace(data.DOMAIN, 'elsewhere.example')]),
    ('improper-addressing', [f"<open xmlns='{FRAMING}' version='1.0'/>"]),
    ('unsupported-version', [f"<open xmlns='{FRAMING}' to='{data.DOMAIN}'/>"]),
    ('not-authorized', [OPEN, message(f'x@{data.DOMAIN}', 'y')]),
    ('policy-violation', [OPEN, message(f'x@{data.DOMAIN}', 'y' * 9000)]),
    ('unsupported-stanza-type', [OPEN, '<x/>']),
]


def answers(web: Web, messages: Any) -> list[Any]:
    """Everything the service says to these messages until it closes."""
    client = web.websocket()
    seen: list[Any] = []
    try:
        for text in messages:
            client.send(text)
        while True:
            seen.append(client.read())
    except (Closed, OSError):
        return seen


def test_websocket_wrong_messages(web: Web, make_user: Callable[..., Any]) -> None:
    """Each gets <open/> when it had none, the stream error and <close/>; the service lives on."""
    wrong = []
    for expected, messages in WRONG_MESSAGES:
        # What arrives behind the fatal message makes the kernel reset the connection, which may swallow the answer.
        seen = next(filter(None, (answers(web, messages) for _ in range(3))), [])
        found = [child.tag for one in seen if one.tag == f'{{{STREAMS}}}error' for child in one]
        shape = [one.tag.rpartition('}')[2] for one in seen]
        if f'{ERRORS}{expected}' not in found or (shape[:1], shape[-1:]) != (['open'], ['close']):
            wrong.append((expected, messages[-1][:80], shape, found))
    assert not wrong
    make_user('alice')
    alice = web.websocket().login('alice')
    alice.send("<message xmlns='jabber:client' to='")
    assert alice.read().tag == f'{{{STREAMS}}}error', 'also when signed in'


def test_websocket_frames_and_handshake(web: Web, make_user: Callable[..., Any]) -> None:
    """Binary, oversized and not UTF-8 frames end the WebSocket with their code; handshakes that are not ours fail."""
    make_user('alice')

    def close_code(client: Any) -> int | None:
        try:
            while True:
                client.read()
        except Closed as closed:
            return closed.code

    assert close_code(web.websocket().send(b'<open/>')) == 1003
    not_utf8 = web.websocket()
    not_utf8.protocol.send_text(b"<open xmlns='\xff\xfe'/>")
    not_utf8.raw(b''.join(not_utf8.protocol.data_to_send()))
    assert close_code(not_utf8) == 1007
    assert close_code(web.websocket().send('<' + 'a' * 9000)) in (1000, 1009)
    unmasked = web.websocket()
    unmasked.raw(b'\x81\x05<a/> ')
    assert close_code(unmasked) == 1002
    signed_in = web.websocket().login('alice')
    signed_in.send(message('bob@example.com', 'x' * 300_000))
    found = signed_in.read_until(f'{{{STREAMS}}}error')
    assert found.find(f'{ERRORS}policy-violation') is not None

    for status, options in (
        (400, {'protocol': ''}),
        (400, {'protocol': 'chat'}),
        (404, {'path': '/elsewhere'}),
        (405, {'path': BOSH}),
        (403, {'origin': 'https://evil.example'}),
        (403, {'origin': 'null'}),
        (403, {'origin': 'http://127.0.0.1'}),  # a page without TLS
    ):
        with pytest.raises((InvalidStatus, InvalidHandshake)) as refused:
            web.websocket(**options)
        assert isinstance(refused.value, InvalidStatus), refused.value
        assert refused.value.response.status_code == status, options
    compressed = web.websocket(compression=True, origin='https://127.0.0.1')
    assert compressed.protocol.extensions == [], 'compression is not offered'
    compressed.open()
    answer = http.client.HTTPSConnection('127.0.0.1', web.port, context=trusting())
    answer.request('GET', WEBSOCKET)
    assert answer.getresponse().status == 426


def test_websocket_of_another_node(web: Web, make_user: Callable[..., Any]) -> None:
    """RFC 7395 3.6.1: the right node's address in <close/>; the same in BOSH terms (XEP-0124 17.2)."""
    from impadmin.system.models import Node, ParameterValue

    other = Node.objects.create(name='imp2', address='10.9.8.7')
    ParameterValue.objects.create(service='xcp_web_connection_manager', name='port', node=other, value=4433)
    data.publish_configuration()
    generation = lambda: Node.objects.get(name=data.NODE).generation  # noqa: E731
    before = generation()
    make_user('carol', node='imp2')
    wait_until(lambda: generation() >= before, 'configuration')

    def refused() -> tuple[str | None, str | None]:
        client = web.websocket()
        client.open()
        client.send(plain('carol')).read_until(f'{{{SASL}}}success')
        client.open()
        client.send(bind('x'))
        error = client.read_until(f'{{{STREAMS}}}error')
        return error.findtext(f'{ERRORS}see-other-host'), client.read().get('see-other-uri')

    wait_until(lambda: refused() == ('10.9.8.7', 'wss://10.9.8.7:4433/websocket'), 'the other address')
    bosh = web.bosh()
    bosh.open()
    bosh.until(lambda: bosh.post(plain('carol')), f'{{{SASL}}}success')
    bosh.post(xmpp_restart='true')
    end = bosh.post(bind('x'))
    assert (end.get('type'), end.get('condition')) == ('terminate', 'see-other-uri')
    assert end.findtext(f'{{{HTTPBIND}}}uri') == 'https://10.9.8.7:4433/httpbinding'


# ---- XEP-0124, XEP-0206


@proves('XMP-21', 'PORT-18')
def test_bosh_session(web: Web, make_user: Callable[..., Any], xmpp: Callable[..., XmppClient]) -> None:
    """Creation, sign-in, stanzas, lost responses, broken connections, acknowledgements, the end."""
    make_user('alice')
    make_user('bob')
    bob = xmpp('bob', 'tcp')
    bob.available()
    alice = web.bosh()
    answer = alice.open(ack='1')
    given = {key: answer.get(key) for key in ('wait', 'requests', 'hold', 'inactivity', 'polling', 'maxpause', 'ver')}
    assert list(given.values()) == ['10', '2', '1', '60', '2', '120', '1.11']
    assert len(alice.sid) > 20
    assert answer.get('from') == data.DOMAIN
    assert answer.get('ack') == str(alice.rid)
    assert answer.get('{urn:xmpp:xbosh}restartlogic') == 'true'
    features = answer.find(f'{{{STREAMS}}}features')
    assert features is not None
    assert mechanisms(features) == {'SCRAM-SHA-256', 'SCRAM-SHA-1', 'PLAIN'}
    alice.login('alice')
    assert all('urn:xmpp:sm' not in child.tag for one in alice.received for child in one), 'BOSH acknowledges by itself'

    # A request waits until there is something to say, or for as long as was agreed.
    with later(lambda: alice.post()) as waited:
        bob.say(alice.jid, 'while waiting')
    assert body_of(waited[0]) == ['while waiting']
    # Two requests: the second one answers the first.
    first = alice.send()
    second = alice.send(message(bob.jid, 'from the web'))
    assert len(alice.read(first)) == 0
    bob.expect('message', body='from the web', from_=alice.jid)
    bob.say(alice.jid, 'one')
    assert body_of(alice.read(second)) == ['one']

    # The connection breaks while a request waits: what comes meanwhile is in the answer to its repetition.
    lost = alice.send()
    lost.close()
    bob.say(alice.jid, 'two')
    bob.sync()
    repeated = alice.body()
    assert body_of(alice.read(alice.send_raw(repeated))) == ['two']
    # The response itself is lost: the same response again, as often as it is asked for; nothing twice afterwards.
    assert body_of(alice.read(alice.send_raw(repeated))) == ['two']
    assert body_of(alice.read(alice.send_raw(repeated))) == ['two']
    bob.say(alice.jid, 'three')
    assert body_of(alice.post()) == ['three']
    # What a repeated request carries is done once.
    said = alice.send(message(bob.jid, 'once'))
    bob.expect('message', body='once')
    again = alice.send_raw(alice.body(message(bob.jid, 'once')))
    bob.say(alice.jid, 'four')
    assert body_of(alice.read(again)) == ['four']
    said.close()
    bob.sync()
    bob.expect_none('message', within=0.1)
    # Requests may come in any order inside the window.
    alice.rid += 2
    later_one = alice.send_raw(alice.body(message(bob.jid, 'second')))
    alice.rid -= 1
    earlier = alice.send_raw(alice.body(message(bob.jid, 'first')))
    assert bob.expect('message').findtext(f'{CLIENT}body') == 'first'
    assert bob.expect('message').findtext(f'{CLIENT}body') == 'second'
    alice.rid += 1
    alice.read(earlier)
    # Elements without a namespace of their own are taken for stanzas, as other servers do.
    end = alice.send(f"<message to='{bob.jid}'><body>bare</body></message>", type='terminate')
    bob.expect('message', body='bare')
    assert alice.read(later_one).get('type') == 'terminate'
    assert alice.read(end).get('type') == 'terminate'
    assert alice.post().get('condition') == 'item-not-found'
    assert sessions(bob, alice.jid) == 'service-unavailable'


def body_of(response: Element) -> list[str | None]:
    """Texts of the messages in a response."""
    return [one.findtext(f'{CLIENT}body') for one in response.iter(f'{CLIENT}message')]


@proves('XMP-21')
def test_bosh_rules(web: Web, make_user: Callable[..., Any]) -> None:
    """What ends a session, and with which condition."""
    make_user('alice')

    def ended(client: BoshClient, response: Element, condition: str) -> None:
        assert (response.get('type'), response.get('condition')) == ('terminate', condition)
        assert client.post().get('condition') == 'item-not-found'

    # request ids: too far ahead; long gone
    alice = web.bosh().login('alice')
    alice.rid += 5
    ended(alice, alice.post(), 'item-not-found')
    alice = web.bosh().login('alice')
    alice.rid -= 8
    ended(alice, alice.post(), 'item-not-found')
    # a session that is not one, other people's guesses
    stranger = web.bosh()
    stranger.sid = 'guessed'
    assert stranger.post().get('condition') == 'item-not-found'
    # too many requests at once
    alice = web.bosh().login('alice')
    waiting = [alice.send()]
    alice.rid += 1
    waiting.append(alice.send())
    alice.rid -= 2
    ended(alice, alice.post(), 'policy-violation')
    assert all(alice.read(one).get('type') == 'terminate' for one in waiting)
    # too many polls
    poller = web.bosh()
    poller.open(hold=0)
    poller.post()
    ended(poller, poller.post(), 'policy-violation')
    # key sequences
    keys = ['start']
    for _ in range(8):
        keys.append(hashlib.sha1(keys[-1].encode(), usedforsecurity=False).hexdigest())
    keyed = web.bosh()
    keyed.open(newkey=keys.pop())
    assert keyed.post(plain('alice'), key=keys.pop()).get('type') is None
    fresh = hashlib.sha1(b'other', usedforsecurity=False).hexdigest()
    assert keyed.post(key=keys.pop(), newkey=fresh, xmpp_restart='true').get('type') is None
    assert keyed.post(bind('k'), key='other').get('type') is None
    ended(keyed, keyed.post(key='wrong'), 'item-not-found')
    # XML that is none
    alice = web.bosh().login('alice')
    alice.rid += 1
    broken = alice.body('<message><body>x</message>')
    ended(alice, alice.read(alice.send_raw(broken)), 'bad-request')
    nobody = web.bosh()
    for text in (b'', b'<body/>', b'hello', b"<body xmlns='x' rid='1'/>", b'\xff\xfe<', nobody.body(rid='x')):
        assert nobody.read(nobody.send_raw(text)).get('condition') == 'bad-request', text
    entity = b"<!DOCTYPE body [<!ENTITY x 'y'>]>" + nobody.body('&x;')
    assert nobody.read(nobody.send_raw(entity)).get('condition') == 'bad-request'
    # the stream's own errors
    for attributes, told in (({'to': 'elsewhere.example'}, 'host-unknown'), ({'to': ''}, 'improper-addressing')):
        assert web.bosh().open(**attributes).get('condition') == told
    early = web.bosh()
    early.open()
    end = early.post(message('bob@example.com', 'not signed in'))
    assert end.get('condition') == 'remote-stream-error'
    assert end.find(f'{{{STREAMS}}}error/{ERRORS}not-authorized') is not None
    # clients from before 1.6 get HTTP errors
    old = web.bosh()
    old.open(ver=None)
    old.rid += 9
    response = old.send().getresponse()
    assert response.status == 404
    # many sessions from one address go on side by side
    several = [web.bosh().login('alice', f'r{number}') for number in range(4)]
    for client in several[1:]:
        with later(client.post) as answers:
            several[0].send(message(client.jid, client.jid))
        assert client.jid in body_of(answers[0]), client.jid


def test_bosh_silence_loses_nothing(
    request: pytest.FixtureRequest, db: None, make_user: Callable[..., Any], xmpp: Callable[..., XmppClient]
) -> None:
    """A client that stays away: pause is granted, inactivity ends the session, its messages are not lost."""
    web = start(request, bosh_inactivity_s=5, bosh_pause_s=30)
    make_user('alice')
    make_user('bob')
    bob = xmpp('bob', 'tcp')
    bob.available()
    pausing = web.bosh().login('alice', 'pausing')
    pausing.post("<presence xmlns='jabber:client'><priority>-1</priority></presence>", pause=20)
    alice = web.bosh().login('alice', 'gone')
    alice.post("<presence xmlns='jabber:client'/>")
    bob.say(alice.jid, 'never fetched')
    bob.sync()
    wait_until(lambda: sessions(bob, alice.jid) == 'service-unavailable', 'the silent session is over')
    back = xmpp('alice', 'back')
    back.available()
    back.expect('message', body='never fetched')
    assert pausing.post(wait=1).get('type') is None, 'the pause was longer'
