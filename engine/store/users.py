"""End users as the engine needs them (table ``end_user``)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from engine.store.pool import Connection, Store


@dataclass(slots=True)
class User:
    """One end user at the moment of reading.

    ``bare`` is the prepared IM address; ``credentials`` are SCRAM verifiers (engine.contract.credentials); ``node_id``
    is the home node; ``eligible`` says whether the user is live on the wire: active, in the home cluster, enabled for
    IM and Presence, assigned to a node (guide 2533). A user who is not eligible must be answered like a wrong password.
    """

    id: int
    user_id: str
    bare: str
    credentials: dict[str, list[str | int]]
    node_id: int | None
    eligible: bool
    roster_version: int
    contact_count: int = 0
    watcher_count: int = 0


_COLUMNS = (
    'id, user_id, im_address, credentials, home_node_id,'
    ' active AND home_cluster AND im_enabled AND home_node_id IS NOT NULL,'
    ' roster_version, contact_count, watcher_count'
)


def _user(row: tuple[Any, ...]) -> User:
    return User(row[0], row[1], row[2] or '', row[3], row[4], row[5], row[6], row[7], row[8])


async def load_for_login(store: Store, bare: str) -> User | None:
    """The user whose IM address is the prepared ``bare``, eligible or not; None when there is none."""
    row = await store.fetch_one(f'SELECT {_COLUMNS} FROM end_user WHERE im_address = %s', bare)  # noqa: S608
    return _user(row) if row else None


async def load_many(store: Store, ids: Iterable[int]) -> dict[int, User]:
    """The users that still exist, by id."""
    rows = await store.fetch(f'SELECT {_COLUMNS} FROM end_user WHERE id = ANY(%s)', list(ids))  # noqa: S608
    return {row[0]: _user(row) for row in rows}


async def changed_since(store: Store, ids: Iterable[int]) -> dict[int, int]:
    """roster_version of each of these users that still exists."""
    rows = await store.fetch('SELECT id, roster_version FROM end_user WHERE id = ANY(%s)', list(ids))
    return {row[0]: row[1] for row in rows}


async def signed_in(store: Store, user_id: int) -> None:
    """Note the time of a sign-in."""
    await store.execute('UPDATE end_user SET last_login_at = now() WHERE id = %s', user_id)


async def lock(connection: Connection, ids: Iterable[int]) -> dict[int, tuple[int, int, int]]:
    """Lock the rows of contact list owners in ascending id order and raise their ``roster_version``.

    Returns id -> (roster_version, contact_count, watcher_count) of those that exist. Inside a transaction.
    """
    found: dict[int, tuple[int, int, int]] = {}
    for user_id in sorted(set(ids)):
        row = await (
            await connection.execute(
                'UPDATE end_user SET roster_version = roster_version + 1 WHERE id = %s'
                ' RETURNING roster_version, contact_count, watcher_count',
                (user_id,),
            )
        ).fetchone()
        if row:
            found[user_id] = (row[0], row[1], row[2])
    return found
