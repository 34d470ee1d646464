"""Reporting > System Reports > IM and Presence User Sessions Report (guide 7019-7049).

Every node writes its part of a report when it is asked (engine/session_report.py); the pages show the newest report
that all of them finished.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from engine.contract.events import SESSIONS_REPORT
from impadmin.console.access import Right
from impadmin.console.actions import Actor, Refused
from impadmin.console.page import Column, Command, Help, Page, Result
from impadmin.console.registry import page_url
from impadmin.messaging.models import SessionsReport, SessionsTotal, UserSessions
from impadmin.serviceability.commands import queue
from impadmin.system.models import Node
from impadmin.system.state import in_contact

PATIENCE = timedelta(minutes=2)
"""How long a report may take before another one is begun (guide 7031)."""


def newest() -> QuerySet[SessionsReport]:
    """The report the pages show."""
    return SessionsReport.objects.filter(finished_at__isnull=False).order_by('-id')[:1]


def _totals() -> QuerySet[SessionsTotal]:
    return SessionsTotal.objects.filter(report_id__in=newest().values('id')).select_related('report')


def _users() -> QuerySet[UserSessions]:
    return UserSessions.objects.filter(report_id__in=newest().values('id'))


def generate(actor: Actor, objects: Sequence[Any], data: Mapping[str, Any]) -> Result:
    """Ask every node that runs for its part. Raises Refused while a report is being generated, or without nodes."""
    nodes = [node for node in Node.objects.select_for_update().order_by('id') if in_contact(node)]
    if not nodes:
        raise Refused(_('No node is running, so nobody is signed in. Start an engine first.'))
    under_way = SessionsReport.objects.filter(finished_at=None, requested_at__gt=timezone.now() - PATIENCE)
    if under_way.exists():
        raise Refused(_('A report is being generated. Wait until it is finished, at most two minutes.'))
    report = SessionsReport.objects.create(requested_by=actor.name, nodes=len(nodes))
    for node in nodes:
        queue(actor.name, node, str(report.pk), SESSIONS_REPORT)
    return Result(
        _('The report is being generated. It may take two minutes or more; load this page again to see it.'),
        data={'report': report.pk, 'nodes': [node.name for node in nodes]},
    )


def _level(total: SessionsTotal) -> str:
    if total.node:
        return _('Node')
    return _('Subcluster') if total.redundancy_group else _('Cluster')


def _signed_in(total: SessionsTotal) -> tuple[str, str]:
    level = 'node' if total.node else 'redundancy_group'
    name = getattr(total, level)
    query = urlencode({'f': level, 'o': 'exactly', 'v': name}) if name else ''
    return f'{page_url("user-sessions")}?{query}'.rstrip('?'), str(total.one_device + total.several_devices)


TOTALS = Page(
    name='user-sessions-report',
    console='reporting',
    area='system-reports',
    menu='System Reports > IM and Presence User Sessions Report',
    title=gettext_lazy('IM and Presence User Sessions Report'),
    right=Right.MONITOR,
    intro=gettext_lazy(
        'How many users are signed in, from one or several devices, in the cluster, its subclusters and on each node.'
    ),
    help=Help(
        when=gettext_lazy('Before nodes are sized or users are moved, and when a node has too many sessions.'),
        effect=gettext_lazy(
            'Generate Report asks every running node; the report before stays until all have answered. Nothing else '
            'changes. When JSMSessionsExceedsThreshold is raised: check memory and processor of the node, and move '
            'users to other nodes by hand. A subcluster is a Presence Redundancy Group. Composed sessions: users the '
            'node serves, connected or not. Internal and off-site sessions have a client inside and outside of the '
            'internal networks; phantom ones wait for their client.'
        ),
        guide='7019-7049',
    ),
    related=('user-sessions', 'service-parameters', 'presence-topology'),
    model=SessionsTotal,
    queryset=_totals,
    columns=(
        Column('level', gettext_lazy('Level'), value=_level, order_by='node'),
        'redundancy_group',
        'node',
        Column('users', gettext_lazy('Number of Users logged in from one or multiple devices'), _signed_in,
               order_by='one_device', kind='link'),
        'one_device',
        'several_devices',
        'sessions',
        'composed',
        'internal',
        'off_site',
        'phantom',
        Column('generated', gettext_lazy('Generated'), lambda total: total.report.finished_at,
               order_by='report__finished_at', kind='time'),
    ),
    find=('redundancy_group', 'node', 'sessions'),
    verbs=(),
    tabs=(
        ('cluster', gettext_lazy('Cluster'), Q(node='', redundancy_group='')),
        ('subclusters', gettext_lazy('Subclusters'), Q(node='') & ~Q(node='', redundancy_group='')),
        ('nodes', gettext_lazy('Nodes'), ~Q(node='')),
    ),
    ordering=('redundancy_group', 'node'),
    commands=(Command('generate', gettext_lazy('Generate Report'), generate, scope='page', at_once=True),),
)  # fmt: skip
USERS = Page(
    name='user-sessions',
    console='reporting',
    area='system-reports',
    menu='System Reports > User Sessions Report Detail',
    title=gettext_lazy('User Sessions Report Detail'),
    right=Right.MONITOR,
    intro=gettext_lazy('Who was signed in when the report was generated, where, and from which devices.'),
    help=Help(
        when=gettext_lazy('To see behind a number of the report.'),
        effect=gettext_lazy(
            'Nothing: the page only shows. The device type follows from what a client tells about itself; Android '
            'tablets are shown as Desktop.'
        ),
        guide='7042-7049',
    ),
    related=('user-sessions-report', 'end-users'),
    model=UserSessions,
    queryset=_users,
    columns=(
        'user_id',
        'address',
        'node',
        Column('sessions', gettext_lazy('Number of Sessions'), order_by='sessions', kind='number',
               hint=lambda user: f'{_("Device Type")}: {user.devices}'),
        'devices',
    ),
    find=('user_id', 'address', 'node', 'redundancy_group', 'sessions', 'devices'),
    verbs=(),
    ordering=('user_id',),
)  # fmt: skip
PAGES = (TOTALS, USERS)
