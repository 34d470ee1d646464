"""Publish-subscribe and push beyond this server: contacts at Prosody, and a component as the push service."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import MatchXPath

from tests.areas.test_xmpp_components import DOMAIN, Component, port
from tests.areas.test_xmpp_pep import MOOD, PUBSUB, asked, event, ids, interested, items, publish
from tests.areas.test_xmpp_push import enable, summary
from tests.areas.xmpp_fixtures import address, parameter, sign_in
from tests.fixtures import data
from tests.fixtures.federation import PEER, PEER_USER, Federation, Peer, Prosody
from tests.fixtures.processes import Engine, wait_until
from tests.proves import proves
from tests.services.managedclient import ManagedClient
from tests.xmppclient import XmppClient, condition

__all__ = ['port', 'sign_in']
SignIn = Callable[..., XmppClient]
ALICE = address('alice')
ROMEO = f'{PEER_USER}@{PEER}'
SERVICE = f'pubsub.{data.DOMAIN}'


@proves('XMP-11', 'XMP-25')
def test_contacts_at_another_server(
    federation: Federation, peer: Callable[..., Peer], sign_in: SignIn, engine: Engine
) -> None:
    there = peer(Prosody)
    alice = sign_in('alice')
    assert condition(publish(alice, MOOD, f"<mood xmlns='{MOOD}'><happy/></mood>", 'early')) is None
    romeo = there.client()
    ver = interested(romeo, MOOD)
    # a stranger learns nothing, however he asks
    refused = items(romeo, MOOD, ALICE)
    assert condition(refused) == 'not-authorized'
    alice.presence('subscribe', to=ROMEO)  # his presence comes here, and with it his capabilities
    romeo.expect('presence', type='subscribe', from_=ALICE)
    romeo.presence('subscribed', to=ALICE)
    alice.expect('presence', type='', from_=romeo.jid)
    asked(romeo, ver, MOOD)
    assert condition(items(romeo, MOOD, ALICE)) == 'not-authorized'  # she sees him, he does not see her
    romeo.presence('subscribe', to=ALICE)
    romeo.expect('presence', type='subscribed', from_=ALICE)
    assert _item(romeo) == 'early'
    assert condition(publish(alice, MOOD, f"<mood xmlns='{MOOD}'><sad/></mood>", 'late')) is None
    assert _item(romeo) == 'late'
    assert ids(items(romeo, MOOD, ALICE)) == ['late']
    # he is not told any more when she does not want it
    alice.presence('unsubscribed', to=ROMEO)
    romeo.expect('presence', type='unsubscribed', from_=ALICE)
    assert condition(publish(alice, MOOD, f"<mood xmlns='{MOOD}'/>", 'secret')) is None
    romeo.iq('get', "<ping xmlns='urn:xmpp:ping'/>", to=data.DOMAIN)
    romeo.expect_none('message', within=0)
    assert condition(items(romeo, MOOD, ALICE)) == 'not-authorized'
    romeo.abort()


def _item(client: XmppClient) -> str | None:
    found = event(client, MOOD, ALICE).find('*/*')
    assert found is not None
    return found.get('id')


@pytest.fixture
def component(port: int, engine: Engine) -> Iterator[Component]:
    """A push service: an external component."""
    made = Component(port)
    assert made.started.wait(40)
    request = MatchXPath(f'{{jabber:component:accept}}iq/{{{PUBSUB}}}pubsub')
    made.component.register_handler(Callback('the test answers', request, lambda _iq: None))
    yield made
    made.close()


@proves('PUSH-05')
def test_a_component_as_push_service(sign_in: SignIn, component: Component) -> None:
    parameter('xcp_router', 'push_interval_s', 0)
    alice, bob = sign_in('alice', 'phone'), sign_in('bob')
    secret = (
        f"<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>{PUBSUB}#publish-options</value></field>"
        "<field var='secret'><value>eruio234vzxc2kla-91</value></field></x>"
    )
    assert enable(alice, 'device-1', secret, service=DOMAIN) is None
    alice.close()
    wait_until(
        lambda: condition(bob.iq('get', "<ping xmlns='urn:xmpp:ping'/>", to=alice.jid)) is not None, 'alice left'
    )
    bob.say(ALICE, 'the text stays here')
    request = component.expect('iq', lambda iq: iq.get('type') == 'set')
    assert (request.get('from'), request.get('to')) == (ALICE, DOMAIN)
    found = next(request.iter(f'{{{PUBSUB}}}publish'))
    assert found.get('node') == 'device-1'
    assert summary(found) == {'FORM_TYPE': 'urn:xmpp:push:summary', 'message-count': '1'}
    options = next(request.iter(f'{{{PUBSUB}}}publish-options'))
    assert summary(options)['secret'] == 'eruio234vzxc2kla-91'
    # while one is under way there is no second one; what came meanwhile is told of together
    for number in range(5):
        bob.say(ALICE, f'more {number}')
    bob.sync()
    before = len([one for one in component.stanzas if one.get('type') == 'set'])
    assert before == 1
    # an answer in another's name is none
    component.send(f"<iq type='result' id='{request.get('id')}' from='x@{DOMAIN}' to='{ALICE}'/>")
    component.send(f"<message from='{DOMAIN}' to='{bob.jid}'><body>after that</body></message>")
    bob.expect('message', body='after that')
    bob.say(DOMAIN, 'and before this')
    component.expect('message', lambda message: message.get('from') == bob.jid)
    assert len([one for one in component.stanzas if one.get('type') == 'set']) == 1
    component.send(f"<iq type='result' id='{request.get('id')}' from='{DOMAIN}' to='{ALICE}'/>")
    second = component.expect('iq', lambda iq: iq.get('type') == 'set' and iq.get('id') != request.get('id'))
    assert int(summary(second)['message-count']) >= 2
    # the device is gone: the registration goes too
    component.send(
        f"<iq type='error' id='{second.get('id')}' from='{DOMAIN}' to='{ALICE}'><error type='cancel'>"
        "<item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
    )
    wait_until(lambda: _registrations() == 0, 'the registration is gone')


def _registrations() -> int:
    from impadmin.presence.models import PushRegistration

    return int(PushRegistration.objects.count())


@proves('PUSH-06')
def test_a_suspended_client_comes_back(sign_in: SignIn, component: Component, engine: Engine) -> None:
    """The socket is gone, the session waits (XEP-0198); a notification wakes the client, it resumes and has all."""
    parameter('xcp_router', 'push_interval_s', 0)
    bob = sign_in('bob')
    sign_in('alice', 'desk').close()
    phone = ManagedClient(engine, 'alice', 'phone').online()
    phone.send(f"<iq type='set' id='push'><enable xmlns='urn:xmpp:push:0' jid='{DOMAIN}' node='phone'/></iq>".encode())
    assert phone.take('{jabber:client}iq', lambda answer: answer.get('id') == 'push').get('type') == 'result'
    bob.say(phone.jid, 'looked at')
    assert phone.bodies(1) == ['looked at']
    phone.acknowledge()
    phone.sync()
    assert not [one for one in component.stanzas if one.get('type') == 'set']
    phone.socket.close()
    bob.say(phone.jid, 'one')
    bob.sync()
    request = component.expect('iq', lambda iq: iq.get('type') == 'set')
    assert summary(request)['message-count'] == '1'
    component.send(f"<iq type='result' id='{request.get('id')}' from='{DOMAIN}' to='{ALICE}'/>")
    bob.say(phone.jid, 'two')
    second = component.expect('iq', lambda iq: iq.get('type') == 'set' and iq.get('id') != request.get('id'))
    assert summary(second)['message-count'] == '2'
    component.send(f"<iq type='result' id='{second.get('id')}' from='{DOMAIN}' to='{ALICE}'/>")
    back = phone.again()
    back.take('{urn:xmpp:sm:3}resumed')
    assert back.bodies(2) == ['one', 'two']
    bob.say(phone.jid, 'three')
    assert back.bodies(1) == ['three']
    back.sync()
    assert len([one for one in component.stanzas if one.get('type') == 'set']) == 2
    back.socket.close()
