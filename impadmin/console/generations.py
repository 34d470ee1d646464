"""Configuration generations: compile the models, store a new document when it differs, announce it after commit."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import msgspec
from django.conf import settings
from django.db import connection, transaction
from redis import Redis, RedisError

from engine.contract import config as contract
from engine.contract import events
from impadmin.console import audit
from impadmin.console.models import ConfigGeneration

log = logging.getLogger(__name__)
Compiler = Callable[[], contract.Config]

_LOCK = 0x494D5043
"""Key of the advisory lock that puts writers of generations in a row ('IMPC')."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_compilers: list[Compiler] = []


def register_compiler(compiler: Compiler) -> Compiler:
    """Make ``compiler`` the function that turns the models into a Config (its ``generation`` is ignored)."""
    _compilers[:] = [compiler]
    return compiler


def compiled() -> contract.Config:
    """What the models say now, uncommitted changes of this transaction included."""
    if not _compilers:
        importlib.import_module('impadmin.compile')
    return msgspec.structs.replace(_compilers[0](), generation=0)


def newest() -> contract.Config | None:
    """The newest stored generation, or None on a database that has none yet."""
    found = ConfigGeneration.objects.order_by('-number').values_list('number', 'created_at').first()
    return stored(found[0], stamp_of(found[1])) if found is not None else None


def newest_number() -> int:
    """Number of the newest stored generation; 0 when there is none."""
    return ConfigGeneration.objects.order_by('-number').values_list('number', flat=True).first() or 0


def stored(number: int, stamp: int = 0) -> contract.Config:
    """One stored generation, decoded. ``stamp``: its ``stamp_of(created_at)`` when known, which saves a query."""
    if not stamp:
        stamp = stamp_of(ConfigGeneration.objects.values_list('created_at', flat=True).get(number=number))
    return _decoded(number, stamp)


def stamp_of(created_at: datetime) -> int:
    """Microseconds since 1970. Number and stamp together name a generation even after a restored backup."""
    return (created_at - _EPOCH) // timedelta(microseconds=1)


@lru_cache(maxsize=256)
def _decoded(number: int, stamp: int) -> contract.Config:
    return contract.decode(ConfigGeneration.objects.values_list('document', flat=True).get(number=number))


def store_if_changed() -> int | None:
    """Compile and store a new generation when it differs from the newest one; call it inside the transaction.

    Returns its number, or None when nothing changed. The lock is held until commit, so numbers grow in the order in
    which generations become visible, and every generation contains all that was committed before it. A rehearsal
    stores none.
    """
    if audit.rehearsed.get() is not None:
        return None
    if not connection.in_atomic_block:
        raise transaction.TransactionManagementError('store_if_changed() needs the transaction of the change')
    with connection.cursor() as cursor:
        cursor.execute('SELECT pg_advisory_xact_lock(%s)', [_LOCK])
    config = compiled()
    last = ConfigGeneration.objects.order_by('-number').first()
    if last is not None and msgspec.structs.replace(contract.decode(last.document), generation=0) == config:
        return None
    with connection.cursor() as cursor:  # a sequence never gives a number twice, not even after a rollback
        cursor.execute("SELECT nextval(pg_get_serial_sequence('config_generation', 'number'))")
        number: int = cursor.fetchone()[0]
    document = contract.encode(msgspec.structs.replace(config, generation=number)).decode()
    ConfigGeneration.objects.create(number=number, document=document)
    announce(events.ConfigChanged(number))
    publish(events.NotificationsLive())
    return number


def announce(event: events.Event) -> None:
    """Tell the engines, after commit. It is a nudge: when Redis is away this is logged, and the engines poll."""
    transaction.on_commit(lambda: _send(events.EVENTS, event))


def publish(message: events.Live) -> None:
    """Tell the open pages, after commit (see live.py)."""
    transaction.on_commit(lambda: _send(events.LIVE, message))


@lru_cache(maxsize=1)
def redis() -> Redis:
    """The Redis client of this process."""
    return Redis.from_url(settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2)


def _send(channel: str, message: events.Event | events.Live) -> None:
    try:
        redis().publish(channel, events.encode(message))
    except (RedisError, OSError):
        log.warning('Redis did not take a message for %s', channel, exc_info=True)
