"""Subscriptions whose other side is on another server: RFC 6121 appendix A for one half alone, as pure functions.

The user here is ``me`` in both directions. What an Outcome has in ``to_them`` travels to the other server, what it has
in ``to_me`` is delivered to the user's own clients; ``theirs`` is always None.
"""

from __future__ import annotations

from engine.services.presence_engine.subscriptions import (
    Kind,
    Outcome,
    Rules,
    Side,
    contact_limit_text,
    full,
    kept,
    watched_enough,
)  # fmt: skip
from engine.store.rosters import FROM, TO, Item

WAITING_TEXT = 'There are too many addresses that wait for an approval or have one in advance.'


def outbound(kind: Kind, me: Side, jid: str, rules: Rules, crowded: bool) -> Outcome:
    """The user sends a subscription stanza to ``jid`` (A.2). ``crowded``: no further entry that is no contact."""
    mine = me.item
    if kind == 'subscribe':
        if not (mine and mine.is_contact) and full(me.counts, rules):
            return Outcome(mine, None, error=('policy-violation', contact_limit_text(rules.max_contacts)))
        entry = (mine or Item(jid))._replace(is_contact=True)
        return Outcome(entry if entry.subscription & TO else entry._replace(ask=True), None, to_them=('subscribe',))
    if kind == 'unsubscribe':
        new = mine._replace(ask=False, subscription=mine.subscription & ~TO) if mine else None
        return Outcome(kept(new), None, to_them=('unsubscribe',))
    if kind == 'subscribed':
        return _subscribed(me, jid, rules, crowded)
    if mine is None:
        return Outcome(None, None)
    new = mine._replace(subscription=mine.subscription & ~FROM, pending_in=False, approved=False)
    told = mine.pending_in or mine.subscription & FROM
    return Outcome(kept(new), None, to_them=('unsubscribed',) if told else ())


def _subscribed(me: Side, jid: str, rules: Rules, crowded: bool) -> Outcome:
    mine = me.item or Item(jid, is_contact=False)
    if mine.subscription & FROM:
        return Outcome(mine, None)
    if not mine.pending_in:
        if me.item is None and crowded:
            return Outcome(None, None, error=('policy-violation', WAITING_TEXT))
        return Outcome(mine._replace(approved=True), None)
    if watched_enough(me.counts, rules):
        text = f'{rules.max_watchers} users see your availability already, which is the maximum.'
        return Outcome(mine, None, error=('policy-violation', text))
    new = mine._replace(subscription=mine.subscription | FROM, pending_in=False, approved=False)
    return Outcome(new, None, to_them=('subscribed',))


def inbound(kind: Kind, me: Side, jid: str, rules: Rules, crowded: bool, colleague: bool = False) -> Outcome:
    """A subscription stanza of ``jid`` arrives for the user (A.3).

    A request is approved without a question when the user has ``jid`` in the contact list, approved it in advance, or
    wants requests approved automatically; the cluster's setting is for users of the cluster and of its peers (EU-10),
    who are a ``colleague``.
    """
    mine = me.item
    if kind == 'subscribe':
        return _asked(me, jid, rules, crowded, colleague)
    if mine is None:
        return Outcome(None, None)
    if kind == 'unsubscribe':
        if not (mine.subscription & FROM or mine.pending_in):
            return Outcome(mine, None)
        new = mine._replace(subscription=mine.subscription & ~FROM, pending_in=False)
        return Outcome(kept(new), None, to_me='unsubscribe')
    if kind == 'subscribed':
        if not mine.ask:
            return Outcome(mine, None)
        return Outcome(mine._replace(subscription=mine.subscription | TO, ask=False), None, to_me='subscribed')
    if not (mine.ask or mine.subscription & TO):
        return Outcome(mine, None)
    new = mine._replace(subscription=mine.subscription & ~TO, ask=False)
    return Outcome(kept(new), None, to_me='unsubscribed')


def _asked(me: Side, jid: str, rules: Rules, crowded: bool, colleague: bool) -> Outcome:
    mine = me.item
    if mine is not None and mine.subscription & FROM:
        return Outcome(mine, None, to_them=('subscribed',))
    knows = mine is not None and mine.is_contact
    if watched_enough(me.counts, rules) or (not knows and full(me.counts, rules)):
        return Outcome(mine, None, to_them=('unsubscribed',))
    entry = mine or Item(jid, is_contact=False)
    automatic = colleague and rules.auto_approve if me.counts.automatic is None else me.counts.automatic
    if knows or automatic or entry.approved:
        entry = entry._replace(subscription=entry.subscription | FROM, pending_in=False, approved=False)
        return Outcome(entry, None, to_them=('subscribed',))
    if entry.pending_in:
        return Outcome(entry, None)
    if mine is None and crowded:
        return Outcome(None, None, to_them=('unsubscribed',))
    return Outcome(entry._replace(pending_in=True), None, to_me='subscribe')


def removed(mine: Item | None) -> tuple[Kind, ...]:
    """What the other server is told when the user deletes an entry (RFC 6121 2.5.2)."""
    kinds: list[Kind] = []
    if mine is not None and (mine.subscription & TO or mine.ask):
        kinds.append('unsubscribe')
    if mine is not None and (mine.subscription & FROM or mine.pending_in):
        kinds.append('unsubscribed')
    return tuple(kinds)
