"""Events for webhooks are written in the transaction of what they tell: committed with it or not at all."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any

from django.db import connection, transaction
from django.utils import timezone

from impadmin.console import audit, jobs
from impadmin.console.models import AuditEntry, Job
from impadmin.webhooks.models import ToldAlarm, Webhook

log = logging.getLogger(__name__)
MOST = 10_000
"""Most deliveries that wait for one webhook; then it is deactivated and what waits stays."""
_INSERT = """
INSERT INTO webhook_delivery (webhook_id, uuid, event, subject, data, state, attempts, created_at, next_at, answer)
SELECT w.id, gen_random_uuid(), %s, %s, %s, 'pending', 0, clock_timestamp(), clock_timestamp(), ''
  FROM webhook w
 WHERE {condition} AND NOT EXISTS
       (SELECT 1 FROM webhook_delivery d WHERE d.webhook_id = w.id AND d.state = 'pending' OFFSET %s)
"""
_COLUMNS = {'change': 'w.active AND w.on_changes', 'job': 'w.active AND w.on_jobs', 'alarm': 'w.active AND w.on_alarms'}


def tell(event: str, subject: str, data: dict[str, Any], *, to: Webhook | None = None) -> int:
    """One delivery for each webhook that wants ``event`` (or for ``to``); how many."""
    condition = _COLUMNS[event] if to is None else 'w.id = %s'
    values = [event, subject[:250], json.dumps(data), *([] if to is None else [to.pk]), MOST - 1]
    with connection.cursor() as cursor:
        cursor.execute(_INSERT.format(condition=condition), values)
        told: int = cursor.rowcount
    if told and not any(function is wake for _, function, *_ in connection.run_on_commit):
        transaction.on_commit(wake)
    return told


def wake() -> None:
    """Send soon; when the broker is away, beat does it."""
    from impadmin.webhooks.tasks import look

    try:
        look.apply_async(retry=False, expires=30)
    except Exception:
        log.warning('the broker could not be reached; webhooks are sent with the next beat', exc_info=True)


@audit.listeners.append
def on_entries(entries: Sequence[AuditEntry]) -> None:
    """Changes were recorded."""
    if len(entries) > 1 and not Webhook.objects.filter(active=True, on_changes=True).exists():
        return
    for entry in entries:
        if not entry.action.startswith('sign-') and entry.object_type != 'signin.SignIn':
            subject = f'{entry.object_type}:{entry.object_id}'
            tell('change', subject, {**audit.as_json(entry), 'type': entry.object_type, 'object_id': entry.object_id})


@jobs.listeners.append
def on_job(job: Job) -> None:
    """A job has ended."""
    data = {
        'job': job.pk, 'kind': job.kind, 'description': job.description, 'state': str(job.state),
        'submitted_by': job.submitted_by, 'total': job.total, 'done': job.done, 'failed': job.failed,
        'message': jobs.message_text(job),
    }  # fmt: skip
    tell('job', f'job:{job.pk}', data)


def tell_alarms() -> None:
    """Events for alarms that were raised or cleared since the last call. Nodes write alarms themselves."""
    from engine.contract import messages
    from impadmin.system.models import Alarm

    first = Webhook.objects.filter(active=True, on_alarms=True).order_by('created_at').first()
    if first is None:
        return
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('imp:webhooks:alarms'))")
        told = dict(ToldAlarm.objects.values_list('alarm', 'cleared'))
        fresh = Alarm.objects.filter(raised_at__gte=first.created_at) | Alarm.objects.filter(
            pk__in=[key for key, cleared in told.items() if not cleared]
        )
        for alarm in fresh.select_related('node').order_by('pk'):
            node = alarm.node.name if alarm.node else ''
            done = told.get(alarm.pk)
            for cleared in (False, True):
                if (cleared and alarm.cleared_at is None) or done or (done is False and not cleared):
                    continue
                at = alarm.cleared_at if cleared else alarm.raised_at
                data = {
                    'alarm': alarm.name, 'node': node, 'severity': alarm.severity,
                    'text': messages.decode(alarm.text, str), 'state': 'cleared' if cleared else 'raised',
                    'since': (at or timezone.now()).isoformat(),
                }  # fmt: skip
                tell('alarm', f'alarm:{alarm.name}:{node}', data)
                ToldAlarm.objects.update_or_create(alarm=alarm.pk, defaults={'cleared': cleared})
        ToldAlarm.objects.exclude(alarm__in=Alarm.objects.values('pk')).delete()
