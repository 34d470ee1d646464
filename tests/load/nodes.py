"""One node and two on one machine: what a message costs, also when it crosses the link between two engine processes.

    python -m tests.load.nodes [--rounds 3] [--messages 40000] [--cores 0,1]
        [--write docs/performance.md]

Without DATABASE_URL and REDIS_URL it starts servers of its own; in a database that is given the users are replaced.
Users with an even number live on imp1, the others on imp2, each node a process pinned to a core of its own. 50 pairs
exchange messages over plain TCP: all on one node (imp2 not started), then on two nodes none, half, all of them across.
Printed as Markdown, medians: CPU of the nodes and of the generator for each message, what came through, and what the
nodes' CPU alone allows: cores / CPU. On two cores the generator takes its share of both; the last column is for a
generator with cores of its own, on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import statistics
import sys
import time
from pathlib import Path
from typing import NamedTuple

import uvloop

from tests.load import own, report, servers
from tests.load.client import Client
from tests.load.scenarios import APART, PAIRS, PLAIN, Flow
from tests.load.servers import DOMAIN, Server

USERS = 4 * PAIRS * APART
LINK = 28500


def fleet(cores: list[str]) -> list[Server]:
    """Both nodes, with the users split."""
    servers._fill_database(USERS)
    from django.db import connection

    from engine.contract.services import CONNECTION_MANAGER, FEDERATION_MANAGER, XCP_ROUTER
    from impadmin.console.actions import SYSTEM, do_set_parameters
    from impadmin.system.models import Node, ServiceActivation
    from tests.fixtures import data

    other, _ = Node.objects.get_or_create(name='imp2', defaults={'address': '127.0.0.1'})
    for activation in ServiceActivation.objects.filter(node__name=data.NODE):
        ServiceActivation.objects.get_or_create(node=other, service=activation.service)
    for number, name in enumerate((data.NODE, 'imp2')):
        node = Node.objects.get(name=name)
        do_set_parameters(SYSTEM, XCP_ROUTER, node, {'node_link_port': LINK + number})
        do_set_parameters(SYSTEM, CONNECTION_MANAGER, node, {'connections_per_ip': 20_000})
    with connection.cursor() as cursor:
        cursor.execute(
            'UPDATE end_user SET home_node_id = %s WHERE substr(user_id, 2)::int / %s %% 2 = 1', [other.pk, APART]
        )
        # With another IMP_VAR than last time the nodes have new keys: imp1 must not have learned the old one of imp2.
        cursor.execute("UPDATE node SET link_certificate = ''")
    ServiceActivation.objects.filter(service=FEDERATION_MANAGER).delete()
    data.publish_configuration()
    connection.close()
    found = []
    for number, name in enumerate((data.NODE, 'imp2')):
        port = 28522 + 10 * number
        environment = {
            'IMP_BIND': '127.0.0.1', 'IMP_CLIENT_PORT': str(port + 1), 'IMP_DIRECT_TLS_PORT': str(port),
            'IMP_UNENCRYPTED_LOOPBACK': '1', 'IMP_LOG_LEVEL': 'warning',
        }  # fmt: skip
        command = ['taskset', '-c', cores[number], sys.executable, 'manage.py', 'engine', '--node', name]
        found.append(Server(f'engine {name}', port, command, 'python', lambda: None, 3.0, environment))
    return found


class Case(NamedTuple):
    """One line of the table."""

    flight: int
    nodes: int
    crossing: float


class Found(NamedTuple):
    """Of one measurement: µs for each message, messages a second."""

    cost: float
    generator: float
    rate: float


CASES = [Case(flight, *rest) for flight in (1, 20) for rest in ((1, 0.0), (2, 0.0), (2, 0.5), (2, 1.0))]
Rounds = dict[Case, list[Found]]


async def measure(nodes: list[Server], case: Case, total: int) -> Found:
    """Sender and receiver of a crossing pair live on different nodes."""
    clients: list[list[Client]] = []
    for pair in range(PAIRS):
        home = pair % len(nodes)
        away = 1 - home if pair < case.crossing * PAIRS else home
        both = [Client(f'u{(4 * pair + 2 * i + node) * APART}', DOMAIN) for i, node in enumerate((home, away))]
        for client, node in zip(both, (home, away), strict=True):
            await client.login(nodes[node].port + 1, None)
        clients.append(both)

    async def exchange(count: int) -> int:
        flows = [Flow(a, b, PLAIN.format(b.jid).encode(), count // PAIRS, case.flight) for a, b in clients]
        await asyncio.wait_for(asyncio.gather(*(flow.start() for flow in flows)), 60)
        return sum(flow.counter.total for flow in flows)

    await exchange(total // 10)
    used = sum(servers.processor_s(node.pid) for node in nodes)
    own, began = time.process_time(), time.perf_counter()
    done = await exchange(total)
    took, own = time.perf_counter() - began, time.process_time() - own
    cost = sum(servers.processor_s(node.pid) for node in nodes) - used
    for client in itertools.chain.from_iterable(clients):
        client.close()
    await asyncio.sleep(0.5)
    return Found(cost / done * 1e6, own / done * 1e6, done / took)


def one_round(nodes: list[Server], cores: list[int], messages: int, found: Rounds) -> None:
    """Every case: one node with the generator on the other core, then both nodes and the generator on both cores."""
    try:
        for count in (1, 2):
            running = nodes[:count]
            running[-1].start()
            time.sleep(4)  # until it is quiet; the link is up long before
            os.sched_setaffinity(0, {cores[1]} if count == 1 else cores)
            for case in CASES:
                if case.nodes == count:
                    result = uvloop.run(measure(running, case, messages))
                    found.setdefault(case, []).append(result)
                    print(f'{case} {result}', file=sys.stderr, flush=True)
    finally:
        for node in nodes:
            node.stop()


def table(found: Rounds) -> str:
    """Markdown: the medians, then what they mean."""
    lines = [
        '| in flight | nodes, cores | across | CPU of the nodes, µs | of the generator, µs | came through, /s |'
        " the nodes' CPU allows, /s |",
        '| --- ' * 7 + '|',
    ]
    costs: dict[Case, float] = {}
    for case in CASES:
        results = found[case]
        cost, generator, rate = (statistics.median(values) for values in zip(*results, strict=True))
        costs[case] = cost
        least, most = (f'{pick(result.cost for result in results):.1f}' for pick in (min, max))
        lines.append(
            f'| {case.flight} | {case.nodes} | {case.crossing:.0%} | {cost:.1f} ({least}-{most}) | {generator:.1f} |'
            f' {rate:,.0f} | {case.nodes / cost * 1e6:,.0f} |'
        )
    lines.append('')
    for flight in dict.fromkeys(case.flight for case in CASES):
        one, none, half, crossed = (costs[case] for case in CASES if case.flight == flight)
        times = ', '.join(
            f'{2 * one / cost:.2f} ({name})' for cost, name in ((none, '0%'), (half, '50%'), (crossed, '100%'))
        )
        lines.append(
            f'- {flight} in flight: a hop costs {crossed - none:.1f} µs, both processes together; by CPU two nodes'
            f' carry this many times what one does, by share across: {times}.'
        )
    return '\n'.join(lines)


def main() -> None:
    """Parse, measure in rounds, print."""
    parser = argparse.ArgumentParser(description='Cost of a message between two nodes.')
    parser.add_argument('--messages', type=int, default=40_000)
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--cores', default='0,1', help='one core for each node')
    parser.add_argument('--write', type=Path, help='put the table into this file, e.g. docs/performance.md')
    options = parser.parse_args()
    cores = [int(core) for core in options.cores.split(',')]
    if len(cores) != 2:
        parser.error(f'--cores wants two numbers, for example 0,1, not {options.cores}.')
    found: Rounds = {}
    with own.servers():
        nodes = fleet([str(core) for core in cores])
        for _ in range(options.rounds):
            one_round(nodes, cores, options.messages, found)
    title = f'{time.strftime("%Y-%m-%d %H:%M", time.gmtime())} UTC, {options.rounds} rounds, {os.cpu_count()} cores.'
    print(f'{title}\n\n{table(found)}')
    if options.write:
        report.write(options.write, title, table(found), report.NODES)


if __name__ == '__main__':
    main()
