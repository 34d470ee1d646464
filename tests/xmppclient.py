"""A real XMPP client (slixmpp) for tests: over TLS, with memory of everything it received.

``AsyncClient`` is for asynchronous code. ``XmppClient`` is the same client driven from ordinary test functions: its
event loop runs in a thread, and every method below blocks until it is done, so it mixes with the ORM and a browser.

    alice = XmppClient('alice@example.com', 'secret', port=5222).connect()
    alice.roster(); alice.available()
    alice.say('bob@example.com', 'hello')
    bob.expect('message', body='hello', from_=alice.jid)
    answer = alice.iq('get', "<ping xmlns='urn:xmpp:ping'/>", to='example.com')    # Element, also when it is an error
    bob.expect_none('message', within=0.5)

``expect`` takes the first stanza received and not yet taken that fits. Conditions: ``type`` ('' means no type),
``from_`` (full JID, or bare to match all resources), ``id``, ``body``, ``status``, ``show``, ``where`` (a function of
the Element), and ``has`` ('{namespace}name' of a descendant). Elements carry names as '{namespace}name'.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
import logging
import ssl
import threading
from collections.abc import Callable
from functools import cache
from typing import Any
from xml.etree.ElementTree import Element, fromstring
from xml.sax.saxutils import escape, quoteattr

import slixmpp

from tests.fixtures.tls import trusting

CLIENT = '{jabber:client}'
ROSTER = '{jabber:iq:roster}'
STREAM_ERRORS = '{urn:ietf:params:xml:ns:xmpp-streams}'
STANZA_ERRORS = '{urn:ietf:params:xml:ns:xmpp-stanzas}'
_numbers = itertools.count(1)
logging.getLogger('slixmpp').setLevel(logging.ERROR)


class SignInFailed(Exception):
    """The server refused. ``str()`` is the SASL, bind or stream error condition, or what else happened."""


class _Recorder(slixmpp.ClientXMPP):
    """slixmpp, handing every received top-level element to ``received`` first. It answers no subscription by itself."""

    received: Callable[[Element], None]

    def _spawn_event(self, xml: Element) -> None:
        self.received(xml)
        super()._spawn_event(xml)


class AsyncClient:
    """One client. ``port`` STARTTLS, or direct TLS with ``direct_tls``. ``ca`` verifies the certificate with this file;
    without it the certificate is not verified. ``mechanism`` picks the SASL mechanism, ``certificate`` is a PEM file
    with a key and the certificate of the user."""

    def __init__(
        self, jid: str, password: str, host: str = '127.0.0.1', port: int = 5222, direct_tls: bool = False,
        ca: str | None = None, mechanism: str | None = None, certificate: str | None = None, tls: bool = True,
    ) -> None:  # fmt: skip
        context = trusting(certificate)
        if ca is not None:
            context.load_verify_locations(ca)
            context.verify_mode, context.check_hostname = ssl.CERT_REQUIRED, True
        self.host, self.port = host, port
        self.bare = jid.partition('/')[0]
        self.jid = jid
        self.xmpp = _Recorder(jid, password, sasl_mech=mechanism, ssl_context=context)
        self.xmpp.received = self._received
        self.xmpp.enable_direct_tls, self.xmpp.enable_starttls = direct_tls, tls and not direct_tls
        self.xmpp.enable_plaintext = self.xmpp.plugin['feature_mechanisms'].unencrypted_scram = not tls
        self.xmpp.auto_reconnect = False
        self.xmpp.roster.auto_authorize = None
        self.xmpp.roster.auto_subscribe = False
        self.stanzas: list[Element] = []
        """Received and not yet taken."""
        self.contacts: dict[str, dict[str, Any]] = {}
        """The contact list as results and pushes told: jid -> subscription, ask, approved, name, groups."""
        self.version = ''
        """Version of the contact list as last told by the server."""
        self.error: str | None = None
        """Condition of the stream error that ended the stream."""
        self.error_text = ''
        self.features: Element | None = None
        """Stream features seen last (after sign-in)."""
        self._outcome: asyncio.Future[None] | None = None
        self._changed = asyncio.Condition()
        self._closed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    # connection

    async def connect(self, timeout: float = 40) -> None:
        """Sign in and bind. Raises SignInFailed."""
        outcome = self._outcome = asyncio.get_running_loop().create_future()

        def fail(reason: str) -> Callable[[Any], None]:
            def failed(event: Any) -> None:
                if not outcome.done():
                    detail = event['condition'] if isinstance(event, slixmpp.xmlstream.StanzaBase) else str(event)
                    outcome.set_exception(SignInFailed(self.error or detail or reason))

            return failed

        def done(_event: Any) -> None:
            if not outcome.done():
                outcome.set_result(None)

        self.xmpp.add_event_handler('session_start', done)
        for event in (
            'failed_auth',
            'failed_all_auth',
            'no_auth',
            'connection_failed',
            'disconnected',
            'session_bind_error',
        ):
            self.xmpp.add_event_handler(event, fail(event))
        self.xmpp.add_event_handler('disconnected', lambda _event: self._closed.set())
        self.xmpp.connect(self.host, self.port)
        try:
            await asyncio.wait_for(outcome, timeout)
        except SignInFailed:
            await self.abort()
            raise
        except TimeoutError:
            await self.abort()
            raise SignInFailed(self.error or 'timeout') from None
        self.jid = str(self.xmpp.boundjid)

    async def close(self) -> None:
        """Sign out properly."""
        if not self._closed.is_set() and self.xmpp.is_connected():
            self.xmpp.disconnect(wait=2)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), 5)
        await self._end()

    async def _end(self) -> None:
        """slixmpp leaves the task that sends behind."""
        task = self.xmpp._run_out_filters
        if task is not None and not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=1)

    async def abort(self) -> None:
        """Cut the connection without a word."""
        self.xmpp.abort()
        await self._end()

    async def closed(self, timeout: float = 40) -> str | None:
        """Wait until the server has ended the stream; the condition of its stream error, None for an orderly end."""
        await asyncio.wait_for(self._closed.wait(), timeout)
        return self.error

    @property
    def connected(self) -> bool:
        """Whether the stream is open."""
        return self.xmpp.is_connected() and not self._closed.is_set()

    # sending

    async def raw(self, data: str) -> None:
        """Send these characters."""
        self.xmpp.send_raw(data)

    async def available(self, priority: int | None = None, show: str = '', status: str = '', to: str = '') -> None:
        """Send available presence, initial or later, or directed with ``to``."""
        inside = f'<show>{show}</show>' if show else ''
        inside += f'<status>{escape(status)}</status>' if status else ''
        inside += f'<priority>{priority}</priority>' if priority is not None else ''
        self.xmpp.send_raw(f'<presence{_address(to)}>{inside}</presence>')

    async def presence(self, type: str, to: str = '', status: str = '') -> None:
        """Send presence of a type: unavailable, subscribe, subscribed, unsubscribe, unsubscribed, probe."""
        inside = f'<status>{escape(status)}</status>' if status else ''
        self.xmpp.send_raw(f"<presence{_address(to)} type='{type}'>{inside}</presence>")

    async def say(self, to: str, body: str, type: str = 'chat', extra: str = '') -> str:
        """Send a message; its id. ``type`` '' sends none; ``body`` '' sends no body."""
        number = f'm{next(_numbers)}'
        kind = f" type='{type}'" if type else ''
        inside = f'<body>{escape(body)}</body>' if body else ''
        self.xmpp.send_raw(f"<message id='{number}'{_address(to)}{kind}>{inside}{extra}</message>")
        return number

    async def iq(self, type: str, payload: str, to: str = '', timeout: float = 40) -> Element:
        """Send a request; the answer, result or error."""
        number = f'q{next(_numbers)}'
        self.xmpp.send_raw(f"<iq id='{number}' type='{type}'{_address(to)}>{payload}</iq>")
        return await self.expect(
            'iq', timeout=timeout, id=number, where=lambda answer: answer.get('type') in ('result', 'error')
        )

    # contact list

    async def roster(self, version: str | None = None) -> dict[str, dict[str, Any]]:
        """Ask for the contact list (and so for pushes); with ``version`` by XEP-0237. Fails the test on an error."""
        asked = '' if version is None else f" ver='{version}'"
        answer = await self.iq('get', f"<query xmlns='jabber:iq:roster'{asked}/>")
        assert answer.get('type') == 'result', condition(answer)
        return self.contacts

    async def add_contact(self, jid: str, name: str = '', groups: tuple[str, ...] = ()) -> str | None:
        """Roster set; the error condition or None."""
        inside = ''.join(f'<group>{escape(group)}</group>' for group in groups)
        named = f' name={quoteattr(name)}' if name else ''
        item = f'<item jid={quoteattr(jid)}{named}>{inside}</item>'
        return condition(await self.iq('set', f"<query xmlns='jabber:iq:roster'>{item}</query>"))

    async def remove_contact(self, jid: str) -> str | None:
        """Roster remove; the error condition or None."""
        item = f"<item jid={quoteattr(jid)} subscription='remove'/>"
        return condition(await self.iq('set', f"<query xmlns='jabber:iq:roster'>{item}</query>"))

    async def contact(self, jid: str, timeout: float = 40, **values: Any) -> dict[str, Any]:
        """Wait until the contact list has ``jid`` with these values (subscription='to', ask=True ...)."""

        def fits() -> bool:
            entry = self.contacts.get(jid)
            return entry is not None and all(entry[key] == value for key, value in values.items())

        await self._wait(fits, timeout, lambda: f'contact {jid} {values}; now {self.contacts.get(jid)}')
        return self.contacts[jid]

    async def no_contact(self, jid: str, timeout: float = 40) -> None:
        """Wait until the contact list does not have ``jid``."""
        await self._wait(lambda: jid not in self.contacts, timeout, lambda: f'{jid} gone from {self.contacts}')

    # receiving

    async def expect(self, kind: str, timeout: float = 40, **conditions: Any) -> Element:
        """Take the first received stanza that fits; fails the test when none comes in time."""
        found: list[Element] = []

        def look() -> bool:
            found[:] = [stanza for stanza in self.stanzas if _fits(stanza, kind, conditions)][:1]
            return bool(found)

        await self._wait(look, timeout, lambda: f'{kind} {conditions}; received: {[_show(s) for s in self.stanzas]}')
        self.stanzas.remove(found[0])
        return found[0]

    async def expect_none(self, kind: str, within: float = 0.5, **conditions: Any) -> None:
        """Fail the test when such a stanza was received or comes within the time."""
        await asyncio.sleep(within)
        found = [_show(stanza) for stanza in self.stanzas if _fits(stanza, kind, conditions)]
        assert not found, f'{self.jid} received {found}'

    async def forget(self) -> None:
        """Forget what was received so far."""
        self.stanzas.clear()

    async def sync(self) -> None:
        """Everything sent so far was processed, and every answer the server gave by then has arrived."""
        domain = self.bare.rpartition('@')[2]
        await self.iq('get', "<ping xmlns='urn:xmpp:ping'/>", to=domain)

    def _received(self, xml: Element) -> None:
        name = xml.tag.rpartition('}')[2]
        if name == 'features':
            self.features = xml
        elif name == 'error':
            inside = [child for child in xml if child.tag.startswith(STREAM_ERRORS)]
            self.error = next((c.tag.rpartition('}')[2] for c in inside if not c.tag.endswith('}text')), 'error')
            self.error_text = next((c.text or '' for c in inside), '')
            for child in inside:
                if child.tag.endswith('}text'):
                    self.error_text = child.text or ''
        elif xml.tag in (f'{CLIENT}message', f'{CLIENT}presence', f'{CLIENT}iq'):
            if self._outcome is not None and not self._outcome.done() and (refused := condition(xml)):
                self._outcome.set_exception(SignInFailed(refused))
            self._learn(xml)
            self.stanzas.append(xml)
        task = asyncio.ensure_future(self._notify())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _learn(self, xml: Element) -> None:
        query = xml.find(f'{ROSTER}query')
        if query is None or xml.get('type') not in ('result', 'set'):
            return
        if xml.get('type') == 'result':
            self.contacts.clear()
        self.version = query.get('ver', '')
        for item in query:
            if item.get('subscription') == 'remove':
                self.contacts.pop(item.attrib['jid'], None)
                continue
            self.contacts[item.attrib['jid']] = {
                'subscription': item.get('subscription', 'none'),
                'ask': item.get('ask') == 'subscribe',
                'approved': item.get('approved') == 'true',
                'name': item.get('name', ''),
                'groups': sorted(group.text or '' for group in item),
            }

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _wait(self, look: Callable[[], bool], timeout: float, what: Callable[[], str]) -> None:
        async with self._changed:
            try:
                await asyncio.wait_for(self._changed.wait_for(look), timeout)
            except TimeoutError:
                raise AssertionError(f'{self.jid}: not within {timeout} s: {what()}') from None


class XmppClient:
    """``AsyncClient`` for ordinary test functions: same methods, each waits for its end. ``connect`` returns self."""

    def __init__(self, jid: str, password: str, **options: Any) -> None:
        async def make() -> AsyncClient:
            return AsyncClient(jid, password, **options)

        self.client: AsyncClient = _run(make())

    def connect(self, timeout: float = 40) -> XmppClient:
        """Sign in and bind. Raises SignInFailed."""
        _run(self.client.connect(timeout))
        return self

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.client, name)
        if not inspect.iscoroutinefunction(value):
            return value

        def call(*args: Any, **kwargs: Any) -> Any:
            return _run(value(*args, **kwargs))

        return call

    def __enter__(self) -> XmppClient:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def condition(stanza: Element) -> str | None:
    """The error condition of a stanza, None when it is no error."""
    error = stanza.find(f'{CLIENT}error')
    if error is None:
        return None
    return next(
        (child.tag.removeprefix(STANZA_ERRORS) for child in error if child.tag.startswith(STANZA_ERRORS)), 'error'
    )


def error_text(stanza: Element) -> str:
    """The words of a stanza error."""
    return stanza.findtext(f'{CLIENT}error/{STANZA_ERRORS}text') or ''


def body(message: Element) -> str:
    """The body of a message."""
    return message.findtext(f'{CLIENT}body') or ''


def element(xml: str) -> Element:
    """Parse an element."""
    return fromstring(xml)  # noqa: S314 - our own test data


def _address(to: str) -> str:
    return f' to={quoteattr(to)}' if to else ''


def _fits(stanza: Element, kind: str, conditions: dict[str, Any]) -> bool:
    if stanza.tag != CLIENT + kind:
        return False
    for key, value in conditions.items():
        if key == 'where':
            if not value(stanza):
                return False
        elif key == 'has':
            if stanza.find(f'.//{value}') is None:
                return False
        elif key == 'from_':
            sender = stanza.get('from', '')
            if sender != value and ('/' in value or sender.partition('/')[0] != value):
                return False
        elif key in ('type', 'id', 'to'):
            if stanza.get(key, '') != value:
                return False
        elif (stanza.findtext(CLIENT + key) or '') != value:
            return False
    return True


def _show(stanza: Element) -> str:
    from xml.etree.ElementTree import tostring

    return tostring(stanza, encoding='unicode').replace('ns0:', '')[:300]


@cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name='xmpp clients', daemon=True).start()
    return loop


def _run(awaitable: Any) -> Any:
    return asyncio.run_coroutine_threadsafe(awaitable, _loop()).result(120)
