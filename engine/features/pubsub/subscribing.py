"""Subscribing, unsubscribing and subscription options (XEP-0060 6.1 to 6.4), and approval by an owner (8.6)."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from engine.contract import jid as jids
from engine.contract.pubsub_nodes import JID_BYTES
from engine.features.pubsub import notify
from engine.features.pubsub.place import OWNER, Place, Refused, Who, actor, check_access, limits, node_or_refuse
from engine.features.pubsub.reading import subscription_xml
from engine.store import pubsub as store
from engine.store.pubsub import Subscription
from engine.xmpp import forms, ns
from engine.xmpp.forms import Field, Form
from engine.xmpp.stanza import iq_result, quote

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from engine.store.pool import Connection
    from engine.store.pubsub import Node
    from engine.xmpp.stanza import Stanza

_P = f'{{{ns.PUBSUB}}}'
OPTIONS = 'http://jabber.org/protocol/pubsub#subscribe_options'
AUTHORIZATION = 'http://jabber.org/protocol/pubsub#subscribe_authorization'
FIELDS = {
    'pubsub#deliver': Field('pubsub#deliver', 'boolean', label='Whether notifications are wanted'),
    'pubsub#digest': Field('pubsub#digest', 'boolean', label='Whether notifications are collected (not possible here)'),
}
APPROVAL = {
    'pubsub#node': Field('pubsub#node', 'text-single', label='Node', required=True),
    'pubsub#subscriber_jid': Field('pubsub#subscriber_jid', 'jid-single', label='Subscriber', required=True),
    'pubsub#subid': Field('pubsub#subid', 'text-single', label='Subscription'),
    'pubsub#allow': Field('pubsub#allow', 'boolean', label='Allow this subscription?', required=True),
}


def subscriber(text: str | None, sender: Who) -> str:
    """The JID that subscribes: bare or full, of the one who asks. Raises Refused."""
    try:
        prepared = jids.prepare(text or '')
    except jids.InvalidJID:
        raise Refused('bad-request', 'jid-required', "Give a JID in the attribute 'jid'.") from None
    if prepared.partition('/')[0] != sender.bare or len(prepared.encode()) > JID_BYTES:
        raise Refused('bad-request', 'invalid-jid', 'You can act only for your own address.')
    return prepared


async def subscribe(place: Place, sender: Who, stanza: Stanza, pubsub: Element, action: Element) -> bytes:
    """XEP-0060 6.1. A subscription that exists is answered as it is."""
    address = subscriber(action.get('jid'), sender)
    deliver = True
    asked = pubsub.find(f'{_P}options')
    if asked is not None:
        deliver = _deliver(asked, default=True)
    last = None
    async with place.lock(action.get('node') or ''):
        async with place.router.node.store.transaction() as connection:
            node = await node_or_refuse(place, connection, action.get('node'), sender, lock=True)
            config = place.config(node)
            who = await actor(place, connection, node, sender.bare)
            check_access(place, config, who, subscribing=True)
            mine = await store.subscriptions(connection, node.id, sender.bare)
            entry = next((found for found in mine if found.jid == address), None)
            if entry is None:
                most = limits(place.router).subscriptions
                if (await store.counts(connection, node.id))[0] >= most:
                    text = f'The node has {most} subscriptions, which is the maximum.'
                    raise Refused('policy-violation', 'too-many-subscriptions', text)
                waits = config.access_model == 'authorize' and who.affiliation not in ('owner', 'publisher', 'member')
                pending = waits and not who.subscribed
                entry = Subscription(address, secrets.token_hex(10), pending, deliver)
                await store.subscribe(connection, node.id, sender.bare, entry)
                if config.send_last_published_item != 'never' and not pending:
                    last = await store.last(connection, node.id)
            owners = await _owners(place, connection, node) if entry.pending else []
        if last:
            inside = notify.items(node.name, notify.item(last[0].id, last[0].payload))
            notify.post(place.router, place.address, address, notify.event(place.address, inside))
        for owner in owners:
            _ask(place, node, entry, owner)
    inside_xml = subscription_xml(node.name, entry)
    return iq_result(stanza, f"<pubsub xmlns='{ns.PUBSUB}'>{inside_xml}</pubsub>".encode())


async def _owners(place: Place, connection: Connection, node: Node) -> list[str]:
    if place.personal:
        return [place.address]
    return [bare for bare, value in (await store.affiliations(connection, node.id)).items() if value == OWNER]


def _ask(place: Place, node: Node, entry: Subscription, owner: str) -> None:
    """The question whether a subscription is approved (XEP-0060 8.6)."""
    values = (node.name, entry.jid, entry.subid, '0')
    fields = tuple(
        Field(field.var, field.type, (value,), field.label)
        for field, value in zip(
            (APPROVAL[f'pubsub#{name}'] for name in ('node', 'subscriber_jid', 'subid', 'allow')), values, strict=True
        )
    )
    form = Form('form', (forms.hidden(AUTHORIZATION), *fields), 'Request to subscribe')
    head = f"<message from='{quote(place.address)}' to='".encode()
    notify.post(place.router, place.address, owner, (head, f"'>{form.xml()}</message>".encode()))


async def unsubscribe(place: Place, sender: Who, stanza: Stanza, pubsub: Element, action: Element) -> bytes:
    """XEP-0060 6.2."""
    async with place.lock(action.get('node') or ''), place.router.node.store.transaction() as connection:
        node, entry = await _mine(place, connection, sender, action)
        await store.unsubscribe(connection, node.id, entry.jid)
    return iq_result(stanza)


async def options(place: Place, sender: Who, stanza: Stanza, pubsub: Element, action: Element) -> bytes:
    """XEP-0060 6.3: read or set the options of a subscription."""
    async with place.lock(action.get('node') or ''), place.router.node.store.transaction() as connection:
        node, entry = await _mine(place, connection, sender, action)
        if stanza.type == 'set':
            entry = entry._replace(deliver=_deliver(action, entry.deliver))
            await store.subscribe(connection, node.id, sender.bare, entry)
            return iq_result(stanza)
    named = f"node='{quote(node.name)}' jid='{quote(entry.jid)}' subid='{quote(entry.subid)}'"
    body = f"<pubsub xmlns='{ns.PUBSUB}'><options {named}>{_form(entry.deliver).xml()}</options></pubsub>"
    return iq_result(stanza, body.encode())


async def default(place: Place, sender: Who, stanza: Stanza, pubsub: Element, action: Element) -> bytes:
    """XEP-0060 6.4: the options a new subscription has."""
    body = f"<pubsub xmlns='{ns.PUBSUB}'><default>{_form(True).xml()}</default></pubsub>"
    return iq_result(stanza, body.encode())


def _form(deliver: bool) -> Form:
    field = FIELDS['pubsub#deliver']
    return Form('form', (forms.hidden(OPTIONS), forms.boolean(field.var, deliver, field.label)))


def _deliver(element: Element, default: bool) -> bool:
    try:
        submission = forms.submitted(forms.find(element), OPTIONS, FIELDS)
        if submission.flag('pubsub#digest'):
            raise Refused('not-acceptable', 'invalid-options', 'Notifications are not collected here.')
        return submission.flag('pubsub#deliver', default)
    except forms.FormError as error:
        raise Refused('bad-request', 'invalid-options', str(error)) from None


async def _mine(place: Place, connection: Connection, sender: Who, action: Element) -> tuple[Node, Subscription]:
    address = subscriber(action.get('jid'), sender)
    node = await node_or_refuse(place, connection, action.get('node'), sender, lock=True)
    for entry in await store.subscriptions(connection, node.id, sender.bare):
        if entry.jid == address:
            if action.get('subid') not in (None, '', entry.subid):
                raise Refused('not-acceptable', 'invalid-subid', 'You have no subscription with this id.')
            return node, entry
    raise Refused('unexpected-request', 'not-subscribed', 'This address is not subscribed.', kind='cancel')


async def approve(place: Place, sender: Who, element: Element) -> bool:
    """An owner answers the question of ``_ask``; False when it is none of that. Raises Refused, FormError."""
    form = forms.parse(element)
    if form.form_type != AUTHORIZATION or form.kind not in ('submit', 'cancel'):
        return False
    if form.kind == 'cancel':
        return True
    form = forms.submitted(element, AUTHORIZATION, APPROVAL)
    name, address = form.text('pubsub#node'), form.text('pubsub#subscriber_jid')
    async with place.lock(name):
        async with place.router.node.store.transaction() as connection:
            node = await node_or_refuse(place, connection, name, sender, lock=True)
            if not (await actor(place, connection, node, sender.bare)).owner:
                raise Refused('forbidden', text='Only an owner of the node approves subscriptions.')
            bare = address.partition('/')[0]
            found = await store.subscriptions(connection, node.id, bare)
            entry = next((entry for entry in found if entry.jid == address and entry.pending), None)
            if entry is None:
                return True
            allowed = form.flag('pubsub#allow')
            if allowed:
                await store.subscribe(connection, node.id, bare, entry._replace(pending=False))
            else:
                await store.unsubscribe(connection, node.id, address)
        state = 'subscribed' if allowed else 'none'
        tell_state(place, node, address, state)
    return True


def tell_state(place: Place, node: Node, address: str, state: str) -> None:
    """Tell a subscriber that an owner changed the subscription (XEP-0060 8.8.4)."""
    inside = f"<subscription node='{quote(node.name)}' jid='{quote(address)}' subscription='{state}'/>"
    head = f"<message from='{quote(place.address)}' type='headline' to='".encode()
    body = f"'><pubsub xmlns='{ns.PUBSUB}'>{inside}</pubsub></message>"
    notify.post(place.router, place.address, address, (head, body.encode()))
