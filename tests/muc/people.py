"""Clients of a ``Rooms``: what each one is sent, as trees, and what it must conclude from it."""

from __future__ import annotations

from collections import defaultdict
from itertools import count
from xml.etree.ElementTree import Element

from engine.contract.chat import RoomSettings
from engine.muc.rooms import Rooms
from engine.xmpp import ns
from engine.xmpp.stanza import escape, parse, parse_tree, quote, with_attributes

ROOM = 'coven@chat.example.com'
ENTER = f"<presence><x xmlns='{ns.MUC}'/></presence>"
LEAVE = "<presence type='unavailable'/>"
NS = {'c': ns.CLIENT, 'u': ns.MUC_USER, 'a': ns.MUC_ADMIN, 'd': ns.DATA_FORMS, 'e': ns.STANZA_ERRORS, 's': ns.STANZA_ID}


def codes(stanza: Element) -> set[int]:
    """The status codes of a stanza."""
    return {int(found.get('code', '')) for found in stanza.findall('u:x/u:status', NS)}


def condition(stanza: Element) -> str:
    """The error condition of a stanza, '' when it is none."""
    found = stanza.find('c:error', NS)
    return found[0].tag.partition('}')[2] if found is not None else ''


class Chat:
    """A chat node and everybody who talks to it. ``got`` holds what each full JID was sent in the last step."""

    def __init__(self, **settings: object) -> None:
        numbers = count()
        self.rooms = Rooms(RoomSettings(**settings), lambda: f'token{next(numbers)}')  # type: ignore[arg-type]
        self.now = 1_700_000_000.0
        self.got: dict[str, list[Element]] = {}
        self.raw: list[tuple[str, bytes]] = []

    def take(self, out: list[tuple[str, bytes]]) -> None:
        """Deliver what the machine answered."""
        self.raw = out
        self.got = defaultdict(list)
        for to, raw in out:
            tree = parse_tree(raw)
            assert tree.get('to') == to, (to, raw)
            assert tree.get('from'), raw
            assert tree.find('u:x/u:item', NS) is None or tree.tag.endswith('presence')
            self.got[to].append(tree)

    def say(self, who: str, to: str, xml: str) -> list[Element]:
        """One client sends one stanza; what comes back to that client."""
        raw = with_attributes(xml.encode(), {'from': who, 'to': to})
        self.now += 1
        self.take(self.rooms.receive(who, to, parse(raw), self.now))
        return self.got[who]

    def enter(self, who: str, nick: str = '', inside: str = '', room: str = ROOM) -> list[Element]:
        """Enter a room; ``inside`` is the content of <x/>."""
        nick = nick or who.partition('@')[0]
        return self.say(who, f'{room}/{nick}', f"<presence id='in'><x xmlns='{ns.MUC}'>{inside}</x></presence>")

    def speak(self, who: str, text: str = 'hello', room: str = ROOM) -> list[Element]:
        """Say something to everybody."""
        return self.say(who, room, f"<message type='groupchat' id='m'><body>{escape(text)}</body></message>")

    def iq(self, who: str, kind: str, namespace: str, inside: str = '', to: str = ROOM) -> Element:
        """Ask something of the service or a room: the answer."""
        got = self.say(who, to, f"<iq type='{kind}' id='q'><query xmlns='{namespace}'>{inside}</query></iq>")
        answer = [stanza for stanza in got if stanza.tag.endswith('iq')]
        assert len(answer) == 1, got
        assert answer[0].get('id') == 'q'
        return answer[0]

    def configure(self, who: str, room: str = ROOM, **fields: str) -> Element:
        """Submit the form of a room; the names of fields are those after '#', with roomconfig_ where it is usual."""
        entries = ''.join(
            f"<field var='{quote(_var(name))}'><value>{escape(value)}</value></field>" for name, value in fields.items()
        )
        return self.iq(who, 'set', ns.MUC_OWNER, f"<x xmlns='{ns.DATA_FORMS}' type='submit'>{entries}</x>", room)

    def fields(self, who: str) -> dict[str, str]:
        """The configuration form as its owner sees it: variable to value."""
        answer = self.iq(who, 'get', ns.MUC_OWNER)
        found = answer.findall('.//d:field', NS)
        return {field.get('var', ''): field.findtext('d:value', '', NS) for field in found}

    def admin(self, who: str, **attributes: str) -> Element:
        """Change one role or affiliation."""
        reason = attributes.pop('reason', '')
        given = ''.join(f" {name}='{quote(value)}'" for name, value in attributes.items())
        inside = f'<reason>{escape(reason)}</reason>' if reason else ''
        return self.iq(who, 'set', ns.MUC_ADMIN, f'<item{given}>{inside}</item>')

    def open(self, owner: str, *others: str, **fields: str) -> None:
        """A configured room with these people in it."""
        self.enter(owner)
        assert self.configure(owner, **fields).get('type') == 'result'
        for other in others:
            self.enter(other)


def _var(name: str) -> str:
    if name in ('selfmember', 'showabsent', 'gc1', 'stripxhtml'):
        return f'x-imp#{name}'
    return f'muc#{name}' if name == 'maxhistoryfetch' else f'muc#roomconfig_{name}'
