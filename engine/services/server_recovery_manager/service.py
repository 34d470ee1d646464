"""The recovery manager of one node: starts and ends a pair with the configuration, takes the administrator's orders.

With high availability off in the group of the node it stands still: no packets, no lease, no statement.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, ClassVar

import structlog

from engine.contract.config import Config, RedundancyGroup
from engine.contract.messages import message
from engine.contract.recovery import FALLBACK, RECOVER, Text
from engine.contract.services import SERVER_RECOVERY_MANAGER
from engine.recovery.records import NotNow, Settings
from engine.services.base import Service
from engine.services.server_recovery_manager.pair import Pair
from engine.store import recovery as store
from engine.store.pool import Unavailable
from engine.supervisor import Refused, describe

if TYPE_CHECKING:
    from engine.node import Node

log = structlog.get_logger(__name__)

FALLBACK_S = 1800.0
"""So long a failed node is healthy before Automatic Fallback (guide 2156)."""
STEP_S = 300.0
"""Most time for one step of a transition."""
BUTTONS = {FALLBACK: 'Fallback', RECOVER: 'Recover'}


class ServerRecoveryManager(Service):
    """``pair``: the running half of a pair, None while high availability is off."""

    key: ClassVar[str] = SERVER_RECOVERY_MANAGER

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self.pair: Pair | None = None
        self._following = asyncio.Lock()

    async def start(self) -> None:
        """Go on where the record in the database says."""
        await self._follow()

    def configure(self, newest: Config) -> None:
        """Another group, other parameters."""
        super().configure(newest)
        if self.pair is not None and self.pair.group == self._group():
            self.pair.machine.settings = self._settings()
        else:
            self.spawn(self._follow(), 'group')

    async def stop(self) -> None:
        """End. At the end of the node the other one is told."""
        if self.pair is not None:
            pair, self.pair = self.pair, None
            await pair.end(goodbye=self.node.supervisor.closing)

    async def order(self, verb: str) -> None:
        """Failover, Fallback or Recover. Raises Refused with the states when it is not possible now."""
        pair = self.pair
        if pair is None:
            raise Refused(message(Text.HA_OFF, node=self.node.name))
        name = BUTTONS.get(verb, 'Failover')
        try:
            await pair.order(verb)
        except NotNow as refusal:
            values = {'order': name, 'node': self.node.name, 'peer': pair.peer_name}
            status = pair.machine.status
            if refusal.why == 'down' and status is not None:
                raise Refused(message(Text.PEER_NOT_READY, **values, services=pair.names(status.down))) from None
            if refusal.why == 'silent':
                raise Refused(message(Text.NOT_HEARD, **values)) from None
            states = {'state': pair.machine.record.state, 'peer_state': status.state if status else ''}
            raise Refused(message(Text.NOT_NOW, **values, **states)) from None

    # ---- the parts

    def _group(self) -> RedundancyGroup | None:
        """The group of the node when it has two nodes and high availability."""
        group = self.config.group_of(self.node.id)
        return group if group is not None and group.ha and len(group.nodes) == 2 else None

    def _settings(self) -> Settings:
        scale = float(os.environ.get('IMP_SRM_TIME_SCALE', '1'))  # only tests set it

        def seconds(name: str) -> float:
            return float(self.param(name)) * scale

        return Settings(
            interval_s=seconds('keep_alive_interval_s'), timeout_s=seconds('keep_alive_timeout_s'),
            init_s=seconds('initialization_timeout_s'), critical_s=seconds('critical_service_delay_s'),
            automatic_fallback=self.param('automatic_fallback'), fallback_s=FALLBACK_S * scale, step_s=STEP_S,
        )  # fmt: skip

    async def _follow(self) -> None:
        """Make the pair that the configuration asks for, or none."""
        async with self._following:
            group = self._group()
            if self.pair is not None:
                if self.pair.group == group:
                    return
                pair, self.pair = self.pair, None
                await pair.end()
            if group is None:
                await self._stand_still()
                return
            pair = Pair(self, group, self._settings())
            await pair.begin()
            self.pair = pair

    async def _stand_still(self) -> None:
        """High availability is off: the users stay where they are, the services run."""
        self.tell(message(Text.NO_HA))
        if self.node.supervisor.kept:
            self.spawn(self.node.supervisor.let_start(tuple(self.node.supervisor.kept)), 'start services')
        if len(self.config.nodes) > 1:
            try:
                await store.leave(self.node.store, self.node.id, plain=True)
            except Unavailable as error:
                log.warning('the end of high availability is not written', error=describe(error))
