"""Model test of XEP-0198: one receiver, one sender, connections cut at any moment; nothing lost, twice or out of order.

The two halves of engine/xmpp/sm.py are driven as engine/managed.py drives them, with a client written from the XEP on
the other end. A cut loses any suffix of what was under way in each direction.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from engine.delivery import NOW, track
from engine.xmpp import sm
from engine.xmpp.stanza import Stanza

BARE = 'bob@example.com'
WRAP = 2**32


def message(number: int) -> bytes:
    return b"<message id='%d'><body/></message>" % number


class Receiving(RuleBasedStateMachine):
    """The server sends to one client. ``wire`` is under way to it, ``back`` are its acknowledgements."""

    @initialize(limit=st.integers(5, 12), rate=st.integers(1, 7), start=st.sampled_from([0, WRAP - 3, 5 * WRAP - 7]))
    def begin(self, limit: int, rate: int, start: int) -> None:
        self.wire: deque[bytes] = deque()
        self.back: deque[int] = deque()
        self.connected, self.over = True, False
        self.received: list[bytes] = []
        self.sent: list[bytes] = []
        self.h = start % WRAP
        self.out = sm.Outbound(self.wire.append, lambda data: track(data, BARE), lambda: None, limit, rate, 1 << 30)
        self.out.sent = self.out.acked = start

    @precondition(lambda self: not self.over)
    @rule(presence=st.booleans())
    def send(self, presence: bool) -> None:
        data = b"<presence id='%d'/>" % len(self.sent) if presence else message(len(self.sent))
        self.sent.append(data)
        self.out.push(data)

    @precondition(lambda self: self.wire and self.connected)
    @rule()
    def read(self) -> None:
        data = self.wire.popleft()
        if data == sm.REQUEST:
            self.back.append(self.h)
        else:
            self.received.append(data)
            self.h = (self.h + 1) % WRAP

    @precondition(lambda self: self.back and self.connected)
    @rule()
    def acknowledge(self) -> None:
        self.out.acknowledge(self.back.popleft())

    @precondition(lambda self: self.connected and not self.over)
    @rule(lost=st.integers(0, 20), unheard=st.integers(0, 20))
    def cut(self, lost: int, unheard: int) -> None:
        while self.wire and len(self.wire) > lost:
            self.read()
        self.wire.clear()
        while len(self.back) > unheard:
            self.out.acknowledge(self.back.popleft())
        self.back.clear()
        self.connected = False
        self.out.detach()

    @precondition(lambda self: not self.connected and not self.over)
    @rule()
    def resume(self) -> None:
        again = self.out.again(self.h)
        if again is None:
            return self.expire()
        self.out.attach(self.wire.append)
        self.wire.extend((*again, sm.REQUEST))
        self.connected = True
        return None

    @precondition(lambda self: not self.connected and not self.over)
    @rule()
    def expire(self) -> None:
        """What is left, less what the client has, are all the messages it does not have."""
        self.over = True
        left = [entry[0] if isinstance(entry, tuple) else entry for entry in self.out.end()]
        assert [data for data in left if data in self.sent] == left
        missing = [data for data in self.sent if data not in self.received and data.startswith(b'<m')]
        assert [data for data in left if data in missing] == missing
        assert self.out.size == 0

    @precondition(lambda self: self.over)
    @rule()
    def rest(self) -> None:
        """Nothing happens any more."""

    @invariant()
    def in_order_and_once(self) -> None:
        if hasattr(self, 'out'):
            assert self.received == self.sent[: len(self.received)]
            kept = [len(data) for _, data, _ in self.out.old or ()]
            kept += [len(e[0] if isinstance(e, tuple) else e) for e in self.out.ring]
            assert self.out.size == sum(kept)
            assert len(self.out.ring) <= self.out.limit


class Sending(RuleBasedStateMachine):
    """A client sends to the server; each message is decided some time later, in any order."""

    @initialize()
    def begin(self) -> None:
        self.asked = 0
        self.inbound = sm.Inbound(self.tell)
        self.queue: deque[Stanza] = deque()
        """Not acknowledged to the client; it sends them again."""
        self.base = 0
        """How many were acknowledged to it."""
        self.wire: deque[Stanza] = deque()
        self.handled: list[str] = []
        self.open: list[tuple[str, Any]] = []
        self.number = 0
        self.safe: set[str] = set()

    def tell(self) -> None:
        self.asked += 1

    @rule(kind=st.sampled_from(['message', 'presence']), named=st.booleans())
    def say(self, kind: str, named: bool) -> None:
        self.number += 1
        body = str(self.number)
        raw = f"<{kind} n='{body}'/>".encode()
        stanza = Stanza(kind, {'id': body, 'n': body} if named else {'n': body}, raw)
        self.queue.append(stanza)
        self.wire.append(stanza)

    @precondition(lambda self: self.wire)
    @rule(waits=st.booleans())
    def handle(self, waits: bool) -> None:
        stanza = self.wire.popleft()
        inbound = self.inbound
        inbound.received += 1
        if inbound.expected is not None and inbound.repeated(stanza):
            return
        NOW.asker, NOW.stanza = inbound, stanza
        if stanza.name == 'message' and waits:
            delivery = track(stanza.raw, BARE)
            self.open.append((stanza.attrs['n'], delivery))
        else:
            self.safe.add(stanza.attrs['n'])
        NOW.asker = NOW.stanza = None
        self.handled.append(stanza.attrs['n'])
        if inbound.keys is not None:
            inbound.handled(stanza)

    @precondition(lambda self: self.open)
    @rule(which=st.randoms(use_true_random=False))
    def decide(self, which: Any) -> None:
        body, delivery = self.open.pop(which.randrange(len(self.open)))
        delivery.finish()
        self.safe.add(body)

    @rule()
    def acknowledged(self) -> None:
        self.told(self.inbound.decided())

    def told(self, h: int) -> None:
        count = h - self.base
        assert 0 <= count <= len(self.queue)
        for _ in range(count):
            assert self.queue.popleft().attrs['n'] in self.safe
        self.base = h

    @rule(lost=st.integers(0, 6))
    def cut_and_resume(self, lost: int) -> None:
        while len(self.wire) > lost:
            self.handle(waits=True)
        self.wire.clear()
        self.told(self.inbound.resume())
        self.wire.extend(self.queue)

    @invariant()
    def once_and_in_order(self) -> None:
        if hasattr(self, 'handled'):
            assert self.handled == [str(number + 1) for number in range(len(self.handled))]


TestReceiving = Receiving.TestCase
TestSending = Sending.TestCase
TestReceiving.settings = TestSending.settings = settings(
    max_examples=150, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
)
