"""Differential fuzz of streams between servers: fast way, depth-tracking way and plain ElementTree must agree.

What is handed to the router stands in ``jabber:client`` and means what was said in ``jabber:server``; what goes out
again means the same once more.
"""

from __future__ import annotations

import random
from xml.etree.ElementTree import Element, XMLPullParser

import pytest

from engine.xmpp import ns
from engine.xmpp.cutting import Cutter, StreamClosed, outbound, stream_open
from engine.xmpp.parser import Child, Header, StreamError, StreamParser
from engine.xmpp.stanza import parse_tree
from tests.fuzz.test_stanza_cutting import _canonical, _cuts, _stream, reference

STREAMS = 400
"""Random streams a seed."""
PLAIN = stream_open(ns.SERVER)
CUSTOM = PLAIN.replace(b'<stream:stream', b"<stream:stream xmlns:own='urn:own' xmlns:db='jabber:server:dialback'")


def _translated(element: Element) -> Element:
    """``jabber:server`` becomes ``jabber:client``."""
    for one in element.iter():
        one.tag = one.tag.replace('{jabber:server}', '{jabber:client}')
    return element


def _cut(opened: bytes, data: bytes, cuts: list[int], fast: bool) -> tuple[list[bytes], str]:
    """The stanzas, and why the stream ended ('' when it did not)."""
    parser = StreamParser(10_000)
    parser.feed(opened)
    header = parser.items.popleft()
    assert isinstance(header, Header)
    found: list[bytes] = []

    def other(child: Child) -> None:
        raise StreamError('unsupported-stanza-type', child.name)

    cutter = Cutter(ns.SERVER, header, 100_000, lambda name, attrs, raw: found.append(raw), other)
    if not fast:
        cutter._plain = False
    try:
        for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
            assert cutter.feed(data[start:end]) == b''
    except StreamError as error:
        return found, error.condition
    except StreamClosed:
        return found, 'closed'
    return found, ''


@pytest.mark.parametrize('seed', range(3))
def test_every_way_agrees_with_the_reference(seed: int) -> None:
    chance = random.Random(1000 + seed)
    ill = 0
    for _ in range(STREAMS):
        style = chance.choices([0, 1], [8, 1])[0]
        opened = CUSTOM if style else PLAIN
        data, intact = _stream(chance, style)
        if chance.random() < 0.1:
            data = data.replace(b'xmlns="urn:x"', b'xmlns="jabber:server"')
        expected = [_canonical(_translated(one)) for one in reference(opened, data)[0]]
        cuts = _cuts(chance, len(data))
        fast, fast_end = _cut(opened, data, cuts, True)
        slow, slow_end = _cut(opened, data, cuts, False)
        if bool(fast_end) != bool(slow_end):
            # Both wait for a '>' before they look at a remainder, but not always for the same one.
            fast, fast_end = _cut(opened, data + b'>', cuts, True)
            slow, slow_end = _cut(opened, data + b'>', cuts, False)
        case = (opened, data, cuts, fast_end, slow_end)
        for found, end in ((fast, fast_end), (slow, slow_end)):
            seen = [_canonical(parse_tree(raw)) for raw in found]
            assert seen == expected[: len(seen)], case
            if not end:
                assert seen == expected, case
        assert bool(fast_end) == bool(slow_end), case
        assert not intact or fast_end in ('', 'invalid-namespace'), case
        ill += bool(fast_end)
        for raw in fast:
            sent = outbound(raw)
            parser = XMLPullParser(['end'])
            parser.feed(PLAIN + sent)
            element = [one for _, one in parser.read_events()][-1]
            assert _canonical(_translated(element)) == _canonical(parse_tree(raw)), (raw, sent)
    assert ill > STREAMS / 10
