"""Two state machines, a link that loses heartbeats, and a database: everything around engine.recovery, simulated."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from engine.contract.recovery import Reason, State
from engine.recovery.machine import Machine
from engine.recovery.records import NotNow, Outcome, Record, Settings, Status, Step, Work

SETTINGS = Settings(
    interval_s=1, timeout_s=4, init_s=8, critical_s=6, automatic_fallback=False, fallback_s=120, step_s=20
)
TURN_S = 0.5
KEEP = 0.9
"""Share of a lease after which its holder lets go of it by itself."""


@dataclass
class Row:
    """H(home) in the database."""

    owner: int
    epoch: int = 1
    lease_until: float = 0.0


@dataclass
class Side:
    """One node: what the shell of the state machine does, without waiting."""

    id: int
    machine: Machine
    saved: Record
    alive: bool = True
    """The process runs."""
    manager: bool = True
    """The recovery manager runs in it."""
    database: bool = True
    up: bool = True
    """The critical services can run."""
    running: bool = True
    moves_fail: bool = False
    slow: bool = False
    """No step ends."""
    served: dict[int, int] = field(default_factory=dict)
    """Home -> epoch: what the node serves while ``lease_until``."""
    lease_until: float = 0.0
    run: int = 0
    boot: int = 0
    seq: int = 0
    work: Work | None = None
    work_ends: float = 0.0
    waits_until: float | None = None
    taken: dict[int, int] = field(default_factory=dict)
    """Home -> epoch under which the present work took it."""
    next_beat: float = 0.0
    echo: tuple[str, int] = ('', 0)
    promised: float = 0.0
    sent: dict[int, float] = field(default_factory=dict)


class Pair:
    """``sides[1]`` and ``sides[2]``; ``link``: whether heartbeats arrive, by receiver."""

    def __init__(self, seed: int = 0, settings: Settings = SETTINGS) -> None:
        self.random = random.Random(seed)
        self.settings = settings
        self.now = 100.0
        self.rows = {1: Row(1), 2: Row(2)}
        self.loss = 0.0
        self.plain = False
        """Both nodes run without high availability, says the database."""
        self.link = {1: True, 2: True}
        self.mail: list[tuple[float, int, Status]] = []
        self.history: list[tuple[int, Record, Record]] = []
        self.sides = {n: Side(n, self._machine(n, Record()), Record()) for n in (1, 2)}
        for side in self.sides.values():
            self._probe(side)

    def _machine(self, n: int, record: Record) -> Machine:
        return Machine(n, 3 - n, self.settings, record, self.now)

    # ---- what happens to nodes

    def crash(self, n: int, goodbye: bool = False) -> None:
        """The process ends; with ``goodbye`` it says so."""
        side = self.sides[n]
        if not side.alive:
            return
        if goodbye and side.manager:
            for row in self.rows.values():
                if row.owner == n and side.database:
                    row.lease_until = self.now
            side.served.clear()
            self._beat(side, goodbye=True)
        side.alive = side.manager = side.running = False
        side.served.clear()
        side.work = None

    def start(self, n: int) -> None:
        """The process starts."""
        side = self.sides[n]
        if side.alive or not side.database:
            return
        side.alive, side.running = True, side.up and not side.saved.held
        side.boot += 1
        side.lease_until = 0.0
        self.restart(n)

    def restart(self, n: int) -> None:
        """The recovery manager starts again, in a process that lives."""
        side = self.sides[n]
        if not side.alive or not side.database:
            return
        side.manager, side.run, side.seq, side.work, side.sent = True, side.run + 1, 0, None, {}
        side.machine = self._machine(n, side.saved)
        self._read(side)
        side.echo = ('', 0)
        self._probe(side)

    def stop_manager(self, n: int) -> None:
        """The recovery manager ends, the node goes on."""
        self.sides[n].manager, self.sides[n].work = False, None

    def order(self, n: int, verb: str) -> bool:
        """An administrator presses a button; whether it was obeyed."""
        side = self.sides[n]
        if not side.manager:
            return False
        try:
            self._event(side, lambda: side.machine.order(verb, self.now))
        except NotNow:
            return False
        return True

    def press(self, n: int, verb: str) -> None:
        """An administrator presses a button as soon as both nodes know of each other."""
        end = self.now + 5
        while not self.order(n, verb):
            assert self.now < end, f'{verb} is refused: {self.states}'
            self.pass_(TURN_S)

    # ---- time

    def pass_(self, seconds: float) -> None:
        """Time goes by in turns; ``check`` is called in each."""
        end = self.now + seconds
        while self.now < end:
            self.now += TURN_S
            self._deliver()
            for side in self.sides.values():
                self._turn(side)
            self.check()

    def until(self, *states: State, most: float = 200) -> None:
        """Wait until the nodes are in these states."""
        end = self.now + most
        while self.states != states:
            assert self.now < end, f'{self.states} ({self.reasons}), not {states}'
            self.pass_(TURN_S)

    @property
    def states(self) -> tuple[State, ...]:
        """Of node 1 and node 2."""
        return tuple(side.machine.record.state for side in self.sides.values())

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Of node 1 and node 2."""
        return tuple(side.machine.record.reason for side in self.sides.values())

    def serving(self, home: int) -> list[int]:
        """The nodes that serve H(home) in this moment."""
        return [n for n, side in self.sides.items() if home in side.served and self.now < side.lease_until]

    def check(self) -> None:
        """What must be true at any moment (I1, I2, I3)."""
        for home, row in self.rows.items():
            serving = self.serving(home)
            assert len(serving) <= 1, f'H({home}) is served by {serving}'
            assert not serving or self.sides[serving[0]].served[home] <= row.epoch
        if self.states == (State.NORMAL, State.NORMAL) and all(side.manager for side in self.sides.values()):
            assert all(row.owner == home for home, row in self.rows.items())

    # ---- the shell

    def _turn(self, side: Side) -> None:
        if not side.alive:
            return
        if self.now >= side.lease_until:
            side.served.clear()
        if not side.manager:
            return
        if side.machine.record.held:
            side.running = False
        elif side.up and not side.running:
            side.running = True
        elif not side.up:
            side.running = False
        self._probe(side)
        if self.now >= side.next_beat:
            side.next_beat = self.now + self.settings.interval_s
            self._keep(side)
            self._beat(side)
        self._event(side, lambda: side.machine.tick(self.now))
        self._work(side)

    def _probe(self, side: Side) -> None:
        up = {'xcp_router': side.running, 'database': side.database}
        self._event(side, lambda: side.machine.probe(up, self.now))

    def _event(self, side: Side, happens: object) -> None:
        before = side.machine.record
        happens()  # type: ignore[operator]
        if side.machine.record is not before:
            self.history.append((side.id, before, side.machine.record))
            self._save(side)
            self._beat(side)

    def _save(self, side: Side) -> None:
        if side.database:
            side.saved = side.machine.record

    def _keep(self, side: Side) -> None:
        """Renew the lease, adopt what may be served."""
        self._save(side)
        if not side.database:
            return
        self._read(side)
        for home, row in self.rows.items():
            if row.owner != side.id:
                side.served.pop(home, None)
        for home, free in side.machine.adopts().items():
            row = self.rows[home]
            if home not in side.served and (free or row.lease_until <= self.now):
                row.epoch += 1
                side.served[home] = row.epoch
                side.machine.served(home)
                side.machine.owners[home] = (row.owner, row.epoch)
        for home in list(side.served):
            self.rows[home].lease_until = self.now + self.settings.timeout_s
        side.lease_until = max(side.lease_until, self.now + self.settings.timeout_s * KEEP)

    def _read(self, side: Side) -> None:
        owners = {home: (row.owner, row.epoch) for home, row in self.rows.items()}
        lapsed = [home for home, row in self.rows.items() if row.lease_until <= self.now]
        self._event(side, lambda: side.machine.rows(owners, lapsed, self.plain, self.now))

    def _beat(self, side: Side, goodbye: bool = False) -> None:
        machine, record = side.machine, side.machine.record
        side.seq += 1
        side.sent[side.seq] = self.now
        status = Status(
            group=1, node=side.id, run=f'{side.id}.{side.run}', boot=str(side.boot), seq=side.seq,
            state=record.state, reason=record.reason, cause=record.cause, step=record.step, recover=record.recover,
            down=tuple(machine.down), owners=dict(machine.owners), given=dict(machine.given), goodbye=goodbye,
            echo=side.echo[1], echo_run=side.echo[0], timeout_s=self.settings.timeout_s,
        )  # fmt: skip
        if self.link[3 - side.id] and self.random.random() >= self.loss:
            self.mail.append((self.now + self.random.random() * 1.5, 3 - side.id, status))

    def _deliver(self) -> None:
        due = [one for one in self.mail if one[0] <= self.now]
        self.mail = [one for one in self.mail if one[0] > self.now]
        for _, to, status in sorted(due, key=lambda one: one[0]):
            side = self.sides[to]
            if not side.manager or (status.run == side.echo[0] and status.seq <= side.echo[1]):
                continue
            if int(status.run.split('.')[1]) < int((side.echo[0] or '0.0').split('.')[1]):
                continue
            side.echo = (status.run, status.seq)
            if status.echo_run == f'{to}.{side.run}' and status.echo in side.sent and not status.goodbye:
                side.lease_until = max(side.lease_until, side.sent[status.echo] + status.timeout_s * KEEP)
            self._event(side, lambda side=side, status=status: side.machine.heard(status, self.now))

    def _work(self, side: Side) -> None:
        work = side.machine.work
        if work is not side.work:
            side.work, side.waits_until = work, None
            side.work_ends = self.now + self.random.random() * 3
            if work is not None and work.step is Step.GIVE:
                for home in work.homes:
                    side.served.pop(home, None)
        if work is None or self.now < side.work_ends or side.slow:
            return
        outcome = self._do(side, work)
        if outcome is not None:
            self._event(side, lambda: side.machine.done(work, outcome, self.now))

    def _do(self, side: Side, work: Work) -> Outcome | None:
        record = side.machine.record
        if work.step is Step.STOP:
            side.running = False
        elif work.step is Step.START:
            assert not record.held
            if not side.up:
                return Outcome.FAILED
            side.running = True
        elif work.step is Step.TAKE:
            return self._take(side, work)
        return Outcome.DONE

    def _take(self, side: Side, work: Work) -> Outcome | None:
        if not side.database:
            return None
        if side.moves_fail:
            return Outcome.FAILED
        if side.waits_until is None:
            if side.saved is not side.machine.record:
                return None
            if any((row.owner, row.epoch) != work.owners[h] for h, row in self.rows.items()):
                self._read(side)
                return Outcome.LOST if side.machine.work is work else None
            waits = self.now
            for home in work.homes:
                row = self.rows[home]
                waits = max(waits, row.lease_until if work.forced or row.owner == side.id else self.now)
                row.owner, row.epoch = side.id, row.epoch + 1
                if not work.forced:
                    row.lease_until = self.now
                side.taken[home] = row.epoch
            side.waits_until = waits
        if self.now < side.waits_until:
            return None
        self._read(side)
        if any((row := self.rows[home]).owner != side.id or row.epoch != side.taken[home] for home in work.homes):
            return Outcome.LOST
        if side.machine.work is not work:
            return None
        for home in work.homes:
            side.served[home] = self.rows[home].epoch
            self.rows[home].lease_until = self.now + self.settings.timeout_s
        side.lease_until = max(side.lease_until, self.now + self.settings.timeout_s * KEEP)
        return Outcome.DONE
