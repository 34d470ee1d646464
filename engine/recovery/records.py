"""What the state machine keeps, what it says to the other node, and what it wants done."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from engine.contract.recovery import Reason, State


class Step(StrEnum):
    """Where a transition stands. WAIT and READY wait for the other node, the rest is work of this one."""

    NONE = ''
    STOP = 'stop'
    """Stop the critical services and keep them stopped."""
    GIVE = 'give'
    """Disconnect users and let go of their sets."""
    START = 'start'
    """Start the critical services."""
    WAIT = 'wait'
    TAKE = 'take'
    """Become the owner of sets and serve them."""
    READY = 'ready'


WORK = frozenset({Step.STOP, Step.GIVE, Step.START, Step.TAKE})


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What outlives a crash. Written before any step is done."""

    state: State = State.UNKNOWN
    reason: Reason = Reason.NONE
    was: State = State.UNKNOWN
    """While Initializing: the state before the restart; Unknown: high availability has just been enabled."""
    cause: Reason = Reason.NONE
    """Why the transition was begun; a restart changes ``reason``, not this."""
    step: Step = Step.NONE
    taking: tuple[int, ...] = ()
    """Sets this node may own already but must not serve before step TAKE is done."""
    held: bool = False
    """The critical services stay stopped: an administrator failed the node over."""
    recover: int = 0
    """How many Recover orders the node has obeyed."""
    recovering: bool = False


class Status(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """What a node says in a heartbeat."""

    group: int
    node: int
    run: str
    """Of this start of the recovery manager."""
    boot: str
    """Of this start of the node."""
    seq: int
    state: State
    reason: Reason
    cause: Reason
    step: Step
    recover: int
    down: tuple[str, ...]
    """Critical services that do not run; 'database' for the database."""
    owners: dict[int, tuple[int, int]]
    """Home node -> (owner, epoch) as this node knows it."""
    given: dict[int, int]
    """Home node -> epoch: sets this node owns under that epoch and will never serve under it again."""
    goodbye: bool
    """The node shuts down."""
    echo: int
    """Number of the last heartbeat heard of the run ``echo_run``."""
    echo_run: str
    timeout_s: float
    """So long after that heartbeat the other node is not taken for lost."""
    version: str = ''


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The timers of spec 02, 8.3, in seconds."""

    interval_s: float
    timeout_s: float
    init_s: float
    critical_s: float
    automatic_fallback: bool = False
    fallback_s: float = 1800.0
    step_s: float = 300.0


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """A step to be carried out. ``homes``: the sets it is about. ``owners``: home node -> (owner, epoch) that must
    stand in the database for it. ``forced``: the other node has not let go, so wait until its lease has ended."""

    step: Step
    homes: tuple[int, ...] = ()
    owners: dict[int, tuple[int, int]] = {}
    forced: bool = False


class Outcome(StrEnum):
    """How work ended. LOST: the owners in the database were not those expected."""

    DONE = 'done'
    FAILED = 'failed'
    LOST = 'lost'


class NotNow(Exception):
    """An order does not fit the states. ``why``: 'state', 'silent' or 'down'."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why
