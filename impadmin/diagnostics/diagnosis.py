"""Tests of the cluster for System Troubleshooter and System Dashboard (guide 11224-11243, spec 14)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from urllib.parse import urlencode

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from engine.contract.messages import decode
from engine.contract.services import BY_KEY, PRESENCE_ENGINE, SYNC_AGENT, State
from impadmin.console import context, jobs
from impadmin.console.diagnosis import SYSTEM, Check, Problem, Section, listed, register
from impadmin.console.facts import Facts
from impadmin.console.models import Job, JobState
from impadmin.diagnostics.facts import active, certificates, cluster, days_left, is_xcp
from impadmin.ucm.models import EndUser

CERTIFICATE_DAYS = 30
"""A certificate that ends within so many days is a problem; within a week it fails the test."""
FAILED_JOBS = timedelta(days=1)
SYNC = Section(gettext_lazy('Sync Agent'), 10)
ENGINE = Section(gettext_lazy('Presence Engine'), 20)
TOPOLOGY = Section(gettext_lazy('Topology'), 30)
XCP = Section(gettext_lazy('XCP status'), 40)


def nodes_report(facts: Facts) -> Iterator[Problem]:
    """Every node is in contact with the database."""
    known = facts(cluster)
    if not known.nodes:
        yield Problem(_('There is no node.'), _('Add a node, then start an engine with its name.'))
    for node in known.nodes:
        if node.heartbeat_at is None:
            text = _('%(node)s has never reported.') % {'node': node.name}
            yield Problem(text, _('Start an engine with the name of this node, or delete the node.'), warning=True)
        elif node not in known.alive():
            since = date_format(timezone.localtime(node.heartbeat_at), 'Y-m-d H:i:s')
            text = _('No report from %(node)s since %(time)s.') % {'node': node.name, 'time': since}
            solution = _('Users of this node cannot sign in. Start its engine, or look at its log.')
            yield Problem(text, solution, since=node.heartbeat_at)


def one_version(facts: Facts) -> Iterator[Problem]:
    """All nodes run the same release."""
    found = {node.version for node in facts(cluster).alive()}
    if len(found) > 1:
        text = _('The nodes run different versions: %(versions)s.') % {'versions': _(', ').join(sorted(found))}
        yield Problem(text, _('Upgrade every node to the same version.'))


def stopped(wanted: Callable[[str], bool]) -> Callable[[Facts], Iterator[Problem]]:
    """The check that the activated services of these keys run on every node that reports."""

    def run(facts: Facts) -> Iterator[Problem]:
        for node, key, state, row in facts(cluster).services():
            if not wanted(key) or state not in (State.FAILED, State.STOPPED):
                continue
            service = BY_KEY[key]
            names = {'service': _(service.name), 'node': node.name}
            failed = state == State.FAILED
            text = _('%(service)s on %(node)s has failed.') if failed else _('%(service)s on %(node)s is stopped.')
            detail = decode(row.detail, _) if row is not None else ''
            yield Problem(
                ' '.join(filter(None, (text % names, detail))),
                _('Start the service.'),
                page='control-center-network' if service.kind == 'network' else 'control-center',
                since=row.since if row is not None else None,
            )

    return run


all_services = stopped(lambda key: True)


def restarts(facts: Facts) -> Iterator[Problem]:
    """Every service runs the saved configuration."""
    waiting = [one for one in facts(active) if one.kind == 'restart']
    if not waiting:
        return
    services = list(dict.fromkeys(one.service_name for one in waiting))
    nodes = len({one.node for one in waiting})
    count = len({(one.node, one.service) for one in waiting})
    text = ngettext(
        '%(count)d service runs an older configuration.', '%(count)d services run an older configuration.', count
    )
    where = ngettext('%(services)s on %(nodes)d node.', '%(services)s on %(nodes)d nodes.', nodes)
    yield Problem(
        ' '.join((text % {'count': count}, where % {'services': _(', ').join(services), 'nodes': nodes})),
        _('Restart the services for the saved changes to take effect.'),
        since=min(one.since for one in waiting),
        warning=True,
    )


def notices(facts: Facts) -> Iterator[Problem]:
    """No alarm is open, no standing advice is left undone."""
    for cause in context.causes([one for one in facts(active) if one.kind not in ('restart', 'approval')]):
        where = f' ({_(", ").join(cause.nodes)})' if cause.nodes else ''
        page = cause.url.rstrip('/').rpartition('/')[2]  # its name is the last part of its address
        yield Problem(
            f'{cause.text}{where}', _('See Active Notifications.'), page=page, since=cause.since,
            warning=cause.severity != 'High',
        )  # fmt: skip


def certificates_last(facts: Facts) -> Iterator[Problem]:
    """No certificate ends soon."""
    for one in facts(certificates):
        days = days_left(one.ends_at)
        if days >= CERTIFICATE_DAYS:
            continue
        names = {'name': one.name, 'node': one.place, 'days': days}
        if days < 0:
            text = _('The certificate %(name)s of %(node)s has expired.') % names
        else:
            text = (
                ngettext(
                    'The certificate %(name)s of %(node)s expires in %(days)d day.',
                    'The certificate %(name)s of %(node)s expires in %(days)d days.',
                    days,
                )
                % names
            )
        solution = _('Generate or upload a new certificate, then restart the service.')
        renewed = _('The node makes a new one when Cisco XCP Router restarts.')
        yield Problem(text, solution if one.own else renewed, warning=days >= 7, page='certificates')


def jobs_succeed(facts: Facts) -> Iterator[Problem]:
    """No job of the last day ended badly. The last one stands for all; the link leads to all."""
    bad = Job.objects.filter(
        state__in=(JobState.FAILED, JobState.INCOMPLETE), ended_at__gt=timezone.now() - FAILED_JOBS
    ).order_by('-ended_at')
    if (job := bad.first()) is None:
        return
    several = bad.count()
    before = _('%(count)d jobs of the last day ended with problems.') % {'count': several} if several > 1 else ''
    names = {'id': job.pk, 'kind': jobs.label(job.kind), 'state': job.get_state_display()}
    text = _('Job %(id)s, %(kind)s: %(state)s.') % names
    yield Problem(
        ' '.join(filter(None, (before, text, jobs.message_text(job)))),
        _('Look at the job, then run it again.'),
        since=job.ended_at,
        pk=job.pk if several == 1 and job.kind in jobs.kinds('bat') else '',
        query=urlencode({'tab': 'failed'}) if several > 1 else '',
        warning=True,
    )


def users_have_nodes(facts: Facts) -> Iterator[Problem]:
    """Every enabled user is assigned to a node."""
    count = EndUser.objects.filter(home_node=None, im_enabled=True, active=True, home_cluster=True).count()
    if count:
        text = ngettext(
            '%(count)d enabled user is not assigned to a node.',
            '%(count)d enabled users are not assigned to a node.',
            count,
        )
        yield Problem(
            text % {'count': count},
            _('They cannot sign in until they are assigned.'),
            query=urlencode({'tab': 'not-assigned'}),
            warning=True,
        )


def nodes_have_users(facts: Facts) -> Iterator[Problem]:
    """Every node of several serves somebody."""
    nodes = facts(cluster).nodes
    busy = set(EndUser.objects.exclude(home_node=None).order_by().values_list('home_node', flat=True).distinct())
    idle = [node.name for node in nodes if node.pk not in busy]
    if len(nodes) > 1 and idle:
        text = _('No user is assigned to %(nodes)s.') % {'nodes': listed(idle)}
        yield Problem(text, _('Assign users to every node.'), warning=True)


register(
    Check(name='nodes', section=SYSTEM, title=gettext_lazy('Every node reports'), page='cluster-topology',
          run=nodes_report, attention=True),
    Check(name='versions', section=SYSTEM, title=gettext_lazy('Every node runs the same version'),
          page='cluster-topology', run=one_version),
    Check(name='services', section=SYSTEM, title=gettext_lazy('Every activated service runs'), page='control-center',
          run=all_services, attention=True),
    Check(name='alarms', section=SYSTEM, title=gettext_lazy('No alarm is open'), page='notifications', run=notices,
          attention=True),
    Check(name='restarts', section=SYSTEM, title=gettext_lazy('Every service runs the saved configuration'),
          page='notifications', run=restarts, attention=True),
    Check(name='certificates', section=SYSTEM, title=gettext_lazy('No certificate expires soon'),
          page='control-center-network', run=certificates_last, attention=True),
    Check(name='jobs', section=SYSTEM, title=gettext_lazy('No job of the last day failed'), page='job-scheduler',
          run=jobs_succeed, attention=True),
    Check(name='sync-agent', section=SYNC, title=gettext_lazy('Cisco Sync Agent runs on the publisher'),
          page='control-center-network', run=stopped(lambda key: key == SYNC_AGENT)),
    Check(name='presence-engine', section=ENGINE, title=gettext_lazy('Cisco Presence Engine runs on every node'),
          page='control-center', run=stopped(lambda key: key == PRESENCE_ENGINE)),
    Check(name='unassigned', section=TOPOLOGY, title=gettext_lazy('Every enabled user is assigned to a node'),
          page='assign-presence-users', run=users_have_nodes, attention=True),
    Check(name='idle-nodes', section=TOPOLOGY, title=gettext_lazy('Every node has users'), page='assign-presence-users',
          run=nodes_have_users),
    Check(name='xcp', section=XCP, title=gettext_lazy('Cisco XCP Router and every activated XCP service run'),
          page='control-center-network', run=stopped(is_xcp)),
)  # fmt: skip
