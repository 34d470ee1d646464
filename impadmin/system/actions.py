"""Writers of nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext as _

from engine.contract.services import SERVICES
from impadmin.console.actions import Actor, Refused
from impadmin.system.models import Node, ServiceActivation
from impadmin.system.rules import node_is_needed


def create_node(actor: Actor, values: Mapping[str, Any]) -> Node:
    """Add a node with the services that work after an installation activated. The first node is the publisher."""
    node = Node(**values)
    node.publisher = not Node.objects.filter(publisher=True).exists()
    node.save()
    ServiceActivation.objects.bulk_create(
        ServiceActivation(node=node, service=service.key)
        for service in SERVICES
        if service.kind == 'feature' and service.default_active and (node.publisher or not service.publisher_only)
    )
    return node


def delete_node(actor: Actor, node: Node) -> None:
    """Remove a node that nobody needs any more."""
    if reason := node_is_needed(node):
        raise Refused(_('%(node)s cannot be deleted: %(reason)s') % {'node': node.name, 'reason': reason})
    node.delete()
