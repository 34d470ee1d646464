"""Presence of and for users who are not signed in at this process: other domains, and other nodes of the cluster.

``person.abroad`` has the addresses in a contact list that are not served here. ``person.seen`` keeps the last
presence of contacts elsewhere while the user has an available client, so a second client is told at once and a lost
node can be told as gone; it is None otherwise, and bounded by the contact list times ``remote_resources``.

Cost: nothing for a user without such contacts; 1.5 microseconds for each watcher abroad, 0.2 for each contact signed in
at another node (measured with the batches of engine/cluster).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from engine.features import registry
from engine.filters import shows, takes_presence
from engine.services.presence_engine import visibility
from engine.services.presence_engine.person import NOBODY
from engine.services.xcp_router import remote
from engine.store.rosters import FROM, TO
from engine.xmpp.stanza import escape, split_to

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from engine.services.presence_engine.engine import PresenceEngine
    from engine.services.presence_engine.person import Person
    from engine.services.presence_engine.visibility import Presence
    from engine.services.xcp_router.remote import RemoteSender
    from engine.session import Session
    from engine.xmpp.stanza import Stanza


def outside(engine: PresenceEngine, bare: str) -> bool:
    """Whether no node of the cluster serves an address."""
    return engine.router.outside(bare)


def index(engine: PresenceEngine, person: Person) -> None:
    """Note which entries of a list just read are abroad."""
    person.abroad = frozenset(filter(engine.router.outside, person.items or ())) or NOBODY


# out


def broadcast(engine: PresenceEngine, person: Person, presence: Presence, sender: Session) -> None:
    """Presence of ``sender`` to the watchers who are not signed in here. The caller knows that the user shares."""
    assert person.items is not None
    router = engine.router
    head, tail = presence
    for jid in person.abroad:
        if person.items[jid].subscription & FROM and (sender.filter is None or shows(sender, jid)):
            remote.post(router, head + escape(jid).encode() + tail, sender.jid, jid)
    if router.nodes is not None:
        router.nodes.presence(
            sender.jid,
            presence,
            (
                jid
                for jid, item in person.items.items()
                if item.subscription & FROM and (sender.filter is None or shows(sender, jid))
            ),
        )


def send(engine: PresenceEngine, sender: str, address: str, data: bytes) -> None:
    """One presence stanza of ``sender`` to somebody who is not signed in here: to the other server or node."""
    bare = address.partition('/')[0]
    if outside(engine, bare):
        remote.post(engine.router, data, sender, address)
    elif engine.router.nodes is not None:
        engine.router.nodes.send(bare, data)


def introduce(engine: PresenceEngine, person: Person, session: Session) -> None:
    """A new client of the user: what is known of contacts elsewhere; the first one makes the server ask (RFC 6121
    4.3.1)."""
    assert person.items is not None
    if person.seen is not None:
        address = escape(session.jid).encode()
        for contacts in person.seen.values():
            for full, presence in contacts.items():
                data = presence[0] + address + presence[1]
                if session.filter is None or takes_presence(session, full, data):
                    session.send(data)
        return
    person.seen = {}
    for jid in person.abroad:
        if person.items[jid].subscription & TO:
            engine.probes.ask(person.bare, jid)
    if engine.router.nodes is not None:
        wanted = [jid for jid, item in person.items.items() if item.subscription & TO]
        engine.router.nodes.probe(person.bare, wanted)


def left(engine: PresenceEngine, person: Person) -> None:
    """A client of the user is not available any more: with the last one nobody needs to be remembered."""
    if person.seen is not None and not any(session.shown for session in engine.router.sessions_of(person.bare)):
        person.seen = None


def changed(engine: PresenceEngine, person: Person, jid: str, known: bool, before: int, after: int) -> None:
    """An entry of the list in memory changed (``known``: it is still there) and its subscription."""
    if outside(engine, jid):
        person.abroad = person.abroad | {jid} if known else person.abroad - {jid}
    if before & TO and not after & TO and person.seen:
        forget(engine, person, jid)


def forget(engine: PresenceEngine, person: Person, jid: str) -> None:
    """A contact elsewhere cannot be seen any more: the user's clients are told that it is gone."""
    for full in (person.seen or {}).pop(jid, ()):
        visibility.tell(engine, full, person.bare, visibility.gone(full))


def left_behind(engine: PresenceEngine, person: Person, jid: str) -> None:
    """The same when the node of the contact is gone: clients that may go on elsewhere are shown a while longer."""
    dual, seen = engine.router.dual, person.seen or {}
    for full in [full for full in seen.get(jid, ()) if not dual.keeps(full)]:
        note(engine, person, full, None)
        visibility.tell(engine, full, person.bare, visibility.gone(full))
    for full in seen.get(jid, ()):
        dual.waits(full)


def lost(engine: PresenceEngine, full: str, watchers: Iterable[str]) -> None:
    """A client that was shown a while longer does not go on: whoever sees it is told, ``watchers`` in any case."""
    contact = full.partition('/')[0]
    told = set(watchers)
    for person in list(engine.people.values()):
        if full in (person.seen or {}).get(contact, ()):
            note(engine, person, full, None)
            told.add(person.bare)
    for bare in told:
        visibility.tell(engine, full, bare, visibility.gone(full))


def domain_lost(engine: PresenceEngine, domain: str) -> None:
    """Nobody speaks for a domain any more (its component is gone): its users are gone too."""
    for person in list(engine.people.values()):
        for jid in [jid for jid in person.seen or () if jid.rpartition('@')[2] == domain]:
            forget(engine, person, jid)


def domain_back(engine: PresenceEngine, domain: str) -> None:
    """Somebody speaks for a domain again."""
    back(engine, lambda jid: jid.rpartition('@')[2] == domain)


def back(engine: PresenceEngine, has: Callable[[str], bool]) -> None:
    """Somebody speaks again for the addresses that ``has`` names: who has contacts among them is told who sees him."""
    for person in list(engine.people.values()):
        if person.seen is not None:
            greet(engine, person, filter(has, person.abroad))


def greet(engine: PresenceEngine, person: Person, contacts: Iterable[str]) -> None:
    """These contacts of a signed-in user can be reached: ask for their presence, repeat requests that wait for an
    answer, show them the user's own presence."""
    assert person.items is not None
    for jid in contacts:
        item = person.items[jid]
        if item.ask:
            data = f"<presence from='{escape(person.bare)}' to='{escape(jid)}' type='subscribe'/>".encode()
            remote.post(engine.router, data, person.bare, jid)
        if item.subscription & TO:
            engine.probes.ask(person.bare, jid)
        if item.subscription & FROM:
            visibility.grant(engine, person.bare, jid, visible=True)


async def moved(engine: PresenceEngine, users: set[str]) -> None:
    """These users belong to a peer cluster since now, or do so no longer. Gives way to others now and then."""
    for count, person in enumerate(list(engine.people.values())):
        if count % 500 == 499:
            await asyncio.sleep(0)
        found = users.intersection(person.items) if person.items is not None else NOBODY
        if not found:
            continue
        index(engine, person)
        for jid in found - person.abroad:
            forget(engine, person, jid)
        if person.seen is not None:
            greet(engine, person, found & person.abroad)


# in


def receive(engine: PresenceEngine, sender: RemoteSender, stanza: Stanza, bare: str, resource: str) -> None:
    """Available or unavailable presence from outside or from another node. While availability is not shared nothing
    from outside is passed on (IM-29), but rooms and gateways of this server talk to those who talk to them."""
    if stanza.type == 'unavailable':
        engine.adhoc.release(sender, bare)
    person = engine.people.get(bare)
    available = stanza.type is None
    item = person.items.get(sender.bare) if person is not None and person.items is not None else None
    contact = item is not None and bool(item.subscription & TO)
    if (
        not engine.sharing
        and engine.router.outside(sender.bare)
        and (contact or sender.domain not in engine.router.routes)
    ):
        return
    # presence comes right behind "subscribed", which is still being written then
    if person is not None and item is not None and (contact or item.ask):
        note(engine, person, sender.jid, split_to(stanza.raw) if available else None)
    if available and (resource or bare in engine.router.accounts):
        engine.node.counters.remote_presence += 1
    if '@' in bare:
        registry.contact_presence.fire(engine.router, sender.jid, stanza.raw, available, (bare,))
    address = f'{bare}/{resource}' if resource else bare
    visibility.send_here(engine, sender.jid, address, stanza.raw)
    target = engine.router.full.get(address)
    if target is not None and target.directed and stanza.type == 'unavailable':  # a room of another server was left
        target.directed.discard(sender.jid)


def arrived(
    engine: PresenceEngine, sender: str, presence: Presence, available: bool, watchers: Iterable[str], left: bool
) -> None:
    """One presence of a user of another node, for these watchers signed in here; ``left``: who sees the client no
    longer was told already, as the user is at yet another node."""
    contact = sender.partition('/')[0]
    watchers = list(watchers)
    registry.contact_presence.fire(engine.router, sender, presence[0] + presence[1], available, watchers)
    for bare in watchers:
        person = engine.people.get(bare)
        if person is None or person.items is None:
            continue
        item = person.items.get(contact)
        if item is None or not item.subscription & TO:
            continue
        if left and sender not in (person.seen or {}).get(contact, ()):
            continue
        note(engine, person, sender, presence if available else None)
        visibility.tell(engine, sender, bare, presence)


def note(engine: PresenceEngine, person: Person, full: str, presence: Presence | None) -> None:
    """Remember the last presence of a contact elsewhere; None: not available."""
    if person.seen is None:
        return
    contact, _, resource = full.partition('/')
    known = person.seen.get(contact)
    if presence is None:
        if known is not None:
            if resource:
                known.pop(full, None)
            if not resource or not known:
                del person.seen[contact]
        return
    if known is None:
        known = person.seen[contact] = {}
    elif full not in known and len(known) >= engine.max_resources:
        del known[next(iter(known))]
    known[full] = presence


def show(engine: PresenceEngine, watcher: str, bare: str, tell: Callable[[str, Presence], None]) -> bool:
    """Call ``tell`` with full JID and presence of each client of a user signed in here that ``watcher`` may see. False:
    there was none."""
    if not visibility.sees(engine, watcher, bare):
        return False
    found = False
    for session in engine.router.sessions_of(bare):
        if session.shown and session.presence is not None and (session.filter is None or shows(session, watcher)):
            tell(session.jid, session.presence)
            found = True
    return found
