"""Signed-in clients that ask for too much: they get what they asked for or a clear error, and nobody else waits."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.contract import jid
from tests.fixtures import data
from tests.fixtures.processes import Engine
from tests.services.pump import pump
from tests.services.rawclient import STREAM, RawClient
from tests.services.test_client_connections import set_parameter

PING = b"<iq type='get' id='end'><ping xmlns='urn:xmpp:ping'/></iq>"
END = b"id='end'"
PATIENCE_S = 1.0
"""The longest answer a neighbour may wait for during a flood; on a machine that is so busy that the flood lasts long, a
quarter of that. It is 5 to 80 ms on an idle machine with 2 cores."""
GROWTH_MB = 60


def signed_in(engine: Engine, user: str, resource: str = 'raw') -> RawClient:
    """A bound client that says exactly what it is told to."""
    return RawClient(engine.port).starttls().login(user, data.PASSWORD, resource)


def resident_mb(engine: Engine) -> int:
    """Memory of the engine process."""
    status = Path(f'/proc/{engine.pid}/status').read_text()
    return int(re.findall(r'VmRSS:\s+(\d+)', status)[0]) // 1024


@contextmanager
def neighbour(engine: Engine) -> Iterator[list[float]]:
    """Somebody else pings all the while; seconds of each answer. Checks them, and the engine's memory, at the end."""
    client = signed_in(engine, 'neighbour')
    waits: list[float] = []
    memory = [resident_mb(engine)]
    over = threading.Event()
    failures: list[BaseException] = []

    def ask() -> None:
        number = 0
        try:
            while not over.is_set():
                number += 1
                begun = time.monotonic()
                client.send(b"<iq type='get' id='n%d'><ping xmlns='urn:xmpp:ping'/></iq>" % number)
                client.read_until(b"'n%d'" % number, 20)
                waits.append(time.monotonic() - begun)
                memory.append(resident_mb(engine))
                over.wait(0.01)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=ask)
    begun = time.monotonic()
    thread.start()
    try:
        yield waits
    finally:
        over.set()
        thread.join()
        client.close()
    assert not failures, failures
    limit = max(PATIENCE_S, (time.monotonic() - begun) / 4)
    assert max(waits) < limit, f'the neighbour waited {max(waits):.2f} s'
    assert max(memory) - memory[0] < GROWTH_MB, f'the engine grew from {memory[0]} to {max(memory)} MB'


def flood(engine: Engine, stanzas: Iterable[bytes], last: bytes = PING, timeout_s: float = 30) -> bytes:
    """Alice sends all of it at once; what she gets up to the answer of ``last``."""
    alice = signed_in(engine, 'alice')

    def all_of_it() -> Iterator[bytes]:
        yield b'<presence/>'
        yield from stanzas
        yield last

    try:
        return pump(alice, all_of_it(), END, timeout_s)
    finally:
        alice.close()


def fill(client: RawClient, stanza: bytes) -> None:
    """Send until the server takes no more."""
    client.socket.settimeout(0.5)
    for _ in range(10_000):
        try:
            client.socket.sendall(stanza)
        except TimeoutError:
            return
    pytest.fail('the client was never held back')


@pytest.fixture
def people(make_user: Any) -> None:
    """alice attacks, neighbour suffers, bob is talked about."""
    for user in ('alice', 'bob', 'neighbour'):
        make_user(user)


def test_floods_hold_up_nobody(people: None, engine: Engine) -> None:
    """Each of these stopped the node or filled its memory once."""
    with neighbour(engine):
        long = 'é'.encode() * 100_000
        answers = flood(engine, (b"<message to='%b@example.com'><body>x</body></message>" % long for _ in range(20)))
        assert answers.count(b'<jid-malformed') == 20
    with neighbour(engine):
        answers = flood(engine, (b"<presence type='probe' to='u%d@example.com'/>" % n for n in range(10_100)))
        assert answers.count(b'<resource-constraint') == 100
        assert b'10000 temporary subscriptions are the maximum' in answers
    with neighbour(engine):
        strangers = (
            b"<message type='chat' id='s%d' to='u%d@example.com'><body>%b</body></message>" % (n, n, b'x' * 200_000)
            for n in range(500)
        )
        answers = flood(engine, strangers)
        assert answers.count(b'<service-unavailable') == 500
        strangers = (
            b"<message type='chat' id='s%d' to='u%d@example.com'><body>x</body></message>" % (n, n)
            for n in range(10_000)
        )
        answers = flood(engine, strangers)
        assert answers.count(b'<service-unavailable') == 10_000


def test_a_presence_storm_reaches_those_who_see_it(people: None, engine: Engine) -> None:
    """5,000 changes of one client: from the newest when its contact list was there its watcher gets each of them, in
    order, once, and nobody else waits."""
    bob = signed_in(engine, 'bob', 'watcher')
    bob.send(b"<presence/><presence type='subscribe' to='alice@example.com'/>").read_until(b"'subscribed'")
    seen: list[bytes] = []
    watching = threading.Thread(target=lambda: seen.append(bob.read_until(b'<status>4999<', 60)))
    watching.start()
    with neighbour(engine):
        flood(engine, (b'<presence><status>%d</status></presence>' % n for n in range(5000)))
        watching.join(60)
    bob.close()
    numbers = [int(n) for n in re.findall(rb'<status>(\d+)<', seen[0])]
    assert numbers == list(range(numbers[0], 5000))


def test_a_burst_of_contact_list_changes(people: None, engine: Engine) -> None:
    """Everything is done or refused, in order; the list has what was acknowledged."""
    from impadmin.ucm.models import EndUser, RosterItem

    one = "<iq type='set' id='r{0}'><query xmlns='jabber:iq:roster'><item jid='c{0}@example.com'/></query></iq>"
    last = b"<iq type='get' id='end'><query xmlns='jabber:iq:roster'/></iq>"
    with neighbour(engine):
        answers = flood(engine, (one.format(n).encode() for n in range(600)), last)
    order = [int(n) for n in re.findall(rb"type='(?:result|error)' id='r(\d+)'", answers)]
    assert order == list(range(600))
    assert answers.count(b'<policy-violation') == 400
    assert RosterItem.objects.count() == EndUser.objects.get(user_id='alice').contact_count == 200


def test_requests_are_done_in_order(people: None, engine: Engine) -> None:
    """RFC 6120 10.1: who writes a vCard 200 times and reads it has the last one."""
    one = "<iq type='set' id='v{0}'><vCard xmlns='vcard-temp'><FN>{0}</FN><DESC>{1}</DESC></vCard></iq>"
    last = b"<iq type='get' id='end'><vCard xmlns='vcard-temp'/></iq>"
    filling = 'x' * 120_000
    alice = signed_in(engine, 'alice')
    with neighbour(engine):
        sent = [*(one.format(n, filling).encode() for n in range(200)), last]
        answers = pump(alice, sent, b'</vCard></iq>')
    assert [int(n) for n in re.findall(rb"type='result' id='v(\d+)'", answers)] == list(range(200))
    assert b'<FN>199</FN>' in answers


def test_offline_messages_of_any_size_are_delivered_page_by_page(people: None, engine: Engine) -> None:
    """120 messages of 100 KB wait: they come once, in order, and neither end needs them all in memory at once."""
    set_parameter('xcp_router', 'max_offline_messages', 130)
    set_parameter('xcp_router', 'max_offline_bytes', 20_000_000)
    one = b"<message type='chat' id='o%d' to='bob@example.com'><body>%b</body></message>"
    with neighbour(engine):
        flood(engine, (one % (n, b'x' * 100_000) for n in range(120)))
        bob = signed_in(engine, 'bob')
        received = pump(bob, [b'<presence/>'], b"id='o119'")
    assert [int(n) for n in re.findall(rb" id='o(\d+)'", received)] == list(range(120))


def test_who_does_not_read_stops_nobody(people: None, engine: Engine) -> None:
    """Bob sees alice's availability and reads nothing: alice, who only changes her status, is slowed down, not stopped;
    who does not read the answers to the own requests waits alone."""
    bob = signed_in(engine, 'bob', 'deaf')
    bob.send(b"<presence/><presence type='subscribe' to='alice@example.com'/>").read_until(b"'subscribed'")
    alice = signed_in(engine, 'alice')
    alice.send(b'<presence/>').read_until(b'<presence')
    bob.read_until(b'alice@example.com/raw')
    mate = signed_in(engine, 'bob', 'mate')
    fill(mate, b"<message to='bob@example.com/deaf'><body>%b</body></message>" % (b'z' * 8000))
    with neighbour(engine):
        for number in range(3):
            begun = time.monotonic()
            alice.send(b'<presence><status>%d</status></presence>' % number).read_until(b'<status>%d' % number)
            alice.send(b"<iq type='get' id='k%d'><ping xmlns='urn:xmpp:ping'/></iq>" % number)
            alice.read_until(b"'k%d'" % number)
            assert time.monotonic() - begun < 15  # slowed down, not stopped
        fill(alice, b"<iq type='get' id='p'><ping xmlns='urn:xmpp:ping'/></iq>" * 100)
    for client in (alice, bob, mate):
        client.close()


@pytest.mark.parametrize(
    ('address', 'said'),
    [
        ('a' * 1024 + '@example.com', '1 to 1023 bytes'),
        ('é' * 512 + '@example.com', '1 to 1023 bytes'),
        ('a@' + 'b.' * 600 + 'com', '1 to 1023 bytes'),
        ('a@' + 'b' * 64 + '.com', 'the domain'),
        ('a@example.com/' + 'r' * 1024, '1 to 1023 bytes'),
        ("a@[<'&]", 'the domain'),
        ("a@[fe80::1%<'>]", 'the domain'),
        ('a@[' + '1' * 90_000 + ']', 'the domain'),
        ('a@x..y', 'the domain'),
        ('a b@example.com', 'the user part'),
        ('😀@example.com', 'the user part'),
        ('אa1@example.com', 'the user part'),
        ('@example.com', 'the user part is empty'),
        ('a@', 'the domain is empty'),
        ('a@example.com/', 'the resource is empty'),
        ('a@example.com/\u0085', 'the resource'),
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_wrong_addresses_say_which_part(address: str, said: str) -> None:
    """Also that the words stay short, whatever was sent."""
    with pytest.raises(jid.InvalidJID, match=said) as caught:
        jid.prepare(address)
    assert len(str(caught.value)) < 150


def test_wrong_and_longest_addresses_in_every_place(people: None, engine: Engine) -> None:
    """``to`` of every stanza, contact list items, and a JID as long as one can be (3071 bytes)."""
    wrong = ("a@[<'&]", 'a' * 1024 + '@example.com', '😀@example.com', 'a@example.com/', 'a@' + 'b' * 64)
    alice = signed_in(engine, 'alice')
    for number, address in enumerate(wrong):
        to = address.replace('&', '&amp;').replace('<', '&lt;').replace("'", '&apos;').encode()
        roster = b"<query xmlns='jabber:iq:roster'><item jid='%b'/></query>" % to
        for kind, stanza in (
            (b'message', b"<message id='%b' to='%b'><body>x</body></message>"),
            (b'presence', b"<presence id='%b' to='%b'/>"),
            (b'presence', b"<presence id='%b' type='subscribe' to='%b'/>"),
            (b'presence', b"<presence id='%b' type='probe' to='%b'/>"),
            (b'iq', b"<iq id='%b' type='get' to='%b'><ping xmlns='urn:xmpp:ping'/></iq>"),
            (b'iq', b"<iq id='%b' type='set'>" + roster + b'</iq>'),
        ):
            name = b'w%d' % number
            answer = alice.send(stanza % ((name, to) if stanza.count(b'%b') == 2 else (name,)))
            answer = alice.read_until(b'</%b>' % kind)
            assert b'<jid-malformed' in answer, (address[:40], stanza[:40], answer[-300:])
    longest = 'l' * 1023 + '@' + '.'.join(['d' * 61] * 4) + '.abc' + '/' + 'r' * 1023
    for stanza in (
        "<message id='end' to='{0}'><body>x</body></message>",
        "<iq id='end' type='get' to='{0}'><ping xmlns='urn:xmpp:ping'/></iq>",
        "<presence id='end' type='subscribe' to='{0}'/>",
    ):
        answer = alice.send(stanza.format(longest).encode()).read_until(b'</error>')
        assert b'<remote-server-not-found' in answer, answer[-200:]
    bare = longest.partition('/')[0]
    item = f"<iq id='end' type='set'><query xmlns='jabber:iq:roster'><item jid='{bare}'/></query></iq>"
    assert b"type='result'" in alice.send(item.encode()).read_until(END)


def test_steps_out_of_order(people: None, engine: Engine) -> None:
    """TLS twice, signing in twice, binding twice, an endless resource: a clear error, and only that stream may end."""
    sasl = b"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AAAA</auth>"
    tls = b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
    bind = b"<iq type='set' id='%b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>%b</resource></bind></iq>"
    with neighbour(engine):
        assert b'<failure' in RawClient(engine.port).starttls().send(tls).read_all()
        assert b'<stream:error>' in signed_in(engine, 'alice').send(tls).read_all()
        assert b'<stream:error>' in signed_in(engine, 'alice').send(sasl).read_all()
        alice = signed_in(engine, 'alice')
        assert b"type='error'" in alice.send(bind % (b'again', b'other')).read_until(b'</iq>')
        assert b"type='result'" in alice.send(PING).read_until(END)
        client = RawClient(engine.port).starttls()
        assert b'<success' in client.plain('alice', data.PASSWORD)
        client.send(STREAM).read_until(b'</stream:features>')
        assert b'<bad-request' in client.send(bind % (b'long', b'r' * 1024)).read_until(b'</iq>')
        bound = client.send(bind % (b'right', '📱 \u05d0\u05d1 電話'.encode())).read_until(b'</iq>')
        assert '<jid>alice@example.com/📱 אב 電話</jid>'.encode() in bound


def test_names_in_any_script(engine: Engine, make_user: Any) -> None:
    """Users with Chinese, Hebrew and accented names sign in and talk; two who differ by width only are one."""
    names = ('王小明', 'שלום', 'zoë', 'ﾀﾅｶ')
    for name in names:
        make_user(name)
    clients = [signed_in(engine, name) for name in names]
    for client in clients:
        client.send(b'<presence/>').read_until(b'<presence')
    for name, client in zip(names, clients, strict=True):
        address = jid.prepare(f'{name}@example.com')
        clients[0].send(f"<message to='{address}' id='to'><body>{name} 😀</body></message>".encode())
        assert f'{name} 😀'.encode() in client.read_until(b'</message>')


def test_the_right_user_elsewhere_is_not_throttled(people: None, engine: Engine) -> None:
    """Wrong passwords from one address keep out that address only."""
    set_parameter('xcp_authentication', 'failed_logins', 2)
    for _ in range(2):
        assert b'<not-authorized' in RawClient(engine.port).starttls().plain('alice', 'wrong')
    assert b'<temporary-auth-failure' in RawClient(engine.port).starttls().plain('alice', data.PASSWORD)
    assert b'<success' in RawClient(engine.port, source='127.0.0.2').starttls().plain('alice', data.PASSWORD)
