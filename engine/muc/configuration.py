"""What the owner of a room sets (XEP-0045 10; muc#owner): the form, the change, the end of the room."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, NamedTuple
from xml.etree.ElementTree import Element

from engine.contract import jid
from engine.muc.entering import expel, forget
from engine.muc.presence import GONE, Notice, address_to, from_room, told
from engine.muc.room import TEXT, Config, Outgoing, Refused, Room, limited
from engine.xmpp import forms, ns
from engine.xmpp.forms import Field, FieldType, Form
from engine.xmpp.stanza import element

FORM: Final = f'{ns.MUC}#roomconfig'
PERSISTENT: Final = 'muc#roomconfig_persistentroom'
_WORD: Final = 'muc#roomconfig_roomsecret'
_PROTECTED: Final = 'muc#roomconfig_passwordprotectedroom'
_LEVELS: Final = {'anyone': 'visitor', 'participants': 'participant', 'moderators': 'moderator'}
_NUMBERS: Final = (5, 10, 20, 30, 50, 100, 200, 500, 1000)


class Option(NamedTuple):
    """One field. ``name`` is the attribute of Config; ``flag`` that of RoomSettings which lets owners change it, ''
    when nothing forbids it; ``words`` what the values are called on the wire and what they are in Config."""

    var: str
    kind: FieldType
    label: str
    name: str
    flag: str = ''
    words: dict[str, Any] = {'1': True, '0': False}
    limit: Callable[[Room], tuple[int, int]] | None = None

    def written(self, config: Config) -> str:
        """The value as it stands in a form."""
        value = getattr(config, self.name)
        if self.kind == 'text-single' or self.limit is not None:
            return str(value)
        return next(word for word, meant in self.words.items() if meant == value)

    def choices(self, room: Room) -> tuple[tuple[str, str], ...]:
        """What a list offers."""
        if self.limit is None:
            return tuple((word, '') for word in self.words) if self.kind == 'list-single' else ()
        low, high = self.limit(room)
        offered = {low, high, getattr(room.config, self.name), *(n for n in _NUMBERS if low <= n <= high)}
        return tuple((str(number), '') for number in sorted(offered))

    def read(self, form: Form, room: Room) -> Any:
        """The value in a submission. Raises FormError or Refused."""
        if self.limit is not None:
            low, high = self.limit(room)
            number = form.number(self.var, None, low, high)
            return getattr(room.config, self.name) if number is None else number
        if self.kind == 'boolean':
            return self.words['1' if form.flag(self.var) else '0']
        if self.kind == 'list-single':
            return self.words[form.text(self.var)]
        return limited(form.text(self.var).strip(), f'field {self.var}')


_INVERTED: Final = {'1': False, '0': True}
OPTIONS: Final = (
    Option('muc#roomconfig_roomname', 'text-single', 'Name of the room', 'name'),
    Option('muc#roomconfig_roomdesc', 'text-single', 'Description', 'description'),
    Option('muc#roomconfig_publicroom', 'boolean', 'Can be found', 'public'),
    Option('muc#roomconfig_membersonly', 'boolean', 'For members only', 'members_only', 'owners_change_members_only'),
    Option('muc#roomconfig_allowinvites', 'boolean', 'Everybody in it invites to a members-only room',
           'moderators_invite', 'owners_change_invite', _INVERTED),
    Option('x-imp#selfmember', 'boolean', 'Users can add themselves as members', 'self_membership',
           'owners_change_self_membership'),
    Option('x-imp#showabsent', 'boolean', 'Members and administrators who are not in the room are visible',
           'absent_visible', 'owners_change_absent_visible'),
    Option('x-imp#gc1', 'boolean', 'Older clients (Group Chat 1.0) may enter', 'gc1', 'owners_change_gc1'),
    Option('muc#roomconfig_whois', 'list-single', 'Who sees the addresses of the others', 'anonymous',
           'owners_change_anonymous', {'anyone': False, 'moderators': True}),
    Option('muc#roomconfig_maxusers', 'list-single', 'Most occupants', 'max_users', 'owners_change_occupancy',
           limit=lambda room: (1, room.home.settings.max_users)),
    Option('muc#roomconfig_allowpm', 'list-single', 'Who sends private messages', 'private_level',
           'owners_change_private_level', _LEVELS),
    Option('muc#roomconfig_changesubject', 'boolean', 'Participants change the subject, not only moderators',
           'subject_level', 'owners_change_subject_level', {'1': 'participant', '0': 'moderator'}),
    Option('x-imp#stripxhtml', 'boolean', 'Remove XHTML formatting', 'strip_xhtml', 'owners_change_xhtml'),
    Option('muc#roomconfig_moderatedroom', 'boolean', 'Moderated', 'moderated', 'owners_change_moderated'),
    Option('muc#maxhistoryfetch', 'list-single', 'Messages shown to who enters', 'history', 'owners_change_history',
           limit=lambda room: (0, room.home.settings.archive_maximum)),
)  # fmt: skip


def _open(option: Option, room: Room, administrator: bool) -> bool:
    return administrator or not option.flag or bool(getattr(room.home.settings, option.flag))


def form(room: Room, bare: str) -> str:
    """The configuration form for this owner: the fields that he may change. Raises Refused."""
    _owner(room, bare)
    administrator = bare in room.home.administrators
    config = room.config
    fields = [forms.hidden(FORM)]
    for option in OPTIONS:
        if _open(option, room, administrator):
            value = option.written(config)
            fields.append(Field(option.var, option.kind, (value,) if value else (), option.label, option.choices(room)))
    fields.append(forms.boolean(_PROTECTED, bool(config.password), 'Needs a password'))
    fields.append(Field(_WORD, 'text-private', (config.password,) if config.password else (), 'Password'))
    return Form('form', tuple(fields), f'Configuration of {room.jid}').xml()


def owner_request(room: Room, bare: str, query: Element, out: Outgoing) -> None:
    """A change by an owner: destroy the room, or submit or cancel its form. Raises Refused."""
    _owner(room, bare)
    if (end := query.find(f'{{{ns.MUC_OWNER}}}destroy')) is not None:
        _destroy(room, end, out)
        return
    found = forms.find(query)
    if found is None:
        raise Refused('bad-request', 'Send a configuration form, or <destroy/>.')
    if found.get('type') == 'cancel':
        if room.locked:
            destroy(room, out)
        return
    administrator = bare in room.home.administrators
    if not room.locked and not administrator and not room.home.settings.owners_change_members_only:
        raise Refused('forbidden', 'Here only administrators change the settings of a room that is open.')
    try:
        config = _submitted(room, found, administrator)
    except forms.FormError as error:
        raise Refused('not-acceptable', str(error)) from None
    _apply(room, config, out)


def _owner(room: Room, bare: str) -> None:
    if room.affiliation(bare) != 'owner':
        raise Refused('forbidden', 'Only owners of the room do that.')


def _submitted(room: Room, found: Element, administrator: bool) -> Config:
    """The configuration that a form asks for; what it does not name stays. Raises FormError or Refused."""
    expected = {option.var: Field(option.var, option.kind, options=() if option.limit else option.choices(room))
                for option in OPTIONS}  # fmt: skip
    expected[_PROTECTED] = Field(_PROTECTED, 'boolean')
    expected[_WORD] = Field(_WORD, 'text-private')
    expected[PERSISTENT] = Field(PERSISTENT, 'boolean')
    submission = forms.submitted(found, FORM, expected)
    if submission.flag(PERSISTENT):
        raise Refused('not-acceptable', 'Rooms here end with their last occupant: persistent chat is off.')
    changes: dict[str, Any] = {}
    for option in OPTIONS:
        if not submission.values(option.var):
            if option.kind == 'text-single' and option.var in submission:
                changes[option.name] = ''
            continue
        value = option.read(submission, room)
        if value != getattr(room.config, option.name) and not _open(option, room, administrator):
            raise Refused('not-acceptable', f'Owners cannot change the field {option.var} here.')
        changes[option.name] = value
    password = limited(submission.text(_WORD, room.config.password), 'password')
    if _PROTECTED in submission:
        protected = submission.flag(_PROTECTED)
        if protected and not password:
            raise Refused('not-acceptable', f'A protected room needs a password: 1 to {TEXT} characters.')
        changes['password'] = password if protected else ''
    elif _WORD in submission:
        changes['password'] = password
    return replace(room.config, **changes)


def _apply(room: Room, config: Config, out: Outgoing) -> None:
    before, room.config = room.config, config
    if room.locked:
        room.locked = False
        return
    codes = []
    if before.anonymous != config.anonymous:
        codes.append(173 if config.anonymous else 172)
    if before.absent_visible != config.absent_visible:
        codes.append(102 if config.absent_visible else 103)
    others = replace(before, anonymous=config.anonymous, absent_visible=config.absent_visible)
    if others != config:
        codes.append(104)
    if codes:
        raw = from_room(room, 'message', 'groupchat', told('', codes))
        out.extend(address_to(raw, session) for _, session in room.sessions())
    if config.members_only and not before.members_only:
        for occupant in list(room.occupants.values()):
            if room.affiliation(occupant.bare) == 'none':
                expel(room, occupant, 322, out)


def _destroy(room: Room, end: Element, out: Outgoing) -> None:
    alternate = end.get('jid', '')
    try:
        alternate = jid.prepare(alternate) if alternate else ''
    except jid.InvalidJID as error:
        raise Refused('jid-malformed', f'The other room: {error}.') from None
    reason = limited(end.findtext(f'{{{ns.MUC_OWNER}}}reason') or '', 'reason')
    password = limited(end.findtext(f'{{{ns.MUC_OWNER}}}password') or '', 'password')
    destroy(room, out, alternate, reason, password)


def destroy(room: Room, out: Outgoing, alternate: str = '', reason: str = '', password: str = '') -> None:
    """The room ends now (XEP-0045 10.9)."""
    inside = (element('password', '', password) if password else '') + (element('reason', '', reason) if reason else '')
    named = element('destroy', '', jid=alternate or None)
    ended = f'{named[:-2]}>{inside}</destroy>' if inside else named
    room.persistent = False
    close(room, out, 0, ended)
    room.home.rooms.pop(room.jid, None)


def close(room: Room, out: Outgoing, code: int, extra: str = '') -> None:
    """Everybody leaves because the room or the service ends, and hears it of himself only (status ``code``)."""
    for occupant in list(room.occupants.values()):
        notice = Notice(room, occupant, GONE, (code,) if code else (), role='none', affiliation='none', extra=extra)
        sessions = list(occupant.sessions.values())
        out.extend(notice.to(occupant, session) for session in sessions)
        for session in sessions:
            forget(room, occupant, session)
