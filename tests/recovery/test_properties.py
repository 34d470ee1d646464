"""Whatever happens to the nodes, the link and the database, the invariants I1-I8 of spec 02, 8.2, hold; and when
everything works again the administrator's three buttons lead back to Normal."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.contract.recovery import FAILOVER, FALLBACK, ORDERS, RECOVER, Reason, State, buttons
from engine.recovery.records import Record
from tests.recovery.pair import Pair

N = State.NORMAL
TO_NORMAL = {State.NORMAL, State.UNKNOWN, State.TAKING_BACK, State.FALLING_BACK, State.RUNNING_IN_BACKUP_MODE}
"""States before a restart from which a node may become Normal without an order."""
STABLE = {
    (N, N),
    (State.IDLE, State.RUNNING_IN_BACKUP_MODE),
    (State.FAILED_OVER, State.RUNNING_IN_BACKUP_MODE),
    (State.FAILED_OVER, State.BACKUP_ACTIVATED),
    (State.FAILED, State.FAILED),
}


def _happen(pair: Pair, what: str, n: int, seconds: float) -> None:
    side = pair.sides[n]
    if what == 'crash':
        pair.crash(n)
    elif what == 'shutdown':
        pair.crash(n, goodbye=True)
    elif what == 'start':
        pair.start(n)
    elif what == 'restart manager':
        pair.restart(n)
    elif what == 'stop manager':
        pair.stop_manager(n)
    elif what == 'services':
        side.up = not side.up
    elif what == 'database':
        side.database = not side.database
    elif what == 'link':
        pair.link[n] = not pair.link[n]
    elif what == 'cut':
        pair.link = dict.fromkeys(pair.link, not all(pair.link.values()))
    elif what == 'moves':
        side.moves_fail = not side.moves_fail
    elif what == 'loss':
        pair.loss = 0.5 - pair.loss
    else:
        pair.order(n, what)
    pair.pass_(seconds)


def _heal(pair: Pair) -> None:
    pair.loss = 0.0
    pair.link = {1: True, 2: True}
    for n, side in pair.sides.items():
        side.up = side.database = True
        side.moves_fail = False
        pair.start(n)
        if not side.manager:
            pair.restart(n)
    _rest(pair)


def _rest(pair: Pair) -> None:
    """Until the pair stays as it is."""
    for _ in range(15):
        before = pair.states
        pair.pass_(4)
        if pair.states == before and (before in STABLE or before[::-1] in STABLE):
            return


def _left(before: Record, after: Record) -> None:
    """I6 and I7 for one change."""
    if after.state is N and before.state is State.INITIALIZING:
        assert before.recovering or before.was in TO_NORMAL | {State.FAILED_OVER_CRITICAL}, before
    if before.state is State.IDLE and after.state is not State.IDLE:
        ordered = after.state is State.TAKING_BACK and after.reason is Reason.ADMIN
        assert ordered or after.state is State.FAILED, after
    if before.held and not after.held:
        assert after.recovering or (before.state is State.IDLE and after.state is State.TAKING_BACK), after


EVENTS = st.tuples(
    st.sampled_from([
        'crash', 'shutdown', 'start', 'restart manager', 'stop manager', 'services', 'database', 'link', 'cut', 'moves',
        'loss', *ORDERS, FAILOVER, 'start', 'nothing',
    ]),
    st.sampled_from([1, 2]),
    st.sampled_from([0.5, 2.0, 5.0, 12.0, 30.0]),
)  # fmt: skip


@settings(max_examples=1000, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
@given(seed=st.integers(0, 2**32), events=st.lists(EVENTS, max_size=10))
def test_no_sequence_of_events_breaks_the_pair(seed: int, events: list[tuple[str, int, float]]) -> None:
    pair = Pair(seed)
    pair.pass_(4)
    for what, n, seconds in events:
        _happen(pair, what, n, seconds)
    for _, before, after in pair.history:
        _left(before, after)
    _heal(pair)
    states = pair.states
    assert states in STABLE or states[::-1] in STABLE, (states, pair.reasons)  # I3, I4, I5
    for _ in range(4):
        for n in (1, 2):
            for verb in buttons(*pair.states)[n - 1]:
                if verb in (FALLBACK, RECOVER):
                    assert pair.order(n, verb), (pair.states, verb)
                    _rest(pair)
        if pair.states == (N, N):
            break
    assert pair.states == (N, N)
    assert (pair.serving(1), pair.serving(2)) == ([1], [2])
