"""The control plane of a node: nudges over Redis, and the tables that hold the truth whether or not a nudge arrived."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any, cast

import msgspec
import structlog

from engine import session_report
from engine.contract import events, messages
from engine.contract.messages import Text, message
from engine.contract.recovery import ORDERS
from engine.contract.services import BY_KEY, CONFIG_AGENT, PRESENCE_ENGINE, SERVER_RECOVERY_MANAGER, XCP_ROUTER
from engine.features.pubsub import written
from engine.node import RedisDown
from engine.store import status
from engine.store.pool import Unavailable
from engine.supervisor import Refused, describe

if TYPE_CHECKING:
    from engine.node import Node
    from engine.services.xcp_router.router import XcpRouter

log = structlog.get_logger(__name__)

POLL_S = 2.0


class Control:
    """Carries generations, commands and changes of users from the console to the services of one node."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self._look = asyncio.Event()

    def start(self) -> None:
        """Listen and poll until the node ends."""
        self.node.spawn(self._listen(), 'events')
        self.node.spawn(self._poll_commands(), 'commands')

    async def _poll_commands(self) -> None:
        while True:
            self._look.clear()
            try:
                await self._generations()
                await self._commands()
            except Unavailable as error:
                log.debug('the database cannot be reached', error=describe(error))
            except Exception:
                log.exception('control')
            try:
                async with asyncio.timeout(POLL_S):
                    await self._look.wait()
            except TimeoutError:
                pass

    async def _generations(self) -> None:
        """While the Config Agent is stopped nobody takes new configurations."""
        agent: Any = self.node.service(CONFIG_AGENT)
        if agent is not None:
            await agent.look()

    async def _commands(self) -> None:
        while (command := await status.next_command(self.node.store, self.node.id)) is not None:
            log.info('command', id=command.id, verb=command.verb, service=command.service)
            error = await self._execute(command)
            try:
                await self.node.record()  # whoever sees the command finished sees its effect too
            finally:
                await self._finish(command.id, error)

    async def _execute(self, command: status.Command) -> str:
        if command.verb == events.SESSIONS_REPORT:
            return await self._report(command.service)
        if command.verb in ORDERS:
            return await self._order(command.verb)
        verbs = {
            'start': self.node.start_service,
            'stop': self.node.stop_service,
            'restart': self.node.restart_service,
        }
        if command.verb not in verbs:
            return message(Text.NO_SUCH_COMMAND, verb=command.verb)
        if command.service not in BY_KEY:
            return message(Text.NO_SERVICE, service=command.service)
        try:
            # A restart takes over what the console saved before it, even when the nudge about it is still on its way.
            if command.verb != 'stop':
                await self._generations()
            await verbs[command.verb](command.service)
        except Refused as refusal:
            return describe(refusal)
        except Exception as error:
            log.exception('command failed', id=command.id)
            return describe(error)
        return ''

    async def _order(self, verb: str) -> str:
        manager: Any = self.node.service(SERVER_RECOVERY_MANAGER)
        if manager is None:
            return message(Text.NOT_RUNNING, service=BY_KEY[SERVER_RECOVERY_MANAGER].name, node=self.node.name)
        try:
            await manager.order(verb)
        except Refused as refusal:
            return describe(refusal)
        except Exception as error:
            log.exception('order failed', verb=verb)
            return describe(error)
        return ''

    async def _report(self, report: str) -> str:
        try:
            await session_report.write(self.node, report)
        except Exception as error:
            log.exception('report failed')
            return describe(error)
        return ''

    async def _finish(self, command_id: int, error: str) -> None:
        while True:
            try:
                await status.finish_command(self.node.store, command_id, messages.encode(error, messages.LONGEST))
                return
            except Unavailable as problem:
                log.warning('the outcome of a command is not written yet', id=command_id, error=describe(problem))
                await asyncio.sleep(1)

    # ---- nudges

    async def _listen(self) -> None:
        wait = 0.5
        down = False
        while True:
            try:
                async with self.node.redis.pubsub() as channel:
                    await channel.subscribe(events.EVENTS)
                    if down:
                        log.info('Redis answers again')
                    wait, down = 0.5, False
                    self._look.set()  # something may have been said meanwhile
                    while True:
                        message = await channel.get_message(ignore_subscribe_messages=True, timeout=30.0)
                        if message is None:
                            await channel.ping()
                        elif message['type'] == 'message':
                            self._take(message['data'])
            except RedisDown as error:
                if not down:
                    log.warning(
                        'Redis cannot be reached; commands and configurations are polled', error=describe(error)
                    )
                down = True
            await asyncio.sleep(wait)
            wait = min(5.0, wait * 2)

    def _take(self, data: bytes) -> None:
        try:
            event = events.decode_event(data)
        except msgspec.DecodeError as error:
            log.warning('unreadable event', error=str(error), data=data[:200])
            return
        if isinstance(event, events.ConfigChanged):
            self._look.set()
        elif isinstance(event, events.CommandQueued):
            if event.node == self.node.name:
                self._look.set()
        elif isinstance(event, events.UsersChanged):
            self._tell(XCP_ROUTER, 'users_changed', event.ids)
        elif isinstance(event, events.PersonalItemsWritten):
            if (router := self.node.service(XCP_ROUTER)) is not None:
                self.node.spawn(written.tell(cast('XcpRouter', router), event.ids, event.node), 'items written')
        else:
            self._tell(PRESENCE_ENGINE, 'contact_lists_changed', event.ids)

    def _tell(self, key: str, method: str, ids: list[int]) -> None:
        service = self.node.service(key)
        if service is None:
            return
        result = getattr(service, method)(ids)
        if inspect.iscoroutine(result):
            self.node.spawn(result, method)
