"""The user's own presence policy between real clients: sharing off and on (IM-18), asked or not (IM-20)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from xml.etree.ElementTree import Element

import pytest

from tests.areas import bulk
from tests.areas.xmpp_fixtures import address, command, configure, counts_are_exact, ensure, sign_in, user
from tests.fixtures.processes import Engine
from tests.proves import proves
from tests.xmppclient import XmppClient, condition, error_text

__all__ = ['sign_in']
SignIn = Callable[..., XmppClient]
ALICE, BOB, CAROL, DAVE = (address(name) for name in ('alice', 'bob', 'carol', 'dave'))
NS = 'urn:imp:presence-policy:0'
LAST = "<query xmlns='jabber:iq:last'/>"


def policy(answer: Element) -> dict[str, tuple[str, str]]:
    """Element -> (what the user decided, what is in force) of an answer or push."""
    return {child.tag.partition('}')[2]: (child.text or '', child.attrib['in-force']) for child in answer[0]}


def ask(client: XmppClient) -> dict[str, tuple[str, str]]:
    """The policy as the client gets it."""
    answer = client.iq('get', f"<policy xmlns='{NS}'/>")
    assert condition(answer) is None
    return policy(answer)


def choose(client: XmppClient, sharing: str = '', approval: str = '') -> dict[str, tuple[str, str]]:
    """Change the policy; what the answer says."""
    inside = f'<availability-sharing>{sharing}</availability-sharing>' if sharing else ''
    inside += f'<approval>{approval}</approval>' if approval else ''
    answer = client.iq('set', f"<policy xmlns='{NS}'>{inside}</policy>")
    assert condition(answer) is None, error_text(answer)
    return policy(answer)


def watch(client: XmppClient, other: XmppClient) -> None:
    """Subscribe, and see the other one."""
    client.presence('subscribe', to=other.bare)
    client.expect('presence', type='subscribed', from_=other.bare)
    client.expect('presence', type='', from_=other.jid)


@proves('IM-18')
def test_a_user_goes_grey_and_comes_back(engine: Engine, sign_in: SignIn) -> None:
    alice, bob = sign_in('alice'), sign_in('bob', 'desk')
    second = sign_in('bob', 'second')
    watch(alice, bob)
    alice.expect('presence', type='', from_=second.jid)
    watch(bob, alice)
    carol, dave = sign_in('carol'), sign_in('dave')
    bob.available(to=carol.jid)
    carol.expect('presence', type='', from_=bob.jid)
    dave.presence('probe', to=BOB)
    dave.expect('presence', type='', from_=bob.jid)
    assert condition(alice.iq('get', LAST, to=BOB)) is None
    assert ask(second) == {'availability-sharing': ('default', 'on'), 'approval': ('default', 'automatic')}
    for client in (alice, bob, carol, dave, second):
        client.sync()
        client.forget()

    assert choose(bob, sharing='off')['availability-sharing'] == ('off', 'off')
    for client in (bob.jid, second.jid):
        alice.expect('presence', type='unavailable', from_=client)
    carol.expect('presence', type='unavailable', from_=bob.jid)
    dave.expect('presence', type='unavailable', from_=bob.jid)
    pushed = second.expect('iq', type='set', has=f'{{{NS}}}policy')
    assert (policy(pushed)['availability-sharing'], pushed.get('to')) == (('off', 'off'), second.jid)
    for client in (alice, bob, carol, dave, second):
        client.sync()
        client.forget()

    # nothing reaches others by any way; the own clients see each other, and the user sees the others
    bob.available(show='dnd')
    second.expect('presence', show='dnd', from_=bob.jid)
    bob.available(to=carol.jid)
    bob.available(to=ALICE)
    late = sign_in('alice', 'late')
    early = sign_in('bob', 'early', roster=False, available=False)
    early.available(to=carol.jid)
    early.sync()
    early.close()
    for client in (alice, dave):
        client.presence('probe', to=BOB)
        client.expect('presence', type='unavailable', from_=BOB)
    assert condition(alice.iq('get', LAST, to=BOB)) == 'forbidden'
    assert condition(alice.iq('get', LAST, to=bob.jid)) == 'forbidden'
    info = "<query xmlns='http://jabber.org/protocol/disco#info'/>"
    assert condition(alice.iq('get', info, to=BOB)) == 'service-unavailable'
    carol.presence('subscribe', to=BOB)
    carol.contact(BOB, subscription='to')
    alice.available(show='away')
    bob.expect('presence', show='away', from_=alice.jid)
    for client in (alice, late, carol, dave):
        client.expect_none('presence', from_=BOB, type='', within=0.2)
    alice.say(BOB, 'talk goes on')
    bob.expect('message', body='talk goes on')
    bob.say(alice.jid, 'as ever')
    alice.expect('message', body='as ever')

    # not signed in: still nothing to ask, and no other answer than for a stranger
    bob.close()
    second.close()
    assert condition(alice.iq('get', LAST, to=BOB)) == 'forbidden'
    engine.kill9()
    engine.restart()

    # it is remembered; the first presence after the crash is hidden too, directed before the list was read as well
    alice, carol = sign_in('alice'), sign_in('carol')
    bob = sign_in('bob', 'desk', roster=False, available=False)
    bob.raw(f"<presence to='{carol.jid}'/><presence><show>xa</show></presence>")
    assert ask(bob)['availability-sharing'] == ('off', 'off')
    for client in (alice, carol):
        client.expect_none('presence', from_=BOB)
    assert choose(bob, sharing='default')['availability-sharing'] == ('default', 'on')
    for client in (alice, carol):
        client.expect('presence', show='xa', from_=bob.jid)
    from impadmin.presence.models import UserPresencePolicy

    assert not UserPresencePolicy.objects.exists()
    counts_are_exact()


@proves('IM-18')
def test_off_for_the_cluster_wins(sign_in: SignIn) -> None:
    alice, bob = sign_in('alice'), sign_in('bob', 'desk')
    watch(alice, bob)
    configure(presence={'availability_sharing': False})
    command('restart', 'presence_engine')
    alice.expect('presence', type='unavailable', from_=bob.jid)
    assert choose(bob, sharing='off')['availability-sharing'] == ('off', 'off')
    assert choose(bob, sharing='on')['availability-sharing'] == ('on', 'off')
    alice.expect_none('presence', from_=BOB, type='')
    configure(presence={'availability_sharing': True})
    command('restart', 'presence_engine')
    alice.expect('presence', type='', from_=bob.jid)
    assert ask(bob)['availability-sharing'] == ('on', 'on')


@proves('IM-20')
def test_ask_me_while_the_cluster_approves(sign_in: SignIn) -> None:
    alice, bob = sign_in('alice'), sign_in('bob', 'desk')
    second = sign_in('bob', 'second')
    dave, eve = sign_in('dave'), sign_in('eve')
    eve.presence('probe', to=BOB)
    eve.expect('presence', type='', from_=bob.jid)
    eve.expect('presence', type='', from_=second.jid)
    ask(second)
    assert choose(bob, approval='ask')['approval'] == ('ask', 'ask')
    assert policy(second.expect('iq', type='set', has=f'{{{NS}}}policy'))['approval'] == ('ask', 'ask')
    alice.presence('subscribe', to=BOB)
    bob.expect('presence', type='subscribe', from_=ALICE)
    alice.contact(BOB, ask=True, subscription='none')
    alice.expect_none('presence', from_=BOB)
    # a temporary look does not go around the question, neither a running one nor a new one
    for client in (bob, second):
        eve.expect('presence', type='unavailable', from_=client.jid)
    bob.available(show='dnd')
    dave.presence('probe', to=BOB)
    dave.expect('presence', type='unavailable', from_=BOB)
    for client in (dave, eve):
        client.expect_none('presence', from_=BOB, type='', within=0.2)
    # somebody in the contact list is approved; refusing and approving work as ever
    assert bob.add_contact(DAVE) is None
    watch(dave, second)
    bob.presence('subscribed', to=ALICE)
    alice.expect('presence', show='dnd', from_=bob.jid)

    # it holds while the user is not signed in
    bob.close()
    second.close()
    carol = sign_in('carol')
    carol.presence('subscribe', to=BOB)
    carol.contact(BOB, ask=True)
    bob = sign_in('bob', 'desk')
    bob.expect('presence', type='subscribe', from_=CAROL)
    bob.presence('unsubscribed', to=CAROL)
    carol.expect('presence', type='unsubscribed', from_=BOB)
    assert choose(bob, approval='default')['approval'] == ('default', 'automatic')
    watch(carol, bob)
    counts_are_exact()


@proves('IM-20')
def test_approve_everybody_while_the_cluster_asks(sign_in: SignIn) -> None:
    configure(presence={'auto_approve': False})
    alice, bob, carol = sign_in('alice'), sign_in('bob', 'desk'), sign_in('carol')
    carol.presence('probe', to=BOB)
    assert condition(carol.expect('presence', type='error', from_=BOB)) == 'forbidden'
    assert choose(bob, approval='automatic') == {
        'availability-sharing': ('default', 'on'), 'approval': ('automatic', 'automatic'),
    }  # fmt: skip
    watch(alice, bob)
    carol.presence('probe', to=BOB)
    carol.expect('presence', type='', from_=bob.jid)
    alice.presence('subscribe', to=CAROL)
    carol.expect('presence', type='subscribe', from_=ALICE)
    bob.expect_none('presence', type='subscribe')
    # the other decision stays as it was
    assert choose(bob, sharing='off') == {
        'availability-sharing': ('off', 'off'),
        'approval': ('automatic', 'automatic'),
    }
    row = user('bob').presence_policy
    assert (row.sharing, row.automatic) == (False, True)


@pytest.mark.parametrize(
    ('inside', 'words'),
    [
        ('', 'availability-sharing, approval'),
        ('<approval>maybe</approval>', 'default, automatic, ask'),
        ('<approval/>', 'default, automatic, ask'),
        ('<availability-sharing>OFF</availability-sharing>', 'default, on, off'),
        ('<mood>good</mood>', 'no mood'),
        ("<approval xmlns='urn:other'>ask</approval>", 'no {urn:other}approval'),
        ('<approval>ask</approval><approval>automatic</approval>', 'twice'),
    ],
)
def test_what_is_wrong_is_said(xmpp_client: Any, make_user: Any, inside: str, words: str) -> None:
    make_user('bob')
    bob = xmpp_client('bob')
    answer = bob.iq('set', f"<policy xmlns='{NS}'>{inside}</policy>")
    assert condition(answer) == 'bad-request'
    assert words in error_text(answer)
    assert ask(bob) == {'availability-sharing': ('default', 'on'), 'approval': ('default', 'automatic')}


def test_only_the_own_account_and_only_with_the_presence_engine(sign_in: SignIn) -> None:
    alice, bob = sign_in('alice'), sign_in('bob')
    info = alice.iq('get', "<query xmlns='http://jabber.org/protocol/disco#info'/>", to=ALICE)
    assert NS in {feature.get('var') for feature in info.iter('{http://jabber.org/protocol/disco#info}feature')}
    for to in (BOB, 'example.com', address('nobody')):
        for kind in ('get', 'set'):
            request = f"<policy xmlns='{NS}'><approval>ask</approval></policy>"
            assert condition(alice.iq(kind, request, to=to)) == 'forbidden', (kind, to)
    assert ask(bob)['approval'] == ('default', 'automatic')
    command('stop', 'presence_engine')
    for kind in ('get', 'set'):
        answer = alice.iq(kind, f"<policy xmlns='{NS}'><approval>ask</approval></policy>")
        assert condition(answer) == 'service-unavailable'
        assert 'Cisco Presence Engine' in error_text(answer)


@proves('IM-18', 'IM-20')
def test_the_administrator_sees_it_on_the_user_page(
    sign_in: SignIn, admin_client: Any, make_user: Callable[..., Any]
) -> None:
    """Read-only on the End User page; the cluster's switch is named when it is the reason."""
    ensure(make_user, 'alice')
    bob = sign_in('bob')

    def facts(user_id: str) -> tuple[str, str]:
        page = admin_client('read_only').get(f'/ucm/ucm/end-users/{user(user_id).pk}/').content.decode()
        found = [
            page.partition(f'id="{name}"')[2].partition('</dd>')[0]
            for name in ('availability-sharing', 'approval-policy')
        ]
        return found[0], found[1]

    sharing, approval = facts('bob')
    assert 'On for the cluster' in sharing
    assert 'Automatic for the cluster' in approval
    choose(bob, sharing='off', approval='ask')
    sharing, approval = facts('bob')
    assert 'Off by the user' in sharing
    assert 'The user wants to be asked' in approval
    assert 'On for the cluster' in facts('alice')[0]
    choose(bob, sharing='on', approval='automatic')
    sharing, approval = facts('bob')
    assert 'On by the user' in sharing
    assert 'Automatic, chosen by the user' in approval
    configure(presence={'availability_sharing': False, 'auto_approve': False})
    assert 'Off for the cluster' in facts('bob')[0]
    assert 'The cluster lets the user decide' in facts('alice')[1]


@proves('IM-20')
@pytest.mark.parametrize('cluster', [True, False])
def test_an_import_obeys_the_contact(
    sign_in: SignIn, admin_client: Any, make_user: Callable[..., Any], cluster: bool
) -> None:
    """Whatever the cluster does: who wants to be asked is asked, who approves everybody is not, the rest follows it."""
    configure(presence={'auto_approve': cluster})
    ensure(make_user, 'alice', 'dave')
    bob, carol = sign_in('bob'), sign_in('carol')
    choose(bob, approval='ask')
    choose(carol, approval='automatic')
    bulk.provisioning()
    rows = [f'alice,example.com,{name},example.com,,G,0' for name in ('bob', 'carol', 'dave')]
    job = bulk.run_import(admin_client('bulk_operator'), bulk.csv(rows))
    assert job.counts['imported'] == 3
    found = bulk.contacts(user('alice'))
    assert [(found[jid].subscription, found[jid].ask) for jid in (BOB, CAROL, DAVE)] == [
        (0, True), (1, False), (1, False) if cluster else (0, True),
    ]  # fmt: skip
    bob.expect('presence', type='subscribe', from_=ALICE)
    carol.contact(ALICE, subscription='from')
    carol.expect_none('presence', type='subscribe')
    bulk.counts_are_exact()
