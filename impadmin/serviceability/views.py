"""Control Center (Feature and Network Services) and Service Activation."""

from __future__ import annotations

from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _

from engine.contract.messages import decode
from engine.contract.services import BY_KEY
from impadmin.console import access
from impadmin.console.actions import Refused
from impadmin.console.page import ViewPage
from impadmin.console.registry import page_url
from impadmin.serviceability import actions as serviceability_actions
from impadmin.serviceability import commands
from impadmin.serviceability.matrix import WORDS, matrix
from impadmin.system.models import Node, ServiceActivation, ServiceCommand
from impadmin.system.state import MARKS, states

FEATURE, NETWORK = 'feature', 'network'


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
        'matrix': matrix(kind),
    }
    return render(request, 'serviceability/control_center.html', context)


def _cell(request: HttpRequest, wanted: str) -> HttpResponse:
    """The state of one service on one node, asked for again when it changed."""
    for cell in matrix().cells():
        if cell.value == wanted:
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
    return {
        'services': [
            {
                'node': cell.node.name,
                'service': cell.service.key,
                'name': cell.service.name,
                'kind': cell.service.kind,
                'state': cell.state,
                'restart_needed': cell.restart,
                'since': cell.since,
                'detail': cell.detail,
            }
            for cell in matrix().cells()
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
    groups: dict[str, list[dict[str, Any]]] = {}
    for key in serviceability_actions.activatable(node):
        service = BY_KEY[key]
        state = now[node.pk, key][0]
        groups.setdefault(service.group, []).append(
            {
                'service': service,
                'activated': key in activated,
                'mark': MARKS[state],
                'word': WORDS[state],
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
