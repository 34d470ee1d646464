"""Presence Topology, Notifications and the list of supported standards."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _

from engine.contract.messages import decode
from engine.contract.services import BY_KEY, State
from engine.contract.standards import STANDARDS
from impadmin.console import access, context, notifications, registry
from impadmin.console.page import ViewPage
from impadmin.console.registry import page_url
from impadmin.system import assigned, redundancy
from impadmin.system.models import Node
from impadmin.system.state import MARKS, in_contact, node_state, states


def _topology() -> dict[str, Any]:
    """Every node with state, assigned users and sessions; the unassigned users."""
    nodes = list(Node.objects.order_by('-publisher', 'name').defer('link_certificate'))
    now, users = states(nodes), assigned.by_node()
    groups = {member.node.pk: (one, member) for one in redundancy.standings() for member in one.members}
    rows = []
    for node in nodes:
        group, member = groups.get(node.pk, (None, None))
        alive, people = in_contact(node), users.get(node.pk, assigned.NOBODY)
        services = [
            {
                'key': key,
                'name': _(BY_KEY[key].name),
                'state': str(state),
                'word': _(str(state)),
                'mark': MARKS[state],
                'detail': decode(row.detail, _) if row else '',
            }
            for (pk, key), (state, row) in now.items()
            if pk == node.pk
        ]
        rows.append(
            {
                'node': node,
                'state': node_state(node, any(one['state'] in (State.FAILED, State.STOPPED) for one in services)),
                'alive': alive,
                'group': group.group if group is not None else None,
                'member': member,
                'assigned': people.every,
                'enabled': people.live,
                'sessions': node.sessions if alive else 0,
                'online': node.users_online if alive else 0,
                'percent': min(100, round(100 * node.users_online / people.live)) if alive and people.live else 0,
                'services': services,
                'problems': [service for service in services if service['mark'] in ('bad', 'busy')],
            }
        )
    return {'rows': rows, 'unassigned': users.get(None, assigned.NOBODY).live}


def presence_topology(request: HttpRequest, page: ViewPage) -> HttpResponse:
    """Nodes and their users."""
    found = _topology()
    context = {
        'page': page,
        **found,
        'total_online': sum(row['online'] for row in found['rows']),
        'total_sessions': sum(row['sessions'] for row in found['rows']),
        'assign_url': page_url('assign-presence-users'),
        'users_url': page_url('end-users'),
        'may_write': access.may(access.grants_of(request), registry.page('assign-presence-users'), 'do/assign'),
        'total_assigned': sum(row['assigned'] for row in found['rows']),
    }
    return render(request, 'system/presence_topology.html', context)


def presence_topology_api(request: HttpRequest) -> dict[str, Any]:
    """The same as JSON."""
    found = _topology()
    return {
        'unassigned_users': found['unassigned'],
        'nodes': [
            {
                'name': row['node'].name,
                'address': row['node'].address,
                'publisher': row['node'].publisher,
                'state': str(row['state'][1]),
                'redundancy_group': row['group'].name if row['group'] else '',
                'server_state': row['member'].state.value if row['member'] and row['member'].state else '',
                'active_sessions': row['member'].sessions if row['member'] else 0,
                'assigned_users': row['assigned'],
                'enabled_users': row['enabled'],
                'users_online': row['online'],
                'sessions': row['sessions'],
                'services': [{name: service[name] for name in ('key', 'name', 'state')} for service in row['services']],
            }
            for row in found['rows']
        ],
    }


def notifications_page(request: HttpRequest, page: ViewPage) -> HttpResponse:
    """Everything that needs attention, by cause."""
    found = notifications.of(request)
    nodes = set(Node.objects.values_list('name', flat=True))
    guided = access.may(access.grants_of(request), registry.page('presence-redundancy-groups'), 'do/restart')
    groups = [group for group in redundancy.groups() if group.ha_enabled] if guided else []
    causes = []
    for cause in context.causes(found):
        members = [
            one
            for one in found
            if (one.severity, one.rule, one.node in cause.nodes) == (cause.severity, cause.rule, True) and one.service
        ]
        services = list(dict.fromkeys(one.service for one in members if one.kind == 'restart'))
        network = services and all(BY_KEY[service].kind == 'network' for service in services if service in BY_KEY)
        causes.append(
            {
                **{name: getattr(cause, name) for name in ('severity', 'mark', 'title', 'text', 'since', 'nodes')},
                'page': cause.page,
                'url': cause.url,
                'rule': next((one.rule for one in members), ''),
                'services': services,
                'changes': list(dict.fromkeys(change for one in members for change in one.changes)),
                'targets': [
                    f'{one.node}:{one.service}' for one in members if one.kind == 'restart' and one.node in nodes
                ],
                'groups': [
                    group for group in groups if services and any(node.name in cause.nodes for node in group.nodes)
                ],
                'control_center': page_url('control-center-network' if network else 'control-center'),
            }
        )
    values = {
        'page': page,
        'notifications': found,
        'causes': causes,
        'may_restart': access.may(access.grants_of(request), registry.page('control-center'), 'do/restart'),
    }
    return render(request, 'system/notifications.html', values)


def notifications_api(request: HttpRequest) -> dict[str, Any]:
    """The same as JSON."""
    return notifications.as_json(request)


def standards_page(request: HttpRequest, page: ViewPage) -> HttpResponse:
    """The RFCs and XEPs the engine implements."""
    return render(request, 'system/standards.html', {'page': page, 'standards': STANDARDS})


def standards_api(request: HttpRequest) -> dict[str, Any]:
    """The same as JSON."""
    return {'standards': [standard._asdict() for standard in STANDARDS]}
