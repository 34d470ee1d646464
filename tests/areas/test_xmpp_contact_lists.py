"""Contact lists with real clients: RFC 6121 2, versioning, limits, changes from outside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.areas.xmpp_fixtures import address, command, configure, counts_are_exact, ensure, sign_in, user
from tests.proves import proves
from tests.xmppclient import XmppClient, condition, error_text

__all__ = ['sign_in']
SignIn = Callable[..., XmppClient]
QUERY = '{jabber:iq:roster}query'


def _set(client: XmppClient, inside: str) -> Any:
    return client.iq('set', f"<query xmlns='jabber:iq:roster'>{inside}</query>")


@proves('XMP-02')
def test_add_change_remove_with_pushes_and_versions(sign_in: SignIn, make_user: Callable[..., Any]) -> None:
    ensure(make_user, 'bob')
    one, two = sign_in('alice', 'one'), sign_in('alice', 'two')
    silent = sign_in('alice', 'three', roster=False)
    bob = address('bob')
    assert one.add_contact(bob, 'Bob & Söhne "GmbH"', ('Work', 'Freunde 朋友')) is None
    for client in (one, two):
        entry = client.contact(bob, subscription='none', name='Bob & Söhne "GmbH"')
        assert entry['groups'] == ['Freunde 朋友', 'Work']
    silent.expect_none('iq', within=0.3, type='set')
    version = one.version
    assert version == two.version != ''
    unchanged = one.iq('get', f"<query xmlns='jabber:iq:roster' ver='{version}'/>")
    assert unchanged.get('type') == 'result'
    assert unchanged.find(QUERY) is None
    assert one.add_contact('BOB@EXAMPLE.com', 'Robert') is None
    two.contact(bob, name='Robert', groups=[])
    assert len(two.contacts) == 1
    assert two.version != version
    changed = one.iq('get', f"<query xmlns='jabber:iq:roster' ver='{version}'/>").find(QUERY)
    assert changed is not None
    assert len(changed) == 1
    assert one.remove_contact(bob) is None
    two.no_contact(bob)
    assert one.remove_contact(bob) == 'item-not-found'
    assert one.add_contact('colleague@elsewhere.example', 'Foreign address') is None
    assert user('alice').contact_count == 1
    counts_are_exact()


def test_wrong_requests_get_clear_errors(sign_in: SignIn) -> None:
    alice = sign_in('alice')
    for inside, expected in (
        ("<item jid='a@example.com'/><item jid='b@example.com'/>", 'bad-request'),
        ('', 'bad-request'),
        ("<item name='x'/>", 'jid-malformed'),
        ("<item jid='@example.com'/>", 'jid-malformed'),
        ("<item jid='bob@example.com/desk'/>", 'bad-request'),
        (f"<item jid='{address('alice')}'/>", 'not-allowed'),
        (f"<item jid='bob@example.com' name='{'n' * 1024}'/>", 'not-acceptable'),
        ("<item jid='bob@example.com'><group/></item>", 'not-acceptable'),
        (f"<item jid='bob@example.com'><group>{'g' * 1024}</group></item>", 'not-acceptable'),
        ("<item jid='bob@example.com'><group>A</group><group>A</group></item>", 'bad-request'),
    ):
        answer = _set(alice, inside)
        assert condition(answer) == expected, inside
        if expected != 'jid-malformed':
            assert error_text(answer), inside
    get = "<query xmlns='jabber:iq:roster'/>"
    assert condition(alice.iq('get', get, to=address('bob'))) == 'forbidden'
    assert alice.roster() == {}


@proves('IM-07', 'IM-08', 'IM-09', 'IM-10')
def test_contact_limit_in_both_directions(sign_in: SignIn) -> None:
    """195 + 6 at 200 gives 5; edits go on; others cannot add a full user; the old limit holds until the restart."""
    alice, bob = sign_in('alice'), sign_in('bob')
    for number in range(195):
        alice.raw(
            f"<iq type='set' id='add{number}'><query xmlns='jabber:iq:roster'>"
            f"<item jid='c{number}@example.com'><group>A</group><group>B</group></item></query></iq>"
        )
    alice.expect('iq', id='add194', type='result')
    assert user('alice').contact_count == 195
    for number in range(195, 201):
        alice.raw(
            f"<iq type='set' id='add{number}'><query xmlns='jabber:iq:roster'>"
            f"<item jid='c{number}@example.com'/></query></iq>"
        )
    refused = alice.expect('iq', id='add200', type='error')
    assert condition(refused) == 'policy-violation'
    assert '200' in error_text(refused)
    for number in range(195, 200):
        alice.expect('iq', id=f'add{number}', type='result')
    assert user('alice').contact_count == 200
    assert alice.add_contact('c7@example.com', 'renamed') is None
    alice.presence('subscribe', to='c201@example.com')
    assert condition(alice.expect('presence', type='error')) == 'policy-violation'

    alice.forget()
    bob.presence('subscribe', to=address('alice'))
    bob.expect('presence', type='unsubscribed', from_=address('alice'))
    bob.contact(address('alice'), subscription='none', ask=False)
    alice.expect_none('presence', type='subscribe')
    assert alice.remove_contact('c7@example.com') is None
    bob.presence('subscribe', to=address('alice'))
    bob.expect('presence', type='subscribed', from_=address('alice'))
    counts_are_exact()

    configure(presence={'max_contacts': 5})
    assert bob.add_contact('x1@example.com') is None
    command('restart', 'xcp_router')
    bob = sign_in('bob')
    for number in range(2, 5):
        assert bob.add_contact(f'x{number}@example.com') is None
    assert bob.add_contact('x5@example.com') == 'policy-violation'
    assert len(bob.contacts) == 5


@proves('IM-13')
def test_no_limit(sign_in: SignIn) -> None:
    configure(presence={'max_contacts': None, 'max_watchers': None})
    alice = sign_in('alice')
    for number in range(500):
        alice.raw(
            f"<iq type='set' id='add{number}'><query xmlns='jabber:iq:roster'>"
            f"<item jid='c{number}@example.com'/></query></iq>"
        )
    assert condition(alice.expect('iq', id='add499', timeout=60)) is None
    assert user('alice').contact_count == 500
    alice.expect_none('iq', type='error', within=0.1)
    counts_are_exact()


def test_contact_lists_written_from_outside(sign_in: SignIn, make_user: Callable[..., Any]) -> None:
    """What a bulk import writes reaches connected clients as pushes and presence, by event and by the regular look."""
    from django.db import transaction
    from django.db.models import F

    from engine.contract.events import ContactListsChanged
    from impadmin.console import generations
    from impadmin.ucm.models import EndUser, RosterItem

    ensure(make_user, 'carol')
    alice, bob = sign_in('alice'), sign_in('bob', 'desk')
    ids = {name: user(name).pk for name in ('alice', 'bob', 'carol')}

    def write(announce: bool, name: str) -> None:
        with transaction.atomic():
            for key in sorted((ids['alice'], ids['bob'])):
                EndUser.objects.filter(pk=key).update(roster_version=F('roster_version') + 1)
            RosterItem.objects.update_or_create(
                user_id=ids['alice'], jid=address('bob'), defaults={'name': name, 'groups': ['VIP'], 'subscription': 1}
            )
            RosterItem.objects.update_or_create(
                user_id=ids['bob'], jid=address('alice'), defaults={'subscription': 2, 'is_contact': False}
            )
        if announce:
            generations.announce(ContactListsChanged(ids=[ids['alice'], ids['bob']]))

    write(True, 'Imported')
    alice.contact(address('bob'), name='Imported', groups=['VIP'], subscription='to')
    alice.expect('presence', from_=bob.jid, type='')
    bob.contact(address('alice'), subscription='from')
    write(False, 'Found by looking')
    alice.contact(address('bob'), name='Found by looking')
    alice.forget()
    with transaction.atomic():
        for key in sorted((ids['alice'], ids['bob'])):
            EndUser.objects.filter(pk=key).update(roster_version=F('roster_version') + 1)
        RosterItem.objects.filter(user_id__in=(ids['alice'], ids['bob'])).delete()
    generations.announce(ContactListsChanged(ids=[ids['alice'], ids['bob']]))
    alice.no_contact(address('bob'))
    alice.expect('presence', from_=bob.jid, type='unavailable')


@proves('XMP-02')
def test_many_changes_at_once_leave_no_contradiction(sign_in: SignIn) -> None:
    """Five people send 300 random changes without waiting. Then every half agrees with its other half, counters are
    exact, and what pushes told each client is what a fresh sign-in gets."""
    import random

    from impadmin.ucm.models import EndUser, RosterItem

    chance = random.Random(7)
    configure(presence={'auto_approve': False, 'max_contacts': 3, 'max_watchers': 3})
    names = [f'p{number}' for number in range(5)]
    clients = {name: sign_in(name) for name in names}
    second = {name: sign_in(name) for name in names}
    kinds = ('subscribe', 'subscribe', 'subscribed', 'subscribed', 'unsubscribe', 'unsubscribed', 'add', 'remove')
    for number in range(300):
        name, other = chance.sample(names, 2)
        kind, jid = chance.choice(kinds), address(other)
        if kind in ('add', 'remove'):
            gone = " subscription='remove'" if kind == 'remove' else f" name='n{number}'"
            item = f"<item jid='{jid}'{gone}/>"
            clients[name].raw(f"<iq type='set' id='r{number}'><query xmlns='jabber:iq:roster'>{item}</query></iq>")
        else:
            clients[name].presence(kind, to=jid)
    for name, client in clients.items():
        client.iq('set', f"<query xmlns='jabber:iq:roster'><item jid='{address(name)}-x'/></query>")
        client.remove_contact(f'{address(name)}-x')
    for client in [*clients.values(), *second.values()]:
        client.sync()
    counts_are_exact()
    items = {
        (row.user.im_address, row.jid): row
        for row in RosterItem.objects.filter(user__in=EndUser.objects.filter(user_id__in=names)).select_related('user')
    }
    for (owner, jid), row in items.items():
        theirs = items.get((jid, owner))
        assert bool(row.subscription & 1) == bool(theirs and theirs.subscription & 2), (owner, jid)
        assert bool(row.subscription & 2) == bool(theirs and theirs.subscription & 1), (owner, jid)
        assert row.ask == bool(theirs and theirs.pending_in), (owner, jid)
    for name in names:
        row = user(name)
        assert row.contact_count <= 3
        assert row.watcher_count <= 3
        fresh = sign_in(name).contacts
        assert clients[name].contacts == fresh
        assert second[name].contacts == fresh
        assert any(fresh.values()) or row.contact_count == 0
