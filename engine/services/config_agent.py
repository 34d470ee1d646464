"""Cisco Config Agent: takes configuration generations from the database and publishes them to the services."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, ClassVar

import msgspec
import structlog

from engine.contract import config as contract
from engine.contract.config import Config
from engine.contract.messages import Text, message
from engine.contract.services import CONFIG_AGENT
from engine.services.base import Service
from engine.store import status
from engine.store.pool import Unavailable
from engine.supervisor import describe

if TYPE_CHECKING:
    from engine.node import Node

log = structlog.get_logger(__name__)

ALARM = 'ConfigurationInvalid'
NAMES_ALARM = 'XCPConfigMgrHostNameResolutionFailed'
NAMES_S = 60.0
"""How often the addresses of the nodes are resolved again, beside every change of the configuration."""
LOOK_BACK = 50
"""So many generations are tried at start before the node gives up finding a valid one and waits for the next."""


class WrongDocument(ValueError):
    """A generation that cannot be used; the text says where and why."""


def read(number: int, document: str, node_name: str) -> Config:
    """Validate one generation for one node. Raises WrongDocument."""
    try:
        config = contract.decode(document)
    except msgspec.DecodeError as error:  # ValidationError names the path of the wrong value
        raise WrongDocument(message(Text.WRONG_CONFIGURATION, number=number, reason=str(error))) from None
    if config.node(node_name) is None:
        raise WrongDocument(message(Text.WITHOUT_NODE, number=number, node=node_name))
    return msgspec.structs.replace(config, generation=number)


async def first_configuration(node: Node) -> Config:
    """The newest valid generation at the start of the process; waits until there is one."""
    told = ''
    while True:
        wrong = ''
        try:
            found = await status.generations(node.store, LOOK_BACK)
        except Unavailable as error:
            found, wrong = [], describe(error)
        for number, document in found:
            try:
                config = read(number, document, node.name)
            except WrongDocument as error:
                wrong = wrong or describe(error)
                continue
            if wrong:
                node.raise_alarm(ALARM, message(Text.OLDER_USED, problem=wrong, number=number))
            return config
        reason = wrong or 'The console has stored no configuration yet. Start the console once.'
        if reason != told:
            log.warning(f'Waiting for a configuration: {reason}')
            told = reason
        await asyncio.sleep(1)


class ConfigAgent(Service):
    """While it runs, each new generation is validated and published; a bad one raises an alarm, the old one stays."""

    key: ClassVar[str] = CONFIG_AGENT

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self._seen = node.config.generation
        self._names_now = asyncio.Event()

    async def start(self) -> None:
        """Take what was stored while nobody looked."""
        self.spawn(self.look(), 'first look')
        self.spawn(self._watch_names(), 'names of the nodes')

    def configure(self, newest: Config) -> None:
        """New generation: resolve the addresses of its nodes."""
        super().configure(newest)
        self._names_now.set()

    async def _watch_names(self) -> None:
        """Alarm while the address of a node cannot be resolved: the nodes could not reach each other (guide 12557)."""
        loop = asyncio.get_running_loop()
        while True:
            self._names_now.clear()
            unknown = []
            for address in sorted({node.address for node in self.node.config.nodes}):
                try:
                    await loop.getaddrinfo(address, None, type=socket.SOCK_STREAM)
                except (OSError, UnicodeError):
                    unknown.append(address)
            if unknown:
                self.node.raise_alarm(NAMES_ALARM, message(Text.UNKNOWN_HOSTS, names=', '.join(unknown)))
            else:
                self.node.clear_alarm(NAMES_ALARM)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._names_now.wait(), NAMES_S)

    async def look(self) -> None:
        """Read the newest generation if it is new. Raises what the store raises."""
        newest = await status.newest_generation(self.node.store)
        if newest == self._seen:
            return
        for number, document in await status.generations(self.node.store, 1):
            self._seen = number
            try:
                config = read(number, document, self.node.name)
            except WrongDocument as error:
                shown = {'problem': describe(error), 'number': self.node.config.generation}
                self.node.raise_alarm(ALARM, message(Text.OLD_STAYS, **shown))
                return
            self.node.clear_alarm(ALARM)
            await self.node.take_configuration(config)
