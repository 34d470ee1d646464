"""A stanza as it travels: name, attributes, raw bytes and a tree only when someone asks for it.

``raw`` always begins with ``<message``, ``<presence`` or ``<iq`` (no prefix), is one complete element and means the
same wherever it stands inside a stream whose default namespace is ``jabber:client``: forwarding is writing it.
The builders here return bytes ready to write. Text put into XML goes through ``escape`` first.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final
from xml.etree.ElementTree import Element, ParseError, XMLParser

from engine.xmpp import ns

LANG: Final = f'{ns.XML} lang'
"""Key of xml:lang in ``Stanza.attrs`` (attributes with a namespace are keyed 'namespace name')."""

ERROR_TYPES: Final = {
    'bad-request': 'modify',
    'conflict': 'cancel',
    'feature-not-implemented': 'cancel',
    'forbidden': 'auth',
    'gone': 'cancel',
    'internal-server-error': 'cancel',
    'item-not-found': 'cancel',
    'jid-malformed': 'modify',
    'not-acceptable': 'modify',
    'not-allowed': 'cancel',
    'not-authorized': 'auth',
    'policy-violation': 'modify',
    'recipient-unavailable': 'wait',
    'redirect': 'modify',
    'registration-required': 'auth',
    'remote-server-not-found': 'cancel',
    'remote-server-timeout': 'wait',
    'resource-constraint': 'wait',
    'service-unavailable': 'cancel',
    'subscription-required': 'auth',
    'undefined-condition': 'cancel',
    'unexpected-request': 'wait',
}
"""Stanza error conditions and the error type RFC 6120 section 8.3.3 associates with each."""

_WRAP_OPEN: Final = b"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
_WRAP_CLOSE: Final = b'</stream:stream>'
NAME: Final = re.compile(rb'<([^ \t\r\n/>]+)')
"""The beginning of a start tag; its group is the name. For well-formed bytes, as TAG is."""
_ATTRIBUTE: Final = re.compile(rb'[ \t\r\n]+([^ \t\r\n=>/]+)[ \t\r\n]*=[ \t\r\n]*("[^"]*"|\'[^\']*\')')
_ADDRESSED: Final = re.compile(rb'[ \t\r\n]to[ \t\r\n]*=')
TAG: Final = re.compile(rb'<[^"\'>]*(?:(?:"[^"]*"|\'[^\']*\')[^"\'>]*)*>')
"""A whole tag."""
_MARKUP: Final = re.compile('[&<>"\'\r]')
_REPLACEMENTS: Final = {'&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&apos;', '\r': '&#13;'}
_FORBIDDEN: Final = re.compile('[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]')
_SPECIAL: Final = re.compile('[&<>"\'\x00-\x08\x0b-\x1f\ud800-\udfff\ufffe\uffff]')
"""Either of them: one search tells that a text can stay as it is."""


class Stanza:
    """One stanza. ``attrs`` are those of its own tag, entities resolved; after stamping ``from`` is the sender's full
    JID."""

    __slots__ = ('_tree', 'attrs', 'name', 'raw')

    def __init__(self, name: str, attrs: dict[str, str], raw: bytes) -> None:
        self.name = name
        self.attrs = attrs
        self.raw = raw
        self._tree: Element | None = None

    @property
    def id(self) -> str | None:
        """The id attribute."""
        return self.attrs.get('id')

    @property
    def to(self) -> str | None:
        """The addressee as the sender wrote it (not prepared), None when absent."""
        return self.attrs.get('to')

    @property
    def type(self) -> str | None:
        """The type attribute, None when absent (a message without one is 'normal', a presence is 'available')."""
        return self.attrs.get('type')

    @property
    def from_(self) -> str | None:
        """The sender; for a stanza from a client always its full JID."""
        return self.attrs.get('from')

    @property
    def lang(self) -> str | None:
        """The xml:lang attribute."""
        return self.attrs.get(LANG)

    @property
    def tree(self) -> Element:
        """The parsed element (names as '{namespace}name'). Built at the first use, then kept; do not change it."""
        if self._tree is None:
            self._tree = parse_tree(self.raw)
        return self._tree

    def child(self, namespace: str, name: str) -> Element | None:
        """The first direct child with this name, or None."""
        return self.tree.find(f'{{{namespace}}}{name}')

    @property
    def payload(self) -> Element | None:
        """The first direct child element: what an IQ asks for. None when there is none."""
        return next(iter(self.tree), None)

    def has(self, needle: bytes) -> bool:
        """Whether the raw bytes contain ``needle``: the cheap question before a tree is built. It may be true by
        accident (the needle in a text), so true means 'look', false means 'certainly not there' for namespaces, which
        clients write literally."""
        return needle in self.raw

    def __repr__(self) -> str:
        return f'<Stanza {self.name} {self.attrs}>'


def parse_tree(raw: bytes) -> Element:
    """The element of one complete stanza in the default namespace jabber:client. Raises ElementTree.ParseError."""
    parser = XMLParser()  # noqa: S314 - what comes here went through the stream parser, which refuses DTDs
    parser.feed(_WRAP_OPEN)
    parser.feed(raw)
    parser.feed(_WRAP_CLOSE)
    root: Element = parser.close()
    if len(root) != 1 or root.text or root[0].tail:
        raise ParseError('this is not one element')
    return root[0]


def parse(raw: bytes) -> Stanza:
    """A Stanza from stored or built bytes (an offline message, a generated presence). Raises ElementTree.ParseError."""
    element = parse_tree(raw)
    stanza = Stanza(
        element.tag.partition('}')[2],
        {key.lstrip('{').replace('}', ' '): value for key, value in element.attrib.items()},
        raw,
    )
    stanza._tree = element
    return stanza


def escape(text: str) -> str:
    """``text`` safe in XML content and in attribute values with either quote; characters XML forbids are dropped."""
    if _SPECIAL.search(text) is None:
        return text
    text = _MARKUP.sub(lambda match: _REPLACEMENTS[match.group()], text)
    return _FORBIDDEN.sub('', text)


def quote(text: str) -> str:
    """``text`` safe in an attribute value, where tabs and line ends must be written as references to survive."""
    return escape(text).replace('\t', '&#9;').replace('\n', '&#10;')


def element(name: str, namespace: str = '', text: str = '', /, **attributes: str | None) -> str:
    """A small element as text; attributes that are None are left out. A trailing underscore in a key is dropped."""
    parts = ''.join(f" {key.rstrip('_')}='{quote(value)}'" for key, value in attributes.items() if value is not None)
    declared = f" xmlns='{quote(namespace)}'" if namespace else ''
    return f'<{name}{declared}{parts}>{escape(text)}</{name}>' if text else f'<{name}{declared}{parts}/>'


def iq_result(stanza: Stanza, payload: bytes = b'') -> bytes:
    """The result of an IQ: addresses swapped, same id, ``payload`` (complete elements) inside."""
    return _answer(stanza, 'result', payload)


def error(stanza: Stanza, condition: str, type: str = '', text: str = '', extra: bytes = b'') -> bytes:
    """The error answer to any stanza: addresses swapped, same id.

    ``condition`` is one of ERROR_TYPES; ``type`` defaults to the one RFC 6120 associates with it; ``text`` is for
    people (English); ``extra`` is a complete application-specific condition element. Never answer an error with an
    error: that is the caller's to check.
    """
    kind = type or ERROR_TYPES[condition]
    words = f"<text xmlns='{ns.STANZA_ERRORS}' xml:lang='en'>{escape(text)}</text>" if text else ''
    inside = f"<error type='{kind}'><{condition} xmlns='{ns.STANZA_ERRORS}'/>{words}".encode()
    return _answer(stanza, 'error', inside + extra + b'</error>')


def _answer(stanza: Stanza, kind: str, payload: bytes) -> bytes:
    attrs = stanza.attrs
    head = f"<{stanza.name} type='{kind}'"
    if (identity := attrs.get('id')) is not None:
        head += f" id='{quote(identity)}'"
    if sender := attrs.get('from'):
        head += f" to='{quote(sender)}'"
    if addressee := attrs.get('to'):
        head += f" from='{quote(addressee)}'"
    if not payload:
        return head.encode() + b'/>'
    return b'%b>%b</%b>' % (head.encode(), payload, stanza.name.encode())


def with_attributes(raw: bytes, changes: dict[str, str | None]) -> bytes:
    """``raw`` with attributes of its own tag set (str) or removed (None). Keys are plain names such as to, from,
    type, id. The tag's other attributes stay as they are; set ones come first."""
    end = NAME.match(raw)
    if end is None:
        raise ValueError('not a stanza')
    names = {key.encode() for key in changes}
    position = start = end.end()
    kept = []
    while match := _ATTRIBUTE.match(raw, position):
        if match.group(1) not in names:
            kept.append(match.group())
        position = match.end()
    added = ''.join(f" {key}='{quote(value)}'" for key, value in changes.items() if value is not None)
    return b'%b%b%b%b' % (raw[:start], added.encode(), b''.join(kept), raw[position:])


def split_to(raw: bytes) -> tuple[bytes, bytes]:
    """(head, tail) for a fan-out: ``head + escape(to).encode() + tail`` is ``raw`` addressed to ``to``. Cut once,
    write many."""
    name = NAME.match(raw)
    if name is None:
        raise ValueError('not a stanza')
    rest = with_attributes(raw, {'to': None}) if _ADDRESSED.search(raw) else raw
    end = name.end()
    return rest[:end] + b" to='", b"'" + rest[end:]


def with_child(raw: bytes, child: bytes) -> bytes:
    """``raw`` with ``child`` (complete elements) added as the last children."""
    if raw.endswith(b'/>') and (tag := TAG.match(raw)) and tag.end() == len(raw):
        name = NAME.match(raw)
        assert name is not None
        return b'%b>%b</%b>' % (raw[:-2], child, name.group(1))
    end = raw.rindex(b'</')
    return raw[:end] + child + raw[end:]


def timestamp(when: datetime) -> str:
    """XEP-0082 date and time in UTC with milliseconds; ``when`` is aware."""
    return when.astimezone(UTC).strftime('%Y-%m-%dT%H:%M:%S.%f')[:-3] + 'Z'


def delay(when: datetime, by: str = '', reason: str = '') -> bytes:
    """A XEP-0203 delay element: ``by`` is who delayed the stanza, ``when`` the time it was sent first."""
    return element('delay', ns.DELAY, reason, from_=by or None, stamp=timestamp(when)).encode()
