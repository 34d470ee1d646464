"""A user's own decisions on sharing and approval come into force (IM-18, IM-20): what others see changes at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.services.presence_engine import visibility

if TYPE_CHECKING:
    from engine.services.presence_engine.engine import PresenceEngine
    from engine.services.presence_engine.person import Person
    from engine.store.policies import Policy


def take(engine: PresenceEngine, person: Person, new: Policy) -> None:
    """``new`` is stored: whoever may no longer see the user is told that the clients are gone, whoever may again is
    told that they are there. The user's own clients keep seeing each other. The caller holds the contact list."""
    shared, open_before = visibility.shares(engine, person.policy), engine.adhoc.open(person)
    sessions = list(engine.router.sessions_of(person.bare))
    shown = [session for session in sessions if session.shown and session.presence is not None]
    if shared and not visibility.shares(engine, new):
        for session in shown:
            visibility.broadcast(engine, person, visibility.gone(session.jid), session, own=False)
        for session in sessions:
            visibility.end_directed(engine, session, visibility.gone(session.jid))
    elif open_before and not visibility.approves(engine, new):
        for session in shown:
            engine.adhoc.broadcast(person, visibility.gone(session.jid), session)
    person.policy = new
    shares = visibility.shares(engine, new)
    for session in shown:
        assert session.presence is not None
        if shares and not shared:
            visibility.broadcast(engine, person, session.presence, session, own=False)
        elif engine.adhoc.open(person) and not open_before:
            engine.adhoc.broadcast(person, session.presence, session)
