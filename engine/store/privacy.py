"""Privacy lists (tables ``privacy_list`` and ``privacy_item``): the default one at sign-in, all of them for editing.

Whoever writes locks the owner's row in ``end_user`` first and raises its privacy_version in that transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from engine.contract.privacy import Direction, Item, Kind, Rules
from engine.store.pool import Connection, Store

Known = Mapping[str, tuple[int, tuple[str, ...]]]
"""Bare JID -> (subscription bits, groups)."""


class Default(NamedTuple):
    """The default list of a user; ``known`` is the contact list when the items need it."""

    rules: Rules
    known: Known


_ITEMS = (
    'SELECT i."order", i.type, i.value, i.allow, i.kinds FROM privacy_item i JOIN privacy_list l ON l.id = i.list_id'
)


def _item(row: tuple[Any, ...]) -> Item:
    return Item(row[0], row[1], row[2], row[3], row[4])


async def load_defaults(store: Store, ids: Iterable[int]) -> dict[int, Default]:
    """The default lists of these users; those without one are missing. For users whose privacy_version is not 0."""
    rows = await store.fetch(
        'SELECT l.user_id, l.name, i."order", i.type, i.value, i.allow, i.kinds FROM privacy_list l'
        ' LEFT JOIN privacy_item i ON i.list_id = l.id WHERE l.user_id = ANY(%s) AND l.is_default',
        list(ids),
    )
    found: dict[int, tuple[str, list[Item]]] = {}
    for row in rows:
        items = found.setdefault(row[0], (row[1], []))[1]
        if row[2] is not None:
            items.append(_item(row[2:]))
    return {user_id: await ready(store, user_id, name, items) for user_id, (name, items) in found.items()}


async def ready(store: Store, user_id: int, name: str, items: Iterable[Item]) -> Default:
    """A list ready to decide."""
    rules = Rules(name, items)
    return Default(rules, await known(store, user_id) if rules.needs_roster else {})


async def known(store: Store, user_id: int) -> Known:
    """Subscriptions and groups of a user's contacts."""
    rows = await store.fetch('SELECT jid, subscription, groups FROM roster_item WHERE user_id = %s', user_id)
    return {row[0]: (row[1], tuple(row[2])) for row in rows}


async def names(store: Store, user_id: int) -> list[tuple[str, bool]]:
    """(name, is default) of every list of a user, by name."""
    rows = await store.fetch('SELECT name, is_default FROM privacy_list WHERE user_id = %s ORDER BY name', user_id)
    return [(row[0], row[1]) for row in rows]


async def load(store: Store, user_id: int, name: str) -> tuple[Item, ...] | None:
    """The items of one list, in order; None when there is no such list."""
    rows = await store.fetch(
        'SELECT i."order", i.type, i.value, i.allow, i.kinds FROM privacy_list l LEFT JOIN privacy_item i'
        ' ON i.list_id = l.id WHERE l.user_id = %s AND l.name = %s ORDER BY i."order"',
        user_id,
        name,
    )
    return tuple(_item(row) for row in rows if row[0] is not None) if rows else None


async def groups(store: Store, user_id: int) -> set[str]:
    """Every group of a user's contact list."""
    rows = await store.fetch('SELECT DISTINCT unnest(groups) FROM roster_item WHERE user_id = %s', user_id)
    return {row[0] for row in rows}


# inside a transaction


async def lock(connection: Connection, user_id: int) -> dict[str, bool] | None:
    """Lock the owner; name -> is default of every list. None: the user is gone."""
    cursor = await connection.execute('SELECT 1 FROM end_user WHERE id = %s FOR NO KEY UPDATE', (user_id,))
    if await cursor.fetchone() is None:
        return None
    cursor = await connection.execute('SELECT name, is_default FROM privacy_list WHERE user_id = %s', (user_id,))
    return {row[0]: row[1] for row in await cursor.fetchall()}


async def items(connection: Connection, user_id: int, name: str) -> tuple[Item, ...]:
    """The items of one list of a locked owner."""
    cursor = await connection.execute(
        _ITEMS.encode() + b' WHERE l.user_id = %s AND l.name = %s ORDER BY i."order"', (user_id, name)
    )
    return tuple(_item(row) for row in await cursor.fetchall())


async def save(connection: Connection, user_id: int, name: str, rules: Sequence[Item]) -> None:
    """Make or replace one list of a locked owner."""
    cursor = await connection.execute(
        'INSERT INTO privacy_list (user_id, name, is_default) VALUES (%s, %s, false)'
        ' ON CONFLICT (user_id, name) DO UPDATE SET name = EXCLUDED.name RETURNING id',
        (user_id, name),
    )
    row = await cursor.fetchone()
    assert row is not None
    await connection.execute('DELETE FROM privacy_item WHERE list_id = %s', (row[0],))
    if rules:
        await connection.execute(
            'INSERT INTO privacy_item (list_id, "order", type, value, allow, kinds) SELECT %s, * FROM'
            ' unnest(%s::bigint[], %s::text[], %s::text[], %s::boolean[], %s::smallint[])',
            (row[0], *(list(column) for column in zip(*rules, strict=True))),
        )


async def delete(connection: Connection, user_id: int, name: str) -> None:
    """Remove one list of a locked owner."""
    await connection.execute(
        'DELETE FROM privacy_item WHERE list_id IN (SELECT id FROM privacy_list WHERE user_id = %s AND name = %s)',
        (user_id, name),
    )
    await connection.execute('DELETE FROM privacy_list WHERE user_id = %s AND name = %s', (user_id, name))


async def set_default(connection: Connection, user_id: int, name: str | None) -> None:
    """Make one list of a locked owner the default one; None: no list is."""
    await connection.execute('UPDATE privacy_list SET is_default = false WHERE user_id = %s AND is_default', (user_id,))
    if name is not None:
        await connection.execute(
            'UPDATE privacy_list SET is_default = true WHERE user_id = %s AND name = %s', (user_id, name)
        )


async def raise_version(connection: Connection, user_id: int) -> int:
    """The owner's new privacy_version: every transaction that wrote ends with this."""
    cursor = await connection.execute(
        'UPDATE end_user SET privacy_version = privacy_version + 1 WHERE id = %s RETURNING privacy_version', (user_id,)
    )
    row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


# users who are not signed in


async def refusing(
    connection: Connection, kind: Kind, pairs: Iterable[tuple[int, str]], direction: Direction = 'in'
) -> set[tuple[int, str]]:
    """Which of these (user id, JID of the peer) the default list of the user refuses: as ``Filter.allows`` decides for
    users who are signed in. One statement; a second one for lists with groups or subscriptions."""
    pairs = set(pairs)
    cursor = await connection.execute(
        'SELECT l.user_id, i."order", i.type, i.value, i.allow, i.kinds FROM privacy_list l'
        ' JOIN privacy_item i ON i.list_id = l.id WHERE l.is_default AND l.user_id = ANY(%s)',
        (list({user_id for user_id, _ in pairs}),),
    )
    found: dict[int, list[Item]] = {}
    for row in await cursor.fetchall():
        found.setdefault(row[0], []).append(_item(row[1:]))
    lists = {user_id: Rules('', entries) for user_id, entries in found.items()}
    contacts = await _contacts(connection, [user_id for user_id, rules in lists.items() if rules.needs_roster], pairs)
    refused = set()
    for user_id, peer in pairs:

        def relation(bare: str, user_id: int = user_id) -> tuple[int, tuple[str, ...]]:
            return contacts.get((user_id, bare), (0, ()))

        if user_id in lists and not lists[user_id].allows(direction, kind, peer, relation):
            refused.add((user_id, peer))
    return refused


async def _contacts(
    connection: Connection, owners: Collection[int], pairs: Collection[tuple[int, str]]
) -> dict[tuple[int, str], tuple[int, tuple[str, ...]]]:
    if not owners:
        return {}
    peers = {peer.partition('/')[0] for user_id, peer in pairs if user_id in owners}
    cursor = await connection.execute(
        'SELECT user_id, jid, subscription, groups FROM roster_item WHERE user_id = ANY(%s) AND jid = ANY(%s)',
        (list(owners), list(peers)),
    )
    return {(row[0], row[1]): (row[2], tuple(row[3])) for row in await cursor.fetchall()}


async def refuses(store: Store, bare: str, kind: Kind, peer: str) -> bool:
    """Whether the default list of the user with the IM address ``bare`` refuses ``peer``."""
    async with store.connection() as connection:
        cursor = await connection.execute(
            'SELECT id FROM end_user WHERE im_address = %s AND privacy_version > 0', (bare,)
        )
        row = await cursor.fetchone()
        return row is not None and bool(await refusing(connection, kind, [(row[0], peer)]))
