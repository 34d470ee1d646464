"""XEP-0163: every account is a publish-subscribe service.

What clients keep there works by that alone: avatars (0084), nick names (0172), mood (0107), tune (0118), locations
(0080), device lists and bundles of OMEMO (0384), bookmarks (0402, and 0048 at the node storage:bookmarks), public and
private data (0222, 0223). Costs on the path of messages: nothing. Of presence: interests.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.contract import jid
from engine.features.pubsub import discovery, requests
from engine.features.pubsub.interests import on_available, on_contact, on_presence, on_subscription
from engine.features.pubsub.place import Place, Refused, hidden
from engine.features.registry import became_available, contact_presence, iq, presence_updated, subscription_changed, xep
from engine.store import pubsub as store
from engine.xmpp import ns

if TYPE_CHECKING:
    from engine.services.xcp_router.router import XcpRouter
    from engine.session import Session
    from engine.xmpp.stanza import Stanza

XEP = xep(163, '1.2.2', account=discovery.ACCOUNT)
PUBLIC = xep(222, '1.0.1')
PRIVATE = xep(223, '1.1.1')
NICK = xep(172, '1.1')
BOOKMARKS = xep(48, '1.2')
BOOKMARKS_2 = xep(402, '1.2.0')

presence_updated.on()(on_presence)
became_available.on()(on_available)
subscription_changed.on()(on_subscription)
contact_presence.on()(on_contact)


async def account(router: XcpRouter, bare: str) -> Place | None:
    """The place of an account; None when there is no such live user."""
    signed_in = router.accounts.get(bare)
    if signed_in is not None:
        return Place(router, bare, signed_in.user.id)
    async with router.node.store.connection() as connection:
        owner = await store.account(connection, bare)
    return Place(router, bare, owner) if owner is not None else None


@iq.on('get', ns.PUBSUB, 'pubsub', 'self', 'bare')
@iq.on('set', ns.PUBSUB, 'pubsub', 'self', 'bare')
@iq.on('get', ns.PUBSUB_OWNER, 'pubsub', 'self', 'bare')
@iq.on('set', ns.PUBSUB_OWNER, 'pubsub', 'self', 'bare')
async def on_request(session: Session, stanza: Stanza, router: XcpRouter) -> bytes:
    """Everything clients ask of the own account or of somebody's."""
    place = await account(router, jid.bare(stanza.to) if stanza.to else session.bare)
    if place is None:
        return hidden().answer(stanza)
    return await requests.answer(place, session, stanza)


async def info(session: Session, stanza: Stanza, router: XcpRouter, name: str) -> bytes:
    """disco#info of a node of an account."""
    place = await account(router, jid.bare(stanza.to) if stanza.to else session.bare)
    if place is None:
        return hidden().answer(stanza)
    return await discovery.node_info(place, session, stanza, name)


async def node_items(session: Session, stanza: Stanza, router: XcpRouter, name: str) -> bytes:
    """disco#items of a node of an account."""
    place = await account(router, jid.bare(stanza.to) if stanza.to else session.bare)
    if place is None:
        return hidden().answer(stanza)
    return await discovery.node_items(place, session, stanza, name)


async def items(session: Session, router: XcpRouter, bare: str) -> str:
    """The nodes of an account for its disco#items."""
    place = await account(router, bare)
    if place is None:
        return ''
    try:
        return await discovery.account_items(place, session)
    except Refused:
        return ''
