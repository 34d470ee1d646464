"""Commands of the Control Center and of Service Activation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from engine.contract.services import BY_KEY, SERVICES
from impadmin.console import generations
from impadmin.console.actions import Actor
from impadmin.console.page import Result
from impadmin.console.rehearsal import of_nodes
from impadmin.serviceability import commands
from impadmin.system.models import Node, ServiceActivation


def service_command(verb: str) -> Callable[[Actor, Sequence[Any], Mapping[str, Any]], Result]:
    """The ``run`` of start, stop or restart: queues the command for the node and gives its id to follow."""

    def run(actor: Actor, objects: Sequence[Any], data: Mapping[str, Any]) -> Result:
        node, service = data['node'], data['service']
        command = commands.request(actor.name, node, service, verb)
        text = {
            'start': _('%(service)s on %(node)s is being started.'),
            'stop': _('%(service)s on %(node)s is being stopped.'),
            'restart': _('%(service)s on %(node)s is being restarted.'),
        }[verb]
        return Result(
            text % {'service': _(BY_KEY[service].name), 'node': node.name},
            data={'command': command.pk, 'node': node.name, 'service': service, 'verb': verb},
        )

    return run


def users_of_node(objects: Sequence[Any], data: Mapping[str, Any]) -> int:
    """How many users the chosen node serves."""
    return of_nodes([data['node']])


def activatable(node: Node) -> list[str]:
    """Keys of the feature services that can be activated on ``node``."""
    return [
        service.key
        for service in SERVICES
        if service.kind == 'feature' and (node.publisher or not service.publisher_only)
    ]


def save_activation(actor: Actor, objects: Sequence[Any], data: Mapping[str, Any]) -> Result:
    """Activate exactly these feature services on a node; the node starts and stops what changed."""
    node, wanted = data['node'], set(data['services'])
    if elsewhere := sorted(wanted - set(activatable(node))):
        raise ValidationError(
            {
                'services': _('%(service)s exists on the publisher only, not on %(node)s.')
                % {'service': _(BY_KEY[elsewhere[0]].name), 'node': node.name}
            }
        )
    list(Node.objects.select_for_update().filter(pk=node.pk))
    present = set(ServiceActivation.objects.filter(node=node).values_list('service', flat=True))
    ServiceActivation.objects.filter(node=node, service__in=present - wanted).delete()
    ServiceActivation.objects.bulk_create(
        ServiceActivation(node=node, service=service) for service in sorted(wanted - present)
    )
    generations.store_if_changed()
    return Result(
        _('Service activation of %(node)s is saved.') % {'node': node.name},
        data={
            'node': node.name,
            'activated': sorted(wanted - present),
            'deactivated': sorted(present - wanted),
            'services': sorted(wanted),
        },
    )


def set_to_default(actor: Actor, objects: Sequence[Any], data: Mapping[str, Any]) -> Result:
    """Activate what a fresh node has."""
    node = data['node']
    services = [key for key in activatable(node) if BY_KEY[key].default_active]
    return save_activation(actor, objects, {'node': node, 'services': services})
