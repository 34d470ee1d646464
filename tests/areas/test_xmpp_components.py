"""External components (XEP-0114) with slixmpp's component on the other side, and hostile ones."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any
from xml.etree.ElementTree import Element

import pytest
import slixmpp

from tests.areas.xmpp_fixtures import address, sign_in
from tests.fixtures import data
from tests.fixtures.processes import Engine, free_port, wait_until
from tests.proves import proves
from tests.xmppclient import XmppClient, condition

__all__ = ['sign_in']
SignIn = Callable[..., XmppClient]
DOMAIN = 'gateway.example.com'
SECRET = 'a-secret-of-a-gateway'


class Component:
    """slixmpp's component in a thread: ``stanzas`` it received, ``send`` raw ones, ``ended``."""

    def __init__(self, port: int, secret: str = SECRET, domain: str = DOMAIN) -> None:
        self.stanzas: list[Element] = []
        self.started = threading.Event()
        self.ended = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(port, secret, domain), daemon=True)
        self._thread.start()

    def _run(self, port: int, secret: str, domain: str) -> None:
        asyncio.set_event_loop(self._loop)
        component = self.component = slixmpp.ComponentXMPP(domain, secret, '127.0.0.1', port)
        component.auto_reconnect = False
        for name in ('xep_0030', 'xep_0199'):
            component.register_plugin(name)
        original = component._spawn_event
        component._spawn_event = lambda xml: (self.stanzas.append(xml), original(xml))[1]
        component.add_event_handler('session_start', lambda _: self.started.set())
        component.add_event_handler('disconnected', lambda _: self.ended.set())
        component.connect()
        self._loop.run_forever()

    def send(self, xml: str) -> None:
        """A stanza as it is."""
        self._loop.call_soon_threadsafe(self.component.send_raw, xml)

    def expect(self, name: str, where: Callable[[Element], bool] = lambda _: True) -> Element:
        """A stanza that was received."""

        # in a list, because an element without children counts as false
        def found() -> list[Element]:
            return [one for one in self.stanzas if one.tag.endswith(f'}}{name}') and where(one)]

        return wait_until(found, name)[0]

    def close(self) -> None:
        """End it."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(40)
        self._loop.close()

    async def _end(self) -> None:
        self.component.abort()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def port(db: None) -> int:
    """The port of external components, with one component configured."""
    from impadmin.messaging.models import ExternalComponent
    from impadmin.system.models import Node, ParameterValue

    number = free_port()
    node = Node.objects.get(name=data.NODE)
    ParameterValue.objects.create(service='xcp_router', name='component_port', node=node, value=number)
    ExternalComponent.objects.create(domain=DOMAIN, secret=SECRET, name='Fax gateway')
    data.publish_configuration()
    return number


@pytest.fixture
def connect(port: int) -> Iterator[Callable[..., Component]]:
    """``connect(secret=..., domain=...)``."""
    made: list[Component] = []

    def make(**options: Any) -> Component:
        made.append(Component(port, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


@proves('XMP-19')
def test_component_serves_its_domain(connect: Callable[..., Component], sign_in: SignIn, port: int) -> None:
    alice = sign_in('alice')
    away = alice.say(f'fax@{DOMAIN}', 'too early')
    assert condition(alice.expect('message', type='error', id=away)) == 'service-unavailable'
    gateway = connect()
    assert gateway.started.wait(40)

    items = alice.iq('get', "<query xmlns='http://jabber.org/protocol/disco#items'/>", to=data.DOMAIN)
    assert {'jid': DOMAIN, 'name': 'Fax gateway'} in [item.attrib for item in items.iter() if 'jid' in item.attrib]
    alice.say(f'+49-30@{DOMAIN}', 'page one')
    got = gateway.expect('message')
    assert (got.get('from'), got.get('to')) == (alice.jid, f'+49-30@{DOMAIN}')
    assert got.tag == '{jabber:component:accept}message'
    assert got.findtext('{jabber:component:accept}body') == 'page one'
    gateway.send(f"<message from='+49-30@{DOMAIN}/fax' to='{alice.bare}' type='chat'><body>sent</body></message>")
    assert alice.expect('message', body='sent').get('from') == f'+49-30@{DOMAIN}/fax'
    assert alice.iq('get', "<ping xmlns='urn:xmpp:ping'/>", to=DOMAIN).get('type') == 'result'
    gateway.send(f"<iq from='{DOMAIN}' to='{data.DOMAIN}' type='get' id='v1'><query xmlns='jabber:iq:version'/></iq>")
    gateway.expect('iq', lambda iq: iq.get('id') == 'v1' and iq.get('type') == 'result')
    gateway.send(f"<message from='x@{DOMAIN}' to='{address('nobody')}' id='e1'><body>who?</body></message>")
    gateway.expect('message', lambda m: m.get('id') == 'e1' and m.get('type') == 'error')
    gateway.send(f"<presence from='fax@{DOMAIN}' to='{alice.bare}' type='subscribe'/>")
    alice.expect('presence', type='subscribe', from_=f'fax@{DOMAIN}')
    alice.presence('subscribed', to=f'fax@{DOMAIN}')
    gateway.expect('presence', lambda p: p.get('type') == 'subscribed')
    gateway.expect('presence', lambda p: (p.get('from'), p.get('type')) == (alice.jid, None))

    second = connect()  # the same component once more: the older connection gives way
    assert second.started.wait(40)
    assert gateway.ended.wait(40)
    alice.say(f'fax@{DOMAIN}', 'to the new one')
    second.expect('message', lambda m: m.findtext('{jabber:component:accept}body') == 'to the new one')


@proves('XMP-19')
def test_hostile_components_are_refused(port: int, engine: Engine) -> None:
    wait_until(lambda: _listens(port), 'the component port listens')
    assert 'not-authorized' in _talk(port, DOMAIN, 'wrong secret here')
    assert 'host-unknown' in _talk(port, 'other.example.com', SECRET)
    assert 'host-unknown' in _talk(port, data.DOMAIN, SECRET)
    assert 'not-authorized' in _talk(port, DOMAIN, '', "<message from='a@gateway.example.com' to='alice@example.com'/>")
    for forged in (address('alice'), 'example.com', 'a@evil.gateway.example.com', 'a@other.org'):
        assert 'invalid-from' in _talk(port, DOMAIN, SECRET, f"<message from='{forged}' to='{address('bob')}'/>")
    assert 'improper-addressing' in _talk(port, DOMAIN, SECRET, f"<message to='{address('bob')}'/>")
    assert 'improper-addressing' in _talk(port, DOMAIN, SECRET, f"<message from='a@{DOMAIN}'/>")
    assert 'policy-violation' in _talk(port, DOMAIN, '', '<handshake>' + 'x' * 20_000)
    huge = f"<message from='a@{DOMAIN}' to='{address('bob')}'><body>{'x' * 1_100_000}</body></message>"
    assert 'policy-violation' in _talk(port, DOMAIN, SECRET, huge)
    assert 'restricted-xml' in _talk(port, DOMAIN, SECRET, '<!-- x -->')


def test_components_are_taken_without_a_restart(port: int, engine: Engine) -> None:
    from impadmin.messaging.models import ExternalComponent

    wait_until(lambda: _listens(port), 'the component port listens')
    ExternalComponent.objects.update(secret='another secret of it')
    data.publish_configuration()
    wait_until(lambda: 'not-authorized' in _talk(port, DOMAIN, SECRET), 'the old secret is refused')
    assert '<handshake/>' in _talk(port, DOMAIN, 'another secret of it')
    ExternalComponent.objects.all().delete()
    data.publish_configuration()
    wait_until(lambda: not _listens(port), 'the port is closed without components')


def _listens(port: int) -> bool:
    try:
        socket.create_connection(('127.0.0.1', port), 2).close()
    except OSError:
        return False
    return True


def _talk(port: int, domain: str, secret: str, then: str = '') -> str:
    """Connect, do the handshake (unless ``secret`` is ''), send ``then``; everything the server said."""
    with socket.create_connection(('127.0.0.1', port), 10) as connection:
        connection.settimeout(10)
        said = ''

        def read(until: str) -> None:
            nonlocal said
            while until not in said and '</stream:stream>' not in said:
                try:
                    data = connection.recv(65536)
                except ConnectionError:
                    return
                if not data:
                    return
                said += data.decode()

        connection.sendall(
            b"<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' "
            b"to='%b'>" % domain.encode()
        )
        read('>')
        read("xml:lang='en'>")
        if '</stream:stream>' in said:
            return said
        if secret:
            identity = said.partition(" id='")[2].partition("'")[0]
            digest = hashlib.sha1(f'{identity}{secret}'.encode()).hexdigest()  # noqa: S324 - the protocol
            connection.sendall(f'<handshake>{digest}</handshake>'.encode())
            read('<handshake/>')
            if '<handshake/>' not in said or not then:
                return said
        with contextlib.suppress(ConnectionError):
            connection.sendall(then.encode())
        read('</stream:stream>')
        return said
