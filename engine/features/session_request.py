"""The session request of RFC 3921 3: the session exists since resource binding, so there is nothing to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.features.registry import iq
from engine.xmpp import ns
from engine.xmpp.stanza import iq_result

if TYPE_CHECKING:
    from engine.services.xcp_router.router import XcpRouter
    from engine.session import Session
    from engine.xmpp.stanza import Stanza


@iq.on('set', ns.SESSION, 'session', 'host', 'self')
def on_session(session: Session, stanza: Stanza, router: XcpRouter) -> bytes:
    """Done already."""
    return iq_result(stanza)
