"""Service discovery, vCards, version, time, last activity, capabilities, ping, and who may be asked."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from xml.etree.ElementTree import Element

import pytest

from tests.areas.xmpp_fixtures import address, ensure, in_force, parameter, sign_in, user
from tests.fixtures import data
from tests.fixtures.processes import wait_until
from tests.proves import proves
from tests.xmppclient import SignInFailed, XmppClient, condition

__all__ = ['sign_in']
SignIn = Callable[..., XmppClient]
ALICE, BOB = address('alice'), address('bob')
INFO, ITEMS = '{http://jabber.org/protocol/disco#info}', '{http://jabber.org/protocol/disco#items}'
FORM = '{jabber:x:data}'


def _info(client: XmppClient, to: str, node: str = '') -> Element:
    named = f" node='{node}'" if node else ''
    answer = client.iq('get', f"<query xmlns='http://jabber.org/protocol/disco#info'{named}/>", to=to)
    query = answer.find(f'{INFO}query')
    assert query is not None, condition(answer)
    return query


def _hash(query: Element) -> str:
    """XEP-0115 5.1, written again for the test."""
    identities = sorted(
        '/'.join((i.get('category', ''), i.get('type', ''), '', i.get('name', ''))) + '<'
        for i in query.findall(f'{INFO}identity')
    )
    features = sorted(f.attrib['var'] + '<' for f in query.findall(f'{INFO}feature'))
    text = ''.join(identities + features)
    for form in query.findall(f'{FORM}x'):
        values = {
            field.attrib['var']: sorted(value.text or '' for value in field.findall(f'{FORM}value'))
            for field in form.findall(f'{FORM}field')
        }
        text += values.pop('FORM_TYPE')[0] + '<'
        for name in sorted(values):
            text += name + '<' + ''.join(value + '<' for value in values[name])
    return base64.b64encode(hashlib.sha1(text.encode(), usedforsecurity=False).digest()).decode()


@proves('XMP-20', 'XMP-23')
def test_discovery_and_capabilities(sign_in: SignIn) -> None:
    alice = sign_in('alice')
    query = _info(alice, data.DOMAIN)
    identity = query.find(f'{INFO}identity')
    assert identity is not None
    assert (identity.get('category'), identity.get('type')) == ('server', 'im')
    features = {feature.get('var') for feature in query.findall(f'{INFO}feature')}
    assert {
        'http://jabber.org/protocol/disco#info', 'http://jabber.org/protocol/disco#items', 'urn:xmpp:ping',
        'jabber:iq:version', 'urn:xmpp:time', 'jabber:iq:last', 'vcard-temp', 'msgoffline',
    } <= features  # fmt: skip
    form = query.find(f'{FORM}x')
    assert form is not None
    first = form[0]
    assert (first.get('var'), first.get('type')) == ('FORM_TYPE', 'hidden')
    assert alice.features is not None
    caps = alice.features.find('{http://jabber.org/protocol/caps}c')
    assert caps is not None
    assert caps.get('ver') == _hash(query)
    node = f'{caps.get("node")}#{caps.get("ver")}'
    assert _hash(_info(alice, data.DOMAIN, node)) == caps.get('ver')
    wrong = alice.iq('get', "<query xmlns='http://jabber.org/protocol/disco#info' node='x'/>", to=data.DOMAIN)
    assert condition(wrong) == 'item-not-found'
    items = alice.iq('get', "<query xmlns='http://jabber.org/protocol/disco#items'/>", to=data.DOMAIN)
    assert items.find(f'{ITEMS}query') is not None
    identity = _info(alice, '').find(f'{INFO}identity')
    assert identity is not None
    assert (identity.get('category'), identity.get('type')) == ('account', 'registered')

    bob = sign_in('bob', 'desk')
    ask = "<query xmlns='http://jabber.org/protocol/disco#info'/>"
    assert condition(alice.iq('get', ask, to=BOB)) == 'service-unavailable'
    alice.presence('subscribe', to=BOB)
    alice.expect('presence', type='', from_=bob.jid)
    assert _info(alice, BOB).find(f'{INFO}identity') is not None
    bob.raw("<presence><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='urn:test' ver='abc='/></presence>")
    passed = alice.expect('presence', from_=bob.jid, has='{http://jabber.org/protocol/caps}c')
    assert passed[0].attrib == {'hash': 'sha-1', 'node': 'urn:test', 'ver': 'abc='}


@proves('XMP-09')
def test_vcards(sign_in: SignIn) -> None:
    alice, bob = sign_in('alice'), sign_in('bob')
    empty = alice.iq('get', "<vCard xmlns='vcard-temp'/>")
    card = empty.find('{vcard-temp}vCard')
    assert card is not None
    assert len(card) == 0
    assert condition(bob.iq('get', "<vCard xmlns='vcard-temp'/>", to=ALICE)) == 'item-not-found'
    content = '<FN>Алиса &amp; 王</FN><N><FAMILY>Wang</FAMILY></N><EMAIL><USERID>a@example.com</USERID></EMAIL>'
    assert condition(alice.iq('set', f"<vCard xmlns='vcard-temp'>{content}</vCard>")) is None
    for client, to in ((alice, ''), (bob, ALICE)):
        answer = client.iq('get', "<vCard xmlns='vcard-temp'/>", to=to)
        assert answer.findtext('{vcard-temp}vCard/{vcard-temp}FN') == 'Алиса & 王'
        assert answer.findtext('.//{vcard-temp}USERID') == 'a@example.com'
    assert condition(bob.iq('set', "<vCard xmlns='vcard-temp'><FN>x</FN></vCard>", to=ALICE)) == 'forbidden'
    large = f"<vCard xmlns='vcard-temp'><NOTE>{'x' * 140_000}</NOTE></vCard>"
    assert condition(alice.iq('set', large)) == 'not-acceptable'
    server = alice.iq('get', "<vCard xmlns='vcard-temp'/>", to=data.DOMAIN)
    assert server.findtext('{vcard-temp}vCard/{vcard-temp}FN')


@proves('XMP-17', 'XMP-16')
def test_version_time_ping_session(sign_in: SignIn) -> None:
    alice, bob = sign_in('alice'), sign_in('bob', 'desk')
    version = alice.iq('get', "<query xmlns='jabber:iq:version'/>", to=data.DOMAIN)
    assert version.findtext('{jabber:iq:version}query/{jabber:iq:version}name')
    assert version.findtext('{jabber:iq:version}query/{jabber:iq:version}version')
    now = alice.iq('get', "<time xmlns='urn:xmpp:time'/>", to=data.DOMAIN)
    stamp = now.findtext('{urn:xmpp:time}time/{urn:xmpp:time}utc') or ''
    parsed = datetime.strptime(stamp, '%Y-%m-%dT%H:%M:%S.%fZ').replace(tzinfo=UTC)
    assert abs((parsed - datetime.now(UTC)).total_seconds()) < 10
    for to in (data.DOMAIN, '', ALICE):
        assert condition(alice.iq('get', "<ping xmlns='urn:xmpp:ping'/>", to=to)) is None
    session = "<session xmlns='urn:ietf:params:xml:ns:xmpp-session'/>"
    assert condition(alice.iq('set', session)) is None
    # a client is asked itself: slixmpp has no answer to a version request here and says so
    bob.raw('<presence/>')
    answer = alice.iq('get', "<query xmlns='jabber:iq:version'/>", to=bob.jid)
    assert answer.get('from') == bob.jid
    assert condition(answer) in ('feature-not-implemented', 'service-unavailable')


@proves('XMP-04')
def test_last_activity(sign_in: SignIn, make_user: Callable[..., Any]) -> None:
    from impadmin.presence.models import LastActivity

    ask = "<query xmlns='jabber:iq:last'/>"
    last = '{jabber:iq:last}query'
    ensure(make_user, 'carol')
    alice, bob = sign_in('alice'), sign_in('bob', 'desk')
    uptime = alice.iq('get', ask, to=data.DOMAIN).find(last)
    assert uptime is not None
    assert 0 <= int(uptime.attrib['seconds']) < 300
    assert condition(alice.iq('get', ask, to=BOB)) == 'forbidden'
    assert condition(alice.iq('get', ask, to=bob.jid)) == 'forbidden'
    assert condition(alice.iq('get', ask, to=address('nobody'))) == 'forbidden'
    alice.presence('subscribe', to=BOB)
    alice.expect('presence', type='', from_=bob.jid)
    online = alice.iq('get', ask, to=BOB).find(last)
    assert online is not None
    assert online.attrib['seconds'] == '0'
    assert alice.iq('get', ask, to=bob.jid).get('from') == bob.jid
    bob.presence('unavailable', status='home & dry')
    bob.close()
    wait_until(lambda: LastActivity.objects.filter(user=user('bob')).exists(), 'time of the sign-out')
    time.sleep(1.1)
    offline = alice.iq('get', ask, to=BOB).find(last)
    assert offline is not None
    assert 1 <= int(offline.attrib['seconds']) < 30
    assert offline.text == 'home & dry'


def test_sessions_of_one_user(sign_in: SignIn) -> None:
    """A second client with the same resource takes over; sessions beyond the maximum are refused; changes of the user
    end the sessions with their own stream errors."""

    parameter('xcp_router', 'max_sessions_per_user', 2)
    first = sign_in('alice', 'same')
    second = sign_in('alice', 'same')
    assert first.closed() == 'conflict'
    assert second.connected
    sign_in('alice', 'other')
    with pytest.raises(SignInFailed, match='resource-constraint'):
        sign_in('alice', 'third')
    row = user('alice')
    assert row.last_login_at is not None

    from engine.contract import credentials

    row.credentials = credentials.verifiers('another password 2')
    row.save()
    data.tell_users_changed(row.pk)
    assert second.closed() == 'not-authorized'
    bob = sign_in('bob')
    row = user('bob')
    row.im_address = address('robert')
    row.save()
    data.tell_users_changed(row.pk)
    assert bob.closed() == 'reset'
    carol = sign_in('carol')
    user('carol').delete()
    assert carol.closed() == 'not-authorized'  # nobody was told: the regular look finds it


def test_two_domains(make_user: Callable[..., Any], sign_in: SignIn) -> None:
    """Users of two hosted domains see each other and talk; each domain answers discovery (spec 01 16)."""
    from impadmin.presence.models import AdvancedSettings, Domain

    Domain.objects.create(name='second.example', key='second.example')
    AdvancedSettings.objects.filter(pk=1).update(address_scheme='directory_uri')
    data.publish_configuration()
    make_user('anna', directory_uri=ALICE)
    make_user('berta', directory_uri='berta@second.example')
    alice = sign_in('alice', domain=data.DOMAIN)
    berta = sign_in('berta', domain='second.example')
    alice.presence('subscribe', to='berta@second.example')
    alice.expect('presence', type='', from_=berta.jid)
    berta.say(ALICE, 'across domains')
    alice.expect('message', body='across domains')
    assert _info(alice, 'second.example').find(f'{INFO}identity') is not None


@pytest.mark.parametrize('user_id', ['d@artagnan', 'amckenzie@corp.example'])
@proves('XMP-18', 'IMA-04')
def test_escaped_user_ids_sign_in(user_id: str, make_user: Callable[..., Any], sign_in: SignIn) -> None:
    """XEP-0106: a user ID with characters that a JID cannot hold, an e-mail address too, is the escaped localpart."""
    local = user_id.replace('@', '\\40')
    assert make_user(user_id).im_address == f'{local}@example.com'
    escaped = sign_in(local, domain=data.DOMAIN)
    alice = sign_in('alice')
    alice.say(f'{local.title()}@example.com', 'en garde')
    assert escaped.expect('message', body='en garde')
    escaped.say(ALICE, 'touché')
    assert alice.expect('message', body='touché').get('from', '').startswith(f'{local}@example.com/')


def test_users_of_another_node_are_sent_there(sign_in: SignIn) -> None:
    """A moved user is told the new node, when signed in and at the next sign-in."""
    from impadmin.system.models import Node

    alice = sign_in('alice')
    other = Node.objects.create(name='imp2', address='127.0.0.9')
    data.publish_configuration()
    in_force()
    row = user('alice')
    row.home_node = other
    row.save()
    data.tell_users_changed(row.pk)
    assert alice.closed() == 'see-other-host'
    assert alice.error_text == '127.0.0.9'
    with pytest.raises(SignInFailed, match='see-other-host'):
        sign_in('alice')


def test_wrong_presence_gets_an_error(sign_in: SignIn) -> None:
    alice = sign_in('alice')
    for stanza, expected in (
        ('<presence><priority>128</priority></presence>', 'bad-request'),
        ('<presence><priority>high</priority></presence>', 'bad-request'),
        ("<presence type='invisible' to='bob@example.com'/>", 'bad-request'),
        ("<presence type='subscribe'/>", 'bad-request'),
        ("<presence type='subscribe' to='@'/>", 'jid-malformed'),
        ("<presence type='subscribe' to='bob@elsewhere.example'/>", 'remote-server-not-found'),
        ("<presence type='subscribe' to='example.com'/>", 'service-unavailable'),
    ):
        alice.raw(stanza)
        assert condition(alice.expect('presence', type='error')) == expected, stanza
    assert alice.roster() == {}
    bob = sign_in('bob', priority=-128)
    bob.available(priority=127)
    assert bob.expect('presence', priority='127')
