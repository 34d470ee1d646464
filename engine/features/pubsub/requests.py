"""One request to a place with nodes: which action it asks for, and its answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final
from xml.etree.ElementTree import Element

from engine.features.pubsub import owning, publishing, reading, subscribing
from engine.features.pubsub.place import Place, Refused, Who, unsupported
from engine.xmpp import ns

if TYPE_CHECKING:
    from engine.xmpp.stanza import Stanza

Action = Callable[[Place, Who, 'Stanza', Element, Element], Awaitable[bytes]]
ACTIONS: Final[dict[tuple[str, str, str], Action]] = {
    ('set', ns.PUBSUB, 'publish'): publishing.publish,
    ('set', ns.PUBSUB, 'retract'): publishing.retract,
    ('set', ns.PUBSUB, 'create'): publishing.create,
    ('set', ns.PUBSUB, 'subscribe'): subscribing.subscribe,
    ('set', ns.PUBSUB, 'unsubscribe'): subscribing.unsubscribe,
    ('set', ns.PUBSUB, 'options'): subscribing.options,
    ('get', ns.PUBSUB, 'options'): subscribing.options,
    ('get', ns.PUBSUB, 'default'): subscribing.default,
    ('get', ns.PUBSUB, 'items'): reading.items,
    ('get', ns.PUBSUB, 'subscriptions'): reading.subscriptions,
    ('get', ns.PUBSUB, 'affiliations'): reading.affiliations,
    ('get', ns.PUBSUB_OWNER, 'configure'): owning.configure,
    ('set', ns.PUBSUB_OWNER, 'configure'): owning.configure,
    ('get', ns.PUBSUB_OWNER, 'default'): owning.default,
    ('get', ns.PUBSUB_OWNER, 'affiliations'): owning.affiliations,
    ('set', ns.PUBSUB_OWNER, 'affiliations'): owning.affiliations,
    ('get', ns.PUBSUB_OWNER, 'subscriptions'): owning.subscriptions,
    ('set', ns.PUBSUB_OWNER, 'subscriptions'): owning.subscriptions,
    ('set', ns.PUBSUB_OWNER, 'delete'): publishing.delete,
    ('set', ns.PUBSUB_OWNER, 'purge'): publishing.purge,
}
_SECOND: Final = {'create': ('configure',), 'subscribe': ('options',), 'publish': ('publish-options',)}
"""What may stand beside an action; elements of other namespaces may too."""


async def answer(place: Place, sender: Who, stanza: Stanza) -> bytes:
    """The answer to one IQ with a <pubsub/>. Raises what the database raises."""
    pubsub = stanza.payload
    assert pubsub is not None
    try:
        handler, action = _find(stanza, pubsub)
        return await handler(place, sender, stanza, pubsub, action)
    except Refused as refused:
        return refused.answer(stanza)


def _find(stanza: Stanza, pubsub: Element) -> tuple[Action, Element]:
    namespace = pubsub.tag[1:].partition('}')[0]
    found = [child for child in pubsub if child.tag.startswith(f'{{{namespace}}}')]
    if not found:
        raise Refused('bad-request', text='The request names no action.')
    first, name = found[0], found[0].tag.rpartition('}')[2]
    beside = _SECOND.get(name, ())
    if any(child.tag.rpartition('}')[2] not in beside for child in found[1:]) or len(found) > 2:
        raise Refused('bad-request', text='A request has one action only.')
    handler = ACTIONS.get((stanza.type or '', namespace, name))
    if handler is None:
        if any(key[1:] == (namespace, name) for key in ACTIONS):
            raise Refused('bad-request', text=f'This action is not one of an IQ of the type {stanza.type}.')
        raise unsupported('collections' if name in ('associate', 'collection') else name[:64])
    return handler, first
