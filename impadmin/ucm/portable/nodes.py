"""Personal nodes of a user (XEP-0163) in a XEP-0227 document (4.10): read with everything checked, and written.

Two elements hold them: <pubsub/> of pubsub#owner the configuration of each node, <pubsub/> of pubsub its items, oldest
first. Who may do what and who is subscribed stands with the configuration in the form of XEP-0060 8.8 and 8.9, as
Prosody writes it too; XEP-0227 names no place for it.

Where the document does not configure a node, or not with an access model that exists, only its owner may read it; where
it does not say how many items a node keeps, it keeps those it has.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from xml.etree.ElementTree import Element

import msgspec

from engine.contract import jid
from engine.contract.pubsub_nodes import (
    ACCOUNT,
    AFFILIATIONS,
    CHOICES,
    GROUPS,
    JID_BYTES,
    NAME_BYTES,
    NODE_CONFIG,
    PREFIX,
    TEXT,
    NodeConfig,
    values,
)
from impadmin.ucm.portable import PUBSUB, PUBSUB_OWNER
from impadmin.ucm.portable.markup import attribute, split, text, written

_FORM = '{jabber:x:data}'
_TRUE, _FALSE = ('1', 'true'), ('0', 'false')
_SUBSCRIPTIONS = {'subscribed': False, 'pending': True}
NODES = 10_000
ITEMS = 100_000
"""Most nodes of a user and items of a node that are looked at: the highest the service parameters can be."""
_NOWHERE = '\0'
"""No namespace: payloads say theirs, they are put into other elements."""
Skip = Callable[[str], None]


@dataclass(slots=True)
class Item:
    """A published item; ``payload`` is empty when there is none."""

    publisher: str
    payload: bytes


@dataclass(slots=True)
class Subscription:
    """Who asked for the notifications of a node."""

    subid: str
    pending: bool
    deliver: bool = True


@dataclass(slots=True)
class Node:
    """One node. ``config`` None: there was none in the document. ``kept``: it says how many items are kept."""

    config: NodeConfig | None = None
    kept: bool = False
    items: dict[str, Item] = field(default_factory=dict)
    affiliations: dict[str, str] = field(default_factory=dict)
    subscriptions: dict[str, Subscription] = field(default_factory=dict)


def finish(nodes: Mapping[str, Node], skip: Skip) -> None:
    """After everything was read: what the document left open."""
    for name, node in nodes.items():
        if node.config is None:
            skip(f'node {name[:100]!r}: it has no configuration, so only the owner can read it')
            node.config = NodeConfig(access_model='whitelist')
        most = node.config.max_items
        if not node.kept and most is not None and len(node.items) > most:
            node.config = msgspec.structs.replace(node.config, max_items=None)


def read_owner(nodes: dict[str, Node], pubsub: Element, address: str, skip: Skip) -> None:
    """<pubsub/> of pubsub#owner: configurations, affiliations, subscriptions."""
    for child in pubsub:
        kind = split(child.tag)[1]
        if child.tag not in {f'{{{PUBSUB_OWNER}}}{name}' for name in ('configure', 'affiliations', 'subscriptions')}:
            skip(f'<{kind[:100]}/> of the nodes is not imported')
            continue
        node = _node(nodes, child, skip)
        if node is None:
            continue
        shown = f'node {child.get("node", "")[:100]!r}'
        if kind == 'configure':
            _configure(node, child, shown, skip)
        elif kind == 'affiliations':
            _affiliations(node, child, shown, address, skip)
        else:
            _subscriptions(node, child, shown, skip)


def read_items(nodes: dict[str, Node], pubsub: Element, address: str, skip: Skip) -> None:
    """<pubsub/> of pubsub: the items."""
    for child in pubsub:
        if child.tag != f'{{{PUBSUB}}}items':
            skip(f'<{split(child.tag)[1][:100]}/> of the nodes is not imported')
        elif (node := _node(nodes, child, skip)) is not None:
            _items(node, child, f'node {child.get("node", "")[:100]!r}', address, skip)


def _node(nodes: dict[str, Node], element: Element, skip: Skip) -> Node | None:
    name = element.get('node', '')
    if not name or len(name.encode()) > NAME_BYTES:
        skip(f'node {name[:100]!r}: its name must have 1 to {NAME_BYTES} bytes')
    elif name not in nodes and len(nodes) >= NODES:
        skip(f'node {name[:100]!r}: there are more than {NODES}')
    else:
        return nodes.setdefault(name, Node())
    return None


def _configure(node: Node, element: Element, shown: str, skip: Skip) -> None:
    if node.config is not None:
        skip(f'{shown}: it is configured twice, the first time counts')
        return
    changes: dict[str, Any] = {}
    form = element.find(f'{_FORM}x')
    if form is None:
        return
    for entry in form.findall(f'{_FORM}field'):
        var = entry.get('var', '')
        name = var.removeprefix(PREFIX)
        found = [value.text or '' for value in entry.findall(f'{_FORM}value')]
        if var == 'FORM_TYPE' or not any(found):
            continue
        if not var.startswith(PREFIX) or name not in NodeConfig.__struct_fields__:
            skip(f'{shown}: there is no setting {var[:100]!r} here')
            continue
        try:
            changes[name] = _value(name, found)
        except ValueError as error:
            if name == 'access_model':
                changes[name] = 'whitelist'
                skip(f'{shown}: {var}: {error}, so only the owner can read it')
            else:
                skip(f'{shown}: {var}: {error}')
    node.kept = 'max_items' in changes
    node.config = NodeConfig(**changes)


def _value(name: str, found: list[str]) -> Any:
    """A setting as stored. Raises ValueError."""
    first, default = found[0], getattr(ACCOUNT, name)
    if isinstance(default, tuple):
        if len(found) > GROUPS or any(len(value) > TEXT for value in found):
            raise ValueError(f'at most {GROUPS} values of at most {TEXT} characters are possible')
        return tuple(dict.fromkeys(found))
    if len(found) > 1:
        raise ValueError('there is more than one value')
    if name in CHOICES:
        if first not in CHOICES[name]:
            raise ValueError(f'it is one of {", ".join(CHOICES[name])}, not {first[:40]!r}')
    elif isinstance(default, bool):
        if first not in _TRUE + _FALSE:
            raise ValueError(f'it is 0 or 1, not {first[:40]!r}')
        return first in _TRUE
    elif name == 'max_items':
        if first == 'max':
            return None
        if not (first.isascii() and first.isdigit() and len(first) < 10):
            raise ValueError(f"it is a whole number or 'max', not {first[:40]!r}")
        return int(first)
    elif len(first) > TEXT:
        raise ValueError(f'it has more than {TEXT} characters')
    return first


def _address(element: Element) -> str:
    """A prepared JID. Raises InvalidJID."""
    prepared = jid.prepare(element.get('jid', ''))
    if len(prepared.encode()) > JID_BYTES:
        raise jid.InvalidJID(f'it has more than {JID_BYTES} bytes')
    return prepared


def _affiliations(node: Node, element: Element, shown: str, owner: str, skip: Skip) -> None:
    for child in element:
        value = child.get('affiliation', '')
        try:
            bare = _address(child).partition('/')[0]
        except jid.InvalidJID as error:
            skip(f'{shown}: affiliation of {child.get("jid", "")[:100]!r}: {error}')
            continue
        if value not in AFFILIATIONS:
            skip(f'{shown}: affiliation of {bare[:100]}: it is one of {", ".join(AFFILIATIONS)}, not {value[:40]!r}')
        elif bare != owner and value != 'none':  # the owner of an account owns its nodes
            node.affiliations[bare] = value


def _subscriptions(node: Node, element: Element, shown: str, skip: Skip) -> None:
    for child in element:
        # Prosody up to 0.12 writes the state into the attribute 'subscribed'
        state = child.get('subscription') or child.get('subscribed', '')
        try:
            address = _address(child)
        except jid.InvalidJID as error:
            skip(f'{shown}: subscription of {child.get("jid", "")[:100]!r}: {error}')
            continue
        if state == 'none':
            continue
        if state not in _SUBSCRIPTIONS:
            skip(f'{shown}: subscription of {address[:100]}: it is subscribed or pending, not {state[:40]!r}')
            continue
        subid = child.get('subid', '')
        option = child.find(f'.//{_FORM}field[@var="pubsub#deliver"]/{_FORM}value')
        deliver = option is None or option.text not in _FALSE
        subid = subid if 0 < len(subid) <= 40 else secrets.token_hex(10)
        node.subscriptions[address] = Subscription(subid, _SUBSCRIPTIONS[state], deliver)


def _items(node: Node, element: Element, shown: str, owner: str, skip: Skip) -> None:
    for number, child in enumerate(element, 1):
        name = child.get('id', '')
        item = f'{shown}: item {name[:100]!r}' if name else f'{shown}: item {number}'
        if child.tag != f'{{{PUBSUB}}}item':
            skip(f'{item}: it is no item')
        elif len(child) > 1 or (child.text or '').strip():
            skip(f'{item}: an item holds one element')
        elif len(name.encode()) > NAME_BYTES:
            skip(f'{item}: an id has at most {NAME_BYTES} bytes')
        elif name in node.items:
            skip(f'{item}: it is there twice')
        elif len(node.items) >= ITEMS:
            skip(f'{item}: there are more than {ITEMS}')
            return
        else:
            try:
                publisher = jid.prepare(child.get('publisher') or owner).partition('/')[0]
            except jid.InvalidJID:
                skip(f'{item}: its publisher is no JID, the owner takes its place')
                publisher = owner
            payload = written(child[0], _NOWHERE).encode() if len(child) else b''
            node.items[name or secrets.token_urlsafe(12)] = Item(publisher, payload)


def owner_xml(nodes: Mapping[str, Node]) -> Iterator[str]:
    """<pubsub/> of pubsub#owner, in pieces."""
    yield f"<pubsub xmlns='{PUBSUB_OWNER}'>\n"
    for name, node in nodes.items():
        named = f"node='{attribute(name)}'"
        yield f'<configure {named}>{_form(node.config or ACCOUNT)}</configure>\n'
        if node.affiliations:
            inside = ''.join(
                f"<affiliation jid='{attribute(bare)}' affiliation='{value}'/>"
                for bare, value in node.affiliations.items()
            )
            yield f'<affiliations {named}>{inside}</affiliations>\n'
        if node.subscriptions:
            inside = ''.join(_subscription(address, entry) for address, entry in node.subscriptions.items())
            yield f'<subscriptions {named}>{inside}</subscriptions>\n'
    yield '</pubsub>\n'


def _form(config: NodeConfig) -> str:
    fields = f"<field var='FORM_TYPE' type='hidden'><value>{NODE_CONFIG}</value></field>"
    for name in NodeConfig.__struct_fields__:
        if found := ''.join(f'<value>{text(value)}</value>' for value in values(config, name)):
            fields += f"<field var='{PREFIX}{name}'>{found}</field>"
    return f"<x xmlns='jabber:x:data' type='submit'>{fields}</x>"


def _subscription(address: str, entry: Subscription) -> str:
    state = 'pending' if entry.pending else 'subscribed'
    head = f"<subscription jid='{attribute(address)}' subscription='{state}' subid='{attribute(entry.subid)}'"
    if entry.deliver:
        return f'{head}/>'
    fields = (
        "<field var='FORM_TYPE' type='hidden'><value>http://jabber.org/protocol/pubsub#subscribe_options</value></field>"
        "<field var='pubsub#deliver'><value>0</value></field>"
    )
    return f"{head}><options><x xmlns='jabber:x:data' type='submit'>{fields}</x></options></subscription>"


def item_xml(name: str, item: Item, owner: str) -> str:
    """One <item/>."""
    by = f" publisher='{attribute(item.publisher)}'" if item.publisher != owner else ''
    return f"<item id='{attribute(name)}'{by}>{item.payload.decode()}</item>\n"
