"""XEP-0398: one avatar, whether clients set it in the vCard (XEP-0153) or by publish-subscribe (XEP-0084).

The hash of the picture is put into the presence of a user who has one, unless the client says a hash itself. Cost for
everybody else: one attribute test on presence, 0.1 microseconds; nothing on messages.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import TYPE_CHECKING, Final, NamedTuple
from xml.etree import ElementTree

from engine.features.pubsub import pep, publishing
from engine.features.pubsub.place import LISTENERS
from engine.features.registry import presence_directed, presence_updated, xep
from engine.store import pubsub as store
from engine.store import vcards
from engine.xmpp import ns
from engine.xmpp import stanza as xml

if TYPE_CHECKING:
    from engine.features.pubsub.place import Place
    from engine.services.xcp_router.router import XcpRouter
    from engine.session import Session
    from engine.store.pubsub import Item
    from engine.xmpp.stanza import Stanza

DATA, METADATA = 'urn:xmpp:avatar:data', 'urn:xmpp:avatar:metadata'
AVATAR = xep(84, '1.1.4')
VCARD_AVATAR = xep(153, '1.1.1')
XEP = xep(398, '1.0.0', account=('urn:xmpp:pep-vcard-conversion:0',))

_EMPTY: Final = re.compile(rb"<x\s+xmlns=(?:'vcard-temp:x:update'|\"vcard-temp:x:update\")\s*(?:/>|>\s*</x\s*>)")
_HASH: Final = re.compile(
    rb"<x\s+xmlns=(?:'vcard-temp:x:update'|\"vcard-temp:x:update\")\s*>\s*<photo\s*(?:/>|>[0-9A-Fa-f]{0,40}</photo\s*>)\s*</x\s*>"
)
_NEEDLE: Final = ns.VCARD_UPDATE.encode()
_V: Final = f'{{{ns.VCARD}}}'
_TYPE: Final = re.compile(r'image/[A-Za-z0-9.+-]{1,64}')


class Picture(NamedTuple):
    """A picture: its bytes as base64, how many bytes it is, its media type, and its SHA-1."""

    base64: str
    size: int
    type: str
    digest: str


def picture(text: str, kind: str) -> Picture | None:
    """The picture in base64 text; None when it is none."""
    try:
        data = base64.b64decode(''.join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        return None
    if not data:
        return None
    digest = hashlib.sha1(data, usedforsecurity=False).hexdigest()
    return Picture(base64.b64encode(data).decode(), len(data), kind if _TYPE.fullmatch(kind) else 'image/png', digest)


def of_card(card: ElementTree.Element) -> Picture | None:
    """The picture of a vCard."""
    photo = card.find(f'{_V}PHOTO')
    if photo is None:
        return None
    return picture(photo.findtext(f'{_V}BINVAL') or '', (photo.findtext(f'{_V}TYPE') or '').strip())


# presence


def _update(digest: str) -> bytes:
    photo = f'<photo>{digest}</photo>' if digest else '<photo/>'
    return f"<x xmlns='{ns.VCARD_UPDATE}'>{photo}</x>".encode()


def stamped(raw: bytes, digest: str) -> bytes:
    """Available presence with the hash in it, unless the client gave one."""
    if _NEEDLE in raw:
        return _EMPTY.sub(_update(digest), raw, count=1)
    return xml.with_child(raw, _update(digest))


@presence_updated.on()
def on_presence(router: XcpRouter, session: Session, stanza: Stanza) -> None:
    """The presence that others get says which picture the user has."""
    if session.user.avatar:
        session.presence = xml.split_to(stamped(stanza.raw, session.user.avatar))


@presence_directed.on()
def on_directed(router: XcpRouter, session: Session, stanza: Stanza) -> None:
    """So does presence sent to one address, a chat room for instance."""
    if session.user.avatar:
        stanza.raw = stamped(stanza.raw, session.user.avatar)


def announce(router: XcpRouter, bare: str, digest: str) -> None:
    """The user has another picture or none: the presence of every client says so (XEP-0398 4)."""
    engine = router.presence_engine()
    for session in list(router.sessions_of(bare)):
        session.user.avatar = digest
        if session.presence is None:
            continue
        head, tail = session.presence
        before = b"<presence to='" + tail
        if _HASH.search(before):
            after = _HASH.sub(_update(digest), before, count=1)
        elif digest:
            after = stamped(before, digest)
        else:
            continue
        session.presence = (head, after.removeprefix(b"<presence to='"))
        if engine is not None and session.available:
            engine.available(session)


# from publish-subscribe to the vCard


async def on_metadata(place: Place, name: str) -> None:
    """The metadata of the avatar changed: the vCard gets the picture that it names, or loses its own."""
    assert place.owner is not None
    async with place.router.node.store.connection() as connection:
        node = await store.node(connection, place.owner, METADATA)
        last = await store.last(connection, node.id) if node is not None else []
        wanted = _named(last[0]) if last else ''
        if wanted is None:
            return
        found: Picture | None = None
        if wanted:
            data = await store.node(connection, place.owner, DATA)
            items = await store.find(connection, data.id, [wanted]) if data is not None else []
            found = _data(items[0], last[0], wanted) if items else None
            if found is None:
                return
    card, before = await vcards.load_with_avatar(place.router.node.store, place.owner)
    digest = found.digest if found else ''
    if digest == before:
        return
    await vcards.save(place.router.node.store, place.owner, _with_photo(card, found), digest)
    announce(place.router, place.address, digest)


def _named(item: Item) -> str | None:
    """Id of the picture that metadata names; '' for no avatar, None when it is only elsewhere (a URL)."""
    element = _element(item)
    infos = element.findall(f'{{{METADATA}}}info') if element is not None else []
    if not infos:
        return ''
    return next((info.get('id', '') or None for info in infos if not info.get('url')), None)


def _data(item: Item, metadata: Item, identity: str) -> Picture | None:
    """The published picture, when it is what its id says (XEP-0398 3.1)."""
    element = _element(item)
    described = _element(metadata)
    kind = ''
    for info in described.findall(f'{{{METADATA}}}info') if described is not None else ():
        if info.get('id') == identity:
            kind = info.get('type', '')
    found = picture(element.text or '', kind) if element is not None and element.tag == f'{{{DATA}}}data' else None
    return found if found is not None and found.digest == identity.lower() else None


def _element(item: Item) -> ElementTree.Element | None:
    try:
        return xml.parse_tree(item.payload)
    except (ElementTree.ParseError, IndexError):
        return None


def _with_photo(card: str, found: Picture | None) -> str:
    from engine.features import vcard

    element = xml.parse_tree(card.encode()) if card else ElementTree.Element(f'{_V}vCard')
    for photo in element.findall(f'{_V}PHOTO'):
        element.remove(photo)
    if found is not None:
        photo = ElementTree.SubElement(element, f'{_V}PHOTO')
        ElementTree.SubElement(photo, f'{_V}TYPE').text = found.type
        ElementTree.SubElement(photo, f'{_V}BINVAL').text = found.base64
    return vcard.text(element)


LISTENERS[METADATA] = on_metadata

# from the vCard to publish-subscribe


async def card_changed(router: XcpRouter, bare: str, before: str, found: Picture | None) -> None:
    """A client replaced the vCard; ``before`` is the hash of the picture that was in it."""
    digest = found.digest if found else ''
    if digest == before:
        return
    announce(router, bare, digest)
    place = await pep.account(router, bare)
    if place is None:
        return
    if found is None:
        await publishing.put(place, METADATA, 'current', f"<metadata xmlns='{METADATA}'/>".encode(), create=False)
        return
    data = f"<data xmlns='{DATA}'>{found.base64}</data>".encode()
    if await publishing.put(place, DATA, digest, data):
        info = xml.element('info', '', '', id=digest, bytes=str(found.size), type=found.type)
        await publishing.put(place, METADATA, digest, f"<metadata xmlns='{METADATA}'>{info}</metadata>".encode())
