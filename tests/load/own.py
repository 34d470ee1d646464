"""The servers of a measurement: those of DATABASE_URL and REDIS_URL, or, without these, servers of its own.

Its own run as those of ``make run`` do: PostgreSQL flushes every commit, Redis has every write on disk before it
answers. Their data is in a folder below IMP_VAR (``var/``), so on the same disk, and goes with them. Importing this
module completes the environment; whoever measures imports it before everything else of the tests and of the console.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from impadmin import embedded
from tests.fixtures.embedding import running

ROOT = Path(__file__).resolve().parents[2]


class Place(NamedTuple):
    """Where what is not given runs."""

    folder: Path
    postgres: bool
    redis: bool


def _place() -> Place:
    folder = Path(os.environ.get('IMP_VAR') or ROOT / 'var').resolve() / f'load-{os.getpid()}'
    found = Place(folder, 'DATABASE_URL' not in os.environ, 'REDIS_URL' not in os.environ)
    os.environ.setdefault('DATABASE_URL', f'postgresql://postgres@/imp?host={folder}/run')
    os.environ.setdefault('REDIS_URL', f'unix://{folder}/run/redis.sock?db=0')
    if found.postgres:
        os.environ['IMP_VAR'] = str(folder)
    return found


PLACE = _place()


@contextlib.contextmanager
def servers() -> Iterator[None]:
    """Start what the environment does not name; end it afterwards, also after SIGTERM. The database has its tables."""
    folder, postgres, redis = PLACE
    os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'impadmin.settings')
    os.chdir(ROOT)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    wanted = []
    try:
        if postgres or redis:
            (folder / 'run').mkdir(mode=0o755, parents=True)
            print(f'own servers, in {folder}', file=sys.stderr, flush=True)
        if postgres:
            wanted.append(embedded.postgres(folder / 'postgres', folder / 'run', 'max_connections=200'))
        if redis:
            wanted.append(embedded.redis_server(folder / 'redis', folder / 'run' / 'redis.sock'))
        with running(wanted, folder):
            if postgres:
                embedded.ensure_database(folder / 'run', 'imp')
            import django

            django.setup()
            from django.core.management import call_command

            call_command('migrate', verbosity=0)
            yield
    except embedded.CannotStart as error:
        sys.exit(str(error))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if settings := sys.modules.get('tests.settings'):
            shutil.rmtree(settings.FOLDER, ignore_errors=True)
