"""Contacts outside the cluster by RFC 6121: the component of these tests plays the other server, so each stanza between
the servers is seen and can be made as a friendly or hostile one would."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from xml.etree.ElementTree import Element

import pytest

from tests.areas.test_xmpp_components import DOMAIN, Component, connect, port
from tests.areas.xmpp_fixtures import address, command, configure, counts_are_exact, in_force, parameter, sign_in, user
from tests.fixtures.federation import Federation, Peer, Prosody
from tests.fixtures.processes import wait_until
from tests.proves import proves
from tests.xmppclient import XmppClient, condition

__all__ = ['connect', 'port', 'sign_in']
SignIn = Callable[..., XmppClient]
JULIET = f'juliet@{DOMAIN}'
PHONE = f'{JULIET}/phone'


@pytest.fixture
def outside(connect: Callable[..., Component], sign_in: SignIn) -> Callable[[], Component]:
    """Call it when a client is signed in, so that the engine runs: the other server."""

    def make() -> Component:
        def started() -> Component | None:
            made = connect()
            if not made.started.wait(2):
                return None
            for kind in ('probe', 'subscribe', 'subscribed', 'unsubscribe', 'unsubscribed'):
                # the tests answer, not slixmpp
                made.component.del_event_handler(f'presence_{kind}', getattr(made.component, f'_handle_{kind}'))
            return made

        return wait_until(started, 'component')

    return make


def took(component: Component, type: str, **attributes: str) -> Element:
    """Wait for a presence stanza at the other server and take it."""
    wanted = {key.rstrip('_'): value for key, value in attributes.items()}

    def fits(stanza: Element) -> bool:
        return stanza.get('type', '') == type and all(stanza.get(key) == value for key, value in wanted.items())

    found = component.expect('presence', fits)
    component.stanzas.remove(found)
    return found


def barrier(component: Component, to: str = 'example.com') -> None:
    """Everything the other server sent before has been dealt with."""
    component.send(f"<iq type='get' id='barrier' from='probe@{DOMAIN}/b' to='{to}'><ping xmlns='urn:xmpp:ping'/></iq>")
    found = component.expect('iq', lambda stanza: stanza.get('id') == 'barrier')
    component.stanzas.remove(found)


def presences(component: Component) -> list[tuple[str, str]]:
    """Type and sender of the presence that the other server has and nobody took."""
    return [(x.get('type', ''), x.get('from', '')) for x in component.stanzas if x.tag.endswith('}presence')]


def test_a_subscription_begins_and_ends(sign_in: SignIn, outside: Callable[[], Component]) -> None:
    """Appendix A, both directions, with what the contact list and the counters say."""
    alice = sign_in('alice')
    other = outside()
    alice.presence('subscribe', to=JULIET)
    alice.contact(JULIET, subscription='none', ask=True)
    assert took(other, 'subscribe', to=JULIET).get('from') == alice.bare
    other.send(f"<presence type='subscribed' from='{JULIET}' to='{alice.bare}'/>")
    alice.expect('presence', type='subscribed', from_=JULIET)
    alice.contact(JULIET, subscription='to', ask=False)
    other.send(f"<presence from='{PHONE}' to='{alice.bare}'><show>away</show></presence>")
    alice.expect('presence', from_=PHONE, show='away')
    # the other direction: juliet is a contact, so nobody asks
    other.send(f"<presence type='subscribe' from='{JULIET}' to='{alice.bare}'/>")
    took(other, 'subscribed', from_=alice.bare)
    assert took(other, '', from_=alice.jid).get('to') == JULIET
    alice.contact(JULIET, subscription='both')
    assert user('alice').watcher_count == 1
    alice.available(status='hello outside')
    assert took(other, '', from_=alice.jid).findtext('{jabber:component:accept}status') == 'hello outside'
    # a second client is told of what is known; the server does not ask again
    second = sign_in('alice', 'second')
    second.expect('presence', from_=PHONE, show='away')
    took(other, '', from_=second.jid)
    second.close()
    took(other, 'unavailable', from_=second.jid)
    assert not [entry for entry in presences(other) if entry[0] == 'probe']
    # ends
    other.send(f"<presence type='unsubscribe' from='{JULIET}' to='{alice.bare}'/>")
    alice.expect('presence', type='unsubscribe', from_=JULIET)
    took(other, 'unavailable', from_=alice.jid)
    alice.contact(JULIET, subscription='to')
    other.send(f"<presence type='unsubscribed' from='{JULIET}' to='{alice.bare}'/>")
    alice.contact(JULIET, subscription='none')
    alice.expect('presence', from_=PHONE, type='unavailable')
    alice.presence('subscribe', to=JULIET)
    took(other, 'subscribe')
    assert alice.remove_contact(JULIET) is None
    took(other, 'unsubscribe', from_=alice.bare)
    alice.no_contact(JULIET)
    counts_are_exact()


@proves('EU-10')
def test_a_request_from_outside_is_the_users_decision(sign_in: SignIn, outside: Callable[[], Component]) -> None:
    """Automatic approval is for users of the cluster; the request waits, also for a user who is not signed in."""
    alice = sign_in('alice')
    other = outside()
    other.send(f"<presence type='subscribe' from='{JULIET}' to='{alice.bare}'><status>hi</status></presence>")
    alice.expect('presence', type='subscribe', from_=JULIET, status='hi')
    alice.close()
    other.send(f"<presence type='subscribe' from='romeo@{DOMAIN}' to='{alice.bare}'/>")
    barrier(other)
    wait_until(lambda: user('alice').roster.filter(pending_in=True).count() == 2, 'both wait')
    again = sign_in('alice', 'again')
    again.expect('presence', type='subscribe', from_=JULIET, status='hi')
    again.expect('presence', type='subscribe', from_=f'romeo@{DOMAIN}')
    again.presence('subscribed', to=JULIET)
    took(other, 'subscribed', to=JULIET)
    took(other, '', to=JULIET, from_=again.jid)
    again.presence('unsubscribed', to=f'romeo@{DOMAIN}')
    took(other, 'unsubscribed', to=f'romeo@{DOMAIN}')
    # approved in advance (RFC 6121 3.4)
    again.presence('subscribed', to=f'nurse@{DOMAIN}')
    again.contact(f'nurse@{DOMAIN}', approved=True)
    assert not [entry for entry in other.stanzas if entry.get('to') == f'nurse@{DOMAIN}']
    other.send(f"<presence type='subscribe' from='nurse@{DOMAIN}' to='{alice.bare}'/>")
    took(other, 'subscribed', to=f'nurse@{DOMAIN}')
    again.contact(f'nurse@{DOMAIN}', subscription='from', approved=False)
    counts_are_exact()


def test_probes(sign_in: SignIn, outside: Callable[[], Component]) -> None:
    alice = sign_in('alice')
    other = outside()
    befriend('alice', JULIET)
    alice.close()
    for probe, type in ((JULIET, 'unavailable'), (f'stranger@{DOMAIN}', 'unsubscribed')):
        other.send(f"<presence type='probe' from='{probe}' to='{alice.bare}'/>")
        assert took(other, type, to=probe).get('from') == alice.bare
    other.send(f"<presence type='probe' from='{JULIET}' to='{address('nobody')}'/>")
    took(other, 'unsubscribed', from_=address('nobody'))
    alice = sign_in('alice', 'here', priority=3)
    assert took(other, 'probe', to=JULIET).get('from') == alice.bare
    took(other, '', from_=alice.jid, to=JULIET)
    other.send(f"<presence from='{PHONE}' to='{alice.bare}'/>")
    alice.expect('presence', from_=PHONE, type='')
    other.send(f"<presence type='probe' from='{PHONE}' to='{alice.bare}'/>")
    answer = took(other, '', from_=alice.jid, to=PHONE)
    assert answer.findtext('{jabber:component:accept}priority') == '3'


def test_limits_hold_for_outsiders(sign_in: SignIn, outside: Callable[[], Component]) -> None:
    """A flood of requests fills no table; a full list refuses; the maximum of watchers holds."""
    parameter('presence_engine', 'max_waiting_requests', 5)
    configure(presence={'max_contacts': 2, 'max_watchers': 1})
    alice = sign_in('alice')
    other = outside()
    for number in range(50):
        other.send(f"<presence type='subscribe' from='flood{number}@{DOMAIN}' to='{alice.bare}'/>")
    wait_until(lambda: len([x for x in presences(other) if x[0] == 'unsubscribed']) == 45, '45 refused')
    assert user('alice').roster.count() == 5
    for number in range(2):
        alice.presence('subscribe', to=f'friend{number}@{DOMAIN}')
        took(other, 'subscribe', to=f'friend{number}@{DOMAIN}')
    alice.presence('subscribe', to=JULIET)
    assert condition(alice.expect('presence', type='error')) == 'policy-violation'
    other.send(f"<presence type='subscribe' from='{JULIET}' to='{alice.bare}'/>")
    took(other, 'unsubscribed', to=JULIET)  # the list is full and she is not in it
    for number, kind in ((0, 'subscribed'), (1, 'unsubscribed')):
        other.send(f"<presence type='subscribe' from='friend{number}@{DOMAIN}' to='{alice.bare}'/>")
        took(other, kind, to=f'friend{number}@{DOMAIN}')
    counts_are_exact()
    for number in range(30):
        other.send(f"<presence from='friend0@{DOMAIN}/r{number}' to='{alice.bare}'/>")
    other.send(f"<presence type='subscribed' from='friend0@{DOMAIN}' to='{alice.bare}'/>")
    alice.contact(f'friend0@{DOMAIN}', subscription='both')
    for number in range(30):
        other.send(f"<presence from='friend0@{DOMAIN}/s{number}' to='{alice.bare}'/>")
    alice.expect('presence', from_=f'friend0@{DOMAIN}/s29', type='')
    second = sign_in('alice', 'second')
    second.expect('presence', from_=f'friend0@{DOMAIN}/s29', type='')
    second.sync()
    shown = [x for x in second.stanzas if x.get('from', '').startswith(f'friend0@{DOMAIN}/')]
    assert len(shown) == 9  # ten clients of a contact are kept, one was taken


def test_a_component_goes_and_comes_back(sign_in: SignIn, outside: Callable[[], Component]) -> None:
    """Its users are seen as gone; then both sides learn of each other again."""
    sign_in('alice').close()
    befriend('alice', JULIET)
    other = outside()
    alice = sign_in('alice', 'here')
    took(other, 'probe', to=JULIET)
    other.send(f"<presence from='{PHONE}' to='{alice.bare}'/>")
    alice.expect('presence', from_=PHONE, type='')
    other.send('</stream:stream>')
    alice.expect('presence', from_=PHONE, type='unavailable')
    again = outside()
    took(again, 'probe', to=JULIET)
    took(again, '', to=JULIET, from_=alice.jid)


@proves('IM-17')
def test_sharing_off_gives_nothing_out(sign_in: SignIn, outside: Callable[[], Component]) -> None:
    alice = sign_in('alice')
    befriend('alice', JULIET)
    other = outside()
    alice.close()
    configure(presence={'availability_sharing': False})
    in_force()
    command('restart', 'presence_engine')
    other.stanzas.clear()
    alice = sign_in('alice', 'hidden')
    other.send(f"<presence from='{PHONE}' to='{alice.bare}'/>")
    other.send(f"<presence type='probe' from='{JULIET}' to='{alice.bare}'/>")
    took(other, 'unavailable', from_=alice.bare, to=JULIET)
    alice.sync()
    alice.expect_none('presence', within=0.1, from_=PHONE)
    assert presences(other) == []
    alice.say(JULIET, 'messages go on')
    other.expect('message', lambda x: x.findtext('{jabber:component:accept}body') == 'messages go on')


def test_forged_and_strange_presence_from_outside(sign_in: SignIn, outside: Callable[[], Component]) -> None:
    alice = sign_in('alice')
    bob = sign_in('bob')
    other = outside()
    other.send(f"<presence from='{JULIET}/x' to='{alice.jid}'><status>directed</status></presence>")
    alice.expect('presence', from_=f'{JULIET}/x', status='directed')
    alice.available(to=PHONE, status='for you')
    assert took(other, '', to=PHONE).get('from') == alice.jid
    other.send(f"<presence type='error' from='{PHONE}' to='{alice.jid}'/>")
    alice.expect('presence', type='error', from_=PHONE)
    for kind in ('subscribed', 'unsubscribe', 'unsubscribed'):
        other.send(f"<presence type='{kind}' from='{JULIET}' to='{alice.bare}'/>")
    other.send(f"<presence type='nonsense' from='{JULIET}' to='{alice.bare}'/>")
    took(other, 'error', to=JULIET)
    assert user('alice').roster.count() == 0
    other.send(f"<iq type='result' id='nothing' from='{PHONE}' to='{alice.bare}/gone'/>")
    barrier(other)
    alice.close()
    took(other, 'unavailable', from_=alice.jid, to=PHONE)  # whom directed presence made aware
    # it may not speak for a user of this service
    other.send(f"<presence from='{bob.jid}' to='{alice.jid}'/>")
    assert other.ended.wait(40)


def befriend(user_id: str, jid: str) -> None:
    """Both see each other, as an import writes it."""
    from impadmin.ucm.models import RosterItem

    row: Any = user(user_id)
    RosterItem.objects.create(user=row, jid=jid, subscription=3)
    row.contact_count += 1
    row.watcher_count += 1
    row.roster_version += 1
    row.save()


@proves('IM-29', 'IM-17', 'EU-09')
def test_sharing_off_with_a_federated_server(
    federation: Federation, peer: Callable[..., Peer], sign_in: SignIn
) -> None:
    """A real Prosody: its user is approved because he is in the list, although requests are asked about; with sharing
    off neither side's availability passes, messages do."""
    configure(presence={'auto_approve': False})
    there = peer(Prosody)
    alice, romeo = sign_in('alice'), there.client()
    alice.presence('subscribe', to=romeo.bare)
    romeo.expect('presence', type='subscribe', from_=alice.bare)
    romeo.presence('subscribed', to=alice.bare)
    alice.expect('presence', type='', from_=romeo.jid)
    romeo.presence('subscribe', to=alice.bare)
    romeo.expect('presence', type='', from_=alice.jid)
    alice.expect_none('presence', within=0, type='subscribe')
    configure(presence={'availability_sharing': False})
    in_force()
    command('restart', 'presence_engine')
    romeo.expect('presence', type='unavailable', from_=alice.jid)
    alice.forget()
    romeo.available(show='away', status='not for you')
    alice.available(status='not for you either')
    romeo.say(alice.bare, 'messages pass')
    alice.expect('message', body='messages pass')
    alice.say(romeo.bare, 'in both directions')
    romeo.expect('message', body='in both directions')
    alice.expect_none('presence', within=0, from_=romeo.jid)
    romeo.expect_none('presence', within=0, from_=alice.jid)


def test_nobody_outside_uses_this_server_as_a_relay(sign_in: SignIn, outside: Callable[[], Component]) -> None:
    """What arrives for a domain that is neither served nor known gets its error; a result gets none."""
    sign_in('alice')
    other = outside()
    other.send(f"<message id='far' from='{PHONE}' to='far@elsewhere.example'><body>x</body></message>")
    other.send(f"<iq type='get' id='own' from='{PHONE}' to='{JULIET}'><query xmlns='jabber:iq:roster'/></iq>")
    found = other.expect('message', lambda stanza: stanza.get('id') == 'far')
    assert found.find('.//{urn:ietf:params:xml:ns:xmpp-stanzas}remote-server-not-found') is not None
