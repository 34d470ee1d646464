"""What every named service is to the node that runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from engine.contract.config import Config
from engine.contract.restarts import effective, parameter_value

if TYPE_CHECKING:
    from engine.node import Node


class Service:
    """Base of the named services. The node sets ``started_with`` before ``start`` and calls ``configure`` on every
    new generation; ``config`` always shows the restart-bound values of the start and the newest of the rest."""

    key: ClassVar[str]

    def __init__(self, node: Node) -> None:
        self.node = node
        self.started_with: Config = node.config
        self.config: Config = node.config

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
