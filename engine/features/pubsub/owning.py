"""What owners do with a node: configure it, manage affiliations and subscriptions (XEP-0060 8.2, 8.3, 8.8, 8.9)."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from engine.contract import jid as jids
from engine.contract.pubsub_nodes import AFFILIATIONS, JID_BYTES
from engine.features.pubsub import config as configuration
from engine.features.pubsub import notify
from engine.features.pubsub.place import NONE, OUTCAST, OWNER, Place, Refused, Who, actor, check_access, limits, owned
from engine.features.pubsub.subscribing import tell_state
from engine.store import pubsub as store
from engine.store.pubsub import Subscription
from engine.xmpp import forms, ns
from engine.xmpp.stanza import iq_result, quote

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from engine.features.pubsub.config import NodeConfig
    from engine.store.pool import Connection
    from engine.store.pubsub import Node
    from engine.xmpp.stanza import Stanza

_O = f'{{{ns.PUBSUB_OWNER}}}'
CHANGES = 200
"""Most affiliations or subscriptions changed by one request."""


async def default(place: Place, sender: Who, stanza: Stanza, pubsub: Element, action: Element) -> bytes:
    """XEP-0060 8.3: the configuration a new node has."""
    form = configuration.form(configuration.defaults(place.personal)).xml()
    return iq_result(stanza, f"<pubsub xmlns='{ns.PUBSUB_OWNER}'><default>{form}</default></pubsub>".encode())


async def configure(place: Place, sender: Who, stanza: Stanza, pubsub: Element, action: Element) -> bytes:
    """XEP-0060 8.2: read or change the configuration of a node."""
    name = action.get('node') or ''
    if stanza.type == 'get':
        async with place.router.node.store.connection() as connection:
            node, config = await owned(place, connection, name, sender)
        inside = f"<configure node='{quote(node.name)}'>{configuration.form(config).xml()}</configure>"
        return iq_result(stanza, f"<pubsub xmlns='{ns.PUBSUB_OWNER}'>{inside}</pubsub>".encode())
    bounds = limits(place.router)
    async with place.lock(name):
        async with place.router.node.store.transaction() as connection:
            node, config = await owned(place, connection, name, sender, lock=True)
            try:
                fields = configuration.FIELDS
                form = forms.submitted(forms.find(action), configuration.NODE_CONFIG, fields, cancel=True)
                if form.kind == 'cancel':
                    return iq_result(stanza)
                new = configuration.changed(config, form, bounds.items)
            except forms.FormError as error:
                raise Refused('not-acceptable', text=str(error)) from None
            await store.configure(connection, node.id, configuration.dump(new, place.personal))
            most = 0 if not new.persist_items else bounds.items if new.max_items is None else new.max_items
            gone = await store.trim(connection, node.id, most) if most < node.items else []
            if gone:
                await store.recount(connection, node.id)
            lost = await _drop_unentitled(place, connection, node, new) if _stricter(config, new) else []
        for entry in lost:
            tell_state(place, node, entry.jid, NONE)
        if new.notify_config:
            result = configuration.form(new, 'result').xml() if new.deliver_payloads else ''
            inside = f"<configuration node='{quote(node.name)}'>{result}</configuration>"
            await notify.tell(place, node, new, inside.encode())
    return iq_result(stanza)


def _stricter(old: NodeConfig, new: NodeConfig) -> bool:
    return (old.access_model, old.roster_groups_allowed) != (new.access_model, new.roster_groups_allowed) and (
        new.access_model not in ('open', 'authorize')
    )


async def _drop_unentitled(place: Place, connection: Connection, node: Node, new: NodeConfig) -> list[Subscription]:
    """End the subscriptions that a new access model does not allow."""
    lost = []
    now = node._replace(config=configuration.dump(new, place.personal))
    for entry in await store.subscriptions(connection, node.id):
        try:
            check_access(place, new, await actor(place, connection, now, entry.jid.partition('/')[0]), subscribing=True)
        except Refused:
            await store.unsubscribe(connection, node.id, entry.jid)
            lost.append(entry)
    return lost


async def affiliations(place: Place, sender: Who, stanza: Stanza, pubsub: Element, action: Element) -> bytes:
    """XEP-0060 8.9: read or change who is owner, publisher, member or outcast. An owner always remains."""
    name = action.get('node') or ''
    if stanza.type == 'get':
        async with place.router.node.store.connection() as connection:
            node, _ = await owned(place, connection, name, sender)
            listed = await store.affiliations(connection, node.id)
        if place.personal:
            listed = {place.address: OWNER, **listed}
        inside = ''.join(f"<affiliation jid='{quote(bare)}' affiliation='{value}'/>" for bare, value in listed.items())
        return _listing(stanza, 'affiliations', node, inside)
    changes = _affiliation_changes(action)
    lost: list[Subscription] = []
    async with place.lock(name):
        async with place.router.node.store.transaction() as connection:
            node, _ = await owned(place, connection, name, sender, lock=True)
            if place.personal and place.address in changes:
                raise Refused('not-acceptable', text='The owner of an account is the owner of its nodes.')
            for bare, value in changes.items():
                await store.affiliate(connection, node.id, bare, value)
                if value == OUTCAST:
                    for entry in await store.subscriptions(connection, node.id, bare):
                        await store.unsubscribe(connection, node.id, entry.jid)
                        lost.append(entry)
            listed = await store.affiliations(connection, node.id)
            if not place.personal and OWNER not in listed.values():
                raise Refused('not-acceptable', text='A node needs an owner.')
            most = limits(place.router).subscriptions
            if len(listed) > most:
                raise Refused('resource-constraint', text=f'A node has at most {most} affiliations.')
        for entry in lost:
            tell_state(place, node, entry.jid, NONE)
        for bare, value in changes.items():
            _tell_affiliation(place, node, bare, value)
    return iq_result(stanza)


def _listing(stanza: Stanza, name: str, node: Node, inside: str) -> bytes:
    body = f"<{name} node='{quote(node.name)}'>{inside}</{name}>"
    return iq_result(stanza, f"<pubsub xmlns='{ns.PUBSUB_OWNER}'>{body}</pubsub>".encode())


def _affiliation_changes(action: Element) -> dict[str, str]:
    changes: dict[str, str] = {}
    if len(action) > CHANGES:
        raise Refused('not-acceptable', text=f'At most {CHANGES} affiliations can be changed at once.')
    for child in action:
        value = child.get('affiliation', '')
        if child.tag != f'{_O}affiliation' or value not in AFFILIATIONS:
            text = f'An affiliation is one of: {", ".join(AFFILIATIONS)}.'
            raise Refused('bad-request', text=text)
        changes[_address(child.get('jid')).partition('/')[0]] = value
    return changes


def _address(text: str | None) -> str:
    try:
        prepared = jids.prepare(text or '')
    except jids.InvalidJID as error:
        raise Refused('jid-malformed', text=str(error)) from None
    if len(prepared.encode()) > JID_BYTES:
        raise Refused('not-acceptable', text=f'An address has at most {JID_BYTES} bytes here.')
    return prepared


def _tell_affiliation(place: Place, node: Node, bare: str, value: str) -> None:
    inside = f"<affiliations><affiliation node='{quote(node.name)}' affiliation='{value}'/></affiliations>"
    head = f"<message from='{quote(place.address)}' type='headline' to='".encode()
    body = f"'><pubsub xmlns='{ns.PUBSUB}'>{inside}</pubsub></message>"
    notify.post(place.router, place.address, bare, (head, body.encode()))


async def subscriptions(place: Place, sender: Who, stanza: Stanza, pubsub: Element, action: Element) -> bytes:
    """XEP-0060 8.8: read or change the subscriptions of a node."""
    name = action.get('node') or ''
    if stanza.type == 'get':
        async with place.router.node.store.connection() as connection:
            node, _ = await owned(place, connection, name, sender)
            found = await store.subscriptions(connection, node.id)
        inside = ''.join(
            f"<subscription jid='{quote(entry.jid)}' subscription='{_state(entry)}' subid='{quote(entry.subid)}'/>"
            for entry in found
        )
        return _listing(stanza, 'subscriptions', node, inside)
    changes = _subscription_changes(action)
    async with place.lock(name):
        async with place.router.node.store.transaction() as connection:
            node, _ = await owned(place, connection, name, sender, lock=True)
            now = {entry.jid: entry for entry in await store.subscriptions(connection, node.id)}
            for address, state in changes.items():
                if state == NONE:
                    await store.unsubscribe(connection, node.id, address)
                else:
                    if address not in now and address.partition('/')[0].rpartition('@')[2] not in place.router.domains:
                        # else this server would send to whomever an owner likes, as often as he publishes
                        raise Refused('not-allowed', text=f'{address} is of another server and must ask itself.')
                    entry = now.get(address) or Subscription(address, secrets.token_hex(10), False, True)
                    entry = entry._replace(pending=state == 'pending')
                    await store.subscribe(connection, node.id, address.partition('/')[0], entry)
            most = limits(place.router).subscriptions
            if (await store.counts(connection, node.id))[0] > most:
                raise Refused('policy-violation', 'too-many-subscriptions', f'{most} subscriptions are the maximum.')
        for address, state in changes.items():
            if _state(now.get(address)) != state:
                tell_state(place, node, address, state)
    return iq_result(stanza)


def _state(entry: Subscription | None) -> str:
    return NONE if entry is None else 'pending' if entry.pending else 'subscribed'


def _subscription_changes(action: Element) -> dict[str, str]:
    changes: dict[str, str] = {}
    if len(action) > CHANGES:
        raise Refused('not-acceptable', text=f'At most {CHANGES} subscriptions can be changed at once.')
    for child in action:
        state = child.get('subscription', '')
        if child.tag != f'{_O}subscription' or state not in (NONE, 'pending', 'subscribed'):
            raise Refused('bad-request', text='A subscription is one of: none, pending, subscribed.')
        changes[_address(child.get('jid'))] = state
    return changes
