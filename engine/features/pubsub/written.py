"""Items of personal nodes that were written from outside the engine: who is interested hears of the newest one.

Nothing of nodes is kept in memory (docs/decisions/0013), so whoever asks gets what is stored without this; every node
of the cluster tells the clients that are signed in there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.features.pubsub.interests import later
from engine.features.pubsub.place import interests
from engine.store import pubsub as store
from engine.store.pool import Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.services.xcp_router.router import XcpRouter
    from engine.session import Session


async def tell(router: XcpRouter, owners: list[int], name: str) -> None:
    """The newest item of the node ``name`` of these accounts, to their own clients and those of whoever sees them."""
    watching = {bare for bare, account in router.accounts.items() if _interested(account.sessions.values(), name)}
    if not watching:
        return
    try:
        pairs = await store.watched(router.node.store, owners, sorted(watching))
    except Unavailable:
        return  # they get it when they ask
    for owner, watcher in pairs:
        for session in router.sessions_of(watcher):
            if name in interests(session):
                later(router, session, frozenset((name,)), owner)


def _interested(sessions: Iterable[Session], name: str) -> bool:
    return any(session.available and name in interests(session) for session in sessions)
