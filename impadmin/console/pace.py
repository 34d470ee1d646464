"""How fast a job goes, and how long it will take."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from django.utils import timezone

from impadmin.console.models import Job, JobState

LEASE_S = 10.0
"""A worker not heard from for so long is gone."""
STRETCH_S = 0.25
PACE_S = 20.0
"""The rate of a job is that of about so many seconds."""


class Pace:
    """How fast ``done`` grows lately: each stretch weighs as long as it took, and is forgotten after PACE_S."""

    def __init__(self) -> None:
        self.rate = 0.0
        self._last: tuple[float, int] | None = None
        self._known_s = 0.0

    def __call__(self, done: int) -> float:
        """The rate after ``done`` records, in records per second."""
        now = time.monotonic()
        if self._last is None or done < self._last[1]:
            self._last = (now, done)
        elif (seconds := now - self._last[0]) >= STRETCH_S:
            self._known_s = min(self._known_s + seconds, max(PACE_S, seconds))
            share = seconds / self._known_s
            self.rate += share * ((done - self._last[1]) / seconds - self.rate)
            self._last = (now, done)
        return self.rate


def pace(job: Job) -> dict[str, Any]:
    """``percent`` done, ``per_second`` and ``seconds_left``; the last two None unless a worker is at it and knows."""
    total = max(job.total, 1)
    alive = job.heartbeat_at is not None and timezone.now() - job.heartbeat_at < timedelta(seconds=LEASE_S)
    running = job.state == JobState.PROCESSING and alive and job.rate > 0
    percent = 100 * min(job.done, total) // total if job.total else 100 if job.ended_at else 0
    left = max(job.total - job.done, 0) / job.rate if running and job.total else None
    return {'percent': percent, 'per_second': job.rate if running else None, 'seconds_left': left}
