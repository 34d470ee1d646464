"""Who is told about whose availability (RFC 6121 4).

Presence is kept as (head, tail) bytes; a broadcast costs two look-ups and one join of bytes for each watcher who is
signed in, about 1 microsecond, and nothing for the others but the walk over the list. Whether the user shares at all is
asked once for each broadcast (0.2 microseconds).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.features import registry
from engine.store.rosters import FROM, TO
from engine.xmpp.stanza import escape, with_attributes

if TYPE_CHECKING:
    from engine.services.presence_engine.engine import PresenceEngine
    from engine.services.presence_engine.person import Person
    from engine.session import Session
    from engine.store.policies import Policy
    from engine.xmpp.stanza import Stanza

Presence = tuple[bytes, bytes]
DIRECTED = 1000
"""Addresses one session can make aware of itself by directed presence; further ones get it but are not remembered."""


def gone(jid: str) -> Presence:
    """Plain unavailable presence of a full JID."""
    return f"<presence from='{escape(jid)}' type='unavailable' to='".encode(), b"'/>"


def request(person: Person, jid: str) -> bytes:
    """The subscription request of ``jid`` that waits for an answer of ``person``."""
    stored = person.requests.get(jid)
    return stored or f"<presence from='{escape(jid)}' to='{escape(person.bare)}' type='subscribe'/>".encode()


def announce(engine: PresenceEngine, person: Person, session: Session) -> None:
    """Tell everyone who may know that the session is available; at first also tell it who is there."""
    presence = session.presence
    if presence is None or person.items is None:
        return
    initial = not session.shown
    session.shown = True
    broadcast(engine, person, presence)
    if initial:
        _introduce(engine, person, session)
        registry.became_available.fire(engine.router, session)


def withdraw(engine: PresenceEngine, person: Person | None, session: Session, presence: Presence) -> None:
    """The session is no longer available."""
    if session.shown and person is not None and person.items is not None:
        session.shown = False
        broadcast(engine, person, presence)
        session.send(b'%b%b%b' % (presence[0], session.bare.encode(), presence[1]))
    session.shown = False
    end_directed(engine, session, presence)


def end_directed(engine: PresenceEngine, session: Session, presence: Presence) -> None:
    """Tell everyone whom directed presence made aware of the session that it is gone, and forget them."""
    directed_to, session.directed = session.directed, None
    for address in directed_to or ():
        bare, _, resource = address.partition('/')
        _send_to(engine, bare, resource, presence[0] + escape(address).encode() + presence[1])


def shares(engine: PresenceEngine, policy: Policy) -> bool:
    """Whether a user with this policy is visible to others: the cluster's off wins over the user's on (spec 06)."""
    return engine.sharing and policy.sharing is not False


def approves(engine: PresenceEngine, policy: Policy) -> bool:
    """Whether requests to a user with this policy are approved without a question; the user's word wins."""
    return engine.rules.auto_approve if policy.automatic is None else policy.automatic


def broadcast(engine: PresenceEngine, person: Person, presence: Presence, own: bool = True) -> None:
    """To the user's own available clients and, while availability is shared, to every available watcher."""
    head, tail = presence
    sent = 0
    accounts = engine.router.accounts
    if own and (account := accounts.get(person.bare)):
        data = head + person.bare.encode() + tail
        for session in account.sessions.values():
            if session.available:
                session.send(data)
    if person.items is None or not shares(engine, person.policy):
        return
    for item in person.items.values():
        # a prepared bare JID never holds a character that XML escapes
        if item.subscription & FROM and (account := accounts.get(item.jid)):
            data = head + item.jid.encode() + tail
            for session in account.sessions.values():
                if session.available:
                    session.send(data)
                    sent += 1
    sent += engine.adhoc.broadcast(person, presence)
    engine.node.counters.presence_out += sent


def _introduce(engine: PresenceEngine, person: Person, session: Session) -> None:
    """Presence of the contacts and of the own other clients, then requests that wait (RFC 6121 4.2.2, 3.1.3)."""
    assert person.items is not None
    address = escape(session.jid).encode()
    for other in engine.router.sessions_of(person.bare):
        if other is not session and other.shown and other.presence:
            session.send(other.presence[0] + address + other.presence[1])
    if engine.sharing:
        for item in person.items.values():
            if item.subscription & TO and sees(engine, person.bare, item.jid):
                for presence in shown(engine, item.jid):
                    session.send(presence[0] + address + presence[1])
    for jid, item in person.items.items():
        if item.pending_in:
            session.send(request(person, jid))


def sees(engine: PresenceEngine, watcher: str, bare: str) -> bool:
    """Whether ``watcher`` may see the signed-in user ``bare``: has a subscription, by that user's own contact list,
    and the user shares the availability."""
    person = engine.people.get(bare)
    if person is None or person.items is None or not shares(engine, person.policy):
        return False
    item = person.items.get(watcher)
    return item is not None and bool(item.subscription & FROM)


def shown(engine: PresenceEngine, bare: str) -> list[Presence]:
    """Presence of the clients of a user that watchers have been told of."""
    return [s.presence for s in engine.router.sessions_of(bare) if s.shown and s.presence is not None]


def grant(engine: PresenceEngine, bare: str, watcher: str, visible: bool) -> None:
    """A subscription to ``bare`` began or ended: the watcher's clients see it now (RFC 6121 3.1.6, 3.2.3, 3.3.3)."""
    person = engine.people.get(bare)
    if person is None or not shares(engine, person.policy):
        return
    for session in engine.router.sessions_of(bare):
        if session.shown and session.presence is not None:
            head, tail = session.presence if visible else gone(session.jid)
            for other in engine.router.sessions_of(watcher):
                if other.available:
                    other.send(head + watcher.encode() + tail)


def directed(engine: PresenceEngine, session: Session, stanza: Stanza, bare: str, resource: str) -> None:
    """Presence sent to one address (RFC 6121 4.6); who was told this way is also told of the end."""
    if stanza.type == 'unavailable':
        engine.adhoc.release(session, bare)
    person = engine.person(session)
    if bare != session.bare and not shares(engine, person.policy):
        return
    address = f'{bare}/{resource}' if resource else bare
    if stanza.type is None and bare != session.bare:
        item = person.items.get(bare) if person.items is not None else None
        if not (session.shown and item is not None and item.subscription & FROM):
            if session.directed is None:
                session.directed = set()
            if len(session.directed) < DIRECTED:
                session.directed.add(address)
    elif session.directed:
        session.directed.discard(address)
    _send_to(engine, bare, resource, stanza.raw)


def _send_to(engine: PresenceEngine, bare: str, resource: str, data: bytes) -> None:
    if resource:
        target = engine.router.full.get(f'{bare}/{resource}')
        if target is not None:
            target.send(data)
        return
    for target in engine.router.sessions_of(bare):
        if target.available:
            target.send(data)


def deliver(engine: PresenceEngine, bare: str, data: bytes, interested: bool) -> None:
    """A subscription stanza to a user's available clients, and to those that only asked for the contact list."""
    for session in engine.router.sessions_of(bare):
        if session.available or (interested and session.interested):
            session.send(data)


def subscription_stanza(stanza: Stanza, sender: str, to: str) -> bytes:
    """``stanza`` between bare JIDs, as RFC 6121 3.1.2 wants it."""
    return with_attributes(stanza.raw, {'from': sender, 'to': to})
