"""The message archive of every user (tables ``archive_message`` and ``archive_account``, XEP-0313).

A row is found by (user, id). The id is a UUID of version 7: its first 48 bits are the time in milliseconds, so order by
id is order in time, a time is a bound for ids, and nothing else needs to be stored for it. A second index (user, peer,
id) serves queries for one contact, a BRIN index on the id the removal of what is too old.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, NamedTuple, TypeVar
from uuid import UUID

from engine.store.pool import Connection, Store
from engine.store.writer import Write

Who = TypeVar('Who')
SLACK = 20
"""An archive is cut back to its limit when it is larger by one part in so many: cutting one message each time would
cost more than storing it."""
PURGE = 5000
"""Rows removed in one transaction."""


class Entry(NamedTuple):
    """One message in the archive of ``owner`` (bare JID); ``peer`` and ``resource`` are the other side's address.

    ``roster_only``: only when the peer is in the owner's contact list. ``asked``: only when the owner wants messages of
    the peer archived; for owners who are not here."""

    owner: str
    id: str
    peer: str
    resource: str
    stanza: bytes
    roster_only: bool = False
    asked: bool = False

    @property
    def size(self) -> int:
        """Bytes, for the limits of the writer."""
        return len(self.stanza)


class Rules(NamedTuple):
    """What a user wants archived (XEP-0441): ``default`` is always, never or roster; ``always`` and ``never`` hold
    prepared JIDs, bare ones for every resource. Stored as JSON in ``archive_account.preferences``."""

    default: str = 'always'
    always: frozenset[str] = frozenset()
    never: frozenset[str] = frozenset()

    def decide(self, peer: str) -> bool | None:
        """Whether messages from or to the full or bare JID are archived; None: if it is in the contact list."""
        if self is EVERYTHING:
            return True
        bare = peer.partition('/')[0]
        if peer in self.never or bare in self.never:
            return False
        if peer in self.always or bare in self.always:
            return True
        return None if self.default == 'roster' else self.default == 'always'


EVERYTHING = Rules()


def rules(preferences: Any) -> Rules:
    """From JSON; None: the user decided nothing."""
    if preferences is None:
        return EVERYTHING
    return Rules(preferences['default'], frozenset(preferences['always']), frozenset(preferences['never']))


class Archived(NamedTuple):
    """One message of a result."""

    id: UUID
    stanza: bytes


class Criteria(NamedTuple):
    """Which messages of an archive: all that are None or () match everything. ``low`` and ``high`` are bounds, ``low``
    included and ``high`` not; ``after`` and ``before`` are ids, not included."""

    peer: str | None = None
    resource: str | None = None
    low: UUID | None = None
    high: UUID | None = None
    after: UUID | None = None
    before: UUID | None = None
    ids: tuple[UUID, ...] = ()


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def floor(when: datetime, later: int = 0) -> UUID:
    """The smallest id of the millisecond of ``when``, or of one ``later`` by so many milliseconds."""
    milliseconds = (when - _EPOCH) // _MILLISECOND + later
    return UUID(int=min(max(milliseconds, 0), 2**48 - 1) << 80)


def time_of(identity: UUID) -> datetime:
    """When the message with this id was received."""
    return datetime.fromtimestamp((identity.int >> 80) / 1000, UTC)


SEPARATOR = b'\x1f'
"""Between the values of a column on its way to PostgreSQL: neither JIDs nor XML may contain it, and one long string
costs a tenth of an array."""
_INSERT = """
WITH added AS (
    INSERT INTO archive_message (user_id, id, peer, resource, stanza)
    SELECT u.id, m.id, m.peer, coalesce(m.resource, ''), convert_to(m.stanza, 'UTF8')
    FROM unnest(
        string_to_array(%s, E'\\x1f'), string_to_array(%s, E'\\x1f')::uuid[], string_to_array(%s, E'\\x1f'),
        string_to_array(%s, E'\\x1f'), string_to_array(convert_from(%s, 'UTF8'), E'\\x1f')
    ) AS m (owner, id, peer, resource, stanza)
    JOIN end_user u ON u.im_address = m.owner
    RETURNING user_id
), counted AS (SELECT user_id, count(*) AS messages FROM added GROUP BY user_id ORDER BY user_id)
INSERT INTO archive_account AS a (user_id, messages, preferences) SELECT user_id, messages, NULL FROM counted
ON CONFLICT (user_id) DO UPDATE SET messages = a.messages + excluded.messages RETURNING user_id, messages
"""


async def insert(connection: Connection, entries: Sequence[Entry], limit: int) -> None:
    """Add messages that ``wanted`` let through, in one statement; archives that are too large by then lose their oldest
    messages."""
    if not entries:
        return
    owners, ids, peers, resources, stanzas, *_ = zip(*entries, strict=True)
    texts = [SEPARATOR.decode().join(column) for column in (owners, ids, peers, resources)]
    cursor = await connection.execute(_INSERT, (*texts, SEPARATOR.join(stanzas)))
    for user_id, messages in await cursor.fetchall():
        if messages > limit + limit // SLACK:
            await _cut(connection, user_id, messages - limit)


async def _cut(connection: Connection, user_id: int, count: int) -> None:
    done = await connection.execute(
        'DELETE FROM archive_message WHERE user_id = %s AND id <= (SELECT id FROM archive_message WHERE user_id = %s'
        ' ORDER BY id OFFSET %s LIMIT 1)',
        (user_id, user_id, count - 1),
    )
    await connection.execute(
        'UPDATE archive_account SET messages = messages - %s WHERE user_id = %s', (done.rowcount, user_id)
    )


class ArchiveMessage(Generic[Who]):
    """Keep one message in the archive of one user. ``outcome(sender, held, None)`` is called when it is on disk; with
    the error instead of None when it could not be stored."""

    __slots__ = ('entry', 'held', 'limit', 'outcome', 'sender', 'size')
    patient = True

    def __init__(
        self, entry: Entry, limit: int, outcome: Callable[[Who, int, BaseException | None], None], sender: Who,
        held: int,
    ) -> None:  # fmt: skip
        self.entry = entry
        self.limit = limit
        self.outcome = outcome
        self.sender = sender
        self.held = held
        self.size = len(entry.stanza)

    async def run(self, connection: Connection, together: Sequence[Write]) -> None:
        """One statement for all."""
        writes = [write for write in together if isinstance(write, ArchiveMessage)]
        await insert(connection, await wanted(connection, [write.entry for write in writes]), self.limit)

    def done(self, error: BaseException | None) -> None:
        """Tell the archive."""
        self.outcome(self.sender, self.held, error)


async def wanted(connection: Connection, entries: Sequence[Entry]) -> list[Entry]:
    """``entries`` without those their owners do not want."""
    asked = {entry.owner for entry in entries if entry.asked}
    chosen: dict[str, Rules] = {}
    if asked:
        cursor = await connection.execute(
            'SELECT u.im_address, a.preferences FROM archive_account a JOIN end_user u ON u.id = a.user_id'
            ' WHERE u.im_address = ANY(%s) AND a.preferences IS NOT NULL',
            (list(asked),),
        )
        chosen = {row[0]: rules(row[1]) for row in await cursor.fetchall()}
    elif not any(entry.roster_only for entry in entries):
        return list(entries)
    verdicts: list[bool | None] = []
    for entry in entries:
        full = f'{entry.peer}/{entry.resource}' if entry.resource else entry.peer
        verdict = chosen.get(entry.owner, EVERYTHING).decide(full) if entry.asked else True
        verdicts.append(None if entry.roster_only and verdict else verdict)
    pairs = [(entry.owner, entry.peer) for entry, verdict in zip(entries, verdicts, strict=True) if verdict is None]
    contacts: set[tuple[str, str]] = set()
    if pairs:
        cursor = await connection.execute(
            'SELECT m.owner, m.peer FROM unnest(%s::text[], %s::text[]) AS m (owner, peer)'
            ' JOIN end_user u ON u.im_address = m.owner JOIN roster_item r ON r.user_id = u.id AND r.jid = m.peer'
            ' WHERE r.is_contact',
            [list(column) for column in zip(*pairs, strict=True)],
        )
        contacts = {(row[0], row[1]) for row in await cursor.fetchall()}
    return [
        entry
        for entry, verdict in zip(entries, verdicts, strict=True)
        if verdict or (verdict is None and (entry.owner, entry.peer) in contacts)
    ]


async def save_rules(store: Store, user_id: int, chosen: Rules) -> None:
    """Store what a user decided. Nothing happens when the user is gone."""
    preferences = {'default': chosen.default, 'always': sorted(chosen.always), 'never': sorted(chosen.never)}
    await store.execute(
        'INSERT INTO archive_account AS a (user_id, messages, preferences) SELECT id, 0, %s::jsonb FROM end_user'
        ' WHERE id = %s ON CONFLICT (user_id) DO UPDATE SET preferences = excluded.preferences',
        json.dumps(preferences),
        user_id,
    )


def _where(user_id: int, criteria: Criteria) -> tuple[str, list[Any]]:
    parts: list[str] = ['user_id = %s']
    values: list[Any] = [user_id]
    for sql, value in (
        ('peer = %s', criteria.peer),
        ('resource = %s', criteria.resource),
        ('id >= %s', criteria.low),
        ('id < %s', criteria.high),
        ('id > %s', criteria.after),
        ('id < %s', criteria.before),
        ('id = ANY(%s)', list(criteria.ids) or None),
    ):
        if value is not None:
            parts.append(sql)
            values.append(value)
    return ' AND '.join(parts), values


async def page(
    store: Store, user_id: int, criteria: Criteria, size: int, size_bytes: int, newest: bool, offset: int = 0
) -> tuple[list[Archived], bool]:
    """(at most ``size`` messages in order, whether there are more beyond).

    The oldest that match, or with ``newest`` the latest; after ``size_bytes`` bytes no further message is added, but
    one there always is. ``offset`` skips that many first.
    """
    where, values = _where(user_id, criteria)
    order = 'DESC' if newest else 'ASC'
    rows = await store.fetch(
        f'SELECT id, stanza, sum(octet_length(stanza)) OVER (ORDER BY id {order}) - octet_length(stanza) AS before'  # noqa: S608
        f' FROM (SELECT id, stanza FROM archive_message WHERE {where} ORDER BY id {order} OFFSET %s LIMIT %s) m'
        f' ORDER BY id {order}',
        *values,
        offset,
        size + 1,
    )
    found = [Archived(row[0], bytes(row[1])) for row in rows[:size] if row[2] < size_bytes]
    more = len(rows) > len(found)
    return (found[::-1] if newest else found), more


async def missing(store: Store, user_id: int, ids: Sequence[UUID]) -> bool:
    """Whether one of these messages is not in the archive."""
    row = await store.fetch_one(
        'SELECT count(*) FROM archive_message WHERE user_id = %s AND id = ANY(%s)', user_id, list(ids)
    )
    return row is None or row[0] != len(set(ids))


async def count(store: Store, user_id: int, criteria: Criteria) -> int:
    """How many messages match."""
    if criteria == Criteria():
        row = await store.fetch_one('SELECT messages FROM archive_account WHERE user_id = %s', user_id)
    else:
        where, values = _where(user_id, criteria)
        row = await store.fetch_one(f'SELECT count(*) FROM archive_message WHERE {where}', *values)  # noqa: S608
    return int(row[0]) if row else 0


async def ends(store: Store, user_id: int) -> tuple[UUID, UUID] | None:
    """Ids of the first and the last message, None when there is none."""
    row = await store.fetch_one(
        'SELECT (SELECT id FROM archive_message WHERE user_id = %s ORDER BY id LIMIT 1),'
        ' (SELECT id FROM archive_message WHERE user_id = %s ORDER BY id DESC LIMIT 1)',
        user_id,
        user_id,
    )
    return (row[0], row[1]) if row and row[0] is not None else None


async def purge(store: Store, before: datetime) -> int:
    """Remove up to ``PURGE`` messages older than ``before``; how many there were."""
    async with store.transaction() as connection:
        cursor = await connection.execute(
            'WITH old AS (SELECT user_id, id FROM archive_message WHERE id < %s LIMIT %s),'
            ' gone AS (DELETE FROM archive_message m USING old WHERE m.user_id = old.user_id AND m.id = old.id'
            ' RETURNING m.user_id), counted AS (SELECT user_id, count(*) AS messages FROM gone GROUP BY user_id),'
            ' locked AS (SELECT a.user_id, c.messages FROM archive_account a JOIN counted c USING (user_id)'
            ' ORDER BY a.user_id FOR UPDATE OF a),'
            ' changed AS (UPDATE archive_account a SET messages = a.messages - l.messages FROM locked l'
            ' WHERE a.user_id = l.user_id) SELECT count(*) FROM gone',
            (floor(before), PURGE),
        )
        row = await cursor.fetchone()
        return int(row[0]) if row else 0
