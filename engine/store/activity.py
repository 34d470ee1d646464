"""When a user's last client signed out (table ``last_activity``, XEP-0012), and sign-in times."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from engine.store.pool import Connection, Store
from engine.store.writer import Statement, Write


def signed_out(user_id: int, at: datetime, status: str) -> Statement:
    """The write for the group writer; no row is made for a user who was deleted meanwhile."""
    return Statement(
        'INSERT INTO last_activity (user_id, at, status) SELECT id, %s, %s FROM end_user WHERE id = %s'
        ' ON CONFLICT (user_id) DO UPDATE SET at = EXCLUDED.at, status = EXCLUDED.status',
        at,
        status,
        user_id,
    )


TOGETHER_S = 0.5
"""How long sign-ins are collected after others were written: thousands come at once after a restart."""


class SignIns:
    """Notes when users signed in, with ``write``."""

    def __init__(self, write: Callable[[SignedIn], None]) -> None:
        self._write = write
        self._times: dict[int, datetime] = {}
        self._last = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def note(self, user_id: int) -> None:
        """A user signs in now."""
        self._times[user_id] = datetime.now(UTC)
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(max(loop.time(), self._last + TOGETHER_S), self.flush)

    def flush(self) -> None:
        """Hand over what was collected."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._times:
            self._last = asyncio.get_running_loop().time()
            times, self._times = self._times, {}
            self._write(SignedIn(times))


class SignedIn:
    """The write that notes sign-in times by user."""

    __slots__ = ('times',)
    size = 0

    def __init__(self, times: dict[int, datetime]) -> None:
        self.times = times

    async def run(self, connection: Connection, together: Sequence[Write]) -> None:
        """The latest time of each user. Rows are locked in ascending order, as contact lists do it (rosters.lock)."""
        times: dict[int, datetime] = {}
        for write in together:
            if isinstance(write, SignedIn):
                times |= write.times
        await connection.execute(
            'UPDATE end_user SET last_login_at = s.at FROM unnest(%s::bigint[], %s::timestamptz[]) AS s (id, at),'
            ' (SELECT id FROM end_user WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE) AS locked'
            ' WHERE end_user.id = s.id AND locked.id = s.id',
            (list(times), list(times.values()), list(times)),
        )

    def done(self, error: BaseException | None) -> None:
        """A failure was logged by the writer."""


async def last_of(store: Store, bare: str) -> tuple[datetime, str] | None:
    """(time of the last sign-out, last status text) of a user, or None."""
    row = await store.fetch_one(
        'SELECT a.at, a.status FROM last_activity a JOIN end_user u ON u.id = a.user_id WHERE u.im_address = %s', bare
    )
    return (row[0], row[1]) if row else None
