"""XEP-0092: name and version of the server. Requests to a client pass through to it."""

from __future__ import annotations

from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING

from engine.features.registry import iq, xep
from engine.xmpp import ns
from engine.xmpp.stanza import escape, iq_result

if TYPE_CHECKING:
    from engine.services.xcp_router.router import XcpRouter
    from engine.session import Session
    from engine.xmpp.stanza import Stanza

XEP = xep(92, '1.1', server=(ns.VERSION,))
NAME = 'IM and Presence Service'


@cache
def version() -> str:
    """Version of the installed package, or of the source tree."""
    try:
        return metadata.version('imp')
    except metadata.PackageNotFoundError:
        return '0.1.0'


@iq.on('get', ns.VERSION, 'query', 'host')
def on_version(session: Session, stanza: Stanza, router: XcpRouter) -> bytes:
    """The operating system is nobody's business (XEP-0092 6)."""
    payload = f"<query xmlns='{ns.VERSION}'><name>{escape(NAME)}</name><version>{escape(version())}</version></query>"
    return iq_result(stanza, payload.encode())
