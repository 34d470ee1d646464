"""Who serves a user, and what happens to clients when that changes: three real nodes, clients over TLS. The table that
the recovery manager writes is written here by hand."""

from __future__ import annotations

import pytest

from tests.fixtures import data
from tests.fixtures.nodes import OTHER, Cluster, bodies, friends, own
from tests.fixtures.processes import wait_until
from tests.proves import proves
from tests.xmppclient import SignInFailed, XmppClient

THIRD = 'imp3.west.example.net'


def refused(cluster: Cluster, user_id: str, at: str) -> tuple[str, str]:
    """Condition and text of the stream error a client gets instead of a session."""
    engine = cluster.engines[at]
    client = XmppClient(f'{user_id}@{data.DOMAIN}/x', data.PASSWORD, host=engine.host, port=engine.port)
    with pytest.raises(SignInFailed) as failure:
        client.connect()
    return str(failure.value), client.client.error_text


def presences(client: XmppClient, user_id: str) -> list[str]:
    """Types of the presence received of a user, '' for available."""
    return [
        stanza.get('type', '')
        for stanza in client.stanzas
        if stanza.tag.endswith('}presence') and stanza.get('from', '').startswith(f'{user_id}@')
    ]


def counter(cluster: Cluster, node: str, name: str) -> float | None:
    """A gauge of a node."""
    return cluster.metric(node, f'imp_{name}')


@proves('DOM-15', 'HA-34', 'HA-75', 'HA-83')
def test_users_move_with_their_set(cluster: Cluster) -> None:
    """Ten clients of the moved set are sent to the other node, the ten of that node keep their streams; a contact on a
    third node sees each go and come once; messages stored before wait at the new node; and all the way back. Then the
    node is killed, and a user is back before anybody has noticed that it is gone: seen to go and to come once, too."""
    cluster.addresses[OTHER] = 'localhost'  # the nodes are in different DNS domains
    cluster.start(THIRD)
    first, second = [f'u{n}' for n in range(10)], [f'v{n}' for n in range(10)]
    for user_id in first:
        cluster.make_user(user_id)
    for user_id in second:
        cluster.make_user(user_id, node=OTHER)
    cluster.make_user('carol', node=THIRD)
    cluster.make_user('dave')
    friends(('u0', 'carol'), ('u0', 'v0'))
    moving, staying = [cluster.sign_in(one) for one in first], [cluster.sign_in(one) for one in second]
    carol = cluster.sign_in('carol')
    carol.expect('presence', from_=moving[0].jid, type='')
    carol.presence('probe', to=f'u5@{data.DOMAIN}')
    carol.expect('presence', from_=moving[5].jid, type='')
    carol.say(f'dave@{data.DOMAIN}', 'while you were out')
    carol.sync()
    wait_until(lambda: counter(cluster, data.NODE, 'active_jsm_sessions') == 12, 'eleven users of ours, and alice')
    wait_until(lambda: counter(cluster, OTHER, 'active_jsm_sessions') == 11, 'ten and bob')

    own(data.NODE, OTHER)
    wait_until(lambda: not any(client.connected for client in moving), 'everybody of the set is sent away')
    assert {(client.error, client.error_text) for client in moving} == {
        ('see-other-host', f'localhost:{cluster.engines[OTHER].port}')
    }
    assert all(client.connected for client in staying)
    assert refused(cluster, 'u1', data.NODE) == ('see-other-host', f'localhost:{cluster.engines[OTHER].port}')
    carol.expect('presence', from_=moving[0].jid, type='unavailable')
    wait_until(lambda: counter(cluster, OTHER, 'active_jsm_sessions') == 23, 'both sets at one node')
    assert counter(cluster, data.NODE, 'active_jsm_sessions') == 0

    moved = [cluster.sign_in(one, at=OTHER) for one in first]
    carol.expect('presence', from_=moved[0].jid, type='')
    assert sorted(moved[0].contacts) == sorted([carol.bare, staying[0].bare])
    dave = cluster.sign_in('dave', at=OTHER)
    dave.expect('message', body='while you were out')
    carol.expect('presence', from_=moving[5].jid, type='unavailable')
    carol.say(moved[5].bare, 'are you?')
    moved[5].expect('message', body='are you?')  # he is, and the temporary subscription is over
    moved[5].say(carol.jid, 'yes')
    carol.expect('message', body='yes')
    carol.expect_none('presence', within=0, from_=moved[5].bare)
    carol.presence('probe', to=moved[5].bare)
    carol.expect('presence', from_=moved[5].jid, type='')
    carol.presence('unavailable', to=moved[5].bare)
    carol.say(moved[0].bare, 'there you are')
    moved[0].expect('message', body='there you are')
    moved[0].say(carol.jid, 'here I am')
    carol.expect('message', body='here I am')
    assert all(client.connected for client in staying)
    assert presences(carol, 'u0') == []

    own(data.NODE, data.NODE)
    wait_until(lambda: not any(client.connected for client in (*moved, dave)), 'everybody goes home')
    carol.expect('presence', from_=moved[0].jid, type='unavailable')
    wait_until(lambda: can_sign_in(cluster, 'u0', data.NODE), 'the home node serves its set again')
    home = cluster.sign_in('u0', 'home')
    for contact in (carol, staying[0]):
        contact.expect('presence', from_=home.jid, type='')
    staying[0].forget()
    assert presences(carol, 'u0') == []
    assert all(client.connected for client in staying)
    assert refused(cluster, 'u1', OTHER)[0] == 'see-other-host'

    cluster.engines[data.NODE].kill9()
    carol.say(home.bare, 'one')
    own(data.NODE, OTHER)
    wait_until(lambda: can_sign_in(cluster, 'u0'), 'the other node serves the set')
    again = cluster.sign_in('u0', 'again', at=OTHER)
    again.expect('message', body='one')
    carol.say(again.bare, 'two')
    again.expect('message', body='two')
    for contact in (carol, staying[0]):
        contact.expect('presence', from_=again.jid, type='')
        assert presences(contact, 'u0') == ['unavailable']
    assert bodies(again) == []


def can_sign_in(cluster: Cluster, user_id: str, at: str = OTHER) -> bool:
    """Whether a node serves a user. The client leaves again."""
    try:
        client = cluster.connect(user_id, 'probe', at=at)
    except SignInFailed:
        return False
    client.close()
    return True
