"""Cut elements out of a stanza as bytes that mean the same anywhere: payloads travel as their publisher wrote them.

An element that relies on a namespace declared further out gets that declaration; nothing else of it changes.
"""

from __future__ import annotations

from typing import Final
from xml.parsers import expat

from engine.xmpp.stanza import NAME, TAG, quote

_CLIENT: Final = 'jabber:client'
Path = tuple[int, ...]


def fragments(raw: bytes, depth: int) -> dict[Path, bytes]:
    """Every element ``depth`` levels below the stanza's own tag, by its path: places among the children on the way.

    ``raw`` is one complete, well-formed stanza (as ``Stanza.raw``) in the default namespace jabber:client.
    """
    return _Cutter(raw, depth).found


class _Cutter:
    def __init__(self, raw: bytes, depth: int) -> None:
        self.raw = raw
        self.depth = depth
        self.found: dict[Path, bytes] = {}
        self._path: list[int] = []
        self._children = [0]
        self._scopes: list[dict[str, str]] = [{'': _CLIENT}]
        self._start = 0
        self._added = b''
        self._parser = parser = expat.ParserCreate()
        parser.StartElementHandler = self._begin
        parser.EndElementHandler = self._end
        parser.Parse(raw, True)
        parser.StartElementHandler = parser.EndElementHandler = None

    def _begin(self, _name: str, attributes: dict[str, str]) -> None:
        place = self._children[-1]
        self._children[-1] += 1
        self._children.append(0)
        self._path.append(place)
        declared = {key[6:]: value for key, value in attributes.items() if key == 'xmlns' or key.startswith('xmlns:')}
        outer = self._scopes[-1]
        self._scopes.append({**outer, **declared} if declared else outer)
        if len(self._path) == self.depth + 1:
            self._start = self._parser.CurrentByteIndex
            missing = [(prefix, value) for prefix, value in outer.items() if prefix not in declared]
            self._added = ''.join(
                f" xmlns{':' if prefix else ''}{prefix}='{quote(value)}'" for prefix, value in sorted(missing)
            ).encode()

    def _end(self, _name: str) -> None:
        if len(self._path) == self.depth + 1:
            self.found[tuple(self._path[1:])] = self._cut(self._parser.CurrentByteIndex)
        self._path.pop()
        self._children.pop()
        self._scopes.pop()

    def _cut(self, index: int) -> bytes:
        raw, start = self.raw, self._start
        tag = TAG.match(raw, start)
        name = NAME.match(raw, start)
        assert tag is not None
        assert name is not None
        # expat reports the end of <m/> behind the tag, so only the start tag tells whether it is one
        end = tag.end() if raw[tag.end() - 2 : tag.end()] == b'/>' else raw.index(b'>', index) + 1
        return raw[start : name.end()] + self._added + raw[name.end() : end]
