"""Who is told about whose availability (RFC 6121 4).

Presence is kept as (head, tail) bytes; a broadcast costs one look-up and one join of bytes for each watcher who is
signed in, 0.4 microseconds with the queueing, and nothing for the others but the walk over the watchers. Whether the
user shares at all is asked once for each broadcast (0.2 microseconds).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.features import registry
from engine.filters import shows, takes_presence
from engine.services.presence_engine import elsewhere
from engine.services.xcp_router import chat, remote
from engine.store.rosters import FROM, TO
from engine.xmpp.stanza import escape, with_attributes

if TYPE_CHECKING:
    from engine.services.presence_engine.engine import PresenceEngine
    from engine.services.presence_engine.person import Person
    from engine.services.xcp_router.remote import RemoteSender
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
    broadcast(engine, person, presence, session)
    if initial:
        _introduce(engine, person, session)
        registry.became_available.fire(engine.router, session)


def withdraw(engine: PresenceEngine, person: Person | None, session: Session, presence: Presence) -> None:
    """The session is no longer available."""
    if session.shown and person is not None and person.items is not None:
        session.shown = False
        broadcast(engine, person, presence, session)
        session.send(b'%b%b%b' % (presence[0], session.bare.encode(), presence[1]))
    session.shown = False
    if person is not None and person.seen is not None:
        elsewhere.left(engine, person)
    hidden = person is not None and not shares(engine, person.policy)
    end_directed(engine, session, gone(session.jid) if hidden else presence)


def end_directed(engine: PresenceEngine, session: Session, presence: Presence) -> None:
    """Tell everyone whom directed presence made aware of the session that it is gone, and forget them."""
    directed_to, session.directed = session.directed, None
    for address in directed_to or ():
        tell_directed(engine, session, address, presence)


def tell_directed(engine: PresenceEngine, session: Session, address: str, presence: Presence) -> None:
    """Presence of ``session`` to one address it had sent presence to."""
    _send_to(engine, session.jid, address, presence[0] + escape(address).encode() + presence[1])


def shares(engine: PresenceEngine, policy: Policy) -> bool:
    """Whether a user with this policy is visible to others: the cluster's off wins over the user's on (spec 06)."""
    return engine.sharing and policy.sharing is not False


def approves(engine: PresenceEngine, policy: Policy) -> bool:
    """Whether requests to a user with this policy are approved without a question; the user's word wins."""
    return engine.rules.auto_approve if policy.automatic is None else policy.automatic


def broadcast(engine: PresenceEngine, person: Person, presence: Presence, sender: Session, own: bool = True) -> None:
    """Presence of ``sender`` to the user's own available clients and, while availability is shared, to every available
    watcher, unless one of the two blocks it."""
    head, tail = presence
    sent = 0
    accounts = engine.router.accounts
    if own and (account := accounts.get(person.bare)):
        data = head + person.bare.encode() + tail
        for session in account.sessions.values():
            if session.available and (session.filter is None or takes_presence(session, sender.jid, data)):
                session.send(data)
    if person.items is None or not shares(engine, person.policy):
        return
    hides = sender.filter is not None
    for account in map(accounts.get, person.watchers()):
        if account is None or (hides and not shows(sender, account.user.bare)):
            continue
        data = head + account.address + tail
        for session in account.sessions.values():
            if session.available and (session.filter is None or takes_presence(session, sender.jid, data)):
                session.send(data)
                sent += 1
    if person.abroad or engine.router.nodes is not None:
        elsewhere.broadcast(engine, person, presence, sender)
    sent += engine.adhoc.broadcast(person, presence, sender)
    engine.node.counters.presence_out += sent


def _introduce(engine: PresenceEngine, person: Person, session: Session) -> None:
    """Presence of the contacts and of the own other clients, then requests that wait (RFC 6121 4.2.2, 3.1.3)."""
    assert person.items is not None
    address = escape(session.jid).encode()
    for other in engine.router.sessions_of(person.bare):
        if other is not session and other.shown and other.presence:
            data = other.presence[0] + address + other.presence[1]
            if session.filter is None or takes_presence(session, other.jid, data):
                session.send(data)
    if engine.sharing:
        for item in person.items.values():
            if item.subscription & TO and sees(engine, person.bare, item.jid):
                for presence in shown(engine, item.jid, session):
                    session.send(presence[0] + address + presence[1])
        elsewhere.introduce(engine, person, session)
    for jid, item in person.items.items():
        if item.pending_in:
            data = request(person, jid)
            if session.filter is None or takes_presence(session, jid, data, subscription=True):
                session.send(data)


def watching(engine: PresenceEngine, session: Session) -> tuple[str, ...]:
    """The users signed in here who see a client."""
    person = engine.people.get(session.bare)
    if person is None or person.items is None or not shares(engine, person.policy):
        return ()
    here = engine.router.accounts
    return tuple(one for one in person.watchers() if one in here and (session.filter is None or shows(session, one)))


def sees(engine: PresenceEngine, watcher: str, bare: str) -> bool:
    """Whether ``watcher`` may see the signed-in user ``bare``: has a subscription, by that user's own contact list,
    the user shares the availability, and some client of the user does not block the watcher."""
    person = engine.people.get(bare)
    if person is None or person.items is None or not shares(engine, person.policy):
        return False
    item = person.items.get(watcher)
    if item is None or not item.subscription & FROM:
        return False
    account = engine.router.accounts.get(bare)
    if account is None or account.filter is None:
        return True
    return any(shows(session, watcher) for session in account.sessions.values())


def shown(engine: PresenceEngine, bare: str, watcher: Session | RemoteSender) -> list[Presence]:
    """Presence of the clients of a user that watchers have been told of, as far as neither side blocks it."""
    return [
        s.presence
        for s in engine.router.sessions_of(bare)
        if s.shown
        and s.presence is not None
        and (s.filter is None or shows(s, watcher.bare))
        and (watcher.filter is None or takes_presence(watcher, s.jid, s.presence[0] + s.presence[1]))
    ]


def grant(engine: PresenceEngine, bare: str, watcher: str, visible: bool) -> None:
    """A subscription to ``bare`` began or ended: the watcher's clients see it now (RFC 6121 3.1.6, 3.2.3, 3.3.3)."""
    person = engine.people.get(bare)
    if person is None or not shares(engine, person.policy):
        return
    for session in engine.router.sessions_of(bare):
        if session.shown and session.presence is not None and (session.filter is None or shows(session, watcher)):
            tell(engine, session.jid, watcher, session.presence if visible else gone(session.jid))


def tell(engine: PresenceEngine, sender: str, watcher: str, presence: Presence) -> None:
    """Presence of the full JID ``sender`` to the available clients of one watcher, here or elsewhere."""
    data = presence[0] + watcher.encode() + presence[1]
    if watcher not in engine.router.accounts:
        elsewhere.send(engine, sender, watcher, data)
        return
    for other in engine.router.sessions_of(watcher):
        if other.available and (other.filter is None or takes_presence(other, sender, data)):
            other.send(data)


def directed(engine: PresenceEngine, session: Session, stanza: Stanza, bare: str, resource: str) -> None:
    """Presence sent to one address (RFC 6121 4.6); who was told this way is also told of the end."""
    if stanza.type == 'unavailable':
        engine.adhoc.release(session, bare)
        engine.searches.end(session, bare)
    person = engine.person(session)
    domain = bare.rpartition('@')[2]
    room = domain in engine.router.chat.routes
    if bare != session.bare and not shares(engine, person.policy):
        if room:
            stanza = chat.discreet(stanza)
        elif domain not in engine.router.routes:  # gateways of this server are not people who could see somebody
            return
    address = f'{bare}/{resource}' if resource else bare
    if stanza.type is None and bare != session.bare:
        item = person.items.get(bare) if person.items is not None else None
        if not (session.shown and item is not None and item.subscription & FROM):
            if session.directed is None:
                session.directed = set()
            if len(session.directed) < DIRECTED:
                session.directed.add(address)
            elif room and address not in session.directed:
                engine.router.refuse(session, stanza, 'resource-constraint', 'You are in too many chat rooms.')
                return
    elif session.directed:
        session.directed.discard(address)
    if engine.router.outside(bare):
        remote.send(engine.router, session, stanza, address)
    else:
        _send_to(engine, session.jid, address, stanza.raw)


def _send_to(engine: PresenceEngine, sender: str, address: str, data: bytes) -> None:
    if address.partition('/')[0] in engine.router.accounts:
        send_here(engine, sender, address, data)
    else:
        elsewhere.send(engine, sender, address, data)


def send_here(engine: PresenceEngine, sender: str, address: str, data: bytes) -> None:
    """One presence stanza to a client, or to the available clients of a user, signed in here."""
    bare, _, resource = address.partition('/')
    if resource:
        target = engine.router.full.get(address)
        if target is not None and (target.filter is None or takes_presence(target, sender, data, to_bare=False)):
            if engine.searches.busy:
                engine.searches.saw(target, data)
            target.send(data)
        return
    for target in engine.router.sessions_of(bare):
        if target.available and (target.filter is None or takes_presence(target, sender, data)):
            target.send(data)


def deliver(engine: PresenceEngine, sender: str, bare: str, data: bytes, interested: bool) -> None:
    """A subscription stanza to a user's available clients, and to those that only asked for the contact list."""
    if bare not in engine.router.accounts:
        if engine.router.nodes is not None:
            engine.router.nodes.deliver(sender, bare, data, interested)
        return
    for session in engine.router.sessions_of(bare):
        if (session.available or (interested and session.interested)) and (
            session.filter is None or takes_presence(session, sender, data, subscription=True)
        ):
            session.send(data)


def subscription_stanza(stanza: Stanza, sender: str, to: str) -> bytes:
    """``stanza`` between bare JIDs, as RFC 6121 3.1.2 wants it."""
    return with_attributes(stanza.raw, {'from': sender, 'to': to})
