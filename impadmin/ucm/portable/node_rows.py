"""Writing the personal nodes of an imported user, within the limits for publish-subscribe that are in force."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime

import msgspec
from django.db.models import Count, Sum

from engine.contract import pubsub_nodes
from engine.contract.pubsub_nodes import Limits
from engine.contract.services import XCP_ROUTER
from impadmin.console.parameter_values import in_force
from impadmin.presence.models import PubSubAffiliation, PubSubItem, PubSubNode, PubSubSubscription
from impadmin.ucm.models import EndUser
from impadmin.ucm.portable.nodes import Item, Node

Skip = Callable[[str], None]


def limits() -> Limits:
    """Those in force."""
    return pubsub_nodes.limits(in_force(XCP_ROUTER, None).__getitem__)


def write(user: EndUser, nodes: Mapping[str, Node], bounds: Limits, now: datetime, skip: Skip) -> Counter[str]:
    """Make the nodes the user does not have; how many of what. Those who exist stay as they are."""
    counts: Counter[str] = Counter()
    mine = PubSubNode.objects.filter(owner=user)
    known = set(mine.filter(name__in=list(nodes)).values_list('name', flat=True))
    used = mine.aggregate(count=Count('id'), size=Sum('size'))
    count, size = int(used['count']), int(used['size'] or 0)
    for name, node in nodes.items():
        shown = f'node {name[:100]!r}'
        if name in known:
            continue
        if count >= bounds.nodes:
            skip(f'{shown}: a user has at most {bounds.nodes} nodes')
            continue
        config = node.config or pubsub_nodes.ACCOUNT
        if config.max_items is not None and config.max_items > bounds.items:
            config = msgspec.structs.replace(config, max_items=None)
        items = _items(node, config, bounds, shown, skip)
        total = sum(_size(name, item) for name, item in items.items())
        if size + total > bounds.storage:
            skip(f'{shown}: all items of a user together have at most {bounds.storage} bytes')
            continue
        row = PubSubNode.objects.create(
            owner=user, name=name, config=pubsub_nodes.dump(config, personal=True), items=len(items), size=total
        )
        _write_items(row, items, now)
        _write_people(row, node, bounds, shown, skip)
        count, size = count + 1, size + total
        counts['personal nodes'] += 1
        counts['items of personal nodes'] += len(items)
    return counts


def _size(name: str, item: Item) -> int:
    return len(name.encode()) + len(item.payload)


def _items(node: Node, config: pubsub_nodes.NodeConfig, bounds: Limits, shown: str, skip: Skip) -> dict[str, Item]:
    """Those that are kept, oldest first."""
    kept = {}
    for name, item in node.items.items():
        if len(item.payload) > bounds.payload:
            skip(f'{shown}: item {name[:100]!r}: a payload has at most {bounds.payload} bytes')
        else:
            kept[name] = item
    most = bounds.items if config.max_items is None else min(config.max_items, bounds.items)
    if not config.persist_items:
        most = 0
    if len(kept) > most:
        skip(f'{shown}: the oldest {len(kept) - most} items: the node keeps at most {most}')
        kept = dict(list(kept.items())[len(kept) - most :])
    return kept


def _write_items(row: PubSubNode, items: Mapping[str, Item], now: datetime) -> None:
    PubSubItem.objects.bulk_create(
        [
            PubSubItem(node=row, item_id=name, publisher=item.publisher, payload=item.payload, at=now)
            for name, item in items.items()
        ],
        batch_size=500,
    )


def _write_people(row: PubSubNode, node: Node, bounds: Limits, shown: str, skip: Skip) -> None:
    if len(node.affiliations) > bounds.subscriptions:
        skip(f'{shown}: affiliations after the first {bounds.subscriptions}')
    if len(node.subscriptions) > bounds.subscriptions:
        skip(f'{shown}: subscriptions after the first {bounds.subscriptions}')
    PubSubAffiliation.objects.bulk_create(
        PubSubAffiliation(node=row, jid=bare, affiliation=value)
        for bare, value in list(node.affiliations.items())[: bounds.subscriptions]
    )
    outcasts = {bare for bare, value in node.affiliations.items() if value == 'outcast'}
    for address in node.subscriptions:
        if address.partition('/')[0] in outcasts:
            skip(f'{shown}: subscription of {address[:100]}: it is an outcast')
    PubSubSubscription.objects.bulk_create(
        PubSubSubscription(
            node=row, jid=address, bare=address.partition('/')[0], subid=entry.subid, pending=entry.pending,
            deliver=entry.deliver,
        )
        for address, entry in list(node.subscriptions.items())[: bounds.subscriptions]
        if address.partition('/')[0] not in outcasts
    )  # fmt: skip
