"""What the server keeps for a client: offline messages one by one (XEP-0013), private data (XEP-0049); and what it
must not touch on the way: OOB data (XEP-0066), XHTML-IM (XEP-0071), escaped addresses (XEP-0106)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engine.xmpp import datetimes
from tests.areas.xmpp_fixtures import address, ensure, in_force, parameter, sign_in
from tests.fixtures import data
from tests.proves import proves
from tests.xmppclient import CLIENT, XmppClient, _run, body, condition, error_text

__all__ = ['sign_in']

OFFLINE = 'http://jabber.org/protocol/offline'
INFO = 'http://jabber.org/protocol/disco#info'
ITEMS = 'http://jabber.org/protocol/disco#items'
FIELD = '{jabber:x:data}field'
SignIn = Callable[..., XmppClient]


def count(client: XmppClient) -> int:
    """How many messages wait, as service discovery says."""
    query = client.iq('get', f"<query xmlns='{INFO}' node='{OFFLINE}'/>")[0]
    fields = {entry.get('var'): entry.findtext('{jabber:x:data}value') for entry in query.iter(FIELD)}
    assert fields['FORM_TYPE'] == OFFLINE
    return int(fields['number_of_messages'] or '')


def headers(client: XmppClient) -> list[tuple[str, str]]:
    query = client.iq('get', f"<query xmlns='{ITEMS}' node='{OFFLINE}'/>")[0]
    assert {entry.get('jid') for entry in query} <= {client.bare}
    return [(entry.get('node', ''), entry.get('name', '')) for entry in query]


def offline(client: XmppClient, kind: str, inside: str, to: str = '') -> Any:
    return client.iq(kind, f"<offline xmlns='{OFFLINE}'>{inside}</offline>", to=to)


@proves('XMP-05', 'XMP-14', 'XMP-16')
def test_offline_messages_one_by_one(sign_in: SignIn) -> None:
    """Spec 15: store 3, sign in with negative priority, count 3, fetch one by node, remove it, count 2."""
    sign_in('bob').close()
    alice = sign_in('alice', "a'1")
    for number in range(3):
        alice.say(address('bob'), f'waiting {number}')
    alice.sync()
    bob = sign_in('bob', 'one', priority=-1)
    features = bob.iq('get', f"<query xmlns='{INFO}'/>", to=data.DOMAIN)[0]
    assert OFFLINE in {entry.get('var') for entry in features}
    assert count(bob) == 3
    found = headers(bob)
    assert [sender for _, sender in found] == [alice.jid] * 3
    nodes = [node for node, _ in found]
    assert nodes == sorted(set(nodes))
    assert offline(bob, 'get', f"<item action='view' node='{nodes[1]}'/>").get('type') == 'result'
    message = bob.expect('message', body='waiting 1')
    item = message.find(f'{{{OFFLINE}}}offline/{{{OFFLINE}}}item')
    assert item is not None
    assert item.get('node') == nodes[1]
    delay = message.find('{urn:xmpp:delay}delay')
    assert delay is not None
    datetimes.parse(delay.attrib['stamp'])
    assert count(bob) == 3  # looking removes nothing
    assert offline(bob, 'set', f"<item action='remove' node='{nodes[1]}'/>").get('type') == 'result'
    assert count(bob) == 2

    # available now, and another client too: nobody is flooded, new messages come as usual
    bob.available(priority=1)
    other = sign_in('bob', 'two')
    alice.say(address('bob'), 'new')
    bob.expect('message', body='new')
    other.expect('message', body='new')
    other.expect_none('message')
    bob.expect_none('message')

    for inside, expected in (
        (f"<item action='view' node='{nodes[1]}'/>", 'item-not-found'),
        (f"<item action='view' node='{nodes[0]}'/><item action='view' node='7'/>", 'item-not-found'),
        (f"<item action='remove' node='{nodes[0]}'/>", 'bad-request'),
        ('<purge/>', 'bad-request'),
        ('', 'bad-request'),
        ("<item action='view' node='x'/>" * 1001, 'bad-request'),
    ):
        assert condition(offline(bob, 'get', inside)) == expected, inside
    assert condition(offline(bob, 'set', f"<item action='remove' node='{nodes[1]}'/>")) == 'item-not-found'
    assert condition(offline(alice, 'get', '<fetch/>', to=address('bob'))) == 'forbidden'
    request = f"<query xmlns='{INFO}' node='{OFFLINE}'/>"
    assert condition(alice.iq('get', request, to=address('bob'))) == 'forbidden'
    bob.expect_none('message')

    assert offline(bob, 'get', '<fetch/>').get('type') == 'result'
    assert [body(bob.expect('message')) for _ in range(2)] == ['waiting 0', 'waiting 2']
    bob.close()
    other.close()
    late = sign_in('bob', 'three', available=False)  # what was not removed comes with the next client that does not ask
    late.available()
    late.expect('message', body='waiting 0')
    late.expect('message', body='waiting 2')
    late.sync()
    late.close()
    alice.say(address('bob'), 'once more')
    alice.sync()
    bob = sign_in('bob', 'four', available=False)
    assert count(bob) == 1
    assert offline(bob, 'set', '<purge/>').get('type') == 'result'
    assert headers(bob) == []


def test_a_client_library_does_it_its_own_way(sign_in: SignIn) -> None:
    """slixmpp's plugins for XEP-0013 and XEP-0191, as its users write them."""
    sign_in('bob').close()
    alice = sign_in('alice')
    for number in range(3):
        alice.say(address('bob'), f'waiting {number}')
    alice.sync()
    bob = sign_in('bob', available=False)
    for name in ('xep_0013', 'xep_0191'):
        bob.xmpp.register_plugin(name)

    async def read() -> list[str]:
        plugin = bob.xmpp.plugin['xep_0013']
        headers = (await plugin.get_headers())['disco_items']['items']
        nodes = [node for _jid, node, _name in sorted(headers)]
        await plugin.view(nodes[:1], callback=lambda iq: None)
        await plugin.remove(nodes[1])
        await plugin.fetch(callback=lambda iq: None)
        return nodes

    async def block() -> set[str]:
        plugin = bob.xmpp.plugin['xep_0191']
        await plugin.block(['spam.example', 'x@y.example'])
        await plugin.unblock('x@y.example')
        return {str(one) for one in await plugin.get_blocked_jids()}

    assert len(_run(read())) == 3
    assert [body(bob.expect('message')) for _ in range(3)] == ['waiting 0', 'waiting 0', 'waiting 2']
    assert _run(block()) == {'spam.example'}


def private(client: XmppClient, kind: str, inside: str, to: str = '') -> Any:
    return client.iq(kind, f"<query xmlns='jabber:iq:private'>{inside}</query>", to=to)


def test_private_data(sign_in: SignIn, make_user: Callable[..., Any]) -> None:
    """XEP-0049: kept by namespace and name, for the user alone, within limits."""
    ensure(make_user, 'bob')
    alice = sign_in('alice')
    assert len(private(alice, 'get', "<storage xmlns='storage:bookmarks'/>")[0][0]) == 0
    room = "<conference name='R&amp;D &#10; 你好' jid='a@b'><nick>x</nick></conference>"
    kept = f"<storage xmlns='storage:bookmarks'>{room}</storage>"
    assert private(alice, 'set', kept).get('type') == 'result'
    alice.close()
    alice = sign_in('alice')
    found = private(alice, 'get', "<storage xmlns='storage:bookmarks'/>")[0][0]
    assert found.tag == '{storage:bookmarks}storage'
    assert found[0].get('name') == 'R&D \n 你好'
    assert private(alice, 'set', "<storage xmlns='storage:bookmarks'/>").get('type') == 'result'
    assert len(private(alice, 'get', "<storage xmlns='storage:bookmarks'/>")[0][0]) == 0
    parameter('xcp_router', 'private_data_elements', 3)
    parameter('xcp_router', 'private_data_kib', 1)
    in_force()
    for inside, expected in (
        (''.join(f"<a{n} xmlns='x'/>" for n in range(3)), 'resource-constraint'),
        (f"<a xmlns='x'>{'y' * 1100}</a>", 'resource-constraint'),
        ('<a/>', 'not-acceptable'),
        ('', 'bad-request'),
    ):
        answer = private(alice, 'set', inside)
        assert condition(answer) == expected, error_text(answer)
    assert len(private(alice, 'get', "<a0 xmlns='x'/>")[0][0]) == 0
    assert condition(private(alice, 'get', "<a xmlns='x'/><b xmlns='x'/>")) == 'bad-request'
    assert condition(private(alice, 'get', "<a xmlns='x'/>", to=address('bob'))) == 'forbidden'
    assert condition(private(alice, 'set', "<a xmlns='x'/>", to=address('bob'))) == 'forbidden'


@proves('XMP-15')
def test_content_passes_untouched(sign_in: SignIn) -> None:
    """XHTML bodies with styles and OOB data arrive as they were sent, at once and from the offline store; an OOB
    request is answered by the client it is for."""
    xhtml = (
        "<html xmlns='http://jabber.org/protocol/xhtml-im'><body xmlns='http://www.w3.org/1999/xhtml'>"
        "<p style='font-weight:bold; color: red'>hi &amp; <em>bye</em><br/><img src='cid:1@x' alt='\"'/></p>"
        '</body></html>'
    )
    oob = "<x xmlns='jabber:x:oob'><url>http://www.example.com/?a=1&amp;b=2</url><desc>D &lt; E</desc></x>"
    alice, bob = sign_in('alice'), sign_in('bob')
    alice.say(bob.bare, 'hi & bye', extra=xhtml + oob)
    at_once = bob.expect('message', body='hi & bye')
    bob.close()
    alice.say(address('bob'), 'hi & bye', extra=xhtml + oob)
    alice.sync()
    late = sign_in('bob')
    for message in (at_once, late.expect('message', body='hi & bye')):
        html = message.find('{http://jabber.org/protocol/xhtml-im}html')
        assert html is not None
        paragraph = html[0][0]
        assert paragraph.attrib == {'style': 'font-weight:bold; color: red'}
        assert ''.join(paragraph.itertext()) == 'hi & bye'
        assert paragraph[2].attrib == {'src': 'cid:1@x', 'alt': '"'}
        assert message.findtext('{jabber:x:oob}x/{jabber:x:oob}url') == 'http://www.example.com/?a=1&b=2'
        assert message.findtext('{jabber:x:oob}x/{jabber:x:oob}desc') == 'D < E'

    url = "<query xmlns='jabber:iq:oob'><url>http://x.example/</url></query>"
    late.raw(f"<iq type='set' id='oob' to='{alice.jid}'>{url}</iq>")
    request = alice.expect('iq', type='set', id='oob', from_=late.jid)
    assert request.findtext('{jabber:iq:oob}query/{jabber:iq:oob}url') == 'http://x.example/'
    answer = late.expect('iq', type='error', id='oob')  # what slixmpp says to what it does not know
    assert (condition(answer), answer.get('from')) == ('feature-not-implemented', alice.jid)


@proves('XMP-18')
def test_escaped_addresses(sign_in: SignIn, make_user: Callable[..., Any]) -> None:
    """User IDs with characters that an address cannot hold sign in, are found and talk under their escaped address."""
    make_user('d@artagnan')
    make_user('space cadet')
    make_user(r'c\5ccat')
    names = {r'd\40artagnan': 'd@artagnan', r'space\20cadet': 'space cadet', r'c\5c5ccat': r'c\5ccat'}
    clients = {local: sign_in(local, domain=data.DOMAIN) for local in names}
    features = clients[r'd\40artagnan'].iq('get', f"<query xmlns='{INFO}'/>", to=data.DOMAIN)[0]
    assert r'jid\20escaping' in {entry.get('var') for entry in features}
    for local, client in clients.items():
        assert client.bare == f'{local}@{data.DOMAIN}'
        for other in clients.values():
            client.say(other.bare, f'to {other.bare}')
            received = other.expect('message', body=f'to {other.bare}', from_=client.jid)
            assert received.tag == f'{CLIENT}message'
