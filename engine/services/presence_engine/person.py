"""One signed-in user as the presence engine knows it."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Final

from engine.store.policies import DEFAULT
from engine.store.rosters import FROM, Entries, Item, Roster

if TYPE_CHECKING:
    from engine.session import Session

Operation = Callable[[], Awaitable[None]]
NOBODY: Final[frozenset[str]] = frozenset()
"""One for all: an empty set takes 216 bytes."""


class Person:
    """``items`` is the contact list, None until it was read, ``policy`` comes with it. ``queue`` holds the database
    operations of the user's clients, done one after the other so that they take effect in the order in which they were
    sent; None: there are none. ``abroad`` and ``seen``: elsewhere.py. ``items`` changes in ``take`` and ``put``
    only."""

    __slots__ = (
        '_watchers', 'abroad', 'bare', 'busy', 'items', 'policy', 'queue', 'requests', 'seen', 'user_id', 'version',
    )  # fmt: skip

    def __init__(self, user_id: int, bare: str) -> None:
        self.user_id = user_id
        self.bare = bare
        self.items: Entries | None = None
        self._watchers: Iterable[str] | None = None
        self.policy = DEFAULT
        self.requests: dict[str, bytes] = {}
        self.version = -1
        self.queue: deque[tuple[Operation, Callable[[Exception], None] | None, Session, int]] | None = None
        self.busy = False
        self.abroad = NOBODY
        self.seen: dict[str, dict[str, tuple[bytes, bytes]]] | None = None

    def take(self, roster: Roster) -> None:
        """Remember a list as read."""
        self.version, self.items, self.requests, self.policy = roster
        self._watchers = None

    def put(self, jid: str, item: Item | None) -> None:
        """One entry is another one now; None: it is gone."""
        assert self.items is not None
        self._watchers = None
        self.items = self.items.with_entry(jid, item)

    def watchers(self) -> Iterable[str]:
        """Bare JIDs of those who have a subscription to the user, kept until the list changes. Where it is everybody
        in the list, as usual, that list serves: no memory."""
        if self._watchers is None:
            items = self.items or Entries()
            found = tuple(jid for jid, item in items.items() if item.subscription & FROM)
            self._watchers = items if len(found) == len(items) else found
        return self._watchers
