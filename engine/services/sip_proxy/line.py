"""One SIP client of one user: an XMPP session whose socket is a SIP flow.

Everything the router does for clients it does for this one: other clients, blocking, archive, offline messages. A
message given to it counts as delivered when the SIP client has answered it; what it did not get goes to the user's
other clients or to the offline store (xcp_router/rescue.py).
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from engine.delivery import Delivery, Kept, track
from engine.services.sip_proxy import conditions
from engine.services.sip_proxy.exchange import SERVER, tag
from engine.services.sip_proxy.flows import UDP_BYTES
from engine.services.xcp_router import rescue
from engine.sip.address import from_jid
from engine.sip.message import Headers, Request, Response
from engine.xmpp import ns
from engine.xmpp import stanza as xml

if TYPE_CHECKING:
    from engine.services.sip_proxy.flows import Flow
    from engine.services.sip_proxy.service import SipProxy
    from engine.services.sip_proxy.watching import Subscription
    from engine.session import Session
    from engine.xmpp.stanza import Stanza

log = structlog.get_logger(__name__)

MOST_WAITING: Final = 1024 * 1024
"""Bytes of messages that may wait for one client; above it the client is too slow and is signed out."""
_CALL_ID: Final = re.compile(r'[A-Za-z0-9._~-]{1,128}')
_CONTROL: Final = re.compile('[\x00-\x1f\x7f]+')


class Line:
    """``contact`` is where a registered client is reached, '' for one that only sends. ``ends``: when the registration
    is over, in seconds of the loop's clock; without registration when nobody has used it for a while. ``pending``: ids
    of its messages on their way -> the error that came back."""

    congested = False
    blocked = False
    """Something given before is not with the client yet."""

    def __init__(self, proxy: SipProxy, bare: str, flow: Flow) -> None:
        self.proxy = proxy
        self.bare = bare
        self.flow = flow
        self.address = flow.address
        self.contact = ''
        self.registered: tuple[str, int] = ('', 0)
        """Call-ID and CSeq of the last REGISTER."""
        self.ends = 0.0
        self.ended = False
        self.session: Session
        self.pending: dict[str, Stanza | None] = {}
        self.subscriptions: dict[tuple[str, str, str], Subscription] = {}
        self.publication: tuple[str, float] | None = None
        """Entity tag and end of what the client published (RFC 3903)."""
        self._queue: deque[tuple[bytes, Delivery | None]] = deque()
        self._size = 0
        self._sending = False
        self._way = 0
        """How often the client has come over another flow."""
        self._count = self._done = 0
        self._kept_back = False
        """A message that is on disk did not arrive."""
        self._marks: list[tuple[int, Callable[[bool], None]]] = []
        self._cseq = 0
        self._scheduled = False

    # ---- what the session uses

    def write(self, data: bytes) -> None:
        """One stanza for the client."""
        if data.startswith(b'<m'):
            self._message(data)
        elif data.startswith(b'<p'):
            if self.subscriptions:
                self.proxy.watching.presence(self, xml.parse(data))
        elif data.startswith(b'<iq') and (stanza := xml.parse(data)).type in ('get', 'set'):
            refusal = xml.parse(xml.error(stanza, 'service-unavailable'))
            self.proxy.loop.call_soon(self.proxy.router.receive, self.session, refusal)

    def close(self, condition: str | None = None, text: str = '') -> None:
        """The session ends. All that tells a SIP client is the end of its connection: it registers again then, perhaps
        at another node. Over UDP, and where others are reached the same way, its next request is refused."""
        if condition:
            log.info('SIP client signed out', user=self.bare, condition=condition, reason=text)
        self.end()
        if self.contact and not self.proxy.registered_over(self.flow):
            self.flow.close()

    def abort(self) -> None:
        """The same."""
        self.end()

    @property
    def gone(self) -> bool:
        """It has ended, and what was not delivered is decided."""
        return self.ended

    def entered(self) -> None:
        """Never: a SIP client has no inactive session."""

    def pause(self) -> None:
        """Read no further from the client."""
        self.flow.pause()

    def resume(self) -> None:
        """Read again."""
        self.flow.resume()

    def when_flushed(self, callback: Callable[[bool], None]) -> None:
        """See session.Connection: here the client has answered what was sent before."""
        if self.ended or not self._queue:
            self.proxy.loop.call_soon(callback, not self.ended)
        else:
            self._marks.append((self._count, callback))

    # ---- the life of it

    def end(self) -> None:
        """The client is gone. Once."""
        if self.ended:
            return
        self.ended = True
        proxy = self.proxy
        proxy.forget(self)
        proxy.watching.end_all(self)
        marks, self._marks = self._marks, []
        for _, callback in marks:
            proxy.loop.call_soon(callback, False)
        entries = [(data, delivery) for data, delivery in self._queue if delivery is not None]
        self._queue.clear()
        proxy.router.unbind(self.session)
        rescue.rescue(proxy.router, self.bare, entries)

    def moved(self) -> None:
        """The client has come over another flow: what it has not answered over the former one is sent again."""
        self._way += 1
        if self._sending:
            self._sending = False
            self._schedule()

    def available(self, priority: int, show: str = '', status: str = '') -> None:
        """What the client's availability is for others."""
        inside = xml.element('show', '', show) if show else ''
        inside += xml.element('status', '', status) if status else ''
        inside += xml.element('priority', '', str(priority)) if priority else ''
        self.submit(f"<presence from='{xml.quote(self.session.jid)}'>{inside}</presence>")

    def unavailable(self) -> None:
        """The client is not available for others, nor for messages."""
        self.submit(f"<presence from='{xml.quote(self.session.jid)}' type='unavailable'/>")

    def submit(self, text: str) -> None:
        """Route a stanza of the client."""
        self.proxy.router.receive(self.session, xml.parse(text.encode()))

    # ---- messages

    def _message(self, data: bytes) -> None:
        if data.startswith(b"<message type='error'") or b"type='error'" in data or b'type="error"' in data:
            stanza = xml.parse(data)
            if stanza.type == 'error':
                self._refusal(stanza)
                return
        self._put(data, None if type(data) is Kept else track(data, self.bare))

    def _put(self, data: bytes, delivery: Delivery | None) -> None:
        self._queue.append((data, delivery))
        self.blocked = True
        self._count += 1
        self._size += len(data)
        if self._size > MOST_WAITING:
            log.info('SIP client is too far behind', user=self.bare, bytes=self._size)
            self.proxy.loop.call_soon(self.close)
        elif not self._sending:
            self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self.proxy.loop.call_soon(self._next)

    def _refusal(self, stanza: Stanza) -> None:
        """A message of the client was refused: its answer waits for that, else it is told by a message."""
        if stanza.id in self.pending:
            self.pending[stanza.id] = stanza
            return
        if not self.contact:
            return
        words = stanza.tree.findtext(f'{{{ns.CLIENT}}}error/{{{ns.STANZA_ERRORS}}}text') or ''
        body = xml.element('body', '', f'The message was not delivered. {words}'.strip())
        sender = xml.quote(stanza.from_ or self.bare)
        self._put(Kept(f"<message from='{sender}' to='{xml.quote(self.bare)}'>{body}</message>".encode()), None)

    def _next(self) -> None:
        """One message at a time (RFC 3428 8), so they arrive in order."""
        self._scheduled = False
        while self._queue and not self._sending and not self.ended:
            data, delivery = self._queue[0]
            stanza = xml.parse(data)
            body = _text(stanza)
            if not body:
                self._settle(delivery, True)  # nothing of it can be said in SIP
                continue
            if not self.contact:
                self._settle(None, False)
                rescue.rescue(self.proxy.router, self.bare, [(data, delivery)] if delivery is not None else [])
                continue
            request = self._request(stanza, body)
            if not self.flow.reliable and len(request.body) + 700 > UDP_BYTES:
                self._refuse(
                    stanza, delivery, 'policy-violation', 'The client takes short messages only (SIP over UDP).'
                )
                continue
            self._sending = True
            self.proxy.counters.sip_messages_out += 1
            self.proxy.calls.send(self.flow, request, partial(self._answered, self._way))

    def _request(self, stanza: Stanza, body: bytes) -> Request:
        self._cseq += 1
        thread = stanza.tree.findtext(f'{{{ns.CLIENT}}}thread') or ''
        call_id = thread if _CALL_ID.fullmatch(thread) else tag(self.session.jid, stanza.from_ or '')
        sender = from_jid(stanza.from_ or '')
        lines = [
            ('max-forwards', '70'),
            ('from', f'<sip:{sender}>;tag={tag(call_id, sender)}'),
            ('to', f'<sip:{from_jid(self.bare)}>'),
            ('call-id', call_id),
            ('cseq', f'{self._cseq} MESSAGE'),
            ('user-agent', SERVER),
            ('content-type', 'text/plain;charset=utf-8'),
        ]
        if stanza.lang and re.fullmatch('[A-Za-z0-9-]{1,40}', stanza.lang):
            lines.append(('content-language', stanza.lang))
        if subject := _one_line(stanza.tree.findtext(f'{{{ns.CLIENT}}}subject') or ''):
            lines.append(('subject', subject))
        return Request('MESSAGE', self.contact, Headers(lines), body)

    def _answered(self, way: int, status: int, _response: Response | None) -> None:
        if way != self._way:
            return
        self._sending = False
        if self.ended:
            return
        data, delivery = self._queue[0]
        if 200 <= status < 300:
            self._settle(delivery, True)
        elif conditions.gone(status):
            log.info('SIP client does not answer', user=self.bare, status=status)
            self.end()
            return
        else:
            text = f'The SIP client of the user refused it ({status}).'
            self._refuse(xml.parse(data), delivery, conditions.condition(status), text)
        self._next()

    def _refuse(self, stanza: Stanza, delivery: Delivery | None, condition: str, text: str) -> None:
        """The client will never take this message: the sender hears of it. One that is on disk stays there."""
        if delivery is not None and not delivery.done:
            self.submit(xml.error(stanza, condition, text=text).decode())
        self._settle(delivery, False)

    def _settle(self, delivery: Delivery | None, arrived: bool) -> None:
        data, _ = self._queue.popleft()
        self.blocked = bool(self._queue)
        self._size -= len(data)
        self._done += 1
        if delivery is not None:
            delivery.finish()
        elif not arrived:
            self._kept_back = True
        due = [mark for mark in self._marks if mark[0] <= self._done]
        if due:
            self._marks = self._marks[len(due) :]
            for _, callback in due:
                self.proxy.loop.call_soon(callback, not self._kept_back)
            self._kept_back = False


def _text(stanza: Stanza) -> bytes:
    """The text of a message: the body without a language of its own, else the first; else a link (XEP-0066)."""
    bodies = stanza.tree.findall(f'{{{ns.CLIENT}}}body')
    plain = [one for one in bodies if f'{{{ns.XML}}}lang' not in one.attrib] or bodies
    text = plain[0].text if plain else stanza.tree.findtext(f'{{{ns.OUT_OF_BAND}}}x/{{{ns.OUT_OF_BAND}}}url')
    return (text or '').encode()


def _one_line(text: str) -> str:
    return _CONTROL.sub(' ', text).strip()[:1000]
