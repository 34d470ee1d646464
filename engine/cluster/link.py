"""One side of the session between two nodes: numbering, acknowledgement, resumption. Knows no socket and no clock.

Every numbered frame is kept until the other side has acknowledged it. When the connection breaks both sides keep their
counters; the next connection goes on behind the last frame that arrived, so nothing is lost and nothing comes twice
while both processes live. When the other process is another one, or was away too long, ``Handler.lost`` gets what it
had not acknowledged.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

from engine.cluster import frames
from engine.cluster.frames import MOST, Ack, Frame, Hello, Ping

OVERHEAD = 64
"""Bytes a frame counts beyond its content."""


class Kept(Protocol):
    """What a frame carries for somebody who must know what became of it."""

    def taken(self) -> None:
        """The other node has it: delivered, stored or answered."""

    def lost(self) -> None:
        """The other node is gone, and may or may not have it."""


class Wire(Protocol):
    """A connection that both sides have agreed on."""

    def flush_soon(self) -> None:
        """Call ``take`` when this turn of the event loop ends."""


class Link:
    """``sent``: numbered frames handed to the present connection; those in ``_kept`` behind it wait. ``size``: bytes
    kept. ``up``: a connection is agreed on."""

    def __init__(self, own: int, other: int) -> None:
        self.own = own
        self.other = other
        self.session = secrets.token_hex(8)
        self.known = ''
        self.received = 0
        self.size = 0
        self.wire: Wire | None = None
        self.frames_in = 0
        self.frames_out = 0
        self.open: dict[int, Kept] = {}
        """Messages whose senders wait until they are decided, whether acknowledged or not."""
        self._kept: deque[tuple[Frame, int, Kept | None]] = deque()
        self._acknowledged = 0
        self._pending: list[Frame] = []
        self.reported = 0

    @property
    def up(self) -> bool:
        """Whether frames flow."""
        return self.wire is not None

    def __len__(self) -> int:
        return len(self._kept)

    # sending

    def put(self, frame: Frame, kept: Kept | None = None, size: int = 0) -> None:
        """Queue one numbered frame with about ``size`` bytes of content."""
        size += OVERHEAD
        self._kept.append((frame, size, kept))
        self.size += size
        self.frames_out += 1
        if self.wire is not None:
            if not self._pending:
                self.wire.flush_soon()
            self._pending.append(frame)

    def acknowledge(self, received: int) -> None:
        """Tell the other side, with the next write, that so many of its frames are dealt with."""
        if received > self.reported:
            self.reported = received
            if self.wire is not None:
                self._pending.append(Ack(received))
                self.wire.flush_soon()

    def ping(self) -> None:
        """Show that this side lives."""
        if self.wire is not None:
            self._pending.append(Ping())
            self.wire.flush_soon()

    def take(self) -> bytes:
        """Everything that waits to be written."""
        pending, self._pending = self._pending, []
        return b''.join(frames.encode(*pending[at : at + MOST]) for at in range(0, len(pending), MOST))

    # receiving

    def acknowledged(self, count: int) -> None:
        """The other side has dealt with ``count`` frames of this session. Raises ValueError when that cannot be."""
        if not self._acknowledged <= count <= self._acknowledged + len(self._kept):
            raise ValueError('it acknowledges what was never sent')
        while self._acknowledged < count:
            _, size, kept = self._kept.popleft()
            self.size -= size
            self._acknowledged += 1
            if kept is not None:
                kept.taken()

    # sessions

    def hello(self) -> Hello:
        """What the connecting side says first."""
        return Hello(frames.VERSION, self.own, self.session, self.known, self.received)

    def answer(self, hello: Hello) -> tuple[Hello, Iterable[Kept]]:
        """The accepting side's answer, and what is lost because the session does not go on."""
        lost: Iterable[Kept] = ()
        resumed = hello.session == self.known and hello.known == self.session
        if not resumed:
            lost = self.reset()
            self.known = hello.session
        return Hello(frames.VERSION, self.own, self.session, hello.session, self.received, resumed), lost

    def agreed(self, hello: Hello) -> Iterable[Kept]:
        """The connecting side has its answer; what is lost."""
        if hello.resumed:
            return ()
        lost = self.reset()
        # The other side has noted the session of the question.
        self.known, self.session = hello.session, hello.known
        return lost

    def begin(self, wire: Wire, peer_received: int) -> None:
        """Frames flow over ``wire`` from what the other side has not received on."""
        self.acknowledged(peer_received)
        self.wire = wire
        self._pending = [frame for frame, _, _ in self._kept]
        self.reported = self.received
        if self._pending:
            wire.flush_soon()

    def interrupted(self) -> None:
        """The connection broke."""
        self.wire = None
        self._pending.clear()

    def reset(self) -> list[Kept]:
        """A new session; what the old one had not acknowledged."""
        unacknowledged = [kept for _, _, kept in self._kept if kept is not None]
        known = set(unacknowledged)
        lost = [kept for kept in self.open.values() if kept not in known] + unacknowledged
        self.open.clear()
        self._kept.clear()
        self._pending.clear()
        self.session, self.known = secrets.token_hex(8), ''
        self.size = self.received = self._acknowledged = self.reported = 0
        return lost


class Cutter:
    """Frames out of a stream of bytes."""

    def __init__(self, longest: int) -> None:
        self.longest = longest
        self._buffer = bytearray()

    def feed(self, data: bytes, take: Callable[[Frame], bool]) -> None:
        """Call ``take`` for each whole frame, until it returns False. Raises ValueError for what is none."""
        buffer = self._buffer
        buffer += data
        position, end = 0, len(buffer)
        view = memoryview(buffer)
        try:
            while end - position >= 4:
                length = int.from_bytes(view[position : position + 4])
                if length > self.longest:
                    raise ValueError(f'a frame of {length} bytes')
                if end - position - 4 < length:
                    break
                with view[position + 4 : position + 4 + length] as body:  # a traceback must not keep it
                    batch = frames.decode(body)
                position += 4 + length
                if not all(map(take, batch)):
                    break
        finally:
            view.release()
            del buffer[:position]
