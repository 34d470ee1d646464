"""What another node says, done here."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, cast

import structlog

from engine.cluster import frames
from engine.cluster.links import Awaited
from engine.delivery import NOW
from engine.services.presence_engine import elsewhere, pushes, visibility
from engine.services.xcp_router import chat
from engine.services.xcp_router.remote import NodeSender
from engine.store.rosters import TO
from engine.xmpp.stanza import Stanza, parse

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.cluster.frames import Frame
    from engine.cluster.link import Link
    from engine.cluster.links import Links, Underway
    from engine.cluster.nodes import Nodes
    from engine.services.presence_engine.engine import PresenceEngine
    from engine.services.xcp_router.router import XcpRouter

log = structlog.get_logger(__name__)


def take(nodes: Nodes, link: Link, frame: Frame) -> None:
    """One numbered frame of another node. Never raises."""
    try:
        if isinstance(frame, frames.Routed):
            stanza = Stanza(frame.name, frame.attrs, frame.raw)
            if frame.number:
                awaited(nodes, link, frame.number, partial(_route, nodes, link, stanza))
            else:
                _route(nodes, link, stanza)
        elif isinstance(frame, frames.Decided):
            decided(link, frame)
        else:
            _take(nodes, link, frame)
    except Exception:
        log.exception('frame failed', node=link.other, kind=type(frame).__name__)


def _take(nodes: Nodes, link: Link, frame: Frame) -> None:
    router = nodes.router
    if isinstance(frame, frames.Raw):
        _route(nodes, link, parse(frame.raw))
    elif isinstance(frame, frames.Online):
        nodes.appeared(link, frame.users, frame.all)
        if frame.all and (engine := router.presence_engine()) is not None:
            _ask(nodes, engine, link)
    elif isinstance(frame, frames.Offline):
        if nodes.where.get(frame.user) is link:
            del nodes.where[frame.user]
        if (engine := router.presence_engine()) is not None:
            engine.adhoc.left(frame.user)
    elif isinstance(frame, frames.Stored):
        waiting(router, frame.user)
    elif isinstance(frame, frames.Standby):
        router.dual.standby(link, frame.client, frame.on)
    elif isinstance(frame, frames.Serving):
        nodes.serving[link] = set(frame.homes)
    elif isinstance(frame, frames.Mirror):
        router.dual.state[frame.client] = frame
    elif isinstance(frame, frames.Copy):
        if not chat.give(router, frame.to, frame.raw):
            link.put(frames.Missing(frame.to))
    elif isinstance(frame, frames.Missing):
        router.chat.missing(frame.client)
    elif isinstance(frame, frames.Hosting):
        router.chat.announced(link, frame.aliases)
    elif (engine := router.presence_engine()) is not None:
        _presence(nodes, engine, link, frame)


def waiting(router: XcpRouter, bare: str) -> None:
    """A message was stored for a user who is signed in here by now."""
    for session in router.sessions_of(bare):
        if session.priority is not None and session.priority >= 0:
            router.offline.deliver(session)
            break


def _route(nodes: Nodes, link: Link, stanza: Stanza) -> None:
    nodes.node.counters.nodes_in += 1
    nodes.router.receive(NodeSender(nodes.peers[link.other], stanza), stanza)


def decided(link: Link, frame: frames.Decided) -> None:
    """What became of messages that were sent over the link is certain."""
    for number in frame.numbers:
        if (underway := link.open.pop(number, None)) is not None:
            cast('Underway', underway).decided()


def awaited(links: Links, link: Link, number: int, route: Callable[[], None]) -> None:
    """Route a message whose sender has stream management: the other end hears when it is decided."""
    waits, peer = Awaited(links, link, number), links.peers[link.other]
    before = peer.unstored
    NOW.asker = waits
    try:
        route()
    finally:
        NOW.asker = None
    if peer.unstored > before:
        links.router.writer.after(waits.settled)
    else:
        waits.settled()


def _presence(nodes: Nodes, engine: PresenceEngine, link: Link, frame: Frame) -> None:
    if isinstance(frame, frames.Presence):
        left = nodes.where.get(frame.sender.partition('/')[0]) is not link
        if frame.available and not left:
            nodes.router.dual.goes_on(frame.sender)
        if not (left and frame.available):  # a node that he has left cannot know
            presence = (frame.head, frame.tail)
            elsewhere.arrived(engine, frame.sender, presence, frame.available, frame.watchers, left)
    elif isinstance(frame, frames.Probe):
        for bare in frame.contacts:
            elsewhere.show(
                engine, frame.watcher, bare,
                lambda sender, presence: nodes.show(link, sender, presence, [frame.watcher]),
            )  # fmt: skip
    elif isinstance(frame, frames.Deliver):
        if frame.bare in engine.router.accounts:
            visibility.deliver(engine, frame.sender, frame.bare, frame.raw, frame.interested)
    elif isinstance(frame, frames.Roster):
        _roster(engine, frame)


def _roster(engine: PresenceEngine, frame: frames.Roster) -> None:
    """Versions say where the change belongs: the next one is applied, an older one is there already, and before a later
    one something is missing."""
    person = engine.by_id.get(frame.user_id)
    if person is None or person.items is None or frame.version <= person.version:
        return
    if frame.version != person.version + 1:
        engine.reload_soon(frame.user_id)
        return
    if frame.request and frame.item is not None and frame.item.pending_in:
        person.requests[frame.jid] = frame.request
    pushes.apply(engine, frame.user_id, frame.version, {frame.jid: frame.item})


def _ask(nodes: Nodes, engine: PresenceEngine, link: Link) -> None:
    """A node is there (again): the users here want to know the presence of their contacts at it."""
    for person in list(engine.people.values()):
        if person.seen is None or person.items is None:
            continue
        there = [jid for jid, item in person.items.items() if item.subscription & TO and nodes.where.get(jid) is link]
        if there:
            link.put(frames.Probe(person.bare, there))


def vanished(engine: PresenceEngine, users: set[str]) -> None:
    """A node is gone, and with it these users: whoever sees them is told."""
    for person in list(engine.people.values()):
        if person.seen:
            for jid in users.intersection(person.seen):
                elsewhere.left_behind(engine, person, jid)
