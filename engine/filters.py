"""What users do not let through: privacy lists with the block list (XEP-0016, XEP-0191), and SIFT (XEP-0273).

``account.filter`` decides for the user as a whole (the default list), ``session.filter`` for one session: it is the
same object unless the session chose a list of its own or sifts. Both are None while nothing is blocked, and
``session.filter`` is not None only while ``account.filter`` is not None either: a path may test the account alone.

Cost on the path of a message: one attribute test each for sender and receiver; 0.6 microseconds each for a user who
blocks somebody, however many.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from engine.contract import jid
from engine.contract.privacy import BLOCKING, Direction, Kind, Rules, forms
from engine.features import registry
from engine.store import privacy
from engine.xmpp import sift as sifting
from engine.xmpp import stanza as xml

if TYPE_CHECKING:
    from collections.abc import Collection

    from engine.services.xcp_router.account import Account
    from engine.services.xcp_router.remote import Sender
    from engine.services.xcp_router.router import XcpRouter
    from engine.session import Session
    from engine.store.privacy import Default, Known
    from engine.xmpp.sift import Sift
    from engine.xmpp.stanza import Stanza

ONE_BY_ONE = 'offline'
"""Key in ``Session.notes`` of sessions that read their offline messages one by one."""
BLOCKED = f"<blocked xmlns='{BLOCKING}:errors'/>".encode()


class Filter:
    """What one user, or one session, lets through. ``rules`` None: everything. ``active``: the session chose ``rules``
    itself. ``known`` is the contact list as it was when it was not in memory yet."""

    __slots__ = ('active', 'bare', 'domain', 'known', 'router', 'rules', 'sift')

    def __init__(self, router: XcpRouter, bare: str, rules: Rules | None = None, known: Known | None = None) -> None:
        self.router = router
        self.bare = bare
        self.domain = bare.rpartition('@')[2]
        self.rules = rules
        self.known: Known = known or {}
        self.sift: Sift | None = None
        self.active = False

    def allows(self, direction: Direction, kind: Kind, peer: str) -> bool:
        """Whether a stanza may pass between the user and ``peer``. The own clients and the own server always may."""
        return (
            self.rules is None
            or self.rules.allows(direction, kind, peer, self.relation)
            or peer == self.domain
            or self.bare in forms(peer)
        )

    def relation(self, bare: str) -> tuple[int, Collection[str]]:
        """Subscription and groups of a contact now."""
        engine = self.router.presence_engine()
        person = engine.people.get(self.bare) if engine is not None else None
        if person is None or person.items is None:
            return self.known.get(bare, (0, ()))
        item = person.items.get(bare)
        return (item.subscription, item.groups) if item is not None else (0, ())

    def passes(self, kind: sifting.Kind, sender: str, to_bare: bool, raw: bytes) -> bool:
        """Whether the client wants to get a stanza at all (XEP-0273)."""
        return self.sift is None or sifting.passes(self.sift, kind, self.bare, sender, to_bare, raw)


# at the gates: true means that the stanza goes no further


def stopped(router: XcpRouter, session: Sender, stanza: Stanza, kind: Kind, to: str) -> bool:
    """Whether the sender blocks the addressee; then it has its error (XEP-0191 3.2)."""
    chosen = session.filter
    if chosen is None or chosen.allows('out', kind, to):
        return False
    if stanza.type not in ('error', 'result', 'unavailable'):
        text = 'You block this address.'
        session.send(xml.error(stanza, 'not-acceptable', 'cancel', text, BLOCKED))
    return True


def refused(router: XcpRouter, chosen: Filter | None, session: Sender, stanza: Stanza, kind: Kind) -> bool:
    """Whether the addressee, whose filter is ``chosen``, blocks the sender; then the sender has its error."""
    if chosen is None or chosen.allows('in', kind, session.jid):
        return False
    if kind in ('message', 'iq'):
        if kind == 'message':
            router.node.counters.messages_refused += 1
        router.refuse(session, stanza, 'service-unavailable')
    return True


def refused_by_all(router: XcpRouter, account: Account, session: Sender, stanza: Stanza) -> bool:
    """Whether every client that could get a message for the bare JID blocks the sender; without such a client the
    default list decides. The sender then has its error."""
    deciding = [
        target.filter for target in account.sessions.values() if target.priority is not None and target.priority >= 0
    ]
    for chosen in deciding or [account.filter]:
        if chosen is None or chosen.allows('in', 'message', session.jid):
            return False
    router.node.counters.messages_refused += 1
    router.refuse(session, stanza, 'service-unavailable')
    return True


def refused_iq(router: XcpRouter, client: Session, session: Sender, stanza: Stanza) -> bool:
    """Whether an IQ does not reach a client that has a filter: it is blocked, or a request that is sifted."""
    chosen = client.filter
    if refused(router, chosen, session, stanza, 'iq'):
        return True
    if chosen is None or stanza.type not in ('get', 'set') or chosen.passes('iq', session.jid, False, stanza.raw):
        return False
    router.refuse(session, stanza, 'service-unavailable')
    return True


async def unless_refused(
    router: XcpRouter, session: Sender, stanza: Stanza, answer: Coroutine[Any, Any, bytes | None]
) -> bytes | None:
    """The answer to a request about a user, unless he is not signed in and blocks who asks."""
    bare = jid.bare(stanza.to or '')
    try:
        if bare not in router.accounts and await privacy.refuses(router.node.store, bare, 'iq', session.jid):
            return xml.error(stanza, 'service-unavailable')
        return await answer
    finally:
        answer.close()


def takes_message(target: Session, sender: str, raw: bytes, to_bare: bool) -> bool:
    """Whether a client with a filter gets a message: it is neither blocked for this session nor sifted."""
    chosen = target.filter
    return chosen is None or (chosen.allows('in', 'message', sender) and chosen.passes('message', sender, to_bare, raw))


def takes_offline(router: XcpRouter, session: Session) -> bool:
    """Whether a client that became available is given the offline messages: not while a client of the user reads them
    one by one (XEP-0013)."""
    return not any(other.notes and ONE_BY_ONE in other.notes for other in router.sessions_of(session.bare))


def takes_stored(session: Session, raw: bytes) -> bool:
    """Whether a client wants to get a message that was stored; the lists were asked when it was."""
    chosen = session.filter
    if chosen is None or chosen.sift is None or 'message' not in chosen.sift:
        return True
    message = xml.parse_tree(raw)
    return chosen.passes('message', message.get('from', ''), '/' not in message.get('to', ''), raw)


def ask(session: Session, sender: str, raw: bytes) -> bool:
    """Send a client a request of its server or of its account (a push, a question), unless it sifts such; whether it
    was sent."""
    chosen = session.filter
    if chosen is not None and not chosen.passes('iq', sender, False, raw):
        return False
    session.send(raw)
    return True


def takes_presence(target: Session, sender: str, raw: bytes, to_bare: bool = True, subscription: bool = False) -> bool:
    """Whether a client with a filter gets presence, or a subscription stanza, of ``sender``."""
    chosen = target.filter
    if chosen is None:
        return True
    if subscription:
        return chosen.allows('in', 'subscription', sender) and chosen.passes('sub', sender, to_bare, raw)
    return chosen.allows('in', 'presence', sender) and chosen.passes('presence', sender, to_bare, raw)


def shows(session: Session, watcher: str) -> bool:
    """Whether a session lets ``watcher`` know of its availability."""
    chosen = session.filter
    return chosen is None or chosen.allows('out', 'presence', watcher)


# keeping

_editing: dict[int, tuple[asyncio.Lock, int]] = {}


@asynccontextmanager
async def editing(user_id: int) -> AsyncIterator[None]:
    """Hold the lists of one user from before the transaction until memory shows its result."""
    lock, holders = _editing.get(user_id, (None, 0))
    lock = lock or asyncio.Lock()
    _editing[user_id] = (lock, holders + 1)
    try:
        async with lock:
            yield
    finally:
        holders = _editing[user_id][1] - 1
        if holders:
            _editing[user_id] = (lock, holders)
        else:
            del _editing[user_id]


@registry.session_bound.on(priority=100)
def bound(router: XcpRouter, session: Session) -> None:
    """The default list comes into force with the first session of its user."""
    account = router.accounts[session.bare]
    default, session.user.privacy = session.user.privacy, None
    if default is not None and account.filter is None:
        account.filter = Filter(router, session.bare, default.rules, default.known)
        for other in account.sessions.values():  # signed in before the list was written elsewhere
            other.filter = account.filter
    session.filter = account.filter


@registry.session_ended.on(priority=100)
def ended(router: XcpRouter, session: Session) -> None:
    """A filter of the session's own goes with it."""
    session.filter = None
    account = router.accounts.get(session.bare)
    if account is not None:
        _tidy(account)


def own(router: XcpRouter, account: Account, session: Session) -> Filter:
    """The filter of this session alone, made at the first need."""
    if account.filter is None:
        account.filter = Filter(router, session.bare)
        for other in account.sessions.values():
            other.filter = account.filter
    if session.filter is None or session.filter is account.filter:
        chosen = Filter(router, session.bare, account.filter.rules, account.filter.known)
        session.filter = chosen
    return session.filter


def use_default(router: XcpRouter, account: Account, default: Default | None) -> None:
    """Another default list, or none, for the user and every session without a list of its own."""
    if account.filter is None:
        if default is None:
            return
        account.filter = Filter(router, account.user.bare)
    whole = account.filter
    whole.rules, whole.known = (default.rules, default.known) if default is not None else (None, {})
    for session in account.sessions.values():
        if session.filter is None:
            session.filter = whole
        elif session.filter is not whole and not session.filter.active:
            session.filter.rules, session.filter.known = whole.rules, whole.known
    _tidy(account)


def use_active(router: XcpRouter, account: Account, session: Session, default: Default | None) -> None:
    """A list for this session only; None: the default one again."""
    chosen = own(router, account, session)
    if default is not None:
        chosen.active, chosen.rules, chosen.known = True, default.rules, default.known
    else:
        assert account.filter is not None
        chosen.active, chosen.rules, chosen.known = False, account.filter.rules, account.filter.known
    _tidy(account)


def use_sift(router: XcpRouter, account: Account, session: Session, rules: Sift) -> None:
    """What this session does not want to get; empty: it wants everything."""
    if rules or session.filter is not None:
        own(router, account, session).sift = rules or None
    _tidy(account)


def _tidy(account: Account) -> None:
    """Back to sharing, and to None, where nothing is special any more."""
    whole = account.filter
    if whole is None:
        return
    special = False
    for session in account.sessions.values():
        chosen = session.filter
        if chosen is not None and chosen is not whole:
            if chosen.active or chosen.sift:
                special = True
            else:
                session.filter = whole
    if whole.rules is None and not special:
        account.filter = None
        for session in account.sessions.values():
            session.filter = None


async def reload(router: XcpRouter, account: Account) -> None:
    """The lists were written outside this process: read those in force again."""
    user_id = account.user.id
    async with editing(user_id):
        await _reload(router, account, user_id)


async def _reload(router: XcpRouter, account: Account, user_id: int) -> None:
    from engine.services.presence_engine import blocking

    before = in_force(account.sessions.values())
    default = (await privacy.load_defaults(router.node.store, [user_id])).get(user_id)
    fresh: dict[str, Default | None] = {}
    for session in list(account.sessions.values()):
        chosen = session.filter
        if chosen is not None and chosen.active and chosen.rules is not None:
            name = chosen.rules.name
            if name not in fresh:
                fresh[name] = await load(router, user_id, name)
            use_active(router, account, session, fresh[name])
    use_default(router, account, default)
    blocking.apply(router, before)


async def load(router: XcpRouter, user_id: int, name: str) -> Default | None:
    """One list ready to be used, None when there is no such list."""
    items = await privacy.load(router.node.store, user_id, name)
    if items is None:
        return None
    return await privacy.ready(router.node.store, user_id, name, items)


def in_force(sessions: Iterable[Session]) -> dict[Session, Rules | None]:
    """The rules each of these sessions uses now."""
    return {session: session.filter.rules if session.filter is not None else None for session in sessions}
