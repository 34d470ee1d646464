"""The running half of a pair: feeds the state machine of engine.recovery and does what it says."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import msgspec
import structlog

from engine.cluster.wire import Identity
from engine.contract.config import RedundancyGroup
from engine.contract.messages import message
from engine.contract.recovery import DATABASE, Reason, State, Text, critical
from engine.contract.services import BY_KEY
from engine.recovery.heartbeat import KEEP, Heartbeats, pair_key
from engine.recovery.machine import Machine
from engine.recovery.records import NotNow, Outcome, Record, Settings, Status, Work
from engine.services.server_recovery_manager import alarms
from engine.services.server_recovery_manager.steps import Steps
from engine.store import nodes
from engine.store import recovery as store
from engine.store.pool import Unavailable
from engine.supervisor import describe

if TYPE_CHECKING:
    from engine.services.server_recovery_manager.service import ServerRecoveryManager

log = structlog.get_logger(__name__)

TURN_S = 0.25
"""How often time passes for the machine; with it the critical services are looked at."""
ANSWER_S = 0.1
"""Least time between two answers to heartbeats that prove nothing."""
GOODBYES = 3


class Pair(asyncio.DatagramProtocol):
    """``machine`` is made when the record is read. Events go through ``_happens``, which writes and says what came of
    them; the database is asked in one task, ``_keep``, so what it knows arrives in order."""

    def __init__(self, service: ServerRecoveryManager, group: RedundancyGroup, settings: Settings) -> None:
        self.service, self.node, self.group = service, service.node, group
        self.me = self.node.id
        self.peer = next(node for node in group.nodes if node != self.me)
        self.boot = self.node.started_at.isoformat()
        self.beats = self._new_run()
        self.machine = Machine(self.me, self.peer, settings, Record(), self._now())
        self.steps = Steps(self)
        self._identity = Identity(self.node.var / 'tls' / self.node.name / 'node-link', self.node.name)
        self._transport: asyncio.DatagramTransport | None = None
        self._tasks: list[asyncio.Task[Any]] = []
        self._working: tuple[Work | None, asyncio.Task[None] | None] = (None, None)
        self._written: Record | None = None
        self._critical: dict[str, Any] = {}
        self._keep_now = asyncio.Event()
        self._said: Record | None = None
        self._address: tuple[Any, ...] = ()
        self._next_beat = self._answered = 0.0
        self._database = True
        self._echo = 0.0
        """Until when the other node lets this one serve."""
        self._lease = 0.0
        """Until when the database does."""

    # ---- life

    async def begin(self) -> None:
        """Read the record, go on from there. Raises what the store raises and OSError when the port is taken."""
        await store.prepare(self.node.store, (self.me, self.peer))
        await nodes.publish(self.node.store, self.me, self._identity.pem)
        rows = await store.load(self.node.store, (self.me, self.peer))
        record = msgspec.convert(rows[self.me].record, Record, strict=False)
        self.beats = self._new_run(rows[self.me].run)
        self.machine = Machine(self.me, self.peer, self.machine.settings, record, self._now())
        if record.held:
            self.node.supervisor.keep_stopped(self.services, message(Text.KEPT_STOPPED, node=self.node.name))
        await self._learn_key()
        self._take_rows(rows)
        await self._listen()
        self._tasks = [
            self.service.spawn(self._find_peer(), 'address of the other node'),
            self.service.spawn(self._keep(), 'recovery leases'),
            self.service.spawn(self._turn(), 'recovery time'),
        ]

    async def end(self, *, goodbye: bool = False) -> None:
        """Stop. ``goodbye``: the node ends, too; its sessions are closed already."""
        for task in (*self._tasks, *([self._working[1]] if self._working[1] else [])):
            task.cancel()
        if goodbye:
            try:
                async with asyncio.timeout(5):
                    await store.leave(self.node.store, self.me)
            except (*Unavailable, TimeoutError) as error:
                log.warning('the leases of the node end by themselves', error=describe(error))
            for _ in range(GOODBYES):
                self.beat(goodbye=True)
        alarms.clear(self.node)
        if self._transport is not None:
            self._transport.close()

    async def _listen(self) -> None:
        address, port = self.service.param('bind_address'), int(self.service.param('service_port'))
        if not address:
            own = next(node for node in self.node.config.nodes if node.id == self.me)
            address = own.address
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=(address, port))
        self.service.detail = message(Text.SETTLED, state=self.machine.record.state, reason=self.machine.record.reason)

    @property
    def peer_name(self) -> str:
        """Name of the other node."""
        return next((node.name for node in self.node.config.nodes if node.id == self.peer), str(self.peer))

    @property
    def services(self) -> tuple[str, ...]:
        """The critical services of this node."""
        own = self.node.config.node(self.node.name)
        return critical(own.activated if own else (), self.service.param('authentication_monitoring'))

    @staticmethod
    def names(keys: Iterable[str]) -> list[str]:
        """Names of services, or of the database."""
        return [BY_KEY[key].name if key in BY_KEY else key for key in keys]

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _new_run(self, former: str = '') -> Heartbeats:
        """Runs of a node grow, also when its clock was set back: the other node hears the newest one only."""
        former = self.beats.run if hasattr(self, 'beats') and self.beats.run > former else former
        run = max(time.time_ns(), int(former) + 1 if former.isdecimal() else 0)
        beats = Heartbeats(self.group.id, self.peer, f'{run:020d}')
        if hasattr(self, 'beats'):
            beats.key, beats.heard_run, beats.heard_seq = self.beats.key, self.beats.heard_run, self.beats.heard_seq
        return beats

    # ---- events

    def _happens(self, event: Callable[[], None]) -> None:
        """Let something happen to the machine; then write, say and do what it wants."""
        before = self.machine.record
        try:
            event()
        except NotNow:
            raise
        except Exception:
            log.exception('recovery manager')
            self.machine.broken(self._now())
        record = self.machine.record
        if record is not before:
            log.info('recovery', state=str(record.state), reason=str(record.reason), step=str(record.step))
            if record.recovering and not before.recovering:
                self.beats = self._new_run()  # Recover restarts the recovery manager
            self.service.tell(message(Text.SETTLED, state=record.state, reason=record.reason))
            alarms.changed(self, before, record)
            self._keep_now.set()
        work, task = self._working
        if work is not self.machine.work:
            if task is not None:
                task.cancel()
            work = self.machine.work
            self._working = (work, self.service.spawn(self._carry_out(work), 'recovery step') if work else None)

    async def order(self, verb: str) -> None:
        """What an administrator wants. Raises NotNow."""
        self._happens(partial(self.machine.order, verb, self._now()))
        await self.write()

    async def _carry_out(self, work: Work) -> None:
        try:
            outcome = await self.steps.carry_out(work)
        except Exception as error:
            log.exception('recovery step', step=str(work.step), error=describe(error))
            outcome = Outcome.FAILED
        self._working = (work, None)  # what follows must not cancel this task
        self._happens(lambda: self.machine.done(work, outcome, self._now()))

    async def _turn(self) -> None:
        """Time, and the critical services."""
        while True:
            now = self._now()
            running = self.node.running
            up = {key: key in running for key in self.services} | {DATABASE: self._database}
            self._happens(partial(self.machine.probe, up, now))
            self._note_critical(up)
            alarms.level(self, now)
            if now >= self._next_beat:
                self._keep_now.set()
                self.beat()
            await asyncio.sleep(min(TURN_S, self.machine.settings.interval_s / 4))

    def _note_critical(self, up: dict[str, bool]) -> None:
        before = self._critical
        since = datetime.now(UTC).isoformat()
        self._critical = {
            key: {'up': runs, 'down_since': None if runs else before.get(key, {}).get('down_since') or since}
            for key, runs in up.items()
        }
        if self._critical != before:
            self._written = None
            self._keep_now.set()

    # ---- the database

    async def _keep(self) -> None:
        """Write what changed, renew the leases, learn who owns what: at every heartbeat and after every change."""
        while True:
            self._keep_now.clear()
            try:
                async with asyncio.timeout(self.machine.settings.timeout_s / 2):
                    await self.keep()
                self._database = True
            except (*Unavailable, TimeoutError) as error:
                if self._database:
                    log.warning('the recovery manager cannot reach the database', error=describe(error))
                self._database = False
                self._say()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(self.machine.settings.interval_s, self.machine.settings.timeout_s / 4)):
                    await self._keep_now.wait()

    async def keep(self) -> None:
        """One round. Raises what the store raises."""
        await self.write()
        self._say()
        await self._learn_key()
        self._take_rows(await store.load(self.node.store, (self.me, self.peer)))
        await self._speak_for_peer()
        ownership = self.node.ownership
        await self.renew(self.machine.serves() & ownership.served)
        for home in self.machine.adopts().keys() - ownership.served:
            await self.steps.serve_again(home)

    def _take_rows(self, rows: dict[int, store.Row]) -> None:
        owners = {home: (row.owner, row.epoch) for home, row in rows.items()}
        lapsed = [home for home, row in rows.items() if row.lapsed]
        self._happens(lambda: self.machine.rows(owners, lapsed, rows[self.peer].plain, self._now()))

    async def read(self) -> None:
        """Tell the machine who owns what. Raises what the store raises."""
        self._take_rows(await store.load(self.node.store, (self.me, self.peer)))

    async def write(self) -> None:
        """Write the record if it is not written. Raises what the store raises."""
        record = self.machine.record
        if record is self._written:
            return
        heard = self.machine.present(self._now()) is not None
        await store.save(
            self.node.store, self.me, record.state, record.reason, msgspec.to_builtins(record), self.beats.run,
            self.boot, self._critical, heard,
        )  # fmt: skip
        self._written = record

    async def renew(self, homes: set[int]) -> None:
        """Extend the lease on what is served. Raises what the store raises."""
        asked_at, lease_s = self._now(), self.machine.settings.timeout_s
        if homes and await store.renew(self.node.store, self.me, homes, lease_s) == homes:
            self._lease = asked_at + lease_s * KEEP
            self._extend()

    def _extend(self) -> None:
        self.node.ownership.renewed(max(self._lease, self._echo))

    async def _speak_for_peer(self) -> None:
        """Write the state of a node that cannot: it is lost, or has no database."""
        status, now = self.machine.status, self._now()
        if self.machine.record.state is State.RUNNING_IN_BACKUP_MODE and self.machine.lost(now):
            if status is None or status.state is not State.IDLE:
                await store.speak_for(self.node.store, self.peer, State.NOT_RESPONDING, Reason.NONE)
        elif status is not None and DATABASE in status.down:
            await store.speak_for(self.node.store, self.peer, status.state, status.reason)

    # ---- heartbeats

    async def _learn_key(self) -> None:
        pem = (await nodes.certificates(self.node.store)).get(self.peer)
        if pem is not None:
            self.beats.key = pair_key(self._identity.path.read_bytes(), pem.encode(), (self.me, self.peer))

    async def _find_peer(self) -> None:
        """Where heartbeats go: the address of the other node may be a name, and no lease waits for a name server."""
        loop, known = asyncio.get_running_loop(), False
        while True:
            address = next((node.address for node in self.node.config.nodes if node.id == self.peer), '')
            port = int(self.service.param('service_port'))
            try:
                self._address = (await loop.getaddrinfo(address, port, type=socket.SOCK_DGRAM))[0][4]
            except (OSError, UnicodeError) as error:
                log.debug('the address of the other node cannot be resolved', error=describe(error))
            else:
                if not known:
                    known = True
                    self.beat()
            await asyncio.sleep(self.machine.settings.interval_s)

    def _say(self) -> None:
        """Send a heartbeat if the record is another one."""
        if self._said is not self.machine.record:
            self.beat()

    def beat(self, *, goodbye: bool = False) -> None:
        """Send a heartbeat."""
        machine, record, now = self.machine, self.machine.record, self._now()
        self._next_beat, self._said = now + machine.settings.interval_s, record
        if self._transport is None or not self.beats.key or not self._address:
            return
        status = Status(
            group=self.group.id, node=self.me, run='', boot=self.boot, seq=0, state=record.state,
            reason=record.reason, cause=record.cause, step=record.step, recover=record.recover,
            down=tuple(machine.down), owners=machine.owners, given=machine.given, goodbye=goodbye, echo=0, echo_run='',
            timeout_s=machine.settings.timeout_s,
        )  # fmt: skip
        data = self.beats.seal(status, now)
        try:
            self._transport.sendto(data, self._address)
        except OSError as error:
            log.debug('heartbeat not sent', error=describe(error))

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        """Somebody's heartbeat."""
        now = self._now()
        found = self.beats.open(data, now)
        if isinstance(found, str):
            log.debug('heartbeat ignored', reason=found, sender=addr[0])
            if found == 'unproven' and now - self._answered >= ANSWER_S:
                self._answered = now
                self.beat()
            return
        status, serve_until = found
        if serve_until > self._echo:
            self._echo = serve_until
            self._extend()
        first = self.machine.present(now) is None
        self._happens(lambda: self.machine.heard(status, now))
        if first:
            self._written = None
            self.beat()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The port is open."""
        self._transport = cast(asyncio.DatagramTransport, transport)

    def error_received(self, exc: Exception) -> None:
        """The other node's port is closed: silence says the same."""
