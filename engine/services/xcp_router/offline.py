"""XEP-0160: messages for users without an available client, and their delivery.

Of a message that is also in the archive (XEP-0313) the client gets the id, and nothing more when it has read it there
before it became available.

The guarantee: the sender gets an error unless the message is on disk, and an answer to any IQ that the sender sends
after the message comes only when that is decided. A message leaves the disk only after the client acknowledged it
(XEP-0198), or, without that, after the operating system has taken all bytes of it for the client's socket; a crash in
between may deliver it twice, never lose it.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import structlog

from engine import filters
from engine.delivery import Kept
from engine.features import registry
from engine.services.xcp_router.archive import archive_id, stanza_id
from engine.store.offline import DeleteMessages, FetchMessages, Stored, StoreMessage, expire
from engine.store.pool import Unavailable
from engine.store.writer import Full
from engine.xmpp import stanza as xml

if TYPE_CHECKING:
    from engine.services.xcp_router.remote import Sender
    from engine.services.xcp_router.router import XcpRouter
    from engine.session import Session
    from engine.store.archive import Entry
    from engine.xmpp.stanza import Stanza

log = structlog.get_logger(__name__)

TIDY_EVERY_S = 600.0
HISTORY = 'history'
"""Key in ``Session.notes``: ids of the archived messages that the client was sent before it became available."""
_REFUSALS = {
    'unknown': ('service-unavailable', 'There is no such user.'),
    'full': ('service-unavailable', 'The user is not signed in and has the maximum number of waiting messages.'),
    'blocked': ('service-unavailable', ''),
    'failed': ('internal-server-error', 'The message could not be stored. Send it again later.'),
}


class OfflineStore:
    """Storing and delivering for one router. ``_busy`` holds ids on their way to a client, by user."""

    def __init__(self, router: XcpRouter) -> None:
        self.router = router
        self._busy: dict[int, set[int]] = {}

    def store(self, session: Sender, stanza: Stanza, bare: str, entry: Entry | None = None) -> None:
        """Queue a message for the user ``bare``, or refuse it. ``entry``: for the user's archive, in the same
        transaction."""
        router = self.router
        if router.suppress_offline:
            router.node.counters.messages_refused += 1
            router.refuse(session, stanza, 'service-unavailable', 'The user is not signed in.')
            return

        size = len(stanza.raw)

        def outcome(refused: str) -> None:
            session.unstored -= 1
            session.finish(size)
            if not refused:
                router.node.counters.messages_offline += 1
                registry.message_waiting.fire(router, bare, raw, None)
                if router.nodes is not None:
                    router.nodes.stored(bare)
                return
            router.node.counters.messages_refused += 1
            condition, text = _REFUSALS[refused]
            router.refuse(session, stanza, condition, text)

        archive = router.archive
        raw = stanza.raw
        named = xml.with_child(raw, stanza_id(bare, entry.id)) if entry is not None else b''
        write = StoreMessage(
            bare, raw, datetime.now(UTC), router.max_offline, outcome, session.jid, router.max_offline_bytes,
            entry, named, archive.limit if archive is not None else 0,
        )  # fmt: skip
        try:
            router.writer.put(write)
            session.unstored += 1
            session.begin(size)
        except Full:
            router.refuse(session, stanza, 'resource-constraint', 'The server is busy. Send it again later.')

    def deliver(self, session: Session, after: int = 0) -> None:
        """The session became available with priority >= 0: give it what waits, in order, a page at a time."""
        if not filters.takes_offline(self.router, session):
            return
        user_id = session.user.id

        def found(rows: list[Stored] | None) -> None:
            session.finish()
            if rows:
                self._send(session, rows)
            elif session.notes is not None:
                session.notes.pop(HISTORY, None)

        try:
            self.router.writer.put(FetchMessages(user_id, after, found))
            session.begin()
        except Full:
            log.warning('offline messages not read: the database does not keep up', jid=session.jid)

    def _send(self, session: Session, rows: list[Stored]) -> None:
        if session.closed or session.priority is None or session.priority < 0:
            self._elsewhere(session)
            return
        user_id = session.user.id
        busy = self._busy.setdefault(user_id, set())
        mine = [row for row in rows if row.id not in busy and filters.takes_stored(session, row.stanza)]
        if not mine:
            if not busy:
                del self._busy[user_id]
            if not any(row.id in busy for row in rows):
                self.deliver(session, rows[-1].id)  # the client wants none of these
            return
        ids = [row.id for row in mine]
        busy.update(ids)
        domain = session.bare.rpartition('@')[2]
        known = session.notes.get(HISTORY) if session.notes is not None else None
        for row in mine:
            if known and archive_id(row.stanza, session.bare) in known:
                continue  # the client has read it in the archive: once is enough
            # Losing it on the way loses nothing: it is deleted after the client has it.
            session.send(Kept(xml.with_child(row.stanza, xml.delay(row.stored_at, domain, 'Offline Storage'))))

        def release() -> None:
            busy.difference_update(ids)
            if not busy and self._busy.get(user_id) is busy:
                del self._busy[user_id]

        def flushed(taken: bool) -> None:
            if not taken:
                release()
                self._elsewhere(session)
                return
            try:
                self.router.writer.put(DeleteMessages(ids, release))
            except Full:
                release()
            self.deliver(session, rows[-1].id)

        session.when_delivered(flushed)

    async def keep_tidy(self) -> None:
        """Remove what has waited too long, for ever."""
        while True:
            days = int(self.router.param('offline_days'))
            if days:
                try:
                    count = await expire(self.router.node.store, datetime.now(UTC) - timedelta(days=days))
                    if count:
                        log.info('offline messages expired', count=count)
                except Unavailable as error:
                    log.warning('offline messages not removed: database not reachable', error=str(error))
            await asyncio.sleep(TIDY_EVERY_S)

    def _elsewhere(self, session: Session) -> None:
        """The client left before it had them: another client of the user gets them, else the next one."""
        for other in self.router.sessions_of(session.bare):
            if other is not session and not other.closed and other.priority is not None and other.priority >= 0:
                self.deliver(other)
                return
