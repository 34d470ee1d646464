"""System > Presence Redundancy Groups (guide 1997-2031, 2100-2242) of Unified CM Administration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.db.models import QuerySet
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy

from engine.contract.service_keys import SERVER_RECOVERY_MANAGER
from impadmin.console.access import Right
from impadmin.console.page import Column, Command, Fieldset, Help, Page
from impadmin.system import redundancy
from impadmin.system.models import Node, RedundancyGroup
from impadmin.ucm import group_restart
from impadmin.ucm import redundancy_actions as actions


class _Groups(QuerySet[RedundancyGroup]):
    """Groups that know how they stand, from three queries for all of them."""

    def _fetch_all(self) -> None:
        fresh = self._result_cache is None
        super()._fetch_all()  # type: ignore[misc]
        found: Any = self._result_cache if fresh else ()
        found = [group for group in found if isinstance(group, RedundancyGroup)]
        for group, now in zip(found, redundancy.standings(found), strict=True):
            group.now = now


def _groups() -> QuerySet[RedundancyGroup]:
    return _Groups(RedundancyGroup).select_related('server1', 'server2')


def _now(group: Any) -> redundancy.Standing:
    if not hasattr(group, 'now'):  # read one by one
        group.now = redundancy.standing(group)
    found: redundancy.Standing = group.now
    return found


def _of(place: int, value: Callable[[redundancy.Member], Any]) -> Callable[[Any], Any]:
    """A cell about the first or second node."""

    def cell(group: Any) -> Any:
        members = _now(group).members
        return value(members[place]) if place < len(members) else None

    return cell


def _status(place: int) -> tuple[Column, ...]:
    """What the guide's page tells of each node, as columns for lists, REST and exports."""
    cells: tuple[tuple[str, Any, Any, Any], ...] = (
        ('users', gettext_lazy('Assigned Users'), lambda member: member.assigned, 'number'),
        ('sessions', gettext_lazy('Active Sessions'), lambda member: member.sessions, 'number'),
        ('state', gettext_lazy('Server State'), lambda member: member.state.value if member.state else '', 'text'),
        ('reason', gettext_lazy('Reason'), lambda member: member.reason.value, 'text'),
        ('owner', gettext_lazy('Users served by'), lambda member: member.owner.name, 'text'),
    )
    return tuple(
        Column(
            f'server{place}_{name}',
            format_lazy('{} ({})', label, place),
            value=_of(place - 1, value),
            kind=kind,
            default=False,
        )
        for name, label, value, kind in cells
    )


def touched(groups: Sequence[RedundancyGroup]) -> int:
    """How many users the nodes of these groups serve."""
    return sum(member.assigned for one in redundancy.standings(groups) for member in one.members)


def _sample(n: int) -> dict[str, Any]:
    """A group of a node of its own. The nodes are all added the first time, without the groups made for them."""
    names = [f'imp-group-{number}' for number in range(10)]
    if not Node.objects.filter(name=names[0]).exists():
        Node.objects.bulk_create(Node(name=name, address=f'192.0.2.{at}') for at, name in enumerate(names))
    node = Node.objects.get(name=names[n])
    return {'name': f'PRG_{n}-east', 'description': f'Site (building #{n})', 'server1': node}


GROUPS = Page(
    name='presence-redundancy-groups',
    console='ucm',
    area='system',
    menu='System > Presence Redundancy Groups',
    title=gettext_lazy('Presence Redundancy Groups'),
    order=50,
    right=Right.CONFIGURATION,
    intro=gettext_lazy('Two nodes that stand in for each other; each node of the cluster is in one group.'),
    help=Help(
        when=gettext_lazy(
            'In this order: check replication (utils dbreplication status, then runtimestate: 2 on every node) and '
            'services, put two nodes into a group, change heartbeat parameters if you must, enable High Availability, '
            'choose the User Assignment Mode. Between sites at least 10 Mbit/s and at most 80 ms both ways are needed.'
        ),
        effect=gettext_lazy(
            'With High Availability the nodes watch each other; when one fails the other takes over its users, who '
            'sign in there. All nodes work on one database, so contact lists, stored messages and rooms are there too. '
            'With Multi-Device Messaging a failover usually takes twice as long. Mixing groups with and without High '
            'Availability is possible but not recommended.'
        ),
        guide='1997-2031, 2100-2133, 2174-2242, 9854-9869',
    ),
    related=('presence-topology', 'service-parameters', 'enterprise-parameters'),
    works_through=(SERVER_RECOVERY_MANAGER,),
    touches=touched,
    model=RedundancyGroup,
    queryset=_groups,
    columns=(
        'name',
        'description',
        'server1',
        'server2',
        'ha_enabled',
        Column('state', gettext_lazy('State'), value=lambda group: _now(group).state, kind='state'),
        *_status(1),
        *_status(2),
    ),
    find=('name', 'description', 'server1__name', 'server2__name'),
    fieldsets=(
        Fieldset(gettext_lazy('Presence Redundancy Group Configuration'), ('name', 'description')),
        Fieldset(
            gettext_lazy('Presence Redundancy Group Members'),
            ('server1', 'server2', 'ha_enabled', actions.PROCEED),
        ),
    ),
    rules=(
        actions.name_is_plain,
        actions.description_is_plain,
        actions.servers_fit,
        actions.high_availability_fits,
    ),
    extra={actions.PROCEED: actions.proceed_field},
    consents=(actions.PROCEED,),
    choices={'server1': actions.selectable, 'server2': actions.selectable},
    create=actions.create_group,
    update=actions.update_group,
    delete=actions.delete_group,
    undeletable=actions.kept,
    verbs=('add', 'edit', 'delete'),
    ordering=('name',),
    configures=True,
    bulk=('description', 'ha_enabled'),
    panel='ucm/redundancy_group.html',
    panel_live='node:* service:* job:* notifications',
    commands=(
        *(
            Command(name, label, actions.order(name), form=actions.NodeForm if name != 'recover' else None,
                    touches=actions.users_moved, danger=name == 'failover', in_panel=True)
            for name, label in (
                ('failover', gettext_lazy('Failover')),
                ('fallback', gettext_lazy('Fallback')),
                ('recover', gettext_lazy('Recover')),
            )
        ),
        Command(
            'restart', gettext_lazy('Restart services'), group_restart.start, form=group_restart.RestartForm,
            when=group_restart.hindrance, touches=actions.users_moved, danger=True,
            in_panel=True,
        ),
        Command('retry', gettext_lazy('Retry'), group_restart.retry, in_panel=True),
        Command('cancel', gettext_lazy('Cancel'), group_restart.cancel, danger=True, in_panel=True),
    ),
    sample=_sample,
    bad={
        'name': ('', 'a b', 'a.b', 'x' * 129),
        'description': ('R&D', 'x' * 129, '50%', 'a<b'),
        'server1': ('no such node',),
        'server2': ('no such node',),
    },
)  # fmt: skip
