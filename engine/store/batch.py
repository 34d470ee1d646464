"""Many questions of the same moment, one statement.

A thousand people sign in within a second after a restart. One statement for each costs the engine a quarter of its time
and PostgreSQL as much again; asked together they cost a tenth of that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import Generic, TypeVar

Key = TypeVar('Key', bound=Hashable)
Value = TypeVar('Value')

MOST = 200
"""Keys in one statement."""
BUSY_S, PAUSE_S = 0.01, 0.002
"""A question that comes so soon after a statement waits so long for company."""


class Batch(Generic[Key, Value]):
    """Collects keys while the statement before runs (at least to the end of the present turn of the loop), and for two
    milliseconds more when one question follows the other.

    What ``load`` finds was read after it was asked for, never before: nobody is given an answer that was under way when
    the question came. A failing ``load`` fails for everyone who waits for it, and nobody else.
    """

    __slots__ = ('_last', '_load', '_task', '_waiting')

    def __init__(self, load: Callable[[list[Key]], Awaitable[Mapping[Key, Value]]]) -> None:
        """``load``: the values by key; keys without one are left out."""
        self._load = load
        self._waiting: dict[Key, list[asyncio.Future[Value | None]]] = {}
        self._task: asyncio.Task[None] | None = None
        self._last = 0.0

    async def get(self, key: Key) -> Value | None:
        """The value of ``key``, or None. Raises what ``load`` raises."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Value | None] = loop.create_future()
        self._waiting.setdefault(key, []).append(future)
        if self._task is None:
            self._task = loop.create_task(self._work())
        return await future

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                if loop.time() - self._last < BUSY_S:
                    await asyncio.sleep(PAUSE_S)
                asked, self._waiting = self._waiting, {}
                keys = list(asked)
                for key in keys[MOST:]:
                    self._waiting[key] = asked.pop(key)
                try:
                    found = await self._load(keys[:MOST])
                except BaseException as error:
                    for future in _open(asked):
                        if isinstance(error, Exception):
                            future.set_exception(error)
                        else:
                            future.cancel()
                    if not isinstance(error, Exception):
                        raise
                else:
                    for key, futures in asked.items():
                        for future in futures:
                            if not future.done():
                                future.set_result(found.get(key))
                self._last = loop.time()
        finally:
            self._task = None
            for future in _open(self._waiting):  # only when cancelled: the loop ends
                future.cancel()
            self._waiting = {}


def _open(asked: Mapping[Key, list[asyncio.Future[Value | None]]]) -> list[asyncio.Future[Value | None]]:
    return [future for futures in asked.values() for future in futures if not future.done()]
