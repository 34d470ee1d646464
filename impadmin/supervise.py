"""``make run``: starts everything on one machine, keeps it running, and stops all of it again.

Order: PostgreSQL and Redis (embedded, unless DATABASE_URL and REDIS_URL name others), migrations and first-time setup,
then console, workers, beat and one engine node. A process that ends is started again with growing delay. What runs is
recorded with its start time, so that the next run ends what a killed supervisor left behind. docs/operate.md lists
every setting and how to run the same processes under another supervisor.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import json
import logging
import logging.handlers
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import psycopg
import redis

from impadmin import embedded
from impadmin.embedded import CannotStart
from impadmin.translations import compile_translations

ROOT = Path(__file__).resolve().parent.parent
VAR = Path(os.environ.get('IMP_VAR') or ROOT / 'var').resolve()
BACK_OFF_S = (1, 2, 4, 8, 15, 30)
STEADY_S = 60
"""A process that ran this long starts again without a grown delay."""
LISTENERS = {
    'IMP_NODE_NAME': '--node',
    'IMP_CLIENT_PORT': '--client-port',
    'IMP_DIRECT_TLS_PORT': '--direct-tls-port',
    'IMP_BIND': '--address',
}
APPLIED = {'IMP_CLIENT_PORT', 'IMP_DIRECT_TLS_PORT', 'IMP_BIND', 'IMP_ADMIN_PASSWORD'}
"""Settings that are stored before the processes start: these do not get them, so that the console has the last word."""
STOP_S = 20
READY_S = 60


def say(text: str) -> None:
    """One line of our own to the terminal."""
    print(f'imp        | {text}', flush=True)  # noqa: T201


@dataclass
class Child:
    """One supervised process. ``stage``: those of a higher stage are stopped first; ``says`` is in its output when it
    does its work."""

    name: str
    command: tuple[str, ...]
    stage: int
    user: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    says: str = ''
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    process: asyncio.subprocess.Process | None = None
    keeper: asyncio.Task[None] | None = None
    log: logging.Logger = field(init=False)

    def __post_init__(self) -> None:
        folder = VAR / 'log'
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        handler = logging.handlers.RotatingFileHandler(
            folder / f'{self.name}.log', maxBytes=10_000_000, backupCount=5, encoding='utf-8'
        )
        handler.setFormatter(logging.Formatter('%(message)s'))
        self.log = logging.getLogger(f'imp.child.{self.name}')
        self.log.propagate = False
        self.log.setLevel(logging.INFO)
        self.log.addHandler(handler)

    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process is not None and self.process.returncode is None


def start_time(pid: int) -> str:
    """Start time of a process in clock ticks since boot, with the boot's id; '' when there is no such process."""
    try:
        ticks = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[19]
        return f'{Path("/proc/sys/kernel/random/boot_id").read_text().strip()}:{ticks}'
    except OSError:
        return ''


def end_leftovers(record: Path) -> None:
    """End the processes a killed supervisor left behind: same process id and same start time as recorded."""
    try:
        entries: list[dict[str, Any]] = json.loads(record.read_text())
    except (OSError, ValueError):
        return
    left = [entry for entry in entries if entry['started'] and start_time(entry['pid']) == entry['started']]
    for entry in reversed(left):
        say(f'Ending {entry["name"]} (process {entry["pid"]}), left by a run that was killed.')
        _signal_group(entry['pid'], entry['signal'])
        deadline = time.monotonic() + STOP_S
        while start_time(entry['pid']) == entry['started'] and time.monotonic() < deadline:
            time.sleep(0.05)
        _signal_group(entry['pid'], signal.SIGKILL)
    record.unlink(missing_ok=True)


def _signal_group(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def check_port(address: str, port: int, setting: str) -> None:
    """Raise CannotStart naming ``setting`` when nobody could listen on the port."""
    family = socket.AF_INET6 if ':' in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            raise CannotStart(
                f'Port {port} on {address} cannot be used ({error.strerror}). '
                f'Choose another with {setting}, for example: {setting}={port + 1000} make run'
            ) from error


def number(name: str, default: int) -> int:
    """A port number from the environment. Raises CannotStart when it is none."""
    text = os.environ.get(name, '') or str(default)
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise CannotStart(f'{name}={text} is no port number: use 1 to 65535.')
    return int(text)


class Supervisor:
    """Everything one run owns."""

    def __init__(self) -> None:
        self.children: list[Child] = []
        self.record = VAR / 'supervisor.json'
        self.stopping = asyncio.Event()
        self.in_a_hurry = asyncio.Event()

    # --- processes -------------------------------------------------------------------------------------------------

    async def start(self, child: Child) -> None:
        """Start ``child`` and keep it running."""
        self.children.append(child)
        await self._spawn(child)
        child.keeper = asyncio.create_task(self._keep(child))

    async def _spawn(self, child: Child) -> None:
        child.process = await asyncio.create_subprocess_exec(
            *child.command, cwd='/' if child.user else ROOT, user=child.user, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, limit=1 << 20,
            env={name: value for name, value in os.environ.items() if name not in APPLIED},
        )  # fmt: skip
        self._write_record()

    def _write_record(self) -> None:
        entries = [
            {
                'name': child.name,
                'pid': child.process.pid,
                'started': start_time(child.process.pid),
                'signal': int(child.stop_signal),
            }
            for child in self.children
            if child.process is not None and child.alive()
        ]
        temporary = self.record.with_suffix('.new')
        temporary.write_text(json.dumps(entries, indent=1))
        temporary.replace(self.record)

    async def _keep(self, child: Child) -> None:
        failures = 0
        while True:
            began = time.monotonic()
            assert child.process is not None
            output = asyncio.create_task(self._forward_output(child))
            status = await child.process.wait()
            _signal_group(child.process.pid, signal.SIGKILL)  # its own children must not outlive it
            await asyncio.wait([output], timeout=2)
            output.cancel()
            if self.stopping.is_set():
                return
            failures = 0 if time.monotonic() - began > STEADY_S else failures + 1
            delay = BACK_OFF_S[min(failures, len(BACK_OFF_S)) - 1] if failures else BACK_OFF_S[0]
            how = f'was ended by {signal.Signals(-status).name}' if status < 0 else f'ended with status {status}'
            say(f'{child.name} {how}; starting it again in {delay} s (log: {VAR}/log/{child.name}.log)')
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self.stopping.wait()
                    return
            await self._spawn(child)

    async def _forward_output(self, child: Child) -> None:
        assert child.process is not None
        assert child.process.stdout is not None
        while True:
            try:
                line = await child.process.stdout.readline()
            except ValueError:
                line = b'(a line longer than 1 MiB was left out)\n'
            if not line:
                return
            text = line.decode(errors='replace').rstrip()
            child.log.info(text)
            if child.says and child.says in text:
                child.ready.set()
            print(f'{child.name:<10} | {text}', flush=True)  # noqa: T201

    async def stop(self) -> None:
        """Stop everything, latest stage first. PostgreSQL comes last, and always gets the time it needs."""
        self.stopping.set()
        for stage in sorted({child.stage for child in self.children}, reverse=True):
            await asyncio.gather(*(self._stop(child) for child in self.children if child.stage == stage))
        self.record.unlink(missing_ok=True)

    async def _stop(self, child: Child) -> None:
        process = child.process
        if process is not None and child.alive():
            _signal_group_leader(process, child.stop_signal)
            waiting = asyncio.create_task(process.wait())
            hurry = asyncio.create_task(self.in_a_hurry.wait())
            patience = [waiting] if child.stage == 0 else [waiting, hurry]
            await asyncio.wait(patience, timeout=STOP_S, return_when=asyncio.FIRST_COMPLETED)
            hurry.cancel()
            if not waiting.done():
                if not self.in_a_hurry.is_set():
                    say(f'{child.name} did not end within {STOP_S} s and is killed.')
                _signal_group(process.pid, signal.SIGKILL)
            await waiting
        if child.keeper is not None:
            # The keeper may be between two starts, or reading the last lines.
            with contextlib.suppress(TimeoutError, asyncio.CancelledError):
                await asyncio.wait_for(child.keeper, 5)

    # --- the run ---------------------------------------------------------------------------------------------------

    async def servers(self) -> None:
        """Start the embedded servers that no URL replaces; wait until the others answer."""
        run = VAR / 'run'
        run.mkdir(mode=0o700, parents=True, exist_ok=True)
        if 'DATABASE_URL' not in os.environ:
            first = not (VAR / 'postgres' / 'PG_VERSION').exists()
            say('Preparing a new PostgreSQL database ...' if first else 'Starting PostgreSQL ...')
            server = embedded.postgres(VAR / 'postgres', run, 'max_connections=200')
            await self._start_server(server, signal.SIGINT)
            embedded.ensure_database(run, 'imp')
        else:
            await _reach_database(os.environ['DATABASE_URL'])
        if 'REDIS_URL' not in os.environ:
            say('Starting Redis ...')
            await self._start_server(embedded.redis_server(VAR / 'redis', run / 'redis.sock'), signal.SIGTERM)
        else:
            await _reach_redis(os.environ['REDIS_URL'])

    async def _start_server(self, server: embedded.Server, stop_signal: signal.Signals) -> None:
        child = Child(server.name, server.command, 0, server.user, stop_signal)
        await self.start(child)
        await asyncio.to_thread(embedded.wait_ready, server, child.alive)

    async def manage(self, *arguments: str) -> str:
        """Run one ``manage.py`` command to its end; its standard output. Raises CannotStart when it fails."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, 'manage.py', *arguments, cwd=ROOT, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        try:
            output, errors = await process.communicate()
        except asyncio.CancelledError:
            process.kill()
            await process.wait()
            raise
        if process.returncode:
            log = VAR / 'log' / 'setup.log'
            log.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            log.write_bytes(output + errors)
            last = (errors.decode(errors='replace').strip().splitlines() or ['no message'])[-1]
            raise CannotStart(f'manage.py {" ".join(arguments)} failed: {last} (everything it said: {log})')
        return output.decode(errors='replace')

    async def run(self, demo: bool) -> None:
        """Start everything and print where it is."""
        address = os.environ.get('IMP_CONSOLE_ADDRESS', '') or '127.0.0.1'
        port = number('IMP_CONSOLE_PORT', 8000)
        check_port(address, port, 'IMP_CONSOLE_PORT')
        for name in ('IMP_CLIENT_PORT', 'IMP_DIRECT_TLS_PORT'):
            number(name, 1)
        await self.servers()
        say('Bringing the database up to date ...')
        await self.manage('migrate', '--noinput', '--verbosity', '1')
        setup = await self.manage('imp_setup')
        people = ''
        if demo:
            say('Adding the demonstration organisation ...')
            people = await self.manage('imp_demo')
        listeners = json.loads(await self.manage('imp_listeners', *listener_options()))
        check_port(listeners['address'], listeners['client_port'], 'IMP_CLIENT_PORT')
        check_port(listeners['address'], listeners['direct_tls_port'], 'IMP_DIRECT_TLS_PORT')
        say('Starting console, workers and engine ...')
        for child in application(address, port, listeners['node']):
            await self.start(child)
        await self._wait_until_ready()
        print(summary(address, port, listeners, setup, people), flush=True)  # noqa: T201

    async def _wait_until_ready(self) -> None:
        waiting = {child.name: child for child in self.children if child.says}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(READY_S):
                for child in waiting.values():
                    await child.ready.wait()
        for name in (name for name, child in waiting.items() if not child.ready.is_set()):
            say(f'{name} is not ready after {READY_S} s: see {VAR}/log/{name}.log')


def _signal_group_leader(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    # Only the leader: PostgreSQL, uvicorn and Celery tell their own children, in their own order.
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)


async def _reach_database(url: str) -> None:
    say('Reaching PostgreSQL at DATABASE_URL ...')
    try:
        connection = await psycopg.AsyncConnection.connect(url, connect_timeout=10)
    except psycopg.Error as error:
        raise CannotStart(f'PostgreSQL at DATABASE_URL cannot be used: {str(error).strip()}') from error
    await connection.close()


async def _reach_redis(url: str) -> None:
    say('Reaching Redis at REDIS_URL ...')
    try:
        async with redis.asyncio.Redis.from_url(url, socket_connect_timeout=10) as client:
            await client.ping()
    except (redis.RedisError, OSError, ValueError) as error:
        raise CannotStart(f'Redis at REDIS_URL cannot be used: {error}') from error


def listener_options() -> list[str]:
    """Options of ``manage.py imp_listeners`` for what the environment asks to change."""
    return [part for name, option in LISTENERS.items() if os.environ.get(name) for part in (option, os.environ[name])]


def application(address: str, port: int, node: str) -> list[Child]:
    """Our own processes, in the order in which they start."""
    python = sys.executable
    # Celery's advice against root is no news to somebody who runs the whole product as root on his machine.
    celery = (python, '-W', "ignore:You're running the worker", '-m', 'celery', '-A', 'impadmin', '--quiet')
    worker = (*celery, 'worker', '--loglevel', 'INFO', '--without-gossip', '--without-mingle')
    console = (python, '-m', 'uvicorn', 'impadmin.asgi:application', '--host', address, '--port', str(port))
    names = [f'{queue}-{os.getpid()}@%h' for queue in ('bulk', 'worker')]
    return [
        Child('console', (*console, '--no-access-log', '--timeout-graceful-shutdown', '5'), 1, says='Uvicorn running'),
        Child('bulk', (*worker, '-Q', 'bat', '--concurrency', '1', '-n', names[0]), 1, says=' ready.'),
        Child('worker', (*worker, '-Q', 'default', '--concurrency', '2', '-n', names[1]), 1, says=' ready.'),
        Child('beat', (*celery, 'beat', '--loglevel', 'WARNING', '--pidfile='), 1),
        Child('engine', (python, 'manage.py', 'engine', '--node', node), 2, says='listening on'),
    ]


def summary(address: str, port: int, listeners: dict[str, Any], setup: str, people: str = '') -> str:
    """The table printed when everything runs."""
    host = {'0.0.0.0': socket.gethostname(), '::': socket.gethostname()}.get(address, address)  # noqa: S104
    url = f'http://[{host}]:{port}' if ':' in host else f'http://{host}:{port}'
    domain = listeners['domain']
    if domain == 'DOMAIN.NOT.SET':
        domain = 'not set yet: Presence > Settings > Advanced Configuration'
    log_in, demo = ([line.strip() for line in said.splitlines() if line.strip()] for said in (setup, people))
    log_in = log_in or ['with your administrator account (forgotten: manage.py createadmin NAME --reset)']
    rows = [
        ('Console', f'{url}/'),
        ('REST documentation', f'{url}/api/docs/'),
        ('XMPP', f'{listeners["address"]} port {listeners["client_port"]} (STARTTLS), '
                 f'{listeners["direct_tls_port"]} (direct TLS)'),
        ('IM domain', domain),
        *(('' if place else 'Log in', line) for place, line in enumerate(log_in)),
        *(('' if place else 'Demonstration', line) for place, line in enumerate(demo)),
        ('Stop', 'Ctrl-C'),
    ]  # fmt: skip
    width = max(len(name) for name, _ in rows)
    lines = [f'  {name:<{width}}   {text}'.rstrip() for name, text in rows]
    rule = '-' * min(100, max(map(len, lines)))
    return '\n'.join(['', rule, *lines, rule, ''])


def lock() -> IO[str]:
    """Hold the only right to run on this folder. Raises CannotStart when another supervisor has it."""
    VAR.mkdir(mode=0o755, parents=True, exist_ok=True)
    file = (VAR / 'supervisor.lock').open('a+')
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.seek(0)
        raise CannotStart(
            f'It runs already (process {file.read().strip()}) with the data in {VAR}. Stop it there with Ctrl-C, '
            'or give this one its own folder with IMP_VAR.'
        ) from None
    file.seek(0)
    file.truncate()
    file.write(str(os.getpid()))
    file.flush()
    return file


async def supervise(demo: bool) -> int:
    """The whole run; the exit status."""
    supervisor = Supervisor()
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()

    def on_signal() -> None:
        if asked.is_set():
            supervisor.in_a_hurry.set()
        asked.set()

    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(name, on_signal)
    starting = asyncio.create_task(supervisor.run(demo))
    waiting = asyncio.create_task(asked.wait())
    status = 0
    try:
        await asyncio.wait([starting, waiting], return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            await waiting
    except CannotStart as error:
        say(str(error))
        status = 1
    starting.cancel()
    with contextlib.suppress(asyncio.CancelledError, CannotStart):
        await starting
    if supervisor.children:
        say('Stopping ...')
        await supervisor.stop()
        say('Everything is stopped.')
    return status


def main() -> int:
    """Command line: ``python -m impadmin.supervise [--demo]``."""
    parser = argparse.ArgumentParser(prog='make run', description='Run console, workers, engine and their servers.')
    parser.add_argument('--demo', action='store_true', help='add the demonstration organisation first')
    options = parser.parse_args()
    os.umask(0o022)  # root's PostgreSQL user must be able to read its programs
    os.environ['IMP_VAR'] = str(VAR)
    (VAR / 'staticfiles').mkdir(mode=0o755, parents=True, exist_ok=True)  # whitenoise warns when it is missing
    try:
        held = lock()
        end_leftovers(VAR / 'supervisor.json')
        compile_translations(ROOT / 'impadmin' / 'locale')
        with held:
            return asyncio.run(supervise(options.demo))
    except CannotStart as error:
        say(str(error))
        return 1


if __name__ == '__main__':
    raise SystemExit(main())
