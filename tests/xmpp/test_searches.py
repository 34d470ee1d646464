"""Temporary looks at somebody, without a network: what is remembered, and for how long (guide 2374)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from engine import searches
from engine.searches import AGAIN_S, Searches
from tests.proves import proves

BOB = b"<presence from='bob@example.com/%b'%b to='alice@example.com/r'/>"


class Alice(SimpleNamespace):
    """A session, as far as it is of interest."""

    bare, jid = 'alice@example.com', 'alice@example.com/r'

    def __init__(self) -> None:
        super().__init__(sent=[])

    def send(self, data: bytes) -> None:
        """What the client gets."""
        self.sent.append(data)

    __hash__ = object.__hash__


@proves('HA-75')
def test_a_look_begun_again_too_early_shows_what_was_seen_last(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(searches, 'monotonic', lambda: now)
    looks, alice = Searches(), Alice()
    session: Any = alice
    assert looks.begin(session, 'bob@example.com')
    for resource, kind in ((b'a', b''), (b'b', b''), (b'b', b" type='unavailable'")):
        looks.saw(session, BOB % (resource, kind))
    looks.saw(session, BOB.replace(b'bob', b'carol') % (b'c', b''))
    looks.end(session, 'bob@example.com')
    now += AGAIN_S - 1
    assert not looks.begin(session, 'bob@example.com')
    assert alice.sent == [b"<presence to='alice@example.com/r' from='bob@example.com/a'/>"]
    now += 1
    assert looks.begin(session, 'bob@example.com')
    looks.forget(session)
    assert not looks.busy
    assert not looks.begin(session, 'bob@example.com')
    assert b"from='bob@example.com' type='unavailable'" in alice.sent[-1]
