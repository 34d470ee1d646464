"""What presence means to the router: is a session available, with which priority (RFC 6121 4.2, 8.5).

The rest of presence is the presence engine's. Without it instant messages still find the clients.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.contract import jid
from engine.features import registry
from engine.services.xcp_router import remote
from engine.xmpp import ns
from engine.xmpp import stanza as xml

if TYPE_CHECKING:
    from engine.services.xcp_router.remote import RemoteSender
    from engine.services.xcp_router.router import XcpRouter
    from engine.session import Session
    from engine.xmpp.stanza import Stanza

SUBSCRIPTION_TYPES = frozenset(('subscribe', 'subscribed', 'unsubscribe', 'unsubscribed'))
STATUS_LENGTH = 1023


def receive(router: XcpRouter, session: Session, stanza: Stanza) -> None:
    """One presence stanza of a session."""
    kind = stanza.type
    to = stanza.to
    if to is None:
        if kind is None:
            _available(router, session, stanza)
        elif kind == 'unavailable':
            unavailable(router, session, stanza)
        elif kind != 'error':
            router.refuse(session, stanza, 'bad-request', 'This presence needs an addressee.')
        return
    try:
        local, domain, resource = jid.split(to)
    except jid.InvalidJID as error:
        router.refuse(session, stanza, 'jid-malformed', str(error))
        return
    bare = f'{local}@{domain}' if local else domain
    full = f'{bare}/{resource}' if resource else bare
    if kind == 'error':
        if domain not in router.domains:
            remote.send(router, session, stanza, full, domain)
            return
        target = router.full.get(full)
        if target is not None:
            target.send(stanza.raw)
        return
    if kind not in (None, 'unavailable', 'probe') and kind not in SUBSCRIPTION_TYPES:
        router.refuse(session, stanza, 'bad-request', f'There is no presence of the type {kind}.')
        return
    if domain not in router.domains:
        if kind != 'unavailable' or remote.route_for(router, domain) is not None:
            remote.send(router, session, stanza, full, domain)
        return
    engine = router.presence_engine()
    if engine is None:
        if kind != 'unavailable':
            router.refuse(session, stanza, 'service-unavailable', 'Cisco Presence Engine is not running.')
        return
    engine.receive(session, stanza, bare, resource)


def receive_remote(router: XcpRouter, sender: RemoteSender, stanza: Stanza) -> None:
    """One presence stanza from outside."""
    parts = router.address(sender, stanza, stanza.to or '')
    if parts is None:
        return
    target = router.full.get(f'{parts[0]}@{parts[1]}/{parts[2]}')
    if target is not None:
        target.send(stanza.raw)


def _available(router: XcpRouter, session: Session, stanza: Stanza) -> None:
    priority = 0
    status = ''
    if stanza.has(b'priority') or stanza.has(b'status'):
        text = (stanza.tree.findtext(f'{{{ns.CLIENT}}}priority') or '0').strip()
        try:
            priority = int(text) if len(text) <= 4 else 1000
        except ValueError:
            priority = 1000
        if not -128 <= priority <= 127:
            router.refuse(session, stanza, 'bad-request', 'The priority must be a whole number from -128 to 127.')
            return
        status = (stanza.tree.findtext(f'{{{ns.CLIENT}}}status') or '')[:STATUS_LENGTH]
    before = session.priority
    session.available, session.priority, session.status = True, priority, status
    session.presence = xml.split_to(stanza.raw)
    registry.presence_updated.fire(router, session, stanza)
    if priority < 0:
        router.accounts[session.bare].unlock(session)
    if engine := router.presence_engine():
        engine.available(session)
    if priority >= 0 and (before is None or before < 0):
        router.offline.deliver(session)


def unavailable(router: XcpRouter, session: Session, stanza: Stanza | None) -> None:
    """The client said so, or (without ``stanza``) its connection ended."""
    if stanza is not None and stanza.has(b'status'):
        session.status = (stanza.tree.findtext(f'{{{ns.CLIENT}}}status') or '')[:STATUS_LENGTH]
    session.available, session.priority, session.presence = False, None, None
    router.accounts[session.bare].unlock(session)
    if engine := router.presence_engine():
        engine.unavailable(session, xml.split_to(stanza.raw) if stanza is not None else None)
