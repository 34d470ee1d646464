"""Users add themselves to a room, and reserve their nickname (XEP-0045 7.10; guide 7800)."""

from __future__ import annotations

from typing import Final
from xml.etree.ElementTree import Element

from engine.muc.entering import free_nick
from engine.muc.lists import set_affiliation
from engine.muc.room import ENTRIES, LISTED, RULING, Outgoing, Refused, Room, nick_key
from engine.xmpp import forms, ns
from engine.xmpp.stanza import element

FORM: Final = f'{ns.MUC}#register'
NICK: Final = 'muc#register_roomnick'


def _may(room: Room, bare: str) -> None:
    affiliation = room.affiliation(bare)
    if affiliation == 'outcast':
        raise Refused('forbidden', 'You are banned from this room.')
    if not room.config.self_membership and affiliation not in LISTED:
        raise Refused('not-allowed', 'Users cannot add themselves to this room.')


def form(room: Room, bare: str) -> str:
    """Content of the answer to a request for the registration form. Raises Refused."""
    _may(room, bare)
    entry = room.entries.get(bare)
    if entry is not None and entry.reserved:
        return '<registered/>' + element('username', '', entry.nick)
    asked = forms.Form(
        'form',
        (forms.hidden(FORM), forms.Field(NICK, 'text-single', label='Nickname', required=True)),
        f'Registration with {room.jid}',
        ('Choose the nickname to be reserved for you.',),
    )
    return asked.xml()


def register(room: Room, bare: str, query: Element, out: Outgoing) -> None:
    """Become a member with a reserved nickname, or give both up. Raises Refused."""
    if query.find(f'{{{ns.REGISTER}}}remove') is not None:
        _remove(room, bare, out)
        return
    _may(room, bare)
    found = forms.find(query)
    if found is None:
        raise Refused('bad-request', f'Send the form with the field {NICK}.')
    try:
        nick = forms.submitted(found, FORM, {NICK: forms.Field(NICK, required=True)}).text(NICK).strip()
    except forms.FormError as error:
        raise Refused('bad-request', str(error)) from None
    key = nick_key(nick)
    free_nick(room, bare, key, hidden=room.occupants[key].hidden if key in room.occupants else False)
    affiliation = room.affiliation(bare)
    if bare not in room.entries and len(room.entries) >= ENTRIES:
        raise Refused('resource-constraint', f'A room has at most {ENTRIES} affiliations.')
    set_affiliation(room, bare, affiliation if affiliation in LISTED else 'member', out, nick=nick)


def _remove(room: Room, bare: str, out: Outgoing) -> None:
    entry = room.entries.get(bare)
    if entry is None or entry.affiliation not in LISTED:
        raise Refused('registration-required', 'You are not registered with this room.')
    entry.reserved = False
    if entry.affiliation not in RULING:
        set_affiliation(room, bare, 'none', out)
