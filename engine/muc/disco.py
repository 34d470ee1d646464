"""What can be found out about the service, its rooms and who is in them (XEP-0045 6)."""

from __future__ import annotations

from typing import Final
from xml.etree.ElementTree import Element

from engine.muc.invitations import REQUEST
from engine.muc.registration import FORM as REGISTRATION
from engine.muc.room import Home, Refused, Room
from engine.xmpp import forms, ns, rsm
from engine.xmpp.stanza import element, quote

UNIQUE: Final = f'{ns.MUC}#unique'
NICKNAME: Final = 'x-roomuser-item'
"""The node whose identity is the reserved nickname of who asks (XEP-0045 6.8)."""
PAGE: Final = 500
"""Most items of an answer."""
SERVICE: Final = (ns.DISCO_INFO, ns.DISCO_ITEMS, ns.MUC, UNIQUE, ns.PING, rsm.RSM)
ROOM: Final = (
    ns.DISCO_INFO,
    ns.DISCO_ITEMS,
    ns.MUC,
    REQUEST,
    f'{ns.MUC}#stable_id',
    f'{ns.MUC}#self-ping-optimization',
    ns.PING,
    ns.STANZA_ID,
    'muc_temporary',
)


def _info(category: str, kind: str, name: str, features: tuple[str, ...], more: str = '') -> str:
    return (
        element('identity', '', category=category, type=kind, name=name)
        + ''.join(f"<feature var='{feature}'/>" for feature in features)
        + more
    )


def service_info() -> str:
    """What an alias is."""
    return _info('conference', 'text', 'Chat Rooms', SERVICE)


def service_items(home: Home, domain: str, query: Element) -> str:
    """The public rooms of an alias, in the order of their addresses. Raises Refused."""
    end = f'@{domain}'
    listed = sorted((room.jid, room.config.name) for room in home.rooms.values()
                    if room.jid.endswith(end) and room.config.listed and not room.locked)  # fmt: skip
    items = [(jid, f"<item jid='{quote(jid)}' name='{quote(name or jid.partition('@')[0])}'/>") for jid, name in listed]
    return _paged(items, query)


def _paged(items: list[tuple[str, str]], query: Element) -> str:
    """One page (XEP-0059) of (id, element); what is more than a page is never sent at once."""
    try:
        page = rsm.parse(query)
    except rsm.SetError as error:
        raise Refused('bad-request', str(error)) from None
    count = PAGE if page.max is None else min(page.max, PAGE)
    ids = [identity for identity, _ in items]
    first = 0
    if page.index is not None:
        first = page.index
    elif page.after is not None:
        first = next((place for place, identity in enumerate(ids) if identity > page.after), len(ids))
    elif page.before is not None:
        last = next((place for place, identity in enumerate(ids) if page.before and identity >= page.before), len(ids))
        first = max(0, last - count)
        count = min(count, last - first)
    part = items[first : first + count]
    inside = ''.join(text for _, text in part)
    asked = query.find(f'{{{rsm.RSM}}}set') is not None
    if asked or len(part) < len(items):
        inside += rsm.answer(part[0][0], part[-1][0], first, len(items)) if part else rsm.answer(count=len(items))
    return inside


def room_info(room: Room, sender: str, bare: str, node: str) -> str:
    """What a room is; to strangers less of a room that cannot be found. Raises Refused."""
    if node == NICKNAME:
        entry = room.entries.get(bare)
        return _info('conference', 'text', entry.nick, (ns.MUC,)) if entry is not None and entry.reserved else ''
    if node:
        raise Refused('item-not-found', 'There is no such node.')
    config = room.config
    features = (
        *ROOM,
        'muc_membersonly' if config.members_only else 'muc_open',
        'muc_moderated' if config.moderated else 'muc_unmoderated',
        'muc_semianonymous' if config.anonymous else 'muc_nonanonymous',
        'muc_passwordprotected' if config.password else 'muc_unsecured',
        'muc_public' if config.listed else 'muc_hidden',
        *((ns.REGISTER, REGISTRATION) if config.self_membership else ()),
    )
    known = sender in room.by_jid or room.affiliation(bare) not in ('none', 'outcast')
    name = config.name or room.jid.partition('@')[0]
    return _info('conference', 'text', name, features, _extension(room) if config.listed or known else '')


def _extension(room: Room) -> str:
    config = room.config
    seen = sum(not one.hidden for one in room.occupants.values())
    fields = (
        forms.hidden(f'{ns.MUC}#roominfo'),
        forms.Field('muc#roominfo_description', values=(config.description,), label='Description'),
        forms.Field('muc#roominfo_subject', values=(room.topic,), label='Subject'),
        forms.Field('muc#roominfo_occupants', values=(str(seen),), label='Number of occupants'),
        forms.Field('muc#maxhistoryfetch', values=(str(room.home.settings.archive_maximum),)),
        forms.boolean('muc#roominfo_subjectmod', config.subject_level == 'participant'),
    )
    return forms.Form('result', fields).xml()


def room_items(room: Room, sender: str) -> str:
    """Who is in the room, for those who are, too."""
    if sender not in room.by_jid:
        return ''
    nicks = (one.nick for one in room.occupants.values() if not one.hidden)
    return ''.join(f"<item jid='{quote(f'{room.jid}/{nick}')}' name='{quote(nick)}'/>" for nick in nicks)
