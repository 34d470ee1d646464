"""The node's part of the IM and Presence User Sessions Report (guide 7019-7049): who is signed in, on which devices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.contract.services import XCP_ROUTER
from engine.store import session_report as store

if TYPE_CHECKING:
    from engine.node import Node

_MOBILE = (('ipad', 'iPad'), ('iphone', 'iPhone'))
_TABLET = ('tablet', 'tab')


def device_type(resource: str) -> str:
    """What a client runs on, as its resource tells; the product counts Android tablets as desktops (guide 7049)."""
    name = resource.lower()
    for word, device in _MOBILE:
        if word in name:
            return device
    return 'Android' if 'android' in name and not any(word in name for word in _TABLET) else 'Desktop'


def devices(resources: list[str]) -> str:
    """The device types of one user's clients: ``Desktop, iPhone (2)``."""
    kinds = sorted(device_type(resource) for resource in resources)
    counted = {kind: kinds.count(kind) for kind in kinds}
    return ', '.join(f'{kind} ({count})' if count > 1 else kind for kind, count in counted.items())


async def write(node: Node, report: str) -> None:
    """Write this node's part. A router that does not run serves nobody."""
    router: Any = node.service(XCP_ROUTER)
    accounts = router.accounts.values() if router is not None else ()
    rows = [
        (account.user.user_id, account.user.bare, len(account.sessions), devices(list(account.sessions)))
        for account in accounts
        if account.sessions
    ]
    await store.write(node.store, int(report), node.name, rows)
