"""One signed-in user: sessions, reply locks, and what the message path must know about the user."""

from __future__ import annotations

from collections import OrderedDict
from time import monotonic
from typing import TYPE_CHECKING

from engine.session import Session
from engine.store.users import User

if TYPE_CHECKING:
    from engine.filters import Filter
    from engine.store.archive import Rules

COPIED = 50
"""Messages of one user whose copies are remembered, so that an error that comes back is copied too."""


class Account:
    """Exists while the user has a session.

    locks      reply locks of spec 06: sender's bare JID -> (session that answered last, time of the last traffic in
               seconds of the monotonic clock)
    address    the bare JID as bytes: a prepared one never holds a character that XML escapes
    carbons    number of sessions that enabled Multi-Device Messaging (XEP-0280)
    filter     None while the user blocks nobody
    archiving  what of the user's messages is archived (XEP-0313), None: nothing
    plain      neither of these three: the one test the message path makes
    active     the Multi-Device Messaging session that sent an instant message or available presence last, see
               ``active_session``
    copied     ids of messages sent whose copies went to other sessions -> bare JID they went to
    """

    __slots__ = (
        '_archiving', '_carbons', '_filter', 'active', 'active_at', 'address', 'copied', 'locks', 'plain', 'sessions',
        'user',
    )  # fmt: skip

    def __init__(self, user: User) -> None:
        self.user = user
        self.address = user.bare.encode()
        self.sessions: dict[str, Session] = {}
        self.locks: dict[str, tuple[Session, float]] | None = None
        self.plain = True
        self.active: Session | None = None
        self.active_at = 0.0
        self.copied: OrderedDict[str, str] | None = None
        self._carbons = 0
        self._filter: Filter | None = None
        self._archiving: Rules | None = None

    @property
    def carbons(self) -> int:
        """Sessions with Multi-Device Messaging."""
        return self._carbons

    @carbons.setter
    def carbons(self, value: int) -> None:
        self._carbons = value
        self._judge()

    @property
    def filter(self) -> Filter | None:
        """What the user blocks."""
        return self._filter

    @filter.setter
    def filter(self, value: Filter | None) -> None:
        self._filter = value
        self._judge()

    @property
    def archiving(self) -> Rules | None:
        """What of the user's messages is archived."""
        return self._archiving

    @archiving.setter
    def archiving(self, value: Rules | None) -> None:
        self._archiving = value
        self._judge()

    def _judge(self) -> None:
        self.plain = not self._carbons and self._filter is None and self._archiving is None

    def unlock(self, session: Session) -> None:
        """Drop the reply locks that a session holds; it went unavailable."""
        if self.locks:
            self.locks = {peer: lock for peer, lock in self.locks.items() if lock[0] is not session} or None
        if self.active is session:
            self.active = None

    def touch(self, session: Session) -> None:
        """A session with Multi-Device Messaging sent an instant message or available presence: it is the active one."""
        self.active, self.active_at = session, monotonic()

    def active_session(self, within_s: float) -> Session | None:
        """The active client (guide 6923): None when nothing was sent within the time, since it left, or while it says
        that nobody looks at it (XEP-0352)."""
        active = self.active
        if active is None or monotonic() - self.active_at > within_s or not active.csi_active:
            return None
        return active
