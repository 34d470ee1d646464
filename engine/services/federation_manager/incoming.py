"""A connection another server made: it proves its domains and sends; with bidi (XEP-0288) also the way back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from engine.services.federation_manager.connection import ServerConnection
from engine.xmpp.dialback import Answer
from engine.xmpp.s2s import Authorized, ServerEvent, Verify
from engine.xmpp.s2s_in import ReceivingStream

if TYPE_CHECKING:
    from engine.services.federation_manager.links import Link
    from engine.services.federation_manager.manager import FederationManager

log = structlog.get_logger(__name__)


class Incoming(ServerConnection):
    """``links`` are those that send over this connection."""

    stream: ReceivingStream

    def __init__(self, manager: FederationManager, direct: bool) -> None:
        super().__init__(manager, server_side=True)
        self.direct = direct
        self.links: list[Link] = []
        self.stream = ReceivingStream(manager.settings, self.on_event, manager.loop.time())
        self.stream.on_stanza = self.deliver

    def connected(self) -> None:
        """TCP is there: may it stay?"""
        if not self.manager.admit(self):
            self.ended = True
            self._transport.abort()
            return
        self.arm()
        if self.direct:
            self.begin_tls(True)

    def on_event(self, event: ServerEvent) -> None:
        """What the stream asks for."""
        match event:
            case Verify():
                self.manager.verify(event, self._verified)
            case Authorized():
                self._authorized(event)
            case _:
                super().on_event(event)

    def _verified(self, request: Verify, answer: Answer) -> None:
        if not self.ended:
            if not answer.valid:
                log.info('dialback failed', remote=request.remote, local=request.local, reason=answer.condition)
            self.stream.verified(request.remote, request.local, answer)

    def _authorized(self, event: Authorized) -> None:
        log.info(
            'server connected', remote=event.remote, local=event.local, mechanism=event.mechanism, address=self.address
        )
        self.peer.domains.add(event.remote)
        self.last_stanza = self.manager.loop.time()
        if self._timer is not None and not self.congested:
            self._timer.cancel()
            self._timer = None
        if event.bidi:
            self.manager.take_back_way(self, event.local, event.remote)

    def relieved(self) -> None:
        """The peer takes bytes again."""
        for link in self.links:
            link.drain()

    def lost(self, reason: str) -> None:
        """The connection is gone."""
        unsent = self.unsent()
        for link in self.links:
            link.lost(self, [item for item in unsent if item.link is link])
