"""The WebSocket of the live view, from outside: who gets in, what arrives, what ends it."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from impadmin.signin.models import AdministratorSession

MINE = 987_654_321


def cookie(client: Any) -> str:
    """The session of a test client as a Cookie header."""
    return '; '.join(f'{name}={morsel.value}' for name, morsel in client.cookies.items())


async def wanted(socket: Any, kind: str, job: int | None = None) -> Any:
    """The next message of a kind. Redis channels are one for all its databases: others may be talking too."""
    async with asyncio.timeout(40):
        while True:
            message = json.loads(await socket.recv())
            assert message['type'] in ('job', 'service', 'node', 'notifications', 'ping')
            if message['type'] == kind and message.get('job') == job:
                return message


async def listening(socket: Any) -> None:
    """The console subscribes with its first socket: until it has, nothing arrives."""
    from engine.contract.events import LIVE, JobLive, encode
    from impadmin.console.generations import redis

    hello = MINE + 1
    heard = asyncio.create_task(wanted(socket, 'job', hello))
    while not heard.done():
        await asyncio.to_thread(redis().publish, LIVE, encode(JobLive(hello, 'processing', 0, 0)))
        await asyncio.wait([heard], timeout=0.1)
    await heard


def attempt(url: str, origin: str | None, headers: dict[str, str], path: str = '/ws/live/') -> int:
    """HTTP status of an attempt to open the socket; 101 when it opens."""

    async def run() -> int:
        try:
            async with connect(url.replace('http', 'ws') + path, origin=origin, additional_headers=headers):  # type: ignore[arg-type]
                return 101
        except InvalidStatus as error:
            return error.response.status_code

    return asyncio.run(run())


def test_who_gets_in(console_url: str, admin_client: Any) -> None:
    """A signed-in administrator from this console's own pages; nobody else, nowhere else."""
    session = {'Cookie': cookie(admin_client('read_only'))}
    assert attempt(console_url, console_url, session) == 101
    assert attempt(console_url, console_url, {}) == 403
    assert attempt(console_url, console_url, {'Cookie': 'sessionid=forged'}) == 403
    for origin in ('http://evil.example', 'http://127.0.0.1:1', 'null', None):
        assert attempt(console_url, origin, session) == 403
    assert attempt(console_url, console_url, session, '/ws/nothing/') == 403
    AdministratorSession.objects.update(last_seen_at=timezone.now() - timedelta(hours=2))
    assert attempt(console_url, console_url, session) == 403, 'idle for longer than the policy allows'


@pytest.mark.parametrize('role', ['administrator', 'read_only'])
def test_messages_arrive(role: str, console_url: str, admin_client: Any) -> None:
    """What is published after commit reaches the page; what is rolled back or unknown does not."""
    from engine.contract.events import LIVE, JobLive, NotificationsLive
    from impadmin.console.generations import publish, redis

    headers = {'Cookie': cookie(admin_client(role))}

    def rolled_back() -> None:
        with transaction.atomic():
            publish(JobLive(MINE, 'rolled back', 0, 0))
            raise RuntimeError

    def tell() -> None:
        with pytest.raises(RuntimeError):
            rolled_back()
        redis().publish(LIVE, 'no json')
        redis().publish(LIVE, '{"type": "unknown"}')
        with transaction.atomic():
            publish(JobLive(MINE, 'processing', 5, 10))
        publish(NotificationsLive())

    async def run() -> list[Any]:
        async with connect(
            console_url.replace('http', 'ws') + '/ws/live/', origin=console_url, additional_headers=headers
        ) as ws:  # type: ignore[arg-type]
            await listening(ws)
            await ws.send('ignored')
            await asyncio.to_thread(tell_with_database)
            return [await wanted(ws, 'job', MINE), await wanted(ws, 'notifications')]

    def tell_with_database() -> None:
        from django.db import connection

        try:
            tell()
        finally:
            connection.close()

    job, notifications = asyncio.run(run())
    assert job == {'type': 'job', 'job': MINE, 'state': 'processing', 'done': 5, 'total': 10}
    assert notifications == {'type': 'notifications'}


def test_a_save_tells_the_open_pages(console_url: str, admin_client: Any, rest: Any) -> None:
    """A saved setting reaches an open page without a reload."""
    headers = {'Cookie': cookie(admin_client('operator'))}
    call = rest('administrator')

    async def run() -> Any:
        async with connect(
            console_url.replace('http', 'ws') + '/ws/live/', origin=console_url, additional_headers=headers
        ) as ws:  # type: ignore[arg-type]
            await listening(ws)
            answer = await asyncio.to_thread(call, 'POST', '/api/v1/domains/', {'name': 'live.example'})
            assert answer.status == 201, answer.body
            return await wanted(ws, 'notifications')

    assert asyncio.run(run()) == {'type': 'notifications'}


def test_closed_when_the_console_ends(console: Any, admin_client: Any) -> None:
    """A socket does not outlive its server, and the console restarts with it open."""
    headers = {'Cookie': cookie(admin_client('operator'))}

    async def run() -> None:
        async with connect(
            console.url.replace('http', 'ws') + '/ws/live/', origin=console.url, additional_headers=headers
        ) as ws:  # type: ignore[arg-type]
            await asyncio.to_thread(console.restart)
            with pytest.raises(ConnectionClosed):
                await asyncio.wait_for(ws.recv(), 20)

    asyncio.run(run())
