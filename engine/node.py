"""One node: its configuration, its store, and the supervision of its named services."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import redis.asyncio
import redis.exceptions
import structlog

from engine import samples
from engine.certificates import Certificates
from engine.cluster.ownership import Ownership
from engine.contract import events, messages
from engine.contract.config import Config
from engine.contract.events import Live, NodeLive, NotificationsLive, ServiceStateLive
from engine.contract.services import XCP_ROUTER
from engine.metrics import Counters, MetricsEndpoint
from engine.services.base import Service
from engine.store import status
from engine.store.pool import Store, Unavailable
from engine.supervisor import Slot, Supervisor, describe, make_service

log = structlog.get_logger(__name__)

VERSION = '0.1.0'
HEARTBEAT_S = 2.0
LAG_PROBE_S = 0.25
RedisDown = (redis.exceptions.RedisError, OSError, TimeoutError)


class NotRunnable(Exception):
    """This process cannot be the node. ``code`` is the exit code."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Node:
    """What every service and feature reaches through ``service.node``.

    name, id    name and primary key of the row in ``node``
    config      the newest valid generation (a service reads its own ``self.config`` instead, see services/base.py)
    store       the PostgreSQL pool; redis: client of REDIS_URL, may be unreachable at any time
    ownership   which users this node serves
    certificates  what it shows and trusts in TLS
    counters    plain integers for the Prometheus endpoint
    var         folder of this installation (IMP_VAR)
    """

    def __init__(self, name: str, database_url: str, redis_url: str, var: Path, metrics_port: int = 0) -> None:
        self.name = name
        self.id = 0
        self.publisher = False
        self.config = Config()
        self.database_url = database_url
        self.store = Store(database_url)
        self.redis: redis.asyncio.Redis = redis.asyncio.from_url(
            redis_url, socket_connect_timeout=2, socket_timeout=5, health_check_interval=0
        )
        self.var = var
        self.counters = Counters()
        self.certificates = Certificates(self)
        self.ownership = Ownership(self)
        self.started_at = datetime.now(UTC)
        self.lag_ms = 0.0
        self.supervisor = Supervisor(
            name, lambda: self.config, self._make, self._state_changed, self.raise_alarm, self.clear_alarm
        )
        self.running = self.supervisor.running
        self._lost: asyncio.Future[NotRunnable] = asyncio.get_running_loop().create_future()
        self._metrics = MetricsEndpoint(self, metrics_port)
        self._lock: psycopg.AsyncConnection[tuple[Any, ...]] | None = None
        self._dirty: dict[str, Slot] = {}
        self._alarms: deque[tuple[str, str, str, str]] = deque()
        self._open_alarms: dict[str, str] = {}
        self._live: deque[bytes] = deque(maxlen=1000)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._record_now = asyncio.Event()
        self._live_now = asyncio.Event()
        self._recording = asyncio.Lock()

    # ---- what services use

    def service(self, key: str) -> Service | None:
        """The instance of a service that is Running, else None. A dictionary look-up: cheap enough for the hot path."""
        return self.running.get(key)

    def publish(self, message: Live) -> None:
        """Tell the console's pages. Best effort: returns at once, never raises; lost while Redis is down."""
        self._live.append(events.encode(message))
        self._live_now.set()

    def raise_alarm(self, name: str, text: str, severity: str = 'High') -> None:
        """Open an alarm of this node, or renew the text of the open one. Written as soon as the database answers."""
        if self._open_alarms.get(name) == text:
            return
        self._open_alarms[name] = text
        log.warning('alarm', name=name, text=text)
        self._alarms.append(('open', name, severity, messages.encode(text)))
        self._record_now.set()

    def clear_alarm(self, name: str, notice: str = '', text: str = '') -> None:
        """Close the alarm of this name, if it is open; ``notice`` names a message that it is over."""
        if self._open_alarms.pop(name, None) is None:
            return
        self._alarms.append(('close', name, '', ''))
        if notice:
            self._alarms.append(('note', notice, 'Low', messages.encode(text)))
        self._record_now.set()

    def spawn(
        self, coroutine: Coroutine[Any, Any, Any], name: str, service: Service | None = None
    ) -> asyncio.Task[Any]:
        """Run a coroutine in the background; the node keeps it alive and logs its exception. With ``service`` it ends
        with that service, and its exception is that service's death."""
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        home = self._tasks if service is None else service.tasks
        home.add(task)

        def done(task: asyncio.Task[Any]) -> None:
            home.discard(task)
            if task.cancelled() or (error := task.exception()) is None:
                return
            log.error('background task failed', task=name, exc_info=error)
            if service is not None:
                self.supervisor.died(service, error)

        task.add_done_callback(done)
        return task

    def detail_changed(self, service: Service) -> None:
        """``Service.tell`` was called."""
        self.supervisor.refresh_detail(service)

    async def start_service(self, key: str) -> None:
        """Start a service and its activated dependents. Raises ``supervisor.Refused`` with the reason."""
        await self.supervisor.start(key)

    async def stop_service(self, key: str) -> None:
        """Stop a service after its dependents, in reverse order of start."""
        await self.supervisor.stop(key)

    async def restart_service(self, key: str) -> None:
        """Stop, then start a service and every dependent that was active."""
        await self.supervisor.restart(key)

    async def take_configuration(self, config: Config) -> None:
        """Publish a valid generation in this process (called by the Config Agent)."""
        self.config = config
        own = config.node(self.name)
        self.publisher = own is not None and own.publisher
        log.info('configuration', generation=config.generation)
        self.ownership.configure()
        await self.supervisor.reconfigure(config)
        self._record_now.set()

    # ---- life

    async def begin(self) -> None:
        """Become the node: registration, first configuration, services up to what the Data Monitor releases."""
        from engine.services.config_agent import first_configuration

        await self.store.open()
        await self._wait_for_database()
        row = await status.node_row(self.store, self.name)
        if row is None:
            known = ', '.join(await status.node_names(self.store)) or 'none'
            raise NotRunnable(
                3, f'There is no node {self.name!r}. Add it under System > Cluster Topology. Known nodes: {known}.'
            )
        self.id, self.publisher = row.id, row.publisher
        await self._take_lock()
        await status.interrupted_commands(self.store, self.id)
        await self.certificates.begin()
        self.config = await first_configuration(self)
        await self.ownership.begin()
        try:
            await self._metrics.start()
        except OSError as error:
            raise NotRunnable(
                6, f'The metrics port cannot be opened: {describe(error)} Set IMP_METRICS_PORT.'
            ) from None
        # Started before the services, so that nothing they say is lost.
        self.spawn(self._record(), 'recorder')
        self.spawn(self._forward_live(), 'live')
        self.spawn(self._measure_lag(), 'lag')
        self.spawn(samples.keep(self), 'samples')
        await self._forget_old_alarms()
        await self.supervisor.boot()

    async def lost(self) -> NotRunnable:
        """Wait until this process must end by itself: its row or its lock is gone."""
        return await asyncio.shield(self._lost)

    async def end(self) -> None:
        """Stop every service in reverse order, write the last states, let go of everything."""
        await self.supervisor.close()
        try:
            async with asyncio.timeout(5):
                # Without the lock the rows belong to another process.
                if self._lock is not None and not self._lock.closed:
                    await self.record()
        except Exception as error:
            log.warning('the last states could not be written', error=describe(error))
        # Libraries below turn a cancellation that meets a time-out into the time-out: say it until it is heard.
        for _ in range(50):
            if not self._tasks:
                break
            for task in list(self._tasks):
                task.cancel()
            await asyncio.wait(list(self._tasks), timeout=0.1)
        await self._send_live()
        await self._metrics.stop()
        if self._lock is not None:
            await self._lock.close()
        await self.store.close()
        await self.redis.aclose()

    async def record(self) -> None:
        """Write what changed: alarms in order, states, heartbeat. Raises what the store raises; then nothing is lost,
        the next call writes it."""
        async with self._recording:
            while self._alarms:
                verb, name, severity, text = self._alarms[0]
                try:
                    if verb == 'open':
                        await status.open_alarm(self.store, self.id, name, severity, text)
                    elif verb == 'close':
                        await status.close_alarm(self.store, self.id, name)
                    else:
                        await status.note_alarm(self.store, self.id, name, severity, text)
                except psycopg.DataError:
                    log.exception('this alarm cannot be stored', name=name)  # and must not keep back the others
                self._alarms.popleft()
                self.publish(NotificationsLive())
            if dirty := dict(self._dirty):
                self._dirty.clear()
                try:
                    await status.save_states(
                        self.store,
                        self.id,
                        [
                            (
                                slot.key,
                                str(slot.state),
                                datetime.fromtimestamp(slot.since, UTC),
                                slot.generation,
                                messages.encode(slot.detail, messages.LONGEST),
                            )
                            for slot in dirty.values()
                        ],
                    )
                except psycopg.errors.ForeignKeyViolation:
                    self._removed()
                    return
                except BaseException:
                    self._dirty = {**dirty, **self._dirty}
                    raise
                self.publish(NotificationsLive())
            sessions, users, composed = self.load()
            alive = await status.heartbeat(
                self.store,
                self.id,
                started_at=self.started_at,
                generation=self.config.generation,
                sessions=sessions,
                users_online=users,
                active_jsm_sessions=composed,
                loop_lag_ms=round(self.lag_ms, 2),
                version=VERSION,
                metrics_url=self._metrics.url,
            )
            if not alive:
                self._removed()
                return
            self.publish(NodeLive(node=self.name, at=time.time(), sessions=sessions))

    def _removed(self) -> None:
        self._lose(NotRunnable(3, f'The node {self.name!r} was removed from the cluster.'))

    def load(self) -> tuple[int, int, int]:
        """(connected sessions, users with at least one, users served whether connected or not)."""
        router: Any = self.running.get(XCP_ROUTER)
        return (len(router.full), len(router.accounts), router.capacity.composed) if router is not None else (0, 0, 0)

    # ---- the parts

    def _make(self, key: str) -> Service:
        return make_service(key, self)

    def _state_changed(self, slot: Slot) -> None:
        self._dirty[slot.key] = slot
        self._record_now.set()
        self.publish(
            ServiceStateLive(
                node=self.name, service=slot.key, state=str(slot.state), since=slot.since, detail=str(slot.detail)
            )
        )

    async def _wait_for_database(self) -> None:
        wait = 0.5
        while True:
            try:
                # Not through the pool: it hides why it cannot connect.
                await status.probe(self.database_url)
                ready = await status.has_tables(self.store)
            except Unavailable as error:
                log.warning(f'The database is not reachable, trying again in {wait:g} s', error=describe(error))
                await asyncio.sleep(wait)
                wait = min(10.0, wait * 2)
                continue
            if not ready:
                raise NotRunnable(4, 'The database has no tables yet. Run: python manage.py migrate')
            return

    async def _take_lock(self) -> None:
        for _ in range(10):
            self._lock = await status.take_node_lock(self.database_url, self.id)
            if self._lock is not None:
                return
            await asyncio.sleep(0.5)
        raise NotRunnable(5, f'Another engine already runs as node {self.name!r} on this database.')

    async def _keep_lock(self) -> None:
        """After a lost database connection the lock must be taken again; somebody else may have it now."""
        if self._lock is not None and not self._lock.closed:
            try:
                async with asyncio.timeout(5):
                    await self._lock.execute('SELECT 1')
                return
            except (*Unavailable, TimeoutError):
                await self._lock.close()
        self._lock = await status.take_node_lock(self.database_url, self.id)
        if self._lock is None:
            self._lose(NotRunnable(5, f'Another engine took over as node {self.name!r}.'))

    def _lose(self, reason: NotRunnable) -> None:
        if not self._lost.done():
            self._lost.set_result(reason)

    async def _forget_old_alarms(self) -> None:
        """Alarms that an earlier process of this node left open are judged anew."""
        for name in await status.open_alarm_names(self.store, self.id):
            if name not in self._open_alarms:
                await status.close_alarm(self.store, self.id, name)

    async def _record(self) -> None:
        unreachable = False
        while True:
            try:
                await self._keep_lock()
                await self.record()
                if unreachable:
                    log.info('the database answers again')
                unreachable = False
            except Unavailable as error:
                if not unreachable:
                    log.warning(
                        'the database cannot be reached; states are kept and written later', error=describe(error)
                    )
                unreachable = True
            except Exception:
                log.exception('states cannot be written')
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    await self._record_now.wait()
            except TimeoutError:
                pass
            else:
                self._record_now.clear()
                if unreachable:
                    await asyncio.sleep(0.5)

    async def _send_live(self) -> None:
        try:
            async with asyncio.timeout(5):
                while self._live:
                    await self.redis.publish(events.LIVE, self._live[0])
                    self._live.popleft()
        except RedisDown:
            self._live.clear()  # pages ask again by themselves; old news are worth nothing

    async def _forward_live(self) -> None:
        while True:
            await self._live_now.wait()
            self._live_now.clear()
            await self._send_live()

    async def _measure_lag(self) -> None:
        loop = asyncio.get_running_loop()
        worst: deque[float] = deque(maxlen=round(HEARTBEAT_S / LAG_PROBE_S))
        while True:
            before = loop.time()
            await asyncio.sleep(LAG_PROBE_S)
            worst.append(max(0.0, loop.time() - before - LAG_PROBE_S) * 1000)
            self.lag_ms = max(worst)


def environment() -> tuple[str, str, Path]:
    """(DATABASE_URL, REDIS_URL, IMP_VAR) with the defaults of impadmin/settings.py."""
    root = Path(__file__).resolve().parent.parent
    var = Path(os.environ.get('IMP_VAR', root / 'var')).resolve()
    return (
        os.environ.get('DATABASE_URL', f'postgresql://postgres@/imp?host={var}/run'),
        os.environ.get('REDIS_URL', f'unix://{var}/run/redis.sock?db=0'),
        var,
    )
