"""Writes the rings of samples (engine/contract/samples.py).

Nothing is written for a node that was deleted: the lock waits for a deletion under way.
"""

from __future__ import annotations

from typing import Any

from engine.contract.samples import RINGS
from engine.store.pool import Store

_ADD = """
INSERT INTO node_sample AS old (node_id, step, slot, at, seconds, sessions, users_online, queued_writes, queued_bytes,
                                lag_ms, messages, logins, login_failures, peak)
SELECT node.id, ring.step, ring.start %% ring.slots, to_timestamp(ring.start * ring.step),
       %s, %s, %s, %s, %s, %s, %s, %s, %s, %s
  FROM (SELECT step, slots, floor(extract(epoch FROM now()) / step)::bigint AS start
          FROM unnest(%s::int[], %s::int[]) AS sizes (step, slots)) AS ring,
       (SELECT id FROM node WHERE id = %s FOR KEY SHARE) AS node
    ON CONFLICT (node_id, step, slot) DO UPDATE SET
       at = excluded.at, sessions = excluded.sessions, users_online = excluded.users_online,
       queued_writes = greatest(excluded.queued_writes, CASE WHEN old.at = excluded.at THEN old.queued_writes END),
       queued_bytes = greatest(excluded.queued_bytes, CASE WHEN old.at = excluded.at THEN old.queued_bytes END),
       lag_ms = greatest(excluded.lag_ms, CASE WHEN old.at = excluded.at THEN old.lag_ms END),
       peak = greatest(excluded.peak, CASE WHEN old.at = excluded.at THEN old.peak END),
       seconds = excluded.seconds + CASE WHEN old.at = excluded.at THEN old.seconds ELSE 0 END,
       messages = excluded.messages + CASE WHEN old.at = excluded.at THEN old.messages ELSE 0 END,
       logins = excluded.logins + CASE WHEN old.at = excluded.at THEN old.logins ELSE 0 END,
       login_failures = excluded.login_failures + CASE WHEN old.at = excluded.at THEN old.login_failures ELSE 0 END
"""

_RINGS = [list(column) for column in zip(*RINGS, strict=True)]


async def add(store: Store, node_id: int, seconds: float, gauges: tuple[Any, ...], grown: tuple[int, ...]) -> None:
    """One sample of ``seconds`` into the present slot of every ring; a slot of an earlier round is begun anew.

    gauges  sessions, users online, writes that wait, bytes that wait for other nodes, event loop lag in ms
    grown   messages, sign-ins and failed sign-ins since the last sample
    """
    await store.execute(_ADD, seconds, *gauges, *grown, grown[0] / seconds, *_RINGS, node_id)
