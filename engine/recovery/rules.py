"""What each state does when something changed. Numbers are those of spec 02, 8.14."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from engine.contract.recovery import BACKUP, DATABASE, Reason, State
from engine.recovery.records import Step

if TYPE_CHECKING:
    from engine.recovery.machine import Machine

RESUMES = {
    State.FAILING_OVER: Step.GIVE,
    State.TAKING_OVER: Step.WAIT,
    State.TAKING_BACK: Step.START,
    State.FALLING_BACK: Step.WAIT,
    State.FAILOVER_AFFECTED: Step.GIVE,
    State.BACKUP_ACTIVATED: Step.WAIT,
}
"""Where a transition goes on after a restart (T21, T22): at a step that may be done twice."""
LOST_REASONS = frozenset({Reason.PEER_DOWN, Reason.PEER_REBOOT, Reason.PEER_DOWN_INIT})


def apply(m: Machine, now: float) -> None:
    """The rule of the present state, after those of every state."""
    peer, record = m.present(now), m.record
    if peer is not None and peer.recover > record.recover:
        if record.state is State.FAILED or record.was is State.FAILED:
            if peer.state is State.INITIALIZING:
                m.recover(peer.recover, now)
            else:
                m.again(now)
                m.change(recover=peer.recover)
            return
        m.change(recover=peer.recover)
    apart = (State.FAILED, State.INITIALIZING, State.UNKNOWN)
    if peer is not None and _failed(m, now) and record.state not in apart:
        m.fail(peer.reason, now)  # I5
    else:
        RULES[m.record.state](m, now)


def _failed(m: Machine, now: float) -> bool:
    """The other node is in failed mode, and not still: it has heard of the last Recover order."""
    peer = m.present(now)
    return peer is not None and peer.state is State.FAILED and peer.recover >= m.record.recover


def taken(m: Machine, now: float) -> None:
    """The sets were taken: the transition is complete."""
    record = m.record
    back = record.state is State.TAKING_BACK
    if back and m.owner(m.peer) != m.me:
        m.go(State.NORMAL, Reason.NORMAL, now)  # T14
    else:
        alone = (back or m.lost(now)) and record.reason not in LOST_REASONS
        reason = m.lost_reason() if alone else record.reason
        m.go(State.RUNNING_IN_BACKUP_MODE, reason, now)  # T04, T06, T07, T08, T23


def _alone(m: Machine, now: float) -> None:
    """Nothing is heard of the other node: serve its users, if this one can (T02, T08)."""
    if not m.down:
        if m.plain:
            m.go(State.UNKNOWN, Reason.NONE, now)  # T30
        else:
            m.go(State.TAKING_OVER, m.lost_reason(), now)
            m.to_step(Step.TAKE, now)
    elif m.fault(now):
        if DATABASE in m.down:
            m.over(Reason.PEER_DOWN, now)  # cut off from everybody: the other node serves (8.12)
        else:
            m.fail(m.why, now)


def _help_or_fail(m: Machine, now: float) -> None:
    """The other node fails over: take its users, or fail with it."""
    peer = m.present(now)
    assert peer is not None
    if m.down:
        m.fail(m.why, now)
    else:
        m.go(State.TAKING_OVER, peer.cause, now, Step.WAIT)


def _ask_for_help(m: Machine, reason: Reason, now: float) -> None:
    """This node cannot serve its users: give them to the other one (T06, T07, T09)."""
    peer = m.present(now)
    if peer is not None and peer.down:
        m.fail(reason, now)
    elif peer is not None and peer.state in (State.NORMAL, State.INITIALIZING):
        m.go(State.FAILING_OVER, reason, now, Step.GIVE)


def _normal(m: Machine, now: float) -> None:
    peer = m.present(now)
    if m.owner(m.me) != m.me:
        m.over(Reason.PEER_DOWN, now)  # the other node took them while this one was not heard
    elif peer is not None and peer.state is State.FAILING_OVER:
        _help_or_fail(m, now)
    elif peer is not None and peer.state is State.TAKING_OVER:
        m.go(State.FAILING_OVER, peer.cause, now, Step.GIVE)
    elif m.lost(now):
        _alone(m, now)
    elif reason := m.fault(now):
        _ask_for_help(m, reason, now)


def _initializing(m: Machine, now: float) -> None:
    peer, record = m.present(now), m.record
    if record.recovering:
        _recovering(m, now)
        return
    alone = m.lost(now)
    if peer is None and not alone:
        return
    was = record.was
    if _failed(m, now) or was is State.FAILED:  # T27
        first = was is State.UNKNOWN and peer is not None
        m.fail(peer.reason if first and peer else Reason.UNKNOWN, now)
    elif was is State.IDLE:
        m.go(was, Reason.INITIALIZATION, now)  # T20
    elif was in BACKUP and record.step is Step.NONE and m.owner(m.me) == m.me:
        m.go(was, Reason.PEER_DOWN_INIT if alone else Reason.INITIALIZATION, now)
    elif was in RESUMES and record.step is not Step.NONE:
        step = Step.STOP if was is State.FAILING_OVER and record.held else RESUMES[was]
        m.go(was, Reason.INITIALIZATION, now, step, cause=record.cause)
    elif was in (State.FAILED_OVER, State.FAILED_OVER_CRITICAL) or m.owner(m.me) != m.me:
        m.over(Reason.INITIALIZATION, now)  # T24
    elif m.owner(m.peer) == m.me:
        m.go(State.RUNNING_IN_BACKUP_MODE, Reason.PEER_DOWN_INIT if alone else Reason.INITIALIZATION, now)
    elif peer is None:
        _alone(m, now)
    elif peer.state is State.TAKING_OVER:
        m.go(State.FAILING_OVER, peer.cause, now, Step.GIVE)
    elif peer.state is State.FAILING_OVER:
        _help_or_fail(m, now)
    elif m.down:
        if reason := m.fault(now):
            _ask_for_help(m, reason, now)
    elif peer.state in (State.NORMAL, State.FALLING_BACK) or (peer.state is State.INITIALIZING and not peer.down):
        m.go(State.NORMAL, Reason.NORMAL, now)  # T01


def _recovering(m: Machine, now: float) -> None:
    """Recover: start services, give the other node its set back, take the own one, be Normal together (T26)."""
    peer, record = m.present(now), m.record
    if _failed(m, now) and peer is not None:
        m.fail(peer.reason, now)
    elif (
        record.step is Step.READY
        and peer is not None
        and peer.recover == record.recover
        and (peer.state is State.NORMAL or (peer.state is State.INITIALIZING and peer.step is Step.READY))
    ):
        m.go(State.NORMAL, Reason.NORMAL, now)
    elif (m.lost(now) and record.step is Step.READY) or (
        peer is not None and peer.state not in (State.FAILED, State.INITIALIZING)
    ):
        m.go(State.INITIALIZING, record.reason, now)  # the other node does not take part: who owns what decides
    elif record.step is Step.WAIT and (m.lost(now) or m.free((m.me,))):
        m.to_step(Step.TAKE, now)


def _idle(m: Machine, now: float) -> None:
    """Only Fallback ends it (I7)."""


def _failing_over(m: Machine, now: float) -> None:
    peer, gone = m.present(now), m.owner(m.me) != m.me
    if gone and (peer is None or peer.state in BACKUP):
        m.over(m.record.reason, now)  # T04, T06, T07
    elif m.lost(now):
        m.fail(Reason.UNKNOWN, now)  # T23


def _backed_up(m: Machine, now: float) -> bool:
    """The other node is heard, and serves the users of both."""
    peer = m.present(now)
    return peer is not None and peer.state in BACKUP


def _taking_over(m: Machine, now: float) -> None:
    if reason := m.fault(now):
        m.fail(reason, now)
    elif m.owner(m.me) != m.me and (m.me not in m.record.taking or _backed_up(m, now)):
        m.over(Reason.PEER_DOWN, now)  # both tried, the other node was first
    elif m.record.step is Step.WAIT and (m.lost(now) or m.free((m.me, m.peer))):
        m.to_step(Step.TAKE, now)


def _backup(m: Machine, now: float) -> None:
    peer = m.present(now)
    if m.record.step is not Step.NONE:
        _activating(m, now)
    elif m.owner(m.me) != m.me:
        m.over(Reason.PEER_DOWN, now)
    elif peer is not None and peer.state is State.TAKING_BACK:
        m.go(State.FALLING_BACK, peer.cause, now, Step.WAIT)  # T12, T13
    elif peer is not None and peer.state in BACKUP:
        m.fail(Reason.UNKNOWN, now)  # T25
    elif peer is not None and peer.state in (State.NORMAL, State.INITIALIZING) and m.owner(m.peer) == m.peer:
        m.go(State.NORMAL, Reason.NORMAL, now)
    elif reason := m.fault(now):
        if peer is not None and peer.state is State.FAILED_OVER and not peer.down:
            why = Reason.AUTO_DATABASE if reason is Reason.DATABASE else Reason.AUTO_CRITICAL
            m.go(State.FAILOVER_AFFECTED, why, now, Step.GIVE)  # T17, T18
        else:
            m.fail(reason, now)  # T19


def _activating(m: Machine, now: float) -> None:
    """Backup Activated: auto-recovery moves every user here."""
    if reason := m.fault(now):
        m.fail(reason, now)
    elif m.record.step is Step.WAIT and (m.lost(now) or m.free((m.me, m.peer))):
        m.to_step(Step.TAKE, now)


def _affected(m: Machine, now: float) -> None:
    """Failover Affected Services: every user goes to the other node, then as after a failover (T31)."""
    settled = m.owner(m.me) != m.me and m.record.step is Step.READY
    if settled:
        m.to_step(Step.NONE, now)
    elif m.record.step is not Step.NONE:
        if m.lost(now):
            m.fail(Reason.UNKNOWN, now)
    elif not m.down:
        m.go(State.FAILED_OVER, m.record.reason, now)


def _failed_over_critical(m: Machine, now: float) -> None:
    if m.down:
        return
    if m.owner(m.me) == m.me:
        m.again(now)  # it was cut off, and nobody took its users
    else:
        m.go(State.FAILED_OVER, m.record.reason, now)  # T10


def _failed_over(m: Machine, now: float) -> None:
    peer = m.present(now)
    if reason := m.fault(now):
        m.go(State.FAILED_OVER_CRITICAL, reason, now)  # T11
    elif m.owner(m.me) == m.me:
        m.again(now)
    elif peer is not None and peer.state is State.FAILOVER_AFFECTED:
        m.go(State.BACKUP_ACTIVATED, peer.cause, now, Step.WAIT)  # T17, T18
    elif m.lost(now):
        if not m.down and m.abandoned(now):  # else the other node lives, and only the network between them is broken
            _alone(m, now)
    elif (
        peer is not None
        and peer.state in BACKUP
        and m.settings.automatic_fallback
        and m.healthy_for(now) >= m.settings.fallback_s
    ):
        m.go(State.TAKING_BACK, Reason.AUTOMATIC_FALLBACK, now, Step.START)  # T13


def _taking_back(m: Machine, now: float) -> None:
    step = m.record.step
    if step is not Step.START and (reason := m.fault(now)):
        m.fail(reason, now)
    elif step is Step.WAIT and (m.lost(now) or m.free((m.me,))):
        m.to_step(Step.TAKE, now)


def _falling_back(m: Machine, now: float) -> None:
    peer, given = m.present(now), m.owner(m.peer) == m.peer
    if given and (peer is None or peer.state is State.NORMAL):
        m.go(State.NORMAL, Reason.NORMAL, now)  # T14
    elif m.owner(m.me) != m.me:
        m.over(Reason.PEER_DOWN, now)
    elif m.lost(now):
        m.fail(Reason.UNKNOWN, now)  # T23
    elif reason := m.fault(now):
        m.fail(reason, now)
    elif (
        m.record.step is Step.WAIT
        and peer is not None
        and peer.state is State.TAKING_BACK
        and peer.step in (Step.WAIT, Step.TAKE)
    ):
        m.to_step(Step.GIVE, now)


def _failed_mode(m: Machine, now: float) -> None:
    peer, reason = m.present(now), m.record.reason
    if peer is None or peer.state is not State.FAILED or peer.reason is reason:
        return
    if Reason.UNKNOWN in (peer.reason, reason):
        m.change(reason=Reason.UNKNOWN)  # R21
    elif peer.node < m.me:
        m.change(reason=peer.reason)


def _unknown(m: Machine, now: float) -> None:
    if m.present(now) is not None or not m.plain:
        m.again(now)


RULES: dict[State, Callable[[Machine, float], None]] = {
    State.NORMAL: _normal,
    State.INITIALIZING: _initializing,
    State.IDLE: _idle,
    State.FAILING_OVER: _failing_over,
    State.TAKING_OVER: _taking_over,
    State.RUNNING_IN_BACKUP_MODE: _backup,
    State.BACKUP_ACTIVATED: _backup,
    State.FAILOVER_AFFECTED: _affected,
    State.FAILED_OVER: _failed_over,
    State.FAILED_OVER_CRITICAL: _failed_over_critical,
    State.TAKING_BACK: _taking_back,
    State.FALLING_BACK: _falling_back,
    State.FAILED: _failed_mode,
    State.UNKNOWN: _unknown,
}
