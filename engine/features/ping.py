"""XEP-0199: answer pings addressed to the server or to the own account."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.features.registry import iq, xep
from engine.xmpp import ns
from engine.xmpp.stanza import iq_result

if TYPE_CHECKING:
    from engine.services.xcp_router.router import XcpRouter
    from engine.session import Session
    from engine.xmpp.stanza import Stanza

XEP = xep(199, '2.0.1', server=(ns.PING,), account=(ns.PING,))


@iq.on('get', ns.PING, 'ping', 'host', 'self')
def on_ping(session: Session, stanza: Stanza, router: XcpRouter) -> bytes:
    """Yes, still here."""
    return iq_result(stanza)
