"""Instant messages that wait for their user (table ``offline_message``, XEP-0160)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple

from engine.store import archive
from engine.store.archive import Entry
from engine.store.pool import Connection, Store
from engine.store.privacy import refusing
from engine.store.writer import Write

PAGE = 50
PAGE_BYTES = 256 * 1024
"""Messages read at a time, and bytes after which no further one is; the next page follows when the client has taken
this one."""


class Stored(NamedTuple):
    """One waiting message."""

    id: int
    stored_at: datetime
    stanza: bytes


class StoreMessage:
    """Keep one message of the JID ``sender`` for the user ``bare``. ``outcome`` gets '' (on disk) or why not:
    'unknown', 'full', 'blocked' (by the default privacy list of the user), 'failed'. Without ``sender`` the message
    was let through before and lists are not asked.

    ``limit`` and ``limit_bytes`` are what may wait for a user. ``entry`` is the message for the user's archive, of at
    most ``archive_limit`` messages; when it is archived, ``named`` (with its archive id) is stored."""

    __slots__ = (
        'archive_limit', 'at', 'bare', 'entry', 'limit', 'limit_bytes', 'named', 'outcome', 'refused', 'sender', 'size',
        'stanza',
    )  # fmt: skip

    def __init__(
        self, bare: str, stanza: bytes, at: datetime, limit: int, outcome: Callable[[str], None], sender: str = '',
        limit_bytes: int = 1 << 60, entry: Entry | None = None, named: bytes = b'', archive_limit: int = 0,
    ) -> None:  # fmt: skip
        self.bare = bare
        self.stanza = stanza
        self.size = len(stanza)
        self.at = at
        self.limit = limit
        self.outcome = outcome
        self.sender = sender
        self.refused = ''
        self.limit_bytes = limit_bytes
        self.entry = entry
        self.named = named
        self.archive_limit = archive_limit

    async def run(self, connection: Connection, together: Sequence[Write]) -> None:
        """One look-up of the receivers, one insert of everything that fits."""
        messages = [write for write in together if isinstance(write, StoreMessage)]
        rows = await (
            await connection.execute(
                'SELECT im_address, id, m.waiting, m.bytes, privacy_version > 0 FROM end_user u CROSS JOIN LATERAL'
                ' (SELECT count(*) AS waiting, coalesce(sum(octet_length(stanza)), 0) AS bytes'
                ' FROM offline_message WHERE user_id = u.id) m'
                ' WHERE im_address = ANY(%s) AND active AND home_cluster AND im_enabled AND home_node_id IS NOT NULL'
                ' FOR KEY SHARE OF u',
                (list({message.bare for message in messages}),),
            )
        ).fetchall()
        users = {row[0]: [row[1], row[2], int(row[3])] for row in rows}
        lists = {row[0]: row[1] for row in rows if row[4]}
        pairs = {
            (lists[message.bare], message.sender) for message in messages if message.sender and message.bare in lists
        }
        refused = await refusing(connection, 'message', pairs) if pairs else ()
        accepted: list[tuple[int, StoreMessage]] = []
        for message in messages:
            user = users.get(message.bare)
            if user is None:
                message.refused = 'unknown'
            elif user[1] >= message.limit or user[2] + message.size > message.limit_bytes:
                message.refused = 'full'
            elif refused and (user[0], message.sender) in refused:
                message.refused = 'blocked'
            else:
                message.refused = ''
                user[1] += 1
                user[2] += message.size
                accepted.append((user[0], message))
        archived = await _archive(connection, [message for _, message in accepted])
        if accepted:
            columns = zip(
                *(
                    (user_id, message.at, message.named if message in archived else message.stanza)
                    for user_id, message in accepted
                ),
                strict=True,
            )
            # One statement however many they are; ids in the order of the messages.
            await connection.execute(
                'INSERT INTO offline_message (user_id, stored_at, stanza) SELECT user_id, stored_at, stanza'
                ' FROM unnest(%s::bigint[], %s::timestamptz[], %s::bytea[]) WITH ORDINALITY'
                ' AS m (user_id, stored_at, stanza, place) ORDER BY place',
                [list(column) for column in columns],
            )

    def done(self, error: BaseException | None) -> None:
        """Tell the sender's side."""
        self.outcome('failed' if error else self.refused)


async def _archive(connection: Connection, messages: Sequence[StoreMessage]) -> set[StoreMessage]:
    """Put into their receivers' archives what belongs there; which messages it was."""
    entries = {message.entry: message for message in messages if message.entry is not None}
    if not entries:
        return set()
    kept = await archive.wanted(connection, list(entries))
    await archive.insert(connection, kept, max(message.archive_limit for message in messages))
    return {entries[entry] for entry in kept}


_PAGES = """
SELECT f.place, m.id, m.stored_at, m.stanza
FROM unnest(%s::bigint[], %s::bigint[]) WITH ORDINALITY AS f (user_id, after, place)
CROSS JOIN LATERAL (
    SELECT id, stored_at, stanza, sum(octet_length(stanza)) OVER (ORDER BY id) - octet_length(stanza) AS before
    FROM (
        SELECT id, stored_at, stanza FROM offline_message o
        WHERE o.user_id = f.user_id AND o.id > f.after ORDER BY o.id LIMIT %s
    ) o
) m
WHERE m.before < %s ORDER BY f.place, m.id
"""


class FetchMessages:
    """Read a page of the messages of a user, oldest first, after everything queued before. ``found`` gets the rows."""

    __slots__ = ('after', 'found', 'rows', 'user_id')
    size = 0

    def __init__(self, user_id: int, after: int, found: Callable[[list[Stored] | None], None]) -> None:
        self.user_id = user_id
        self.after = after
        self.found = found
        self.rows: list[Stored] = []

    async def run(self, connection: Connection, together: Sequence[Write]) -> None:
        """One statement for all, one index scan each."""
        fetches = [write for write in together if isinstance(write, FetchMessages)]
        for fetch in fetches:
            fetch.rows = []
        cursor = await connection.execute(
            _PAGES, ([fetch.user_id for fetch in fetches], [fetch.after for fetch in fetches], PAGE, PAGE_BYTES)
        )
        for place, *row in await cursor.fetchall():
            fetches[place - 1].rows.append(Stored(row[0], row[1], bytes(row[2])))

    def done(self, error: BaseException | None) -> None:
        """Hand over the page; None when the database failed (nothing is lost, the next sign-in tries again)."""
        self.found(None if error else self.rows)


async def expire(store: Store, before: datetime) -> int:
    """Remove messages that have waited since before that time; how many there were."""
    return await store.execute('DELETE FROM offline_message WHERE stored_at < %s', before)


class DeleteMessages:
    """Remove messages their user has received."""

    __slots__ = ('deleted', 'ids')
    size = 0

    def __init__(self, ids: list[int], deleted: Callable[[], None]) -> None:
        self.ids = ids
        self.deleted = deleted

    async def run(self, connection: Connection, together: Sequence[Write]) -> None:
        """One statement for all."""
        ids = [i for write in together if isinstance(write, DeleteMessages) for i in write.ids]
        await connection.execute('DELETE FROM offline_message WHERE id = ANY(%s)', (ids,))

    def done(self, error: BaseException | None) -> None:
        """Also after a failure: the rows then come again at the next sign-in, which is better than to lose them."""
        self.deleted()
