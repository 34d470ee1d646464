"""Transactions of requests other than INVITE (RFC 3261 17.1.2, 17.2.2): what is sent again, what was answered before.

No clock and no sockets: the caller gives the time in seconds and sends what it is told to send.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

T1: Final = 0.5
T2: Final = 4.0
LIFE: Final = 64 * T1
"""Timers F and J."""
COOKIE: Final = 'z9hG4bK'
MOST: Final = 20_000
"""Requests answered within the last 32 seconds that are remembered."""

Key = tuple[str, ...]


class ClientTransaction:
    """One request on its way. ``deadline`` is when ``tick`` wants to be called next."""

    __slots__ = ('_data', '_ends', '_interval', '_reliable', 'deadline')

    def __init__(self, data: bytes, reliable: bool, now: float) -> None:
        self._data = data
        self._reliable = reliable
        self._interval = T1
        self._ends = now + LIFE
        self.deadline = self._ends if reliable else now + T1

    def proceeding(self) -> None:
        """A provisional response came: from now on it is sent again every T2."""
        self._interval = T2

    def tick(self, now: float) -> bytes | None:
        """What to send again now, b'' for nothing; None: there was no answer in time."""
        if now >= self._ends:
            return None
        if self._reliable or now < self.deadline:
            return b''
        self._interval = min(T2, self._interval * 2)
        self.deadline = min(self._ends, now + self._interval)
        return self._data


class ServerTransactions:
    """The requests of the last 32 seconds with their answers, oldest first."""

    __slots__ = ('_entries', 'most')

    def __init__(self, most: int = MOST) -> None:
        self._entries: OrderedDict[Key, tuple[bytes, float]] = OrderedDict()
        self.most = most

    def begin(self, key: Key, now: float) -> bytes | None:
        """None: the request is new and will be answered with ``finish``. Else its answer, b'' while it has none.
        Raises OverflowError when too many are remembered."""
        self._purge(now)
        known = self._entries.get(key)
        if known is not None:
            return known[0]
        if len(self._entries) >= self.most:
            raise OverflowError
        self._entries[key] = (b'', now + LIFE)
        return None

    def finish(self, key: Key, answer: bytes, now: float) -> None:
        """The request was answered."""
        self._entries[key] = (answer, now + LIFE)
        self._entries.move_to_end(key)

    def forget(self, key: Key) -> None:
        """Nothing will repeat this request: its transport is reliable (timer J is 0)."""
        self._entries.pop(key, None)

    def __len__(self) -> int:
        return len(self._entries)

    def _purge(self, now: float) -> None:
        while self._entries:
            key, (_, ends) = next(iter(self._entries.items()))
            if ends > now:
                return
            del self._entries[key]
