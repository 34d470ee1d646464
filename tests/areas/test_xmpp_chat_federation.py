"""Chat rooms and other servers: a user of Prosody in a room of ours, a user of ours in a room of Prosody."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.areas.chat_rooms import INFO, aliases, enter, items, leave, left, talk
from tests.areas.xmpp_fixtures import sign_in
from tests.fixtures import data
from tests.fixtures.federation import PEER, ROOMS, Authority, Federation, Peer, Prosody, Zone
from tests.proves import proves
from tests.xmppclient import XmppClient

__all__ = ['sign_in']
ALIAS = f'conference-1-standalonecluster.{data.DOMAIN}'


@proves('CHM-50')
@pytest.mark.parametrize('dialback', [False, True])
def test_rooms_here_and_there(
    federation: Federation, zone: Zone, authority: Authority, peer: Callable[..., Peer],
    sign_in: Callable[..., XmppClient], dialback: bool,
) -> None:  # fmt: skip
    """The alias is in DNS; the certificate has a wildcard for it, or dialback proves it."""
    zone.server(ALIAS, (5, 0, federation.port, 'localhost'))
    federation.certificate(data.DOMAIN, *([] if dialback else [f'*.{data.DOMAIN}']))
    there = peer(Prosody, certificate=authority.issue(PEER, f'*.{PEER}'), secure_auth=not dialback, rooms=True)
    alice, romeo = sign_in('alice', 'r'), there.client()
    assert aliases(alice) == [ALIAS]
    room = f'verona@{ALIAS}'
    enter(alice, room, 'Alice')
    assert items(romeo, ALIAS) == [room]
    enter(romeo, room, 'Romeo')
    talk(alice, room, 'who is it?', alice, romeo)
    talk(romeo, room, 'the “night” & <you>', romeo, alice)
    romeo.say(f'{room}/Alice', 'softly')
    alice.expect('message', body='softly', type='chat', from_=f'{room}/Romeo')
    leave(romeo, room, 'Romeo')
    left(alice, room, 'Romeo')
    enter(romeo, room, 'Romeo')

    outside = f'balcony@{ROOMS}'
    enter(romeo, outside, 'Romeo')
    enter(alice, outside, 'Alice')
    assert alice.iq('get', INFO, to=outside).get('type') == 'result'
    talk(alice, outside, 'good night', alice, romeo)
    talk(romeo, outside, 'a thousand times', romeo, alice)
    alice.close()
    left(romeo, outside, 'Alice')

    juliet = sign_in('bob', 'r')
    enter(juliet, room, 'Bob')
    there.stop()
    juliet.say(room, 'where art thou?', type='groupchat')
    left(juliet, room, 'Romeo', '333')
