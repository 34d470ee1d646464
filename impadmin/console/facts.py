"""What one request has asked already, so that cards, checks and steps that need the same do not ask again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

T = TypeVar('T')


class Facts:
    """``facts(function)`` is what ``function()`` said when it was first asked for."""

    def __init__(self) -> None:
        self._known: dict[Callable[..., Any], Any] = {}

    def __call__(self, function: Callable[[], T]) -> T:
        """The answer of ``function``, from now on the same one."""
        if function not in self._known:
            self._known[function] = function()
        found: T = self._known[function]
        return found

    def about(self, function: Callable[[Facts], Iterable[T]]) -> tuple[T, ...]:
        """Everything ``function(self)`` gives, from now on the same."""
        if function not in self._known:
            self._known[function] = tuple(function(self))
        found: tuple[T, ...] = self._known[function]
        return found
