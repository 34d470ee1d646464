"""Sends what waits: at least once, in order for each object, again with growing pauses.

One worker at a time sends for one webhook. While a delivery waits to be tried again, later ones about the same object
wait behind it; others go on. A receiver knows by ``IMP-Delivery`` what it has seen before.
"""

from __future__ import annotations

import http.client
import json
import logging
import time
from datetime import datetime, timedelta

from django.db import connection, transaction
from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext, gettext_noop

from impadmin.console import jobs
from impadmin.system.models import Alarm
from impadmin.webhooks import guard, outbox, signing
from impadmin.webhooks.models import Delivery, DeliveryState, Webhook, WebhookSettings

log = logging.getLogger(__name__)
PAUSES_S = (10, 30, 60, 300, 900, 3600, 3 * 3600, 6 * 3600, 12 * 3600)
"""Seconds before the next attempt; after the last one the delivery has failed."""
KEPT = timedelta(days=14)
"""How long deliveries that have ended stay in the log."""
TURN_S = 20.0
"""How long one turn sends for one webhook; the next one follows at once when more waits."""
ALARM = 'WebhookDeactivated'


def settings() -> WebhookSettings:
    """The one row."""
    return WebhookSettings.objects.get_or_create(pk=1)[0]


def due() -> QuerySet[Delivery]:
    """Deliveries to send now, the oldest first: of each object the first that waits."""
    earlier = Delivery.objects.filter(
        webhook=OuterRef('webhook'), subject=OuterRef('subject'), state=DeliveryState.PENDING, pk__lt=OuterRef('pk')
    )
    waiting = Delivery.objects.filter(state=DeliveryState.PENDING, next_at__lte=timezone.now(), webhook__active=True)
    return waiting.filter(~Exists(earlier)).order_by('pk')


def work(webhook: int) -> None:
    """Send for one webhook until nothing is due, a failure, or the end of the turn."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(hashtext('imp:webhook'), %s)", [webhook])
        if not cursor.fetchone()[0]:
            return
    try:
        until = time.monotonic() + TURN_S
        while time.monotonic() < until:
            batch = list(due().filter(webhook=webhook).select_related('webhook')[:50])
            if not batch:
                return
            for delivery in batch:
                if not send(delivery) or time.monotonic() > until:
                    return
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(hashtext('imp:webhook'), %s)", [webhook])


def _attempt(delivery: Delivery, now: datetime, rules: WebhookSettings) -> tuple[int | None, str, int | None]:
    """Send it once: (HTTP status or None, what came back or went wrong, milliseconds)."""
    webhook = delivery.webhook
    keys = signing.secrets_of(webhook, now)
    if not keys:
        return None, gettext('The secret can no longer be read. Rotate it.'), None
    body = json.dumps(
        {
            'id': str(delivery.uuid), 'event': delivery.event, 'at': delivery.created_at.isoformat(),
            'subject': delivery.subject, 'data': delivery.data,
        },
        ensure_ascii=False,
    ).encode()  # fmt: skip
    headers = {
        'Content-Type': 'application/json',
        'User-Agent': 'IM-and-Presence-Webhooks/1',
        'IMP-Event': delivery.event,
        'IMP-Delivery': str(delivery.uuid),
        'IMP-Attempt': str(delivery.attempts + 1),
        'IMP-Signature': signing.signature(keys, now, body),
    }
    try:
        reply = guard.post(webhook.url, body, headers, guard.networks(rules.allowed_networks), rules.timeout_s)
    except (guard.Blocked, OSError, http.client.HTTPException, ValueError) as error:
        return None, getattr(error, 'strerror', None) or str(error) or type(error).__name__, None
    if 300 <= reply.status < 400:
        return reply.status, gettext('Redirects are not followed. Enter the address they lead to.'), reply.milliseconds
    return reply.status, reply.text, reply.milliseconds


def send(delivery: Delivery) -> bool:
    """One attempt, recorded; whether the receiver took it."""
    webhook, now, rules = delivery.webhook, timezone.now(), settings()
    status, answer, spent = _attempt(delivery, now, rules)
    taken = status is not None and 200 <= status < 300
    delivery.attempts += 1
    delivery.status, delivery.answer, delivery.milliseconds, delivery.sent_at = status, answer[:300], spent, now
    if taken:
        delivery.state = DeliveryState.DELIVERED
    elif delivery.attempts > len(PAUSES_S):
        delivery.state = DeliveryState.FAILED
    else:
        delivery.next_at = now + timedelta(seconds=PAUSES_S[delivery.attempts - 1])
    with transaction.atomic():
        # the webhook first, as those lock it who change or delete it: else each could wait for the other
        if Webhook.objects.select_for_update(no_key=True).filter(pk=webhook.pk).first() is None:
            return taken
        delivery.save()
        if taken:
            Webhook.objects.filter(pk=webhook.pk).update(failures=0, problem='', last_at=now)
        else:
            problem = f'HTTP {status}' if status is not None else answer[:300]
            Webhook.objects.filter(pk=webhook.pk).update(failures=F('failures') + 1, problem=problem, last_at=now)
            webhook.refresh_from_db()
            if webhook.failures >= rules.disable_after:
                deactivate(
                    webhook, gettext_noop('%(name)s: %(count)s deliveries in a row failed. The last: %(problem)s')
                )
    return taken


def deactivate(webhook: Webhook, text: str) -> None:
    """Send nothing more, and say so in Active Notifications until somebody activates it again."""
    if Webhook.objects.filter(pk=webhook.pk, active=True).update(active=False):
        values = {'name': webhook.name, 'count': webhook.failures, 'problem': webhook.problem}
        told = jobs.message(text, **values)
        Alarm.objects.create(name=f'{ALARM}:{webhook.pk}', severity='error', text=told)
        log.error('webhook %s is deactivated: %s', webhook.name, webhook.problem)


def settle(webhook: Webhook) -> None:
    """The webhook is active again, or gone: its notification goes, and what waits is tried at once."""
    Alarm.objects.filter(name=f'{ALARM}:{webhook.pk}', cleared_at=None).update(cleared_at=timezone.now())
    Webhook.objects.filter(pk=webhook.pk).update(failures=0, problem='')
    Delivery.objects.filter(webhook=webhook.pk, state=DeliveryState.PENDING).update(next_at=timezone.now())
    transaction.on_commit(outbox.wake)


def look() -> list[int]:
    """Housekeeping; returns the webhooks that have something to send now."""
    outbox.tell_alarms()
    full = Count('deliveries', filter=Q(deliveries__state=DeliveryState.PENDING))
    for webhook in Webhook.objects.filter(active=True).annotate(waiting=full).filter(waiting__gte=outbox.MOST):
        deactivate(webhook, gettext_noop('%(name)s: too many deliveries wait. The last problem: %(problem)s'))
    old = Delivery.objects.filter(created_at__lt=timezone.now() - KEPT).exclude(state=DeliveryState.PENDING)
    Delivery.objects.filter(pk__in=list(old.values_list('pk', flat=True)[:1000])).delete()
    return list(due().order_by('webhook').values_list('webhook', flat=True).distinct())
