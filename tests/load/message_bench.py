"""CPU of a server per delivered message: one to one over STARTTLS, with 1 and with 20 messages in flight per pair.

    python -m tests.load.message_bench --pairs 20 --messages 20000

starts an engine of node ``imp1`` on the database of DATABASE_URL (a test database: users bench0... are made in it) and
prints a table. With ``--peer NAME:PORT:PID`` another running server is measured in the same way; there the accounts
bench0@DOMAIN ... with password ``bench`` must exist. µs are user + system time of the server's process, threads too.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import os
import signal
import ssl
import subprocess
import sys
import time
from pathlib import Path

import uvloop

PASSWORD = 'bench'
HEADER = (
    "<?xml version='1.0'?><stream:stream to='{}' version='1.0' xmlns='jabber:client'"
    " xmlns:stream='http://etherx.jabber.org/streams'>"
)


def cpu_s(pid: int) -> float:
    """User + system seconds of a process."""
    fields = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def memory_kib(pid: int) -> int:
    """Resident memory."""
    return int(Path(f'/proc/{pid}/statm').read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE') // 1024


class Client:
    """One signed-in client; counts the messages it gets."""

    def __init__(self, jid: str) -> None:
        self.jid = jid
        self.got = 0

    async def login(self, port: int) -> None:
        """Sign in and become available."""
        self.reader, self.writer = await asyncio.open_connection('127.0.0.1', port, limit=2**22)
        user, _, domain = self.jid.partition('@')
        await self._ask(HEADER.format(domain), b'</stream:features>')
        await self._ask("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>", b'<proceed')
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        await self.writer.start_tls(context)
        await self._ask(HEADER.format(domain), b'</stream:features>')
        token = base64.b64encode(f'\0{user}\0{PASSWORD}'.encode()).decode()
        await self._ask(f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{token}</auth>", b'<success')
        await self._ask(HEADER.format(domain), b'</stream:features>')
        await self._ask(
            "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>r</resource></bind></iq>",
            b'</iq>',
        )
        await self._ask('<presence/>', b'presence')

    async def _ask(self, text: str, needle: bytes) -> None:
        self.writer.write(text.encode())
        seen = b''
        while needle not in seen:
            data = await self.reader.read(65536)
            if not data:
                raise ConnectionError(f'{self.jid}: closed, last {seen[-300:]!r}')
            seen += data

    async def send_to(self, other: Client, count: int, in_flight: int) -> None:
        """Send ``count`` messages, each as soon as fewer than ``in_flight`` are on their way."""
        raw = f"<message to='{other.jid}/r' type='chat' id='0'><body>{'x' * 80}</body></message>".encode()
        sent = other.got = 0
        rest = b''
        while other.got < count:
            room = min(count - sent, in_flight - (sent - other.got))
            if room > 0:
                self.writer.write(raw * room)
                sent += room
            data = rest + await other.reader.read(2**20)
            other.got += data.count(b'</message>')
            rest = data[data.rfind(b'</message>') + 10 :] if b'</message>' in data else data


async def measure(port: int, pid: int, domain: str, pairs: int, messages: int) -> list[tuple[str, str]]:
    """(what, result) rows."""
    before = memory_kib(pid)
    clients = [Client(f'bench{number}@{domain}') for number in range(2 * pairs)]
    started = cpu_s(pid)
    for client in clients:
        await client.login(port)
    rows = [('login (PLAIN, TLS handshake)', f'{(cpu_s(pid) - started) / len(clients) * 1000:.2f} ms CPU each')]
    rows.append(('memory per session', f'{(memory_kib(pid) - before) / len(clients):.0f} KiB'))
    couples = list(zip(clients[::2], clients[1::2], strict=True))
    for in_flight in (1, 20):
        each = messages // pairs
        for round_number in range(3):
            started, clock = cpu_s(pid), time.perf_counter()
            await asyncio.gather(*(one.send_to(other, each, in_flight) for one, other in couples))
            used, took = cpu_s(pid) - started, time.perf_counter() - clock
            delivered = each * pairs
            rows.append(
                (
                    f'{in_flight} in flight, round {round_number + 1}',
                    f'{used / delivered * 1e6:.1f} µs CPU per message, {delivered / took:,.0f} messages/s',
                )
            )
    return rows


def prepare(pairs: int) -> str:
    """Users bench0 ... on node imp1 of the database; the default domain."""
    os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'impadmin.settings')
    import django

    django.setup()
    from engine.contract.credentials import verifiers
    from impadmin.presence.models import AdvancedSettings
    from impadmin.system.models import Node
    from impadmin.ucm.models import EndUser
    from tests.fixtures import data

    if not Node.objects.exists():
        data.install()
    domain = AdvancedSettings.objects.get(pk=1).default_domain
    stored = verifiers(PASSWORD)
    node = Node.objects.get(name=data.NODE)
    for number in range(2 * pairs):
        name = f'bench{number}'
        values = {
            'last_name': name,
            'home_node': node,
            'im_address': f'{name}@{domain}',
            'credentials': stored,
        }
        EndUser.objects.update_or_create(user_id=name, defaults=values)
    return domain


def main() -> None:
    """Run the engine, or measure a peer, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--pairs', type=int, default=20)
    parser.add_argument('--messages', type=int, default=20_000)
    parser.add_argument('--peer', action='append', default=[], help='NAME:PORT:PID of another server')
    parser.add_argument('--domain', default='localhost', help='domain of the peers')
    options = parser.parse_args()
    port, domain = 15322, prepare(options.pairs)
    environment = dict(os.environ, IMP_CLIENT_PORT=str(port), IMP_DIRECT_TLS_PORT='0', IMP_LOG_LEVEL='warning')
    engine = subprocess.Popen([sys.executable, 'manage.py', 'engine', '--node', 'imp1'], env=environment)
    try:
        time.sleep(4)
        table = [('engine', measure(port, engine.pid, domain, options.pairs, options.messages))]
        for peer in options.peer:
            name, peer_port, pid = peer.split(':')
            table.append((name, measure(int(peer_port), int(pid), options.domain, options.pairs, options.messages)))
        for name, work in table:
            for what, result in uvloop.run(work):
                print(f'{name:10} {what:32} {result}')
    finally:
        engine.send_signal(signal.SIGTERM)
        engine.wait(15)


if __name__ == '__main__':
    main()
