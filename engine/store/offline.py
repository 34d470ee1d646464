"""Instant messages that wait for their user (table ``offline_message``, XEP-0160)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple

from engine.store.pool import Connection
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
    """Keep one message for the user ``bare``. ``outcome`` gets '' (on disk) or why not: 'unknown', 'full', 'failed'."""

    __slots__ = ('at', 'bare', 'limit', 'outcome', 'refused', 'size', 'stanza')

    def __init__(self, bare: str, stanza: bytes, at: datetime, limit: int, outcome: Callable[[str], None]) -> None:
        self.bare = bare
        self.stanza = stanza
        self.size = len(stanza)
        self.at = at
        self.limit = limit
        self.outcome = outcome
        self.refused = ''

    async def run(self, connection: Connection, together: Sequence[Write]) -> None:
        """One look-up of the receivers, one insert of everything that fits."""
        messages = [write for write in together if isinstance(write, StoreMessage)]
        rows = await (
            await connection.execute(
                'SELECT im_address, id, (SELECT count(*) FROM offline_message m WHERE m.user_id = u.id) FROM end_user u'
                ' WHERE im_address = ANY(%s) AND active AND home_cluster AND im_enabled AND home_node_id IS NOT NULL'
                ' FOR KEY SHARE',
                (list({message.bare for message in messages}),),
            )
        ).fetchall()
        users = {row[0]: [row[1], row[2]] for row in rows}
        accepted = []
        for message in messages:
            user = users.get(message.bare)
            if user is None:
                message.refused = 'unknown'
            elif user[1] >= message.limit:
                message.refused = 'full'
            else:
                message.refused = ''
                user[1] += 1
                accepted.append((user[0], message.at, message.stanza))
        if accepted:
            # One statement however many they are; ids in the order of the messages.
            await connection.execute(
                'INSERT INTO offline_message (user_id, stored_at, stanza) SELECT user_id, stored_at, stanza'
                ' FROM unnest(%s::bigint[], %s::timestamptz[], %s::bytea[]) WITH ORDINALITY'
                ' AS m (user_id, stored_at, stanza, place) ORDER BY place',
                [list(column) for column in zip(*accepted, strict=True)],
            )

    def done(self, error: BaseException | None) -> None:
        """Tell the sender's side."""
        self.outcome('failed' if error else self.refused)


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
