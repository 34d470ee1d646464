"""What streams between servers have in common in both directions (RFC 6120, XEP-0170, XEP-0220, XEP-0288).

Sans-io, as c2s: the shell feeds bytes and carries out the events given to ``emit``; no method raises for what the
peer sends, and after ``Close`` nothing more comes out. ``s2s_in`` is the receiving, ``s2s_out`` the initiating side.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final
from xml.etree.ElementTree import Element

import msgspec

from engine.contract import jid as jids
from engine.xmpp import ns
from engine.xmpp.cutting import Cutter, StreamClosed
from engine.xmpp.dialback import Answer
from engine.xmpp.events import Close, Send, StartTLS
from engine.xmpp.parser import Child, Header, StreamError, StreamParser, standalone
from engine.xmpp.stanza import escape, parse_tree

HEADER_BYTES: Final = 4096
"""A stream header is kept as long as the stream."""
_LONGEST: Final = 1023


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What another server may use. The first three hold until a domain of it is verified."""

    before_auth_bytes: int = 16_384
    before_auth_elements: int = 64
    before_auth_s: float = 60.0
    stanza_bytes: int = 524_288
    pairs: int = 100
    """Pairs of domains verified, or being verified, on one stream."""


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What all streams of one node share."""

    is_local: Callable[[str], bool]
    """Whether a prepared domain is served here (a component's domain too)."""
    may: Callable[[str, str], bool]
    """``may(remote domain, 'incoming' or 'outgoing')``: the administrator's policy."""
    random: Callable[[int], bytes]
    secret: str
    """Dialback secret of the cluster; '' switches dialback off in both directions."""
    security: str = 'optional'
    """'none', 'optional' or 'required': TLS."""
    require_certificates: bool = False
    """A peer under TLS is refused unless its certificate is valid for its domain."""
    external_in: bool = True
    external_out: bool = True
    bidi: bool = True
    limits: Limits = Limits()


class Verify(msgspec.Struct, frozen=True):
    """Receiving side: ask the authoritative server of ``remote`` for ``key``; answer with ``verified``."""

    remote: str
    local: str
    stream_id: str
    key: str


class Authorized(msgspec.Struct, frozen=True):
    """Receiving side: the peer is ``remote`` and may send to ``local``. ``bidi``: stanzas may also go back on this
    stream."""

    remote: str
    local: str
    mechanism: str
    bidi: bool


class Ready(msgspec.Struct, frozen=True):
    """Initiating side: the features are known, verify requests can be sent. ``authenticate`` or ``verify`` now."""


class Opened(msgspec.Struct, frozen=True):
    """Initiating side: stanzas of the pair may be sent."""

    mechanism: str
    bidi: bool


class Verified(msgspec.Struct, frozen=True):
    """Initiating side: the answer to a verify request."""

    stream_id: str
    answer: Answer


ServerEvent = Send | StartTLS | Close | Verify | Authorized | Ready | Opened | Verified
OnStanza = Callable[[str, str, str, dict[str, str], bytes], None]
"""``on_stanza(remote domain, local domain, name, attrs, raw)``: both domains prepared and verified."""


class ServerStream:
    """One stream. ``id`` is its id as the receiving side chose it, ``secure`` whether TLS is up, ``deadline`` the time
    at which ``tick`` must be called (None: never), ``trusted`` whether the limits before authentication are over."""

    __slots__ = (
        '_bytes', '_certificate', '_cutter', '_elements', '_parser', '_tls_next', '_waiting_tls', 'closed', 'deadline',
        'emit', 'id', 'namespace', 'on_stanza', 'secure', 'settings', 'trusted', 'version',
    )  # fmt: skip

    def __init__(self, settings: ServerSettings, emit: Callable[[ServerEvent], None], deadline: float | None) -> None:
        self.settings = settings
        self.emit = emit
        self.on_stanza: OnStanza | None = None
        self.deadline = deadline
        self.namespace = ns.SERVER
        self.id = ''
        self.version = False
        self.secure = False
        self.trusted = False
        self.closed = False
        self._certificate: Callable[[str], str] = _no_certificate
        self._waiting_tls = False
        self._tls_next: bytes | None = None
        self._bytes = 0
        self._elements = 0
        self._cutter: Cutter | None = None
        self._parser: StreamParser | None = StreamParser(settings.limits.before_auth_bytes)

    # ---- for the shell

    def receive(self, data: bytes) -> None:
        """Bytes from the peer."""
        if self.closed:
            return
        try:
            self._receive(data)
        except StreamError as error:
            self.close(error.condition, error.text)
        except StreamClosed:
            self.close()

    def tls_established(self, certificate: Callable[[str], str]) -> None:
        """TLS is up. ``certificate(domain)`` says why the peer's certificate does not prove that it is ``domain``; ''
        when it does."""
        self.secure = True
        self._certificate = certificate
        self._waiting_tls = False
        self._restart()

    def tick(self, now: float) -> None:
        """Time has passed."""
        if self.deadline is not None and now >= self.deadline:
            self.close('connection-timeout', 'The stream was not established in time.')

    def close(self, condition: str = '', text: str = '') -> None:
        """End the stream from our side: stream error or an orderly end, then Close."""
        if self.closed:
            return
        data = b'' if self._greeted() else self._greeting()
        self.eof()
        if condition:
            words = f"<text xmlns='{ns.STREAM_ERRORS}' xml:lang='en'>{escape(text)}</text>" if text else ''
            data += f"<stream:error><{condition} xmlns='{ns.STREAM_ERRORS}'/>{words}</stream:error>".encode()
        self.emit(Send(data + b'</stream:stream>'))
        self.emit(Close(condition, text))

    def eof(self) -> None:
        """The connection is gone; no event comes any more."""
        self.closed = True
        self.deadline = None
        if self._parser is not None:
            self._parser.close()
            self._parser = None
        if self._cutter is not None:
            self._cutter.close()
            self._cutter = None

    # ---- for the two sides

    def _receive(self, data: bytes) -> None:
        limits = self.settings.limits
        if self._waiting_tls:
            raise StreamError('policy-violation', 'Nothing may be sent between <proceed/> and the TLS handshake.')
        if not self.trusted:
            self._bytes += len(data)
            if self._bytes > limits.before_auth_bytes:
                text = f'At most {limits.before_auth_bytes} bytes before authentication.'
                raise StreamError('policy-violation', text)
        while not self.closed:
            if self._parser is not None:
                data = self._read_header(self._parser, data)
                if self._parser is not None:
                    return
            cutter = self._cutter
            if cutter is None:
                return
            before = cutter.elements
            data = cutter.feed(data)
            if not self.trusted:
                self._count(cutter.elements - before)
            if self._tls_next is not None:
                self._begin_tls(data)
                return
            if self._parser is None or not data:
                return

    def _count(self, elements: int) -> None:
        self._elements += elements
        if self._elements > self.settings.limits.before_auth_elements:
            most = self.settings.limits.before_auth_elements
            raise StreamError('policy-violation', f'At most {most} elements before authentication.')

    def _read_header(self, parser: StreamParser, data: bytes) -> bytes:
        parser.feed(data)
        if not parser.items:
            if parser.error is not None:
                raise parser.error
            return b''
        header = parser.items.popleft()
        if not isinstance(header, Header):
            raise StreamError('bad-format', 'The first element must be <stream:stream>.')
        rest = parser.rest(header.end)
        parser.close()
        self._parser = None
        self._count(1)
        namespace, _, name = header.name.rpartition(' ')
        if namespace != ns.STREAMS:
            raise StreamError('invalid-namespace', f'The stream namespace must be {ns.STREAMS}.')
        if name != 'stream':
            raise StreamError('bad-format', 'The first element must be <stream:stream>.')
        if header.content not in (self.namespace, ns.STREAMS, ''):
            raise StreamError('invalid-namespace', f'The default namespace must be {self.namespace}.')
        if header.wrap is not None and len(header.wrap) > HEADER_BYTES:
            raise StreamError('policy-violation', f'The stream header may have at most {HEADER_BYTES} bytes.')
        major = header.attrs.get('version', '0').partition('.')[0]
        self.version = major.isdecimal() and int(major[:9]) >= 1
        limits = self.settings.limits
        most = limits.stanza_bytes if self.trusted else limits.before_auth_bytes
        self._cutter = Cutter(self.namespace, header, most, self._on_stanza, self._on_child)
        self._on_header(header)
        return rest

    def _restart(self) -> None:
        """A new stream begins on the same connection."""
        if self._cutter is not None:
            self._cutter.stopped = True
        self._cutter = None
        limits = self.settings.limits
        self._parser = StreamParser(limits.stanza_bytes if self.trusted else limits.before_auth_bytes)

    def _trust(self) -> None:
        """The peer has proven who it is: the limits before authentication are over."""
        self.trusted = True
        self.deadline = None
        if self._cutter is not None:
            self._cutter.limit = self.settings.limits.stanza_bytes

    def _want_tls(self, said: bytes) -> None:
        """After the element being handled: send ``said``, then the handshake."""
        assert self._cutter is not None
        self._cutter.stopped = True
        self._tls_next = said

    def _begin_tls(self, rest: bytes) -> None:
        said, self._tls_next = self._tls_next, None
        if rest.strip():
            # Plain text here would be read as if it had come through TLS.
            raise StreamError('policy-violation', 'Nothing may be sent between STARTTLS and the TLS handshake.')
        self._waiting_tls = True
        if said:
            self.emit(Send(said))
        self.emit(StartTLS())

    def _tree(self, child: Child) -> Element:
        """The element by itself."""
        assert self._cutter is not None
        return parse_tree(standalone(child.raw, self._cutter.wrap, ns.CLIENT))

    def _on_child(self, child: Child) -> None:
        namespace, _, name = child.name.rpartition(' ')
        if namespace == ns.STREAMS and name == 'error':
            self._on_error(self._tree(child))
            raise StreamClosed
        self._on_element(namespace, name, child)

    def _on_error(self, tree: Element) -> None:
        """The peer ends the stream with an error."""

    def _greeted(self) -> bool:
        raise NotImplementedError

    def _greeting(self) -> bytes:
        raise NotImplementedError

    def _on_header(self, header: Header) -> None:
        raise NotImplementedError

    def _on_element(self, namespace: str, name: str, child: Child) -> None:
        raise NotImplementedError

    def _on_stanza(self, name: str, attrs: dict[str, str], raw: bytes) -> None:
        raise NotImplementedError


def _no_certificate(_domain: str) -> str:
    return 'The connection is not encrypted.'


def domain(text: str | None) -> str:
    """A prepared domain that may stand for a server: a name, no address. '' when it is none."""
    return _domain(text) if text and len(text) <= _LONGEST else ''


@lru_cache(maxsize=10_000)
def _domain(text: str) -> str:
    try:
        found = jids.prepare_domain(text)
    except jids.InvalidJID:
        return ''
    return '' if found.startswith('[') or found.rpartition('.')[2].isdecimal() else found


def domain_of(address: str) -> str:
    """The prepared domain of an address whose other parts may be wrong. '' when it has none."""
    return domain(address.partition('/')[0].rpartition('@')[2])


def stream_error(tree: Element) -> tuple[str, str]:
    """(condition, text) of a stream error."""
    prefix = f'{{{ns.STREAM_ERRORS}}}'
    names = {child.tag.removeprefix(prefix): child.text or '' for child in tree if child.tag.startswith(prefix)}
    text = names.pop('text', '')
    return next(iter(names), 'undefined-condition'), text[:200]


def header(namespace: str, from_: str, to: str, id: str = '', version: bool = True) -> bytes:
    """A stream header."""
    attributes = ''.join(
        f" {name}='{escape(value)}'" for name, value in (('from', from_), ('to', to), ('id', id)) if value
    )
    dialback = f" xmlns:db='{ns.DIALBACK}'" if namespace == ns.SERVER else ''
    numbered = " version='1.0'" if version else ''
    return (
        f"<?xml version='1.0'?><stream:stream xmlns='{namespace}' xmlns:stream='{ns.STREAMS}'{dialback}"
        f"{attributes}{numbered} xml:lang='en'>"
    ).encode()
