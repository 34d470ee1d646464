"""Chat rooms obey what is saved in the console, after the restart that it names: REST and real clients (spec 08)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from xml.etree.ElementTree import Element

from tests.areas.chat_rooms import ENTER, MUC, USER, codes, enter, items, left
from tests.areas.test_restarts_notifications import restart_router
from tests.areas.xmpp_fixtures import address, in_force, sign_in
from tests.fixtures.processes import wait_until
from tests.proves import proves
from tests.xmppclient import XmppClient, body, condition

__all__ = ['sign_in']
SignIn = Callable[..., XmppClient]
Rest = Callable[[str], Callable[..., Any]]
OWNER, DATA = f'{MUC}#owner', '{jabber:x:data}'
TC, ROUTER = 'text_conference_manager', 'xcp_router'
ROOMS, ALIASES = '/api/v1/group-chat/', '/api/v1/group-chat-aliases/'
XHTML = (
    "<html xmlns='http://jabber.org/protocol/xhtml-im'><body xmlns='http://www.w3.org/1999/xhtml'>"
    '<strong>hi</strong></body></html>'
)


def primary() -> str:
    """The alias that the system made for the node."""
    from impadmin.messaging.models import GroupChatAlias

    return str(GroupChatAlias.objects.get(primary=True).alias)


def attempt(client: XmppClient, room: str, nick: str = '', inside: str = ENTER) -> str | None:
    """Go into a room as ``nick`` (default: the user ID); the error, None when the client is in."""
    here = f'{room}/{nick or client.bare.partition("@")[0]}'
    client.raw(f'<presence to="{here}">{inside}</presence>')
    answer = client.expect('presence', from_=here, where=lambda p: p.get('type', '110') in ('error', *codes(p)))
    return condition(answer)


def configure(client: XmppClient, room: str, **values: str) -> Element:
    """Submit the form of the room; ``roomconfig_x`` stands for muc#roomconfig_x."""
    fields = ''.join(f"<field var='muc#{name}'><value>{value}</value></field>" for name, value in values.items())
    form_type = f"<field var='FORM_TYPE'><value>{MUC}#roomconfig</value></field>" if values else ''
    form = f"<x xmlns='jabber:x:data' type='submit'>{form_type}{fields}</x>"
    answer: Element = client.iq('set', f"<query xmlns='{OWNER}'>{form}</query>", to=room)
    return answer


def form(client: XmppClient, room: str) -> dict[str, str]:
    """What the owner of a room is asked: field -> its value."""
    answer = client.iq('get', f"<query xmlns='{OWNER}'/>", to=room)
    assert condition(answer) is None
    fields = answer.iter(f'{DATA}field')
    return {one.get('var', '').rpartition('#')[2]: one.findtext(f'{DATA}value') or '' for one in fields}


def invite(client: XmppClient, room: str, whom: XmppClient) -> None:
    """Through the room; the other one gets it."""
    inside = f"<x xmlns='{MUC}#user'><invite to='{whom.bare}'/></x>"
    client.raw(f"<message to='{room}'>{inside}</message>")
    whom.expect('message', from_=room, has=f'{USER}invite')


def waiting(call: Callable[..., Any]) -> set[tuple[str, str]]:
    """(service, rule) of the restarts that are notified."""
    found = call('GET', '/api/v1/notifications/').json()['results']
    return {(one['service'], one['rule']) for one in found if one['kind'] == 'restart'}


def save(call: Callable[..., Any], **fields: Any) -> None:
    """Save settings of rooms: the notification names the service, and nothing else."""
    answer = call('PATCH', ROOMS, fields)
    assert answer.status == 200, answer.body
    in_force()
    assert waiting(call) == {(TC, 'RST-R05')}


def restart(call: Callable[..., Any]) -> None:
    """Control Center - Feature Services: Restart. The notification goes away by itself."""
    answer = call('POST', '/api/v1/control-center/restart/', {'node': 'imp1', 'service': TC})
    assert answer.status == 200, answer.body
    wait_until(lambda: not any(service == TC for service, _ in waiting(call)), 'no restart waits', 40)


@proves('GC-04', 'GC-06', 'GC-20', 'GC-33', 'CHM-08', 'CHM-18', 'CHM-19', 'CHM-20')
def test_rooms_become_private_with_the_restart(rest: Rest, sign_in: SignIn) -> None:
    """The recipe of guide 5800: until the restart rooms are public; after it whoever is in a room lets others in."""
    call = rest('administrator')
    alice, bob, carol = sign_in('alice'), sign_in('bob'), sign_in('carol')
    alias = primary()
    old, new = f'old@{alias}', f'new@{alias}'
    save(call, members_only=True, owners_change_members_only=False, moderators_invite=False)
    enter(alice, old, 'alice')
    begins = form(alice, old)
    assert [begins[f'roomconfig_{name}'] for name in ('membersonly', 'moderatedroom', 'maxusers')] == ['0', '0', '50']
    assert items(bob, alias) == [old]
    assert attempt(bob, old) is None
    restart(call)
    for client, nick in ((alice, 'alice'), (bob, 'bob')):
        left(client, old, nick, '332')
    enter(alice, new, 'alice')
    assert items(bob, alias) == []
    assert attempt(bob, new) == 'registration-required'
    invite(alice, new, bob)
    assert attempt(bob, new) is None
    invite(bob, new, carol)  # no moderator
    assert attempt(carol, new) is None
    assert 'roomconfig_membersonly' not in form(alice, new)
    assert condition(configure(alice, new, roomconfig_membersonly='0')) == 'forbidden'


@proves('CHM-16', 'CHM-22', 'CHM-26', 'CHM-28', 'CHM-30', 'CHM-31', 'CHM-32', 'CHM-33', 'CHM-34', 'CHM-36', 'CHM-38')
@proves('CHM-42', 'CHM-43')
def test_limits_and_levels_of_the_page_hold_in_rooms(rest: Rest, sign_in: SignIn) -> None:
    call = rest('administrator')
    alice, bob, carol, dave = sign_in('alice'), sign_in('bob'), sign_in('carol'), sign_in('dave')
    save(
        call, max_rooms=2, max_users=4, max_hidden=0, default_occupancy=2, private_level='moderator',
        subject_level='moderator', strip_xhtml=True, anonymous=True, archive_maximum=3, history_default=1, gc1=True,
        self_membership=True,
    )  # fmt: skip
    restart(call)
    room, second = f'room@{primary()}', f'second@{primary()}'
    enter(alice, room, 'alice')
    # occupancy: the owner raises it, but not above what the page allows
    enter(bob, room, 'bob')
    assert attempt(carol, room) == 'service-unavailable'
    assert condition(configure(alice, room, roomconfig_maxusers='5')) == 'not-acceptable'
    assert condition(configure(alice, room, roomconfig_maxusers='4')) is None
    unseen = f'<x xmlns="{MUC}"><hidden xmlns="urn:imp:muc:hidden"/></x>'
    assert attempt(sign_in('alice', 'desk'), room, 'ghost', unseen) == 'service-unavailable', 'no place for the hidden'
    # anonymous: only the moderator sees addresses
    real = {one.get('jid') for one in alice.expect('presence', from_=f'{room}/bob', type='').iter(f'{USER}item')}
    assert real == {bob.jid}
    assert [one.get('jid') for one in bob.expect('presence', from_=f'{room}/alice', type='').iter(f'{USER}item')] == [
        None
    ]
    # levels
    refused = bob.say(f'{room}/alice', 'psst')
    assert condition(bob.expect('message', type='error', id=refused)) == 'forbidden'
    alice.say(f'{room}/bob', 'psst')
    bob.expect('message', from_=f'{room}/alice', type='chat', body='psst')
    for client, allowed in ((bob, False), (alice, True)):
        number = client.say(room, '', 'groupchat', '<subject>news</subject>')
        answer = client.expect('message', where=lambda m, n=number: m.get('id') == n)
        assert (condition(answer) is None) is allowed
    # text only, and as much history as there is to be
    for text in ('one', 'two', 'three', 'four'):
        alice.say(room, text, 'groupchat', XHTML)
        got = bob.expect('message', type='groupchat', body=text)
        assert got.find('{http://jabber.org/protocol/xhtml-im}html') is None
    attempt(carol, room)
    assert body(carol.expect('message', type='groupchat', has='{urn:xmpp:delay}delay')) == 'four'
    many = f'<x xmlns="{MUC}"><history maxstanzas="50"/></x>'
    attempt(dave, room, inside=many)
    for text in ('two', 'three', 'four'):
        dave.expect('message', type='groupchat', body=text, has='{urn:xmpp:delay}delay')
    dave.expect_none('message', type='groupchat', body='one', within=0.1)
    # the second room is the last; an old client may make it, and anybody makes himself a member of it
    alice.raw(f'<presence to="{second}/alice"/>')
    alice.expect('presence', from_=f'{second}/alice', type='')
    assert attempt(bob, f'third@{primary()}') == 'resource-constraint'
    field = f"<field var='FORM_TYPE'><value>{MUC}#register</value></field>"
    field += "<field var='muc#register_roomnick'><value>dave</value></field>"
    asked = f"<query xmlns='jabber:iq:register'><x xmlns='jabber:x:data' type='submit'>{field}</x></query>"
    assert condition(dave.iq('set', asked, to=second)) is None
    answer = alice.iq('get', f"<query xmlns='{MUC}#admin'><item affiliation='member'/></query>", to=second)
    assert dave.bare in {one.get('jid') for one in answer.iter(f'{{{MUC}#admin}}item')}


FLAGS = {
    'owners_change_members_only': 'roomconfig_membersonly',
    'owners_change_invite': 'roomconfig_allowinvites',
    'owners_change_self_membership': 'selfmember',
    'owners_change_absent_visible': 'showabsent',
    'owners_change_gc1': 'gc1',
    'owners_change_anonymous': 'roomconfig_whois',
    'owners_change_occupancy': 'roomconfig_maxusers',
    'owners_change_private_level': 'roomconfig_allowpm',
    'owners_change_subject_level': 'roomconfig_changesubject',
    'owners_change_xhtml': 'stripxhtml',
    'owners_change_moderated': 'roomconfig_moderatedroom',
    'owners_change_history': 'maxhistoryfetch',
}


@proves('CHM-21', 'CHM-23', 'CHM-25', 'CHM-27', 'CHM-29', 'CHM-35', 'CHM-37', 'CHM-39', 'CHM-41', 'CHM-44')
@proves('GC-13', 'GC-36', 'CHM-07')
def test_what_owners_change_further_aliases_and_administrators(rest: Rest, sign_in: SignIn) -> None:
    call = rest('administrator')
    alice, bob = sign_in('alice'), sign_in('bob')
    now = call('GET', ROOMS).json()
    save(call, **{flag: not now[flag] for flag in FLAGS})
    added = call('POST', ALIASES, {'alias': 'sales.example.com', 'node': 'imp1'})
    assert added.status == 201, added.body
    in_force()
    assert waiting(call) == {(TC, 'RST-R05'), (TC, 'RST-R06')}
    room, sale = f'room@{primary()}', 'sale@sales.example.com'
    assert attempt(alice, sale) is not None, 'not before the restart'
    enter(alice, room, 'alice')
    assert {flag for flag, field in FLAGS.items() if field in form(alice, room)} == {one for one in FLAGS if now[one]}
    restart(call)
    assert {primary(), 'sales.example.com'} <= set(items(alice, 'example.com'))
    for one in (room, sale):
        enter(alice, one, 'alice')
    offered = form(alice, room)
    assert {flag for flag, field in FLAGS.items() if field in offered} == {one for one in FLAGS if not now[one]}
    # a group chat system administrator: not before Cisco XCP Router has restarted
    added = call('POST', '/api/v1/group-chat-administrators/', {'address': address('bob'), 'nickname': 'Bob'})
    assert added.status == 201
    in_force()
    assert condition(bob.iq('get', f"<query xmlns='{OWNER}'/>", to=room)) == 'forbidden'
    enable = '/api/v1/group-chat-administrator-settings/'
    assert call('PATCH', enable, {'administrators_enabled': True}).status == 200
    in_force()
    assert (ROUTER, 'RST-R03') in waiting(call)
    assert condition(bob.iq('get', f"<query xmlns='{OWNER}'/>", to=room)) == 'forbidden'
    restart_router(call)
    wait_until(lambda: waiting(call) == set(), 'nothing waits for a restart', 40)
    alice, bob, carol = sign_in('alice'), sign_in('bob'), sign_in('carol')
    enter(alice, room, 'alice')
    # here owners configure a room once; administrators always
    assert condition(configure(alice, room, roomconfig_roomname='News')) == 'forbidden'
    assert set(FLAGS.values()) <= set(form(bob, room))
    assert condition(configure(bob, room, roomconfig_membersonly='1')) is None
    assert attempt(carol, room) == 'registration-required'
    # further ones at once, and no longer at once
    made = call('POST', '/api/v1/group-chat-administrators/', {'address': address('carol'), 'nickname': 'Carol'})
    in_force()
    assert waiting(call) == set()
    found = enter(carol, room, 'carol')
    assert [one.get('affiliation') for one in found.iter(f'{USER}item')] == ['owner']
    assert call('DELETE', f'/api/v1/group-chat-administrators/{made.json()["id"]}/').status == 204
    in_force()
    assert condition(carol.iq('get', f"<query xmlns='{OWNER}'/>", to=room)) == 'forbidden'


@proves('CHM-04', 'CHM-05', 'CHM-48', 'CHM-49', 'CHM-51')
def test_rooms_move_with_the_primary_alias_unless_the_old_one_is_kept(rest: Rest, sign_in: SignIn) -> None:
    """Acceptance 4, 5 and 7 of the aliases."""
    call, alice = rest('administrator'), sign_in('alice')
    old = primary()
    enter(alice, f'room@{old}', 'alice')
    # management off and on: nothing changes for rooms
    for managed in (False, True):
        assert call('PATCH', ROOMS, {'managed_aliases': managed}).status == 200
        in_force()
        assert waiting(call) == set()
        assert items(alice, old) == [f'room@{old}']
    # another cluster ID: after the restart the rooms are elsewhere
    assert call('PATCH', '/api/v1/enterprise-parameters/', {'cluster_id': 'mycup'}).status == 200
    in_force()
    assert waiting(call) == {(TC, 'RST-R06')}
    new = primary()
    assert new == old.replace('standalonecluster', 'mycup')
    assert items(alice, old) == [f'room@{old}']
    restart(call)
    left(alice, f'room@{old}', 'alice', '332')
    assert [one for one in items(alice, 'example.com') if one.startswith('conference-')] == [new]
    enter(alice, f'room@{new}', 'alice')
    assert attempt(alice, f'room@{old}') is not None
    # the old one is added by hand: both work
    assert call('POST', ALIASES, {'alias': old, 'node': 'imp1'}).status == 201
    restart(call)
    for alias in (old, new):
        enter(alice, f'again@{alias}', 'alice')
