"""Stanzas inside stanzas as bytes: always well-formed, always what was sent; children taken out exactly."""

from __future__ import annotations

from xml.etree.ElementTree import canonicalize, tostring

import pytest

from engine.xmpp.forwarding import carbon, forwarded, inner, is_copy, unwrapped, without
from engine.xmpp.stanza import parse_tree

TAGS = (
    "<message from='a@b/c' to='d@e'>",
    "<message from='a@b/c' xmlns='jabber:client' to='d@e'>",
    "<message from='a@b/c' a=\"'\" b='>' xmlns=\"jabber:client\">",
    "<message from='a@b/c' b='xmlns=' c=\"xmlns='jabber:client'\">",
    "<message from='a@b/c'\n\txmlns = 'jabber&#58;client'\r\n to='d@e' >",
    "<message from='a@b/c' xmlns:x='urn:x' x:y='>' xml:lang='de'>",
    "<message\nfrom='a@b/c'>",
)


@pytest.mark.parametrize('tag', TAGS)
@pytest.mark.parametrize('content', ['', '<body>1 &lt; 2</body>', "<x xmlns='urn:y'><message/></x>"])
def test_a_stanza_inside_another_namespace_means_the_same(tag: str, content: str) -> None:
    raw = f'{tag}{content}</message>'.encode()
    plain = canonicalize(tostring(parse_tree(raw)))
    wrapped = parse_tree(b"<message><x xmlns='urn:other'>" + inner(raw) + b'</x></message>')
    assert canonicalize(tostring(wrapped[0][0])) == plain
    head, tail = carbon('received', raw, 'd@e', 'chat')
    copy = head + b'd@e/f' + tail
    tree = parse_tree(copy)
    assert canonicalize(tostring(tree[0][0][0])) == plain
    assert is_copy(copy, 'd@e')
    assert not is_copy(copy, 'd@')
    assert canonicalize(tostring(parse_tree(unwrapped(copy, 'd@e')))) == plain
    assert unwrapped(raw, 'd@e') == raw
    assert len(parse_tree(b'<message>' + forwarded(raw) + b'</message>')[0]) == 1


def test_an_empty_stanza() -> None:
    raw = b"<message from='a@b/c' to='d@e'/>"
    assert inner(raw) == b"<message xmlns='jabber:client' from='a@b/c' to='d@e'/>"


@pytest.mark.parametrize(
    ('children', 'left'),
    [
        ("<a xmlns='urn:x'/>", ''),
        ("<a xmlns='urn:x'></a>", ''),
        ("<a xmlns='urn:x' b='>'><a/>text<b><a/></b></a >", ''),
        ("<body>a</body><a xmlns='urn:x'/><p:a xmlns:p='urn:x'/> <b/>", '<body>a</body> <b/>'),
        ("<a/><b><a xmlns='urn:x'/></b>", "<a/><b><a xmlns='urn:x'/></b>"),
        ("<a xmlns='urn:x&#x79;'/><c a='&lt;a/&gt;'/>", "<a xmlns='urn:x&#x79;'/><c a='&lt;a/&gt;'/>"),
        ("<a xmlns='urn:x' c='1'/>é<a xmlns='urn:x' keep='1'/>", "é<a xmlns='urn:x' keep='1'/>"),
    ],
)
def test_children_are_cut_out_exactly(children: str, left: str) -> None:
    def unwanted(name: str, attributes: dict[str, str]) -> bool:
        return name == 'urn:x a' and 'keep' not in attributes

    raw = f"<message from='a@b/c'>{children}</message>".encode()
    assert without(raw, unwanted) == f"<message from='a@b/c'>{left}</message>".encode()
