"""XEP-0202: time of the server, in the format of XEP-0082."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from engine.features.registry import iq, xep
from engine.xmpp import ns
from engine.xmpp.stanza import iq_result, timestamp

if TYPE_CHECKING:
    from engine.services.xcp_router.router import XcpRouter
    from engine.session import Session
    from engine.xmpp.stanza import Stanza

XEP = xep(202, '2.0', server=(ns.TIME,))


@iq.on('get', ns.TIME, 'time', 'host')
def on_time(session: Session, stanza: Stanza, router: XcpRouter) -> bytes:
    """UTC and the server's offset from it."""
    now = datetime.now(UTC)
    offset = now.astimezone().strftime('%z')
    payload = f"<time xmlns='{ns.TIME}'><tzo>{offset[:3]}:{offset[3:5]}</tzo><utc>{timestamp(now)}</utc></time>"
    return iq_result(stanza, payload.encode())
