"""Ad hoc chat rooms with real clients at one node: the service, discovery, what happens to occupants that are lost."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from tests.areas.chat_rooms import ENTER, INFO, MUC, USER, aliases, codes, enter, items, leave, left, talk
from tests.areas.xmpp_fixtures import address, command, configure, ensure, parameter, sign_in
from tests.fixtures.processes import Engine, wait_until
from tests.proves import proves
from tests.services.managedclient import CLIENT, ManagedClient
from tests.xmppclient import XmppClient, condition

__all__ = ['sign_in']
SignIn = Callable[..., XmppClient]
SERVICE = 'text_conference_manager'
IN_USE = 'the phone is in use now'


@proves('GC-01', 'GC-02', 'GC-03', 'GC-05', 'GC-06', 'XMP-08', 'CHM-05')
def test_a_room_lives_while_somebody_is_in_it(sign_in: SignIn) -> None:
    """Right after the installation: made by the first, found and entered by a second, an invited third; gone with the
    last."""
    alice, bob, carol = sign_in('alice', 'r'), sign_in('bob', 'r'), sign_in('carol', 'r')
    (alias,) = aliases(alice)
    assert alias == 'conference-1-standalonecluster.example.com'
    info = alice.iq('get', INFO, to=alias)[0]
    assert {one.get('category') for one in info} >= {'conference'}
    room = f'lunch@{alias}'
    assert condition(bob.iq('get', INFO, to=room)) == 'item-not-found'
    assert codes(enter(alice, room, 'Alice')) >= {'110', '201'}
    assert items(bob, alias) == [room]
    enter(bob, room, 'Bob')
    assert alice.expect('presence', from_=f'{room}/Bob').find(f'.//{USER}item').get('jid') == bob.jid
    talk(alice, room, 'where do we go?', alice, bob)
    talk(bob, room, 'to the “Blue Lion” & <Friends>', bob, alice)
    alice.raw(f"<message to='{room}'><x xmlns='{MUC}#user'><invite to='{carol.bare}'/></x></message>")
    carol.expect('message', from_=room, has=f'{USER}invite')
    bob.raw(f"<message to='{carol.bare}'><x xmlns='jabber:x:conference' jid='{room}'/></message>")
    carol.expect('message', from_=bob.jid, has='{jabber:x:conference}x')
    enter(carol, room, 'Carol')
    talk(carol, room, 'hello', alice, bob, carol)
    for client, nick in ((alice, 'Alice'), (bob, 'Bob'), (carol, 'Carol')):
        leave(client, room, nick)
    assert condition(bob.iq('get', INFO, to=room)) == 'item-not-found'
    assert items(bob, alias) == []
    assert codes(enter(bob, room, 'Bob')) >= {'110', '201'}
    talk(bob, room, 'the first one', bob)
    bob.expect_none('message', 0.1, type='groupchat')


def test_the_way_to_rooms(sign_in: SignIn, engine: Engine) -> None:
    """A lost client leaves its rooms, a blocked room says nothing more, a request for a subscription is refused, and
    the service that stops tells everybody."""
    alice, bob = sign_in('alice', 'r'), sign_in('bob', 'r')
    (alias,) = aliases(alice)
    room = f'way@{alias}'
    enter(alice, room, 'Alice')
    enter(bob, room, 'Bob')
    carol = sign_in('carol', 'r')
    enter(carol, room, 'Carol')
    carol.abort()
    left(alice, room, 'Carol')
    assert engine_counters(engine) == {'TcTotalRooms': 1, 'TcAdHocRooms': 1, 'TcOccupants': 2}

    alice.presence('subscribe', to=room)
    alice.expect('presence', type='unsubscribed', from_=room)

    block = f"<block xmlns='urn:xmpp:blocking'><item jid='{room}'/></block>"
    assert bob.iq('set', block).get('type') == 'result'
    left(alice, room, 'Bob')
    refused = bob.say(room, 'anybody?', type='groupchat')
    assert condition(bob.expect('message', type='error', id=refused)) == 'not-acceptable'
    assert bob.iq('set', block.replace('block ', 'unblock ').replace('</block>', '</unblock>')).get('type') == 'result'
    enter(bob, room, 'Bob')

    command('stop', SERVICE)
    for client, nick in ((alice, 'Alice'), (bob, 'Bob')):
        left(client, room, nick, '332')
    assert aliases(alice) == []
    refused = alice.say(room, 'still there?', type='groupchat')
    assert condition(alice.expect('message', type='error', id=refused)) == 'service-unavailable'
    command('start', SERVICE)
    assert aliases(alice) == [alias]
    assert condition(bob.iq('get', INFO, to=room)) == 'item-not-found'
    assert '201' in codes(enter(bob, room, 'Bob'))


def engine_counters(engine: Engine) -> dict[str, int]:
    """The gauges of the performance monitor object Cisco XCP TC."""
    from urllib.request import urlopen

    with urlopen(f'http://127.0.0.1:{engine.metrics_port}/metrics', timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    found = [line for line in lines if 'object="Cisco XCP TC"' in line and 'Messages' not in line]
    return {line.partition('counter="')[2].partition('"')[0]: int(float(line.rsplit(' ', 1)[1])) for line in found}


@proves('MDM-24')
def test_only_the_client_that_entered(sign_in: SignIn) -> None:
    """Neither Multi-Device Messaging nor the archive nor the offline store has anything of what is said in a room."""
    parameter('xcp_router', 'message_archive', True)
    laptop, phone, bob = sign_in('alice', 'laptop'), sign_in('alice', 'phone'), sign_in('bob', 'r')
    for client in (laptop, phone, bob):
        assert client.iq('set', "<enable xmlns='urn:xmpp:carbons:2'/>").get('type') == 'result'
    room = f'mdm@{aliases(bob)[0]}'
    enter(bob, room, 'Bob')
    enter(laptop, room, 'Alice')
    phone.forget()
    talk(bob, room, 'for those who are here', laptop, bob)
    talk(laptop, room, 'thank you', laptop, bob)
    bob.say(f'{room}/Alice', 'only for you')
    laptop.expect('message', body='only for you', from_=f'{room}/Bob', type='chat')
    phone.expect_none('message', 0.2)
    laptop.raw("<inactive xmlns='urn:xmpp:csi:0'/>")
    laptop.sync()
    phone.say(bob.bare, IN_USE)
    bob.expect('message', body=IN_USE)
    bob.say(f'{room}/Alice', 'this does not wait')
    laptop.expect('message', body='this does not wait')
    enter(phone, room, 'Alice too')
    talk(bob, room, 'now both', laptop, phone)
    leave(phone, room, 'Alice too')
    laptop.close()
    left(bob, room, 'Alice')
    refused = bob.say(f'{room}/Alice', 'are you there?')
    assert condition(bob.expect('message', type='error', id=refused)) == 'item-not-found'
    again = sign_in('alice', 'laptop')
    again.expect_none('message', 0.2)
    again.forget()
    assert again.iq('set', "<query xmlns='urn:xmpp:mam:2'/>").get('type') == 'result'
    assert {body.text for one in again.stanzas for body in one.iter('{jabber:client}body')} == {IN_USE}


@proves('GC-03')
def test_a_lost_connection(sign_in: SignIn, request: pytest.FixtureRequest, make_user: Callable[..., object]) -> None:
    """A session that can be resumed stays in its rooms and misses nothing; when nobody resumes it, it leaves. What a
    room has is acknowledged, whatever becomes of its copies."""
    parameter('xcp_router', 'stream_management_timeout_s', 2)
    ensure(make_user, 'carol')
    bob = sign_in('bob', 'r')
    room = f'lost@{aliases(bob)[0]}'
    enter(bob, room, 'Bob')
    carol = ManagedClient(request.getfixturevalue('engine'), 'carol').online()
    carol.send(f"<presence to='{room}/Carol'>{ENTER}</presence>".encode())
    carol.take(f'{CLIENT}presence', lambda seen: seen.get('from') == f'{room}/Carol')
    before = carol.acknowledged()
    carol.say(room, 'I am here', type='groupchat')
    bob.expect('message', body='I am here', type='groupchat')
    assert carol.acknowledged() == before + 1
    carol.take(f'{CLIENT}message', lambda seen: seen.findtext(f'{CLIENT}body') == 'I am here')
    carol.socket.shutdown(socket.SHUT_RDWR)
    bob.say(room, 'did you hear this?', type='groupchat')
    bob.expect('message', body='did you hear this?')
    again = carol.again()
    again.take('{urn:xmpp:sm:3}resumed')
    assert 'did you hear this?' in again.bodies(1)
    again.say(room, 'yes', type='groupchat')
    bob.expect('message', body='yes', from_=f'{room}/Carol')
    again.close()
    left(bob, room, 'Carol')
    carol.close_all()


@proves('IM-28', 'CHM-02')
@pytest.mark.parametrize('whole_cluster', [True, False])
def test_availability_that_is_not_shared(sign_in: SignIn, whole_cluster: bool) -> None:
    """A user is in the room all the same, but nothing is known of the availability."""
    if whole_cluster:
        configure(presence={'availability_sharing': False})
    alice, bob = sign_in('alice', 'r'), sign_in('bob', 'r')
    room = f'grey@{aliases(alice)[0]}'
    if not whole_cluster:
        policy = "<policy xmlns='urn:imp:presence-policy:0'><availability-sharing>off</availability-sharing></policy>"
        assert bob.iq('set', policy).get('type') == 'result'
    enter(alice, room, 'Alice')
    enter(bob, room, 'Bob', '<show>dnd</show><status>at the dentist</status>', show='', status='')
    alice.expect('presence', from_=f'{room}/Bob', type='', show='', status='')
    talk(bob, room, 'I am here', alice, bob)
    bob.raw(f"<presence to='{room}/Bob'><show>away</show><status>lunch</status></presence>")
    alice.expect('presence', from_=f'{room}/Bob', type='', show='', status='')
    for to in (f" to='{room}/Bob'", ''):  # leaves the room, then the server
        bob.raw(f"<presence type='unavailable'{to}><status>gone to the dentist</status></presence>")
        assert left(alice, room, 'Bob').find('{jabber:client}status') is None
        alice.forget()
        if to:
            enter(bob, room, 'Bob', show='', status='')
            alice.expect('presence', from_=f'{room}/Bob', type='')


@proves('GC-02')
def test_no_rooms_without_instant_messaging(sign_in: SignIn) -> None:
    configure(messaging={'im_enabled': False})
    alice = sign_in('alice', 'r')
    assert aliases(alice) == []
    room = 'none@conference-1-standalonecluster.example.com'
    alice.raw(f"<presence to='{room}/Alice'>{ENTER}</presence>")
    refused = alice.expect('presence', type='error', from_=f'{room}/Alice')
    assert condition(refused) == 'service-unavailable'
    assert condition(alice.iq('get', INFO, to=room)) is not None
    alice.say(address('bob'), 'and no messages')
    assert condition(alice.expect('message', type='error')) == 'not-allowed'


def test_many_messages_and_a_flood(sign_in: SignIn, engine: Engine) -> None:
    """A sender far faster than one turn of the loop can be: every message reaches everybody, in order."""
    alice, bob = sign_in('alice', 'r'), sign_in('bob', 'r')
    room = f'flood@{aliases(alice)[0]}'
    enter(alice, room, 'Alice')
    enter(bob, room, 'Bob')
    several = [sign_in('carol', f'r{number}') for number in range(8)]
    for number, client in enumerate(several):
        enter(client, room, f'Carol {number}')
    alice.raw(''.join(f"<message to='{room}' type='groupchat'><body>{n}</body></message>" for n in range(1500)))
    for client in (bob, several[-1], alice):
        client.expect('message', body='1499', timeout=60)
        bodies = [one.findtext('{jabber:client}body') for one in client.stanzas if one.get('type') == 'groupchat']
        assert bodies == [str(n) for n in range(1499)]
    wait_until(lambda: engine_counters(engine)['TcOccupants'] == 10, 'all are still there')
