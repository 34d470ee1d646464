"""What every server is put through. Each scenario gives results by name: µs, ms and KiB are the server's cost."""

from __future__ import annotations

import asyncio
import re
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from tests.load import servers
from tests.load.client import Client, Counter, login_all
from tests.load.servers import DOMAIN, REACH, Server

BODY = 'x' * 80
PLAIN = f"<message to='{{}}' type='chat' id='0'><body>{BODY}</body></message>"
RICH = (
    f"<message to='{{}}' type='chat' id='0'><body>{BODY}</body><active xmlns='http://jabber.org/protocol/chatstates'/>"
    "<request xmlns='urn:xmpp:receipts'/><origin-id xmlns='urn:xmpp:sid:0' id='0'/></message>"
)
PAIRS = 50
APART = REACH + 1
"""Users so far apart in the ring are not each other's contacts."""
PRESENCE_USERS = 300
OFFLINE_SENDERS, OFFLINE_RECEIVERS = 20, 100
ALONE_LOGINS = 100
_STAMP = re.compile(rb"id='t([0-9]+)'")
Results = dict[str, float]


@dataclass
class Sizes:
    """How much of everything: messages of each measurement, idle sessions, presence changes of each user, offline
    messages for each receiver, passes of logins, seconds of fixed rate."""

    messages: int = 5_000
    sessions: int = 1_000
    sweeps: int = 4
    offline: int = 30
    logins: int = 2
    rate_s: float = 3.0
    rate: int = 1_000

    @property
    def users(self) -> int:
        """Accounts needed."""
        return max(self.sessions, APART * (2 * PAIRS + OFFLINE_RECEIVERS))


class Cost:
    """CPU of the server (and for the engine of PostgreSQL) and time since ``begin``."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._own = server.name == 'engine'

    async def begin(self) -> None:
        """Take the clocks."""
        self._database = await asyncio.to_thread(servers.database_s) if self._own else 0.0
        self._began, self._used = time.perf_counter(), servers.processor_s(self._server.pid)

    async def end(self, name: str, unit: str, scale: float, done: int) -> Results:
        """``name, unit`` per piece of work, ``name, /s``, and what PostgreSQL used if it did anything."""
        used = servers.processor_s(self._server.pid) - self._used
        took = time.perf_counter() - self._began
        found = {f'{name}, {unit}': used / done * scale, f'{name}, /s': done / took}
        if self._own:
            database = (await asyncio.to_thread(servers.database_s) - self._database) / done * scale
            if database > 0.02 * used / done * scale:
                found[f'{name}, {unit} of PostgreSQL'] = database
        return found


def people(numbers: Iterable[int]) -> list[Client]:
    """Clients of these users."""
    return [Client(f'u{number}', DOMAIN) for number in numbers]


def strangers(count: int, first: int = 0) -> list[Client]:
    """Users of whom none is a contact of another."""
    return people(range(first * APART, (first + count) * APART, APART))


async def leave(clients: Iterable[Client], settle_s: float = 1.0) -> None:
    """Sign out and let the server settle."""
    for client in clients:
        client.close()
    await asyncio.sleep(settle_s)


async def sign_in(server: Server, clients: Sequence[Client], tls: bool = True) -> None:
    """All of them, over TLS or plain."""
    await login_all(clients, server.port if tls else server.port + 1, tls)


# ---- logins and memory


async def idle(server: Server, sizes: Sizes) -> Results:
    """Growth of resident memory by signed-in sessions with 50 contacts, of whom nearly all are there: one half plain,
    then the other half over TLS."""
    half = sizes.sessions // 2
    found = {}
    everyone = []
    for name, start, tls in (('idle session plain, KiB', 0, False), ('idle session TLS, KiB', half, True)):
        before = servers.memory_kib(server.pid)
        clients = people(range(start, start + half))
        await sign_in(server, clients, tls)
        await asyncio.sleep(2)
        found[name] = (servers.memory_kib(server.pid) - before) / half
        everyone += clients
    await leave(everyone, 3)
    return found


async def login(server: Server, sizes: Sizes) -> Results:
    """Handshake, SCRAM, bind, roster of 50, presence: among contacts of whom half are there, and where nobody is."""
    found: dict[str, list[float]] = {}
    cost = Cost(server)
    for _ in range(sizes.logins):
        for name, clients in (('login', people(range(PRESENCE_USERS))), ('login alone', strangers(ALONE_LOGINS))):
            await cost.begin()
            await sign_in(server, clients)
            await asyncio.sleep(0.2)
            for key, value in (await cost.end(name, 'ms', 1000, len(clients))).items():
                found.setdefault(key, []).append(value)
            await leave(clients)
    return {key: statistics.median(values) for key, values in found.items() if not key.endswith('/s')}


# ---- messages


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


async def _exchange(clients: list[Client], template: str, bare: bool, total: int, in_flight: int) -> int:
    pairs = list(zip(clients[::2], clients[1::2], strict=True))
    flows = [
        Flow(one, other, template.format(other.jid.partition('/')[0] if bare else other.jid).encode(),
             total // len(pairs), in_flight)
        for one, other in pairs
    ]  # fmt: skip
    await asyncio.wait_for(asyncio.gather(*(flow.start() for flow in flows)), 300)
    return sum(flow.counter.total for flow in flows)


async def messages(server: Server, sizes: Sizes, prefix: str, tls: bool, kinds: Sequence[str]) -> Results:
    """1-1 messages between 50 pairs, one or 20 on their way in each."""
    clients = strangers(2 * PAIRS)
    await sign_in(server, clients, tls)
    found: Results = {}
    cost = Cost(server)
    for name, template, bare, flight, total in (
        ('1', PLAIN, False, 1, sizes.messages),
        ('20', PLAIN, False, 20, 2 * sizes.messages),
        ('rich 1', RICH, True, 1, sizes.messages),
    ):
        if name in kinds:
            await _exchange(clients, template, bare, total // 10, flight)
            await cost.begin()
            delivered = await _exchange(clients, template, bare, total, flight)
            found |= await cost.end(f'{prefix} {name}', 'µs', 1e6, delivered)
    await leave(clients, 0.5)
    return found


async def latency(server: Server, sizes: Sizes) -> Results:
    """One-way time of messages sent at a fixed rate over TLS, each from another of 50 senders."""
    clients = strangers(2 * PAIRS)
    await sign_in(server, clients)
    took: list[float] = []

    def receiver() -> Callable[[bytes], None]:
        held = b''

        def got(data: bytes) -> None:
            nonlocal held
            now = time.perf_counter_ns()
            held += data
            last = 0
            for match in _STAMP.finditer(held):
                took.append((now - int(match.group(1))) / 1e6)
                last = match.end()
            held = held[last:][-200:]

        return got

    for other in clients[1::2]:
        other.on_data = receiver()
    total = int(sizes.rate * sizes.rate_s)
    template = PLAIN.replace("id='0'", "id='t{}'")
    cost = Cost(server)
    await cost.begin()
    began = time.perf_counter()
    for number in range(total):
        pause = began + number / sizes.rate - time.perf_counter()
        if pause > 0:
            await asyncio.sleep(pause)
        place = 2 * (number % PAIRS)
        text = template.format(clients[place + 1].jid, time.perf_counter_ns())
        clients[place].transport.write(text.encode())
    end = time.perf_counter() + 20
    while len(took) < total and time.perf_counter() < end:
        await asyncio.sleep(0.02)
    if len(took) != total:
        raise RuntimeError(f'{server.name}: {total} messages sent, {len(took)} came')
    await leave(clients, 0.5)
    took.sort()
    return {'1,000/s: p50, ms': took[total // 2], '1,000/s: p99, ms': took[total * 99 // 100]}


# ---- presence


async def presence(server: Server, sizes: Sizes, in_flight: int = 60) -> Results:
    """Everyone in a part of the ring changes presence, seen by those contacts who are there and by the client."""
    clients = people(range(PRESENCE_USERS))
    await sign_in(server, clients)
    await asyncio.sleep(2)
    seen_by = [
        1 + sum(0 <= number + step < PRESENCE_USERS for step in range(-REACH, REACH + 1) if step)
        for number in range(PRESENCE_USERS)
    ]
    total = sizes.sweeps * len(clients)
    expected = sizes.sweeps * sum(seen_by)
    done = asyncio.get_running_loop().create_future()
    delivered = sent = 0
    average = sum(seen_by) / len(seen_by)

    def send() -> None:
        nonlocal sent
        while sent < total and sent - delivered / average < in_flight:
            text = f'<presence><show>away</show><status>{sent}</status></presence>'
            clients[sent % len(clients)].transport.write(text.encode())
            sent += 1

    def receiver(counter: Counter) -> Callable[[bytes], None]:
        def got(data: bytes) -> None:
            nonlocal delivered
            delivered += counter.count(data)
            send()
            if delivered >= expected and not done.done():
                done.set_result(None)

        return got

    for client in clients:
        client.on_data = receiver(Counter(b'<presence'))
    cost = Cost(server)
    await cost.begin()
    send()
    try:
        await asyncio.wait_for(done, 60)
    except TimeoutError:
        raise TimeoutError(f'{server.name}: {delivered} of {expected} presence stanzas came') from None
    found = await cost.end('presence', 'µs', 1e6, delivered)
    await leave(clients)
    return found


# ---- offline


async def offline(server: Server, sizes: Sizes) -> Results:
    """Messages for users who are not there, until the server says it has them; then their delivery, counted."""
    senders = strangers(OFFLINE_SENDERS)
    receivers = strangers(OFFLINE_RECEIVERS, first=2 * PAIRS)
    await sign_in(server, senders)
    total = OFFLINE_RECEIVERS * sizes.offline
    raw = [PLAIN.format(receiver.jid.partition('/')[0]).encode() for receiver in receivers]
    share = [b''.join(raw[place::OFFLINE_SENDERS]) * sizes.offline for place in range(OFFLINE_SENDERS)]
    cost = Cost(server)
    await cost.begin()
    for sender, data in zip(senders, share, strict=True):
        sender.on_data = None
        sender.transport.write(data)
    await asyncio.gather(*(sender.ping() for sender in senders))
    found = await cost.end('offline stored', 'µs', 1e6, total)
    # The same logins once more without messages: what remains is the delivery.
    await cost.begin()
    counters = await _collect(server, receivers, total)
    delivered = await cost.end('offline delivered', 'µs', 1e6, total)
    if (got := sum(counter.total for counter in counters)) != total:
        raise RuntimeError(f'{server.name}: {total} messages stored, {got} delivered')
    await leave(receivers)
    again = strangers(OFFLINE_RECEIVERS, first=2 * PAIRS)
    await cost.begin()
    await _collect(server, again, 0)
    logins = await cost.end('offline delivered', 'µs', 1e6, total)
    for key, value in delivered.items():
        if not key.endswith('/s'):
            found[key] = max(0.0, value - logins.get(key, 0.0))
    await leave([*senders, *again], 0.5)
    return found


async def _collect(server: Server, receivers: list[Client], total: int) -> list[Counter]:
    counters = [Counter(b'<message') for _ in receivers]
    await sign_in(server, receivers)
    for receiver, counter in zip(receivers, counters, strict=True):
        counter.count(receiver.seen)
        receiver.on_data = counter.count
    end = time.perf_counter() + 30
    while sum(counter.total for counter in counters) < total and time.perf_counter() < end:
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.7)  # they are removed from the store after that
    return counters


BASE: dict[str, Callable[[Server, Sizes], object]] = {
    'idle': idle,
    'login': login,
    'plain': lambda server, sizes: messages(server, sizes, 'plain', False, ('1', '20', 'rich 1')),
    'tls': lambda server, sizes: messages(server, sizes, 'TLS', True, ('1', '20', 'rich 1')),
    'presence': presence,
    'offline': offline,
    'latency': latency,
}
ARCHIVE: dict[str, Callable[[Server, Sizes], object]] = {
    # Few: ejabberd's archive in Mnesia takes longer with each message a user has (1 ms at 20, on top of 0.5).
    'archive': lambda server, sizes: messages(
        server, replace(sizes, messages=sizes.messages // 4), 'archive', True, ('1', '20')
    ),
}
