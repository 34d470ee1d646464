"""What service discovery says about nodes (XEP-0060 5): of accounts to those who see them, of the service to all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from engine.features.pubsub.config import META_DATA, PREFIX
from engine.features.pubsub.place import Place, Refused, Who, actor, check_access, hidden, node_or_refuse, sees
from engine.store import pubsub as store
from engine.xmpp import ns, rsm
from engine.xmpp.forms import Field, Form
from engine.xmpp.forms import hidden as form_type
from engine.xmpp.stanza import element, iq_result, quote

if TYPE_CHECKING:
    from engine.xmpp.stanza import Stanza

PAGE: Final = 500
COMMON: Final = tuple(
    f'{ns.PUBSUB}#{name}'
    for name in (
        'access-authorize', 'access-open', 'access-presence', 'access-roster', 'access-whitelist', 'config-node',
        'config-node-max', 'create-and-configure', 'create-nodes', 'delete-items', 'delete-nodes', 'instant-nodes',
        'item-ids', 'last-published', 'manage-subscriptions', 'member-affiliation', 'meta-data', 'modify-affiliations',
        'multi-items', 'outcast-affiliation', 'persistent-items', 'publish', 'publish-only-affiliation',
        'publish-options', 'publisher-affiliation', 'purge-nodes', 'retract-items', 'retrieve-affiliations',
        'retrieve-default', 'retrieve-default-sub', 'retrieve-items', 'retrieve-subscriptions', 'rsm', 'subscribe',
        'subscription-options',
    )
)  # fmt: skip
ACCOUNT: Final = (
    ns.PUBSUB,
    f'{ns.PUBSUB}#auto-create',
    f'{ns.PUBSUB}#auto-subscribe',
    f'{ns.PUBSUB}#filtered-notifications',
    f'{ns.PUBSUB}#presence-notifications',
    f'{ns.PUBSUB}#presence-subscribe',
    *COMMON,
)
"""Features an account announces (XEP-0163 6)."""
SERVICE: Final = (ns.PUBSUB, ns.DISCO_INFO, ns.DISCO_ITEMS, ns.PING, rsm.RSM, *COMMON)


async def service_info(place: Place, sender: Who, stanza: Stanza, name: str | None) -> bytes:
    """disco#info of the service or of one node."""
    if name:
        return await node_info(place, sender, stanza, name)
    identity = element('identity', '', '', category='pubsub', type='service', name='Publish-Subscribe')
    features = ''.join(element('feature', '', '', var=feature) for feature in SERVICE)
    return iq_result(stanza, f"<query xmlns='{ns.DISCO_INFO}'>{identity}{features}</query>".encode())


async def node_info(place: Place, sender: Who, stanza: Stanza, name: str) -> bytes:
    """disco#info of a node: identity and meta-data (XEP-0060 5.3, 5.4)."""
    try:
        async with place.router.node.store.connection() as connection:
            node = await node_or_refuse(place, connection, name, sender)
            config = place.config(node)
            if place.personal:
                check_access(place, config, await actor(place, connection, node, sender.bare))
            subscribed, _ = await store.counts(connection, node.id)
    except Refused as refused:
        return refused.answer(stanza)
    fields = [form_type(META_DATA)]
    shown = ('title', 'description', 'type', 'language', 'access_model', 'publish_model')
    fields += [Field(PREFIX + key, 'text-single', (getattr(config, key),)) for key in shown if getattr(config, key)]
    if node.creator:
        fields.append(Field(f'{PREFIX}creator', 'jid-single', (node.creator,)))
    fields.append(Field(f'{PREFIX}num_subscribers', 'text-single', (str(subscribed),)))
    identity = element('identity', '', '', category='pubsub', type='leaf', name=config.title or None)
    inside = f"{identity}<feature var='{ns.PUBSUB}'/>{Form('result', tuple(fields)).xml()}"
    return iq_result(stanza, f"<query xmlns='{ns.DISCO_INFO}' node='{quote(name)}'>{inside}</query>".encode())


async def node_items(place: Place, sender: Who, stanza: Stanza, name: str) -> bytes:
    """disco#items of a node: its items (XEP-0060 5.5)."""
    try:
        async with place.router.node.store.connection() as connection:
            node = await node_or_refuse(place, connection, name, sender)
            check_access(place, place.config(node), await actor(place, connection, node, sender.bare))
            ids = await store.item_ids(connection, node.id, PAGE)
    except Refused as refused:
        return refused.answer(stanza)
    inside = ''.join(element('item', '', '', jid=place.address, name=identity) for identity in ids)
    return iq_result(stanza, f"<query xmlns='{ns.DISCO_ITEMS}' node='{quote(name)}'>{inside}</query>".encode())


async def service_items(place: Place, sender: Who, stanza: Stanza, name: str | None) -> bytes:
    """disco#items of the service: its nodes by name, a page at a time (XEP-0059); of a node: its items."""
    if name:
        return await node_items(place, sender, stanza, name)
    query = stanza.payload
    assert query is not None
    try:
        wanted = rsm.parse(query)
        if wanted.before or wanted.index is not None:
            raise rsm.SetError('The list of nodes is read forwards: give the last name of a page in <after/>.')
    except rsm.SetError as error:
        return Refused('bad-request', text=str(error)).answer(stanza)
    most = PAGE if wanted.max is None else min(wanted.max, PAGE)
    found = await store.nodes(place.router.node.store, None, most, wanted.after or '')
    inside = ''.join(
        element('item', '', '', jid=place.address, node=node.name, name=place.config(node).title or None)
        for node in found
    )
    if wanted.max is not None or wanted.after or len(found) == most:
        inside += rsm.answer(found[0].name if found else '', found[-1].name if found else '')
    return iq_result(stanza, f"<query xmlns='{ns.DISCO_ITEMS}'>{inside}</query>".encode())


async def account_items(place: Place, sender: Who) -> str:
    """The <item/>s for the nodes of an account that the one who asks may see."""
    mine = sender.bare == place.address
    if not mine and not await sees(place, sender.bare):
        raise hidden()
    inside = ''
    found = await store.nodes(place.router.node.store, place.owner, PAGE)
    async with place.router.node.store.connection() as connection:
        for node in found:
            config = place.config(node)
            try:
                if not mine:
                    check_access(place, config, await actor(place, connection, node, sender.bare))
            except Refused:
                continue
            inside += element('item', '', '', jid=place.address, node=node.name, name=config.title or None)
    return inside
