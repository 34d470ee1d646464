"""Where features declare themselves: the XEP table, IQ handlers, hooks, and what service discovery announces.

A handler of an IQ is ``handler(session, stanza, router)``; it returns the whole reply as bytes, or a coroutine that
does (run in the background, its failure is answered with internal-server-error), or None when it replies itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from engine.hooks import DiscoNodes, Hook, IqTable

if TYPE_CHECKING:
    from engine.services.xcp_router.remote import Sender
    from engine.services.xcp_router.router import XcpRouter
    from engine.session import Session
    from engine.xmpp.stanza import Stanza

iq = IqTable()
"""``@iq.on('get', NAMESPACE, 'query', 'host', 'self', 'bare')``."""
account_nodes = DiscoNodes()
"""``@account_nodes.on(ns.DISCO_INFO, NODE)``: service discovery of a node of the own account (XEP-0030 3.2)."""

host_message: Hook[[XcpRouter, Session, Stanza], bool] = Hook(
    'host_message', 'A message to a served domain itself. True: taken care of.'
)
client_iq: Hook[[XcpRouter, Session, Stanza, str], bytes] = Hook(
    'client_iq', 'A request on its way to the client with this full JID. Bytes: the answer instead of delivery.'
)
session_bound: Hook[[XcpRouter, Session], None] = Hook(
    'session_bound', 'A client has bound its resource; the account is in ``router.accounts``.'
)
session_ended: Hook[[XcpRouter, Session], None] = Hook(
    'session_ended', 'A session is forgotten: not in ``router.full`` any more. The account is gone if it was the last.'
)
became_available: Hook[[XcpRouter, Session], None] = Hook(
    'became_available', 'Initial presence of a session was told to those who see it; its contact list is in memory.'
)
subscription_changed: Hook[[XcpRouter, str, str], None] = Hook(
    'subscription_changed',
    'The subscription between a user who is signed in here (bare JID) and a contact (bare JID) is now another one.',
)
router_started: Hook[[XcpRouter], None] = Hook('router_started', 'The router begins to route; every feature is loaded.')
router_configured: Hook[[XcpRouter], None] = Hook(
    'router_configured', 'The router has taken a new configuration generation.'
)
router_stopped: Hook[[XcpRouter], None] = Hook('router_stopped', 'The router stops; its sessions are closed.')
presence_updated: Hook[[XcpRouter, Session, Stanza], None] = Hook(
    'presence_updated', 'A client sent available presence without addressee; the session has it.'
)
presence_directed: Hook[[XcpRouter, Session, Stanza], None] = Hook(
    'presence_directed', 'A client sends available presence to one address; ``stanza.raw`` may be replaced.'
)
contact_presence: Hook[[XcpRouter, str, bytes, bool, Iterable[str]], None] = Hook(
    'contact_presence',
    'Presence of somebody elsewhere (full JID, the stanza, whether available) came for these users here (bare JIDs).',
)
iq_answer: Hook[[XcpRouter, Sender, Stanza, str], bool] = Hook(
    'iq_answer', 'Result or error of an IQ to a served domain or an account here (prepared bare JID). True: taken.'
)
message_waiting: Hook[[XcpRouter, str, bytes, Session | None], None] = Hook(
    'message_waiting',
    'A message with a body waits for a user (bare JID): on disk, or (with the session) for a client that is not looked '
    'at: hibernating or inactive.',
)
server_items: Hook[[XcpRouter], bytes] = Hook(
    'server_items', 'Items the server adds to its disco#items; all answers count (``collect``).'
)


@dataclass(frozen=True, slots=True)
class Xep:
    """One implemented specification, with the features it adds to disco#info of the server and of an account, while
    ``when(router)`` is true; None: always."""

    number: int
    version: str
    status: Literal['complete', 'partial']
    server: tuple[str, ...] = ()
    account: tuple[str, ...] = ()
    when: Callable[[XcpRouter], bool] | None = None


@dataclass(frozen=True, slots=True)
class Own:
    """A protocol of this service itself, with the features it adds to disco#info of the server and of an account."""

    server: tuple[str, ...] = ()
    account: tuple[str, ...] = ()
    when: Callable[[XcpRouter], bool] | None = None


XEPS: dict[int, Xep] = {}
OWN: list[Own] = []


def xep(
    number: int,
    version: str,
    status: Literal['complete', 'partial'] = 'complete',
    server: tuple[str, ...] = (),
    account: tuple[str, ...] = (),
    when: Callable[[XcpRouter], bool] | None = None,
) -> Xep:
    """Declare an implemented XEP; with ``when`` one that a setting switches, which is announced while it is on. What
    the answer depends on may change only with a restart of the router. Raises ValueError when it is declared twice."""
    if number in XEPS:
        raise ValueError(f'XEP-{number:04d} is declared twice')
    XEPS[number] = Xep(number, version, status, server, account, when)
    return XEPS[number]


def own(
    server: tuple[str, ...] = (), account: tuple[str, ...] = (), when: Callable[[XcpRouter], bool] | None = None
) -> Own:
    """Declare a protocol of this service itself; ``when`` as for ``xep``."""
    OWN.append(Own(server, account, when))
    return OWN[-1]
