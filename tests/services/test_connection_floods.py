"""Connections that never become clients, and clients that stop reading: flat memory, absolute deadlines, nothing lost.

IMP_CONNECTIONS is how many are opened and dropped (4,000 in an ordinary run; 100,000 by hand, see docs/decisions/0009).
"""

from __future__ import annotations

import os
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fixtures import data
from tests.fixtures.processes import Engine, wait_until
from tests.services.pump import pump
from tests.services.rawclient import STREAM, RawClient
from tests.services.test_client_connections import MANAGER, alive, set_parameter
from tests.services.test_hostile_clients import PATIENCE_S, resident_mb, signed_in
from tests.services.test_supervision import wait_state

CONNECTIONS = int(os.environ.get('IMP_CONNECTIONS', '4000'))
GROWTH_MB = 12
STARTTLS = b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
AUTH = b"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGEAYg==</auth>"


def abandon(client: socket.socket) -> None:
    """Drop the connection with a reset: no port stays behind."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    client.close()


def opened_and_dropped(engine: Engine, count: int) -> None:
    """Connections of every age: nothing said, half a header, a header, half a TLS handshake, a password never sent."""
    for number in range(count):
        kind = number % 6
        client = socket.create_connection(('127.0.0.1', engine.tls_port if kind == 4 else engine.port), 10)
        client.settimeout(10)
        if kind == 1:
            client.sendall(STREAM[:60])
        elif kind == 2:
            client.sendall(STREAM)
            client.recv(10)
        elif kind == 3:
            client.sendall(STREAM + b'<x' + b'a' * 2000)
        elif kind == 4:
            client.sendall(b'\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03' + b'x' * 100)
        elif kind == 5 and number % 60 == 5:
            whole = RawClient(engine.port).starttls()
            whole.socket.sendall(STREAM[:30])
            abandon(whole.socket)
        abandon(client)


def test_memory_stays_level(engine: Engine) -> None:
    """After a first part that fills pools and caches the engine does not grow with the number of connections."""
    alive(engine)
    first = max(500, CONNECTIONS // 4)
    opened_and_dropped(engine, first)
    begin = resident_mb(engine)
    opened_and_dropped(engine, CONNECTIONS - first)
    wait_until(lambda: open_connections(engine) == 0, 'all connections forgotten')
    grown = resident_mb(engine) - begin
    print(f'{CONNECTIONS} connections: {begin} MB, then {grown:+} MB')
    assert grown < GROWTH_MB
    alive(engine)


def open_connections(engine: Engine) -> int:
    """What the node counts."""
    from urllib.request import urlopen

    with urlopen(f'http://127.0.0.1:{engine.metrics_port}/metrics', timeout=5) as answer:
        found = re.search(r'counter="CurrentConnections"[^}]*} ([0-9.e+]+)', answer.read().decode())
    assert found is not None
    return int(float(found.group(1)))


def trickle(client: socket.socket, chunk: bytes, over: threading.Event) -> None:
    """A byte now and then, for ever."""
    for byte in chunk * 1000:
        if over.wait(0.1):
            return
        try:
            client.send(bytes([byte]))
        except OSError:
            return


@pytest.fixture
def over() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def test_slow_lorises_have_an_absolute_deadline(engine: Engine, make_user: Any, over: threading.Event) -> None:
    """In the header, in the TLS handshake, between signing in and binding: cut off at the same time, however busy."""
    make_user('alice')
    wait_state(MANAGER, 'Running')
    set_parameter(MANAGER, 'preauth_timeout_s', 3)
    begun = time.monotonic()
    header = RawClient(engine.port)
    handshake = RawClient(engine.tls_port)
    halfway = RawClient(engine.port).send(STREAM + STARTTLS)
    halfway.read_until(b'<proceed')
    unbound = RawClient(engine.port).starttls()
    assert b'<success' in unbound.plain('alice', data.PASSWORD)
    unbound.send(STREAM).read_until(b'</stream:features>')
    slow = (
        (header.socket, STREAM[:-1] + b" a='" + b'x' * 5000),
        (handshake.socket, b'\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03' + bytes(500)),
        (halfway.socket, b'\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03' + bytes(500)),
        (unbound.socket, b' ' * 100),
    )
    threads = [threading.Thread(target=trickle, args=(*one, over)) for one in slow]
    for thread in threads:
        thread.start()
    for client in (header, handshake, halfway, unbound):
        client.read_all(20)
    assert time.monotonic() - begun < 15 + 3 * PATIENCE_S
    over.set()
    for thread in threads:
        thread.join()
    alive(engine)


def test_messages_for_a_client_that_stopped_reading_are_not_lost(engine: Engine, make_user: Any) -> None:
    """Without stream management: what the system did not take is stored when the connection breaks, in order, once."""
    for user in ('alice', 'bob'):
        make_user(user)
    set_parameter('xcp_router', 'max_offline_messages', 100_000)
    bob = signed_in(engine, 'bob', 'deaf')
    bob.send(b'<presence/>').read_until(b'<presence')
    alice = signed_in(engine, 'alice')
    count, sent = 1500, [0]
    one = b"<message to='bob@example.com' type='chat' id='n%d'><body>" + b'y' * 6000 + b'</body></message>'

    def send() -> None:
        alice.socket.settimeout(60)
        for number in range(count):
            alice.socket.sendall(one % number)
            sent[0] = number + 1

    thread = threading.Thread(target=send)
    thread.start()

    def held_back() -> bool:
        before = sent[0]
        time.sleep(0.2)
        return before > 100 and sent[0] == before

    wait_until(held_back, 'alice held back')
    abandon(bob.socket)
    thread.join()
    alice.send(b"<iq type='get' id='done'><ping xmlns='urn:xmpp:ping'/></iq>").read_until(b"id='done'", 30)
    again = signed_in(engine, 'bob', 'again')
    received = pump(again, [b'<presence/>'], b"id='n%d'" % (count - 1))
    order = [int(number) for number in re.findall(rb" id='n(\d+)'", received)]
    assert order == list(range(order[0], count)), (order[0], len(order))
    assert 0 < order[0] < count - 100
    alice.close()
    again.close()
