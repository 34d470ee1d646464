"""Device capacity monitoring (guide 6956-7017) and what Multi-Device Messaging shows of itself (guide 6943-6954).

A JSM session is a session of a user on this node. Composed: one for each user this node serves, connected or not; those
of the other node of the redundancy group stand by here while High Availability is on (spec 02, 11). Active: a
client, internal or off-site by the network it comes from. Phantom: a session whose connection is lost and that waits
for its client, as suspended phones leave it. Hybrid (interoperability with Spark): none, as there are no hybrid users.
The part of the rated sessions is (active + phantom + hybrid) / rated.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import lru_cache
from ipaddress import ip_address
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

import structlog

from engine.contract.messages import Text, message
from engine.contract.networks import networks
from engine.contract.services import XCP_ROUTER
from engine.store import status
from engine.store.pool import Unavailable

if TYPE_CHECKING:
    from engine.node import Node
    from engine.services.xcp_router.router import XcpRouter

log = structlog.get_logger(__name__)

ALARM = 'JSMSessionsExceedsThreshold'
FREQUENCY = 'jsm_alert_frequency_s'
SAMPLE_S = 5.0
SLICE_S = 60.0
"""What *last time slice* means for the packets flushed, and how often the assigned users are counted."""
JSM, MDM, PRESENCE = 'Cisco XCP JSM', 'Cisco XCP MDM', 'Cisco Presence Engine'
Gauge = tuple[str, str, str, str, float]


DAYS = ('Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun')


class Classes(NamedTuple):
    """Sessions of a node by their class (guide 6962-6969); hybrid ones do not exist here."""

    internal: int
    off_site: int
    phantom: int


def scheduled(at: datetime, days: str, begin: str, end: str) -> bool:
    """Whether an alert may be raised at a local time: on these days, from ``begin`` until ``end`` (HH:MM, the same: all
    day). What goes on past midnight belongs to the day it began on."""
    time_of_day = f'{at:%H:%M}'
    if begin > end and time_of_day < end:
        at -= timedelta(days=1)
    elif begin != end and not begin <= time_of_day < (end if begin < end else '24:00'):
        return False
    return DAYS[at.weekday()] in days


@lru_cache(maxsize=10_000)
def _inside(address: str, known: str) -> bool:
    try:
        found = ip_address(address.partition('%')[0])
    except ValueError:
        return False
    found = getattr(found, 'ipv4_mapped', None) or found
    return any(found in network for network in networks(known) if network.version == found.version)


class Threshold:
    """When to raise and to clear the alarm. Pure: time and value come from outside."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._told: float | None = None

    def sample(
        self, now: float, percent: float, limit: float, duration_s: float, again_s: float, may_raise: bool = True
    ) -> str:
        """'raise', 'clear' or ''. The value must be above the limit in every sample of the duration; while it stays
        there 'raise' comes again at the interval ``again_s``, each time as soon as the schedule lets it
        (``may_raise``)."""
        if percent <= limit:
            raised, self._since, self._told = self._told is not None, None, None
            return 'clear' if raised else ''
        if self._since is None:
            self._since = now
        if not may_raise or (now - self._since < duration_s if self._told is None else now - self._told < again_s):
            return ''
        self._told = now
        return 'raise'


class Capacity:
    """Samples of one router."""

    def __init__(self, router: XcpRouter) -> None:
        self.router = router
        self.stale = False
        """Users were changed: count the assigned ones again."""
        self._assigned: dict[int, int] = {}
        """Assigned users of the nodes of this group."""
        self._flushed: deque[tuple[float, int]] = deque([(time.monotonic(), router.node.counters.mdm_flushed)])
        self._threshold = Threshold()

    @property
    def composed(self) -> int:
        """Users this node serves, connected or not."""
        owns = self.router.node.ownership.owns
        return sum(count for home, count in self._assigned.items() if owns(home))

    @property
    def standby(self) -> int:
        """Users of the group that this node would serve if the other one failed."""
        node = self.router.node
        return sum(self._assigned.values()) - self.composed if node.config.peer_of(node.id) is not None else 0

    def sessions(self) -> Classes:
        """The sessions there are now."""
        known = str(self.router.param('internal_networks'))
        internal = phantom = 0
        for session in self.router.full.values():
            if session.hibernating:
                phantom += 1
            elif _inside(session.connection.address, known):
                internal += 1
        return Classes(internal, len(self.router.full) - internal - phantom, phantom)

    def percent(self, sessions: int) -> float:
        """Part of the rated sessions."""
        return 100.0 * sessions / int(self.router.param('rated_jsm_sessions'))

    def flushed_lately(self) -> int:
        """Packets flushed from quiet mode buffers within the last time slice."""
        old = time.monotonic() - SLICE_S
        while len(self._flushed) > 1 and self._flushed[1][0] <= old:
            self._flushed.popleft()
        return self.router.node.counters.mdm_flushed - self._flushed[0][1]

    async def watch(self) -> None:
        """Sample for ever."""
        node = self.router.node
        counted = -SLICE_S
        while True:
            duration = float(self.router.param('jsm_threshold_s'))
            now = time.monotonic()
            group = node.config.group_of(node.id)
            homes = {*(group.nodes if group is not None else ()), *node.ownership.owned}
            if now - counted >= SLICE_S or self.stale or self._assigned.keys() != homes:
                counted, self.stale = now, False
                try:
                    self._assigned = await status.assigned_users(node.store, homes)
                except Unavailable as error:
                    log.warning('assigned users not counted: database not reachable', error=str(error))
            self._flushed.append((now, node.counters.mdm_flushed))
            self.flushed_lately()
            self._judge(time.monotonic(), duration)
            await asyncio.sleep(min(SAMPLE_S, max(0.1, duration / 10)))

    def _judge(self, now: float, duration: float) -> None:
        sessions, param = len(self.router.full), self.router.param
        percent = self.percent(sessions)
        limit = float(param('jsm_threshold_percent')) if param('jsm_alert') else inf
        times = (str(param(name)) for name in ('jsm_alert_days', 'jsm_alert_from', 'jsm_alert_until'))
        due = scheduled(datetime.now(), *times)  # noqa: DTZ005 - the node's own time of day is meant
        verdict = self._threshold.sample(now, percent, limit, duration, float(param(FREQUENCY)), due)
        if verdict == 'raise':
            rated = int(param('rated_jsm_sessions'))
            shown = {'sessions': sessions, 'percent': round(percent), 'rated': rated, 'threshold': round(limit)}
            name = self.router.node.name
            self.router.node.raise_alarm(ALARM, message(Text.TOO_MANY_SESSIONS, node=name, **shown))
        elif verdict == 'clear':
            self.router.node.clear_alarm(ALARM)


def gauges(node: Node) -> Iterator[Gauge]:
    """(name, object, counter, help, value) of everything here, for the Prometheus endpoint; zeros while the router is
    stopped."""
    router: Any = node.service(XCP_ROUTER)
    composed = standby = inactive = mdm = silent = quiet = flushed = 0
    classes = Classes(0, 0, 0)
    percent = 0.0
    if router is not None:
        capacity: Capacity = router.capacity
        composed, standby, inactive = capacity.composed, capacity.standby, len(router.dual.here)
        classes = capacity.sessions()
        percent = capacity.percent(sum(classes))
        flushed = capacity.flushed_lately()
        for account in router.accounts.values():
            if account.carbons:
                mdm += account.carbons
                quiet += sum(session.carbons and not session.csi_active for session in account.sessions.values())
                if account.carbons > 1 and account.active_session(router.mdm_active_s) is not None:
                    silent += account.carbons - 1
    counters = node.counters
    queued = counters.mdm_queued_ms / counters.mdm_flushed / 1000 if counters.mdm_flushed else 0.0
    text = 'Users this node serves, connected or not'
    yield 'active_jsm_sessions', PRESENCE, 'ActiveJsmSessions', text, composed
    text = 'Users of the other node of the group, whom this node would serve if that one failed'
    yield 'inactive_jsm_sessions', PRESENCE, 'InactiveJsmSessions', text, standby
    yield 'jsm_sessions_composed', JSM, 'JsmSessionsComposed', 'Composed sessions: users this node serves', composed
    active = classes.internal + classes.off_site
    yield 'jsm_client_sessions', JSM, 'JsmClientSessionsActive', 'Sessions with a connected client', active
    yield 'jsm_sessions_client', JSM, 'JsmSessionsClient', 'Clients with an active connection', active
    text = 'Clients with an inactive connection (dual connections)'
    yield 'jsm_sessions_client_inactive', JSM, 'JsmSessionsClientInactive', text, inactive
    text = 'Sessions with a client in the internal networks'
    yield 'jsm_internal_sessions', JSM, 'JsmInternalSessionsActive', text, classes.internal
    yield 'jsm_offsite_sessions', JSM, 'JsmOffsiteSessionsActive', 'Sessions with a client elsewhere', classes.off_site
    text = 'Sessions that wait for their client'
    yield 'jsm_phantom_sessions', JSM, 'JsmPhantomSessionsActive', text, classes.phantom
    yield 'jsm_hybrid_sessions', JSM, 'JsmHybridSessionsActive', 'Sessions of hybrid users: there are none', 0
    yield 'jsm_sessions_percent', JSM, ALARM, 'Active, phantom and hybrid sessions in percent of the rated', percent
    yield 'mdm_sessions', MDM, 'MDMSessions', 'Sessions with Multi-Device Messaging', mdm
    text = 'Sessions with Multi-Device Messaging that do not notify, because another client is active'
    yield 'mdm_silent_sessions', MDM, 'MDMSilentModeSessions', text, silent
    yield 'mdm_quiet_sessions', MDM, 'MDMQuietModeSessions', 'Sessions in quiet mode', quiet
    text = 'Packets flushed from quiet mode buffers in the last 60 seconds'
    yield 'mdm_flushed_lately', MDM, 'MDMBufferFlushPacketCount', text, flushed
    yield 'mdm_queued_s', MDM, 'MDMBufferAvgQueuedTime', 'Average seconds in the buffer before the flush', queued
