"""What a node writes about itself and reads about what it should do: node, service_status, service_command, alarm."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg

from engine.store.pool import Store

_LOCK_SPACE = 0x1A9
_INTERRUPTED = 'The node stopped while it executed this command.'


@dataclass(frozen=True, slots=True)
class NodeRow:
    """The node's own row."""

    id: int
    name: str
    publisher: bool


@dataclass(frozen=True, slots=True)
class Command:
    """One row of service_command that waits for this node."""

    id: int
    service: str
    verb: str


async def node_row(store: Store, name: str) -> NodeRow | None:
    """The row of the node called ``name``, or None when the console has no such node."""
    row = await store.fetch_one('SELECT id, name, publisher FROM node WHERE name = %s', name)
    return NodeRow(*row) if row else None


async def node_names(store: Store) -> list[str]:
    """Names of all nodes."""
    return [row[0] for row in await store.fetch('SELECT name FROM node ORDER BY id')]


async def probe(url: str) -> None:
    """Connect once. Raises one of ``pool.Unavailable`` with the true reason."""
    await (await psycopg.AsyncConnection.connect(url, connect_timeout=5)).close()


async def has_tables(store: Store) -> bool:
    """Whether the console's first migration has run."""
    row = await store.fetch_one(
        "SELECT to_regclass('node') IS NOT NULL AND to_regclass('config_generation') IS NOT NULL"
    )
    return bool(row and row[0])


def migrations_on_disk() -> set[tuple[str, str]]:
    """(app, migration) of every migration of the console beside this engine; empty when the console is not here."""
    root = Path(__file__).resolve().parents[2] / 'impadmin'
    return {(path.parent.parent.name, path.stem) for path in root.glob('*/migrations/*.py') if path.name[0].isdigit()}


async def missing_migrations(store: Store) -> list[str]:
    """Migrations that this release has and the database has not, as ``app.name``, sorted."""
    applied = {(row[0], row[1]) for row in await store.fetch('SELECT app, name FROM django_migrations')}
    return sorted(f'{app}.{name}' for app, name in migrations_on_disk() - applied)


async def take_node_lock(url: str, node_id: int) -> psycopg.AsyncConnection[tuple[Any, ...]] | None:
    """A connection that holds the right to be this node as long as it is open; None when another engine holds it."""
    connection = await psycopg.AsyncConnection.connect(
        url, autocommit=True, application_name='imp-engine-lock', connect_timeout=5
    )
    row = await (await connection.execute('SELECT pg_try_advisory_lock(%s, %s)', (_LOCK_SPACE, node_id))).fetchone()
    if row and row[0]:
        return connection
    await connection.close()
    return None


async def newest_generation(store: Store) -> int:
    """Number of the newest configuration generation; 0 when there is none."""
    row = await store.fetch_one('SELECT max(number) FROM config_generation')
    return int(row[0]) if row and row[0] is not None else 0


async def generations(store: Store, at_most: int) -> list[tuple[int, str]]:
    """(number, document) of the newest generations, newest first."""
    rows = await store.fetch('SELECT number, document FROM config_generation ORDER BY number DESC LIMIT %s', at_most)
    return [(row[0], row[1]) for row in rows]


async def heartbeat(
    store: Store,
    node_id: int,
    *,
    started_at: datetime,
    generation: int,
    sessions: int,
    users_online: int,
    active_jsm_sessions: int,
    loop_lag_ms: float,
    version: str,
    metrics_url: str,
) -> bool:
    """Say that the node lives, with its gauges. False when the row is gone: the node was deleted."""
    return bool(
        await store.execute(
            'UPDATE node SET heartbeat_at = now(), started_at = %s, generation = %s, sessions = %s, users_online = %s,'
            ' active_jsm_sessions = %s, loop_lag_ms = %s, version = %s, metrics_url = %s WHERE id = %s',
            started_at,
            generation,
            sessions,
            users_online,
            active_jsm_sessions,
            loop_lag_ms,
            version,
            metrics_url,
            node_id,
        )
    )


async def save_states(store: Store, node_id: int, rows: Iterable[tuple[str, str, datetime, int, str]]) -> None:
    """Upsert (service, state, since, generation, detail)."""
    await store.execute_many(
        'INSERT INTO service_status (node_id, service, state, since, generation, detail)'
        ' VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (node_id, service) DO UPDATE SET state = excluded.state,'
        ' since = excluded.since, generation = excluded.generation, detail = excluded.detail',
        [
            (node_id, service, state, since, generation, detail[:400])
            for service, state, since, generation, detail in rows
        ],
    )


async def interrupted_commands(store: Store, node_id: int) -> int:
    """Close the commands during which an earlier engine process ended: none is executed twice."""
    return await store.execute(
        'UPDATE service_command SET finished_at = now() WHERE node_id = %s AND finished_at IS NULL AND error = %s',
        node_id,
        _INTERRUPTED,
    )


async def next_command(store: Store, node_id: int) -> Command | None:
    """Claim the oldest waiting command. It counts as interrupted until ``finish_command``."""
    row = await store.fetch_one(
        'UPDATE service_command SET error = %s WHERE id = (SELECT id FROM service_command WHERE node_id = %s'
        ' AND finished_at IS NULL AND error <> %s ORDER BY id LIMIT 1 FOR UPDATE) RETURNING id, service, verb',
        _INTERRUPTED,
        node_id,
        _INTERRUPTED,
    )
    return Command(*row) if row else None


async def finish_command(store: Store, command_id: int, error: str) -> None:
    """Record the outcome; ``error`` is '' for success."""
    await store.execute(
        'UPDATE service_command SET finished_at = now(), error = %s WHERE id = %s', error[:400], command_id
    )


async def open_alarm(store: Store, node_id: int, name: str, severity: str, text: str) -> None:
    """Open an alarm, or give the open one of this name its newest text."""
    async with store.transaction() as connection:
        done = await connection.execute(
            'UPDATE alarm SET text = %s, severity = %s WHERE node_id = %s AND name = %s AND cleared_at IS NULL',
            (text, severity, node_id, name),
        )
        if not done.rowcount:
            await connection.execute(
                'INSERT INTO alarm (name, node_id, severity, text, raised_at) VALUES (%s, %s, %s, %s, now())',
                (name, node_id, severity, text),
            )


async def note_alarm(store: Store, node_id: int, name: str, severity: str, text: str) -> None:
    """A notice that something is over: a row that is born cleared."""
    await store.execute(
        'INSERT INTO alarm (name, node_id, severity, text, raised_at, cleared_at)'
        ' VALUES (%s, %s, %s, %s, now(), now())',
        name,
        node_id,
        severity,
        text,
    )


async def close_alarm(store: Store, node_id: int, name: str) -> None:
    """Clear the open alarm of this name."""
    await store.execute(
        'UPDATE alarm SET cleared_at = now() WHERE node_id = %s AND name = %s AND cleared_at IS NULL', node_id, name
    )


async def open_alarm_names(store: Store, node_id: int) -> list[str]:
    """Names of the open alarms of a node."""
    rows = await store.fetch('SELECT name FROM alarm WHERE node_id = %s AND cleared_at IS NULL', node_id)
    return [row[0] for row in rows]


async def unassigned_users(store: Store) -> int:
    """How many active, enabled users of this cluster have no home node."""
    row = await store.fetch_one(
        'SELECT count(*) FROM end_user WHERE home_node_id IS NULL AND im_enabled AND active AND home_cluster'
    )
    return int(row[0]) if row else 0


async def assigned_users(store: Store, homes: Iterable[int]) -> dict[int, int]:
    """How many users have each of these home nodes and are live on the wire."""
    found = dict.fromkeys(homes, 0)
    rows = await store.fetch(
        'SELECT home_node_id, count(*) FROM end_user'
        ' WHERE home_node_id = ANY(%s) AND im_enabled AND active AND home_cluster GROUP BY 1',
        list(found),
    )
    return found | {row[0]: row[1] for row in rows}


async def ldap_directories(store: Store) -> int:
    """How many LDAP directories are configured."""
    row = await store.fetch_one('SELECT count(*) FROM ldap_directory')
    return int(row[0]) if row else 0


async def bulk_jobs(store: Store) -> tuple[int, int, int]:
    """(processing, pending, on hold) jobs of Bulk Administration."""
    row = await store.fetch_one(
        "SELECT count(*) FILTER (WHERE state = 'processing'), count(*) FILTER (WHERE state = 'pending'),"
        " count(*) FILTER (WHERE state = 'hold') FROM job"
        " WHERE state IN ('processing', 'pending', 'hold') AND kind LIKE '%%\\_contacts'"
    )
    return (row[0], row[1], row[2]) if row else (0, 0, 0)
