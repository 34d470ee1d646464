"""Service parameters that no other test changes: setting one changes what the engine does, seen from outside.

One engine start serves many parameters. tests/test_house.py looks that every parameter is named by some test.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from engine.contract.services import CONNECTION_MANAGER, PRESENCE_ENGINE, WEB_CONNECTION_MANAGER, XCP_ROUTER
from tests.areas.test_xmpp_components import DOMAIN, SECRET, port
from tests.areas.test_xmpp_multi_device import metric
from tests.areas.test_xmpp_quiet_mode import active, inactive, is_message
from tests.areas.xmpp_fixtures import address, ensure, in_force, parameter, sign_in, user
from tests.fixtures import data
from tests.fixtures.federation import Authority, Federation
from tests.fixtures.processes import Engine, wait_until
from tests.services.managedclient import SM, ManagedClient
from tests.services.rawclient import RawClient
from tests.services.test_hostile_servers import HONEST, PARTNER, Server, Word, verified, word
from tests.services.webclient import BOSH, BoshClient, start
from tests.xmppclient import XmppClient, condition

__all__ = ['port', 'sign_in', 'word']
SignIn = Callable[..., XmppClient]
ELEMENTS = b"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>" + b'<a/>' * 10 + b'</auth>'
PUBSUB = 'http://jabber.org/protocol/pubsub'


def chosen(service: str, **values: Any) -> None:
    for name, value in values.items():
        parameter(service, name, value)


@pytest.fixture
def old_message(make_user: Any) -> Any:
    """A message of the day before yesterday in alice's archive; returns whether it is still there."""
    from impadmin.messaging.models import ArchivedMessage

    ensure(make_user, 'alice', 'bob')
    at = int((datetime.now(UTC) - timedelta(days=2)).timestamp() * 1000)
    row = ArchivedMessage.objects.create(
        user=user('alice'), id=UUID(int=at << 80 | 0x7 << 76 | 0x8 << 60), peer=address('bob'), stanza=b'<message/>'
    )
    return lambda: ArchivedMessage.objects.filter(pk=row.pk).exists()


def test_parameters_of_clients(old_message: Callable[[], bool], sign_in: SignIn, request: Any) -> None:
    from impadmin.system.models import Alarm

    chosen(CONNECTION_MANAGER, preauth_elements=8, max_stanza_bytes=10_000)
    chosen(XCP_ROUTER, message_archive=True, archive_days=1, jsm_threshold_percent=1, rated_jsm_sessions=100)
    chosen(XCP_ROUTER, jsm_threshold_s=1, pubsub_host='nodes', pubsub_items_per_node=2, stream_management_bytes=65_536)
    chosen(XCP_ROUTER, quiet_bytes=1024, quiet_total_bytes=65_536)
    engine: Engine = request.getfixturevalue('engine')
    wait_until(lambda: not old_message(), 'archive_days: what is older has gone')

    eager = RawClient(engine.port).starttls().send(ELEMENTS)
    assert b'At most 8 elements' in eager.read_all()
    large = RawClient(engine.port).starttls().login('bob', data.PASSWORD)
    large.send(b"<message to='alice@example.com'><body>%b</body></message>" % (b'x' * 12_000))
    assert b'<policy-violation' in large.read_all()

    bob, laptop, phone = sign_in('bob'), sign_in('alice', 'laptop'), sign_in('alice', 'phone')
    wait_until(  # of 100 sessions 3 are more than 1 percent
        lambda: Alarm.objects.filter(name='JSMSessionsExceedsThreshold', cleared_at=None).exists(), 'the alarm'
    )
    service = f'nodes.{data.DOMAIN}'
    made = bob.iq(
        'set',
        f"<pubsub xmlns='{PUBSUB}'><create node='n'/><configure><x xmlns='jabber:x:data' type='submit'>"
        f"<field var='FORM_TYPE'><value>{PUBSUB}#node_config</value></field>"
        "<field var='pubsub#max_items'><value>max</value></field></x></configure></pubsub>",
        to=service,
    )
    assert made.get('type') == 'result'
    for number in range(3):
        item = f"<publish node='n'><item id='i{number}'><a xmlns='urn:x'/></item></publish>"
        assert bob.iq('set', f"<pubsub xmlns='{PUBSUB}'>{item}</pubsub>", to=service).get('type') == 'result'
    kept = bob.iq('get', f"<pubsub xmlns='{PUBSUB}'><items node='n'/></pubsub>", to=service)
    assert sorted(one.get('id', '') for one in kept.iter(f'{{{PUBSUB}}}item')) == ['i1', 'i2']

    for client in (phone, laptop):
        client.iq('set', "<enable xmlns='urn:xmpp:carbons:2'/>")
    laptop.available()
    laptop.sync()
    inactive(phone)
    phone.sync()  # the client stays in the background
    long = 'y' * 2000
    bob.say(address('alice'), long)
    phone.expect('message', where=is_message(long))  # quiet_bytes: it does not wait
    chosen(XCP_ROUTER, quiet_bytes=16_777_216)
    in_force()
    inactive(phone)
    phone.sync()  # the client stays in the background
    for number in range(9):
        bob.say(address('alice'), f'{number}' + 'z' * 9000)
    phone.expect('message', where=is_message('0' + 'z' * 9000))  # quiet_total_bytes
    active(phone)

    lost = ManagedClient(engine, 'bob', 'managed').online()
    lost.close_all()
    wait_until(lambda: metric(engine, 'JsmPhantomSessionsActive') == 1, 'the session waits for its client')
    for number in range(9):
        laptop.say(f'{address("bob")}/managed', f'{number}' + 'z' * 9000)
    laptop.sync()
    assert lost.again().take(f'{SM}failed') is not None  # stream_management_bytes: the session was given up


def test_parameters_of_web_clients(request: Any, db: None, make_user: Any) -> None:
    make_user('alice')
    chosen(WEB_CONNECTION_MANAGER, bosh_wait_s=5, bosh_hold=2, bosh_polling_s=0, max_body_bytes=20_000)
    chosen(WEB_CONNECTION_MANAGER, preauth_elements=8, max_stanza_bytes=10_000)
    web = start(request)
    alice = web.bosh()
    answer = alice.open(wait=100, hold=5)
    assert [answer.get(name) for name in ('wait', 'hold', 'polling')] == ['5', '2', '0']
    refused = alice.post(ELEMENTS.decode())
    assert (refused.get('type'), refused.get('condition')) == ('terminate', 'remote-stream-error')
    assert 'At most 8 elements' in ''.join(refused.itertext())
    other: BoshClient = web.bosh().login('alice')
    ended = other.post(f"<message xmlns='jabber:client' to='{other.jid}'><body>{'x' * 12_000}</body></message>")
    assert ended.get('type') == 'terminate'
    connection = other.connection()
    connection.request('POST', BOSH, b'<body>' + b'x' * 25_000 + b'</body>', other.headers)
    assert connection.getresponse().status == 413


@pytest.fixture
def hosts(port: int) -> int:
    chosen(XCP_ROUTER, component_timeout_s=1, component_connections_per_ip=1, component_max_stanza_bytes=10_000)
    chosen(XCP_ROUTER, component_queue_bytes=65_536)
    from impadmin.system.models import Node, ParameterValue

    ParameterValue.objects.create(
        service=XCP_ROUTER, name='component_bind_address', value='127.0.0.2', node=Node.objects.get(name=data.NODE)
    )
    data.publish_configuration()
    return port


def greeted(port: int, secret: str = '') -> RawClient:
    """A component up to the handshake; with ``secret`` behind it."""
    import hashlib

    client = RawClient.__new__(RawClient)
    client.socket, client.seen, client.certificate = socket.create_connection(('127.0.0.2', port), 5), b'', None
    client.send(
        b"<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' to='%b'>"
        % DOMAIN.encode()
    )
    if secret:
        head = client.read_until(b"xml:lang='en'>").decode()
        identity = head.partition(" id='")[2].partition("'")[0]
        digest = hashlib.sha1(f'{identity}{secret}'.encode()).hexdigest()  # noqa: S324 - the protocol
        client.send(f'<handshake>{digest}</handshake>'.encode()).read_until(b'<handshake/>')
    return client


def test_parameters_of_components(hosts: int, sign_in: SignIn) -> None:
    alice = sign_in('alice')

    def listens() -> bool:
        with contextlib.suppress(OSError):
            socket.create_connection(('127.0.0.2', hosts), 2).close()
            return True
        return False

    wait_until(listens, 'component_bind_address: the port listens there')
    with pytest.raises(OSError, match='refused'):
        socket.create_connection(('127.0.0.1', hosts), 2)

    def admitted(secret: str = '') -> RawClient | None:
        with contextlib.suppress(AssertionError, OSError):
            client = greeted(hosts, secret)
            client.read_until(b'' if secret else b'>')
            return client
        return None

    slow = wait_until(admitted, 'the connections before are forgotten')
    assert greeted(hosts).read_all() == b''  # component_connections_per_ip
    assert b'connection-timeout' in slow.read_all()  # component_timeout_s

    large = wait_until(lambda: admitted(SECRET), 'the first connection is forgotten')
    large.send(b"<message from='a@%b' to='x@example.com'><body>%b</body></message>" % (DOMAIN.encode(), b'x' * 12_000))
    assert b'policy-violation' in large.read_all()
    held = wait_until(lambda: admitted(SECRET), 'the component is there again')  # and does not read
    text = 'x' * 200_000
    for _ in range(60):
        alice.say(f'fax@{DOMAIN}', text)
        alice.sync()
        if refused := [one for one in alice.stanzas if one.get('type') == 'error']:
            break
    assert condition(refused[0]) == 'resource-constraint'  # component_queue_bytes
    held.socket.close()


class Mute:
    """A server that takes connections and says nothing, or ends them at once."""

    def __init__(self, ends: bool = False) -> None:
        self.accepted: list[socket.socket] = []
        self._ends = ends
        self._listener = socket.create_server(('127.0.0.1', 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self.accepted.append(self._listener.accept()[0])
                if self._ends:
                    self.accepted[-1].close()

    def close(self) -> None:
        """Stop."""
        for one in (self._listener, *self.accepted):
            one.close()


@pytest.fixture
def mutes() -> Iterator[tuple[Mute, Mute]]:
    """One that says nothing, one that ends connections at once."""
    both = Mute(), Mute(ends=True)
    yield both
    for one in both:
        one.close()


def test_parameters_of_other_servers(
    federation: Federation, word: Word, authority: Authority, mutes: tuple[Mute, Mute], sign_in: SignIn, make_user: Any,
    request: Any, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from impadmin.ucm.models import RosterItem

    silent, rude = 'silent.example.net', 'rude.example.net'
    federation.zone.server(silent, (1, 0, mutes[0].port, 'localhost'))
    federation.zone.server(rude, (1, 0, mutes[1].port, 'localhost'))
    federation.parameters(
        server_preauth_bytes=8192, server_preauth_elements=8, server_preauth_timeout_s=2,
        server_max_stanza_bytes=10_000, domain_pairs=1, verifications=1, bidirectional=False, retry_first_s=600,
        retry_most_s=1, queue_total_bytes=1_048_576, system_trust=True, connect_timeout_s=60, target_timeout_s=60,
    )  # fmt: skip
    chosen(PRESENCE_ENGINE, remote_resources=1)
    # What the operating system trusts is here the authority of the test.
    data.distrust('cup-xmpp-trust')
    monkeypatch.setitem(os.environ, 'SSL_CERT_FILE', str(authority.file))
    ensure(make_user, 'alice')
    RosterItem.objects.create(user=user('alice'), jid=f'romeo@{PARTNER}', subscription=1, is_contact=True)
    alice = sign_in('alice')
    federation.wait_ready()
    at = federation.port

    assert 'At most 8192 bytes' in Server(at).greet().send(b'<x>' + b'y' * 9000).read_all().decode()
    claim = b"<db:verify from='partner.example.net' to='example.com' id='1'>k</db:verify>"
    assert 'At most 8 elements' in Server(at).greet().send(claim * 10).read_all().decode()
    assert 'connection-timeout' in Server(at).greet().end()
    huge = f"<message from='a@{PARTNER}' to='{alice.bare}'><body>{'x' * 12_000}</body></message>"
    assert 'policy-violation' in verified(at).send(huge.encode()).read_all().decode()
    full = verified(at)
    full.result(HONEST).read_until(b"type='error'")  # domain_pairs
    trusted = Server(at).greet()
    trusted.features()
    trusted.secure(authority.issue(PARTNER))
    features = trusted.features()
    assert '<mechanism>EXTERNAL</mechanism>' in features  # system_trust
    assert 'urn:xmpp:features:bidi' not in features  # bidirectional

    # Two wait for the word of a server that does not give it: one may.
    Server(at).greet(silent).result(silent)
    wait_until(lambda: mutes[0].accepted, 'the silent server is asked')
    asking = Server(at).greet(silent)
    asking.features()
    asking.result(silent).read_until(b"type='error'")

    # The wait after a failure is not the first one's ten minutes.
    def tried_again() -> bool:
        alice.say(f'x@{rude}', 'hello')
        alice.sync()
        return len(mutes[1].accepted) >= 2

    wait_until(tried_again, 'retry_most_s: another attempt', every_s=0.3)
    alice.forget()
    for _ in range(5):
        alice.say(f'x@{silent}', 'x' * 240_000)
    alice.sync()
    # queue_total_bytes; what waited before may be refused for other reasons
    alice.expect('message', type='error', where=lambda answer: condition(answer) == 'resource-constraint')

    # Of the contact's clients the newest one is remembered for a further client of the user.
    contact = verified(at)
    for resource in ('old', 'new'):
        contact.send(f"<presence from='romeo@{PARTNER}/{resource}' to='{alice.bare}'/>".encode())
        alice.expect('presence', from_=f'romeo@{PARTNER}/{resource}')
    later = sign_in('alice', 'later')
    later.expect('presence', from_=f'romeo@{PARTNER}/new')
    later.expect_none('presence', from_=f'romeo@{PARTNER}/old')
