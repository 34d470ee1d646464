"""Messages to a room that are not for everybody in it: invitations (XEP-0045 7.8.2), requests for voice (7.13, 8.6)."""

from __future__ import annotations

from typing import Final
from xml.etree.ElementTree import Element

from engine.contract import jid
from engine.muc.lists import set_affiliation
from engine.muc.messages import to_sessions
from engine.muc.presence import from_room, shown, told
from engine.muc.room import ENTRIES, Occupant, Outgoing, Refused, Room, limited
from engine.xmpp import forms, ns
from engine.xmpp.stanza import Stanza, element, escape, quote, with_attributes

REQUEST: Final = f'{ns.MUC}#request'
AT_ONCE: Final = 50
"""Most invitations of one message."""
PENDING: Final = 1000
"""Most invitations of a room that can still be declined; then the oldest cannot."""
AGAIN: Final = 60
"""Seconds after which somebody may ask for voice once more."""
_FIELDS: Final = {
    'muc#role': forms.Field('muc#role', 'list-single'),
    'muc#jid': forms.Field('muc#jid', 'jid-single'),
    'muc#roomnick': forms.Field('muc#roomnick'),
    'muc#request_allow': forms.Field('muc#request_allow', 'boolean'),
}


def message(room: Room, sender: str, stanza: Stanza, now: float, out: Outgoing) -> None:
    """A message to the room itself that is not of the type groupchat. Raises Refused."""
    x = stanza.child(ns.MUC_USER, 'x')
    if x is not None and (declined := x.find(f'{{{ns.MUC_USER}}}decline')) is not None:
        _decline(room, sender, declined, out)
    elif x is not None and (invited := x.findall(f'{{{ns.MUC_USER}}}invite')):
        _invite(room, room.occupant(sender), invited, out)
    elif (form := forms.find(stanza.tree)) is not None:
        _voice(room, room.occupant(sender), form, now, out)
    else:
        raise Refused('bad-request', 'A message to the room is of the type groupchat.')


def _invite(room: Room, inviter: Occupant, invited: list[Element], out: Outgoing) -> None:
    if inviter.hidden or (room.config.members_only and room.config.moderators_invite and inviter.role != 'moderator'):
        raise Refused('forbidden', 'Moderators invite to this room.')
    if len(invited) > AT_ONCE:
        raise Refused('not-acceptable', f'Invite at most {AT_ONCE} people at once.')
    checked = [(_address(one.get('to')), _words(one)) for one in invited]
    new = set()
    for to, _ in checked:
        bare = jid.bare(to)
        affiliation = room.affiliation(bare)
        if bare == room.jid or '@' not in bare:
            raise Refused('not-acceptable', 'Invite somebody by his own address: name@domain.')
        if affiliation == 'outcast':
            raise Refused('forbidden', f'{bare} is banned from this room.')
        if room.config.members_only and affiliation == 'none':
            new.add(bare)
    if new and len(room.entries) + len(new) > ENTRIES:
        raise Refused('resource-constraint', f'A room has at most {ENTRIES} affiliations.')
    by = f'{room.jid}/{inviter.nick}' if room.config.anonymous else inviter.bare
    password = element('password', '', room.config.password) if room.config.password else ''
    for to, words in checked:
        bare = jid.bare(to)
        if bare in new and room.affiliation(bare) == 'none':
            set_affiliation(room, bare, 'member', out, actor=inviter.nick)
        room.invited.pop((inviter.bare, bare), None)
        room.invited[inviter.bare, bare] = None
        inside = f"<invite from='{quote(by)}'>{words}</invite>{password}"
        out.append((to, with_attributes(from_room(room, 'message', '', told(inside)), {'to': to})))
    while len(room.invited) > PENDING:
        del room.invited[next(iter(room.invited))]


def _words(one: Element) -> str:
    """Reason and continuation of an invitation, reason of a decline."""
    reason = limited(one.findtext(f'{{{ns.MUC_USER}}}reason') or '', 'reason')
    inside = f'<reason>{escape(reason)}</reason>' if reason else ''
    following = one.find(f'{{{ns.MUC_USER}}}continue')
    if following is not None:
        thread = following.get('thread')
        inside += element('continue', '', thread=limited(thread, 'thread') if thread else None)
    return inside


def _address(text: str | None) -> str:
    try:
        return jid.prepare(text or '')
    except jid.InvalidJID as error:
        raise Refused('jid-malformed', f'{error}.') from None


def _decline(room: Room, sender: str, declined: Element, out: Outgoing) -> None:
    to = _address(declined.get('to'))
    bare, _, nick = to.partition('/')
    if bare == room.jid and nick:
        inviters = [room.named(nick).bare]
    else:
        inviters = [bare]
    decliner = sender.partition('/')[0]
    inside = f"<decline from='{quote(decliner)}'>{_words(declined)}</decline>"
    raw = from_room(room, 'message', '', told(inside))
    for inviter in inviters:
        if (inviter, decliner) not in room.invited:
            raise Refused('item-not-found', 'There is no such invitation.')
        del room.invited[inviter, decliner]
        present = [one for one in room.of_user(inviter) if one.bare == inviter]
        for occupant in present:
            to_sessions(occupant, raw, out)
        if not present:
            out.append((inviter, with_attributes(raw, {'to': inviter})))


def _voice(room: Room, occupant: Occupant, form: Element, now: float, out: Outgoing) -> None:
    """A visitor asks for voice, or a moderator answers that."""
    try:
        submission = forms.submitted(form, REQUEST, _FIELDS)
        allow = submission.flag('muc#request_allow')
    except forms.FormError as error:
        raise Refused('bad-request', str(error)) from None
    if occupant.role == 'moderator':
        target = room.named(submission.text('muc#roomnick'))
        room.asking.pop(target.key, None)
        if allow and target.role == 'visitor':
            target.role = 'participant'
            shown(room, target, out, actor=occupant.nick)
        return
    if submission.text('muc#role', 'participant') != 'participant':
        raise Refused('bad-request', 'Ask for the role participant.')
    if occupant.role != 'visitor':
        raise Refused('not-acceptable', 'Only visitors ask for voice.')
    moderators = [one for one in room.occupants.values() if one.role == 'moderator']
    if not moderators:
        raise Refused('recipient-unavailable', 'No moderator is in the room. Ask again later.')
    if occupant.key in room.asking and now < room.asking[occupant.key] + AGAIN:
        raise Refused('unexpected-request', 'You have asked already.')
    room.asking[occupant.key] = now
    asked = forms.Form(
        'form',
        (
            forms.hidden(REQUEST),
            forms.Field('muc#role', 'list-single', ('participant',), 'Requested role', (('participant', ''),)),
            forms.Field('muc#jid', 'jid-single', (occupant.shown.full,), 'User'),
            forms.Field('muc#roomnick', 'text-single', (occupant.nick,), 'Nickname'),
            forms.boolean('muc#request_allow', False, 'Grant voice to this user?'),
        ),
        'Voice request',
        ('Somebody in the room wants to speak.',),
    )
    raw = from_room(room, 'message', '', asked.xml().encode())
    for moderator in moderators:
        to_sessions(moderator, raw, out)
