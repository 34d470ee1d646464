"""When a user's last client signed out (table ``last_activity``, XEP-0012), and sign-in times."""

from __future__ import annotations

from datetime import datetime

from engine.store.pool import Store
from engine.store.writer import Statement


def signed_out(user_id: int, at: datetime, status: str) -> Statement:
    """The write for the group writer; no row is made for a user who was deleted meanwhile."""
    return Statement(
        'INSERT INTO last_activity (user_id, at, status) SELECT id, %s, %s FROM end_user WHERE id = %s'
        ' ON CONFLICT (user_id) DO UPDATE SET at = EXCLUDED.at, status = EXCLUDED.status',
        at,
        status,
        user_id,
    )


def signed_in(user_id: int, at: datetime) -> Statement:
    """The write that notes a sign-in."""
    return Statement('UPDATE end_user SET last_login_at = %s WHERE id = %s', at, user_id)


async def last_of(store: Store, bare: str) -> tuple[datetime, str] | None:
    """(time of the last sign-out, last status text) of a user, or None."""
    row = await store.fetch_one(
        'SELECT a.at, a.status FROM last_activity a JOIN end_user u ON u.id = a.user_id WHERE u.im_address = %s', bare
    )
    return (row[0], row[1]) if row else None
