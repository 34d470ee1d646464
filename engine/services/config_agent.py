"""Cisco Config Agent: takes configuration generations from the database and publishes them to the services."""

from __future__ import annotations

import asyncio
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

    async def start(self) -> None:
        """Take what was stored while nobody looked."""
        self.spawn(self.look(), 'first look')

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
