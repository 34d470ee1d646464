"""One signed-in user: sessions and reply locks."""

from __future__ import annotations

from engine.session import Session
from engine.store.users import User


class Account:
    """Exists while the user has a session. ``locks`` is the reply lock of spec 06: sender's bare JID -> (session that
    answered last, time of the last traffic in seconds of the monotonic clock)."""

    __slots__ = ('locks', 'sessions', 'user')

    def __init__(self, user: User) -> None:
        self.user = user
        self.sessions: dict[str, Session] = {}
        self.locks: dict[str, tuple[Session, float]] | None = None

    def unlock(self, session: Session) -> None:
        """Drop the reply locks that a session holds; it went unavailable."""
        if self.locks:
            self.locks = {peer: lock for peer, lock in self.locks.items() if lock[0] is not session} or None
