"""System > Cluster Topology, Presence Topology, Service Parameters, Enterprise Parameters, Notifications, standards."""

from __future__ import annotations

from django.db import models
from django.db.models import OuterRef, Q, Subquery
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from impadmin.console.access import Right
from impadmin.console.page import Column, Fieldset, Help, Page, ParameterPage, ViewPage
from impadmin.console.registry import register
from impadmin.console.rehearsal import of_nodes
from impadmin.system import actions, assigned, rules, views
from impadmin.system.incoming_acl import INCOMING_ACL
from impadmin.system.models import Node, RedundancyGroup
from impadmin.system.state import node_state


def _nodes() -> models.QuerySet[Node]:
    own = RedundancyGroup.objects.filter(Q(server1=OuterRef('pk')) | Q(server2=OuterRef('pk')))
    return Node.objects.annotate(
        assigned=assigned.count(),
        group=Subquery(own.values('name')[:1]),
    )


def _role(node: Node) -> str:
    return _('Publisher') if node.publisher else _('Subscriber')


CLUSTER_TOPOLOGY = Page(
    name='cluster-topology',
    console='admin',
    area='system',
    menu='System > Cluster Topology',
    title=gettext_lazy('Cluster Topology'),
    right=Right.CONFIGURATION,
    intro=gettext_lazy('The nodes of this cluster. The first one is the publisher.'),
    help=Help(
        when=gettext_lazy('Before an engine is started on a further machine, and to see which nodes are up.'),
        effect=gettext_lazy(
            'An engine started with the name of the node becomes that node and takes its configuration from here.'
        ),
        guide='996-1005, 1148-1185',
    ),
    related=('presence-topology', 'service-activation', 'control-center'),
    touches=of_nodes,
    model=Node,
    queryset=_nodes,
    columns=(
        Column('name', gettext_lazy('Node Name'), order_by='name'),
        Column('role', gettext_lazy('Role'), value=_role, order_by='publisher'),
        'address',
        'description',
        Column('state', gettext_lazy('State'), value=node_state, kind='state'),
        Column('group', gettext_lazy('Presence Redundancy Group'), order_by='group'),
        Column('assigned', gettext_lazy('Assigned users'), order_by='assigned', kind='number'),
        'sessions',
        'heartbeat_at',
        Column('version', gettext_lazy('Version'), order_by='version', default=False),
    ),
    find=('name', 'address', 'description'),
    fieldsets=(Fieldset(gettext_lazy('Node'), ('name', 'address', 'description')),),
    read_only=('publisher', 'sessions', 'users_online', 'heartbeat_at', 'started_at', 'version'),
    verbs=('add', 'edit', 'delete'),
    rules=(
        rules.names_are_hosts,
        rules.name_is_free,
        rules.cluster_has_room,
        rules.running_node_keeps_its_name,
        rules.bare_names_share_one_dns_domain,
    ),
    create=actions.create_node,
    delete=actions.delete_node,
    undeletable=rules.node_is_needed,
    ordering=('-publisher', 'name'),
    configures=True,
    sample=lambda n: {
        'name': f'imp-sample-{n}',
        'address': f'192.0.2.{n % 250 + 1}',
        'description': 'Second floor',
    },
    bad={
        'name': ('', 'imp_1', '-imp', '10.0.0.1', 'x' * 256),
        'address': ('', 'not a host'),
        'description': ('x' * 129,),
    },
)
PRESENCE_TOPOLOGY = ViewPage(
    name='presence-topology',
    console='admin',
    area='system',
    menu='System > Presence Topology',
    title=gettext_lazy('Presence Topology'),
    right=Right.USERS,
    intro=gettext_lazy('Nodes with their users and sessions.'),
    help=Help(
        when=gettext_lazy('To see which node serves how many users and whether all its services run.'),
        effect=gettext_lazy('Nothing: the page only shows. Users are moved under Assign Presence Users.'),
        guide='1221-1223, 5185',
    ),
    related=('assign-presence-users', 'cluster-topology', 'control-center'),
    view=views.presence_topology,
    api=views.presence_topology_api,
)
SERVICE_PARAMETERS = ParameterPage(
    name='service-parameters',
    console='admin',
    area='system',
    menu='System > Service Parameters',
    title=gettext_lazy('Service Parameters'),
    right=Right.CONFIGURATION,
    intro=gettext_lazy('Settings of single services, with their range and their suggested value.'),
    help=Help(
        when=gettext_lazy(
            'When the suggested value does not fit: limits, time-outs, ports. Most installations change nothing here.'
        ),
        effect=gettext_lazy(
            'A parameter marked All servers holds for every node, the others for the chosen one. Those that '
            'name services take effect after their restart.'
        ),
        guide='1187-1189, 2811, 12574',
    ),
    related=('enterprise-parameters', 'control-center', 'notifications'),
)
ENTERPRISE_PARAMETERS = ParameterPage(
    name='enterprise-parameters',
    console='admin',
    area='system',
    menu='System > Enterprise Parameters',
    title=gettext_lazy('Enterprise Parameters'),
    right=Right.CONFIGURATION,
    intro=gettext_lazy('Settings of the whole cluster that belong to no single service.'),
    help=Help(
        when=gettext_lazy('To name the cluster, and to choose how users are spread over the nodes.'),
        effect=gettext_lazy(
            'Changes are in force at once for what happens next; users who are assigned already stay where they are.'
        ),
        guide='2454-2465',
    ),
    related=('service-parameters', 'assign-presence-users'),
    services=False,
)
NOTIFICATIONS = ViewPage(
    name='notifications',
    console='admin',
    area='system',
    menu='System > Notifications',
    title=gettext_lazy('Notifications'),
    right=Right.MONITOR,
    intro=gettext_lazy('What is saved but not yet in force, and what went wrong.'),
    help=Help(
        when=gettext_lazy('After every change that asks for a restart, and when an alarm is reported.'),
        effect=gettext_lazy(
            'Nothing: an entry disappears by itself when its reason is gone, for example after the restart.'
        ),
        guide='1563, 12505-12580',
    ),
    related=('control-center', 'control-center-network'),
    view=views.notifications_page,
    api=views.notifications_api,
)
STANDARDS = ViewPage(
    name='standards',
    console='admin',
    area='diagnostics',
    menu='Diagnostics > Supported Standards',
    title=gettext_lazy('Supported Standards'),
    right=Right.MONITOR,
    intro=gettext_lazy('What the service speaks with XMPP clients and other servers.'),
    help=Help(
        when=gettext_lazy('To know whether a client or another server can rely on a protocol.'),
        effect=gettext_lazy('Nothing: the list is made from the running code.'),
    ),
    order=950,
    view=views.standards_page,
    api=views.standards_api,
)
register(
    CLUSTER_TOPOLOGY,
    PRESENCE_TOPOLOGY,
    SERVICE_PARAMETERS,
    ENTERPRISE_PARAMETERS,
    NOTIFICATIONS,
    STANDARDS,
    INCOMING_ACL,
)
