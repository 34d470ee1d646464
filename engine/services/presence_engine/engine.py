"""The presence engine service: who sees whom, and the order in which contact lists change."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, cast

import structlog

from engine.contract.config import Config
from engine.contract.services import PRESENCE_ENGINE, XCP_ROUTER
from engine.searches import Searches
from engine.services.base import Service
from engine.services.presence_engine import elsewhere, outside, policy, pushes, subscribing, visibility
from engine.services.presence_engine.adhoc import AdHoc
from engine.services.presence_engine.person import Operation, Person
from engine.services.presence_engine.probes import Probes
from engine.services.presence_engine.subscriptions import Kind, Rules
from engine.services.xcp_router import remote
from engine.store import rosters
from engine.store.batch import Batch
from engine.store.pool import Unavailable
from engine.xmpp import stanza as xml

if TYPE_CHECKING:
    from engine.node import Node
    from engine.services.xcp_router.remote import RemoteSender
    from engine.services.xcp_router.router import XcpRouter
    from engine.session import Session
    from engine.xmpp.stanza import Stanza

log = structlog.get_logger(__name__)

LOAD_RETRY_S = (0.5, 2.0, 5.0)


class Stopped(Exception):
    """The service stopped before the operation began."""


class PresenceEngine(Service):
    """Contact lists, subscriptions and availability of the users of one node.

    ``people`` is bare JID -> Person for every user with a session whose contact list was needed.
    """

    key = PRESENCE_ENGINE
    router: XcpRouter
    running = False

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self.people: dict[str, Person] = {}
        self.by_id: dict[int, Person] = {}
        self.adhoc = AdHoc(self)
        self.searches = Searches()
        self.probes = Probes(self)
        self._rosters: Batch[int, rosters.Roster] = Batch(partial(rosters.load_many, node.store))
        self._locks: dict[int, tuple[asyncio.Lock, int]] = {}
        self._stale: set[int] = set()
        self._reloading = False
        self._apply_settings()

    def _apply_settings(self) -> None:
        settings = self.config.presence
        self.sharing = settings.availability_sharing
        self.max_waiting = int(self.param('max_waiting_requests'))
        self.max_resources = int(self.param('remote_resources'))
        self.probe_rate = int(self.param('remote_probe_rate'))
        self.rules = Rules(settings.auto_approve, settings.max_contacts, settings.max_watchers)

    def configure(self, newest: Config) -> None:
        """Take a new generation; what needs a restart stays as it was at the start."""
        domains = self.config.domains
        super().configure(newest)
        self._apply_settings()
        if self.running and self.config.domains != domains:
            for person in self.people.values():
                elsewhere.index(self, person)

    async def start(self) -> None:
        """Begin to work; clients that stayed connected are announced again."""
        self._apply_settings()
        self.router = cast('XcpRouter', self.node.service(XCP_ROUTER))
        self.running = True
        for session in list(self.router.full.values()):
            self.available(session)

    async def stop(self) -> None:
        """Nobody's availability is known any more: every client sees its contacts go."""
        self.running = False
        for session in list(self.router.full.values()):
            if session.shown and not self.router.dual.leaves(session, self):
                person = self.people.get(session.bare)
                if person is not None and person.items is not None:
                    visibility.broadcast(self, person, visibility.gone(session.jid), session, own=False)
                session.shown = False
        self.people.clear()
        self.by_id.clear()
        self.adhoc.clear()
        self.searches.clear()

    # called by the router

    def available(self, session: Session) -> None:
        """The session has new presence. Microseconds when the contact list is in memory."""
        person = self.person(session)
        if person.items is not None:
            visibility.announce(self, person, session)
            return
        presence = session.presence

        async def announce() -> None:
            # Of the changes made until the list is there only the newest counts: each is queued, and looks here.
            if not session.closed and session.presence is presence:
                visibility.announce(self, person, session)

        self.enqueue(person, session, announce)

    def unavailable(self, session: Session, presence: tuple[bytes, bytes] | None) -> None:
        """The session went unavailable, with its own words or (None) without."""
        visibility.withdraw(self, self.people.get(session.bare), session, presence or visibility.gone(session.jid))

    def session_ended(self, session: Session) -> None:
        """The connection of a session is gone. The contact list goes with the last one."""
        self.adhoc.forget(session)
        self.searches.forget(session)
        person = self.people.get(session.bare)
        if person is not None and not person.busy and not self.router.sessions_of(person.bare):
            self._forget(person)

    def receive(self, session: Session, stanza: Stanza, bare: str, resource: str) -> None:
        """Presence with an addressee, here or elsewhere."""
        kind = stanza.type
        if kind is None or kind == 'unavailable':
            self._directed(session, stanza, bare, resource)
        elif kind == 'probe' and elsewhere.outside(self, bare):
            remote.send(self.router, session, stanza, f'{bare}/{resource}' if resource else bare)
        elif kind == 'probe':
            person = self.people.get(session.bare)
            known = bare == session.bare or (person is not None and bare in (person.items or ()))
            if not known and not self.searches.begin(session, bare):
                return
            if not (
                self.router.nodes
                and bare not in self.router.accounts
                and self.router.nodes.forward(session, stanza, bare)
            ):
                self.adhoc.probe(session, stanza, bare)
        elif bare == session.bare:
            self.router.refuse(session, stanza, 'not-allowed', 'Nobody can subscribe to their own availability.')
        elif '@' not in bare and bare in self.router.domains:
            self.router.refuse(session, stanza, 'service-unavailable')
        else:
            person = self.person(session)
            self.enqueue(
                person,
                session,
                lambda: subscribing.request(self, person, session, stanza, cast(Kind, kind), bare),
                lambda error: session.send(xml.error(stanza, 'internal-server-error', 'wait', str(error))),
                len(stanza.raw),
            )

    def receive_remote(self, sender: RemoteSender, stanza: Stanza, bare: str, resource: str) -> None:
        """Presence from outside for a user of a domain served here."""
        kind = stanza.type
        if kind is None or kind == 'unavailable':
            elsewhere.receive(self, sender, stanza, bare, resource)
        elif '@' not in bare:
            self.router.refuse(sender, stanza, 'service-unavailable')
        elif kind == 'probe' and not self.router.outside(sender.bare):
            self.adhoc.probe(sender, stanza, bare)
        elif kind == 'probe':
            self.probes.receive(sender, bare)
        else:
            outside.receive(self, sender, stanza, bare)

    def _directed(self, session: Session, stanza: Stanza, bare: str, resource: str) -> None:
        """At once when it is known whether the user shares the availability, and in the order it was sent."""
        person = self.person(session)
        if person.items is not None and not person.queue:
            visibility.directed(self, session, stanza, bare, resource)
            return

        async def later() -> None:
            if not session.closed:
                visibility.directed(self, session, stanza, bare, resource)

        self.enqueue(person, session, later, None, len(stanza.raw))

    # people

    def person(self, session: Session) -> Person:
        """The Person of a session, made at the first need."""
        person = self.people.get(session.bare)
        if person is None:
            person = self.people[session.bare] = self.by_id[session.user.id] = Person(session.user.id, session.bare)
        return person

    def _forget(self, person: Person) -> None:
        if self.people.get(person.bare) is person:
            del self.people[person.bare]
        if self.by_id.get(person.user_id) is person:
            del self.by_id[person.user_id]

    def enqueue(
        self, person: Person, session: Session, operation: Operation,
        failed: Callable[[Exception], None] | None = None, size: int = 0,
    ) -> None:  # fmt: skip
        """Do ``operation``, which ``session`` asked for with ``size`` bytes, when everything before it is done and the
        contact list is in memory."""
        session.begin(size)
        if person.queue is None:
            person.queue = deque()
        person.queue.append((operation, failed, session, size))
        if not person.busy:
            person.busy = True
            self.node.spawn(self._work(person), f'contact list {person.bare}')

    async def _work(self, person: Person) -> None:
        try:
            while person.queue:
                operation, failed, session, size = person.queue.popleft()
                try:
                    if person.items is None:
                        await self._load(person)
                    if not self.running:
                        raise Stopped
                    await operation()
                except Exception as error:
                    if not isinstance(error, (*Unavailable, Stopped)):
                        log.exception('contact list operation failed', jid=person.bare)
                    if failed is not None:
                        failed(RuntimeError('The contact list cannot be read or written now. Try again later.'))
                finally:
                    session.finish(size)
            person.queue = None
        finally:
            person.busy = False
            if not self.running or not self.router.sessions_of(person.bare):
                self._forget(person)

    async def _load(self, person: Person) -> None:
        for pause in (*LOAD_RETRY_S, None):
            try:
                async with self.owners(person.user_id):
                    roster = await self._rosters.get(person.user_id)
                    if roster is None:
                        raise LookupError('the user was deleted')
                    person.take(roster)
                    elsewhere.index(self, person)
                    return
            except Unavailable:
                if pause is None:
                    raise
                await asyncio.sleep(pause)

    @asynccontextmanager
    async def owners(self, *ids: int) -> AsyncIterator[None]:
        """Hold the contact lists of these users, in ascending id order like the row locks.

        From before the transaction until memory shows its result, so memory changes in the order of the commits.
        """
        async with AsyncExitStack() as stack:
            for user_id in sorted(set(ids)):
                lock, holders = self._locks.get(user_id, (None, 0))
                lock = lock or asyncio.Lock()
                self._locks[user_id] = (lock, holders + 1)
                stack.callback(self._unlock, user_id)
                await stack.enter_async_context(lock)
            yield

    def _unlock(self, user_id: int) -> None:
        lock, holders = self._locks[user_id]
        if holders == 1:
            del self._locks[user_id]
        else:
            self._locks[user_id] = (lock, holders - 1)

    # changes from outside

    async def contact_lists_changed(self, ids: Iterable[int]) -> None:
        """Contact lists of these end users were written outside the engine: read them again, push what differs."""
        self._stale.update(user_id for user_id in ids if user_id in self.by_id)
        if self._reloading:
            return
        self._reloading = True
        try:
            while self._stale:
                person = self.by_id.get(self._stale.pop())
                if person is not None and person.items is not None:
                    await self._reload(person)
        finally:
            self._reloading = False

    async def _reload(self, person: Person) -> None:
        async with self.owners(person.user_id):
            if self.by_id.get(person.user_id) is not person or person.items is None:
                return
            roster = await rosters.load(self.node.store, person.user_id)
            if roster is None or roster.version == person.version:
                return
            if roster.policy != person.policy:
                policy.take(self, person, roster.policy)
            before = person.items
            requests = person.requests
            person.requests = roster.requests
            pushes.apply(
                self,
                person.user_id,
                roster.version,
                {jid: item for jid, item in roster.items.items() if before.get(jid) != item}
                | {jid: None for jid in before if jid not in roster.items},
            )
            person.version = roster.version
            for jid in roster.requests.keys() - requests.keys():
                visibility.deliver(self, jid, person.bare, visibility.request(person, jid), interested=False)

    async def compare(self, versions: dict[int, int]) -> None:
        """The router's regular look at the database: roster_version by user. Repairs what a lost event left."""
        for session in list(self.router.full.values()):
            if session.presence is not None and not session.shown and not self.person(session).busy:
                self.available(session)
        await self.contact_lists_changed(
            [
                user_id
                for user_id, person in list(self.by_id.items())
                if person.items is not None and versions.get(user_id, person.version) != person.version
            ]
        )

    def reload_soon(self, user_id: int) -> None:
        """Somebody else wrote this list between two of our writes."""
        self.node.spawn(self.contact_lists_changed([user_id]), 'contact list reload')
