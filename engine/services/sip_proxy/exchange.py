"""Requests of others with their one answer, and requests of this node with theirs (RFC 3261 8, 17)."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from engine.sip.address import Place, Via, parameters, read_place, read_uri, read_via
from engine.sip.message import BadMessage, Headers, Request, Response, number
from engine.sip.transactions import COOKIE, ClientTransaction, Key

if TYPE_CHECKING:
    from engine.services.sip_proxy.flows import Flow

METHODS: Final = ('REGISTER', 'MESSAGE', 'SUBSCRIBE', 'PUBLISH', 'OPTIONS')
ALLOW: Final = ', '.join((*METHODS, 'NOTIFY'))
KNOWN: Final = frozenset((*METHODS, 'INVITE', 'ACK', 'BYE', 'CANCEL', 'PRACK', 'UPDATE', 'INFO', 'REFER', 'NOTIFY'))
SERVER: Final = 'IM and Presence'
_SECRET: Final = secrets.token_bytes(32)

Done = Callable[[int, Response | None], None]


@dataclass(slots=True)
class Incoming:
    """One request with what every method needs of it."""

    flow: Flow
    request: Request
    via: Via
    key: Key
    from_uri: str
    from_tag: str
    to_uri: str
    to_tag: str
    call_id: str
    cseq: int

    @property
    def headers(self) -> Headers:
        """Its headers."""
        return self.request.headers

    @property
    def dialog_tag(self) -> str:
        """Our tag: the one the request has, else one made of what makes the dialog."""
        return self.to_tag or tag(self.call_id, self.from_tag)

    def response(self, status: int, reason: str = '', **extra: str) -> Response:
        """An answer with the headers it must have (RFC 3261 8.2.6); ``extra``: names with _ for -."""
        headers = Headers()
        vias = self.headers.all('via')
        headers.add('via', _received(vias[0], self.via, self.flow))
        for via in vias[1:]:
            headers.add('via', via)
        to = self.headers.get('to')
        headers.add('from', self.headers.get('from'))
        headers.add('to', to if self.to_tag else f'{_bracketed(to)};tag={self.dialog_tag}')
        headers.add('call-id', self.call_id)
        headers.add('cseq', self.headers.get('cseq'))
        headers.add('server', SERVER)
        for name, value in extra.items():
            headers.add(name.replace('_', '-').lower(), value)
        return Response(status, reason, headers)

    def port(self) -> int:
        """Where the answer goes over UDP (RFC 3261 18.2.2, RFC 3581 4)."""
        return self.flow.port if 'rport' in self.via.parameters else self.via.port or 5060


def tag(call_id: str, other: str) -> str:
    """A tag that is the same for each repetition of a request and that nobody can guess."""
    return hmac.digest(_SECRET, f'{call_id} {other}'.encode(), hashlib.sha256).hex()[:20]


def _bracketed(place: str) -> str:
    return place if '<' in place else f'<{place}>'


def _received(text: str, via: Via, flow: Flow) -> str:
    value = text
    if 'rport' in via.parameters:
        head, _, rest = text.partition(';')
        kept = [one for one in rest.split(';') if one.partition('=')[0].strip().lower() not in ('rport', 'received')]
        value = ';'.join((head, *kept, f'rport={flow.port}'))
    if 'rport' in via.parameters or via.host.strip('[]') != flow.address:
        value += f';received={flow.address}'
    return value


def incoming(flow: Flow, request: Request) -> Incoming:
    """A request as far as it can be answered. Raises ValueError when it cannot."""
    headers = request.headers
    vias = headers.all('via')
    try:
        if not vias:
            raise ValueError('there is no Via')
        via = read_via(vias[0])
    except BadMessage as problem:
        raise ValueError(problem.reason) from None
    sender, addressee = _place(headers.get('from')), _place(headers.get('to'))
    text = headers.get('cseq').partition(' ')[0]
    return Incoming(
        flow, request, via, _key(flow, via, request, headers), sender.uri, sender.parameters.get('tag', ''),
        addressee.uri, addressee.parameters.get('tag', ''), headers.get('call-id'),
        int(text) if text.isascii() and text.isdigit() and len(text) < 11 else -1,
    )  # fmt: skip


def _place(text: str) -> Place:
    try:
        return read_place(text)
    except BadMessage:
        return Place('', {})  # ``acceptable`` refuses it


def acceptable(one: Incoming) -> None:
    """Check what every request must have and what is done here (RFC 3261 8.1.1, 8.2). Raises BadMessage."""
    if not (one.call_id and one.from_tag):
        raise BadMessage(400, 'Call-ID or the tag of From is missing')
    method = one.headers.get('cseq').partition(' ')[2].strip()
    if not 0 <= one.cseq < 2**31 or method != one.request.method:
        raise BadMessage(400, 'CSeq does not fit the request')
    if number(one.headers, 'max-forwards') == 0 and one.request.method != 'OPTIONS':
        raise BadMessage(483, '')
    if one.headers.get('content-encoding').lower() not in ('', 'identity'):
        raise BadMessage(415, 'The body is encoded')
    read_uri(one.request.uri)
    read_uri(one.from_uri)
    read_uri(one.to_uri)


def _key(flow: Flow, via: Via, request: Request, headers: Headers) -> Key:
    """What a repetition has in common with the request (RFC 3261 17.2.3), and nobody else's request."""
    branch = via.parameters.get('branch', '')
    method = 'INVITE' if request.method == 'ACK' else request.method
    if not branch.startswith(COOKIE):
        branch = ' '.join(headers.get(name) for name in ('from', 'to', 'call-id', 'cseq'))[:1000]
    return (flow.address, str(flow.port), flow.transport, branch[:1000], via.host, str(via.port), method)


class Calls:
    """Requests of this node that wait for their answer, by branch."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[ClientTransaction, Flow, str, Done]] = {}
        self._loop = asyncio.get_running_loop()

    def send(self, flow: Flow, request: Request, done: Done) -> None:
        """Send ``request`` without Via; ``done(status, response)`` is called once, never from inside this call: 408
        without an answer, 430 when the way is gone."""
        branch = COOKIE + secrets.token_hex(12)
        request.headers.lines.insert(0, ('via', f'SIP/2.0/{flow.transport} {flow.local};branch={branch};rport'))
        data = request.encode()
        if flow.closed:
            self._loop.call_soon(done, 430, None)
            return
        call = ClientTransaction(data, flow.reliable, self._loop.time())
        self._open[branch] = (call, flow, request.method, done)
        flow.send(data)
        self._loop.call_at(call.deadline, self._tick, branch)

    def answered(self, flow: Flow, response: Response) -> None:
        """A response came over ``flow``; of another flow it is none."""
        vias = response.headers.all('via')
        try:
            branch = read_via(vias[0]).parameters.get('branch', '') if len(vias) == 1 else ''
        except BadMessage:
            return
        known = self._open.get(branch)
        if known is None or known[1].key != flow.key or response.headers.get('cseq').partition(' ')[2] != known[2]:
            return
        if response.status < 200:
            known[0].proceeding()
            return
        del self._open[branch]
        known[3](response.status, response)

    def lost(self, flow: Flow) -> None:
        """The way is gone."""
        for branch, known in list(self._open.items()):
            if known[1] is flow:
                del self._open[branch]
                known[3](430, None)

    def _tick(self, branch: str) -> None:
        known = self._open.get(branch)
        if known is None:
            return
        call, flow, _, done = known
        again = call.tick(self._loop.time())
        if again is None:
            del self._open[branch]
            done(408, None)
            return
        if again:
            flow.send(again)
        self._loop.call_at(call.deadline, self._tick, branch)


def event_of(headers: Headers) -> tuple[str, str]:
    """(package, id) of the Event header. Raises BadMessage."""
    package, semicolon, rest = headers.get('event').partition(';')
    return package.strip().lower(), parameters(semicolon + rest).get('id', '')


def accepts(headers: Headers, wanted: str) -> bool:
    """Whether Accept allows a content type; without Accept it does."""
    ranges = [one.partition(';')[0].strip().lower() for one in headers.all('accept')]
    return not ranges or not {wanted, wanted.partition('/')[0] + '/*', '*/*'}.isdisjoint(ranges)


def content_type(headers: Headers) -> tuple[str, dict[str, str]]:
    """Type and parameters of the body, both in lower case. Raises BadMessage."""
    kind, semicolon, rest = headers.get('content-type').partition(';')
    return kind.strip().lower(), parameters(semicolon + rest)
