"""XEP-0357: a push service is told when messages wait for a client that is not there or not looked at.

Told of: a message with a body that went to the offline store, that a hibernating session (XEP-0198) holds, or that an
inactive client (XEP-0352) got. While nobody serves the user, because the users of a node are being taken over, it waits
until they all are (guide 2373). Neither text nor sender leave the server unless the parameters say so. Messages within
``push_interval_s`` are told of together; one notification is under way at a time for each client. A push service that
refuses is forgotten; one that cannot be reached is given up after ``GIVE_UP`` failures in a row.

Registrations are in the database and, for all users who have one, in memory: a message for somebody without costs one
look-up, 0.1 microseconds, and only when it is stored.
"""

from __future__ import annotations

import asyncio
import secrets
from time import monotonic
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary
from xml.etree import ElementTree

import structlog

from engine.contract import jid as jids
from engine.features.registry import iq, iq_answer, message_waiting, router_started, router_stopped, xep
from engine.services.xcp_router import remote
from engine.store import push as store
from engine.store.pool import Unavailable
from engine.store.push import Registration
from engine.xmpp import forms, ns
from engine.xmpp import stanza as xml
from engine.xmpp.forms import Field, Form
from engine.xmpp.fragments import fragments

if TYPE_CHECKING:
    from engine.features.pubsub.place import Who
    from engine.services.xcp_router.router import XcpRouter
    from engine.session import Session
    from engine.xmpp.stanza import Stanza

log = structlog.get_logger(__name__)


def enabled(router: XcpRouter) -> bool:
    """Whether push notifications are switched on."""
    return bool(router.param('push_enabled'))


XEP = xep(357, '0.4.1', account=(ns.PUSH,), when=enabled)

SUMMARY: Final = 'urn:xmpp:push:summary'
OPTIONS: Final = 'http://jabber.org/protocol/pubsub#publish-options'
OPTIONS_BYTES: Final = 4096
NAME_BYTES: Final = 1023
TEXT: Final = 1000
"""Characters of a message that are sent when the parameter allows it."""
ANSWER_S: Final = 30.0
GIVE_UP: Final = 10
TAKEOVER_S: Final = 1.0
"""How often it is asked whether the users of a failed node have been taken over."""
RELOAD_S: Final = 60.0
"""How often registrations are read again: users may be deleted, renamed, or change them through another node."""
_ID: Final = 'push-'
_SENT: Final = b"<sent xmlns='urn:xmpp:carbons:2'"


class _Pusher:
    """Notifications of one registration. ``news``: a message came that was not told of yet."""

    __slots__ = ('body', 'failures', 'held', 'identity', 'news', 'next_at', 'sender', 'timer')

    def __init__(self) -> None:
        self.identity = ''
        self.failures = 0
        self.news = False
        self.next_at = 0.0
        self.timer: asyncio.TimerHandle | None = None
        self.sender = self.body = ''
        self.held = 0


Key = tuple[str, str, str]


class Push:
    """Registrations and notifications under way of one router. Keys: bare JID, service, node."""

    def __init__(self, router: XcpRouter) -> None:
        self.router = router
        self.users: dict[str, tuple[Registration, ...]] = {}
        self.pushers: dict[Key, _Pusher] = {}
        self.asked: dict[str, Key] = {}
        self._reload: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Read the registrations, and again from time to time."""
        self._reload = self.router.node.spawn(self._work(), 'push registrations')

    def stop(self) -> None:
        """Nothing more is sent."""
        if self._reload is not None:
            self._reload.cancel()
        for pusher in self.pushers.values():
            if pusher.timer is not None:
                pusher.timer.cancel()
        self.pushers.clear()
        self.asked.clear()

    async def _work(self) -> None:
        while True:
            try:
                self.users = await store.load(self.router.node.store)
            except Unavailable as error:
                log.warning('push registrations not read', error=str(error))
            await asyncio.sleep(RELOAD_S)

    def waiting(self, bare: str, raw: bytes, session: Session | None) -> None:
        """A message waits for a user, or for one client of his."""
        known = self.users.get(bare)
        if not known or _SENT in raw or not enabled(self.router):
            return
        for entry in known:
            if session is None or entry.resource == session.resource:
                self._news(bare, entry, raw, session)

    def _news(self, bare: str, entry: Registration, raw: bytes, session: Session | None) -> None:
        key = (bare, entry.service, entry.node)
        pusher = self.pushers.get(key)
        if pusher is None:
            pusher = self.pushers[key] = _Pusher()
        pusher.news = True
        pusher.sender, pusher.body = self._about(raw)
        pusher.held = _held(session)
        self._next(key, pusher)

    def _about(self, raw: bytes) -> tuple[str, str]:
        """Sender and text as far as the parameters let them leave."""
        sender, text = bool(self.router.param('push_sender')), bool(self.router.param('push_text'))
        if not (sender or text):
            return '', ''
        try:
            tree = xml.parse_tree(raw)
        except ElementTree.ParseError:
            return '', ''
        body = tree.findtext(f'{{{ns.CLIENT}}}body') or ''
        return tree.get('from', '').partition('/')[0] if sender else '', body[:TEXT] if text else ''

    def _next(self, key: Key, pusher: _Pusher) -> None:
        """Send now, or when the last one was answered and the time has come."""
        if not pusher.news or pusher.identity or pusher.timer is not None:
            return
        pause = pusher.next_at - monotonic()
        if not self.router.node.ownership.somebody_serves(next((one.home for one in self.users.get(key[0], ())), None)):
            pause = max(pause, TAKEOVER_S)
        if pause > 0:
            pusher.timer = asyncio.get_running_loop().call_later(pause, self._due, key)
            return
        pusher.news = False
        pusher.next_at = monotonic() + float(self.router.param('push_interval_s'))
        pusher.identity = _ID + secrets.token_hex(8)
        self.asked[pusher.identity] = key
        self.router.node.spawn(self._send(key, pusher, pusher.identity), f'push for {key[0]}')

    def _due(self, key: Key) -> None:
        pusher = self.pushers.get(key)
        if pusher is not None:
            pusher.timer = None
            self._next(key, pusher)

    async def _send(self, key: Key, pusher: _Pusher, identity: str) -> None:
        bare, service, node = key
        entry = next((e for e in self.users.get(bare, ()) if (e.service, e.node) == (service, node)), None)
        try:
            count = await store.waiting(self.router.node.store, bare) + pusher.held
        except Unavailable:
            count = 0
        route = remote.route_for(self.router, service.partition('/')[0].rpartition('@')[2])
        if entry is None or route is None:
            self._failed(identity, 'remote-server-not-found')
            return
        self.router.node.counters.push_sent += 1
        self.router.node.counters.remote_out += 1
        pusher.timer = asyncio.get_running_loop().call_later(ANSWER_S, self._failed, identity, 'remote-server-timeout')
        raw = _request(identity, bare, entry, pusher, count)
        route.send(raw, bare, service, lambda condition, _text: self._failed(identity, condition))

    def answered(self, identity: str, sender: str, error: str | None) -> bool:
        """Result (``error`` None) or error of a notification: its type, for instance cancel."""
        key = self.asked.get(identity)
        if key is None or sender != key[1]:
            return False
        if error is None:
            pusher = self._over(identity)
            if pusher is not None:
                pusher.failures = 0
                self._next(key, pusher)
        elif error == 'wait':
            self._failed(identity, 'remote-server-timeout')
        else:
            log.info('push service refused, registration removed', user=key[0], service=key[1])
            self.router.node.counters.push_failed += 1
            self._over(identity)
            self._forget(key)
        return True

    def _over(self, identity: str) -> _Pusher | None:
        key = self.asked.pop(identity, None)
        pusher = self.pushers.get(key) if key is not None else None
        if pusher is None:
            return None
        pusher.identity = ''
        if pusher.timer is not None:
            pusher.timer.cancel()
            pusher.timer = None
        return pusher

    def _failed(self, identity: str, condition: str) -> None:
        key = self.asked.get(identity)
        pusher = self._over(identity)
        if key is None or pusher is None:
            return
        self.router.node.counters.push_failed += 1
        pusher.failures += 1
        if pusher.failures >= GIVE_UP:
            log.warning('push service given up', user=key[0], service=key[1], condition=condition)
            self._forget(key)
        else:
            self._next(key, pusher)

    def _forget(self, key: Key) -> None:
        bare, service, node = key
        self.pushers.pop(key, None)
        self.users[bare] = tuple(e for e in self.users.get(bare, ()) if (e.service, e.node) != (service, node))

        async def remove() -> None:
            try:
                await store.remove(self.router.node.store, bare, service, node)
            except Unavailable as error:
                log.warning('push registration not removed', user=bare, error=str(error))

        self.router.node.spawn(remove(), f'push registration of {bare}')


def _held(session: Session | None) -> int:
    """Messages that a session holds for its client."""
    if session is None:
        return 0
    if session.managed is None or not session.hibernating:
        return 1
    return sum(isinstance(entry, tuple) and b'<body' in entry[0] for entry in session.managed.outbound.ring)


def _request(identity: str, bare: str, entry: Registration, pusher: _Pusher, count: int) -> bytes:
    """The publication at the push service (XEP-0357 7)."""
    fields = [forms.hidden(SUMMARY), Field('message-count', 'text-single', (str(max(count, 1)),))]
    if pusher.sender:
        fields.append(Field('last-message-sender', 'jid-single', (pusher.sender,)))
    if pusher.body:
        fields.append(Field('last-message-body', 'text-single', (pusher.body,)))
    item = f"<item><notification xmlns='{ns.PUSH}'>{Form('form', tuple(fields)).xml()}</notification></item>"
    named = f" node='{xml.quote(entry.node)}'" if entry.node else ''
    options = b'<publish-options>%b</publish-options>' % entry.options if entry.options else b''
    head = f"<iq type='set' id='{identity}' from='{xml.quote(bare)}' to='{xml.quote(entry.service)}'>"
    inside = f"<pubsub xmlns='{ns.PUBSUB}'><publish{named}>{item}</publish>"
    return b'%b%b%b</pubsub></iq>' % (head.encode(), inside.encode(), options)


_PUSH: WeakKeyDictionary[XcpRouter, Push] = WeakKeyDictionary()


@router_started.on()
def on_start(router: XcpRouter) -> None:
    """Push works while the router runs."""
    push = _PUSH[router] = Push(router)
    push.start()


@router_stopped.on()
def on_stop(router: XcpRouter) -> None:
    """And ends with it."""
    push = _PUSH.pop(router, None)
    if push is not None:
        push.stop()


@message_waiting.on()
def on_waiting(router: XcpRouter, bare: str, raw: bytes, session: Session | None) -> None:
    """A message waits."""
    push = _PUSH.get(router)
    if push is not None:
        push.waiting(bare, raw, session)


@iq_answer.on()
def on_answer(router: XcpRouter, sender: Who, stanza: Stanza, bare: str) -> bool | None:
    """A push service answers."""
    push = _PUSH.get(router)
    if push is None or not (stanza.id or '').startswith(_ID):
        return None
    error: str | None = None
    if stanza.type == 'error':
        found = stanza.child(ns.CLIENT, 'error')
        error = found.get('type', 'cancel') if found is not None else 'cancel'
    return push.answered(stanza.id or '', sender.jid, error) or None


@iq.on('set', ns.PUSH, 'enable', 'self')
async def on_enable(session: Session, stanza: Stanza, router: XcpRouter) -> bytes:
    """XEP-0357 5: a client registers. The same service and node replace an older registration."""
    push, element = _PUSH.get(router), stanza.payload
    assert element is not None
    if push is None or not enabled(router):
        return xml.error(stanza, 'not-allowed', text='Push notifications are disabled by the administrator.')
    service = _service(element.get('jid'))
    node = element.get('node', '')
    if service is None or len(node.encode()) > NAME_BYTES:
        return xml.error(stanza, 'bad-request', text="Give the push service in 'jid' and its node in 'node'.")
    if service.partition('/')[0].rpartition('@')[2] in router.domains:
        return xml.error(stanza, 'not-allowed', text='A user is no push service.')
    options = b''
    if len(element):
        try:
            form = forms.parse(element[0])
        except forms.FormError as error:
            return xml.error(stanza, 'bad-request', text=str(error))
        options = fragments(stanza.raw, 2).get((0, 0), b'')
        if len(element) > 1 or form.kind != 'submit' or form.form_type != OPTIONS or len(options) > OPTIONS_BYTES:
            text = f'The options are one form of the type submit, FORM_TYPE {OPTIONS}, at most {OPTIONS_BYTES} bytes.'
            return xml.error(stanza, 'bad-request', text=text)
    new = Registration(service, node, session.resource, options)
    await store.save(router.node.store, session.user.id, new, int(router.param('push_registrations_per_user')))
    push.users[session.bare] = await store.of(router.node.store, session.user.id)
    return xml.iq_result(stanza)


@iq.on('set', ns.PUSH, 'disable', 'self')
async def on_disable(session: Session, stanza: Stanza, router: XcpRouter) -> bytes:
    """XEP-0357 6: a client takes the registrations at a service back, all or those of one node."""
    push, element = _PUSH.get(router), stanza.payload
    assert element is not None
    service = _service(element.get('jid'))
    if service is None:
        return xml.error(stanza, 'bad-request', text="Give the push service in the attribute 'jid'.")
    found = await store.remove(router.node.store, session.bare, service, element.get('node'))
    if push is not None:
        push.users[session.bare] = await store.of(router.node.store, session.user.id)
    if not found:
        return xml.error(stanza, 'item-not-found', text='There is no such registration.')
    return xml.iq_result(stanza)


def _service(text: str | None) -> str | None:
    try:
        prepared = jids.prepare(text or '')
    except jids.InvalidJID:
        return None
    return prepared if len(prepared.encode()) <= NAME_BYTES else None
