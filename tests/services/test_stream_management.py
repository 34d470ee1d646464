"""Stream management (XEP-0198, spec 11 SM-01..09): acknowledged, resumed, returned, stored; nothing lost or twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.areas.xmpp_fixtures import ensure, parameter
from tests.fixtures import data
from tests.fixtures.processes import Engine, wait_until
from tests.fixtures.tls import trusting
from tests.proves import proves
from tests.services.managedclient import CLIENT, SM, ManagedClient
from tests.services.test_client_connections import set_parameter

Make = Callable[..., ManagedClient]
ALICE, BOB = f'alice@{data.DOMAIN}', f'bob@{data.DOMAIN}'
STREAMS = '{urn:ietf:params:xml:ns:xmpp-streams}'
ERROR = '{http://etherx.jabber.org/streams}error'


@pytest.fixture
def before(request: pytest.FixtureRequest, make_user: Any) -> None:
    """alice, bob and carol exist; router parameters (indirect parametrization) are set before the engine starts."""
    ensure(make_user, 'alice', 'bob', 'carol')
    for name, value in getattr(request, 'param', {}).items():
        parameter('xcp_router', name, value)


@pytest.fixture
def client(before: None, engine: Engine) -> Iterator[Make]:
    """``client('alice', resource='raw')``: connected, not signed in."""
    made: list[ManagedClient] = []

    def make(user: str, resource: str = 'raw') -> ManagedClient:
        made.append(ManagedClient(engine, user, resource))
        return made[-1]

    yield make
    for one in made:
        one.close_all()


def condition(failed: Any) -> str:
    """The condition in <failed/>."""
    return failed[0].tag.partition('}')[2]


def stored(user: str) -> int:
    """Messages of a user on disk."""
    from impadmin.messaging.models import OfflineMessage

    return OfflineMessage.objects.filter(user__user_id=user).count()


@proves('SM-01', 'SM-03')
def test_what_enabled_promises(client: Make) -> None:
    """The server's time is the most a client gets; it may ask for less; what is wrong is said, nothing else breaks."""
    first = client('bob', 'first').sign_in()
    assert first.features.find(f'{SM}sm') is not None
    first.send(b"<enable xmlns='urn:xmpp:sm:3'/>")
    assert condition(first.take(f'{SM}failed')) == 'unexpected-request'
    first.bind()
    first.send(b"<a xmlns='urn:xmpp:sm:3' h='0'/>")
    assert condition(first.take(f'{SM}failed')) == 'unexpected-request'
    for wrong in ("resume='maybe'", "max='soon'", "max='-1'", "max='99999999999'"):
        first.send(f"<enable xmlns='urn:xmpp:sm:3' {wrong}/>".encode())
        assert condition(first.take(f'{SM}failed')) == 'bad-request', wrong
    answer = first.enable("resume='true' max='300'")
    assert (answer.get('max'), answer.get('resume')) == ('60', 'true')
    assert len(answer.get('id', '')) >= 32
    first.send(b"<enable xmlns='urn:xmpp:sm:3'/>")
    assert condition(first.take(f'{SM}failed')) == 'unexpected-request'
    first.send(b"<resume xmlns='urn:xmpp:sm:3' previd='x' h='0'/>")
    assert condition(first.take(f'{SM}failed')) == 'unexpected-request'
    assert client('bob', 'second').sign_in().bind().enable().get('max') == '60'
    assert client('bob', 'third').sign_in().bind().enable("resume='1' max='30'").get('max') == '30'
    plain = client('bob', 'fourth').sign_in().bind().enable('')
    assert (plain.get('id'), plain.get('resume')) == (None, None)
    first.sync()


@proves('SM-05')
def test_the_server_asks_after_every_fifth_stanza(client: Make) -> None:
    bob, alice = client('bob').online(), client('alice').online()
    bob.elements.clear()
    begin = bob.h
    bob.acknowledge()
    for number in range(10 - begin % 5):
        alice.say(bob.jid, f'n{number}')
    alice.sync()
    bob.sync()
    received = [element.tag.rpartition('}')[2] for element in bob.rest()]
    stanzas = begin
    asked = []
    for name in received:
        if name == 'r':
            asked.append(stanzas)
        else:
            stanzas += 1
    assert asked
    assert all(number % 5 == 0 for number in asked), (begin, received)


@proves('SM-01', 'SM-06')
def test_a_resumed_client_gets_what_it_missed_once_and_in_order(client: Make) -> None:
    """Also over another kind of loss: the old connection is still open when the new one resumes."""
    bob, carol = client('bob').online(), client('carol').sign_in().bind()
    carol.send(b'<presence/>')
    for number in range(2):
        carol.say(bob.jid, f'before {number}')
    assert bob.bodies(2) == ['before 0', 'before 1']
    bob.close()
    for number in range(3):
        carol.say(BOB, f'away {number}')
    carol.sync()
    back = bob.again()
    assert back.take(f'{SM}resumed').get('previd') == bob.id
    assert back.bodies(3) == ['away 0', 'away 1', 'away 2']
    carol.say(bob.jid, 'after')
    assert back.bodies(1) == ['after']
    for number in range(2):
        carol.say(bob.jid, f'not acknowledged {number}')
    h = back.h
    assert back.bodies(2) == ['not acknowledged 0', 'not acknowledged 1']
    third = back.again(h)
    third.take(f'{SM}resumed')
    assert third.bodies(2) == ['not acknowledged 0', 'not acknowledged 1']
    assert back.take(ERROR)[0].tag == f'{STREAMS}conflict'
    third.sync()
    assert not [m for m in third.rest() if m.tag == f'{CLIENT}message']
    assert not [m for m in carol.rest(0.01) if m.get('type') == 'error']


def test_what_the_client_sends_again_is_handled_once(client: Make) -> None:
    """The sender's acknowledgement waits for the receiver's; after a resumption it repeats what was not acknowledged,
    and the receiver gets it once."""
    bob, alice = client('bob').online(), client('alice').online(available=False)
    first = alice.say(bob.jid, 'one')
    alice.sync()
    assert bob.bodies(1) == ['one']
    assert alice.acknowledged() == 0
    back = alice.again()
    assert back.take(f'{SM}resumed').get('h') == '0'
    again = f"<message to='{bob.jid}' type='chat' id='{first}'><body>one</body></message>"
    back.send(again.encode())
    back.say(bob.jid, 'two')
    assert bob.bodies(1) == ['two']
    back.send(b"<r xmlns='urn:xmpp:sm:3'/>")
    assert back.take(f'{SM}a').get('h') == '0'
    bob.acknowledge()
    back.take(f'{SM}a', lambda a: a.get('h') == '2')
    assert back.acknowledged() == 2


def test_acknowledged_means_decided(client: Make) -> None:
    """<a/> counts a message when its receiver has acknowledged it, the socket took it, or it is on disk."""
    alice = client('alice').online(available=False)
    alice.say(BOB, 'to the disk')
    alice.send(b"<r xmlns='urn:xmpp:sm:3'/>")
    alice.take(f'{SM}a', lambda a: a.get('h') == '1')
    assert stored('bob') == 1
    plain = client('carol').sign_in().bind()
    alice.say(plain.jid, 'to a socket')
    alice.send(b"<r xmlns='urn:xmpp:sm:3'/>")
    alice.take(f'{SM}a', lambda a: a.get('h') == '2')
    managed = client('carol', 'managed').online()
    alice.say(managed.jid, 'to a managed client')
    assert alice.acknowledged() == 2
    managed.take(f'{SM}r')
    managed.acknowledge()
    alice.take(f'{SM}a', lambda a: a.get('h') == '3')


@proves('SM-07', 'SM-08')
def test_not_resumed_in_time(client: Make) -> None:
    """Messages go back to the sender, contacts see the user go only then, later ones are stored and delivered."""
    alice = client('alice').sign_in().bind()
    alice.send(b'<presence/>')
    bob = client('bob').online("resume='true' max='1'")
    bob.send(f"<presence to='{alice.jid}'/>".encode())
    alice.take(f'{CLIENT}presence', lambda p: p.get('from') == bob.jid)
    bob.close()
    number = alice.say(BOB, 'into nothing')
    alice.send(f"<iq type='get' id='ask' to='{bob.jid}'><ping xmlns='urn:xmpp:ping'/></iq>".encode())
    alice.sync()
    assert not [e for e in alice.elements if e.get('type') in ('error', 'unavailable')]
    assert alice.error(number) == 'recipient-unavailable'
    answer = alice.take(f'{CLIENT}iq', lambda iq: iq.get('id') == 'ask')
    assert answer.get('type') == 'error'
    alice.take(f'{CLIENT}presence', lambda p: p.get('type') == 'unavailable' and p.get('from') == bob.jid)
    later = alice.say(BOB, 'after that')
    alice.sync()
    assert not [m for m in alice.elements if m.get('id') == later]
    back = bob.again()
    assert condition(back.take(f'{SM}failed')) == 'item-not-found'
    back.bind().send(b'<presence/>')
    message = back.take(f'{CLIENT}message')
    assert message.findtext(f'{CLIENT}body') == 'after that'
    assert message.find('{urn:xmpp:delay}delay') is not None
    assert not [m for m in back.rest() if m.tag == f'{CLIENT}message']


@proves('SM-07')
def test_a_sender_who_is_gone_gets_no_error_so_the_message_is_stored(client: Make) -> None:
    alice, bob = client('alice').sign_in().bind(), client('bob').online("resume='true' max='1'")
    bob.close()
    alice.say(BOB, 'and away')
    alice.sync()
    alice.send(b'</stream:stream>')
    wait_until(lambda: stored('bob') == 1, 'the message on disk')
    back = client('bob').online()
    assert back.bodies(1) == ['and away']
    back.acknowledge()
    wait_until(lambda: stored('bob') == 0, 'the message removed')


@proves('SM-04')
@pytest.mark.parametrize('before', [{'stream_management_buffer': 5}], indirect=True)
def test_more_missed_than_is_kept(client: Make) -> None:
    """Buffer 5, 6 messages: no resumption, and all six come to the client that signs in anew. A client that stays
    connected and acknowledges late loses nothing: what left the ring is kept until it is acknowledged or returned."""
    late(client)
    bob, alice = client('bob').online(), client('alice').sign_in().bind()
    bob.acknowledge()
    bob.sync()
    bob.acknowledge()
    bob.close()
    for number in range(6):
        alice.say(BOB, f'm{number}')
    alice.sync()
    back = bob.again()
    failed = back.take(f'{SM}failed')
    assert condition(failed) == 'item-not-found'
    assert failed.get('h') is not None
    back.bind().send(b'<presence/>')
    assert back.bodies(6) == [f'm{number}' for number in range(6)]
    assert not [m for m in alice.rest(0.01) if m.get('type') == 'error']


def late(client: Make) -> None:
    """The second half of the test before."""
    bob, alice = client('bob', 'late').online("resume='true' max='1'"), client('alice', 'other').sign_in().bind()
    numbers = [alice.say(BOB, f'm{number}') for number in range(20)]
    assert len(bob.bodies(20)) == 20
    bob.acknowledge(bob.h - 8)
    bob.sync()
    bob.close()
    for number in numbers[12:]:
        assert alice.error(number) == 'recipient-unavailable'
    assert not [m for m in alice.rest(0.1) if m.get('type') == 'error']


@proves('SM-01')
def test_a_wrong_h(client: Make) -> None:
    """Not a number, or more than was sent."""
    for h in ('-1', '', 'x', '4294967296', '99999999999999999999', '1.5'):
        bob = client('bob').online()
        bob.send(f"<a xmlns='urn:xmpp:sm:3' h='{h}'/>".encode())
        assert bob.take(ERROR)[0].tag == f'{STREAMS}bad-format', h
        back = client('bob').sign_in()
        back.send(f"<resume xmlns='urn:xmpp:sm:3' previd='x' h='{h}'/>".encode())
        assert condition(back.take(f'{SM}failed')) == 'bad-request', h
    bob = client('bob').online()
    bob.acknowledge(bob.h + 1)
    error = bob.take(ERROR)
    assert error[0].tag == f'{STREAMS}undefined-condition'
    detail = error.find(f'{SM}handled-count-too-high')
    assert detail is not None
    assert (detail.get('h'), detail.get('send-count')) == (str(bob.h + 1), str(bob.h))


@proves('SM-01')
def test_foreign_and_guessed_sessions(client: Make) -> None:
    """Somebody else's id, a made-up one, five attempts at most; the session in question is untouched."""
    bob = client('bob').online()
    bob.close()
    thief = client('carol').sign_in()
    for previd in (bob.id, bob.id[:-1], 'x' * 5000, '', "' or 1=1"):
        escaped = previd.replace("'", '&apos;')
        thief.send(f"<resume xmlns='urn:xmpp:sm:3' previd='{escaped}' h='0'/>".encode())
        assert condition(thief.take(f'{SM}failed')) in ('item-not-found', 'bad-request'), previd
    thief.send(f"<resume xmlns='urn:xmpp:sm:3' previd='{bob.id}' h='0'/>".encode())
    assert thief.take(ERROR)[0].tag == f'{STREAMS}policy-violation'
    nobody = client('bob')
    nobody.starttls().send(f"<resume xmlns='urn:xmpp:sm:3' previd='{bob.id}' h='0'/>".encode())
    assert b'<stream:error>' in nobody.read_all()
    back = bob.again()
    back.take(f'{SM}resumed')
    storm = [bob.again(back.h) for _ in range(5)]
    for one in storm:
        one.take(f'{SM}resumed')
    storm[-1].sync()


def test_an_orderly_end_is_not_resumable_and_loses_nothing(client: Make) -> None:
    alice, bob = client('alice').sign_in().bind(), client('bob').online()
    alice.say(bob.jid, 'read but not acknowledged')
    bob.bodies(1)
    bob.send(b'</stream:stream>')
    wait_until(lambda: stored('bob') == 1, 'the message on disk')
    back = bob.again()
    assert condition(back.take(f'{SM}failed')) == 'item-not-found'
    assert back.bind().enable() is not None
    back.send(b'<presence/>')
    assert back.bodies(1) == ['read but not acknowledged']


def test_another_client_that_has_the_message_is_enough(client: Make) -> None:
    """No error and no second copy when one of two clients is lost with a message the other has."""
    alice = client('alice').sign_in().bind()
    lost, stays = client('bob', 'lost').online("resume='true' max='1'"), client('bob', 'stays').online()
    number = alice.say(BOB, 'to both')
    assert lost.bodies(1) == stays.bodies(1) == ['to both']
    stays.acknowledge()
    stays.sync()
    lost.close()
    stays.take(f'{CLIENT}presence', lambda p: p.get('type') == 'unavailable')
    alice.sync()
    assert not [m for m in alice.rest(0.1) if m.get('id') == number]
    assert not [m for m in stays.rest(0.1) if m.tag == f'{CLIENT}message']
    assert stored('bob') == 0


def test_the_same_resource_anew_gets_what_the_lost_one_missed(client: Make) -> None:
    alice, bob = client('alice').sign_in().bind(), client('bob').online()
    bob.close()
    alice.say(BOB, 'missed')
    alice.sync()
    back = client('bob').online()
    assert back.bodies(1) == ['missed']
    assert not [m for m in alice.rest(0.1) if m.get('type') == 'error']


def test_offline_messages_stay_on_disk_until_acknowledged(client: Make) -> None:
    alice = client('alice').sign_in().bind()
    for number in range(60):
        alice.say(BOB, f'm{number}')
    alice.sync()
    bob = client('bob').online(available=False)
    bob.send(b'<presence/>')
    assert len(bob.bodies(50)) == 50
    assert stored('bob') == 60
    bob.close()
    back = bob.again(0)
    back.take(f'{SM}resumed')
    assert back.bodies(50) == [f'm{number}' for number in range(50)]
    back.acknowledge()
    assert back.bodies(10) == [f'm{number}' for number in range(50, 60)]
    back.acknowledge()
    wait_until(lambda: stored('bob') == 0, 'the messages removed')


def test_a_lost_client_does_not_fill_the_memory(client: Make) -> None:
    """More waits than a megabyte: the session ends at once and everything goes back."""
    alice, bob = client('alice').sign_in().bind(), client('bob').online()
    bob.close()
    numbers = [alice.say(BOB, 'x' * 100_000) for _ in range(12)]
    alice.sync()
    assert [alice.error(number) for number in numbers[:11]] == ['recipient-unavailable'] * 11
    back = bob.again()
    assert condition(back.take(f'{SM}failed')) == 'item-not-found'


@proves('SM-02')
@pytest.mark.parametrize('before', [{'stream_management': 'disabled'}], indirect=True)
def test_switched_off(client: Make) -> None:
    bob = client('bob').sign_in()
    assert bob.features.find(f'{SM}sm') is None
    bob.send(b"<resume xmlns='urn:xmpp:sm:3' previd='x' h='0'/>")
    assert condition(bob.take(f'{SM}failed')) == 'feature-not-implemented'
    bob.bind().send(b"<enable xmlns='urn:xmpp:sm:3'/>")
    assert condition(bob.take(f'{SM}failed')) == 'feature-not-implemented'
    bob.sync()


@proves('SM-03', 'SM-05', 'SM-02')
def test_values_hold_from_the_restart_of_the_router(client: Make, engine: Engine) -> None:
    """Restart rule RST-R50; unacknowledged messages are stored before the router ends."""
    from tests.services.test_supervision import command, wait_state

    bob, alice = client('bob').online(), client('alice').sign_in().bind()
    set_parameter('xcp_router', 'stream_management_timeout_s', 40)
    set_parameter('xcp_router', 'stream_management_rate', 2)
    assert client('bob', 'old').sign_in().bind().enable().get('max') == '60'
    alice.say(bob.jid, 'in flight')
    bob.bodies(1)
    lost = client('carol').online()
    lost.close()
    alice.say(lost.jid, 'to a lost client')
    alice.sync()
    command('restart', 'xcp_router')
    wait_state('xcp_connection_manager', 'Running')
    assert (stored('bob'), stored('carol')) == (1, 1)
    back = bob.again()
    assert condition(back.take(f'{SM}failed')) == 'item-not-found'
    assert back.bind().enable().get('max') == '40'
    back.send(b'<presence/>')
    assert back.bodies(1) == ['in flight']
    back.take(f'{SM}r')
    back.close()


@proves('SM-02', 'SM-03', 'SM-04', 'SM-05', 'SM-09')
def test_the_parameters_in_the_console(api: Any) -> None:
    """One section of Cisco XCP Router; bounds as the guide has them; a change asks for a restart of every router."""
    client, url = api('administrator'), f'/api/v1/service-parameters/{data.NODE}/xcp_router/'
    now = client.get(url).json()
    names = {'stream_management': 'enabled', 'timeout_s': 60, 'buffer': 100, 'rate': 5}
    for name, default in names.items():
        key = name if name == 'stream_management' else f'stream_management_{name}'
        assert now[key] == default
    for name, wrong, right in (
        ('timeout_s', (29, 91), (30, 90)),
        ('buffer', (4, 151), (5, 150)),
        ('rate', (0, 65), (1, 64)),
    ):
        key = f'stream_management_{name}'
        for value in (*wrong, 'x', 1.5, True):
            answer = client.patch(url, {key: value})
            assert answer.status_code == 400, (key, value)
            assert key in answer.json()['errors']
        for value in right:
            assert client.patch(url, {key: value}).status_code == 200, (key, value)
    assert client.patch(url, {'stream_management': 'sometimes'}).status_code == 400
    from engine.contract.restarts import RULES
    from engine.contract.services import parameter as declaration

    for key in ('stream_management', *(f'stream_management_{name}' for name in names if name != 'stream_management')):
        param = declaration('xcp_router', key)
        assert param.section == 'Stream Management Parameters (Clusterwide)'
        assert param.scope == 'cluster'
        rules = [rule for rule in RULES if f'parameters.xcp_router.{key}' in rule.paths]
        assert [(rule.id, rule.services) for rule in rules] == [('RST-R50', ('xcp_router',))]


@proves('SM-01', 'SM-06')
def test_slixmpp_resumes(client: Make, engine: Engine) -> None:
    """A client library that nobody here wrote: its session survives the loss of the connection."""
    import asyncio

    import slixmpp

    bob = client('bob').sign_in().bind()
    received: list[str] = []
    seen: list[str] = []

    async def talk() -> None:
        alice = slixmpp.ClientXMPP(f'{ALICE}/slix', data.PASSWORD, ssl_context=trusting())
        alice.register_plugin('xep_0198')
        alice.enable_direct_tls = False
        changed = asyncio.Event()

        def note(name: str) -> Any:
            def handler(event: Any) -> None:
                seen.append(name)
                if name == 'message':
                    received.append(event['body'])
                changed.set()

            return handler

        for name in ('session_start', 'session_resumed', 'sm_enabled', 'sm_failed', 'message'):
            alice.add_event_handler(name, note(name))

        async def until(condition: Callable[[], bool]) -> None:
            async with asyncio.timeout(40):
                while not condition():
                    changed.clear()
                    await changed.wait()

        alice.connect('127.0.0.1', engine.port)
        await until(lambda: 'sm_enabled' in seen)
        alice.send_presence()
        await asyncio.to_thread(bob.say, f'{ALICE}/slix', 'one')
        await until(lambda: received == ['one'])
        alice.abort()
        await asyncio.to_thread(bob.say, f'{ALICE}/slix', 'two')
        await asyncio.to_thread(bob.sync)
        alice.connect('127.0.0.1', engine.port)
        await until(lambda: 'session_resumed' in seen and received == ['one', 'two'])
        alice.abort()

    asyncio.run(talk())
    assert seen.count('session_start') == 1
    assert 'sm_failed' not in seen
    assert not [m for m in bob.rest(0.1) if m.get('type') == 'error']
