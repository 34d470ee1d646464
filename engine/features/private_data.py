"""XEP-0049: clients keep elements of their own on the server, such as bookmarks. Nobody else sees them.

An element is found again by namespace and name, and comes back as the client wrote it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree

from engine.features.registry import iq, xep
from engine.store import private_data
from engine.store.private_data import TooMuch
from engine.xmpp import ns
from engine.xmpp.fragments import fragments
from engine.xmpp.stanza import error, iq_result, quote

if TYPE_CHECKING:
    from engine.services.xcp_router.router import XcpRouter
    from engine.session import Session
    from engine.store.private_data import Key
    from engine.xmpp.stanza import Stanza

XEP = xep(49, '1.2', server=(ns.PRIVATE,))

NAMESPACE_LENGTH = 1023
NAME_LENGTH = 255


def _children(stanza: Stanza) -> list[tuple[Key, ElementTree.Element]] | str:
    """Key and element of what a request names, or what is wrong."""
    query = stanza.payload
    assert query is not None
    found = []
    for child in query:
        namespace, _, name = child.tag.rpartition('}')
        key = (namespace[1:], name)
        if not key[0] or key[0] in (ns.PRIVATE, ns.CLIENT):
            return 'Every element needs a namespace of its own.'
        if len(key[0]) > NAMESPACE_LENGTH or len(name) > NAME_LENGTH:
            return f'A namespace has at most {NAMESPACE_LENGTH} characters, a name {NAME_LENGTH}.'
        found.append((key, child))
    return found


@iq.on('get', ns.PRIVATE, 'query', 'self')
async def on_get(session: Session, stanza: Stanza, router: XcpRouter) -> bytes:
    """One element; empty when it was never kept."""
    named = _children(stanza)
    if isinstance(named, str) or len(named) != 1:
        text = named if isinstance(named, str) else 'Ask for exactly one element.'
        return error(stanza, 'not-acceptable' if named == [] else 'bad-request', text=text)
    key, _ = named[0]
    xml = await private_data.load(router.node.store, session.user.id, key)
    inside = xml or f"<{key[1]} xmlns='{quote(key[0])}'/>"
    return iq_result(stanza, f"<query xmlns='{ns.PRIVATE}'>{inside}</query>".encode())


@iq.on('set', ns.PRIVATE, 'query', 'self')
async def on_set(session: Session, stanza: Stanza, router: XcpRouter) -> bytes:
    """Keep elements, each instead of the one with the same namespace and name."""
    named = _children(stanza)
    if isinstance(named, str):
        return error(stanza, 'not-acceptable', text=named)
    if not named:
        return error(stanza, 'bad-request', text='Name at least one element to keep.')
    written = fragments(stanza.raw, 2)
    elements = {key: written[0, place].decode() for place, (key, _child) in enumerate(named)}
    most, most_kib = int(router.param('private_data_elements')), int(router.param('private_data_kib'))
    try:
        await private_data.save(router.node.store, session.user.id, elements, most, most_kib * 1024)
    except TooMuch as problem:
        count, size = problem.args
        text = f'At most {most} elements and {most_kib} KiB can be kept; it would be {count} and {-(-size // 1024)}.'
        return error(stanza, 'resource-constraint', text=text)
    return iq_result(stanza)


@iq.on('get', ns.PRIVATE, 'query', 'bare', 'host')
@iq.on('set', ns.PRIVATE, 'query', 'bare', 'host')
def on_other(session: Session, stanza: Stanza, router: XcpRouter) -> bytes:
    """Private data of others are private."""
    return error(stanza, 'forbidden', text='You can only read and keep your own private data.')
