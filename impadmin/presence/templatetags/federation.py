"""Where XMPP federation runs."""

from __future__ import annotations

from typing import Any

from django import template
from django.utils.translation import gettext

from engine.contract.messages import decode
from engine.contract.services import FEDERATION_MANAGER, State
from impadmin.system.models import Node, ServiceActivation, ServiceStatus

register = template.Library()


@register.simple_tag
def federation_nodes() -> list[dict[str, Any]]:
    """Every node: name, mark, state and detail of Cisco XCP XMPP Federation Connection Manager."""
    active = set(ServiceActivation.objects.filter(service=FEDERATION_MANAGER).values_list('node_id', flat=True))
    states = {row.node_id: row for row in ServiceStatus.objects.filter(service=FEDERATION_MANAGER)}
    found = []
    for node in Node.objects.order_by('name'):
        status = states.get(node.pk)
        state = str(State.NOT_ACTIVATED) if node.pk not in active else status.state if status else str(State.STOPPED)
        mark = {State.RUNNING: 'ok', State.FAILED: 'bad', State.NOT_ACTIVATED: 'off'}.get(State(state), 'busy')
        detail = decode(status.detail, gettext) if status is not None and node.pk in active else ''
        found.append({'name': node.name, 'mark': mark, 'state': gettext(state), 'detail': detail})
    return found
