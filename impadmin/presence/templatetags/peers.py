"""What the panel of a peer shows."""

from __future__ import annotations

from typing import Any

from django import template

from impadmin.presence import peers
from impadmin.presence.models import InterclusterPeer

register = template.Library()


@register.simple_tag
def peer_facts(peer: InterclusterPeer) -> dict[str, Any]:
    """State, links and domains of a peer cluster."""
    return peers.facts(peer)
