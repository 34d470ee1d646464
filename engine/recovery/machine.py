"""The state machine of one node of a pair (guide 1999-2006, 2137-2307; T01-T32 of spec 02, section 8).

Events and the time come in by the methods; ``record`` is what to write and to say next, ``work`` the step to carry out,
``serves()`` the sets of users this node may serve. H(n) is the set of users whose home node is n.

It reacts to what is so now, not to messages: which state the other node says it is in, who owns which set, which
services run. So a lost heartbeat delays, and a restart goes on where the record says. Two things keep the pair honest:
a set changes hands only by compare-and-set of its epoch in the database; and a node takes a set only when its owner has
let go of it under that epoch (``given``), or is not heard and its lease has ended.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from engine.contract.recovery import BACKUP, DATABASE, FAILOVER, FALLBACK, RECOVER, Reason, State
from engine.recovery import rules
from engine.recovery.records import WORK, NotNow, Outcome, Record, Settings, Status, Step, Work

FAILED_BY = {
    State.TAKING_BACK: Reason.TAKE_BACK_FAILED,
    State.FALLING_BACK: Reason.TAKE_BACK_FAILED,
    State.INITIALIZING: Reason.TAKE_BACK_FAILED,
}
"""Reason when users cannot be moved; in every other transition it is a take-over that failed."""
GIVES = {
    State.FAILING_OVER: (True, False),
    State.FALLING_BACK: (False, True),
    State.FAILOVER_AFFECTED: (True, True),
    State.INITIALIZING: (False, True),
}
"""Whether step GIVE is about H(this node), H(other node)."""
NEXT = {
    (State.FAILING_OVER, Step.STOP): Step.GIVE,
    (State.FAILING_OVER, Step.GIVE): Step.WAIT,
    (State.FALLING_BACK, Step.GIVE): Step.READY,
    (State.FAILOVER_AFFECTED, Step.GIVE): Step.READY,
    (State.TAKING_BACK, Step.START): Step.WAIT,
    (State.INITIALIZING, Step.START): Step.GIVE,
    (State.INITIALIZING, Step.GIVE): Step.WAIT,
    (State.INITIALIZING, Step.TAKE): Step.READY,
    (State.BACKUP_ACTIVATED, Step.TAKE): Step.NONE,
}
PATIENCE = 3
"""A step that waits for the other node may take this many times as long as work."""
SERVES_NOBODY = frozenset({State.IDLE, State.FAILED_OVER, State.FAILED_OVER_CRITICAL})
LETS_GO = frozenset({State.FAILING_OVER, State.FAILOVER_AFFECTED})


class Machine:
    """``me``, ``peer``: node ids. ``status``: the last heartbeat of the other node. ``down``: critical services that
    do not run, since when. ``plain``: the other node lives, without high availability."""

    def __init__(self, me: int, peer: int, settings: Settings, record: Record, now: float) -> None:
        self.me, self.peer = me, peer
        self.settings = settings
        was = record.was if record.state is State.INITIALIZING else record.state
        if record.recovering:
            record = msgspec.structs.replace(record, step=Step.START)
        self.record = msgspec.structs.replace(record, state=State.INITIALIZING, reason=Reason.INITIALIZATION, was=was)
        self.owners: dict[int, tuple[int, int]] = {me: (me, 1), peer: (peer, 1)}
        self.given: dict[int, int] = {}
        self.status: Status | None = None
        self.down: dict[str, float] = {}
        self.lapsed: Collection[int] = ()
        self._lapsed_at: float | None = None
        self.plain = False
        self.work: Work | None = None
        self._lost_at = now + settings.init_s
        self._step_at = now
        self._healthy_at: float | None = None
        self._set_work(now)

    # ---- events

    def heard(self, status: Status, now: float) -> None:
        """A heartbeat of the other node, known to be its own and new."""
        before, self.status = self.status, status
        self._lost_at = now if status.goodbye else now + self.settings.timeout_s
        for home, (owner, epoch) in status.owners.items():
            if home in self.owners and epoch > self.owners[home][1]:
                self.owners[home] = (owner, epoch)
        rebooted = before is not None and before.boot != status.boot
        if rebooted and self.record.state in BACKUP and self.record.reason is Reason.PEER_DOWN:
            self.change(reason=Reason.PEER_REBOOT)
        self.settle(now)

    def rows(self, owners: Mapping[int, tuple[int, int]], lapsed: Collection[int], plain: bool, now: float) -> None:
        """What the database says: home node -> (owner, epoch), the sets whose lease has ended, and whether the other
        node lives without high availability."""
        self.owners.update(owners)
        self.lapsed = lapsed
        if self.me not in lapsed:
            self._lapsed_at = None
        elif self._lapsed_at is None:
            self._lapsed_at = now
        self.plain = plain
        self.settle(now)

    def probe(self, up: Mapping[str, bool], now: float) -> None:
        """Which critical services run; ``database`` among them."""
        self.down = {key: self.down.get(key, now) for key, runs in up.items() if not runs}
        self.settle(now)

    def order(self, verb: str, now: float) -> None:
        """What an administrator wants. Raises NotNow."""
        status, state = self.present(now), self.record.state
        other = status.state if status else None
        if verb == FAILOVER and state is State.NORMAL and other is State.NORMAL and status:
            if status.down:
                raise NotNow('down')
            self.go(State.FAILING_OVER, Reason.ADMIN, now, Step.STOP, held=True)
        elif verb == FALLBACK and (
            (state in (State.IDLE, State.FAILED_OVER) and other in BACKUP) or (state is State.IDLE and self.lost(now))
        ):
            self.go(State.TAKING_BACK, Reason.ADMIN, now, Step.START, held=False)
        elif verb == RECOVER and state is State.FAILED and (other is State.FAILED or self.lost(now)):
            self.recover(max(self.record.recover, status.recover if status else 0) + 1, now)
        else:
            raise NotNow('silent' if status is None else 'state')
        self.settle(now)

    def done(self, work: Work, outcome: Outcome, now: float) -> None:
        """How the work ended; of no interest when it is not the present one."""
        if work is not self.work:
            return
        state, step = self.record.state, self.record.step
        if outcome is Outcome.FAILED:
            cut_off = self.lost(now) and DATABASE in self.down
            if state is State.TAKING_OVER and cut_off:
                self.over(Reason.PEER_DOWN, now)
            else:
                failed = FAILED_BY.get(state, Reason.TAKE_OVER_FAILED)
                self.fail(Reason.START_FAILED if step is Step.START else failed, now)
        elif outcome is Outcome.LOST:
            self.to_step(Step.WAIT, now)
        else:
            if step is Step.START:  # all of them run: what was last seen is older
                self.down = {key: since for key, since in self.down.items() if key == DATABASE}
            if step is Step.GIVE:
                self.given |= {home: self.owners[home][1] for home in work.homes if self.owner(home) == self.me}
            if step is Step.TAKE:
                self.change(taking=())
            if (following := NEXT.get((state, step))) is not None:
                self.to_step(following, now)
            else:
                rules.taken(self, now)
        self.settle(now)

    def served(self, home: int) -> None:
        """A set that was taken half before a restart is served now."""
        if home in self.record.taking:
            self.change(taking=tuple(other for other in self.record.taking if other != home))

    def tick(self, now: float) -> None:
        """Time passes."""
        self.settle(now)

    def broken(self, now: float) -> None:
        """An internal error (T28)."""
        self.fail(Reason.UNKNOWN, now)

    # ---- what is so

    def lost(self, now: float) -> bool:
        """Nothing has been heard of the other node for too long."""
        return now >= self._lost_at

    def present(self, now: float) -> Status | None:
        """What the other node says, if it is heard."""
        return None if self.lost(now) else self.status

    def owner(self, home: int) -> int:
        """The node that owns H(home)."""
        return self.owners[home][0]

    def fault(self, now: float) -> Reason | None:
        """Why this node cannot serve users, once it has lasted for the Critical Service Delay."""
        late = [key for key, since in self.down.items() if now - since >= self.settings.critical_s]
        return self.why if late else None

    @property
    def why(self) -> Reason:
        """The reason of a node whose critical services do not all run."""
        return Reason.DATABASE if DATABASE in self.down else Reason.CRITICAL_DOWN

    def lost_reason(self) -> Reason:
        """Why the other node is taken for lost."""
        if self.status is None:
            return Reason.PEER_DOWN_INIT
        return Reason.PEER_REBOOT if self.status.goodbye else Reason.PEER_DOWN

    def free(self, homes: tuple[int, ...]) -> bool:
        """Whether these sets are this node's, or the other one has let go of them."""
        given = self.status.given if self.status else {}
        return all(self.owner(home) == self.me or given.get(home) == self.owners[home][1] for home in homes)

    def abandoned(self, now: float) -> bool:
        """Nobody renews the lease on H(this node): not even a node that took it and waited for the lease before."""
        return self._lapsed_at is not None and now - self._lapsed_at >= 2 * self.settings.interval_s

    def healthy_for(self, now: float) -> float:
        """Seconds since when this node has been ready to take its users back."""
        return 0.0 if self._healthy_at is None else now - self._healthy_at

    def adopts(self) -> dict[int, bool]:
        """Sets this node may begin to serve. False: only after the lease that stands in the database has ended, since
        their taking was interrupted."""
        giving = self.work.homes if self.work is not None and self.work.step is Step.GIVE else ()
        return {home: home not in self.record.taking for home in self.serves() if home not in giving}

    def serves(self) -> set[int]:
        """Sets this node may serve while its lease holds."""
        record = self.record
        starting = record.state is State.INITIALIZING and not record.recovering
        state = record.was if starting else record.state
        if state in SERVES_NOBODY or (starting and state in LETS_GO):
            return set()
        moving = record.taking if record.step in (Step.WAIT, Step.TAKE) else ()
        return {
            home
            for home, (owner, epoch) in self.owners.items()
            if owner == self.me and self.given.get(home) != epoch and home not in moving
        }

    # ---- changes

    def change(self, **values: Any) -> None:
        """A new record."""
        self.record = msgspec.structs.replace(self.record, **values)

    def go(self, state: State, reason: Reason, now: float, step: Step = Step.NONE, **values: Any) -> None:
        """Enter a state. A transition keeps what it was begun for as ``cause``."""
        values = {'cause': reason, 'was': State.UNKNOWN, 'recovering': False} | values
        self.change(state=state, reason=reason, **values)
        self.given.clear()  # what is owned still may be served again, under a new epoch
        self.to_step(step, now)

    def to_step(self, step: Step, now: float) -> None:
        """Go on within the state."""
        both = (self.me, self.peer)
        if step is Step.TAKE:
            taking = tuple(home for home in both if self.owner(home) != self.me or home in self.record.taking)
            state = self.record.state
            if state is State.INITIALIZING or (state is State.TAKING_BACK and not self.lost(now)):
                taking = tuple(home for home in taking if home == self.me)
            self.change(taking=taking)
        self.change(step=step)
        self._step_at = now
        self._set_work(now)

    def _set_work(self, now: float) -> None:
        record = self.record
        self.work = None
        if record.step not in WORK or (record.state is State.INITIALIZING and not record.recovering):
            return
        homes: tuple[int, ...] = ()
        if record.step is Step.GIVE:
            own, other = GIVES[record.state]
            homes = tuple(home for home, gives in ((self.me, own), (self.peer, other)) if gives)
        elif record.step is Step.TAKE:
            homes = record.taking
        forced = self.lost(now) or not self.free(homes)
        self.work = Work(step=record.step, homes=homes, owners=dict(self.owners), forced=forced)

    def fail(self, reason: Reason, now: float) -> None:
        """Running in Failed Mode: what this node owns it goes on serving (spec 02, 8.13)."""
        self.go(State.FAILED, reason, now)

    def over(self, reason: Reason, now: float) -> None:
        """The other node serves the users of this one."""
        if self.record.held:
            self.go(State.IDLE, reason, now)
        else:
            self.go(State.FAILED_OVER_CRITICAL if self.down else State.FAILED_OVER, reason, now)

    def again(self, now: float) -> None:
        """Begin as after a start: who owns what decides."""
        self.status = None
        self._lost_at = now + self.settings.init_s
        self.go(State.INITIALIZING, Reason.INITIALIZATION, now)

    def recover(self, number: int, now: float) -> None:
        """Obey the Recover order of this number (spec 02, 8.11)."""
        self.go(State.INITIALIZING, Reason.INITIALIZATION, now, recover=number, recovering=True, held=False)
        self.to_step(Step.START, now)

    def settle(self, now: float) -> None:
        """Apply the rules until none has anything to say."""
        ready = self.record.state is State.FAILED_OVER and not self.down and self.present(now) is not None
        if not ready:
            self._healthy_at = None
        elif self._healthy_at is None:
            self._healthy_at = now
        for _ in range(10):
            before = self.record
            self._time_out(now)
            rules.apply(self, now)
            if self.record is before:
                return

    def _time_out(self, now: float) -> None:
        record = self.record
        limit = self.settings.step_s * (1 if self.work is not None else PATIENCE)
        if record.step is Step.NONE or now - self._step_at < limit:
            return
        if self.work is not None:
            self.done(self.work, Outcome.FAILED, now)
        elif record.state is not State.INITIALIZING or record.recovering:
            self.fail(FAILED_BY.get(record.state, Reason.TAKE_OVER_FAILED), now)
