"""Contact lists (table ``roster_item``).

Whoever writes a list locks the row of its owner in ``end_user`` first, both rows in ascending id order when a
subscription touches two lists, and keeps roster_version, contact_count and watcher_count exact in that transaction.
"""

from __future__ import annotations

from collections.abc import Iterable
from sys import intern
from typing import Any, NamedTuple

from engine.store.policies import DEFAULT, Policy
from engine.store.pool import Connection, Store

NONE, TO, FROM, BOTH = 0, 1, 2, 3


class Item(NamedTuple):
    """One entry; see impadmin.ucm.models.RosterItem. ``subscription`` has the bits TO and FROM."""

    jid: str
    name: str = ''
    groups: tuple[str, ...] = ()
    subscription: int = NONE
    ask: bool = False
    pending_in: bool = False
    approved: bool = False
    is_contact: bool = True

    @property
    def visible(self) -> bool:
        """Whether clients see it: not when there is nothing but the other side's open request (RFC 6121 A.1)."""
        return self.is_contact or self.subscription != NONE or self.ask or self.approved

    @property
    def empty(self) -> bool:
        """Whether nothing is left that is worth a row."""
        return not (self.visible or self.pending_in)


class Roster(NamedTuple):
    """A whole list. ``requests`` are the stored subscription request stanzas by sender; ``policy`` is the owner's."""

    version: int
    items: dict[str, Item]
    requests: dict[str, bytes]
    policy: Policy = DEFAULT


class Counts(NamedTuple):
    """Counters of a locked owner, and whether he has requests approved automatically (None: as the cluster does)."""

    contacts: int
    watchers: int
    automatic: bool | None = None


_COLUMNS = 'jid, name, groups, subscription, ask, pending_in, approved, is_contact'


def _item(row: tuple[Any, ...]) -> Item:
    groups = tuple(intern(group) for group in row[2])
    return Item(intern(row[0]), row[1], groups, row[3], row[4], row[5], row[6], row[7])


async def load(store: Store, user_id: int) -> Roster | None:
    """One user's list in one statement, hence one snapshot; None when the user is gone."""
    rows = await store.fetch(
        f'SELECT u.roster_version, {_COLUMNS}, CASE WHEN pending_in THEN request END, p.sharing, p.automatic'  # noqa: S608
        ' FROM end_user u LEFT JOIN user_presence_policy p ON p.user_id = u.id'
        ' LEFT JOIN roster_item r ON r.user_id = u.id WHERE u.id = %s',
        user_id,
    )
    if not rows:
        return None
    items: dict[str, Item] = {}
    requests: dict[str, bytes] = {}
    for row in rows:
        if row[1] is None:
            continue
        item = _item(row[1:9])
        items[item.jid] = item
        if item.pending_in:
            requests[item.jid] = bytes(row[9] or b'')
    return Roster(rows[0][0], items, requests, Policy(*rows[0][10:12]))


async def subscription(store: Store, owner: str, jid: str) -> int:
    """Subscription bits of ``jid`` in the list of the user with the IM address ``owner``.

    NONE when there is none, and without FROM when the owner has switched sharing of the own availability off.
    """
    row = await store.fetch_one(
        'SELECT CASE WHEN p.sharing IS FALSE THEN r.subscription & 1 ELSE r.subscription END'
        ' FROM roster_item r JOIN end_user u ON u.id = r.user_id LEFT JOIN user_presence_policy p ON p.user_id = u.id'
        ' WHERE u.im_address = %s AND r.jid = %s',
        owner,
        jid,
    )
    return row[0] if row else NONE


async def lock(connection: Connection, ids: Iterable[int]) -> dict[int, Counts]:
    """Lock the owners in ascending id order. Inside a transaction. Missing ids do not exist."""
    cursor = await connection.execute(
        'SELECT u.id, u.contact_count, u.watcher_count, p.automatic FROM end_user u'
        ' LEFT JOIN user_presence_policy p ON p.user_id = u.id'
        ' WHERE u.id = ANY(%s) ORDER BY u.id FOR NO KEY UPDATE OF u',
        (sorted(set(ids)),),
    )
    return {row[0]: Counts(row[1], row[2], row[3]) for row in await cursor.fetchall()}


async def get(connection: Connection, user_id: int, jid: str) -> Item | None:
    """One entry of a locked list."""
    cursor = await connection.execute(
        f'SELECT {_COLUMNS} FROM roster_item WHERE user_id = %s AND jid = %s',  # noqa: S608
        (user_id, jid),
    )
    row = await cursor.fetchone()
    return _item(row) if row else None


async def write(
    connection: Connection, user_id: int, old: Item | None, new: Item | None, request: bytes | None = None
) -> int:
    """Replace ``old`` by ``new`` (None: no entry) in a locked list; the new roster_version.

    ``request`` is stored when ``new.pending_in`` and given; an older one stays otherwise.
    """
    if new is None:
        assert old is not None
        await connection.execute('DELETE FROM roster_item WHERE user_id = %s AND jid = %s', (user_id, old.jid))
    else:
        await connection.execute(
            'INSERT INTO roster_item (user_id, jid, name, groups, subscription, ask, pending_in, approved, is_contact,'
            ' state, request) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, 0, %s)'
            ' ON CONFLICT (user_id, jid) DO UPDATE SET name = EXCLUDED.name, groups = EXCLUDED.groups,'
            ' subscription = EXCLUDED.subscription, ask = EXCLUDED.ask, pending_in = EXCLUDED.pending_in,'
            ' approved = EXCLUDED.approved, is_contact = EXCLUDED.is_contact,'
            ' request = CASE WHEN EXCLUDED.pending_in THEN coalesce(EXCLUDED.request, roster_item.request) END',
            (
                user_id, new.jid, new.name, list(new.groups), new.subscription, new.ask, new.pending_in, new.approved,
                new.is_contact, request if new.pending_in else None,
            ),
        )  # fmt: skip
    contacts = _counts(new)[0] - _counts(old)[0]
    watchers = _counts(new)[1] - _counts(old)[1]
    cursor = await connection.execute(
        'UPDATE end_user SET roster_version = roster_version + 1, contact_count = contact_count + %s,'
        ' watcher_count = watcher_count + %s WHERE id = %s RETURNING roster_version',
        (contacts, watchers, user_id),
    )
    row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


def _counts(item: Item | None) -> tuple[int, int]:
    return (int(item.is_contact), int(bool(item.subscription & FROM))) if item else (0, 0)
