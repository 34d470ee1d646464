"""``kill -9`` of one of two nodes under load: its users go on at the other, and nothing acknowledged is lost.

Senders and receivers live on both nodes. After each kill the other node gets the users of the dead one, as the recovery
manager would decide it; later the node is back and gets them again. IMP_FAILOVERS is the number of kills, IMP_SEED
repeats the decisions of a run.
"""

from __future__ import annotations

import os
import random
import time

import pytest

from tests.acceptance.test_kill9_under_load import ASLEEP, CUT, ONLINE, SENDERS, Load, finish, verdict
from tests.areas.xmpp_fixtures import parameter
from tests.fixtures import data
from tests.fixtures.nodes import OTHER, Cluster, own
from tests.fixtures.processes import wait_until
from tests.proves import proves

KILLS = int(os.environ.get('IMP_FAILOVERS', '2'))


@pytest.mark.long
@proves('HA-32', 'HA-34')
def test_nothing_acknowledged_is_lost_in_a_failover(cluster: Cluster) -> None:
    seed = int(os.environ.get('IMP_SEED', time.time_ns() % 1_000_000))
    chance = random.Random(seed)
    parameter('xcp_router', 'max_offline_messages', 100_000)
    cluster.start()
    for number, user_id in enumerate((*SENDERS, *ONLINE, *CUT, ASLEEP)):
        cluster.make_user(user_id, node=(data.NODE, OTHER)[number % 2])
    ports = [engine.tls_port for engine in cluster.engines.values()]
    kills: list[float] = []
    load = Load(ports, seed)

    def all_signed_in() -> bool:
        return all(client.signed_in.is_set() for client in load.senders + load.receivers[:4])

    try:
        for number in range(KILLS):
            wait_until(all_signed_in, 'all signed in', 60)
            time.sleep(chance.uniform(0.3, 1.0))
            dead, alive = ((data.NODE, OTHER), (OTHER, data.NODE))[number % 2]
            kills.append(time.monotonic())
            cluster.engines[dead].kill9()
            own(dead, alive)
            wait_until(all_signed_in, 'all signed in at the node that is left', 60)
            time.sleep(chance.uniform(0.3, 1.0))
            cluster.engines[dead].start()
            cluster.engines[dead].wait_ready()
            own(dead, dead)
        finish(load, ports, chance)
    finally:
        load.stop()
    verdict(load.record, kills, seed)
