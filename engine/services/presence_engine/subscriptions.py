"""The subscription state machine of RFC 6121 appendix A, both sides at once, as pure functions.

A local subscription has two halves: the entry of the user who sends (``mine``) and the entry of the addressee
(``theirs``). One stanza changes both in one step, so they can never disagree.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from engine.store.rosters import FROM, TO, Counts, Item

Kind = Literal['subscribe', 'subscribed', 'unsubscribe', 'unsubscribed']


class Rules(NamedTuple):
    """Presence settings in force. Limits: None means none."""

    auto_approve: bool
    max_contacts: int | None
    max_watchers: int | None


class Side(NamedTuple):
    """One user: address, entry for the other one (or None), counters."""

    bare: str
    item: Item | None
    counts: Counts


class Outcome(NamedTuple):
    """What is to be written and sent. ``mine``/``theirs`` None: no entry. ``to_me``/``to_them``: presence types to
    deliver. ``error``: stanza error condition and text for the sender."""

    mine: Item | None
    theirs: Item | None
    to_me: Kind | None = None
    to_them: tuple[Kind, ...] = ()
    error: tuple[str, str] | None = None


def contact_limit_text(limit: int | None) -> str:
    """The words for a full contact list."""
    return f'The contact list is full: {limit} contacts is the maximum.'


def full(counts: Counts, rules: Rules) -> bool:
    """Whether a contact list is at its limit."""
    return rules.max_contacts is not None and counts.contacts >= rules.max_contacts


def watched_enough(counts: Counts, rules: Rules) -> bool:
    """Whether a user has the maximum of watchers."""
    return rules.max_watchers is not None and counts.watchers >= rules.max_watchers


def kept(item: Item | None) -> Item | None:
    """``item``, or None when nothing is left in it that is worth a row."""
    return None if item is None or item.empty else item


def decide(kind: Kind, me: Side, them: Side | None, jid: str, rules: Rules) -> Outcome:
    """The effect of a subscription stanza from ``me`` to ``jid``; ``them`` is None when there is no such live user."""
    if kind == 'subscribe':
        return _subscribe(me, them, jid, rules)
    if kind == 'unsubscribe':
        return _unsubscribe(me, them)
    if kind == 'subscribed':
        return _subscribed(me, them, jid, rules)
    return _unsubscribed(me, them)


def _subscribe(me: Side, them: Side | None, jid: str, rules: Rules) -> Outcome:
    theirs = them.item if them else None
    if not (me.item and me.item.is_contact) and full(me.counts, rules):
        return Outcome(me.item, theirs, error=('policy-violation', contact_limit_text(rules.max_contacts)))
    if them is None:
        # like a refusal, so that nobody learns which addresses exist
        mine = me.item._replace(ask=False, subscription=me.item.subscription & ~TO) if me.item else None
        return Outcome(mine, None, to_me='unsubscribed')
    mine = (me.item or Item(jid))._replace(is_contact=True)
    granted = mine._replace(subscription=mine.subscription | TO, ask=False)
    if theirs is not None and theirs.subscription & FROM:
        return Outcome(granted, theirs, to_me=None if mine.subscription & TO else 'subscribed')
    knows = theirs is not None and theirs.is_contact
    if watched_enough(them.counts, rules) or (not knows and full(them.counts, rules)):
        refused = mine._replace(subscription=mine.subscription & ~TO, ask=False)
        return Outcome(refused, theirs, to_me='unsubscribed')
    entry = theirs or Item(me.bare, is_contact=False)
    automatic = rules.auto_approve if them.counts.automatic is None else them.counts.automatic
    if knows or automatic or entry.approved:
        entry = entry._replace(subscription=entry.subscription | FROM, pending_in=False, approved=False)
        return Outcome(granted, entry, to_me='subscribed')
    asking = mine._replace(ask=True, subscription=mine.subscription & ~TO)
    if entry.pending_in:
        return Outcome(asking, entry)
    return Outcome(asking, entry._replace(pending_in=True), to_them=('subscribe',))


def _unsubscribe(me: Side, them: Side | None) -> Outcome:
    mine = me.item._replace(ask=False, subscription=me.item.subscription & ~TO) if me.item else None
    theirs = them.item if them else None
    if theirs is None or not (theirs.subscription & FROM or theirs.pending_in):
        return Outcome(kept(mine), theirs)
    theirs = theirs._replace(subscription=theirs.subscription & ~FROM, pending_in=False)
    return Outcome(kept(mine), kept(theirs), to_them=('unsubscribe',))


def _subscribed(me: Side, them: Side | None, jid: str, rules: Rules) -> Outcome:
    theirs = them.item if them else None
    mine = me.item or Item(jid, is_contact=False)
    if mine.subscription & FROM:
        return Outcome(me.item, theirs)
    if not mine.pending_in:
        return Outcome(mine._replace(approved=True), theirs)
    if watched_enough(me.counts, rules):
        text = f'{rules.max_watchers} users see your availability already, which is the maximum.'
        return Outcome(me.item, theirs, error=('policy-violation', text))
    mine = mine._replace(subscription=mine.subscription | FROM, pending_in=False, approved=False)
    if theirs is None or not theirs.ask:
        return Outcome(mine, theirs)
    theirs = theirs._replace(subscription=theirs.subscription | TO, ask=False)
    return Outcome(mine, theirs, to_them=('subscribed',))


def _unsubscribed(me: Side, them: Side | None) -> Outcome:
    theirs = them.item if them else None
    if me.item is None:
        return Outcome(None, theirs)
    told = bool(me.item.pending_in or me.item.subscription & FROM)
    mine = me.item._replace(subscription=me.item.subscription & ~FROM, pending_in=False, approved=False)
    if not told or theirs is None or not (theirs.ask or theirs.subscription & TO):
        return Outcome(kept(mine), theirs)
    theirs = theirs._replace(subscription=theirs.subscription & ~TO, ask=False)
    return Outcome(kept(mine), kept(theirs), to_them=('unsubscribed',))


def unheard(kind: Kind, me: Side, theirs: Item | None, jid: str, outcome: Outcome) -> Outcome:
    """``outcome`` when the addressee blocks the sender: nothing reaches him and nothing answers (XEP-0191 3.2). A new
    request waits until he does not block any more, also when requests are approved automatically."""
    if kind != 'subscribe' or outcome.error or (theirs is not None and theirs.subscription & FROM):
        return outcome._replace(to_them=())
    mine = (me.item or Item(jid))._replace(is_contact=True)
    mine = mine._replace(ask=True, subscription=mine.subscription & ~TO)
    return Outcome(mine, (theirs or Item(me.bare, is_contact=False))._replace(pending_in=True))


def remove(theirs: Item | None) -> Outcome:
    """The effect of deleting an entry on the other side's (RFC 6121 2.5.2): both directions end."""
    if theirs is None:
        return Outcome(None, None)
    kinds: list[Kind] = []
    if theirs.subscription & FROM or theirs.pending_in:
        kinds.append('unsubscribe')
    if theirs.subscription & TO or theirs.ask:
        kinds.append('unsubscribed')
    new = theirs._replace(subscription=0, pending_in=False, ask=False)
    return Outcome(None, kept(new), to_them=tuple(kinds))
