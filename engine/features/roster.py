"""Contact lists for clients: RFC 6121 2, with versioning (XEP-0237)."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element

from engine.contract import jid
from engine.features.registry import iq, xep
from engine.services.presence_engine import pushes, subscribing
from engine.store.pool import Unavailable
from engine.xmpp import ns
from engine.xmpp.stanza import error, iq_result

if TYPE_CHECKING:
    from engine.services.presence_engine.engine import PresenceEngine
    from engine.services.presence_engine.person import Operation, Person
    from engine.services.xcp_router.router import XcpRouter
    from engine.session import Session
    from engine.xmpp.stanza import Stanza

XEP = xep(237, '1.3', server=(ns.ROSTER_VERSIONING,))

LENGTH = 1023
"""Longest name and group, in characters (RFC 6121 2.3.3 leaves the number to the server)."""
GROUPS = 100


@iq.on('get', ns.ROSTER, 'query', 'bare', 'host')
@iq.on('set', ns.ROSTER, 'query', 'bare', 'host')
def on_other(session: Session, stanza: Stanza, router: XcpRouter) -> bytes:
    """Contact lists of others are their own business."""
    return error(stanza, 'forbidden', text='You can only read and change your own contact list.')


@iq.on('get', ns.ROSTER, 'query', 'self')
def on_get(session: Session, stanza: Stanza, router: XcpRouter) -> bytes | None:
    """The list, or an empty result when the client's version is current."""
    engine = router.presence_engine()
    if engine is None:
        return _stopped(stanza)
    person = engine.person(session)
    if person.items is not None and not person.busy:
        return _list(session, stanza, person)

    async def later() -> None:
        session.send(_list(session, stanza, person))

    _enqueue(engine, person, session, stanza, later)
    return None


@iq.on('set', ns.ROSTER, 'query', 'self')
def on_set(session: Session, stanza: Stanza, router: XcpRouter) -> bytes | None:
    """Add, change or remove one entry. The result follows the commit."""
    engine = router.presence_engine()
    if engine is None:
        return _stopped(stanza)
    query = stanza.payload
    assert query is not None
    if len(query) != 1 or query[0].tag != f'{{{ns.ROSTER}}}item':
        return error(stanza, 'bad-request', text='A roster set needs exactly one item.')
    item = query[0]
    try:
        address = jid.prepare(item.get('jid', ''))
    except jid.InvalidJID as problem:
        return error(stanza, 'jid-malformed', text=str(problem))
    if '/' in address:
        return error(stanza, 'bad-request', text='A contact has no resource.')
    person = engine.person(session)
    if item.get('subscription') == 'remove':
        _enqueue(
            engine, person, session, stanza, lambda: subscribing.remove_item(engine, person, session, stanza, address)
        )
        return None
    if address == session.bare:
        return error(stanza, 'not-allowed', text='You cannot be your own contact.')
    name = item.get('name', '')
    groups = [group.text or '' for group in item.findall(f'{{{ns.ROSTER}}}group')]
    if (objection := _objection(item, name, groups)) is not None:
        return error(stanza, objection[0], text=objection[1])
    _enqueue(
        engine, person, session, stanza,
        lambda: subscribing.set_item(engine, person, session, stanza, address, name, tuple(groups)),
    )  # fmt: skip
    return None


def _objection(item: Element, name: str, groups: list[str]) -> tuple[str, str] | None:
    if len(name) > LENGTH:
        return 'not-acceptable', f'A name has at most {LENGTH} characters.'
    if len(set(groups)) != len(groups):
        return 'bad-request', 'A group is named twice.'
    if any(not group for group in groups):
        return 'not-acceptable', 'A group name cannot be empty.'
    if any(len(group) > LENGTH for group in groups):
        return 'not-acceptable', f'A group name has at most {LENGTH} characters.'
    if len(groups) > GROUPS:
        return 'not-acceptable', f'A contact can be in at most {GROUPS} groups.'
    return None


def _list(session: Session, stanza: Stanza, person: Person) -> bytes:
    session.interested = True
    query = stanza.payload
    assert query is not None
    assert person.items is not None
    if query.get('ver') == str(person.version):
        return iq_result(stanza)
    items = ''.join(pushes.item_xml(item) for item in person.items.values() if item.visible)
    return iq_result(stanza, f"<query xmlns='{ns.ROSTER}' ver='{person.version}'>{items}</query>".encode())


def _enqueue(engine: PresenceEngine, person: Person, session: Session, stanza: Stanza, operation: Operation) -> None:
    def failed(problem: Exception) -> None:
        kind = 'wait' if isinstance(problem, Unavailable | RuntimeError) else ''
        session.send(error(stanza, 'internal-server-error', kind, str(problem)))

    engine.enqueue(person, session, operation, failed, len(stanza.raw))


def _stopped(stanza: Stanza) -> bytes:
    return error(stanza, 'service-unavailable', text='Cisco Presence Engine is not running.')
