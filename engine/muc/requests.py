"""IQ stanzas to the service, to a room and between occupants (XEP-0045 6, 9, 10; XEP-0410)."""

from __future__ import annotations

from engine.muc import configuration, disco, lists, registration
from engine.muc.messages import failure
from engine.muc.room import Home, Occupant, Outgoing, Refused, Room, nick_key
from engine.xmpp import ns
from engine.xmpp.stanza import Stanza, element, iq_result, with_attributes


def _asked(stanza: Stanza) -> tuple[str, str, str]:
    """(type, namespace, name) of what an IQ asks."""
    payload = stanza.payload
    if payload is None:
        raise Refused('bad-request', 'The request is empty.')
    namespace, _, name = payload.tag.rpartition('}')
    return stanza.type or '', namespace[1:], name


def _result(stanza: Stanza, content: str) -> bytes:
    """The result, with what was asked for inside the element that asked, its node kept."""
    query = stanza.payload
    assert query is not None
    namespace, _, name = query.tag.rpartition('}')
    opened = element(name, namespace[1:], node=query.get('node'))
    return iq_result(stanza, (f'{opened[:-2]}>{content}</{name}>' if content else opened).encode())


def to_service(home: Home, domain: str, stanza: Stanza) -> bytes:
    """The answer of an alias. Raises Refused."""
    asked = _asked(stanza)
    query = stanza.payload
    assert query is not None
    if asked == ('get', ns.PING, 'ping'):
        return iq_result(stanza)
    if asked == ('get', disco.UNIQUE, 'unique'):
        name = f"<unique xmlns='{disco.UNIQUE}'>{home.token()}</unique>"
        return iq_result(stanza, name.encode())
    if asked[0] == 'get' and asked[1] in (ns.DISCO_INFO, ns.DISCO_ITEMS):
        if query.get('node'):
            raise Refused('item-not-found', 'There is no such node.')
        info = asked[1] == ns.DISCO_INFO
        return _result(stanza, disco.service_info() if info else disco.service_items(home, domain, query))
    raise Refused('service-unavailable')


def to_room(room: Room, sender: str, stanza: Stanza, out: Outgoing) -> None:
    """The answer of a room, after what others are told. Raises Refused."""
    bare = sender.partition('/')[0]
    query = stanza.payload
    asked = _asked(stanza)
    assert query is not None
    if room.locked and room.affiliation(bare) != 'owner':
        raise Refused('item-not-found', 'The room is not open yet.')
    content: str | None = None
    match asked:
        case 'get', ns.PING, 'ping':
            pass
        case 'get', ns.DISCO_INFO, 'query':
            content = disco.room_info(room, sender, bare, query.get('node', ''))
        case 'get', ns.DISCO_ITEMS, 'query':
            content = disco.room_items(room, sender)
        case 'get', ns.MUC_ADMIN, 'query':
            content = lists.listing(room, bare, sender, query)
        case 'set', ns.MUC_ADMIN, 'query':
            lists.change(room, bare, sender, query, out)
        case 'get', ns.MUC_OWNER, 'query':
            content = configuration.form(room, bare)
        case 'set', ns.MUC_OWNER, 'query':
            configuration.owner_request(room, bare, query, out)
        case 'get', ns.REGISTER, 'query':
            content = registration.form(room, bare)
        case 'set', ns.REGISTER, 'query':
            registration.register(room, bare, query, out)
        case _:
            raise Refused('service-unavailable')
    out.append((sender, iq_result(stanza) if content is None else _result(stanza, content)))


def between(room: Room, sender: str, nick: str, stanza: Stanza, out: Outgoing) -> None:
    """An IQ from one occupant to another. The id says for which client of the one who asks the answer is: the room
    keeps nothing. A ping to oneself tells that one is still in the room (XEP-0410). Raises Refused."""
    asking = stanza.type in ('get', 'set')
    occupant = room.by_jid.get(sender)
    if occupant is None:
        if asking:
            discovers = _asked(stanza)[1] in (ns.DISCO_INFO, ns.DISCO_ITEMS)
            raise Refused('bad-request' if discovers else 'not-acceptable', 'You are not in this room.')
        return
    raw = with_attributes(stanza.raw, {'from': f'{room.jid}/{occupant.nick}', 'to': None})
    own = room.occupants.get(nick_key(nick)) is occupant
    if not asking:
        _back(room, occupant, nick, stanza, raw, out)
    elif own and _asked(stanza) == ('get', ns.PING, 'ping'):
        out.append((sender, iq_result(stanza)))
    elif occupant.hidden:
        raise Refused('forbidden', 'Nobody sees you here.')
    else:
        target = room.named(nick)
        session = occupant.sessions[sender]
        to = target.shown
        identity = f'{session.number}-{stanza.id or ""}'
        out.append((to.full, with_attributes(raw, {'id': identity, 'to': to.full})))


def _back(room: Room, occupant: Occupant, nick: str, stanza: Stanza, raw: bytes, out: Outgoing) -> None:
    """The answer of an occupant to the client of another that asked."""
    number, _, original = (stanza.id or '').partition('-')
    asker = room.occupants.get(nick_key(nick))
    for session in asker.sessions.values() if asker is not None else ():
        if str(session.number) != number:
            continue
        if stanza.type == 'error':
            answer = failure(stanza, f'{room.jid}/{occupant.nick}', session.full, original)
        else:
            answer = with_attributes(raw, {'id': original, 'to': session.full})
        out.append((session.full, answer))
