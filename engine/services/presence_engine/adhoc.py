"""Ad hoc (temporary) presence subscriptions (guide 5556, spec 06).

The mechanism: a client sends a presence probe to a local user who is not in the contact list. It gets that user's
presence at once and every change for ``adhoc_ttl_s``; another probe renews it, directed unavailable presence to the
user or the end of the session ends it. Nothing is stored, nothing counts against a limit of contacts or watchers.
Only while no approval is asked for, by the cluster or by the user looked at: it must not go around the question. A user
who asks or does not share is answered like one who is not signed in.
"""

from __future__ import annotations

from collections import OrderedDict
from time import monotonic
from typing import TYPE_CHECKING

from engine.filters import shows, takes_presence
from engine.services.presence_engine import visibility
from engine.xmpp.stanza import escape

if TYPE_CHECKING:
    from engine.filters import Filter
    from engine.services.presence_engine.engine import PresenceEngine
    from engine.services.presence_engine.person import Person
    from engine.services.presence_engine.visibility import Presence
    from engine.services.xcp_router.remote import RemoteSender
    from engine.session import Session

    Watcher = Session | RemoteSender
    from engine.xmpp.stanza import Stanza


MOST = 10_000
"""Temporary subscriptions one user can have when the setting says no limit: a client must not fill the memory."""


class AdHoc:
    """``_watchers``: watched bare JID -> session -> end in seconds of the monotonic clock.

    ``_ends`` has the same by (session, watched user), the one that was begun or renewed longest ago first: what has
    ended is found at the front, and a probe costs the same however many there are.
    """

    def __init__(self, engine: PresenceEngine) -> None:
        self.engine = engine
        self._watchers: dict[str, dict[Watcher, float]] = {}
        self._ends: OrderedDict[tuple[Watcher, str], float] = OrderedDict()
        self._targets: dict[str, set[str]] = {}
        """Watching user -> watched users, for the limit."""

    def clear(self) -> None:
        """End all of them."""
        self._watchers.clear()
        self._ends.clear()
        self._targets.clear()

    def probe(self, session: Watcher, stanza: Stanza, bare: str) -> None:
        """A client asks for the presence of ``bare``."""
        engine = self.engine
        if bare == session.bare or visibility.sees(engine, session.bare, bare):
            self._answer(session, bare, visibility.shown(engine, bare, session))
            return
        refuse = engine.router.refuse
        if not engine.sharing:
            refuse(session, stanza, 'forbidden', 'Availability is not shared.')
            return
        person = engine.people.get(session.bare)
        item = person.items.get(bare) if person is not None and person.items is not None else None
        if item is not None and item.subscription & 1:
            self._answer(session, bare, [])  # subscribed; not signed in or not sharing
            return
        settings = engine.config.presence
        if not settings.adhoc_subscriptions:
            refuse(session, stanza, 'forbidden', 'Temporary presence subscriptions are disabled.')
            return
        target = engine.people.get(bare)
        is_open = target is not None and self.open(target)
        if not is_open and not engine.rules.auto_approve:
            refuse(session, stanza, 'forbidden', 'The user must approve who sees the availability.')
            return
        now = monotonic()
        self._purge(now)
        targets = self._targets.get(session.bare, ())
        limit = settings.adhoc_max or MOST
        if bare not in targets and len(targets) >= limit:
            refuse(session, stanza, 'resource-constraint', f'{limit} temporary subscriptions are the maximum.')
            return
        self._targets.setdefault(session.bare, set()).add(bare)
        end = now + settings.adhoc_ttl_s
        self._watchers.setdefault(bare, {})[session] = end
        self._ends[session, bare] = end
        self._ends.move_to_end((session, bare))
        self._answer(session, bare, visibility.shown(engine, bare, session) if is_open else [])

    def open(self, person: Person) -> bool:
        """Whether anybody may look at a user."""
        engine, policy = self.engine, person.policy
        return visibility.shares(engine, policy) and visibility.approves(engine, policy)

    def _answer(self, session: Watcher, bare: str, found: list[Presence]) -> None:
        address = escape(session.jid).encode()
        for head, tail in found:
            data = head + address + tail
            self._send(session, data)
        if not found:
            head, tail = visibility.gone(bare)
            session.send(head + address + tail)

    def broadcast(self, person: Person, presence: Presence, sender: Session) -> int:
        """Presence of one client of ``person`` to the temporary watchers who do not get it as subscribers; how many."""
        watchers = self._watchers.get(person.bare)
        if not watchers or not self.open(person):
            return 0
        now = monotonic()
        sent = 0
        for session, end in watchers.items():
            if end <= now or visibility.sees(self.engine, session.bare, person.bare):
                continue
            data = presence[0] + escape(session.jid).encode() + presence[1]
            if (sender.filter is None or shows(sender, session.bare)) and (
                session.filter is None or takes_presence(session, sender.jid, data, to_bare=False)
            ):
                self._send(session, data)
                sent += 1
        return sent

    def _send(self, session: Watcher, data: bytes) -> None:
        if session.account is not None:
            self.engine.searches.saw(session, data)
        session.send(data)

    def filtered(self, person: Person, sender: Session, past: Filter) -> None:
        """Other rules are in force for ``sender``, whose rules were ``past``: temporary watchers follow."""
        assert sender.presence is not None
        for session in list(self._watchers.get(person.bare, ())):
            was, now = past.allows('out', 'presence', session.bare), shows(sender, session.bare)
            if was != now:
                head, tail = sender.presence if now else visibility.gone(sender.jid)
                data = head + escape(session.jid).encode() + tail
                if session.filter is None or takes_presence(session, sender.jid, data, to_bare=False):
                    session.send(data)

    def release(self, session: Watcher, bare: str) -> None:
        """The client is no longer interested in ``bare``."""
        watchers = self._watchers.get(bare)
        if watchers and watchers.pop(session, None) is not None:
            self._ends.pop((session, bare), None)
            self._dropped(session.bare, bare)

    def forget(self, session: Watcher) -> None:
        """The session has ended."""
        for bare in list(self._targets.get(session.bare, ())):
            self.release(session, bare)

    def left(self, bare: str) -> None:
        """The user is served elsewhere now: who looked at him does so no longer, and is not told (spec 02, 12); nor
        does he look at others."""
        for session in list(self._watchers.get(bare, ())):
            self.release(session, bare)
        for target in list(self._targets.get(bare, ())):
            for session in [one for one in self._watchers.get(target, ()) if one.bare == bare]:
                self.release(session, target)

    def _dropped(self, watcher: str, bare: str) -> None:
        watchers = self._watchers.get(bare)
        if watchers is not None and not watchers:
            del self._watchers[bare]
        if watchers and any(session.bare == watcher for session in watchers):
            return
        targets = self._targets.get(watcher)
        if targets is not None:
            targets.discard(bare)
            if not targets:
                del self._targets[watcher]

    def _purge(self, now: float) -> None:
        while self._ends:
            (session, bare), end = next(iter(self._ends.items()))
            if end > now:
                return
            self.release(session, bare)
