"""Presence probes to and from other servers (RFC 6121 4.3), no faster than ``remote_probe_rate`` in each direction.

Out: when the first client of a user becomes available. Contacts waiting to be asked are a set, so signing in and out
again does not make it longer. In: what memory cannot answer is looked up in one statement for all that came meanwhile.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from engine.services.presence_engine import elsewhere, visibility
from engine.services.xcp_router import remote
from engine.store import rosters
from engine.store.pool import Unavailable
from engine.store.rosters import FROM, TO
from engine.xmpp.stanza import escape

if TYPE_CHECKING:
    from engine.services.presence_engine.engine import PresenceEngine
    from engine.services.xcp_router.remote import RemoteSender

log = structlog.get_logger(__name__)

TURN_S = 0.05
PAGE = 500


class Probes:
    """Both directions for one presence engine. ``_asking``: (user, contact) still to be asked; ``_asked``: probes that
    wait for an answer, with the sender to tell."""

    def __init__(self, engine: PresenceEngine) -> None:
        self.engine = engine
        self._asking: dict[tuple[str, str], None] = {}
        self._asked: list[tuple[RemoteSender, str]] = []
        self._out = self._in = False

    def ask(self, bare: str, contact: str) -> None:
        """Ask for the presence of a contact at another server, soon."""
        self._asking[bare, contact] = None
        if not self._out:
            self._out = True
            self.engine.node.spawn(self._send(), 'presence probes')

    async def _send(self) -> None:
        engine = self.engine
        try:
            while self._asking:
                for key in list(self._asking)[: max(1, int(engine.probe_rate * TURN_S))]:
                    del self._asking[key]
                    bare, contact = key
                    person = engine.people.get(bare)
                    item = person.items.get(contact) if person is not None and person.items is not None else None
                    if person is None or person.seen is None or item is None or not item.subscription & TO:
                        continue
                    data = f"<presence from='{escape(bare)}' to='{escape(contact)}' type='probe'/>".encode()
                    remote.post(engine.router, data, bare, contact)
                if self._asking:
                    await asyncio.sleep(TURN_S)
        finally:
            self._out = False

    def receive(self, sender: RemoteSender, bare: str) -> None:
        """Somebody outside asks for a user's presence: a subscriber gets it, anybody else ``unsubscribed``."""
        engine = self.engine
        address = escape(sender.jid).encode()
        if elsewhere.show(engine, sender.bare, bare, lambda _, presence: sender.send(address.join(presence))):
            return
        sender.begin()
        self._asked.append((sender, bare))
        if not self._in:
            self._in = True
            engine.node.spawn(self._answer(), 'answers to presence probes')

    async def _answer(self) -> None:
        try:
            while self._asked:
                page, self._asked = self._asked[:PAGE], self._asked[PAGE:]
                try:
                    subscribed = await rosters.subscribed(
                        self.engine.node.store, [(bare, sender.bare) for sender, bare in page]
                    )
                except Unavailable as error:
                    log.warning('presence probes not answered', count=len(page), error=str(error))
                    subscribed = None
                for sender, bare in page:
                    if subscribed is not None:
                        self._tell(sender, bare, bool(subscribed.get((bare, sender.bare), 0) & FROM))
                    sender.finish()
                await asyncio.sleep(len(page) / self.engine.probe_rate)
        finally:
            self._in = False

    def _tell(self, sender: RemoteSender, bare: str, subscribed: bool) -> None:
        if subscribed:
            head, tail = visibility.gone(bare)
            sender.send(head + escape(sender.jid).encode() + tail)
        else:
            ends = f"from='{escape(bare)}' to='{escape(sender.bare)}'"
            sender.send(f"<presence {ends} type='unsubscribed'/>".encode())
