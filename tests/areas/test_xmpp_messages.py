"""Instant messages between real clients over TLS: forking, reply lock, offline store, refusals."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.areas.xmpp_fixtures import address, command, configure, ensure, parameter, sign_in, user
from tests.fixtures import data
from tests.fixtures.processes import Engine, wait_until
from tests.proves import proves
from tests.xmppclient import XmppClient, body, condition, error_text

__all__ = ['sign_in']

DELAY = '{urn:xmpp:delay}delay'
SignIn = Callable[..., XmppClient]


@proves('IM-02', 'IM-03', 'IM-04')
def test_forks_until_the_contact_replies(sign_in: SignIn) -> None:
    alice = sign_in('alice')
    one, two = sign_in('bob', 'r1'), sign_in('bob', 'r2')
    alice.say(address('bob'), 'm1')
    received = one.expect('message', body='m1', type='chat')
    two.expect('message', body='m1')
    assert received.get('from') == alice.jid

    two.say(alice.jid, 'reply')
    alice.expect('message', body='reply', from_=two.jid)
    alice.say(address('bob'), 'm2')
    two.expect('message', body='m2')
    alice.say(address('bob'), 'typing is not chat', type='headline')
    one.expect('message', body='typing is not chat')
    one.expect_none('message', body='m2')

    one.say(alice.jid, '', extra="<composing xmlns='http://jabber.org/protocol/chatstates'/>")
    one.sync()
    alice.say(address('bob'), 'm2b')
    two.expect('message', body='m2b')

    one.say(address('alice'), 'now from here')
    alice.expect('message', body='now from here')
    alice.say(address('bob'), 'm4')
    one.expect('message', body='m4')
    two.expect_none('message', body='m4')
    carol = sign_in('carol')
    carol.say(address('bob'), 'the lock is between two people')
    one.expect('message', body='the lock is between two people')
    two.expect('message', body='the lock is between two people')

    one.abort()
    two.expect('presence', type='unavailable', from_=one.jid)
    alice.say(address('bob'), 'm5')
    two.expect('message', body='m5')


@proves('IM-03', 'IM-04')
def test_the_lock_goes_with_the_client_that_replied(sign_in: SignIn) -> None:
    """Acceptance 1 and 2: to all, to the one that replied, to all again when that one signs out or is cut off."""
    alice = sign_in('alice')
    clients = {name: sign_in('bob', name) for name in ('r1', 'r2', 'r3')}
    hidden = sign_in('bob', 'hidden', priority=-1)

    def reach(text: str) -> set[str]:
        """The resources that get a message to the bare address, each once."""
        alice.say(address('bob'), text)
        alice.sync()
        hidden.sync()
        for client in clients.values():
            client.sync()
        copies = {name: sum(body(s) == text for s in client.stanzas) for name, client in clients.items()}
        assert not any(body(stanza) == text for stanza in hidden.stanzas)
        assert set(copies.values()) <= {0, 1}, copies
        return {name for name, count in copies.items() if count}

    assert reach('m1') == {'r1', 'r2', 'r3'}
    clients['r2'].say(alice.jid, 'reply')
    alice.expect('message', body='reply', from_=clients['r2'].jid)
    assert reach('m2') == {'r2'}
    clients['r2'].presence('unavailable')
    clients['r2'].sync()
    assert reach('m3') == {'r1', 'r3'}
    clients['r1'].say(alice.jid, 'from here now')
    alice.expect('message', body='from here now')
    assert reach('m4') == {'r1'}
    clients['r2'].available()
    clients['r2'].sync()
    assert reach('m5') == {'r1'}  # somebody signing in does not end the lock
    clients['r3'].say(alice.bare, 'and from here')
    alice.expect('message', body='and from here')
    assert reach('m6') == {'r3'}
    clients['r3'].presence('unavailable')
    clients['r3'].available()
    clients['r3'].sync()
    assert reach('m6b') == {'r1', 'r2', 'r3'}  # away and back: the lock is gone
    clients['r3'].say(alice.bare, 'once more')
    alice.expect('message', body='once more')
    assert reach('m6c') == {'r3'}
    clients['r3'].abort()
    clients['r1'].expect('presence', type='unavailable', from_=clients.pop('r3').jid)
    assert reach('m7') == {'r1', 'r2'}


@proves('IM-02')
def test_addresses_priorities_and_types(sign_in: SignIn) -> None:
    alice, bob = sign_in('alice'), sign_in('bob', 'desk', priority=-1)
    alice.say(bob.jid, 'to the full address')
    bob.expect('message', body='to the full address')
    alice.say(address('bob'), 'kept')
    alice.sync()
    bob.expect_none('message', body='kept')
    bob.available(priority=1)
    late = bob.expect('message', body='kept')
    assert late.find(DELAY) is not None

    alice.say(address('bob') + '/gone', 'the client is gone')
    bob.expect('message', body='the client is gone')
    alice.say('BOB@Example.COM', 'same address')
    bob.expect('message', body='same address')
    number = alice.say(address('bob'), 'no room here', type='groupchat')
    assert condition(alice.expect('message', type='error', id=number)) == 'service-unavailable'
    number = alice.say(address('bob') + '/gone', 'news', type='headline')
    alice.sync()
    alice.expect_none('message', type='error', id=number)
    bob.expect_none('message', body='news')
    for to, expected in (
        ('bob@other.example', 'remote-server-not-found'),
        ('a@b@c d', 'jid-malformed'),
        (data.DOMAIN, 'service-unavailable'),
    ):
        number = alice.say(to, 'x')
        assert condition(alice.expect('message', type='error', id=number)) == expected, to
    alice.raw("<message type='error' to='nobody@example.com'><body>x</body></message>")
    alice.raw("<iq type='get'><ping xmlns='urn:xmpp:ping'/></iq>")
    assert condition(alice.expect('iq', type='error')) == 'bad-request'
    alice.raw("<iq type='get' id='two'><ping xmlns='urn:xmpp:ping'/><ping xmlns='urn:xmpp:ping'/></iq>")
    assert condition(alice.expect('iq', type='error', id='two')) == 'bad-request'
    assert condition(alice.iq('get', "<x xmlns='urn:nothing'/>")) == 'service-unavailable'
    assert condition(alice.iq('get', "<ping xmlns='urn:xmpp:ping'/>", to=address('bob') + '/gone')) == (
        'service-unavailable'
    )
    alice.expect_none('message', type='error')


def test_reply_lock_times_out(sign_in: SignIn) -> None:
    parameter('xcp_router', 'reply_lock_timeout_s', 10)
    alice, one, two = sign_in('alice'), sign_in('bob', 'r1'), sign_in('bob', 'r2')
    one.say(alice.jid, 'hello')
    alice.expect('message', body='hello')
    alice.say(address('bob'), 'locked')
    one.expect('message', body='locked')
    two.expect_none('message', within=10.5)
    alice.say(address('bob'), 'to both again')
    one.expect('message', body='to both again')
    two.expect('message', body='to both again')


@proves('IM-05', 'XMP-24', 'XMP-16')
def test_offline_messages_survive_kill_and_come_once(engine: Engine, sign_in: SignIn) -> None:
    bob = sign_in('bob')
    bob.close()
    alice = sign_in('alice')
    before = datetime.now(UTC)
    for number in range(3):
        alice.say(address('bob'), f'offline {number} 你好', type='' if number == 1 else 'chat')
    alice.say(address('bob'), '', extra="<composing xmlns='http://jabber.org/protocol/chatstates'/>")
    alice.say(address('bob'), 'news', type='headline')
    alice.sync()  # the answer comes only when the messages are on disk
    engine.kill9()
    engine.restart()

    bob = sign_in('bob', 'one', priority=-1)
    other = sign_in('bob', 'two', available=False)
    bob.expect_none('message')
    bob.available(priority=0)
    other.available(priority=0)

    def delivered() -> list[Any]:
        received = [stanza for client in (bob, other) for stanza in client.stanzas]
        return [stanza for stanza in received if body(stanza).startswith('offline')]

    wait_until(lambda: len(delivered()) >= 3, 'three offline messages')
    bob.expect_none('presence', type='error')
    messages = delivered()
    assert [body(m) for m in messages] == [f'offline {n} 你好' for n in range(3)]
    for message in messages:
        delay = message.find(DELAY)
        assert delay is not None
        assert delay.get('from') == data.DOMAIN
        stamp = datetime.strptime(delay.attrib['stamp'], '%Y-%m-%dT%H:%M:%S.%fZ').replace(tzinfo=UTC)
        assert abs((stamp - before).total_seconds()) < 30
        assert message.get('from') == alice.jid
    for client in (bob, other):
        client.expect_none('message', has='{http://jabber.org/protocol/chatstates}composing')
        client.expect_none('message', body='news')
        client.close()
    again = sign_in('bob')
    again.sync()
    again.expect_none('message')
    from impadmin.messaging.models import OfflineMessage

    assert OfflineMessage.objects.count() == 0


def test_many_offline_messages_come_in_order(sign_in: SignIn) -> None:
    parameter('xcp_router', 'max_offline_messages', 450)
    alice = sign_in('alice')
    sign_in('bob').close()
    for number in range(451):
        last = alice.say(address('bob'), str(number))
    refused = alice.expect('message', type='error')
    assert refused.get('id') == last
    assert condition(refused) == 'service-unavailable'
    assert 'maximum' in error_text(refused)
    bob = sign_in('bob')
    bob.expect('message', body='449')
    assert [body(m) for m in bob.stanzas if m.tag.endswith('}message')] == [str(number) for number in range(449)]


@proves('IM-05')
def test_the_offline_store_survives_a_router_restart(sign_in: SignIn) -> None:
    """Acceptance 4: once, in order, delay-stamped; nothing at the second sign-in."""
    sign_in('bob').close()
    alice = sign_in('alice')
    for number in range(3):
        alice.say(address('bob'), f'kept {number}')
    alice.sync()
    command('restart', 'xcp_router')
    bob = sign_in('bob')
    bob.expect('message', body='kept 2', where=lambda stanza: stanza.find(DELAY) is not None)
    first = [stanza for stanza in bob.stanzas if stanza.tag.endswith('}message')]
    assert [body(stanza) for stanza in first] == ['kept 0', 'kept 1']
    assert all(stanza.find(DELAY) is not None for stanza in first)
    bob.expect_none('message', body='kept 2')
    bob.close()
    again = sign_in('bob')
    again.sync()
    again.expect_none('message')


@proves('US-14')
def test_users_who_are_not_enabled(sign_in: SignIn, make_user: Callable[..., Any]) -> None:
    alice = sign_in('alice')
    make_user('disabled', im_enabled=False)
    make_user('unassigned', node=None)
    for name in ('disabled', 'unassigned', 'nobody'):
        number = alice.say(address(name), 'hello?')
        assert condition(alice.expect('message', type='error', id=number)) == 'service-unavailable', name
        alice.presence('subscribe', to=address(name))
        alice.expect('presence', type='unsubscribed', from_=address(name))
    bob = sign_in('bob')
    row = user('bob')
    row.im_enabled = False
    row.save()
    data.tell_users_changed(row.pk)
    assert bob.closed() == 'policy-violation'
    number = alice.say(address('bob'), 'hello?')
    assert condition(alice.expect('message', type='error', id=number)) == 'service-unavailable'


@proves('IM-24')
def test_instant_messaging_off_after_the_restart(sign_in: SignIn) -> None:
    alice, bob = sign_in('alice'), sign_in('bob')
    configure(messaging={'im_enabled': False})
    alice.sync()
    alice.say(address('bob'), 'still allowed')
    bob.expect('message', body='still allowed')
    command('restart', 'xcp_router')
    alice, bob = sign_in('alice'), sign_in('bob')
    number = alice.say(address('bob'), 'not any more')
    refused = alice.expect('message', type='error', id=number)
    assert condition(refused) == 'not-allowed'
    assert 'administrator' in error_text(refused)
    bob.expect_none('message')
    bob.available(show='dnd')
    alice.presence('subscribe', to=address('bob'))
    alice.expect('presence', show='dnd', from_=bob.jid)
    configure(messaging={'im_enabled': True})
    command('restart', 'xcp_router')
    alice, bob = sign_in('alice'), sign_in('bob')
    alice.say(address('bob'), 'again')
    bob.expect('message', body='again')


@proves('IM-25')
def test_suppress_offline_messages_after_the_restart(sign_in: SignIn, make_user: Callable[..., Any]) -> None:
    ensure(make_user, 'bob')
    alice = sign_in('alice')
    configure(messaging={'suppress_offline': True})
    alice.say(address('bob'), 'stored before the restart')
    alice.sync()
    alice.expect_none('message', type='error')
    command('restart', 'xcp_router')
    alice = sign_in('alice')
    number = alice.say(address('bob'), 'refused')
    assert condition(alice.expect('message', type='error', id=number)) == 'service-unavailable'
    bob = sign_in('bob')
    bob.expect('message', body='stored before the restart')
    bob.expect_none('message', body='refused')


@proves('IM-06')
def test_broadcast_to_many(sign_in: SignIn, make_user: Callable[..., Any]) -> None:
    names = [f'reader{number}' for number in range(50)]
    ensure(make_user, *names)
    alice = sign_in('alice')
    online = [sign_in(name, roster=False) for name in names[:40]]
    for name in names:
        alice.say(address(name), 'to all')
    for client in online:
        assert client.expect('message', body='to all').find(DELAY) is None
    alice.sync()
    from impadmin.messaging.models import OfflineMessage

    assert OfflineMessage.objects.count() == 10
    for name in names[40:]:
        late = sign_in(name, roster=False)
        assert late.expect('message', body='to all').find(DELAY) is not None
        late.close()
    for client in (*online, late):
        assert not any(body(stanza) == 'to all' for stanza in client.stanzas)
    alice.expect_none('message', type='error')
    assert OfflineMessage.objects.count() == 0


@proves('IM-06')
def test_one_message_with_many_addresses(sign_in: SignIn, make_user: Callable[..., Any]) -> None:
    """XEP-0033: copies with the list, blind copies hidden from the others, each refusal on its own."""
    ensure(make_user, 'dave')
    alice, bob, carol = sign_in('alice'), sign_in('bob'), sign_in('carol')

    def send(addresses: str) -> None:
        alice.raw(
            f"<message to='{data.DOMAIN}' type='chat' id='many'>"
            f"<addresses xmlns='http://jabber.org/protocol/address'>{addresses}</addresses>"
            '<body>to many</body></message>'
        )

    send(
        f"<address type='to' jid='{address('bob')}' desc='B &amp; co'/><address type='bcc' jid='{address('carol')}'/>"
        f"<address type='cc' jid='{address('dave')}'/><address type='cc' jid='{address('nobody')}'/>"
    )
    list_of = '{http://jabber.org/protocol/address}address'
    seen = [entry.attrib for entry in bob.expect('message', body='to many').iter(list_of)]
    assert seen[0] == {'type': 'to', 'jid': address('bob'), 'desc': 'B & co', 'delivered': 'true'}
    assert [entry['jid'] for entry in seen] == [address('bob'), address('dave'), address('nobody')]
    assert len(list(carol.expect('message', body='to many').iter(list_of))) == 4
    refused = alice.expect('message', type='error')
    assert (condition(refused), refused.get('from')) == ('service-unavailable', address('nobody'))
    assert sign_in('dave').expect('message', body='to many').find(DELAY) is not None
    send(''.join(f"<address type='to' jid='u{number}@{data.DOMAIN}'/>" for number in range(201)))
    assert condition(alice.expect('message', type='error')) == 'not-acceptable'
    send("<address type='to' jid='@'/>")
    assert condition(alice.expect('message', type='error')) == 'jid-malformed'
    bob.expect_none('message')


@pytest.mark.long
def test_while_the_database_is_away(sign_in: SignIn, make_user: Callable[..., Any]) -> None:
    """Talk between online users goes on; a message that cannot be stored comes back; nothing is lost silently."""
    import psycopg
    from django.db import connection

    ensure(make_user, 'carol')
    alice, bob = sign_in('alice'), sign_in('bob')
    name = connection.settings_dict['NAME']
    parameters = connection.get_connection_params() | {'dbname': 'postgres'}
    admin = psycopg.connect(
        **{key: parameters[key] for key in ('dbname', 'user', 'host', 'port') if parameters.get(key)}, autocommit=True
    )
    with admin:
        admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false'.encode())
        try:
            admin.execute(
                'SELECT pg_terminate_backend(pid) FROM pg_stat_activity'
                " WHERE datname = %s AND application_name LIKE 'imp-engine%%'",
                [name],
            )
            number = alice.say(address('carol'), 'cannot be stored')
            alice.say(bob.bare, 'hello anyway')
            bob.expect('message', body='hello anyway')
            assert condition(bob.iq('get', "<vCard xmlns='vcard-temp'/>")) == 'internal-server-error'
            refused = alice.expect('message', type='error', id=number, timeout=60)
            assert condition(refused) == 'internal-server-error'
            assert 'again later' in error_text(refused)
        finally:
            admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true'.encode())
    alice.say(address('carol'), 'can be stored')
    alice.iq('get', "<ping xmlns='urn:xmpp:ping'/>", to=data.DOMAIN, timeout=60)
    alice.expect_none('message', type='error')
    carol = sign_in('carol')
    carol.expect('message', body='can be stored')
    carol.expect_none('message', body='cannot be stored')
