"""XEP-0060: the publish-subscribe service of the cluster, a Route of the router under ``pubsub.DEFAULT-DOMAIN``.

Every node of the cluster answers for it: nothing is kept in memory, so they cannot disagree. Users make nodes (a
setting), people of other servers subscribe and publish as the node allows.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final, cast
from weakref import WeakKeyDictionary
from xml.etree import ElementTree

import structlog

from engine.contract import jid as jids
from engine.features.pubsub import discovery, requests, subscribing
from engine.features.pubsub.place import Place, Refused
from engine.features.registry import iq_answer, router_started, router_stopped, server_items, xep
from engine.services.xcp_router import remote
from engine.store.pool import Unavailable
from engine.xmpp import forms, ns
from engine.xmpp import stanza as xml

if TYPE_CHECKING:
    from engine.services.xcp_router.remote import Failed, Sender
    from engine.services.xcp_router.router import XcpRouter
    from engine.session import Session
    from engine.xmpp.stanza import Stanza

XEP = xep(60, '1.29.0')

log = structlog.get_logger(__name__)

WAITING: Final = 200
"""Requests of one sender from outside that may wait; clients here are paused instead (Session.begin)."""
SENDERS: Final = 10_000
"""Senders whose requests may wait at the same time."""


class Asker:
    """Who sent one stanza."""

    __slots__ = ('bare', 'jid')

    def __init__(self, jid: str) -> None:
        self.jid = jid
        self.bare = jid.partition('/')[0]


class Service:
    """Takes stanzas like any other Route; requests of one sender are answered in their order."""

    def __init__(self, router: XcpRouter, domain: str) -> None:
        self.router = router
        self.place = Place(router, domain, None)
        self._waiting: dict[str, deque[tuple[Stanza, Session | None]]] = {}

    def send(self, raw: bytes, sender: str, to: str, failed: Failed | None) -> None:
        """One stanza for the service."""
        try:
            stanza = xml.parse(raw)
        except ElementTree.ParseError:
            return
        if stanza.name == 'presence' or (stanza.type in ('error', 'result')):
            return
        if to.partition('/')[0] != self.place.address:
            if failed is not None:
                failed('service-unavailable', 'There is nobody of this name.')
            return
        session = self.router.full.get(sender)
        queue = self._waiting.get(sender)
        if session is None and ((queue and len(queue) >= WAITING) or (not queue and len(self._waiting) >= SENDERS)):
            if failed is not None:
                failed('resource-constraint', 'Too many requests wait already. Try again later.')
            return
        if session is not None:
            session.begin(len(raw))
        if queue is None:
            queue = self._waiting[sender] = deque()
            self.router.node.spawn(self._work(sender, queue), f'publish-subscribe requests of {sender}')
        queue.append((stanza, session))

    async def _work(self, sender: str, queue: deque[tuple[Stanza, Session | None]]) -> None:
        try:
            while queue:
                stanza, session = queue.popleft()
                try:
                    answer = await self._answer(Asker(sender), stanza)
                    if answer is not None:
                        self._reply(sender, answer)
                finally:
                    if session is not None:
                        session.finish(len(stanza.raw))
        finally:
            del self._waiting[sender]

    def _reply(self, sender: str, answer: bytes) -> None:
        session = self.router.full.get(sender)
        if session is not None:
            session.send(answer)
        elif not self.router.outside(sender.partition('/')[0]):
            # a request of the server itself, on behalf of a user
            asked = cast('Sender', Asker(self.place.address))
            iq_answer.fire(self.router, asked, xml.parse(answer), sender)
        else:
            remote.post(self.router, answer, self.place.address, sender)

    async def _answer(self, asker: Asker, stanza: Stanza) -> bytes | None:
        try:
            if stanza.name == 'message':
                return await self._message(asker, stanza)
            return await self._request(asker, stanza)
        except Unavailable:
            return xml.error(
                stanza, 'internal-server-error', 'wait', 'The database cannot be reached. Try again later.'
            )
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception('publish-subscribe request failed', sender=asker.jid)
            return xml.error(stanza, 'internal-server-error')

    async def _request(self, asker: Asker, stanza: Stanza) -> bytes:
        payload = stanza.payload
        if payload is None or len(stanza.tree) != 1 or not stanza.id:
            return xml.error(stanza, 'bad-request', text='A request needs an id and exactly one child element.')
        namespace, _, name = payload.tag[1:].rpartition('}')
        if name == 'pubsub' and namespace in (ns.PUBSUB, ns.PUBSUB_OWNER):
            return await requests.answer(self.place, asker, stanza)
        if stanza.type == 'get' and name == 'query' and namespace == ns.DISCO_INFO:
            return await discovery.service_info(self.place, asker, stanza, payload.get('node'))
        if stanza.type == 'get' and name == 'query' and namespace == ns.DISCO_ITEMS:
            return await discovery.service_items(self.place, asker, stanza, payload.get('node'))
        if stanza.type == 'get' and name == 'ping' and namespace == ns.PING:
            return xml.iq_result(stanza)
        return xml.error(stanza, 'service-unavailable')

    async def _message(self, asker: Asker, stanza: Stanza) -> bytes | None:
        """An owner answers whether somebody may subscribe; other messages have no receiver here."""
        form = forms.find(stanza.tree)
        try:
            if form is not None and await subscribing.approve(self.place, asker, form):
                return None
        except forms.FormError as error:
            return xml.error(stanza, 'bad-request', text=str(error))
        except Refused as refused:
            return refused.answer(stanza)
        return xml.error(stanza, 'service-unavailable')


_SERVICES: WeakKeyDictionary[XcpRouter, Service] = WeakKeyDictionary()


def domain(router: XcpRouter) -> str:
    """Where the service of a router is."""
    return jids.prepare_domain(f'{router.param("pubsub_host")}.{router.config.default_domain}')


@router_started.on()
def on_start(router: XcpRouter) -> None:
    """The service is there while the router runs."""
    service = _SERVICES[router] = Service(router, domain(router))
    if service.place.address in router.domains or service.place.address in router.routes:
        log.error('publish-subscribe service not started: its domain is taken', domain=service.place.address)
        del _SERVICES[router]
        return
    router.routes[service.place.address] = service


@router_stopped.on()
def on_stop(router: XcpRouter) -> None:
    """The service goes with its router."""
    service = _SERVICES.pop(router, None)
    if service is not None and router.routes.get(service.place.address) is service:
        del router.routes[service.place.address]


@server_items.on()
def on_server_items(router: XcpRouter) -> bytes | None:
    """The server names its publish-subscribe service."""
    service = _SERVICES.get(router)
    if service is None:
        return None
    return xml.element('item', '', '', jid=service.place.address, name='Publish-Subscribe').encode()
