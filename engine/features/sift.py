"""XEP-0273: a client asks its server to keep stanzas away from it.

All kinds (messages, presence, IQ requests, subscription stanzas), senders, recipients and payload names are supported.
A message that no client of the user wants is stored like one for a user who is not signed in, and delivered when a
client wants messages again. What the server itself makes for a client is not sifted: answers to its requests, contact
list pushes, copies of messages, publish-subscribe notifications. A request is forgotten with the session.

Cost on the path of a message: none for clients that do not sift, see engine/filters.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine import filters
from engine.features.registry import iq, xep
from engine.services.presence_engine import blocking
from engine.xmpp.sift import KINDS, NS, RECIPIENTS, SENDERS, SiftError, read
from engine.xmpp.stanza import error, iq_result

if TYPE_CHECKING:
    from engine.services.xcp_router.router import XcpRouter
    from engine.session import Session
    from engine.xmpp.stanza import Stanza

FEATURES = (
    NS,
    *(f'urn:xmpp:sift:stanzas:{kind}' for kind in KINDS),
    *(f'urn:xmpp:sift:senders:{sender}' for sender in SENDERS),
    *(f'urn:xmpp:sift:recipients:{recipient}' for recipient in RECIPIENTS),
    'urn:xmpp:sift:payloads:qname',
)
XEP = xep(273, '0.4', 'partial', server=FEATURES)


@iq.on('set', NS, 'sift', 'self')
def on_set(session: Session, stanza: Stanza, router: XcpRouter) -> bytes | None:
    """New rules instead of the old ones; what the client wants again it gets at once."""
    payload = stanza.payload
    account = router.accounts.get(session.bare)
    assert payload is not None
    if account is None:
        return None
    try:
        rules = read(payload)
    except SiftError as problem:
        return error(stanza, 'bad-request', text=str(problem))
    before = session.filter.sift if session.filter is not None else None
    filters.use_sift(router, account, session, rules)
    router.answer(session, iq_result(stanza))
    if before and 'presence' in before and 'presence' not in rules:
        blocking.resynchronise(router, session)
    available = session.priority is not None and session.priority >= 0
    if before and available and before.get('message') != rules.get('message'):
        router.offline.deliver(session)
    return None
