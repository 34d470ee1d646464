"""Typed hooks: where features attach. A hook is a named object, so hooking a name that does not exist cannot compile.

A handler returns ``None`` to pass on, anything else to answer (the first answer wins). Handlers run by priority,
highest first. A handler that raises is logged with its feature's name and skipped: one feature never stops a stanza.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Generic, ParamSpec, TypeVar

import structlog

P = ParamSpec('P')
R = TypeVar('R')
log = structlog.get_logger(__name__)


class Hook(Generic[P, R]):
    """One hook. ``fire`` returns the first answer that is not None."""

    __slots__ = ('_handlers', 'doc', 'handlers', 'name')

    def __init__(self, name: str, doc: str) -> None:
        self.name = name
        self.doc = doc
        self._handlers: list[tuple[int, Callable[P, R | None]]] = []
        self.handlers: tuple[Callable[P, R | None], ...] = ()

    def on(self, priority: int = 0) -> Callable[[Callable[P, R | None]], Callable[P, R | None]]:
        """Decorator: run this function when the hook fires."""

        def register(handler: Callable[P, R | None]) -> Callable[P, R | None]:
            self._handlers.append((priority, handler))
            self._handlers.sort(key=lambda entry: -entry[0])
            self.handlers = tuple(entry[1] for entry in self._handlers)
            return handler

        return register

    def fire(self, *args: P.args, **kwargs: P.kwargs) -> R | None:
        """Call the handlers in order until one answers."""
        for handler in self.handlers:
            try:
                answer = handler(*args, **kwargs)
            except Exception:
                log.exception('handler failed', hook=self.name, handler=handler.__module__ + '.' + handler.__name__)
                continue
            if answer is not None:
                return answer
        return None

    def collect(self, *args: P.args, **kwargs: P.kwargs) -> list[R]:
        """Call every handler; the answers that are not None."""
        answers = []
        for handler in self.handlers:
            try:
                answer = handler(*args, **kwargs)
            except Exception:
                log.exception('handler failed', hook=self.name, handler=handler.__module__ + '.' + handler.__name__)
                continue
            if answer is not None:
                answers.append(answer)
        return answers


class IqTable:
    """IQ handlers by (type, namespace, child name, addressee kind): one dictionary look-up instead of a hook walk."""

    def __init__(self) -> None:
        self.handlers: dict[tuple[str, str, str, str], Callable[..., Any]] = {}

    def on(self, kind: str, namespace: str, name: str, *to: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Decorator. ``kind`` get or set; ``to``: 'host' (a served domain), 'self' (own bare JID or none), 'bare',
        'outside' (an address without resource at a domain not served here; only asked by clients here)."""

        def register(handler: Callable[..., Any]) -> Callable[..., Any]:
            for target in to:
                key = (kind, namespace, name, target)
                if key in self.handlers:
                    raise ValueError(f'two handlers for {key}')
                self.handlers[key] = handler
            return handler

        return register


class DiscoNodes:
    """Handlers by (namespace of service discovery, node). They return the whole answer."""

    def __init__(self) -> None:
        self.handlers: dict[tuple[str, str], Callable[..., Awaitable[bytes]]] = {}

    def on(
        self, namespace: str, node: str
    ) -> Callable[[Callable[..., Awaitable[bytes]]], Callable[..., Awaitable[bytes]]]:
        """Decorator."""

        def register(handler: Callable[..., Awaitable[bytes]]) -> Callable[..., Awaitable[bytes]]:
            self.handlers[namespace, node] = handler
            return handler

        return register
