"""Subscriptions and availability between real clients: RFC 6121 3 and 4, presence settings of the console."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.areas.xmpp_fixtures import address, command, configure, counts_are_exact, ensure, in_force, sign_in, user
from tests.proves import proves
from tests.xmppclient import XmppClient, condition

__all__ = ['sign_in']
SignIn = Callable[..., XmppClient]
ALICE, BOB, CAROL = address('alice'), address('bob'), address('carol')


@proves('IM-01', 'IM-19')
def test_automatic_approval_and_availability(sign_in: SignIn) -> None:
    alice, bob = sign_in('alice'), sign_in('bob', 'desk')
    alice.presence('subscribe', to=BOB)
    alice.expect('presence', type='subscribed', from_=BOB)
    alice.contact(BOB, subscription='to')
    alice.expect('presence', type='', from_=bob.jid)
    bob.contact(ALICE, subscription='from')
    bob.expect_none('presence', type='subscribe')
    row = user('bob')
    assert (row.contact_count, row.watcher_count) == (0, 1)

    bob.available(show='dnd', status='会議中', priority=3)
    changed = alice.expect('presence', show='dnd', from_=bob.jid)
    assert changed.findtext('{jabber:client}status') == '会議中'
    alice.forget()
    alice.available(show='away')
    alice.sync()
    bob.expect_none('presence', from_=alice.jid)

    late = sign_in('alice', 'late')
    late.expect('presence', show='dnd', from_=bob.jid)
    late.expect('presence', show='away', from_=alice.jid)
    bob.presence('unavailable', status='gone home')
    assert alice.expect('presence', type='unavailable', from_=bob.jid).findtext('{jabber:client}status') == 'gone home'
    bob.available()
    alice.expect('presence', type='', from_=bob.jid)
    bob.abort()
    alice.expect('presence', type='unavailable', from_=bob.jid)
    counts_are_exact()


@proves('IM-19')
def test_approval_by_the_user(sign_in: SignIn, make_user: Callable[..., Any]) -> None:
    ensure(make_user, 'bob')
    configure(presence={'auto_approve': False})
    alice = sign_in('alice')
    alice.raw(f"<presence type='subscribe' id='ask' to='{BOB}'><status>It's me</status></presence>")
    alice.contact(BOB, subscription='none', ask=True)
    bob = sign_in('bob', 'desk')
    asked = bob.expect('presence', type='subscribe', from_=ALICE, status="It's me")
    assert asked.get('from') == ALICE
    assert ALICE not in bob.contacts
    again = sign_in('bob', 'second')
    again.expect('presence', type='subscribe', from_=ALICE)
    alice.presence('subscribe', to=BOB)
    bob.expect_none('presence', type='subscribe')
    alice.expect_none('presence', from_=BOB)
    bob.presence('subscribed', to=ALICE)
    alice.expect('presence', type='subscribed', from_=BOB)
    alice.expect('presence', type='', from_=bob.jid)
    alice.contact(BOB, subscription='to', ask=False)
    bob.contact(ALICE, subscription='from')
    third = sign_in('bob', 'third')
    third.expect_none('presence', type='subscribe')
    # somebody in the contact list is approved without a question
    bob.presence('subscribe', to=ALICE)
    bob.expect('presence', type='subscribed', from_=ALICE)
    bob.contact(ALICE, subscription='both')
    alice.contact(BOB, subscription='both')
    bob.expect('presence', type='', from_=alice.jid)
    carol = sign_in('carol')
    carol.presence('subscribe', to=BOB)
    bob.expect('presence', type='subscribe', from_=CAROL)
    bob.presence('unsubscribed', to=CAROL)
    carol.expect('presence', type='unsubscribed', from_=BOB)
    carol.contact(BOB, subscription='none', ask=False)
    assert CAROL not in bob.contacts
    counts_are_exact()


STATES: dict[str, tuple[int, bool, bool]] = {
    'none': (0, False, False),
    'none + pending out': (0, True, False),
    'none + pending in': (0, False, True),
    'none + pending out and in': (0, True, True),
    'to': (1, False, False),
    'to + pending in': (1, False, True),
    'from': (2, False, False),
    'from + pending out': (2, True, False),
    'both': (3, False, False),
}
"""The nine states of RFC 3921 9 (RFC 6121 A.1): subscription, ask, pending in."""
OUTBOUND: dict[str, dict[str, tuple[str, str]]] = {
    # sent stanza -> state before -> (state after, what the contact gets), RFC 6121 A.2 and A.3
    'subscribe': {
        'none': ('none + pending out', 'subscribe'),
        'none + pending out': ('none + pending out', ''),
        'none + pending in': ('none + pending out and in', 'subscribe'),
        'none + pending out and in': ('none + pending out and in', ''),
        'to': ('to', ''),
        'to + pending in': ('to + pending in', ''),
        'from': ('from + pending out', 'subscribe'),
        'from + pending out': ('from + pending out', ''),
        'both': ('both', ''),
    },
    'unsubscribe': {
        'none': ('none', ''),
        'none + pending out': ('none', 'unsubscribe'),
        'none + pending in': ('none + pending in', ''),
        'none + pending out and in': ('none + pending in', 'unsubscribe'),
        'to': ('none', 'unsubscribe'),
        'to + pending in': ('none + pending in', 'unsubscribe'),
        'from': ('from', ''),
        'from + pending out': ('from', 'unsubscribe'),
        'both': ('from', 'unsubscribe'),
    },
    'subscribed': {
        'none': ('none', ''),
        'none + pending out': ('none + pending out', ''),
        'none + pending in': ('from', 'subscribed'),
        'none + pending out and in': ('from + pending out', 'subscribed'),
        'to': ('to', ''),
        'to + pending in': ('both', 'subscribed'),
        'from': ('from', ''),
        'from + pending out': ('from + pending out', ''),
        'both': ('both', ''),
    },
    'unsubscribed': {
        'none': ('none', ''),
        'none + pending out': ('none + pending out', ''),
        'none + pending in': ('none', 'unsubscribed'),
        'none + pending out and in': ('none + pending out', 'unsubscribed'),
        'to': ('to', ''),
        'to + pending in': ('to', 'unsubscribed'),
        'from': ('none', 'unsubscribed'),
        'from + pending out': ('none + pending out', 'unsubscribed'),
        'both': ('to', 'unsubscribed'),
    },
}


@proves('XMP-02')
def test_every_state_and_stanza_of_the_subscription_table(sign_in: SignIn, make_user: Callable[..., Any]) -> None:
    """36 pairs of users, one for each state and stanza; both halves of each subscription are looked at afterwards."""
    from impadmin.ucm.models import RosterItem

    configure(presence={'auto_approve': False})
    cases = [(kind, state) for kind in OUTBOUND for state in STATES]
    ensure(make_user, 'alice', *(f'c{number}' for number in range(len(cases))))
    me = user('alice')
    watchers = 0
    for number, (_kind, state) in enumerate(cases):
        other = user(f'c{number}')
        subscription, ask, pending_in = STATES[state]
        # an unknown sender: the contact does not have alice in the list, so that subscribe asks
        RosterItem.objects.create(
            user=me, jid=other.im_address, subscription=subscription, ask=ask, pending_in=pending_in
        )
        watchers += bool(subscription & 2)
        mirror = {'subscription': (0, 2, 1, 3)[subscription], 'ask': pending_in, 'pending_in': ask}
        if any(mirror.values()):
            RosterItem.objects.create(user=other, jid=me.im_address, is_contact=False, **mirror)
        other.watcher_count = int(bool(mirror['subscription'] & 2))
        other.roster_version = 1
        other.save()
    me.contact_count, me.watcher_count, me.roster_version = len(cases), watchers, 1
    me.save()
    contacts = [sign_in(f'c{number}') for number in range(len(cases))]
    for client in contacts:
        client.sync()
        client.forget()
    alice = sign_in('alice')
    alice.sync()
    for number, (kind, _state) in enumerate(cases):
        alice.presence(kind, to=address(f'c{number}'))
    assert alice.add_contact('barrier@example.com') is None
    names = {value: key for key, value in STATES.items()}
    for number, (kind, state) in enumerate(cases):
        expected, delivered = OUTBOUND[kind][state]
        what = f'{kind} in {state}'
        mine = RosterItem.objects.get(user=me, jid=address(f'c{number}'))
        assert names[mine.subscription, mine.ask, mine.pending_in] == expected, what
        assert mine.approved == (kind == 'subscribed' and state in ('none', 'none + pending out', 'to')), what
        theirs = RosterItem.objects.filter(user=user(f'c{number}'), jid=me.im_address).first()
        half = (theirs.subscription, theirs.pending_in, theirs.ask) if theirs else (0, False, False)
        subscription, ask, pending_in = STATES[expected]
        assert half == ((0, 2, 1, 3)[subscription], ask, pending_in), what
        contacts[number].sync()
        types = [
            s.get('type') for s in contacts[number].stanzas if s.tag.endswith('presence') and s.get('from') == ALICE
        ]
        assert types == ([delivered] if delivered else []), what
    counts_are_exact()


def test_pre_approval_and_removal(sign_in: SignIn) -> None:
    configure(presence={'auto_approve': False})
    alice, bob = sign_in('alice'), sign_in('bob')
    bob.presence('subscribed', to=ALICE)
    bob.contact(ALICE, approved=True, subscription='none')
    assert user('bob').contact_count == 0
    alice.presence('subscribe', to=BOB)
    alice.expect('presence', type='subscribed', from_=BOB)
    bob.contact(ALICE, approved=False, subscription='from')
    bob.expect_none('presence', type='subscribe')
    bob.presence('subscribe', to=ALICE)
    bob.expect('presence', type='subscribed', from_=ALICE)
    alice.contact(BOB, subscription='both')
    alice.forget()
    assert bob.remove_contact(ALICE) is None
    alice.expect('presence', type='unsubscribe', from_=BOB)
    alice.expect('presence', type='unsubscribed', from_=BOB)
    alice.expect('presence', type='unavailable', from_=bob.jid)
    bob.expect('presence', type='unavailable', from_=alice.jid)
    alice.contact(BOB, subscription='none')
    bob.no_contact(ALICE)
    bob.presence('subscribe', to=BOB)
    assert condition(bob.expect('presence', type='error')) == 'not-allowed'
    counts_are_exact()


def test_directed_presence(sign_in: SignIn) -> None:
    alice, bob = sign_in('alice', available=False), sign_in('bob', 'desk')
    alice.available(to=bob.jid, status='just for you')
    bob.expect('presence', from_=alice.jid, status='just for you')
    alice.available()
    alice.sync()
    bob.expect_none('presence', from_=alice.jid)
    alice.abort()
    bob.expect('presence', type='unavailable', from_=alice.jid)
    carol = sign_in('carol')
    carol.available(to=BOB)
    bob.expect('presence', type='', from_=carol.jid)
    carol.presence('unavailable', to=BOB)
    bob.expect('presence', type='unavailable', from_=carol.jid)
    carol.abort()
    bob.expect_none('presence', from_=carol.jid)


@proves('IM-12')
def test_watcher_limit(sign_in: SignIn, make_user: Callable[..., Any]) -> None:
    configure(presence={'max_watchers': 3})
    bob = sign_in('bob')
    watchers = [sign_in(f'w{number}') for number in range(4)]
    for watcher in watchers[:3]:
        watcher.presence('subscribe', to=BOB)
        watcher.expect('presence', type='subscribed', from_=BOB)
    watchers[3].presence('subscribe', to=BOB)
    watchers[3].expect('presence', type='unsubscribed', from_=BOB)
    watchers[3].expect_none('presence', from_=bob.jid, within=0.2)
    watchers[0].presence('unsubscribe', to=BOB)
    bob.expect('presence', type='unsubscribe', from_=address('w0'))
    bob.no_contact(address('w0'))
    watchers[3].presence('subscribe', to=BOB)
    watchers[3].expect('presence', type='', from_=bob.jid)
    assert user('bob').watcher_count == 3
    counts_are_exact()


@proves('IM-16', 'IM-23')
def test_availability_sharing_off_after_the_restart(sign_in: SignIn) -> None:
    alice, bob = sign_in('alice'), sign_in('bob', 'desk')
    alice.presence('subscribe', to=BOB)
    alice.expect('presence', type='', from_=bob.jid)
    configure(presence={'availability_sharing': False})
    bob.available(show='away')
    alice.expect('presence', show='away', from_=bob.jid)
    command('restart', 'presence_engine')
    alice.expect('presence', type='unavailable', from_=bob.jid)
    command('restart', 'xcp_router')
    alice, bob = sign_in('alice'), sign_in('bob', 'desk')
    bob.available(show='dnd')
    bob.available(to=alice.jid)
    carol = sign_in('carol')
    carol.presence('subscribe', to=BOB)
    carol.contact(BOB, subscription='to')
    second = sign_in('bob', 'second')
    second.expect('presence', show='dnd', from_=bob.jid)
    for client in (alice, carol):
        client.presence('probe', to=BOB)
        client.expect_none('presence', from_=bob.jid)
    last = "<query xmlns='jabber:iq:last'/>"
    assert condition(alice.iq('get', last, to=BOB)) == 'forbidden'
    alice.say(BOB, 'talk goes on')
    bob.expect('message', body='talk goes on')
    configure(presence={'availability_sharing': True})
    command('restart', 'xcp_router')
    bob, carol = sign_in('bob', 'desk'), sign_in('carol')
    carol.expect('presence', type='', from_=bob.jid)


@proves('IM-21')
def test_temporary_subscriptions(sign_in: SignIn) -> None:
    configure(presence={'adhoc_ttl_s': 30, 'adhoc_max': 1})
    alice, bob, carol = sign_in('alice'), sign_in('bob', 'desk'), sign_in('carol')
    alice.presence('probe', to=BOB)
    alice.expect('presence', type='', from_=bob.jid)
    bob.available(show='dnd')
    alice.expect('presence', show='dnd', from_=bob.jid)
    assert user('bob').watcher_count == 0
    assert alice.roster() == {}
    alice.presence('probe', to=CAROL)
    assert condition(alice.expect('presence', type='error', from_=CAROL)) == 'resource-constraint'
    alice.presence('unavailable', to=BOB)
    bob.available(show='xa')
    alice.presence('probe', to=CAROL)
    alice.expect('presence', type='', from_=carol.jid)
    alice.expect_none('presence', show='xa')
    configure(presence={'adhoc_subscriptions': False})
    in_force()
    bob.presence('probe', to=CAROL)
    assert condition(bob.expect('presence', type='error', from_=CAROL)) == 'forbidden'


def test_without_the_presence_engine_messages_still_go(sign_in: SignIn) -> None:
    alice, bob = sign_in('alice'), sign_in('bob', 'desk')
    alice.presence('subscribe', to=BOB)
    alice.expect('presence', type='', from_=bob.jid)
    command('stop', 'presence_engine')
    alice.expect('presence', type='unavailable', from_=bob.jid)
    alice.say(BOB, 'still here')
    bob.expect('message', body='still here')
    alice.presence('subscribe', to=CAROL)
    assert condition(alice.expect('presence', type='error')) == 'service-unavailable'
    assert condition(alice.iq('get', "<query xmlns='jabber:iq:roster'/>")) == 'service-unavailable'
    bob.available(show='dnd')
    command('start', 'presence_engine')
    alice.expect('presence', show='dnd', from_=bob.jid)
