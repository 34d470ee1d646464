"""vCards (XEP-0054) of non-presence contacts: entries of the own contact list that have no IM address.

Clients show them like every contact, without availability. Asked for the vCard of one, the server answers from the
card that stands with the entry; a client stores it with a set to the address of the contact (docs/decisions/0029). An
address at another domain of whom no card is known is asked there, as without this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.contract import cards, jid
from engine.contract.cards import Card
from engine.features.registry import iq
from engine.services.xcp_router import remote
from engine.store import contact_cards as store
from engine.xmpp import ns
from engine.xmpp.stanza import error, iq_result

if TYPE_CHECKING:
    from engine.services.xcp_router.router import XcpRouter
    from engine.session import Session
    from engine.xmpp.stanza import Stanza


async def known(router: XcpRouter, session: Session, bare: str) -> bytes | None:
    """The vCard that the user of a session has of a contact."""
    card = await store.load(router.node.store, session.user.id, bare)
    if card is None or card.type.lower() not in cards.VCARDS:
        return None
    return cards.as_xml(cards.properties(card.info)).encode()


@iq.on('get', ns.VCARD, 'vCard', 'outside')
async def on_get(session: Session, stanza: Stanza, router: XcpRouter) -> bytes | None:
    """The card of the contact; without one the question goes on to its domain."""
    bare = jid.bare(stanza.to or '')
    xml = await known(router, session, bare)
    if xml is not None:
        return iq_result(stanza, xml)
    remote.send(router, session, stanza, bare)
    return None


@iq.on('set', ns.VCARD, 'vCard', 'outside')
async def on_set(session: Session, stanza: Stanza, router: XcpRouter) -> bytes | None:
    """Keep what the user knows of a contact without IM address."""
    bare = jid.bare(stanza.to or '')
    card = stanza.payload
    assert card is not None
    if '@' not in bare:
        info = cards.from_xml(card)
        if len(info) > cards.LENGTH:
            return error(stanza, 'not-acceptable', text=f'The card of a contact has at most {cards.LENGTH} characters.')
        if await store.save(router.node.store, session.user.id, bare, Card(info)):
            return iq_result(stanza)
    remote.send(router, session, stanza, bare)
    return None
