"""Cisco Client Profile Agent: tells clients the policies that only they can enforce (Messaging > Settings).

``<iq type='get'><policy xmlns='urn:imp:client-policy:0'/></iq>`` to the server or the own account is answered with the
same element holding ``<im-history>true</im-history><cut-paste>true</cut-paste>`` (or false). Whoever asked gets it
pushed as an IQ set when an administrator changes it, without any restart.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, ClassVar

from engine.contract.config import Config, MessagingSettings
from engine.contract.services import CLIENT_PROFILE_AGENT, XCP_ROUTER
from engine.features.registry import iq
from engine.filters import ask
from engine.services.base import Service
from engine.xmpp import stanza as xml

if TYPE_CHECKING:
    from engine.node import Node
    from engine.services.xcp_router.router import XcpRouter
    from engine.session import Session
    from engine.xmpp.stanza import Stanza

NAMESPACE = 'urn:imp:client-policy:0'


def policy(settings: MessagingSettings) -> bytes:
    """The policy element."""
    history, paste = str(settings.client_history).lower(), str(settings.cut_and_paste).lower()
    inside = f'<im-history>{history}</im-history><cut-paste>{paste}</cut-paste>'
    return f"<policy xmlns='{NAMESPACE}'>{inside}</policy>".encode()


class ClientProfileAgent(Service):
    """Answers and pushes the client policy."""

    key: ClassVar[str] = CLIENT_PROFILE_AGENT

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self._asked: set[str] = set()

    def configure(self, newest: Config) -> None:
        """Push the policy to the clients that know it, when it changed."""
        before = policy(self.config.messaging)
        super().configure(newest)
        after = policy(self.config.messaging)
        router: Any = self.node.service(XCP_ROUTER)
        if before == after or router is None:
            return
        self._forget_absent(router)
        for jid in self._asked:
            session = router.full[jid]
            to, sender = xml.escape(jid), xml.escape(session.bare)
            head = f"<iq type='set' id='policy-{secrets.token_hex(6)}' from='{sender}' to='{to}'>"
            ask(session, session.bare, b'%b%b</iq>' % (head.encode(), after))

    def answer(self, session: Session, stanza: Stanza, router: XcpRouter) -> bytes:
        """The reply to one question; the asker is told of changes from now on."""
        if len(self._asked) > 2 * len(router.full) + 1000:
            self._forget_absent(router)
        self._asked.add(session.jid)
        return xml.iq_result(stanza, policy(self.config.messaging))

    def _forget_absent(self, router: XcpRouter) -> None:
        self._asked.intersection_update(router.full)


@iq.on('get', NAMESPACE, 'policy', 'host', 'self')
def on_policy(session: Session, stanza: Stanza, router: XcpRouter) -> bytes:
    """The policy, or service-unavailable while the service is stopped."""
    agent: Any = router.node.service(CLIENT_PROFILE_AGENT)
    if agent is None:
        return xml.error(stanza, 'service-unavailable', text='Cisco Client Profile Agent is not running.')
    reply: bytes = agent.answer(session, stanza, router)
    return reply
