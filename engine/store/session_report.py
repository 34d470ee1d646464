"""A node's part of the IM and Presence User Sessions Report (tables ``sessions_report``, ``sessions_total``,
``user_sessions``)."""

from __future__ import annotations

from collections.abc import Sequence

from engine.store.pool import Store

Row = tuple[str, str, int, str]
"""User ID, IM address, number of sessions, their device types in words."""


async def write(store: Store, report: int, node: str, rows: Sequence[Row]) -> None:
    """Add the users of a node, and what they add up to; the last node that was asked finishes the report, and what was
    reported before goes. Once more changes nothing, nor does a report that is gone."""
    one = sum(row[2] == 1 for row in rows)
    sessions = sum(row[2] for row in rows)
    async with store.transaction() as connection:
        found = await connection.execute('SELECT nodes FROM sessions_report WHERE id = %s FOR UPDATE', (report,))
        asked = await found.fetchone()
        if asked is None:
            return
        for name in (node, ''):
            added = await connection.execute(
                'INSERT INTO sessions_total AS t (report_id, node, one_device, several_devices, sessions)'
                ' VALUES (%s, %s, %s, %s, %s) ON CONFLICT (report_id, node) DO UPDATE SET'
                ' one_device = t.one_device + excluded.one_device,'
                ' several_devices = t.several_devices + excluded.several_devices,'
                " sessions = t.sessions + excluded.sessions WHERE t.node = ''",
                (report, name, one, len(rows) - one, sessions),
            )
            if not added.rowcount:
                return  # this node has written already
        await connection.execute(
            'INSERT INTO user_sessions (report_id, node, user_id, address, sessions, devices)'
            ' SELECT %s, %s, * FROM unnest(%s::text[], %s::text[], %s::int[], %s::text[])',
            (report, node, *([row[column] for row in rows] for column in range(4))),
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
