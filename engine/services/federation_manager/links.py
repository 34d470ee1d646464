"""The way to one remote domain for one of ours: a bounded queue, a connection when there is something to send."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from engine.services.federation_manager.connection import Item, ServerConnection
from engine.services.federation_manager.resolver import NotFound, Target, Unreachable
from engine.supervisor import describe
from engine.xmpp.dialback import Answer
from engine.xmpp.s2s import Opened, Ready, ServerEvent, Verified, Verify
from engine.xmpp.s2s_out import InitiatingStream

if TYPE_CHECKING:
    from engine.services.federation_manager.manager import FederationManager

log = structlog.get_logger(__name__)

SHORT_LIVED_S = 5.0
"""A connection that ended so soon after it was opened counts as a failure."""
ITEM = 512
"""What a waiting stanza counts beyond its own bytes."""
_FINAL = ('host-unknown', 'host-gone', 'not-authorized', 'policy-violation', 'invalid-from')
"""Stream errors that trying again does not help: the sender is told remote-server-not-found, else -timeout."""


class Failed(Exception):
    """The way to the other server is closed: stanza error condition and text for the senders."""

    def __init__(self, condition: str, text: str) -> None:
        super().__init__(condition, text)
        self.condition = condition
        self.text = text


class Outgoing(ServerConnection):
    """A connection we made. ``ready`` is done when the features are known, ``open`` when stanzas may be sent; both also
    when the connection has ended. ``why`` tells the reason of the end."""

    stream: InitiatingStream

    def __init__(self, link: Link, target: Target) -> None:
        super().__init__(link.manager, server_side=False)
        self.link = link
        self.target = target
        self.why = ''
        self.began_at = self.manager.loop.time()
        self.ready: asyncio.Future[None] = self.manager.loop.create_future()
        self.open: asyncio.Future[None] = self.manager.loop.create_future()
        self.stream = InitiatingStream(self.manager.settings, self.on_event, link.local, link.remote)
        self.stream.on_stanza = self.deliver

    def connected(self) -> None:
        """TCP is there."""
        self.peer.domains.add(self.link.remote)
        self.manager.outgoing.add(self)
        if self.target.direct:
            self.begin_tls(True)
        else:
            self.stream.start()

    def server_name(self) -> str:
        """RFC 6120 5.4.3.2: the domain, not the host."""
        return self.link.remote

    def on_event(self, event: ServerEvent) -> None:
        """What the stream asks for."""
        match event:
            case Ready():
                _done(self.ready)
            case Opened():
                log.info(
                    'connected to server', remote=self.link.remote, local=self.link.local, address=self.address,
                    mechanism=event.mechanism, tls=self.stream.secure, bidi=event.bidi,
                )  # fmt: skip
                self.link.opened(self)
                _done(self.open)
            case Verified():
                self.link.verified(event.stream_id, event.answer)
            case _:
                super().on_event(event)

    def reason(self, text: str) -> None:
        """Why the connection ends."""
        self.why = self.why or text

    def relieved(self) -> None:
        """The peer takes bytes again."""
        self.link.drain()

    def lost(self, reason: str) -> None:
        """The connection is gone."""
        self.why = self.why or reason or 'the connection was closed'
        self.link.lost(self, self.unsent())
        _done(self.ready)
        _done(self.open)

    def failure(self) -> Failed:
        """What its end means for the senders."""
        condition, text = self.stream.refusal or ('', self.why)
        final = condition in _FINAL
        named = 'remote-server-not-found' if final else 'remote-server-timeout'
        return Failed(named, f'{self.link.remote}: {text or condition}.')


def _done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Link:
    """``connection`` is set while stanzas can be sent. Stanzas wait in ``queue`` until then, or while the peer is slow.

    After a failure stanzas are refused at once, with the reason, until ``retry_at``: parameter Shortest wait, doubled
    with every failure up to Longest wait, each varied by a quarter at random."""

    def __init__(self, manager: FederationManager, local: str, remote: str) -> None:
        self.manager = manager
        self.local = local
        self.remote = remote
        self.connection: ServerConnection | None = None
        self.queue: deque[Item] = deque()
        self.bytes = 0
        self.failures = 0
        self.retry_at = 0.0
        self.refusal = Failed('', '')
        self._attempt: Outgoing | None = None
        """The newest connection made here, open or not."""
        self._task: asyncio.Task[None] | None = None
        self._verifies: dict[str, tuple[Verify, Callable[[Verify, Answer], None], asyncio.TimerHandle]] = {}

    @property
    def idle(self) -> bool:
        """Whether it may be forgotten."""
        busy = self.connection or self._attempt or self._task or self.queue or self._verifies
        return not busy and self.manager.loop.time() >= self.retry_at

    def send(self, item: Item) -> None:
        """Send a stanza as soon as it can be."""
        connection = self.connection
        manager = self.manager
        if connection is not None and not self.queue and not connection.congested and not connection.ended:
            manager.counters.s2s_out += 1
            connection.give(item)
            return
        if connection is None and self._waits():
            refuse(item, self.refusal)
            return
        size = len(item.raw) + ITEM
        full = len(self.queue) >= manager.param('queue_stanzas') or self.bytes + size > manager.param('queue_bytes')
        if full or not manager.reserve(size):
            refuse(item, Failed('resource-constraint', f'Too much is waiting for {self.remote}. Send it again later.'))
            return
        self.queue.append(item)
        self.bytes += size
        if connection is None:
            self._start()

    def verify(self, request: Verify, done: Callable[[Verify, Answer], None]) -> None:
        """Ask the remote server, as the authoritative one of its domain, whether it made a key."""
        manager = self.manager
        if request.stream_id in self._verifies or len(self._verifies) >= manager.param('verifications'):
            done(request, Answer('resource-constraint', 'Too many requests wait for an answer.'))
            return
        attempt = self._attempt
        alive = attempt is not None and not attempt.ended
        if not alive and self._waits():
            done(request, _answer(self.refusal))
            return
        late = Answer('remote-server-timeout', f'{self.remote} does not answer.')
        timer = manager.loop.call_later(manager.param('connect_timeout_s'), self.verified, request.stream_id, late)
        self._verifies[request.stream_id] = (request, done, timer)
        if attempt is not None and alive:
            attempt.stream.verify(request.stream_id, request.key)
        else:
            self._start()

    def verified(self, stream_id: str, answer: Answer) -> None:
        """The answer of the remote server, or the end of the time for it."""
        if (found := self._verifies.pop(stream_id, None)) is not None:
            found[2].cancel()
            found[1](found[0], answer)

    def close(self) -> None:
        """The service stops: what waits is refused."""
        if self._task is not None:
            self._task.cancel()
        self._refuse_all(Failed('remote-server-timeout', 'XMPP federation stops on this node.'))

    # ---- connecting

    def _waits(self) -> bool:
        return self._task is None and self.manager.loop.time() < self.retry_at

    def _start(self) -> None:
        if self._task is None:
            self._task = self.manager.loop.create_task(self._work())

    async def _work(self) -> None:
        limit = self.manager.param('connect_timeout_s')
        try:
            async with asyncio.timeout(limit):
                await self._establish()
        except TimeoutError:
            if self._attempt is not None and not self._attempt.ended and self.connection is not self._attempt:
                self._attempt.broken('it did not accept us in time')
            self._fail(Failed('remote-server-timeout', f'{self.remote} does not answer within {limit} seconds.'))
        except Failed as failed:
            self._fail(failed)
        except Exception:
            log.exception('connecting failed', remote=self.remote)
            self._fail(Failed('internal-server-error', 'The connection to the other server failed.'))
        finally:
            self._task = None
        if self.queue and self.connection is None:  # came while the last step was under way
            self._start()

    async def _establish(self) -> None:
        attempt = self._attempt
        if attempt is None or attempt.ended:
            attempt = await self._reach()
        if not self.queue or self.connection is not None:
            return
        attempt.stream.authenticate()
        await attempt.open
        if self.connection is None:
            raise attempt.failure()

    async def _reach(self) -> Outgoing:
        """Connect to the first target that speaks XMPP."""
        manager = self.manager
        problem = Failed('remote-server-not-found', f'{self.remote} has no server.')
        try:
            targets = await manager.resolver.targets(self.remote, direct=manager.settings.security != 'none')
        except NotFound as error:
            raise Failed('remote-server-not-found', error.args[0]) from None
        except Unreachable as error:
            raise Failed('remote-server-timeout', error.args[0]) from None
        for target in targets:
            try:
                addresses = await manager.resolver.addresses(target.host)
            except NotFound as error:
                problem = Failed('remote-server-not-found', error.args[0])
                continue
            except Unreachable as error:
                problem = Failed('remote-server-timeout', error.args[0])
                continue
            for address in addresses:
                try:
                    connection = await self._open(target, address)
                except (OSError, TimeoutError) as error:
                    text = f'{target.host} port {target.port} cannot be reached: {describe(error)}'
                    problem = Failed('remote-server-timeout', text)
                    continue
                if not connection.ended:
                    return connection
                problem = connection.failure()
                if problem.condition == 'remote-server-not-found':
                    raise problem  # a decision, not a fault of this host
        raise problem

    async def _open(self, target: Target, address: str) -> Outgoing:
        manager = self.manager
        connection = Outgoing(self, target)
        try:
            async with asyncio.timeout(manager.param('target_timeout_s')):
                await manager.loop.create_connection(lambda: connection, address, target.port)
                self._attempt = connection
                for stream_id, (request, _, _) in self._verifies.items():
                    connection.stream.verify(stream_id, request.key)
                await connection.ready
        except (TimeoutError, asyncio.CancelledError):
            connection.broken('it did not answer in time')
            raise
        return connection

    # ---- what connections tell

    def opened(self, connection: ServerConnection) -> None:
        """Stanzas can be sent over ``connection``."""
        self.connection = connection
        self.failures = 0
        self.retry_at = 0.0
        self.drain()

    def drain(self) -> None:
        """Send what waits, as far as the peer takes it."""
        connection = self.connection
        while self.queue and connection is not None and not connection.congested and not connection.ended:
            for _ in range(min(64, len(self.queue))):
                item = self.queue.popleft()
                self._release(item)
                self.manager.counters.s2s_out += 1
                connection.give(item)
            connection.flush()

    def lost(self, connection: ServerConnection, unsent: list[Item]) -> None:
        """``connection`` is gone; the peer cannot have ``unsent``: they are sent again, first of all."""
        if self._attempt is connection:
            self._attempt = None
        for item in reversed(unsent):
            self.queue.appendleft(item)
            self.bytes += len(item.raw) + ITEM
            self.manager.reserve(len(item.raw) + ITEM, always=True)
        if self.connection is connection:
            self.connection = None
            short = isinstance(connection, Outgoing) and self.manager.loop.time() - connection.began_at < SHORT_LIVED_S
            if isinstance(connection, Outgoing) and short and connection.stream.refusal:
                self._fail(connection.failure())
                return
        if self._task is None:
            if isinstance(connection, Outgoing) and self._attempt is None:
                for stream_id in list(self._verifies):
                    self.verified(stream_id, _answer(connection.failure()))
            if self.queue and self.connection is None and not self.manager.stopping:
                self._start()

    def _release(self, item: Item) -> None:
        size = len(item.raw) + ITEM
        self.bytes -= size
        self.manager.free(size)

    def _fail(self, failed: Failed) -> None:
        manager = self.manager
        wait = min(manager.param('retry_most_s'), manager.param('retry_first_s') * 2.0 ** min(self.failures, 20))
        self.failures += 1
        self.refusal = failed
        self.retry_at = manager.loop.time() + wait * random.uniform(0.75, 1.25)  # noqa: S311 - no secret
        log.info('no way to server', remote=self.remote, local=self.local, reason=failed.text, wait_s=round(wait))
        self._refuse_all(failed)

    def _refuse_all(self, failed: Failed) -> None:
        queue, self.queue = self.queue, deque()
        for item in queue:
            self._release(item)
            refuse(item, failed)
        for stream_id in list(self._verifies):
            self.verified(stream_id, _answer(failed))


def refuse(item: Item, failed: Failed) -> None:
    """Tell the sender."""
    if item.failed is not None:
        item.failed(failed.condition, failed.text)


def _answer(failed: Failed) -> Answer:
    return Answer(failed.condition or 'remote-server-timeout', failed.text)
