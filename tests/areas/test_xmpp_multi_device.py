"""Multi-Device Messaging (guide chapter 19): copies, notification, compatibility, the switch, counters, capacity."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from xml.etree.ElementTree import Element, tostring

import pytest

from engine.capacity import Threshold, scheduled
from tests.areas.xmpp_fixtures import address, command, configure, in_force, parameter, sign_in
from tests.fixtures import data
from tests.fixtures.processes import Engine, wait_until
from tests.proves import proves
from tests.xmppclient import SignInFailed, XmppClient, body, condition

__all__ = ['sign_in']

SignIn = Callable[..., XmppClient]
CARBONS = 'urn:xmpp:carbons:2'
NOTIFY = '{urn:imp:mdm:0}notify'
MARKER = "<displayed xmlns='urn:xmpp:chat-markers:0' id='{}'/>"
COMPOSING = "<composing xmlns='http://jabber.org/protocol/chatstates'/>"


def carbons(client: XmppClient, verb: str = 'enable') -> XmppClient:
    """Enable (or disable) Multi-Device Messaging for the session."""
    assert condition(client.iq('set', f"<{verb} xmlns='{CARBONS}'/>")) is None
    return client


def copy_in(message: Element, direction: str) -> Element | None:
    """The message inside a copy, None when it is no copy of this direction."""
    path = f'{{{CARBONS}}}{direction}/{{urn:xmpp:forward:0}}forwarded/{{jabber:client}}message'
    return message.find(path)


def copied(client: XmppClient, direction: str, text: str) -> Element:
    """Take the copy of the message with this body; it comes from the own bare address to this client."""

    def fits(message: Element) -> bool:
        inner = copy_in(message, direction)
        return inner is not None and body(inner) == text

    wrapper = client.expect('message', where=fits)
    assert wrapper.get('from') == client.bare
    assert wrapper.get('to') == client.jid
    return wrapper


def nothing_left(*clients: XmppClient) -> None:
    """No message waits unread at any of the clients: whatever was expected came once."""
    for client in clients:
        client.sync()
    for client in clients:
        left = [tostring(one) for one in client.stanzas if one.tag.endswith('}message')]
        assert not left, (client.jid, left)


def metric(engine: Engine, counter: str) -> float:
    """Value of a counter of the performance monitor."""
    url = f'http://127.0.0.1:{engine.metrics_port}/metrics'
    text = urllib.request.urlopen(url, timeout=5).read().decode()
    found = re.search(rf'counter="{counter}"[^}}]*}} ([0-9.e+]+)', text)
    assert found, counter
    return float(found.group(1))


@proves('MDM-01', 'MDM-02', 'MDM-03', 'MDM-04', 'MDM-05', 'MDM-06', 'MDM-09', 'MDM-12', 'MDM-13', 'MDM-14', 'MDM-15')
@proves('MDM-21', 'MDM-29')
def test_a_day_with_laptop_and_phone(sign_in: SignIn) -> None:
    """The example of the guide (6883-6906), with a client that knows nothing of it beside."""
    parameter('xcp_router', 'mdm_active_s', 3)
    laptop, phone = carbons(sign_in('alice', 'laptop')), carbons(sign_in('alice', 'phone'))
    bob = sign_in('bob')

    laptop.say(bob.bare, 'from the laptop')  # now the laptop is the active client
    bob.expect('message', body='from the laptop')
    assert copy_in(copied(phone, 'sent', 'from the laptop'), 'sent').get('from') == laptop.jid  # type: ignore[union-attr]
    bob.say(laptop.bare, 'one')
    laptop.expect('message', body='one', from_=bob.jid)
    copied(phone, 'received', 'one')
    nothing_left(laptop, phone)

    bob.say(laptop.jid, 'two')  # to the client itself
    assert laptop.expect('message', body='two').find(NOTIFY) is None
    assert copied(phone, 'received', 'two').find(NOTIFY) is None
    laptop.say(bob.jid, '', extra=MARKER.format('m2'))  # read there: read everywhere
    bob.expect('message', has='{urn:xmpp:chat-markers:0}displayed')
    phone.expect('message', where=lambda one: copy_in(one, 'sent') is not None)
    bob.say(laptop.jid, '', extra=COMPOSING)
    laptop.expect('message', has='{http://jabber.org/protocol/chatstates}composing')
    phone.expect('message', where=lambda one: copy_in(one, 'received') is not None)
    nothing_left(laptop, phone)

    phone.say(bob.jid, 'going on from the phone')  # the conversation moves
    bob.expect('message', body='going on from the phone')
    copied(laptop, 'sent', 'going on from the phone')
    bob.say(laptop.bare, 'three')
    phone.expect('message', body='three')
    copied(laptop, 'received', 'three')
    bob.say(laptop.jid, 'four')  # bob's client still writes to the laptop: the phone must notify all the same
    assert laptop.expect('message', body='four').find(NOTIFY).get('value') == 'false'  # type: ignore[union-attr]
    assert copied(phone, 'received', 'four').find(NOTIFY).get('value') == 'true'  # type: ignore[union-attr]

    other = sign_in('alice', 'third-party')
    bob.expect_none('message', within=3.1)  # five minutes later
    bob.say(laptop.bare, 'nobody is there')
    for client in (laptop, phone):
        client.expect('message', body='nobody is there', from_=bob.jid)
    nothing_left(other)  # as without Multi-Device Messaging: the phone answered last
    other.say(bob.jid, 'from the third')
    bob.expect('message', body='from the third')
    copied(laptop, 'sent', 'from the third')
    copied(phone, 'sent', 'from the third')
    bob.say(laptop.bare, 'everybody hears this')
    other.expect('message', body='everybody hears this')
    laptop.expect('message', body='everybody hears this')
    phone.expect('message', body='everybody hears this')
    laptop.say(bob.jid, 'the third hears nothing of this')
    copied(phone, 'sent', 'the third hears nothing of this')
    bob.expect('message', body='the third hears nothing of this')
    nothing_left(laptop, phone, other)

    phone.close()
    bob.say(laptop.bare, 'the phone is off')
    laptop.expect('message', body='the phone is off')
    again = carbons(sign_in('alice', 'phone'))
    nothing_left(again, laptop, bob)


@proves('MDM-01', 'MDM-29')
def test_who_gets_what(sign_in: SignIn) -> None:
    """Priorities, presence, types: each client gets each message once, as itself or as a copy."""
    bob = sign_in('bob')
    one = carbons(sign_in('alice', 'one'))
    low = carbons(sign_in('alice', 'low', priority=-1))
    silent = carbons(sign_in('alice', 'silent', available=False))
    plain = sign_in('alice', 'plain')
    everyone = (one, low, silent, plain)

    bob.say(one.bare, 'to all')
    one.expect('message', body='to all')
    plain.expect('message', body='to all')
    copied(low, 'received', 'to all')
    copied(silent, 'received', 'to all')
    bob.say(plain.jid, 'to the plain one')
    plain.expect('message', body='to the plain one')
    for client in (one, low, silent):
        copied(client, 'received', 'to the plain one')
    bob.say(one.bare + '/gone', 'to a client that is gone')
    plain.expect('message', body='to a client that is gone')
    one.expect('message', body='to a client that is gone')
    copied(low, 'received', 'to a client that is gone')
    copied(silent, 'received', 'to a client that is gone')

    for extra, text, kind, copies in (
        ('', 'normal with a body', '', True),
        ("<received xmlns='urn:xmpp:receipts' id='x'/>", '', '', True),
        ("<x xmlns='jabber:x:conference' jid='room@conference.example.com'/>", '', 'normal', True),
        ("<x xmlns='jabber:x:data' type='form'/>", '', 'normal', False),
        ('', 'news', 'headline', False),
        ('', 'room', 'groupchat', False),
        ("<x xmlns='http://jabber.org/protocol/muc#user'/>", 'from a room', 'chat', False),
        ("<x xmlns='http://jabber.org/protocol/muc#user'><invite from='a@b'/></x>", '', 'normal', True),
    ):
        bob.say(one.jid, text, type=kind, extra=extra)
        one.expect('message', from_=bob.jid)
        if copies:
            for client in (low, silent):
                client.expect('message', where=lambda stanza: copy_in(stanza, 'received') is not None)
        nothing_left(*everyone)

    carbons(low, 'disable')
    carbons(low, 'disable')
    carbons(silent)
    bob.say(one.jid, 'after that')
    one.expect('message', body='after that')
    copied(silent, 'received', 'after that')
    nothing_left(*everyone)
    one.say(one.bare, 'a note to myself')
    for client in (one, plain):
        client.expect('message', body='a note to myself')
    copied(silent, 'received', 'a note to myself')
    nothing_left(*everyone)


def test_nothing_is_copied_of_what_waits_offline(sign_in: SignIn) -> None:
    """Stored for the next client that takes messages; a hint may forbid to store it."""
    bob = sign_in('bob')
    low = carbons(sign_in('alice', 'low', priority=-1))
    bob.say(low.bare, 'kept')
    hint = "<{} xmlns='urn:xmpp:hints'/>"
    number = bob.say(low.bare, 'not to be kept', extra=hint.format('no-store'))
    assert condition(bob.expect('message', type='error', id=number)) == 'service-unavailable'
    bob.say(low.bare, '', extra="<x xmlns='urn:example:x'/>" + hint.format('store'))
    bob.say(low.bare, '', extra="<x xmlns='urn:example:y'/>")
    bob.say(low.bare, 'kept too', extra=hint.format('no-permanent-store'))
    bob.sync()
    nothing_left(low)
    high = carbons(sign_in('alice', 'high'))
    high.expect('message', body='kept')
    high.expect('message', has='{urn:example:x}x')
    high.expect('message', body='kept too')
    nothing_left(low, high, bob)


def test_errors_reach_those_who_saw_the_message(sign_in: SignIn, make_user: Callable[..., Any]) -> None:
    """From the receiver, and from the server."""
    laptop, phone = carbons(sign_in('alice', 'laptop')), carbons(sign_in('alice', 'phone'))
    bob = sign_in('bob')
    number = laptop.say(bob.jid, 'no')
    bob.expect('message', body='no')
    copied(phone, 'sent', 'no')
    refusal = "<error type='cancel'><not-acceptable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"
    bob.raw(f"<message type='error' id='{number}' to='{laptop.jid}'>{refusal}</message>")
    laptop.expect('message', type='error', id=number)
    error = phone.expect('message', type='error', from_=laptop.bare)
    assert condition(copy_in(error, 'received')) == 'not-acceptable'  # type: ignore[arg-type]
    bob.raw(f"<message type='error' id='{number}' to='{laptop.jid}'>{refusal}</message>")
    laptop.expect('message', type='error', id=number)

    number = laptop.say(address('nobody'), 'anybody there?')
    copied(phone, 'sent', 'anybody there?')
    laptop.expect('message', type='error', id=number)
    error = phone.expect('message', type='error')
    assert condition(copy_in(error, 'received')) == 'service-unavailable'  # type: ignore[arg-type]
    number = laptop.say('bob@other.example', 'refused at once: nobody else saw it')
    laptop.expect('message', type='error', id=number)
    nothing_left(laptop, phone, bob)


def test_messages_for_one_client_only(sign_in: SignIn) -> None:
    """<private/> and no-copy (XEP-0280 9, XEP-0334)."""
    laptop, phone = carbons(sign_in('alice', 'laptop')), carbons(sign_in('alice', 'phone'))
    bob, tablet = carbons(sign_in('bob', 'desk')), carbons(sign_in('bob', 'tablet'))
    for hint in (f"<private xmlns='{CARBONS}'/>", "<no-copy xmlns='urn:xmpp:hints'/>"):
        bob.say(laptop.jid, 'secret', extra=hint)
        received = laptop.expect('message', body='secret')
        assert received.find(f'{{{CARBONS}}}private') is None
    bob.say(laptop.jid, 'open', extra=f"<private xmlns='{CARBONS}:other'/>")
    assert len(laptop.expect('message', body='open')) == 2
    copied(phone, 'received', 'open')
    copied(tablet, 'sent', 'open')
    nothing_left(laptop, phone, bob, tablet)


RICH = (
    "<active xmlns='http://jabber.org/protocol/chatstates'/><request xmlns='urn:xmpp:receipts'/>"
    "<markable xmlns='urn:xmpp:chat-markers:0'/><replace xmlns='urn:xmpp:message-correct:0' id='m1'/>"
    "<origin-id xmlns='urn:xmpp:sid:0' id='o&amp;1'/><html xmlns='http://jabber.org/protocol/xhtml-im'>"
    "<body xmlns='http://www.w3.org/1999/xhtml'><p style='color:red'>5 &lt; 6 &#10; 你好</p></body></html>"
    "<x:y xmlns:x='urn:example' x:z='1'><x:y/></x:y><delay xmlns='urn:xmpp:delay' stamp='2020-01-01T00:00:00Z'/>"
)


def test_rich_messages_pass_unharmed(sign_in: SignIn) -> None:
    """Chat states, receipts, markers, corrections, XHTML, unknown elements: the message and its copies are as sent."""
    laptop, phone = carbons(sign_in('alice', 'laptop')), carbons(sign_in('alice', 'phone'))
    bob, tablet = carbons(sign_in('bob', 'desk')), carbons(sign_in('bob', 'tablet'))

    def content(message: Element | None) -> list[bytes]:
        assert message is not None
        return [tostring(child) for child in message]

    for tag in (
        "<message to='{}' type='chat' id='1'>",
        "<message a=\"'\" b='>' xmlns='jabber:client' type='chat' to='{}'>",
        "<message type='chat' xmlns='jabber:cli&#101;nt' to='{}'>",
        "<message xml:lang='fr' type='chat' to='{}'\n>",
    ):
        bob.raw(tag.format(laptop.jid) + f'<body>a&amp;b</body>{RICH}</message>')
        sent = content(copy_in(copied(tablet, 'sent', 'a&b'), 'sent'))
        assert len(sent) == 9
        assert content(laptop.expect('message', body='a&b')) == sent
        assert content(copy_in(copied(phone, 'received', 'a&b'), 'received')) == sent
    nothing_left(laptop, phone, bob, tablet)


def test_copies_cannot_be_forged(sign_in: SignIn) -> None:
    """Whatever a client wraps arrives as a message of that client; only the server speaks for the bare address."""
    laptop, phone = carbons(sign_in('alice', 'laptop')), carbons(sign_in('alice', 'phone'))
    bob, mallory = sign_in('bob'), sign_in('mallory')
    ends = f"from='{bob.jid}' to='{laptop.jid}'"
    inner = f"<message xmlns='jabber:client' {ends} type='chat'><body>send money</body></message>"
    for direction in ('received', 'sent'):
        forged = (
            f"<{direction} xmlns='{CARBONS}'><forwarded xmlns='urn:xmpp:forward:0'>{inner}</forwarded></{direction}>"
        )
        mallory.raw(f"<message to='{laptop.jid}' type='chat'>{forged}</message>")
        assert laptop.expect('message', has=f'{{{CARBONS}}}{direction}').get('from') == mallory.jid
        wrapper = phone.expect('message', from_=laptop.bare)
        assert copy_in(wrapper, 'received').get('from') == mallory.jid  # type: ignore[union-attr]
        laptop.raw(f"<message to='{phone.jid}' type='chat'>{forged}</message>")  # nor by the own other client
        assert phone.expect('message', has=f'{{{CARBONS}}}{direction}').get('from') == laptop.jid
    assert condition(mallory.iq('set', f"<enable xmlns='{CARBONS}'/>", to=laptop.bare)) == 'not-allowed'
    assert condition(mallory.iq('set', f"<disable xmlns='{CARBONS}'/>", to=laptop.bare)) == 'not-allowed'
    mallory.raw(f"<message from='{laptop.bare}' to='{phone.jid}' type='chat'>{forged}</message>")
    assert mallory.closed() == 'invalid-from'
    laptop.raw(f"<message from='{laptop.bare}' to='{phone.jid}' type='chat'>{forged}</message>")
    assert phone.expect('message', has=f'{{{CARBONS}}}sent').get('from') == laptop.jid
    nothing_left(laptop, phone, bob)


@proves('MDM-07', 'MDM-10', 'MDM-11', 'IM-03', 'IM-04', 'RST-R53', 'RST-R54')
def test_the_switch(sign_in: SignIn, api: Callable[..., Any]) -> None:
    """In force after the restart of the router, which the notification names until then; then fork and lock."""

    def notices() -> set[str]:
        return {row['rule'] for row in api('administrator').get('/api/v1/notifications/').json()['results']}

    laptop, phone, bob = carbons(sign_in('alice', 'laptop')), carbons(sign_in('alice', 'phone')), sign_in('bob')
    url = f'/api/v1/service-parameters/{data.NODE}/xcp_router/'
    client = api('administrator')
    assert client.get(url).json()['enable_multi_device_messaging'] == 'enabled'
    assert client.patch(url, {'enable_multi_device_messaging': 'sometimes'}).status_code == 400
    assert client.patch(url, {'enable_multi_device_messaging': 'disabled'}).status_code == 200
    assert notices() == {'RST-R53'}
    assert client.patch(url, {'max_sessions_per_user': 2}).status_code == 200
    in_force()
    assert 'RST-R54' in notices()
    (row,) = client.get('/api/v1/notifications/').json()['results']
    assert len(row['changes']) == 2
    sign_in('alice', 'third').close()
    bob.say(laptop.jid, 'still on')
    laptop.expect('message', body='still on')
    copied(phone, 'received', 'still on')

    command('restart', 'xcp_router')
    wait_until(lambda: not notices(), 'the notifications are gone')
    laptop, phone, bob = sign_in('alice', 'laptop'), sign_in('alice', 'phone'), sign_in('bob')
    with pytest.raises(SignInFailed, match='resource-constraint'):
        sign_in('alice', 'third')
    assert condition(laptop.iq('set', f"<enable xmlns='{CARBONS}'/>")) == 'service-unavailable'
    for to in (data.DOMAIN, laptop.bare):
        info = laptop.iq('get', "<query xmlns='http://jabber.org/protocol/disco#info'/>", to=to)
        assert CARBONS not in tostring(info).decode()
    bob.say(laptop.bare, 'm1')
    laptop.expect('message', body='m1')
    phone.expect('message', body='m1')
    phone.say(bob.jid, 'reply')
    bob.expect('message', body='reply')
    bob.say(laptop.bare, 'm2')
    phone.expect('message', body='m2')
    nothing_left(laptop, phone)

    client.patch(url, {'enable_multi_device_messaging': None})
    configure(messaging={'im_enabled': False})
    command('restart', 'xcp_router')
    laptop = sign_in('alice', 'laptop')
    assert condition(laptop.iq('set', f"<enable xmlns='{CARBONS}'/>")) == 'service-unavailable'
    configure(messaging={'im_enabled': True})
    command('restart', 'xcp_router')
    laptop = carbons(sign_in('alice', 'laptop'))
    assert CARBONS in tostring(laptop.iq('get', "<query xmlns='http://jabber.org/protocol/disco#info'/>")).decode()


@proves('MDM-31')
def test_the_last_copy_saves_the_message(sign_in: SignIn, engine: Engine) -> None:
    """Both clients have lost their connection and hold a message, one of them as a copy; neither comes back for it."""
    laptop, phone = carbons(sign_in('alice', 'laptop')), carbons(sign_in('alice', 'phone'))
    bob = sign_in('bob')
    laptop.say(bob.jid, 'I am here')
    bob.expect('message', body='I am here')
    for client in (laptop, phone):
        client.raw("<enable xmlns='urn:xmpp:sm:3' resume='true'/>")
        client.sync()
        client.abort()
    wait_until(lambda: metric(engine, 'JsmPhantomSessionsActive') == 2, 'two sessions that wait')
    assert metric(engine, 'JsmClientSessionsActive') == 1
    bob.say(laptop.bare, 'are you?')
    bob.say(laptop.jid, f'with a name space: {CARBONS}', extra=f"<private xmlns='{CARBONS}'/>")
    number = bob.say(laptop.bare, 'only now', extra="<no-store xmlns='urn:xmpp:hints'/>")
    bob.sync()
    again = [sign_in('alice', name, available=False) for name in ('laptop', 'phone')]
    again[1].available()
    again[1].expect('message', body='are you?', from_=bob.jid)
    again[1].expect('message', body=f'with a name space: {CARBONS}')
    assert condition(bob.expect('message', type='error', id=number)) == 'recipient-unavailable'
    nothing_left(*again, bob)


@proves('MDM-30')
def test_the_counters(sign_in: SignIn, engine: Engine) -> None:
    """Two sessions, one silent, then quiet; five packets wait and are flushed together."""
    laptop, phone = carbons(sign_in('alice', 'laptop')), carbons(sign_in('alice', 'phone'))
    bob = sign_in('bob')
    assert metric(engine, 'MDMSessions') == 2
    assert metric(engine, 'MDMQuietModeSessions') == 0
    laptop.say(bob.jid, 'here')
    bob.expect('message', body='here')
    phone.expect('message')
    assert metric(engine, 'MDMSilentModeSessions') == 1
    phone.raw("<inactive xmlns='urn:xmpp:csi:0'/>")
    wait_until(lambda: metric(engine, 'MDMQuietModeSessions') == 1, 'the phone is quiet')
    for number in range(5):
        bob.say(laptop.bare, f'm{number}')
        laptop.expect('message', body=f'm{number}')
    assert metric(engine, 'MDMBufferFlushes') == 0
    phone.expect_none('message', within=1.0)
    phone.raw("<active xmlns='urn:xmpp:csi:0'/>")
    copied(phone, 'received', 'm4')
    assert metric(engine, 'MDMBufferFlushes') == 1
    assert metric(engine, 'MDMBufferFlushesLimitReached') == 0
    assert metric(engine, 'MDMBufferFlushPacketCount') == 5
    assert 0.9 < metric(engine, 'MDMBufferAvgQueuedTime') < 3
    assert metric(engine, 'MDMQuietModeSessions') == 0
    phone.close()
    laptop.abort()
    wait_until(lambda: metric(engine, 'MDMSessions') == 0, 'all sessions ended')
    assert metric(engine, 'MDMSilentModeSessions') == 0


@proves('MDM-27', 'MDM-08', 'MDM-31', 'MDM-33', 'MDM-34', 'MDM-35', 'MDM-36', 'MDM-38')
def test_too_many_sessions_raise_the_alarm(sign_in: SignIn, engine: Engine, api: Any, admin_client: Any) -> None:
    """Two clients of one user are two sessions; exactly the threshold is not above it; cleared when it is over, or when
    the alert is switched off. The administrator sets all of it for a node."""
    from impadmin.system.models import Alarm, Node

    client, url = api('administrator'), f'/api/v1/service-parameters/{data.NODE}/xcp_router/'

    def set_alert(**values: Any) -> None:
        answer = client.patch(url, values)
        assert answer.status_code == 200, answer.content

    def alarm() -> Any:
        return Alarm.objects.filter(name='JSMSessionsExceedsThreshold', cleared_at=None).first()

    now = datetime.now()  # noqa: DTZ005 - the time of day of the node
    node = Node.objects.get(name=data.NODE)
    page = admin_client('read_only').get(f'/admin/system/service-parameters/?node={node.pk}&service=xcp_router')
    shown = page.content.decode()
    assert '1.5 times the users of its machine template (7,500, 22,500 or 37,500)' in shown
    assert 'When both nodes of a redundancy group are active, half of that.' in shown
    assert 'Mobile and Remote Access needs Expressway X8.8 or later.' in shown
    assert client.get(url).json()['rated_jsm_sessions'] == 7500
    parameter('xcp_router', 'rated_jsm_sessions', 5)
    parameter('xcp_router', 'jsm_threshold_s', 1)
    clients = [sign_in('alice', f'r{number}', roster=False) for number in range(3)]
    clients.append(sign_in('bob', roster=False))
    assert metric(engine, 'JsmClientSessionsActive') == 4
    assert metric(engine, 'JSMSessionsExceedsThreshold') == 80
    wait_until(lambda: metric(engine, 'JsmSessionsComposed') >= 0, 'a sample')
    clients[0].expect_none('message', within=1.3)
    assert alarm() is None
    clients.append(sign_in('carol', roster=False))
    wait_until(lambda: alarm() is not None, 'the alarm')
    assert '5 JSM sessions are 100 percent of the 5' in alarm().text or '"sessions":5' in alarm().text
    advice = client.get('/api/v1/notifications/').content.decode()
    assert 'Check its memory and processor; move users to other nodes' in advice
    set_alert(jsm_alert=False)
    wait_until(lambda: alarm() is None, 'no alarm while the alert is off')
    never = next(day for day in ('Mon', 'Thu') if day not in (f'{now:%a}', f'{now - timedelta(days=1):%a}'))
    set_alert(jsm_alert=True, jsm_alert_frequency_s=60, jsm_alert_days=never)
    assert client.patch(url, {'jsm_alert_days': 'Someday'}).status_code == 400
    assert client.patch(url, {'jsm_alert_from': '24:00'}).status_code == 400
    answer = client.patch(url, {'internal_networks': '10.0.0.1/8'})
    assert 'such as 192.0.2.0/24' in answer.content.decode()
    in_force()
    clients[0].expect_none('message', within=1.5)
    assert alarm() is None, 'it is not the day for alarms'
    set_alert(jsm_alert_days=f'{never},{now:%a}, {now + timedelta(days=1):%a}', jsm_alert_until='00:00')
    wait_until(lambda: alarm() is not None, 'the alarm again')
    set_alert(jsm_threshold_percent=100)
    wait_until(lambda: alarm() is None, 'exactly the threshold is not above it')
    # Both nodes of a redundancy group active: the administrator halves the threshold of each node (guide 7010-7013).
    set_alert(rated_jsm_sessions=13, jsm_threshold_percent=40)
    in_force()
    clients[0].expect_none('message', within=1.3)
    assert alarm() is None, '5 of 13 are not above 40 percent'
    set_alert(rated_jsm_sessions=12)
    wait_until(lambda: alarm() is not None, 'the alarm for more than 40 percent')
    clients[0].close()
    wait_until(lambda: alarm() is None, 'the alarm is cleared')


@pytest.mark.parametrize(
    ('samples', 'verdicts'),
    [
        ([(0, 80.0), (600, 80.0)], ['', '']),
        ([(0, 80.1), (599, 90), (600, 81)], ['', '', 'raise']),
        ([(0, 81), (599, 81), (599.5, 80), (700, 81), (1200, 81), (1300, 81)], ['', '', '', '', '', 'raise']),
        ([(0, 81), (600, 81), (900, 81), (1200, 81), (1201, 80), (1202, 80)], ['', 'raise', '', 'raise', 'clear', '']),
    ],
)
def test_the_threshold_must_hold(samples: list[tuple[float, float]], verdicts: list[str]) -> None:
    """Ten minutes without a break; again every ten minutes; cleared below."""
    threshold = Threshold()
    assert [threshold.sample(now, percent, 80, 600, 600) for now, percent in samples] == verdicts
    at_night = Threshold()
    told = [at_night.sample(now, 90, 80, 600, 600, now >= 900) for now in (0, 600, 899, 900, 901)]
    assert told == ['', '', '', 'raise', '']
    often = Threshold()
    assert [often.sample(now, 90, 80, 600, 60) for now in (0, 600, 659, 660)] == ['', 'raise', '', 'raise']


@pytest.mark.parametrize(
    ('at', 'days', 'begin', 'end', 'due'),
    [
        ('2026-11-16 03:00', 'Mon', '00:00', '00:00', True),  # a Monday
        ('2026-11-17 03:00', 'Mon', '00:00', '00:00', False),
        ('2026-11-16 07:59', 'Mon,Tue', '08:00', '18:00', False),
        ('2026-11-16 08:00', 'Mon,Tue', '08:00', '18:00', True),
        ('2026-11-16 18:00', 'Mon,Tue', '08:00', '18:00', False),
        ('2026-11-16 23:00', 'Mon', '22:00', '06:00', True),
        ('2026-11-17 05:59', 'Mon', '22:00', '06:00', True),
        ('2026-11-17 06:00', 'Mon, Tue', '22:00', '06:00', False),
        ('2026-11-16 05:00', 'Mon', '22:00', '06:00', False),
        ('2026-11-16 23:59', 'Mon', '08:00', '00:00', True),
    ],
)
def test_the_schedule_of_the_alert(at: str, days: str, begin: str, end: str, due: bool) -> None:
    assert scheduled(datetime.fromisoformat(at), days, begin, end) is due
