"""One bound XMPP session of one user, as router, presence engine and features see it."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from engine.filters import Filter
    from engine.managed import Managed
    from engine.quiet import Quiet
    from engine.services.xcp_router.account import Account
    from engine.store.users import User


class Connection(Protocol):
    """What a session needs of the socket below it (services/connection_manager/connection.py)."""

    address: str
    """The client's IP address."""
    congested: bool
    """The client reads slower than it is sent to."""
    blocked: bool
    """Something written before was not taken by the operating system yet."""

    @property
    def gone(self) -> bool:
        """The socket is closed, and what it did not take is decided."""

    def entered(self) -> None:
        """The inactive session of this connection was activated: its stanzas are routed (xcp_router/dual.py)."""

    def write(self, data: bytes) -> None:
        """Queue bytes; everything queued goes out once per turn of the event loop, in order."""

    def close(self, condition: str | None = None, text: str = '') -> None:
        """End the stream after what is queued; with ``condition`` as a stream error."""

    def abort(self) -> None:
        """Drop the connection without a word."""

    def pause(self) -> None:
        """Stop reading from the client. Counted: as many ``resume`` calls are needed."""

    def resume(self) -> None:
        """Read again."""

    def when_flushed(self, callback: Callable[[bool], None]) -> None:
        """Call ``callback(True)`` once everything written before this call was taken by the operating system,
        ``callback(False)`` when the connection ended before that. Exactly one call, never from inside this one."""


class BindRefused(Exception):
    """``XcpRouter.bind`` refuses. ``condition`` is a stanza error condition of RFC 6120 8.3.3, except the stream errors
    ``see-other-host`` (RFC 6120 4.9.3.19), whose content is ``text``: the right node's address, and
    ``remote-connection-failed``: nobody serves the user at the moment."""

    def __init__(self, condition: str, text: str = '') -> None:
        super().__init__(condition, text)
        self.condition = condition
        self.text = text


UNDER_WAY = 256 * 1024
"""What one session may have under way (queued for the database or an answer), in bytes, before it is read no further;
it is read again below half of that. Other sessions notice nothing."""
PIECE = 1024
"""What a stanza under way counts beyond its own bytes."""


class Session:
    """A bound resource. Created by ``XcpRouter.bind`` only. ``account`` is the user's while the session is bound.

    ``available`` and ``priority`` follow the client's last presence without ``to``; ``priority`` is None while
    unavailable. ``presence`` is that presence as (head, tail): head + to + tail is the stanza for one receiver;
    ``shown`` says whether the presence engine told the watchers; ``status`` is its text. ``interested`` means that the
    client asked for its roster (RFC 6121 2.2), ``policy_reader`` that it asked for the user's presence policy.
    ``directed`` holds the addresses that directed presence made aware of this resource. ``unstored`` counts its
    messages on their way to the offline store or the archive, ``unarchived`` those that wait for the archive only.
    ``answers`` holds the requests that wait for the one being answered (xcp_router/iq.py). ``carbons`` is true after
    the client enabled Multi-Device Messaging (XEP-0280). ``managed`` is the client's stream management (XEP-0198),
    ``quiet`` the buffer while the client is inactive (XEP-0352). ``filter`` is what the user lets through for this
    session, None: everything (engine/filters.py). ``notes`` is what features remember about the session, by name; None:
    nothing.

    ``send(data)`` queues one complete stanza for the client; it has no effect after the session has ended. It is the
    connection's own ``write`` while neither ``managed`` nor ``quiet`` is in use.
    """

    __slots__ = (
        '_base',
        '_held',
        '_under_way',
        'account',
        'answers',
        'available',
        'bare',
        'carbons',
        'closed',
        'connection',
        'directed',
        'filter',
        'interested',
        'jid',
        'managed',
        'notes',
        'policy_reader',
        'presence',
        'priority',
        'quiet',
        'resource',
        'send',
        'shown',
        'status',
        'unarchived',
        'unstored',
        'user',
    )

    def __init__(self, user: User, resource: str, connection: Connection) -> None:
        self.user = user
        self.account: Account | None = None
        self.bare = user.bare
        self.resource = resource
        self.jid = f'{user.bare}/{resource}'
        self.connection = connection
        self.available = False
        self.priority: int | None = None
        self.presence: tuple[bytes, bytes] | None = None
        self.shown = False
        self.status = ''
        self.interested = False
        self.policy_reader = False
        self.closed = False
        self.directed: set[str] | None = None
        self.unstored = 0
        self.unarchived = 0
        self.carbons = False
        self.filter: Filter | None = None
        self.notes: dict[str, Any] | None = None
        self.answers: deque[tuple[Callable[[], Awaitable[None]], int]] | None = None
        self.managed: Managed | None = None
        self.quiet: Quiet | None = None
        self._base: Callable[[bytes], None] = connection.write
        self.send: Callable[[bytes], None] = self._base
        self._under_way = 0
        self._held = False

    @property
    def hibernating(self) -> bool:
        """The connection is lost and the client may come back for a while (XEP-0198)."""
        return self.managed is not None and self.managed.hibernating

    @property
    def csi_active(self) -> bool:
        """Whether somebody looks at the client, as far as it says (XEP-0352)."""
        return self.quiet is None

    def send_many(self, stanzas: Iterable[bytes]) -> None:
        """Queue several stanzas, in order. Never join them for ``send``: it counts stanzas."""
        send = self.send
        for data in stanzas:
            send(data)

    def when_delivered(self, callback: Callable[[bool], None]) -> None:
        """Call ``callback(True)`` when the client has everything sent before this call: it acknowledged it (XEP-0198),
        or without that the operating system took it; ``callback(False)`` when that will never be. Once, never from
        inside this call."""
        if self.managed is not None:
            self.managed.when_delivered(callback)
        else:
            self.connection.when_flushed(callback)

    def send_by(self, base: Callable[[bytes], None]) -> None:
        """How stanzas get to the connection from now on."""
        if not self.closed:
            self._base = base
            if self.quiet is None:
                self.send = base

    def be_quiet(self, quiet: Quiet | None) -> None:
        """``quiet`` decides what is sent now; None: everything."""
        self.quiet = quiet
        if not self.closed:
            self.send = self._base if quiet is None else quiet.push

    def pass_on(self, data: bytes) -> None:
        """What quiet mode lets through."""
        self._base(data)

    def moved(self, connection: Connection) -> None:
        """The client resumed the session over another connection."""
        self.connection = connection
        if self._held:
            connection.pause()

    def end(self) -> None:
        """From now on nothing is sent. Only for ``XcpRouter.unbind``."""
        self.closed = True
        self.send = self._base = _nowhere

    def begin(self, size: int = 0) -> None:
        """Something the client asked for waits: ``size`` bytes of it. A client that asks faster than it can be done is
        read no further for a while, so nobody fills the memory. Each call is followed by one ``finish``."""
        self._under_way += PIECE + size
        if self._under_way > UNDER_WAY and not self._held:
            self._held = True
            self.connection.pause()

    def finish(self, size: int = 0) -> None:
        """What ``begin`` was told of is done or refused."""
        self._under_way -= PIECE + size
        if self._held and self._under_way <= UNDER_WAY // 2:
            self._held = False
            self.connection.resume()

    def close(self, condition: str | None = None, text: str = '') -> None:
        """End the session; with ``condition`` as a stream error of RFC 6120 4.9.3."""
        if self.managed is not None and self.managed.hibernating:
            self.managed.end()
        else:
            self.connection.close(condition, text)

    def __repr__(self) -> str:
        return f'<Session {self.jid}>'


def _nowhere(data: bytes) -> None:
    """Where stanzas for an ended session go."""
