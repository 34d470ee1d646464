"""What checks and cards know of the cluster, each asked once per request."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from django.utils import timezone

from engine.contract.services import BY_KEY, State
from impadmin.console import notifications
from impadmin.osadmin.models import Certificate, Kind
from impadmin.system.models import Node, ServiceStatus
from impadmin.system.state import in_contact, states


@dataclass(frozen=True, slots=True)
class Cluster:
    """The nodes, the publisher first, and the state of every service on each."""

    nodes: list[Node]
    states: dict[tuple[int, str], tuple[State, ServiceStatus | None]]

    def alive(self) -> list[Node]:
        """The nodes that report."""
        return [node for node in self.nodes if in_contact(node)]

    def services(self) -> Iterator[tuple[Node, str, State, ServiceStatus | None]]:
        """(node, service key, state, row) of every activated service on the nodes that report."""
        for node in self.alive():
            for (pk, key), (state, row) in self.states.items():
                if pk == node.pk and state != State.NOT_ACTIVATED:
                    yield node, key, state, row


def cluster() -> Cluster:
    """Nodes and states: three queries."""
    nodes = list(Node.objects.order_by('-publisher', 'name').defer('link_certificate'))
    return Cluster(nodes, states(nodes))


def active() -> list[notifications.Notification]:
    """Active Notifications, whoever may see them."""
    return notifications.active()


def certificates() -> list[Certificate]:
    """What nodes show, the first to expire first."""
    return list(Certificate.objects.filter(kind=Kind.IDENTITY).select_related('node').order_by('ends_at'))


def days_left(at: datetime) -> int:
    """Whole days until ``at``; negative when it is past."""
    return (at - timezone.now()).days


def is_xcp(key: str) -> bool:
    """Whether the service is one of the XCP services."""
    return BY_KEY[key].name.startswith('Cisco XCP')
