"""Entering, changing one's nickname or presence, leaving (XEP-0045 7.2, 7.6, 7.7, 7.14)."""

from __future__ import annotations

import hmac
from typing import Final
from xml.etree.ElementTree import Element

from engine.muc import history
from engine.muc.presence import GONE, Notice, address_to, cleaned, from_room, note, present, shown
from engine.muc.room import (
    DEVICES,
    LISTED,
    Entry,
    Home,
    Occupant,
    Outgoing,
    Refused,
    Role,
    Room,
    Session,
    inherited,
    nick_key,
)
from engine.xmpp import ns
from engine.xmpp.forwarding import address
from engine.xmpp.stanza import Stanza

HIDDEN: Final = 'urn:imp:muc:hidden'
"""<hidden xmlns='urn:imp:muc:hidden'/> inside the <x/> of who enters unseen."""
ROOMS_EACH: Final = 250
"""Most rooms one client is in."""


def available(home: Home, sender: str, jid: str, nick: str, stanza: Stanza, now: float, out: Outgoing) -> None:
    """Available presence to ``jid/nick``: enter (making the room if there is none), take another nickname, or show
    another presence. Raises Refused."""
    x = stanza.child(ns.MUC, 'x')
    room = home.rooms.get(jid)
    inside = room.by_jid.get(sender) if room is not None else None
    if not nick:
        raise Refused('jid-malformed', 'Say under which nickname: send presence to the address of the room/nickname.')
    if room is not None and inside is not None:
        _again(room, inside, sender, nick, stanza, x, now, out)
        return
    if x is None and not (room.config.gc1 if room is not None else home.settings.gc1):
        raise Refused('not-acceptable', f"Enter with <x xmlns='{ns.MUC}'/> in the presence.")
    if len(home.where.get(sender, ())) >= ROOMS_EACH:
        raise Refused('resource-constraint', f'A client can be in {ROOMS_EACH} rooms.')
    created = room is None
    if room is None:
        if len(home.rooms) >= home.settings.max_rooms:
            raise Refused('resource-constraint', 'There are as many rooms as this service allows.')
        room = Room(jid, home, inherited(home.settings), home.token().encode())
    asked = _asked(x, now)
    _enter(room, sender, nick, stanza, x, created, out)
    _welcome(room, sender, asked, out)


def _asked(x: Element | None, now: float) -> history.Wanted | None:
    try:
        return history.wanted(x, now)
    except history.BadHistory as error:
        raise Refused('bad-request', str(error)) from None


def _enter(room: Room, sender: str, nick: str, stanza: Stanza, x: Element | None, created: bool, out: Outgoing) -> None:
    home, bare, key = room.home, sender.partition('/')[0], nick_key(nick)
    hidden = x is not None and x.find(f'{{{HIDDEN}}}hidden') is not None
    presence = cleaned(home, bare, stanza)
    if not created:
        _admit(room, bare, x)
    same = room.occupants.get(key)
    free_nick(room, bare, key, hidden)
    if same is None:
        _make_place(room, bare, hidden, created)
    elif len(same.sessions) >= DEVICES:
        raise Refused('resource-constraint', f'{DEVICES} clients of one user can share a nickname.')
    if created:
        # A client of Group Chat 1.0 knows no configuration: its room is open at once (XEP-0045 10.1.1).
        room.locked = x is not None
        room.entries[bare] = Entry('owner')
        home.rooms[room.jid] = room
    room.numbers += 1
    session = Session(sender, address(sender), room.numbers, gc1=x is None)
    session.presence = presence
    role: Role = 'hidden' if hidden else room.default_role(room.affiliation(bare))
    occupant = same or Occupant(nick, key, bare, role)
    occupant.sessions[sender] = session
    room.occupants[key] = room.by_jid[sender] = occupant
    room.fan[sender] = session.address
    home.where.setdefault(sender, set()).add(room.jid)
    present(room, occupant, session, out)
    codes = [] if room.config.anonymous else [100]
    if created:
        codes.append(201)
    if occupant.nick != nick:
        codes.append(210)
    notice = Notice(room, occupant, presence)
    notice.everybody(out, but=session)
    out.append(notice.to(occupant, session, codes, stanza.id))
    if same is None and not hidden:
        note(room, f'{nick} has entered the room.', session, out)


def _admit(room: Room, bare: str, x: Element | None) -> None:
    """Raises Refused when this user may not enter (XEP-0045 7.2.5 to 7.2.10)."""
    affiliation = room.affiliation(bare)
    if room.locked and affiliation != 'owner':
        raise Refused('item-not-found', 'The room is not open yet.')
    if affiliation == 'outcast':
        raise Refused('forbidden', 'You are banned from this room.')
    if room.config.members_only and affiliation == 'none':
        raise Refused('registration-required', 'The room is for members only.')
    if room.config.password and bare not in room.home.administrators:
        given = x.findtext(f'{{{ns.MUC}}}password') if x is not None else None
        if not hmac.compare_digest((given or '').encode(), room.config.password.encode()):
            raise Refused('not-authorized', 'The room needs its password.')


def free_nick(room: Room, bare: str, key: str, hidden: bool = False) -> None:
    """Raises Refused when somebody else has the nickname or reserved it (XEP-0045 7.2.8). Clients of one user may
    share it, as long as they are seen alike."""
    same = room.occupants.get(key)
    if same is not None and (same.bare != bare or same.hidden != hidden):
        raise Refused('conflict', 'Somebody in the room has this nickname.')
    for owner, entry in room.entries.items():
        if entry.reserved and owner != bare and nick_key(entry.nick) == key:
            raise Refused('conflict', 'Somebody has reserved this nickname.')


def _make_place(room: Room, bare: str, hidden: bool, created: bool) -> None:
    """Raises Refused when the room is full (XEP-0045 7.2.9; guide 7831-7836)."""
    settings = room.home.settings
    unseen = sum(one.hidden for one in room.occupants.values())
    if hidden and not (created or room.rules(bare)):
        raise Refused('forbidden', 'Only owners and administrators of the room enter unseen.')
    full = len(room.occupants) >= settings.max_users
    if hidden:
        full = full or unseen >= settings.max_hidden
    elif not room.rules(bare):
        full = full or len(room.occupants) - unseen >= room.config.max_users
    if full:
        raise Refused('service-unavailable', 'The room is full.', 'wait')


def _welcome(room: Room, sender: str, asked: history.Wanted | None, out: Outgoing) -> None:
    """What was said lately, and the subject."""
    session = room.by_jid[sender].sessions[sender]
    for raw in room.history.replay(room.jid, asked, room.config.history, room.home.settings.archive_maximum):
        out.append(address_to(raw, session))
    out.append(address_to(room.subject or from_room(room, 'message', 'groupchat', b'<subject/>'), session))


def _again(
    room: Room, occupant: Occupant, sender: str, nick: str, stanza: Stanza, x: Element | None, now: float, out: Outgoing
) -> None:
    """Presence of a client that is in the room. With <x/> it has forgotten that: it is told everything once more."""
    key = nick_key(nick)
    asked = _asked(x, now)
    presence = cleaned(room.home, occupant.bare, stanza)
    if nick != occupant.nick:
        _rename(room, occupant, nick, key, out)
    session = occupant.sessions.pop(sender)
    session.presence = presence
    occupant.sessions[sender] = session
    if x is not None:
        session.gc1 = False
        present(room, occupant, session, out)
    notice = Notice(room, occupant, presence)
    notice.everybody(out, but=session)
    codes = () if x is None or room.config.anonymous else (100,)
    out.append(notice.to(occupant, session, codes, stanza.id))
    if x is not None:
        _welcome(room, sender, asked, out)


def _rename(room: Room, occupant: Occupant, nick: str, key: str, out: Outgoing) -> None:
    """Another nickname for all clients of the occupant (XEP-0045 7.6)."""
    if key != occupant.key:
        if key in room.occupants:
            raise Refused('conflict', 'Somebody in the room has this nickname.')
        free_nick(room, occupant.bare, key)
    old = occupant.nick
    Notice(room, occupant, GONE, (303,), nick=nick).everybody(out)
    del room.occupants[occupant.key]
    room.asking.pop(occupant.key, None)
    occupant.nick, occupant.key = nick, key
    room.occupants[key] = occupant
    if not occupant.hidden:
        note(room, f'{old} is now known as {nick}.', None, out)


def unavailable(room: Room, sender: str, stanza: Stanza, out: Outgoing) -> None:
    """The client leaves; its last words go with it."""
    occupant = room.by_jid.get(sender)
    if occupant is not None:
        try:
            raw = cleaned(room.home, occupant.bare, stanza)
        except Refused:
            raw = GONE
        leave(room, sender, out, raw)


def leave(room: Room, sender: str, out: Outgoing, raw: bytes = GONE, code: int = 0, tell: bool = True) -> None:
    """A client is not in the room any more; ``code`` says why, ``tell``: it hears that itself. The room ends with its
    last occupant."""
    occupant = room.by_jid[sender]
    session = occupant.sessions[sender]
    codes = (code,) if code else ()
    was_shown = occupant.shown is session
    notice = Notice(room, occupant, raw, codes, role='none')
    if len(occupant.sessions) > 1:
        if tell:
            out.append(notice.to(occupant, session))
        forget(room, occupant, session)
        if was_shown and not occupant.hidden:
            shown(room, occupant, out)
        return
    notice.everybody(out, but=session)
    if tell:
        out.append(notice.to(occupant, session))
    unseen = occupant.hidden
    forget(room, occupant, session)
    if not unseen:
        note(room, f'{occupant.nick} has left the room.', None, out)


def expel(
    room: Room, occupant: Occupant, code: int, out: Outgoing, reason: str = '', actor: str = '', extra: str = ''
) -> None:
    """All clients of an occupant are put out of the room, and everybody hears why."""
    notice = Notice(room, occupant, GONE, (code,) if code else (), role='none', reason=reason, actor=actor, extra=extra)
    notice.everybody(out)
    for session in list(occupant.sessions.values()):
        forget(room, occupant, session)
    if not occupant.hidden:
        note(room, f'{occupant.nick} has left the room.', None, out)


def forget(room: Room, occupant: Occupant, session: Session) -> None:
    """A client is not in the room any more; nobody is told."""
    home = room.home
    del occupant.sessions[session.full], room.by_jid[session.full], room.fan[session.full]
    rooms = home.where[session.full]
    rooms.discard(room.jid)
    if not rooms:
        del home.where[session.full]
    if occupant.sessions:
        return
    del room.occupants[occupant.key]
    room.asking.pop(occupant.key, None)
    entry = room.entries.get(occupant.bare)
    if entry is not None and entry.affiliation in LISTED and not entry.reserved:
        for other in room.entries.values():
            if other.nick == occupant.nick:
                other.nick = ''  # the newer bearer is shown under it
        entry.nick = occupant.nick
    if not room.occupants and not room.persistent:
        home.rooms.pop(room.jid, None)
