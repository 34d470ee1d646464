"""Group commit: writes of many senders share one transaction, in the order in which they came.

A write is told the outcome by ``done(error)``: None means committed, on disk. Nothing waits for it on the stanza path.
A batch that fails is tried again write by write, so one bad write never takes its neighbours with it; while the
database cannot be reached the batch is tried again after ``RETRY_S``, then fails, and every sender hears of it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import groupby
from operator import attrgetter
from typing import Protocol

import structlog

from engine.store.pool import Connection, Store, Unavailable

log = structlog.get_logger(__name__)

BATCH = 500
BATCH_BYTES = 4 * 1024 * 1024
LIMIT = 20_000
LIMIT_BYTES = 64 * 1024 * 1024
"""Writes that may wait, and bytes in them; further ones are refused at once."""
PATIENCE_S = 0.01
PATIENT = 100
"""Writes that say ``patient = True`` (nobody waits for an answer to them) are collected for so long, or until there are
so many: a commit for each would cost more than the writes. Any other write takes them along at once."""
RETRY_S = (0.5, 2.0)
"""Pauses before further attempts while the database cannot be reached (each waits pool.WAIT_S for it)."""


class Write(Protocol):
    """One write. Neighbours of the same class are handed together to ``run`` of the first. ``size``: its bytes."""

    @property
    def size(self) -> int:
        """Bytes it holds, roughly; they count against ``LIMIT_BYTES``."""

    async def run(self, connection: Connection, together: Sequence[Write]) -> None:
        """Do the statements of ``together`` inside the batch's transaction. May run again after a rollback."""

    def done(self, error: BaseException | None) -> None:
        """The outcome, after commit or after giving up. Must not raise."""


class Full(Exception):
    """More writes wait than ``LIMIT``."""


class GroupWriter:
    """The queue and the one task that empties it."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._queue: deque[Write] = deque()
        self._bytes = 0
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._hurry = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._stopping = False

    def start(self) -> None:
        """Begin to work."""
        self._task = asyncio.create_task(self._run(), name='group writer')

    async def stop(self, within_s: float = 10.0) -> None:
        """Write what waits, then end. What cannot be written within the time fails."""
        self._stopping = True
        self._wake.set()
        self._hurry.set()
        if self._task is not None:
            try:
                await asyncio.wait_for(self._task, within_s)
            except TimeoutError:
                log.error('writes lost at stop', count=len(self._queue))
        while self._queue:
            self._queue.popleft().done(TimeoutError('the service stops'))

    def put(self, write: Write) -> None:
        """Queue one write. Raises Full. About 0.3 microseconds."""
        if len(self._queue) >= LIMIT or self._bytes + write.size > LIMIT_BYTES:
            raise Full
        self._bytes += write.size
        self._queue.append(write)
        self._idle.clear()
        self._wake.set()
        if not getattr(write, 'patient', False) or len(self._queue) >= PATIENT:
            self._hurry.set()

    @property
    def waiting(self) -> int:
        """How many writes wait."""
        return len(self._queue)

    def hurry(self) -> None:
        """Somebody waits for what is queued now."""
        self._hurry.set()

    @property
    def pressed(self) -> bool:
        """Whether half of what may wait does: who can wait should be made to."""
        return len(self._queue) * 2 >= LIMIT or self._bytes * 2 >= LIMIT_BYTES

    def after(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` when everything queued before it has been decided; now, when nothing waits."""
        if self._idle.is_set():
            callback()
        else:
            self._queue.append(_Barrier(callback))
            self._wake.set()

    async def _run(self) -> None:
        while True:
            if not self._queue:
                self._idle.set()
                if self._stopping:
                    return
                self._wake.clear()
                await self._wake.wait()
                continue
            if not self._hurry.is_set() and not self._stopping:
                with suppress(TimeoutError):
                    async with asyncio.timeout(PATIENCE_S):
                        await self._hurry.wait()
            self._hurry.clear()
            await self._write(self._batch())

    def _batch(self) -> list[Write]:
        batch: list[Write] = []
        size = 0
        while self._queue and len(batch) < BATCH and size < BATCH_BYTES:
            write = self._queue.popleft()
            batch.append(write)
            size += write.size
        self._bytes -= size
        return batch

    async def _write(self, batch: list[Write]) -> None:
        error: BaseException | None = None
        for pause in (0.0, *RETRY_S):
            if pause:
                await asyncio.sleep(pause)
            error, again = await self._try(batch)
            if error is None or not again or self._stopping:
                break
        if error is not None and len(batch) > 1 and not isinstance(error, Unavailable):
            for write in batch:
                _tell([write], (await self._try([write]))[0])
            return
        if error is not None:
            log.error('write failed', count=len(batch), error=str(error))
        _tell(batch, error)

    async def _try(self, batch: list[Write]) -> tuple[BaseException | None, bool]:
        """(error, worth another try). Not after a commit whose outcome is unknown: that could write twice."""
        committing = False
        try:
            async with self.store.transaction() as connection:
                start = 0
                while start < len(batch):
                    end = start + 1
                    while end < len(batch) and type(batch[end]) is type(batch[start]):
                        end += 1
                    await batch[start].run(connection, batch[start:end])
                    start = end
                committing = True
        except Exception as error:
            return error, isinstance(error, Unavailable) and not committing
        return None, False


class _Barrier:
    """Writes nothing; its turn comes after everything before it."""

    __slots__ = ('_callback',)
    size = 0

    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback = callback

    async def run(self, connection: Connection, together: Sequence[Write]) -> None:
        """Nothing to write."""

    def done(self, error: BaseException | None) -> None:
        """Whether what came before was written or refused: it is decided."""
        self._callback()


class Statement:
    """A write of one statement nobody waits for."""

    __slots__ = ('sql', 'values')
    size = 0

    def __init__(self, sql: str, *values: object) -> None:
        self.sql = sql
        self.values = values

    async def run(self, connection: Connection, together: Sequence[Write]) -> None:
        """Each statement in order; neighbours with the same text in one go."""
        statements = [write for write in together if isinstance(write, Statement)]
        async with connection.cursor() as cursor:
            for sql, same in groupby(statements, key=attrgetter('sql')):
                await cursor.executemany(sql.encode(), [write.values for write in same])

    def done(self, error: BaseException | None) -> None:
        """A failure was logged by the writer."""


def _tell(batch: Sequence[Write], error: BaseException | None) -> None:
    for write in batch:
        try:
            write.done(error)
        except Exception:
            log.exception('outcome handler failed')
