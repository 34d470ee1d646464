"""What is said: to everybody, to one, the subject, the history, invitations, voice (XEP-0045 7.4 to 8.6)."""

from __future__ import annotations

import pytest

from engine.xmpp import ns
from tests.muc.people import NS, ROOM, Chat, codes, condition

CRONE, WITCH, HAG = 'crone@a.lit/desk', 'witch@b.lit/broom', 'hag@c.lit/cave'
SUBJECT = "<message type='groupchat'><subject>Fire</subject></message>"
PRIVATE = "<message type='chat' id='p'><body>psst</body></message>"


def bodies(stanzas: list[object]) -> list[str]:
    """Texts of the messages among these."""
    return [text for stanza in stanzas if (text := stanza.findtext('c:body', None, NS)) is not None]  # type: ignore[attr-defined]


def test_everybody_gets_the_same_in_the_same_form() -> None:
    chat = Chat()
    chat.open(CRONE, WITCH)
    inside = (
        "<body>a &lt; 'b' to='x'</body><active xmlns='http://jabber.org/protocol/chatstates'/>"
        "<origin-id id='o' xmlns='urn:xmpp:sid:0'/>"
    )
    chat.say(WITCH, ROOM, f"<message xml:lang='de' type='groupchat' id='1'>{inside}</message>")
    one, two = chat.got[CRONE][0], chat.got[WITCH][0]
    assert [child.tag for child in one] == [child.tag for child in two]
    assert one.attrib | {'to': ''} == two.attrib | {'to': ''}
    assert (one.get('from'), one.get('id')) == (f'{ROOM}/witch', '1')
    ids = one.findall('s:stanza-id', NS)
    assert [found.get('by') for found in ids] == [ROOM]
    assert one.find('s:origin-id', NS) is not None
    chat.say(WITCH, ROOM, "<message type='groupchat'><body>b</body></message>")
    assert chat.got[CRONE][0].find('s:stanza-id', NS).get('id') != ids[0].get('id')  # type: ignore[union-attr]


@pytest.mark.parametrize('namespace', ['urn:xmpp:sid:0', 'urn:xmpp:sid&#58;0'])
def test_what_only_the_room_says_is_taken_out(namespace: str) -> None:
    chat = Chat()
    chat.open(CRONE, WITCH)
    forged = (
        f"<stanza-id xmlns='{namespace}' id='fake' by='{ROOM}'/><x xmlns='{ns.MUC_USER}'><status code='104'/></x>"
        f"<delay xmlns='urn:xmpp:delay' from='{ROOM}' stamp='2001-01-01T00:00:00Z'/>"
    )
    chat.say(WITCH, ROOM, f"<message type='groupchat'>{forged}<body>b</body></message>")
    message = chat.got[CRONE][0]
    assert [child.tag.rpartition('}')[2] for child in message] == ['body', 'stanza-id']
    assert message.find('s:stanza-id', NS).get('id') != 'fake'  # type: ignore[union-attr]


def test_strangers_are_not_heard() -> None:
    chat = Chat()
    chat.open(CRONE)
    assert condition(chat.speak(WITCH)[0]) == 'not-acceptable'
    assert condition(chat.speak(WITCH, room='none@chat.example.com')[0]) == 'item-not-found'
    assert condition(chat.say(CRONE, ROOM, "<message type='chat'><body>b</body></message>")[0]) == 'bad-request'


def test_a_moderated_room_and_voice() -> None:
    chat = Chat(moderated=True)
    chat.open(CRONE, WITCH)
    assert condition(chat.speak(WITCH)[0]) == 'forbidden'
    chat.admin(CRONE, nick='witch', role='participant')
    assert bodies(chat.speak(WITCH, 'one')) == ['one']
    chat.admin(CRONE, nick='witch', role='visitor')
    assert condition(chat.speak(WITCH)[0]) == 'forbidden'
    form = "<x xmlns='jabber:x:data' type='submit'>{}</x>"
    request = form.format("<field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#request</value></field>"
                          "<field var='muc#role'><value>participant</value></field>")  # fmt: skip
    chat.say(WITCH, ROOM, f'<message>{request}</message>')
    asked = chat.got[CRONE][0].findall('.//d:field', NS)
    values = {field.get('var'): field.findtext('d:value', '', NS) for field in asked}
    assert (values['muc#jid'], values['muc#roomnick'], values['muc#request_allow']) == (WITCH, 'witch', '0')
    assert condition(chat.say(WITCH, ROOM, f'<message>{request}</message>')[0]) == 'unexpected-request'
    answer = form.format("<field var='muc#roomnick'><value>witch</value></field>"
                         "<field var='muc#request_allow'><value>1</value></field>")  # fmt: skip
    assert condition(chat.say(WITCH, ROOM, f'<message>{answer}</message>')[0]) == 'unexpected-request'
    chat.now += 60
    assert chat.say(WITCH, ROOM, f'<message>{request}</message>') == []
    assert len(chat.got[CRONE]) == 1
    chat.say(CRONE, ROOM, f'<message>{answer}</message>')
    assert bodies(chat.speak(WITCH, 'two')) == ['two']


@pytest.mark.parametrize(
    ('level', 'role', 'allowed'),
    [('participant', 'participant', True), ('participant', 'visitor', False),
     ('moderator', 'participant', False), ('moderator', 'moderator', True)],
)  # fmt: skip
def test_who_changes_the_subject(level: str, role: str, allowed: bool) -> None:
    chat = Chat(subject_level=level)
    chat.open(CRONE, WITCH)
    chat.admin(CRONE, nick='witch', role=role)
    first = chat.say(WITCH, ROOM, SUBJECT)[0]
    assert condition(first) == ('' if allowed else 'forbidden')
    last = chat.enter(HAG)[-1]
    assert (last.findtext('c:subject', '', NS) or '') == ('Fire' if allowed else '')
    assert (last.find(f'{{{ns.DELAY}}}delay') is not None) is allowed


@pytest.mark.parametrize(
    ('level', 'role', 'allowed'),
    [('visitor', 'visitor', True), ('participant', 'visitor', False), ('participant', 'moderator', True),
     ('moderator', 'participant', False), ('moderator', 'moderator', True)],
)  # fmt: skip
def test_private_messages(level: str, role: str, allowed: bool) -> None:
    chat = Chat(private_level=level)
    chat.open(CRONE, WITCH, HAG)
    chat.admin(CRONE, nick='witch', role=role)
    back = chat.say(WITCH, f'{ROOM}/hag', PRIVATE)
    assert [condition(stanza) for stanza in back] == ([] if allowed else ['forbidden'])
    assert [to for to, _ in chat.raw] == [HAG if allowed else WITCH]
    if allowed:
        assert chat.got[HAG][0].find(f'{{{ns.MUC_USER}}}x') is not None
        assert chat.got[HAG][0].get('from') == f'{ROOM}/witch'


def test_a_private_message_that_fails_is_answered_without_addresses() -> None:
    chat = Chat(anonymous=True)
    chat.open(CRONE, WITCH, HAG)
    assert condition(chat.say(WITCH, f'{ROOM}/nobody', PRIVATE)[0]) == 'item-not-found'
    chat.say(WITCH, f'{ROOM}/hag', PRIVATE)
    failed = f"<error type='cancel' by='{HAG}'><not-acceptable xmlns='{NS['e']}'/></error>"
    chat.say(HAG, f'{ROOM}/witch', f"<message type='error' id='p'>{failed}</message>")
    assert condition(chat.got[WITCH][0]) == 'not-acceptable'
    assert b'hag@c.lit' not in chat.raw[0][1]
    chat.say(HAG, f'{ROOM}/witch', f"<message type='error' id='p'>{failed}</message>")
    assert not chat.raw


def test_history_is_what_was_asked_for_and_no_more() -> None:
    chat = Chat(archive_maximum=10, history_default=5)
    chat.open(CRONE)
    for number in range(20):
        chat.speak(CRONE, f'{number:02}')
    last = [f'{number:02}' for number in range(20)]

    def seen(inside: str) -> list[str]:
        found = bodies(chat.enter(WITCH, inside=inside))
        chat.say(WITCH, f'{ROOM}/witch', "<presence type='unavailable'/>")
        return found

    assert seen('') == last[-5:]
    assert seen("<history maxstanzas='50'/>") == last[-10:]
    assert seen("<history maxstanzas='2'/>") == last[-2:]
    assert seen("<history maxchars='0'/>") == []
    size = len(next(raw for _, raw in chat.rooms.receive(WITCH, *_entering(chat)) if b'<body' in raw))
    assert 190 < size < 400
    chat.say(WITCH, f'{ROOM}/witch', "<presence type='unavailable'/>")
    assert seen(f"<history maxchars='{size * 2}'/>") == last[-2:]
    moment = chat.now
    chat.now += 100
    chat.speak(CRONE, 'new')
    assert seen("<history seconds='50'/>") == ['new']
    from datetime import UTC, datetime

    stamp = datetime.fromtimestamp(moment + 1, UTC).strftime('%Y-%m-%dT%H:%M:%SZ')
    assert seen(f"<history since='{stamp}'/>") == ['new']


def _entering(chat: Chat) -> tuple[str, object, float]:
    from engine.xmpp.stanza import parse
    from tests.muc.people import ENTER

    return f'{ROOM}/witch', parse(ENTER.encode()), chat.now  # type: ignore[return-value]


def test_history_is_bounded_in_bytes() -> None:
    from engine.muc.messages import HISTORY

    chat = Chat(archive_maximum=1000, history_default=1000)
    chat.open(CRONE)
    for _ in range(40):
        chat.speak(CRONE, 'x' * 10_000)
    assert chat.rooms.rooms[ROOM].history.size <= HISTORY


def test_xhtml_is_taken_out() -> None:
    chat = Chat(strip_xhtml=True)
    chat.open(CRONE)
    body = "<body xmlns='http://www.w3.org/1999/xhtml'><p>so <b>big</b></p></body>"
    html = f"<html xmlns='{ns.XHTML_IM}'>{body}</html>"
    for given, expected in ((f'<body>so big</body>{html}', 'so big'), (html, 'so big')):
        message = chat.say(CRONE, ROOM, f"<message type='groupchat'>{given}</message>")[0]
        assert message.findtext('c:body', '', NS) == expected
        assert message.find(f'{{{ns.XHTML_IM}}}html') is None


def invite(who: str, inside: str = '<reason>Come</reason>') -> str:
    """A mediated invitation."""
    return f"<message><x xmlns='{ns.MUC_USER}'><invite to='{who}'>{inside}</invite></x></message>"


def test_invitations_and_declining() -> None:
    chat = Chat()
    chat.open(CRONE, WITCH, passwordprotectedroom='0')
    chat.say(WITCH, ROOM, invite('hag@c.lit'))
    (got,) = chat.got['hag@c.lit']
    invited = got.find('u:x/u:invite', NS)
    assert got.get('from') == ROOM
    assert invited is not None
    assert (invited.get('from'), invited.findtext('u:reason', '', NS)) == ('witch@b.lit', 'Come')
    decline = f"<message><x xmlns='{ns.MUC_USER}'><decline to='witch@b.lit'><reason>No</reason></decline></x></message>"
    chat.say(HAG, ROOM, decline)
    declined = chat.got[WITCH][0].find('u:x/u:decline', NS)
    assert declined is not None
    assert declined.get('from') == 'hag@c.lit'
    assert condition(chat.say(HAG, ROOM, decline)[0]) == 'item-not-found'
    assert condition(chat.say(HAG, ROOM, invite('x@y.lit'))[0]) == 'not-acceptable'
    assert condition(chat.say(WITCH, ROOM, invite('@'))[0]) == 'jid-malformed'


def test_who_invites_to_a_members_only_room() -> None:
    """Moderators; everybody in it when the service says so, and then the guest is a member (guide 5800)."""
    closed = Chat(members_only=True, owners_change_members_only=False)
    closed.enter(CRONE)
    closed.configure(CRONE)
    closed.admin(CRONE, jid='witch@b.lit', affiliation='member')
    closed.enter(WITCH)
    assert condition(closed.say(WITCH, ROOM, invite('hag@c.lit'))[0]) == 'forbidden'
    closed.say(CRONE, ROOM, invite('hag@c.lit'))
    assert condition(closed.enter(HAG)[0]) == ''
    recipe = Chat(members_only=True, owners_change_members_only=False, moderators_invite=False)
    recipe.enter(CRONE)
    recipe.configure(CRONE)
    recipe.admin(CRONE, jid='witch@b.lit', affiliation='member')
    recipe.enter(WITCH)
    recipe.say(WITCH, ROOM, invite('hag@c.lit'))
    assert condition(recipe.enter(HAG)[0]) == ''
    assert condition(recipe.configure(CRONE, membersonly='0')) == 'forbidden'
    before = dict(recipe.rooms.rooms[ROOM].entries)
    two = "<invite to='x@y.lit'/><invite to='{}'><continue thread='{}'/></invite>"
    for to, thread in (('d.lit', ''), (ROOM, ''), ('z@y.lit', 'x' * 1025)):
        asked = f"<message><x xmlns='{ns.MUC_USER}'>{two.format(to, thread)}</x></message>"
        assert condition(recipe.say(WITCH, ROOM, asked)[0]) == 'not-acceptable'
    assert recipe.rooms.rooms[ROOM].entries == before
    recipe.admin(CRONE, jid='fool@d.lit', affiliation='outcast')
    assert condition(recipe.say(WITCH, ROOM, invite('fool@d.lit'))[0]) == 'forbidden'


def test_an_anonymous_room_tells_only_moderators_who_is_who() -> None:
    chat = Chat(anonymous=True)
    chat.open(CRONE, WITCH, HAG)
    items = [stanza.find('u:x/u:item', NS) for stanza in (*chat.enter(WITCH)[:2], *chat.got[CRONE][:1])]
    assert [item.get('jid') for item in items if item is not None] == [None, None, WITCH]
    assert codes(chat.got[WITCH][2]) == {110}
    chat.say(WITCH, ROOM, invite('fool@d.lit'))
    assert b'witch@b.lit' not in chat.raw[0][1]
