"""The load harness itself works: a few of everything against the engine. How fast it is, nobody asks here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import uvloop

from engine.contract import credentials
from tests.fixtures.federation import Federation
from tests.fixtures.processes import free_port
from tests.load import report, scenarios
from tests.load.client import PASSWORD, Client, login_all
from tests.load.federation import from_remotes, to_remotes
from tests.load.s2s import DOMAINS, Remotes
from tests.load.servers import DOMAIN, Server, memory_kib, processor_s


def test_messages_and_latency_are_measured(engine: Any, make_user: Any) -> None:
    """Clients sign in over TLS, every message arrives, CPU time and memory of the engine's process are seen."""
    from impadmin.ucm.models import EndUser

    names = [f'u{number * scenarios.APART}' for number in range(4)]
    for name in names:
        make_user(name)
    EndUser.objects.filter(user_id__in=names).update(credentials=credentials.verifiers(PASSWORD))
    server = Server('peer', engine.tls_port, [], 'python')
    server.pid = engine.pid

    async def measure() -> dict[str, float]:
        clients = [Client(name, DOMAIN) for name in names]
        await login_all(clients, server.port)
        cost = scenarios.Cost(server)
        await cost.begin()
        delivered = await scenarios._exchange(clients, scenarios.RICH, True, 40, 4)
        assert delivered == 40
        found = await cost.end('rich', 'µs', 1e6, delivered)
        await clients[0].ping()
        await scenarios.leave(clients, 0)
        return found

    affinity = os.sched_getaffinity(0)
    found = uvloop.run(measure())
    assert os.sched_getaffinity(0) == affinity
    assert found['rich, µs'] > 0
    assert memory_kib(server.pid) > 10_000
    assert processor_s(server.pid) > 0


@pytest.mark.parametrize('tls', [False, True])
def test_messages_between_servers_are_measured(federation: Federation, make_user: Any, request: Any, tls: bool) -> None:
    """Ten domains that are not really servers exchange messages with local clients, with and without TLS."""
    from impadmin.ucm.models import EndUser

    names = [f'u{number}' for number in range(12)]
    for name in names:
        make_user(name)
    EndUser.objects.filter(user_id__in=names).update(credentials=credentials.verifiers(PASSWORD))
    port = free_port()
    for domain in DOMAINS:
        federation.zone.server(domain, (5, 0, port, 'localhost'))
    engine = request.getfixturevalue('engine')
    federation.wait_ready()

    async def measure() -> tuple[int, int]:
        clients = [Client(name, DOMAIN) for name in names]
        await login_all(clients, engine.tls_port)
        remotes = Remotes(DOMAIN, federation.authority.issue('localhost') if tls else None, port)
        try:
            await remotes.start(federation.port)
            return await from_remotes(remotes, clients, 60, 2), await to_remotes(remotes, clients, 60, 2)
        finally:
            await remotes.stop()
            await scenarios.leave(clients, 0)

    assert uvloop.run(measure()) == (60, 60)


def test_the_tables_say_what_was_met(tmp_path: Path) -> None:
    """Medians, how many times the engine's cost, the verdict on each target; written between the marks of a file."""
    rounds = [
        {
            'engine': {'plain 1, µs': own, 'idle session plain, KiB': 9.0, 'plain 1, /s': 5.0},
            'Prosody tuned': {'plain 1, µs': 90.0},
            'ejabberd': {'plain 1, µs': 45.0},
        }
        for own in (15.0, 10.0, 30.0)
    ]
    table = report.table(rounds)
    assert '| plain 1, µs | 15 (10-30) | 90 (90-90) **6.0x** | 45 (45-45) **3.0x** |' in table
    assert table.splitlines()[-1].startswith('| plain 1, /s |')
    verdicts = report.verdicts(rounds)
    assert '| plain 1, µs, ejabberd | 1/3 | 1/4 | 1/3.0 | met |' in verdicts
    assert '| plain 1, µs, Prosody tuned | 1/4 | 1/5 | 1/6.0 | stretch |' in verdicts
    assert '| idle session plain, KiB | 8 | 5 | 9 | **missed** |' in verdicts
    assert 'login' not in verdicts
    file = tmp_path / 'page.md'
    file.write_text(f'a\n{report.BEGIN}\nold\n{report.END}\nz\n')
    report.write(file, 'today', verdicts)
    assert file.read_text() == f'a\n{report.BEGIN}\ntoday\n\n{verdicts}\n{report.END}\nz\n'
