"""What was said in a room lately, and how much of it somebody who enters gets (XEP-0045 7.2.13)."""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime
from typing import NamedTuple
from xml.etree.ElementTree import Element

from engine.xmpp import datetimes, ns
from engine.xmpp.stanza import delay, with_child


class BadHistory(ValueError):
    """The <history/> of a request is not as it must be; the message says what would be right."""


class Wanted(NamedTuple):
    """What a client asks for; None: it does not say. ``since`` in seconds since the epoch."""

    stanzas: int | None = None
    characters: int | None = None
    since: float | None = None


def wanted(x: Element | None, now: float) -> Wanted | None:
    """The request in the <x/> of a presence; None when there is none. Raises BadHistory."""
    element = x.find(f'{{{ns.MUC}}}history') if x is not None else None
    if element is None:
        return None
    seconds = _number(element, 'seconds')
    since = now - seconds if seconds is not None else None
    if stamp := element.get('since'):
        try:
            given = datetimes.parse(stamp).timestamp()
        except datetimes.InvalidTime as error:
            raise BadHistory(f"In <history/>, 'since': {error}") from None
        since = given if since is None else max(since, given)
    return Wanted(_number(element, 'maxstanzas'), _number(element, 'maxchars'), since)


def _number(element: Element, name: str) -> int | None:
    text = element.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise BadHistory(f'In <history/>, {name!r} is a whole number of 0 or more, not {text[:40]!r}.')
    return int(text)


class History:
    """The newest messages of a room as they were sent, without addressee."""

    __slots__ = ('_kept', 'size')

    def __init__(self) -> None:
        self._kept: deque[tuple[float, bytes]] = deque()
        self.size = 0

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, now: float, raw: bytes, count: int, size: int) -> None:
        """Keep one more, and of all of them the newest ``count`` that have at most ``size`` bytes together."""
        self._kept.append((now, raw))
        self.size += len(raw)
        while self._kept and (len(self._kept) > count or self.size > size):
            self.size -= len(self._kept.popleft()[1])

    def replay(self, room: str, asked: Wanted | None, default: int, most: int) -> list[bytes]:
        """The messages for somebody who enters, oldest first, each with its time (XEP-0203): ``default`` of them when
        nothing was asked for, never more than ``most``."""
        count = default if asked is None else most if asked.stanzas is None else min(asked.stanzas, most)
        left = asked.characters if asked is not None else None
        found: list[bytes] = []
        for at, raw in reversed(self._kept):
            if len(found) >= count or (asked is not None and asked.since is not None and at < asked.since):
                break
            late = with_child(raw, delay(datetime.fromtimestamp(at, UTC), room))
            if left is not None:
                left -= len(late.decode())
                if left < 0:
                    break
            found.append(late)
        return found[::-1]
