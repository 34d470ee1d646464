"""Where a message goes (RFC 6121 8.5, spec 06).

Cost on the path of a message to an online user: about 2 microseconds: two dictionary look-ups, the reply lock, one
write. No tree, no await, no database.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, cast

from engine.features import registry
from engine.xmpp import ns

if TYPE_CHECKING:
    from engine.services.xcp_router.account import Account
    from engine.services.xcp_router.remote import Sender
    from engine.services.xcp_router.router import XcpRouter
    from engine.session import Session
    from engine.xmpp.stanza import Stanza

LOCKS_PER_USER = 1000
"""Reply locks kept for one user; above it the oldest half is forgotten, which only means forking again."""
_TYPES = frozenset(('chat', 'normal', 'headline', 'groupchat', 'error'))


def route(router: XcpRouter, session: Sender, stanza: Stanza) -> None:
    """Deliver, store or refuse one message of a session."""
    attrs = stanza.attrs
    kind = attrs.get('type', 'normal')
    if kind not in _TYPES:
        kind = 'normal'
    if not router.im_enabled and kind in ('chat', 'normal', 'groupchat') and _body(stanza):
        router.node.counters.messages_refused += 1
        router.refuse(session, stanza, 'not-allowed', 'Instant messaging is disabled by the administrator.')
        return
    deliver(router, session, stanza, attrs.get('to') or session.bare, kind)


def deliver(router: XcpRouter, session: Sender, stanza: Stanza, to: str, kind: str) -> None:
    """Deliver a message that policy lets pass."""
    target = router.full.get(to)
    if target is not None:
        _talked(router, session, target.bare, stanza, kind)
        router.node.counters.messages_routed += 1
        target.send(stanza.raw)
        return
    account = router.accounts.get(to)
    if account is None:
        parts = router.address(session, stanza, to)
        if parts is None:
            return
        local, domain, resource = parts
        if not local:
            if registry.host_message.fire(router, cast('Session', session), stanza) is None:
                router.refuse(session, stanza, 'service-unavailable')
            return
        to = f'{local}@{domain}'
        target = router.full.get(f'{to}/{resource}') if resource else None
        if target is not None:
            deliver(router, session, stanza, target.jid, kind)
            return
        if resource and kind in ('headline', 'error'):
            return
        if resource and kind == 'groupchat':
            router.refuse(session, stanza, 'service-unavailable', 'The addressee is not here.')
            return
        account = router.accounts.get(to)
    _talked(router, session, to, stanza, kind)
    if kind in ('error', 'groupchat'):
        if kind == 'groupchat':
            router.refuse(session, stanza, 'service-unavailable')
        return
    if account is None or not fork(router, account, session.bare, stanza.raw, kind):
        if kind != 'headline' and _body(stanza):
            router.offline.store(session, stanza, to)
        return
    router.node.counters.messages_routed += 1


def fork(router: XcpRouter, account: Account, sender: str, raw: bytes, kind: str) -> bool:
    """Send to the client that answered ``sender`` last, else to every available client with priority >= 0.

    False when there is none.
    """
    if kind == 'chat' and account.locks and (lock := account.locks.get(sender)):
        target, at = lock
        now = monotonic()
        if now - at < router.reply_lock_s and target.priority is not None and target.priority >= 0:
            account.locks[sender] = (target, now)
            target.send(raw)
            return True
        del account.locks[sender]
    found = False
    for target in account.sessions.values():
        if target.priority is not None and target.priority >= 0:
            target.send(raw)
            found = True
    return found


def _talked(router: XcpRouter, session: Sender, peer: str, stanza: Stanza, kind: str) -> None:
    """``session`` wrote to ``peer``: from now on the messages of ``peer`` go to this client only.

    Only a chat message with a body counts: typing notices and receipts are sent by clients nobody looks at.
    """
    if kind != 'chat' or b'<body' not in stanza.raw or peer == session.bare:
        return
    account = router.accounts.get(session.bare)
    if account is None:
        return
    locks = account.locks
    if locks is None:
        locks = account.locks = {}
    elif len(locks) >= LOCKS_PER_USER and peer not in locks:
        for old in sorted(locks, key=lambda key: locks[key][1])[: LOCKS_PER_USER // 2]:
            del locks[old]
    locks[peer] = (session, monotonic())  # type: ignore[assignment]  # it has an account: a Session


def _body(stanza: Stanza) -> bool:
    """Whether there is a body; parses only when the bytes leave it open."""
    return stanza.has(b'body') and stanza.child(ns.CLIENT, 'body') is not None
