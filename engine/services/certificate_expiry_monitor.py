"""Cisco Certificate Expiry Monitor: alarms for certificates that expire (guide 4820-4858).

It looks a day after its start and every day from then on; every hour while a certificate has expired or expires within
a day. Security > Certificate Monitor decides from when on and how often it tells of each. The publisher looks at what
all nodes share, too: trust stores and Multi-Server certificates.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, ClassVar

import structlog

from engine.contract.messages import Text, message
from engine.contract.services import CERTIFICATE_EXPIRY_MONITOR
from engine.services.base import Service
from engine.store import certificates as store
from engine.store.pool import Unavailable
from engine.supervisor import describe

if TYPE_CHECKING:
    from engine.node import Node

log = structlog.get_logger(__name__)

DAY_S, HOUR_S = 86_400.0, 3_600.0


class CertificateExpiryMonitor(Service):
    """``clock`` and ``sleep`` are those of tests where time must pass."""

    key: ClassVar[str] = CERTIFICATE_EXPIRY_MONITOR
    sleep: Callable[[float], Awaitable[None]] = staticmethod(asyncio.sleep)

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self._told: set[str] = set()

    async def start(self) -> None:
        """Look first after a day."""
        self.spawn(self._watch(), 'certificate expiry')

    async def _watch(self) -> None:
        wait = DAY_S
        while True:
            await self.sleep(wait)
            try:
                wait = await self.look(self.clock())
            except Unavailable as error:
                log.warning('certificates cannot be read', error=describe(error))
                wait = HOUR_S

    def clock(self) -> datetime:
        """Now."""
        return datetime.now(UTC)

    async def look(self, now: datetime) -> float:
        """Tell of what expires; seconds until the next look."""
        settings = self.config.certificate_monitor
        found = await store.expiring(
            self.node.store, self.node.id, self.node.publisher, now + timedelta(days=settings.start_days)
        )
        alarms = set()
        for one in found:
            expired = one.ends_at <= now
            alarm = f'{"CertExpired" if expired else "CertExpiryApproaching"}: {one.id}'
            alarms.add(alarm)
            due = one.noticed_at is None or now - one.noticed_at >= timedelta(hours=settings.frequency_h)
            if due and alarm in self._told:
                self.node.clear_alarm(alarm)  # so that it is told anew
            text = Text.CERTIFICATE_EXPIRED if expired else Text.CERTIFICATE_EXPIRES
            shown = {'name': one.name, 'owner': one.common_name, 'date': f'{one.ends_at:%Y-%m-%d %H:%M} UTC'}
            self.node.raise_alarm(alarm, message(text, **shown), 'High' if expired else 'Medium')
            if due:
                await store.noticed(self.node.store, one.id, now)
        for alarm in self._told - alarms:
            self.node.clear_alarm(alarm)
        self._told = alarms
        return HOUR_S if any(one.ends_at - now <= timedelta(days=1) for one in found) else DAY_S
