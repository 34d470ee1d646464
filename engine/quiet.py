"""What a client in the background gets (XEP-0352), and quiet mode of Multi-Device Messaging (guide 6908-6926).

While the client says <inactive/>:
- available and unavailable presence waits, the newest of each sender; so do chat states, the newest of each sender;
- for a client with Multi-Device Messaging also messages wait while another client of the user is the active one, which
  gets them too. Messages of rooms, errors, and messages meant for one client only (XEP-0280 hints) never wait;
- everything else is delivered at once, after what waited.

What waits is also delivered by an <iq/> in either direction, by a message while no other client is active, when there
is too much of it, and when the client says <active/>. Each carries the time at which it came (XEP-0203).

Cost for others: none, ``Session.send`` is another function while the client is inactive. Here: 1 to 20 microseconds.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Final, NamedTuple

from engine.delivery import CARBONS, NOW, Delivery, Kept, track
from engine.features import registry
from engine.xmpp import ns
from engine.xmpp import stanza as xml

if TYPE_CHECKING:
    from engine.services.xcp_router.router import XcpRouter
    from engine.session import Session
    from engine.xmpp.sm import Entry
    from engine.xmpp.stanza import Stanza

ACTIVE: Final = f'{ns.CLIENT_STATE} active'
INACTIVE: Final = f'{ns.CLIENT_STATE} inactive'
NONZAS: Final = frozenset((ACTIVE, INACTIVE))
FEATURE: Final = f"<csi xmlns='{ns.CLIENT_STATE}'/>".encode()
_TYPE: Final = re.compile(rb'\stype=["\']([^"\']*)')
_FROM: Final = re.compile(rb'\sfrom=("[^"]*"|\'[^\']*\')')
_IN_ROOM: Final = ns.MUC_USER.encode()
_CHAT_STATES: Final = ns.CHAT_STATES.encode()
_PASSING: Final = frozenset((ns.CHAT_STATES, ns.HINTS))


class Waiting(NamedTuple):
    """One stanza that waits. ``since`` is monotonic, ``at`` the same on the clock."""

    data: bytes
    delivery: Delivery | None
    since: float
    at: datetime


class Elsewhere:
    """Key of a message that waits because another client is active: no other message replaces it."""

    __slots__ = ('active',)

    def __init__(self, active: Session) -> None:
        self.active = active


class Quiet:
    """The buffer of one inactive client. ``waiting``: in order of arrival; a newer stanza of the same key replaces."""

    __slots__ = ('_flushing', 'router', 'session', 'size', 'waiting')

    def __init__(self, router: XcpRouter, session: Session) -> None:
        self.router = router
        self.session = session
        self.waiting: dict[object, Waiting] = {}
        self.size = 0
        self._flushing = False

    def push(self, data: bytes) -> None:
        """One stanza on its way to the client: it waits, or goes on after what waits."""
        if data.startswith(b'<m') and b'<body' in data and type(data) is not Kept:
            registry.message_waiting.fire(self.router, self.session.bare, data, self.session)
        key = None if type(data) is Kept else self._key(data)
        if key is None or self._flushing:
            self.flush()
            self.session.pass_on(data)
            return
        if (old := self.waiting.pop(key, None)) is not None:
            self._count(-len(old.data))
        delivery = None
        if isinstance(key, Elsewhere):
            delivery = track(data, self.session.bare)
            if delivery is not None and key.active.managed is None:
                delivery.finish()
        self.waiting[key] = Waiting(data, delivery, monotonic(), datetime.now(UTC))
        self._count(len(data))
        router = self.router
        if (
            len(self.waiting) >= router.quiet_stanzas
            or self.size >= router.quiet_bytes
            or router.quiet_total >= router.quiet_most
        ):
            router.node.counters.mdm_flushes_limit += 1
            self.flush()

    def receive(self, route: Callable[[Stanza], None]) -> Callable[[Stanza], None]:
        """``route`` for what the client sends: a request of its own delivers what waits (guide 6918)."""

        def on_stanza(stanza: Stanza) -> None:
            if self.waiting and stanza.name == 'iq' and self.session.quiet is self:
                self.flush()
            route(stanza)

        return on_stanza

    def flush(self) -> None:
        """Deliver what waits; the client stays inactive."""
        if not self.waiting or self._flushing:
            return
        session, router = self.session, self.router
        waiting, self.waiting = self.waiting, {}
        self._count(-self.size)
        domain = session.bare.rpartition('@')[2]
        counters, now = router.node.counters, monotonic()
        counters.mdm_flushes += 1
        counters.mdm_flushed += len(waiting)
        before = NOW.stanza, NOW.asker
        NOW.stanza = NOW.asker = None
        self._flushing = True
        try:
            for item in waiting.values():
                counters.mdm_queued_ms += int((now - item.since) * 1000)
                data = item.data
                if ns.DELAY.encode() not in data:
                    data = xml.with_child(data, xml.delay(item.at, domain))
                if item.delivery is not None and session.managed is not None:
                    session.managed.outbound.put(data, item.delivery)
                else:
                    session.pass_on(data)
                    if item.delivery is not None:
                        item.delivery.finish()
        finally:
            self._flushing = False
            NOW.stanza, NOW.asker = before

    def end(self) -> list[Entry]:
        """The session is over: what waited."""
        waiting, self.waiting = self.waiting, {}
        self._count(-self.size)
        return [(item.data, item.delivery) for item in waiting.values() if item.data.startswith(b'<m')]

    def _count(self, size: int) -> None:
        self.size += size
        self.router.quiet_total += size

    def _key(self, data: bytes) -> object:
        """Under which key the stanza waits; None: it does not wait."""
        tag = data[: data.find(b'>') + 1]
        found = _TYPE.search(tag)
        kind = found.group(1) if found else b''
        if data.startswith(b'<p'):
            sender = _FROM.search(tag)
            return None if kind not in (b'', b'unavailable') or sender is None else (b'p', sender.group(1))
        if not data.startswith(b'<m') or kind in (b'error', b'groupchat'):
            return None
        if peer := _only_typing(data):
            return (b'c', peer)
        active = self._active(data)
        return None if active is None else Elsewhere(active)

    def _active(self, data: bytes) -> Session | None:
        """The user's active client, when it is another one and gets the message as well."""
        session = self.session
        alone = b'<private' in data or b'<no-copy' in data or (_IN_ROOM in data and b'<invite' not in data)
        if not session.carbons or (CARBONS not in data and alone):
            return None
        account = self.router.accounts.get(session.bare)
        active = account.active_session(self.router.mdm_active_s) if account is not None else None
        if active is None or active is session or not active.csi_active or active.hibernating:
            return None
        return active


def _only_typing(data: bytes) -> tuple[str, str] | None:
    """(from, to) of a message that says nothing but a chat state (XEP-0085), also as a copy (XEP-0280)."""
    if _CHAT_STATES not in data or b'<body' in data:
        return None
    message = xml.parse_tree(data)
    for copy in message.iter(f'{{{ns.CLIENT}}}message'):
        message = copy
    for child in message:
        namespace, _, name = child.tag[1:].partition('}')
        if namespace not in _PASSING and name != 'thread':
            return None
    return message.get('from', ''), message.get('to', '')
