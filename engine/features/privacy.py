"""XEP-0016: privacy lists, and what XEP-0126 makes of them: being invisible.

Where lists are applied: engine/filters.py. A list that names a group which is not in the contact list is refused
(item-not-found); whom a list concerns follows every later change of the contact list. The own clients and the own
server are never blocked.

Cost on the path of a message: none, see engine/filters.py.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element

from engine import filters
from engine.contract.privacy import (
    BLOCKING,
    NS,
    Item,
    PrivacyError,
    blocked,
    list_name,
    list_xml,
    read_list,
)
from engine.features.registry import iq, xep
from engine.services.presence_engine import blocking
from engine.store import privacy as store
from engine.xmpp.stanza import error, escape, iq_result, quote

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from engine.services.xcp_router.account import Account
    from engine.services.xcp_router.router import XcpRouter
    from engine.session import Session
    from engine.xmpp.stanza import Stanza

XEP = xep(16, '1.7', server=(NS,))
INVISIBILITY = xep(126, '1.1')

NOTE = 'privacy'
"""Mark of sessions whose client speaks this protocol."""
BLOCK_NOTE = 'blocking'
"""Mark of sessions that asked for the block list."""


@iq.on('get', NS, 'query', 'self')
async def on_get(session: Session, stanza: Stanza, router: XcpRouter) -> bytes:
    """The names of all lists, or one list."""
    query = stanza.payload
    assert query is not None
    note(session, NOTE)
    user_id = session.user.id
    if not len(query):
        found = await store.names(router.node.store, user_id)
        chosen = session.filter
        inside = ''
        if chosen is not None and chosen.active and chosen.rules is not None:
            inside += f"<active name='{quote(chosen.rules.name)}'/>"
        inside += ''.join(f"<default name='{quote(name)}'/>" for name, default in found if default)
        inside += ''.join(list_xml(name) for name, _ in found)
        return _result(stanza, inside)
    if len(query) != 1 or query[0].tag != f'{{{NS}}}list':
        return error(stanza, 'bad-request', text='Ask for all names with an empty query, or for exactly one list.')
    try:
        name = list_name(query[0])
    except PrivacyError as problem:
        return error(stanza, problem.condition, text=str(problem))
    items = await store.load(router.node.store, user_id, name)
    return _missing(stanza, name) if items is None else _result(stanza, list_xml(name, items))


@iq.on('set', NS, 'query', 'self')
async def on_set(session: Session, stanza: Stanza, router: XcpRouter) -> bytes:
    """Choose the active list, choose the default list, or write one list."""
    query = stanza.payload
    assert query is not None
    note(session, NOTE)
    kind = query[0].tag.removeprefix(f'{{{NS}}}') if len(query) == 1 else ''
    if kind not in ('active', 'default', 'list'):
        return error(stanza, 'bad-request', text='A query sets exactly one of: active, default, list.')
    account = router.accounts.get(session.bare)
    if account is None or session.closed:
        return iq_result(stanza)
    try:
        async with filters.editing(session.user.id):
            if kind == 'active':
                await _activate(router, account, session, query[0])
            elif kind == 'default':
                await _choose_default(router, account, session, query[0])
            else:
                await _write(router, account, session, query[0])
    except PrivacyError as problem:
        return error(stanza, problem.condition, text=str(problem))
    return iq_result(stanza)


async def _activate(router: XcpRouter, account: Account, session: Session, element: Element) -> None:
    chosen = None
    if element.get('name') is not None:
        name = list_name(element)
        chosen = await filters.load(router, session.user.id, name)
        if chosen is None:
            raise _no_list(name)
    if session.closed:
        return
    before = filters.in_force([session])
    filters.use_active(router, account, session, chosen)
    blocking.apply(router, before)


async def _choose_default(router: XcpRouter, account: Account, session: Session, element: Element) -> None:
    user_id = session.user.id
    name = list_name(element) if element.get('name') is not None else None
    async with router.node.store.transaction() as connection:
        lists = await store.lock(connection, user_id)
        if lists is None:
            return
        if name is not None and name not in lists:
            raise _no_list(name)
        current = next((known for known, default in lists.items() if default), None)
        if current == name:
            return
        if current is not None and any(
            _uses_default(other) for other in account.sessions.values() if other is not session
        ):
            raise PrivacyError('conflict', 'Another client of yours uses the default list.')
        old = await store.items(connection, user_id, current) if current is not None else ()
        new = await store.items(connection, user_id, name) if name is not None else ()
        await store.set_default(connection, user_id, name)
        account.user.privacy_version = await store.raise_version(connection, user_id)
    await _take_default(router, account, name, new)
    push_blocks(account, old, new)


async def _write(router: XcpRouter, account: Account, session: Session, element: Element) -> None:
    user_id = session.user.id
    name, new = read_list(element, int(router.param('privacy_list_items')))
    async with router.node.store.transaction() as connection:
        lists = await store.lock(connection, user_id)
        if lists is None:
            return
        others = [other for other in account.sessions.values() if other is not session]
        if new:
            await _check(router, user_id, name, new, lists)
        elif name not in lists:
            raise _no_list(name)
        elif any(_uses(other, name, lists[name]) for other in others):
            raise PrivacyError('conflict', 'Another client of yours uses this list.')
        old = await store.items(connection, user_id, name) if lists.get(name) else ()
        if new:
            await store.save(connection, user_id, name, new)
        else:
            await store.delete(connection, user_id, name)
        account.user.privacy_version = await store.raise_version(connection, user_id)
    await taken(router, account, name, new, default=lists.get(name, False))
    push_list(account, name, account.sessions.values())
    if lists.get(name):
        push_blocks(account, old, new)


async def _check(router: XcpRouter, user_id: int, name: str, items: Sequence[Item], lists: dict[str, bool]) -> None:
    most = int(router.param('privacy_lists'))
    if name not in lists and len(lists) >= most:
        raise PrivacyError('resource-constraint', f'{most} privacy lists are the maximum.')
    groups = {item.value for item in items if item.type == 'group'}
    if groups and (unknown := groups - await store.groups(router.node.store, user_id)):
        raise PrivacyError('item-not-found', f'There is no group {sorted(unknown)[0]!r} in your contact list.')


async def taken(router: XcpRouter, account: Account, name: str, items: Sequence[Item], default: bool) -> None:
    """A list was written (no ``items``: removed): every session that uses it does so from now on."""
    before = filters.in_force(account.sessions.values())
    user_id = account.user.id
    fresh = await store.ready(router.node.store, user_id, name, items) if items else None
    for session in account.sessions.values():
        chosen = session.filter
        if chosen is not None and chosen.active and chosen.rules is not None and chosen.rules.name == name:
            filters.use_active(router, account, session, fresh)
    if default:
        filters.use_default(router, account, fresh)
    blocking.apply(router, before)


async def _take_default(router: XcpRouter, account: Account, name: str | None, items: Sequence[Item]) -> None:
    fresh = await store.ready(router.node.store, account.user.id, name, items) if name is not None else None
    before = filters.in_force(account.sessions.values())
    filters.use_default(router, account, fresh)
    blocking.apply(router, before)


def _uses_default(session: Session) -> bool:
    return session.filter is None or not session.filter.active


def _uses(session: Session, name: str, default: bool) -> bool:
    chosen = session.filter
    if chosen is not None and chosen.active:
        return chosen.rules is not None and chosen.rules.name == name
    return default


def note(session: Session, name: str) -> None:
    """Remember that the client of a session speaks a protocol."""
    if session.notes is None:
        session.notes = {}
    session.notes[name] = True


def push_list(account: Account, name: str, sessions: Iterable[Session]) -> None:
    """Tell clients that a list was written (XEP-0016 2.2, rule 10)."""
    _push(sessions, f"<query xmlns='{NS}'>{list_xml(name)}</query>")


def push_blocks(account: Account, old: Iterable[Item], new: Iterable[Item], everybody: bool = False) -> None:
    """Tell clients that asked for the block list what changed in it (XEP-0191 3.2 to 3.4)."""
    before, after = blocked(old), blocked(new)
    readers = [session for session in account.sessions.values() if session.notes and BLOCK_NOTE in session.notes]
    if added := [address for address in after if address not in set(before)]:
        _push(readers, blocks_xml('block', added))
    if removed := [address for address in before if address not in set(after)]:
        _push(readers, blocks_xml('unblock', [] if everybody and not after else removed))


def blocks_xml(name: str, addresses: Iterable[str]) -> str:
    """An element of XEP-0191 with its items."""
    items = ''.join(f"<item jid='{quote(address)}'/>" for address in addresses)
    return f"<{name} xmlns='{BLOCKING}'>{items}</{name}>" if items else f"<{name} xmlns='{BLOCKING}'/>"


def _push(sessions: Iterable[Session], payload: str) -> None:
    for session in sessions:
        head = f"<iq type='set' id='privacy-{secrets.token_hex(6)}' to='{escape(session.jid)}'>"
        filters.ask(session, session.bare, f'{head}{payload}</iq>'.encode())


def _result(stanza: Stanza, inside: str) -> bytes:
    return iq_result(stanza, f"<query xmlns='{NS}'>{inside}</query>".encode())


def _no_list(name: str) -> PrivacyError:
    return PrivacyError('item-not-found', f'There is no privacy list {name!r}.')


def _missing(stanza: Stanza, name: str) -> bytes:
    return error(stanza, 'item-not-found', text=str(_no_list(name)))
