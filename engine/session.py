"""One bound XMPP session of one user, as router, presence engine and features see it."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from engine.store.users import User


class Connection(Protocol):
    """What a session needs of the socket below it (services/connection_manager/connection.py)."""

    congested: bool
    """The client reads slower than it is sent to."""

    def write(self, data: bytes) -> None:
        """Queue bytes; everything queued goes out once per turn of the event loop, in order."""

    def close(self, condition: str | None = None, text: str = '') -> None:
        """End the stream after what is queued; with ``condition`` as a stream error."""

    def pause(self) -> None:
        """Stop reading from the client. Counted: as many ``resume`` calls are needed."""

    def resume(self) -> None:
        """Read again."""

    def when_flushed(self, callback: Callable[[bool], None]) -> None:
        """Call ``callback(True)`` once everything written before this call was taken by the operating system,
        ``callback(False)`` when the connection ended before that. Exactly one call, never from inside this one."""


class BindRefused(Exception):
    """``XcpRouter.bind`` refuses. ``condition`` is a stanza error condition of RFC 6120 8.3.3, except
    ``see-other-host``, a stream error (RFC 6120 4.9.3.19) whose content is ``text``: the right node's address."""

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
    """A bound resource. Created by ``XcpRouter.bind`` only.

    ``available`` and ``priority`` follow the client's last presence without ``to``; ``priority`` is None while
    unavailable. ``presence`` is that presence as (head, tail): head + to + tail is the stanza for one receiver;
    ``shown`` says whether the presence engine told the watchers; ``status`` is its text. ``interested`` means that the
    client asked for its roster (RFC 6121 2.2), ``policy_reader`` that it asked for the user's presence policy.
    ``directed`` holds the addresses that directed presence made aware of this resource. ``unstored`` counts its
    messages on their way to the offline store. ``answers`` holds the requests that wait
    for the one being answered (xcp_router/iq.py). ``notes`` is what features remember about the session, by name.
    """

    __slots__ = (
        '_held',
        '_under_way',
        'answers',
        'available',
        'bare',
        'closed',
        'connection',
        'directed',
        'interested',
        'jid',
        'notes',
        'policy_reader',
        'presence',
        'priority',
        'resource',
        'shown',
        'status',
        'unstored',
        'user',
    )

    def __init__(self, user: User, resource: str, connection: Connection) -> None:
        self.user = user
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
        self.notes: dict[str, Any] | None = None
        self.policy_reader = False
        self.closed = False
        self.directed: set[str] | None = None
        self.unstored = 0
        self.answers: deque[tuple[Callable[[], Awaitable[None]], int]] | None = None
        self._under_way = 0
        self._held = False

    def send(self, data: bytes) -> None:
        """Queue one or more complete stanzas for the client. No effect after the session has ended."""
        if not self.closed:
            self.connection.write(data)

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
        self.connection.close(condition, text)

    def __repr__(self) -> str:
        return f'<Session {self.jid}>'
