"""What clients want to hear: ``NODE+notify`` in their entity capabilities (XEP-0115, XEP-0163 4.3), and the last items
they get when they come online, when they become interested, and when they may newly see somebody.

The answer to one disco#info question, once verified, stands for every client with the same hash; what cannot be
verified stands for that client only. The table is bounded. Cost on presence: 0.3 microseconds without capabilities,
1.8 with known ones; nothing on messages.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict, deque
from functools import partial
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

import structlog

from engine import filters
from engine.contract.pubsub_nodes import NAME_BYTES
from engine.features import devices
from engine.features.pubsub import abroad, notify
from engine.features.pubsub import config as configuration
from engine.features.pubsub.abroad import Far
from engine.features.pubsub.place import INTERESTS, MEMBER, OUTCAST, OWNER, PUBLISHER, interests
from engine.features.registry import iq_answer, session_ended
from engine.recent import remember
from engine.session import Session
from engine.store import privacy
from engine.store import pubsub as store
from engine.store.pool import Unavailable
from engine.store.rosters import FROM
from engine.xmpp import capabilities, ns
from engine.xmpp import stanza as xml
from engine.xmpp.capabilities import Caps
from engine.xmpp.stanza import delay, quote

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.features.pubsub.place import Who
    from engine.services.xcp_router.router import XcpRouter
    from engine.xmpp.stanza import Stanza

log = structlog.get_logger(__name__)

WAITING: Final = 10_000
"""Clients with the same capabilities that can wait for one answer."""
KNOWN: Final = 5000
"""Capabilities remembered; the ones not seen for longest are forgotten first."""
NAMES: Final = 100
"""Nodes one client can be interested in."""
LAST_ITEMS: Final = 1000
"""Items one client gets when it comes online."""
AT_ONCE: Final = 3
"""Clients whose last items are read at the same time: sign-ins must not take the database from everybody else."""
ANSWER_S: Final = 30.0
_ID: Final = 'caps-'
ASKED, TAG = 'caps_asked', 'caps'
_LISTED: Final = (OWNER, PUBLISHER, MEMBER)
Names = frozenset[str]
Known = tuple[Names, devices.Client]
"""What a client with certain capabilities wants to hear, and what it is."""

Receiver = Session | Far


class _Question:
    __slots__ = ('caps', 'identity', 'session', 'timer')

    def __init__(self, session: Receiver, caps: Caps) -> None:
        self.session = session
        self.caps = caps
        self.identity = _ID + secrets.token_hex(8)
        self.timer: asyncio.TimerHandle | None = None


class _Table:
    """``waiting``: capabilities under question -> clients that announced the same ones."""

    def __init__(self) -> None:
        self.tags: OrderedDict[bytes, Caps] = OrderedDict()
        self.known: OrderedDict[Caps, Known] = OrderedDict()
        self.waiting: dict[Caps, deque[Receiver]] = {}
        self.questions: dict[str, _Question] = {}
        self.slots = asyncio.Semaphore(AT_ONCE)


_TABLES: WeakKeyDictionary[XcpRouter, _Table] = WeakKeyDictionary()


def _table(router: XcpRouter) -> _Table:
    table = _TABLES.get(router)
    if table is None:
        table = _TABLES[router] = _Table()
    return table


def on_presence(router: XcpRouter, session: Session, stanza: Stanza) -> None:
    """A client sent presence; without capabilities it keeps those it announced before."""
    tag = capabilities.tag(stanza.raw)
    if tag is not None:
        _announced(router, session, tag, stanza)


def on_contact(router: XcpRouter, full: str, raw: bytes, available: bool, users: Iterable[str]) -> None:
    """Presence of a contact's client elsewhere arrived for these users here."""
    known = abroad.table(router)
    if not available:
        known.remove(full)
        return
    tag = capabilities.tag(raw)
    far = known.clients.get(full)
    if far is None:
        if tag is None:
            return
        far = known.add(router, full)
    known.clients.move_to_end(full)
    new = [bare for bare in users if bare not in far.users]
    names = interests(far)
    for bare in new[: abroad.USERS - len(far.users)]:
        far.users[bare] = None
        if names:
            later(router, far, names, bare)
    if tag is not None:
        _announced(router, far, tag, xml.parse(raw))


def _announced(router: XcpRouter, session: Receiver, tag: bytes, stanza: Stanza) -> None:
    notes = session.notes
    if notes is None:
        notes = session.notes = {}
    if tag and notes.get(TAG) == tag:
        return
    notes[TAG] = tag
    table = _table(router)
    caps = table.tags.get(tag)
    if caps is None:
        caps = capabilities.read(stanza)
        if caps is None:
            return
        if tag and len(tag) <= capabilities.LENGTH:
            remember(table.tags, tag, caps, KNOWN)
    known = table.known.get(caps)
    if known is not None:
        table.known.move_to_end(caps)
        _take(router, session, known)
    elif caps in table.waiting:
        if len(table.waiting[caps]) < WAITING:
            table.waiting[caps].append(session)
    else:
        table.waiting[caps] = deque()
        _ask(router, table, session, caps)


def _ask(router: XcpRouter, table: _Table, session: Receiver, caps: Caps) -> None:
    question = _Question(session, caps)
    table.questions[question.identity] = question
    if session.notes is not None:
        session.notes.setdefault(ASKED, set()).add(question.identity)
    question.timer = asyncio.get_running_loop().call_later(ANSWER_S, _unanswered, router, question.identity)
    user = session.bare if isinstance(session, Session) else next(iter(session.users), router.config.default_domain)
    domain = user.rpartition('@')[2]
    query = f"<query xmlns='{ns.DISCO_INFO}' node='{quote(f'{caps.node}#{caps.ver}')}'/>"
    address = f"id='{question.identity}' from='{quote(domain)}' to='{quote(session.jid)}'"
    data = f"<iq type='get' {address}>{query}</iq>".encode()
    if isinstance(session, Session):
        filters.ask(session, domain, data)
    else:
        session.send(data)


def _unanswered(router: XcpRouter, identity: str) -> None:
    """Time is over, the client has gone, or its answer was of no use to others: ask the next one with the same."""
    table = _table(router)
    question = table.questions.pop(identity, None)
    if question is None:
        return
    _forget(question)
    waiting = table.waiting.get(question.caps)
    while waiting:
        session = waiting.popleft()
        if not session.closed:
            _ask(router, table, session, question.caps)
            return
    table.waiting.pop(question.caps, None)


def _forget(question: _Question) -> None:
    if question.timer is not None:
        question.timer.cancel()
    if question.session.notes is not None:
        question.session.notes.get(ASKED, set()).discard(question.identity)


@session_ended.on()
def on_end(router: XcpRouter, session: Session) -> None:
    """Nobody waits for the answer of a client that is gone."""
    if session.notes is not None:
        for identity in list(session.notes.get(ASKED, ())):
            _unanswered(router, identity)


@iq_answer.on()
def on_answer(router: XcpRouter, sender: Who, stanza: Stanza, bare: str) -> bool | None:
    """The answer to a question of ``_ask``; only the client that was asked can give it."""
    identity = stanza.id or ''
    if not identity.startswith(_ID):
        return None
    table = _table(router)
    question = table.questions.get(identity)
    if question is None or question.session.jid != sender.jid:
        return None
    session, caps = question.session, question.caps
    query = stanza.child(ns.DISCO_INFO, 'query') if stanza.type == 'result' else None
    if query is None:
        _unanswered(router, identity)
        return True
    wanted = [name.removesuffix('+notify') for name in capabilities.features(query) if name.endswith('+notify')]
    names = frozenset(name for name in wanted[:NAMES] if name and len(name.encode()) <= NAME_BYTES)
    known = names, devices.described(query)
    if not capabilities.verify(query, caps):
        _unanswered(router, identity)
        _take(router, session, known)
        return True
    del table.questions[identity]
    _forget(question)
    remember(table.known, caps, known, KNOWN)
    for other in (session, *table.waiting.pop(caps, ())):
        if not other.closed:
            _take(router, other, known)
    return True


def _take(router: XcpRouter, session: Receiver, known: Known) -> None:
    if session.notes is None:
        session.notes = {}
    names, session.notes[devices.CLIENT] = known
    before = session.notes.get(INTERESTS, frozenset())
    session.notes[INTERESTS] = names
    new = names - before
    if not new or not session.shown:
        return
    if isinstance(session, Session):
        later(router, session, new)
    else:
        for owner in session.users:
            later(router, session, new, owner)


def on_available(router: XcpRouter, session: Session) -> None:
    """A client came online; its interests may be known already."""
    names = interests(session)
    if names:
        later(router, session, names)


def on_subscription(router: XcpRouter, user: str, contact: str) -> None:
    """Somebody may see somebody now: the last items of the one for the clients of the other (XEP-0163 4.3.2)."""
    for watcher, owner in ((contact, user), (user, contact)):
        if owner == contact and contact in router.accounts:
            continue
        clients: list[Receiver] = [*router.sessions_of(watcher)]
        clients += abroad.table(router).by_bare.get(watcher, {}).values()
        for session in clients:
            names = interests(session)
            if names and session.shown:
                later(router, session, names, owner)


def later(router: XcpRouter, session: Receiver, names: Names, owner: str = '') -> None:
    """Send the newest items of nodes with these names: of everybody whom the client may see, or of one owner."""
    router.node.spawn(_send_last(router, session, names, owner), f'last items for {session.jid}')


async def _send_last(router: XcpRouter, session: Receiver, names: Names, owner: str) -> None:
    table = _table(router)
    asked = sorted(names)
    found = partial(store.last_items, router.node.store, session.bare, asked, LAST_ITEMS)
    try:
        async with table.slots:
            if session.closed:
                return
            if owner:
                rows = await found(owner)
            else:
                rows = await found(session.bare) + await found('')
    except Unavailable as error:
        log.warning('last items not sent: the database cannot be reached', jid=session.jid, error=str(error))
        return
    sent = 0
    for row in rows:
        if session.closed or not session.available:
            return
        if _may_see(router, session, row):
            if row.lists and await _blocks(router, row.owner, session.bare):
                continue
            config = configuration.load(row.config, personal=True)
            payload = row.item.payload if config.deliver_payloads else b''
            inside = notify.items(row.name, notify.item(row.item.id, payload))
            head, tail = notify.event(row.owner, inside, config.notification_type, delay(row.item.at, row.owner))
            raw = head + quote(session.jid).encode() + tail
            if isinstance(session, Far) or filters.takes_message(session, row.owner, raw, to_bare=False):
                session.send(raw)
                sent += 1
    router.node.counters.pubsub_notifications += sent


def _may_see(router: XcpRouter, session: Receiver, row: store.LastItem) -> bool:
    config = configuration.load(row.config, personal=True)
    if config.send_last_published_item != 'on_sub_and_presence' or not config.deliver_notifications:
        return False
    if row.owner == session.bare:
        return True
    engine = router.presence_engine()
    if row.affiliation == OUTCAST or engine is None or not engine.sharing or row.sharing is False:
        return False
    if not notify.allows(router, row.owner, session.bare):
        return False
    if row.affiliation in _LISTED:
        return True
    if not row.subscription & FROM or config.access_model in ('whitelist', 'authorize'):
        return False
    return config.access_model != 'roster' or bool(set(row.groups).intersection(config.roster_groups_allowed))


async def _blocks(router: XcpRouter, owner: str, watcher: str) -> bool:
    """Whether an owner who is not signed in blocks somebody; of one who is, ``notify.allows`` knows."""
    if owner == watcher or owner in router.accounts:
        return False
    return await privacy.refuses(router.node.store, owner, 'message', watcher)
