"""IP networks as text: what parameters name them by."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network


@lru_cache(maxsize=100)
def networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    """The networks and addresses of a list separated by commas. Raises ValueError naming the one that is none."""
    return tuple(ip_network(part.strip()) for part in text.split(',') if part.strip())
