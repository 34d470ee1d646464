"""When a user's last client signed out (table ``last_activity``, XEP-0012), and sign-in times."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

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


class SignedIn:
    """The write that notes a sign-in; neighbours in one statement."""

    __slots__ = ('at', 'user_id')
    size = 0

    def __init__(self, user_id: int, at: datetime) -> None:
        self.user_id = user_id
        self.at = at

    async def run(self, connection: Connection, together: Sequence[Write]) -> None:
        """The latest time of each user. Rows are locked in ascending order, as contact lists do it (rosters.lock)."""
        times = {write.user_id: write.at for write in together if isinstance(write, SignedIn)}
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
