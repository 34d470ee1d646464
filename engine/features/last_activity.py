"""XEP-0012: up-time of the server; when a contact signed out; idle time of a contact's client (asked of the client)."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from engine.contract import jid
from engine.features.registry import client_iq, iq, xep
from engine.services.presence_engine import visibility
from engine.store import activity, rosters
from engine.store.rosters import FROM
from engine.xmpp import ns
from engine.xmpp.stanza import error, escape, iq_result

if TYPE_CHECKING:
    from engine.services.xcp_router.router import XcpRouter
    from engine.session import Session
    from engine.xmpp.stanza import Stanza

XEP = xep(12, '2.0', server=(ns.LAST,), account=(ns.LAST,))


@iq.on('get', ns.LAST, 'query', 'host')
def on_host(session: Session, stanza: Stanza, router: XcpRouter) -> bytes:
    """Seconds since the router started."""
    return _answer(stanza, int(time.monotonic() - router.started_at))


@iq.on('get', ns.LAST, 'query', 'self')
def on_self(session: Session, stanza: Stanza, router: XcpRouter) -> bytes:
    """The asking client is active."""
    return _answer(stanza, 0)


@iq.on('get', ns.LAST, 'query', 'bare')
async def on_contact(session: Session, stanza: Stanza, router: XcpRouter) -> bytes:
    """Zero while a client of the contact is available, else the seconds since the last one signed out."""
    bare = jid.bare(stanza.to or '')
    if not await _allowed(router, session, bare):
        return _forbidden(stanza)
    if any(other.available for other in router.sessions_of(bare)):
        return _answer(stanza, 0)
    found = await activity.last_of(router.node.store, bare)
    if found is None:
        return error(stanza, 'item-not-found', text='The user has never signed in.')
    return _answer(stanza, max(0, int((datetime.now(UTC) - found[0]).total_seconds())), found[1])


@client_iq.on()
def on_client(router: XcpRouter, session: Session, stanza: Stanza, full: str) -> bytes | None:
    """A client is asked only by those who may see the user (XEP-0012 5)."""
    if not stanza.has(ns.LAST.encode()) or stanza.child(ns.LAST, 'query') is None:
        return None
    bare = full.partition('/')[0]
    engine = router.presence_engine()
    if bare == session.bare or (engine is not None and visibility.sees(engine, session.bare, bare)):
        return None
    return _forbidden(stanza)


async def _allowed(router: XcpRouter, session: Session, bare: str) -> bool:
    engine = router.presence_engine()
    if engine is None or not engine.sharing:
        return False
    if visibility.sees(engine, session.bare, bare):
        return True
    return bool(await rosters.subscription(router.node.store, bare, session.bare) & FROM)


def _forbidden(stanza: Stanza) -> bytes:
    return error(stanza, 'forbidden', text='You have no subscription to the availability of this user.')


def _answer(stanza: Stanza, seconds: int, status: str = '') -> bytes:
    return iq_result(stanza, f"<query xmlns='{ns.LAST}' seconds='{seconds}'>{escape(status)}</query>".encode())
