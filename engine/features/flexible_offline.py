"""XEP-0013: a client looks at its offline messages before it takes them.

A client that asked (for the number, the headers or the messages) is not given them all when it becomes available, and
no other client of the user is while that session lasts; messages go only when they are removed. ``node`` of a message
is its number, as long for all, so that text order is the order of arrival.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from engine.delivery import Kept
from engine.features.registry import account_nodes, iq, xep
from engine.filters import ONE_BY_ONE
from engine.store import flexible_offline as store
from engine.xmpp import ns
from engine.xmpp import stanza as xml
from engine.xmpp.forms import Field, Form, hidden
from engine.xmpp.stanza import TAG, error, iq_result, parse_tree, quote

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.services.xcp_router.router import XcpRouter
    from engine.session import Session
    from engine.store.offline import Stored
    from engine.xmpp.stanza import Stanza

NS = 'http://jabber.org/protocol/offline'
XEP = xep(13, '1.2', server=(NS,))

ITEMS = 1000
"""Messages one request may name."""


def _ask(session: Session) -> None:
    if session.notes is None:
        session.notes = {}
    session.notes[ONE_BY_ONE] = True


@account_nodes.on(ns.DISCO_INFO, NS)
async def on_info(session: Session, stanza: Stanza, router: XcpRouter) -> bytes:
    """How many there are."""
    _ask(session)
    number = await store.count(router.node.store, session.user.id)
    form = Form('result', (hidden(NS), Field('number_of_messages', 'text-single', (str(number),))))
    identity = "<identity category='automation' type='message-list'/>"
    content = f"{identity}<feature var='{NS}'/>{form.xml()}"
    return iq_result(stanza, f"<query xmlns='{ns.DISCO_INFO}' node='{NS}'>{content}</query>".encode())


@account_nodes.on(ns.DISCO_ITEMS, NS)
async def on_headers(session: Session, stanza: Stanza, router: XcpRouter) -> bytes:
    """Sender and node of each."""
    _ask(session)
    items = ''
    for number, head in await store.heads(router.node.store, session.user.id):
        items += f"<item jid='{quote(session.bare)}' node='{_node(number)}' name='{quote(_sender(head))}'/>"
    return iq_result(stanza, f"<query xmlns='{ns.DISCO_ITEMS}' node='{NS}'>{items}</query>".encode())


@iq.on('get', NS, 'offline', 'self')
async def on_get(session: Session, stanza: Stanza, router: XcpRouter) -> bytes:
    """Send the messages that are named, or all; then the result."""
    return await _get(session, stanza, router)


async def _get(session: Session, stanza: Stanza, router: XcpRouter) -> bytes:
    action, numbers = _request(stanza, 'view', 'fetch')
    if not action:
        text = "Ask for <fetch/>, or for items with the action 'view' and their nodes."
        return error(stanza, 'bad-request', text=text)
    _ask(session)
    if action == 'view':
        found = await store.some(router.node.store, session.user.id, numbers)
        if len(found) != len(set(numbers)):
            return _missing(stanza)
        await _send(session, found)
        return iq_result(stanza)
    after = 0
    while not session.closed and (page := await store.page(router.node.store, session.user.id, after)):
        await _send(session, page)
        after = page[-1].id
    return iq_result(stanza)


@iq.on('set', NS, 'offline', 'self')
async def on_set(session: Session, stanza: Stanza, router: XcpRouter) -> bytes:
    """Remove the messages that are named, or all. Some clients (slixmpp) also fetch with a set."""
    payload = stanza.payload
    assert payload is not None
    if [child.tag for child in payload] == [f'{{{NS}}}fetch']:
        return await _get(session, stanza, router)
    action, numbers = _request(stanza, 'remove', 'purge')
    if not action:
        text = "Ask for <purge/>, or for items with the action 'remove' and their nodes."
        return error(stanza, 'bad-request', text=text)
    _ask(session)
    if action == 'purge':
        await store.purge(router.node.store, session.user.id)
    elif not await store.remove(router.node.store, session.user.id, numbers):
        return _missing(stanza)
    return iq_result(stanza)


@iq.on('get', NS, 'offline', 'bare', 'host')
@iq.on('set', NS, 'offline', 'bare', 'host')
def on_other(session: Session, stanza: Stanza, router: XcpRouter) -> bytes:
    """Messages of others are their own business."""
    return error(stanza, 'forbidden', text='You can only read your own messages.')


def _request(stanza: Stanza, some: str, everything: str) -> tuple[str, list[int]]:
    """(what is asked for, numbers of messages); '' when the request is wrong. A node that is none becomes -1."""
    payload = stanza.payload
    assert payload is not None
    if [child.tag for child in payload] == [f'{{{NS}}}{everything}']:
        return everything, []
    numbers: list[int] = []
    for child in payload:
        if child.tag != f'{{{NS}}}item' or child.get('action') != some or len(numbers) >= ITEMS:
            return '', []
        node = child.get('node', '')
        numbers.append(int(node) if len(node) == _DIGITS and node.isascii() and node.isdigit() else -1)
    return (some, numbers) if numbers else ('', [])


_DIGITS = 19


def _node(number: int) -> str:
    return f'{number:0{_DIGITS}d}'


def _sender(head: bytes) -> str:
    tag = TAG.match(head)
    return parse_tree(tag.group().removesuffix(b'>').removesuffix(b'/') + b'/>').get('from', '') if tag else ''


def _missing(stanza: Stanza) -> bytes:
    return error(stanza, 'item-not-found', text='There is no such message.')


async def _send(session: Session, messages: Sequence[Stored]) -> None:
    """Queue messages and wait until the operating system has taken them: a slow client fills no memory."""
    domain = session.bare.rpartition('@')[2]
    for message in messages:
        marked = f"<offline xmlns='{NS}'><item node='{_node(message.id)}'/></offline>".encode()
        late = xml.delay(message.stored_at, domain, 'Offline Storage')
        session.send(Kept(xml.with_child(message.stanza, marked + late)))
    taken = asyncio.get_running_loop().create_future()
    session.connection.when_flushed(lambda done: None if taken.done() else taken.set_result(done))
    await taken
