"""Nothing is lost or doubled on the way to and from web clients: XEP-0198 over a WebSocket (RFC 7395 3.10), and what a
WebSocket or a BOSH session (XEP-0124 9) did not take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from xml.etree.ElementTree import Element

import pytest

from tests.areas.xmpp_fixtures import ensure
from tests.fixtures import data
from tests.fixtures.processes import wait_until
from tests.proves import proves
from tests.services.managedclient import CLIENT, SM, ManagedClient
from tests.services.test_stream_management import stored
from tests.services.webclient import BoshClient, Web, WebSocketClient, start

NS = 'urn:xmpp:sm:3'
ALICE = f'alice@{data.DOMAIN}'
PRESENCE = "<presence xmlns='jabber:client'/>"
Managed = Callable[..., ManagedClient]


@pytest.fixture
def web(request: pytest.FixtureRequest, db: None, make_user: Any) -> Web:
    """An engine with web clients; alice, bob and carol exist. The parameters may be given (indirect)."""
    ensure(make_user, 'alice', 'bob', 'carol')
    return start(request, **getattr(request, 'param', {}))


@pytest.fixture
def managed(web: Web) -> Iterator[Managed]:
    """``managed('bob')``: a client with stream management over TCP, connected and not signed in."""
    made: list[ManagedClient] = []

    def make(user: str, resource: str = 'raw') -> ManagedClient:
        made.append(ManagedClient(web.engine, user, resource))
        return made[-1]

    yield make
    for one in made:
        one.close_all()


def text(element: Element) -> str | None:
    """The body of a message."""
    return element.findtext(f'{CLIENT}body')


def said(to: str, body: str) -> str:
    """A chat message as a WebSocket message."""
    return f"<message xmlns='jabber:client' to='{to}' type='chat'><body>{body}</body></message>"


def waits_for(sender: ManagedClient, h: int, within_s: float = 40) -> None:
    """The sender is told that ``h`` of its stanzas are decided, asked for or not."""
    sender.send(f"<r xmlns='{NS}'/>".encode())
    sender.take(f'{SM}a', lambda a: a.get('h') == str(h), within_s)
    sender.elements = [one for one in sender.elements if one.tag != f'{SM}a']


@proves('SM-01', 'SM-05', 'SM-06')
def test_stream_management_over_a_websocket(web: Web, managed: Managed) -> None:
    """Enabled, acknowledged both ways, hibernating when the socket is lost, resumed over TCP and over a WebSocket."""
    bob = managed('bob').online(available=False)
    alice = web.websocket()
    features = alice.authenticate('alice')
    assert features.find(f'{SM}sm') is not None
    alice.send(
        "<iq xmlns='jabber:client' type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>"
        '<resource>ws</resource></bind></iq>'
    ).read()
    jid = f'{ALICE}/ws'
    enabled = alice.send(f"<enable xmlns='{NS}' resume='true'/>").read()
    assert (enabled.tag, enabled.get('resume')) == (f'{SM}enabled', 'true')
    previd = enabled.get('id')

    # Its own stanzas are acknowledged, what it is sent counts only when it acknowledged it.
    alice.send(said(bob.jid, 'hello'))
    assert bob.bodies(1) == ['hello']
    bob.acknowledge()
    alice.send(f"<r xmlns='{NS}'/>")
    while (answer := alice.read_until(f'{SM}a')).get('h') != '1':
        pass
    for number in range(5):
        bob.say(jid, f'{number}')
    assert bob.acknowledged() == 0
    found = [text(alice.read_until(f'{CLIENT}message')) for _ in range(5)]
    assert found == ['0', '1', '2', '3', '4']
    alice.read_until(f'{SM}r')
    alice.send(f"<a xmlns='{NS}' h='5'/>")
    waits_for(bob, 5)
    assert answer.get('h') == '1'

    # Lost without <close/>: the session waits, over TCP the client gets what it missed.
    alice.close()
    bob.say(jid, 'while away')
    assert bob.acknowledged() == 5
    tcp = managed('alice').sign_in()
    tcp.counting = True
    tcp.send(f"<resume xmlns='{NS}' previd='{previd}' h='5'/>".encode())
    assert tcp.take(f'{SM}resumed').get('h') == '1'
    assert tcp.bodies(1) == ['while away']
    tcp.acknowledge(6)
    waits_for(bob, 6)

    # And back, this time while the TCP connection still stands: that one ends.
    bob.say(jid, 'for whoever comes')
    back = web.websocket()
    back.authenticate('alice')
    resumed = back.send(f"<resume xmlns='{NS}' previd='{previd}' h='6'/>").read()
    assert (resumed.tag, resumed.get('previd'), resumed.get('h')) == (f'{SM}resumed', previd, '1')
    assert text(back.read_until(f'{CLIENT}message')) == 'for whoever comes'
    tcp.take('{http://etherx.jabber.org/streams}error')
    back.send(f"<a xmlns='{NS}' h='7'/>")
    waits_for(bob, 7)
    back.send(said(bob.jid, 'back again'))
    assert bob.bodies(1) == ['back again']

    # Closing the WebSocket without <close/> is a lost socket too; with it the session is over and its messages go on.
    back.leave()
    bob.say(jid, 'not lost')
    assert bob.acknowledged() == 7
    last = web.websocket()
    last.authenticate('alice')
    last.send(f"<resume xmlns='{NS}' previd='{previd}' h='7'/>")
    assert text(last.read_until(f'{CLIENT}message')) == 'not lost'
    last.send("<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>")
    waits_for(bob, 8)
    assert stored('alice') == 1


def fill(sender: ManagedClient, jid: str) -> int:
    """Send messages to a client that does not read, one by one, until one is not taken; how many were sent."""
    for number in range(1, 400):
        sender.say(jid, f'{number} {"x" * 50_000}')
        try:
            waits_for(sender, number, 2)
        except AssertionError:
            return number
    raise AssertionError('the system takes everything')


@pytest.mark.parametrize('web', [{'secure_mode': True}, {'secure_mode': False}], indirect=True, ids=['wss', 'ws'])
def test_what_a_websocket_did_not_take(web: Web, managed: Managed, request: pytest.FixtureRequest) -> None:
    """Its sender hears nothing until the connection breaks; then it is in the offline store, once."""
    secure = request.node.callspec.id == 'wss'
    bob, carol = managed('bob').online(available=False), managed('carol').online(available=False)
    carol.say(ALICE, 'from the disk')
    waits_for(carol, 1)
    alice: WebSocketClient = web.websocket(secure=secure, buffer=8192).login('alice')
    count = fill(bob, alice.jid)
    bob.say(alice.jid, 'behind it')
    # What comes from the disk waits in the connection, too, and stays on the disk as long.
    alice.send(PRESENCE)
    alice.send(said(f'carol@{data.DOMAIN}', 'is away'))
    wait_until(lambda: stored('carol') == 1, 'the server has dealt with the presence')
    assert bob.acknowledged() == count - 1
    alice.close()
    waits_for(bob, count + 1)
    desk = managed('alice', 'desk').online()
    desk.sync()
    got = [text(one) or '' for one in desk.rest(0.5) if one.tag == f'{CLIENT}message']
    assert [one[:20].split()[0] for one in got] == ['from', str(count), 'behind'], 'each once'
    assert len(got[1]) > 50_000


def test_what_a_bosh_client_did_not_acknowledge(web: Web, managed: Managed) -> None:
    """The sender hears of it when a later request of the client shows that it came; when the session ends before, the
    user's next client gets it, once."""
    bob, carol = managed('bob').online(available=False), managed('carol').online(available=False)
    carol.say(ALICE, 'from the disk')
    waits_for(carol, 1)
    # A client without acknowledgements is not left waiting for nothing as long as somebody waits for it.
    other: BoshClient = web.bosh().login('alice', 'other', wait=60)
    bob.say(other.jid, 'first')
    other.until(other.post, f'{CLIENT}message')
    assert [len(other.post()), len(other.post())] == [0, 0]
    other.send()
    waits_for(bob, 1)

    alice: BoshClient = web.bosh().login('alice', ack=1)
    bob.say(alice.jid, 'came')
    assert bob.acknowledged() == 1
    alice.until(alice.post, f'{CLIENT}message')
    waiting = alice.send()
    waits_for(bob, 2)
    bob.say(alice.jid, 'read and not acknowledged')
    assert text(alice.read(waiting)[0]) == 'read and not acknowledged'
    alice.post(PRESENCE + said(f'carol@{data.DOMAIN}', 'is away'), ack=alice.rid - 1)
    wait_until(lambda: stored('carol') == 1, 'the server has dealt with the presence')
    assert bob.acknowledged() == 2
    # A request far out of order ends the session (XEP-0124 14.2).
    alice.rid += 100
    assert alice.post().get('condition') == 'item-not-found'
    waits_for(bob, 3)
    desk = managed('alice', 'desk').online()
    desk.sync()
    got = [text(one) for one in desk.rest(0.5) if one.tag == f'{CLIENT}message']
    assert got == ['from the disk', 'read and not acknowledged'], 'each once'
