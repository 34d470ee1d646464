"""This engine beside Prosody 0.12 and ejabberd 23.01, in interleaved rounds.

    python -m tests.load [--peers] [--quick] [--rounds 5] [--only login tls]

Without DATABASE_URL and REDIS_URL it starts servers of its own (tests/load/own.py); the users of a database that is
given are replaced. As root, for the peers' users; Debian's packages prosody, lua-unbound and ejabberd. In each round
every server is started anew, alone, on core 0 (the generator has core 1), and goes through all scenarios; a second
start has the message archive on, a third speaks to other servers. A server's turn is repeated once when a fixed loop on
core 0 took more than 1.5 times as long after it as before it (or the other way round). See docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import ssl
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import uvloop

from tests.load import own, report, servers
from tests.load.federation import S2S
from tests.load.scenarios import ARCHIVE, BASE, Results, Sizes
from tests.load.servers import Server

MOVED = 1.5
SCENARIOS = {'': BASE, 'archive': ARCHIVE, 's2s': S2S}
"""By the mode a server is started in."""
FULL = Sizes(messages=20_000, sessions=10_000, sweeps=8, offline=50, logins=5, rate_s=10)


def calibrate() -> float:
    """Seconds of CPU a fixed loop takes on the servers' core; the least of three."""
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {int(servers.CORE)})
    least = 9.0
    for _ in range(3):
        began = time.thread_time()
        total = 0
        for number in range(500_000):
            total += number & 7
        least = min(least, time.thread_time() - began)
    os.sched_setaffinity(0, own)
    return least


async def through(server: Server, wanted: list[str], sizes: Sizes) -> Results:
    """All these scenarios on one freshly started server."""
    found: Results = {}
    found['empty process, MiB'] = servers.memory_kib(server.pid) / 1024
    for name in wanted:
        found |= await (BASE | ARCHIVE | S2S)[name](server, sizes)  # type: ignore[misc]
    return found


def turn(server: Server, wanted: list[str], sizes: Sizes) -> tuple[Results, float]:
    """(results, how far the machine's speed moved meanwhile)."""
    before = calibrate()
    try:
        server.start()
        time.sleep(server.settle_s)
        found = uvloop.run(through(server, wanted, sizes))
    finally:
        server.stop()
    after = calibrate()
    moved = max(after / before, before / after)
    shown = ', '.join(f'{key} {value:.4g}' for key, value in found.items())
    print(f'  {server.name} ({moved:.2f}): {shown}', flush=True)
    return found, moved


def rounds(fleet: list[tuple[Server, str]], options: argparse.Namespace, sizes: Sizes) -> list[dict[str, Results]]:
    """What every round found, by server."""
    kept: list[dict[str, Results]] = []
    for number in range(options.rounds):
        print(f'round {number + 1} of {options.rounds}, {time.strftime("%H:%M:%S")}', flush=True)
        found: dict[str, Results] = {}
        for server, mode in fleet:
            wanted = [name for name in SCENARIOS[mode] if not options.only or name in options.only]
            if number >= options.idle_rounds and 'idle' in wanted:
                wanted.remove('idle')
            if not wanted:
                continue
            for _ in range(2):
                try:
                    results, moved = turn(server, wanted, sizes)
                except (RuntimeError, OSError) as error:  # among them TimeoutError and ConnectionError
                    print(f'  failed: {server.name}: {error}', flush=True)
                    options.failed = True
                    break
                if moved <= MOVED:
                    known = found.setdefault(server.name, {})
                    known |= {key: value for key, value in results.items() if not mode or 'MiB' not in key}
                    break
                print(f'  dropped: the fixed loop moved by {moved:.2f}', flush=True)
        kept.append(found)
        if options.json:
            options.json.write_text(json.dumps(kept))
    return kept


def main() -> None:
    """Start every server in turn, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--peers', action='store_true', help='also tuned Prosody and ejabberd')
    parser.add_argument('--bare', action='store_true', help='peers without carbons, blocking and stream management')
    parser.add_argument('--untuned', action='store_true', help='also Prosody with its default garbage collection')
    parser.add_argument('--quick', action='store_true', help='short scenarios, 1,000 idle sessions: 12 minutes')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument(
        '--idle-rounds', type=int, default=0, help='rounds with idle sessions; default: quick 2, else 1'
    )
    parser.add_argument('--only', nargs='*', default=[], help=', '.join((*BASE, *ARCHIVE, *S2S)))
    parser.add_argument('--servers', nargs='*', default=[], help='of engine, "Prosody tuned", Prosody, ejabberd')
    parser.add_argument('--users', type=int, default=0, help='accounts; default: as many as are needed')
    parser.add_argument('--folder', type=Path, default=Path('/tmp/imp-load'), help="where the peers' data is kept")
    parser.add_argument('--json', type=Path, help='also write every result there')
    parser.add_argument('--write', type=Path, help='put the tables into this file, e.g. docs/performance.md')
    options = parser.parse_args()
    began = time.time()
    options.failed = False
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    sizes = Sizes() if options.quick else FULL
    options.idle_rounds = options.idle_rounds or (2 if options.quick else 1)
    count = max(options.users, sizes.users)
    options.folder.mkdir(parents=True, exist_ok=True)
    options.folder.chmod(0o755)
    makers: dict[str, Callable[[Path, int, str], Server]] = {'engine': servers.engine}
    if options.peers:
        missing = [name for name in ('prosody', 'ejabberdctl') if shutil.which(name) is None]
        if missing or os.geteuid() != 0:
            parser.error(f'--peers needs root and the Debian packages prosody and ejabberd (missing: {missing}).')
        makers['Prosody tuned'] = partial(servers.prosody, bare=options.bare)
        makers['ejabberd'] = partial(servers.ejabberd, bare=options.bare)
    if options.untuned:
        makers['Prosody'] = partial(servers.prosody, bare=options.bare, tuned=False)
    chosen = [make for name, make in makers.items() if not options.servers or name in options.servers]
    with own.servers():  # before this process is bound to a core: PostgreSQL may use both
        os.sched_setaffinity(0, {1})
        fleet = [(make(options.folder, count, mode), mode) for mode in SCENARIOS for make in chosen]
        found = rounds(fleet, options, sizes)
    text = report.table(found)
    if options.peers:
        text = f'{report.verdicts(found)}\n\n{text}'
    print(f'\n{text}')
    if options.write:
        report.write(options.write, _title(began, options), text)
    if options.failed:
        sys.exit('Not everything worked: see the lines that begin with "failed".')


def _title(began: float, options: argparse.Namespace) -> str:
    model = next(line for line in Path('/proc/cpuinfo').read_text().splitlines() if line.startswith('model name'))
    chosen = ' '.join(name for name in ('quick', 'bare', 'untuned') if getattr(options, name))
    return (
        f'{time.strftime("%Y-%m-%d %H:%M", time.gmtime(began))} UTC, {time.time() - began:.0f} s, {os.cpu_count()} x'
        f'{model.partition(":")[2]}, Linux {os.uname().release}, Python {sys.version.split()[0]}, uvloop'
        f' {uvloop.__version__}, {ssl.OPENSSL_VERSION}, {chosen or "full"} run.'
    )


if __name__ == '__main__':
    main()
