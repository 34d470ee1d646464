"""The scenario *s2s*: messages between local clients and users of ten other servers, in each direction."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from tests.load.client import Client, Counter
from tests.load.s2s import DOMAINS, Remotes
from tests.load.scenarios import PAIRS, PLAIN, Cost, Flow, Results, Sizes, leave, sign_in, strangers
from tests.load.servers import DOMAIN, Server

FLIGHTS = (1, 20)


async def federation(server: Server, sizes: Sizes, prefix: str, tls: bool) -> Results:
    """50 pairs of a local client (plain TCP) and a user elsewhere, one or 20 messages on their way in each pair: in,
    then out. One stream for each other server and direction."""
    clients = strangers(PAIRS)
    remotes = Remotes(DOMAIN, server.pem if tls else None)
    await sign_in(server, clients, False)
    found: Results = {}
    cost = Cost(server)
    try:
        await remotes.start(server.s2s_port)
        for name, exchange in (('in', from_remotes), ('out', to_remotes)):
            for flight in FLIGHTS:
                await exchange(remotes, clients, sizes.messages // 5, flight)
                await cost.begin()
                delivered = await exchange(remotes, clients, 2 * sizes.messages, flight)
                found |= await cost.end(f'{prefix} {name} {flight}', 'µs', 1e6, delivered)
    finally:
        await remotes.stop()
        await leave(clients, 0.5)
    return found


def _elsewhere(number: int) -> str:
    return f'r{number}@{DOMAINS[number % len(DOMAINS)]}/r'


async def from_remotes(remotes: Remotes, clients: Sequence[Client], total: int, flight: int) -> int:
    """How many arrived: the next for a client is sent when one has come to it."""
    flows = []
    for number, client in enumerate(clients):
        raw = PLAIN.format(client.jid).replace('<message', f"<message from='{_elsewhere(number)}'").encode()
        stream = remotes.out[DOMAINS[number % len(DOMAINS)]]
        flows.append(Flow(stream, client, raw, total // len(clients), flight))
    return await _finish(remotes, flows)


class Outward:
    """Messages of these clients to one other server. What comes over its stream is counted together: as many are sent
    again, from the clients in turn."""

    def __init__(self, senders: Sequence[tuple[Client, bytes]], count: int, in_flight: int) -> None:
        self.senders, self.count, self.in_flight = senders, count, in_flight
        self.sent = 0
        self.counter = Counter(b'<message')
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        for client, _ in senders:
            client.on_data = Counter(b'<message').count  # raises on an error

    def start(self) -> asyncio.Future[None]:
        """Begin; the future is done when everything has arrived."""
        self._send(min(self.in_flight, self.count))
        return self.done

    def _send(self, number: int) -> None:
        for place in range(self.sent, self.sent + number):
            client, raw = self.senders[place % len(self.senders)]
            client.transport.write(raw)  # type: ignore[attr-defined]
        self.sent += number

    def got(self, data: bytes) -> None:
        """Bytes of the server under test."""
        found = self.counter.count(data)
        if self.sent < self.count:
            self._send(min(found, self.count - self.sent))
        elif self.counter.total >= self.count and not self.done.done():
            self.done.set_result(None)


async def to_remotes(remotes: Remotes, clients: Sequence[Client], total: int, flight: int) -> int:
    """How many arrived."""
    flows = {}
    for place, domain in enumerate(DOMAINS):
        mine = [
            (clients[number], PLAIN.format(_elsewhere(number)).encode())
            for number in range(place, len(clients), len(DOMAINS))
        ]
        if mine:
            flows[domain] = Outward(mine, len(mine) * (total // len(clients)), len(mine) * flight)
    remotes.on_data = lambda domain, data: flows[domain].got(data)
    return await _finish(remotes, list(flows.values()))


async def _finish(remotes: Remotes, flows: Sequence[Flow | Outward]) -> int:
    try:
        await asyncio.wait_for(asyncio.gather(*(flow.start() for flow in flows)), 120)
    except TimeoutError:
        counts = [flow.counter.total for flow in flows]
        raise TimeoutError(f'{sum(counts)} messages between servers came: {counts} {remotes.problem}') from None
    return sum(flow.counter.total for flow in flows)


S2S: dict[str, Callable[[Server, Sizes], object]] = {
    's2s': lambda server, sizes: federation(server, sizes, 's2s', False),
    's2s-tls': lambda server, sizes: federation(server, sizes, 's2s TLS', True),
}
