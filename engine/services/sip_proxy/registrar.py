"""REGISTER (RFC 3261 10): a registered client is a session that gets messages and is available."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from engine.sip.address import Place, read_place, read_uri
from engine.sip.message import BadMessage, number

if TYPE_CHECKING:
    from engine.services.sip_proxy.exchange import Incoming
    from engine.services.sip_proxy.line import Line
    from engine.services.sip_proxy.service import SipProxy

LEAST_S: Final = 60
MOST_CONTACTS: Final = 10


async def register(proxy: SipProxy, one: Incoming) -> None:
    """Sign clients of a user in or out, or tell which there are."""
    host = read_uri(one.request.uri).host
    if host not in proxy.router.domains and host not in proxy.own_names:
        raise BadMessage(404, 'This server does not serve the domain')
    bare = await proxy.speaker(one.flow, one.to_uri)
    contacts = one.headers.all('contact')
    if len(contacts) > MOST_CONTACTS:
        raise BadMessage(403, f'At most {MOST_CONTACTS} contacts at once')
    default = number(one.headers, 'expires')
    if '*' in contacts:
        if contacts != ['*'] or default != 0:
            raise BadMessage(400, 'The contact * stands alone and with Expires 0')
        for line in _registered(proxy, bare):
            line.end()
        contacts = []
    wanted = [(place, _expires(place, default)) for place in map(read_place, contacts)]
    for place, seconds in wanted:
        if read_uri(place.uri).scheme not in ('sip', 'sips'):
            raise BadMessage(416, 'A contact is a SIP address')
        if 0 < (LEAST_S if seconds is None else seconds) < LEAST_S:
            proxy.reply(one, one.response(423, Min_Expires=str(LEAST_S)))
            return
    for place, seconds in wanted:
        await _contact(proxy, one, bare, place.uri, seconds)
    response = one.response(200)
    now = proxy.loop.time()
    for line in _registered(proxy, bare):
        response.headers.add('contact', f'<{line.contact}>;expires={max(0, round(line.ends - now))}')
    proxy.reply(one, response)


def _registered(proxy: SipProxy, bare: str) -> list[Line]:
    return [line for line in proxy.lines.get(bare, {}).values() if line.contact]


def _expires(place: Place, default: int | None) -> int | None:
    text = place.parameters.get('expires', '')
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 10 else default


async def _contact(proxy: SipProxy, one: Incoming, bare: str, uri: str, seconds: int | None) -> None:
    most = int(proxy.param('registration_s'))
    seconds = most if seconds is None else min(seconds, most)
    resource = 'sip-' + hashlib.sha256(uri.encode()).hexdigest()[:12]
    line = proxy.lines.get(bare, {}).get(resource)
    if line is not None and line.registered[0] == one.call_id and line.registered[1] >= one.cseq:
        raise BadMessage(500, 'The registration is older than the last one')  # RFC 3261 10.3
    if seconds == 0:
        if line is not None:
            line.end()
        return
    ends = proxy.loop.time() + seconds
    if line is None:
        line = await proxy.bind(one.flow, bare, resource, ends)
        line.contact = uri
        line.available(0)
    elif line.flow is not one.flow:
        proxy.attach(line, one.flow)
    line.ends = ends
    line.registered = one.call_id, one.cseq
