"""Contact lists (table ``roster_item``).

Whoever writes a list locks the row of its owner in ``end_user`` first, both rows in ascending id order when a
subscription touches two lists, and keeps roster_version, contact_count and watcher_count exact in that transaction.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from operator import itemgetter
from sys import intern
from typing import Any, NamedTuple, cast

from engine.store.policies import DEFAULT, Policy
from engine.store.pool import Connection, Store

NONE, TO, FROM, BOTH = 0, 1, 2, 3
_JID = itemgetter(0)


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


class Entries:
    """The entries of a list by bare JID, as far as a mapping is needed, never changed. In a third of the memory of a
    dictionary (0.5 KiB for 50), and everybody who is signed in has one; finding an entry takes 0.4 microseconds."""

    __slots__ = ('_sorted',)

    def __init__(self, entries: Iterable[Item] = ()) -> None:
        self._sorted = tuple(sorted(entries))

    def __len__(self) -> int:
        return len(self._sorted)

    def __iter__(self) -> Iterator[str]:
        return map(_JID, self._sorted)

    def __contains__(self, jid: str) -> bool:
        return self.get(jid) is not None

    def __getitem__(self, jid: str) -> Item:
        found = self.get(jid)
        if found is None:
            raise KeyError(jid)
        return found

    def get(self, jid: str) -> Item | None:
        """The entry of an address."""
        entries = self._sorted
        at = bisect_left(entries, cast('Item', (jid,)))  # less than every entry that begins with it
        return entries[at] if at < len(entries) and entries[at][0] == jid else None

    def values(self) -> tuple[Item, ...]:
        """The entries, ordered by address."""
        return self._sorted

    def items(self) -> Iterator[tuple[str, Item]]:
        """Addresses with their entries."""
        return zip(self, self._sorted, strict=True)

    def with_entry(self, jid: str, item: Item | None) -> Entries:
        """The same list with another entry for an address; None: without one."""
        others = [entry for entry in self._sorted if entry.jid != jid]
        return Entries(others if item is None else [*others, item])


class Roster(NamedTuple):
    """A whole list. ``requests`` are the stored subscription request stanzas by sender; ``policy`` is the owner's."""

    version: int
    items: Entries
    requests: dict[str, bytes]
    policy: Policy = DEFAULT


class Counts(NamedTuple):
    """Counters of a locked owner, whether he has requests approved automatically (None: as the cluster does), and
    whether he may have privacy lists."""

    contacts: int
    watchers: int
    automatic: bool | None = None
    lists: bool = False


_COLUMNS = 'jid, name, groups, subscription, ask, pending_in, approved, is_contact'


def _item(row: tuple[Any, ...]) -> Item:
    groups = tuple(intern(group) for group in row[2])
    return Item(intern(row[0]), row[1], groups, row[3], row[4], row[5], row[6], row[7])


_SHARED_MOST = 65_536
_shared: dict[str, Item] = {}
"""Entries by their text form. Most entries are those of a colleague too."""


def _shared_item(text: str) -> Item:
    jid, flags, name, groups, _ = text.split('\x1f')
    bits = int(flags)
    if len(_shared) >= _SHARED_MOST:
        _shared.clear()
    _shared[text] = item = Item(
        intern(jid), intern(name), tuple(intern(group) for group in groups.split('\x1d')[1:]), bits & BOTH,
        bool(bits & 4), bool(bits & 8), bool(bits & 16), bool(bits & 32),
    )  # fmt: skip
    return item


async def load(store: Store, user_id: int) -> Roster | None:
    """One user's list; None when the user is gone."""
    return (await load_many(store, [user_id])).get(user_id)


async def load_many(store: Store, ids: Iterable[int]) -> dict[int, Roster]:
    """The lists of those of these users that exist, in one statement, hence one snapshot.

    A list comes as one text, which costs a quarter of what its rows would. Characters XML forbids separate the parts;
    a name with one of them, which no client could have sent or could be shown, loses it.
    """
    rows = await store.fetch(
        'SELECT u.id, u.roster_version, p.sharing, p.automatic, r.list FROM end_user u'
        ' LEFT JOIN user_presence_policy p ON p.user_id = u.id'
        " LEFT JOIN LATERAL (SELECT string_agg(concat_ws(E'\\x1f', jid,"
        ' subscription + 4 * ask::int + 8 * pending_in::int + 16 * approved::int + 32 * is_contact::int,'
        " translate(name, E'\\x1d\\x1e\\x1f', ''),"
        " CASE WHEN groups = '{}' THEN '' ELSE"
        " E'\\x1d' || translate(array_to_string(groups, E'\\x1d'), E'\\x1e\\x1f', '') END,"
        " CASE WHEN pending_in AND request IS NOT NULL THEN encode(request, 'hex') ELSE '' END), E'\\x1e') AS list"
        ' FROM roster_item WHERE user_id = u.id) r ON true WHERE u.id = ANY(%s)',
        list(ids),
    )
    found = {}
    for user_id, version, sharing, automatic, text in rows:
        items: list[Item] = []
        requests: dict[str, bytes] = {}
        for part in text.split('\x1e') if text else ():
            item = _shared.get(part)
            if item is None or item.pending_in:
                item = _shared_item(part)
                if item.pending_in:
                    del _shared[part]
                    requests[item.jid] = bytes.fromhex(part.rpartition('\x1f')[2])
            items.append(item)
        policy = DEFAULT if sharing is None and automatic is None else Policy(sharing, automatic)
        found[user_id] = Roster(version, Entries(items), requests, policy)
    return found


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


async def subscribed(store: Store, pairs: list[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """Subscription bits in the lists of (owner's IM address, contact); pairs without an entry are left out, and those
    of owners who may not be reached."""
    rows = await store.fetch(
        'SELECT p.owner, p.jid, r.subscription FROM unnest(%s::text[], %s::text[]) AS p (owner, jid)'
        ' JOIN end_user u ON u.im_address = p.owner AND u.active AND u.home_cluster AND u.im_enabled'
        ' JOIN roster_item r ON r.user_id = u.id AND r.jid = p.jid',
        [owner for owner, _ in pairs],
        [jid for _, jid in pairs],
    )
    return {(row[0], row[1]): row[2] for row in rows}


async def others(connection: Connection, user_id: int) -> int:
    """Entries of a locked list that are no contacts and see nothing: they ask, or were approved in advance."""
    cursor = await connection.execute(
        'SELECT count(*) FROM roster_item WHERE user_id = %s AND NOT is_contact AND subscription = 0', (user_id,)
    )
    row = await cursor.fetchone()
    return int(row[0]) if row else 0


async def lock(connection: Connection, ids: Iterable[int]) -> dict[int, Counts]:
    """Lock the owners in ascending id order. Inside a transaction. Missing ids do not exist."""
    cursor = await connection.execute(
        'SELECT u.id, u.contact_count, u.watcher_count, p.automatic, u.privacy_version > 0 FROM end_user u'
        ' LEFT JOIN user_presence_policy p ON p.user_id = u.id'
        ' WHERE u.id = ANY(%s) ORDER BY u.id FOR NO KEY UPDATE OF u',
        (sorted(set(ids)),),
    )
    return {row[0]: Counts(row[1], row[2], row[3], row[4]) for row in await cursor.fetchall()}


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
