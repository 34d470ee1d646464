"""XEP-0054: vCards of users, stored as the client sent them, and the server's own."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree

from engine.contract import jid
from engine.features import avatars, contact_cards
from engine.features.registry import iq, xep
from engine.features.version import NAME
from engine.store import vcards
from engine.xmpp import ns
from engine.xmpp.stanza import error, escape, iq_result

if TYPE_CHECKING:
    from engine.services.xcp_router.router import XcpRouter
    from engine.session import Session
    from engine.xmpp.stanza import Stanza

XEP = xep(54, '1.2', server=(ns.VCARD,), account=(ns.VCARD,))

BYTES = 128 * 1024
"""Largest vCard, photo included."""
_QUALIFIED = f'{{{ns.VCARD}}}'


@iq.on('get', ns.VCARD, 'vCard', 'self')
async def on_own(session: Session, stanza: Stanza, router: XcpRouter) -> bytes:
    """The own vCard, empty when none was set."""
    xml = await vcards.load(router.node.store, session.bare)
    return iq_result(stanza, (xml or f"<vCard xmlns='{ns.VCARD}'/>").encode())


@iq.on('get', ns.VCARD, 'vCard', 'bare')
async def on_get(session: Session, stanza: Stanza, router: XcpRouter) -> bytes:
    """Somebody's vCard. No vCard and no such user give the same answer."""
    bare = jid.bare(stanza.to or '')
    xml = await vcards.load(router.node.store, bare)
    if xml is None and session.account is not None and (card := await contact_cards.known(router, session, bare)):
        return iq_result(stanza, card)
    if xml is None:
        return error(stanza, 'item-not-found', text='There is no vCard.')
    return iq_result(stanza, xml.encode())


@iq.on('set', ns.VCARD, 'vCard', 'self')
async def on_set(session: Session, stanza: Stanza, router: XcpRouter) -> bytes:
    """Replace the own vCard; a picture in it becomes the user's avatar everywhere (XEP-0398)."""
    card = stanza.payload
    assert card is not None
    xml = text(card)
    if len(xml.encode()) > BYTES:
        return error(stanza, 'not-acceptable', text=f'A vCard has at most {BYTES // 1024} KiB.')
    found = avatars.of_card(card)
    _, before = await vcards.load_with_avatar(router.node.store, session.user.id)
    await vcards.save(router.node.store, session.user.id, xml, found.digest if found else '')
    await avatars.card_changed(router, session.bare, before, found)
    return iq_result(stanza)


@iq.on('set', ns.VCARD, 'vCard', 'bare', 'host')
def on_set_other(session: Session, stanza: Stanza, router: XcpRouter) -> bytes:
    """Only the owner changes a vCard."""
    return error(stanza, 'forbidden', text='You can only change your own vCard.')


@iq.on('get', ns.VCARD, 'vCard', 'host')
def on_host(session: Session, stanza: Stanza, router: XcpRouter) -> bytes:
    """The server's vCard."""
    return iq_result(stanza, f"<vCard xmlns='{ns.VCARD}'><FN>{escape(NAME)}</FN></vCard>".encode())


def text(card: ElementTree.Element) -> str:
    """``card`` as text with vcard-temp as its default namespace: clients look for plain names."""
    foreign = any(isinstance(node.tag, str) and not node.tag.startswith(_QUALIFIED) for node in card.iter()) or any(
        key.startswith('{') for node in card.iter() for key in node.attrib
    )
    if foreign:
        return ElementTree.tostring(card, encoding='unicode')
    return _plain(card, root=True)


def _plain(node: ElementTree.Element, root: bool = False) -> str:
    name = node.tag[len(_QUALIFIED) :]
    attributes = ''.join(f" {key}='{escape(value)}'" for key, value in node.attrib.items())
    if root:
        attributes = f" xmlns='{ns.VCARD}'{attributes}"
    inside = escape(node.text or '') + ''.join(_plain(child) + escape(child.tail or '') for child in node)
    return f'<{name}{attributes}>{inside}</{name}>'
