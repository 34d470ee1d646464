"""Roles and affiliations: who gives them to whom, and their lists (XEP-0045 5, 8, 9, 10; muc#admin)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from xml.etree.ElementTree import Element

from engine.contract import jid
from engine.muc.entering import expel, free_nick
from engine.muc.presence import absent, item, shown
from engine.muc.room import (
    AFFILIATIONS,
    ENTRIES,
    LISTED,
    ROLES,
    RULING,
    Affiliation,
    Entry,
    Occupant,
    Outgoing,
    Refused,
    Role,
    Room,
    limited,
    nick_key,
    rank,
)
from engine.xmpp import ns
from engine.xmpp.stanza import element

ITEMS: Final = 200
"""Most changes of one request."""
_ITEM: Final = f'{{{ns.MUC_ADMIN}}}item'


@dataclass(frozen=True, slots=True)
class Change:
    """One change that was asked for and may be made: ``occupant`` gets the role, or ``bare`` the affiliation."""

    occupant: Occupant | None = None
    role: Role = 'none'
    bare: str = ''
    affiliation: Affiliation = 'none'
    nick: str = ''
    reason: str = ''


def listing(room: Room, bare: str, sender: str, query: Element) -> str:
    """The list that was asked for. Raises Refused."""
    items = query.findall(_ITEM)
    if len(items) != 1:
        raise Refused('bad-request', 'Ask for one list: one <item/> with an affiliation or a role.')
    affiliation, role = items[0].get('affiliation'), items[0].get('role')
    if affiliation in AFFILIATIONS and role is None:
        _may_list(room, bare, affiliation)
        found = ''.join(_entry(who, entry) for who, entry in room.entries.items() if entry.affiliation == affiliation)
    elif role in ROLES[2:] and affiliation is None:
        occupant = room.by_jid.get(sender)
        if not room.rules(bare) and (occupant is None or occupant.role != 'moderator'):
            raise Refused('forbidden', 'Moderators see these lists.')
        found = ''.join(
            item(room.affiliation(one.bare), one.role, one.shown.full, one.nick)
            for one in room.occupants.values()
            if one.role == role
        )
    else:
        raise Refused('bad-request', 'Ask for outcast, member, admin or owner, or visitor, participant or moderator.')
    return found


def _entry(who: str, entry: Entry) -> str:
    made = element('item', '', affiliation=entry.affiliation, jid=who, nick=entry.nick or None)
    return f'{made[:-2]}>{element("reason", "", entry.reason)}</item>' if entry.reason else made


def _may_list(room: Room, bare: str, affiliation: str) -> None:
    """Administrators see every list; members of a members-only room, where everybody is known, who belongs to it."""
    own = room.affiliation(bare)
    open_to_members = room.config.members_only and not room.config.anonymous and affiliation in LISTED
    if own not in RULING and not (open_to_members and own == 'member'):
        raise Refused('forbidden', 'Administrators of the room see this list.')


def change(room: Room, bare: str, sender: str, query: Element, out: Outgoing) -> None:
    """Make all the changes that were asked for, or none. Raises Refused."""
    items = query.findall(_ITEM)
    if not 0 < len(items) <= ITEMS:
        raise Refused('bad-request', f'Send 1 to {ITEMS} items.')
    changes = [_checked(room, bare, sender, entry) for entry in items]
    targets = [one.bare or one.occupant for one in changes]
    if len(set(targets)) != len(targets):
        raise Refused('bad-request', 'The same user is there twice.')
    after = {who: entry.affiliation for who, entry in room.entries.items()}
    after.update((one.bare, one.affiliation) for one in changes if one.bare)
    if 'owner' not in after.values():
        raise Refused('conflict', 'A room keeps at least one owner.')
    if sum(value != 'none' for value in after.values()) > max(ENTRIES, len(room.entries)):
        raise Refused('resource-constraint', f'A room has at most {ENTRIES} affiliations.')
    acting = room.by_jid.get(sender)
    actor = acting.nick if acting is not None and not acting.hidden else ''
    for one in changes:
        if one.occupant is None:
            set_affiliation(room, one.bare, one.affiliation, out, one.reason, actor, one.nick)
        elif one.occupant.sessions:
            _set_role(room, one.occupant, one.role, out, one.reason, actor)


def _checked(room: Room, bare: str, sender: str, entry: Element) -> Change:
    affiliation, role = entry.get('affiliation'), entry.get('role')
    reason = limited((entry.findtext(f'{{{ns.MUC_ADMIN}}}reason') or '').strip(), 'reason')
    if (affiliation is None) == (role is None):
        raise Refused('bad-request', 'An item changes either the affiliation or the role.')
    if affiliation is None:
        if role not in ROLES or role == 'hidden':
            raise Refused('bad-request', f'There is no role {role[:40] if role else role!r}.')
        return _role(room, bare, sender, entry.get('nick', ''), role, reason)
    if affiliation not in AFFILIATIONS:
        raise Refused('bad-request', f'There is no affiliation {affiliation[:40]!r}.')
    return _affiliation(room, bare, entry.get('jid', ''), entry.get('nick', ''), affiliation, reason)


def _role(room: Room, bare: str, sender: str, nick: str, role: Role, reason: str) -> Change:
    """Raises Refused unless this one may give that role (XEP-0045 5.1.2)."""
    own = room.affiliation(bare)
    acting = room.by_jid.get(sender)
    if own not in RULING and (acting is None or acting.role != 'moderator'):
        raise Refused('forbidden', 'Moderators change roles.')
    target = room.named(nick)
    theirs = room.affiliation(target.bare)
    if AFFILIATIONS.index(theirs) > AFFILIATIONS.index(own):
        raise Refused('not-allowed', f'{target.nick} is {theirs} of the room.')
    if role == 'moderator' and own not in RULING:
        raise Refused('forbidden', 'Administrators make moderators.')
    if target.role == 'moderator' and role != 'moderator':
        if own not in RULING and target is not acting:
            raise Refused('not-allowed', 'A moderator is not put out or silenced by a moderator.')
        if theirs in RULING and role != 'none':
            raise Refused('not-allowed', f'{target.nick} is {theirs} of the room, so a moderator.')
    return Change(occupant=target, role=role, reason=reason)


def _affiliation(room: Room, bare: str, address: str, nick: str, new: Affiliation, reason: str) -> Change:
    """Raises Refused unless this one may give that affiliation (XEP-0045 5.2.2)."""
    own = room.affiliation(bare)
    if own not in RULING:
        raise Refused('forbidden', 'Administrators of the room change affiliations.')
    if not address:
        target = room.named(nick).bare
    else:
        try:
            target = jid.bare(address)
        except jid.InvalidJID as error:
            raise Refused('jid-malformed', f'{error}.') from None
    if '@' not in target and new in LISTED:
        raise Refused('not-acceptable', 'A whole domain can only be banned.')
    theirs = room.affiliation(target)
    if own == 'admin':
        if new in RULING:
            raise Refused('forbidden', 'Owners of the room make administrators and owners.')
        if theirs in RULING:
            raise Refused('not-allowed', f'The user is {theirs} of the room.')
    if new == 'outcast' and (target == bare or target == bare.rpartition('@')[2]):
        raise Refused('conflict', 'You cannot ban yourself.')
    if target in room.home.administrators and new != 'owner':
        raise Refused('not-allowed', 'The user is a group chat system administrator.')
    reserved = nick if address and nick and new in LISTED else ''
    if reserved:
        free_nick(room, target, nick_key(reserved))
    return Change(bare=target, affiliation=new, nick=reserved, reason=reason)


def _set_role(room: Room, occupant: Occupant, role: Role, out: Outgoing, reason: str, actor: str) -> None:
    if role == 'none':
        expel(room, occupant, 307, out, reason, actor)
    else:
        occupant.role = role
        room.asking.pop(occupant.key, None)
        shown(room, occupant, out, reason, actor)


def set_affiliation(
    room: Room, bare: str, new: Affiliation, out: Outgoing, reason: str = '', actor: str = '', nick: str = ''
) -> None:
    """Give a user, or ban a domain; everybody hears it. ``nick`` becomes the reserved nickname."""
    before = {one: room.affiliation(one.bare) for one in room.of_user(bare)}
    known = room.entries.get(bare)
    was = known.affiliation if known is not None else 'none'
    entry = known or Entry('none')
    entry.affiliation, entry.reason = new, reason
    if nick:
        entry.nick, entry.reserved = nick, True
    if new == 'none':
        room.entries.pop(bare, None)
    else:
        room.entries[bare] = entry
    for occupant, old in before.items():
        if room.affiliation(occupant.bare) != old:
            affected(room, occupant, old, out, reason, actor)
    if not before and room.config.absent_visible and (was in LISTED or new in LISTED):
        absent(room, bare, entry, out)


def affected(
    room: Room, occupant: Occupant, old: Affiliation, out: Outgoing, reason: str = '', actor: str = ''
) -> None:
    """The affiliation of somebody in the room is not ``old`` any more: another role, or out."""
    now = room.affiliation(occupant.bare)
    if now == 'outcast':
        expel(room, occupant, 301, out, reason, actor)
    elif (now == 'none' and room.config.members_only) or (occupant.hidden and now not in RULING):
        expel(room, occupant, 321, out, reason, actor)
    else:
        if not occupant.hidden:
            default = room.default_role(now)
            fallen = old in RULING and now not in RULING
            room.asking.pop(occupant.key, None)
            occupant.role = default if fallen or rank(default) > rank(occupant.role) else occupant.role
        shown(room, occupant, out, reason, actor)
