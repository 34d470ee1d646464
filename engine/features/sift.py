"""XEP-0273: a client asks its server to keep stanzas away from it.

All kinds (messages, presence, IQ requests, subscription stanzas), senders, recipients and payload names are supported,
also for what the server itself makes: pushes and questions, notifications, messages that were stored. A copy of a
message (XEP-0280) is judged as the message in it. What a client asked for itself reaches it: answers to its requests,
results of a search in the archive, errors of this server. A push comes from the account, so it is a stanza of the user
itself.

A message that no client of the user wants is stored like one for a user who is not signed in. Whatever a client wants
again it gets at once: stored messages, presence, subscription requests. Wishes are forgotten with the session.

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
XEP = xep(273, '0.4', server=FEATURES)


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
        return error(stanza, problem.condition, text=str(problem))
    before = session.filter.sift if session.filter is not None else None
    filters.use_sift(router, account, session, rules)
    router.answer(session, iq_result(stanza))
    if before:
        blocking.resynchronise(router, session, before)
    available = session.priority is not None and session.priority >= 0
    if before and available and before.get('message') != rules.get('message'):
        router.offline.deliver(session)
    return None
