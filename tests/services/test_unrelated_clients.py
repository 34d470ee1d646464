"""Clients of other families hold sessions here: @xmpp/client (Node), Strophe (Chromium), Profanity (terminal)."""

from __future__ import annotations

import functools
import http.server
import json
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, fromstring

import pytest

from tests.areas.xmpp_fixtures import configure
from tests.fixtures import data
from tests.fixtures.browser import CHROMIUM, FLAGS
from tests.fixtures.processes import ROOT, wait_until
from tests.services.terminal import Terminal
from tests.services.webclient import BOSH, WEBSOCKET, Web, start
from tests.xmppclient import XmppClient, condition

JS = ROOT / 'tests' / 'js'
CLIENT = '{jabber:client}'


def certificate(web: Web) -> Path:
    """The certificate the node made for itself, which clients are told to trust."""
    from tests.fixtures.servers import environment

    return Path(environment()['IMP_VAR']) / 'tls' / data.NODE / 'xmpp.pem'


def _bob(request: pytest.FixtureRequest) -> XmppClient:
    """The other end: a slixmpp client. (Its fixture starts the engine, so it comes after the settings.)"""
    bob: XmppClient = request.getfixturevalue('xmpp')('bob', 'slixmpp')
    bob.roster()
    bob.available()
    return bob


# ---- @xmpp/client


class NodeClient:
    """A program of tests/js in a process of its own."""

    def __init__(self, program: str, options: dict[str, Any], trusted: Path) -> None:
        self.process = subprocess.Popen(
            ['node', program, json.dumps(options)], cwd=JS, env=_environment(trusted), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.seen: list[tuple[str, str]] = []
        self._queue: queue.Queue[tuple[str, str]] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            try:
                event = json.loads(line)
                self._queue.put((event['kind'], event['value']))
            except ValueError:
                self._queue.put(('output', line))

    def command(self, name: str, value: str = '') -> None:
        """Let it do something."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({'command': name, 'value': value}) + '\n')
        self.process.stdin.flush()

    def send(self, xml: str) -> None:
        """Let it send a stanza."""
        self.command('send', xml)

    def expect(self, kind: str, *needles: str, timeout_s: float = 40) -> str:
        """The next event of this kind that contains all ``needles``."""
        deadline = time.monotonic() + timeout_s
        while True:
            for event in self.seen:
                if event[0] == kind and all(needle in event[1] for needle in needles):
                    self.seen.remove(event)
                    return event[1]
            try:
                self.seen.append(self._queue.get(timeout=max(0.01, deadline - time.monotonic())))
            except queue.Empty:
                pytest.fail(f'no {kind} with {needles}; seen: {self.seen}')

    def iq(self, kind: str, payload: str, to: str = '') -> Element:
        """Let it ask; the answer."""
        number = f'q{time.monotonic_ns()}'
        addressed = f' to="{to}"' if to else ''
        self.send(f'<iq type="{kind}" id="{number}"{addressed}>{payload}</iq>')
        return fromstring(self.expect('stanza', number))  # noqa: S314

    def end(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()


def _environment(trusted: Path) -> dict[str, str]:
    import os

    return {**os.environ, 'NODE_EXTRA_CA_CERTS': str(trusted), 'NODE_NO_WARNINGS': '1'}


@contextmanager
def node_client(*arguments: Any) -> Iterator[NodeClient]:
    """A NodeClient that is ended in any case."""
    client = NodeClient(*arguments)
    try:
        yield client
    finally:
        client.end()


def test_xmpp_js(request: pytest.FixtureRequest, db: None, make_user: Callable[..., Any]) -> None:
    """Over WebSocket, STARTTLS and direct TLS: sign-in, contact list, subscription, IM, resumption after a cut."""
    configure(presence={'auto_approve': False})
    web = start(request)
    make_user('bob')
    bob = _bob(request)
    for number, service in enumerate((
        f'wss://127.0.0.1:{web.port}{WEBSOCKET}',
        f'xmpp://127.0.0.1:{web.engine.port}',
        f'xmpps://127.0.0.1:{web.engine.tls_port}',
    )):  # fmt: skip
        user = f'alice{number}'
        make_user(user)
        bare = f'{user}@{data.DOMAIN}'
        options = {
            'service': service, 'domain': data.DOMAIN, 'username': user, 'password': data.PASSWORD, 'resource': 'js',
        }  # fmt: skip
        with node_client('xmppjs.mjs', options, certificate(web)) as alice:
            jid = alice.expect('online')
            assert jid == f'{bare}/js'
            assert alice.iq('get', '<query xmlns="jabber:iq:roster"/>').get('type') == 'result'
            alice.send('<presence><status>here</status></presence>')
            alice.send(f'<presence type="subscribe" to="bob@{data.DOMAIN}"/>')
            bob.expect('presence', type='subscribe', from_=bare)
            bob.presence('subscribed', to=bare)
            alice.expect('stanza', 'jabber:iq:roster', 'subscription="to"')
            alice.expect('stanza', 'presence', f'from="{bob.jid}"')
            bob.presence('subscribe', to=bare)
            # A contact is approved without a question (docs/decisions/0004).
            alice.expect('stanza', 'subscription="both"')
            bob.expect('presence', type='', from_=jid, status='here')
            alice.send(f'<message to="{bob.jid}" type="chat"><body>from js &amp; 日本</body></message>')
            bob.expect('message', body='from js & 日本', from_=jid)
            bob.say(jid, 'to js')
            alice.expect('stanza', 'to js')
            _resumes(alice, bob, jid)
            alice.command('stop')
            alice.expect('offline')
            bob.expect('presence', type='unavailable', from_=jid)


def _resumes(alice: NodeClient, bob: XmppClient, jid: str) -> None:
    """The network breaks and comes back: nothing is lost in either direction, nobody sees it go."""
    bob.sync()
    bob.forget()
    alice.command('cut')
    alice.expect('disconnect')
    bob.say(jid, 'while away')
    alice.expect('resumed')
    alice.expect('stanza', 'while away')
    alice.send(f'<message to="{bob.jid}" type="chat"><body>back again</body></message>')
    bob.expect('message', body='back again', from_=jid)
    bob.expect_none('presence', within=0.1, from_=jid)


# ---- stanza


def test_stanza(request: pytest.FixtureRequest, db: None, make_user: Callable[..., Any]) -> None:
    """stanza over BOSH and WebSocket, by its own functions for what the server offers."""
    from impadmin.system.models import ParameterValue

    ParameterValue.objects.create(service='xcp_router', name='message_archive', value=True)
    web = start(request)
    for user in ('bob', 'erin', 'frank', 'mallory'):
        make_user(user)
    bob = _bob(request)
    for user, transports in (
        ('erin', {'bosh': f'https://127.0.0.1:{web.port}{BOSH}', 'websocket': False}),
        ('frank', {'websocket': f'wss://127.0.0.1:{web.port}{WEBSOCKET}', 'bosh': False}),
    ):
        options = {
            'jid': f'{user}@{data.DOMAIN}',
            'resource': 'stanza',
            'password': data.PASSWORD,
            'transports': transports,
        }
        with node_client('stanzaio.cjs', options, certificate(web)) as client:
            _stanza(client, f'{user}@{data.DOMAIN}', bob, request)


def _stanza(client: NodeClient, bare: str, bob: XmppClient, request: pytest.FixtureRequest) -> None:
    def call(method: str, *arguments: Any) -> Any:
        client.command(method, json.dumps(arguments))
        return json.loads(client.expect(f'{method}:done'))

    jid = client.expect('online')
    assert jid == f'{bare}/stanza'
    call('getRoster')
    call('sendPresence', {'status': 'by stanza'})
    call('enableCarbons')
    call('subscribe', bob.bare)
    bob.presence('subscribe', to=bare)
    bob.contact(bare, subscription='both')
    bob.expect('presence', type='', from_=jid, status='by stanza')
    call('sendMessage', {'to': bob.jid, 'type': 'chat', 'body': 'from stanza'})
    bob.expect('message', body='from stanza', from_=jid)
    bob.say(jid, 'to stanza')
    assert 'to stanza' in client.expect('message', 'to stanza')
    # Copies of what the user's other client does.
    other = request.getfixturevalue('xmpp')(bare.partition('@')[0], 'desk')
    other.available()
    bob.say(other.jid, 'for the desk')
    client.expect('carbon', 'for the desk')
    other.say(bob.jid, 'from the desk')
    client.expect('carbon', 'from the desk')
    # Small questions.
    call('ping', data.DOMAIN)
    assert call('getSoftwareVersion', data.DOMAIN)['name']
    assert call('getTime', data.DOMAIN)['utc']
    assert {'category': 'server', 'type': 'im'}.items() <= call('getDiscoInfo', data.DOMAIN)['identities'][0].items()
    # What was said, from the archive.
    found = [one['item']['message'].get('body') for one in call('searchHistory', {'with': bob.bare})['results']]
    assert found == ['from stanza', 'to stanza', 'for the desk', 'from the desk']
    # Personal eventing, both ways; bookmarks; vCard; blocking.
    call('publishTune', {'title': 'Heroes', 'artist': 'Bowie'})
    bob.forget()
    published = bob.iq(
        'get',
        "<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='http://jabber.org/protocol/tune'/></pubsub>",
        to=bare,
    )
    assert published.find('.//{http://jabber.org/protocol/tune}title') is not None
    call('setBookmarks', [{'jid': 'room@conference.example.org', 'name': 'Room', 'autoJoin': True}])
    assert call('getBookmarks')[0]['jid'] == 'room@conference.example.org'
    call('publishVCard', {'fullName': 'Erin'})
    assert call('getVCard', bare)['fullName'] == 'Erin'
    assert not call('getBlocked')['jids']  # who has asked is told of changes
    call('block', f'mallory@{data.DOMAIN}')
    client.expect('block', 'mallory')
    assert call('getBlocked')['jids'] == [f'mallory@{data.DOMAIN}']
    call('markInactive')
    bob.say(jid, 'while nobody looks')
    client.expect('message', 'while nobody looks')
    call('markActive')
    client.command('disconnect')
    bob.expect('presence', type='unavailable', from_=jid)


# ---- Strophe in a browser


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_arguments: Any) -> None:
        """Nothing."""


@pytest.fixture
def pages() -> Iterator[str]:
    """A web server for the test's own page; its origin."""
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(_Quiet, directory=str(JS)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}'
    server.shutdown()
    server.server_close()


def test_strophe(request: pytest.FixtureRequest, db: None, pages: str, make_user: Callable[..., Any]) -> None:
    """Strophe in Chromium over BOSH and WebSocket: sign-in, contact list, subscription, IM, a lost network, the end."""
    from playwright.sync_api import sync_playwright

    configure(presence={'auto_approve': False})
    web = start(request, allowed_origins=pages)
    for user in ('bob', 'carol0', 'carol1'):
        make_user(user)
    bob = _bob(request)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        context = browser.new_context(ignore_https_errors=True)
        for number, service in enumerate(
            (f'https://127.0.0.1:{web.port}{BOSH}', f'wss://127.0.0.1:{web.port}{WEBSOCKET}')
        ):
            page = context.new_page()
            page.goto(f'{pages}/strophe.html')
            _strophe(page, service, f'carol{number}', bob)
            page.close()
        stranger = context.new_page()
        stranger.goto(pages.replace('127.0.0.1', 'localhost') + '/strophe.html')
        stranger.evaluate(
            'arguments => begin(...arguments)', [f'wss://127.0.0.1:{web.port}{WEBSOCKET}', f'x@{data.DOMAIN}', 'x']
        )
        stranger.wait_for_function("statuses.some(one => one.startsWith('CONNFAIL') || one.startsWith('DISCONNECTED'))")
        browser.close()


def _strophe(page: Any, service: str, user: str, bob: XmppClient) -> None:
    bare = f'{user}@{data.DOMAIN}'
    jid = f'{bare}/strophe'

    def came(text: str) -> None:
        page.wait_for_function('text => took(text)', arg=text)

    page.evaluate('arguments => begin(...arguments)', [service, jid, data.PASSWORD])
    page.wait_for_function("statuses.includes('CONNECTED')")
    page.evaluate(
        'text => send(text)', "<iq xmlns='jabber:client' type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>"
    )
    came('jabber:iq:roster')
    page.evaluate('text => send(text)', "<presence xmlns='jabber:client'><status>in a page</status></presence>")
    page.evaluate('text => send(text)', f"<presence xmlns='jabber:client' type='subscribe' to='bob@{data.DOMAIN}'/>")
    bob.expect('presence', type='subscribe', from_=bare)
    bob.presence('subscribed', to=bare)
    came(f'from="{bob.jid}"')
    bob.presence('subscribe', to=bare)
    came('subscription="both"')
    bob.expect('presence', type='', from_=jid, status='in a page')
    page.evaluate(
        'text => send(text)',
        f"<message xmlns='jabber:client' type='chat' to='{bob.jid}'><body>from the page</body></message>",
    )
    bob.expect('message', body='from the page', from_=jid)
    for number in range(20):
        bob.say(jid, f'number {number}.')
    came('number 19.')
    found = page.evaluate("received.join('').match(/number [0-9]+[.]/g)")
    assert found == [f'number {number}.' for number in range(20)], 'in order, each once'
    # The network is gone for a moment. BOSH repeats its requests; the page sees no difference.
    if service.startswith('https'):
        page.context.set_offline(True)
        bob.say(jid, 'offline for a moment')
        page.wait_for_timeout(200)
        page.context.set_offline(False)
        came('offline for a moment')
    page.evaluate("connection.disconnect('bye')")
    page.wait_for_function("statuses.includes('DISCONNECTED')")
    bob.expect('presence', type='unavailable', from_=jid)
    wait_until(lambda: 'ERROR' not in page.evaluate('statuses'), 'no error')


# ---- Profanity


def test_profanity(request: pytest.FixtureRequest, db: None, make_user: Callable[..., Any]) -> None:
    """Profanity over STARTTLS, after its user has accepted the certificate: presence, IM, copies, commands."""
    engine = request.getfixturevalue('engine')
    for user in ('bob', 'dave', 'mallory'):
        make_user(user)
    bob = _bob(request)
    with Terminal('dave', engine.port) as dave:
        dave.wait("Use '/tls allow' to accept")
        dave.type('/tls allow')
        dave.wait('logged in successfully', '[TLS] [online]')
        jid = f'{dave.jid}/profanity'
        # Presence both ways; subscriptions are approved by the product's default.
        dave.type(f'/sub request bob@{data.DOMAIN}')
        bob.presence('subscribe', to=dave.jid)
        bob.contact(dave.jid, subscription='both')
        bob.expect('presence', type='', from_=jid)
        bob.available(show='dnd', status='in a meeting')
        dave.wait('in a meeting')
        dave.type('/status set away "gone for lunch"')
        bob.expect('presence', type='', from_=jid, status='gone for lunch')
        dave.type('/status set online')
        # IM both ways, with a receipt.
        dave.type(f'/msg bob@{data.DOMAIN} from the terminal: 你好')
        asked = bob.expect('message', body='from the terminal: 你好', from_=jid)
        assert asked.find('{urn:xmpp:receipts}request') is not None
        bob.say(jid, 'hello terminal', extra="<request xmlns='urn:xmpp:receipts'/>")
        dave.wait('hello terminal')
        bob.expect('message', has='{urn:xmpp:receipts}received')
        # What the user's other client says and is told shows up here (XEP-0280).
        other = request.getfixturevalue('xmpp')('dave', 'desk')
        other.available()
        bob.forget()
        other.say(f'bob@{data.DOMAIN}', 'said at the desk')
        dave.wait('said at the desk')
        bob.say(other.jid, 'answered to the desk')
        dave.wait('answered to the desk')
        # Commands that ask the server.
        dave.type('/win 1')
        dave.type('/ping')
        dave.wait('Ping response from server')
        dave.type(f'/disco info {data.DOMAIN}')
        dave.wait('Service discovery info for')
        dave.type('/clear')
        dave.type(f'/blocked add mallory@{data.DOMAIN}')
        mallory = request.getfixturevalue('xmpp')('mallory', 'x')
        dave.type('/blocked')
        dave.wait(f'mallory@{data.DOMAIN}')
        refused = condition(mallory.iq('get', "<ping xmlns='urn:xmpp:ping'/>", to=jid))
        assert refused == 'service-unavailable'
        dave.type('/disconnect')
        bob.expect('presence', type='unavailable', from_=jid)
