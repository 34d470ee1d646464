"""RFC 7395: the messages of a WebSocket on one side, the bytes of an RFC 6120 stream on the other.

Sans-io. ``decode`` turns one text message into bytes for ``ClientStream.receive``; ``encode`` turns bytes the stream
or a session wrote into messages, each one complete element that stands by itself. BOSH uses the functions below, too.

A message is given to the stream only when it is exactly one element: cut by the rule of the stream itself (see
docs/decisions/0007-raw-first-stanza-path.md) or seen whole by a StreamParser. So no message can open, close or
continue what another one began.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from engine.xmpp import ns
from engine.xmpp.parser import STREAM_OPEN, Child, StreamError, StreamParser
from engine.xmpp.stanza import LANG, NAME, TAG, quote

FRAMING: Final = 'urn:ietf:params:xml:ns:xmpp-framing'
HEADER: Final = f"<?xml version='1.0'?><stream:stream xmlns='{ns.CLIENT}' xmlns:stream='{ns.STREAMS}'"
END: Final = b'</stream:stream>'
_SHAPES: Final = {b'm': (b'<message', b'</message>'), b'p': (b'<presence', b'</presence>'), b'i': (b'<iq', b'</iq>')}
_ATTRIBUTE: Final = re.compile(rb'[ \t\r\n]+([^ \t\r\n=>/]+)[ \t\r\n]*=[ \t\r\n]*("[^"]*"|\'[^\']*\')')
_DECLARATION: Final = re.compile(rb'<\?xml[ \t\r\n][^>]*\?>[ \t\r\n]*')
_OTHER_HOST: Final = re.compile(rb"<see-other-host xmlns='[^']*'>([^<]*)</see-other-host>")
_CLIENT_DECLARED: Final = f" xmlns='{ns.CLIENT}'".encode()
_STREAM_DECLARED: Final = f" xmlns:stream='{ns.STREAMS}'".encode()
_SPACE: Final = b' \t\r\n'
_UNESCAPED: Final = (('&lt;', '<'), ('&gt;', '>'), ('&quot;', '"'), ('&apos;', "'"), ('&amp;', '&'))


class Framing:
    """One WebSocket. ``uri``: where a client of the node with this address connects (for see-other-uri)."""

    __slots__ = ('_limit', '_open', '_uri')

    def __init__(self, limit: int, uri: Callable[[str], str]) -> None:
        self._limit = limit
        self._uri = uri
        self._open = False

    def restart(self) -> None:
        """The client has authenticated: its next message must be a new <open/>."""
        self._open = False

    def decode(self, message: bytes) -> bytes:
        """One message as bytes of the stream. Raises StreamError when it is not one that may come now."""
        if self._open and (shape := _SHAPES.get(message[1:2])) is not None and _is_one(message, *shape):
            return message
        if message.startswith(b'<?xml'):
            message = _DECLARATION.sub(b'', message, count=1)
        if not message.startswith(b'<'):
            if not message.strip(_SPACE):
                return b''
            raise StreamError('bad-format', 'Each message is one XML element and begins with "<" (RFC 7395 3.3.3).')
        child = self._only_child(message)
        if child.name == f'{FRAMING} open':
            if self._open:
                raise StreamError('bad-format', 'The stream is open already.')
            self._open = True
            return header(child.attrs)
        if child.name == f'{FRAMING} close':
            return END
        if not self._open:
            raise StreamError('bad-format', f"The first message must be <open xmlns='{FRAMING}'/>.")
        return message

    def _only_child(self, message: bytes) -> Child:
        parser = StreamParser(self._limit, STREAM_OPEN)
        try:
            parser.feed(message)
            if parser.error is not None and not parser.items:
                raise parser.error
            child = parser.items.popleft() if parser.items else None
            if not isinstance(child, Child):
                raise StreamError('not-well-formed', 'The message is not a complete element.')
            if not parser.idle:
                raise StreamError('bad-format', 'A message holds exactly one element (RFC 7395 3.3.3).')
            return child
        finally:
            parser.close()

    def encode(self, data: bytes) -> list[bytes]:
        """What the stream wants to say, as messages."""
        messages = []
        if data.startswith(b'<?xml'):
            attributes, data = split_header(data)
            kept = b''.join(b' %b=%b' % (key, value) for key, value in attributes.items())
            messages.append(f"<open xmlns='{FRAMING}'".encode() + kept + b'/>')
        last = data.endswith(END)
        if last:
            data = data[: -len(END)]
        messages += [declared(one) for one in elements(data)]
        if last:
            uri = ''
            if (host := other_host(data)) and (found := self._uri(host)):
                uri = f" see-other-uri='{quote(found)}'"
            messages.append(f"<close xmlns='{FRAMING}'{uri}/>".encode())
        return messages


def header(attrs: dict[str, str]) -> bytes:
    """A stream header with the addresses, version and language of ``attrs`` (keys as expat gives them)."""
    given = ((key, attrs.get(name)) for key, name in (('to', 'to'), ('from', 'from'), ('version', 'version')))
    parts = [f" {key}='{quote(value)}'" for key, value in given if value is not None]
    if lang := attrs.get(LANG):
        parts.append(f" xml:lang='{quote(lang)}'")
    return f'{HEADER}{"".join(parts)}>'.encode()


def split_header(data: bytes) -> tuple[dict[bytes, bytes], bytes]:
    """Our own stream header at the beginning of ``data``: its attributes (quoted, without declarations), the rest."""
    tag = TAG.match(data, data.index(b'?>') + 2)
    name = NAME.match(tag.group()) if tag else None
    assert tag is not None
    assert name is not None
    found = {}
    position = name.end()
    while match := _ATTRIBUTE.match(tag.group(), position):
        if not match.group(1).startswith(b'xmlns'):
            found[match.group(1)] = match.group(2)
        position = match.end()
    return found, data[tag.end() :]


def other_host(data: bytes) -> str:
    """The address inside a see-other-host stream error, '' when there is none."""
    match = _OTHER_HOST.search(data)
    if match is None:
        return ''
    text = match.group(1).decode()
    for written, meant in _UNESCAPED:
        text = text.replace(written, meant)
    return text


def elements(data: bytes) -> list[bytes]:
    """The complete elements in ``data`` one by one. ``data`` is our own output: well-formed in a standard stream."""
    if not data:
        return []
    if (shape := _SHAPES.get(data[1:2])) is not None and _is_one(data, *shape):
        return [data]
    found = []
    parser = StreamParser(len(data) + 1, STREAM_OPEN)
    try:
        parser.feed(data)
        if parser.error is not None:
            raise parser.error
        found = [item.raw for item in parser.items if isinstance(item, Child)]
    finally:
        parser.close()
    return found


def declared(element: bytes) -> bytes:
    """``element`` of a standard stream with the namespaces written down that it had from the stream."""
    tag = TAG.match(element)
    name = NAME.match(element)
    if tag is None or name is None:
        return element
    at = name.end()
    own: set[bytes] = set()
    if element.find(b'xmlns', at, tag.end()) > 0:
        position = at
        while match := _ATTRIBUTE.match(element, position, tag.end()):
            own.add(match.group(1))
            position = match.end()
    add = b''
    if b'xmlns' not in own:
        add = _CLIENT_DECLARED
    if b'xmlns:stream' not in own and b'stream:' in element:
        add += _STREAM_DECLARED
    return element[:at] + add + element[at:] if add else element


def undeclared(element: bytes) -> bytes:
    """What ``declared`` was given: the element as it stands in a standard stream."""
    name = NAME.match(element)
    if name is None or not element.startswith(_CLIENT_DECLARED, name.end()):
        return element
    rest = element[name.end() + len(_CLIENT_DECLARED) :]
    return name.group() + rest.removeprefix(_STREAM_DECLARED)


def _is_one(data: bytes, opening: bytes, closing: bytes) -> bool:
    """Whether ``data`` can only be one stanza of this name, or ill-formed."""
    if not data.startswith(opening):
        return False
    bracket = data.find(b'>')
    if bracket < 0:
        return False
    if data[bracket - 1 : bracket] == b'/':
        return bracket == len(data) - 1
    end = data.find(closing, bracket)
    if end < 0 or end != len(data) - len(closing):
        return False
    return data.find(opening, 1) < 0 and b'<!' not in data and b'<?' not in data
