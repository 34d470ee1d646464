"""XEP-0066 Out of Band Data: links between clients, which the server passes on untouched and archives.

A message with ``jabber:x:oob`` is kept like one with a body. A request (``jabber:iq:oob``) goes into the archives of
both sides (guide 12485), under the preferences that hold for messages. Archives are lists of messages (XEP-0313 4), so
it stands there in the message form of the same data (XEP-0066 3), with the id of the request. What the other client
answers is not archived.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from engine.contract import jid
from engine.features.registry import xep
from engine.xmpp import ns
from engine.xmpp.stanza import element

if TYPE_CHECKING:
    from engine.services.xcp_router.account import Account
    from engine.services.xcp_router.remote import Sender
    from engine.services.xcp_router.router import XcpRouter
    from engine.xmpp.stanza import Stanza

XEP = xep(66, '1.5')
REQUEST: Final = 'jabber:iq:oob'


def sent(router: XcpRouter, sender: Sender, stanza: Stanza, to: str) -> None:
    """A client here makes the request of ``stanza`` to another address: the archive of its user. Whatever else the
    stanza is, nothing happens."""
    if router.archive is not None and sender.account is not None and is_request(stanza):
        try:
            to = jid.prepare(to)
        except jid.InvalidJID:
            return
        _archive(router, sender, sender.account, stanza, to, peer=to)


def arrives(router: XcpRouter, sender: Sender, stanza: Stanza, account: Account | None, full: str) -> None:
    """The request of ``stanza`` goes to a client here: the archive of its user."""
    if account not in (None, sender.account) and router.archive is not None and is_request(stanza):
        _archive(router, sender, account, stanza, full, peer=sender.jid)


def is_request(stanza: Stanza) -> bool:
    """Whether this IQ offers data out of band."""
    if stanza.type != 'set' or not stanza.has(REQUEST.encode()):
        return False
    payload = stanza.payload
    return payload is not None and payload.tag == f'{{{REQUEST}}}query'


def _archive(router: XcpRouter, sender: Sender, account: Account | None, stanza: Stanza, to: str, peer: str) -> None:
    archive, query = router.archive, stanza.payload
    if archive is None or query is None or account is None or account.archiving is None:
        return
    parts = ((name, query.findtext(f'{{{REQUEST}}}{name}')) for name in ('url', 'desc'))
    inside = ''.join(element(name, '', text) for name, text in parts if text)
    tag = element('message', '', from_=sender.jid, to=to, id=stanza.id)
    raw = f"{tag[:-2]}><x xmlns='{ns.OUT_OF_BAND}'>{inside}</x></message>".encode()
    entry = archive.entry(account.user.bare, account.archiving, peer, raw)
    if entry is not None:
        archive.add(sender, entry)
