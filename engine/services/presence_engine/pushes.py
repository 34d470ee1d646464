"""Committed contact list changes: into memory, to the clients, and what they mean for presence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from engine.features import registry
from engine.filters import ask
from engine.services.presence_engine import elsewhere, visibility
from engine.store.rosters import BOTH, FROM, NONE, TO, Item
from engine.xmpp import ns
from engine.xmpp.stanza import escape

if TYPE_CHECKING:
    from engine.services.presence_engine.engine import PresenceEngine

_SUBSCRIPTION = {0: 'none', TO: 'to', FROM: 'from', BOTH: 'both'}


def item_xml(item: Item) -> str:
    """The <item/> of a roster result or push."""
    attributes = f"jid='{escape(item.jid)}' subscription='{_SUBSCRIPTION[item.subscription]}'"
    if item.name:
        attributes += f" name='{escape(item.name)}'"
    if item.ask:
        attributes += " ask='subscribe'"
    if item.approved:
        attributes += " approved='true'"
    if not item.groups:
        return f'<item {attributes}/>'
    groups = ''.join(f'<group>{escape(group)}</group>' for group in item.groups)
    return f'<item {attributes}>{groups}</item>'


def apply(
    engine: PresenceEngine, user_id: int, version: int, changes: Mapping[str, Item | None], always: bool = False
) -> None:
    """Entries of one list are now as in ``changes`` (None: deleted) and the list has ``version``.

    Pushes what clients see differently (``always``: even when nothing differs), then tells or withdraws presence
    where a subscription to the user began or ended. The caller holds the list (``PresenceEngine.owners``).
    """
    person = engine.by_id.get(user_id)
    if person is None or person.items is None:
        return
    known = version == person.version + 1
    for jid, new in changes.items():
        old = person.items.get(jid)
        person.put(jid, new)
        if new is None or not new.pending_in:
            person.requests.pop(jid, None)
        _push(engine, person.bare, version, jid, old, new, always)
        before = bool(old and old.subscription & FROM)
        after = bool(new and new.subscription & FROM)
        if before != after:
            visibility.grant(engine, person.bare, jid, visible=after)
        was, now = old.subscription if old else NONE, new.subscription if new else NONE
        elsewhere.changed(engine, person, jid, new is not None, was, now)
        if was != now:
            registry.subscription_changed.fire(engine.router, person.bare, jid)
    if known:
        person.version = version


def _push(
    engine: PresenceEngine, bare: str, version: int, jid: str, old: Item | None, new: Item | None, always: bool
) -> None:
    was = item_xml(old) if old is not None and old.visible else ''
    now = item_xml(new) if new is not None and new.visible else ''
    if was == now and not (always and now):
        return
    item = now or f"<item jid='{escape(jid)}' subscription='remove'/>"
    body = f"<query xmlns='{ns.ROSTER}' ver='{version}'>{item}</query></iq>"
    for session in engine.router.sessions_of(bare):
        if session.interested:
            push = f"<iq type='set' id='push-{version}' to='{escape(session.jid)}'>{body}".encode()
            engine.node.counters.roster_pushes += ask(session, bare, push)
