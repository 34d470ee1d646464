"""What the tests of chat rooms share."""

from __future__ import annotations

from typing import Any
from xml.etree.ElementTree import Element

from tests.fixtures import data
from tests.xmppclient import XmppClient

MUC = 'http://jabber.org/protocol/muc'
USER = f'{{{MUC}#user}}'
ITEMS = "<query xmlns='http://jabber.org/protocol/disco#items'/>"
INFO = "<query xmlns='http://jabber.org/protocol/disco#info'/>"
ENTER = f"<x xmlns='{MUC}'/>"


def items(client: XmppClient, of: str) -> list[str]:
    """The addresses service discovery lists."""
    return [one.get('jid', '') for one in client.iq('get', ITEMS, to=of)[0]]


def aliases(client: XmppClient) -> list[str]:
    """Where the server has chat rooms, as a client learns it."""
    return [one for one in items(client, data.DOMAIN) if one.startswith('conference-')]


def alias_of(name: str) -> str:
    """The primary alias of a node."""
    from impadmin.system.models import Node

    return f'conference-{Node.objects.get(name=name).pk}-standalonecluster.{data.DOMAIN}'


def codes(stanza: Element) -> set[str]:
    """Status codes of a room's presence or message."""
    return {one.get('code', '') for one in stanza.iter(f'{USER}status')}


def enter(client: XmppClient, room: str, nick: str, inside: str = '', **conditions: Any) -> Element:
    """Enter a room; the own presence that ends the list of occupants. A room that is new is made an instant one."""
    client.raw(f"<presence to='{room}/{nick}'>{inside}{ENTER}</presence>")
    own = client.expect(
        'presence', from_=f'{room}/{nick}', type='', where=lambda seen: '110' in codes(seen), **conditions
    )
    client.expect('message', from_=room, type='groupchat', has='{jabber:client}subject')
    if '201' in codes(own):
        form = f"<query xmlns='{MUC}#owner'><x xmlns='jabber:x:data' type='submit'/></query>"
        assert client.iq('set', form, to=room).get('type') == 'result'
    return own


def leave(client: XmppClient, room: str, nick: str) -> None:
    """Leave a room, and wait for its confirmation."""
    client.presence('unavailable', to=f'{room}/{nick}')
    left(client, room, nick, '110')


def left(client: XmppClient, room: str, nick: str, *status: str, timeout: float = 40) -> Element:
    """An occupant is gone, with these status codes."""
    return client.expect(
        'presence', from_=f'{room}/{nick}', type='unavailable', timeout=timeout,
        where=lambda seen: codes(seen).issuperset(status),
    )  # fmt: skip


def talk(sender: XmppClient, room: str, body: str, *listeners: XmppClient) -> None:
    """A message to a room reaches all of these."""
    sender.say(room, body, type='groupchat')
    for listener in listeners:
        listener.expect('message', body=body, type='groupchat', from_=room)
