"""Subscriptions between users here and addresses of other servers and components (RFC 6121 3, appendix A).

Only the half of the user here is written; the other server hears of it in stanzas, and the other way round. Limits of
contacts and watchers hold as between local users; besides, a user has at most ``max_waiting_requests`` entries that are
no contacts, so nobody outside can fill the table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from engine.services.presence_engine import halves, subscribing, visibility
from engine.services.presence_engine.subscriptions import Kind, Side
from engine.services.xcp_router import iq, remote
from engine.store import rosters
from engine.store.pool import Connection, Unavailable
from engine.xmpp.stanza import error, iq_result

if TYPE_CHECKING:
    from engine.services.presence_engine.engine import PresenceEngine
    from engine.services.presence_engine.person import Person
    from engine.services.xcp_router.remote import RemoteSender
    from engine.session import Session
    from engine.xmpp.stanza import Stanza


async def _crowded(engine: PresenceEngine, connection: Connection, user_id: int, kind: Kind) -> bool:
    """Whether the user has as many entries that are no contacts as there may be."""
    if kind not in ('subscribe', 'subscribed'):
        return False
    return await rosters.others(connection, user_id) >= engine.max_waiting


async def request(
    engine: PresenceEngine, person: Person, session: Session, stanza: Stanza, kind: Kind, to: str
) -> None:
    """A subscription stanza of a client to ``to``, which no node here serves."""
    router = engine.router
    if kind == 'subscribe' and remote.route_for(router, to) is None:
        domain = to.rpartition('@')[2]
        router.refuse(session, stanza, 'remote-server-not-found', f'This server does not know the domain {domain}.')
        return
    async with engine.owners(person.user_id):
        async with engine.node.store.transaction() as connection:
            counts = await rosters.lock(connection, [person.user_id])
            if person.user_id not in counts:
                return
            mine = await rosters.get(connection, person.user_id, to)
            crowded = await _crowded(engine, connection, person.user_id, kind)
            me = Side(person.bare, mine, counts[person.user_id])
            outcome = halves.outbound(kind, me, to, engine.rules, crowded)
            version = None
            if outcome.mine != mine:
                version = await rosters.write(connection, person.user_id, mine, outcome.mine)
        if outcome.error is not None:
            engine.node.counters.subscriptions_refused += 1
            session.send(error(stanza, outcome.error[0], text=outcome.error[1]))
            return
        gained = bool(outcome.mine and outcome.mine.subscription & rosters.FROM)
        if version is not None and not gained:
            subscribing.apply(
                engine, person.user_id, version, to, outcome.mine
            )  # the push comes first (RFC 6121 3.1.2)
        data = visibility.subscription_stanza(stanza, person.bare, to)

        def failed(condition: str, text: str) -> None:
            router.refuse(session, stanza, condition, text)

        for answer in outcome.to_them:
            plain = data if answer == kind else subscribing.plain(answer, person.bare, to)
            remote.post(router, plain, person.bare, to, failed if kind == 'subscribe' else None)
        if version is not None and gained:
            subscribing.apply(engine, person.user_id, version, to, outcome.mine)  # presence follows "subscribed"


async def remove(engine: PresenceEngine, person: Person, session: Session, stanza: Stanza, jid: str) -> None:
    """A client deletes an entry of somebody outside: subscriptions end in both directions (RFC 6121 2.5)."""
    async with engine.owners(person.user_id):
        async with engine.node.store.transaction() as connection:
            counts = await rosters.lock(connection, [person.user_id])
            old = await rosters.get(connection, person.user_id, jid) if person.user_id in counts else None
            if old is None or not old.visible:
                session.send(error(stanza, 'item-not-found', text='The address is not in the contact list.'))
                return
            version = await rosters.write(connection, person.user_id, old, None)
        for kind in halves.removed(old):
            remote.post(engine.router, subscribing.plain(kind, person.bare, jid), person.bare, jid)
        subscribing.apply(engine, person.user_id, version, jid, None)
        session.send(iq_result(stanza))


def receive(engine: PresenceEngine, sender: RemoteSender, stanza: Stanza, bare: str) -> None:
    """A subscription stanza from outside. One after the other for each sender, in the order they came."""

    async def job() -> None:
        try:
            await _receive(engine, sender, stanza, cast(Kind, stanza.type), bare)
        except Unavailable:
            engine.router.refuse(sender, stanza, 'internal-server-error', 'The contact list cannot be written now.')

    iq.later(engine.router, sender, job, len(stanza.raw))


async def _receive(engine: PresenceEngine, sender: RemoteSender, stanza: Stanza, kind: Kind, bare: str) -> None:
    them = sender.bare
    user_id = await subscribing.find(engine, bare, live=kind == 'subscribe')
    if user_id is None:
        if kind == 'subscribe':  # like a refusal, so that nobody learns which addresses exist
            sender.send(subscribing.plain('unsubscribed', bare, them))
        return
    data = visibility.subscription_stanza(stanza, them, bare)
    stored = data if len(data) <= subscribing.REQUEST_BYTES else subscribing.plain(kind, them, bare)
    async with engine.owners(user_id):
        async with engine.node.store.transaction() as connection:
            counts = await rosters.lock(connection, [user_id])
            if user_id not in counts:
                return
            mine = await rosters.get(connection, user_id, them)
            me = Side(bare, mine, counts[user_id])
            if kind == 'subscribe' and await subscribing.blocks(engine, connection, user_id, me, them):
                return
            crowded = await _crowded(engine, connection, user_id, kind)
            colleague = engine.router.peers is not None and them in engine.router.peers.where
            outcome = halves.inbound(kind, me, them, engine.rules, crowded, colleague)
            version = None
            if outcome.mine != mine:
                asked = stored if kind == 'subscribe' else None
                version = await rosters.write(connection, user_id, mine, outcome.mine, asked)
        addressee = engine.by_id.get(user_id)
        if (
            outcome.mine is not None
            and outcome.mine.pending_in
            and addressee is not None
            and addressee.items is not None
        ):
            addressee.requests.setdefault(them, stored)
        if outcome.to_me:
            visibility.deliver(engine, them, bare, data, interested=kind != 'subscribe')
        for answer in outcome.to_them:
            if answer == 'unsubscribed':
                engine.node.counters.subscriptions_refused += 1
            sender.send(subscribing.plain(answer, bare, them))
        if version is not None:
            subscribing.apply(engine, user_id, version, them, outcome.mine)
        elif outcome.to_them == ('subscribed',):
            visibility.grant(engine, bare, them, visible=True)
