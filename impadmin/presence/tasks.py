"""Nightly audit of the IM address domains by the Cisco Sync Agent (guide 1146)."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from celery import shared_task
from django.db import connection, transaction
from django.utils import timezone
from django.utils.translation import gettext_noop

from engine.contract.services import INTERCLUSTER_SYNC_AGENT, SYNC_AGENT, parameter
from impadmin.celery import app
from impadmin.console import audit as history
from impadmin.console import registry
from impadmin.console.actions import SYSTEM
from impadmin.console.jobs import message, start_condition
from impadmin.console.models import AuditEntry
from impadmin.presence import change_guard, default_domain, inventory, peer_sync
from impadmin.system.models import ParameterValue
from impadmin.system.state import is_running

log = logging.getLogger(__name__)
JOBS = (default_domain.KIND,)
"""Importing this module registers them."""
ACTION = gettext_noop('domain audit')
_LOCK = 0x494D_0003


def audit_hour() -> int:
    """The service parameter *Hour of the nightly domain audit*."""
    stored = ParameterValue.objects.filter(service=SYNC_AGENT, name='domain_audit_hour', node=None).first()
    return int(stored.value if stored else parameter(SYNC_AGENT, 'domain_audit_hour').default)


def is_due(now: datetime, last: datetime | None, hour: int) -> bool:
    """Whether the audit of the last passed ``hour`` has not run yet; one that was missed is caught up."""
    local = timezone.localtime(now)
    planned = local.replace(hour=hour, minute=0, second=0, microsecond=0)
    if planned > local:
        planned -= timedelta(days=1)
    return last is None or last < planned


@start_condition('bat')
def no_address_change_is_under_way() -> str:
    """Bulk jobs read and write addresses: they wait while these are being changed."""
    if default_domain.under_way() is None:
        return ''
    return message(gettext_noop('Waiting for the change of IM addresses on Advanced Configuration to end.'))


@shared_task(name='presence.domain_audit')
def domain_audit() -> None:
    """Every minute: run the audit when it is due and the Sync Agent runs."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute('SELECT pg_try_advisory_xact_lock(%s)', [_LOCK])
            if not cursor.fetchone()[0]:
                return
        last = (
            AuditEntry.objects.filter(object_type='presence.Domain', action=ACTION)
            .order_by('-at')
            .values_list('at', flat=True)
            .first()
        )
        if not is_due(timezone.now(), last, audit_hour()):
            return
        if not is_running(SYNC_AGENT):
            log.info('domain audit is due, but Cisco Sync Agent is not running on the publisher')
            return
        if change_guard.changing():
            log.info('domain audit is due, but the IM addresses are being changed')
            return
        counts = inventory.audit()
        history.record(SYSTEM, ACTION, registry.page('domains'), None, None, counts, object_type='presence.Domain')
        log.info('domain audit: %(domains)d domains, %(added)d new, %(in_use)d in use', counts)


app.add_periodic_task(60.0, app.signature('presence.domain_audit'), name='domain audit')


@shared_task(name='presence.intercluster_sync')
def intercluster_sync(pk: int, forced: bool = False) -> None:
    """Synchronise with one peer cluster now."""
    if is_running(INTERCLUSTER_SYNC_AGENT):
        peer_sync.synchronise(pk, forced)


@shared_task(name='presence.intercluster_syncs')
def intercluster_syncs() -> None:
    """Every minute: the peers whose turn it is, while Cisco Intercluster Sync Agent runs on the publisher."""
    for pk in peer_sync.due(timezone.now()):
        intercluster_sync.delay(pk)
    peer_sync.alarms()


app.add_periodic_task(60.0, app.signature('presence.intercluster_syncs'), name='intercluster synchronisation')
