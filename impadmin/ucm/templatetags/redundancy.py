"""What the page of a Presence Redundancy Group shows of its nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import template
from django.utils import timezone
from django.utils.translation import gettext as _

from engine.contract.recovery import DATABASE, TRANSITION, critical
from engine.contract.services import BY_KEY, XCP_ROUTER, State, parameter
from impadmin.console import access, jobs, registry
from impadmin.console.services import MARKS
from impadmin.system import maintenance, redundancy, replication
from impadmin.system.models import ParameterValue, RedundancyGroup, ServiceActivation
from impadmin.system.state import node_state, states
from impadmin.ucm import group_restart
from impadmin.ucm.redundancy_actions import SETTLE, VERBS

register = template.Library()
PAGE = 'presence-redundancy-groups'
MDM = 'enable_multi_device_messaging'
THRESHOLD = 'jsm_threshold_percent'


@register.simple_tag(takes_context=True)
def redundancy_state(context: Mapping[str, Any], group: RedundancyGroup) -> dict[str, Any]:
    """Nodes, cause and recommended action, buttons, notes."""
    now = redundancy.standing(group)
    advice = now.advice
    return {
        'state': now.state,
        'members': _members(now),
        'cause': advice[0] if advice else '',
        'steps': advice[1:],
        'buttons': _buttons(context['request'], now) if group.ha_enabled else [],
        'notes': [*_notes(group), *_capacity(now)],
        'restart': _restart(context['request'], group),
        'away': next((one for one in now.members if one.owner.pk != one.node.pk), None),
    }


def _members(now: redundancy.Standing) -> list[dict[str, Any]]:
    nodes = [member.node for member in now.members]
    found = states(nodes)
    activated: dict[int, list[str]] = {}
    for pk, key in ServiceActivation.objects.filter(node__in=nodes).values_list('node_id', 'service'):
        activated.setdefault(pk, []).append(key)
    return [
        {
            'member': member,
            'node': member.node,
            'contact': node_state(member.node),
            'reason': _(member.reason.value) if member.reason else '',
            'lent': sum(one.assigned for one in now.members if one is not member and one.owner.pk == member.node.pk),
            'owns': [one.node.name for one in now.members if one.owner.pk == member.node.pk],
            'percent': min(100, round(100 * member.sessions / member.assigned)) if member.assigned else 0,
            'moved': _moved(member),
            'services': list(_services(member, found, tuple(activated.get(member.node.pk, ())))),
        }
        for member in now.members
    ]


def _moved(member: redundancy.Member) -> tuple[int, int] | None:
    """(users moved, of how many) in the running step."""
    row = member.recovery if member.state in TRANSITION else None
    return (row.progress, row.total) if row and row.progress is not None and row.total else None


def _services(member: redundancy.Member, found: Mapping[Any, Any], activated: tuple[str, ...]) -> Any:
    """(name, mark, word, since) of each critical service, and of the database as the node sees it."""
    for key in critical(activated, authentication=False):
        if key in BY_KEY and (member.node.pk, key) in found:
            state, row = found[member.node.pk, key]
            yield _(BY_KEY[key].name), MARKS[state], _(str(state)), row.since if state == State.RUNNING else None
    known = member.recovery.critical.get(DATABASE) if member.state is not None and member.recovery else None
    if known is not None:
        yield _('Database'), *(('ok', _('Running')) if known.get('up') else ('bad', _('Failed'))), None


def _buttons(request: Any, now: redundancy.Standing) -> list[dict[str, Any]]:
    """Every command that this pair allows, with the nodes it is for; what is not possible stays and says why."""
    page, who = registry.page(PAGE), access.grants_of(request)
    needs = {
        'failover': _('Both nodes must be Normal.'),
        'fallback': _('One node must be Idle or Failed Over.'),
        'recover': _('Both nodes must be Running in Failed Mode.'),
        'restart': group_restart.hindrance(now.group),
    }
    result = []
    for command in getattr(page, 'commands', ()):
        if command.name not in needs or not access.may(who, page, f'do/{command.name}'):
            continue
        if command.name == 'restart':
            nodes = [] if needs['restart'] else ['']
        else:
            may = zip(now.members, now.orders, strict=True)
            nodes = [member.node.name for member, orders in may if VERBS[command.name] in orders]
        if command.name == 'recover':
            nodes = [''][: len(nodes)]
        result.append({'command': command, 'nodes': nodes, 'text': '' if nodes else needs[command.name]})
    return result


def _restart(request: Any, group: RedundancyGroup) -> dict[str, Any] | None:
    """The guided restart that is under way or has just ended."""
    job = group_restart.latest(group)
    if job is None:
        return None
    page, who = registry.page(PAGE), access.grants_of(request)
    names = ('retry', 'cancel') if maintenance.has_stopped(job) else ('cancel',)
    return {
        'job': job,
        'state': group_restart.state_of(job),
        'message': jobs.message_text(job),
        'services': ', '.join(_(BY_KEY[key].name) for key in job.parameters['services'] if key in BY_KEY),
        'commands': [
            command
            for command in (getattr(page, 'commands', ()) if maintenance.OPEN in job.parameters else ())
            if command.name in names and access.may(who, page, f'do/{command.name}')
        ],
    }


def _capacity(now: redundancy.Standing) -> list[tuple[str, str]]:
    """Active-active: each node bears half of what it was sized for, and the alert must be set to it (guide 7010)."""
    if not now.group.ha_enabled or not all(member.assigned for member in now.members):
        return []
    rows = ParameterValue.objects.filter(service=XCP_ROUTER, name=THRESHOLD, node__in=now.group.nodes)
    set_to = dict(rows.values_list('node_id', 'value'))
    default = parameter(XCP_ROUTER, THRESHOLD).default
    high = [one.node.name for one in now.members if set_to.get(one.node.pk, default) > 50]
    text = _(
        'Both nodes have users, so each may use half of its rated sessions. Halve JSM sessions threshold on: %(nodes)s.'
    )
    return [('info', text % {'nodes': ', '.join(high)})] if high else []


def _notes(group: RedundancyGroup) -> list[tuple[str, str]]:
    """(mark, text) of what somebody should know."""
    found = []
    pairs = RedundancyGroup.objects.exclude(server2=None)
    if group.server2_id and pairs.filter(ha_enabled=not group.ha_enabled).exists():
        found.append(('info', _('Some groups have High Availability and others not. This is not recommended.')))
    if group.ha_enabled:
        stored = ParameterValue.objects.filter(service=XCP_ROUTER, name=MDM, node=None).first()
        if (stored.value if stored else parameter(XCP_ROUTER, MDM).default) == 'enabled':
            found.append(('info', _('Multi-Device Messaging is on: a failover usually takes twice as long.')))
    if group.ha_changed_at is not None:
        waits = [one.node.name for one in replication.replicas(group.nodes) if one.setup != replication.GOOD]
        if waits:
            text = _('The change of High Availability is not in force yet on: %(nodes)s.')
            found.append(('busy', text % {'nodes': ', '.join(waits)}))
        elif timezone.now() - group.ha_changed_at < SETTLE:
            found.append(('ok', _('The change of High Availability is in force on every node.')))
    return found
