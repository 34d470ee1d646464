"""Blocking and privacy lists between real clients: XEP-0191, XEP-0016, XEP-0126, XEP-0273."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from tests.areas.xmpp_fixtures import address, command, configure, parameter, sign_in, user
from tests.fixtures import data
from tests.fixtures.federation import PEER, PEER_USER, Federation, Peer, Prosody
from tests.fixtures.processes import Engine
from tests.proves import proves
from tests.xmppclient import XmppClient, body, condition, error_text

__all__ = ['sign_in']

BLOCKING = 'urn:xmpp:blocking'
PRIVACY = 'jabber:iq:privacy'
BLOCKED = '{urn:xmpp:blocking:errors}blocked'
SignIn = Callable[..., XmppClient]


def items(addresses: Iterable[str]) -> str:
    return ''.join(f"<item jid='{one}'/>" for one in addresses)


def block(client: XmppClient, *addresses: str, word: str = 'block') -> Any:
    return client.iq('set', f"<{word} xmlns='{BLOCKING}'>{items(addresses)}</{word}>")


def block_list(client: XmppClient) -> list[str]:
    answer = client.iq('get', f"<blocklist xmlns='{BLOCKING}'/>")
    return [entry.get('jid', '') for entry in answer[0]]


def privacy(client: XmppClient, inside: str, kind: str = 'set') -> Any:
    return client.iq(kind, f"<query xmlns='{PRIVACY}'>{inside}</query>")


def rules(*entries: tuple[str, ...], name: str = 'mine') -> str:
    """A list of (action, type, value, kinds...)."""
    written = ''
    for order, (action, kind, value, *kinds) in enumerate(entries, 1):
        match = f" type='{kind}' value='{value}'" if kind else ''
        written += f"<item action='{action}' order='{order}'{match}>{''.join(f'<{one}/>' for one in kinds)}</item>"
    return f"<list name='{name}'>{written}</list>"


def friends(*clients: XmppClient) -> None:
    """Everybody in every contact list, both ways; the settings approve automatically."""
    for client in clients:
        for other in clients:
            if other is not client:
                client.presence('subscribe', to=other.bare)
                client.contact(
                    other.bare, subscription='both' if clients.index(other) < clients.index(client) else 'to'
                )
    for client in clients:
        client.sync()
        client.forget()


def refused(client: XmppClient, to: str, text: str = 'x', kind: str = 'chat') -> Any:
    number = client.say(to, text, type=kind)
    return client.expect('message', type='error', id=number)


def hears(sender: XmppClient, receiver: XmppClient, to: str = '') -> bool:
    """Whether a message arrives; a refusal is checked to be one."""
    number = sender.say(to or receiver.bare, f'from {sender.jid}')
    sender.sync()
    receiver.sync()
    arrived = [stanza for stanza in receiver.stanzas if stanza.get('id') == number]
    if arrived:
        receiver.expect('message', id=number)
    else:
        assert condition(sender.expect('message', type='error', id=number)) == 'service-unavailable'
    return bool(arrived)


def test_blocking_and_unblocking(sign_in: SignIn) -> None:
    """Messages, presence, requests and subscriptions in both directions; pushes; what the blocked one sees."""
    alice, second, bob = sign_in('alice', 'a1'), sign_in('alice', 'a2'), sign_in('bob')
    friends(alice, bob)
    for client in (alice, second):
        assert block_list(client) == []
    result = block(alice, 'BOB@example.com')
    assert result.get('type') == 'result'
    for client in (alice, second):
        push = client.expect('iq', type='set', has=f'{{{BLOCKING}}}block')
        assert [entry.get('jid') for entry in push[0]] == [address('bob')]
        assert block_list(client) == [address('bob')]
    bob.expect('presence', type='unavailable', from_=alice.jid)
    bob.expect('presence', type='unavailable', from_=second.jid)
    alice.expect('presence', type='unavailable', from_=bob.jid)  # and the other way round
    alice.forget()
    second.forget()

    for to in (alice.bare, alice.jid):
        error = refused(bob, to)
        assert condition(error) == 'service-unavailable'
        assert error.find('.//' + BLOCKED) is None
    for to in (alice.bare, alice.jid):
        assert condition(bob.iq('get', "<query xmlns='jabber:iq:last'/>", to=to)) == 'service-unavailable', to
    assert condition(bob.iq('get', "<vCard xmlns='vcard-temp'/>", to=alice.bare)) == 'service-unavailable'
    bob.available(status='not for you', to=alice.bare)
    bob.available(status='also not')
    bob.presence('probe', to=alice.bare)
    bob.presence('unsubscribe', to=alice.bare)
    bob.sync()
    for client in (alice, second):
        client.expect_none('message')
        client.expect_none('presence', from_=bob.jid)

    error = refused(alice, bob.bare)
    assert condition(error) == 'not-acceptable'
    assert error.find('.//' + BLOCKED) is not None
    answer = alice.iq('get', "<ping xmlns='urn:xmpp:ping'/>", to=bob.jid)
    assert condition(answer) == 'not-acceptable'
    alice.presence('subscribe', to=bob.bare)
    assert condition(alice.expect('presence', type='error')) == 'not-acceptable'
    bob.forget()

    assert block(alice, address('bob'), word='unblock').get('type') == 'result'
    push = second.expect('iq', type='set', has=f'{{{BLOCKING}}}unblock')
    assert [entry.get('jid') for entry in push[0]] == [address('bob')]
    assert block_list(alice) == []
    assert hears(bob, alice)
    bob.presence('subscribe', to=alice.bare)
    bob.expect('presence', type='', from_=alice.jid)
    assert hears(alice, bob)


def test_blocks_hold_without_a_session_and_over_restarts(sign_in: SignIn, make_user: Callable[..., Any]) -> None:
    """Offline messages are refused, requests wait, a whole domain can be blocked, nothing is lost by a restart."""
    alice, bob = sign_in('alice'), sign_in('bob')
    block(alice, bob.bare, 'spam.example', 'Ünicode@bücher.example', f'{address("carol")}/phone')
    alice.close()
    assert condition(refused(bob, alice.bare)) == 'service-unavailable'
    assert condition(bob.iq('get', "<vCard xmlns='vcard-temp'/>", to=alice.bare)) == 'service-unavailable'
    bob.presence('subscribe', to=alice.bare)
    bob.contact(alice.bare, ask=True)
    bob.expect_none('presence', type='subscribed')
    carol = sign_in('carol')
    carol.say(alice.bare, 'welcome')
    assert condition(carol.iq('get', "<vCard xmlns='vcard-temp'/>", to=alice.bare)) == 'item-not-found'
    command('restart', 'xcp_router')
    alice, bob = sign_in('alice'), sign_in('bob')
    alice.expect('message', body='welcome')
    assert block_list(alice) == [
        bob.bare, 'spam.example', 'ünicode@xn--bcher-kva.example', f'{address("carol")}/phone'
    ]  # fmt: skip
    assert not hears(bob, alice)
    alice.expect_none('presence', type='subscribe')
    assert block(alice, word='unblock').get('type') == 'result'
    push = alice.expect('iq', type='set', has=f'{{{BLOCKING}}}unblock')
    assert len(push[0]) == 0
    alice.expect('presence', type='subscribe', from_=bob.bare)  # it waited behind the block
    assert hears(bob, alice)
    assert user('alice').privacy_lists.count() == 0

    block(alice, data.DOMAIN)
    assert not hears(bob, alice)
    assert alice.iq('get', "<ping xmlns='urn:xmpp:ping'/>", to=data.DOMAIN).get('type') == 'result'
    other = sign_in('alice', 'other')
    assert hears(other, alice, to=alice.jid)


@proves('EU-05')
def test_blocking_people_of_another_server(
    federation: Federation, peer: Callable[..., Peer], sign_in: SignIn, engine: Engine
) -> None:
    """A user of another server, that whole server, a user here: the blocked one sees unavailable, whatever he does."""
    there = peer(Prosody)
    romeo_address = f'{PEER_USER}@{PEER}'
    alice, bob, romeo = sign_in('alice'), sign_in('bob'), there.client()
    friends(alice, bob)
    alice.presence('subscribe', to=romeo_address)
    romeo.expect('presence', type='subscribe', from_=alice.bare)
    romeo.presence('subscribed', to=alice.bare)
    romeo.presence('subscribe', to=alice.bare)
    romeo.expect('presence', type='', from_=alice.jid)
    alice.expect('presence', type='', from_=romeo.jid)

    for blocked in (romeo_address, PEER, bob.bare):
        other = bob if blocked == bob.bare else romeo
        romeo.forget()
        bob.forget()
        assert block(alice, blocked).get('type') == 'result'
        other.expect('presence', type='unavailable', from_=alice.jid)
        alice.expect('presence', type='unavailable', from_=other.jid)
        alice.available(show='dnd')
        other.available(status='look at me')
        other.presence('probe', to=alice.bare)
        number = other.say(alice.bare, 'are you there?')
        assert condition(other.expect('message', type='error', id=number)) == 'service-unavailable'
        assert condition(other.iq('get', "<query xmlns='jabber:iq:version'/>", to=alice.jid)) == 'service-unavailable'
        if other is romeo:
            romeo.close()
            romeo = other = there.client()
            number = romeo.say(alice.bare, 'and now?')
            romeo.expect('message', type='error', id=number)
            bob.expect('presence', show='dnd', from_=alice.jid)
        shown = [
            one for one in other.stanzas if one.get('from', '').startswith(alice.bare) and one.tag.endswith('presence')
        ]
        assert {one.get('type') for one in shown} <= {'unavailable'}
        assert not any(
            (one.get('from') or '').startswith(other.bare) for one in alice.stanzas if one.tag.endswith('message')
        )
        assert block(alice, blocked, word='unblock').get('type') == 'result'
        other.expect('presence', show='dnd', from_=alice.jid)
        alice.expect('presence', type='', from_=other.jid)
        alice.available()
        other.expect('presence', type='', show='', from_=alice.jid)
        alice.forget()
    romeo.abort()


def test_wrong_requests_to_block(sign_in: SignIn) -> None:
    """What is wrong is said; limits hold; a block list of the maximum is fast."""
    parameter('xcp_router', 'privacy_list_items', 50)
    alice, bob = sign_in('alice'), sign_in('bob')
    for answer, expected in (
        (block(alice), 'bad-request'),
        (block(alice, 'a@b@c d'), 'jid-malformed'),
        (block(alice, ''), 'jid-malformed'),
        (block(alice, address('alice')), 'not-allowed'),
        (alice.iq('set', f"<block xmlns='{BLOCKING}'><entry/></block>"), 'bad-request'),
        (alice.iq('set', f"<block xmlns='{BLOCKING}'>{items(['a@b.c'])}</block>", to=bob.bare), 'service-unavailable'),
        (block(alice, *(f'u{n}@spam.example' for n in range(51))), 'resource-constraint'),
    ):
        assert condition(answer) == expected, error_text(answer)
    assert block_list(alice) == []
    assert block(alice, *(f'u{n}@spam.example' for n in range(50)), 'u1@spam.example').get('type') == 'result'
    assert condition(block(alice, 'one@more.example')) == 'resource-constraint'
    assert block(alice, 'u1@spam.example').get('type') == 'result'
    assert len(block_list(alice)) == 50
    assert hears(bob, alice)


@proves('XMP-06')
def test_privacy_lists_are_kept_and_applied(sign_in: SignIn) -> None:
    """Spec 15: a deny list blocks presence-out of one JID; the active list overrides the default for one resource."""
    alice, second, bob, carol = sign_in('alice', 'a1'), sign_in('alice', 'a2'), sign_in('bob'), sign_in('carol')
    friends(alice, bob, carol)
    second.forget()
    assert len(privacy(alice, '', 'get')[0]) == 0
    no_presence = rules(('deny', 'jid', address('bob'), 'presence-out'), name='no presence')
    assert privacy(alice, no_presence).get('type') == 'result'
    for client in (alice, second):
        push = client.expect('iq', type='set', has=f'{{{PRIVACY}}}list')
        assert push[0][0].attrib == {'name': 'no presence'}
    second.close()
    bob.expect('presence', type='unavailable', from_=second.jid)
    assert privacy(alice, "<default name='no presence'/>").get('type') == 'result'
    bob.expect('presence', type='unavailable', from_=alice.jid)
    carol.sync()
    carol.expect_none('presence', from_=alice.jid)
    alice.available(show='away')
    carol.expect('presence', show='away', from_=alice.jid)
    bob.expect_none('presence', from_=alice.jid)
    assert hears(bob, alice)  # only presence is blocked
    assert hears(alice, bob)

    # for one resource another list: the default one does not count there
    privacy(alice, rules(('allow', '', ''), name='open'))
    assert privacy(alice, "<active name='open'/>").get('type') == 'result'
    bob.expect('presence', show='away', from_=alice.jid)
    names = privacy(alice, '', 'get')[0]
    assert [(entry.tag.rpartition('}')[2], entry.get('name')) for entry in names] == [
        ('active', 'open'), ('default', 'no presence'), ('list', 'no presence'), ('list', 'open'),
    ]  # fmt: skip
    second = sign_in('alice', 'a2')
    bob.expect_none('presence', from_=second.jid)
    second.close()
    assert privacy(alice, '<active/>').get('type') == 'result'
    bob.expect('presence', type='unavailable', from_=alice.jid)

    # an edit of the list in force counts at once
    privacy(alice, rules(('deny', 'jid', address('carol')), name='no presence'))
    bob.expect('presence', show='away', from_=alice.jid)
    carol.expect('presence', type='unavailable', from_=alice.jid)
    alice.expect('presence', type='unavailable', from_=carol.jid)
    assert not hears(carol, alice)
    assert block_list(alice) == [address('carol')]  # one store for both protocols
    alice.forget()
    assert block(alice, address('carol'), word='unblock').get('type') == 'result'
    alice.expect('presence', type='', from_=carol.jid)
    assert hears(carol, alice)


@proves('XMP-06')
@pytest.mark.parametrize('online', [True, False], ids=['signed in', 'not signed in'])
def test_every_way_to_match(sign_in: SignIn, online: bool) -> None:
    """Order, JID forms, groups, subscriptions and the fall-through; for a user who is away the store decides alike."""
    configure(presence={'auto_approve': False})
    alice, bob, carol = sign_in('alice'), sign_in('bob', 'desk'), sign_in('carol')
    alice.add_contact(bob.bare, groups=('Enemies',))
    bob.presence('subscribe', to=alice.bare)
    alice.contact(bob.bare, subscription='from')
    cases: list[tuple[tuple[tuple[str, ...], ...], bool, bool]] = [
        ((('deny', 'jid', f'{bob.bare}/desk'),), False, True),
        ((('deny', 'jid', f'{bob.bare}/other'),), True, True),
        ((('allow', 'jid', bob.bare), ('deny', 'jid', data.DOMAIN)), True, False),
        ((('deny', 'jid', data.DOMAIN), ('allow', 'jid', bob.bare)), False, False),
        ((('deny', 'jid', 'com'),), False, False),
        ((('deny', 'jid', f'{data.DOMAIN}/desk'),), False, True),
        ((('deny', 'group', 'Enemies', 'message'),), False, True),
        ((('deny', 'subscription', 'none'),), True, False),
        ((('deny', 'subscription', 'from'),), False, True),
        ((('allow', 'subscription', 'from'), ('deny', '', '')), True, False),
        ((('deny', '', '', 'iq', 'presence-in', 'presence-out'),), True, True),
        ((('deny', '', '', 'message'),), False, False),
    ]
    if not online:
        alice.presence('unavailable')
    for entries, bob_is_heard, carol_is_heard in cases:
        assert privacy(alice, rules(*entries)).get('type') == 'result', entries
        assert privacy(alice, "<default name='mine'/>").get('type') == 'result'
        if online:
            assert hears(bob, alice) is bob_is_heard, entries
            assert hears(carol, alice) is carol_is_heard, entries
            continue
        alice.close()
        for client, heard in ((bob, bob_is_heard), (carol, carol_is_heard)):
            number = client.say(alice.bare, 'kept or refused')
            client.sync()
            errors = [stanza for stanza in client.stanzas if stanza.get('id') == number]
            assert (not errors) is heard, entries
            client.forget()
        alice = sign_in('alice', available=False)
    # the group follows the contact list
    if online:
        privacy(alice, rules(('deny', 'group', 'Enemies')))
        assert not hears(bob, alice)
        alice.add_contact(bob.bare, groups=('Friends',))
        assert hears(bob, alice)


@proves('XMP-06')
def test_wrong_privacy_lists(sign_in: SignIn) -> None:
    """Errors of XEP-0016 2, conflicts with other clients, limits."""
    parameter('xcp_router', 'privacy_lists', 2)
    parameter('xcp_router', 'privacy_list_items', 5)
    alice, second = sign_in('alice', 'a1'), sign_in('alice', 'a2')
    one = "<item action='deny' order='1'/>"
    for inside, expected in (
        ('', 'bad-request'),
        ('<active/><default/>', 'bad-request'),
        ('<lists/>', 'bad-request'),
        ("<active name='none'/>", 'item-not-found'),
        ("<default name='none'/>", 'item-not-found'),
        ("<list name='none'/>", 'item-not-found'),
        (f'<list>{one}</list>', 'bad-request'),
        (f"<list name='{'x' * 256}'>{one}</list>", 'bad-request'),
        (f"<list name='a'>{one}{one}</list>", 'bad-request'),
        ("<list name='a'><item order='1'/></list>", 'bad-request'),
        ("<list name='a'><item action='block' order='1'/></list>", 'bad-request'),
        ("<list name='a'><item action='deny'/></list>", 'bad-request'),
        ("<list name='a'><item action='deny' order='-1'/></list>", 'bad-request'),
        ("<list name='a'><item action='deny' order='4294967296'/></list>", 'bad-request'),
        ("<list name='a'><item action='deny' order='1' type='jid' value='a@b@c d'/></list>", 'jid-malformed'),
        ("<list name='a'><item action='deny' order='1' type='ip' value='1'/></list>", 'bad-request'),
        ("<list name='a'><item action='deny' order='1' type='subscription' value='x'/></list>", 'bad-request'),
        ("<list name='a'><item action='deny' order='1' type='group' value='Ghosts'/></list>", 'item-not-found'),
        ("<list name='a'><item action='deny' order='1'><x/></item></list>", 'bad-request'),
        (rules(*[('deny', 'jid', f'u{n}@b.c') for n in range(6)]), 'resource-constraint'),
    ):
        answer = privacy(alice, inside)
        assert condition(answer) == expected, (inside, error_text(answer))
    assert condition(privacy(alice, "<list name='none'/>", 'get')) == 'item-not-found'
    assert condition(privacy(alice, "<list name='a'/><list name='b'/>", 'get')) == 'bad-request'
    assert privacy(alice, rules(('deny', '', '', 'iq'), name='a')).get('type') == 'result'
    assert privacy(alice, rules(('deny', '', '', 'iq'), name='b')).get('type') == 'result'
    assert condition(privacy(alice, rules(('deny', '', '', 'iq'), name='c'))) == 'resource-constraint'

    assert privacy(alice, "<default name='a'/>").get('type') == 'result'
    assert privacy(second, "<active name='b'/>").get('type') == 'result'
    for inside in ("<list name='b'/>",):
        assert condition(privacy(alice, inside)) == 'conflict'
    for inside in ("<list name='a'/>", "<default name='b'/>", '<default/>'):
        assert condition(privacy(second, inside)) == 'conflict', inside
    assert privacy(second, '<active/>').get('type') == 'result'
    assert condition(privacy(alice, '<default/>')) == 'conflict'
    second.close()
    alice.expect('presence', type='unavailable', from_=second.jid)
    assert privacy(alice, "<list name='b'/>").get('type') == 'result'
    assert privacy(alice, "<list name='a'/>").get('type') == 'result'  # the only client that uses it removes it
    assert len(privacy(alice, '', 'get')[0]) == 0


@proves('XMP-22')
def test_being_invisible(sign_in: SignIn) -> None:
    """XEP-0126: contacts see the user go, messages still pass, the own clients see each other; then visible to one."""
    alice, second, bob, carol = sign_in('alice', 'a1'), sign_in('alice', 'a2'), sign_in('bob'), sign_in('carol')
    friends(alice, bob, carol)
    second.forget()
    privacy(alice, rules(('deny', '', '', 'presence-out'), name='invisible'))
    alice.presence('unavailable')
    second.expect('presence', type='unavailable', from_=alice.jid)
    for client in (bob, carol):
        client.expect('presence', type='unavailable', from_=alice.jid)
    assert privacy(alice, "<active name='invisible'/>").get('type') == 'result'
    alice.available(status='here')
    second.expect('presence', type='', from_=alice.jid)
    bob.available(show='dnd')
    alice.expect('presence', show='dnd', from_=bob.jid)  # sees, is not seen
    alice.sync()
    for client in (bob, carol):
        client.sync()
        client.expect_none('presence', from_=alice.jid)
    assert hears(bob, alice)
    assert hears(alice, bob)
    second.available(show='xa')  # the other client has not chosen the list
    bob.expect('presence', show='xa', from_=second.jid)

    entries = (('allow', 'jid', bob.bare, 'presence-out'), ('deny', '', '', 'presence-out'))
    privacy(alice, rules(*entries, name='invisible'))
    assert 'here' in (bob.expect('presence', type='', from_=alice.jid).findtext('{jabber:client}status') or '')
    carol.expect_none('presence', from_=alice.jid)
    alice.available(to=carol.bare)
    assert condition(alice.expect('presence', type='error')) == 'not-acceptable'
    assert privacy(alice, '<active/>').get('type') == 'result'
    carol.expect('presence', type='', from_=alice.jid)


@proves('XMP-29')
def test_sifting(sign_in: SignIn) -> None:
    """Spec 15: a client sifts presence and gets none until it asks again; the same for the other kinds."""

    def sift(client: XmppClient, inside: str = '') -> Any:
        return client.iq('set', f"<sift xmlns='urn:xmpp:sift:2'>{inside}</sift>")

    alice, bob = sign_in('alice'), sign_in('bob')
    friends(alice, bob)
    info = alice.iq('get', "<query xmlns='http://jabber.org/protocol/disco#info'/>", to=data.DOMAIN)
    features = {entry.get('var') for entry in info[0]}
    assert {'urn:xmpp:sift:2', 'urn:xmpp:sift:stanzas:presence', 'urn:xmpp:sift:payloads:qname'} <= features
    for wrong in (
        '<all/>', '<presence/><presence/>', "<iq sender='nobody'/>", "<iq recipient='x'/>",
        "<message><allow name='x'/></message>",
    ):  # fmt: skip
        assert condition(sift(alice, wrong)) == 'bad-request', wrong
    many = "<allow name='x' ns='y'/>" * 51
    assert condition(sift(alice, f'<message>{many}</message>')) == 'resource-constraint'

    assert sift(alice, '<presence/>').get('type') == 'result'
    bob.available(show='away')
    assert hears(bob, alice)
    alice.expect_none('presence', from_=bob.jid)
    assert sift(alice).get('type') == 'result'
    alice.expect('presence', show='away', from_=bob.jid)  # brought up to date

    sift(alice, "<presence><allow name='c' ns='http://jabber.org/protocol/caps'/></presence>")
    bob.available(show='xa')
    bob.raw("<presence><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='n' ver='v'/></presence>")
    alice.expect('presence', has='{http://jabber.org/protocol/caps}c')
    alice.expect_none('presence', show='xa')

    sift(alice, "<message sender='others'/><iq/>")
    bob.say(alice.bare, 'kept until wanted')
    bob.say(alice.jid, 'this too')
    bob.sync()
    alice.expect_none('message')
    bob.expect_none('message', type='error')
    assert condition(bob.iq('get', "<ping xmlns='urn:xmpp:ping'/>", to=alice.jid)) == 'service-unavailable'
    alice.say(alice.bare, 'to myself')
    alice.expect('message', body='to myself')
    sift(alice, "<message sender='remote'/><iq sender='self'/>")
    assert body(alice.expect('message', has='{urn:xmpp:delay}delay')) == 'kept until wanted'
    alice.expect('message', body='this too')
    assert hears(bob, alice)
    sift(alice, "<message recipient='bare'/><sub/>")
    assert hears(bob, alice, to=alice.jid)
    bob.presence('unsubscribe', to=alice.bare)
    bob.sync()
    alice.expect_none('presence', type='unsubscribe')
