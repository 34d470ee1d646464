"""Who enters a room, how, what he is told, and how he leaves (XEP-0045 7.2, 7.6, 7.14, 10.1)."""

from __future__ import annotations

import pytest

from tests.muc.people import ENTER, LEAVE, NS, ROOM, Chat, codes, condition

CRONE, WITCH, HAG = 'crone@a.lit/desk', 'witch@b.lit/broom', 'hag@c.lit/cave'
HIDDEN = "<hidden xmlns='urn:imp:muc:hidden'/>"


def test_a_new_room_is_locked_until_its_owner_configures_it() -> None:
    chat = Chat()
    presence, subject = chat.enter(CRONE)
    assert codes(presence) == {110, 100, 201}
    assert presence.get('id') == 'in'
    item = presence.find('u:x/u:item', NS)
    assert item is not None
    assert item.attrib == {'affiliation': 'owner', 'role': 'moderator', 'jid': CRONE}
    assert subject.find('c:subject', NS) is not None
    assert condition(chat.enter(WITCH)[0]) == 'item-not-found'
    assert chat.iq(WITCH, 'get', 'http://jabber.org/protocol/disco#info').get('type') == 'error'
    assert chat.configure(CRONE).get('type') == 'result'
    assert [stanza.get('from') for stanza in chat.enter(WITCH)] == [f'{ROOM}/crone', f'{ROOM}/witch', ROOM]
    assert codes(chat.got[WITCH][1]) == {110, 100}
    assert codes(chat.got[CRONE][0]) == set()


def test_cancelling_the_form_of_a_new_room_ends_it() -> None:
    chat = Chat()
    chat.enter(CRONE)
    chat.iq(CRONE, 'set', 'http://jabber.org/protocol/muc#owner', "<x xmlns='jabber:x:data' type='cancel'/>")
    assert not chat.rooms.rooms
    assert not chat.rooms.where


def test_the_room_ends_with_its_last_occupant_and_forgets_everything() -> None:
    chat = Chat()
    chat.open(CRONE, WITCH)
    chat.speak(WITCH)
    chat.say(CRONE, f'{ROOM}/crone', LEAVE)
    assert codes(chat.got[CRONE][0]) == {110}
    chat.say(WITCH, f'{ROOM}/witch', LEAVE)
    assert not chat.rooms.rooms
    presence, subject = chat.enter(WITCH)
    assert 201 in codes(presence)
    assert subject.find('c:body', NS) is None


@pytest.mark.parametrize(
    ('fields', 'inside', 'expected'),
    [
        ({'membersonly': '1'}, '', 'registration-required'),
        ({'passwordprotectedroom': '1', 'roomsecret': 'cauldron'}, '', 'not-authorized'),
        ({'passwordprotectedroom': '1', 'roomsecret': 'cauldron'}, '<password>kettle</password>', 'not-authorized'),
        ({'passwordprotectedroom': '1', 'roomsecret': 'cauldron'}, '<password>cauldron</password>', ''),
        ({'maxusers': '1'}, '', 'service-unavailable'),
        ({}, HIDDEN, 'forbidden'),
        ({}, "<history maxstanzas='many'/>", 'bad-request'),
    ],
)
def test_who_may_not_enter(fields: dict[str, str], inside: str, expected: str) -> None:
    chat = Chat()
    chat.open(CRONE, **fields)
    assert condition(chat.enter(WITCH, inside=inside)[0]) == expected
    assert (WITCH in chat.rooms.where) == (not expected)


def test_the_banned_stay_out_and_so_does_a_banned_domain() -> None:
    chat = Chat()
    chat.open(CRONE)
    chat.admin(CRONE, jid='hag@c.lit', affiliation='outcast')
    chat.admin(CRONE, jid='b.lit', affiliation='outcast')
    assert condition(chat.enter(HAG)[0]) == condition(chat.enter(WITCH)[0]) == 'forbidden'
    chat.admin(CRONE, jid='witch@b.lit', affiliation='member')
    assert condition(chat.enter(WITCH)[0]) == ''


@pytest.mark.parametrize('nick', ['crone', 'CRONE', 'ｃrone'])
def test_a_nickname_is_one_persons(nick: str) -> None:
    chat = Chat()
    chat.open(CRONE)
    assert condition(chat.enter(WITCH, nick)[0]) == 'conflict'
    chat.enter(WITCH, 'witch')
    assert condition(chat.say(WITCH, f'{ROOM}/{nick}', '<presence/>')[0]) == 'conflict'


def test_a_nickname_is_needed_and_has_limits() -> None:
    chat = Chat()
    assert condition(chat.say(CRONE, ROOM, ENTER)[0]) == 'jid-malformed'
    assert condition(chat.enter(CRONE, 'x' * 256)[0]) == 'not-acceptable'
    assert condition(chat.enter(CRONE, '\u200b')[0]) == 'not-acceptable'
    assert not chat.rooms.rooms


def test_another_nickname() -> None:
    chat = Chat()
    chat.open(CRONE, WITCH)
    gone, here = chat.say(CRONE, f'{ROOM}/oldhag', '<presence/>')
    item = gone.find('u:x/u:item', NS)
    assert item is not None
    assert (gone.get('type'), item.get('nick'), codes(gone)) == ('unavailable', 'oldhag', {303, 110})
    assert (here.get('from'), codes(here)) == (f'{ROOM}/oldhag', {110})
    assert [codes(stanza) for stanza in chat.got[WITCH]] == [{303}, set()]


def test_two_clients_of_one_user_share_a_nickname() -> None:
    """Each client joins for itself (guide 6936); the others see one occupant."""
    chat = Chat()
    chat.open(CRONE, WITCH)
    phone = 'witch@b.lit/phone'
    chat.enter(phone, 'Witch')
    assert 210 in codes(chat.got[phone][1])
    assert chat.got[phone][1].get('from') == f'{ROOM}/witch'
    chat.speak(CRONE)
    assert {to for to, _ in chat.raw} == {CRONE, WITCH, phone}
    chat.say(CRONE, f'{ROOM}/witch', "<message type='chat'><body>psst</body></message>")
    assert {to for to, _ in chat.raw} == {WITCH, phone}
    chat.say(phone, f'{ROOM}/witch', LEAVE)
    (still,) = chat.got[CRONE]
    assert still.get('type') is None
    assert still.find('u:x/u:item', NS).get('jid') == WITCH  # type: ignore[union-attr]
    chat.say(WITCH, f'{ROOM}/witch', LEAVE)
    assert chat.got[CRONE][0].get('type') == 'unavailable'


def test_entering_again_tells_everything_again() -> None:
    chat = Chat()
    chat.open(CRONE, WITCH)
    chat.speak(CRONE)
    again = [stanza.get('from') for stanza in chat.enter(WITCH)]
    assert again == [f'{ROOM}/crone', f'{ROOM}/witch', f'{ROOM}/crone', ROOM]
    assert len(chat.rooms.rooms[ROOM].occupants) == 2


def test_who_cannot_be_reached_is_out() -> None:
    chat = Chat()
    chat.open(CRONE, WITCH)
    chat.take(chat.rooms.gone(WITCH, chat.now))
    assert codes(chat.got[CRONE][0]) == {333}
    assert WITCH not in chat.got
    chat.enter(WITCH)
    gone = "<error type='wait'><recipient-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"
    chat.say(WITCH, f'{ROOM}/crone', f"<message type='error'>{gone}</message>")
    assert codes(chat.got[CRONE][0]) == {333}
    other = gone.replace('recipient-unavailable', 'policy-violation')
    chat.enter(WITCH)
    chat.say(WITCH, f'{ROOM}/crone', f"<message type='error'>{other}</message>")
    assert not chat.raw


def test_availability_that_is_not_shared_is_not_shown() -> None:
    chat = Chat()
    chat.open(CRONE, WITCH)
    chat.rooms.sharing = lambda bare: bare != 'witch@b.lit'
    full = "<presence><show>dnd</show><status>busy</status><priority>5</priority><c xmlns='x:y'/></presence>"
    chat.say(WITCH, f'{ROOM}/witch', full)
    assert [child.tag for child in chat.got[CRONE][0]] == ['{x:y}c', '{http://jabber.org/protocol/muc#user}x']
    chat.say(CRONE, f'{ROOM}/crone', full)
    assert chat.got[WITCH][0].findtext('c:show', '', NS) == 'dnd'
    assert [child.tag for child in chat.enter(HAG)[1]] == ['{x:y}c', '{http://jabber.org/protocol/muc#user}x']
    chat.say(WITCH, f'{ROOM}/witch', "<presence type='unavailable'><status>off</status></presence>")
    assert chat.got[CRONE][0].find('c:status', NS) is None


def test_presence_cannot_speak_for_the_room() -> None:
    chat = Chat()
    chat.open(CRONE, WITCH)
    forged = "<x xmlns='http://jabber.org/protocol/muc#user'><item affiliation='owner' role='moderator'/></x>"
    chat.say(WITCH, f'{ROOM}/witch', f'<presence>{forged}</presence>')
    assert [item.get('affiliation') for item in chat.got[CRONE][0].iter(f'{{{NS["u"]}}}item')] == ['none']


def test_older_clients() -> None:
    closed = Chat()
    assert condition(closed.say(CRONE, f'{ROOM}/crone', '<presence/>')[0]) == 'not-acceptable'
    chat = Chat(gc1=True)
    chat.say(CRONE, f'{ROOM}/crone', '<presence/>')
    chat.enter(WITCH)
    notes = [stanza.findtext('c:body', '', NS) for stanza in chat.got[CRONE] if stanza.tag.endswith('message')]
    assert notes == ['witch has entered the room.']
    chat.say(WITCH, f'{ROOM}/witch', LEAVE)
    assert [stanza.findtext('c:body', '', NS) for stanza in chat.got[CRONE]][-1] == 'witch has left the room.'


def test_hidden_users() -> None:
    """Unseen and silent, but not deaf (guide 7834)."""
    chat = Chat(max_hidden=1)
    chat.open(CRONE, WITCH)
    chat.admin(CRONE, jid='hag@c.lit', affiliation='admin')
    seen = chat.enter(HAG, inside=HIDDEN)
    assert [stanza.get('from') for stanza in seen[:3]] == [f'{ROOM}/crone', f'{ROOM}/witch', f'{ROOM}/hag']
    assert not chat.got[CRONE]
    chat.speak(WITCH)
    assert HAG in chat.got
    assert condition(chat.speak(HAG)[0]) == 'forbidden'
    chat.say(HAG, f'{ROOM}/hag', '<presence><show>away</show></presence>')
    assert {to for to, _ in chat.raw} == {HAG}
    private = "<message type='chat'><body>you?</body></message>"
    assert condition(chat.say(WITCH, f'{ROOM}/hag', private)[0]) == 'item-not-found'
    assert condition(chat.say(HAG, f'{ROOM}/witch', private)[0]) == 'forbidden'
    other = 'hag@c.lit/other'
    assert condition(chat.enter(other, 'unseen', HIDDEN)[0]) == 'service-unavailable'


def test_occupancy() -> None:
    """Owners enter a full room, but nobody exceeds what the system allows (guide 7831-7836)."""
    chat = Chat(default_occupancy=1, max_users=2)
    chat.open(CRONE)
    assert condition(chat.enter(WITCH)[0]) == 'service-unavailable'
    chat.admin(CRONE, jid='hag@c.lit', affiliation='owner')
    assert condition(chat.enter(HAG)[0]) == ''
    chat.admin(CRONE, jid='witch@b.lit', affiliation='admin')
    assert condition(chat.enter(WITCH)[0]) == 'service-unavailable'


def test_rooms_of_a_node_are_limited() -> None:
    chat = Chat(max_rooms=2)
    chat.enter(CRONE, room='one@x.example.com')
    chat.enter(CRONE, room='two@y.example.com')
    assert condition(chat.enter(CRONE, room='three@x.example.com')[0]) == 'resource-constraint'


def test_system_administrators_own_every_room() -> None:
    chat = Chat()
    chat.open(CRONE, WITCH, membersonly='1')
    assert condition(chat.enter(HAG)[0]) == 'registration-required'
    chat.take(chat.rooms.administer(frozenset({'hag@c.lit'}), chat.now))
    presence = chat.enter(HAG)[1]
    item = presence.find('u:x/u:item', NS)
    assert item is not None
    assert item.get('affiliation') == 'owner'
    assert condition(chat.admin(CRONE, jid='hag@c.lit', affiliation='outcast')) == 'not-allowed'
    assert chat.configure(HAG, roomname='Heath').get('type') == 'result'
    chat.take(chat.rooms.administer(frozenset(), chat.now))
    assert codes(chat.got[HAG][0]) == {321, 110}
    assert condition(chat.configure(HAG, roomname='Hill')) == 'forbidden'


def test_instant_messaging_off() -> None:
    chat = Chat()
    chat.open(CRONE, WITCH)
    chat.rooms.im_enabled = False
    assert condition(chat.enter(HAG, room='other@chat.example.com')[0]) == 'service-unavailable'
    assert condition(chat.speak(CRONE)[0]) == 'service-unavailable'
    chat.say(WITCH, f'{ROOM}/witch', LEAVE)
    assert WITCH not in chat.rooms.where


def test_the_service_stops() -> None:
    chat = Chat()
    chat.open(CRONE, WITCH)
    chat.enter(CRONE, room='one@other.example.com')
    chat.take(chat.rooms.close('chat.example.com'))
    assert [codes(stanza) for to in (CRONE, WITCH) for stanza in chat.got[to]] == [{332, 110}, {332, 110}]
    assert list(chat.rooms.rooms) == ['one@other.example.com']
    chat.take(chat.rooms.close())
    assert not chat.rooms.rooms
    assert not chat.rooms.where
