"""What a stanza costs the server: this engine beside Prosody 0.12 and ejabberd 23.01, in interleaved rounds.

    DATABASE_URL=... REDIS_URL=... IMP_VAR=... python -m tests.load.message_bench [--peers] [--rounds 5] [--only ...]

The database is one to test with: users are made in it. As root, for the peers' users. In each round every server is
started anew, alone, on core 0 (the generator has core 1), and goes through all scenarios. µs are user + system time of
the server's process for each delivered stanza; "x" is how many times the engine's cost that is. A round in which a
fixed loop on core 0 took more than 1.5 times as long after a server's turn as before it (or the other way round) is
dropped. See docs/performance.md.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import uvloop

from tests.load import servers
from tests.load.client import Client, Counter, login_all
from tests.load.servers import CONTACTS, DOMAIN, PRESENCE_USERS, Server

BODY = 'x' * 80
PLAIN = f"<message to='{{}}' type='chat' id='0'><body>{BODY}</body></message>"
RICH = (
    f"<message to='{{}}' type='chat' id='0'><body>{BODY}</body><active xmlns='http://jabber.org/protocol/chatstates'/>"
    "<request xmlns='urn:xmpp:receipts'/><origin-id xmlns='urn:xmpp:sid:0' id='0'/></message>"
)
OFFLINE_SENDERS, OFFLINE_RECEIVERS, OFFLINE_EACH = 20, 100, 50
MOVED = 1.5
Results = dict[str, float]


def calibrate() -> float:
    """Seconds of CPU a fixed loop takes on the servers' core."""
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {int(servers.CORE)})
    began = time.thread_time()
    total = 0
    for number in range(1_500_000):
        total += number & 7
    took = time.thread_time() - began
    os.sched_setaffinity(0, own)
    return took


class Flow:
    """Messages of one client to another: the next is sent when one has arrived."""

    def __init__(self, sender: Client, receiver: Client, raw: bytes, count: int, in_flight: int) -> None:
        self.sender, self.raw, self.count, self.in_flight = sender, raw, count, in_flight
        self.sent = 0
        self.counter = Counter(b'<message')
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        receiver.on_data = self._got
        sender.on_data = Counter(b'<message').count  # raises on an error

    def start(self) -> asyncio.Future[None]:
        """Begin; the future is done when everything has arrived."""
        self._send(min(self.in_flight, self.count))
        return self.done

    def _send(self, number: int) -> None:
        self.sent += number
        self.sender.transport.write(self.raw * number)

    def _got(self, data: bytes) -> None:
        found = self.counter.count(data)
        if self.sent < self.count:
            self._send(min(found, self.count - self.sent))
        elif self.counter.total >= self.count and not self.done.done():
            self.done.set_result(None)


async def messages(
    server: Server, clients: list[Client], template: str, bare: bool, total: int, in_flight: int
) -> tuple[float, float]:
    """(µs, messages/s) of ``total`` messages between the pairs of ``clients``."""
    pairs = list(zip(clients[::2], clients[1::2], strict=True))
    flows = [
        Flow(one, other, template.format(other.jid.partition('/')[0] if bare else other.jid).encode(),
             total // len(pairs), in_flight)
        for one, other in pairs
    ]  # fmt: skip
    used, began = servers.processor_s(server.pid), time.perf_counter()
    await asyncio.wait_for(asyncio.gather(*(flow.start() for flow in flows)), 300)
    used, took = servers.processor_s(server.pid) - used, time.perf_counter() - began
    delivered = sum(flow.counter.total for flow in flows)
    return used / delivered * 1e6, delivered / took


async def presence(server: Server, clients: list[Client], sweeps: int, in_flight: int = 60) -> tuple[float, float]:
    """(µs, deliveries/s): everyone changes presence ``sweeps`` times, seen by 50 contacts and by the client itself."""
    everyone = CONTACTS + 1
    total = sweeps * len(clients)
    done = asyncio.get_running_loop().create_future()
    delivered = sent = 0

    def send() -> None:
        nonlocal sent
        while sent < total and sent - delivered // everyone < in_flight:
            text = f'<presence><show>away</show><status>{sent}</status></presence>'
            clients[sent % len(clients)].transport.write(text.encode())
            sent += 1

    def receiver(counter: Counter) -> Callable[[bytes], None]:
        def got(data: bytes) -> None:
            nonlocal delivered
            delivered += counter.count(data)
            send()
            if delivered >= total * everyone and not done.done():
                done.set_result(None)

        return got

    for client in clients:
        client.on_data = receiver(Counter(b'<presence'))
    used, began = servers.processor_s(server.pid), time.perf_counter()
    send()
    try:
        await asyncio.wait_for(done, 300)
    except TimeoutError:
        raise TimeoutError(f'{server.name}: {delivered} of {total * everyone} presence stanzas came') from None
    used, took = servers.processor_s(server.pid) - used, time.perf_counter() - began
    return used / delivered * 1e6, delivered / took


def _database_s() -> float:
    """Seconds of CPU of the engine's PostgreSQL processes."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT pid FROM pg_stat_activity WHERE application_name = 'imp-engine'")
        return sum(servers.processor_s(row[0]) for row in cursor.fetchall())


async def offline(server: Server, senders: list[Client]) -> Results:
    """Messages for users who are not there, until the server says it has them; then their delivery, counted."""
    receivers = [Client(f'u{1000 + number}', DOMAIN) for number in range(OFFLINE_RECEIVERS)]
    total = OFFLINE_RECEIVERS * OFFLINE_EACH
    own = server.name == 'engine'
    raw = [PLAIN.format(receiver.jid.partition('/')[0]).encode() for receiver in receivers]
    share = [b''.join(raw[place::OFFLINE_SENDERS]) * OFFLINE_EACH for place in range(OFFLINE_SENDERS)]
    database = await asyncio.to_thread(_database_s) if own else 0.0
    used, began = servers.processor_s(server.pid), time.perf_counter()
    for sender, data in zip(senders, share, strict=False):
        sender.on_data = None
        sender.transport.write(data)
    await asyncio.gather(*(sender.ping() for sender in senders[:OFFLINE_SENDERS]))
    took, used = time.perf_counter() - began, servers.processor_s(server.pid) - used
    result = {'offline: µs': used / total * 1e6, 'offline: stored/s': total / took}
    if own:
        result['offline: µs of PostgreSQL'] = (await asyncio.to_thread(_database_s) - database) / total * 1e6
    counters = [Counter(b'<message') for _ in receivers]
    await login_all(receivers, server.port)
    for receiver, counter in zip(receivers, counters, strict=True):
        counter.count(receiver._seen)
        receiver.on_data = counter.count
    end = time.perf_counter() + 30
    while (got := sum(counter.total for counter in counters)) < total and time.perf_counter() < end:
        await asyncio.sleep(0.05)
    if got != total:
        raise RuntimeError(f'{server.name}: {total} messages stored, {got} delivered')
    await asyncio.sleep(0.5)  # deleted after that
    await leave(receivers)
    return result


async def leave(clients: Iterable[Client]) -> None:
    """Sign out and let the server settle."""
    for client in clients:
        client.close()
    await asyncio.sleep(1.5)


async def turn(server: Server, options: argparse.Namespace) -> Results:
    """All scenarios on one freshly started server."""
    found: Results = {}
    before = servers.memory_kib(server.pid)
    found['empty process: MiB'] = before / 1024

    def wanted(name: str) -> bool:
        return not options.only or name in options.only

    clients = [Client(f'u{number}', DOMAIN) for number in range(options.sessions)]
    used, began = servers.processor_s(server.pid), time.perf_counter()
    await login_all(clients, server.port)
    took, used = time.perf_counter() - began, servers.processor_s(server.pid) - used
    found['login: ms'] = used / len(clients) * 1000
    found['login: /s'] = len(clients) / took
    await asyncio.sleep(2)
    found['idle session: KiB'] = (servers.memory_kib(server.pid) - before) / len(clients)
    keep = 2 * options.pairs
    await leave(clients[keep:])
    clients = clients[:keep]
    size = options.messages
    for name, template, bare, flight, total in (
        ('plain 1', PLAIN, False, 1, size),
        ('plain 20', PLAIN, False, 20, 2 * size),
        ('rich 1', RICH, True, 1, size),
    ):
        if wanted(name):
            await messages(server, clients, template, bare, total // 10, flight)
            found[f'{name}: µs'], found[f'{name}: /s'] = await messages(server, clients, template, bare, total, flight)
    if wanted('offline'):
        found |= await offline(server, clients)
    await leave(clients)
    if wanted('presence'):
        ring = [Client(f'p{number}', DOMAIN) for number in range(PRESENCE_USERS)]
        await login_all(ring, server.port)
        await asyncio.sleep(3)
        found['presence: µs'], found['presence: /s'] = await presence(server, ring, options.sweeps)
        await leave(ring)
    return found


def rounds(fleet: list[Server], options: argparse.Namespace) -> list[dict[str, Results]]:
    """What every round found, by server; dropped rounds are reported and left out."""
    kept = []
    for number in range(options.rounds):
        found: dict[str, Results] = {}
        moved = 1.0
        for server in fleet:
            before = calibrate()
            server.start()
            try:
                time.sleep(5 if server.name == 'engine' else 2)  # the engine's first heartbeats, its garbage collector
                found[server.name] = uvloop.run(turn(server, options))
            finally:
                server.stop()
            after = calibrate()
            moved = max(moved, after / before, before / after)
            shown = ', '.join(f'{key} {value:.4g}' for key, value in found[server.name].items())
            print(f'round {number + 1}, {server.name} ({before * 1000:.0f}/{after * 1000:.0f} ms): {shown}', flush=True)
        if moved > MOVED:
            print(f'round {number + 1} is dropped: the fixed loop moved by {moved:.2f}')
        else:
            kept.append(found)
    return kept


def table(found: list[dict[str, Results]]) -> str:
    """Markdown: median (least - most) of every result and server; cost as a multiple of the engine's."""
    names = list(found[0])
    rows = list(dict.fromkeys(key for results in found for result in results.values() for key in result))
    lines = ['| n = ' + str(len(found)) + ' | ' + ' | '.join(names) + ' |', '| --- ' * (len(names) + 1) + '|']
    for row in rows:
        cells = []
        reference = [results['engine'][row] for results in found if row in results['engine']]
        for name in names:
            values = [results[name][row] for results in found if row in results[name]]
            if not values:
                cells.append('-')
                continue
            text = f'{_number(statistics.median(values))} ({_number(min(values))}-{_number(max(values))})'
            if name != 'engine' and not row.endswith('/s'):
                text += f' **{statistics.median(values) / statistics.median(reference):.1f}x**'
            cells.append(text)
        lines.append(f'| {row} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def _number(value: float) -> str:
    return f'{value:,.0f}' if value >= 100 else f'{value:.3g}'


def main() -> None:
    """Start every server in turn, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--peers', action='store_true', help='also Prosody (default and tuned) and ejabberd')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--pairs', type=int, default=50)
    parser.add_argument('--messages', type=int, default=10_000, help='of each round; twice that with 20 in flight')
    parser.add_argument('--sessions', type=int, default=1_000, help='for login and memory')
    parser.add_argument('--sweeps', type=int, default=8, help='presence changes of each of 300 users')
    parser.add_argument('--only', nargs='*', default=[], help='plain 1, plain 20, rich 1, offline, presence')
    parser.add_argument('--servers', nargs='*', default=[], help='of engine, "Prosody tuned", Prosody, ejabberd')
    parser.add_argument('--folder', type=Path, default=Path('/tmp/imp-bench'))
    options = parser.parse_args()
    os.sched_setaffinity(0, {1})
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the servers are stopped then too
    people = servers.users(max(options.sessions, 1000 + OFFLINE_RECEIVERS))
    makers: dict[str, Callable[[], Any]] = {'engine': lambda: servers.engine(options.folder, people)}
    if options.peers:
        makers['Prosody tuned'] = lambda: servers.prosody(options.folder, people, tuned=True)
        makers['ejabberd'] = lambda: servers.ejabberd(options.folder, people)
        makers['Prosody'] = lambda: servers.prosody(options.folder, people, tuned=False)
    fleet = [make() for name, make in makers.items() if not options.servers or name in options.servers]
    found = rounds(fleet, options)
    print()
    print(table(found) if found else 'Every round was dropped: the machine is too busy.')


if __name__ == '__main__':
    main()
