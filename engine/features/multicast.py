"""XEP-0033: one message to the server with up to 200 addresses becomes one copy for each (spec 06, broadcast).

Every copy takes the ordinary way: policy, reply lock, offline store, and its own error when it is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element

from engine.contract import jid
from engine.features.registry import host_message, xep
from engine.services.xcp_router import messages
from engine.xmpp.stanza import Stanza, element, with_attributes

if TYPE_CHECKING:
    from engine.services.xcp_router.router import XcpRouter
    from engine.session import Session

NS = 'http://jabber.org/protocol/address'
XEP = xep(33, '1.2.1', server=(NS,))

LIMIT = 200
_OPEN, _CLOSE = b'<addresses', b'</addresses>'


@host_message.on()
def on_message(router: XcpRouter, session: Session, stanza: Stanza) -> bool | None:
    """Copies to everyone addressed; nobody gets one when the list itself is wrong."""
    if not stanza.has(NS.encode()) or (header := stanza.child(NS, 'addresses')) is None:
        return None
    addresses = [entry for entry in header if entry.tag == f'{{{NS}}}address']
    targets = [entry for entry in addresses if entry.get('type') in ('to', 'cc', 'bcc') and not entry.get('delivered')]
    if not targets:
        router.refuse(session, stanza, 'bad-request', 'There is no address to deliver to.')
        return True
    if len(targets) > LIMIT:
        router.refuse(session, stanza, 'not-acceptable', f'A message can have at most {LIMIT} addresses.')
        return True
    start, end = stanza.raw.find(_OPEN), stanza.raw.find(_CLOSE)
    if start < 0 or end < start or stanza.raw.count(_OPEN) != 1:
        router.refuse(session, stanza, 'bad-request', 'Write <addresses/> once and without a prefix.')
        return True
    prepared = []
    for entry in targets:
        try:
            prepared.append((jid.prepare(entry.get('jid', '')), entry))
        except jid.InvalidJID as error:
            router.refuse(session, stanza, 'jid-malformed', str(error))
            return True
    head, tail = stanza.raw[:start], stanza.raw[end + len(_CLOSE) :]
    kind = stanza.attrs.get('type', 'normal')
    for address, entry in prepared:
        raw = with_attributes(head + _header(addresses, entry) + tail, {'to': address})
        messages.submit(router, session, Stanza(stanza.name, {**stanza.attrs, 'to': address}, raw), address, kind)
    return True


def _header(addresses: list[Element], receiver: Element) -> bytes:
    """What one receiver sees: everybody but the blind copies of others, marked as delivered."""
    shown = []
    for entry in addresses:
        if entry.get('type') == 'bcc' and entry is not receiver:
            continue
        attributes = {key: value for key, value in entry.attrib.items() if not key.startswith('{')}
        if entry.get('type') in ('to', 'cc', 'bcc'):
            attributes['delivered'] = 'true'
        shown.append(element('address', '', '', **{f'{key}_': value for key, value in attributes.items()}))
    return f"<addresses xmlns='{NS}'>{''.join(shown)}</addresses>".encode()
