"""Notifications (XEP-0060 7.1.2, 12; XEP-0163 4): to subscribers, and for accounts to whoever shows interest.

An event is (head, tail) bytes around the receiver's address; one more receiver who is signed in costs one join of
bytes. Contacts get the events of an account when their client announces ``NODE+notify`` (interests.py) and they may see
it: subscription to the availability, access model, availability sharing, block lists.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from engine import filters
from engine.features.pubsub import abroad
from engine.features.pubsub.place import MEMBER, NONE, OUTCAST, OWNER, PUBLISHER, dispatch, interests
from engine.services.presence_engine import visibility
from engine.store import pubsub as store
from engine.store.rosters import FROM
from engine.xmpp import ns
from engine.xmpp.stanza import escape, quote

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from engine.features.pubsub.config import NodeConfig
    from engine.features.pubsub.place import Place
    from engine.services.xcp_router.router import XcpRouter
    from engine.session import Session
    from engine.store.pool import Connection
    from engine.store.pubsub import Node, Subscription

Event = tuple[bytes, bytes]
FAN_OUT_BYTES: Final = 16 * 1024 * 1024
"""An event that would take more than this for all its receivers goes out without payloads: they can fetch the item."""
TOGETHER: Final = 64 * 1024
"""Items published together travel in one event up to this many bytes, else in one event each."""
_LISTED: Final = (OWNER, PUBLISHER, MEMBER)


def item(identity: str, payload: bytes = b'', publisher: str = '') -> bytes:
    """An <item/>."""
    by = f" publisher='{quote(publisher)}'" if publisher else ''
    head = f"<item id='{quote(identity)}'{by}"
    return b'%b>%b</item>' % (head.encode(), payload) if payload else head.encode() + b'/>'


def items(name: str, inside: bytes) -> bytes:
    """An <items/> of an event: with items or retractions inside."""
    return b"<items node='%b'>%b</items>" % (quote(name).encode(), inside)


def retractions(ids: Iterable[str]) -> bytes:
    """What an event says about items that are gone."""
    return ''.join(f"<retract id='{quote(identity)}'/>" for identity in ids).encode()


def event(address: str, inside: bytes, kind: str = 'headline', after: bytes = b'') -> Event:
    """The event message of ``address`` as (head, tail); ``after`` stands behind the <event/>."""
    typed = f" type='{kind}'" if kind != 'normal' else ''
    head = f"<message from='{escape(address)}'{typed} to='".encode()
    return head, b"'><event xmlns='%b'>%b</event>%b</message>" % (ns.PUBSUB_EVENT.encode(), inside, after)


def post(router: XcpRouter, sender: str, to: str, made: Event) -> None:
    """An event to one prepared JID: a client, all clients of a user here, or somebody elsewhere."""
    raw = made[0] + quote(to).encode() + made[1]
    bare, _, resource = to.partition('/')
    if bare not in router.accounts:
        if allows(router, sender, bare):
            dispatch(router, raw, sender, to)
        return
    if not allows(router, sender, bare):
        return
    for session in router.sessions_of(bare):
        wanted = session.jid == to if resource else session.priority is not None and session.priority >= 0
        if wanted and filters.takes_message(session, sender, raw, to_bare=not resource):
            session.send(raw)


def allows(router: XcpRouter, sender: str, bare: str) -> bool:
    """Whether the block lists of a sender and a receiver who are signed in here let an event pass."""
    receiver, account = router.accounts.get(bare), router.accounts.get(sender)
    if receiver is not None and receiver.filter is not None and not receiver.filter.allows('in', 'message', sender):
        return False
    return account is None or account.filter is None or account.filter.allows('out', 'message', bare)


async def subscribers(
    place: Place,
    connection: Connection,
    node: Node,
    config: NodeConfig,
    listed: dict[str, str],
    found: list[Subscription],
) -> list[Subscription]:
    """Subscriptions of a node that get its events now: approved, wanted, and still within the access model."""
    found = [s for s in found if s.deliver and not s.pending]
    if not found:
        return []
    known: dict[str, tuple[str, ...]] = {}
    if place.personal or config.access_model in ('presence', 'roster'):
        owner = node.owner or await store.account(connection, node.creator)
        if owner is not None:
            known = await watchers(place.router, connection, owner, [_bare(s.jid) for s in found])
    return [s for s in found if _entitled(place, config, _bare(s.jid), listed, known)]


def _bare(jid: str) -> str:
    return jid.partition('/')[0]


def _entitled(
    place: Place, config: NodeConfig, bare: str, listed: dict[str, str], known: dict[str, tuple[str, ...]]
) -> bool:
    affiliation = listed.get(bare, NONE)
    if affiliation in _LISTED or (place.personal and bare == place.address):
        return True
    if affiliation == OUTCAST or config.access_model == 'whitelist':
        return False
    if config.access_model in ('open', 'authorize'):
        return True
    if config.access_model == 'roster':
        return bool(set(known.get(bare, ())).intersection(config.roster_groups_allowed))
    return bare in known


async def watchers(
    router: XcpRouter, connection: Connection, owner: int, bares: Sequence[str] | None = None
) -> dict[str, tuple[str, ...]]:
    """Those of ``bares`` (None: all) who see the availability of ``owner``, with their groups in that contact list."""
    engine = router.presence_engine()
    if engine is None or not engine.sharing:
        return {}
    person = engine.by_id.get(owner)
    if person is None or person.items is None:
        return await store.watchers(connection, owner, bares)
    if not visibility.shares(engine, person.policy):
        return {}
    contacts = person.items
    wanted = contacts.values() if bares is None else [contacts[bare] for bare in bares if bare in contacts]
    return {entry.jid: entry.groups for entry in wanted if entry.subscription & FROM}


async def tell(place: Place, node: Node, config: NodeConfig, inside: bytes, short: bytes = b'') -> None:
    """Send an event of a node to everybody who gets it. ``short`` is the same without payloads."""
    if not config.deliver_notifications:
        return
    async with place.router.node.store.connection() as connection:
        sessions, others = await receivers(place, connection, node, config)
    if not sessions and not others:
        return
    if short and (not config.deliver_payloads or len(inside) * (len(sessions) + len(others)) > FAN_OUT_BYTES):
        inside = short
    send(place, config, sessions, others, inside)


def send(place: Place, config: NodeConfig, sessions: list[Session], others: list[str], inside: bytes) -> None:
    """An event to receivers that are known."""
    made = event(place.address, inside, config.notification_type)
    head, tail = made
    for session in sessions:
        raw = head + quote(session.jid).encode() + tail
        if filters.takes_message(session, place.address, raw, to_bare=False):
            session.send(raw)
    for jid in others:
        post(place.router, place.address, jid, made)
    place.router.node.counters.pubsub_notifications += len(sessions) + len(others)


async def receivers(
    place: Place, connection: Connection, node: Node, config: NodeConfig
) -> tuple[list[Session], list[str]]:
    """Clients who show interest, and the addresses of subscribers who are not among them."""
    router = place.router
    listed = await store.affiliations(connection, node.id)
    subscribed = await store.subscriptions(connection, node.id)
    sessions: dict[str, Session] = {}
    contacts: set[str] = set()
    if place.personal:
        contacts = await _contacts(place, connection, config, listed)
        for bare in (place.address, *contacts):
            if bare in router.accounts and allows(router, place.address, bare):
                for session in _interested(router, bare, node.name):
                    sessions[session.jid] = session
    others: list[str] = []
    if place.personal:
        others += _interested_abroad(place, node.name, contacts)
    for subscription in await subscribers(place, connection, node, config, listed, subscribed):
        jid = subscription.jid
        if '/' not in jid and not router.outside(jid):
            # somebody who also shows interest must not get it twice on that client
            for session in list(router.sessions_of(jid)):
                if session.available and allows(router, place.address, jid):
                    sessions[session.jid] = session
        elif jid not in sessions and jid not in others:
            others.append(jid)
    return list(sessions.values()), others


def _interested(router: XcpRouter, bare: str, name: str) -> list[Session]:
    return [s for s in router.sessions_of(bare) if s.available and name in interests(s)]


def _interested_abroad(place: Place, name: str, contacts: set[str]) -> list[str]:
    known = abroad.table(place.router).by_bare
    if not known:
        return []
    found: list[str] = []
    for bare in contacts:
        found += [far.jid for far in known.get(bare, {}).values() if name in interests(far)]
    return found


async def _contacts(place: Place, connection: Connection, config: NodeConfig, listed: dict[str, str]) -> set[str]:
    """Bare JIDs whose interest counts for a node of an account, beside the owner."""
    found = {bare for bare, value in listed.items() if value in _LISTED}
    if config.access_model in ('whitelist', 'authorize'):
        return found
    assert place.owner is not None
    seeing = await watchers(place.router, connection, place.owner)
    for bare, groups in seeing.items():
        if listed.get(bare) == OUTCAST:
            continue
        if config.access_model != 'roster' or set(groups).intersection(config.roster_groups_allowed):
            found.add(bare)
    return found
