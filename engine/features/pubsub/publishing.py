"""Publishing, retracting, creating and clearing (XEP-0060 7, 8.1, 8.2, 8.4, 8.5). An answer means: it is on disk."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from engine.contract.pubsub_nodes import NAME_BYTES, Limits
from engine.features.pubsub import config as configuration
from engine.features.pubsub import notify
from engine.features.pubsub.config import NodeConfig
from engine.features.pubsub.place import (
    OWNER,
    Place,
    Refused,
    Who,
    actor,
    changed,
    check_access,
    hidden,
    limits,
    may_publish,
    node_or_refuse,
    owned,
    sees,
    unsupported,
)
from engine.store import pubsub as store
from engine.xmpp import forms, ns
from engine.xmpp.fragments import fragments
from engine.xmpp.stanza import iq_result, quote

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from engine.store.pool import Connection
    from engine.store.pubsub import Node
    from engine.xmpp.stanza import Stanza

PUBLISHED_AT_ONCE = 100
"""Most items of one publication or retraction."""
_P, _O = f'{{{ns.PUBSUB}}}', f'{{{ns.PUBSUB_OWNER}}}'


def identity(text: str | None) -> str:
    """The id of an item as it was asked for, or a new one. Raises Refused."""
    if not text:
        return secrets.token_urlsafe(12)
    if len(text.encode()) > NAME_BYTES:
        raise Refused('not-acceptable', text=f'The id of an item has at most {NAME_BYTES} bytes.')
    return text


def node_name(text: str | None) -> str:
    """A name for a new node. Raises Refused."""
    if not text:
        raise Refused('bad-request', 'nodeid-required', "Name the node in the attribute 'node'.")
    if len(text.encode()) > NAME_BYTES:
        raise Refused('not-acceptable', text=f'The name of a node has at most {NAME_BYTES} bytes.')
    return text


async def publish(place: Place, sender: Who, stanza: Stanza, pubsub: Element, action: Element) -> bytes:
    """XEP-0060 7.1; makes the node of an account at its first item (XEP-0163 3)."""
    bounds = limits(place.router)
    name = node_name(action.get('node'))
    entries = _entries(pubsub, action, stanza, bounds)
    options = _options(pubsub)
    async with place.lock(name):
        async with place.router.node.store.transaction() as connection:
            node, config = await _target(place, connection, sender, name, options, bounds)
            who = await actor(place, connection, node, sender.bare)
            if not may_publish(config, who):
                if place.personal:
                    check_access(place, config, who)
                raise Refused('forbidden', text='You may not publish at this node.')
            _fits(config, entries)
            gone: list[str] = []
            if config.persist_items and config.max_items != 0:
                rows = [(entry[0], sender.jid, entry[1]) for entry in entries]
                most = bounds.items if config.max_items is None else min(config.max_items, bounds.items)
                gone, size = await store.publish(connection, node, rows, most)
                _, used = await store.usage(connection, place.owner, node.creator)
                if used > bounds.storage and size >= node.size:
                    text = f'All items of one owner together have at most {bounds.storage} bytes.'
                    raise Refused('resource-constraint', text=text)
        place.router.node.counters.pubsub_published += len(entries)
        await _tell(place, node, config, sender, entries, gone)
        await changed(place, name)
    stored = ''.join(f"<item id='{quote(entry[0])}'/>" for entry in entries)
    inside = f"<publish node='{quote(name)}'>{stored}</publish>"
    return iq_result(stanza, f"<pubsub xmlns='{ns.PUBSUB}'>{inside}</pubsub>".encode())


def _entries(pubsub: Element, action: Element, stanza: Stanza, bounds: Limits) -> list[tuple[str, bytes]]:
    """(id, payload) of each item. Raises Refused."""
    place = list(pubsub).index(action)
    found: list[tuple[str, bytes]] = []
    payloads = fragments(stanza.raw, 4)
    if len(action) > PUBLISHED_AT_ONCE:
        raise Refused(
            'not-allowed', 'max-items-exceeded', f'At most {PUBLISHED_AT_ONCE} items can be published at once.'
        )
    for index, child in enumerate(action):
        if child.tag != f'{_P}item':
            raise Refused('bad-request', text='A publication holds items only.')
        if len(child) > 1 or (child.text or '').strip():
            raise Refused('bad-request', 'invalid-payload', 'An item holds exactly one element.')
        payload = payloads.get((0, place, index, 0), b'')
        if len(payload) > bounds.payload:
            text = f'A payload has at most {bounds.payload} bytes.'
            raise Refused('not-acceptable', 'payload-too-big', text)
        found.append((identity(child.get('id')), payload))
    if len({entry[0] for entry in found}) != len(found):
        raise Refused('bad-request', text='Two items have the same id.')
    return found


def _options(pubsub: Element) -> forms.Form | None:
    element = pubsub.find(f'{_P}publish-options')
    if element is None:
        return None
    try:
        return forms.submitted(forms.find(element), configuration.PUBLISH_OPTIONS, configuration.OPTIONS)
    except forms.FormError as error:
        # an option that is not known cannot be met (XEP-0060 7.1.5)
        raise Refused('conflict', 'precondition-not-met', str(error)) from None


def _fits(config: NodeConfig, entries: list[tuple[str, bytes]]) -> None:
    if not entries and (config.persist_items or config.deliver_payloads):
        raise Refused('bad-request', 'item-required', 'Publish at least one item.')
    if config.persist_items and config.deliver_payloads and not all(payload for _, payload in entries):
        raise Refused('bad-request', 'payload-required', 'Every item of this node needs a payload.')


async def _target(
    place: Place, connection: Connection, sender: Who, name: str, options: forms.Form | None, bounds: Limits
) -> tuple[Node, NodeConfig]:
    """The node to publish at, locked, made when the account has none yet. Raises Refused."""
    node = await store.node(connection, place.owner, name, lock=True)
    try:
        if node is not None:
            config = place.config(node)
            if options is not None and configuration.unmet(config, options, bounds.items):
                text = 'The configuration of the node differs from the options of the publication.'
                raise Refused('conflict', 'precondition-not-met', text)
            return node, config
        if not place.personal or sender.bare != place.address:
            await node_or_refuse(place, connection, name, sender)
            raise Refused('item-not-found', text='There is no such node.')
        config = configuration.defaults(personal=True)
        if options is not None:
            config = configuration.changed(config, options, bounds.items)
    except forms.FormError as error:
        raise Refused('conflict', 'precondition-not-met', str(error)) from None
    return await make(place, connection, name, place.address, config, bounds), config


async def make(
    place: Place, connection: Connection, name: str, creator: str, config: NodeConfig, bounds: Limits
) -> Node:
    """A new node, within the limits of its owner. Raises Refused."""
    count, _ = await store.usage(connection, place.owner, creator)
    if count >= bounds.nodes:
        text = f'You have {count} nodes; {bounds.nodes} is the maximum.'
        raise Refused('resource-constraint', text=text)
    by = '' if place.personal else creator
    node = await store.create(connection, place.owner, by, name, configuration.dump(config, place.personal))
    if node is None:
        raise Refused('conflict', text='There is a node of this name already.')
    if not place.personal:
        await store.affiliate(connection, node.id, creator, OWNER)
    return node


async def _tell(
    place: Place, node: Node, config: NodeConfig, sender: Who, entries: list[tuple[str, bytes]], gone: list[str]
) -> None:
    by = sender.bare if config.itemreply == 'publisher' else ''
    full = b''.join(notify.item(name, payload, by) for name, payload in entries)
    short = b''.join(notify.item(name, b'', by) for name, _ in entries)
    if not entries:
        full = short = b''
    if len(entries) <= 1 or len(full) < notify.TOGETHER:
        await notify.tell(place, node, config, notify.items(node.name, full), notify.items(node.name, short))
    else:
        for name, payload in entries:
            inside = notify.items(node.name, notify.item(name, payload, by))
            await notify.tell(place, node, config, inside, notify.items(node.name, notify.item(name, b'', by)))


async def put(place: Place, name: str, identity: str, payload: bytes, create: bool = True) -> bool:
    """Publish an item of the server's own at a node of an account, within the limits of its owner. False: it does not
    fit, or the node keeps nothing, or (without ``create``) there is no such node."""
    bounds = limits(place.router)
    if len(payload) > bounds.payload:
        return False
    async with place.lock(name):
        try:
            async with place.router.node.store.transaction() as connection:
                node = await store.node(connection, place.owner, name, lock=True)
                config = place.config(node) if node is not None else configuration.defaults(place.personal)
                if node is None:
                    if not create:
                        return False
                    node = await make(place, connection, name, place.address, config, bounds)
                if not config.persist_items or config.max_items == 0:
                    return False
                most = bounds.items if config.max_items is None else min(config.max_items, bounds.items)
                await store.publish(connection, node, [(identity, place.address, payload)], most)
                if (await store.usage(connection, place.owner, ''))[1] > bounds.storage:
                    raise Refused('resource-constraint')
        except Refused:
            return False
        inside, short = notify.item(identity, payload), notify.item(identity)
        await notify.tell(place, node, config, notify.items(name, inside), notify.items(name, short))
        await changed(place, name)
    return True


async def retract(place: Place, sender: Who, stanza: Stanza, pubsub: Element, action: Element) -> bytes:
    """XEP-0060 7.2."""
    name = node_name(action.get('node'))
    ids = [child.get('id') or '' for child in action if child.tag == f'{_P}item']
    if not ids or not all(ids):
        raise Refused('bad-request', 'item-required', 'Name the item to delete by its id.')
    if len(ids) > PUBLISHED_AT_ONCE:
        raise Refused('not-allowed', text=f'At most {PUBLISHED_AT_ONCE} items can be deleted at once.')
    async with place.lock(name):
        async with place.router.node.store.transaction() as connection:
            node = await node_or_refuse(place, connection, name, sender, lock=True)
            config = place.config(node)
            who = await actor(place, connection, node, sender.bare)
            if place.personal:
                check_access(place, config, who)
            found = await store.find(connection, node.id, ids)
            if not who.owner and not (
                may_publish(config, who) and all(item.publisher == sender.bare for item in found)
            ):
                raise Refused('forbidden', text='You may delete only items that you published.')
            if not config.persist_items:
                raise unsupported('persistent-items')
            if not found:
                raise Refused('item-not-found', text='There is no such item.')
            done = await store.retract(connection, node.id, ids)
        if config.notify_retract or action.get('notify') in ('1', 'true'):
            await notify.tell(place, node, config, notify.items(name, notify.retractions(done)))
        await changed(place, name)
    return iq_result(stanza)


async def create(place: Place, sender: Who, stanza: Stanza, pubsub: Element, action: Element) -> bytes:
    """XEP-0060 8.1, with a configuration or without, also an instant node."""
    bounds = limits(place.router)
    if place.personal and sender.bare != place.address:
        if not await sees(place, sender.bare):
            raise hidden()
        raise Refused('forbidden', text='Only the owner of the account makes nodes there.')
    if not place.personal and not (bounds.creators and sender.bare.rpartition('@')[2] in place.router.domains):
        raise Refused('forbidden', text='You may not make nodes here.')
    asked = action.get('node')
    name = node_name(asked) if asked else secrets.token_urlsafe(15)
    config = configuration.defaults(place.personal)
    element = pubsub.find(f'{_P}configure')
    if element is not None and (form := forms.find(element)) is not None:
        try:
            submission = forms.submitted(form, configuration.NODE_CONFIG, configuration.FIELDS)
            config = configuration.changed(config, submission, bounds.items)
        except forms.FormError as error:
            raise Refused('not-acceptable', text=str(error)) from None
    async with place.lock(name), place.router.node.store.transaction() as connection:
        if await store.node(connection, place.owner, name) is not None:
            raise Refused('conflict', text='There is a node of this name already.')
        await make(place, connection, name, sender.bare, config, bounds)
    if asked:
        return iq_result(stanza)
    inside = f"<pubsub xmlns='{ns.PUBSUB}'><create node='{quote(name)}'/></pubsub>"
    return iq_result(stanza, inside.encode())


async def delete(place: Place, sender: Who, stanza: Stanza, pubsub: Element, action: Element) -> bytes:
    """XEP-0060 8.4; with a redirect to another node when one is given."""
    name = action.get('node')
    redirect = action.find(f'{_O}redirect')
    target = redirect.get('uri', '') if redirect is not None else ''
    if len(target) > 2048:
        raise Refused('not-acceptable', text='The address of a redirect has at most 2048 characters.')
    async with place.lock(name or ''):
        async with place.router.node.store.transaction() as connection:
            node, config = await owned(place, connection, name, sender, lock=True)
            sessions, others = (
                await notify.receivers(place, connection, node, config) if config.notify_delete else ([], [])
            )
            await store.delete(connection, node.id)
        inner = f"<redirect uri='{quote(target)}'/>" if target else ''
        inside = f"<delete node='{quote(node.name)}'>{inner}</delete>"
        notify.send(place, config, sessions, others, inside.encode())
        await changed(place, node.name)
    return iq_result(stanza)


async def purge(place: Place, sender: Who, stanza: Stanza, pubsub: Element, action: Element) -> bytes:
    """XEP-0060 8.5."""
    name = action.get('node')
    async with place.lock(name or ''):
        async with place.router.node.store.transaction() as connection:
            node, config = await owned(place, connection, name, sender, lock=True)
            if not config.persist_items:
                raise unsupported('persistent-items')
            await store.purge(connection, node.id)
        if config.notify_retract:
            await notify.tell(place, node, config, f"<purge node='{quote(node.name)}'/>".encode())
        await changed(place, node.name)
    return iq_result(stanza)
