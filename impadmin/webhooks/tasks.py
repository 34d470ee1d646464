"""Celery entry points of webhooks."""

from __future__ import annotations

from celery import shared_task

from impadmin.celery import app
from impadmin.webhooks import delivery

LOOK_S = 5.0


@shared_task(name='imp.webhooks.look', ignore_result=True)  # type: ignore[untyped-decorator]
def look() -> None:
    """Find what is due; each webhook is a task of its own, so a slow one holds up no other."""
    for webhook in delivery.look():
        send.apply_async([webhook], expires=60)


@shared_task(name='imp.webhooks.send', ignore_result=True)  # type: ignore[untyped-decorator]
def send(webhook: int) -> None:
    """Send for one webhook."""
    delivery.work(webhook)


app.add_periodic_task(LOOK_S, app.signature('imp.webhooks.look'), name='webhooks: send what waits', expires=LOOK_S)
