"""Live view: jobs, services and nodes tell open pages what happens, through Redis and one WebSocket per page.

One Redis subscription per process feeds every socket. What a role may not read it does not get. A slow page loses the
oldest messages, never the newest: each message is a nudge or the latest state, the pages themselves hold the truth.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any
from urllib.parse import urlsplit

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings
from django.http.request import split_domain_port, validate_host
from redis import RedisError
from redis.asyncio import Redis

from engine.contract import events
from impadmin.console import registry
from impadmin.console.access import NOBODY, OPEN_STEPS, may
from impadmin.console.generations import publish
from impadmin.console.models import Administrator
from impadmin.signin import sessions

__all__ = ['LiveConsumer', 'publish']

log = logging.getLogger(__name__)
NEEDS = {
    'job': 'job-scheduler',
    'service': 'control-center',
    'node': 'control-center',
    'notifications': 'notifications',
}
"""Message type -> page that shows it: who may see the page gets the message; other types are for nobody."""
HEARTBEAT_S = 25.0
CHECK_S = 60.0
"""How often an open socket looks whether its session still stands."""
QUEUE = 200
RETRY_S = 1.0


class Hub:
    """The sockets of this process and the one subscription that feeds them."""

    def __init__(self) -> None:
        self.sockets: set[LiveConsumer] = set()
        self._task: asyncio.Task[None] | None = None

    def add(self, socket: LiveConsumer) -> None:
        """Feed ``socket``."""
        self.sockets.add(socket)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._listen(), name='live')

    def remove(self, socket: LiveConsumer) -> None:
        """Stop feeding ``socket``; without sockets the subscription ends."""
        self.sockets.discard(socket)
        if not self.sockets and self._task is not None:
            self._task.cancel()
            self._task = None

    def spread(self, text: str) -> None:
        """Give one message to every socket that may read it."""
        try:
            kind = json.loads(text).get('type', '')
        except (ValueError, AttributeError):
            return
        if (page := NEEDS.get(kind)) is None:
            return
        for socket in self.sockets:
            if may(socket.grants, registry.page(page)):
                socket.offer(text)

    async def _listen(self) -> None:
        missed = False
        while True:
            try:
                async with Redis.from_url(settings.REDIS_URL) as client, client.pubsub() as subscription:
                    await subscription.subscribe(events.LIVE)
                    if missed:  # messages were lost: let the pages ask again
                        self.spread(events.encode(events.NotificationsLive()).decode())
                    async for message in subscription.listen():
                        if message['type'] == 'message':
                            self.spread(message['data'].decode())
            except (RedisError, OSError, UnicodeDecodeError):
                missed = True
                log.warning('live view: Redis is away, trying again', exc_info=True)
                await asyncio.sleep(RETRY_S)


_hubs: dict[asyncio.AbstractEventLoop, Hub] = {}


def hub() -> Hub:
    """The hub of the running loop."""
    return _hubs.setdefault(asyncio.get_running_loop(), Hub())


class LiveConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]
    """``/ws/live/``: sends messages of ``engine.contract.events.Live`` as JSON, and ``{"type": "ping"}`` when idle."""

    grants = NOBODY

    async def connect(self) -> None:
        """Accept a signed-in administrator whose page comes from this console; refuse everybody else (HTTP 403)."""
        user = self.scope.get('user')
        if not same_origin(self.scope) or not isinstance(user, Administrator) or not user.is_active:
            await self.close()
            return
        if await database_sync_to_async(self._is_shut_out)():
            await self.close()
            return
        self.grants = await database_sync_to_async(lambda: user.grants)()
        self.queue: asyncio.Queue[str] = asyncio.Queue(QUEUE)
        await self.accept()
        self.writer = asyncio.create_task(self._write(), name='live-socket')
        hub().add(self)

    def _is_shut_out(self) -> bool:
        """Whether the session still has steps of signing in before it, or is over."""
        session = self.scope['session']
        return bool(session.get(OPEN_STEPS)) or not sessions.stands(session.session_key)

    async def disconnect(self, code: int) -> None:
        """The page is gone."""
        hub().remove(self)
        if (writer := getattr(self, 'writer', None)) is not None:
            writer.cancel()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Pages have nothing to say; what comes is ignored."""

    def offer(self, text: str) -> None:
        """Queue a message; when the page is too slow the oldest one goes."""
        if self.queue.full():
            self.queue.get_nowait()
        self.queue.put_nowait(text)

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        check_at = loop.time() + CHECK_S
        while True:
            try:
                text = await asyncio.wait_for(self.queue.get(), HEARTBEAT_S)
            except TimeoutError:
                text = '{"type":"ping"}'
            if loop.time() >= check_at:
                if not await self._still_signed_in():
                    await self.close(4401)
                    return
                check_at = loop.time() + CHECK_S
            await self.send(text_data=text)

    @database_sync_to_async  # type: ignore[untyped-decorator]
    def _still_signed_in(self) -> bool:
        """Whether the session and the user behind the socket still stand; takes over changed roles."""
        session = self.scope['session']
        user = Administrator.objects.filter(pk=self.scope['user'].pk, is_active=True).first()
        if user is None or not session.exists(session.session_key) or not sessions.stands(session.session_key):
            return False
        self.grants = user.grants
        return True


def same_origin(scope: dict[str, Any]) -> bool:
    """Whether the page that opens the socket came from this console (or a trusted origin)."""
    headers = {name.decode('latin-1').lower(): value.decode('latin-1') for name, value in scope['headers']}
    origin, host = headers.get('origin', ''), headers.get('host', '')
    if origin in settings.CSRF_TRUSTED_ORIGINS:
        return True
    domain, _port = split_domain_port(host)
    if not domain or not validate_host(domain, settings.ALLOWED_HOSTS):
        return False
    return bool(urlsplit(origin).netloc.lower() == host.lower())
