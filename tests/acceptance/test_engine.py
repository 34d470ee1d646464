"""Acceptance of the engine: two people meet, talk, go offline through a crash; the contact limit after its restart."""

from __future__ import annotations

from collections.abc import Callable

from tests.areas.xmpp_fixtures import address, command, configure, in_force, sign_in, user
from tests.fixtures.processes import Engine
from tests.proves import proves
from tests.xmppclient import XmppClient, condition, error_text

__all__ = ['sign_in']
SignIn = Callable[..., XmppClient]


@proves('IM-01', 'IM-02', 'IM-05')
def test_subscribe_talk_and_offline_messages_through_a_crash(engine: Engine, sign_in: SignIn) -> None:
    alice, bob = sign_in('alice'), sign_in('bob', direct_tls=True, port=engine.tls_port)
    alice.presence('subscribe', to=address('bob'))
    bob.presence('subscribe', to=address('alice'))
    for me, other in ((alice, bob), (bob, alice)):
        me.contact(other.bare, subscription='both')
        me.expect('presence', type='', from_=other.jid)
        me.say(other.bare, f'hello from {me.bare}')
        other.expect('message', body=f'hello from {me.bare}')
    bob.close()
    alice.expect('presence', type='unavailable', from_=bob.jid)
    for number in range(5):
        alice.say(bob.bare, f'while you were away {number}')
    alice.sync()
    engine.kill9()
    alice.closed()
    engine.restart()
    bob = sign_in('bob')
    for number in range(5):
        message = bob.expect('message', body=f'while you were away {number}', from_=alice.bare)
        assert message.find('{urn:xmpp:delay}delay') is not None
    bob.close()
    bob = sign_in('bob')
    bob.expect_none('message')
    alice = sign_in('alice')
    alice.expect('presence', type='', from_=bob.jid)
    assert alice.contacts[bob.bare]['subscription'] == 'both'


@proves('IM-07', 'IM-08')
def test_lower_contact_limit_after_the_restart_it_asks_for(sign_in: SignIn) -> None:
    """200 -> 5: a client with 4 contacts adding 3 gets one in and two refused."""
    alice = sign_in('alice')
    for number in range(4):
        assert alice.add_contact(f'c{number}@example.com') is None
    configure(presence={'max_contacts': 5})
    in_force()
    assert alice.add_contact('still@example.com') is None  # the old limit holds until the restart
    assert alice.remove_contact('still@example.com') is None
    command('restart', 'xcp_router')
    alice = sign_in('alice')
    for number in range(4, 7):
        alice.raw(
            f"<iq type='set' id='add{number}'><query xmlns='jabber:iq:roster'>"
            f"<item jid='c{number}@example.com'/></query></iq>"
        )
    assert condition(alice.expect('iq', id='add4')) is None
    for number in (5, 6):
        refused = alice.expect('iq', id=f'add{number}')
        assert condition(refused) == 'policy-violation'
        assert 'full' in error_text(refused)
    assert user('alice').contact_count == 5
    assert len(sign_in('alice').contacts) == 5
