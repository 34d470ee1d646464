"""Links to other servers under load and fault: bounded queues, slow servers, nothing sent twice."""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.areas.xmpp_fixtures import sign_in
from tests.fixtures.federation import Federation
from tests.fixtures.processes import wait_until
from tests.proves import proves
from tests.xmppclient import XmppClient, condition

__all__ = ['sign_in']
SLOW = 'slow.example.net'
HEADER = (
    b"<?xml version='1.0'?><stream:stream xmlns='jabber:server' xmlns:db='jabber:server:dialback' id='s1' version='1.0'"
    b" xmlns:stream='http://etherx.jabber.org/streams'><stream:features>"
    b"<dialback xmlns='urn:xmpp:features:dialback'/></stream:features>"
)


class SlowServer:
    """Accepts connections. ``mute``: says nothing at all. Otherwise it lets everybody in, and reads only while
    ``reading`` is set; ``received`` has the stanzas of each connection."""

    def __init__(self, mute: bool = False) -> None:
        self.mute = mute
        self.reading = threading.Event()
        self.received: list[str] = []
        self.connections: list[socket.socket] = []
        self._listener = socket.create_server(('127.0.0.1', 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection = self._listener.accept()[0]
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
                self.connections.append(connection)
                self.received.append('')
                number = len(self.connections) - 1
                threading.Thread(target=self._serve, args=(connection, number), daemon=True).start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        if self.mute:
            return
        said = ''
        with contextlib.suppress(OSError):
            while 'xml:lang' not in said or not said.endswith('>'):
                said += connection.recv(4096).decode()
            connection.sendall(HEADER)
            while '</db:result>' not in said:
                said += connection.recv(4096).decode()
            connection.sendall(f"<db:result from='{SLOW}' to='example.com' type='valid'/>".encode())
            self.received[number] = said.partition('</db:result>')[2]
            while True:
                self.reading.wait()
                if not (data := connection.recv(65536)):
                    return
                self.received[number] += data.decode()

    def drop(self) -> None:
        """Break every connection, as a crash would."""
        for connection in self.connections.copy():
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
                connection.close()

    def close(self) -> None:
        """Stop."""
        self.reading.set()
        self._listener.close()
        self.drop()


@pytest.fixture
def slow(federation: Federation) -> Iterator[Callable[..., SlowServer]]:
    """``slow(mute=...)``: the server of slow.example.net."""
    made: list[SlowServer] = []

    def start(**options: Any) -> SlowServer:
        made.append(SlowServer(**options))
        federation.zone.server(SLOW, (1, 0, made[-1].port, 'localhost'))
        return made[-1]

    yield start
    for one in made:
        one.close()


@proves('FED-03')
def test_a_server_that_says_nothing_stops_nobody(
    federation: Federation, slow: Callable[..., SlowServer], sign_in: Callable[..., XmppClient]
) -> None:
    slow(mute=True)
    federation.parameters(queue_stanzas=5, target_timeout_s=6)
    alice, bob = sign_in('alice'), sign_in('bob')
    sent = [alice.say(f'x@{SLOW}', str(number)) for number in range(8)]
    alice.say(bob.bare, 'you hear me')
    bob.expect('message', body='you hear me')
    for identity in sent[5:]:
        assert condition(alice.expect('message', type='error', id=identity)) == 'resource-constraint'
    alice.expect_none('message', within=0)  # the others still wait
    for identity in sent[:5]:
        assert condition(alice.expect('message', type='error', id=identity)) == 'remote-server-timeout'


@proves('FED-03')
def test_what_a_slow_server_did_not_take_is_sent_again_once(
    federation: Federation, slow: Callable[..., SlowServer], sign_in: Callable[..., XmppClient]
) -> None:
    server = slow()
    federation.parameters(queue_bytes=262_144)
    alice, bob = sign_in('alice'), sign_in('bob')
    server.reading.set()
    alice.say(f'x@{SLOW}', 'first')
    wait_until(lambda: server.received and '</message>' in server.received[0], 'the connection is open')
    server.reading.clear()
    sent = []
    body = 'x' * 50_000
    for number in range(400):
        sent.append(alice.say(f'x@{SLOW}', f'{number}:{body}'))
        if number % 10 == 9:
            alice.sync()
            refused = [one for one in errors(alice) if one]
            if refused:
                break
    assert refused, 'at the limit of the queue the sender hears of it'
    alice.say(bob.bare, 'you hear me')
    bob.expect('message', body='you hear me')
    accepted = [number for number, identity in enumerate(sent) if identity not in refused]
    server.drop()
    server.reading.set()
    wait_until(lambda: len(server.received) > 1 and f'>{accepted[-1]}:' in server.received[1], 'the rest arrives')
    wait_until(lambda: server.received[1].endswith('</message>'), 'whole')
    again = [int(number) for number in re.findall(r'<body>(\d+):', server.received[1])]
    assert again == accepted[-len(again) :], 'in order, each once'
    assert len(again) >= 262_144 // 60_000, 'at least what was queued'


@proves('FED-03')
def test_connections_are_kept_alive_and_closed_when_nobody_uses_them(
    federation: Federation, slow: Callable[..., SlowServer], sign_in: Callable[..., XmppClient]
) -> None:
    server = slow()
    server.reading.set()
    federation.parameters(idle_timeout_s=2, keepalive_s=1)
    alice = sign_in('alice')
    alice.say(f'x@{SLOW}', 'first')
    wait_until(lambda: server.received and server.received[0].endswith('</stream:stream>'), 'an orderly end')
    assert '</message> ' in server.received[0], 'a space in between'
    alice.say(f'x@{SLOW}', 'second')
    wait_until(lambda: len(server.received) > 1 and 'second' in server.received[1], 'a new connection')


def errors(client: XmppClient) -> list[str]:
    """Ids of the messages that were refused."""
    found = [one for one in client.stanzas if one.tag.endswith('}message') and one.get('type') == 'error']
    assert {condition(one) for one in found} <= {'resource-constraint'}
    return [one.get('id', '') for one in found]
