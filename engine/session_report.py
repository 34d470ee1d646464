"""The node's part of the IM and Presence User Sessions Report (guide 7019-7049): who is signed in, on which devices."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from engine.contract.services import XCP_ROUTER
from engine.features.devices import device_of
from engine.store import session_report as store
from engine.store import status

if TYPE_CHECKING:
    from engine.node import Node


def listed(devices: Iterable[str]) -> str:
    """The device types of one user's clients: ``Desktop, iPhone (2)``."""
    kinds = sorted(devices)
    counted = {kind: kinds.count(kind) for kind in kinds}
    return ', '.join(f'{kind} ({count})' if count > 1 else kind for kind, count in counted.items())


async def write(node: Node, report: str) -> None:
    """Write this node's part. A router that does not run serves nobody. The subcluster of a node is its presence
    redundancy group; composed sessions are those of all users the node serves now."""
    router: Any = node.service(XCP_ROUTER)
    accounts = router.accounts.values() if router is not None else ()
    rows = [
        (
            account.user.user_id,
            account.user.bare,
            len(account.sessions),
            listed(device_of(session) for session in account.sessions.values()),
        )
        for account in accounts
        if account.sessions
    ]
    classes = router.capacity.sessions() if router is not None else (0, 0, 0)
    composed = sum((await status.assigned_users(node.store, node.ownership.served)).values())
    group = node.config.group_of(node.id)
    subcluster = group.name if group is not None else node.name
    await store.write(node.store, int(report), subcluster, node.name, rows, (composed, *classes))
