"""Diagnostics > System Dashboard and System Troubleshooter (guide 11215-11269, 910)."""

from __future__ import annotations

from django.utils.translation import gettext_lazy

from impadmin.console import flows
from impadmin.console.access import Right
from impadmin.console.dashboard import Card, Dashboard
from impadmin.console.page import Help, ViewPage
from impadmin.console.registry import register
from impadmin.diagnostics import cards, views
from impadmin.diagnostics import sip as sip
from impadmin.diagnostics.flows import FIRST_SET_UP, FLOWS

CARDS = (
    Card(name='setup', page=FIRST_SET_UP.name, read=cards.setup, place='top', template='diagnostics/setup.html'),
    Card(name='attention', page='system-troubleshooter', read=cards.attention, place='top',
         template='diagnostics/attention.html'),
    Card(name='nodes', page='presence-topology', read=cards.nodes, place='top', template='diagnostics/nodes.html',
         api=cards.nodes_json),
    Card(name='numbers', page='presence-topology', read=cards.numbers, place='top',
         template='diagnostics/numbers.html'),
    Card(name='restarts', page='notifications', read=cards.restarts, template='diagnostics/restarts.html'),
    Card(name='jobs', page='job-scheduler', read=cards.recent_jobs, template='diagnostics/jobs.html'),
    Card(name='sync_agent', page='control-center-network', read=cards.sync_agent, place='side',
         template='diagnostics/sync_agent.html'),
    Card(name='certificates', page='certificates', read=cards.expiring, place='side',
         template='diagnostics/certificates.html'),
    Card(name='changes', page='history', read=cards.changes, place='side', template='diagnostics/changes.html'),
)  # fmt: skip
DASHBOARD = Dashboard(
    name='system-dashboard',
    console='admin',
    area='diagnostics',
    menu='Diagnostics > System Dashboard',
    title=gettext_lazy('System Dashboard'),
    right=Right.MONITOR,
    intro=gettext_lazy(
        'Nodes, services, sessions, rates, jobs and certificates at a glance: what needs attention comes first.'
    ),
    help=Help(
        when=gettext_lazy('Every morning, and first when something is reported.'),
        effect=gettext_lazy(
            'Nothing: the page only shows, from the same counters as the metrics of the nodes, and keeps '
            'itself current.'
        ),
        guide='910',
    ),
    related=('system-troubleshooter', 'notifications', 'presence-topology'),
    order=800,
    cards=CARDS,
)
TROUBLESHOOTER = ViewPage(
    name='system-troubleshooter',
    console='admin',
    area='diagnostics',
    menu='Diagnostics > System Troubleshooter',
    title=gettext_lazy('System Configuration Troubleshooter'),
    right=Right.MONITOR,
    intro=gettext_lazy(
        'Opening this page runs every test. A problem comes with its solution and the page to repair it.'
    ),
    help=Help(
        when=gettext_lazy(
            'After the installation, before an upgrade or a change of domain, and when something does not work.'
        ),
        effect=gettext_lazy(
            'Nothing: the tests only read. They look at the saved configuration and at what the nodes report.'
        ),
        guide='11215-11269, 1719-1724',
    ),
    related=('system-dashboard', 'notifications', 'control-center'),
    order=810,
    view=views.troubleshooter,
    api=views.troubleshooter_api,
)
TASK_FLOWS = ViewPage(
    name='task-flows',
    console='admin',
    area='system',
    menu='System > Task Flows > All Task Flows',
    title=gettext_lazy('Task Flows'),
    right=Right.MONITOR,
    intro=gettext_lazy('Procedures of several steps, in their order. They know which steps are done.'),
    help=Help(
        when=gettext_lazy('Before a change that takes several steps on several pages.'),
        effect=gettext_lazy('Nothing: the page only shows how far each procedure is.'),
    ),
    related=('system-dashboard', 'notifications'),
    order=900,
    view=flows.list_view,
    api=flows.list_json,
)
register(DASHBOARD, TROUBLESHOOTER, TASK_FLOWS, *FLOWS)
