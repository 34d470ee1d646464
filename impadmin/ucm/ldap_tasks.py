"""Schedules of LDAP synchronizations, and the garbage collector of users who left a directory (guide 2703, 2727)."""

from __future__ import annotations

import calendar
import logging
from datetime import datetime, timedelta

from celery import shared_task
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from engine.contract.services import DIRSYNC
from impadmin.celery import app
from impadmin.console import audit, registry
from impadmin.console.actions import SYSTEM, Refused
from impadmin.presence import change_guard
from impadmin.system.models import ServiceStatus
from impadmin.ucm import actions, ldap_sync
from impadmin.ucm.ldap_models import LdapDirectory, Unit
from impadmin.ucm.ldap_rules import parameters
from impadmin.ucm.models import EndUser, LdapStatus

log = logging.getLogger(__name__)
KEPT = timedelta(hours=24)
"""How long a user who left the directory is kept."""
AT_ONCE = 500
"""Users deleted in one transaction."""


def following(row: LdapDirectory, now: datetime) -> datetime | None:
    """The next time of a schedule after ``now``; times that were missed are not caught up."""
    if row.sync_once or row.next_sync_at is None:
        return None
    at = timezone.localtime(row.next_sync_at)
    step = {
        Unit.HOURS: timedelta(hours=row.interval), Unit.DAYS: timedelta(days=row.interval),
        Unit.WEEKS: timedelta(weeks=row.interval),
    }.get(Unit(row.interval_unit))  # fmt: skip
    if step is not None:
        late = max((now - at) // step, 0)
        return at + step * (late + 1)
    while at <= now:
        at = _months_later(at, row.interval)
    return at


def _months_later(at: datetime, count: int) -> datetime:
    years, month = divmod(at.month - 1 + count, 12)
    last = calendar.monthrange(at.year + years, month + 1)[1]
    return at.replace(year=at.year + years, month=month + 1, day=min(at.day, last))


def may_begin(now: datetime) -> bool:
    """Whether Cisco DirSync runs for as long as it must before what is due begins."""
    if ldap_sync.hindrance():
        return False
    since = now - timedelta(minutes=parameters()['delayed_start_m'])
    return ServiceStatus.objects.filter(service=DIRSYNC, node__publisher=True, since__lte=since).exists()


@shared_task(name='ucm.ldap_schedule', ignore_result=True)
def begin_due() -> None:
    """Every minute: submit the synchronizations that are due."""
    now = timezone.now()
    due = LdapDirectory.objects.filter(Q(next_sync_at__lte=now) | Q(retry_at__lte=now))
    if not due.exists() or not may_begin(now):
        return
    for key in due.values_list('pk', flat=True):
        with transaction.atomic():
            row = LdapDirectory.objects.select_for_update(skip_locked=True).filter(pk=key).first()
            if row is None:
                continue
            if row.next_sync_at is not None and row.next_sync_at <= now:
                LdapDirectory.objects.filter(pk=key).update(next_sync_at=following(row, now))
            try:
                ldap_sync.submit(SYSTEM, row)
            except Refused as error:
                log.info('synchronization of %s: %s', row.name, error)


@shared_task(name='ucm.ldap_garbage', ignore_result=True)
def collect_garbage() -> None:
    """Every ten minutes: delete users who left the directory more than a day ago, while synchronizing is on."""
    if ldap_sync.hindrance():
        return
    deleted: list[str] = []
    while part := _delete_some(timezone.now() - KEPT):
        deleted += part
    if deleted:
        log.info('%d users who left the directory were deleted', len(deleted))


def _delete_some(before: datetime) -> list[str]:
    with transaction.atomic():
        if change_guard.changing():
            return []
        gone = EndUser.objects.filter(ldap_status=LdapStatus.INACTIVE, ldap_missing_at__lte=before)
        users = list(gone.select_for_update(skip_locked=True).order_by('pk')[:AT_ONCE])
        if users:
            actions.delete_users(SYSTEM, users)
            names = [user.user_id for user in users]
            page = registry.page('end-users')
            told = {'deleted': len(names), 'users': names}
            audit.record(SYSTEM, 'garbage-collection', page, None, told, None, object_type='ucm.EndUser')
        return [user.user_id for user in users]


app.add_periodic_task(60.0, app.signature('ucm.ldap_schedule'), name='LDAP: synchronizations that are due')
app.add_periodic_task(600.0, app.signature('ucm.ldap_garbage'), name='LDAP: users who left the directory')
