"""A node's part of the IM and Presence User Sessions Report (tables ``sessions_report``, ``sessions_total``,
``user_sessions``)."""

from __future__ import annotations

from collections.abc import Sequence

from engine.store.pool import Store

Row = tuple[str, str, int, str]
"""User ID, IM address, number of sessions, their device types in words."""
_COUNTS = ('one_device', 'several_devices', 'sessions', 'composed', 'internal', 'off_site', 'phantom')
_ADD = (
    f'INSERT INTO sessions_total AS t (report_id, redundancy_group, node, {", ".join(_COUNTS)})'  # noqa: S608
    f' VALUES (%s, %s, %s{", %s" * len(_COUNTS)}) ON CONFLICT (report_id, redundancy_group, node) DO UPDATE SET '
    + ', '.join(f'{name} = t.{name} + excluded.{name}' for name in _COUNTS)
    + " WHERE t.node = ''"
)


async def write(
    store: Store, report: int, group: str, node: str, rows: Sequence[Row], classes: tuple[int, ...]
) -> None:
    """Add the users of a node of a presence redundancy group, and what they add up to there, in the group and in the
    cluster; the last node that was asked finishes the report, and what was reported before goes. Once more changes
    nothing, nor does a report that is gone. ``classes``: sessions composed, internal, off-site and phantom."""
    one = sum(row[2] == 1 for row in rows)
    sessions = sum(row[2] for row in rows)
    async with store.transaction() as connection:
        found = await connection.execute('SELECT nodes FROM sessions_report WHERE id = %s FOR UPDATE', (report,))
        asked = await found.fetchone()
        if asked is None:
            return
        for level in ((group, node), (group, ''), ('', '')):
            added = await connection.execute(_ADD, (report, *level, one, len(rows) - one, sessions, *classes))
            if not added.rowcount:
                return  # this node has written already
        await connection.execute(
            'INSERT INTO user_sessions (report_id, redundancy_group, node, user_id, address, sessions, devices)'
            ' SELECT %s, %s, %s, * FROM unnest(%s::text[], %s::text[], %s::int[], %s::text[])',
            (report, group, node, *([row[column] for row in rows] for column in range(4))),
        )
        done = await connection.execute(
            'UPDATE sessions_report SET finished_at = now() WHERE id = %s AND nodes <='
            " (SELECT count(*) FROM sessions_total WHERE report_id = %s AND node <> '')",
            (report, report),
        )
        if done.rowcount:
            for table in ('user_sessions', 'sessions_total'):
                await connection.execute(f'DELETE FROM {table} WHERE report_id < %s', (report,))  # noqa: S608
            await connection.execute('DELETE FROM sessions_report WHERE id < %s', (report,))
