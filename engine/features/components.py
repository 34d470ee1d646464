"""XEP-0114: programs that serve a domain of their own. The work is in services/xcp_router/components.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.features.registry import router_configured, router_started, router_stopped, server_items, xep
from engine.services.xcp_router.components import Components

if TYPE_CHECKING:
    from engine.services.xcp_router.router import XcpRouter

XEP = xep(114, '1.6')
_COMPONENTS: dict[XcpRouter, Components] = {}


@router_started.on(-10)
def on_start(router: XcpRouter) -> None:
    """After the services of the router itself, whose domains come first."""
    _COMPONENTS[router] = Components(router)
    _COMPONENTS[router].configure()


@router_configured.on()
def on_configure(router: XcpRouter) -> None:
    """Components are taken live."""
    if router in _COMPONENTS:
        _COMPONENTS[router].configure()


@router_stopped.on()
def on_stop(router: XcpRouter) -> None:
    """They go with their router."""
    if components := _COMPONENTS.pop(router, None):
        components.stop()


@server_items.on()
def on_server_items(router: XcpRouter) -> bytes | None:
    """The server names its components."""
    components = _COMPONENTS.get(router)
    return components.items() or None if components is not None else None
