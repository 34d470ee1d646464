"""``python -m tests.load.rooms``: microseconds of the room machine for one copy of a message to 50 occupants."""

from __future__ import annotations

import time

from engine.contract.chat import RoomSettings
from engine.muc.rooms import Rooms
from engine.xmpp import ns
from engine.xmpp.stanza import Stanza, parse

ROOM = 'coven@conference-1-cluster.example.com'


def _stanza(who: str, to: str, kind: str, inside: str) -> Stanza:
    name, _, attributes = kind.partition(' ')
    return parse(f"<{name} {attributes} to='{to}' from='{who}'>{inside}</{name}>".encode())


def measure(occupants: int, messages: int = 5000) -> float:
    """CPU seconds for one message."""
    rooms = Rooms(RoomSettings(default_occupancy=occupants, max_users=occupants))
    people = [f'user{number}@example.com/desk' for number in range(occupants)]
    form = f"<query xmlns='{ns.MUC_OWNER}'><x xmlns='jabber:x:data' type='submit'/></query>"
    for number, who in enumerate(people):
        to = f'{ROOM}/User {number}'
        rooms.receive(who, to, _stanza(who, to, 'presence', f"<x xmlns='{ns.MUC}'/>"), 0.0)
        if not number:
            rooms.receive(who, ROOM, _stanza(who, ROOM, "iq type='set' id='1'", form), 0.0)
    words = '<body>Double, double toil and trouble; Fire burn and caldron bubble.</body>'
    said = _stanza(people[-1], ROOM, "message type='groupchat' id='m1'", words)
    begin = time.process_time()
    for number in range(messages):
        copies = rooms.receive(people[-1], ROOM, said, float(number))
    spent = (time.process_time() - begin) / messages
    assert len(copies) == occupants
    return spent


def main() -> None:
    """Print a line for each size of room."""
    for occupants in (2, 10, 50, 500):
        spent = min(measure(occupants, 200_000 // occupants // 4) for _ in range(3))
        print(f'{occupants:4} occupants: {spent * 1e6:7.1f} us a message, {spent / occupants * 1e6:5.2f} us a copy')


if __name__ == '__main__':
    main()
