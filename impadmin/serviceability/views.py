"""Control Center (Feature and Network Services) and Service Activation."""

from __future__ import annotations

from collections import Counter
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _

from engine.contract.messages import decode
from engine.contract.services import BY_KEY, SERVICES, State
from impadmin.console import access, notifications
from impadmin.console.actions import Refused
from impadmin.console.page import ViewPage
from impadmin.console.registry import page_url
from impadmin.console.templatetags.console import age
from impadmin.serviceability import actions as serviceability_actions
from impadmin.serviceability import commands
from impadmin.system.models import Node, ServiceActivation, ServiceCommand
from impadmin.system.state import MARKS, in_contact, node_state, states

FEATURE, NETWORK = 'feature', 'network'
_MOVING = {'start': State.STARTING, 'stop': State.STOPPING, 'restart': State.STOPPING}


def restarts_needed() -> set[tuple[str, str]]:
    """(node name, service key) of every pending restart."""
    return {(one.node, one.service) for one in notifications.active() if one.kind == 'restart' and one.service}


def words() -> dict[State, str]:
    """The states in the active language."""
    return {
        State.NOT_ACTIVATED: _('Not Activated'),
        State.STOPPED: _('Stopped'),
        State.STARTING: _('Starting'),
        State.RUNNING: _('Running'),
        State.STOPPING: _('Stopping'),
        State.FAILED: _('Failed'),
    }


def matrix(kind: str = '') -> dict[str, Any]:
    """Rows of services by group, one cell per node, and how many cells are in which condition."""
    nodes = list(Node.objects.order_by('-publisher', 'name'))
    now = states(nodes)
    needed = restarts_needed()
    names = words()
    queued = {
        (command.node_id, command.service): command
        for command in ServiceCommand.objects.filter(node__in=nodes, finished_at=None, verb__in=_MOVING).order_by('id')
    }
    counts: Counter[str] = Counter()
    groups: dict[str, list[dict[str, Any]]] = {}
    for service in SERVICES:
        if kind and service.kind != kind:
            continue
        cells = []
        for node in nodes:
            found = now.get((node.pk, service.key))
            if found is None:
                cells.append(None)
                continue
            state, row = found
            command = queued.get((node.pk, service.key)) if in_contact(node) else None
            if command is not None:
                state = _MOVING[command.verb]
            restart = state == State.RUNNING and (node.name, service.key) in needed
            mark = 'warn' if restart else MARKS[state]
            word = _('Restart needed') if restart else names[state]
            since = row.since if row is not None and state == State.RUNNING else None
            counts['restart' if restart else str(state)] += 1
            cells.append(
                {
                    'node': node,
                    'value': f'{node.name}:{service.key}',
                    'mark': mark,
                    'word': word,
                    'state': str(state),
                    'since': since,
                    'text': word if restart or since is None else age(since),
                    'detail': decode(row.detail, _) if row is not None and in_contact(node) else '',
                    'restart': restart,
                    'live': f'service:{node.name}:{service.key}',
                }
            )
        if any(cell is not None for cell in cells):
            groups.setdefault(service.group, []).append({'service': service, 'cells': cells})
    return {
        'nodes': [{'node': node, 'state': node_state(node), 'live': f'node:{node.name}'} for node in nodes],
        'groups': [{'title': _(title), 'rows': rows} for title, rows in groups.items()],
        'counts': [
            (mark, word, counts[key])
            for key, mark, word in (
                ('Running', 'ok', _('running')),
                ('restart', 'warn', _('to be restarted')),
                ('Starting', 'busy', _('starting')),
                ('Stopping', 'busy', _('stopping')),
                ('Failed', 'bad', _('failed')),
                ('Stopped', 'off', _('stopped')),
                ('Not Activated', 'off', _('not activated')),
            )
            if counts[key]
        ],
        'busy': bool(counts['Starting'] or counts['Stopping']),
    }


def feature_services(request: HttpRequest, page: ViewPage) -> HttpResponse:
    """Tools > Control Center - Feature Services."""
    return _control_center(request, page, FEATURE)


def network_services(request: HttpRequest, page: ViewPage) -> HttpResponse:
    """Tools > Control Center - Network Services."""
    return _control_center(request, page, NETWORK)


def _control_center(request: HttpRequest, page: ViewPage, kind: str) -> HttpResponse:
    if wanted := request.GET.get('cell'):
        return _cell(request, wanted)
    who = access.grants_of(request)
    context = {
        'page': page,
        'kind': kind,
        'verbs': [command for command in page.commands if access.may(who, page, f'do/{command.name}')],
        'feature_url': page_url('control-center'),
        'network_url': page_url('control-center-network'),
        **matrix(kind),
    }
    return render(request, 'serviceability/control_center.html', context)


def _cell(request: HttpRequest, wanted: str) -> HttpResponse:
    """The state of one service on one node, asked for again when it changed."""
    for group in matrix()['groups']:
        for row in group['rows']:
            for cell in row['cells']:
                if cell is not None and cell['value'] == wanted:
                    return render(request, 'serviceability/cell.html', {'cell': cell})
    raise Http404


def control_center_api(request: HttpRequest) -> dict[str, Any]:
    """Every service on every node; with ``?command=ID`` the outcome of one command."""
    if (wanted := request.GET.get('command', '')) != '':
        command = (
            ServiceCommand.objects.select_related('node').filter(pk=int(wanted)).first() if wanted.isdigit() else None
        )
        if command is None:
            raise Refused(_('There is no command %(id)s.') % {'id': wanted})
        return {
            'command': command.pk,
            'node': command.node.name,
            'service': command.service,
            'verb': command.verb,
            'outcome': commands.outcome(command),
            'error': decode(command.error, _) if command.finished_at else '',
            'requested_by': command.requested_by,
            'requested_at': command.requested_at,
            'finished_at': command.finished_at,
        }
    found = matrix()
    return {
        'services': [
            {
                'node': cell['node'].name,
                'service': row['service'].key,
                'name': row['service'].name,
                'kind': row['service'].kind,
                'state': cell['state'],
                'restart_needed': cell['restart'],
                'since': cell['since'],
                'detail': cell['detail'],
            }
            for group in found['groups']
            for row in group['rows']
            for cell in row['cells']
            if cell is not None
        ]
    }


# ---- Service Activation


def service_activation(request: HttpRequest, page: ViewPage) -> HttpResponse:
    """Check boxes of the feature services of one server."""
    who = access.grants_of(request)
    nodes = list(Node.objects.order_by('-publisher', 'name'))
    name = request.GET.get('node', '')
    node = next((node for node in nodes if node.name == name), nodes[0] if nodes else None)
    may = {command.name: command for command in page.commands if access.may(who, page, f'do/{command.name}')}
    context = {
        'page': page,
        'nodes': nodes,
        'node': node,
        'save': may.get('save'),
        'set_to_default': may.get('set-default'),
        'groups': _activation(node) if node else [],
    }
    return render(request, 'serviceability/activation.html', context)


def _activation(node: Node) -> list[dict[str, Any]]:
    activated = set(ServiceActivation.objects.filter(node=node).values_list('service', flat=True))
    now = states([node])
    names = words()
    groups: dict[str, list[dict[str, Any]]] = {}
    for key in serviceability_actions.activatable(node):
        service = BY_KEY[key]
        state = now[node.pk, key][0]
        groups.setdefault(service.group, []).append(
            {
                'service': service,
                'activated': key in activated,
                'mark': MARKS[state],
                'word': names[state],
                'live': f'service:{node.name}:{key}',
            }
        )
    return [{'title': _(title), 'rows': rows} for title, rows in groups.items()]


def activation_api(request: HttpRequest) -> dict[str, Any]:
    """Which feature services are activated where."""
    activated = set(ServiceActivation.objects.values_list('node_id', 'service'))
    return {
        'nodes': [
            {
                'node': node.name,
                'services': {key: (node.pk, key) in activated for key in serviceability_actions.activatable(node)},
            }
            for node in Node.objects.order_by('-publisher', 'name')
        ]
    }
