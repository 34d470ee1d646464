"""Where nodes live: an account (XEP-0163) or the service (XEP-0060); errors, limits, and who may do what there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol
from weakref import WeakValueDictionary

from engine.contract import pubsub_nodes
from engine.contract.pubsub_nodes import NAME_BYTES, Limits
from engine.features.pubsub import config as configuration
from engine.features.pubsub.config import NodeConfig
from engine.services.xcp_router import remote
from engine.store import pubsub as store
from engine.xmpp import ns
from engine.xmpp import stanza as xml

if TYPE_CHECKING:
    from engine.features.pubsub.abroad import Far
    from engine.services.xcp_router.router import XcpRouter
    from engine.session import Session
    from engine.store.pool import Connection
    from engine.store.pubsub import Node
    from engine.xmpp.stanza import Stanza

OWNER, PUBLISHER, PUBLISH_ONLY, MEMBER, NONE, OUTCAST = (
    'owner', 'publisher', 'publish-only', 'member', 'none', 'outcast',
)  # fmt: skip


class Who(Protocol):
    """Who asks: a client of this server or somebody from outside. ``jid`` may be bare."""

    @property
    def jid(self) -> str:
        """The address the request came from."""

    @property
    def bare(self) -> str:
        """Its bare JID."""


class Refused(Exception):
    """A request is refused. ``condition`` of RFC 6120 8.3.3; ``specific`` of XEP-0060 as an element, '' for none."""

    def __init__(self, condition: str, specific: str = '', text: str = '', feature: str = '', kind: str = '') -> None:
        super().__init__(condition, specific, text)
        self.condition, self.specific, self.text, self.feature, self.kind = condition, specific, text, feature, kind

    def answer(self, stanza: Stanza) -> bytes:
        """The error answer."""
        extra = ''
        if self.specific:
            extra = xml.element(self.specific, ns.PUBSUB_ERRORS, feature=self.feature or None)
        return xml.error(stanza, self.condition, self.kind, self.text, extra.encode())


def unsupported(feature: str) -> Refused:
    """Something of XEP-0060 that is not offered."""
    return Refused('feature-not-implemented', 'unsupported', feature=feature)


def limits(router: XcpRouter) -> Limits:
    """What is allowed now."""
    return pubsub_nodes.limits(router.param)


Listener = Callable[['Place', str], Awaitable[None]]
LISTENERS: Final[dict[str, Listener]] = {}
"""By name of a node of an account: what to do after its items have changed, while the account is locked."""


async def changed(place: Place, name: str) -> None:
    """The items of a node have changed and everybody was told."""
    listener = LISTENERS.get(name)
    if listener is not None and place.personal:
        await listener(place, name)


INTERESTS: Final = 'interests'


def dispatch(router: XcpRouter, raw: bytes, sender: str, to: str) -> None:
    """A stanza of a service here to a prepared address that no client of this process has."""
    bare = to.partition('/')[0]
    if router.outside(bare):
        remote.post(router, raw, sender or next(iter(router.domains)), to)
    elif router.nodes is not None:
        router.nodes.send(bare, raw)


def interests(session: Session | Far) -> frozenset[str]:
    """The nodes a client wants to hear of (interests.py)."""
    notes = session.notes
    return notes.get(INTERESTS, _NOTHING) if notes is not None else _NOTHING


_NOTHING: Final[frozenset[str]] = frozenset()
_LOCKS: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()


@dataclass(frozen=True, slots=True)
class Place:
    """``address`` is the bare JID of an account or the domain of the service; ``owner`` the account's id."""

    router: XcpRouter
    address: str
    owner: int | None

    @property
    def personal(self) -> bool:
        """An account's, not the service."""
        return self.owner is not None

    @asynccontextmanager
    async def lock(self, name: str) -> AsyncIterator[None]:
        """One change at a time, from before the transaction until everybody was told, so that notifications come in
        the order of the commits. An account as a whole, the service by node."""
        key = (self.address, '' if self.personal else name)
        lock = _LOCKS.get(key)
        if lock is None:
            lock = _LOCKS[key] = asyncio.Lock()
        async with lock:
            yield

    def config(self, node: Node) -> NodeConfig:
        """The configuration of a node, defaults filled in."""
        return configuration.load(node.config, self.personal)


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks, seen from one node: affiliation, approved subscription, and the words of the owner's contact list."""

    bare: str
    affiliation: str
    subscribed: bool
    sees: bool
    """Has a subscription to the availability of the owner, who shares it."""
    groups: tuple[str, ...]

    @property
    def owner(self) -> bool:
        """Affiliation owner."""
        return self.affiliation == OWNER


async def relation(place: Place, connection: Connection, owner: int | None, bare: str) -> tuple[bool, tuple[str, ...]]:
    """Whether ``bare`` sees the availability of the account ``owner``, and its groups in that contact list."""
    engine = place.router.presence_engine()
    if owner is None or engine is None or not engine.sharing:
        return False, ()
    found = await store.watchers(connection, owner, [bare])
    return bare in found, found.get(bare, ())


async def sees(place: Place, bare: str) -> bool:
    """Whether ``bare`` sees the availability of the owner of the account ``place``."""
    async with place.router.node.store.connection() as connection:
        return (await relation(place, connection, place.owner, bare))[0]


async def actor(place: Place, connection: Connection, node: Node, bare: str) -> Actor:
    """What ``bare`` is at a node."""
    if place.personal and bare == place.address:
        return Actor(bare, OWNER, True, True, ())
    affiliation = await store.affiliation(connection, node.id, bare)
    subscribed = any(not entry.pending for entry in await store.subscriptions(connection, node.id, bare))
    config = place.config(node)
    sees = False
    groups: tuple[str, ...] = ()
    if place.personal or config.access_model in ('presence', 'roster'):
        owner = node.owner if place.personal else await store.account(connection, node.creator)
        sees, groups = await relation(place, connection, owner, bare)
    return Actor(bare, affiliation, subscribed, sees, groups)


def check_access(place: Place, config: NodeConfig, who: Actor, subscribing: bool = False) -> None:
    """Raises Refused when ``who`` may not subscribe or retrieve items (XEP-0060 4.5, 6.1.3, 6.5.9)."""
    if who.affiliation in (OWNER, PUBLISHER, MEMBER):
        return
    if who.affiliation == OUTCAST:
        raise Refused('forbidden', text='You are excluded from this node.')
    model = config.access_model
    if who.affiliation == PUBLISH_ONLY and not subscribing and model != 'open':
        raise Refused('forbidden', text='You may publish here, not read.')
    if model == 'open':
        return
    if place.personal and not who.sees:
        raise hidden()
    if model == 'presence' and not who.sees:
        raise hidden()
    if model == 'roster' and not set(who.groups).intersection(config.roster_groups_allowed):
        raise Refused('not-authorized', 'not-in-roster-group', 'You are not in a contact list group that is allowed.')
    if model == 'whitelist':
        raise Refused('not-allowed', 'closed-node', 'Only those on the list of this node may do that.')
    if model == 'authorize' and not who.subscribed and not subscribing:
        raise Refused('not-authorized', 'not-subscribed', 'An owner has not approved a subscription of yours.')


def hidden() -> Refused:
    """The answer to a stranger about an account: the same whether node and account exist or not, so that nobody
    learns about them by asking."""
    return Refused(
        'not-authorized',
        'presence-subscription-required',
        'You need a subscription to the availability of the owner.',
    )


def may_publish(config: NodeConfig, who: Actor) -> bool:
    """Publish model and affiliation (XEP-0060 7.1)."""
    if who.affiliation in (OWNER, PUBLISHER, PUBLISH_ONLY):
        return True
    if who.affiliation == OUTCAST:
        return False
    return config.publish_model == 'open' or (config.publish_model == 'subscribers' and who.subscribed)


async def node_or_refuse(
    place: Place, connection: Connection, name: str | None, sender: Who, lock: bool = False
) -> Node:
    """The node called ``name``. Raises Refused when there is none, or strangers shall not know."""
    if not name:
        raise Refused('bad-request', 'nodeid-required', "Name the node in the attribute 'node'.")
    node = None
    if len(name.encode()) <= NAME_BYTES and '\0' not in name:
        node = await store.node(connection, place.owner, name, lock)
    if node is None:
        if place.personal and sender.bare != place.address:
            visible, _ = await relation(place, connection, place.owner, sender.bare)
            if not visible:
                raise hidden()
        raise Refused('item-not-found', text='There is no such node.')
    return node


async def owned(
    place: Place, connection: Connection, name: str | None, sender: Who, lock: bool = False
) -> tuple[Node, NodeConfig]:
    """The node called ``name`` for one of its owners. Raises Refused."""
    node = await node_or_refuse(place, connection, name, sender, lock)
    who = await actor(place, connection, node, sender.bare)
    if not who.owner:
        if place.personal:
            check_access(place, place.config(node), who)
        raise Refused('forbidden', text='Only an owner of the node may do that.')
    return node, place.config(node)
