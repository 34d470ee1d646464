"""Publish-subscribe: nodes, items, affiliations, subscriptions (tables ``pubsub_*``; XEP-0060, XEP-0163).

Whoever changes a node locks its row first (``node(..., lock=True)``), so ``items`` and ``size`` stay exact. Functions
with a ``Connection`` run in the caller's transaction. ``owner`` None means the service, else the id of an end user.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from psycopg.types.json import Jsonb

from engine.store.pool import Connection, Store


class Node(NamedTuple):
    """One row of ``pubsub_node``. ``owner`` is the id of the account, ``creator`` a bare JID (nodes of the service)."""

    id: int
    owner: int | None
    creator: str
    name: str
    config: dict[str, Any]
    items: int
    size: int


class Item(NamedTuple):
    """One published item; ``serial`` is its place in the order of publication."""

    serial: int
    id: str
    publisher: str
    payload: bytes
    at: datetime


class Subscription(NamedTuple):
    """One subscription. ``jid`` bare or full."""

    jid: str
    subid: str
    pending: bool
    deliver: bool


class Page(NamedTuple):
    """Part of the items of a node, oldest first; ``first`` is the place of the first one, ``total`` how many there
    are."""

    items: list[Item]
    first: int
    total: int


_NODE = 'n.id, n.owner_id, n.creator, n.name, n.config, n.items, n.size'
_ITEM = 'id, item_id, publisher, payload, at'


def _item(row: Sequence[Any]) -> Item:
    return Item(row[0], row[1], row[2], bytes(row[3]), row[4])


async def account(connection: Connection, bare: str) -> int | None:
    """Id of the live user with this IM address."""
    cursor = await connection.execute(
        'SELECT id FROM end_user WHERE im_address = %s AND active AND home_cluster AND im_enabled'
        ' AND home_node_id IS NOT NULL',
        (bare,),
    )
    row = await cursor.fetchone()
    return row[0] if row else None


async def watchers(
    connection: Connection, owner: int, bares: Sequence[str] | None = None
) -> dict[str, tuple[str, ...]]:
    """Who sees the availability of a user, all or those of ``bares``, with their groups in the user's contact list;
    nobody when the user does not share it."""
    some = ' AND r.jid = ANY(%s)' if bares is not None else ''
    cursor = await connection.execute(
        'SELECT r.jid, r.groups FROM roster_item r LEFT JOIN user_presence_policy p ON p.user_id = r.user_id'  # noqa: S608
        f' WHERE r.user_id = %s AND r.subscription IN (2, 3) AND p.sharing IS NOT FALSE{some}'.encode(),
        (owner, list(bares)) if bares is not None else (owner,),
    )
    return {row[0]: tuple(row[1]) for row in await cursor.fetchall()}


async def watched(store: Store, owners: Sequence[int], watchers: Sequence[str]) -> list[tuple[str, str]]:
    """(IM address of one of these owners, one of ``watchers`` who sees its availability or is the owner)."""
    rows = await store.fetch(
        'SELECT u.im_address, w.bare FROM end_user u JOIN unnest(%s::text[]) AS w (bare) ON w.bare = u.im_address'
        ' WHERE u.id = ANY(%s) UNION ALL'
        ' SELECT u.im_address, r.jid FROM roster_item r JOIN end_user u ON u.id = r.user_id'
        ' WHERE r.user_id = ANY(%s) AND r.jid = ANY(%s) AND r.subscription IN (2, 3)',
        list(watchers),
        list(owners),
        list(owners),
        list(watchers),
    )
    return [(row[0], row[1]) for row in rows]


# nodes


async def node(connection: Connection, owner: int | None, name: str, lock: bool = False) -> Node | None:
    """One node, locked against other writers when ``lock``."""
    where = 'n.owner_id = %s AND n.name = %s' if owner is not None else 'n.owner_id IS NULL AND n.name = %s'
    values = (owner, name) if owner is not None else (name,)
    tail = ' FOR NO KEY UPDATE' if lock else ''
    cursor = await connection.execute(f'SELECT {_NODE} FROM pubsub_node n WHERE {where}{tail}'.encode(), values)  # noqa: S608
    row = await cursor.fetchone()
    return Node(*row) if row else None


async def nodes(store: Store, owner: int | None, limit: int, after: str = '') -> list[Node]:
    """The nodes of an account or of the service, by name."""
    where = 'n.owner_id = %s' if owner is not None else 'n.owner_id IS NULL'
    values = [owner] if owner is not None else []
    rows = await store.fetch(
        f'SELECT {_NODE} FROM pubsub_node n WHERE {where} AND n.name > %s ORDER BY n.name LIMIT %s',  # noqa: S608
        *values,
        after,
        limit,
    )
    return [Node(*row) for row in rows]


async def create(
    connection: Connection, owner: int | None, creator: str, name: str, config: dict[str, Any]
) -> Node | None:
    """A new node; None when somebody else made one of this name meanwhile, or the account is gone."""
    cursor = await connection.execute(
        'INSERT INTO pubsub_node (owner_id, creator, name, config, items, size, created_at)'
        ' SELECT %s::bigint, %s, %s, %s, 0, 0, now()'
        ' WHERE %s::bigint IS NULL OR EXISTS (SELECT 1 FROM end_user WHERE id = %s FOR KEY SHARE)'
        ' ON CONFLICT DO NOTHING RETURNING id',
        (owner, creator, name, Jsonb(config), owner, owner),
    )
    row = await cursor.fetchone()
    return Node(row[0], owner, creator, name, config, 0, 0) if row else None


async def usage(connection: Connection, owner: int | None, creator: str) -> tuple[int, int]:
    """Nodes and bytes of an account, or of what ``creator`` has made at the service."""
    where, value = ('owner_id = %s', owner) if owner is not None else ('owner_id IS NULL AND creator = %s', creator)
    sql = f'SELECT count(*), coalesce(sum(size), 0) FROM pubsub_node WHERE {where}'  # noqa: S608
    cursor = await connection.execute(sql.encode(), (value,))
    row = await cursor.fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


async def configure(connection: Connection, node_id: int, config: dict[str, Any]) -> None:
    """Replace the configuration of a locked node."""
    await connection.execute('UPDATE pubsub_node SET config = %s WHERE id = %s', (Jsonb(config), node_id))


async def delete(connection: Connection, node_id: int) -> None:
    """Remove a locked node with everything of it."""
    for table in ('pubsub_item', 'pubsub_affiliation', 'pubsub_subscription'):
        await connection.execute(f'DELETE FROM {table} WHERE node_id = %s'.encode(), (node_id,))  # noqa: S608
    await connection.execute('DELETE FROM pubsub_node WHERE id = %s', (node_id,))


# items


async def publish(
    connection: Connection, target: Node, items: Sequence[tuple[str, str, bytes]], most: int
) -> tuple[list[str], int]:
    """Store items (id, JID of the publisher, payload) of a locked node, the last one newest, and keep the newest
    ``most``.

    Gives the ids that had to leave and the new size of the node in bytes.
    """
    ids = [entry[0] for entry in items]
    await connection.execute('DELETE FROM pubsub_item WHERE node_id = %s AND item_id = ANY(%s)', (target.id, ids))
    await connection.execute(
        'INSERT INTO pubsub_item (node_id, item_id, publisher, resource, payload, at)'
        ' SELECT %s, item_id, publisher, resource, payload, %s'
        ' FROM unnest(%s::text[], %s::text[], %s::text[], %s::bytea[])'
        ' WITH ORDINALITY AS i (item_id, publisher, resource, payload, place) ORDER BY place',
        (target.id, datetime.now(UTC), ids, *_publishers(items), [entry[2] for entry in items]),
    )
    gone = await trim(connection, target.id, most)
    return gone, await recount(connection, target.id)


def _publishers(items: Sequence[tuple[str, str, bytes]]) -> tuple[list[str], list[str]]:
    """Bare addresses and resources."""
    parts = [entry[1].partition('/') for entry in items]
    return [part[0] for part in parts], [part[2] for part in parts]


async def trim(connection: Connection, node_id: int, most: int) -> list[str]:
    """Remove the oldest items of a locked node beyond ``most``; their ids."""
    cursor = await connection.execute(
        'DELETE FROM pubsub_item WHERE node_id = %s AND id <= coalesce('
        ' (SELECT id FROM pubsub_item WHERE node_id = %s ORDER BY id DESC OFFSET %s LIMIT 1), 0) RETURNING item_id',
        (node_id, node_id, most),
    )
    return [row[0] for row in await cursor.fetchall()]


async def recount(connection: Connection, node_id: int) -> int:
    """Make ``items`` and ``size`` of a locked node exact; the size."""
    cursor = await connection.execute(
        'UPDATE pubsub_node n SET items = c.items, size = c.size FROM (SELECT count(*) AS items,'
        ' coalesce(sum(octet_length(payload) + octet_length(item_id)), 0) AS size'
        ' FROM pubsub_item WHERE node_id = %s) c'
        ' WHERE n.id = %s RETURNING n.size',
        (node_id, node_id),
    )
    row = await cursor.fetchone()
    return int(row[0]) if row else 0


async def retract(connection: Connection, node_id: int, ids: Iterable[str]) -> list[str]:
    """Remove items of a locked node; the ids of those that were there."""
    cursor = await connection.execute(
        'DELETE FROM pubsub_item WHERE node_id = %s AND item_id = ANY(%s) RETURNING item_id', (node_id, list(ids))
    )
    found = [row[0] for row in await cursor.fetchall()]
    await recount(connection, node_id)
    return found


async def purge(connection: Connection, node_id: int) -> None:
    """Remove all items of a locked node."""
    await connection.execute('DELETE FROM pubsub_item WHERE node_id = %s', (node_id,))
    await recount(connection, node_id)


async def find(connection: Connection, node_id: int, ids: Sequence[str]) -> list[Item]:
    """The items with these ids, oldest first."""
    cursor = await connection.execute(
        f'SELECT {_ITEM} FROM pubsub_item WHERE node_id = %s AND item_id = ANY(%s) ORDER BY id'.encode(),  # noqa: S608
        (node_id, list(ids)),
    )
    return [_item(row) for row in await cursor.fetchall()]


async def last(connection: Connection, node_id: int, many: int = 1) -> list[Item]:
    """The newest items, oldest of them first."""
    cursor = await connection.execute(
        f'SELECT {_ITEM} FROM pubsub_item WHERE node_id = %s ORDER BY id DESC LIMIT %s'.encode(),  # noqa: S608
        (node_id, many),
    )
    return [_item(row) for row in await cursor.fetchall()][::-1]


async def item_ids(connection: Connection, node_id: int, limit: int) -> list[str]:
    """Ids of the newest items, newest first."""
    cursor = await connection.execute(
        'SELECT item_id FROM pubsub_item WHERE node_id = %s ORDER BY id DESC LIMIT %s', (node_id, limit)
    )
    return [row[0] for row in await cursor.fetchall()]


async def page(
    connection: Connection, node_id: int, most: int, after: str | None, before: str | None, index: int | None
) -> Page | None:
    """Items in order for XEP-0059: the first ``most`` behind the item ``after``, or the last ``most`` before the item
    ``before`` ('' means the end), or from the place ``index``. None when the item that was named is not there."""
    low, high = 0, 2**62
    for name in (after, before):
        if not name:
            continue
        cursor = await connection.execute(
            'SELECT id FROM pubsub_item WHERE node_id = %s AND item_id = %s', (node_id, name)
        )
        row = await cursor.fetchone()
        if row is None:
            return None
        if name == after:
            low = row[0]
        else:
            high = row[0]
    order = 'DESC' if before is not None else 'ASC'
    cursor = await connection.execute(
        f'SELECT {_ITEM} FROM pubsub_item WHERE node_id = %s AND id > %s AND id < %s ORDER BY id {order}'  # noqa: S608
        ' LIMIT %s OFFSET %s'.encode(),
        (node_id, low, high, most, index or 0),
    )
    items = [_item(row) for row in await cursor.fetchall()]
    if before is not None:
        items.reverse()
    first = items[0].serial if items else 0
    cursor = await connection.execute(
        'SELECT count(*), count(*) FILTER (WHERE id < %s) FROM pubsub_item WHERE node_id = %s', (first, node_id)
    )
    row = await cursor.fetchone()
    assert row is not None
    return Page(items, row[1], row[0])


# affiliations and subscriptions


async def affiliation(connection: Connection, node_id: int, bare: str) -> str:
    """The affiliation of a bare JID, 'none' when there is none."""
    cursor = await connection.execute(
        'SELECT affiliation FROM pubsub_affiliation WHERE node_id = %s AND jid = %s', (node_id, bare)
    )
    row = await cursor.fetchone()
    return row[0] if row else 'none'


async def affiliations(connection: Connection, node_id: int) -> dict[str, str]:
    """Every affiliation of a node by bare JID."""
    cursor = await connection.execute(
        'SELECT jid, affiliation FROM pubsub_affiliation WHERE node_id = %s ORDER BY jid', (node_id,)
    )
    return {row[0]: row[1] for row in await cursor.fetchall()}


async def affiliate(connection: Connection, node_id: int, jid: str, value: str) -> None:
    """Set an affiliation; 'none' removes it."""
    if value == 'none':
        await connection.execute('DELETE FROM pubsub_affiliation WHERE node_id = %s AND jid = %s', (node_id, jid))
        return
    await connection.execute(
        'INSERT INTO pubsub_affiliation (node_id, jid, affiliation) VALUES (%s, %s, %s)'
        ' ON CONFLICT (node_id, jid) DO UPDATE SET affiliation = EXCLUDED.affiliation',
        (node_id, jid, value),
    )


async def affiliations_of(store: Store, owner: int | None, bare: str, limit: int) -> list[tuple[str, str]]:
    """(node name, affiliation) of one bare JID at an account or the service."""
    where = 'n.owner_id = %s' if owner is not None else 'n.owner_id IS NULL'
    rows = await store.fetch(
        'SELECT n.name, a.affiliation FROM pubsub_affiliation a JOIN pubsub_node n ON n.id = a.node_id'  # noqa: S608
        f' WHERE a.jid = %s AND {where} ORDER BY n.name LIMIT %s',
        bare,
        *([owner] if owner is not None else []),
        limit,
    )
    return [(row[0], row[1]) for row in rows]


_SUBSCRIPTION = 'jid, subid, pending, deliver'


async def subscriptions(connection: Connection, node_id: int, bare: str | None = None) -> list[Subscription]:
    """Subscriptions of a node, all or those of one bare JID."""
    where = ' AND bare = %s' if bare is not None else ''
    cursor = await connection.execute(
        f'SELECT {_SUBSCRIPTION} FROM pubsub_subscription WHERE node_id = %s{where} ORDER BY jid'.encode(),  # noqa: S608
        (node_id, bare) if bare is not None else (node_id,),
    )
    return [Subscription(*row) for row in await cursor.fetchall()]


async def subscribe(connection: Connection, node_id: int, bare: str, new: Subscription) -> None:
    """Add or replace a subscription."""
    await connection.execute(
        'INSERT INTO pubsub_subscription (node_id, jid, bare, subid, pending, deliver) VALUES (%s, %s, %s, %s, %s, %s)'
        ' ON CONFLICT (node_id, jid) DO UPDATE SET subid = EXCLUDED.subid, pending = EXCLUDED.pending,'
        ' deliver = EXCLUDED.deliver',
        (node_id, new.jid, bare, new.subid, new.pending, new.deliver),
    )


async def unsubscribe(connection: Connection, node_id: int, jid: str) -> None:
    """Remove a subscription."""
    await connection.execute('DELETE FROM pubsub_subscription WHERE node_id = %s AND jid = %s', (node_id, jid))


async def counts(connection: Connection, node_id: int) -> tuple[int, int]:
    """Subscriptions and affiliations of a node."""
    cursor = await connection.execute(
        'SELECT (SELECT count(*) FROM pubsub_subscription WHERE node_id = %s),'
        ' (SELECT count(*) FROM pubsub_affiliation WHERE node_id = %s)',
        (node_id, node_id),
    )
    row = await cursor.fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


async def subscriptions_of(
    store: Store, owner: int | None, bare: str, limit: int, name: str | None = None
) -> list[tuple[str, Subscription]]:
    """(node name, subscription) of one bare JID at an account or the service, at one node or all."""
    where = 'n.owner_id = %s' if owner is not None else 'n.owner_id IS NULL'
    values: list[Any] = [bare] + ([owner] if owner is not None else [])
    if name is not None:
        where += ' AND n.name = %s'
        values.append(name)
    rows = await store.fetch(
        'SELECT n.name, s.jid, s.subid, s.pending, s.deliver FROM pubsub_subscription s'  # noqa: S608
        f' JOIN pubsub_node n ON n.id = s.node_id WHERE s.bare = %s AND {where} ORDER BY n.name LIMIT %s',
        *values,
        limit,
    )
    return [(row[0], Subscription(*row[1:])) for row in rows]


# what a client that comes online gets


PAYLOAD = 16 * 1024
"""Larger payloads are left out of what a client gets when it comes online; it can fetch the item."""


class LastItem(NamedTuple):
    """The newest item of a node of an account, with what decides whether a contact may see it."""

    owner: str
    node_id: int
    name: str
    config: dict[str, Any]
    item: Item
    subscription: int
    groups: tuple[str, ...]
    sharing: bool | None
    affiliation: str
    lists: bool
    """The owner may have privacy lists."""


_LAST = """
SELECT u.im_address, n.id, n.name, n.config, i.id, i.item_id, i.publisher, i.payload, i.at,
       coalesce(r.subscription, 0), coalesce(r.groups, '{{}}'), p.sharing, coalesce(a.affiliation, 'none'),
       u.privacy_version > 0
FROM {owners}
JOIN pubsub_node n ON n.owner_id = u.id AND n.name = ANY(%(names)s)
JOIN LATERAL (
    SELECT id, item_id, publisher, at,
           CASE WHEN octet_length(payload) <= %(most)s THEN payload ELSE ''::bytea END AS payload
    FROM pubsub_item WHERE node_id = n.id ORDER BY id DESC LIMIT 1
) i ON true
LEFT JOIN user_presence_policy p ON p.user_id = u.id
LEFT JOIN pubsub_affiliation a ON a.node_id = n.id AND a.jid = %(watcher)s
WHERE u.active AND u.im_enabled
ORDER BY u.id, n.id LIMIT %(limit)s
"""
_OF_CONTACTS = _LAST.format(
    owners='(SELECT * FROM roster_item WHERE jid = %(watcher)s AND subscription IN (2, 3)) r'
    ' JOIN end_user u ON u.id = r.user_id'
)
_OF_ONE = _LAST.format(owners='end_user u LEFT JOIN roster_item r ON r.user_id = u.id AND r.jid = %(watcher)s').replace(
    'WHERE u.active', 'WHERE u.im_address = %(owner)s AND u.active'
)


async def last_items(store: Store, watcher: str, names: list[str], limit: int, owner: str = '') -> list[LastItem]:
    """The newest item of each node called one of ``names``, of all accounts in whose contact list ``watcher`` may see
    the owner, or only of the account ``owner`` (which may be the watcher's own)."""
    async with store.connection() as connection:
        cursor = await connection.execute(
            (_OF_ONE if owner else _OF_CONTACTS).encode(),
            {'watcher': watcher, 'names': names, 'owner': owner, 'limit': limit, 'most': PAYLOAD},
        )
        rows = await cursor.fetchall()
    return [
        LastItem(row[0], row[1], row[2], row[3], _item(row[4:9]), row[9], tuple(row[10]), row[11], row[12], row[13])
        for row in rows
    ]
