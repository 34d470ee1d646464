"""Personal eventing (XEP-0163): what clients keep at their account, and who hears of it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Callable
from typing import Any
from xml.etree.ElementTree import Element

from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import MatchXPath

from tests.areas.xmpp_fixtures import address, configure, ensure, in_force, parameter, sign_in
from tests.fixtures import data
from tests.fixtures.processes import wait_until
from tests.proves import proves
from tests.xmppclient import XmppClient, condition

__all__ = ['sign_in']
SignIn = Callable[..., XmppClient]
ALICE, BOB, CAROL = address('alice'), address('bob'), address('carol')
PUBSUB = 'http://jabber.org/protocol/pubsub'
OWNER = f'{PUBSUB}#owner'
EVENT = f'{{{PUBSUB}#event}}'
ERRORS = f'{{{PUBSUB}#errors}}'
INFO = 'http://jabber.org/protocol/disco#info'
CAPS = 'http://jabber.org/protocol/caps'
MOOD, TUNE = 'http://jabber.org/protocol/mood', 'http://jabber.org/protocol/tune'
GEOLOC = 'http://jabber.org/protocol/geoloc'


def publish(client: XmppClient, node: str, payload: str, item: str = '', options: str = '', to: str = '') -> Element:
    """Publish one item; the answer."""
    named = f" id='{item}'" if item else ''
    inside = f"<publish node='{node}'><item{named}>{payload}</item></publish>{options}"
    return client.iq('set', f"<pubsub xmlns='{PUBSUB}'>{inside}</pubsub>", to=to)


def items(client: XmppClient, node: str, to: str = '', inside: str = '', attributes: str = '') -> Element:
    """Ask for the items of a node; the answer."""
    return client.iq('get', f"<pubsub xmlns='{PUBSUB}'><items node='{node}'{attributes}/>{inside}</pubsub>", to=to)


def ids(answer: Element) -> list[str]:
    """The ids of the items of an answer."""
    assert condition(answer) is None, condition(answer)
    return [item.attrib['id'] for item in answer.iter(f'{{{PUBSUB}}}item')]


def form(kind: str, **fields: str) -> str:
    """A submitted form of one of the kinds of XEP-0060."""
    inside = ''.join(f"<field var='pubsub#{name}'><value>{value}</value></field>" for name, value in fields.items())
    hidden = f"<field var='FORM_TYPE' type='hidden'><value>{PUBSUB}#{kind}</value></field>"
    return f"<x xmlns='jabber:x:data' type='submit'>{hidden}{inside}</x>"


def options(**fields: str) -> str:
    """The publish-options of a publication."""
    return f'<publish-options>{form("publish-options", **fields)}</publish-options>'


def configured(client: XmppClient, node: str, to: str = '', **fields: str) -> str | None:
    """Change the configuration of a node; the error condition or None."""
    inside = f"<configure node='{node}'>{form('node_config', **fields)}</configure>"
    return condition(client.iq('set', f"<pubsub xmlns='{OWNER}'>{inside}</pubsub>", to=to))


def specific(answer: Element) -> str:
    """The pubsub error beside the condition of an error answer."""
    return next((child.tag.removeprefix(ERRORS) for child in answer.iter() if child.tag.startswith(ERRORS)), '')


def verification(names: list[str]) -> str:
    """The hash of XEP-0115 over one identity and these features."""
    text = 'client/pc//Test<' + ''.join(f'{name}<' for name in sorted(names))
    return base64.b64encode(hashlib.sha1(text.encode(), usedforsecurity=False).digest()).decode()


def interested(client: XmppClient, *nodes: str, ver: str = '') -> str:
    """Announce interest in nodes; the hash. The test answers the server's question, not slixmpp."""
    question = MatchXPath(f'{{jabber:client}}iq/{{{INFO}}}query')
    client.xmpp.register_handler(Callback('questions', question, lambda _iq: None))
    names = [INFO, *(f'{node}+notify' for node in nodes)]
    ver = ver or verification(names)
    client.raw(f"<presence><c xmlns='{CAPS}' hash='sha-1' node='urn:test' ver='{ver}'/></presence>")
    client.expect('presence', from_=client.jid, has=f'{{{CAPS}}}c')
    return ver


def asked(client: XmppClient, ver: str, *nodes: str) -> None:
    """The server asks what stands behind a hash; answer."""
    question = client.expect('iq', type='get', has=f'{{{INFO}}}query')
    query = question.find(f'{{{INFO}}}query')
    assert query is not None
    assert query.get('node') == f'urn:test#{ver}'
    features = ''.join(f"<feature var='{name}'/>" for name in (INFO, *(f'{node}+notify' for node in nodes)))
    inside = (
        f"<query xmlns='{INFO}' node='urn:test#{ver}'><identity category='client' type='pc' name='Test'/>{features}"
    )
    client.raw(f"<iq type='result' id='{question.get('id')}' to='{question.get('from')}'>{inside}</query></iq>")
    client.sync()


def listening(client: XmppClient, *nodes: str) -> None:
    """Announce interest in nodes that nobody announced before in this way."""
    asked(client, interested(client, *nodes), *nodes)


def event(client: XmppClient, node: str, sender: str) -> Element:
    """The event of a node that the client receives next."""
    message = client.expect('message', from_=sender, where=lambda m: _of_node(m, node))
    assert message.get('to') in (client.jid, client.bare)
    found = message.find(f'{EVENT}event')
    assert found is not None
    return found


def _of_node(message: Element, node: str) -> bool:
    return any(child.get('node') == node for child in message.findall(f'{EVENT}event/*'))


def friends(one: XmppClient, other: XmppClient) -> None:
    """``one`` sees the availability of ``other``."""
    one.presence('subscribe', to=other.bare)
    one.expect('presence', type='', from_=other.jid)


@proves('XMP-25')
def test_contacts_hear_what_they_are_interested_in(sign_in: SignIn) -> None:
    alice, desk, bob, carol = sign_in('alice'), sign_in('alice', 'desk'), sign_in('bob'), sign_in('carol')
    friends(bob, alice)
    listening(bob, MOOD, GEOLOC)
    listening(desk, MOOD)
    interested(carol, MOOD)  # the same hash: nobody is asked again
    carol.sync()
    carol.expect_none('iq', within=0, type='get', has=f'{{{INFO}}}query')
    payload = f'<mood xmlns=\'{MOOD}\'><happy/><text>ünïcode &amp; "quotes"</text></mood>'
    answer = publish(alice, MOOD, payload, 'now')
    assert ids(answer) == ['now']
    for client in (bob, desk):
        found = event(client, MOOD, ALICE)
        item = found.find(f'{EVENT}items/{EVENT}item')
        assert item is not None
        assert item.get('id') == 'now'
        assert item.findtext(f'{{{MOOD}}}mood/{{{MOOD}}}text') == 'ünïcode & "quotes"'
    # nothing for a stranger, nothing for a node a contact did not ask for
    assert condition(publish(alice, TUNE, f"<tune xmlns='{TUNE}'/>")) is None
    assert condition(publish(alice, GEOLOC, f"<geoloc xmlns='{GEOLOC}'><lat>52</lat></geoloc>", 'here')) is None
    event(bob, GEOLOC, ALICE)
    for client in (alice, desk, bob, carol):
        client.sync()
        client.expect_none('message', within=0)
    # somebody who comes online later gets the last items, with the time of their publication
    tablet = sign_in('bob', 'tablet')
    interested(tablet, MOOD, GEOLOC)
    for node in (MOOD, GEOLOC):
        message = tablet.expect('message', from_=ALICE, where=lambda m, node=node: _of_node(m, node))
        assert message.get('type') == 'headline'
        assert message.find('{urn:xmpp:delay}delay') is not None
    # and somebody who may newly see the user
    carol.presence('subscribe', to=ALICE)
    event(carol, MOOD, ALICE)
    # retracted, purged, deleted
    retract = f"<retract node='{MOOD}' notify='true'><item id='now'/></retract>"
    assert condition(alice.iq('set', f"<pubsub xmlns='{PUBSUB}'>{retract}</pubsub>")) is None
    gone = event(bob, MOOD, ALICE).find(f'{EVENT}items/{EVENT}retract')
    assert gone is not None
    assert gone.get('id') == 'now'
    assert ids(items(alice, MOOD)) == []
    for verb in ('purge', 'delete'):
        action = f"<{verb} node='{GEOLOC}'/>"
        assert condition(alice.iq('set', f"<pubsub xmlns='{OWNER}'>{action}</pubsub>")) is None
        assert event(bob, GEOLOC, ALICE).find(f'{EVENT}{verb}') is not None
    assert condition(items(alice, GEOLOC)) == 'item-not-found'
    # no longer seen: no longer told
    alice.presence('unsubscribed', to=BOB)
    bob.expect('presence', type='unsubscribed', from_=ALICE)
    bob.sync()
    bob.forget()
    assert condition(publish(alice, MOOD, f"<mood xmlns='{MOOD}'><sad/></mood>")) is None
    event(desk, MOOD, ALICE)
    bob.sync()
    bob.expect_none('message', within=0)


@proves('XMP-25')
def test_who_may_read(sign_in: SignIn, make_user: Callable[..., Any]) -> None:
    ensure(make_user, 'dave')
    alice, bob, carol = sign_in('alice'), sign_in('bob'), sign_in('carol')
    friends(bob, alice)
    secret = options(access_model='whitelist', persist_items='true', max_items='max')
    assert condition(publish(alice, 'urn:secret', "<s xmlns='urn:secret'/>", 'a', secret)) is None
    assert condition(publish(alice, 'urn:open', "<o xmlns='urn:open'/>", 'a', options(access_model='open'))) is None
    assert condition(publish(alice, 'urn:seen', "<o xmlns='urn:seen'/>", 'a')) is None
    group = options(access_model='roster', roster_groups_allowed='Friends')
    assert condition(publish(alice, 'urn:group', "<o xmlns='urn:group'/>", 'a', group)) is None
    assert ids(items(bob, 'urn:seen', ALICE)) == ['a']
    assert ids(items(bob, 'urn:open', ALICE)) == ['a']
    refused = items(bob, 'urn:secret', ALICE)
    assert (condition(refused), specific(refused)) == ('not-allowed', 'closed-node')
    refused = items(bob, 'urn:group', ALICE)
    assert (condition(refused), specific(refused)) == ('not-authorized', 'not-in-roster-group')
    assert alice.add_contact(BOB, groups=('Friends',)) is None
    assert ids(items(bob, 'urn:group', ALICE)) == ['a']
    assert condition(items(bob, 'urn:none', ALICE)) == 'item-not-found'
    # a stranger reads what is open, and cannot tell the rest from users and nodes that do not exist
    assert ids(items(carol, 'urn:open', ALICE)) == ['a']
    answers = [
        items(carol, node, to)
        for node, to in (
            ('urn:seen', ALICE), ('urn:secret', ALICE), ('urn:group', ALICE), ('urn:none', ALICE),
            ('urn:none', address('dave')), ('urn:none', address('nobody')),
        )
    ]  # fmt: skip
    assert {(condition(a), specific(a)) for a in answers} == {('not-authorized', 'presence-subscription-required')}
    for action in ("<create node='mine'/>", "<publish node='urn:seen'><item><x xmlns='x'/></item></publish>"):
        for client, expected in ((carol, 'not-authorized'), (bob, 'forbidden')):
            answer = client.iq('set', f"<pubsub xmlns='{PUBSUB}'>{action}</pubsub>", to=ALICE)
            assert condition(answer) == expected
    # on the list
    listed = f"<affiliations node='urn:secret'><affiliation jid='{CAROL}' affiliation='member'/></affiliations>"
    assert condition(bob.iq('set', f"<pubsub xmlns='{OWNER}'>{listed}</pubsub>", to=ALICE)) == 'not-allowed'
    assert condition(alice.iq('set', f"<pubsub xmlns='{OWNER}'>{listed}</pubsub>")) is None
    assert ids(items(carol, 'urn:secret', ALICE)) == ['a']
    # discovery shows what one may see
    ask = "<query xmlns='http://jabber.org/protocol/disco#items'/>"
    for client, to, expected in (
        (alice, '', {'urn:secret', 'urn:open', 'urn:seen', 'urn:group'}),
        (bob, ALICE, {'urn:open', 'urn:seen', 'urn:group'}),
    ):
        found = client.iq('get', ask, to=to)
        names = {item.get('node') for item in found.iter('{http://jabber.org/protocol/disco#items}item')}
        assert names - {None} == expected
    assert condition(carol.iq('get', ask, to=ALICE)) == 'service-unavailable'
    about = alice.iq('get', f"<query xmlns='{INFO}'/>")
    kinds = {(i.get('category'), i.get('type')) for i in about.iter(f'{{{INFO}}}identity')}
    assert ('pubsub', 'pep') in kinds
    features = {feature.get('var') for feature in about.iter(f'{{{INFO}}}feature')}
    assert {f'{PUBSUB}#publish-options', f'{PUBSUB}#auto-create', f'{PUBSUB}#filtered-notifications'} <= features
    node = alice.iq('get', f"<query xmlns='{INFO}' node='urn:secret'/>")
    assert next(node.iter(f'{{{INFO}}}identity')).get('type') == 'leaf'
    # off for everybody: only the user himself reads what depends on being seen
    configure(presence={'availability_sharing': False})
    in_force()
    alice.sync()


@proves('XMP-25')
def test_sharing_switched_off_hides_nodes_too(sign_in: SignIn) -> None:
    configure(presence={'availability_sharing': False})
    alice, bob = sign_in('alice'), sign_in('bob')
    bob.presence('subscribe', to=ALICE)
    bob.contact(ALICE, subscription='to')
    listening(bob, MOOD)
    assert condition(publish(alice, MOOD, f"<mood xmlns='{MOOD}'><happy/></mood>", 'a')) is None
    assert condition(items(bob, MOOD, ALICE)) == 'not-authorized'
    tablet = sign_in('bob', 'tablet')
    interested(tablet, MOOD)
    desk = sign_in('alice', 'desk')
    interested(desk, MOOD)
    event(desk, MOOD, ALICE)  # the last item, sent after the tablet's would have been
    for client in (bob, tablet):
        client.sync()
        client.expect_none('message', within=0.2)
    assert ids(items(alice, MOOD)) == ['a']


@proves('XMP-25')
def test_many_items_bookmarks_and_preconditions(sign_in: SignIn, engine: Any) -> None:
    """XEP-0402 keeps many items; OMEMO and others rely on publish-options."""
    alice = sign_in('alice')
    node = 'urn:xmpp:bookmarks:1'
    wanted = options(persist_items='true', max_items='max', send_last_published_item='never', access_model='whitelist')
    listening(alice, node)
    for room in ('a', 'b', 'c'):
        payload = f"<conference xmlns='{node}' name='{room}' autojoin='true'/>"
        assert condition(publish(alice, node, payload, f'{room}@chat.example.com', wanted)) is None
        event(alice, node, ALICE)
    refused = publish(alice, node, f"<conference xmlns='{node}'/>", 'd', options(access_model='open'))
    assert (condition(refused), specific(refused)) == ('conflict', 'precondition-not-met')
    refused = publish(alice, node, f"<conference xmlns='{node}'/>", 'd', options(colour='red'))
    assert (condition(refused), specific(refused)) == ('conflict', 'precondition-not-met')
    # published again: the newest, still once
    assert condition(publish(alice, node, f"<conference xmlns='{node}'/>", 'a@chat.example.com', wanted)) is None
    assert ids(items(alice, node)) == [f'{room}@chat.example.com' for room in ('b', 'c', 'a')]
    assert ids(items(alice, node, attributes=" max_items='1'")) == ['a@chat.example.com']
    # nothing of it is sent on sign-in, and everything is there after a crash
    engine.kill9()
    engine.restart()
    desk = sign_in('alice', 'desk')
    assert ids(items(desk, node)) == [f'{room}@chat.example.com' for room in ('b', 'c', 'a')]
    listening(desk, node)
    desk.expect_none('message', within=0)
    # a node keeps one item unless asked for more
    for number in ('1', '2'):
        assert condition(publish(desk, 'urn:one', "<x xmlns='urn:one'/>", number)) is None
    assert ids(items(desk, 'urn:one')) == ['2']
    assert configured(desk, 'urn:one', max_items='1001') == 'not-acceptable'
    assert configured(desk, 'urn:one', access_model='everybody') == 'not-acceptable'
    assert configured(desk, 'urn:one', max_items='2', persist_items='0') is None
    assert ids(items(desk, 'urn:one')) == []


@proves('XMP-25')
def test_capabilities_cannot_be_forged_for_others(sign_in: SignIn) -> None:
    """An answer that does not fit its hash counts for the client that gave it, never for another (XEP-0115 5.4)."""
    alice, bob, carol = sign_in('alice'), sign_in('bob'), sign_in('carol')
    friends(bob, alice)
    friends(carol, alice)
    ver = verification([INFO, f'{MOOD}+notify'])
    interested(bob, ver=ver)
    interested(carol, ver=ver)
    asked(bob, ver, TUNE)  # a lie
    asked(carol, ver, MOOD)
    assert condition(publish(alice, TUNE, f"<tune xmlns='{TUNE}'/>")) is None
    assert condition(publish(alice, MOOD, f"<mood xmlns='{MOOD}'/>")) is None
    event(bob, TUNE, ALICE)
    event(carol, MOOD, ALICE)
    for client, other in ((bob, MOOD), (carol, TUNE)):  # the last item may come again when the hash becomes known
        client.sync()
        client.expect_none('message', within=0, has=f'{EVENT}items[@node="{other}"]')
    # an answer nobody asked for changes nothing
    bob.raw(f"<iq type='result' id='caps-0000000000000000' to='{data.DOMAIN}'><query xmlns='{INFO}'/></iq>")
    bob.sync()


def test_subscriptions_to_accounts(sign_in: SignIn) -> None:
    alice, bob = sign_in('alice'), sign_in('bob')
    assert condition(publish(alice, 'urn:blog', "<e xmlns='urn:blog'/>", '1', options(access_model='open'))) is None
    assert condition(publish(alice, 'urn:diary', "<e xmlns='urn:diary'/>", '1')) is None
    ask = f"<pubsub xmlns='{PUBSUB}'><subscribe node='urn:diary' jid='{BOB}'/></pubsub>"
    assert condition(bob.iq('set', ask, to=ALICE)) == 'not-authorized'
    ask = f"<pubsub xmlns='{PUBSUB}'><subscribe node='urn:blog' jid='{BOB}'/></pubsub>"
    answer = bob.iq('set', ask, to=ALICE)
    found = next(answer.iter(f'{{{PUBSUB}}}subscription'))
    assert (found.get('subscription'), found.get('jid')) == ('subscribed', BOB)
    event(bob, 'urn:blog', ALICE)  # the last item
    assert condition(publish(alice, 'urn:blog', "<e xmlns='urn:blog'/>", '2')) is None
    event(bob, 'urn:blog', ALICE)
    end = f"<pubsub xmlns='{PUBSUB}'><unsubscribe node='urn:blog' jid='{BOB}'/></pubsub>"
    assert condition(bob.iq('set', end, to=ALICE)) is None
    assert condition(bob.iq('set', end, to=ALICE)) == 'unexpected-request'
    assert condition(publish(alice, 'urn:blog', "<e xmlns='urn:blog'/>", '3')) is None
    bob.sync()
    bob.expect_none('message', within=0)


@proves('XMP-09')
def test_one_avatar_for_all_clients(sign_in: SignIn) -> None:
    """XEP-0398: set by publish-subscribe, read from the vCard and the presence, and the other way round."""
    alice, bob = sign_in('alice'), sign_in('bob')
    quote = '"'
    friends(bob, alice)
    listening(bob, 'urn:xmpp:avatar:metadata')
    image = b'\x89PNG not really' + quote.encode()
    digest = hashlib.sha1(image, usedforsecurity=False).hexdigest()
    text = base64.b64encode(image).decode()
    update = '{vcard-temp:x:update}x'
    content = f"<data xmlns='urn:xmpp:avatar:data'>{text}</data>"
    assert condition(publish(alice, 'urn:xmpp:avatar:data', content, digest)) is None
    info = f"<info id='{digest}' bytes='{len(image)}' type='image/png'/>"
    content = f"<metadata xmlns='urn:xmpp:avatar:metadata'>{info}</metadata>"
    assert condition(publish(alice, 'urn:xmpp:avatar:metadata', content, digest)) is None
    event(bob, 'urn:xmpp:avatar:metadata', ALICE)
    seen = bob.expect('presence', from_=alice.jid, has=update)
    assert seen.findtext(f'{update}/{{vcard-temp:x:update}}photo') == digest
    card = bob.iq('get', "<vCard xmlns='vcard-temp'/>", to=ALICE)
    assert card.findtext('.//{vcard-temp}BINVAL') == text
    assert card.findtext('.//{vcard-temp}TYPE') == 'image/png'
    # later presence and later clients carry it too, but a client's own word stands
    alice.available(show='away')
    assert bob.expect('presence', from_=alice.jid, where=lambda p: p.find('{jabber:client}show') is not None).find(
        update
    )
    own = f'<presence><x xmlns={quote}vcard-temp:x:update{quote}><photo>abc</photo></x></presence>'
    alice.raw(own)
    assert bob.expect('presence', from_=alice.jid, has=update).findtext('.//{vcard-temp:x:update}photo') == 'abc'
    alice.raw(f'<presence><x xmlns={quote}vcard-temp:x:update{quote}/></presence>')
    assert bob.expect('presence', from_=alice.jid, has=update).findtext('.//{vcard-temp:x:update}photo') == digest
    alice.available(to=BOB)
    bob.expect('presence', from_=alice.jid, has=update, where=lambda p: p.get('to') == BOB)
    # the vCard of an old client: everybody learns of the new picture
    image = b'GIF89a another'
    digest = hashlib.sha1(image, usedforsecurity=False).hexdigest()
    photo = f'<PHOTO><TYPE>image/gif</TYPE><BINVAL>{base64.b64encode(image).decode()}</BINVAL></PHOTO>'
    assert condition(alice.iq('set', f"<vCard xmlns='vcard-temp'><FN>A</FN>{photo}</vCard>")) is None
    found = event(bob, 'urn:xmpp:avatar:metadata', ALICE)
    assert next(found.iter('{urn:xmpp:avatar:metadata}info')).attrib == {
        'id': digest, 'bytes': str(len(image)), 'type': 'image/gif',
    }  # fmt: skip
    assert bob.expect('presence', from_=alice.jid, has=update).findtext('.//{vcard-temp:x:update}photo') == digest
    answer = items(bob, 'urn:xmpp:avatar:data', ALICE)
    assert answer.findtext('.//{urn:xmpp:avatar:data}data') == base64.b64encode(image).decode()
    # a picture that is not what its id says is no avatar
    assert (
        condition(publish(alice, 'urn:xmpp:avatar:data', "<data xmlns='urn:xmpp:avatar:data'>eA==</data>", 'f' * 40))
        is None
    )
    lie = f"<metadata xmlns='urn:xmpp:avatar:metadata'><info id='{'f' * 40}' bytes='1' type='image/png'/></metadata>"
    assert condition(publish(alice, 'urn:xmpp:avatar:metadata', lie)) is None
    card = bob.iq('get', "<vCard xmlns='vcard-temp'/>", to=ALICE)
    assert card.findtext('.//{vcard-temp}BINVAL') == base64.b64encode(image).decode()
    assert card.findtext('.//{vcard-temp}FN') == 'A'
    # taken away
    assert condition(publish(alice, 'urn:xmpp:avatar:metadata', "<metadata xmlns='urn:xmpp:avatar:metadata'/>")) is None
    assert bob.expect('presence', from_=alice.jid, has=update).findtext('.//{vcard-temp:x:update}photo') == ''
    card = bob.iq('get', "<vCard xmlns='vcard-temp'/>", to=ALICE)
    assert card.find('.//{vcard-temp}PHOTO') is None
    assert card.findtext('.//{vcard-temp}FN') == 'A'


def test_limits_and_hostile_requests(sign_in: SignIn) -> None:
    parameter('xcp_router', 'pubsub_nodes_per_owner', 5)
    parameter('xcp_router', 'pubsub_payload_bytes', 2000)
    parameter('xcp_router', 'pubsub_bytes_per_owner', 65536)
    alice = sign_in('alice')
    for number in range(5):
        assert condition(publish(alice, f'urn:{number}', "<x xmlns='x'/>", 'a', options(max_items='max'))) is None
    assert condition(publish(alice, 'urn:5', "<x xmlns='x'/>", 'a')) == 'resource-constraint'
    large = publish(alice, 'urn:0', f"<x xmlns='x'>{'y' * 2000}</x>", 'b')
    assert (condition(large), specific(large)) == ('not-acceptable', 'payload-too-big')
    text = f"<x xmlns='x'>{'y' * 1900}</x>"
    answers = [condition(publish(alice, 'urn:0', text, f'i{number}')) for number in range(36)]
    assert answers[0] is None
    assert answers[-1] == 'resource-constraint'
    assert condition(publish(alice, 'urn:0', "<x xmlns='x'/>", 'i' * 100_000)) == 'not-acceptable'
    assert condition(publish(alice, 'n' * 100_000, "<x xmlns='x'/>", 'i')) == 'not-acceptable'
    for bad, expected in (
        ('', 'bad-request'),
        ('<publish/>', 'bad-request'),
        ("<publish node='urn:0'/>", 'bad-request'),
        ("<publish node='urn:0'><item/></publish>", 'bad-request'),
        ("<publish node='urn:0'><item><a xmlns='a'/><b xmlns='b'/></item></publish>", 'bad-request'),
        ("<publish node='urn:0'><item>text</item></publish>", 'bad-request'),
        ("<publish node='urn:0'><thing/></publish>", 'bad-request'),
        ("<publish node='urn:0'><item id='a'><a xmlns='a'/></item></publish><retract node='urn:0'/>", 'bad-request'),
        ("<retract node='urn:0'><item/></retract>", 'bad-request'),
        ("<retract node='urn:0'><item id='none'/></retract>", 'item-not-found'),
        ("<subscribe node='urn:0' jid='bob@example.com'/>", 'bad-request'),
        ("<items node='urn:0'/>", 'bad-request'),
        ('<collection/>', 'feature-not-implemented'),
    ):
        answer = alice.iq('set', f"<pubsub xmlns='{PUBSUB}'>{bad}</pubsub>")
        assert condition(answer) == expected, bad
    for bad in (
        "<configure node='urn:0'/>", "<configure node='urn:0'><x xmlns='jabber:x:data' type='form'/></configure>",
        "<configure node='urn:0'><x xmlns='jabber:x:data' type='submit'><field><value/></field></x></configure>",
    ):  # fmt: skip
        answer = alice.iq('set', f"<pubsub xmlns='{OWNER}'>{bad}</pubsub>")
        assert condition(answer) == 'not-acceptable', bad
    rsm = "<set xmlns='http://jabber.org/protocol/rsm'><max>{}</max>{}</set>"
    assert condition(items(alice, 'urn:0', inside=rsm.format('x', ''))) == 'bad-request'
    assert condition(items(alice, 'urn:0', inside=rsm.format(2, '<after>nope</after>'))) == 'item-not-found'
    first = items(alice, 'urn:0', inside=rsm.format(2, ''))
    assert len(ids(first)) == 2
    second = items(alice, 'urn:0', inside=rsm.format(2, f'<after>{ids(first)[-1]}</after>'))
    assert len(ids(second)) == 2
    assert not set(ids(first)) & set(ids(second))
    last = items(alice, 'urn:0', inside=rsm.format(1, '<before/>'))
    count = int(last.findtext('.//{http://jabber.org/protocol/rsm}count') or 0)
    assert next(last.iter('{http://jabber.org/protocol/rsm}first')).get('index') == str(count - 1)
    # odd but right: prefixes and inherited namespaces arrive as they were meant
    odd = (
        f"<p:pubsub xmlns:p='{PUBSUB}' xmlns:q='urn:q' xmlns='urn:d'><p:publish node='urn:1'><p:item id='odd'>"
        '<thing q:a="1"><q:inner/><![CDATA[<&>]]></thing></p:item></p:publish></p:pubsub>'
    )
    assert condition(alice.iq('set', odd)) is None
    thing = items(alice, 'urn:1', inside='', attributes='').find('.//{urn:d}thing')
    assert thing is not None
    assert thing.attrib == {'{urn:q}a': '1'}
    assert [child.tag for child in thing] == ['{urn:q}inner']
    assert 'publisher' not in next(items(alice, 'urn:1').iter(f'{{{PUBSUB}}}item')).attrib


@proves('XMP-25', 'XMP-20')
def test_an_unrelated_client_library(sign_in: SignIn) -> None:
    """slixmpp with its plugins for capabilities, personal events, avatars and nick names."""
    alice, bob = sign_in('alice'), sign_in('bob')
    friends(bob, alice)
    heard: list[str] = []

    async def listen() -> None:
        xmpp = bob.xmpp
        for name in ('xep_0115', 'xep_0163', 'xep_0084', 'xep_0172', 'xep_0107'):
            xmpp.register_plugin(name)
        for name in ('avatar_metadata_publish', 'user_nick_publish', 'user_mood_publish'):
            xmpp.add_event_handler(name, lambda _message, name=name: heard.append(name))
        for node in ('urn:xmpp:avatar:metadata', 'http://jabber.org/protocol/nick', MOOD):
            await xmpp.plugin['xep_0030'].add_feature(f'{node}+notify')
        await xmpp.plugin['xep_0115'].update_caps(broadcast=False)
        xmpp.send_presence()

    async def speak() -> None:
        xmpp = alice.xmpp
        for name in ('xep_0163', 'xep_0084', 'xep_0172', 'xep_0107'):
            xmpp.register_plugin(name)
        await xmpp.plugin['xep_0107'].publish_mood('happy')
        await xmpp.plugin['xep_0172'].publish_nick('Al')
        image = b'\x89PNG'
        await xmpp.plugin['xep_0084'].publish_avatar(image)
        digest = hashlib.sha1(image, usedforsecurity=False).hexdigest()
        await xmpp.plugin['xep_0084'].publish_avatar_metadata({'id': digest, 'type': 'image/png', 'bytes': len(image)})
        got = await xmpp.plugin['xep_0084'].retrieve_avatar(ALICE, digest)
        assert got['pubsub']['items']['item']['avatar_data']['value'] == image

    asyncio.run_coroutine_threadsafe(listen(), bob.xmpp.loop).result(20)
    bob.expect('presence', from_=bob.jid, has=f'{{{CAPS}}}c')
    bob.sync()
    bob.sync()  # the server's question was answered
    asyncio.run_coroutine_threadsafe(speak(), alice.xmpp.loop).result(20)
    wait_until(lambda: len(heard) == 3, f'three events, {heard}')
    assert set(heard) == {'avatar_metadata_publish', 'user_nick_publish', 'user_mood_publish'}


def test_thousands_of_nodes(sign_in: SignIn) -> None:
    """As many nodes as one may have, made as fast as a client can: bounded, and others notice nothing."""
    alice, bob = sign_in('alice'), sign_in('bob')
    parameter('xcp_router', 'pubsub_nodes_per_owner', 100)
    in_force()
    for number in range(300):
        payload = "<x xmlns='urn:x'/>"
        inside = f"<publish node='n{number}'><item id='i'>{payload}</item></publish>"
        alice.raw(f"<iq type='set' id='p{number}'><pubsub xmlns='{PUBSUB}'>{inside}</pubsub></iq>")
    bob.say(ALICE, 'still there?')
    alice.expect('message', body='still there?')
    assert alice.expect('iq', id='p99').get('type') == 'result'
    assert condition(alice.expect('iq', id='p299')) == 'resource-constraint'
    listed = alice.iq('get', "<query xmlns='http://jabber.org/protocol/disco#items'/>")
    assert len([item for item in listed.iter() if item.get('node')]) == 100


@proves('XMP-25')
def test_blocked_contacts_and_owners_who_are_away(sign_in: SignIn) -> None:
    """Somebody who comes online gets the last items of contacts who are not signed in, but not past a block list."""
    alice, bob, carol = sign_in('alice'), sign_in('bob'), sign_in('carol')
    friends(bob, alice)
    friends(carol, alice)
    listening(bob, MOOD)
    interested(carol, MOOD)
    block = f"<block xmlns='urn:xmpp:blocking'><item jid='{BOB}'/></block>"
    assert condition(alice.iq('set', block)) is None
    assert condition(publish(alice, MOOD, f"<mood xmlns='{MOOD}'><happy/></mood>", 'a')) is None
    event(carol, MOOD, ALICE)
    bob.sync()
    bob.expect_none('message', within=0)
    assert condition(items(bob, MOOD, ALICE)) == 'service-unavailable'
    alice.close()
    carol.expect('presence', type='unavailable', from_=alice.jid)
    tablet, phone = sign_in('bob', 'tablet'), sign_in('carol', 'phone')
    interested(tablet, MOOD)
    interested(phone, MOOD)
    event(phone, MOOD, ALICE)
    tablet.sync()
    tablet.expect_none('message', within=0.2)
    assert condition(items(tablet, MOOD, ALICE)) == 'service-unavailable'
    assert ids(items(phone, MOOD, ALICE)) == ['a']
