"""Two clusters that are each other's peers: users talk across, see each other, and nothing is lost on the way.

Two complete installations (two_clusters.py), peered once for the whole module: alice lives in the first, bob in the
second, both in example.com; carol of the second has an address in a domain that only the second has.
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import tls
from engine.cluster import frames
from impadmin.presence import inventory, peer_client, peer_sync
from impadmin.presence.models import AdvancedSettings, InterclusterPeer, PeerNode
from impadmin.system.models import Node, ParameterValue
from tests.fixtures import data
from tests.fixtures.processes import wait_until
from tests.fixtures.servers import installed
from tests.fixtures.tls import trusting
from tests.proves import proves
from tests.services.two_clusters import SHORT, Cluster, two_clusters

pytestmark = pytest.mark.long
ALICE, BOB = f'alice@{data.DOMAIN}', f'bob@{data.DOMAIN}'
CAROL = 'carol@second.example'


@pytest.fixture(scope='module')
def db(_other_sessions_end: None, django_db_blocker: Any) -> Iterator[None]:
    """As everywhere, but kept for the module."""
    with installed(django_db_blocker):
        yield


@pytest.fixture(scope='module')
def clusters(db: None) -> Iterator[tuple[Cluster, Cluster]]:
    """Both clusters, each with an entry for the other, synchronised and linked."""
    with two_clusters() as (first, second):
        first.add_user('alice')
        second.add_user('bob')
        second.add_user('carol', CAROL)
        with second.inside():
            inventory.audit()
        for cluster in (first, second):
            cluster.start()
        for cluster in (first, second):
            cluster.wait_ready()
        peer(first, second)
        yield first, second


@pytest.fixture
def pair(clusters: tuple[Cluster, Cluster]) -> Iterator[tuple[Cluster, Cluster]]:
    """The clusters; clients leave and contact lists are empty afterwards."""
    yield clusters
    for cluster in clusters:
        for client in cluster.clients:
            client.abort()
        cluster.clients.clear()
        with cluster.inside():
            from impadmin.ucm.models import EndUser, RosterItem

            RosterItem.objects.all().delete()
            EndUser.objects.update(contact_count=0, watcher_count=0)


def peer(first: Cluster, second: Cluster) -> None:
    """Make them peers, as their administrators would."""
    for one, other in ((first, second), (second, first)):
        status, answer = one.rest('POST', 'inter-clustering/', other.as_peer())
        assert status == 201, answer
    for one in (second, first):
        one.synced()
    for one in (first, second):
        one.linked()


def befriended(first: Cluster, second: Cluster) -> tuple[Any, Any]:
    """alice and bob, signed in, each with a subscription to the other."""
    alice, bob = first.sign_in(ALICE), second.sign_in(BOB)
    alice.presence('subscribe', to=BOB)
    alice.expect('presence', type='subscribed', from_=BOB)
    alice.expect('presence', from_=bob.jid, type='')
    bob.presence('subscribe', to=ALICE)
    bob.expect('presence', type='subscribed', from_=ALICE)
    bob.expect('presence', from_=alice.jid, type='')
    return alice, bob


@proves('IC-02', 'IC-11', 'IC-12', 'IC-14', 'IC-21', 'IC-22')
def test_peers_know_each_other(pair: tuple[Cluster, Cluster]) -> None:
    first, second = pair
    entry = first.synced()
    assert (entry['cluster'], entry['users'], entry['duplicates']) == ('StandAloneCluster', 2, 0)
    assert entry['problem'] == ''
    assert second.synced()['users'] == 1
    found = first.rest('GET', 'inter-clustering/?q=127.0.0.2')[1]['results']
    assert [peer['address'] for peer in found] == ['127.0.0.2']
    assert not {'token', 'sealed'} & set(entry)
    second.add_user('dora')
    first.synced(lambda peer: peer['users'] == 3)
    second.rest('DELETE', f'end-users/{id_of(second, "dora")}/')
    first.synced(lambda peer: peer['users'] == 2)


def id_of(cluster: Cluster, user_id: str) -> int:
    """Key of an end user."""
    from impadmin.ucm.models import EndUser

    with cluster.inside():
        return EndUser.objects.get(user_id=user_id).pk


@proves('IC-01', 'PL-34')
def test_messages_requests_and_presence(pair: tuple[Cluster, Cluster]) -> None:
    first, second = pair
    alice, bob = befriended(first, second)
    alice.say(BOB, 'to the address')
    bob.expect('message', body='to the address', from_=alice.jid)
    bob.say(alice.jid, 'to the client')
    alice.expect('message', body='to the client', from_=bob.jid)
    bob.iq('set', "<vCard xmlns='vcard-temp'><FN>Bob B.</FN></vCard>")
    card = alice.iq('get', "<vCard xmlns='vcard-temp'/>", to=BOB)
    assert card.findtext('.//{vcard-temp}FN') == 'Bob B.'
    assert alice.iq('get', "<ping xmlns='urn:xmpp:ping'/>", to=bob.jid).get('from') == bob.jid
    bob.available(status='In a meeting')
    alice.expect('presence', from_=bob.jid, status='In a meeting')
    again = first.sign_in(ALICE, 'second')
    again.expect('presence', from_=bob.jid, status='In a meeting')
    bob.close()
    alice.expect('presence', from_=bob.jid, type='unavailable')
    alice.say(BOB, 'for later')
    alice.iq('get', "<vCard xmlns='vcard-temp'/>", to=BOB)  # behind the message, over the same link
    back = second.sign_in(BOB, 'back')
    back.expect('message', body='for later')
    alice.expect('presence', from_=back.jid, type='')
    alice.presence('unsubscribe', to=BOB)
    back.expect('presence', type='unsubscribe', from_=ALICE)
    alice.expect('presence', from_=back.jid, type='unavailable')


def test_another_domain_and_nobody(pair: tuple[Cluster, Cluster]) -> None:
    first, second = pair
    alice, carol = first.sign_in(ALICE), second.sign_in(CAROL)
    alice.say(CAROL, 'over there')
    carol.expect('message', body='over there', from_=alice.jid)
    carol.say(ALICE, 'and back')
    alice.expect('message', body='and back', from_=carol.jid)
    for nobody in (f'nobody@{data.DOMAIN}', 'nobody@second.example'):
        error = alice.iq('get', "<vCard xmlns='vcard-temp'/>", to=nobody)
        assert error.get('type') == 'error', nobody


@proves('DOM-04', 'DOM-10')
def test_domains_of_peers(pair: tuple[Cluster, Cluster]) -> None:
    first, second = pair
    first.synced()
    listed = {row['name']: row for row in first.rest('GET', 'domains/')[1]['results']}
    only = listed['second.example']
    assert (only['type'], only['in_use'], only['configured']) == ('System Managed', 'peer only', False)
    status, answer = first.rest('PATCH', f'domains/{only["id"]}/', {'name': 'mine.example'})
    assert status == 409, answer
    assert first.rest('DELETE', f'domains/{only["id"]}/')[0] == 409
    for cluster in pair:
        status, made = cluster.rest('POST', 'domains/', {'name': 'Shared.example'})
        assert status == 201, made
    first.synced(lambda _: domain(first, 'Shared.example')['configuring'] == '127.0.0.2')
    assert first.rest('DELETE', f'domains/{domain(first, "Shared.example")["id"]}/')[0] == 204
    left = domain(first, 'Shared.example')
    assert (left['type'], left['configured'], left['configuring']) == ('Administrator Managed', False, '127.0.0.2')
    assert first.rest('DELETE', f'domains/{left["id"]}/')[0] == 409
    assert second.rest('DELETE', f'domains/{domain(second, "Shared.example")["id"]}/')[0] == 204
    first.synced(lambda _: not domain(first, 'Shared.example'))


def domain(cluster: Cluster, name: str) -> dict[str, Any]:
    """A row of Presence > Domains; {} when it is not listed."""
    rows = cluster.rest('GET', 'domains/')[1]['results']
    return next((row for row in rows if row['name'] == name), {})


def test_killed_engine_loses_nothing(pair: tuple[Cluster, Cluster]) -> None:
    """The second cluster is killed while messages are on their way to a client of it; what it had not acknowledged
    comes again when it is back."""
    first, second = pair
    alice, bob = befriended(first, second)
    sent = [f'number {number}' for number in range(40)]
    for body in sent[:20]:
        alice.say(BOB, body)
    second.engine.kill9()
    for body in sent[20:]:
        alice.say(BOB, body)
    second.restart_engine()
    back = second.sign_in(BOB, 'back')
    wait_until(lambda: set(sent) <= bodies(bob) | bodies(back), 'every message came')
    alice.expect('presence', from_=back.jid, type='')
    assert not [stanza for stanza in alice.stanzas if stanza.get('type') == 'error']


def bodies(client: Any) -> set[str]:
    """What a client has been told."""
    return {stanza.findtext('{jabber:client}body', '') for stanza in list(client.stanzas)}


def troubles(cluster: Cluster) -> dict[str, Any]:
    """The tests of System Troubleshooter about peers, by name."""
    tests = cluster.rest('GET', 'system-troubleshooter/')[1]['tests']
    return {one['name']: one for one in tests if one['section'] == 'Inter-clustering Troubleshooter'}


@contextlib.contextmanager
def another_scheme(cluster: Cluster) -> Iterator[None]:
    """Meanwhile the IM addresses of the cluster are Directory URIs."""
    with cluster.inside():
        AdvancedSettings.objects.update(address_scheme='directory_uri')
    try:
        yield
    finally:
        with cluster.inside():
            AdvancedSettings.objects.update(address_scheme='userid')


@proves('IC-24')
def test_who_is_no_peer(pair: tuple[Cluster, Cluster]) -> None:
    """What cannot be right is refused or Failed, with the reason; nothing is sent to another certificate."""
    first, second = pair
    key = f'inter-clustering/{first.peer()["id"]}/'
    right = second.as_peer()
    status, answer = first.rest('PATCH', key, {'fingerprint': ''})
    assert status == 400
    assert peer_client.written(second.fingerprint) in str(answer['errors']['fingerprint'])
    own = first.rest('POST', 'inter-clustering/', right | {'address': '127.0.0.1'})
    assert (own[0], list(own[1]['errors'])) == (400, ['address'])
    with another_scheme(second):
        status, answer = first.rest('POST', 'inter-clustering/', right | {'address': SHORT})
    assert (status, 'schemes differ' in str(answer)) == (400, True)
    for wrong, reason in (
        ({'fingerprint': 'AB' * 32}, 'another certificate'),
        ({'token': 'imp_wrong'}, 'does not accept the token'),
        ({'port': 9}, 'cannot be reached'),
    ):
        assert first.rest('PATCH', key, wrong)[0] == 200
        problem = first.synced(lambda peer: peer['status'] == 'Failed')['problem']
        assert reason in problem, problem
        assert reason in str(troubles(first)['peers-synchronised']['problems'])
        assert first.rest('PATCH', key, right)[0] == 200
        first.synced()
    assert {one['outcome'] for one in troubles(first).values()} == {'passed'}
    alice, bob = befriended(first, second)  # who was known stays reachable all the time
    alice.say(BOB, 'still here')
    bob.expect('message', body='still here')


def running(cluster: Cluster, verb: str, service: str) -> None:
    """Start or stop a service on the Control Center of a cluster, and wait until it is so."""
    order = {'node': cluster.name, 'service': service}
    status, answer = cluster.rest('POST', f'control-center-network/{verb}/', order)
    assert status in (200, 202), answer
    wanted = 'Running' if verb == 'start' else 'Stopped'

    def so() -> bool:
        found = cluster.rest('GET', 'control-center-network/')[1]['services']
        return [one['state'] for one in found if one['service'] == service] == [wanted]

    wait_until(so, f'{service} of {cluster.name} is {wanted}')


@proves('IC-10', 'IC-18', 'IC-20', 'IC-23')
def test_agents_certificates_and_notifications(pair: tuple[Cluster, Cluster]) -> None:
    """Both agents must run, and are started again on the Control Center; the state of the certificates; no restart is
    asked for after a peer was saved."""
    first, second = pair
    running(second, 'stop', 'sync_agent')
    entry = first.synced(lambda peer: 'Cisco Sync Agent' in peer['problem'])
    assert entry['status'] != 'Synchronised'
    running(second, 'start', 'sync_agent')
    first.synced()
    entry = first.peer()
    running(first, 'stop', 'intercluster_sync_agent')
    status, answer = first.rest('POST', f'inter-clustering/{entry["id"]}/sync/', {})
    assert (status, 'Cisco Intercluster Sync Agent is not running' in answer['detail']) == (409, True)
    failed = [one for one in first.rest('GET', 'system-troubleshooter/')[1]['tests'] if one['outcome'] == 'failed']
    assert any('Intercluster Sync Agent' in problem['problem'] for one in failed for problem in one['problems'])
    running(first, 'start', 'intercluster_sync_agent')
    second.add_user('erik')
    first.synced(lambda peer: peer['users'] == 3)
    second.rest('DELETE', f'end-users/{id_of(second, "erik")}/')
    first.synced(lambda peer: peer['users'] == 2)

    first.linked()
    assert first.peer()['certificate_status'] == 'Connection is secure'
    with first.inside():
        node = PeerNode.objects.get()
        PeerNode.objects.update(certificate='')
    assert first.peer()['certificate_status'] == 'Certificates are not exchanged'
    with first.inside():
        node.save()

    saved = first.rest('PATCH', f'inter-clustering/{entry["id"]}/', {'description': 'Berlin'})
    assert saved[0] == 200, saved
    first.synced()
    rows = first.rest('GET', 'notifications/')[1]['results']
    assert [row for row in rows if row['kind'] == 'restart'] == [], 'a peer is in force at once'
    first.linked()


@proves('IC-31')
def test_certificates_of_nodes(pair: tuple[Cluster, Cluster], tmp_path: Path) -> None:
    """A node there has another certificate: with *Do Not Perform* the periodic synchronisation leaves the old one."""
    first, second = pair
    agent = 'service-parameters/imp1/intercluster_sync_agent/'
    new = tls.certificate(tmp_path, 'imp2', '', ()).read_text()
    new = new[new.index('-----BEGIN CERT') :]
    with second.inside():
        old = Node.objects.get().link_certificate
        Node.objects.update(link_certificate=new)
    for wish, expected in (('do_not_perform', old), ('perform', new)):
        assert first.rest('PATCH', agent, {'sync_certificates': wish})[0] == 200
        assert periodic(first) == expected
    for wrong in ('-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n', own_certificate(first)):
        with second.inside():
            Node.objects.update(link_certificate=wrong)
        assert periodic(first) == new, 'what is no certificate, or another node has, would cost other links'
    with second.inside():
        Node.objects.update(link_certificate=old)
    assert periodic(first) == old
    for cluster in pair:
        cluster.linked()


def own_certificate(cluster: Cluster) -> str:
    """That of its node, written in another way."""
    with cluster.inside():
        found: str = Node.objects.get().link_certificate
    return f'\n{found}\n'


@proves('PL-34')
def test_what_no_stream_would_take(pair: tuple[Cluster, Cluster]) -> None:
    """A cluster that breaks the rules of XML on its link: nothing of it reaches a client, which would give up."""
    first, second = pair
    alice = first.sign_in(ALICE)
    pem = next((second.folder / 'tls' / 'imp2' / 'node-link').glob('*.pem'))
    der = ssl.PEM_cert_to_DER_cert(pem.read_text()[pem.read_text().index('-----BEGIN CERT') :])
    with first.inside():
        port = ParameterValue.objects.get(service='xcp_router', name='peer_link_port').value
    end = int.from_bytes(hashlib.sha256(der).digest()[:8]) >> 1  # by which both ends of a link know the node
    tag = f"<message from='{BOB}/x' to='{alice.jid}'"
    frame = b''.join(
        frames.encode(frames.Routed('', {}, raw.encode(), 0))
        for raw in (
            f'{tag}><body>evil</body><!-- a comment --></message>',
            f'{tag}><body>evil</body><?a instruction?></message>',
            f'{tag}><body>evil</body></message><iq/>',
            f'{tag}><body>evil</body>',
            f'{tag} xmlns="urn:other"><body>evil</body></message>',
            f'{tag}><body>right</body></message>',
        )
    )

    def forge() -> bool:
        """Whether the link lived long enough: the node it claims to be may come back at any moment and end it."""
        with socket.create_connection((first.host, port), 10) as plain, trusting(pem).wrap_socket(plain) as wire:
            wire.settimeout(10)
            wire.sendall(frames.encode(frames.Hello(frames.VERSION, end, 'forged', '', 0)))
            if not wire.recv(100):
                return False
            wire.sendall(frame)
            for _ in range(20):
                if 'right' in bodies(alice):
                    return True
                time.sleep(0.1)
        return False

    def forged() -> bool:
        try:
            return forge()
        except OSError:
            return False

    wait_until(forged, 'the stanza that a stream would take')
    assert 'evil' not in bodies(alice)
    first.linked()


def periodic(cluster: Cluster) -> str:
    """A synchronisation whose turn it is; the certificate then known of the node of the other cluster."""
    with cluster.inside():
        InterclusterPeer.objects.update(next_at=None)
        peer_sync.synchronise(InterclusterPeer.objects.get().pk)
        assert InterclusterPeer.objects.get().state == 'synced'
        return PeerNode.objects.get().certificate


@proves('IC-32')
def test_removed_peer(pair: tuple[Cluster, Cluster]) -> None:
    """Its users are gone at once, contact lists stay, and with the peer they come back without a new request."""
    first, second = pair
    alice, bob = befriended(first, second)
    for cluster in pair:
        assert cluster.rest('DELETE', f'inter-clustering/{cluster.peer()["id"]}/')[0] == 204
    alice.expect('presence', from_=bob.jid, type='unavailable')
    bob.expect('presence', from_=alice.jid, type='unavailable')
    assert (alice.connected, bob.connected) == (True, True)
    assert not domain(first, 'second.example')
    assert 'RST-' not in str(first.rest('GET', 'notifications/')[1])
    peer(first, second)
    alice.expect('presence', from_=bob.jid, type='')
    bob.expect('presence', from_=alice.jid, type='')


def test_duplicate_users(pair: tuple[Cluster, Cluster]) -> None:
    """The user of the own cluster is the one that is reached, and an alarm names the address."""
    first, second = pair
    for cluster in pair:
        cluster.add_user('erin')
    address = f'erin@{data.DOMAIN}'
    first.synced(lambda peer: peer['duplicates'] == 1)
    wait_until(lambda: address in str(first.rest('GET', 'notifications/')[1]), 'the alarm names the address')
    alice, erin = first.sign_in(ALICE), first.sign_in(address)
    there = second.sign_in(address)
    alice.say(address, 'which one')
    erin.expect('message', body='which one')
    there.expect_none('message', within=0)
    for cluster in pair:
        cluster.rest('DELETE', f'end-users/{id_of(cluster, "erin")}/')
    first.synced(lambda peer: peer['duplicates'] == 0)
    second.synced(lambda peer: peer['duplicates'] == 0)
