"""The publish-subscribe service (XEP-0060) at pubsub.DOMAIN, with slixmpp's own plugin and with raw requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from xml.etree.ElementTree import Element, SubElement

import pytest
from slixmpp.exceptions import IqError

from tests.areas.test_xmpp_pep import (
    INFO,
    OWNER,
    PUBSUB,
    configured,
    event,
    form,
    friends,
    ids,
    items,
    publish,
    specific,
)
from tests.areas.xmpp_fixtures import address, parameter, sign_in
from tests.fixtures import data
from tests.proves import proves
from tests.xmppclient import XmppClient, condition

__all__ = ['sign_in']
SignIn = Callable[..., XmppClient]
ALICE, BOB, CAROL = address('alice'), address('bob'), address('carol')
SERVICE = f'pubsub.{data.DOMAIN}'
ITEMS = 'http://jabber.org/protocol/disco#items'
ENTRY = "<entry xmlns='http://www.w3.org/2005/Atom'><title>{}</title></entry>"


def create(client: XmppClient, node: str, **fields: str) -> str | None:
    """Make a node; the error condition or None."""
    configure = f'<configure>{form("node_config", **fields)}</configure>' if fields else ''
    action = f"<create node='{node}'/>{configure}"
    return condition(client.iq('set', f"<pubsub xmlns='{PUBSUB}'>{action}</pubsub>", to=SERVICE))


def subscribe(client: XmppClient, node: str, jid: str = '') -> Element:
    """Subscribe; the answer."""
    action = f"<subscribe node='{node}' jid='{jid or client.bare}'/>"
    return client.iq('set', f"<pubsub xmlns='{PUBSUB}'>{action}</pubsub>", to=SERVICE)


def owner(client: XmppClient, kind: str, action: str) -> Element:
    """A request of an owner; the answer."""
    return client.iq(kind, f"<pubsub xmlns='{OWNER}'>{action}</pubsub>", to=SERVICE)


def state(answer: Element) -> str | None:
    """The state of the subscription in an answer."""
    return next(answer.iter(f'{{{PUBSUB}}}subscription')).get('subscription')


def affiliate(client: XmppClient, node: str, jid: str, value: str) -> str | None:
    """Change an affiliation; the error condition or None."""
    change = f"<affiliations node='{node}'><affiliation jid='{jid}' affiliation='{value}'/></affiliations>"
    return condition(owner(client, 'set', change))


@proves('XMP-11')
def test_discovery_publication_and_retrieval(sign_in: SignIn, engine: Any) -> None:
    alice, bob = sign_in('alice'), sign_in('bob')
    found = alice.iq('get', f"<query xmlns='{ITEMS}'/>", to=data.DOMAIN)
    assert SERVICE in {item.get('jid') for item in found.iter(f'{{{ITEMS}}}item')}
    about = alice.iq('get', f"<query xmlns='{INFO}'/>", to=SERVICE)
    identity = next(about.iter(f'{{{INFO}}}identity'))
    assert (identity.get('category'), identity.get('type')) == ('pubsub', 'service')
    features = {feature.get('var') for feature in about.iter(f'{{{INFO}}}feature')}
    assert {PUBSUB, f'{PUBSUB}#access-whitelist', f'{PUBSUB}#persistent-items', f'{PUBSUB}#rsm'} <= features
    assert create(alice, 'news', title='News of the day', max_items='3') is None
    assert create(alice, 'news') == 'conflict'
    assert create(bob, 'news') == 'conflict'
    meta = bob.iq('get', f"<query xmlns='{INFO}' node='news'/>", to=SERVICE)
    values = {field.get('var'): field.findtext('{jabber:x:data}value') for field in meta.iter('{jabber:x:data}field')}
    assert values['pubsub#title'] == 'News of the day'
    assert values['pubsub#creator'] == ALICE
    assert state(subscribe(bob, 'news')) == 'subscribed'
    assert condition(publish(bob, 'news', ENTRY.format('x'), to=SERVICE)) == 'forbidden'
    for number in range(4):
        assert ids(publish(alice, 'news', ENTRY.format(number), f'i{number}', to=SERVICE)) == [f'i{number}']
        got = event(bob, 'news', SERVICE)
        assert got.findtext('.//{http://www.w3.org/2005/Atom}title') == str(number)
    assert ids(items(bob, 'news', SERVICE)) == ['i1', 'i2', 'i3']
    assert ids(items(bob, 'news', SERVICE, attributes=" max_items='2'")) == ['i2', 'i3']
    one = f"<pubsub xmlns='{PUBSUB}'><items node='news'><item id='i2'/></items></pubsub>"
    assert ids(bob.iq('get', one, to=SERVICE)) == ['i2']
    listed = bob.iq('get', f"<query xmlns='{ITEMS}' node='news'/>", to=SERVICE)
    assert {item.get('name') for item in listed.iter(f'{{{ITEMS}}}item')} == {'i1', 'i2', 'i3'}
    # an owner removes an item, then all, then the node; subscribers hear it
    retract = f"<pubsub xmlns='{PUBSUB}'><retract node='news' notify='1'><item id='i1'/></retract></pubsub>"
    assert condition(bob.iq('set', retract, to=SERVICE)) == 'forbidden'
    assert condition(alice.iq('set', retract, to=SERVICE)) is None
    assert event(bob, 'news', SERVICE).find('.//{http://jabber.org/protocol/pubsub#event}retract') is not None
    # everything acknowledged survives a crash
    engine.kill9()
    engine.restart()
    alice, bob = sign_in('alice'), sign_in('bob')
    assert ids(items(bob, 'news', SERVICE)) == ['i2', 'i3']
    assert ids(publish(alice, 'news', ENTRY.format('after'), 'i9', to=SERVICE)) == ['i9']
    event(bob, 'news', SERVICE)
    for verb in ('purge', 'delete'):
        assert condition(owner(bob, 'set', f"<{verb} node='news'/>")) == 'forbidden'
        assert condition(owner(alice, 'set', f"<{verb} node='news'/>")) is None
        event(bob, 'news', SERVICE)
    assert condition(items(bob, 'news', SERVICE)) == 'item-not-found'
    assert condition(publish(alice, 'news', ENTRY.format('x'), to=SERVICE)) == 'item-not-found'
    # instant nodes
    made = alice.iq('set', f"<pubsub xmlns='{PUBSUB}'><create/></pubsub>", to=SERVICE)
    name = next(made.iter(f'{{{PUBSUB}}}create')).attrib['node']
    assert ids(publish(alice, name, ENTRY.format('x'), 'a', to=SERVICE)) == ['a']


@proves('XMP-11')
def test_access_models_and_affiliations(sign_in: SignIn) -> None:
    alice, bob, carol = sign_in('alice'), sign_in('bob'), sign_in('carol')
    assert create(alice, 'closed', access_model='whitelist') is None
    assert ids(publish(alice, 'closed', ENTRY.format('x'), 'a', to=SERVICE)) == ['a']
    for refused in (subscribe(bob, 'closed'), items(bob, 'closed', SERVICE)):
        assert (condition(refused), specific(refused)) == ('not-allowed', 'closed-node')
    assert affiliate(bob, 'closed', BOB, 'member') == 'forbidden'
    assert affiliate(alice, 'closed', BOB, 'member') is None
    assert bob.expect('message', from_=SERVICE, has=f'{{{PUBSUB}}}affiliation') is not None
    assert state(subscribe(bob, 'closed')) == 'subscribed'
    event(bob, 'closed', SERVICE)  # the last item, because bob subscribed
    assert ids(items(bob, 'closed', SERVICE)) == ['a']
    assert condition(publish(bob, 'closed', ENTRY.format('x'), to=SERVICE)) == 'forbidden'
    assert affiliate(alice, 'closed', BOB, 'publisher') is None
    assert ids(publish(bob, 'closed', ENTRY.format('x'), 'b', to=SERVICE)) == ['b']
    event(bob, 'closed', SERVICE)
    mine = bob.iq('get', f"<pubsub xmlns='{PUBSUB}'><affiliations/></pubsub>", to=SERVICE)
    assert next(mine.iter(f'{{{PUBSUB}}}affiliation')).attrib == {'node': 'closed', 'affiliation': 'publisher'}
    assert affiliate(alice, 'closed', BOB, 'outcast') is None
    assert condition(items(bob, 'closed', SERVICE)) == 'forbidden'
    gone = bob.iq('get', f"<pubsub xmlns='{PUBSUB}'><subscriptions/></pubsub>", to=SERVICE)
    assert not list(gone.iter(f'{{{PUBSUB}}}subscription'))
    assert affiliate(alice, 'closed', BOB, 'king') == 'bad-request'
    assert affiliate(alice, 'closed', 'a@@b', 'member') == 'jid-malformed'
    assert affiliate(alice, 'closed', ALICE, 'none') == 'not-acceptable'  # an owner must remain
    assert affiliate(alice, 'closed', CAROL, 'owner') is None
    assert affiliate(carol, 'closed', ALICE, 'none') is None
    assert configured(alice, 'closed', SERVICE, title='mine') == 'forbidden'
    shown = owner(carol, 'get', "<affiliations node='closed'/>")
    assert {(a.get('jid'), a.get('affiliation')) for a in shown.iter(f'{{{OWNER}}}affiliation')} == {
        (BOB, 'outcast'), (CAROL, 'owner'),
    }  # fmt: skip
    # by the contact list of the creator
    assert create(alice, 'seen', access_model='presence') is None
    refused = subscribe(bob, 'seen')
    assert (condition(refused), specific(refused)) == ('not-authorized', 'presence-subscription-required')
    friends(bob, alice)
    assert state(subscribe(bob, 'seen')) == 'subscribed'
    assert create(alice, 'group', access_model='roster', roster_groups_allowed='Team') is None
    assert specific(subscribe(bob, 'group')) == 'not-in-roster-group'
    assert alice.add_contact(BOB, groups=('Team',)) is None
    assert state(subscribe(bob, 'group')) == 'subscribed'
    alice.presence('unsubscribed', to=BOB)
    bob.expect('presence', type='unsubscribed')
    assert ids(publish(alice, 'seen', ENTRY.format('x'), 'a', to=SERVICE)) == ['a']
    bob.sync()
    bob.expect_none('message', within=0, from_=SERVICE, has='{http://jabber.org/protocol/pubsub#event}event')
    # publish models
    assert create(alice, 'talk', publish_model='subscribers', itemreply='publisher') is None
    assert condition(publish(carol, 'talk', ENTRY.format('x'), 'c', to=SERVICE)) == 'forbidden'
    assert state(subscribe(carol, 'talk')) == 'subscribed'
    forged = f"<publish node='talk'><item id='c' publisher='{ALICE}'>{ENTRY.format('x')}</item></publish>"
    assert ids(carol.iq('set', f"<pubsub xmlns='{PUBSUB}'>{forged}</pubsub>", to=SERVICE)) == ['c']
    assert event(carol, 'talk', SERVICE).find('*/*').get('publisher') == CAROL  # type: ignore[union-attr]
    assert next(items(bob, 'talk', SERVICE).iter(f'{{{PUBSUB}}}item')).get('publisher') == CAROL


@proves('XMP-11')
def test_subscriptions_and_their_approval(sign_in: SignIn) -> None:
    alice, bob, carol = sign_in('alice'), sign_in('bob', 'desk'), sign_in('carol')
    assert create(alice, 'ask', access_model='authorize') is None
    assert ids(publish(alice, 'ask', ENTRY.format('x'), 'a', to=SERVICE)) == ['a']
    for client, allow in ((bob, '1'), (carol, '0')):
        assert state(subscribe(client, 'ask')) == 'pending'
        assert condition(items(client, 'ask', SERVICE)) == 'not-authorized'
        question = alice.expect('message', from_=SERVICE, has='{jabber:x:data}x')
        fields = {f.get('var'): f.findtext('{jabber:x:data}value') for f in question.iter('{jabber:x:data}field')}
        assert fields['pubsub#subscriber_jid'] == client.bare
        answer = ''.join(
            f"<field var='{var}'><value>{allow if var == 'pubsub#allow' else value}</value></field>"
            for var, value in fields.items()
        )
        forged = f"<message to='{SERVICE}'><x xmlns='jabber:x:data' type='submit'>{answer}</x></message>"
        client.raw(forged.replace('<value>0<', '<value>1<'))  # nobody approves himself
        assert condition(client.expect('message', type='error', from_=SERVICE)) == 'forbidden'
        alice.raw(forged)
        told = client.expect('message', from_=SERVICE, has=f'{{{PUBSUB}}}subscription')
        assert state(told) == ('subscribed' if allow == '1' else 'none')
    assert ids(items(bob, 'ask', SERVICE)) == ['a']
    assert condition(items(carol, 'ask', SERVICE)) == 'not-authorized'
    # options: no deliveries for a while
    get = f"<pubsub xmlns='{PUBSUB}'><options node='ask' jid='{BOB}'/></pubsub>"
    shown = bob.iq('get', get, to=SERVICE)
    assert shown.find(".//{jabber:x:data}field[@var='pubsub#deliver']/{jabber:x:data}value").text == '1'  # type: ignore[union-attr]
    off = f"<options node='ask' jid='{BOB}'>{form('subscribe_options', deliver='0')}</options>"
    assert condition(bob.iq('set', f"<pubsub xmlns='{PUBSUB}'>{off}</pubsub>", to=SERVICE)) is None
    assert ids(publish(alice, 'ask', ENTRY.format('x'), 'b', to=SERVICE)) == ['b']
    bob.sync()
    bob.expect_none('message', within=0, from_=SERVICE)
    bad = f"<options node='ask' jid='{BOB}'>{form('subscribe_options', digest='1')}</options>"
    assert specific(bob.iq('set', f"<pubsub xmlns='{PUBSUB}'>{bad}</pubsub>", to=SERVICE)) == 'invalid-options'
    # one client only
    assert create(alice, 'one') is None
    other = sign_in('bob', 'other')
    assert state(subscribe(bob, 'one', bob.jid)) == 'subscribed'
    assert ids(publish(alice, 'one', ENTRY.format('x'), 'a', to=SERVICE)) == ['a']
    event(bob, 'one', SERVICE)
    other.sync()
    other.expect_none('message', within=0, from_=SERVICE)
    assert condition(subscribe(bob, 'one', CAROL)) == 'bad-request'
    assert condition(subscribe(bob, 'none')) == 'item-not-found'
    # what owners see and do
    shown = owner(alice, 'get', "<subscriptions node='one'/>")
    assert [entry.get('jid') for entry in shown.iter(f'{{{OWNER}}}subscription')] == [bob.jid]
    change = "<subscriptions node='one'><subscription jid='{}' subscription='{}'/></subscriptions>"
    assert condition(owner(alice, 'set', change.format(CAROL, 'subscribed'))) is None
    assert state(carol.expect('message', from_=SERVICE, has=f'{{{PUBSUB}}}subscription')) == 'subscribed'
    assert condition(owner(alice, 'set', change.format('victim@elsewhere.example', 'subscribed'))) == 'not-allowed'
    assert condition(owner(alice, 'set', change.format(bob.jid, 'none'))) is None
    assert ids(publish(alice, 'one', ENTRY.format('x'), 'b', to=SERVICE)) == ['b']
    event(carol, 'one', SERVICE)
    mine = carol.iq('get', f"<pubsub xmlns='{PUBSUB}'><subscriptions/></pubsub>", to=SERVICE)
    assert [entry.get('node') for entry in mine.iter(f'{{{PUBSUB}}}subscription')] == ['one']
    # who is no longer allowed is told so
    assert configured(alice, 'one', SERVICE, access_model='whitelist') is None
    assert state(carol.expect('message', from_=SERVICE, has=f'{{{PUBSUB}}}subscription')) == 'none'


@proves('XMP-11')
def test_an_unrelated_client_library(sign_in: SignIn) -> None:
    """slixmpp's XEP-0060 plugin does the whole life of a node."""
    alice, bob = sign_in('alice'), sign_in('bob')

    async def plugin(client: XmppClient) -> Any:
        client.xmpp.register_plugin('xep_0060')
        return client.xmpp.plugin['xep_0060']

    def entry(number: int) -> Element:
        element = Element('{http://www.w3.org/2005/Atom}entry')
        SubElement(element, '{http://www.w3.org/2005/Atom}title').text = str(number)
        return element

    async def life() -> None:
        mine, his = await plugin(alice), await plugin(bob)
        await mine.create_node(SERVICE, 'slix')
        config = await mine.get_node_config(SERVICE, 'slix')
        filled = config['pubsub_owner']['configure']['form']
        filled['type'] = 'submit'
        filled.set_values({'pubsub#title': 'By a library', 'pubsub#max_items': '5'})
        await mine.set_node_config(SERVICE, 'slix', filled)
        done = await his.subscribe(SERVICE, 'slix')
        assert done['pubsub']['subscription']['subscription'] == 'subscribed'
        for number in range(3):
            await mine.publish(SERVICE, 'slix', id=f'n{number}', payload=entry(number))
        got = await his.get_items(SERVICE, 'slix')
        assert [item['id'] for item in got['pubsub']['items']] == ['n0', 'n1', 'n2']
        await mine.retract(SERVICE, 'slix', 'n1')
        assert len((await his.get_items(SERVICE, 'slix'))['pubsub']['items']) == 2
        await his.unsubscribe(SERVICE, 'slix')
        await mine.purge(SERVICE, 'slix')
        await mine.delete_node(SERVICE, 'slix')
        with pytest.raises(IqError) as refused:
            await his.get_items(SERVICE, 'slix')
        assert refused.value.condition == 'item-not-found'

    asyncio.run_coroutine_threadsafe(life(), alice.xmpp.loop).result(20)
    for _ in range(3):
        event(bob, 'slix', SERVICE)


@proves('XMP-11')
def test_limits_paging_and_hostile_requests(sign_in: SignIn) -> None:
    parameter('xcp_router', 'pubsub_nodes_per_owner', 30)
    parameter('xcp_router', 'pubsub_subscriptions_per_node', 1)
    alice, bob, carol = sign_in('alice'), sign_in('bob'), sign_in('carol')
    for number in range(30):
        assert create(alice, f'n{number:02}') is None
    assert create(alice, 'more') == 'resource-constraint'
    assert create(bob, 'z' * 2000) == 'not-acceptable'
    assert state(subscribe(bob, 'n00')) == 'subscribed'
    assert state(subscribe(bob, 'n00')) == 'subscribed'
    assert specific(subscribe(carol, 'n00')) == 'too-many-subscriptions'
    seen: list[str | None] = []
    after = ''
    while True:
        rsm = f"<set xmlns='http://jabber.org/protocol/rsm'><max>12</max>{after}</set>"
        answer = carol.iq('get', f"<query xmlns='{ITEMS}'>{rsm}</query>", to=SERVICE)
        found = [item.get('node') for item in answer.iter(f'{{{ITEMS}}}item')]
        if not found:
            break
        seen += found
        after = f'<after>{answer.findtext(".//{http://jabber.org/protocol/rsm}last")}</after>'
    assert seen == [f'n{number:02}' for number in range(30)]
    for kind, payload in (
        ('get', "<query xmlns='jabber:iq:version'/>"), ('set', "<query xmlns='http://jabber.org/protocol/disco#info'/>"),
        ('get', f"<pubsub xmlns='{PUBSUB}'/>"), ('get', f"<pubsub xmlns='{PUBSUB}'><publish node='n00'/></pubsub>"),
        ('set', f"<pubsub xmlns='{OWNER}'><affiliations node='n00'><thing/></affiliations></pubsub>"),
        ('set', f"<pubsub xmlns='{PUBSUB}'><subscribe node='n01'/></pubsub>"),
        ('get', f"<pubsub xmlns='{PUBSUB}'><items node='n00' max_items='many'/></pubsub>"),
        ('get', f"<query xmlns='{ITEMS}'><set xmlns='http://jabber.org/protocol/rsm'><index>2</index></set></query>"),
    ):  # fmt: skip
        assert condition(alice.iq(kind, payload, to=SERVICE)) in ('bad-request', 'service-unavailable'), payload
    assert condition(alice.iq('get', f"<query xmlns='{INFO}'/>", to=f'somebody@{SERVICE}')) == 'service-unavailable'
    assert condition(alice.iq('get', "<ping xmlns='urn:xmpp:ping'/>", to=SERVICE)) is None
    alice.say(SERVICE, 'hello')
    assert condition(alice.expect('message', type='error', from_=SERVICE)) == 'service-unavailable'
    # many requests at once, without waiting for answers: each answered, in order, and others go on
    for number in range(300):
        alice.raw(
            f"<iq type='set' id='b{number}' to='{SERVICE}'><pubsub xmlns='{PUBSUB}'><publish node='n00'>"
            f"<item id='i{number % 7}'>{ENTRY.format('x' * 2000)}</item></publish></pubsub></iq>"
        )
    bob.sync()
    assert alice.expect('iq', id='b299').get('type') == 'result'
    parameter('xcp_router', 'pubsub_users_create_nodes', False)
    bob.sync()
