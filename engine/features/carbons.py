"""XEP-0280 Message Carbons, the switch of Multi-Device Messaging for one session (guide 6853-6881).

    <iq type='set' id='1'><enable xmlns='urn:xmpp:carbons:2'/></iq>

While *Enable Multi-Device Messaging* is Disabled, or instant messaging is off, the request is answered like that of any
unknown protocol and nothing is announced. What is copied to whom stands in ``xcp_router/copies.py``.

urn:imp:mdm:0. Which client notifies its user follows from the form of the message: the message itself is for the
client that should notify, a copy (<received/>) is not. Where the sender chose a client by its full JID the form is
decided by that, so the server adds what differs: ``<notify xmlns='urn:imp:mdm:0' value='true'/>`` beside <received/> in
a copy whose receiver should notify, ``value='false'`` in the message itself for a client that should not.

Cost for users without: part of the one test of ``Account.plain``. With it, for each message: 5 microseconds and 0.5 for
each further client of the sender, the same for the receiver.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.features.registry import iq, own, presence_updated, session_ended, xep
from engine.services.xcp_router.copies import NOTIFY
from engine.xmpp import ns
from engine.xmpp.forwarding import FORWARD
from engine.xmpp.stanza import error, iq_result

if TYPE_CHECKING:
    from engine.services.xcp_router.router import XcpRouter
    from engine.session import Session
    from engine.xmpp.stanza import Stanza


def enabled(router: XcpRouter) -> bool:
    """Whether clients may use Multi-Device Messaging."""
    return router.mdm


RULES = 'urn:xmpp:carbons:rules:0'
XEP = xep(280, '1.0.1', server=(ns.CARBONS, RULES), account=(ns.CARBONS, RULES), when=enabled)
FORWARDING = xep(297, '1.0', server=(FORWARD,))
OWN = own(account=(NOTIFY,), when=enabled)


@iq.on('set', ns.CARBONS, 'enable', 'self', 'host')
def on_enable(session: Session, stanza: Stanza, router: XcpRouter) -> bytes:
    """From now on this session takes part; saying it again changes nothing."""
    return _switch(session, stanza, router, True)


@iq.on('set', ns.CARBONS, 'disable', 'self', 'host')
def on_disable(session: Session, stanza: Stanza, router: XcpRouter) -> bytes:
    """It takes part no longer."""
    return _switch(session, stanza, router, False)


@iq.on('set', ns.CARBONS, 'enable', 'bare')
@iq.on('set', ns.CARBONS, 'disable', 'bare')
def on_other(session: Session, stanza: Stanza, router: XcpRouter) -> bytes:
    """Nobody switches for somebody else (XEP-0280 4.1)."""
    return error(stanza, 'not-allowed', text='You can switch message carbons for your own session only.')


def _switch(session: Session, stanza: Stanza, router: XcpRouter, on: bool) -> bytes:
    account = router.accounts.get(session.bare)
    if account is None or session.jid not in router.full:  # it came from another server
        return error(stanza, 'not-allowed', text='Message carbons are for clients of this server.')
    if not router.mdm:
        return error(stanza, 'service-unavailable', text='Multi-Device Messaging is disabled by the administrator.')
    if session.carbons != on:
        session.carbons = on
        account.carbons += 1 if on else -1
        if on and session.available and account.active_session(router.mdm_active_s) is None:
            account.touch(session)
        elif not on and account.active is session:
            account.active = None
    return iq_result(stanza)


@presence_updated.on()
def on_presence(router: XcpRouter, session: Session, _stanza: Stanza) -> None:
    """Available presence makes a client the active one."""
    if session.carbons:
        router.accounts[session.bare].touch(session)


@session_ended.on()
def on_end(router: XcpRouter, session: Session) -> None:
    """A session that is gone takes part no longer."""
    if session.carbons:
        session.carbons = False
        account = router.accounts.get(session.bare)
        if account is not None:
            account.carbons -= 1
            if account.active is session:
                account.active = None
