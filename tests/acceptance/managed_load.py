"""Clients with stream management under load, for test_kill9_under_load: they lose the server, come back, send again
what was not acknowledged, and write down everything they were promised and got."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import random
import re
import time
from collections import deque
from dataclasses import dataclass, field

from tests.fixtures import data
from tests.fixtures.tls import trusting

STREAM = (
    f"<stream:stream to='{data.DOMAIN}' version='1.0' xmlns='jabber:client'"
    " xmlns:stream='http://etherx.jabber.org/streams'>"
).encode()
TOKEN = re.compile(
    rb'<(?:(?P<stanza>message|presence|iq)\b[^>]*?(?:/>|>.*?</(?P=stanza)>)'
    rb"|a xmlns='urn:xmpp:sm:3' h='(?P<h>\d+)'/>|(?P<r>r) xmlns='urn:xmpp:sm:3'/>)",
    re.DOTALL,
)
ID = re.compile(rb"^<message[^>]* id='([^']+)'")
IN_FLIGHT = 20


@dataclass
class Record:
    """What all clients together know. ``acknowledged``: ids the server took over, with the receiver. ``received``: id
    -> (receiver, time, session) of each copy. ``confirmed``: (receiver, id) -> when the receiver acknowledged it first.
    ``repeated``: sent again in a new session, because the server died before it had acknowledged them: two messages for
    the server, one for a client that looks at the id. ``broken``: sessions that could not be resumed."""

    acknowledged: dict[str, str] = field(default_factory=dict)
    received: dict[str, list[tuple[str, float, str]]] = field(default_factory=dict)
    confirmed: dict[tuple[str, str], float] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    repeated: set[str] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)


class LoadClient:
    """One user with one client. ``targets``: whom it writes to (user ids); a receiver has none. ``ports``: the nodes,
    tried in turn."""

    def __init__(self, record: Record, ports: list[int], user: str, targets: list[str], chance: random.Random) -> None:
        self.record, self.ports, self.user, self.targets, self.chance = record, ports, user, targets, chance
        self.attempts = 0
        self.sending = bool(targets)
        self.stopped = False
        self.unacknowledged: deque[tuple[str, str, bytes]] = deque()
        self.base = 0
        """Stanzas this client has sent in the session before the first of ``unacknowledged``."""
        self.h = 0
        self.number = 0
        self.session = ''
        self.resumed = 0
        self.signed_in = asyncio.Event()
        self.served = False
        """Whether the last connection came so far: the next one is tried at the same node."""
        self._resume = ''
        self._fresh: list[str] = []
        self._writer: asyncio.StreamWriter | None = None

    async def run(self) -> None:
        """Until ``stopped``: connect, work, connect again."""
        while not self.stopped:
            try:
                await self._live()
            except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError, EOFError):
                pass
            finally:
                self.signed_in.clear()
                if self._writer is not None:
                    self._writer.transport.abort()
            self.attempts += not self.served
            await asyncio.sleep(0.05)

    def cut(self) -> None:
        """Lose the connection."""
        if self._writer is not None:
            self._writer.transport.abort()

    async def _until(self, needle: bytes) -> bytes:
        return await asyncio.wait_for(self._reader.readuntil(needle), 10)

    def _say(self, text: bytes) -> None:
        assert self._writer is not None
        self._writer.write(text)

    async def _live(self) -> None:
        port = self.ports[self.attempts % len(self.ports)]
        self.served = False
        self._reader, self._writer = await asyncio.open_connection('127.0.0.1', port, ssl=trusting(), limit=1 << 22)
        self._say(STREAM)
        await self._until(b'</stream:features>')
        token = base64.b64encode(f'\0{self.user}\0{data.PASSWORD}'.encode())
        self._say(b"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>%b</auth>" % token)
        if b'<success' not in await self._until(b'>'):
            raise EOFError
        self._say(STREAM)
        await self._until(b'</stream:features>')
        if self._resume:
            self._say(f"<resume xmlns='urn:xmpp:sm:3' previd='{self._resume}' h='{self.h}'/>".encode())
            answer = await self._until(b'>')
            if b'<resumed' in answer:
                self.resumed += 1
                self._acknowledged(int(re.findall(rb"h='(\d+)'", answer)[0]))
                self._again()
                await self._work()
                return
            await self._until(b'</failed>')
            self.record.broken.add(self.session)
        self._say(
            b"<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>"
            b'<resource>load</resource></bind></iq>'
        )
        await self._until(b'</iq>')
        self._say(b"<enable xmlns='urn:xmpp:sm:3' resume='true'/>")
        answer = await self._until(b'/>')
        self._resume = re.findall(rb" id='([^']+)'", answer)[0].decode()
        self.session, self.h, self._fresh = self._resume, 0, []
        self._say(b'<presence/>')
        self.base = 1
        self.record.repeated.update(name for name, _, _ in self.unacknowledged)
        self._again()
        await self._work()

    def _again(self) -> None:
        for _, _, stanza in self.unacknowledged:
            self._say(stanza)
        self._say(b"<r xmlns='urn:xmpp:sm:3'/>")

    async def _work(self) -> None:
        self.served = True
        self.signed_in.set()
        sender = asyncio.create_task(self._send()) if self.targets else None
        try:
            rest = b''
            while not self.stopped:
                more = await self._reader.read(65536)
                if not more:
                    raise EOFError
                rest = self._take(rest + more)
        finally:
            if sender is not None:
                sender.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await sender

    async def _send(self) -> None:
        while True:
            await asyncio.sleep(self.chance.random() * 0.01)
            if len(self.unacknowledged) < IN_FLIGHT and self.sending:
                self.number += 1
                target, name = self.chance.choice(self.targets), f'{self.user}-{self.number}'
                body = 'x' * self.chance.choice((10, 100, 3000))
                to = f'{target}@{data.DOMAIN}'
                stanza = f"<message to='{to}' type='chat' id='{name}'><body>{body}</body></message>".encode()
                self.unacknowledged.append((name, target, stanza))
                self._say(stanza)
                if self.number % 3:
                    continue
            self._say(b"<r xmlns='urn:xmpp:sm:3'/>")
            if not self.sending:
                await asyncio.sleep(0.05)

    def _acknowledged(self, h: int) -> None:
        while self.base < h:
            self.base += 1
            name, target, _ = self.unacknowledged.popleft()
            self.record.acknowledged[name] = target

    def _take(self, received: bytes) -> bytes:
        end = 0
        for match in TOKEN.finditer(received):
            end = match.end()
            if match['h']:
                self._acknowledged(int(match['h']))
            elif match['r']:
                self._say(b"<a xmlns='urn:xmpp:sm:3' h='%d'/>" % self.h)
                now = time.monotonic()
                for name in self._fresh:
                    self.record.confirmed.setdefault((self.user, name), now)
                self._fresh.clear()
            else:
                self.h += 1
                self._stanza(match.group())
        return received[end:]

    def _stanza(self, stanza: bytes) -> None:
        if not stanza.startswith(b'<message'):
            return
        found = ID.match(stanza)
        assert found is not None, stanza[:200]
        name = found.group(1).decode()
        if b" type='error'" in stanza[: stanza.index(b'>')]:
            self.record.refused.add(name)
            return
        copies = self.record.received.setdefault(name, [])
        again = any(receiver == self.user and session == self.session for receiver, _, session in copies)
        if again and name not in self.record.repeated:
            self.record.problems.append(f'{name} came twice in one session of {self.user}')
        copies.append((self.user, time.monotonic(), self.session))
        self._fresh.append(name)
