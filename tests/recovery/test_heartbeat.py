"""Heartbeats that were forged, recorded or meant for others do not count."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from engine.cluster.wire import Identity
from engine.contract.recovery import Reason, State
from engine.recovery.heartbeat import Heartbeats, pair_key
from engine.recovery.records import Status, Step

STATUS = Status(
    group=7, node=0, run='', boot='b', seq=0, state=State.NORMAL, reason=Reason.NORMAL, cause=Reason.NORMAL,
    step=Step.NONE, recover=0, down=(), owners={1: (1, 1), 2: (2, 1)}, given={}, goodbye=False, echo=0, echo_run='',
    timeout_s=10.0,
)  # fmt: skip


class Ends:
    """Two ends with the key of two real certificates, and a third with another."""

    def __init__(self, folder: Path) -> None:
        identities = [Identity(folder / name, name) for name in ('one', 'two', 'three')]
        one, two, three = (identity.path.read_bytes() for identity in identities)
        certificates = [identity.pem.encode() for identity in identities]
        self.key = pair_key(one, certificates[1], (1, 2))
        assert self.key == pair_key(two, certificates[0], (2, 1))
        assert self.key != pair_key(three, certificates[0], (2, 1))
        self.one, self.two = Heartbeats(7, 2, '100'), Heartbeats(7, 1, '100')
        self.one.key = self.two.key = self.key

    def meet(self) -> None:
        """Both have proved themselves."""
        assert self.two.open(self.one.seal(status(1), 0), 0) == 'unproven'
        assert not isinstance(self.one.open(self.two.seal(status(2), 1), 1), str)
        assert not isinstance(self.two.open(self.one.seal(status(1), 2), 2), str)


def status(node: int) -> Status:
    """What a node says."""
    return msgspec.structs.replace(STATUS, node=node)


@pytest.fixture
def ends(tmp_path: Path) -> Ends:
    return Ends(tmp_path)


def test_a_heartbeat_lets_the_other_node_serve_for_a_while(ends: Ends) -> None:
    ends.meet()
    found = ends.one.open(ends.two.seal(status(2), 4), 4.1)
    assert not isinstance(found, str)
    assert (found[0].state, found[1]) == (State.NORMAL, 2 + 10 * 0.9)  # it repeats what was sent at 2


def test_forged(ends: Ends) -> None:
    ends.meet()
    data = ends.two.seal(status(2), 3)
    assert ends.one.open(data[:-1] + bytes([data[-1] ^ 1]), 3) == 'not sealed by the other node'
    assert ends.one.open(b'', 3) == ends.one.open(b'x' * 100_000, 3) == 'not sealed by the other node'
    stranger = Heartbeats(7, 1, '999')
    stranger.key = bytes(32)
    assert ends.one.open(stranger.seal(status(2), 3), 3) == 'not sealed by the other node'
    assert not isinstance(ends.one.open(data, 3), str)


def test_recorded(ends: Ends) -> None:
    ends.meet()
    data = ends.two.seal(status(2), 3)
    assert not isinstance(ends.one.open(data, 3), str)
    assert ends.one.open(data, 3) == 'repeated'
    later = ends.two.seal(status(2), 3)
    assert ends.one.open(later, 30) == 'unproven'  # held back: what it repeats was said too long ago
    again = Heartbeats(7, 2, '200')  # this node has started again, and knows nothing
    again.key = ends.key
    again.seal(status(1), 40)
    assert again.open(data, 41) == 'unproven'
    assert again.open(later, 41) == 'unproven'


def test_of_others(ends: Ends) -> None:
    ends.meet()
    wrong = Heartbeats(8, 1, '300')
    wrong.key = ends.key
    assert ends.one.open(wrong.seal(msgspec.structs.replace(STATUS, node=2, group=8), 3), 3) == 'of another group'
    assert ends.one.open(ends.one.seal(status(1), 3), 3) == 'of another group'  # its own, sent back
    no_key = Heartbeats(7, 2, '100')
    assert no_key.open(ends.two.seal(status(2), 3), 3) == 'no key'
