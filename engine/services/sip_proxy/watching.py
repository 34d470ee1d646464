"""Availability over SIP: SUBSCRIBE and NOTIFY (RFC 6665, RFC 3856), PUBLISH (RFC 3903), as XMPP presence (RFC 7248).

Who may see whom is decided by Cisco Presence Engine as for XMPP clients. A subscription asks with a probe: contacts are
shown, others as temporary subscriptions allow it. Where an approval is needed a subscription request is sent, and the
SIP subscription is pending until it is answered.
"""

from __future__ import annotations

import secrets
from functools import partial
from typing import TYPE_CHECKING, Final

from engine.contract import jid
from engine.services.sip_proxy.exchange import SERVER, accepts, content_type, event_of
from engine.sip import pidf
from engine.sip.address import read_place, read_uri
from engine.sip.message import BadMessage, Headers, Request, Response, number
from engine.xmpp import ns
from engine.xmpp import stanza as xml

if TYPE_CHECKING:
    from engine.services.sip_proxy.exchange import Incoming
    from engine.services.sip_proxy.flows import Flow
    from engine.services.sip_proxy.line import Line
    from engine.services.sip_proxy.service import SipProxy
    from engine.xmpp.stanza import Stanza

PACKAGE: Final = 'presence'
LEAST_S: Final = 60
DEFAULT_S: Final = 3600
RESOURCES: Final = 50
"""Clients of one contact that are shown."""
PHONE_PRIORITY: Final = -1
"""Of what a trunk publishes for a user: seen by others, but no place for messages."""


class Subscription:
    """One SIP subscription to the availability of ``target``, inside its dialog."""

    def __init__(self, line: Line, one: Incoming, target: str, event_id: str, contact: str) -> None:
        self.line = line
        self.target = target
        self.key = (one.call_id, one.from_tag, one.dialog_tag)
        self.event = f'{PACKAGE};id={event_id}' if event_id else PACKAGE
        self.contact = contact
        self.watcher = one.from_uri
        self.watched = one.to_uri
        self.cseq = one.cseq
        self.ends = 0.0
        self.probe_at = 0.0
        self.pending = False
        self.over = ''
        """Why it ended."""
        self.clients: dict[str, pidf.Tuple] = {}
        self._notified = 0
        self._sending = False
        self._last: tuple[str, bytes] | None = None

    def notify(self, always: bool = False) -> None:
        """Tell the client what it does not know yet; one NOTIFY at a time, the newest state counts."""
        if self._sending and not self.over:
            return
        proxy = self.line.proxy
        now = proxy.loop.time()
        state = 'pending' if self.pending else 'active'
        body = b'' if self.pending else pidf.write(self.target, self.clients.values())
        if not always and not self.over and (state, body) == self._last:
            return
        self._last = (state, body)
        self._notified += 1
        words = f'terminated;reason={self.over}' if self.over else f'{state};expires={max(0, round(self.ends - now))}'
        headers = Headers([
            ('max-forwards', '70'),
            ('from', f'<{self.watched}>;tag={self.key[2]}'),
            ('to', f'<{self.watcher}>;tag={self.key[1]}'),
            ('call-id', self.key[0]),
            ('cseq', f'{self._notified} NOTIFY'),
            ('contact', f'<sip:{self.line.flow.local};transport={self.line.flow.transport.lower()}>'),
            ('event', self.event),
            ('subscription-state', words),
            ('user-agent', SERVER),
        ])  # fmt: skip
        if body:
            headers.add('content-type', pidf.CONTENT_TYPE)
        self._sending = True
        flow = self.line.flow
        proxy.calls.send(flow, Request('NOTIFY', self.contact, headers, body), partial(self._answered, flow))

    def _answered(self, flow: Flow, status: int, _response: Response | None) -> None:
        self._sending = False
        if status in (408, 430) and not self.over and flow.key != self.line.flow.key:
            self.notify(always=True)  # the client has come over another flow meanwhile
        elif status >= 300 and not self.over:
            self.line.proxy.watching.end(self, '')
        elif not self.over:
            self.notify()

    def probe(self, now: float) -> None:
        """Ask for the availability; again before a temporary subscription ends."""
        proxy = self.line.proxy
        self.probe_at = now + max(10, proxy.config.presence.adhoc_ttl_s * 0.8)
        self._say('probe')

    def ask(self) -> None:
        """An approval is needed."""
        self.pending = True
        self._say('subscribe')

    def _say(self, kind: str) -> None:
        sender, to = xml.quote(self.line.session.jid), xml.quote(self.target)
        self.line.submit(f"<presence type='{kind}' from='{sender}' to='{to}' id='{kind}'/>")


class Watching:
    """The subscriptions and publications of all clients."""

    def __init__(self, proxy: SipProxy) -> None:
        self._proxy = proxy

    def presence(self, line: Line, stanza: Stanza) -> None:
        """Presence for a client."""
        sender = stanza.from_ or ''
        try:
            local, domain, resource = jid.split(sender)
        except jid.InvalidJID:
            return
        bare = f'{local}@{domain}'
        for one in [one for one in line.subscriptions.values() if one.target == bare]:
            self._take(one, stanza, resource)

    def _take(self, one: Subscription, stanza: Stanza, resource: str) -> None:
        kind = stanza.type
        if kind is None and (resource in one.clients or len(one.clients) < RESOURCES):
            one.pending = False
            one.clients[resource] = _client(stanza, resource)
        elif kind == 'unavailable':
            if resource:
                one.clients.pop(resource, None)
            else:
                one.clients.clear()
        elif kind == 'subscribed':
            one.pending = False
        elif kind == 'unsubscribed':
            self.end(one, 'rejected')
            return
        elif kind == 'error':
            self._refused(one, stanza)
            return
        one.notify()

    def _refused(self, one: Subscription, stanza: Stanza) -> None:
        engine = self._proxy.presence_engine()
        error = stanza.child(ns.CLIENT, 'error')
        forbidden = error is not None and error.find(f'{{{ns.STANZA_ERRORS}}}forbidden') is not None
        if forbidden and stanza.id == 'probe' and engine is not None and engine.sharing:
            if not one.pending:
                one.ask()
                one.notify()
        else:
            self.end(one, 'rejected')

    def tend(self, line: Line, now: float) -> None:
        """Whatever time ends."""
        for one in list(line.subscriptions.values()):
            if one.ends <= now:
                self.end(one, 'timeout')
            elif one.probe_at <= now and self._proxy.presence_engine() is not None:
                one.probe(now)
        if line.publication is not None and line.publication[1] <= now:
            unpublish(line)

    def end(self, one: Subscription, why: str) -> None:
        """A subscription is over; ``why`` is told the client, '' when it is not there to hear it."""
        line = one.line
        line.subscriptions.pop(one.key, None)
        if (engine := self._proxy.presence_engine()) is not None and all(
            other.target != one.target for other in line.subscriptions.values()
        ):
            engine.adhoc.release(line.session, one.target)
        one.over = why or 'noresource'
        if why:
            one.notify()

    def end_all(self, line: Line) -> None:
        """The client is gone, or the service stops."""
        for one in list(line.subscriptions.values()):
            self.end(one, 'deactivated')


def _client(stanza: Stanza, resource: str) -> pidf.Tuple:
    tree = stanza.tree
    text = (tree.findtext(f'{{{ns.CLIENT}}}priority') or '0').strip()
    priority = int(text) if text.lstrip('-').isdecimal() and len(text) <= 4 else 0
    show = (tree.findtext(f'{{{ns.CLIENT}}}show') or '').strip()
    return pidf.Tuple(resource, show, tree.findtext(f'{{{ns.CLIENT}}}status') or '', priority)


def _lasting(one: Incoming) -> int:
    """How long a subscription or publication lasts, 0 for its end. Raises BadMessage."""
    seconds = number(one.headers, 'expires')
    return DEFAULT_S if seconds is None else min(seconds, DEFAULT_S)


def _package(proxy: SipProxy, one: Incoming) -> str | None:
    """The id of the event, None when it is another package: answered."""
    package, event_id = event_of(one.headers)
    if package == PACKAGE:
        return event_id
    proxy.reply(one, one.response(489, Allow_Events=PACKAGE))
    return None


async def subscribe(proxy: SipProxy, one: Incoming) -> None:
    """Begin, refresh or end a subscription."""
    event_id = _package(proxy, one)
    if event_id is None:
        return
    if not accepts(one.headers, pidf.CONTENT_TYPE):
        raise BadMessage(406, '')
    seconds = _lasting(one)
    if 0 < seconds < LEAST_S:
        proxy.reply(one, one.response(423, Min_Expires=str(LEAST_S)))
        return
    watcher = await proxy.speaker(one.flow, one.from_uri)
    line = await proxy.line_for(one.flow, watcher)
    key = (one.call_id, one.from_tag, one.dialog_tag)
    found = line.subscriptions.get(key)
    if one.to_tag and (found is None or one.cseq <= found.cseq):
        raise BadMessage(481 if found is None else 500, '')
    if found is None:
        if not line.contact:
            raise BadMessage(403, 'Register before you subscribe')
        if len(line.subscriptions) >= int(proxy.param('subscriptions')):
            raise BadMessage(403, 'There are too many subscriptions')
        target = await proxy.resolve(one.request.uri)
        contact = read_place(one.headers.get('contact')).uri
        read_uri(contact)
        found = Subscription(line, one, target, event_id, contact)
        line.subscriptions[key] = found
    now = proxy.loop.time()
    found.cseq, found.ends = one.cseq, now + seconds
    where = f'<sip:{one.flow.local};transport={one.flow.transport.lower()}>'
    proxy.reply(one, one.response(200, Expires=str(seconds), Contact=where))
    found.probe(now)
    if line.subscriptions.get(key) is not found:
        return  # refused at once
    if seconds == 0:
        proxy.watching.end(found, 'timeout')
    else:
        found.notify(always=True)


async def publish(proxy: SipProxy, one: Incoming) -> None:
    """A client, or a trunk for a user, says how available the user is."""
    if _package(proxy, one) is None:
        return
    line = await proxy.line_for(one.flow, await proxy.speaker(one.flow, one.request.uri))
    seconds = _lasting(one)
    given = one.headers.get('sip-if-match')
    if given and (line.publication is None or line.publication[0] != given):
        raise BadMessage(412, '')
    if 0 < seconds < LEAST_S:
        proxy.reply(one, one.response(423, Min_Expires=str(LEAST_S)))
        return
    if not given and not one.request.body:
        raise BadMessage(400, 'The publication has no document')
    if seconds and one.request.body:
        if content_type(one.headers)[0] != pidf.CONTENT_TYPE:
            proxy.reply(one, one.response(415, Accept=pidf.CONTENT_TYPE))
            return
        state = pidf.read(one.request.body)
        if state.is_open:
            line.available(0 if line.contact else PHONE_PRIORITY, state.show, state.status)
        else:
            line.unavailable()
    etag = secrets.token_hex(8)
    if seconds:
        line.publication = etag, proxy.loop.time() + seconds
    else:
        unpublish(line)
    proxy.reply(one, one.response(200, SIP_ETag=etag, Expires=str(seconds)))


def unpublish(line: Line) -> None:
    """What was published no longer holds: a registered client is simply available, others are not."""
    line.publication = None
    if line.contact:
        line.available(0)
    else:
        line.unavailable()
