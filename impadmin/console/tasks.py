"""Celery entry points of the job machine."""

from __future__ import annotations

from typing import Any

from celery import shared_task
from celery.schedules import crontab
from celery.signals import worker_ready

from impadmin.celery import app
from impadmin.console import approvals, jobs, shredding

TICK_S = 10.0


@shared_task(name='imp.jobs.work', ignore_result=True)  # type: ignore[untyped-decorator]
def work(queue: str) -> None:
    """Run what is due in ``queue``."""
    jobs.work(queue)


@shared_task(name='imp.jobs.tick', ignore_result=True)  # type: ignore[untyped-decorator]
def tick() -> None:
    """Wake workers for jobs that are due: scheduled ones, ones whose message was lost or whose worker died."""
    for queue in jobs.QUEUES:
        if jobs.is_due(queue):
            work.apply_async([queue], queue=queue, expires=TICK_S * 3)


@shared_task(name='imp.history.shred', ignore_result=True)  # type: ignore[untyped-decorator]
def shred_old() -> None:
    """Every night: personal data that the history keeps too long."""
    shredding.shred_old()


@shared_task(name='imp.approvals.expire', ignore_result=True)  # type: ignore[untyped-decorator]
def expire_requests() -> None:
    """Every minute: requests that nobody approved in time."""
    approvals.expire()


@worker_ready.connect  # type: ignore[untyped-decorator]
def look_at_once(sender: Any, **_: Any) -> None:
    """A worker that starts looks for work left behind, without waiting for beat."""
    for queue in jobs.QUEUES:
        jobs.wake(queue)


app.add_periodic_task(TICK_S, app.signature('imp.jobs.tick'), name='jobs: start what is due', expires=TICK_S)
app.add_periodic_task(crontab(hour=3, minute=17), app.signature('imp.history.shred'), name='history: personal data')
app.add_periodic_task(60.0, app.signature('imp.approvals.expire'), name='approvals: requests that expired')
