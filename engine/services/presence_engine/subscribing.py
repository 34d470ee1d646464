"""Subscription requests and contact list changes of clients: decide, write both sides, commit, then tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.services.presence_engine import elsewhere, outside, pushes, subscriptions, visibility
from engine.services.presence_engine.subscriptions import Kind, Side
from engine.store import privacy, rosters, users
from engine.store.pool import Connection
from engine.store.rosters import Counts, Item
from engine.xmpp.stanza import error, escape, iq_result

if TYPE_CHECKING:
    from engine.services.presence_engine.engine import PresenceEngine
    from engine.services.presence_engine.person import Person
    from engine.session import Session
    from engine.xmpp.stanza import Stanza

REQUEST_BYTES = 4096
"""A stored subscription request larger than this is stored without its content."""


async def find(engine: PresenceEngine, bare: str, live: bool) -> int | None:
    """Id of a local user. ``live``: only one who may be reached; a disabled one still has a list to take out of."""
    account = engine.router.accounts.get(bare)
    if account is not None:
        return account.user.id
    if bare.rpartition('@')[2] not in engine.router.domains:
        return None
    found = await users.find(engine.node.store, bare)
    return found[0] if found and (found[1] or not live) else None


async def request(
    engine: PresenceEngine, person: Person, session: Session, stanza: Stanza, kind: Kind, to: str
) -> None:
    """A subscribe, subscribed, unsubscribe or unsubscribed of a client to ``to``."""
    if elsewhere.outside(engine, to):
        await outside.request(engine, person, session, stanza, kind, to)
        return
    other = await find(engine, to, live=kind == 'subscribe')
    ids = [person.user_id] if other is None else [person.user_id, other]
    data = visibility.subscription_stanza(stanza, person.bare, to)
    stored = data if len(data) <= REQUEST_BYTES else plain(kind, person.bare, to)
    async with engine.owners(*ids):
        async with engine.node.store.transaction() as connection:
            counts = await rosters.lock(connection, ids)
            if person.user_id not in counts:
                return
            mine = await rosters.get(connection, person.user_id, to)
            me = Side(person.bare, mine, counts[person.user_id])
            theirs, them = None, None
            if other is not None and other in counts:
                theirs = await rosters.get(connection, other, person.bare)
                them = Side(to, theirs, counts[other])
            outcome = subscriptions.decide(kind, me, them, to, engine.rules)
            if them is not None and await blocks(engine, connection, other, them, person.bare):
                outcome = subscriptions.unheard(kind, me, theirs, to, outcome)
            versions = {}
            if outcome.mine != mine:
                versions[person.user_id] = await rosters.write(connection, person.user_id, mine, outcome.mine)
            if other is not None and outcome.theirs != theirs:
                asked = stored if kind == 'subscribe' else None
                versions[other] = await rosters.write(connection, other, theirs, outcome.theirs, asked)
        if outcome.error is not None:
            engine.node.counters.subscriptions_refused += 1
            session.send(error(stanza, outcome.error[0], text=outcome.error[1]))
            return
        if kind == 'subscribe' and other in versions and outcome.theirs is not None and outcome.theirs.pending_in:
            addressee = engine.by_id.get(other)
            if addressee is not None and addressee.items is not None:
                addressee.requests[person.bare] = stored
        for answer in outcome.to_them:
            visibility.deliver(
                engine,
                person.bare,
                to,
                data if answer == kind else plain(answer, person.bare, to),
                kind != 'subscribe',
            )
        if outcome.to_me:
            if outcome.to_me == 'unsubscribed':
                engine.node.counters.subscriptions_refused += 1
            visibility.deliver(engine, to, person.bare, plain(outcome.to_me, to, person.bare), interested=True)
        _apply(engine, person.user_id, versions, to, outcome.mine)
        if other is not None:
            _apply(engine, other, versions, person.bare, outcome.theirs)
            _nudge(engine, to, other, versions, person.bare, outcome.theirs, stored if kind == 'subscribe' else b'')


def _nudge(
    engine: PresenceEngine, bare: str, owner: int, versions: dict[int, int], jid: str, item: Item | None,
    request: bytes = b'',
) -> None:  # fmt: skip
    """The user whose list was written too may be signed in at another node."""
    if engine.router.nodes is not None and owner in versions:
        engine.router.nodes.roster(bare, owner, versions[owner], jid, item, request)


async def blocks(engine: PresenceEngine, connection: Connection, user_id: int | None, them: Side, sender: str) -> bool:
    """Whether a user lets no subscription stanza of ``sender`` through, in any session or while not signed in."""
    account = engine.router.accounts.get(them.bare)
    if account is not None:
        return account.filter is not None and not any(
            session.filter is None or session.filter.allows('in', 'subscription', sender)
            for session in account.sessions.values()
        )
    if user_id is None or not them.counts.lists:
        return False
    return bool(await privacy.refusing(connection, 'subscription', [(user_id, sender)]))


def _apply(engine: PresenceEngine, owner: int, versions: dict[int, int], jid: str, item: Item | None) -> None:
    if owner in versions:
        apply(engine, owner, versions[owner], jid, item)


def apply(engine: PresenceEngine, owner: int, version: int, jid: str, item: Item | None, always: bool = False) -> None:
    """One committed change into memory; a gap in the versions means that somebody else wrote too: read again."""
    person = engine.by_id.get(owner)
    if person is None or person.items is None:
        return
    gap = version != person.version + 1
    pushes.apply(engine, owner, version, {jid: item}, always)
    if gap:
        engine.reload_soon(owner)


def plain(kind: str, sender: str, to: str) -> bytes:
    """A subscription stanza between bare JIDs without content."""
    return f"<presence from='{escape(sender)}' to='{escape(to)}' type='{kind}'/>".encode()


async def set_item(
    engine: PresenceEngine,
    person: Person,
    session: Session,
    stanza: Stanza,
    jid: str,
    name: str,
    groups: tuple[str, ...],
) -> None:
    """Add or change an entry (RFC 6121 2.3, 2.4); the result is sent after the commit."""
    async with engine.owners(person.user_id):
        async with engine.node.store.transaction() as connection:
            counts = await rosters.lock(connection, [person.user_id])
            if person.user_id not in counts:
                session.send(error(stanza, 'item-not-found', text='The user was deleted.'))
                return
            old = await rosters.get(connection, person.user_id, jid)
            if not (old and old.is_contact) and subscriptions.full(counts[person.user_id], engine.rules):
                text = subscriptions.contact_limit_text(engine.rules.max_contacts)
                session.send(error(stanza, 'policy-violation', text=text))
                return
            new = (old or Item(jid))._replace(name=name, groups=groups, is_contact=True)
            version = await rosters.write(connection, person.user_id, old, new)
        apply(engine, person.user_id, version, jid, new, always=True)
        session.send(iq_result(stanza))


async def remove_item(engine: PresenceEngine, person: Person, session: Session, stanza: Stanza, jid: str) -> None:
    """Delete an entry and end the subscriptions in both directions (RFC 6121 2.5)."""
    if elsewhere.outside(engine, jid):
        await outside.remove(engine, person, session, stanza, jid)
        return
    other = await find(engine, jid, live=False)
    ids = [person.user_id] if other is None else [person.user_id, other]
    async with engine.owners(*ids):
        async with engine.node.store.transaction() as connection:
            counts: dict[int, Counts] = await rosters.lock(connection, ids)
            old = await rosters.get(connection, person.user_id, jid) if person.user_id in counts else None
            if old is None or not old.visible:
                session.send(error(stanza, 'item-not-found', text='The address is not in the contact list.'))
                return
            versions = {person.user_id: await rosters.write(connection, person.user_id, old, None)}
            outcome = subscriptions.remove(await _theirs(connection, other, counts, person.bare))
            if other is not None and outcome.to_them:
                theirs = await rosters.get(connection, other, person.bare)
                versions[other] = await rosters.write(connection, other, theirs, outcome.theirs)
        for kind in outcome.to_them:
            visibility.deliver(engine, person.bare, jid, plain(kind, person.bare, jid), interested=True)
        _apply(engine, person.user_id, versions, jid, None)
        if other is not None:
            _apply(engine, other, versions, person.bare, outcome.theirs)
            _nudge(engine, jid, other, versions, person.bare, outcome.theirs)
        session.send(iq_result(stanza))


async def _theirs(connection: Connection, other: int | None, counts: dict[int, Counts], bare: str) -> Item | None:
    return await rosters.get(connection, other, bare) if other is not None and other in counts else None
