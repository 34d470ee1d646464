"""High availability in the database (table ``node_recovery``, one row for each home node): who owns which set of users
under which epoch, until when, and what the recovery managers say of themselves. Decision 0035.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from psycopg.types.json import Jsonb

from engine.store.pool import Store

PLAIN_S = 10
"""A node heard from in this time that has no run id lives without high availability."""


@dataclass(frozen=True, slots=True)
class Row:
    """H(node): ``owner`` serves these users under ``epoch``; ``lapsed``: the owner's lease has ended."""

    owner: int
    epoch: int
    lapsed: bool
    record: dict[str, Any]
    plain: bool
    run: str


@dataclass(frozen=True, slots=True)
class Taken:
    """A set now owned under ``epoch``; it may be served ``wait_s`` from now, when the former lease has ended."""

    epoch: int
    wait_s: float


async def prepare(store: Store, nodes: Iterable[int]) -> None:
    """A row for each node: at first every node owns its own users."""
    await store.execute_many(
        "INSERT INTO node_recovery (node_id, owner_id, state, reason, since) VALUES (%s, %s, 'Unknown', '', now())"
        ' ON CONFLICT (node_id) DO NOTHING',
        [(node, node) for node in nodes],
    )


async def load(store: Store, nodes: Iterable[int]) -> dict[int, Row]:
    """The rows of a pair by home node."""
    rows = await store.fetch(
        'SELECT r.node_id, r.owner_id, r.epoch, coalesce(r.lease_until <= now(), true), r.record,'
        " r.run_id = '' AND coalesce(n.heartbeat_at > now() - make_interval(secs => %s), false), r.run_id"
        ' FROM node_recovery r JOIN node n ON n.id = r.node_id WHERE r.node_id = ANY(%s)',
        PLAIN_S,
        list(nodes),
    )
    return {row[0]: Row(*row[1:]) for row in rows}


async def save(
    store: Store, node: int, state: str, reason: str, record: Mapping[str, Any], run: str, boot: str,
    critical: Mapping[str, Any], heard: bool,
) -> None:  # fmt: skip
    """What a node says of itself. ``heard``: the other node is heard at this moment."""
    await store.execute(
        'UPDATE node_recovery SET since = CASE WHEN state = %s AND reason = %s THEN since ELSE now() END, state = %s,'
        ' reason = %s, record = %s, run_id = %s, boot_id = %s, critical = %s,'
        ' peer_heard_at = CASE WHEN %s THEN now() ELSE peer_heard_at END WHERE node_id = %s',
        state, reason, state, reason, Jsonb(dict(record)), run, boot, Jsonb(dict(critical)), heard, node,
    )  # fmt: skip


async def speak_for(store: Store, node: int, state: str, reason: str) -> None:
    """What is known of a node that cannot write itself. Its record stays as it is."""
    await store.execute(
        'UPDATE node_recovery SET since = now(), state = %s, reason = %s WHERE node_id = %s AND state <> %s',
        state, reason, node, state,
    )  # fmt: skip


async def renew(store: Store, owner: int, homes: Iterable[int], lease_s: float) -> set[int]:
    """Extend the lease on these sets; those that still belong to ``owner``."""
    rows = await store.fetch(
        'UPDATE node_recovery SET lease_until = now() + make_interval(secs => %s)'
        ' WHERE owner_id = %s AND node_id = ANY(%s) RETURNING node_id',
        lease_s, owner, list(homes),
    )  # fmt: skip
    return {row[0] for row in rows}


async def take(
    store: Store, owner: int, homes: Iterable[int], expected: Mapping[int, tuple[int, int]], forced: bool
) -> dict[int, Taken] | None:
    """Make ``owner`` the owner of these sets under the next epoch, if every set of ``expected`` still has this owner
    and epoch; else None. ``forced``: the former owner has not let go, its lease must end first.

    One statement: a node that dies in it leaves no row locked. The rows are locked in one order before they are
    compared, so of two nodes that take each other's set one is told None.
    """
    rows = await store.fetch(
        'WITH expected AS (SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[]) AS e (home, owner, epoch)),'
        ' locked AS MATERIALIZED (SELECT node_id, owner_id, epoch FROM node_recovery'
        ' WHERE node_id IN (SELECT home FROM expected) ORDER BY node_id FOR UPDATE),'
        ' agreed AS (SELECT count(*) = (SELECT count(*) FROM expected) AS all_of_them FROM locked l'
        ' JOIN expected e ON (l.node_id, l.owner_id, l.epoch) = (e.home, e.owner, e.epoch))'
        ' UPDATE node_recovery r SET owner_id = %s, epoch = r.epoch + 1,'
        ' lease_until = CASE WHEN %s THEN r.lease_until ELSE now() END'
        ' FROM agreed WHERE agreed.all_of_them AND r.node_id = ANY(%s)'
        ' RETURNING r.node_id, r.epoch,'
        ' greatest(0, coalesce(extract(epoch FROM r.lease_until - clock_timestamp()), 0))',
        list(expected), [one[0] for one in expected.values()], [one[1] for one in expected.values()],
        owner, forced, list(homes),
    )  # fmt: skip
    return {row[0]: Taken(row[1], float(row[2])) for row in rows} or None


async def leave(store: Store, node: int, *, plain: bool = False) -> None:
    """The node ends: its leases end with it. ``plain``: it goes on without high availability."""
    await store.execute('UPDATE node_recovery SET lease_until = NULL WHERE owner_id = %s', node)
    if plain:
        await store.execute(
            "UPDATE node_recovery SET run_id = '', state = 'Unknown', reason = '', since = now(), record = '{}'"
            ' WHERE node_id = %s AND run_id <> %s',
            node, '',
        )  # fmt: skip


async def progress(store: Store, node: int, done: int | None, total: int | None) -> None:
    """Users moved so far in the running step."""
    await store.execute('UPDATE node_recovery SET progress = %s, total = %s WHERE node_id = %s', done, total, node)
