"""What operators and administrators do to a running system: kill it in a burst, run two nodes, change users online."""

from __future__ import annotations

import re
import socket
import struct
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from engine.contract.credentials import verifiers
from tests.fixtures import data
from tests.fixtures.processes import Engine, wait_until
from tests.services.pump import pump
from tests.services.rawclient import RawClient
from tests.services.test_client_connections import set_parameter
from tests.xmppclient import SignInFailed, XmppClient, body

SIZE = b'x' * 300


def signed_in(engine: Engine, user: str) -> RawClient:
    """A bound client that says exactly what it is told to."""
    return RawClient(engine.port).starttls().login(user, data.PASSWORD)


def test_kill_in_a_burst_loses_nothing_that_was_acknowledged(engine: Engine, make_user: Any) -> None:
    """Messages to somebody who is offline, an IQ after every tenth: its answer says that the ones before are on disk.
    After kill -9 in the middle every one of those is delivered, each once, in order."""
    make_user('alice')
    make_user('bob')
    set_parameter('xcp_router', 'max_offline_messages', 100_000)
    alice = signed_in(engine, 'alice')

    def stanzas() -> Iterator[bytes]:
        for number in range(100_000):
            yield b"<message type='chat' id='m%d' to='bob@example.com'><body>%b</body></message>" % (number, SIZE)
            if number % 10 == 9:
                yield b"<iq type='get' id='a%d'><ping xmlns='urn:xmpp:ping'/></iq>" % number

    answers = pump(alice, stanzas(), b"id='a999'")
    engine.kill9()
    try:
        while more := alice.socket.recv(65_536):
            answers += more
    except OSError:
        pass
    acknowledged = max(int(number) for number in re.findall(rb"type='result' id='a(\d+)'", answers))
    assert b"type='error'" not in answers
    waiting = stored()
    assert waiting >= acknowledged + 1 >= 1000
    engine.restart()
    received = pump(signed_in(engine, 'bob'), [b'<presence/>'], b"id='m%d'" % (waiting - 1))
    assert [int(number) for number in re.findall(rb" id='m(\d+)'", received)] == list(range(waiting))
    wait_until(lambda: stored() == 0, 'delivered messages are deleted')


def stored() -> int:
    """Messages that wait for anybody."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute('SELECT count(*) FROM offline_message')
        return int(cursor.fetchone()[0])


def test_two_nodes(make_engine: Callable[..., Engine], api: Any, make_user: Any) -> None:
    """A second node from Cluster Topology with a process of its own. Users sign in at their home node only and reach
    those of the other one; what was sent before the link stood reaches them then (more in test_node_links.py)."""
    client = api('administrator')
    answer = client.post('/api/v1/cluster-topology/', {'name': 'imp2', 'address': '127.0.0.2'})
    assert answer.status_code == 201, answer.content
    for service in ('presence_engine', 'xcp_authentication', 'xcp_connection_manager'):
        activate(service)
    one, two = make_engine('imp1'), make_engine('imp2')
    make_user('alice')
    make_user('carol', node='imp2')

    def at(engine: Engine, user: str) -> XmppClient:
        return XmppClient(f'{user}@{data.DOMAIN}', data.PASSWORD, port=engine.port).connect()

    for engine, user, right in ((one, 'carol', f'127.0.0.2:{two.port}'), (two, 'alice', f'127.0.0.1:{one.port}')):
        wrong = XmppClient(f'{user}@{data.DOMAIN}', data.PASSWORD, port=engine.port)
        with pytest.raises(SignInFailed, match='see-other-host'):
            wrong.connect()
        assert wrong.error_text == right
    alice, carol = at(one, 'alice'), at(two, 'carol')
    for person in (alice, carol):
        person.roster()
        person.available()
    numbers = [alice.say(carol.bare, f'm{number}') for number in range(20)]
    numbers.append(alice.say(carol.jid, 'm20'))
    alice.sync()
    alice.expect_none('message', type='error')
    assert [body(carol.expect('message')) for _ in numbers] == [f'm{number}' for number in range(21)]
    wait_until(lambda: stored() == 0, 'delivered messages are deleted')
    alice.presence('subscribe', to=carol.bare)
    alice.contact(carol.bare, subscription='to')
    carol.contact(alice.bare, subscription='from')
    from impadmin.ucm.models import EndUser

    row = EndUser.objects.get(user_id='carol')
    answer = client.patch(f'/api/v1/end-users/{row.pk}/', {'home_node': 'imp1'})
    assert answer.status_code == 200, answer.content
    assert carol.closed() == 'see-other-host'
    numbers = [alice.say(carol.bare, f'n{number}') for number in range(3)]
    alice.sync()
    moved = at(one, 'carol')
    moved.available()
    assert [body(moved.expect('message')) for _ in numbers] == ['n0', 'n1', 'n2']
    for person in (alice, carol, moved):
        person.abort()


def activate(service: str) -> None:
    """A feature service on node imp2."""
    from impadmin.system.models import Node, ServiceActivation

    ServiceActivation.objects.get_or_create(node=Node.objects.get(name='imp2'), service=service)
    data.publish_configuration()


def test_users_change_while_they_are_online(engine: Engine, api: Any, make_user: Any, xmpp_client: Any) -> None:
    """Renamed, deleted, disabled, a new password: the streams end with the reason, others see them go, and nothing of
    them stays."""
    from impadmin.ucm.models import EndUser

    client = api('administrator')
    people = {name: make_user(name) for name in ('alice', 'bob', 'carol', 'dave', 'erin')}
    alice = xmpp_client('alice')
    alice.roster()
    alice.available()
    others = {}
    for name in ('bob', 'carol', 'dave', 'erin'):
        other = others[name] = xmpp_client(name)
        other.roster()
        other.available()
        alice.presence('subscribe', to=other.bare)
        alice.expect('presence', from_=other.jid, type='')
        other.presence('subscribe', to=alice.bare)
        other.contact(alice.bare, subscription='both')
    assert client.patch(f'/api/v1/end-users/{people["bob"].pk}/', {'user_id': 'robert'}).status_code == 200
    assert others['bob'].closed() == 'reset'
    assert client.delete(f'/api/v1/end-users/{people["carol"].pk}/').status_code == 204
    assert others['carol'].closed() == 'not-authorized'
    assert client.patch(f'/api/v1/end-users/{people["dave"].pk}/', {'im_enabled': False}).status_code == 200
    assert others['dave'].closed() == 'policy-violation'
    EndUser.objects.filter(pk=people['erin'].pk).update(credentials=verifiers('another'))
    data.tell_users_changed(people['erin'].pk)
    assert others['erin'].closed() == 'not-authorized'
    for other in others.values():
        alice.expect('presence', from_=other.jid, type='unavailable')
    alice.contact('robert@example.com', subscription='both')
    alice.no_contact('bob@example.com')
    alice.contact('carol@example.com', subscription='none')
    robert = xmpp_client('robert')
    robert.roster()
    assert robert.contacts['alice@example.com']['subscription'] == 'both'
    robert.available()
    alice.expect('presence', from_=robert.jid, type='')
    for gone in ('bob', 'carol', 'dave'):
        number = alice.say(f'{gone}@example.com', 'still there?')
        assert alice.expect('message', type='error', id=number) is not None


def test_a_node_is_deleted_while_its_engine_runs(make_engine: Callable[..., Engine], db: None) -> None:
    """The console refuses; when the row goes all the same, the engine says so and ends."""
    from impadmin.system.models import Node

    Node.objects.create(name='imp2', address='127.0.0.2')
    data.publish_configuration()
    two = make_engine('imp2', wait=False)
    wait_until(lambda: Node.objects.get(name='imp2').heartbeat_at, 'heartbeat of imp2')
    Node.objects.filter(name='imp2').delete()
    wait_until(lambda: not two.alive(), 'the engine ends')
    assert "The node 'imp2' was removed from the cluster." in two.log()
    assert 'Traceback' not in two.log()


def test_clients_that_vanish(engine: Engine, make_user: Any) -> None:
    """Resets in every state of a connection leave nothing behind: no session, no connection, no message lost."""
    make_user('alice')
    for state in ('connected', 'stream', 'tls', 'session'):
        client = RawClient(engine.port)
        if state == 'stream':
            client.send(b"<stream:stream to='exa")
        if state in ('tls', 'session'):
            client.starttls()
        if state == 'session':
            client.login('alice', data.PASSWORD)
            client.send(b"<presence/><message to='alice@exam")
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        client.close()

    def gauges() -> dict[str, float]:
        text = urllib.request.urlopen(f'http://127.0.0.1:{engine.metrics_port}/metrics', timeout=5).read().decode()
        return {name: float(value) for name, value in re.findall(r'^(\w+)(?:\{[^}]*\})? ([\d.e+-]+)$', text, re.M)}

    wait_until(lambda: gauges()['imp_client_sessions'] == 0, 'no session is left')
    assert engine.alive()
    assert 'Traceback' not in engine.log()
