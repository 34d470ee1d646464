"""Two users do anything with their contact lists; after each step both halves are where the tables of RFC 6121 appendix
A put them. The tables are written down here once more; the engine's two ways (both users here; each on a server of its
own) must agree with them and with each other.

Beyond the RFC, a user approves whom he has in his contact list (guide 8613); the tables say so in one line.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

import engine.services.xcp_router  # noqa: F401 - the two packages need each other; this order works
from engine.services.presence_engine import halves, subscriptions
from engine.services.presence_engine.subscriptions import Kind, Rules, Side
from engine.store.rosters import FROM, TO, Counts, Item
from tests.areas.xmpp_fixtures import address, configure, sign_in
from tests.proves import proves
from tests.xmppclient import XmppClient

__all__ = ['sign_in']

RULES = Rules(auto_approve=False, max_contacts=None, max_watchers=None)
KINDS: tuple[Kind, ...] = ('subscribe', 'subscribed', 'unsubscribe', 'unsubscribed')
Action = Literal['subscribe', 'subscribed', 'unsubscribe', 'unsubscribed', 'add', 'remove']
ACTIONS: tuple[Action, ...] = (*KINDS, 'add', 'remove')
NAMES = ('romeo', 'juliet')


@dataclass(frozen=True)
class State:
    """One user's half: 'to' and 'from', requests out and in, approved in advance, in the contact list."""

    to: bool = False
    from_: bool = False
    out: bool = False
    in_: bool = False
    approved: bool = False
    contact: bool = False


def outbound(state: State, kind: Kind) -> tuple[State, bool]:
    """A.2: (new state, whether the stanza goes on to the other user)."""
    if kind == 'subscribe':
        return replace(state, contact=True, out=not state.to), True
    if kind == 'unsubscribe':
        return replace(state, to=False, out=False), True
    if kind == 'subscribed':
        if state.in_:
            return replace(state, from_=True, in_=False, approved=False), True
        return (state, False) if state.from_ else (replace(state, approved=True), False)
    return replace(state, from_=False, in_=False, approved=False), state.from_ or state.in_


def inbound(state: State, kind: Kind) -> tuple[State, Kind | None]:
    """A.3: (new state, what the server answers by itself)."""
    if kind == 'subscribe':
        if state.from_:
            return state, 'subscribed'
        if state.approved or state.contact:
            return replace(state, from_=True, in_=False, approved=False), 'subscribed'
        return replace(state, in_=True), None
    if kind == 'unsubscribe':
        return replace(state, from_=False, in_=False), None
    if kind == 'subscribed':
        return (replace(state, to=True, out=False), None) if state.out else (state, None)
    return replace(state, to=False, out=False), None


class Model:
    """Both halves by the tables."""

    def __init__(self) -> None:
        self.states = [State(), State()]

    def act(self, who: int, action: Action) -> None:
        """``who`` does ``action`` to the other one."""
        state = self.states[who]
        if action == 'add':
            self.states[who] = replace(state, contact=True)
        elif action == 'remove':
            if state.contact or state.to or state.from_ or state.out or state.approved:
                self.states[who] = State()
                for kind in ('unsubscribe', 'unsubscribed'):
                    self._arrive(1 - who, cast(Kind, kind))
        else:
            self.states[who], routed = outbound(state, action)
            if routed:
                self._arrive(1 - who, action)

    def _arrive(self, who: int, kind: Kind) -> None:
        self.states[who], answer = inbound(self.states[who], kind)
        if answer is not None:
            self._arrive(1 - who, answer)


def state_of(item: Item | None) -> State:
    """An entry as the tables see it."""
    if item is None:
        return State()
    sub = item.subscription
    return State(bool(sub & TO), bool(sub & FROM), item.ask, item.pending_in, item.approved, item.is_contact)


def side(who: int, item: Item | None) -> Side:
    return Side(NAMES[who], item, Counts(0, 0, None))


class Here:
    """The engine's way for two users of this cluster."""

    def __init__(self) -> None:
        self.items: list[Item | None] = [None, None]

    def act(self, who: int, action: Action) -> None:
        mine, theirs = self.items[who], self.items[1 - who]
        if action == 'add':
            self.items[who] = (mine or Item(NAMES[1 - who]))._replace(is_contact=True)
        elif action == 'remove':
            if mine is not None and mine.visible:
                self.items[who] = None
                self.items[1 - who] = subscriptions.remove(theirs).theirs
        else:
            outcome = subscriptions.decide(action, side(who, mine), side(1 - who, theirs), NAMES[1 - who], RULES)
            self.items[who], self.items[1 - who] = outcome.mine, outcome.theirs


class Apart(Here):
    """The engine's way for users of two servers."""

    def act(self, who: int, action: Action) -> None:
        mine = self.items[who]
        if action == 'add':
            super().act(who, action)
        elif action == 'remove':
            if mine is not None and mine.visible:
                self.items[who] = None
                for kind in halves.removed(mine):
                    self._arrive(1 - who, kind)
        else:
            outcome = halves.outbound(action, side(who, mine), NAMES[1 - who], RULES, crowded=False)
            self.items[who] = outcome.mine
            for kind in outcome.to_them:
                self._arrive(1 - who, kind)

    def _arrive(self, who: int, kind: Kind) -> None:
        outcome = halves.inbound(kind, side(who, self.items[who]), NAMES[1 - who], RULES, crowded=False)
        self.items[who] = outcome.mine
        for answer in outcome.to_them:
            self._arrive(1 - who, answer)


class Subscriptions(RuleBasedStateMachine):
    """Random steps of either user."""

    def __init__(self) -> None:
        super().__init__()
        self.model, self.here, self.apart = Model(), Here(), Apart()

    @rule(who=st.integers(0, 1), action=st.sampled_from(ACTIONS))
    def step(self, who: int, action: Action) -> None:
        for one in (self.model, self.here, self.apart):
            one.act(who, action)

    @invariant()
    def agree(self) -> None:
        for way in (self.here, self.apart):
            assert [state_of(item) for item in way.items] == self.model.states, type(way).__name__
        romeo, juliet = self.model.states
        for one, other in ((romeo, juliet), (juliet, romeo)):
            assert one.to == other.from_
            assert one.out == other.in_
            assert not (one.to and one.out)


TestSubscriptions = Subscriptions.TestCase
TestSubscriptions.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)


@proves('XMP-02')
@pytest.mark.parametrize('seed', [5])
def test_real_clients_walk_the_tables(sign_in: Any, seed: int) -> None:
    """The same with two clients over TLS: what their contact lists show after every step is what the tables say."""
    configure(presence={'auto_approve': False})
    chance = random.Random(seed)
    clients: list[XmppClient] = [sign_in(name) for name in NAMES]
    model = Model()
    seen = set()
    for number in range(120):
        who, action = chance.randrange(2), chance.choices(ACTIONS, (3, 2, 1, 2, 1, 4))[0]
        client, other = clients[who], address(NAMES[1 - who])
        model.act(who, action)
        if action == 'add':
            assert client.add_contact(other) is None
        elif action == 'remove':
            client.remove_contact(other)
        else:
            client.presence(action, to=other)
        client.roster()  # answered after what the client did
        clients[1 - who].roster()
        for index, mine in enumerate(clients):
            state = model.states[index]
            shown = mine.contacts.get(address(NAMES[1 - index]))
            word = {(False, False): 'none', (True, False): 'to', (False, True): 'from', (True, True): 'both'}
            visible = state.contact or state.to or state.from_ or state.out or state.approved
            expected = (word[state.to, state.from_], state.out, state.approved) if visible else None
            found = (shown['subscription'], shown['ask'], shown['approved']) if shown else None
            assert found == expected, (number, NAMES[who], action, NAMES[index], state)
            seen.add((state.to, state.from_, state.out, state.in_))
    assert len(seen) >= 8, seen
