"""Chat rooms of several nodes: every node has its own alias, and users of all nodes meet in all rooms."""

from __future__ import annotations

from tests.areas.chat_rooms import INFO, alias_of, aliases, codes, enter, items, leave, left, talk
from tests.areas.xmpp_fixtures import command, parameter
from tests.fixtures import data
from tests.fixtures.nodes import OTHER, Cluster, own
from tests.fixtures.processes import wait_until
from tests.proves import proves
from tests.services.managedclient import CLIENT, ManagedClient
from tests.xmppclient import condition

SERVICE = 'text_conference_manager'


@proves('GC-32', 'CHM-04')
def test_rooms_of_two_nodes(cluster: Cluster) -> None:
    """Users of both nodes talk in rooms of both; a node that goes takes its rooms and its users with it."""
    parameter('xcp_router', 'node_link_timeout_s', 2)
    cluster.start()
    alice, bob = cluster.sign_in('alice'), cluster.sign_in('bob')
    first, second = alias_of(data.NODE), alias_of(OTHER)
    for client in (alice, bob):
        wait_until(lambda one=client: sorted(aliases(one)) == sorted((first, second)), 'both chat nodes are listed')
    wait_until(lambda: aliases(alice) != sorted(aliases(alice)), 'in an order of chance')

    there, here = f'room@{second}', f'room@{first}'
    enter(alice, there, 'Alice')  # a room at the other node
    enter(bob, there, 'Bob')
    enter(bob, here, 'Bob')
    enter(alice, here, 'Alice')
    assert items(alice, second) == [there]
    for room in (there, here):
        talk(alice, room, f'hello {room}', alice, bob)
        talk(bob, room, f'good day {room}', alice, bob)
        alice.say(f'{room}/Bob', f'between us {room}')
        bob.expect('message', body=f'between us {room}', type='chat', from_=f'{room}/Alice')
    for number in range(300):
        alice.say(there, str(number), type='groupchat')
    for client in (alice, bob):
        client.expect('message', body='299')
        said = [one.findtext('{jabber:client}body') for one in client.stanzas if one.get('type') == 'groupchat']
        assert said == [str(number) for number in range(299)]
    answer = alice.iq('get', "<ping xmlns='urn:xmpp:ping'/>", to=f'{there}/Bob')
    assert answer.get('from') == f'{there}/Bob'  # his client answers, one way or the other

    managed = ManagedClient(cluster.engines[data.NODE], 'alice', 'managed').online()
    managed.send(f"<presence to='{there}/Managed'><x xmlns='http://jabber.org/protocol/muc'/></presence>".encode())
    managed.take(f'{CLIENT}presence', lambda seen: seen.get('from') == f'{there}/Managed')
    before = managed.acknowledged()
    managed.say(there, 'the room has it', type='groupchat')
    bob.expect('message', body='the room has it')
    wait_until(lambda: managed.acknowledged() == before + 1, 'acknowledged')
    managed.close_all()

    second_alice = cluster.sign_in('alice', 'second')
    enter(second_alice, there, 'Second')
    second_alice.abort()
    left(bob, there, 'Second')
    leave(alice, there, 'Alice')
    left(bob, there, 'Alice')
    enter(alice, there, 'Alice')

    command('stop', SERVICE, at=OTHER)
    left(alice, there, 'Alice', '332')
    left(bob, there, 'Bob', '332')
    wait_until(lambda: aliases(alice) == [first], 'the other chat node is not listed')
    assert condition(alice.iq('get', INFO, to=there)) == 'service-unavailable'
    command('start', SERVICE, at=OTHER)
    wait_until(lambda: len(aliases(alice)) == 2, 'it is back')
    enter(alice, there, 'Alice')

    cluster.engines[OTHER].kill9()
    left(alice, there, 'Alice', '332')
    left(alice, here, 'Bob', '333')
    assert condition(alice.iq('get', INFO, to=there)) == 'service-unavailable'
    talk(alice, here, 'alone', alice)


def test_the_backup_hosts_the_aliases_of_a_failed_node(cluster: Cluster) -> None:
    """The rooms are new ones: who was in an old one is told, and can make it again."""
    cluster.start()
    alice, bob = cluster.sign_in('alice'), cluster.sign_in('bob')
    second = alias_of(OTHER)
    room = f'moving@{second}'
    wait_until(lambda: second in aliases(alice), 'the other chat node is listed')
    enter(alice, room, 'Alice')
    enter(bob, room, 'Bob')
    cluster.engines[OTHER].kill9()
    own(OTHER, data.NODE)
    left(alice, room, 'Alice', '332')
    wait_until(lambda: condition(alice.iq('get', INFO, to=room)) == 'item-not-found', 'the backup hosts the alias')
    assert '201' in codes(enter(alice, room, 'Alice'))
    bob = cluster.sign_in('bob', at=data.NODE)
    enter(bob, room, 'Bob')
    talk(bob, room, 'here we are again', alice, bob)
