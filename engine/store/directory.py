"""Finding end users by name for XMPP clients (XEP-0055)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from engine.store.pool import Store
from engine.store.privacy import refusing

COLUMNS: Final = {
    'first': 'first_name',
    'last': 'last_name',
    'nick': 'display_name',
    'email': 'mail',
    'x-user-id': 'user_id',
}
"""Field -> column of end_user."""
TIMEOUT_MS: Final = 10_000


class Found(NamedTuple):
    """One user; ``values`` in the order of COLUMNS."""

    jid: str
    values: tuple[str, ...]


async def search(store: Store, terms: Mapping[str, str], limit: int, asker: str) -> tuple[list[Found], bool]:
    """(users whose columns begin with the terms, at most ``limit``; whether there are more), by name.

    Upper and lower case are alike. Only users who are live on the wire are found, and none who blocks ``asker``.
    """
    conditions = ''.join(f' AND lower({COLUMNS[field]}) LIKE lower(%s)' for field in terms)
    patterns = [f'{_escaped(term)}%' for term in terms.values()]
    async with store.transaction() as connection:
        await connection.execute(f'SET LOCAL statement_timeout = {TIMEOUT_MS}')
        cursor = await connection.execute(
            f'SELECT id, privacy_version > 0, im_address, {", ".join(COLUMNS.values())} FROM end_user'  # noqa: S608
            ' WHERE im_address IS NOT NULL AND active AND home_cluster AND im_enabled AND home_node_id IS NOT NULL'
            f'{conditions} ORDER BY lower(last_name), lower(first_name), user_id LIMIT %s',
            (*patterns, limit + 1),
        )
        rows = await cursor.fetchall()
        pairs = {(row[0], asker) for row in rows if row[1]}
        hidden = {user_id for user_id, _ in await refusing(connection, 'message', pairs)} if pairs else set()
    found = [Found(row[2], tuple(row[3:])) for row in rows[:limit] if row[0] not in hidden]
    return found, len(rows) > limit


def _escaped(term: str) -> str:
    return term.replace('\\', '\\\\').replace('%', '\\%').replace('_', '\\_')
