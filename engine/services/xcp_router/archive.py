"""The message archive of users (XEP-0313): what goes into it, under which id, and how long it stays.

A message is archived for its sender and for its receiver, each under an id of its own, by the group writer: nobody on
the message path waits. The receiver's clients see the id in a <stanza-id/> (XEP-0359) from the first delivery on. The
sender's acknowledgement (XEP-0198) comes after the commit; see docs/decisions/0010-multi-device-and-archive.md.

Cost with the archive on: 10 microseconds for a message between two local users, and 8 for each of its two rows when
they are written.
"""

from __future__ import annotations

import asyncio
import os
import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

import structlog

from engine.contract.messages import Text, message
from engine.services.xcp_router.copies import MARKERS, hint
from engine.session import UNDER_WAY, Session
from engine.store import archive as store
from engine.store.archive import ArchiveMessage, Entry, Rules
from engine.store.pool import Unavailable
from engine.store.writer import Full
from engine.xmpp import ns
from engine.xmpp.forwarding import without
from engine.xmpp.stanza import escape

if TYPE_CHECKING:
    from engine.services.xcp_router.remote import Sender
    from engine.services.xcp_router.router import XcpRouter
    from engine.xmpp.stanza import Stanza

log = structlog.get_logger(__name__)

ALARM = 'MessageArchiveIncomplete'
PURGE_EVERY_S = 600.0
STANZA_ID = b'stanza-id'
_HINTS, _MARKERS, _RECEIPTS = ns.HINTS.encode(), MARKERS.encode(), ns.RECEIPTS.encode()
_OUT_OF_BAND = ns.OUT_OF_BAND.encode()
_NEVER = ('no-store', 'no-permanent-store', 'no-storage', 'no-permanent-storage')


_newest = 0
_random = b''
_used = 0
_CHUNK = 4096


def new_id() -> str:
    """A UUID of version 7: time in milliseconds and 4096ths of it, never lower than the one before, and 62 random
    bits. 0.8 microseconds."""
    global _newest, _random, _used
    if _used >= len(_random):
        _random, _used = os.urandom(_CHUNK), 0
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    newest = milliseconds << 12 | rest * 4096 // 1_000_000
    if newest <= _newest:
        newest = _newest + 1
    _newest = newest
    first = f'{newest >> 12:012x}'
    last = f'{1 << 63 | int.from_bytes(_random[_used : _used + 8]) >> 2:016x}'
    _used += 8
    return f'{first[:8]}-{first[8:]}-7{newest & 0xFFF:03x}-{last[:4]}-{last[4:]}'


def stanza_id(owner: str, identity: str) -> bytes:
    """The element that tells the clients of ``owner`` the id."""
    return b"%b%b'/>" % (_stanza_id(owner), identity.encode())


@lru_cache(maxsize=10_000)
def _stanza_id(owner: str) -> bytes:
    return f"<stanza-id xmlns='{ns.STANZA_ID}' by='{escape(owner)}' id='".encode()


def archive_id(raw: bytes, owner: str) -> str:
    """The id that ``stanza_id`` put into ``raw``, '' when there is none."""
    head = _stanza_id(owner)
    place = raw.rfind(head)
    return raw[place + len(head) :][:36].decode() if place >= 0 else ''


def unforged(router: XcpRouter, raw: bytes) -> bytes:
    """``raw`` without ids that only this server may give: those of its own users' archives (XEP-0359 3.1)."""

    def forged(name: str, attributes: dict[str, str]) -> bool:
        if name != f'{ns.STANZA_ID} stanza-id':
            return False
        domain = attributes.get('by', '').partition('/')[0].rpartition('@')[2].strip().rstrip('.').lower()
        return not domain or domain in router.domains

    return without(raw, forged)


def archivable(stanza: Stanza, kind: str) -> bool:
    """Whether a message belongs into archives: instant messages, links out of band, and what tells that they
    were received or read."""
    if kind not in ('chat', 'normal'):
        return False
    raw = stanza.raw
    if _HINTS in raw:
        if hint(stanza, *_NEVER):
            return False
        if hint(stanza, 'store'):
            return True
    return (
        b'<body' in raw
        or _MARKERS in raw
        or (_RECEIPTS in raw and stanza.child(ns.RECEIPTS, 'received') is not None)
        or (_OUT_OF_BAND in raw and stanza.child(ns.OUT_OF_BAND, 'x') is not None)
    )


class Archive:
    """The archive of one router; there is none while the service parameter is off."""

    def __init__(self, router: XcpRouter) -> None:
        self.router = router
        self.limit = self.days = 0
        self._lost = 0
        self.configure()

    def configure(self) -> None:
        """Take the limits in force."""
        self.limit = int(self.router.param('archive_max_messages'))
        self.days = int(self.router.param('archive_days'))

    def entry(self, owner: str, chosen: Rules, peer: str, raw: bytes) -> Entry | None:
        """The entry for a message from or to the prepared JID ``peer``; None when ``chosen`` refuses it."""
        wanted = chosen.decide(peer)
        bare, _, resource = peer.partition('/')
        if wanted is None:
            known = self._in_list(owner, bare)
            if known is False:
                return None
            wanted = known
        elif not wanted:
            return None
        return Entry(owner, new_id(), bare, resource, raw, wanted is None)

    def unknown(self, owner: str, peer: str, raw: bytes) -> Entry:
        """The entry for a user who is not here: what the user wants archived is looked up when it is written."""
        bare, _, resource = peer.partition('/')
        return Entry(owner, new_id(), bare, resource, raw, asked=True)

    def _in_list(self, owner: str, peer: str) -> bool | None:
        """Whether ``peer`` is a contact, as far as the list is in memory; None: the database knows."""
        engine = self.router.presence_engine()
        person = engine.people.get(owner) if engine is not None else None
        if person is None or person.items is None:
            return None
        item = person.items.get(peer)
        return item is not None and item.is_contact

    def add(self, sender: Sender, entry: Entry) -> None:
        """Queue one message. The acknowledgement of ``sender`` waits for it, its answers to requests do not."""
        session = sender if isinstance(sender, Session) else None
        writer = self.router.writer
        # A sender is read no further while the database does not keep up: otherwise messages would miss in archives.
        held = UNDER_WAY if writer.pressed else len(entry.stanza)
        try:
            writer.put(ArchiveMessage(entry, self.limit, self._written, sender, held))
        except Full as error:
            self._outcome(error)
            return
        if session is not None:
            session.unarchived += 1
            session.unstored += 1
        sender.begin(held)

    def _written(self, sender: Sender, held: int, error: BaseException | None) -> None:
        if isinstance(sender, Session):
            sender.unarchived -= 1
            sender.unstored -= 1
        sender.finish(held)
        self._outcome(error)

    def _outcome(self, error: BaseException | None) -> None:
        node = self.router.node
        if error is None:
            node.counters.messages_archived += 1
            if self._lost:
                self._lost = 0
                node.clear_alarm(ALARM)
            return
        node.counters.messages_unarchived += 1
        self._lost += 1
        if self._lost == 1:
            node.raise_alarm(ALARM, message(Text.ARCHIVE_INCOMPLETE, node=node.name))

    async def settled(self) -> None:
        """Wait until everything queued so far is decided."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def decided() -> None:
            if not done.done():
                done.set_result(None)

        self.router.writer.after(decided)
        self.router.writer.hurry()
        await done

    async def keep_tidy(self) -> None:
        """Remove what is too old, for ever."""
        while True:
            try:
                before = datetime.now(UTC) - timedelta(days=self.days)
                while await store.purge(self.router.node.store, before) == store.PURGE:
                    await asyncio.sleep(0.1)
            except Unavailable as error:
                log.warning('archive not purged: database not reachable', error=str(error))
            await asyncio.sleep(PURGE_EVERY_S)
