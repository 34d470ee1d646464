"""Messages that a client did not get: its session ended before it acknowledged them (XEP-0198), or its socket did not
take them.

A stream that was not resumed in time: they go back to their senders (spec 11, SM-07), as far as the sender is there to
hear of it. In every other case, and for senders who are gone: to the user's other clients, else to the offline store,
whatever its limit. A message that another client of the user has, or still holds, is left alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from engine.delivery import NOW, Delivery
from engine.features import registry
from engine.services.xcp_router import remote
from engine.services.xcp_router.copies import hint, in_room
from engine.store.offline import StoreMessage
from engine.store.writer import Full
from engine.xmpp import ns
from engine.xmpp import stanza as xml
from engine.xmpp.forwarding import unwrapped
from engine.xmpp.sm import Entry

if TYPE_CHECKING:
    from engine.services.xcp_router.router import XcpRouter
    from engine.session import Session
    from engine.xmpp.stanza import Stanza

log = structlog.get_logger(__name__)

NO_LIMIT = 1 << 40
_TEXT = 'The client of the user was disconnected and has not come back. Send the message again later.'


@registry.session_ended.on()
def session_ended(router: XcpRouter, session: Session) -> None:
    """Everything that waited for the client of a managed or quiet session."""
    managed, quiet = session.managed, session.quiet
    entries: list[Entry] = managed.finish() if managed is not None else []
    if quiet is not None:
        entries += quiet.end()
    if entries:
        rescue(router, session.bare, entries, managed is not None and managed.expired)


def rescue(router: XcpRouter, bare: str, entries: Iterable[Entry], returning: bool = False) -> None:
    """Decide about stanzas that a client of ``bare`` will not get, oldest first. ``returning``: back to the senders."""
    before = NOW.stanza, NOW.asker
    NOW.stanza = NOW.asker = None
    try:
        for entry in entries:
            try:
                if isinstance(entry, tuple):
                    _message(router, bare, *entry, returning)
                elif entry.startswith(b'<iq'):
                    _request(router, bare, entry)
            except Exception:
                log.exception('stanza not rescued', user=bare)
    finally:
        NOW.stanza, NOW.asker = before


def _message(router: XcpRouter, bare: str, data: bytes, delivery: Delivery | None, returning: bool) -> None:
    if delivery is None or delivery.done:
        return
    delivery.holders -= 1
    if delivery.holders > 0:
        return
    data = unwrapped(data, bare)  # the last one that holds it may hold a copy
    stanza = xml.parse(data)
    if stanza.type in ('error', 'groupchat', 'headline') or stanza.child(ns.CLIENT, 'body') is None:
        delivery.finish()
    elif in_room(stanza):  # for this client in the room, and for nobody else
        router.node.counters.messages_returned += _returned(router, stanza)
        delivery.finish()
    elif returning and _returned(router, stanza):
        router.node.counters.messages_returned += 1
        delivery.finish()
    elif not _elsewhere(router, bare, data, delivery):
        if hint(stanza, 'no-store', 'no-storage'):
            _returned(router, stanza)
            delivery.finish()
        else:
            _store(router, bare, stanza, delivery)


def _returned(router: XcpRouter, stanza: Stanza) -> bool:
    """Whether the sender is there to hear that the message did not arrive."""
    sender = stanza.from_ or ''
    error = xml.error(stanza, 'recipient-unavailable', text=_TEXT)
    if router.outside(sender.partition('/')[0]):
        return remote.post(router, error, stanza.to or '', sender)
    session = router.full.get(sender)
    if session is None or session.hibernating:
        return False
    session.send(error)
    return True


def _elsewhere(router: XcpRouter, bare: str, data: bytes, delivery: Delivery) -> bool:
    """Whether another client of the user took it."""
    found = False
    for other in router.sessions_of(bare):
        if other.closed or other.hibernating or other.priority is None or other.priority < 0:
            continue
        found = True
        if other.managed is not None and other.quiet is None:
            delivery.holders += 1
            other.managed.outbound.put(data, delivery)
        else:
            other.send(data)
            delivery.finish()
    return found


def _store(router: XcpRouter, bare: str, stanza: Stanza, delivery: Delivery) -> None:
    counters = router.node.counters

    def outcome(refused: str) -> None:
        if refused:
            log.warning('message not stored', user=bare, reason=refused)
            counters.messages_refused += 1
            _returned(router, stanza)
        else:
            counters.messages_rescued += 1
            if router.nodes is not None:
                router.nodes.stored(bare)
        delivery.finish()

    if router.suppress_offline:
        outcome('offline messages are suppressed')
        return
    try:
        router.writer.put(StoreMessage(bare, stanza.raw, datetime.now(UTC), NO_LIMIT, outcome))
    except Full:
        outcome('full')


def _request(router: XcpRouter, bare: str, data: bytes) -> None:
    """A request is answered for the client that is gone (RFC 6121 8.5.3.2.3)."""
    stanza = xml.parse(data)
    sender = stanza.from_ or ''
    if stanza.type not in ('get', 'set') or '/' not in sender:
        return
    session = router.full.get(sender)
    if session is not None:
        session.send(xml.error(stanza, 'service-unavailable'))
    elif router.outside(sender.partition('/')[0]):
        remote.post(router, xml.error(stanza, 'service-unavailable'), stanza.to or '', sender)
