"""Users of two nodes reach each other: messages, requests, presence and subscriptions over the link between the nodes,
also while it breaks or a node is killed. Two real engine processes, real clients."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import time
from pathlib import Path

import pytest
import trustme

from engine.cluster import frames
from tests import settings as test_settings
from tests.areas.xmpp_fixtures import configure, counts_are_exact, parameter, user
from tests.fixtures import data
from tests.fixtures.nodes import OTHER, Cluster, bodies, friends, open_alarms
from tests.fixtures.processes import wait_until
from tests.xmppclient import SignInFailed, XmppClient


def test_messages_and_requests(cluster: Cluster) -> None:
    cluster.start()
    alice, bob = cluster.sign_in('alice'), cluster.sign_in('bob')
    alice.say(bob.bare, 'to the bare address')
    bob.expect('message', body='to the bare address', from_=alice.jid)
    bob.say(alice.jid, 'to the client')
    alice.expect('message', body='to the client', from_=bob.jid)
    answer = alice.iq('get', "<ping xmlns='urn:xmpp:ping'/>", to=bob.jid)
    assert answer.get('from') == bob.jid  # the client answers, one way or the other
    gone = alice.iq('get', "<ping xmlns='urn:xmpp:ping'/>", to=f'{bob.bare}/nobody')
    assert gone.find('.//{urn:ietf:params:xml:ns:xmpp-stanzas}service-unavailable') is not None
    bob.iq('set', "<vCard xmlns='vcard-temp'><FN>Bob B.</FN></vCard>")
    card = alice.iq('get', "<vCard xmlns='vcard-temp'/>", to=bob.bare)
    assert card.findtext('.//{vcard-temp}FN') == 'Bob B.'


def test_presence_and_subscriptions(cluster: Cluster) -> None:
    configure(presence={'auto_approve': False})
    cluster.start()
    cluster.make_user('carol')
    cluster.make_user('dora', node=OTHER)
    friends(('alice', 'bob'))
    alice = cluster.sign_in('alice', show='away', status='at lunch', priority=7)
    bob = cluster.sign_in('bob')
    seen = bob.expect('presence', from_=alice.jid, show='away', status='at lunch')
    assert seen.findtext('{jabber:client}priority') == '7'
    alice.expect('presence', from_=bob.jid, type='')
    bob.available(show='dnd', status='busy', priority=-1)
    alice.expect('presence', from_=bob.jid, show='dnd', status='busy')
    second = cluster.sign_in('alice', 'second')
    second.expect('presence', from_=bob.jid, show='dnd', status='busy')
    bob.expect('presence', from_=second.jid, type='')
    second.close()
    bob.expect('presence', from_=second.jid, type='unavailable')

    carol, dora = cluster.sign_in('carol'), cluster.sign_in('dora')
    carol.raw(f"<presence to='{dora.bare}' type='subscribe'><status>let me see</status></presence>")
    dora.expect('presence', from_=carol.bare, type='subscribe', status='let me see')
    dora.raw(f"<presence to='{carol.bare}' type='subscribed'/>")
    carol.expect('presence', from_=dora.bare, type='subscribed')
    carol.expect('presence', from_=dora.jid, type='')
    carol.contact(dora.bare, subscription='to')
    dora.contact(carol.bare, subscription='from')
    dora.available(status='changed')
    carol.expect('presence', from_=dora.jid, status='changed')
    carol.raw(f"<presence to='{dora.jid}'><status>only for you</status></presence>")
    dora.expect('presence', from_=carol.jid, status='only for you')
    dora.raw(f"<presence to='{carol.bare}' type='unsubscribed'/>")
    carol.expect('presence', from_=dora.bare, type='unsubscribed')
    carol.expect('presence', from_=dora.jid, type='unavailable')
    counts_are_exact()
    alice.close()
    bob.expect('presence', from_=alice.jid, type='unavailable')


def test_a_node_is_killed_and_comes_back(cluster: Cluster) -> None:
    parameter('xcp_router', 'node_link_timeout_s', 2)
    cluster.start()
    friends(('alice', 'bob'))
    alice, bob = cluster.sign_in('alice'), cluster.sign_in('bob')
    alice.expect('presence', from_=bob.jid, type='')
    cluster.engines[OTHER].kill9()
    alice.say(bob.bare, 'while you are away')
    ask = alice.iq('get', "<ping xmlns='urn:xmpp:ping'/>", to=bob.jid)
    assert ask.find('.//{urn:ietf:params:xml:ns:xmpp-stanzas}recipient-unavailable') is not None
    alice.expect('presence', from_=bob.jid, type='unavailable')
    wait_until(lambda: open_alarms('NodeLinkDown') == [data.NODE], 'alarm')
    alice.say(bob.bare, 'and later')
    assert alice.iq('get', "<ping xmlns='urn:xmpp:ping'/>", to=data.DOMAIN).get('type') == 'result'
    shutil.rmtree(Path(os.environ['IMP_VAR']) / 'tls' / OTHER)  # it comes back on another machine, with a new key
    cluster.engines[OTHER].start()
    cluster.engines[OTHER].wait_ready()
    cluster.linked()
    again = cluster.sign_in('bob', 'again')
    again.expect('message', body='while you are away')
    again.expect('message', body='and later')
    again.expect('presence', from_=alice.jid, type='')
    alice.expect('presence', from_=again.jid, type='')
    wait_until(lambda: open_alarms('NodeLinkDown') == [], 'no alarm')


def test_broken_link_loses_and_doubles_nothing(cluster: Cluster) -> None:
    """1,000 messages each way while the connection between the nodes is cut again and again."""
    wire = cluster.through_proxy()
    alice, bob = cluster.sign_in('alice'), cluster.sign_in('bob')
    for start in range(0, 1000, 200):
        before = wire.connections
        for number in range(start, start + 200):
            alice.say(bob.jid, f'm{number}')
            bob.say(alice.jid, f'm{number}')
            if number % 200 == 100:
                wire.cut()
        wait_until(lambda before=before: wire.connections > before, 'another connection')
    wanted = [f'm{number}' for number in range(1000)]
    for client in (alice, bob):
        wait_until(lambda client=client: len(bodies(client)) >= 1000, 'every message')
        assert bodies(client) == wanted
    assert cluster.metric(data.NODE, 'imp_messages_offline_total') == 0


def test_a_slow_network_doubles_nothing(cluster: Cluster) -> None:
    """The greeting is answered later than the next attempt to connect would be made."""
    wire = cluster.through_proxy()
    alice, bob = cluster.sign_in('alice'), cluster.sign_in('bob')
    wire.delay_s = 0.5
    wire.cut()
    wanted = [f'm{number}' for number in range(90)]
    for number in wanted:
        alice.say(bob.jid, number)
        bob.say(alice.jid, number)
        time.sleep(0.05)  # some of them while the nodes greet each other
    for client in (alice, bob):
        wait_until(lambda client=client: len(bodies(client)) > 89, 'every message')
    wire.delay_s = 0.0
    for sender, client in ((bob, alice), (alice, bob)):
        sender.say(client.jid, 'end')
        client.expect('message', body='end')
        assert bodies(client) == wanted


def test_messages_wait_out_a_short_cut_and_are_stored_in_a_long_one(cluster: Cluster) -> None:
    parameter('xcp_router', 'node_link_timeout_s', 2)
    wire = cluster.through_proxy()
    friends(('alice', 'bob'))
    alice, bob = cluster.sign_in('alice'), cluster.sign_in('bob')
    alice.expect('presence', from_=bob.jid, type='')
    bob.expect('presence', from_=alice.jid, type='')
    wire.cut(refuse=True)
    alice.say(bob.jid, 'kept')
    alice.expect('presence', from_=bob.jid, type='unavailable')  # the other node counts as gone
    bob.expect('presence', from_=alice.jid, type='unavailable')
    bob.available(status='still here')
    wire.refuse = False
    cluster.linked()
    bob.expect('message', body='kept')
    alice.expect('presence', from_=bob.jid, status='still here')
    bob.expect('presence', from_=alice.jid, type='')
    assert alice.iq('get', "<ping xmlns='urn:xmpp:ping'/>", to=bob.jid).get('from') == bob.jid


def test_temporary_subscriptions_cross_nodes(cluster: Cluster) -> None:
    """A probe for a user of another node who is no contact: the presence at once, every change, and no more after the
    client said so (guide 5556)."""
    cluster.start()
    alice, bob = cluster.sign_in('alice'), cluster.sign_in('bob', status='here')
    alice.presence('probe', to=bob.bare)
    alice.expect('presence', from_=bob.jid, status='here')
    bob.available(status='moving')
    alice.expect('presence', from_=bob.jid, status='moving')
    alice.presence('unavailable', to=bob.bare)
    alice.iq('get', "<ping xmlns='urn:xmpp:ping'/>", to=bob.jid)
    bob.available(status='unseen')
    alice.iq('get', "<ping xmlns='urn:xmpp:ping'/>", to=bob.jid)
    alice.expect_none('presence', within=0, status='unseen')
    alice.presence('probe', to=bob.bare)  # too early: what was seen last, and no subscription
    alice.expect('presence', from_=bob.jid, status='moving')
    bob.available(status='still unseen')
    bob.expect('presence', from_=bob.jid, status='still unseen')
    alice.iq('get', "<ping xmlns='urn:xmpp:ping'/>", to=bob.jid)
    alice.expect_none('presence', within=0, status='still unseen')


def test_moved_user_is_found_at_the_other_node(cluster: Cluster) -> None:
    from impadmin.system.models import Node
    from impadmin.ucm.models import EndUser

    cluster.start()
    alice, bob = cluster.sign_in('alice'), cluster.sign_in('bob')
    home = Node.objects.get(name=data.NODE)
    EndUser.objects.filter(user_id='bob').update(home_node=home)
    data.tell_users_changed(user('bob').pk)
    wait_until(lambda: not bob.connected, 'bob is sent away')
    away = cluster.engines[OTHER]
    with pytest.raises(SignInFailed) as refused:
        XmppClient(bob.jid, data.PASSWORD, host=away.host, port=away.port).connect()
    assert 'see-other-host' in str(refused.value)
    engine = cluster.engines[data.NODE]
    moved = XmppClient(f'{bob.bare}/moved', data.PASSWORD, host=engine.host, port=engine.port).connect()
    cluster.clients.append(moved)
    moved.available()
    moved.expect('presence', from_=moved.jid, type='')
    alice.say(bob.bare, 'welcome')
    moved.expect('message', body='welcome')


def test_strangers_get_no_link(cluster: Cluster) -> None:
    """The port for nodes: no certificate, a certificate of nobody, a node that says it is another."""
    cluster.start()
    port = cluster.engines[data.NODE].link_port
    stranger = trustme.CA().issue_cert('imp2')
    for certificate in (None, stranger):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if certificate is not None:
            certificate.configure_cert(context)
        assert talk(port, context, frames.encode(frames.Hello(1, 2, 'a', '', 0))) == b''
    assert talk(port, None, b'GET / HTTP/1.1\r\n\r\n') in (b'', REFUSED)

    from impadmin.system.models import Node

    # imp2's true key, but it claims to be a node that is not there, or speaks nonsense
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(next(test_settings.FOLDER.glob(f'**/tls/{OTHER}/node-link/*.pem')))
    third = Node.objects.create(name='imp3', address='127.0.0.1')
    data.publish_configuration()
    wait_until(lambda: cluster.metric(data.NODE, 'imp_node_link_up{node="imp1",other="imp3"}') == 0, 'the third node')
    for nonsense in (
        frames.encode(frames.Hello(1, 99, 'a', '', 0)),
        frames.encode(frames.Hello(1, third.pk, 'a', '', 0)),
        frames.encode(frames.Hello(7, Node.objects.get(name=OTHER).pk, 'a', '', 0)),
        frames.encode(frames.Ack(1)),
        b'\xff\xff\xff\xff',
        b'\x00\x00\x00\x04junk',
    ):
        assert talk(port, context, nonsense) == b'', nonsense
    alice, bob = cluster.sign_in('alice'), cluster.sign_in('bob')
    alice.say(bob.jid, 'undisturbed')
    bob.expect('message', body='undisturbed')


REFUSED = b'\x15\x03\x01'
"""Beginning of a TLS alert."""


def talk(port: int, context: ssl.SSLContext | None, data: bytes) -> bytes:
    """What the port for nodes answers; b'' when it hangs up."""
    try:
        with socket.create_connection(('127.0.0.1', port), 5) as plain:
            wire = context.wrap_socket(plain) if context is not None else plain
            wire.settimeout(5)
            wire.sendall(data)
            return wire.recv(100)[:3]
    except (ssl.SSLError, ConnectionError):
        return b''
