"""Stanzas inside stanzas as bytes (XEP-0297), and children taken out of a stanza without writing it anew.

Cost (161-byte message): ``inner`` 1.3 microseconds, ``carbon`` 2.4 for any number of receivers.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Final
from xml.parsers import expat

from engine.xmpp import ns
from engine.xmpp.stanza import NAME, TAG, delay, escape, with_attributes

FORWARD: Final = 'urn:xmpp:forward:0'
_OPEN: Final = f"<stream:stream xmlns='{ns.CLIENT}' xmlns:stream='{ns.STREAMS}'>".encode()
_DECLARED: Final = f" xmlns='{ns.CLIENT}'".encode()
_FORWARDED: Final = f"<forwarded xmlns='{FORWARD}'>".encode()

_DIRECTIONS: Final = {
    name: (f"'><{name} xmlns='{ns.CARBONS}'>".encode() + _FORWARDED, f'</forwarded></{name}>'.encode())
    for name in ('received', 'sent')
}


@lru_cache(maxsize=20_000)
def address(jid: str) -> bytes:
    """A JID as it stands in an attribute."""
    return escape(jid).encode()


def inner(raw: bytes) -> bytes:
    """``raw`` with its namespace written down, as it must be inside an element of another one."""
    tag, name = TAG.match(raw), NAME.match(raw)
    if tag is None or name is None:
        raise ValueError('not a stanza')
    if raw.find(b'xmlns', 0, tag.end()) >= 0:  # given by the client: twice would be ill-formed
        return with_attributes(raw, {'xmlns': ns.CLIENT})
    end = name.end()
    return raw[:end] + _DECLARED + raw[end:]


def forwarded(raw: bytes, at: datetime | None = None) -> bytes:
    """The <forwarded/> of one stanza, with the time at which it was received first."""
    return _FORWARDED + (delay(at) if at is not None else b'') + inner(raw) + b'</forwarded>'


def carbon(direction: str, raw: bytes, owner: str, kind: str, hint: bytes = b'') -> tuple[bytes, bytes]:
    """(head, tail) of a copy for the other clients of ``owner`` (bare JID): head + escaped full JID + tail.

    ``direction`` is 'received' or 'sent', ``kind`` the type of the message, ``hint`` complete elements beside it.
    """
    opened, closed = _DIRECTIONS[direction]
    head = b"<message from='%b' type='%b' to='" % (address(owner), kind.encode())
    return head, b'%b%b%b%b</message>' % (opened, inner(raw), closed, hint)


def is_copy(data: bytes, owner: str) -> bool:
    """Whether ``data`` was made by ``carbon`` for ``owner``: nobody else can send from a bare address."""
    return data.startswith(b"<message from='%b' type='" % address(owner))


def unwrapped(data: bytes, owner: str) -> bytes:
    """The message inside a copy for ``owner``; anything else as it is."""
    if not is_copy(data, owner):
        return data
    for opened, closed in _DIRECTIONS.values():
        begin = data.find(opened)
        if begin >= 0:
            return data[begin + len(opened) : data.rindex(closed)]
    return data


def without(raw: bytes, unwanted: Callable[[str, dict[str, str]], bool]) -> bytes:
    """``raw`` without the direct children for which ``unwanted('namespace name', attributes)`` is true."""
    parser = expat.ParserCreate(namespace_separator=' ')
    parser.buffer_text = True
    spans: list[tuple[int, int]] = []
    depth = 0
    begun = -1

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth, begun
        depth += 1
        if depth == 3 and unwanted(name, attributes):
            begun = parser.CurrentByteIndex - len(_OPEN)

    def end(_name: str) -> None:
        nonlocal depth, begun
        depth -= 1
        if depth != 2 or begun < 0:
            return
        tag = TAG.match(raw, begun)
        assert tag is not None
        # expat reports the end of <m/> behind the tag, so only the start tag tells whether it is one
        empty = raw[tag.end() - 2 : tag.end()] == b'/>'
        spans.append((begun, tag.end() if empty else raw.index(b'>', parser.CurrentByteIndex - len(_OPEN)) + 1))
        begun = -1

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.Parse(_OPEN + raw, False)
    parser.StartElementHandler = parser.EndElementHandler = None
    for first, last in reversed(spans):
        raw = raw[:first] + raw[last:]
    return raw
