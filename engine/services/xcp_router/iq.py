"""IQ routing: shape, handler by one dictionary look-up, and an answer for everything (RFC 6120 8.2.3, 10.3, 10.5)."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import structlog

from engine import filters
from engine.contract import jid
from engine.features import out_of_band, registry
from engine.services.xcp_router.remote import RemoteSender
from engine.store.pool import Unavailable
from engine.xmpp import stanza as xml

if TYPE_CHECKING:
    from engine.services.xcp_router.remote import Sender
    from engine.services.xcp_router.router import XcpRouter
    from engine.session import Session
    from engine.xmpp.stanza import Stanza

log = structlog.get_logger(__name__)


def receive(router: XcpRouter, session: Sender, stanza: Stanza) -> None:
    """Route or answer one IQ of a session."""
    kind = stanza.type
    if kind not in ('get', 'set', 'result', 'error') or not stanza.id:
        session.send(xml.error(stanza, 'bad-request', text='An IQ needs an id and the type get, set, result or error.'))
        return
    request = kind in ('get', 'set')
    if request and len(stanza.tree) != 1:
        router.refuse(session, stanza, 'bad-request', 'A request needs exactly one child element.')
        return
    to = stanza.to
    if session.filter is not None and to is not None and filters.stopped(router, session, stanza, 'iq', to):
        return
    if to is None or (to == session.bare and not isinstance(session, RemoteSender)):
        target = 'self'
    else:
        if request:
            out_of_band.sent(router, session, stanza, to)
        if request and _outside(router, session, stanza, to):
            return
        parts = router.address(session, stanza, to)
        if parts is None:
            return
        local, domain, resource = parts
        bare = f'{local}@{domain}' if local else domain
        if resource:
            _to_client(router, session, stanza, f'{bare}/{resource}')
            return
        target = 'host' if not local else 'self' if bare == session.bare else 'bare'
    account = router.accounts.get(bare) if target == 'bare' else None
    if account is not None and filters.refused(router, account.filter, session, stanza, 'iq'):
        return
    if request:
        _handle(router, session, stanza, target)
    else:
        registry.iq_answer.fire(router, session, stanza, session.bare if to is None or to == session.bare else bare)


def _to_client(router: XcpRouter, session: Sender, stanza: Stanza, full: str) -> None:
    client = router.full.get(full)
    if client is not None and client.filter is not None and filters.refused_iq(router, client, session, stanza):
        return
    if stanza.type in ('get', 'set'):
        answer = registry.client_iq.fire(router, cast('Session', session), stanza, full)
        if answer:
            session.send(answer)
            return
        if client is None:
            router.refuse(session, stanza, 'service-unavailable')
            return
        out_of_band.arrives(router, session, stanza, client.account, full)
    if client is not None:
        client.send(stanza.raw)


def _outside(router: XcpRouter, session: Sender, stanza: Stanza, to: str) -> bool:
    """Whether a handler took the request of a client here to another domain."""
    payload = stanza.payload
    if payload is None or session.account is None:
        return False
    namespace, _, name = payload.tag.rpartition('}')
    if (stanza.type, namespace[1:], name, 'outside') not in registry.iq.handlers:
        return False
    try:
        local, domain, resource = jid.split(to)
    except jid.InvalidJID:
        return False
    if resource or not router.outside(f'{local}@{domain}' if local else domain):
        return False
    _handle(router, session, stanza, 'outside')
    return True


def _handle(router: XcpRouter, session: Sender, stanza: Stanza, target: str) -> None:
    payload = stanza.payload
    assert payload is not None
    namespace, _, name = payload.tag.rpartition('}')
    handler = registry.iq.handlers.get((stanza.type or '', namespace[1:], name, target))
    answer: Any
    if handler is None:
        answer = xml.error(stanza, 'service-unavailable')
    else:
        answer = handler(session, stanza, router)
        if inspect.iscoroutine(answer) and target == 'bare':
            answer = filters.unless_refused(router, session, stanza, answer)
        if inspect.isawaitable(answer):
            later(router, session, partial(_answer, router, session, stanza, answer), len(stanza.raw))
            return
        if answer is None:
            return
    router.answer(session, answer)


def later(router: XcpRouter, session: Sender, job: Callable[[], Awaitable[None]], size: int) -> None:
    """Requests that need the database are done one after the other, in the order of the client (RFC 6120 10.1)."""
    session.begin(size)
    if session.answers is None:
        session.answers = deque()
        router.node.spawn(_work(session), f'requests of {session.jid}')
    session.answers.append((job, size))


async def _work(session: Sender) -> None:
    waiting = session.answers
    while waiting:
        job, size = waiting.popleft()
        try:
            await job()
        finally:
            session.finish(size)
    session.answers = None


async def _answer(router: XcpRouter, session: Sender, stanza: Stanza, awaited: Awaitable[bytes | None]) -> None:
    try:
        answer = await awaited
    except Unavailable:
        answer = xml.error(stanza, 'internal-server-error', 'wait', 'The database cannot be reached. Try again later.')
    except Exception:
        log.exception('handler failed', jid=session.jid)
        answer = xml.error(stanza, 'internal-server-error')
    if answer is not None:
        router.answer(session, answer)
