"""Each row of the guide's table of states (R01-R24 of spec 02, 7) comes from a scenario, and leads on as it says."""

from __future__ import annotations

import msgspec
import pytest

from engine.contract.recovery import FAILOVER, FALLBACK, RECOVER, Reason, State, advice, buttons
from engine.recovery.records import NotNow, Record
from tests.recovery.pair import SETTINGS, Pair

N, BACKUP, IDLE, OVER = State.NORMAL, State.RUNNING_IN_BACKUP_MODE, State.IDLE, State.FAILED_OVER
CRITICAL, FAILED = State.FAILED_OVER_CRITICAL, State.FAILED
FAILING, TAKING = State.FAILING_OVER, State.TAKING_OVER
BACK, FALLING = State.TAKING_BACK, State.FALLING_BACK


@pytest.fixture
def pair() -> Pair:
    """Two nodes that are Normal."""
    result = Pair(7)
    result.until(N, N)
    result.pass_(3)
    return result


def row(pair: Pair) -> str:
    """The row the page shows."""
    return advice(*zip(pair.states, pair.reasons, strict=True)).row.id


def slow(pair: Pair, *nodes: int) -> None:
    """Let no step of these nodes end."""
    for n in nodes:
        pair.sides[n].slow = True


def goes(pair: Pair) -> None:
    """Steps end again."""
    for side in pair.sides.values():
        side.slow = False


def failed_over(pair: Pair) -> None:
    """Node 1 lost a critical service, and has it again."""
    pair.sides[1].up = False
    pair.until(CRITICAL, BACKUP)
    pair.sides[1].up = True
    pair.until(OVER, BACKUP)


def idle(pair: Pair) -> None:
    """An administrator failed node 1 over."""
    pair.press(1, FAILOVER)
    pair.until(IDLE, BACKUP)


def test_manual_failover_and_fallback(pair: Pair) -> None:
    assert row(pair) == 'R01'
    slow(pair, 2)
    pair.press(1, FAILOVER)
    pair.until(FAILING, TAKING)
    assert row(pair) == 'R02'
    assert buttons(*pair.states) == ((), ())
    goes(pair)
    pair.until(IDLE, BACKUP)
    assert row(pair) == 'R03'
    assert (pair.serving(1), pair.serving(2), pair.sides[1].running) == ([2], [2], False)
    assert not pair.order(1, FAILOVER)
    assert not pair.order(2, FALLBACK)
    slow(pair, 1)
    pair.press(1, FALLBACK)
    pair.until(BACK, FALLING)
    assert row(pair) == 'R04'
    goes(pair)
    pair.until(N, N)
    assert (pair.serving(1), pair.serving(2), pair.sides[1].running) == ([1], [2], True)


def test_restarts_while_idle(pair: Pair) -> None:
    idle(pair)
    pair.crash(1)
    pair.start(1)
    pair.until(IDLE, BACKUP)
    assert row(pair) == 'R05'
    assert not pair.sides[1].running
    pair.restart(2)
    pair.until(IDLE, BACKUP)
    assert row(pair) == 'R06'
    pair.press(1, FALLBACK)
    pair.until(N, N)
    idle(pair)
    pair.crash(2)
    pair.start(2)
    pair.until(IDLE, BACKUP)
    assert row(pair) == 'R07'
    pair.pass_(300)
    assert pair.states == (IDLE, BACKUP)


def test_restart_of_the_manager_in_the_middle(pair: Pair) -> None:
    slow(pair, 2)
    pair.press(1, FAILOVER)
    pair.until(FAILING, TAKING)
    pair.restart(2)
    pair.until(FAILING, TAKING)
    assert row(pair) == 'R08'
    goes(pair)
    pair.until(IDLE, BACKUP)
    assert pair.reasons == (Reason.ADMIN, Reason.INITIALIZATION)
    slow(pair, 1)
    pair.press(1, FALLBACK)
    pair.until(BACK, FALLING)
    pair.restart(1)
    pair.until(BACK, FALLING)
    assert row(pair) == 'R09'
    goes(pair)
    pair.until(N, N)
    assert row(pair) == 'R01'


def test_automatic_fallback(pair: Pair) -> None:
    failed_over(pair)
    pair.pass_(2 * SETTINGS.fallback_s)
    assert pair.states == (OVER, BACKUP)
    automatic = msgspec.structs.replace(SETTINGS, automatic_fallback=True)
    for side in pair.sides.values():
        side.machine.settings = automatic
    pair.sides[1].up = False  # a flap: the timer begins anew
    pair.pass_(1)
    pair.sides[1].up = True
    slow(pair, 2)
    pair.pass_(SETTINGS.fallback_s - 5)
    assert pair.states == (OVER, BACKUP)
    pair.until(BACK, FALLING)
    assert row(pair) == 'R10'
    goes(pair)
    pair.until(N, N)
    idle(pair)
    pair.pass_(3 * SETTINGS.fallback_s)
    assert pair.states == (IDLE, BACKUP)


def test_critical_service(pair: Pair) -> None:
    pair.sides[1].up = False
    pair.pass_(SETTINGS.critical_s - 1.5)
    pair.sides[1].up = True
    pair.pass_(SETTINGS.critical_s)
    assert pair.states == (N, N)
    pair.sides[1].up = False
    pair.pass_(SETTINGS.critical_s - 1)
    assert pair.states == (N, N)
    pair.until(CRITICAL, BACKUP)
    assert row(pair) == 'R12'
    assert not pair.order(1, FALLBACK)
    pair.sides[1].up = True
    pair.until(OVER, BACKUP)
    assert row(pair) == 'R11'
    pair.sides[1].up = False
    pair.until(CRITICAL, BACKUP)
    pair.crash(1)
    pair.sides[1].up = True
    pair.start(1)
    pair.until(OVER, BACKUP)
    assert (row(pair), pair.reasons[0]) == ('R11', Reason.INITIALIZATION)


def test_database_of_one_node(pair: Pair) -> None:
    pair.sides[1].database = False
    pair.pass_(SETTINGS.critical_s - 2)
    assert pair.serving(1) == [1]  # the other node hears it, so it may go on without its lease in the database
    pair.until(CRITICAL, BACKUP)
    assert row(pair) == 'R13'
    pair.sides[1].database = True
    pair.until(OVER, BACKUP)


def test_database_of_both_nodes(pair: Pair) -> None:
    for side in pair.sides.values():
        side.database = False
    pair.until(FAILED, FAILED)
    assert row(pair) == 'D01'
    assert (pair.serving(1), pair.serving(2)) == ([1], [2])


def test_services_do_not_start(pair: Pair) -> None:
    idle(pair)
    pair.sides[1].up = False
    pair.press(1, FALLBACK)
    pair.until(FAILED, FAILED)
    assert row(pair) == 'R14'
    pair.press(1, RECOVER)
    pair.until(State.INITIALIZING, FAILED)
    pair.until(FAILED, FAILED)
    assert row(pair) == 'R14'
    pair.sides[1].up = True
    pair.press(2, RECOVER)
    pair.until(N, N)


def test_critical_service_of_the_backup(pair: Pair) -> None:
    idle(pair)
    pair.sides[2].up = False
    pair.until(FAILED, FAILED)
    assert row(pair) == 'R15'
    pair.sides[2].up = True
    pair.pass_(100)
    assert pair.states == (FAILED, FAILED)
    pair.press(1, RECOVER)
    pair.until(N, N)
    assert (pair.serving(1), pair.serving(2)) == ([1], [2])


def test_enabled_with_services_down() -> None:
    pair = Pair()
    pair.sides[1].up = pair.sides[2].up = False
    pair.until(FAILED, FAILED)
    assert row(pair) == 'R15'
    pair = Pair()
    pair.sides[1].up = False
    pair.until(CRITICAL, BACKUP)
    assert row(pair) == 'R12'


def test_peer_lost_and_shut_down(pair: Pair) -> None:
    began = pair.now
    pair.crash(1)
    pair.until(N, BACKUP)  # what node 1 last was
    assert SETTINGS.timeout_s - 2 <= pair.now - began <= 2 * SETTINGS.timeout_s + 3
    assert pair.reasons[1] is Reason.PEER_DOWN
    assert advice((State.NOT_RESPONDING, Reason.NONE), (BACKUP, Reason.PEER_DOWN)).row.id == 'R16'
    pair.start(1)
    pair.until(OVER, BACKUP)
    pair.pass_(2)
    assert row(pair) == 'R17'  # it came back as another process
    pair.press(1, FALLBACK)
    pair.until(N, N)
    began = pair.now
    pair.crash(1, goodbye=True)
    pair.until(N, BACKUP)
    assert pair.now - began < SETTINGS.timeout_s + 3
    assert pair.reasons[1] is Reason.PEER_REBOOT


def test_manager_that_ends(pair: Pair) -> None:
    pair.stop_manager(1)
    pair.until(N, BACKUP)
    assert pair.serving(1) == [2]
    pair.restart(1)
    pair.until(OVER, BACKUP)
    assert row(pair) == 'R16'


def test_peer_not_seen_at_start() -> None:
    pair = Pair()
    pair.crash(1)
    pair.pass_(SETTINGS.init_s - 2)
    assert pair.states[1] is State.INITIALIZING
    pair.until(State.INITIALIZING, BACKUP)
    pair.start(1)
    pair.until(OVER, BACKUP)
    assert row(pair) == 'R18'


def test_moves_that_fail(pair: Pair) -> None:
    pair.sides[2].moves_fail = True
    pair.press(1, FAILOVER)
    pair.until(FAILED, FAILED)
    assert row(pair) == 'R19'
    pair.sides[2].moves_fail = False
    pair.press(2, RECOVER)
    pair.until(N, N)
    idle(pair)
    pair.sides[1].moves_fail = True
    pair.press(1, FALLBACK)
    pair.until(FAILED, FAILED)
    assert row(pair) == 'R20'
    pair.pass_(10)
    assert pair.serving(1) == pair.serving(2) == [2]  # users are served where they are
    pair.sides[1].moves_fail = False
    pair.restart(2)
    pair.until(FAILED, FAILED)
    pair.pass_(2)
    assert row(pair) == 'R21'
    pair.press(1, RECOVER)
    pair.until(N, N)


def test_auto_recovery(pair: Pair) -> None:
    failed_over(pair)
    pair.sides[2].up = False
    pair.until(State.BACKUP_ACTIVATED, State.FAILOVER_AFFECTED)
    assert row(pair) == 'R23'
    pair.pass_(SETTINGS.step_s / 2)
    assert (pair.serving(1), pair.serving(2)) == ([1], [1])
    pair.sides[2].up = True
    pair.until(State.BACKUP_ACTIVATED, OVER)
    pair.press(2, FALLBACK)
    pair.until(N, N)
    failed_over(pair)
    pair.sides[2].database = False
    pair.until(State.BACKUP_ACTIVATED, State.FAILOVER_AFFECTED)
    assert row(pair) == 'R22'


def test_one_node_without_high_availability() -> None:
    pair = Pair()
    pair.crash(1)
    pair.plain = True
    pair.pass_(3 * SETTINGS.init_s)
    assert pair.states[1] is State.UNKNOWN
    assert row(pair) == 'R24'
    pair.plain = False
    pair.start(1)
    pair.until(N, N)


def test_split(pair: Pair) -> None:
    pair.link = {1: False, 2: False}
    pair.pass_(60)
    winner = pair.states.index(BACKUP) + 1  # the database lets one of them win
    assert set(pair.states) == {OVER, BACKUP}
    assert (pair.serving(1), pair.serving(2)) == ([winner], [winner])
    pair.link = {1: True, 2: True}
    pair.pass_(20)
    assert row(pair) == 'R16'
    pair.press(3 - winner, FALLBACK)
    pair.until(N, N)


def test_two_backups_both_fail(pair: Pair) -> None:
    for side in pair.sides.values():  # what the database prevents
        side.machine.record, side.machine.status = Record(state=BACKUP, reason=Reason.PEER_DOWN), None
    pair.mail.clear()
    pair.until(FAILED, FAILED)
    assert row(pair) == 'R21'


def test_backup_node_lost(pair: Pair) -> None:
    failed_over(pair)
    pair.crash(2)
    pair.until(BACKUP, BACKUP)  # the second is what node 2 was
    assert pair.reasons[0] is Reason.PEER_DOWN
    pair.pass_(1)
    assert (pair.serving(1), pair.serving(2)) == ([1], [1])
    pair.start(2)
    pair.until(BACKUP, OVER)
    pair.press(2, FALLBACK)
    pair.until(N, N)
    idle(pair)
    pair.crash(2)
    pair.pass_(60)
    assert pair.states[0] is IDLE
    pair.press(1, FALLBACK)
    pair.until(BACKUP, BACKUP)
    pair.pass_(5)
    assert (pair.serving(1), pair.serving(2)) == ([1], [1])


def test_cut_off_from_everybody(pair: Pair) -> None:
    pair.link = {1: False, 2: False}
    pair.sides[1].database = False
    pair.until(CRITICAL, BACKUP)
    assert pair.reasons == (Reason.PEER_DOWN, Reason.PEER_DOWN)
    assert pair.serving(1) == [2]


def test_taking_side_finishes_alone(pair: Pair) -> None:
    slow(pair, 1, 2)
    pair.press(1, FAILOVER)
    pair.until(FAILING, TAKING)
    goes(pair)
    pair.crash(1)
    pair.until(FAILING, BACKUP)
    assert pair.reasons[1] is Reason.PEER_DOWN


def test_failing_side_left_alone_fails(pair: Pair) -> None:
    slow(pair, 2)
    pair.press(1, FAILOVER)
    pair.until(FAILING, TAKING)
    pair.crash(2)
    pair.until(FAILED, TAKING)
    assert pair.reasons[0] is Reason.UNKNOWN
    pair.press(1, RECOVER)
    pair.until(BACKUP, TAKING)


def test_internal_error(pair: Pair) -> None:
    pair.sides[1].machine.broken(pair.now)
    pair.until(FAILED, FAILED)
    pair.pass_(2)
    assert row(pair) == 'R21'


@pytest.mark.parametrize(('verb', 'why'), [(FAILOVER, 'down'), (FALLBACK, 'state'), (RECOVER, 'state')])
def test_refused_orders_say_why(pair: Pair, verb: str, why: str) -> None:
    pair.sides[2].up = False
    pair.pass_(3)
    with pytest.raises(NotNow) as refusal:
        pair.sides[1].machine.order(verb, pair.now)
    assert refusal.value.why == why
