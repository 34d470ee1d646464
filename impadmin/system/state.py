"""What the console knows of nodes and services right now."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta

from django.utils import timezone
from django.utils.translation import gettext as _

from engine.contract.services import BY_KEY, SERVICES, Service, State
from impadmin.console.services import MARKS, register_source
from impadmin.system.models import Node, ServiceActivation, ServiceStatus

__all__ = ['MARKS', 'STALE_AFTER', 'in_contact', 'is_running', 'node_state', 'services_of', 'states']

STALE_AFTER = timedelta(seconds=15)
"""A node that has not been heard from for this long is taken for gone."""


def in_contact(node: Node) -> bool:
    """Whether the engine of ``node`` has been heard from lately."""
    return node.heartbeat_at is not None and timezone.now() - node.heartbeat_at < STALE_AFTER


def services_of(node: Node) -> list[Service]:
    """The services that exist on ``node``: publisher-only ones exist on the publisher."""
    return [service for service in SERVICES if node.publisher or not service.publisher_only]


def service_state(node: Node, service: str, status: ServiceStatus | None, activated: bool) -> State:
    """The state to show: a node that is gone runs nothing."""
    if BY_KEY[service].kind == 'feature' and not activated and (status is None or status.state != State.RUNNING):
        return State.NOT_ACTIVATED
    if status is None or not in_contact(node):
        return State.STOPPED
    return State(status.state)


def states(nodes: Iterable[Node]) -> dict[tuple[int, str], tuple[State, ServiceStatus | None]]:
    """(node id, service key) -> (state, the row the node wrote), two queries for all nodes."""
    nodes = list(nodes)
    statuses = {(row.node_id, row.service): row for row in ServiceStatus.objects.filter(node__in=nodes)}
    activated = set(ServiceActivation.objects.filter(node__in=nodes).values_list('node_id', 'service'))
    return {
        (node.pk, service.key): (
            service_state(node, service.key, statuses.get((node.pk, service.key)), (node.pk, service.key) in activated),
            statuses.get((node.pk, service.key)),
        )
        for node in nodes
        for service in services_of(node)
    }


@register_source
def of_services(keys: Sequence[str]) -> dict[str, dict[str, State]]:
    """Service key -> node name -> state: three queries."""
    nodes = {node.pk: node for node in Node.objects.defer('link_certificate')}
    found: dict[str, dict[str, State]] = {key: {} for key in keys}
    for (pk, key), (state, _row) in states(nodes.values()).items():
        if key in found:
            found[key][nodes[pk].name] = state
    return found


def node_state(node: Node, broken: bool | None = None) -> tuple[str, str]:
    """(mark, word) of one node; ``broken``: whether an activated service does not run, where that is known already."""
    if node.heartbeat_at is None:
        return 'off', _('Never started')
    if not in_contact(node):
        return 'bad', _('No contact')
    if broken is None:
        broken = any(state in (State.FAILED, State.STOPPED) for state, _row in states([node]).values())
    return ('warn', _('Services stopped')) if broken else ('ok', _('Running'))


def is_running(service: str, node: Node | None = None) -> bool:
    """Whether ``service`` runs on ``node``, by default on the publisher."""
    node = node or Node.objects.filter(publisher=True).first()
    if node is None or not in_contact(node):
        return False
    return ServiceStatus.objects.filter(node=node, service=service, state=State.RUNNING).exists()
