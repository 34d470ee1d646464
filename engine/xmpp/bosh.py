"""XEP-0124 and XEP-0206 without input and output: one BOSH session as a reliable pair of byte streams over requests.

``BoshSession`` takes the requests of a client in the order of their ids, hands what they carry to the stream, and
answers them with what the stream wrote. Requests are any objects the caller knows; bytes, answers and ends go through
``Host``. A response is kept until the client has shown that it has it, and repeated when the client asks again.

Optional parts: key sequences (15) and acknowledgements (9) are implemented; several streams in one session,
polling without ``hold`` beyond what 12 asks, ``route``, script syntax and compression are not. Unknown attributes are
ignored, as 5 demands.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict, deque
from dataclasses import dataclass
from hmac import compare_digest
from typing import Any, Final, Protocol

from engine.xmpp import ns
from engine.xmpp.parser import Child, End, Header, StreamError, StreamParser, standalone
from engine.xmpp.stanza import LANG, NAME, TAG, quote, with_attributes
from engine.xmpp.websocket_framing import END, declared, elements, header, split_header

HTTPBIND: Final = 'http://jabber.org/protocol/httpbind'
XBOSH: Final = 'urn:xmpp:xbosh'
VERSION: Final = '1.11'
_BIGGEST: Final = 2**53 - 1
"""Largest request id (XEP-0124 14.1: it must survive in an IEEE double)."""
_SAME: Final = {'host-unknown', 'improper-addressing', 'internal-server-error', 'system-shutdown'}
"""Stream errors that have a BOSH condition of the same name."""
_CONTENT: Final = ('text/xml', 'application/xml', 'text/plain')


STATUS: Final = {'bad-request': 400, 'policy-violation': 403, 'item-not-found': 404}
"""HTTP status of the conditions for clients without ``ver`` (17.1); all others get 200 and the condition."""
_POLL_S: Final = 0.05
"""How long the request of a client that polls waits for what it caused."""


class BadBody(Exception):
    """The request is no <body/>; ``sid`` names the session it was meant for when that much could be read."""

    def __init__(self, text: str, sid: str = '') -> None:
        super().__init__(text)
        self.sid = sid


@dataclass(frozen=True, slots=True)
class Body:
    """One request: the attributes of its <body/> (names as expat gives them) and its elements, standing alone."""

    attrs: dict[str, str]
    children: tuple[bytes, ...]

    @property
    def rid(self) -> int:
        """The request id, -1 when it is none."""
        return number(self.attrs.get('rid'), -1, 1, _BIGGEST)


def number(text: str | None, default: int, low: int, high: int) -> int:
    """A whole number from ``low`` to ``high``, or ``default`` for everything else."""
    if text is None or not (text.isascii() and text.isdecimal()) or len(text) > 16:
        return default
    value = int(text)
    return value if low <= value <= high else default


def parse_body(data: bytes, limit: int) -> Body:
    """Read one request. Raises BadBody. ``limit``: bytes of the largest element."""
    parser = StreamParser(limit)
    attrs: dict[str, str] = {}
    try:
        parser.feed(data)
        first = parser.items.popleft() if parser.items else None
        if not isinstance(first, Header) or first.name != f'{HTTPBIND} body':
            raise BadBody(parser.error.text if parser.error else 'The request is not a <body/> element.')
        attrs = first.attrs
        children = tuple(_alone(item, first.wrap or b'') for item in parser.items if isinstance(item, Child))
        if parser.error is not None or not (parser.items and isinstance(parser.items[-1], End)):
            text = parser.error.text if parser.error else 'The <body/> element is not complete.'
            raise BadBody(text, attrs.get('sid', ''))
        return Body(attrs, children)
    except StreamError as error:
        raise BadBody(error.text, attrs.get('sid', '')) from None
    finally:
        parser.close()


def _alone(child: Child, wrap: bytes) -> bytes:
    """The element as it would stand in a stream. Clients that forget to declare jabber:client mean it."""
    tag = TAG.match(child.raw)
    prefixed = b':' in child.raw.replace(b'xmlns:', b'').replace(b'xml:', b'') and wrap.count(b'xmlns:') > 0
    if tag is not None and b' xmlns=' in tag.group() and not prefixed and b':' not in NAME.match(child.raw).group(1):  # type: ignore[union-attr]
        return child.raw
    return standalone(child.raw, with_attributes(wrap, {'xmlns': ns.CLIENT}))


class Host(Protocol):
    """What a session asks of the program around it."""

    def feed(self, data: bytes) -> None:
        """Bytes for the stream. What the stream answers comes through ``BoshSession.write``, at once or later."""

    def answer(self, request: Any, body: bytes, content: str, status: int) -> None:
        """Send the HTTP response."""

    def drop(self, request: Any) -> None:
        """End this request without a response: the client has repeated it."""

    def delivered(self) -> None:
        """The client has shown that it has more responses than before: ``BoshSession.undelivered`` is smaller."""

    def ended(self, condition: str) -> None:
        """The client has ended the session, or broke its rules (``condition``), or has gone ('gone')."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What the administrator allows (XEP-0124 7.1)."""

    wait_s: int = 60
    hold: int = 1
    inactivity_s: int = 60
    polling_s: int = 2
    pause_s: int = 120


class _Held:
    """A request that was worked on and waits for something to answer."""

    __slots__ = ('request', 'rid', 'until')

    def __init__(self, rid: int, request: Any, until: float) -> None:
        self.rid, self.request, self.until = rid, request, until


class BoshSession:
    """One session. Begin with ``open``; then ``receive`` for each request, ``write`` and ``flush`` for what the stream
    says, ``lost`` when the connection of a request broke, ``tick`` at ``deadline``."""

    __slots__ = (
        '_acks', '_cache', '_closing', '_condition', '_content', '_empty_at', '_feeding', '_final', '_held',
        '_highest', '_hold', '_host', '_idle_s', '_key', '_legacy', '_opening', '_out', '_paused', '_pending',
        '_silent_since', '_size', '_terms', '_wait', 'authid', 'deadline', 'domain', 'gone', 'lang', 'sid',
    )  # fmt: skip

    def __init__(self, sid: str, terms: Terms, host: Host) -> None:
        self.sid = sid
        self.deadline: float | None = None
        self.domain = ''
        self.authid = ''
        self.lang = ''
        self.gone = False
        """Nothing will be answered any more."""
        self._host = host
        self._terms = terms
        self._wait = self._hold = 0
        self._content = ''
        self._legacy = False
        self._acks = False
        self._key = ''
        self._highest = 0
        """Id of the newest request that was worked on."""
        self._pending: dict[int, tuple[Body, Any]] = {}
        self._held: deque[_Held] = deque()
        self._out: list[bytes] = []
        self._size = 0
        """Bytes in _out."""
        self._cache: OrderedDict[int, tuple[bytes, int]] = OrderedDict()
        """Responses the client may not have: id -> body, bytes of the stream in it."""
        self._opening: dict[str, str] | None = None
        self._closing = False
        self._condition = ''
        self._final = b''
        self._feeding = False
        self._paused = False
        self._idle_s = float(terms.inactivity_s)
        self._silent_since: float | None = None
        self._empty_at = float('-inf')

    # ---- what the caller says

    @property
    def most(self) -> int:
        """Requests the client may have open at once."""
        return max(2, self._hold + 1)

    @property
    def waiting(self) -> int:
        """Bytes no response has carried yet."""
        return self._size

    @property
    def undelivered(self) -> int:
        """Bytes the client may not have: those waiting, and those of responses it has not shown to have."""
        return self._size + sum(size for _, size in self._cache.values())

    def open(self, body: Body, request: Any, now: float) -> None:
        """The session creation request (7.1)."""
        attrs, terms = body.attrs, self._terms
        self._wait = number(attrs.get('wait'), terms.wait_s, 0, 10**9)
        self._wait = min(self._wait, terms.wait_s)
        self._hold = min(number(attrs.get('hold'), 1, 0, 10**9), terms.hold)
        self._legacy = 'ver' not in attrs
        self._acks = attrs.get('ack') == '1'
        self._key = attrs.get('newkey', '')
        kind = attrs.get('content', '').partition(';')[0].strip().lower()
        self._content = f'{kind if kind in _CONTENT else _CONTENT[0]}; charset=utf-8'
        self._opening = attrs
        self._highest = body.rid
        self.domain = attrs.get('to', '')
        self.lang = attrs.get(LANG, '')
        self._held.append(_Held(body.rid, request, now + max(1, self._wait)))
        self._feed([header({**attrs, 'version': attrs.get(f'{XBOSH} version', '1.0')}), *body.children])
        if self._closing:
            self._end(now)
        elif self.authid:
            self._say()
        self._arm(now)

    def receive(self, body: Body, request: Any, now: float) -> None:
        """A further request of the client."""
        rid = body.rid
        if self._closing and rid > self._highest:
            self._answer_end(request)
            return
        if rid <= self._highest:
            self._repeat(rid, request, now)
            return
        special = body.attrs.get('type') == 'terminate' or 'pause' in body.attrs
        if rid > self._highest + self.most + special:
            self._break('item-not-found', request)
            return
        if rid in self._pending:
            self._host.drop(self._pending[rid][1])
        elif len(self._pending) + sum(held.request is not None for held in self._held) >= self.most + special:
            self._break('policy-violation', request)
            return
        self._pending[rid] = (body, request)
        self._work(now)

    def lost(self, request: Any, now: float) -> None:
        """The connection of this request broke before it was answered: the client may repeat it."""
        for held in self._held:
            if held.request is request:
                held.request = None
        for rid, (_, waiting) in list(self._pending.items()):
            if waiting is request:
                del self._pending[rid]
        self._arm(now)

    def hurry(self, request: Any, now: float) -> None:
        """Another request came behind this one on the same connection (11): answer it, so that the other is read."""
        for held in list(self._held):
            if held.request is not None:
                self._respond()
            if held.request is request:
                break
        self._arm(now)

    def press(self, now: float) -> None:
        """Somebody waits to hear that the client has what it was sent. A client that does not say so (9.2) shows it by
        its next requests, so it is made to send one, not to wait."""
        if not (self._acks or self._closing or self._polls()) and any(size for _, size in self._cache.values()):
            if self._live():
                self._respond()
            self._arm(now)

    def encode(self, data: bytes) -> bytes:
        """What the stream wants to say as content of a <body/>: its header and end have no place there (XEP-0206)."""
        if data.startswith(b'<?xml'):
            attributes, data = split_header(data)
            self.authid = _plain(attributes.get(b'id', b'')) or self.authid
            self.domain = _plain(attributes.get(b'from', b'')) or self.domain
        if data.endswith(END):
            data = data[: -len(END)]
        return b''.join(declared(one) for one in elements(data))

    def write(self, data: bytes, now: float) -> None:
        """Encoded bytes for the client: they leave with the oldest waiting request, or the next one."""
        self._out.append(data)
        self._size += len(data)
        if not self._feeding and not self.gone and not self._closing and (self._opening is None or self.authid):
            self._say()
            self._arm(now)

    def hold_back(self, held: bool, now: float) -> None:
        """Work on no further request while ``held`` (back-pressure)."""
        self._paused = held
        if not held:
            self._work(now)

    def close(self, condition: str, now: float, uri: str = '') -> None:
        """The stream has ended with this stream error, '' for an orderly end: tell it with the next response (17.2)."""
        if self._closing:
            return
        self._closing = True
        inside = b''.join(self._out)
        if condition == 'see-other-host' and uri:
            self._condition, inside = 'see-other-uri', f'<uri>{quote(uri)}</uri>'.encode()
        elif condition:
            self._condition = condition if condition in _SAME else 'remote-stream-error'
        self._final = inside
        if not self._feeding:
            self._end(now)
            self._arm(now)

    def break_off(self, condition: str, request: Any) -> None:
        """End the session because of this request, which is not one."""
        self._break(condition, request)

    def abandon(self) -> None:
        """End the session without a word."""
        for held in self._held:
            if held.request is not None:
                self._host.drop(held.request)
        self._held.clear()
        self._gone('')

    def tick(self, now: float) -> None:
        """Time has passed: empty responses for requests that waited long enough; the end of a silent session."""
        while not self._closing and any(held.request is not None and held.until <= now for held in self._held):
            self._respond()
        self._arm(now)
        if self.deadline is not None and self.deadline <= now and not self._alive():
            self._gone('gone')

    # ---- requests in order

    def _work(self, now: float) -> None:
        if self._feeding:
            return
        while not self._paused and not self.gone and (found := self._pending.pop(self._highest + 1, None)) is not None:
            body, request = found
            self._highest += 1
            if not self._key_fits(body.attrs):
                self._break('item-not-found', request)
                return
            self._count_delivered(body.attrs)
            self._take(body, request, now)
        if not self.gone:
            self._arm(now)

    def _take(self, body: Body, request: Any, now: float) -> None:
        attrs = body.attrs
        self._idle_s, self._silent_since = float(self._terms.inactivity_s), None
        if self._closing:
            self._answer_end(request)
            return
        empty = not body.children and not {'type', 'pause', f'{XBOSH} restart'}.intersection(attrs)
        if empty and self._polls() and not self._out:
            if now - self._empty_at < self._terms.polling_s:
                self._break('policy-violation', request)
                return
            self._empty_at = now
        self._held.append(_Held(self._highest, request, now + (_POLL_S if self._polls() else self._wait)))
        pieces = list(body.children)
        if attrs.get(f'{XBOSH} restart') in ('true', '1'):
            given = {'to': attrs.get('to') or self.domain, 'version': '1.0', LANG: attrs.get(LANG, self.lang)}
            pieces.insert(0, header(given))
        ends = attrs.get('type') == 'terminate'
        if ends:
            pieces.append(END)
        self._feed(pieces)
        if self._closing:
            self._end(now)
            return
        pause = number(attrs.get('pause'), 0, 1, self._terms.pause_s)
        if pause:
            self._idle_s = float(pause)
            while self._held:
                self._respond()
            return
        self._say()
        while len(self._held) > max(1, self._hold):
            self._respond()

    def _say(self) -> None:
        while self._out and self._live():
            self._respond()

    def _feed(self, pieces: list[bytes]) -> None:
        self._feeding = True
        try:
            for piece in pieces:
                if not self._closing:
                    self._host.feed(piece)
        finally:
            self._feeding = False

    def _polls(self) -> bool:
        return not self._wait or not self._hold

    def _repeat(self, rid: int, request: Any, now: float) -> None:
        """A request that came before: its response was lost, or it still waits (14.3)."""
        if (kept := self._cache.get(rid)) is not None:
            self._host.answer(request, kept[0], self._content, 200)
            return
        for held in self._held:
            if held.rid == rid:
                if held.request is not None:
                    self._host.drop(held.request)
                held.request, held.until = request, now + self._wait
                if not self._closing:
                    self._say()
                self._arm(now)
                return
        if self._closing:
            self._answer_end(request)
        else:
            self._break('item-not-found', request)

    def _key_fits(self, attrs: dict[str, str]) -> bool:
        """Key sequences (15): each key hashes to the one before."""
        if not self._key:
            return True
        key = attrs.get('key', '')
        hashed = hashlib.sha1(key.encode(), usedforsecurity=False).hexdigest()
        if not compare_digest(hashed.encode(), self._key.lower().encode()):
            return False
        self._key = attrs.get('newkey') or key
        return True

    def _count_delivered(self, attrs: dict[str, str]) -> None:
        """Which responses the client has: by its word (9.2), else because it may only have so many requests open. One
        of them may be older than the others, its response lost (14.3: as many responses are kept as requests)."""
        rid = self._highest
        until = number(attrs.get('ack'), rid - 1, 0, _BIGGEST) if self._acks else rid - self.most - 1
        # What it says it has can be at most what it may have.
        until = min(until, rid - 1)
        before = len(self._cache)
        while self._cache and next(iter(self._cache)) <= until:
            self._cache.popitem(last=False)
        if len(self._cache) != before:
            self._host.delivered()

    # ---- responses

    def _respond(self) -> None:
        """Answer the oldest waiting request with all there is. One whose connection broke gets its response kept."""
        held = self._held.popleft()
        if held.request is None and self._live():
            payload: list[bytes] = []
        else:
            payload, self._out = self._out, []
        inside = b''.join(payload)
        if payload:
            self._size -= len(inside)
        body = self._body(held.rid, inside)
        self._cache[held.rid] = (body, len(inside))
        while len(self._cache) > self.most + 1:
            self._cache.popitem(last=False)
        if held.request is not None:
            self._host.answer(held.request, body, self._content, 200)

    def _live(self) -> bool:
        return any(held.request is not None for held in self._held)

    def _body(self, rid: int, inside: bytes) -> bytes:
        parts = [f"<body xmlns='{HTTPBIND}'"]
        if self._opening is not None:
            self._opening = None
            terms = self._terms
            given = {
                'sid': self.sid, 'wait': self._wait, 'requests': self.most, 'hold': self._hold,
                'inactivity': terms.inactivity_s, 'polling': terms.polling_s, 'maxpause': terms.pause_s,
                'ver': VERSION, 'from': self.domain, 'authid': self.authid, 'ack': rid,
                'xmpp:version': '1.0', 'xmpp:restartlogic': 'true',
            }  # fmt: skip
            parts += [f" {key}='{quote(str(value))}'" for key, value in given.items()]
            parts.append(f" xmlns:xmpp='{XBOSH}' xmlns:stream='{ns.STREAMS}'")
        elif self._highest != rid:
            parts.append(f" ack='{self._highest}'")
        if not inside:
            return f'{"".join(parts)}/>'.encode()
        return f'{"".join(parts)}>'.encode() + inside + b'</body>'

    # ---- the end

    def _end(self, now: float) -> None:
        """Say that the session is over, to every request that waits (13)."""
        told = False
        while self._held:
            held = self._held.popleft()
            if held.request is not None:
                self._answer_end(held.request)
                told = True
        for _, request in self._pending.values():
            self._answer_end(request)
            told = True
        self._pending.clear()
        if told:
            self._out, self._size = [], 0
            self._gone('')

    def _answer_end(self, request: Any) -> None:
        told = f" condition='{self._condition}'" if self._condition else ''
        streams = f" xmlns:stream='{ns.STREAMS}'" if b'stream:' in self._final else ''
        start = f"<body xmlns='{HTTPBIND}' type='terminate'{told}{streams}"
        body = f'{start}>'.encode() + self._final + b'</body>' if self._final else f'{start}/>'.encode()
        self._final = b''
        status = STATUS.get(self._condition, 200) if self._legacy else 200
        self._host.answer(request, body, self._content, status)

    def _break(self, condition: str, request: Any) -> None:
        """The client broke a rule of BOSH: no way to go on (17.2)."""
        self._closing, self._condition, self._final = True, condition, b''
        self._answer_end(request)
        for held in self._held:
            if held.request is not None:
                self._answer_end(held.request)
        for _, waiting in self._pending.values():
            self._answer_end(waiting)
        self._held.clear()
        self._pending.clear()
        self._gone(condition)

    def _gone(self, condition: str) -> None:
        if self.gone:
            return
        self.gone = True
        self._closing = True
        self.deadline = None
        for _, request in self._pending.values():
            self._host.drop(request)
        self._pending.clear()
        self._host.ended(condition)

    def _alive(self) -> bool:
        return self._live() and not self._closing

    def _arm(self, now: float) -> None:
        """When ``tick`` is due: the oldest request's wait, or the end of the silence."""
        if self.gone:
            self.deadline = None
        elif self._alive():
            self._silent_since = None
            self.deadline = min(held.until for held in self._held if held.request is not None)
        else:
            if self._silent_since is None:
                self._silent_since = now
            self.deadline = self._silent_since + self._idle_s


def terminate(condition: str) -> bytes:
    """A response that says that there is no session, for this reason."""
    return f"<body xmlns='{HTTPBIND}' type='terminate' condition='{condition}'/>".encode()


def _plain(quoted: bytes) -> str:
    text = quoted[1:-1].decode()
    for written, meant in (('&lt;', '<'), ('&gt;', '>'), ('&quot;', '"'), ('&apos;', "'"), ('&amp;', '&')):
        text = text.replace(written, meant)
    return text
