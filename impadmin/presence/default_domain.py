"""Change of default domain and IM address scheme: the ordered, resumable procedure (spec 01 sections 13, 18, 19).

Services are stopped in the printed order on every node, every stored address is re-keyed in batches whose position
is committed with the work, the settings are saved, and the services are started again. Cancel gives everything back
as long as the settings are not saved; after that the change only goes forward.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from django.db import connection, transaction
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, gettext_noop

from engine.contract.services import (
    BY_KEY,
    CLIENT_PROFILE_AGENT,
    PRESENCE_ENGINE,
    SIP_PROXY,
    SYNC_AGENT,
    XCP_ROUTER,
    State,
)
from impadmin.console import audit, generations, registry
from impadmin.console.access import NOBODY
from impadmin.console.actions import Actor
from impadmin.console.jobs import JobFailed, RunningJob, kinds, runner
from impadmin.console.models import Job, JobState
from impadmin.presence import change_guard, inventory
from impadmin.presence.models import AddressChange, AddressJournal, Domain
from impadmin.presence.rules import NOT_SET
from impadmin.system import maintenance
from impadmin.system.maintenance import active, bring
from impadmin.system.models import Node
from impadmin.system.state import states
from impadmin.ucm import rekey, rekey_pubsub
from impadmin.ucm.actions import announce_contact_lists, announce_users
from impadmin.ucm.addresses import derive_all

KIND = 'default_domain_change'
PAGE = 'advanced-configuration'
STOP_ORDER = (SYNC_AGENT, CLIENT_PROFILE_AGENT, PRESENCE_ENGINE, SIP_PROXY, XCP_ROUTER)
BEFORE_USERS = (XCP_ROUTER, SIP_PROXY, PRESENCE_ENGINE)
"""They run on every node before the others start."""
START_ORDER = (*BEFORE_USERS, CLIENT_PROFILE_AGENT, SYNC_AGENT)
"""Guide 1762-1786 and 1865-1883."""
TIME_LIMIT_S = 3600.0
USERS_AT_ONCE, OWNERS_AT_ONCE, MESSAGES_AT_ONCE = 5000, 200, 500
STEP = 10**12
"""``position`` is step * STEP + cursor within the step."""
_RUNNING = 'running'
"""Name in the job's parameters: services that ran before, while the change is not over."""
RESTORE = 100
"""First step of the way back."""
MAPPING = 'address_change'


class Collisions(JobFailed):
    """Two users would get one address; nothing has been touched."""

    def __init__(self, pairs: list[tuple[str, str, str]]) -> None:
        super().__init__(
            gettext_noop('Two users would get the same IM address: %(pairs)s'),
            pairs='; '.join(f'{first}, {second}: {address}' for first, second, address in pairs[:10]),
        )
        self.pairs = pairs


@dataclass(slots=True)
class Examination:
    """What a change of scheme or domain would mean for the users."""

    users: int = 0
    changed: int = 0
    collisions: list[tuple[str, str, str]] = field(default_factory=list)
    """(user ID, user ID, the address both would get)"""
    invalid: list[tuple[int, str, str]] = field(default_factory=list)
    """(id, user ID, Directory URI) of users who would have no address"""
    mapping: list[tuple[int, str | None, str | None]] = field(default_factory=list)


def examine(scheme: str, domain: str) -> Examination:
    """Derive every address anew; nothing is written."""
    result = Examination()
    owner: dict[str, str] = {}
    for key, user_id, uri, old, new in derive_all(scheme, domain):
        result.users += 1
        if new is None:
            result.invalid.append((key, user_id, uri))
        elif new in owner:
            result.collisions.append((owner[new], user_id, new))
        else:
            owner[new] = user_id
        if old != new:
            result.changed += 1
            result.mapping.append((key, old, new))
    return result


def describe_collisions(collisions: list[tuple[str, str, str]], limit: int = 10) -> str:
    """The pairs in one line each, the first ones."""
    lines = [
        _('%(first)s and %(second)s would both get %(address)s.') % {'first': a, 'second': b, 'address': address}
        for a, b, address in collisions[:limit]
    ]
    if len(collisions) > limit:
        lines.append(_('And %(count)d more.') % {'count': len(collisions) - limit})
    return ' '.join(lines)


def bulk_job_runs() -> bool:
    """Whether a job of the bulk queue reads or writes contact lists right now; new ones wait for the change."""
    return Job.objects.filter(kind__in=kinds('bat'), state=JobState.PROCESSING).exists()


def latest() -> Job | None:
    """The newest change job."""
    return Job.objects.filter(kind=KIND).order_by('-pk').first()


def under_way() -> Job | None:
    """The change that has not come to an end: waiting, running, or stopped half-way and waiting for Retry or Cancel."""
    job = latest()
    if job is None or job.state == JobState.COMPLETED:
        return None
    if job.state in (JobState.PENDING, JobState.PROCESSING, JobState.HOLD) or _RUNNING in job.parameters:
        return job
    return None


def has_stopped(job: Job) -> bool:
    """Whether the change waits for Retry or Cancel."""
    return maintenance.has_stopped(job, _RUNNING)


def can_cancel(job: Job) -> bool:
    """Whether Cancel can still give the old addresses back."""
    number = job.position // STEP
    return number < _step(_start_services) and not job.parameters.get(maintenance.CANCEL)


def take_back(job: Job) -> None:
    """Ask the change to restore what was there; ``job`` is locked by the caller."""
    maintenance.cancel(job, _RUNNING)


def _cancel_requested(job: RunningJob) -> bool:
    return job.stop_requested() or maintenance.cancelled(job)


# ---- services


def _stop_services(job: RunningJob) -> None:
    """Disable High Availability, then stop on every node in the printed order, each service everywhere before the
    next."""
    if _RUNNING not in job.parameters:
        if bulk_job_runs():
            raise JobFailed(
                gettext_noop('A bulk job is running. Wait until it has ended, then start the change again.')
            )
        maintenance.remember(job, **{_RUNNING: maintenance.running(maintenance.live_nodes())})
    maintenance.disable_ha(job)
    for service in STOP_ORDER:
        bring(job, service, 'stop', active(service), lambda service=service: active(service))


def _start_services(job: RunningJob) -> None:
    """Start in the printed order what ran before, each service everywhere before the next; then what depends on it."""
    before: dict[str, list[str]] = job.parameters.get(_RUNNING, {})
    others = tuple(key for key in BY_KEY if key not in START_ORDER)
    for service in (*BEFORE_USERS, *others, *START_ORDER[len(BEFORE_USERS) :]):

        def missing(service: str = service) -> list[Node]:
            nodes = [node for node in maintenance.live_nodes() if service in before.get(node.name, ())]
            now = states(nodes)
            return [
                node
                for node in nodes
                if (node.pk, service) in now and now[node.pk, service][0] not in (State.RUNNING, State.NOT_ACTIVATED)
            ]

        bring(job, service, 'start', missing(), missing)


# ---- data, one batch per call: returns the next cursor, or None when the step is done


def _build_mapping(job: RunningJob, cursor: int, tally: Counter[str]) -> int | None:
    """Examine again now that the services are down, and keep everybody else out until the end."""
    change_guard.close()
    AddressJournal.objects.all().delete()
    AddressChange.objects.all().delete()
    found = examine(job.parameters['address_scheme'], job.parameters['default_domain'])
    if found.collisions:
        raise Collisions(found.collisions)
    AddressChange.objects.bulk_create(
        (AddressChange(user_id=key, old=old, new=new) for key, old, new in found.mapping), batch_size=5000
    )
    tally.update(users_without_address=len(found.invalid), total=found.changed)
    return None


def _next_users(cursor: int) -> list[int]:
    return list(
        AddressChange.objects.filter(user_id__gt=cursor)
        .order_by('user_id')
        .values_list('user_id', flat=True)[:USERS_AT_ONCE]
    )


def _write_users(column: str) -> Callable[[RunningJob, int, Counter[str]], int | None]:
    """Set im_address to ``column`` of the mapping; NULL first, so that users may swap addresses."""

    def step(job: RunningJob, cursor: int, tally: Counter[str]) -> int | None:
        ids = _next_users(cursor)
        if not ids:
            return None
        with connection.cursor() as sql:
            sql.execute(
                f'UPDATE end_user u SET im_address = {column}, updated_at = now() '  # noqa: S608 - fixed column names
                'FROM address_change m WHERE m.user_id = u.id AND u.id = ANY(%s)',
                [ids],
            )
        if column == 'm.new':
            tally['users'] += len(ids)
        return ids[-1]

    return step


def _rekey_rosters(job: RunningJob, cursor: int, tally: Counter[str]) -> int | None:
    owners = rekey.owners_after(MAPPING, cursor, OWNERS_AT_ONCE)
    if not owners:
        return None
    tally['contacts'] += rekey.rekey_rosters(MAPPING, owners, journal=True)
    return owners[-1]


def _rekey_offline(job: RunningJob, cursor: int, tally: Counter[str]) -> int | None:
    if not cursor:
        rekey.rekey_privacy(MAPPING, journal=True)
        rekey_pubsub.rekey(MAPPING, journal=True)
    last, changed = rekey.rekey_offline(MAPPING, cursor, MESSAGES_AT_ONCE, journal=True)
    tally['messages'] += changed
    return last or None


def _save_settings(job: RunningJob, cursor: int, tally: Counter[str]) -> int | None:
    """The new values, the domain rows, a new generation, and the end of the journal, in one transaction."""
    settings = inventory.advanced()
    before = audit.snapshot(settings)
    settings.default_domain = job.parameters['default_domain']
    settings.address_scheme = job.parameters['address_scheme']
    settings.save()
    for name in (job.parameters['old_default_domain'], settings.default_domain):
        if name != NOT_SET:
            row, _created = Domain.objects.get_or_create(key=name.lower(), defaults={'name': name})
            Domain.objects.filter(pk=row.pk).update(configured=True)
    inventory.audit()
    audit.record(
        Actor(job.record.submitted_by, NOBODY, f'job {job.id}', 'job'),
        'update',
        registry.page(PAGE),
        settings,
        before,
        audit.snapshot(settings),
    )
    generations.store_if_changed()
    announce_users(AddressChange.objects.values_list('user_id', flat=True))
    announce_contact_lists(AddressJournal.objects.filter(kind='roster').values_list('key', flat=True).distinct())
    AddressJournal.objects.all().delete()
    AddressChange.objects.all().delete()
    return None


def _restore_rosters(job: RunningJob, cursor: int, tally: Counter[str]) -> int | None:
    return 1 if rekey.restore_rosters(MAPPING, OWNERS_AT_ONCE) else None


def _restore_offline(job: RunningJob, cursor: int, tally: Counter[str]) -> int | None:
    rekey.restore_offline()
    rekey.restore_privacy()
    rekey_pubsub.restore(MAPPING)
    return None


def _forget_mapping(job: RunningJob, cursor: int, tally: Counter[str]) -> int | None:
    announce_users(AddressChange.objects.values_list('user_id', flat=True))
    AddressJournal.objects.all().delete()
    AddressChange.objects.all().delete()
    return None


_AFTER: tuple[tuple[Any, Any, bool], ...] = (
    (_start_services, gettext_lazy('Starting services'), True),
    (maintenance.wait_for_sessions, gettext_lazy('Waiting for the sessions'), True),
    (maintenance.enable_ha, gettext_lazy('Enabling High Availability'), True),
)
FORWARD: tuple[tuple[Any, Any, bool], ...] = (
    (_stop_services, gettext_lazy('Stopping services'), True),
    (_build_mapping, gettext_lazy('Checking users'), False),
    (_write_users('NULL'), gettext_lazy('Changing IM addresses'), False),
    (_write_users('m.new'), gettext_lazy('Changing IM addresses'), False),
    (_rekey_rosters, gettext_lazy('Changing contact lists'), False),
    (_rekey_offline, gettext_lazy('Changing offline messages'), False),
    (_save_settings, gettext_lazy('Saving the settings'), False),
    *_AFTER,
)
BACK: tuple[tuple[Any, Any, bool], ...] = (
    (_stop_services, gettext_lazy('Stopping services'), True),
    (_write_users('NULL'), gettext_lazy('Restoring IM addresses'), False),
    (_write_users('m.old'), gettext_lazy('Restoring IM addresses'), False),
    (_restore_rosters, gettext_lazy('Restoring contact lists'), False),
    (_restore_offline, gettext_lazy('Restoring offline messages'), False),
    (_forget_mapping, gettext_lazy('Restoring IM addresses'), False),
    *_AFTER,
)


def _step(function: Any) -> int:
    return next(number for number, entry in enumerate(FORWARD) if entry[0] is function)


def step_label(job: Job) -> str:
    """What the change is doing, for the Status area."""
    number = job.position // STEP
    steps = FORWARD if number < RESTORE else BACK
    number -= 0 if number < RESTORE else RESTORE
    return str(steps[number][1]) if number < len(steps) else ''


@runner(KIND, label=gettext_lazy('Change of default domain or IM address scheme'), queue='default')
def change(job: RunningJob) -> None:
    """Run or go on with the change from the position that was committed last."""
    started = time.monotonic()
    while True:
        number, cursor = divmod(job.position, STEP)
        if number < _step(_start_services) and _cancel_requested(job):
            job.checkpoint(RESTORE * STEP)
            continue
        steps, base = (FORWARD, 0) if number < RESTORE else (BACK, RESTORE)
        if number - base >= len(steps):
            break
        function, _label, waits = steps[number - base]
        if time.monotonic() - started > TIME_LIMIT_S:
            raise JobFailed(gettext_noop('The change took longer than one hour. Retry goes on where it stopped.'))
        if waits:
            function(job)
            job.checkpoint((number + 1) * STEP)
            continue
        if active(XCP_ROUTER):  # a node came up meanwhile: no client may be signed in while addresses change
            _stop_services(job)
        try:
            _batch(job, function, number, cursor)
        except Collisions as error:  # users were saved between the check of the page and the stop of the services
            for after, _text, _waits in _AFTER:
                after(job)
            for first, second, address in error.pairs:
                job.row(
                    0, f'{first}, {second}: {address}', 'failed', gettext_noop('Both would get the same IM address.')
                )
            job.checkpoint(0)
            maintenance.remember(job, **{_RUNNING: None})
            raise
    maintenance.remember(job, **{_RUNNING: None})
    if number >= RESTORE:
        job.stopped = True  # ends as Cancelled


def _batch(job: RunningJob, function: Any, number: int, cursor: int) -> None:
    """One batch with its position in one transaction."""
    tally: Counter[str] = Counter()
    with transaction.atomic():
        following = function(job, cursor, tally)
        total = tally.pop('total', None)
        job.checkpoint(
            (number + 1) * STEP if following is None else number * STEP + following,
            total=total,
            done=job.record.done + tally['users'],
            **{name: job.counts.get(name, 0) + count for name, count in tally.items()},
        )
