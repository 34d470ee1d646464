"""What a client here was shown of users it looks at for a while (presence_engine/adhoc.py), wherever they are.

A client that ends such a look and begins it again within ``AGAIN_S`` is answered with what it saw last, and no
subscription begins (guide 2374: after removing a search one waits 30 seconds, else the state is stale). So nobody can
make the nodes work by ending and beginning it all the time.

Cost: one test for presence from other nodes while nobody looks at anybody.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from time import monotonic
from typing import TYPE_CHECKING, Final

from engine.xmpp.stanza import escape, split_to

if TYPE_CHECKING:
    from engine.services.presence_engine.visibility import Presence
    from engine.session import Session

AGAIN_S: Final = 30.0
MOST: Final = 10_000
"""Users one client looks at, and ended looks of all, that are remembered."""
_FROM: Final = re.compile(rb"""\sfrom\s*=\s*(['"])(.*?)\1""")
_TYPE: Final = re.compile(rb"""\stype\s*=\s*['"]""")
Shown = dict[bytes, 'Presence']


class Searches:
    """``_shown``: session -> user looked at -> full JID as it is written -> presence. ``_ended``: (user who looked,
    user looked at) -> until when, and what was shown."""

    def __init__(self) -> None:
        self._shown: dict[Session, dict[str, Shown]] = {}
        self._ended: OrderedDict[tuple[str, str], tuple[float, Shown]] = OrderedDict()

    def begin(self, session: Session, bare: str) -> bool:
        """The client asks. False: it is too early, and was answered."""
        ended = self._ended.get((session.bare, bare))
        if ended is not None and monotonic() < ended[0]:
            address = escape(session.jid).encode()
            for head, tail in ended[1].values():
                session.send(head + address + tail)
            if not ended[1]:
                session.send(f"<presence from='{escape(bare)}' type='unavailable' to='".encode() + address + b"'/>")
            return False
        looks = self._shown.setdefault(session, {})
        if len(looks) < MOST:
            looks.setdefault(bare, {})
        return True

    def saw(self, session: Session, data: bytes) -> None:
        """The client is sent this presence of somebody."""
        looks = self._shown.get(session)
        if not looks:
            return
        tag = data[: data.find(b'>') + 1]
        sender = _FROM.search(tag)
        shown = looks.get(sender.group(2).partition(b'/')[0].decode()) if sender is not None else None
        if shown is None or sender is None:
            return
        if _TYPE.search(tag) is None:
            shown[sender.group(2)] = split_to(data)
        elif sender.group(2).find(b'/') > 0:
            shown.pop(sender.group(2), None)
        else:
            shown.clear()

    def end(self, session: Session, bare: str) -> None:
        """The client is no longer interested."""
        shown = self._shown.get(session, {}).pop(bare, None)
        if shown is None:
            return
        self._ended[session.bare, bare] = monotonic() + AGAIN_S, shown
        self._ended.move_to_end((session.bare, bare))
        while len(self._ended) > MOST or next(iter(self._ended.values()))[0] < monotonic():
            self._ended.popitem(last=False)

    def forget(self, session: Session) -> None:
        """The session has ended."""
        for bare in list(self._shown.get(session, ())):
            self.end(session, bare)
        self._shown.pop(session, None)

    def clear(self) -> None:
        """The service stops."""
        self._shown.clear()
        self._ended.clear()

    @property
    def busy(self) -> bool:
        """Whether anybody looks at anybody."""
        return bool(self._shown)
