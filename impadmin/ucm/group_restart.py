"""Restart under High Availability as one guided action (guide 9942-9968): disable it, restart service after service on
node after node, wait each time until every user has a session again, enable it again. A job that Retry lets go on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, gettext_noop

from engine.contract.recovery import State as Standing
from engine.contract.services import BY_KEY, SERVICES, XCP_ROUTER, State, dependents
from impadmin.console import jobs, notifications
from impadmin.console.actions import Actor, Refused
from impadmin.console.jobs import JobFailed, RunningJob, runner
from impadmin.console.models import Job, JobState
from impadmin.console.page import Result
from impadmin.system import maintenance, redundancy
from impadmin.system.maintenance import OPEN
from impadmin.system.models import Node, RedundancyGroup
from impadmin.system.state import states

KIND = 'restart_group'
SHOWN = timedelta(minutes=30)
"""How long the page shows a job that has ended."""


class RestartForm(forms.Form):
    """What is restarted."""

    services = forms.MultipleChoiceField(
        label=gettext_lazy('Services'), required=False,
        choices=[(one.key, gettext_lazy(one.name)) for one in SERVICES if XCP_ROUTER in (one.key, *one.depends)],
        help_text=gettext_lazy('None chosen: those that wait for a restart on the nodes of the group.'),
    )  # fmt: skip


def latest(group: RedundancyGroup) -> Job | None:
    """The newest restart of this group, while the page shows it."""
    job = Job.objects.filter(kind=KIND, parameters__group=group.pk).order_by('-pk').first()
    shown = job is not None and (OPEN in job.parameters or (job.ended_at or timezone.now()) > timezone.now() - SHOWN)
    return job if shown else None


def waiting(group: RedundancyGroup) -> set[str]:
    """Keys of the services that wait for a restart on a node of the group."""
    names = {node.name for node in group.nodes}
    return {one.service for one in notifications.active() if one.kind == 'restart' and one.node in names}


def hindrance(group: RedundancyGroup) -> str:
    """Why it cannot begin now, or ''."""
    if not group.ha_enabled:
        return _('High Availability is not enabled. Restart the services on the Control Center.')
    if (job := latest(group)) is not None and OPEN in job.parameters:
        return _('A restart is under way.')
    for member in redundancy.standing(group).members:
        if member.state is not Standing.NORMAL:
            return _('%(node)s is %(state)s; both nodes must be Normal.') % {
                'node': member.node.name,
                'state': member.word,
            }
    return ''


def start(actor: Actor, objects: Sequence[Any], data: Mapping[str, Any]) -> Result:
    """Begin: a job is submitted."""
    group = RedundancyGroup.objects.select_for_update().get(pk=objects[0].pk)
    if reason := hindrance(group):  # another administrator may have pressed it in the same moment
        raise Refused(reason)
    wanted = set(data.get('services') or waiting(group))
    if not wanted:
        raise ValidationError({'services': _('No service waits for a restart. Choose some.')})
    with_others = {key for one in wanted for key in dependents(one)}
    services = [service.key for service in SERVICES if service.key in wanted - with_others]
    job = jobs.submit(
        actor,
        KIND,
        {'group': group.pk, 'groups': [group.pk], 'services': services, OPEN: True},
        _('Restart services of %(group)s') % {'group': group.name},
    )
    names = _(', ').join(_(BY_KEY[key].name) for key in services)
    order = _(', then ').join(node.name for node in group.nodes)
    return Result(
        _('The restart has begun.'),
        data={'job': job.pk, 'services': services},
        impact=[
            (_('High Availability of %(group)s is disabled, and enabled again at the end.') % {'group': group}, None),
            (_('%(services)s: restarted on %(nodes)s.') % {'services': names, 'nodes': order}, None),
            (_('Users of each node are disconnected once.'), None),
        ],
    )


def retry(actor: Actor, objects: Sequence[Any], data: Mapping[str, Any]) -> Result:
    """Go on where it stopped."""
    job = _open(objects[0])
    if not maintenance.has_stopped(job):
        raise Refused(_('The restart has not stopped.'))
    maintenance.go_on(job)
    return Result(_('The restart goes on.'), data={'job': job.pk})


def cancel(actor: Actor, objects: Sequence[Any], data: Mapping[str, Any]) -> Result:
    """Restart nothing more. High Availability is enabled again when the sessions are there."""
    job = _open(objects[0])
    maintenance.cancel(job)
    return Result(_('Nothing more is restarted.'), data={'job': job.pk})


def _open(group: RedundancyGroup) -> Job:
    job = Job.objects.select_for_update().filter(kind=KIND, parameters__group=group.pk).order_by('-pk').first()
    if job is None or OPEN not in job.parameters:
        raise Refused(_('No restart is under way.'))
    return job


@runner(KIND, label=gettext_lazy('Restart under High Availability'), queue='default')
def run(job: RunningJob) -> None:
    """``position``: twice the number of restarts done, one more while their sessions are waited for."""
    group = RedundancyGroup.objects.filter(pk=job.parameters['group']).select_related('server1', 'server2').first()
    steps = [(node, key) for node in group.nodes for key in job.parameters['services']] if group is not None else []

    def cancelled() -> bool:
        return job.stop_requested() or maintenance.cancelled(job)

    maintenance.disable_ha(job)
    job.checkpoint(job.position, total=len(steps))
    for number in range(job.position // 2, len(steps)):
        if cancelled():
            break
        if job.position == 2 * number:
            _restart(job, *steps[number])
            job.checkpoint(2 * number + 1)
        maintenance.wait_for_sessions(job, cancelled)
        job.checkpoint(2 * number + 2, done=number + 1)
    stopped = cancelled()
    short = maintenance.missing_sessions(job.parameters['groups'])
    if not short:
        maintenance.enable_ha(job)
    maintenance.remember(job, **{OPEN: None})
    if short:
        text = gettext_noop(
            'Cancelled. Sessions are missing: %(sessions)s. High Availability stays disabled; enable it when they are '
            'back.'
        )
        raise JobFailed(text, sessions='; '.join(short))
    job.stopped = stopped


def _restart(job: RunningJob, node: Node, service: str) -> None:
    now = states([node]).get((node.pk, service))
    if now is None or now[0] in (State.NOT_ACTIVATED, State.STOPPED):
        return  # it does not run there, or the node is not up: there is nothing to restart

    def pending() -> list[Node]:
        return [node] if states([node])[node.pk, service][0] != State.RUNNING else []

    maintenance.bring(job, service, 'restart', [node], pending)


def state_of(job: Job) -> tuple[str, str]:
    """(mark, word) of the job."""
    if OPEN in job.parameters:
        return ('bad' if maintenance.has_stopped(job) else 'busy'), job.get_state_display()
    return ('ok' if job.state == JobState.COMPLETED else 'warn'), job.get_state_display()
