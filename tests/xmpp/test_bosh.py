"""BOSH without a network: under random loss, repetition and disorder nothing is lost and nothing doubled."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.xmpp.bosh import BadBody, Body, BoshSession, Terms, parse_body

GREETING = b"<?xml version='1.0'?><stream:stream xmlns='jabber:client' id='i' from='example.com'><stream:features/>"
NUMBER = re.compile(rb"n='([0-9]+)'")


class World:
    """A session, the stream above it, and a client that sees the requests of a bad network answered or not."""

    def __init__(self, hold: int, acks: bool) -> None:
        self.now = 0.0
        self.acks = acks
        self.to_stream: list[int] = []
        self.answers: dict[object, bytes] = {}
        self.dropped: set[object] = set()
        self.over: str | None = None
        self.sent = 0
        self.session = BoshSession('sid', Terms(hold=max(1, hold), inactivity_s=10**6, polling_s=0), self)
        attributes = {'rid': '100', 'to': 'example.com', 'wait': '10', 'hold': str(hold), 'ver': '1.6'}
        self.session.open(Body(attributes | ({'ack': '1'} if acks else {}), ()), 'open', self.now)
        self.write(GREETING)

    def write(self, data: bytes) -> None:
        """The stream says something."""
        self.session.write(self.session.encode(data), self.now)

    def say(self) -> None:
        """The server has a stanza for the client."""
        self.sent += 1
        self.write(b"<message n='%d'/>" % self.sent)

    # Host

    def feed(self, data: bytes) -> None:
        self.to_stream += [int(number) for number in NUMBER.findall(data)]

    def answer(self, request: Any, body: bytes, content: str, status: int) -> None:
        assert request not in self.answers, 'one answer for a request'
        self.answers[request] = body

    def drop(self, request: Any) -> None:
        self.dropped.add(request)

    def delivered(self) -> None:
        """Nothing."""

    def ended(self, condition: str) -> None:
        self.over = condition


@settings(max_examples=150, deadline=None)
@given(st.data(), st.integers(0, 2), st.booleans())
def test_nothing_lost_nothing_doubled(data: st.DataObject, hold: int, acks: bool) -> None:
    """The client repeats what it got no answer for, as XEP-0124 14.3 says; the network does what it wants."""
    world = World(hold, acks)
    session = world.session
    assert world.answers.pop('open')
    rid, tries = 100, 0
    open_requests: dict[int, tuple[bytes, object]] = {}
    answered = 100  # the newest id whose response and all before it the client has
    arrived: dict[int, bytes] = {}
    received: list[int] = []
    said = 0
    for _ in range(data.draw(st.integers(5, 40), label='steps')):
        world.now += data.draw(st.sampled_from((0.0, 3.0)))
        action = data.draw(st.sampled_from(('send', 'send', 'say', 'repeat', 'break', 'tick', 'press')))
        if action == 'say':
            world.say()
        elif action == 'press':
            session.press(world.now)
        elif action == 'tick':
            world.now += 11
            session.tick(world.now)
        elif (
            action == 'send'
            and len(open_requests) < session.most
            and rid < min(open_requests, default=rid) + session.most
        ):
            rid += 1
            said += 1
            world.now += 3  # no polling faster than agreed
            open_requests[rid] = (b"<message xmlns='jabber:client' n='%d'/>" % said, f'{rid}:0')
            if data.draw(st.booleans(), label='request arrives'):
                _post(world, rid, open_requests[rid], answered if acks else None)
        elif action == 'repeat' and open_requests:
            number = data.draw(st.sampled_from(sorted(open_requests)))
            tries += 1
            open_requests[number] = (open_requests[number][0], f'{number}:{tries}')
            _post(world, number, open_requests[number], answered if acks else None)
        elif action == 'break' and open_requests:
            number = data.draw(st.sampled_from(sorted(open_requests)))
            session.lost(open_requests[number][1], world.now)
        for number in sorted(open_requests):
            request = open_requests[number][1]
            if request in world.answers:
                body = world.answers.pop(request)
                if data.draw(st.booleans(), label='response arrives'):
                    arrived[number] = body
                    del open_requests[number]
        while answered + 1 in arrived:
            answered += 1
            received += [int(found) for found in NUMBER.findall(arrived.pop(answered))]
        assert world.over is None
        assert received == list(range(1, len(received) + 1)), 'in order, once'
        assert world.to_stream == list(range(1, len(world.to_stream) + 1)), 'in order, once'
        assert session.undelivered or len(received) == world.sent, 'counted as delivered before the client has it'
    # The network is good again: everything arrives.
    for _ in range(60):
        for number in sorted(open_requests):
            tries += 1
            open_requests[number] = (open_requests[number][0], f'{number}:{tries}')
            _post(world, number, open_requests[number], answered if acks else None)
        world.now += 12
        session.tick(world.now)
        for number in sorted(open_requests):
            if (request := open_requests[number][1]) in world.answers:
                arrived[number] = world.answers.pop(request)
                del open_requests[number]
        while answered + 1 in arrived:
            answered += 1
            received += [int(found) for found in NUMBER.findall(arrived.pop(answered))]
        if not open_requests and len(received) == world.sent:
            break
        if not open_requests:
            rid += 1
            said += 1
            world.now += 3
            open_requests[rid] = (b"<message xmlns='jabber:client' n='%d'/>" % said, f'{rid}:0')
    assert world.over is None
    assert received == list(range(1, world.sent + 1))
    assert world.to_stream == list(range(1, said + 1))


def _post(world: World, rid: int, request: tuple[bytes, object], ack: int | None) -> None:
    attributes = {'sid': 'sid', 'rid': str(rid)}
    if ack is not None and ack != rid - 1:
        attributes['ack'] = str(ack)
    world.session.receive(Body(attributes, (request[0],)), request[1], world.now)


PIECES = st.sampled_from(
    [
        b"<body xmlns='http://jabber.org/protocol/httpbind' rid='1'>", b'</body>', b'<message/>', b'<message',
        b"<presence xmlns='jabber:client'/>", b'<!DOCTYPE a [<!ENTITY b "c">]>', b'&b;', b'<![CDATA[x]]>', b'<?xml?>',
        b'<!-- x -->', b'text', b'\xff', b'\x00', b"<a:b xmlns:a='c'/>", b'<a:b/>', b' ', b"<?xml version='1.0'?>",
        b"xmlns='x'", b'>', b'/>', b'<', b"<stream:stream xmlns:stream='http://etherx.jabber.org/streams'>",
    ]
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(PIECES, max_size=8))
def test_any_bytes_are_read_or_refused(pieces: list[bytes]) -> None:
    """No other exception; what is read are complete elements that stand by themselves."""
    from xml.etree.ElementTree import fromstring

    try:
        body = parse_body(b''.join(pieces), 1000)
    except BadBody:
        return
    for child in body.children:
        fromstring(  # noqa: S314 - raises when it is not
            b"<w xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>" + child + b'</w>'
        )
