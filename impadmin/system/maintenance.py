"""Parts of jobs that stop or restart services (guide 1235-1292, 1437-1471, 9942-9968).

High Availability is off meanwhile, so that nobody fails over. It is enabled again only when every user has a session:
users without one have no presence.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext_noop

from engine.contract import messages
from engine.contract.services import BY_KEY, State
from impadmin.console import audit, generations, registry
from impadmin.console.access import NOBODY
from impadmin.console.actions import Actor
from impadmin.console.jobs import JobFailed, RunningJob, publish, wake
from impadmin.console.models import Job, JobState
from impadmin.serviceability import commands
from impadmin.system import redundancy
from impadmin.system.models import Node, RedundancyGroup, ServiceCommand
from impadmin.system.state import in_contact, states

SERVICE_TIMEOUT_S = 120.0
SESSIONS_TIMEOUT_S = 1800.0
"""When there are no sessions after this time Cisco Presence Engine must be restarted (guide 9962-9966)."""
POLL_S = 0.2
HA, OPEN, CANCEL = 'high_availability', 'open', 'cancel'
"""Names in a job's parameters: keys of the groups that had High Availability before; that the procedure has not come
to an end; and that Cancel was pressed."""


def remember(job: RunningJob, **values: Any) -> None:
    """Change parameters of the job without losing what a page writes at the same time; None removes."""
    with transaction.atomic():
        record = Job.objects.select_for_update().get(pk=job.id)
        for name, value in values.items():
            if value is None:
                record.parameters.pop(name, None)
            else:
                record.parameters[name] = value
        record.save(update_fields=['parameters'])
    job.record.parameters = record.parameters


# ---- a job that stops half-way and goes on


def has_stopped(job: Job, mark: str = OPEN) -> bool:
    """Whether it waits for Retry or Cancel; ``mark``: the parameter that stands until it has come to its end."""
    return job.state in (JobState.FAILED, JobState.INCOMPLETE, JobState.CANCELLED) and mark in job.parameters


def go_on(job: Job) -> None:
    """Let a stopped job go on from its position."""
    Job.objects.filter(pk=job.pk).update(state=JobState.PENDING, stop_requested=False, ended_at=None, message='')
    job.refresh_from_db()
    publish(job)
    wake('default')


def cancel(job: Job, mark: str = OPEN) -> None:
    """Ask for the way back; ``job`` is locked by the caller."""
    job.parameters[CANCEL] = True
    job.save(update_fields=['parameters'])
    if has_stopped(job, mark):
        go_on(job)


def cancelled(job: RunningJob) -> bool:
    """Whether Cancel was pressed."""
    return bool(Job.objects.values_list(f'parameters__{CANCEL}', flat=True).get(pk=job.id))


# ---- services


def live_nodes() -> list[Node]:
    """The nodes that are in contact."""
    return [node for node in Node.objects.order_by('id') if in_contact(node)]


def running(nodes: list[Node]) -> dict[str, list[str]]:
    """Node name -> keys of the services that run on it."""
    now = states(nodes)
    return {
        node.name: [key for (pk, key), (state, _row) in now.items() if pk == node.pk and state == State.RUNNING]
        for node in nodes
    }


def active(service: str) -> list[Node]:
    """Nodes in contact on which ``service`` is not down."""
    nodes = live_nodes()
    now = states(nodes)
    down = (State.STOPPED, State.NOT_ACTIVATED)
    return [node for node in nodes if (node.pk, service) in now and now[node.pk, service][0] not in down]


def bring(job: RunningJob, service: str, verb: str, nodes: list[Node], pending: Callable[[], list[Node]]) -> None:
    """Queue ``verb`` for ``service`` on ``nodes`` and wait until ``pending`` names no node any more and the nodes have
    told how it went. Raises JobFailed."""
    if not nodes:
        return
    with transaction.atomic():
        queued = [commands.queue(job.record.submitted_by, node, service, verb).pk for node in nodes]
    deadline = time.monotonic() + SERVICE_TIMEOUT_S
    while True:
        answers = ServiceCommand.objects.filter(pk__in=queued)
        failed = answers.filter(finished_at__isnull=False).exclude(error='').first()
        left = pending()
        if failed is not None and (left or verb == 'restart'):
            raise JobFailed(
                gettext_noop('%(service)s on %(node)s: %(error)s Retry goes on here.'),
                service=BY_KEY[service].name,
                node=failed.node.name,
                error=messages.load(failed.error),
            )
        if not left and (verb != 'restart' or not answers.filter(finished_at=None).exists()):
            return
        if time.monotonic() > deadline:
            text = (
                gettext_noop('%(service)s did not stop within %(seconds)d seconds on %(node)s. Retry goes on here.')
                if verb == 'stop'
                else gettext_noop(
                    '%(service)s did not start within %(seconds)d seconds on %(node)s. Retry goes on here.'
                )
            )
            raise JobFailed(
                text,
                service=BY_KEY[service].name,
                node=', '.join(node.name for node in left or nodes),
                seconds=int(SERVICE_TIMEOUT_S),
            )
        time.sleep(POLL_S)


# ---- high availability


def _set_ha(job: RunningJob, groups: list[RedundancyGroup], on: bool) -> None:
    """Write it, with its history, as one generation."""
    page = registry.page('presence-redundancy-groups')
    actor = Actor(job.record.submitted_by, NOBODY, f'job {job.id}', 'job')
    with transaction.atomic():
        for group in groups:
            before = audit.snapshot(group)
            group.ha_enabled, group.ha_changed_at = on, timezone.now()
            group.save(update_fields=['ha_enabled', 'ha_changed_at'])
            audit.record(actor, 'update', page, group, before, audit.snapshot(group))
        generations.store_if_changed()


def disable_ha(job: RunningJob) -> None:
    """Disable High Availability in the groups of the job (all without ``groups``) and wait until every node knows.

    Raises JobFailed when a node that is in contact does not take it."""
    chosen = RedundancyGroup.objects.filter(ha_enabled=True).select_related('server1', 'server2')
    if (wanted := job.parameters.get('groups')) is not None:
        chosen = chosen.filter(pk__in=wanted)
    groups = list(chosen)
    if groups:
        known = job.parameters.get(HA, [])
        remember(job, **{HA: sorted({*known, *(group.pk for group in groups)})})
        _set_ha(job, groups, on=False)
    newest = generations.newest_number()
    deadline = time.monotonic() + SERVICE_TIMEOUT_S
    while job.parameters.get(HA):
        late = [node.name for node in live_nodes() if node.generation < newest]
        if not late:
            return
        if time.monotonic() > deadline:
            text = gettext_noop('%(nodes)s did not take the change of High Availability. Retry goes on here.')
            raise JobFailed(text, nodes=', '.join(late))
        time.sleep(POLL_S)


def missing_sessions(groups: list[int] | None = None) -> list[str]:
    """``NODE: sessions / users`` of nodes in contact that lack sessions."""
    found = [one for one in redundancy.standings() if groups is None or one.group.pk in groups]
    return [f'{node.name}: {have} / {wanted}' for node, have, wanted in redundancy.short_of_sessions(found)
            if in_contact(node)]  # fmt: skip


def wait_for_sessions(job: RunningJob, leave: Callable[[], bool] = lambda: False) -> None:
    """Until every user of every node has a session again, where High Availability was on (guide 1443-1457), or
    ``leave`` says so. Raises JobFailed."""
    deadline = time.monotonic() + SESSIONS_TIMEOUT_S
    while job.parameters.get(HA) and (short := missing_sessions(job.parameters.get('groups'))) and not leave():
        if time.monotonic() > deadline:
            text = gettext_noop(
                'Sessions are missing: %(sessions)s. Restart Cisco Presence Engine on these nodes, then Retry. High '
                'Availability stays disabled until then.'
            )
            raise JobFailed(text, sessions='; '.join(short))
        time.sleep(POLL_S)


def enable_ha(job: RunningJob) -> None:
    """Enable High Availability in the groups that had it, where it still can be."""
    groups = RedundancyGroup.objects.filter(pk__in=job.parameters.get(HA, ()), ha_enabled=False)
    if found := list(groups.exclude(server2=None).select_related('server1', 'server2')):
        _set_ha(job, found, on=True)
    remember(job, **{HA: None})
