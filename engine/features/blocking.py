"""XEP-0191: the block list, kept in the default privacy list (XEP-0016): the items that deny one address everything.

The first block makes a default list when the user has none; the last unblock removes it again. Where it is applied:
engine/filters.py. Blocking is polite: subscriptions stay; a request of a blocked user waits until the block ends. A
session that chose an active privacy list follows that one. A probe of a blocked user is answered like one for a user
who is not signed in (unavailable) instead of not at all: silence would tell the two apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine import filters
from engine.contract.privacy import BLOCK_LIST, BLOCKING, Item, PrivacyError, block, blocked, read_jid, unblock
from engine.features.privacy import BLOCK_NOTE, NOTE, blocks_xml, note, push_blocks, push_list, taken
from engine.features.registry import iq, xep
from engine.store import privacy as store
from engine.xmpp.stanza import error, iq_result

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.services.xcp_router.router import XcpRouter
    from engine.session import Session
    from engine.xmpp.stanza import Stanza

XEP = xep(191, '1.3', server=(BLOCKING,))


@iq.on('get', BLOCKING, 'blocklist', 'self')
async def on_get(session: Session, stanza: Stanza, router: XcpRouter) -> bytes:
    """The block list; from now on the client is told of changes."""
    note(session, BLOCK_NOTE)
    items: Sequence[Item] = ()
    for name, default in await store.names(router.node.store, session.user.id):
        if default:
            items = await store.load(router.node.store, session.user.id, name) or ()
    return iq_result(stanza, blocks_xml('blocklist', blocked(items)).encode())


@iq.on('set', BLOCKING, 'block', 'self')
async def on_block(session: Session, stanza: Stanza, router: XcpRouter) -> bytes:
    """Block addresses: users, clients or whole domains."""
    try:
        addresses = _addresses(stanza, session)
    except PrivacyError as problem:
        return error(stanza, problem.condition, text=str(problem))
    if not addresses:
        return error(stanza, 'bad-request', text='Name at least one address to block.')
    return await _change(session, stanza, router, lambda items: block(items, addresses))


@iq.on('set', BLOCKING, 'unblock', 'self')
async def on_unblock(session: Session, stanza: Stanza, router: XcpRouter) -> bytes:
    """Unblock addresses; without any: everybody."""
    try:
        addresses = _addresses(stanza)
    except PrivacyError as problem:
        return error(stanza, problem.condition, text=str(problem))
    everybody = not addresses
    return await _change(
        session, stanza, router, lambda items: unblock(items, None if everybody else set(addresses)), everybody
    )


def _addresses(stanza: Stanza, owner: Session | None = None) -> list[str]:
    """The addresses of a request, prepared. ``owner``: who must not be among them. Raises PrivacyError."""
    payload = stanza.payload
    assert payload is not None
    found = []
    for child in payload:
        if child.tag != f'{{{BLOCKING}}}item':
            raise PrivacyError('bad-request', 'A request has items only.')
        address = read_jid(child.get('jid', ''))
        if owner is not None and address.partition('/')[0] == owner.bare:
            raise PrivacyError('not-allowed', 'You cannot block yourself.')
        found.append(address)
    return found


async def _change(
    session: Session,
    stanza: Stanza,
    router: XcpRouter,
    change: Callable[[Sequence[Item]], tuple[Item, ...]],
    everybody: bool = False,
) -> bytes:
    account = router.accounts.get(session.bare)
    if account is None or session.closed:
        return iq_result(stanza)
    user_id = session.user.id
    most = int(router.param('privacy_list_items'))
    async with filters.editing(user_id):
        async with router.node.store.transaction() as connection:
            lists = await store.lock(connection, user_id)
            if lists is None:
                return iq_result(stanza)
            name = next((known for known, default in lists.items() if default), '') or _free(lists)
            old = await store.items(connection, user_id, name) if name in lists else ()
            new = change(old)
            if len(new) > most and len(new) > len(old):
                return error(stanza, 'resource-constraint', text=f'At most {most} addresses can be blocked.')
            if new == old:
                return iq_result(stanza)
            if new:
                await store.save(connection, user_id, name, new)
                await store.set_default(connection, user_id, name)
            else:
                await store.delete(connection, user_id, name)
            account.user.privacy_version = await store.raise_version(connection, user_id)
        await taken(router, account, name, new, default=True)
        push_blocks(account, old, new, everybody)
        push_list(account, name, [other for other in account.sessions.values() if other.notes and NOTE in other.notes])
    return iq_result(stanza)


def _free(lists: dict[str, bool]) -> str:
    name, number = BLOCK_LIST, 2
    while name in lists:
        name, number = f'{BLOCK_LIST}-{number}', number + 1
    return name
