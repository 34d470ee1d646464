"""Configuration, roles and affiliations, registration, discovery (XEP-0045 5, 6, 7.10, 8, 9, 10)."""

from __future__ import annotations

from xml.etree.ElementTree import Element

import pytest

from engine.contract.chat import RoomSettings
from engine.muc import disco
from engine.xmpp import ns
from tests.muc.people import NS, ROOM, Chat, codes, condition

CRONE, WITCH, HAG = 'crone@a.lit/desk', 'witch@b.lit/broom', 'hag@c.lit/cave'
ALIAS = ROOM.partition('@')[2]


def text(stanza: Element) -> str:
    """The words of an error."""
    return stanza.findtext('c:error/e:text', '', NS)


def test_the_form_of_a_new_room_shows_what_the_service_gives_it() -> None:
    chat = Chat()
    chat.enter(CRONE)
    fields = chat.fields(CRONE)
    expected = {'membersonly': '0', 'moderatedroom': '0', 'maxusers': '50', 'allowpm': 'anyone', 'changesubject': '1',
                'allowinvites': '0', 'publicroom': '1', 'passwordprotectedroom': '0'}  # fmt: skip
    assert {name: fields.get(f'muc#roomconfig_{name}') for name in expected} == expected
    assert fields['x-imp#showabsent'] == '1'
    assert chat.rooms.rooms[ROOM].config.history == 15


FLAGS = {
    'owners_change_members_only': ('membersonly', '1'),
    'owners_change_invite': ('allowinvites', '1'),
    'owners_change_self_membership': ('selfmember', '1'),
    'owners_change_absent_visible': ('showabsent', '0'),
    'owners_change_gc1': ('gc1', '1'),
    'owners_change_anonymous': ('whois', 'moderators'),
    'owners_change_occupancy': ('maxusers', '10'),
    'owners_change_private_level': ('allowpm', 'moderators'),
    'owners_change_subject_level': ('changesubject', '0'),
    'owners_change_xhtml': ('stripxhtml', '1'),
    'owners_change_moderated': ('moderatedroom', '1'),
    'owners_change_history': ('maxhistoryfetch', '3'),
}


def test_every_permission_of_owners_is_tested() -> None:
    assert {name for name in RoomSettings.__struct_fields__ if name.startswith('owners_change')} == FLAGS.keys()


@pytest.mark.parametrize('flag', FLAGS)
def test_what_owners_may_change(flag: str) -> None:
    name, value = FLAGS[flag]
    shut = Chat(**{flag: False})
    shut.enter(CRONE)
    before = shut.rooms.rooms[ROOM].config
    refused = shut.configure(CRONE, **{name: value})
    assert condition(refused) == 'not-acceptable'
    assert name in text(refused)
    assert shut.rooms.rooms[ROOM].config == before
    assert shut.rooms.rooms[ROOM].locked
    assert not [var for var in shut.fields(CRONE) if var.endswith(name)]
    shut.take(shut.rooms.administer(frozenset({'crone@a.lit'}), 0))
    assert [var for var in shut.fields(CRONE) if var.endswith(name)]
    free = Chat(**{flag: True})
    free.enter(CRONE)
    assert [var for var in free.fields(CRONE) if var.endswith(name)]
    assert free.configure(CRONE, **{name: value}).get('type') == 'result'
    after = free.fields(CRONE)
    assert next(after[var] for var in after if var.endswith(name)) == value


def test_owners_who_may_not_change_an_open_room() -> None:
    """Without the permission for members-only rooms an owner completes the first configuration only (guide 7634)."""
    chat = Chat(owners_change_members_only=False)
    chat.open(CRONE, roomname='Heath')
    assert condition(chat.configure(CRONE, roomname='Hill')) == 'forbidden'
    chat.take(chat.rooms.administer(frozenset({'witch@b.lit'}), 0))
    assert chat.configure(WITCH, roomname='Hill', membersonly='1').get('type') == 'result'


@pytest.mark.parametrize(
    ('fields', 'words'),
    [
        ({'maxusers': '6'}, '1 to 5'),
        ({'maxusers': 'many'}, 'whole number'),
        ({'membersonly': 'perhaps'}, '0, 1, true or false'),
        ({'whois': 'nobody'}, 'anyone, moderators'),
        ({'passwordprotectedroom': '1'}, 'needs a password'),
        ({'persistentroom': '1'}, 'persistent'),
        ({'nonsense': '1'}, 'nonsense'),
        ({'roomname': 'x' * 1025}, 'at most 1024'),
    ],
)
def test_an_invalid_form_changes_nothing(fields: dict[str, str], words: str) -> None:
    chat = Chat(max_users=5, default_occupancy=2, owners_change_anonymous=True)
    chat.open(CRONE)
    before = chat.rooms.rooms[ROOM].config
    refused = chat.configure(CRONE, roomdesc='other', **fields)
    assert condition(refused) == 'not-acceptable'
    assert words in text(refused)
    assert chat.rooms.rooms[ROOM].config == before
    assert not chat.got[WITCH]


def test_changes_are_announced() -> None:
    chat = Chat(owners_change_anonymous=True)
    chat.open(CRONE, WITCH)
    for fields, expected in (
        ({'whois': 'moderators'}, {173}),
        ({'whois': 'anyone', 'roomname': 'Heath'}, {172, 104}),
        ({'showabsent': '0'}, {103}),
        ({'showabsent': '1', 'persistentroom': '0'}, {102}),
        ({'maxusers': '7'}, {104}),
    ):
        chat.configure(CRONE, **fields)
        assert codes(chat.got[WITCH][0]) == expected
    assert condition(chat.configure(WITCH, roomname='Hill')) == 'forbidden'
    chat.configure(CRONE, membersonly='1')
    assert codes(chat.got[WITCH][-1]) == {110, 322}
    assert WITCH not in chat.rooms.where


def test_roles() -> None:
    chat = Chat()
    chat.open(CRONE, WITCH, HAG)
    assert condition(chat.admin(WITCH, nick='hag', role='none')) == 'forbidden'
    chat.admin(CRONE, nick='witch', role='moderator')
    assert condition(chat.admin(WITCH, nick='crone', role='none')) == 'not-allowed'
    assert condition(chat.admin(WITCH, nick='hag', role='moderator')) == 'forbidden'
    assert condition(chat.admin(CRONE, nick='nobody', role='none')) == 'item-not-found'
    assert condition(chat.admin(CRONE, nick='crone', role='visitor')) == 'not-allowed'
    assert condition(chat.admin(CRONE, nick='hag', role='hidden')) == 'bad-request'
    chat.admin(WITCH, nick='hag', role='none', reason='Begone')
    item = chat.got[HAG][0].find('u:x/u:item', NS)
    assert item is not None
    assert codes(chat.got[HAG][0]) == {307, 110}
    assert codes(chat.got[CRONE][0]) == {307}
    assert item.findtext('u:reason', '', NS) == 'Begone'
    assert item.find('u:actor', NS).attrib == {'nick': 'witch'}  # type: ignore[union-attr]
    assert condition(chat.enter(HAG)[0]) == ''


def test_affiliations() -> None:
    chat = Chat()
    chat.open(CRONE, WITCH, HAG)
    assert condition(chat.admin(CRONE, jid='crone@a.lit', affiliation='admin')) == 'conflict'
    assert condition(chat.admin(CRONE, jid='crone@a.lit', affiliation='outcast')) == 'conflict'
    assert condition(chat.admin(CRONE, jid='c.lit', affiliation='member')) == 'not-acceptable'
    assert condition(chat.admin(CRONE, jid='@', affiliation='member')) == 'jid-malformed'
    chat.admin(CRONE, jid='witch@b.lit', affiliation='admin')
    roles = [item.get('role') for stanza in chat.got[HAG] for item in stanza.iter(f'{{{ns.MUC_USER}}}item')]
    assert roles == ['moderator']
    assert condition(chat.admin(WITCH, jid='fool@d.lit', affiliation='owner')) == 'forbidden'
    assert condition(chat.admin(WITCH, jid='crone@a.lit', affiliation='none')) == 'not-allowed'
    assert condition(chat.configure(WITCH, roomname='x')) == 'forbidden'
    chat.admin(WITCH, jid='hag@c.lit', affiliation='outcast', reason='Toad')
    assert codes(chat.got[HAG][0]) == {301, 110}
    listed = chat.iq(WITCH, 'get', ns.MUC_ADMIN, "<item affiliation='outcast'/>")[0][0]
    assert (listed.get('jid'), listed[0].text) == ('hag@c.lit', 'Toad')
    assert condition(chat.enter(HAG)[0]) == 'forbidden'
    chat.admin(CRONE, jid='witch@b.lit', affiliation='owner')
    chat.admin(WITCH, jid='crone@a.lit', affiliation='none')
    role = next(item.get('role') for item in chat.got[CRONE][0].iter(f'{{{ns.MUC_USER}}}item'))
    assert role == 'participant'


def test_several_changes_are_made_together_or_not_at_all() -> None:
    chat = Chat()
    chat.open(CRONE)
    items = "<item jid='a@x.lit' affiliation='member'/><item jid='{}' affiliation='{}'/>"
    refused = chat.iq(CRONE, 'set', ns.MUC_ADMIN, items.format('crone@a.lit', 'none'))
    assert condition(refused) == 'conflict'
    assert list(chat.rooms.rooms[ROOM].entries) == ['crone@a.lit']
    assert condition(chat.iq(CRONE, 'set', ns.MUC_ADMIN, items.format('A@x.lit', 'admin'))) == 'bad-request'
    assert chat.iq(CRONE, 'set', ns.MUC_ADMIN, items.format('b@x.lit', 'admin')).get('type') == 'result'
    assert len(chat.rooms.rooms[ROOM].entries) == 3


def test_a_banned_domain_spares_those_who_belong_to_the_room() -> None:
    chat = Chat()
    chat.open(CRONE, WITCH)
    member = 'maid@b.lit/broom'
    chat.admin(CRONE, jid='maid@b.lit', affiliation='member')
    chat.enter(member)
    chat.admin(CRONE, jid='b.lit', affiliation='outcast')
    assert WITCH not in chat.rooms.where
    assert member in chat.rooms.where


def test_a_service_that_enters_is_not_its_whole_domain() -> None:
    chat = Chat(self_membership=True)
    chat.enter('gate.lit', 'gate')
    chat.configure('gate.lit', membersonly='1')
    assert condition(chat.enter('witch@gate.lit/broom')[0]) == 'registration-required'
    chat.iq('other.lit', 'set', ns.REGISTER, register('other'))
    assert condition(chat.enter('witch@other.lit/broom')[0]) == 'registration-required'


def test_absent_members_are_visible_or_not() -> None:
    chat = Chat()
    chat.open(CRONE)
    chat.admin(CRONE, jid='hag@c.lit', affiliation='member')
    shown = chat.got[CRONE][0]
    assert (shown.get('type'), shown.get('from')) == ('unavailable', f'{ROOM}/hag@c.lit')
    chat.enter(HAG)
    chat.say(HAG, f'{ROOM}/hag', "<presence type='unavailable'/>")
    absent = [stanza for stanza in chat.enter(WITCH) if stanza.get('type') == 'unavailable']
    assert [stanza.get('from') for stanza in absent] == [f'{ROOM}/hag']
    chat.configure(CRONE, showabsent='0')
    assert not [stanza for stanza in chat.enter(WITCH) if stanza.get('type') == 'unavailable']


def test_absent_members_of_an_anonymous_room_stay_unnamed() -> None:
    chat = Chat(anonymous=True)
    chat.open(CRONE)
    chat.admin(CRONE, jid='hag@c.lit', affiliation='member')
    chat.enter(WITCH)
    assert b'hag' not in b''.join(raw for to, raw in chat.raw if to == WITCH)
    chat.enter(HAG, 'third')
    chat.say(HAG, f'{ROOM}/third', "<presence type='unavailable'/>")
    chat.enter(WITCH)
    assert f'{ROOM}/third' in {stanza.get('from') for stanza in chat.got[WITCH]}
    assert b'hag@c.lit' not in b''.join(raw for to, raw in chat.raw if to == WITCH)


def register(nick: str) -> str:
    """A registration form."""
    field = f"<field var='muc#register_roomnick'><value>{nick}</value></field>"
    return f"<x xmlns='{ns.DATA_FORMS}' type='submit'>{field}</x>"


def test_users_add_themselves() -> None:
    closed = Chat()
    closed.open(CRONE, membersonly='1')
    assert condition(closed.iq(HAG, 'set', ns.REGISTER, register('hag'))) == 'not-allowed'
    chat = Chat(self_membership=True)
    chat.open(CRONE, membersonly='1')
    assert chat.iq(HAG, 'get', ns.REGISTER).find('.//d:field', NS) is not None
    assert chat.iq(HAG, 'set', ns.REGISTER, register('third')).get('type') == 'result'
    assert chat.iq(HAG, 'get', ns.REGISTER)[0][1].text == 'third'
    assert condition(chat.enter(HAG, 'third')[0]) == ''
    chat.say(HAG, f'{ROOM}/third', "<presence type='unavailable'/>")
    assert condition(chat.iq(WITCH, 'set', ns.REGISTER, register('THIRD'))) == 'conflict'
    chat.iq(WITCH, 'set', ns.REGISTER, register('second'))
    assert condition(chat.enter(WITCH, 'third')[0]) == 'conflict'
    node = f"<iq type='get' id='n'><query xmlns='{ns.DISCO_INFO}' node='x-roomuser-item'/></iq>"
    assert chat.say(HAG, ROOM, node)[0][0][0].get('name') == 'third'
    chat.iq(HAG, 'set', ns.REGISTER, '<remove/>')
    assert condition(chat.enter(HAG)[0]) == 'registration-required'
    chat.admin(CRONE, jid='hag@c.lit', affiliation='outcast')
    assert condition(chat.iq(HAG, 'set', ns.REGISTER, register('third'))) == 'forbidden'


def test_destroying() -> None:
    chat = Chat()
    chat.open(CRONE, WITCH)
    inside = "<destroy jid='other@chat.example.com'><reason>Moved</reason></destroy>"
    assert condition(chat.iq(WITCH, 'set', ns.MUC_OWNER, inside)) == 'forbidden'
    assert chat.iq(CRONE, 'set', ns.MUC_OWNER, inside).get('type') == 'result'
    ended = chat.got[WITCH][0].find('u:x/u:destroy', NS)
    assert ended is not None
    assert (ended.get('jid'), ended.findtext('u:reason', '', NS)) == ('other@chat.example.com', 'Moved')
    assert not chat.rooms.rooms
    assert not chat.rooms.where


def features(answer: Element) -> set[str]:
    """What a disco#info result announces."""
    return {found.get('var', '') for found in answer.iter(f'{{{ns.DISCO_INFO}}}feature')}


def test_discovery_of_rooms_finds_public_ones_only() -> None:
    chat = Chat()
    chat.open(CRONE, roomname='Heath')
    chat.enter(CRONE, room=f'locked@{ALIAS}')
    for name, fields in (('members', {'membersonly': '1'}), ('private', {'publicroom': '0'}), ('plain', {})):
        chat.enter(CRONE, room=f'{name}@{ALIAS}')
        chat.configure(CRONE, room=f'{name}@{ALIAS}', **fields)
    chat.enter(CRONE, room='other@elsewhere.example.com')
    assert {ns.MUC, 'http://jabber.org/protocol/muc#unique'} <= features(chat.iq(HAG, 'get', ns.DISCO_INFO, to=ALIAS))
    items = chat.iq(HAG, 'get', ns.DISCO_ITEMS, to=ALIAS)[0]
    assert [(item.get('jid'), item.get('name')) for item in items] == [
        (ROOM, 'Heath'),
        (f'plain@{ALIAS}', 'plain'),
    ]
    hidden = chat.iq(HAG, 'get', ns.DISCO_INFO, to=f'members@{ALIAS}')
    assert {'muc_hidden', 'muc_membersonly', 'muc_temporary'} <= features(hidden)
    assert hidden.find('.//d:x', NS) is None
    assert chat.iq(HAG, 'get', ns.DISCO_ITEMS)[0].find('*') is None
    assert chat.iq(CRONE, 'get', ns.DISCO_ITEMS)[0][0].get('jid') == f'{ROOM}/crone'
    assert condition(chat.iq(HAG, 'get', ns.DISCO_INFO, to=f'none@{ALIAS}')) == 'item-not-found'


def test_many_rooms_come_in_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disco, 'PAGE', 2)
    chat = Chat()
    names = [f'{letter}@{ALIAS}' for letter in 'abcde']
    for name in names:
        chat.enter(CRONE, room=name)
        chat.configure(CRONE, room=name)

    def page(inside: str) -> list[str | None]:
        answer = chat.iq(HAG, 'get', ns.DISCO_ITEMS, inside, to=ALIAS)[0]
        return [item.get('jid') for item in answer if item.tag.endswith('item')]

    asked = "<set xmlns='http://jabber.org/protocol/rsm'>{}</set>"
    assert page('') == names[:2]
    assert page(asked.format(f'<after>{names[1]}</after>')) == names[2:4]
    assert page(asked.format('<before/>')) == names[3:]
    assert page(asked.format(f'<before>{names[1]}</before>')) == names[:1]
    assert page(asked.format('<index>4</index>')) == names[4:]
    assert page(asked.format('<max>0</max>')) == []


PING = "<iq type='get' id='7'><ping xmlns='urn:xmpp:ping'/></iq>"


def test_requests_between_occupants() -> None:
    chat = Chat(anonymous=True)
    chat.open(CRONE, WITCH)
    assert chat.say(WITCH, f'{ROOM}/witch', PING)[0].get('type') == 'result'
    assert condition(chat.say(HAG, f'{ROOM}/witch', PING)[0]) == 'not-acceptable'
    phone = 'witch@b.lit/phone'
    chat.enter(phone, 'witch')
    chat.say(phone, f'{ROOM}/crone', PING)
    asked = chat.got[CRONE][0]
    assert asked.get('from') == f'{ROOM}/witch'
    chat.say(CRONE, f'{ROOM}/witch', f"<iq type='result' id='{asked.get('id')}'/>")
    assert [(to, stanza.get('id'), stanza.get('from')) for to, found in chat.got.items() for stanza in found] == [
        (phone, '7', f'{ROOM}/crone')
    ]
    failed = f"<error type='cancel' by='{CRONE}'><item-not-found xmlns='{NS['e']}'/></error>"
    chat.say(CRONE, f'{ROOM}/witch', f"<iq type='error' id='{asked.get('id')}'>{failed}</iq>")
    assert condition(chat.got[phone][0]) == 'item-not-found'
    assert b'crone@a.lit' not in chat.raw[0][1]
    chat.say(CRONE, f'{ROOM}/witch', "<iq type='result' id='99-7'/>")
    assert not chat.raw


def test_the_service_names_a_room() -> None:
    chat = Chat()
    asked = "<iq type='get' id='u'><unique xmlns='http://jabber.org/protocol/muc#unique'/></iq>"
    first, second = (chat.say(HAG, ALIAS, asked)[0][0].text for _ in range(2))
    assert first != second
    assert condition(chat.iq(HAG, 'get', 'urn:unknown', to=ALIAS)) == 'service-unavailable'
