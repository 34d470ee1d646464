"""The session between two nodes without a network: whatever is cut wherever, every frame comes once and in order while
both sides live, and everything unacknowledged is told as lost when one does not."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest

from engine.cluster import frames
from engine.cluster.frames import Ack, Frame, Hello, Offline
from engine.cluster.link import Cutter, Link
from engine.services.xcp_router.remote import Peer, RemoteSender, receive
from engine.xmpp.stanza import Stanza


class Mark:
    """What a frame carries: counts what becomes of it."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def taken(self) -> None:
        """Acknowledged."""
        self.events.append('taken')

    def lost(self) -> None:
        """Given back."""
        self.events.append('lost')


class End:
    """One node: its side of the link, what it received, bytes on the way to it."""

    def __init__(self, own: int, other: int) -> None:
        self.own, self.other = own, other
        self.link = Link(own, other)
        self.got: list[str] = []
        self.marks: list[Mark] = []
        self.lost: list[Mark] = []
        self.wire = b''
        self.cutter = Cutter(frames.LONGEST)

    def flush_soon(self) -> None:
        """As a wire."""

    def send(self, text: str) -> None:
        """One numbered frame."""
        self.marks.append(Mark())
        self.link.put(Offline(text), self.marks[-1])

    def take(self, frame: Frame) -> bool:
        """As the connection does it."""
        if isinstance(frame, Ack):
            self.link.acknowledged(frame.received)
        elif isinstance(frame, Offline):
            self.link.received += 1
            self.got.append(frame.user)
        return True

    def restart(self) -> None:
        """Another process in its place."""
        self.link = Link(self.own, self.other)
        self.got, self.marks, self.lost = [], [], []


def connect(dialer: End, acceptor: End, answer_arrives: bool = True) -> None:
    """The greeting."""
    question = dialer.link.hello()
    answer, lost = acceptor.link.answer(question)
    for mark in lost:
        mark.lost()
    acceptor.link.begin(acceptor, question.received if answer.resumed else 0)
    acceptor.cutter, acceptor.wire = Cutter(frames.LONGEST), b''
    if not answer_arrives:
        acceptor.link.interrupted()
        return
    for mark in dialer.link.agreed(answer):
        mark.lost()
    dialer.link.begin(dialer, answer.received if answer.resumed else 0)
    dialer.cutter, dialer.wire = Cutter(frames.LONGEST), b''


def move(source: End, target: End, rng: random.Random) -> None:
    """Some of the bytes arrive."""
    target.wire += source.link.take()
    count = rng.randrange(len(target.wire) + 1)
    data, target.wire = target.wire[:count], target.wire[count:]
    target.cutter.feed(data, target.take)
    if rng.random() < 0.7:
        target.link.acknowledge(target.link.received)


@pytest.mark.parametrize('seed', range(40))
def test_nothing_is_lost_or_doubled_however_it_is_cut(seed: int) -> None:
    rng = random.Random(seed)
    one, two = End(1, 2), End(2, 1)
    sent = {one: 0, two: 0}
    connect(two, one)
    for _ in range(400):
        step = rng.random()
        if step < 0.5:
            end = rng.choice((one, two))
            end.send(str(sent[end]))
            sent[end] += 1
        elif step < 0.9 and one.link.up and two.link.up:
            move(*((one, two) if rng.random() < 0.5 else (two, one)), rng)
        elif step < 0.95:
            one.link.interrupted()
            two.link.interrupted()
        elif not two.link.up:
            connect(two, one, answer_arrives=rng.random() < 0.7)
    one.link.interrupted()
    two.link.interrupted()
    connect(two, one)
    while one.link.size or two.link.size:
        for source, target in ((one, two), (two, one)):
            target.wire += source.link.take()
            target.cutter.feed(target.wire, target.take)
            target.wire = b''
            target.link.acknowledge(target.link.received)
    assert one.got == [str(number) for number in range(sent[two])]
    assert two.got == [str(number) for number in range(sent[one])]
    for end in (one, two):
        assert all(mark.events == ['taken'] for mark in end.marks)


@pytest.mark.parametrize('dead', ['dialer', 'acceptor'])
def test_another_process_gets_nothing_of_the_old_session(dead: str) -> None:
    one, two = End(1, 2), End(2, 1)
    connect(two, one)
    for number in range(5):
        one.send(str(number))
        two.send(str(number))
    rng = random.Random(1)
    move(one, two, rng)
    alive, gone = (one, two) if dead == 'dialer' else (two, one)
    acknowledged = sum(mark.events == ['taken'] for mark in alive.marks)
    one.link.interrupted()
    two.link.interrupted()
    gone.restart()
    alive.send('while it was away')
    connect(two, one)
    assert [mark.events for mark in alive.marks] == [['taken']] * acknowledged + [['lost']] * (6 - acknowledged)
    alive.send('new')
    gone.cutter.feed(alive.link.take(), gone.take)
    assert gone.got == ['new']


def test_strange_input_ends_the_connection_only() -> None:
    link = Link(1, 2)
    with pytest.raises(ValueError, match='never sent'):
        link.acknowledged(1)
    cutter = Cutter(4096)
    with pytest.raises(ValueError, match='frame of'):
        cutter.feed((1 << 30).to_bytes(4), lambda _: True)
    for junk in (b'\x00\x00\x00\x01\xc1', b'\x00\x00\x00\x03abc', b'\x00\x00\x00\x03\x91\x91\x63'):
        with pytest.raises(ValueError):  # noqa: PT011 - msgspec's own words
            Cutter(4096).feed(junk, lambda _: True)
    for frame in (Hello(1, 2, 'a', 'b', 3), Ack(7), frames.Routed('message', {'to': 'x'}, b'<message/>')):
        found: list[Frame] = []
        data = frames.encode(frame)
        whole = Cutter(4096)
        for at in range(len(data)):
            whole.feed(data[at : at + 1], lambda taken, found=found: found.append(taken) is None)
        assert found == [frame]


@pytest.mark.parametrize(
    ('sender', 'taken'),
    [
        ('juliet@friend.example/x', True),
        ('friend.example', True),
        ('juliet@stranger.example', False),  # not proved by this transport
        ('alice@example.com/x', False),  # served here, whatever the transport proved
        ('example.com', False),
    ],
)
def test_a_transport_speaks_only_for_domains_it_has_proved(sender: str, taken: bool) -> None:
    """Whatever a transport lets through, the router checks again."""
    routed: list[str] = []
    counters = SimpleNamespace(remote_in=0, remote_refused=0)
    router: Any = SimpleNamespace(
        domains={'example.com'},
        peers=None,
        node=SimpleNamespace(counters=counters),
        receive=lambda who, stanza: routed.append(who.jid),
    )
    route: Any = None
    peer = Peer(route, {'friend.example', 'example.com'}, lambda: None, lambda: None)
    stanza = Stanza('message', {'from': sender, 'to': 'bob@example.com'}, b'<message/>')
    assert receive(router, RemoteSender(peer, stanza), stanza) is taken
    assert routed == ([sender] if taken else [])
    assert (counters.remote_in, counters.remote_refused) == (int(taken), int(not taken))
