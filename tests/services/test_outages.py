"""A node lives through the loss of its database and Redis connections, and brings dead services back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import redis

from engine.contract.config import Config, Node
from engine.contract.services import SERVICES, State
from engine.services.base import Service
from engine.supervisor import Refused, Slot, Supervisor
from tests.fixtures import data
from tests.fixtures.processes import Engine, wait_until
from tests.services.test_supervision import command, states, wait_state


def test_database_connections_are_cut(engine: Engine, make_user: Any, xmpp_client: Any) -> None:
    """The server ends every connection of the engine: sessions go on, the node stays itself, no service stops."""
    from django.db import connection

    from impadmin.system.models import Node as Row

    make_user('alice')
    make_user('bob')
    alice = xmpp_client('alice')
    with connection.cursor() as cursor:
        cursor.execute(
            'SELECT pg_terminate_backend(pid) FROM pg_stat_activity'
            " WHERE datname = current_database() AND application_name LIKE 'imp-engine%'"
        )
        assert cursor.rowcount >= 2
    alice.sync()
    before = Row.objects.get(name=data.NODE).heartbeat_at
    wait_until(lambda: Row.objects.get(name=data.NODE).heartbeat_at > before, 'heartbeat again')
    xmpp_client('bob').sync()
    assert engine.alive()
    assert set(states().values()) - {'Not Activated'} == {'Running'}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory' AND granted"
            " AND application_name = 'imp-engine-lock' AND datname = current_database()"
        )
        assert cursor.fetchone() == (1,)


def test_redis_connections_are_cut(engine: Engine) -> None:
    """The listener comes back by itself, and commands need no nudge."""
    from django.conf import settings

    client = redis.Redis.from_url(settings.REDIS_URL)
    number = client.connection_pool.connection_kwargs.get('db', 0)
    wait_state('xcp_router', 'Running')
    cut = [entry['id'] for entry in client.client_list(_type='pubsub') if int(entry['db']) == number]
    for identity in cut:
        client.client_kill_filter(_id=identity)
    assert command('restart', 'sync_agent') == ''

    def listening() -> bool:
        return any(int(entry['db']) == number for entry in client.client_list(_type='pubsub'))

    wait_until(listening, 'engine listens again')


class _Fake(Service):
    """A service that does what the test tells it."""

    fail = False

    def __init__(self, node: Any, key: str) -> None:
        self.key = key  # type: ignore[misc]
        super().__init__(node)

    async def start(self) -> None:
        if type(self).fail and self.key == 'xcp_router':
            raise OSError(98, 'port 5222 is in use')


class _FakeNode:
    config = Config(nodes=(Node(id=1, name='n', address='', publisher=True, activated=tuple(s.key for s in SERVICES)),))


@pytest.fixture
def fake_services() -> Any:
    """A supervisor over services that do nothing; (supervisor, alarms by name)."""
    alarms: dict[str, str] = {}
    node: Any = _FakeNode()

    def ignore(_slot: Slot) -> None:
        """Nobody looks."""

    supervisor = Supervisor(
        'n',
        lambda: node.config,
        lambda key: _Fake(node, key),
        ignore,
        alarms.__setitem__,
        lambda name: alarms.pop(name, None),
    )
    yield supervisor, alarms
    _Fake.fail = False


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(40):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_service_that_dies_is_started_again(fake_services: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('engine.supervisor.RETRY_FIRST_S', 0.05)
    supervisor, alarms = fake_services
    await supervisor.boot()
    with pytest.raises(Refused, match='waits until'):
        await supervisor.start('xcp_router')
    await supervisor.release()
    assert {slot.state for slot in supervisor.slots.values()} == {State.RUNNING}
    _Fake.fail = True
    supervisor.died(supervisor.running['xcp_router'], RuntimeError('out of paper'))
    slot = supervisor.slots['xcp_router']
    await until(lambda: slot.state is State.FAILED)
    assert slot.detail == 'out of paper'
    assert supervisor.slots['presence_engine'].state is State.STOPPED
    assert supervisor.slots['sync_agent'].state is State.RUNNING
    assert list(alarms) == ['ServiceFailed: Cisco XCP Router']
    await until(lambda: slot.detail == 'port 5222 is in use')
    _Fake.fail = False
    await until(lambda: supervisor.slots['xcp_connection_manager'].state is State.RUNNING)
    assert not alarms
    assert {slot.state for slot in supervisor.slots.values()} == {State.RUNNING}
    await supervisor.close()
