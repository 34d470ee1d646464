"""``kill -9`` of one of two nodes under load: its users go on at the other, and nothing acknowledged is lost.

High availability is on, its timers are short. Senders and receivers live on both nodes. After each kill the other node
takes over the users of the dead one; the node comes back, and Fallback sends its users home. IMP_FAILOVERS is the
number of kills, IMP_SEED repeats the decisions of a run.
"""

from __future__ import annotations

import os
import random
import time

import pytest

from engine.contract.recovery import FALLBACK, Reason, State
from tests.acceptance.test_kill9_under_load import ASLEEP, CUT, ONLINE, SENDERS, Load, finish, verdict
from tests.areas.xmpp_fixtures import parameter
from tests.fixtures import data
from tests.fixtures.nodes import OTHER, Cluster
from tests.fixtures.processes import wait_until
from tests.proves import proves
from tests.services.test_recovery_manager import NORMAL, SCALE, Group

KILLS = int(os.environ.get('IMP_FAILOVERS', '1'))
DOWN, BACKUP = (State.NOT_RESPONDING, None), (State.RUNNING_IN_BACKUP_MODE, Reason.PEER_DOWN)
BACK, WAITS = (State.FAILED_OVER, None), (State.RUNNING_IN_BACKUP_MODE, None)


@pytest.mark.long
@proves('HA-32', 'HA-34')
def test_nothing_acknowledged_is_lost_in_a_failover(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    seed = int(os.environ.get('IMP_SEED', time.time_ns() % 1_000_000))
    chance = random.Random(seed)
    monkeypatch.setenv('IMP_SRM_TIME_SCALE', str(SCALE))
    cluster.addresses[OTHER] = '127.0.0.2'
    parameter('xcp_router', 'max_offline_messages', 100_000)
    group = Group(cluster).start()
    cluster.linked()
    for number, user_id in enumerate((*SENDERS, *ONLINE, *CUT, ASLEEP)):
        cluster.make_user(user_id, node=(data.NODE, OTHER)[number % 2])
    ports = [engine.tls_port for engine in cluster.engines.values()]
    kills: list[float] = []
    dead, first = '', False
    load = Load(ports, seed)

    def all_signed_in() -> bool:
        return all(client.signed_in.is_set() for client in load.senders + load.receivers[:4])

    try:
        for number in range(KILLS):
            if number:
                cluster.engines[dead].start()
                group.until(*((BACK, WAITS) if first else (WAITS, BACK)))
                group.press(FALLBACK, dead)
                group.until(NORMAL, NORMAL)
            wait_until(all_signed_in, 'all signed in', 60)
            time.sleep(chance.uniform(0.3, 1.0))
            first = number % 2 == 0
            dead = data.NODE if first else OTHER
            kills.append(time.monotonic())
            cluster.engines[dead].kill9()
            group.until(*((DOWN, BACKUP) if first else (BACKUP, DOWN)))
            wait_until(all_signed_in, 'all signed in at the node that is left', 60)
            time.sleep(chance.uniform(0.3, 1.0))
        finish(load, ports, chance)
    finally:
        load.stop()
    verdict(load.record, kills, seed)
