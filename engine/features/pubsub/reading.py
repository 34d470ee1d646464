"""Retrieving items, affiliations and subscriptions of the one who asks (XEP-0060 5.6, 5.7, 6.5; XEP-0059)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.contract.pubsub_nodes import NAME_BYTES
from engine.features.pubsub import notify
from engine.features.pubsub.place import Place, Refused, Who, actor, check_access, hidden, node_or_refuse, sees
from engine.store import pubsub as store
from engine.xmpp import ns, rsm
from engine.xmpp.stanza import iq_result, quote

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from engine.store.pubsub import Item
    from engine.xmpp.stanza import Stanza

PAGE = 100
"""Items of one answer; more come with XEP-0059."""
ANSWER_BYTES = 1024 * 1024
"""Payload bytes of one answer after which no further item is added."""
LISTED = 1000
_P = f'{{{ns.PUBSUB}}}'


async def items(place: Place, sender: Who, stanza: Stanza, pubsub: Element, action: Element) -> bytes:
    """XEP-0060 6.5: all items (a page of them), the last ones (max_items), or those that are named."""
    ids = [child.get('id') or '' for child in action if child.tag == f'{_P}item']
    if len(ids) > PAGE or any(len(name.encode()) > NAME_BYTES for name in ids):
        raise Refused(
            'bad-request', text=f'Ask for at most {PAGE} items, each with an id of at most {NAME_BYTES} bytes.'
        )
    try:
        wanted = rsm.parse(pubsub)
    except rsm.SetError as error:
        raise Refused('bad-request', text=str(error)) from None
    newest = _newest(action.get('max_items'))
    ruled = pubsub.find(f'{{{rsm.RSM}}}set') is not None
    async with place.router.node.store.connection() as connection:
        node = await node_or_refuse(place, connection, action.get('node'), sender)
        config = place.config(node)
        check_access(place, config, await actor(place, connection, node, sender.bare))
        closing = ''
        if ids:
            found = await store.find(connection, node.id, ids)
            if not found:
                raise Refused('item-not-found', text='There is no such item.')
            found = _fitting(found)
        elif newest is not None and not ruled:
            found = _fitting((await store.last(connection, node.id, min(newest, PAGE)))[::-1])[::-1]
        else:
            most = PAGE if wanted.max is None else min(wanted.max, PAGE)
            page = await store.page(connection, node.id, most, wanted.after, wanted.before, wanted.index)
            if page is None:
                raise Refused('item-not-found', text='The item you start from is not there any more.')
            found = _fitting(page.items) if wanted.before is None else _fitting(page.items[::-1])[::-1]
            first = page.first + len(page.items) - len(found) if wanted.before is not None else page.first
            if ruled or page.total > len(found):
                closing = rsm.answer(
                    found[0].id if found else '', found[-1].id if found else '', first if found else None, page.total
                )
    inside = b''.join(
        notify.item(item.id, item.payload, item.publisher if config.itemreply == 'publisher' else '') for item in found
    )
    body = b"<pubsub xmlns='%b'>%b%b</pubsub>" % (ns.PUBSUB.encode(), notify.items(node.name, inside), closing.encode())
    return iq_result(stanza, body)


def _newest(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and 0 < len(text) <= 9 and int(text)):
        raise Refused('bad-request', text="The attribute 'max_items' is a whole number of 1 or more.")
    return int(text)


def _fitting(found: list[Item]) -> list[Item]:
    """The first items that fit into one answer, at least one."""
    size = 0
    for index, item in enumerate(found):
        size += len(item.payload)
        if index and size > ANSWER_BYTES:
            return found[:index]
    return found


async def subscriptions(place: Place, sender: Who, stanza: Stanza, pubsub: Element, action: Element) -> bytes:
    """XEP-0060 5.6: the subscriptions of the one who asks, at one node or all."""
    await _known(place, sender)
    name = action.get('node')
    rows = await store.subscriptions_of(place.router.node.store, place.owner, sender.bare, LISTED, name)
    inside = ''.join(subscription_xml(node, entry) for node, entry in rows)
    named = f" node='{quote(name)}'" if name else ''
    body = f"<pubsub xmlns='{ns.PUBSUB}'><subscriptions{named}>{inside}</subscriptions></pubsub>"
    return iq_result(stanza, body.encode())


def subscription_xml(node: str, entry: store.Subscription) -> str:
    """One <subscription/>; ``node`` '' leaves the node out."""
    named = f" node='{quote(node)}'" if node else ''
    state = 'pending' if entry.pending else 'subscribed'
    return f"<subscription{named} jid='{quote(entry.jid)}' subscription='{state}' subid='{quote(entry.subid)}'/>"


async def affiliations(place: Place, sender: Who, stanza: Stanza, pubsub: Element, action: Element) -> bytes:
    """XEP-0060 5.7: the affiliations of the one who asks, at one node or all."""
    await _known(place, sender)
    name = action.get('node')
    if place.personal and sender.bare == place.address:
        rows = [(node.name, 'owner') for node in await store.nodes(place.router.node.store, place.owner, LISTED)]
    else:
        rows = await store.affiliations_of(place.router.node.store, place.owner, sender.bare, LISTED)
    inside = ''.join(
        f"<affiliation node='{quote(node)}' affiliation='{value}'/>" for node, value in rows if name in (None, node)
    )
    named = f" node='{quote(name)}'" if name else ''
    body = f"<pubsub xmlns='{ns.PUBSUB}'><affiliations{named}>{inside}</affiliations></pubsub>"
    return iq_result(stanza, body.encode())


async def _known(place: Place, sender: Who) -> None:
    if place.personal and sender.bare != place.address and not await sees(place, sender.bare):
        raise hidden()
