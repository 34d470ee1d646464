"""The router service: one dictionary from JID to sessions, and the invariants every stanza keeps."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from engine.contract.services import XCP_ROUTER
from engine.services.base import Service
from engine.session import Connection, Session
from engine.store.users import User

if TYPE_CHECKING:
    from engine.xmpp.stanza import Stanza


class XcpRouter(Service):
    """Sessions and stanza routing of one node."""

    key = XCP_ROUTER

    def bind(self, user: User, resource: str, connection: Connection) -> Session:
        """A session for an authenticated user; ``resource`` '' lets the server choose.

        A session that already has the resource is closed with ``conflict``. Raises BindRefused.
        """
        raise NotImplementedError

    def receive(self, session: Session, stanza: Stanza) -> None:
        """Route one stanza of a session. ``from`` is stamped already. Never raises, never waits."""
        raise NotImplementedError

    def unbind(self, session: Session) -> None:
        """Forget a session whose connection has ended. Safe to call twice."""
        raise NotImplementedError

    def sessions_of(self, bare: str) -> Collection[Session]:
        """Every session of a user, available or not."""
        raise NotImplementedError

    async def users_changed(self, ids: Iterable[int]) -> None:
        """Read these end users again and close sessions that may not go on."""
        raise NotImplementedError
