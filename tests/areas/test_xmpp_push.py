"""Push notifications (XEP-0357): a push service hears of messages that wait, and of nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from xml.etree.ElementTree import Element

import pytest

from tests.areas.test_xmpp_pep import OWNER, PUBSUB, configured, form, ids, items
from tests.areas.xmpp_fixtures import address, in_force, parameter, sign_in
from tests.fixtures import data
from tests.fixtures.processes import wait_until
from tests.proves import proves
from tests.xmppclient import XmppClient, condition

__all__ = ['sign_in']
SignIn = Callable[..., XmppClient]
ALICE, BOB = address('alice'), address('bob')
SERVICE = f'pubsub.{data.DOMAIN}'
PUSH = 'urn:xmpp:push:0'


@pytest.fixture
def node(sign_in: SignIn) -> Any:
    """A node of the publish-subscribe service that takes pushes, and a client that sees what arrives there."""
    parameter('xcp_router', 'push_interval_s', 0)
    watcher = sign_in('pushd')
    create = (
        f"<create node='device'/><configure>{form('node_config', publish_model='open', max_items='max')}</configure>"
    )
    assert condition(watcher.iq('set', f"<pubsub xmlns='{PUBSUB}'>{create}</pubsub>", to=SERVICE)) is None
    watch = f"<subscribe node='device' jid='{watcher.bare}'/>"
    assert condition(watcher.iq('set', f"<pubsub xmlns='{PUBSUB}'>{watch}</pubsub>", to=SERVICE)) is None
    return watcher


def enable(client: XmppClient, node: str = 'device', inside: str = '', service: str = SERVICE) -> str | None:
    """Register a push service; the error condition or None."""
    return condition(client.iq('set', f"<enable xmlns='{PUSH}' jid='{service}' node='{node}'>{inside}</enable>"))


def disable(client: XmppClient, node: str = '') -> str | None:
    """Take it back."""
    named = f" node='{node}'" if node else ''
    return condition(client.iq('set', f"<disable xmlns='{PUSH}' jid='{SERVICE}'{named}/>"))


def pushed(watcher: XmppClient) -> dict[str, str]:
    """The summary of the next notification."""
    message = watcher.expect('message', from_=SERVICE, has=f'{{{PUSH}}}notification')
    return summary(message)


def summary(message: Element) -> dict[str, str]:
    """The fields of a notification."""
    fields = message.iter('{jabber:x:data}field')
    return {field.attrib['var']: field.findtext('{jabber:x:data}value') or '' for field in fields}


def quiet(watcher: XmppClient, *clients: XmppClient) -> None:
    """No notification is on its way."""
    for client in (*clients, watcher, watcher):
        client.sync()
    watcher.expect_none('message', within=0.2, from_=SERVICE)


@proves('PUSH-03')
def test_messages_for_somebody_who_is_away(sign_in: SignIn, node: XmppClient, engine: Any) -> None:
    alice, bob = sign_in('alice', 'phone'), sign_in('bob')
    assert enable(alice) is None
    about = alice.iq('get', "<query xmlns='http://jabber.org/protocol/disco#info'/>")
    assert PUSH in {feature.get('var') for feature in about.iter('{http://jabber.org/protocol/disco#info}feature')}
    bob.say(ALICE, 'you are looking at it')
    alice.expect('message', body='you are looking at it')
    quiet(node, bob)
    alice.close()
    wait_until(
        lambda: condition(bob.iq('get', "<ping xmlns='urn:xmpp:ping'/>", to=alice.jid)) is not None, 'alice left'
    )
    bob.say(ALICE, 'secret plan')
    found = pushed(node)
    assert found == {'FORM_TYPE': 'urn:xmpp:push:summary', 'message-count': '1'}
    bob.say(ALICE, '', extra="<active xmlns='http://jabber.org/protocol/chatstates'/>")
    quiet(node, bob)
    # a crash loses no registration; parameters let more leave
    engine.kill9()
    parameter('xcp_router', 'push_sender', True)
    parameter('xcp_router', 'push_text', True)
    engine.restart()
    bob, watcher = sign_in('bob'), sign_in('pushd')
    bob.say(ALICE, 'again')
    found = pushed(watcher)
    assert found['message-count'] == '2'
    assert found['last-message-sender'] == BOB
    assert found['last-message-body'] == 'again'
    # back again: the messages, and no more notifications once it is taken back
    alice = sign_in('alice', 'phone')
    for text in ('secret plan', 'again'):
        alice.expect('message', body=text)
    assert disable(alice) is None
    assert disable(alice) == 'item-not-found'
    alice.close()
    wait_until(
        lambda: condition(bob.iq('get', "<ping xmlns='urn:xmpp:ping'/>", to=alice.jid)) is not None, 'alice left'
    )
    bob.say(ALICE, 'nobody hears')
    quiet(watcher, bob)


@proves('PUSH-04')
def test_inactive_client(sign_in: SignIn, node: XmppClient) -> None:
    """XEP-0352: an app in the background gets its message, and the push service is told; another client is not."""
    alice, desk, bob = sign_in('alice', 'phone'), sign_in('alice', 'desk'), sign_in('bob')
    assert enable(alice) is None
    alice.raw("<inactive xmlns='urn:xmpp:csi:0'/>")
    alice.sync()
    bob.say(alice.jid, 'psst')
    assert pushed(node)['message-count'] == '1'
    bob.say(desk.jid, 'here')
    desk.expect('message', body='here')
    quiet(node, bob)
    alice.raw("<active xmlns='urn:xmpp:csi:0'/>")
    alice.sync()
    bob.say(alice.jid, 'awake')
    alice.expect('message', body='awake')
    quiet(node, bob)


def test_options_go_along_and_refusals_end_it(sign_in: SignIn, node: XmppClient) -> None:
    options = form('publish-options', access_model='open')
    alice, bob = sign_in('alice', 'phone'), sign_in('bob')
    assert enable(alice, inside=options) is None
    alice.close()
    wait_until(
        lambda: condition(bob.iq('get', "<ping xmlns='urn:xmpp:ping'/>", to=alice.jid)) is not None, 'alice left'
    )
    bob.say(ALICE, 'one')
    pushed(node)
    # the options no longer hold: the service refuses with an error that is not temporary
    assert configured(node, 'device', SERVICE, access_model='whitelist') is None
    bob.say(ALICE, 'two')
    wait_until(lambda: _registrations() == 0, 'the registration is gone')
    assert configured(node, 'device', SERVICE, access_model='open') is None
    bob.say(ALICE, 'three')
    quiet(node, bob)


def _registrations() -> int:
    from impadmin.presence.models import PushRegistration

    return PushRegistration.objects.count()


def test_bad_registrations_and_limits(sign_in: SignIn) -> None:
    parameter('xcp_router', 'push_registrations_per_user', 2)
    alice = sign_in('alice', 'phone')
    assert enable(alice, service='') == 'bad-request'
    assert enable(alice, service='a@@b') == 'bad-request'
    assert enable(alice, service=BOB) == 'not-allowed'
    assert enable(alice, node='n' * 2000) == 'bad-request'
    assert enable(alice, inside='<x xmlns="jabber:x:data" type="form"/>') == 'bad-request'
    assert enable(alice, inside="<x xmlns='nonsense'/>") == 'bad-request'
    large = form('publish-options', secret='s' * 5000)
    assert enable(alice, inside=large) == 'bad-request'
    for name in ('one', 'two', 'three'):
        assert enable(alice, node=name) is None
    assert disable(alice, 'one') == 'item-not-found'
    assert disable(alice, 'two') is None
    assert disable(alice) is None
    parameter('xcp_router', 'push_enabled', False)
    in_force()


@proves('XMP-11')
def test_the_push_node_is_an_ordinary_node(sign_in: SignIn, node: XmppClient) -> None:
    """What the server publishes for a user is subject to the publish model like anything else."""
    alice, bob = sign_in('alice', 'phone'), sign_in('bob')
    assert configured(node, 'device', SERVICE, publish_model='publishers') is None
    assert enable(alice) is None
    alice.close()
    wait_until(
        lambda: condition(bob.iq('get', "<ping xmlns='urn:xmpp:ping'/>", to=alice.jid)) is not None, 'alice left'
    )
    bob.say(ALICE, 'one')
    wait_until(lambda: _registrations() == 0, 'the registration is gone')
    assert ids(items(node, 'device', SERVICE)) == []
    gone = f"<pubsub xmlns='{OWNER}'><delete node='device'/></pubsub>"
    assert condition(node.iq('set', gone, to=SERVICE)) is None
