"""What every named service is to the node that runs it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, ClassVar

from engine.contract.config import Config
from engine.contract.restarts import effective, parameter_value

if TYPE_CHECKING:
    from engine.node import Node


class Service:
    """Base of the named services. The node sets ``started_with`` before ``start`` and calls ``configure`` on every
    new generation; ``config`` always shows the restart-bound values of the start and the newest of the rest.
    ``detail`` is shown beside the state while the service runs: set it in ``start``, later by ``tell``."""

    key: ClassVar[str]
    detail: str = ''

    def __init__(self, node: Node) -> None:
        self.node = node
        self.started_with: Config = node.config
        self.config: Config = node.config
        self.tasks: set[asyncio.Task[Any]] = set()

    def configure(self, newest: Config) -> None:
        """Take a new generation. Override to react; call super first."""
        self.config = effective(newest, self.started_with, self.key)

    def param(self, name: str) -> Any:
        """The value in force of one of this service's parameters."""
        return parameter_value(self.config, self.node.name, self.key, name)

    async def start(self) -> None:
        """Begin to work. An exception leaves the service Failed with its text as detail."""

    async def stop(self) -> None:
        """Stop working and release everything. Must not raise."""

    def spawn(self, coroutine: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run a part of the service in the background. It ends with the service; when it raises, the service has
        died: the node stops what is left of it and starts it again after a while."""
        return self.node.spawn(coroutine, name, self)

    def cancel_tasks(self) -> None:
        """Cancel what ``spawn`` started. The node calls it after ``stop``."""
        for task in list(self.tasks):
            task.cancel()

    def tell(self, detail: str) -> None:
        """Show ``detail`` beside the state from now on."""
        self.detail = detail
        self.node.detail_changed(self)
