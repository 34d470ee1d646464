"""One signed-in user as the presence engine knows it."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from engine.store.policies import DEFAULT
from engine.store.rosters import Item, Roster

if TYPE_CHECKING:
    from engine.session import Session

Operation = Callable[[], Awaitable[None]]


class Person:
    """``items`` is the contact list, None until it was read, ``policy`` comes with it. ``queue`` holds the database
    operations of the user's clients, done one after the other so that they take effect in the order in which they were
    sent. ``abroad`` and ``seen``: elsewhere.py."""

    __slots__ = ('abroad', 'bare', 'busy', 'items', 'policy', 'queue', 'requests', 'seen', 'user_id', 'version')

    def __init__(self, user_id: int, bare: str) -> None:
        self.user_id = user_id
        self.bare = bare
        self.items: dict[str, Item] | None = None
        self.policy = DEFAULT
        self.requests: dict[str, bytes] = {}
        self.version = -1
        self.queue: deque[tuple[Operation, Callable[[Exception], None] | None, Session, int]] = deque()
        self.busy = False
        self.abroad: set[str] = set()
        self.seen: dict[str, dict[str, tuple[bytes, bytes]]] | None = None

    def take(self, roster: Roster) -> None:
        """Remember a list as read."""
        self.version, self.items, self.requests, self.policy = roster
