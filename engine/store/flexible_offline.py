"""Reading and removing offline messages one by one (table ``offline_message``, XEP-0013)."""

from __future__ import annotations

from collections.abc import Sequence

from engine.store.offline import PAGE, PAGE_BYTES, Stored
from engine.store.pool import Store

HEAD = 4096
"""Bytes of a stanza that hold its start tag."""


async def count(store: Store, user_id: int) -> int:
    """How many messages wait."""
    row = await store.fetch_one('SELECT count(*) FROM offline_message WHERE user_id = %s', user_id)
    return int(row[0]) if row else 0


async def heads(store: Store, user_id: int) -> list[tuple[int, bytes]]:
    """(id, beginning of the stanza) of every message, oldest first."""
    rows = await store.fetch(
        'SELECT id, substr(stanza, 1, %s) FROM offline_message WHERE user_id = %s ORDER BY id', HEAD, user_id
    )
    return [(row[0], bytes(row[1])) for row in rows]


async def some(store: Store, user_id: int, ids: Sequence[int]) -> list[Stored]:
    """These messages, oldest first, as far as they exist."""
    rows = await store.fetch(
        'SELECT id, stored_at, stanza FROM offline_message WHERE user_id = %s AND id = ANY(%s) ORDER BY id',
        user_id,
        list(ids),
    )
    return [Stored(row[0], row[1], bytes(row[2])) for row in rows]


async def page(store: Store, user_id: int, after: int) -> list[Stored]:
    """The next messages behind the id ``after``, oldest first; [] at the end."""
    rows = await store.fetch(
        'SELECT id, stored_at, stanza FROM (SELECT id, stored_at, stanza, sum(octet_length(stanza)) OVER (ORDER BY id)'
        ' - octet_length(stanza) AS before FROM (SELECT * FROM offline_message WHERE user_id = %s AND id > %s'
        ' ORDER BY id LIMIT %s) o) m WHERE before < %s ORDER BY id',
        user_id,
        after,
        PAGE,
        PAGE_BYTES,
    )
    return [Stored(row[0], row[1], bytes(row[2])) for row in rows]


async def remove(store: Store, user_id: int, ids: Sequence[int]) -> bool:
    """Delete these messages, all or none: False when one of them does not exist."""
    async with store.transaction() as connection:
        cursor = await connection.execute(
            'SELECT id FROM offline_message WHERE user_id = %s AND id = ANY(%s) FOR UPDATE', (user_id, list(ids))
        )
        if len(await cursor.fetchall()) != len(set(ids)):
            return False
        await connection.execute(
            'DELETE FROM offline_message WHERE user_id = %s AND id = ANY(%s)', (user_id, list(ids))
        )
    return True


async def purge(store: Store, user_id: int) -> None:
    """Delete every message."""
    await store.execute('DELETE FROM offline_message WHERE user_id = %s', user_id)
