"""XEP-0198 without sockets: the elements, the queue of what the client has not acknowledged, and what we may
acknowledge to it. Counters are kept as plain numbers and cut to 32 bits on the wire."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Final, NamedTuple

from engine.delivery import Delivery
from engine.xmpp import ns
from engine.xmpp.stanza import Stanza, escape

FEATURE: Final = f"<sm xmlns='{ns.STREAM_MANAGEMENT}'/>".encode()
REQUEST: Final = f"<r xmlns='{ns.STREAM_MANAGEMENT}'/>".encode()
NONZAS: Final = frozenset(f'{ns.STREAM_MANAGEMENT} {name}' for name in ('enable', 'resume', 'r', 'a'))
_MASK: Final = 0xFFFF_FFFF
_NUMBER: Final = re.compile('[0-9]{1,10}')
_PREVID_LENGTH: Final = 200
KEYS: Final = 1000
"""Stanzas after the first undecided one that are recognised when a client sends them again."""

Entry = bytes | tuple[bytes, Delivery | None]
"""One queued stanza; a message comes with its delivery."""


class TooHigh(Exception):
    """The client acknowledged more than was sent to it. ``h``: what it said, ``sent``: what is right at most."""

    def __init__(self, h: int, sent: int) -> None:
        super().__init__(h, sent)
        self.h = h
        self.sent = sent


class Malformed(Exception):
    """An attribute is missing or wrong; ``str()`` says which and what would be right."""


class Enable(NamedTuple):
    """What <enable/> asks for. ``most`` seconds of hibernation, None: whatever the server likes."""

    resume: bool
    most: int | None


class Resume(NamedTuple):
    """What <resume/> asks for."""

    previd: str
    h: int


def counter(attrs: Mapping[str, str]) -> int:
    """The attribute h. Raises Malformed."""
    text = attrs.get('h', '')
    if not _NUMBER.fullmatch(text) or int(text) > _MASK:
        raise Malformed(f"'h' must be a number from 0 to {_MASK}.")
    return int(text)


def read_enable(attrs: Mapping[str, str]) -> Enable:
    """The attributes of <enable/>. Raises Malformed."""
    wanted = attrs.get('resume', 'false')
    if wanted not in ('true', 'false', '1', '0'):
        raise Malformed("'resume' must be true or false.")
    most = attrs.get('max')
    if most is not None and not _NUMBER.fullmatch(most):
        raise Malformed("'max' must be a number of seconds.")
    return Enable(wanted in ('true', '1'), None if most is None else int(most))


def read_resume(attrs: Mapping[str, str]) -> Resume:
    """The attributes of <resume/>. Raises Malformed."""
    previd = attrs.get('previd', '')
    if not previd or len(previd) > _PREVID_LENGTH:
        raise Malformed("'previd' must be the id that <enabled/> gave.")
    return Resume(previd, counter(attrs))


def failed(condition: str, text: str = '', h: int | None = None) -> bytes:
    """<failed/> with a stanza error condition."""
    words = f"<text xmlns='{ns.STANZA_ERRORS}' xml:lang='en'>{escape(text)}</text>" if text else ''
    handled = '' if h is None else f" h='{h & _MASK}'"
    inside = f"<{condition} xmlns='{ns.STANZA_ERRORS}'/>{words}"
    return f"<failed xmlns='{ns.STREAM_MANAGEMENT}'{handled}>{inside}</failed>".encode()


def enabled(identity: str, most: int) -> bytes:
    """<enabled/>; without an id the stream cannot be resumed."""
    given = f" id='{escape(identity)}' resume='true' max='{most}'" if identity else ''
    return f"<enabled xmlns='{ns.STREAM_MANAGEMENT}'{given}/>".encode()


def resumed(previd: str, h: int) -> bytes:
    """<resumed/>."""
    return f"<resumed xmlns='{ns.STREAM_MANAGEMENT}' previd='{escape(previd)}' h='{h & _MASK}'/>".encode()


def answer(h: int) -> bytes:
    """<a/>."""
    return b"<a xmlns='urn:xmpp:sm:3' h='%d'/>" % (h & _MASK)


def too_high(error: TooHigh) -> bytes:
    """The application-specific condition for a stream error undefined-condition."""
    attributes = f"h='{error.h}' send-count='{error.sent & _MASK}'"
    return f"<handled-count-too-high xmlns='{ns.STREAM_MANAGEMENT}' {attributes}/>".encode()


class Outbound:
    """What was sent to one client and not acknowledged by it.

    ``ring`` holds the newest ``limit`` stanzas: what a resumption can send again. Messages that were pushed out of it
    unacknowledged wait in ``old`` until the client acknowledges them or the session ends, so none is lost. ``size`` is
    the bytes of both; above ``most`` bytes ``overflow`` is called, once for each further stanza. ``write`` gives bytes
    to the client or, while there is no connection, to nobody. ``asked_at``: since when an <r/> is unanswered, seconds
    of the monotonic clock, 0.0 when none is.
    """

    __slots__ = (
        'acked', 'asked_at', 'limit', 'marks', 'most', 'old', 'overflow', 'rate', 'ring', 'sent', 'since', 'size',
        'track', 'wanted', 'write',
    )  # fmt: skip

    def __init__(
        self,
        write: Callable[[bytes], None],
        track: Callable[[bytes], Delivery | None],
        overflow: Callable[[], None],
        limit: int,
        rate: int,
        most: int,
    ) -> None:
        self.write = write
        self.track = track
        self.overflow = overflow
        self.limit = limit
        self.rate = rate
        self.most = most
        self.sent = 0
        self.acked = 0
        self.since = 0
        self.size = 0
        self.ring: list[Entry] = []
        self.old: deque[tuple[int, bytes, Delivery]] | None = None
        self.marks: list[tuple[int, Callable[[bool], None]]] | None = None
        self.asked_at = 0.0
        self.wanted = False

    def push(self, data: bytes) -> None:
        """Queue one stanza and write it."""
        self.sent += 1
        ring = self.ring
        if data.startswith(b'<m'):
            delivery = self.track(data)
            if delivery is not None:
                delivery.holder = self
            ring.append((data, delivery))
        else:
            ring.append(data)
        self.write(data)
        self.since += 1
        if self.since >= self.rate:
            self._ask()
        self.size += len(data)
        if len(ring) > self.limit:
            self._evict()
        if self.size > self.most:
            self.overflow()

    def put(self, data: bytes, delivery: Delivery | None) -> None:
        """The same for a message whose delivery began before."""
        track, self.track = self.track, lambda _data: delivery
        self.push(data)
        self.track = track

    def _ask(self) -> None:
        self.since = 0
        if not self.asked_at:
            self.asked_at = monotonic()
        self.write(REQUEST)

    def request(self) -> None:
        """Ask for an acknowledgement now, or as soon as the last question is answered."""
        if self.asked_at:
            self.wanted = True
        elif self.ring:
            self._ask()

    def _evict(self) -> None:
        entry = self.ring.pop(0)
        if isinstance(entry, tuple) and entry[1] is not None:
            if self.old is None:
                self.old = deque()
            self.old.append((self.sent - len(self.ring), entry[0], entry[1]))
        else:
            self.size -= len(entry[0] if isinstance(entry, tuple) else entry)

    def acknowledge(self, h: int) -> None:
        """The client has handled ``h`` stanzas (modulo 2^32). Raises TooHigh; fewer than it said before means nothing
        new."""
        missing = (self.sent - h) & _MASK
        if missing > self.sent - self.acked:
            if (self.acked - h) & _MASK > _MASK >> 1:
                raise TooHigh(h, self.sent)
            return
        self.acked = handled = self.sent - missing
        old = self.old
        while old and old[0][0] <= handled:
            _, data, delivery = old.popleft()
            self.size -= len(data)
            delivery.finish()
        if not old:
            self.old = None
        count = len(self.ring) - missing
        if count > 0:
            gone = self.ring[:count]
            del self.ring[:count]
            for entry in gone:
                if isinstance(entry, tuple):
                    self.size -= len(entry[0])
                    if entry[1] is not None:
                        entry[1].finish()
                else:
                    self.size -= len(entry)
        self.asked_at = 0.0
        marks = self.marks
        while marks and marks[0][0] <= handled:
            marks.pop(0)[1](True)
        if not marks:
            self.marks = None
        if self.wanted:
            self.wanted = False
            self.request()

    def when_acknowledged(self, callback: Callable[[bool], None]) -> None:
        """``callback(True)`` when the client has acknowledged everything sent so far, ``callback(False)`` when it never
        will. Asks it now."""
        if self.marks is None:
            self.marks = []
        self.marks.append((self.sent, callback))
        self.request()

    def again(self, h: int) -> list[bytes] | None:
        """What to send when the client resumes having handled ``h``; None when it was not kept: then the session cannot
        go on, and what is left does not include what the client has. Raises TooHigh."""
        missing = (self.sent - h) & _MASK
        if missing > self.sent - self.acked and (self.acked - h) & _MASK > _MASK >> 1:
            raise TooHigh(h, self.sent)
        self.acknowledge(h)
        if missing > len(self.ring):
            return None
        return [entry[0] if isinstance(entry, tuple) else entry for entry in self.ring]

    def detach(self) -> None:
        """The connection is gone: what is queued from now on is written by nobody."""
        self.write = _nowhere
        self.asked_at = 0.0
        self.wanted = False

    def attach(self, write: Callable[[bytes], None]) -> None:
        """There is a connection again; the caller writes what ``again`` returned, then REQUEST."""
        self.write = write
        self.since = 0
        self.asked_at = monotonic()

    def end(self) -> list[Entry]:
        """The session is over: everything unacknowledged, oldest first."""
        left: list[Entry] = [(data, delivery) for _, data, delivery in self.old or ()]
        left += self.ring
        self.ring, self.old, self.write, self.size = [], None, _nowhere, 0
        marks, self.marks = self.marks, None
        for _, callback in marks or ():
            callback(False)
        return left


class Inbound:
    """What the client sent, and how much of it we may acknowledge: everything before the first stanza whose fate is
    open. ``upto`` is the last one handled before a resumption. ``asked``: the client waits for more than it was told.
    ``tell`` is called when that may have changed.

    After a resumption the client sends again what we did not acknowledge, though we have handled it: such a stanza is
    recognised by its order and identity and not handled twice.
    """

    __slots__ = ('asked', 'expected', 'keys', 'pending', 'received', 'tell', 'upto')

    def __init__(self, tell: Callable[[], None]) -> None:
        self.tell = tell
        self.received = 0
        self.upto = 0
        self.asked = False
        self.pending: deque[Delivery] | None = None
        self.keys: deque[tuple[int, object]] | None = None
        self.expected: deque[tuple[int, object]] | None = None

    def wait_for(self, delivery: Delivery) -> None:
        """The stanza being handled is not decided before this delivery."""
        if self.pending is not None and len(self.pending) & 63 == 63:
            self.decided()
        if self.pending is None:
            self.pending = deque()
            self.keys = deque()
        self.pending.append(delivery)

    def handled(self, stanza: Stanza) -> None:
        """A stanza was routed: remember it while it, or one before it, is undecided."""
        if self.keys is not None and len(self.keys) < KEYS:
            self.keys.append((self.received, _key(stanza)))

    def decided(self) -> int:
        """How many stanzas may be acknowledged."""
        return min(self._decided(), self.received)

    def _decided(self) -> int:
        """The same, with those handled before a resumption that the client has not repeated yet."""
        pending = self.pending
        if pending is None:
            return max(self.upto, self.received)
        while pending and pending[0].done:
            pending.popleft()
        if not pending:
            self.pending = self.keys = None
            return max(self.upto, self.received)
        decided = pending[0].seq - 1
        keys = self.keys
        while keys and keys[0][0] <= decided:
            keys.popleft()
        return decided

    def settled(self) -> None:
        """A delivery was decided."""
        self.tell()

    def resume(self) -> int:
        """The client comes back; what it is told we have handled. The next stanza is the one after that."""
        decided = self._decided()
        self.upto = max(self.upto, self.received)
        self.asked = False
        self.expected = None
        if self.keys:
            self.expected = deque(self.keys)
            self._forget(self.keys[-1][0] + 1)
        self.received = decided
        return decided

    def repeated(self, stanza: Stanza) -> bool:
        """Whether the stanza, counted already, is one that was handled before the resumption."""
        expected = self.expected
        if not expected:
            return False
        number, key = expected.popleft()
        if not expected:
            self.expected = None
        if number == self.received and key == _key(stanza):
            return True
        self.expected = None
        self._forget(self.received)
        return False

    def _forget(self, first: int) -> None:
        """Stanzas from this number on are other ones now."""
        self.upto = first - 1
        if self.pending is not None and self.keys is not None:
            self.pending = deque(delivery for delivery in self.pending if delivery.seq < first)
            self.keys = deque(key for key in self.keys if key[0] < first)


def _key(stanza: Stanza) -> object:
    attrs = stanza.attrs
    identity = attrs.get('id')
    return (stanza.name, identity, attrs.get('to')) if identity else hash(stanza.raw)


def _nowhere(data: bytes) -> None:
    """Bytes for a client that is away: they wait in the ring."""
