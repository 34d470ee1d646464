"""After bind: what a stanza looks like when it is delivered, what ends the stream, what an idle session holds."""

from __future__ import annotations

import gc
import random
import time
from datetime import UTC, datetime

import pytest

from engine.xmpp import stanza as xml
from engine.xmpp.c2s import ClientStream, Limits
from engine.xmpp.stanza import Stanza
from tests.xmpp.peer import BIND, OPEN, Peer, auth, bound, secure
from tests.xmpp.test_negotiation import ended

FROM = b" from='juliet@example.com/desk'"


@pytest.mark.parametrize(('sent', 'delivered'), [
    (b'<message/>', b'<message' + FROM + b'/>'),
    (b"<message to='a>b/>' />", b'<message' + FROM + b" to='a>b/>' />"),
    (b"<message to='a@b'><body>hi</body></message>", b'<message' + FROM + b" to='a@b'><body>hi</body></message>"),
    (b"<message\nto='a@b'\n></message >", b'<message' + FROM + b"\nto='a@b'\n></message >"),
    (b"<presence from='juliet@example.com'/>", b'<presence' + FROM + b'/>'),
    (b"<presence id=\" from='x'\" from = \"JULIET@Example.com/desk\" to='b'/>",
     b'<presence' + FROM + b" id=\" from='x'\" to='b'/>"),
    (b"<message xmlns='jabber:client'><x/></message>", b'<message' + FROM + b" xmlns='jabber:client'><x/></message>"),
    (b"<c:message xmlns:c='jabber:client' c:to='no' to='a'><c:body>&lt;</c:body>"
     b"<e:x xmlns:e='urn:e' e:y='1'/></c:message>",
     b'<message' + FROM + b" xmlns:a0='jabber:client' a0:to='no' to='a'><body>&lt;</body>"
     b"<x xmlns='urn:e' xmlns:a0='urn:e' a0:y='1'/></message>"),
    (b"<message><f xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' from='x@y'/></f></message>",
     b'<message' + FROM + b"><f xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' from='x@y'/></f></message>"),
    (b'<message><body><![CDATA[</message><message>]]></body></message>',
     b'<message' + FROM + b'><body><![CDATA[</message><message>]]></body></message>'),
    (b"<message xmlns:s='urn:s'><s:b/></message>", b'<message' + FROM + b" xmlns:s='urn:s'><s:b/></message>"),
])  # fmt: skip
def test_a_stanza_in_any_portions(sent: bytes, delivered: bytes) -> None:
    for portions in (1, 2, 3, 7, 1000):
        peer = bound()
        data = sent + b'\n<presence/>'
        for at in range(0, len(data), portions):
            peer.say(data[at : at + portions])
        assert peer.raws == [delivered, b'<presence' + FROM + b'/>'], peer.closed
        assert peer.stream._slow is None
        assert peer.stream._held == b''


def test_attributes_are_resolved() -> None:
    peer = bound()
    peer.say(b"<message to='a&amp;b@c' id='&#x6c49;' type='chat' xml:lang='de'><body/></message>")
    stanza = peer.stanzas[0]
    assert (stanza.to, stanza.id, stanza.type, stanza.lang) == ('a&b@c', '汉', 'chat', 'de')
    assert stanza.from_ == 'juliet@example.com/desk'


@pytest.mark.parametrize(('sent', 'condition'), [
    (b"<message from='romeo@example.com/x'/>", 'invalid-from'),
    (b"<message from='juliet@example.com/other'/>", 'invalid-from'),
    (b"<message from='@'></message >", 'invalid-from'),
    (b'<message></presence>', 'not-well-formed'),
    (b'<message/></message>', 'not-well-formed'),
    (b'<message></message></message>', 'not-well-formed'),
    (b'<message><body>\xff</body></message>', 'not-well-formed'),
    (b'<message><body>\xed\xa0\x80</body></message>', 'not-well-formed'),  # a surrogate
    (b'<message><body>\xc0\xbcbody></message>', 'not-well-formed'),  # '<' in two bytes
    (b'<message><body>\xe6\xb1</body></message>', 'not-well-formed'),  # the third byte is missing
    (b"<message to='\xf4\x90\x80\x80'/>", 'not-well-formed'),  # behind the last character
    (b'<message><\x80/></message>', 'not-well-formed'),
    (b'<message><body>\0</body></message>', 'not-well-formed'),
    (b'<message><body>&#0;</body></message>', 'not-well-formed'),
    (b'<message><body>]]></body></message>', 'not-well-formed'),
    (b"<message a='1' a='2'/>", 'not-well-formed'),
    (b'<message><x:y/></message>', 'bad-namespace-prefix'),
    (b'<message><body>&boom;</body></message>', 'restricted-xml'),
    (b'<message><!-- --></message>', 'restricted-xml'),
    (b'<message><?a b?></message>', 'restricted-xml'),
    (b'<!DOCTYPE a><message/>', 'not-well-formed'),
    (b'<?a b?>', 'restricted-xml'),
    (b'hello<message/>', 'bad-format'),
    (b'<messages/>', 'unsupported-stanza-type'),
    (b'<query/>', 'unsupported-stanza-type'),
    (b"<compress xmlns='http://jabber.org/protocol/compress'><method>zlib</method></compress>",
     'unsupported-stanza-type'),
    (b"<a xmlns='urn:xmpp:sm:3' h='1'/>", 'unsupported-stanza-type'),
    (b"<message xmlns='jabber:server'/>", 'invalid-namespace'),
    (b"<iq xmlns='urn:x'></iq>", 'invalid-namespace'),
    (b"<?xml version='1.0'?>", 'not-well-formed'),
])  # fmt: skip
def test_what_ends_the_stream(sent: bytes, condition: str) -> None:
    in_two = [(sent[:at], sent[at:]) for at in range(1, len(sent))]
    for pieces in ((sent,), tuple(sent[at : at + 1] for at in range(len(sent))), *in_two):
        peer = bound()
        peer.say(b'<presence/>')
        for piece in pieces:
            if peer.closed is None:
                peer.say(piece)
        ended(peer, condition)
        assert all(stanza.from_ == 'juliet@example.com/desk' for stanza in peer.stanzas)


def test_what_came_before_the_fault_is_delivered() -> None:
    peer = bound()
    peer.say(b"<message id='1'><body/></message><message id='2'/><iq></message>")
    assert [stanza.id for stanza in peer.stanzas] == ['1', '2']
    ended(peer, 'not-well-formed')


@pytest.mark.parametrize('begun', [
    b'<message><?a b</message>', b'<message><!-- a</message>', b'<message><![CDATA[</message>', b"<presence a='x/>",
    b'<iq><b c="</iq>', b'<iq></iq', b'<message></message x',
])  # fmt: skip
def test_what_one_session_leaves_open_touches_no_other(begun: bytes) -> None:
    one, two = bound(), bound()
    one.say(begun)
    for _ in range(3):
        two.say(b"<message id='1'><body>?>--></body></message><presence/>")
    assert one.stanzas == []
    assert two.closed is None
    assert [stanza.name for stanza in two.stanzas] == ['message', 'presence'] * 3


def test_two_stanzas_are_never_taken_for_one() -> None:
    peer = bound()
    peer.say(b"<message id='1'></message ><message from='romeo@example.com' id='2'></message>")
    assert [stanza.id for stanza in peer.stanzas] == ['1']
    ended(peer, 'invalid-from')


def test_prefixes_and_language_of_the_stream_header() -> None:
    peer = bound(OPEN.replace(b"xml:lang='en'", b"xml:lang='de' xmlns:e='urn:e'"))
    peer.say(b"<message to='a@b'><e:x e:k='v'/><body xml:lang='fr'>b</body></message>")
    assert peer.raws == [
        b'<message' + FROM + b" xml:lang='de' to='a@b'><x xmlns='urn:e' xmlns:a0='urn:e' a0:k='v'/>"
        b"<body xml:lang='fr'>b</body></message>"
    ]
    peer = bound(OPEN.replace(b"xml:lang='en'", b"xml:lang='zh-Hans'"))
    peer.say(b"<message xml:lang='ja'/><message/>")
    assert peer.raws == [b'<message' + FROM + b" xml:lang='ja'/>", b'<message' + FROM + b" xml:lang='zh-Hans'/>"]
    assert [stanza.lang for stanza in peer.stanzas] == ['ja', 'zh-Hans']


def test_a_stream_header_that_would_cost_at_every_stanza() -> None:
    peer = bound(OPEN.replace(b"xml:lang='en'", b"xml:lang='%b'" % (b'x' * 5000)))
    peer.say(b'<message/>')
    assert peer.raws == [b'<message' + FROM + b'/>'], 'a value that is no language tag is ignored'
    peer = logged_in_with(OPEN.replace(b"xml:lang='en'", b"xmlns:e='%b'" % (b'x' * 5000)))
    ended(peer, 'policy-violation')


def test_deep_nesting() -> None:
    deep = b'<a>' * 80_000 + b'</a>' * 80_000
    peer = bound(limits=Limits(stanza_bytes=1_000_000))
    peer.say(b'<message>' + deep + b'</message>')
    assert len(list(peer.stanzas[0].tree.iter())) == 80_001
    peer.stanzas.clear()
    peer.say(b"<c:message xmlns:c='jabber:client'>" + deep + b'</c:message>')
    ended(peer, 'policy-violation')


def logged_in_with(header: bytes) -> Peer:
    peer = secure()
    peer.say(auth('PLAIN', b'\0juliet\0secret'))
    peer.say(header)
    return peer


def test_a_stream_without_prefix() -> None:
    header = b"<stream to='example.com' version='1.0' xmlns='http://etherx.jabber.org/streams'>"
    peer = bound(header, BIND.replace(b'<iq ', b"<iq xmlns='jabber:client' "))
    peer.say(b"<message xmlns='jabber:client' to='a@b'><body>x</body></message></stream>")
    assert peer.raws == [b'<message' + FROM + b" to='a@b'><body>x</body></message>"]
    assert peer.out == b'</stream:stream>'


def test_elements_that_are_no_stanzas_only_on_request() -> None:
    peer = bound(nonzas=frozenset({'urn:xmpp:sm:3 r', 'urn:xmpp:sm:3 a', 'urn:xmpp:csi:0 active'}))
    seen: list[object] = []
    peer.stream.on_stanza = lambda stanza: seen.append(stanza.name)
    peer.stream.on_nonza = lambda name, attrs: seen.append((name, attrs))
    peer.say(
        b"<r xmlns='urn:xmpp:sm:3'/><message/><a xmlns='urn:xmpp:sm:3' h='7'/><active xmlns='urn:xmpp:csi:0'/><iq/>"
    )
    h = ('urn:xmpp:sm:3 a', {'h': '7'})
    assert seen == [('urn:xmpp:sm:3 r', {}), 'message', h, ('urn:xmpp:csi:0 active', {}), 'iq']
    assert peer.closed is None
    peer.say(b"<inactive xmlns='urn:xmpp:csi:0'/>")
    assert peer.closed is not None
    assert peer.closed.condition == 'unsupported-stanza-type'


def test_acknowledgements_in_every_spelling_and_split() -> None:
    """The quick way and the parser agree, wherever the bytes are cut."""
    spellings = (
        b"<r xmlns='urn:xmpp:sm:3'/>", b'<r xmlns="urn:xmpp:sm:3" />', b"<r xmlns='urn:xmpp:sm:3'></r>",
        b"<a xmlns='urn:xmpp:sm:3' h='7'/>", b'<a h="7" xmlns="urn:xmpp:sm:3"/>',
        b"<a  xmlns='urn:xmpp:sm:3'\nh='7' />",
    )  # fmt: skip
    nonzas = frozenset({'urn:xmpp:sm:3 r', 'urn:xmpp:sm:3 a'})
    for spelling in spellings:
        data = b'<message/>' + spelling + b'<presence/>' + spelling
        for cut in range(len(data) + 1):
            peer = bound(nonzas=nonzas)
            seen: list[object] = []
            peer.stream.on_stanza = lambda stanza, seen=seen: seen.append(stanza.name)
            peer.stream.on_nonza = lambda name, attrs, seen=seen: seen.append((name[-1], attrs))
            peer.say(data[:cut])
            peer.say(data[cut:])
            known = ('r', {}) if spelling.startswith(b'<r') else ('a', {'h': '7'})
            assert seen == ['message', known, 'presence', known], (spelling, cut, peer.events)


def test_the_size_of_a_stanza_is_bounded() -> None:
    limits = Limits(stanza_bytes=10_000)
    for stanza in (
        b'<message><body>%b</body></message>' % (b'x' * 10_000),
        b"<message a='%b'/>" % (b'x' * 10_000),
        b'<message><body>%b</body></message >' % (b'>' * 10_000),
    ):
        for portions in (100, 4096, 100_000):
            peer = bound(limits=limits)
            for at in range(0, len(stanza), portions):
                if peer.closed is None:
                    peer.say(stanza[at : at + portions])
            ended(peer, 'policy-violation')
            assert peer.stanzas == []
    peer = bound(limits=limits)
    peer.say(b"<message a='" + b'x' * 10_001)
    ended(peer, 'policy-violation')
    peer = bound(limits=limits)
    peer.say(b'<message><body>%b</body></message>' % (b'x' * 9_900))
    assert len(peer.stanzas) == 1


@pytest.mark.parametrize('filling', [b'x', b'>'])
@pytest.mark.parametrize('opening', [b"<message a='", b'<message><body>', b"<message><a b='", b'<', b' '])
def test_no_cost_grows_with_the_square_of_what_is_held_back(opening: bytes, filling: bytes) -> None:
    peer = bound()
    peer.stream.receive(opening)
    started = time.process_time()
    for _ in range(200_000):
        peer.stream.receive(filling)
    assert time.process_time() - started < 4
    if opening.endswith(b'<body>'):
        assert peer.closed is None, 'text is not a tag that is scanned again'


def test_holding_back_and_releasing_keeps_the_order() -> None:
    chance = random.Random(1)
    sent = b''.join(b"<message id='%d'/>" % n if n % 3 else b"<message id='%d'></message >" % n for n in range(60))
    peer = bound()

    def deliver(stanza: Stanza) -> None:
        peer.stanzas.append(stanza)
        if chance.random() < 0.4:
            peer.stream.hold()
            if chance.random() < 0.3:
                peer.stream.release()

    peer.stream.on_stanza = deliver
    at = 0
    while at < len(sent):
        step = chance.randrange(1, 90)
        peer.say(sent[at : at + step])
        at += step
        if chance.random() < 0.5:
            peer.stream.release()
    for _ in range(60):
        peer.stream.release()
    assert [stanza.id for stanza in peer.stanzas] == [str(n) for n in range(60)]


def test_closing_inside_a_stanza_stops_delivery() -> None:
    for data in (b'<message/><message/>', b'<message></message ><message/>'):
        peer = bound()

        def deliver(stanza: Stanza, peer: Peer = peer) -> None:
            peer.stanzas.append(stanza)
            peer.stream.close('conflict', 'Replaced by a new connection.')

        peer.stream.on_stanza = deliver
        peer.say(data)
        assert len(peer.stanzas) == 1
        ended(peer, 'conflict')


def test_an_idle_session_owns_no_parser_and_no_buffer() -> None:
    peer = bound()
    peer.say(b'<message><message/></message>')
    for keepalive in (b' ', b'\n\n', b'   '):
        assert peer.say(keepalive) == b''
    stream = peer.stream
    assert not hasattr(stream, '__dict__')
    held = [getattr(stream, slot) for slot in ClientStream.__slots__ if slot.startswith('_')]
    assert sorted(map(str, filter(None, held))) == ['1', str(FROM)]
    gc.collect()
    gc.disable()
    try:
        before = len(gc.get_objects())
        for _ in range(200):
            stream.receive(b'<message><message/></message>')
        peer.stanzas.clear()
        assert len(gc.get_objects()) - before < 50, 'a dropped parser must not wait for the garbage collector'
    finally:
        gc.enable()


def test_answers() -> None:
    asked = xml.parse(
        b"<iq type='get' id='&lt;1&gt;' to='example.com' from=\"o'n@example.com/a\"><ping xmlns='urn:xmpp:ping'/></iq>"
    )
    assert asked.payload is not None
    assert asked.payload.tag == '{urn:xmpp:ping}ping'
    assert asked.child('urn:xmpp:ping', 'ping') is not None
    assert asked.child('urn:xmpp:ping', 'pong') is None
    assert asked.has(b'urn:xmpp:ping')
    assert xml.iq_result(asked) == b"<iq type='result' id='&lt;1&gt;' to='o&apos;n@example.com/a' from='example.com'/>"
    strange = xml.parse(b"<iq type='get' id='a&#10;&#9;&amp;b'/>")
    assert xml.parse(xml.iq_result(strange)).id == strange.id == 'a\n\t&b'
    assert xml.iq_result(asked, b'<q/>').endswith(b'><q/></iq>')
    assert xml.error(asked, 'item-not-found', text='No <such> thing.') == (
        b"<iq type='error' id='&lt;1&gt;' to='o&apos;n@example.com/a' from='example.com'><error type='cancel'>"
        b"<item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>"
        b"<text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas' xml:lang='en'>No &lt;such&gt; thing.</text></error></iq>"
    )
    assert b"<error type='wait'><policy-violation" in xml.error(asked, 'policy-violation', type='wait')


@pytest.mark.parametrize('raw', [
    b"<presence/>", b"<presence to='old'/>", b"<presence\n to = \"o>ld\"\tid='1' />",
    b"<message to='old' id=' to=\"x\"'><body/></message>",
])  # fmt: skip
def test_head_and_tail_around_to(raw: bytes) -> None:
    head, tail = xml.split_to(raw)
    for to in ('a@b', 'o\'neil&<co>@b/"x"'):
        addressed = head + xml.escape(to).encode() + tail
        tree = xml.parse_tree(addressed)
        assert tree.get('to') == to
        expected = xml.parse_tree(raw)
        expected.set('to', to)
        assert tree.attrib == expected.attrib
        assert xml.with_attributes(raw, {'to': to}) == addressed


def test_children_are_added_at_the_end() -> None:
    when = datetime(2026, 11, 21, 5, 4, 3, 21_000, tzinfo=UTC)
    stamp = xml.delay(when, 'example.com', 'Offline')
    assert stamp == b"<delay xmlns='urn:xmpp:delay' from='example.com' stamp='2026-11-21T05:04:03.021Z'>Offline</delay>"
    assert xml.with_child(b'<message/>', b'<x/>') == b'<message><x/></message>'
    assert xml.with_child(b"<message to='/>' />", b'<x/>') == b"<message to='/>' ><x/></message>"
    assert xml.with_child(b'<message><y/></message >', b'<x/>') == b'<message><y/><x/></message >'
    assert xml.with_child(b"<message id='>'><y/></message>", b'<x/>') == b"<message id='>'><y/><x/></message>"


def test_text_is_escaped_and_cleaned() -> None:
    assert xml.escape('plain') == 'plain'
    assert xml.escape('<a b="c">\'&\r\0\ud800\uffff汉') == '&lt;a b=&quot;c&quot;&gt;&apos;&amp;&#13;汉'
    assert xml.element('x', 'urn:x', 'a<b', from_='q', none=None) == "<x xmlns='urn:x' from='q'>a&lt;b</x>"
    assert xml.element('x') == '<x/>'
