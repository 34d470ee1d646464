"""Commands of the Control Center and of Service Activation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from engine.contract.services import BY_KEY, SERVICES
from impadmin.console import generations
from impadmin.console.actions import Actor, Refused
from impadmin.console.page import Result
from impadmin.console.registry import page_url
from impadmin.console.rehearsal import of_nodes, rehearses
from impadmin.serviceability import commands
from impadmin.serviceability.forms import ServiceForm
from impadmin.system import redundancy
from impadmin.system.models import Node, ServiceActivation

TOLD = 5
"""Services a message names one by one."""


def service_command(verb: str) -> Callable[[Actor, Sequence[Any], Mapping[str, Any]], Result]:
    """The ``run`` of start, stop or restart: queues the commands for the nodes and gives their ids to follow. What is
    not possible is left out and told; when nothing is possible it is Refused."""

    def run(actor: Actor, objects: Sequence[Any], data: Mapping[str, Any]) -> Result:
        made, told, impact, refused = [], [], [], []
        for node, service in ServiceForm.chosen(data):
            shown = {'service': _(BY_KEY[service].name), 'node': node.name}
            name = _('%(service)s on %(node)s') % shown
            if reason := commands.why_not(node, service, verb):
                refused.append((name, reason))
                continue
            if consequence := commands.consequence(node, service, verb):
                impact.append((f'{name}: {consequence}', None))
            if verb != 'start' and (warning := redundancy.failover_follows(node, service)):
                impact.append((f'{name}: {warning}', None))
            command = commands.queue(actor.name, node, service, verb)
            made.append({'command': command.pk, 'node': node.name, 'service': service, 'verb': verb})
            text = {
                'start': _('%(service)s on %(node)s is being started.'),
                'stop': _('%(service)s on %(node)s is being stopped.'),
                'restart': _('%(service)s on %(node)s is being restarted.'),
            }[verb]
            told.append(text % shown)
        if not made:
            raise Refused(' '.join(reason for _name, reason in refused[:TOLD]))
        told[TOLD:] = [_('And %(count)d more.') % {'count': len(told) - TOLD}] if len(told) > TOLD else []
        told += [] if rehearses() else [f'{name}: {reason}' for name, reason in refused[:TOLD]]
        return Result(
            ' '.join(told),
            data={'commands': made, **(made[0] if len(made) == 1 else {})},
            impact=impact,
            refused=refused,
        )

    return run


def users_of_chosen(objects: Sequence[Any], data: Mapping[str, Any]) -> int:
    """How many users the chosen nodes serve."""
    return of_nodes(list({node.pk: node for node, _service in ServiceForm.chosen(data)}.values()))


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
    changed = sorted(present ^ wanted)
    return Result(
        _('Service activation of %(node)s is saved.') % {'node': node.name},
        url=page_url('service-activation') + '?' + urlencode({'node': node.name}),
        changed=({key: key in present for key in changed}, {key: key in wanted for key in changed}),
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
