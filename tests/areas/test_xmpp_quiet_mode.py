"""Clients in the background: client state indication (XEP-0352) and quiet mode (spec 10, MDM-16..22), over TLS."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.request import urlopen

import pytest

from tests.areas.xmpp_fixtures import address, ensure, parameter, sign_in
from tests.fixtures.processes import Engine, wait_until
from tests.proves import proves
from tests.xmppclient import XmppClient

__all__ = ['sign_in']
SignIn = Callable[..., XmppClient]
DELAY = '{urn:xmpp:delay}delay'
CSI = '{urn:xmpp:csi:0}csi'
STATE = "<{} xmlns='urn:xmpp:csi:0'/>"
COMPOSING = "<composing xmlns='http://jabber.org/protocol/chatstates'/>"
PAUSED = "<paused xmlns='http://jabber.org/protocol/chatstates'/>"


def inactive(client: XmppClient) -> None:
    """The client goes to the background."""
    client.raw(STATE.format('inactive'))


def active(client: XmppClient) -> None:
    """The client comes to the foreground."""
    client.raw(STATE.format('active'))


def body(message: Any) -> str:
    """The text of a message or of the message in a copy."""
    found = [element.text for element in message.iter('{jabber:client}body')]
    return found[0] if found else ''


def is_message(text: str) -> Callable[[Any], bool]:
    return lambda message: body(message) == text


def counter(engine: Engine, name: str) -> float:
    """The value of one counter of the node."""
    with urlopen(f'http://127.0.0.1:{engine.metrics_port}/metrics', timeout=5) as answer:
        found = re.search(rf'counter="{name}"[^}}]*}} ([0-9.e+]+)', answer.read().decode())
    return float(found.group(1)) if found else -1.0


@pytest.fixture
def devices(
    sign_in: SignIn, make_user: Any, request: pytest.FixtureRequest
) -> tuple[XmppClient, XmppClient, XmppClient]:
    """alice's laptop, alice's phone (both with Multi-Device Messaging), bob. The laptop is the active client."""
    for name, value in getattr(request, 'param', {}).items():
        parameter('xcp_router', name, value)
    ensure(make_user, 'alice', 'bob')
    bob = sign_in('bob')
    phone, laptop = sign_in('alice', 'phone'), sign_in('alice', 'laptop')
    for client in (phone, laptop):
        assert client.iq('set', "<enable xmlns='urn:xmpp:carbons:2'/>").get('type') == 'result'
    assert laptop.features.find(CSI) is not None
    laptop.available()
    laptop.sync()
    phone.sync()
    for client in (bob, phone, laptop):
        client.forget()
    return laptop, phone, bob


@proves('MDM-16', 'MDM-17', 'MDM-18', 'MDM-21', 'MDM-22')
def test_the_phone_is_left_alone_while_the_laptop_is_used(
    devices: tuple[XmppClient, XmppClient, XmppClient], engine: Engine
) -> None:
    laptop, phone, bob = devices
    flushes = counter(engine, 'MDMBufferFlushes')
    inactive(phone)
    for number in range(3):
        bob.say(address('alice'), f'm{number}')
        bob.say(address('alice'), '', extra=COMPOSING)
    bob.sync()
    for number in range(3):
        laptop.expect('message', where=is_message(f'm{number}'))
    wait_until(lambda: counter(engine, 'MDMQuietModeSessions') == 1, 'the phone is quiet')
    phone.expect_none('message', within=0.3)
    active(phone)
    for number in range(3):
        message = phone.expect('message', where=is_message(f'm{number}'))
        assert message.find(DELAY) is not None
    order = [body(message) for message in phone.stanzas if body(message)]
    assert order == sorted(order)
    assert counter(engine, 'MDMBufferFlushes') == flushes + 1
    assert counter(engine, 'MDMQuietModeSessions') == 0
    # In the background again: an iq of either direction delivers, and the phone stays quiet.
    inactive(phone)
    bob.say(address('alice'), 'before the own iq')
    bob.sync()
    laptop.expect('message', where=is_message('before the own iq'))
    phone.expect_none('message', within=0.1, where=is_message('before the own iq'))
    phone.sync()
    phone.expect('message', where=is_message('before the own iq'))
    bob.say(address('alice'), 'before a foreign iq')
    laptop.expect('message', where=is_message('before a foreign iq'))
    laptop.client.xmpp.send_raw(f"<iq type='get' id='v' to='{phone.jid}'><query xmlns='jabber:iq:version'/></iq>")
    phone.expect('message', where=is_message('before a foreign iq'))
    assert counter(engine, 'MDMQuietModeSessions') == 1


@proves('MDM-19', 'MDM-21')
@pytest.mark.parametrize('devices', [{'mdm_active_s': 2}], indirect=True)
def test_nobody_else_is_active(devices: tuple[XmppClient, XmppClient, XmppClient]) -> None:
    """The laptop was not used for the time in which a client counts as active (shortened to 2 s here), or is quiet
    itself: what waits and the new message come to the phone at once."""
    laptop, phone, bob = devices
    inactive(phone)
    laptop.available()
    laptop.sync()
    bob.say(address('alice'), 'first')
    laptop.expect('message', where=is_message('first'))
    phone.expect_none('message', within=0.1)

    def reaches_the_phone() -> bool:
        bob.say(address('alice'), 'later')
        bob.sync()
        return any(is_message('later')(stanza) for stanza in phone.stanzas)

    wait_until(reaches_the_phone, 'a message at the phone', every_s=0.3)
    assert body(next(stanza for stanza in phone.stanzas if body(stanza))) == 'first'
    laptop.available()
    laptop.sync()
    inactive(laptop)
    phone.forget()
    bob.say(address('alice'), 'both in the background')
    phone.expect('message', where=is_message('both in the background'))
    laptop.expect('message', where=is_message('both in the background'))


@proves('MDM-20')
@pytest.mark.parametrize('devices', [{'quiet_stanzas': 5}], indirect=True)
def test_the_buffer_is_full(devices: tuple[XmppClient, XmppClient, XmppClient], engine: Engine) -> None:
    laptop, phone, bob = devices
    inactive(phone)
    for number in range(12):
        bob.say(address('alice'), f'm{number}')
    bob.sync()
    for number in range(10):
        phone.expect('message', where=is_message(f'm{number}'))
    laptop.expect('message', where=is_message('m11'))
    phone.expect_none('message', within=0.1)
    assert counter(engine, 'MDMBufferFlushesLimitReached') == 2
    active(phone)
    phone.expect('message', where=is_message('m10'))
    phone.expect('message', where=is_message('m11'))


def test_presence_and_typing_are_merged_the_rest_comes_at_once(sign_in: SignIn, make_user: Any) -> None:
    """Without Multi-Device Messaging: messages never wait; of presence and chat states the newest comes later."""
    ensure(make_user, 'alice', 'bob')
    bob, alice = sign_in('bob'), sign_in('alice')
    bob.presence('subscribe', address('alice'))
    bob.contact(address('alice'), subscription='to')
    alice.presence('subscribe', address('bob'))
    alice.contact(address('bob'), subscription='both')
    alice.sync()
    alice.forget()
    inactive(alice)
    alice.sync()
    for number in range(20):
        bob.available(status=f'now {number}')
    bob.say(alice.jid, '', extra=COMPOSING)
    bob.say(alice.jid, '', extra=PAUSED)
    bob.sync()
    alice.expect_none('presence', within=0.2)
    bob.say(alice.jid, 'at once', extra=COMPOSING)
    alice.expect('message', body='at once')
    presences = [stanza for stanza in alice.stanzas if stanza.tag.endswith('presence')]
    assert [stanza.findtext('{jabber:client}status') for stanza in presences] == ['now 19']
    typing = [stanza for stanza in alice.stanzas if stanza.tag.endswith('message')]
    assert len(typing) == 1
    assert typing[0].find('{http://jabber.org/protocol/chatstates}paused') is not None
    alice.forget()
    bob.presence('unavailable')
    bob.sync()
    alice.expect_none('presence', within=0.1)
    active(alice)
    alice.expect('presence', type='unavailable')
