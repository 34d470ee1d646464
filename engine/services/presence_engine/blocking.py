"""Other rules are in force for some sessions: presence follows at once (XEP-0016 2.10, 2.11, XEP-0191 3.2, 3.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.filters import Filter, shows, takes_presence
from engine.services.presence_engine import visibility
from engine.store.rosters import FROM, TO
from engine.xmpp.sift import passes
from engine.xmpp.stanza import escape

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engine.contract.privacy import Rules
    from engine.services.presence_engine.engine import PresenceEngine
    from engine.services.presence_engine.person import Person
    from engine.services.presence_engine.visibility import Presence
    from engine.services.xcp_router.router import XcpRouter
    from engine.session import Session
    from engine.xmpp.sift import Kind, Sift


def apply(router: XcpRouter, before: Mapping[Session, Rules | None]) -> None:
    """``before``: the rules each session used until now. Whoever may no longer see a session is told that it is gone,
    whoever may again is told its presence; the session hears the same of its contacts, and gets the subscription
    requests that waited behind a block."""
    engine = router.presence_engine()
    if engine is None:
        return
    for session, old in before.items():
        new = session.filter.rules if session.filter is not None else None
        person = engine.people.get(session.bare)
        if new is old or session.closed or person is None or person.items is None:
            continue
        past = Filter(router, session.bare, old)
        _outbound(engine, person, session, past)
        _inbound(engine, person, session, past)


def _outbound(engine: PresenceEngine, person: Person, session: Session, past: Filter) -> None:
    presence = session.presence
    if not session.shown or presence is None:
        return
    assert person.items is not None
    gone = visibility.gone(session.jid)
    if visibility.shares(engine, person.policy):
        for item in person.items.values():
            if item.subscription & FROM:
                now = shows(session, item.jid)
                if now != past.allows('out', 'presence', item.jid):
                    visibility.tell(engine, session.jid, item.jid, presence if now else gone)
        engine.adhoc.filtered(person, session, past)
    for address in list(session.directed or ()):
        if not shows(session, address):
            visibility.tell_directed(engine, session, address, gone)
            if session.directed is not None:
                session.directed.discard(address)


def _inbound(engine: PresenceEngine, person: Person, session: Session, past: Filter) -> None:
    assert person.items is not None
    address = escape(session.jid).encode()
    for jid, item in person.items.items():
        if item.pending_in and session.available and not past.allows('in', 'subscription', jid):
            data = visibility.request(person, jid)
            if takes_presence(session, jid, data, subscription=True):
                session.send(data)
        if not (item.subscription & TO and session.shown and engine.sharing):
            continue
        was = past.allows('in', 'presence', jid)
        now = session.filter is None or session.filter.allows('in', 'presence', jid)
        if was != now:
            for full, presence in _seen(engine, person, jid):
                head, tail = presence if now else visibility.gone(full)
                session.send(head + address + tail)


def _seen(engine: PresenceEngine, person: Person, contact: str) -> list[tuple[str, Presence]]:
    """Full JID and presence of each client of a contact, signed in here or elsewhere, that the user may see."""
    if person.seen is not None and contact in person.seen:
        return list(person.seen[contact].items())
    if not visibility.sees(engine, person.bare, contact):
        return []
    return [
        (other.jid, other.presence)
        for other in engine.router.sessions_of(contact)
        if other.shown and other.presence is not None and shows(other, person.bare)
    ]


def resynchronise(router: XcpRouter, session: Session, before: Sift) -> None:
    """What ``before`` kept away from a session and its wishes of now let through: the presence of contacts and of the
    user's other clients (XEP-0273 4.3), subscription requests that wait (4.4)."""
    engine = router.presence_engine()
    person = engine.people.get(session.bare) if engine is not None else None
    if engine is None or person is None or person.items is None or not session.shown:
        return
    address = escape(session.jid).encode()

    def send(kind: Kind, sender: str, data: bytes) -> None:
        if not passes(before, kind, session.bare, sender, True, data) and takes_presence(
            session, sender, data, subscription=kind == 'sub'
        ):
            session.send(data)

    for other in router.sessions_of(session.bare):
        if other is not session and other.shown and other.presence is not None:
            send('presence', other.jid, other.presence[0] + address + other.presence[1])
    for jid, item in person.items.items():
        if engine.sharing and item.subscription & TO:
            for full, (head, tail) in _seen(engine, person, jid):
                send('presence', full, head + address + tail)
        if item.pending_in:
            send('sub', jid, visibility.request(person, jid))
