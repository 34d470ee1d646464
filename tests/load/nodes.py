"""Two nodes on one machine: what a message costs when it crosses the link between two engine processes.

    DATABASE_URL=... REDIS_URL=... IMP_VAR=... python -m tests.load.nodes [--messages 20000] [--flight 20] [--cores 0,1]

The users of the database are replaced. Users with an even number live on imp1, the others on imp2, each node a process
pinned to a core of its own. 50 pairs exchange messages over plain TCP: within their node, half of them across, all
across. Shown is the CPU of both processes together for one message, and the rate; the difference between all across and
none is the hop. On two cores the load generator takes its share of both, so rates say little there: the CPU says what
two nodes can carry where the generator has cores of its own (twice one node's rate times none / measured).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from pathlib import Path

import uvloop

from tests.load import servers
from tests.load.client import Client
from tests.load.scenarios import APART, PAIRS, PLAIN, Flow
from tests.load.servers import DOMAIN, Server

USERS = 4 * PAIRS * APART
LINK = 28500


def fleet(cores: list[str]) -> list[Server]:
    """Both nodes, with the users split."""
    servers._fill_database(USERS)
    from django.db import connection

    from engine.contract.services import CONNECTION_MANAGER, XCP_ROUTER
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


async def measure(nodes: list[Server], crossing: float, total: int, flight: int) -> None:
    """One line of the result. Sender and receiver of a crossing pair live on different nodes."""
    clients: list[list[Client]] = []
    for pair in range(PAIRS):
        home = pair % 2
        away = 1 - home if pair < crossing * PAIRS else home
        both = [Client(f'u{(4 * pair + 2 * i + node) * APART}', DOMAIN) for i, node in enumerate((home, away))]
        for client, node in zip(both, (home, away), strict=True):
            await client.login(nodes[node].port + 1, None)
        clients.append(both)

    async def exchange(count: int) -> int:
        flows = [Flow(a, b, PLAIN.format(b.jid).encode(), count // PAIRS, flight) for a, b in clients]
        await asyncio.wait_for(asyncio.gather(*(flow.start() for flow in flows)), 300)
        return sum(flow.counter.total for flow in flows)

    await exchange(total // 10)
    used, began = [servers.processor_s(node.pid) for node in nodes], time.perf_counter()
    done = await exchange(total)
    took = time.perf_counter() - began
    costs = [(servers.processor_s(node.pid) - before) / done * 1e6 for node, before in zip(nodes, used, strict=True)]
    parts = ' + '.join(f'{cost:.1f}' for cost in costs)
    print(f'{crossing:4.0%} across: {sum(costs):5.1f} µs CPU a message ({parts}), {done / took:,.0f}/s', flush=True)
    for both in clients:
        for client in both:
            client.close()
    await asyncio.sleep(1)


async def run(nodes: list[Server], options: argparse.Namespace) -> None:
    """Every share, three times interleaved."""
    for _ in range(options.rounds):
        for crossing in (0, 0.5, 1):
            await measure(nodes, crossing, options.messages, options.flight)


def main() -> None:
    """Parse, start both nodes, measure, stop them."""
    parser = argparse.ArgumentParser(description='Cost of a message between two nodes.')
    parser.add_argument('--messages', type=int, default=20_000)
    parser.add_argument('--flight', type=int, default=20, help='messages of a pair on their way')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--cores', default='0,1', help='one core for each node')
    options = parser.parse_args()
    os.chdir(Path(__file__).resolve().parents[2])
    nodes = fleet(options.cores.split(','))
    try:
        for node in nodes:
            node.start()
        time.sleep(4)
        uvloop.run(run(nodes, options))
    finally:
        for node in nodes:
            node.stop()


if __name__ == '__main__':
    main()
