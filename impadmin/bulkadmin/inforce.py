"""What an import has to obey at this moment: limits the running service enforces, its domains, rate and health."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from django.db.models import Max
from django.utils import timezone

from engine.contract.config import Config
from engine.contract.restarts import effective, parameter_value
from engine.contract.services import BULK_PROVISIONING, PRESENCE_ENGINE, XCP_ROUTER, State
from impadmin.console import generations
from impadmin.system.models import Node, ServiceStatus

LAG_MS = 50.0
"""Event loop lag of a node above which an import without a rate of its own slows down."""
CHUNK = 5000
_SLICE_S = 0.2


@dataclass(frozen=True, slots=True)
class Rules:
    """Values in force on the publisher. None is No Limit."""

    max_contacts: int | None
    max_watchers: int | None
    auto_approve: bool
    domains: frozenset[str]


def running_config() -> Config:
    """The newest configuration, with the values the publisher's services keep until they restart.

    Cisco Presence Engine and Cisco XCP Router keep the same presence settings (RST-R13). The engine's count, since it
    writes contact lists; the router's when the engine does not run; the newest when neither does.
    """
    newest = generations.newest() or generations.compiled()
    running = {
        status.service: status.generation
        for status in ServiceStatus.objects.filter(
            node__publisher=True, service__in=(XCP_ROUTER, PRESENCE_ENGINE), state=State.RUNNING, generation__gt=0
        )
    }
    for service in (PRESENCE_ENGINE, XCP_ROUTER):
        if service in running:
            return effective(newest, generations.stored(running[service]), service)
    return newest


def rules() -> Rules:
    """What to enforce now."""
    config = running_config()
    newest = generations.newest() or config
    return Rules(
        config.presence.max_contacts,
        config.presence.max_watchers,
        config.presence.auto_approve,
        frozenset(newest.domains) | frozenset(config.domains),
    )


def _parameter(name: str) -> int:
    config = generations.newest() or generations.compiled()
    publisher = next((node.name for node in config.nodes if node.publisher), '')
    return int(parameter_value(config, publisher, BULK_PROVISIONING, name))


def import_rate() -> int:
    """Contact List Import Rate in rows per second; 0: as fast as the nodes stay healthy."""
    return _parameter('contact_list_import_rate')


def listed_rows() -> int:
    """Maximum number of rows listed per job."""
    return _parameter('listed_rows')


def worst_lag_ms() -> float:
    """Largest event loop lag any living node reports."""
    alive = timezone.now() - timedelta(seconds=30)
    return float(Node.objects.filter(heartbeat_at__gt=alive).aggregate(worst=Max('loop_lag_ms'))['worst'] or 0.0)


@dataclass(slots=True)
class Pace:
    """Keeps an import at its rate: a token bucket when a rate is set, else braking while a node lags."""

    rate: int = 0
    brake: float = 0.0
    _read_at: float = field(default=-1.0)
    _due: float = 0.0

    def read(self) -> None:
        """Read rate and health again, at most once a second."""
        now = time.monotonic()
        if now - self._read_at < 1.0 and self._read_at >= 0:
            return
        self._read_at = now
        rate = import_rate()
        if rate != self.rate:
            self.rate, self._due = rate, now
        if rate:
            self.brake = 0.0
        elif worst_lag_ms() > LAG_MS:
            self.brake = min(max(self.brake * 2, 1.0), 16.0)
        else:
            self.brake = self.brake / 2 if self.brake > 0.25 else 0.0

    def rows(self) -> int:
        """How many rows to take next."""
        if self.rate:
            return max(1, min(CHUNK, self.rate // 4))
        return CHUNK // 10 if self.brake else CHUNK

    def wait(self, rows: int, took_s: float, give_up: Callable[[], bool]) -> None:
        """After ``rows`` rows that took ``took_s`` seconds: sleep as long as the rate or the nodes' health asks."""
        now = time.monotonic()
        if self.rate:
            # an idle bucket holds at most a quarter second of rows
            self._due = max(self._due, now - took_s - 0.25) + rows / self.rate
        else:
            self._due = now + min(took_s * self.brake, 5.0)
        while (left := self._due - time.monotonic()) > 0:
            time.sleep(min(left, _SLICE_S))
            if give_up():
                return
