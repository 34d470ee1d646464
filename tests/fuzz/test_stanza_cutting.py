"""Differential fuzz: shared-parser path, depth-tracking path and a plain ElementTree reference must agree.

For each random stream, some of them ill-formed, in random portions: on well-formed ones both paths deliver exactly what
the reference sees; on ill-formed ones never more than the reference saw before the fault. The sender is always stamped.
"""

from __future__ import annotations

import random
from xml.etree.ElementTree import Element, ParseError, XMLPullParser

import pytest

from engine.xmpp import c2s
from engine.xmpp.parser import STREAM_OPEN, StreamParser
from engine.xmpp.stanza import Stanza, parse_tree
from tests.xmpp.peer import BIND, OPEN, Peer, bound

STREAMS = 800
"""Random streams a seed."""
JID = 'juliet@example.com/desk'
NAMES = ('message', 'presence', 'iq')
CUSTOM = OPEN.replace(b"xmlns='jabber:client'", b"xmlns='jabber:client' xmlns:own='urn:own'")
PREFIXED = (
    b"<stream to='example.com' version='1.0' xmlns='http://etherx.jabber.org/streams' xmlns:own='urn:own' "
    b"xmlns:c='jabber:client'>"
)
BREAKS = (
    b'</message>', b'</iq>', b'</presence>', b'<message', b'<!-- x -->', b'<?pi x?>', b'<!DOCTYPE a>', b'&bad;',
    b'\xff', b'<', b'>', b'/>', b"'", b'"', b'<x:y/>', b'\0', b'</stream:stream>', b'text', b']]>',
    b'<![CDATA[</message>]]>', b'<?a </message>', b'<!-- </message>', b'<![CDATA[</message>', b'<![CDATA[</iq>',
    b'</message >', b'<message/></message>', b"<presence a='/>", b'<message></message ><iq></iq></message>',
    b"<iq from='other@example.com/x'/>", b'<iqx/>', b'<a></a>', b'<message><message></message>',
)  # fmt: skip


TEXTS = (
    'a',
    ' ',
    '>',
    '/>',
    '&lt;',
    '&amp;',
    '&#x20ac;',
    '汉',
    "'",
    '"',
    '=',
    ']',
    '\n',
    '/message>',
    'xmlns=',
    '&quot;',
)


def _text(chance: random.Random) -> str:
    text = ''.join(chance.choice(TEXTS) for _ in range(chance.randrange(6)))
    return text if ']]>' not in text else ''


def _attributes(chance: random.Random, own: bool) -> str:
    choices = ['id', 'to', 'type', 'xml:lang', 'from', 'x']
    if own:
        choices.append('own:k')
    parts = []
    for key in chance.sample(choices, chance.randrange(4)):
        value = _text(chance).replace('\n', ' ')
        if key == 'from':
            value = chance.choice([JID, 'juliet@example.com', 'Juliet@EXAMPLE.com/desk'])
        quote = '"' if "'" in value else "'"
        if quote in value:
            value = value.replace('"', '')
        equals = chance.choice(['=', '=', '=', ' = ', '=\n'])
        parts.append(f'{chance.choice([" ", " ", "  ", chr(10)])}{key}{equals}{quote}{value}{quote}')
    return ''.join(parts)


def _element(chance: random.Random, name: str, depth: int, own: bool) -> str:
    attributes = _attributes(chance, own).replace(' from', ' xfrom').replace('\nfrom', '\nxfrom') if depth else None
    attributes = _attributes(chance, own) if attributes is None else attributes
    if chance.random() < 0.1 and ':' not in name:
        attributes += ' xmlns:k="urn:k"'
        return f'<{name}{attributes}><k:z k:a="1">{_text(chance)}</k:z></{name}>'
    if chance.random() < 0.3:
        return f'<{name}{attributes}{chance.choice(["", " "])}/>'
    inner = []
    for _ in range(chance.randrange(3) if depth < 3 else 0):
        kinds = ['body', 'x xmlns="urn:x"', 'thread', *NAMES] + (['own:e'] if own else [])
        child = chance.choice(kinds)
        if ' ' in child:
            inner.append(f'<{child}>{_text(chance)}</x>')
        else:
            inner.append(_element(chance, child, depth + 1, own))
        inner.append(_text(chance))
    if chance.random() < 0.1:
        inner.append('<![CDATA[ <message></message> ]]>')
    return f'<{name}{attributes}>{_text(chance)}{"".join(inner)}</{name}{chance.choice(["", "", "", " ", chr(10)])}>'


def _stream(chance: random.Random, style: int) -> tuple[bytes, bool]:
    """Bytes behind the header, and whether they were left intact."""
    parts = []
    for _ in range(chance.randrange(1, 7)):
        name = chance.choice(NAMES)
        if style == 2:
            name = f'c:{name}'
            element = _element(chance, name, 0, own=True)
        else:
            element = _element(chance, name, 0, own=style == 1)
        parts.append(element.encode())
        parts.append(chance.choice([b'', b'', b'\n', b'  ']))
    data = intact = b''.join(parts)
    if chance.random() < 0.35:
        at = chance.randrange(len(data) + 1)
        data = data[:at] + chance.choice(BREAKS) + data[at:]
    elif chance.random() < 0.1:
        at = chance.randrange(len(data))
        data = data[:at] + data[at + chance.randrange(1, 5) :]
    return data, data == intact


def _canonical(element: Element) -> object:
    return (
        element.tag,
        sorted(element.attrib.items()),
        element.text or '',
        [(_canonical(child), child.tail or '') for child in element],
    )


def reference(opened: bytes, data: bytes) -> tuple[list[Element], bool]:
    """What plain ElementTree sees: the stanzas before a fault or the end of the stream, and whether there was none."""
    parser = XMLPullParser(['start', 'end'])
    parser.feed(opened)
    depth, found = -1, []
    try:
        # Byte by byte: what came before a fault is then surely seen.
        for at in range(len(data)):
            parser.feed(data[at : at + 1])
            for kind, element in parser.read_events():
                depth += 1 if kind == 'start' else -1
                if kind == 'end' and depth == 0:
                    found.append(element)
                if kind == 'end' and depth == -1:
                    return found, False
    except ParseError:
        return found, False
    return found, depth == 0


def _stamped(element: Element) -> object:
    element.set('from', JID)
    return _canonical(element)


def _deliver(peer: Peer, data: bytes, cuts: list[int]) -> list[object]:
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        peer.stream.receive(data[start:end])
    return [_judged(stanza) for stanza in peer.stanzas]


def _judged(stanza: Stanza) -> object:
    tree = parse_tree(stanza.raw)
    assert stanza.raw.startswith(f'<{stanza.name}'.encode())
    assert tree.get('from') == JID == stanza.from_
    assert tree.tag == f'{{jabber:client}}{stanza.name}'
    assert {key.lstrip('{').replace('}', ' '): value for key, value in tree.attrib.items()} == stanza.attrs
    return _canonical(tree)


def _cuts(chance: random.Random, size: int) -> list[int]:
    if chance.random() < 0.15:
        return list(range(1, size))
    return sorted(chance.sample(range(1, size), min(chance.randrange(6), size - 1))) if size > 1 else []


@pytest.mark.parametrize('seed', range(6))
def test_both_paths_agree_with_the_reference(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(seed)
    ill = 0
    for _ in range(STREAMS):
        style = chance.choices([0, 1, 2], [8, 1, 1])[0]
        opened = {0: STREAM_OPEN, 1: CUSTOM, 2: PREFIXED}[style]
        header = {0: OPEN, 1: CUSTOM, 2: PREFIXED}[style]
        data, intact = _stream(chance, style)
        seen, well = reference(opened, data)
        expected = [_stamped(element) for element in seen]
        assert well or not intact, data
        cuts = _cuts(chance, len(data))
        fast_peer = _bound(header)
        fast = _deliver(fast_peer, data, cuts)
        slow_peer = _bound(header)
        with monkeypatch.context() as patch:
            patch.setattr(c2s, '_SHAPES', {})
            slow = _deliver(slow_peer, data, cuts)
        if (fast_peer.closed is None) != (slow_peer.closed is None):
            # Both wait for a '>' before they look at a remainder, but not always for the same one.
            fast_peer.stream.receive(b'>')
            slow_peer.stream.receive(b'>')
            assert fast_peer.closed is not None, (data, cuts)
        case = (data, cuts, fast_peer.closed, slow_peer.closed)
        if fast_peer.closed is None:
            assert fast == expected, case
            assert slow == expected, case
            assert slow_peer.closed is None, case
            if intact:
                assert fast_peer.stream._slow is None, case
                assert slow_peer.stream._slow is None, case
        else:
            ill += 1
            assert fast == expected[: len(fast)], case
            assert slow == expected[: len(slow)], case
            assert slow_peer.closed is not None, case
            assert fast_peer.closed.condition == slow_peer.closed.condition, case
            assert len(slow) >= len(fast), case
            if well:
                # Refused although XML allows it: each of these has its own condition.
                assert fast_peer.closed.condition in {
                    'restricted-xml', 'bad-format', 'unsupported-stanza-type', 'invalid-from', 'invalid-namespace',
                }, case  # fmt: skip
    assert ill > STREAMS / 10


def _bound(header: bytes) -> Peer:
    if header is not PREFIXED:
        return bound(header)
    return bound(header, bind=BIND.replace(b'<iq', b'<c:iq').replace(b'</iq', b'</c:iq'))


@pytest.mark.parametrize('seed', range(3))
def test_a_known_header_and_whole_elements_need_no_parser_of_their_own(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sign-in's short way (StreamParser._whole) gives the same items, errors, element counts and remainders."""
    chance = random.Random(seed)
    short_ways = 0
    for _ in range(STREAMS):
        data, _ = _stream(chance, 0)
        if chance.random() < 0.3:
            data = (
                chance.choice((b"<auth xmlns='urn:s' mechanism='A'>YQ==</auth>", b'<auth>', b'<auth', b'<a/>')) + data
            )
        cuts = _cuts(chance, len(data))
        pieces = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        if chance.random() < 0.4:
            pieces = [
                _element(chance, chance.choice(NAMES), 0, own=False).encode() for _ in range(chance.randrange(1, 3))
            ]
        taken = chance.random() < 0.7
        StreamParser(9_999).feed(OPEN)
        quick, plain = StreamParser(1000), StreamParser(1000)
        seen = []
        for parser in (quick, plain):
            found: list[object] = []
            with monkeypatch.context() as patch:
                if parser is plain:
                    patch.setattr(StreamParser, '_whole', lambda self, data: False)
                for piece in (OPEN, *pieces):
                    parser.feed(piece)
                    while taken and parser.items:
                        item = parser.items.popleft()
                        found += [item, parser.rest(item.end)]
            found += [*parser.items, parser.elements if parser.error is None else 0, parser.idle]
            seen.append((found, parser.error and parser.error.condition))
        assert seen[0] == seen[1], pieces
        short_ways += quick._parser is None
        quick.close()
        plain.close()
    assert short_ways > 10
