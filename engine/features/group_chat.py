"""XEP-0045 and its companions as far as the server itself is concerned: it names the chat rooms of the cluster, and
tells them of a client that is gone. The rooms are engine/muc, the way there is services/xcp_router/chat.py."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from engine.features.registry import server_items, session_ended, xep
from engine.xmpp.stanza import element

if TYPE_CHECKING:
    from engine.services.xcp_router.router import XcpRouter
    from engine.session import Session

XEP = xep(45, '1.35')
DIRECT_INVITATIONS = xep(249, '1.2')
SELF_PING = xep(410, '1.1.0')
NAME = 'Chat Rooms'


@server_items.on()
def on_server_items(router: XcpRouter) -> bytes | None:
    """The aliases of all nodes that have rooms, in another order for every client: most take the first (guide 5799)."""
    if not router.im_enabled:
        return None
    aliases = router.chat.hosted()
    random.shuffle(aliases)
    return ''.join(element('item', '', '', jid=alias, name=NAME) for alias in aliases).encode() or None


@session_ended.on()
def on_session_ended(router: XcpRouter, session: Session) -> None:
    """The presence engine has told the rooms, unless it does not run."""
    router.chat.left(session)
