"""What presence means to the router: is a session available, with which priority (RFC 6121 4.2, 8.5).

The rest of presence is the presence engine's. Without it instant messages still find the clients.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from engine import filters
from engine.contract import jid
from engine.features import registry
from engine.services.xcp_router import remote
from engine.xmpp import ns
from engine.xmpp import stanza as xml

if TYPE_CHECKING:
    from engine.contract.privacy import Kind
    from engine.services.xcp_router.remote import RemoteSender
    from engine.services.xcp_router.router import XcpRouter
    from engine.session import Session
    from engine.xmpp.stanza import Stanza

SUBSCRIPTION_TYPES = frozenset(('subscribe', 'subscribed', 'unsubscribe', 'unsubscribed'))
STATUS_LENGTH = 1023
_PLAIN = re.compile(rb'<(show|status|priority)>([^<&\r]*)</\1>')


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
    if kind is None:
        registry.presence_directed.fire(router, session, stanza)
    if session.filter is not None:
        sort: Kind = 'presence' if kind in (None, 'unavailable', 'error') else 'subscription'
        if filters.stopped(router, session, stanza, sort, full):
            return
    if kind == 'error':
        if router.outside(bare):
            remote.send(router, session, stanza, full)
            return
        target = router.full.get(full)
        if target is not None:
            target.send(stanza.raw)
        elif router.nodes is not None and bare not in router.accounts:
            router.nodes.forward(session, stanza, bare)
        return
    if kind not in (None, 'unavailable', 'probe') and kind not in SUBSCRIPTION_TYPES:
        router.refuse(session, stanza, 'bad-request', f'There is no presence of the type {kind}.')
        return
    unreachable = router.outside(bare) and remote.route_for(router, bare) is None
    if unreachable and kind not in ('unsubscribe', 'unsubscribed'):
        if kind != 'unavailable':
            router.refuse(session, stanza, 'remote-server-not-found', f'This server does not know the domain {domain}.')
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
    local, domain, resource = parts
    bare = f'{local}@{domain}' if local else domain
    kind = stanza.type
    if router.nodes is not None and bare not in router.accounts and router.nodes.forward(sender, stanza, bare):
        return
    if kind == 'error':
        target = router.full.get(f'{bare}/{resource}')
        if target is not None:
            target.send(stanza.raw)
    elif kind not in (None, 'unavailable', 'probe') and kind not in SUBSCRIPTION_TYPES:
        router.refuse(sender, stanza, 'bad-request', f'There is no presence of the type {kind}.')
    elif engine := router.presence_engine():
        engine.receive_remote(sender, stanza, bare, resource)
    elif kind in SUBSCRIPTION_TYPES:
        router.refuse(sender, stanza, 'service-unavailable', 'Cisco Presence Engine is not running.')


def words(stanza: Stanza) -> tuple[str, str]:
    """Priority ('0' without one) and text of a presence. Without a tree where plain elements come first, as clients
    send them: this is a fifth of what a change of presence costs. Anything else goes to the tree."""
    raw = stanza.raw
    tag = xml.TAG.match(raw)
    if tag is not None:
        found: dict[bytes, bytes] = {}
        position = tag.end()
        while match := _PLAIN.match(raw, position):
            found.setdefault(match.group(1), match.group(2))
            position = match.end()
        if raw.find(b'status', position) < 0 and raw.find(b'priority', position) < 0:
            priority = (found.get(b'priority') or b'0').decode().strip()
            return priority, found.get(b'status', b'').decode()[:STATUS_LENGTH]
    tree = stanza.tree
    return (
        (tree.findtext(f'{{{ns.CLIENT}}}priority') or '0').strip(),
        (tree.findtext(f'{{{ns.CLIENT}}}status') or '')[:STATUS_LENGTH],
    )


def _available(router: XcpRouter, session: Session, stanza: Stanza) -> None:
    priority = 0
    status = ''
    if stanza.has(b'priority') or stanza.has(b'status'):
        text, status = words(stanza)
        try:
            priority = int(text) if len(text) <= 4 else 1000
        except ValueError:
            priority = 1000
        if not -128 <= priority <= 127:
            router.refuse(session, stanza, 'bad-request', 'The priority must be a whole number from -128 to 127.')
            return
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
        session.status = words(stanza)[1]
    session.available, session.priority, session.presence = False, None, None
    router.accounts[session.bare].unlock(session)
    if engine := router.presence_engine():
        engine.unavailable(session, xml.split_to(stanza.raw) if stanza is not None else None)
