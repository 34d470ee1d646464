"""Where a message goes (RFC 6121 8.5, spec 06, XEP-0280, XEP-0313).

Cost on the path of a message to an online user: about 2 microseconds: three dictionary look-ups, the reply lock, one
write. No tree, no await, no database. A user with Multi-Device Messaging, an archive or a block list is told from
others by one attribute of the account (``Account.plain``); what these cost stands in their modules.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, cast

from engine import filters
from engine.contract import jid
from engine.delivery import NOW, also_given_to
from engine.features import registry
from engine.services.xcp_router import copies, remote
from engine.services.xcp_router.archive import STANZA_ID, archivable, stanza_id, unforged
from engine.xmpp import ns
from engine.xmpp.stanza import with_child

if TYPE_CHECKING:
    from engine.services.xcp_router.account import Account
    from engine.services.xcp_router.remote import Sender
    from engine.services.xcp_router.router import XcpRouter
    from engine.session import Session
    from engine.store.archive import Entry
    from engine.xmpp.stanza import Stanza

LOCKS_PER_USER = 1000
"""Reply locks kept for one user; above it the oldest half is forgotten, which only means forking again."""
_COLON, _AMPERSAND = ord(':'), ord('&')
_OUT_OF_BAND = ns.OUT_OF_BAND.encode()
_TYPES = frozenset(('chat', 'normal', 'headline', 'groupchat', 'error'))


def route(router: XcpRouter, session: Sender, stanza: Stanza) -> None:
    """Deliver, store or refuse one message of a session."""
    attrs = stanza.attrs
    kind = attrs.get('type', 'normal')
    if kind not in _TYPES:
        kind = 'normal'
    if not router.im_enabled and kind in ('chat', 'normal', 'groupchat') and has_content(stanza):
        router.node.counters.messages_refused += 1
        router.refuse(session, stanza, 'not-allowed', 'Instant messaging is disabled by the administrator.')
        return
    raw = stanza.raw
    if (_COLON in raw or _AMPERSAND in raw) and raw.find(STANZA_ID) >= 0:  # the namespace may be references
        stanza.raw = unforged(router, raw)
    sender = session.account
    if sender is None or sender.plain:
        deliver(router, session, stanza, attrs.get('to') or session.bare, kind)
    else:
        submit(router, session, stanza, attrs.get('to') or session.bare, kind)


def submit(router: XcpRouter, session: Sender, stanza: Stanza, to: str, kind: str) -> None:
    """Deliver a message that policy lets pass, and do what is due for its sender: archive and copies."""
    sender = session.account
    if sender is None or sender.plain:
        deliver(router, session, stanza, to, kind)
        return
    own = router.full.get(session.jid)
    if deliver(router, session, stanza, to, kind) and kind in ('chat', 'normal') and own is session:
        _sent(router, sender, own, stanza, to, kind)


def deliver(router: XcpRouter, session: Sender, stanza: Stanza, to: str, kind: str) -> bool:
    """Give a message to its receiver. False when it was refused, or is none for a user."""
    if session.filter is not None and filters.stopped(router, session, stanza, 'message', to):
        return False
    target = router.full.get(to)
    if target is not None:
        account = target.account
        assert account is not None
        if account.plain:
            _talked(session, target.bare, stanza, kind)
            router.node.counters.messages_routed += 1
            target.send(stanza.raw)
            return True
        to = target.bare
        if target.filter is not None:
            if filters.refused(router, target.filter, session, stanza, 'message'):
                return False
            if not target.filter.passes('message', session.jid, False, stanza.raw):
                if kind in ('headline', 'error'):
                    return False
                target = None  # the client does not want it: as if it were not there
        if target is not None:
            return _arrive(router, session, stanza, account, target, to, kind)
    else:
        account = router.accounts.get(to)
    if account is None:
        if router.nodes is not None and router.nodes.forward(session, stanza, peer := to.partition('/')[0]):
            _talked(session, peer, stanza, kind)
            return True
        try:
            local, domain, resource = jid.split(to)
        except jid.InvalidJID as error:
            router.refuse(session, stanza, 'jid-malformed', str(error))
            return False
        bare = f'{local}@{domain}' if local else domain
        if router.outside(bare):
            route = remote.route_for(router, bare)
            if route is not None and route is router.peers:
                _talked(session, bare, stanza, kind)
            remote.send(router, session, stanza, jid.prepare(to))
            return route is not None
        if not local:
            if registry.host_message.fire(router, cast('Session', session), stanza) is None:
                router.refuse(session, stanza, 'service-unavailable')
            return False
        to = bare
        target = router.full.get(f'{to}/{resource}') if resource else None
        if target is not None:
            return deliver(router, session, stanza, target.jid, kind)
        if router.nodes is not None and to not in router.accounts and router.nodes.forward(session, stanza, to):
            _talked(session, to, stanza, kind)
            return True
        if resource and kind in ('headline', 'error'):
            return False
        if resource and kind == 'groupchat':
            router.refuse(session, stanza, 'service-unavailable', 'The addressee is not here.')
            return False
        account = router.accounts.get(to)
    if kind in ('error', 'groupchat'):
        if kind == 'groupchat':
            router.refuse(session, stanza, 'service-unavailable')
        return False
    if account is not None and not account.plain:
        if account.filter is not None and filters.refused_by_all(router, account, session, stanza):
            return False
        return _arrive(router, session, stanza, account, None, to, kind)
    _talked(session, to, stanza, kind)
    if account is None or not fork(router, account, session.bare, stanza.raw, kind):
        return _keep(router, session, stanza, account, to, kind, None)
    router.node.counters.messages_routed += 1
    return True


def _arrive(
    router: XcpRouter, session: Sender, stanza: Stanza, account: Account, target: Session | None, bare: str, kind: str
) -> bool:
    """The message is for a user with more than plain clients; ``target``: for this one of them."""
    _talked(session, bare, stanza, kind)
    entry: Entry | None = None
    raw = copies.cleaned(stanza) if account.carbons else stanza.raw
    if account.archiving is not None and router.archive is not None and archivable(stanza, kind):
        entry = router.archive.entry(bare, account.archiving, session.jid, raw)
        if entry is not None:
            raw = with_child(raw, stanza_id(bare, entry.id))
    copied = account.carbons > 0 and copies.eligible(stanza, kind, sent=False)
    if not copies.arriving(router, account, target, session.jid, raw, kind, copied):
        return _keep(router, session, stanza, account, bare, kind, entry)
    router.node.counters.messages_routed += 1
    if entry is not None and router.archive is not None:
        router.archive.add(session, entry)
    if kind == 'error' and account.copied and target is not None:
        copies.failed(router, account, target, stanza.id, session.bare, raw)
    return True


def _keep(
    router: XcpRouter, session: Sender, stanza: Stanza, account: Account | None, bare: str, kind: str,
    entry: Entry | None,
) -> bool:  # fmt: skip
    """No client of the user takes the message: store it, refuse it, or let it go when it is worth nothing later."""
    if kind == 'headline':
        return True
    content = has_content(stanza)
    if copies.hint(stanza, 'no-store', 'no-storage'):
        if content:
            router.node.counters.messages_refused += 1
            text = 'The user is not signed in, and the message asks not to be stored.'
            router.refuse(session, stanza, 'service-unavailable', text)
        return not content
    if account is None and router.archive is not None and archivable(stanza, kind):
        entry = router.archive.unknown(bare, session.jid, stanza.raw)
    if content or copies.hint(stanza, 'store'):
        router.offline.store(session, stanza, bare, entry)
    elif entry is not None and router.archive is not None:
        router.archive.add(session, entry)
    return True


def _sent(router: XcpRouter, account: Account, session: Session, stanza: Stanza, to: str, kind: str) -> None:
    """A message of ``session`` is on its way: the own archive, and the user's other clients."""
    peer = jid.prepare(to)
    bare = peer.partition('/')[0]
    raw = stanza.raw
    own = bare == account.user.bare
    if session.carbons and b'<body' in raw:
        account.touch(session)
    if account.archiving is not None and router.archive is not None and not own and archivable(stanza, kind):
        entry = router.archive.entry(account.user.bare, account.archiving, peer, raw)
        if entry is not None:
            router.archive.add(session, entry)
            raw = with_child(raw, stanza_id(account.user.bare, entry.id))
    if account.carbons and not own and copies.eligible(stanza, kind, sent=True):
        copies.sent(router, account, session, raw, stanza, bare, kind)


def refused(router: XcpRouter, session: Sender, stanza: Stanza, answer: bytes) -> None:
    """``session`` was sent the error ``answer`` to a message: the clients that got a copy of it hear of it too."""
    account = session.account
    identity = stanza.id
    if account is not None and account.copied and identity is not None and identity in account.copied:
        copies.failed(router, account, cast('Session', session), identity, account.copied[identity], answer)


def fork(router: XcpRouter, account: Account, sender: str, raw: bytes, kind: str) -> bool:
    """Send to the client that answered ``sender`` last, else to every available client with priority >= 0.

    False when there is none. For a user whose account is plain.
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
    if NOW.delivery is not None:
        takers = [one for one in account.sessions.values() if one.priority is not None and one.priority >= 0]
        also_given_to(account.user.bare, takers)
    return found


def _talked(session: Sender, peer: str, stanza: Stanza, kind: str) -> None:
    """``session`` wrote to ``peer``: from now on the messages of ``peer`` go to this client only.

    Only a chat message with a body counts: typing notices and receipts are sent by clients nobody looks at.
    """
    account = session.account
    if account is None or kind != 'chat' or stanza.raw.find(b'<body') < 0 or peer == session.bare:
        return
    locks = account.locks
    if locks is None:
        locks = account.locks = {}
    elif len(locks) >= LOCKS_PER_USER and peer not in locks:
        for old in sorted(locks, key=lambda key: locks[key][1])[: LOCKS_PER_USER // 2]:
            del locks[old]
    locks[peer] = (session, monotonic())  # type: ignore[assignment]  # it has an account: a Session


def has_content(stanza: Stanza) -> bool:
    """Whether there is a body, or a link out of band (XEP-0066); parses only when the bytes leave it open."""
    if stanza.has(b'body') and stanza.child(ns.CLIENT, 'body') is not None:
        return True
    return stanza.has(_OUT_OF_BAND) and stanza.child(ns.OUT_OF_BAND, 'x') is not None
