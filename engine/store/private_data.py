"""What clients keep on the server for themselves (table ``private_data``, XEP-0049)."""

from __future__ import annotations

from collections.abc import Mapping

from engine.store.pool import Store

Key = tuple[str, str]
"""Namespace and name of an element."""


class TooMuch(Exception):
    """The data would be more than a user may keep. ``args``: (elements, bytes) it would be."""


async def load(store: Store, user_id: int, key: Key) -> str | None:
    """One element as text, None when it was never kept."""
    row = await store.fetch_one(
        'SELECT xml FROM private_data WHERE user_id = %s AND namespace = %s AND name = %s', user_id, *key
    )
    return row[0] if row else None


async def save(store: Store, user_id: int, elements: Mapping[Key, str], most: int, most_bytes: int) -> None:
    """Replace these elements, all or none. Raises TooMuch."""
    async with store.transaction() as connection:
        cursor = await connection.execute('SELECT 1 FROM end_user WHERE id = %s FOR NO KEY UPDATE', (user_id,))
        if await cursor.fetchone() is None:
            return
        for (namespace, name), xml in sorted(elements.items()):
            await connection.execute(
                'INSERT INTO private_data (user_id, namespace, name, xml) VALUES (%s, %s, %s, %s)'
                ' ON CONFLICT (user_id, namespace, name) DO UPDATE SET xml = EXCLUDED.xml',
                (user_id, namespace, name, xml),
            )
        cursor = await connection.execute(
            'SELECT count(*), coalesce(sum(octet_length(xml)), 0) FROM private_data WHERE user_id = %s', (user_id,)
        )
        row = await cursor.fetchone()
        assert row is not None
        if row[0] > most or row[1] > most_bytes:
            raise TooMuch(int(row[0]), int(row[1]))
