"""Reads the rings of samples: what is so now, and lines for charts."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import NamedTuple

from django.db import connection

from engine.contract.samples import RINGS, SAMPLE_S

POINTS = 60
"""Points of a chart."""
NOW_S = 60
"""Rates of now are those of the last minute."""


class Load(NamedTuple):
    """Load of a node within some time; rates by second and minute."""

    sessions: int = 0
    users_online: int = 0
    messages_per_second: float = 0.0
    logins_per_minute: float = 0.0
    login_failures: int = 0
    queued_writes: int = 0
    queued_bytes: int = 0
    lag_ms: float = 0.0
    peak: float = 0.0


@dataclass(frozen=True, slots=True)
class History:
    """Load by node id: ``now``, and ``lines`` of POINTS entries from the oldest to now, None where nobody reported."""

    now: dict[int, Load]
    lines: dict[int, list[Load | None]]

    def line(self, node: int, field: str) -> list[float | None]:
        """One value of a node over the time."""
        return [None if load is None else getattr(load, field) for load in self.lines.get(node, [None] * POINTS)]

    def sum(self, field: str) -> list[float | None]:
        """One value of all nodes together."""
        columns = zip(*(self.line(node, field) for node in self.lines), strict=True)
        sums = [[value for value in column if value is not None] for column in columns]
        return [sum(known) if known else None for known in sums] or [None] * POINTS


_LOAD = """
SELECT node_id, least(floor(extract(epoch FROM now() - at) / %(bucket)s)::int, %(points)s - 1), max(sessions),
       max(users_online), sum(messages) / sum(seconds), 60 * sum(logins) / sum(seconds), sum(login_failures)::bigint,
       max(queued_writes), max(queued_bytes), max(lag_ms), max(peak)
  FROM node_sample
 WHERE step = %(step)s AND at > now() - %(span)s * interval '1 second'
 GROUP BY 1, 2
"""


def _read(span: int, step: int, points: int) -> list[tuple[int, int, Load]]:
    with connection.cursor() as cursor:
        values = {'span': span, 'step': step, 'points': points, 'bucket': span / points}
        cursor.execute(_LOAD, values)
        return [(row[0], max(row[1], 0), Load(*row[2:])) for row in cursor.fetchall()]


def history(span: int) -> History:
    """Now and the last ``span`` seconds, by the finest ring that reaches so far. Two queries."""
    step = next(step for step, slots in RINGS if step * slots >= span)
    lines: dict[int, list[Load | None]] = defaultdict(lambda: [None] * POINTS)
    for node, ago, load in _read(span, step, POINTS):
        lines[node][POINTS - 1 - ago] = load
    now = {node: load for node, _ago, load in _read(NOW_S + SAMPLE_S, SAMPLE_S, 1)}
    return History(now, dict(lines))
