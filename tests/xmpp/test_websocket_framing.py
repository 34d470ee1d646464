"""RFC 7395 framing: a message is one element or refused, whatever its bytes are; what goes out stands by itself."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, canonicalize

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.xmpp.parser import StreamError
from engine.xmpp.websocket_framing import FRAMING, Framing, declared, undeclared

OPEN = f"<open xmlns='{FRAMING}' to='example.com' version='1.0'/>".encode()
STREAM = b"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
PIECES = st.sampled_from(
    [
        b'<message>', b'</message>', b'<message/>', b"<message a='/>'>", b"<message a='>", b"'/>", b'<iq', b'</iq>',
        b'<presence/>', b'<body>', b'</body>', b'<![CDATA[', b']]>', b'</message>', b'<?x', b'?>', b'<!--', b'-->',
        b"<r xmlns='urn:xmpp:sm:3'/>", b'text', b'\xc3\xa9', b'\xff', b'</stream:stream>', b'<stream:stream>', OPEN,
        f"<close xmlns='{FRAMING}'/>".encode(), b' ', b'<message xmlns="x"/>', b'&lt;', b'&none;',
    ]
)  # fmt: skip


def read(data: bytes) -> Any:
    """Parse; SyntaxError when it is ill-formed."""
    return ElementTree.fromstring(data)  # noqa: S314 - made here


def framing() -> Framing:
    """One whose stream is open."""
    made = Framing(1000, lambda host: f'wss://{host}/websocket')
    made.decode(OPEN)
    return made


@settings(max_examples=1500, deadline=None)
@given(st.lists(PIECES, max_size=6))
def test_a_message_is_one_element(pieces: list[bytes]) -> None:
    """What is passed on closes whatever it opens, and is one element: nothing is left for the next message."""
    message = b''.join(pieces)
    try:
        passed = framing().decode(message)
    except StreamError:
        return
    if not passed or passed == b'</stream:stream>':
        return
    try:
        root = read(STREAM + passed + b'</stream:stream>')
    except SyntaxError:
        # Ill-formed inside itself: the stream will say so. It must not become well-formed by what follows, and every
        # message begins with '<'.
        for rest in (b"'/>", b"'></message>", b']]></message>', b'--></message>', b'?></message>', b'</iq>', b'>'):
            try:
                read(STREAM + passed + b'<message/>' + rest + b'</stream:stream>')
            except SyntaxError:
                continue
            raise AssertionError(f'{passed!r} went on in the next message') from None
        return
    assert len(root) == 1, passed


STANZAS = [
    b"<message to='a'><body>x</body></message>",
    b"<message xmlns='jabber:client' to='a'/>",
    b'<presence/>',
    b'<iq a="xmlns=" b=\'>\'><query xmlns="y"/></iq>',
    b'<message><stream:x/></message>',
    b"<r xmlns='urn:xmpp:sm:3'/>",
    b"<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></stream:features>",
]


def same(one: Element, other: Element) -> bool:
    """Whether two elements mean the same."""
    from xml.etree.ElementTree import tostring

    return canonicalize(tostring(one, encoding='unicode')) == canonicalize(tostring(other, encoding='unicode'))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(STANZAS), min_size=1, max_size=5), st.booleans(), st.booleans())
def test_what_goes_out_stands_by_itself(stanzas: list[bytes], header: bool, end: bool) -> None:
    """One element a message, meaning what it meant in the stream."""
    greeting = b"<?xml version='1.0'?>" + STREAM[:-1] + b" id='5' from='example.com' version='1.0' xml:lang='en'>"
    data = (greeting if header else b'') + b''.join(stanzas) + (b'</stream:stream>' if end else b'')
    messages = framing().encode(data)
    if header:
        opened = read(messages.pop(0))
        assert opened.tag == f'{{{FRAMING}}}open'
        assert (opened.get('id'), opened.get('from')) == ('5', 'example.com')
    if end:
        assert read(messages.pop()).tag == f'{{{FRAMING}}}close'
    inside = list(read(STREAM + b''.join(stanzas) + b'</stream:stream>'))
    assert len(messages) == len(inside)
    for message, original in zip(messages, inside, strict=True):
        assert same(read(message), original), message


def test_what_was_declared_can_be_taken_back() -> None:
    """A stanza that was not delivered looks as it did before."""
    for stanza in STANZAS:
        assert undeclared(declared(stanza)) == stanza.replace(b"<message xmlns='jabber:client'", b'<message')
