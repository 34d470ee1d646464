"""MESSAGE (RFC 3428) and XMPP messages (RFC 7572). The other direction is in line.py.

The answer says what became of the message: 200 a client has it, 202 it is stored or on its way to another server, else
why not. It waits for XMPP clients that acknowledge (XEP-0198) and for SIP clients, but not longer than SIP allows.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from typing import TYPE_CHECKING, Final

from engine.contract.services import BY_KEY, TEXT_CONFERENCE_MANAGER
from engine.delivery import NOW, Delivery
from engine.services.sip_proxy.conditions import STATUS
from engine.services.sip_proxy.exchange import content_type
from engine.sip.message import BadMessage
from engine.store import users
from engine.xmpp import ns
from engine.xmpp import stanza as xml

if TYPE_CHECKING:
    from engine.services.sip_proxy.exchange import Incoming
    from engine.services.sip_proxy.line import Line
    from engine.services.sip_proxy.service import SipProxy

PATIENCE_S: Final = 20.0
"""Before the client repeats its request for the last time (RFC 4320 4.2)."""
RETRY_S: Final = '30'
_CHARSETS: Final = {'': 'utf-8', 'utf-8': 'utf-8', 'us-ascii': 'ascii', 'iso-8859-1': 'latin-1'}
_NOT_SAID: Final = re.compile('[\x00-\x1f\x7f]+')


async def send(proxy: SipProxy, one: Incoming) -> None:
    """An instant message of a SIP client."""
    sender = await proxy.speaker(one.flow, one.from_uri)
    to = await proxy.resolve(one.request.uri)
    kind, parameters = content_type(one.headers)
    charset = _CHARSETS.get(parameters.get('charset', '').lower())
    if kind != 'text/plain' or charset is None:
        proxy.reply(one, one.response(415, Accept='text/plain'))
        return
    try:
        text = one.request.body.decode(charset)
    except UnicodeDecodeError:
        raise BadMessage(400, 'The body is not in its character set') from None
    if not text:
        raise BadMessage(400, 'The message has no text')
    if proxy.node.service(TEXT_CONFERENCE_MANAGER) is None and to not in proxy.lines:
        # Only then to an XMPP client (guide 5514-5519).
        name = BY_KEY[TEXT_CONFERENCE_MANAGER].name
        proxy.reply(one, one.response(503, f'{name} is not running', Retry_After=RETRY_S))
        return
    if to.rpartition('@')[2] in proxy.router.domains and to not in proxy.router.accounts:
        found = await users.find(proxy.node.store, to)
        if found is None or not found[1]:
            raise BadMessage(404, '')
    line = await proxy.line_for(one.flow, sender)
    identity = 's' + secrets.token_hex(8)
    lang = one.headers.get('content-language')
    inside = xml.element('body', '', text)
    if subject := one.headers.get('subject'):
        inside = xml.element('subject', '', subject) + inside
    if len(one.call_id) <= 128:
        inside += xml.element('thread', '', one.call_id)
    if re.fullmatch('[A-Za-z0-9-]{1,40}', lang):
        lang = f" xml:lang='{lang}'"
    else:
        lang = ''
    address = f"from='{xml.quote(line.session.jid)}' to='{xml.quote(to)}'"
    Outcome(proxy, line, one, identity, to).route(
        f"<message {address} type='chat' id='{identity}'{lang}>{inside}</message>".encode()
    )


class Outcome:
    """Waits until it is decided what became of one message, then answers. An ``Asker`` of engine/delivery.py."""

    def __init__(self, proxy: SipProxy, line: Line, one: Incoming, identity: str, to: str) -> None:
        self.received = 1
        self.asked = True
        self._proxy, self._line, self._one, self._identity, self._to = proxy, line, one, identity, to
        self._open: list[Delivery] = []
        self._stored = False
        self._written = False
        self._timer: asyncio.TimerHandle | None = None

    def route(self, raw: bytes) -> None:
        """Give the message to the router."""
        line, router = self._line, self._proxy.router
        session = line.session
        line.pending[self._identity] = None
        before = session.unstored
        NOW.asker = self
        try:
            router.receive(session, xml.parse(raw))
        finally:
            NOW.asker = None
        self._stored = session.unstored > before
        self._timer = self._proxy.loop.call_later(PATIENCE_S, self._answer)
        if session.unstored == session.unarchived:
            self._on_disk()
        else:
            router.writer.after(self._on_disk)

    def wait_for(self, delivery: Delivery) -> None:
        """See Asker."""
        self._open.append(delivery)

    def settled(self) -> None:
        """See Asker."""
        if self._written and all(delivery.done for delivery in self._open):
            self._answer()

    def _on_disk(self) -> None:
        self._written = True
        self.settled()

    def _answer(self) -> None:
        if not self.asked:
            return
        self.asked = False
        if self._timer is not None:
            self._timer.cancel()
        proxy, one = self._proxy, self._one
        error = self._line.pending.pop(self._identity, None)
        if error is None:
            here = self._to in proxy.router.accounts and not self._stored and self._written
            decided = here and all(delivery.done for delivery in self._open)
            proxy.reply(one, one.response(200 if decided else 202))
            return
        found = error.child(ns.CLIENT, 'error')
        names = [one.tag.partition('}')[2] for one in found] if found is not None else []
        status = next((STATUS[name] for name in names if name in STATUS), 480)
        reason = error.tree.findtext(f'{{{ns.CLIENT}}}error/{{{ns.STANZA_ERRORS}}}text') or ''
        retry = {'Retry_After': RETRY_S} if status == 503 else {}
        proxy.reply(one, one.response(status, _NOT_SAID.sub(' ', reason)[:200], **retry))
