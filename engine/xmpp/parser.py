"""Two ways to cut stanzas out of a stream, with the same result, and the errors both report.

``SliceChecker`` (one per process) judges a slice of which the caller knows that it can only be one stanza.
``StreamParser`` (one per session, only while needed) follows the depth of any legal stream. Both are expat with the
same refusals; the reasons and the measurements are in docs/decisions/0007-raw-first-stanza-path.md.
"""

from __future__ import annotations

import re
from collections import deque
from typing import Final, NamedTuple
from xml.etree.ElementTree import Element, XMLParser
from xml.parsers import expat

from engine.xmpp import ns
from engine.xmpp.stanza import NAME, TAG, escape, quote

STREAM_OPEN: Final = b"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
"""The start tag of a standard stream: what every receiver of a raw stanza stands in."""

_STANDARD: Final = {'': ns.CLIENT, 'stream': ns.STREAMS}
_RENEW_BYTES: Final = 4 * 1024 * 1024
"""expat keeps every name it has seen, so the shared parser is replaced after so many bytes."""
_RESCAN_BYTES: Final = 8 * 1024 * 1024
"""expat scans an unfinished tag again at every feed; so much of that in one stanza is an attack (legal ones: a few
KiB)."""
_DEPTH: Final = 200
_SPACE: Final = b' \t\r\n'
_SLASH, _BANG, _QUESTION = b'/!?'
_DECLARATION: Final = re.compile(rb'<[!?]')
"""How a comment, CDATA section, DTD or processing instruction begins."""
_SHORT: Final = 4096
"""A tag that has not ended is held as plain bytes up to this length, then a parser follows it."""
_HEADERS_KEPT: Final = 500
"""Stream headers remembered with what they mean: every client of one program sends the same one, twice a sign-in."""
_HEADER_BYTES: Final = 500


class StreamError(Exception):
    """The peer broke a rule; ``condition`` is the stream error of RFC 6120 4.9.3 that says which."""

    def __init__(self, condition: str, text: str = '') -> None:
        super().__init__(condition, text)
        self.condition = condition
        self.text = text


class Header(NamedTuple):
    """The stream's start tag. ``wrap`` is None for a standard one, else the tag itself: its prefixes are in force."""

    name: str
    attrs: dict[str, str]
    wrap: bytes | None
    content: str
    """The default namespace."""
    end: int


class Child(NamedTuple):
    """One complete element at the first level; ``raw`` as it was sent, ``name`` as 'namespace name'."""

    name: str
    attrs: dict[str, str]
    raw: bytes
    end: int


class End(NamedTuple):
    """The stream's end tag."""

    end: int


def _refuse(*_: object) -> None:
    raise StreamError('restricted-xml', 'DTDs, comments and processing instructions are not allowed.')


def _new_parser() -> expat.XMLParserType:
    parser = expat.ParserCreate('UTF-8', ' ')
    if hasattr(parser, 'SetReparseDeferralEnabled'):
        parser.SetReparseDeferralEnabled(False)
    parser.StartDoctypeDeclHandler = _refuse
    parser.CommentHandler = _refuse
    parser.ProcessingInstructionHandler = _refuse
    return parser


_CONDITIONS: Final = {
    expat.errors.codes[expat.errors.XML_ERROR_UNDEFINED_ENTITY]: 'restricted-xml',
    expat.errors.codes[expat.errors.XML_ERROR_UNBOUND_PREFIX]: 'bad-namespace-prefix',
    expat.errors.codes[expat.errors.XML_ERROR_UNKNOWN_ENCODING]: 'unsupported-encoding',
    expat.errors.codes[expat.errors.XML_ERROR_INCORRECT_ENCODING]: 'unsupported-encoding',
}


class SliceChecker:
    """One expat parser that stands inside a standard stream for ever. ``cut`` gives it slices that are one complete
    element or ill-formed; ``name`` and ``attrs`` are those of the last one's tag."""

    __slots__ = ('_left', '_on_start', '_opened', '_parse', '_parser', 'attrs', 'name')

    def __init__(self, opened: bytes = STREAM_OPEN) -> None:
        """``opened``: the start tag of the stream it stands in."""
        self._opened = opened
        self._on_start = self._started
        self._renew()

    def _renew(self) -> None:
        self._parser = _new_parser()
        self._parser.Parse(self._opened, False)
        self._parser.StartElementHandler = self._on_start
        self._parse = self._parser.Parse
        self._left = _RENEW_BYTES
        self.name = ''
        self.attrs: dict[str, str] = {}

    def _started(self, name: str, attrs: dict[str, str]) -> None:
        # Only the stanza's own tag is of interest: take the handler off for everything inside it.
        self._parser.StartElementHandler = None
        self.name = name
        self.attrs = attrs

    def cut(self, data: bytes, position: int, opening: bytes, closing: bytes, limit: int) -> bytes | None:
        """The element that begins at ``position`` with ``opening`` (``b'<iq'``), checked: ``name`` and ``attrs`` are
        its own, and the caller asks whether ``name`` is the one it expects. b'' when its tag has not ended yet and may
        be held as it is; None when a StreamParser must look.

        The one rule of what a slice is (docs/decisions/0007-raw-first-stanza-path.md): it goes on only when it can be
        nothing but one element or ill-formed. It begins with its name, holds that beginning once, no CDATA, comment or
        processing instruction, and ends with the first end tag of that name (raw '<' is legal nowhere else, so that
        end tag closes the element), or its first '>' ends an empty element.
        """
        bracket = data.find(b'>', position)
        if bracket < 0:
            return b'' if len(data) - position <= _SHORT else None
        if data[bracket - 1] == _SLASH:
            piece = data[position : bracket + 1]
        else:
            end = data.find(closing, bracket)
            if end < 0:
                return None
            piece = data[position : end + len(closing)]
            if piece.find(opening, 1) > 0:
                return None
            # One byte is looked for at a tenth of the price of two.
            if (_BANG in piece or _QUESTION in piece) and _DECLARATION.search(piece):
                return None
        if len(piece) > limit:
            return None
        self._left -= len(piece)
        if self._left < 0:
            self._renew()
        self.name = ''
        try:
            self._parse(piece, False)
        except (expat.ExpatError, StreamError):
            self._renew()
            return None
        if not self.name:
            # No tag was completed (<presence a='x/>): the parser waits for the rest of it and cannot be used again.
            self._renew()
            return None
        self._parser.StartElementHandler = self._on_start
        return piece


_checker: Final = SliceChecker()
_headers: Final[dict[bytes, Header]] = {}


class StreamParser:
    """Follows one stream by depth. ``feed`` puts what became complete into ``items``; a violation is put into
    ``error``, after the items that came before it. Held-back bytes are bounded by ``limit``. Call ``close`` when done
    with it.

    A stream that begins with a header seen before and then brings one whole element in each portion, as every sign-in
    does, needs no expat parser of its own: making one costs as much as all its elements."""

    __slots__ = (
        '_base', '_buffer', '_cut', '_declared', '_depth', '_parser', '_pending', '_rescanned', '_shift',
        '_start', '_start_attrs', '_start_name', 'elements', 'error', 'items', 'limit',
    )  # fmt: skip

    def __init__(self, limit: int, opened: bytes | None = None) -> None:
        """``opened``: the start tag of a stream that is open already (STREAM_OPEN or Header.wrap), None to wait for
        one."""
        self.limit = limit
        self.items: deque[Header | Child | End] = deque()
        self.error: StreamError | None = None
        self.elements = 0
        self._buffer = bytearray()  # fed to expat; begins at the byte index _base of the stream
        self._pending = bytearray()  # not fed yet
        self._base = 0
        self._shift = 0  # byte index of the stream minus expat's, which may have begun later
        self._cut = 0  # end of the newest item, as such an index
        self._rescanned = 0
        self._depth = 0
        self._declared: dict[str, str] = {}
        self._start = 0
        self._start_name = ''
        self._start_attrs: dict[str, str] = {}
        self._parser: expat.XMLParserType | None = None
        if opened is not None:
            self._depth = 1
            self._base = self._cut = len(opened)
            self._make_parser(opened)

    def _make_parser(self, opened: bytes | None) -> expat.XMLParserType:
        self._parser = parser = _new_parser()
        parser.XmlDeclHandler = self._on_declaration
        if opened is None:
            parser.StartNamespaceDeclHandler = self._on_namespace
        else:
            parser.Parse(opened, False)
            self._shift = self._base - len(opened)
            parser.CharacterDataHandler = _no_text
        parser.StartElementHandler = self._on_start
        parser.EndElementHandler = self._on_end
        return parser

    def close(self) -> None:
        """Let go of the expat parser: its handlers and this object hold each other."""
        parser, self._parser = self._parser, None
        if parser is not None:
            parser.StartElementHandler = parser.EndElementHandler = parser.CharacterDataHandler = None
            parser.XmlDeclHandler = parser.StartNamespaceDeclHandler = None

    @property
    def idle(self) -> bool:
        """Whether the stream stands between two stanzas and nothing is held back: the parser may be dropped."""
        return self._depth == 1 and not self.items and not self.error and self._between()

    def _between(self) -> bool:
        return not self._pending and not self._buffer[self._cut - self._base :].strip(_SPACE)

    def rest(self, end: int) -> bytes:
        """The bytes after ``end`` (of an item of the newest feed): for whoever goes on without this parser."""
        return bytes(self._buffer[end - self._base :] + self._pending)

    def feed(self, data: bytes) -> None:
        """Bytes of the stream, in any portions."""
        if self.error is not None:
            return
        if self._depth == 1 and data.isspace() and self._between():
            return
        if not self.items:
            del self._buffer[: self._cut - self._base]
            self._base = self._cut
            if self._parser is None and not self._pending and self._whole(data):
                return
        self._pending += data
        if len(self._buffer) - (self._cut - self._base) + len(self._pending) > self.limit and b'>' not in data:
            self.error = _too_long(self.limit)
        elif b'>' in data:
            # Without one nothing can become complete: do not make expat scan an unfinished tag again.
            self._parse()

    def _whole(self, data: bytes) -> bool:
        """Whether ``data`` was a header seen before, or (behind one) exactly one element: then it is an item now."""
        if not self._depth:
            header = _headers.get(data)
            if header is None:
                return False
            item: Header | Child = header
            self._depth = 1
            self.elements += 1
        else:
            named = NAME.match(data)
            if named is None:
                return False
            closing = b'</%b>' % named.group(1)
            if _checker.cut(data, 0, named.group(), closing, self.limit) != data:
                return False
            item = Child(_checker.name, _checker.attrs, data, self._base + len(data))
            self.elements += data.count(b'<') - data.count(b'</')
        self._base = self._cut = self._base + len(data)
        self.items.append(item)
        return True

    def _parse(self) -> None:
        data = bytes(self._pending)
        self._pending.clear()
        parser = self._parser or self._make_parser(STREAM_OPEN if self._depth else None)
        first = data if not self._depth and not self._base and not self._buffer and not self.items else b''
        if not self._depth and not self._base and not self._buffer:
            data = data.lstrip(_SPACE)
            if data[:2] in (b'\xff\xfe', b'\xfe\xff') or b'\0' in data[:2]:
                self.error = StreamError('unsupported-encoding', 'The stream must be UTF-8.')
                return
        self._buffer += data
        try:
            parser.Parse(data, False)
        except StreamError as error:
            self.error = error.with_traceback(None)
            return
        except expat.ExpatError as error:
            condition = _CONDITIONS.get(error.code, 'not-well-formed')
            self.error = StreamError(condition, f'{expat.ErrorString(error.code)}.')
            return
        end = self._base + len(self._buffer)
        self._rescanned += end - self._shift - parser.CurrentByteIndex
        if end - self._cut > self.limit or self._rescanned > _RESCAN_BYTES:
            self.error = _too_long(self.limit)
        elif first and len(first) <= _HEADER_BYTES and len(self.items) == 1:
            header = self.items[0]
            if isinstance(header, Header) and header.wrap is None and header.end == len(first):
                if len(_headers) >= _HEADERS_KEPT:
                    _headers.clear()
                _headers[first] = header

    def _on_declaration(self, _version: str, encoding: str | None, _standalone: int) -> None:
        if encoding is not None and encoding.lower() not in ('utf-8', 'utf8'):
            raise StreamError('unsupported-encoding', 'The stream must be UTF-8.')

    def _on_namespace(self, prefix: str | None, uri: str | None) -> None:
        if prefix != 'xml':
            self._declared[prefix or ''] = uri or ''

    def _on_start(self, name: str, attrs: dict[str, str]) -> None:
        self.elements += 1
        depth = self._depth
        self._depth = depth + 1
        if depth > 1:
            return
        parser = self._parser
        assert parser is not None
        at = parser.CurrentByteIndex + self._shift
        if depth == 1:
            parser.CharacterDataHandler = None
            self._start, self._start_name, self._start_attrs = at, name, attrs
            return
        tag = self._tag(at)
        named = NAME.match(tag)
        standard = self._declared == _STANDARD and named is not None and named.group(1) == b'stream:stream'
        wrap = None if standard else tag
        parser.StartNamespaceDeclHandler = None
        parser.CharacterDataHandler = _no_text
        self._cut = at + len(tag)
        self.items.append(Header(name, attrs, wrap, self._declared.get('', ''), self._cut))

    def _on_end(self, _name: str) -> None:
        self._depth -= 1
        if self._depth > 1:
            return
        parser = self._parser
        assert parser is not None
        at = parser.CurrentByteIndex + self._shift
        if self._depth == 0:
            self.items.append(End(at))
            return
        # expat reports the end of <m/> behind its tag, where a wrong </m> may follow: only the tag itself can tell.
        tag = self._tag(self._start)
        if tag.endswith(b'/>'):
            end = self._start + len(tag)
        else:
            end = self._base + self._buffer.index(b'>', at - self._base) + 1
        if end - self._start > self.limit:
            raise _too_long(self.limit)
        raw = bytes(self._buffer[self._start - self._base : end - self._base])
        parser.CharacterDataHandler = _no_text
        self._rescanned = 0
        self._cut = end
        self.items.append(Child(self._start_name, self._start_attrs, raw, end))

    def _tag(self, at: int) -> bytes:
        match = TAG.match(self._buffer, at - self._base)
        if match is None:  # cannot be: expat has just accepted a tag here
            raise StreamError('internal-server-error')
        return match.group()


def only_element(raw: bytes, limit: int) -> Child:
    """The element that ``raw`` is, for bytes that come from outside on another way than a stream: what streams refuse
    is refused. Raises StreamError."""
    parser = StreamParser(limit, STREAM_OPEN)
    try:
        parser.feed(raw)
        if parser.error is not None:
            raise parser.error
        found = parser.items[0] if len(parser.items) == 1 else None
        if not isinstance(found, Child) or found.raw != raw:
            raise StreamError('not-well-formed', 'This is not one element.')
        return found
    finally:
        parser.close()


def _too_long(limit: int) -> StreamError:
    return StreamError('policy-violation', f'A stanza may have at most {limit} bytes.')


def _no_text(text: str) -> None:
    if text.strip(' \t\r\n'):
        raise StreamError('bad-format', 'Text between stanzas is not allowed.')


def standalone(raw: bytes, wrap: bytes | None, namespace: str = ns.CLIENT) -> bytes:
    """``raw``, sent inside the start tag ``wrap``, written anew so that it means the same inside a standard stream
    and its own tag has no prefix. Elements in ``namespace``, the content namespace it came from, are put into
    jabber:client. Prefixes inside text are lost. Raises StreamError when it is nested too deeply."""
    opened = wrap or STREAM_OPEN
    named = NAME.match(opened)
    assert named is not None
    parser = XMLParser()  # noqa: S314 - the stream parser has refused DTDs already
    parser.feed(opened)
    parser.feed(raw)
    parser.feed(b'</%b>' % named.group(1))
    root: Element = parser.close()
    if namespace != ns.CLIENT:
        for element in root.iter():
            if element.tag.startswith(f'{{{namespace}}}'):
                element.tag = f'{{{ns.CLIENT}}}{element.tag[len(namespace) + 2 :]}'
    parts: list[str] = []
    _write(root[0], ns.CLIENT, parts, 0)
    return ''.join(parts).encode()


def _write(element: Element, default: str, parts: list[str], depth: int) -> None:
    if depth > _DEPTH:
        raise StreamError('policy-violation', f'Elements may be nested {_DEPTH} deep.')
    namespace, _, name = element.tag.rpartition('}')
    namespace = namespace[1:]
    parts.append(f'<{name}')
    if namespace != default:
        parts.append(f" xmlns='{quote(namespace)}'")
    for number, (key, value) in enumerate(element.attrib.items()):
        uri, _, local = key.rpartition('}')
        uri = uri[1:]
        if uri == ns.XML:
            local = f'xml:{local}'
        elif uri:
            parts.append(f" xmlns:a{number}='{quote(uri)}'")
            local = f'a{number}:{local}'
        parts.append(f" {local}='{quote(value)}'")
    if not element.text and not len(element):
        parts.append('/>')
        return
    parts.append('>')
    parts.append(escape(element.text or ''))
    for child in element:
        _write(child, namespace, parts, depth + 1)
        parts.append(escape(child.tail or ''))
    parts.append(f'</{name}>')
