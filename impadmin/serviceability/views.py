"""Control Center (Feature and Network Services) and Service Activation."""

from __future__ import annotations

from collections import Counter
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.utils.translation import gettext as _

from engine.contract.messages import decode
from engine.contract.services import BY_KEY, SERVICES, State
from impadmin.console import access, actions, notifications
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
        for command in ServiceCommand.objects.filter(node__in=nodes, finished_at=None).order_by('id')
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
                    'value': f'{node.pk}:{service.key}',
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


def _chosen(values: list[str]) -> list[tuple[Node, str]]:
    """The cells of the form; what is not there any more is left out."""
    nodes = {node.pk: node for node in Node.objects.all()}
    found = []
    for value in values:
        pk, _colon, service = value.partition(':')
        if pk.isdigit() and int(pk) in nodes and service in BY_KEY:
            found.append((nodes[int(pk)], service))
    order = list(BY_KEY)
    return sorted(found, key=lambda entry: (order.index(entry[1]), entry[0].pk))


def feature_services(request: HttpRequest, page: ViewPage) -> HttpResponse:
    """Tools > Control Center - Feature Services."""
    return _control_center(request, page, FEATURE)


def network_services(request: HttpRequest, page: ViewPage) -> HttpResponse:
    """Tools > Control Center - Network Services."""
    return _control_center(request, page, NETWORK)


def _control_center(request: HttpRequest, page: ViewPage, kind: str) -> HttpResponse:
    writes = access.may_write(access.grants_of(request), page)
    if request.method == 'POST':
        if not writes:
            raise PermissionDenied(_('Your role may see the services but not start or stop them.'))
        return _act(request, page)
    if wanted := request.GET.get('cell'):
        return _cell(request, wanted)
    context = {
        'page': page,
        'kind': kind,
        'writes': writes,
        'verb_labels': verb_labels(),
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


def verb_labels() -> dict[str, str]:
    """The buttons."""
    return {'start': _('Start'), 'stop': _('Stop'), 'restart': _('Restart')}


def _act(request: HttpRequest, page: ViewPage) -> HttpResponse:
    """First the consequence, then, confirmed, the commands."""
    here = page_url(page)
    verb = request.POST.get('verb', '')
    cells = _chosen(request.POST.getlist('cell'))
    if verb not in commands.VERBS or not cells:
        messages.info(request, _('Select at least one service on one node, then choose what to do.'))
        return HttpResponseRedirect(here)
    if request.POST.get('confirmed') != '1':
        context = {
            'page': page,
            'verb': verb,
            'verb_label': verb_labels()[verb],
            'back': here,
            'cells': [
                {
                    'value': f'{node.pk}:{service}',
                    'node': node,
                    'service': BY_KEY[service],
                    'consequence': commands.consequence(node, service, verb),
                    'why_not': commands.why_not(node, service, verb),
                }
                for node, service in cells
            ],
        }
        context['possible'] = any(not cell['why_not'] for cell in context['cells'])
        return render(request, 'serviceability/confirm.html', context)
    command = next(command for command in page.commands if command.name == verb)
    for node, service in cells:
        try:
            result = actions.do_command(
                actions.actor_of(request), page, command, [], {'node': node, 'service': service}
            )
            messages.success(request, str(result.message))
        except Refused as error:
            messages.error(request, str(error))
    return HttpResponseRedirect(here)


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
    writes = access.may_write(access.grants_of(request), page)
    nodes = list(Node.objects.order_by('-publisher', 'name'))
    name = request.POST.get('node') or request.GET.get('node', '')
    node = next((node for node in nodes if node.name == name), nodes[0] if nodes else None)
    errors: list[str] = []
    if request.method == 'POST':
        if not writes:
            raise PermissionDenied(_('Your role may see the services but not activate them.'))
        chosen = 'set-default' if 'set-default' in request.POST else 'save'
        command = next(command for command in page.commands if command.name == chosen)
        if node is not None and command.form is not None:
            form = command.form(request.POST)
            if form.is_valid():
                try:
                    result = actions.do_command(actions.actor_of(request), page, command, [], form.cleaned_data)
                except (Refused, ValidationError) as error:
                    errors = error.messages if isinstance(error, ValidationError) else [str(error)]
                else:
                    messages.success(request, str(result.message))
                    return HttpResponseRedirect(f'{page_url(page)}?node={node.name}')
            else:
                errors = [str(text) for texts in form.errors.values() for text in texts]
    context = {
        'page': page,
        'nodes': nodes,
        'node': node,
        'errors': errors,
        'writes': writes,
        'groups': _activation(node) if node else [],
    }
    return render(request, 'serviceability/activation.html', context, status=422 if errors else 200)


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
