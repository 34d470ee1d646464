"""From the first byte to bind: stream headers, features in the order of XEP-0170, STARTTLS, SASL, resource binding.

Lives only until the session exists. It raises StreamError; ClientStream turns that into the stream's end.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

from engine.contract import jid
from engine.xmpp import ns, sasl, sm
from engine.xmpp.events import (
    Authenticated,
    AuthFailed,
    BindRequest,
    Event,
    NeedCredentials,
    NeedPasswordCheck,
    ResumeRequest,
    Send,
    StartTLS,
    StreamSettings,
    Verifiers,
)
from engine.xmpp.parser import Child, End, Header, StreamError, StreamParser, standalone
from engine.xmpp.stanza import ERROR_TYPES, LANG, escape, parse

_BINDING_ORDER: Final = ('tls-exporter', 'tls-server-end-point')
_BIND_ATTEMPTS: Final = 5
_WAITING_BYTES: Final = 65_536
_HEADER_BYTES: Final = 4096
_BASE64: Final = re.compile(rb'<[^<>]*[^<>/]>([A-Za-z0-9+/= \t\r\n]*)</[^<>]*>')
"""An element with nothing inside but what base64 is made of: needs no tree."""
_LANGUAGE: Final = re.compile('[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8}){0,6}')


class StreamEnd(Exception):
    """The client has closed its stream."""


class Negotiation:
    """The state of one client that has no session yet. ``waiting`` names the answer that must come before bytes are
    looked at again: '', 'credentials', 'password', 'tls', 'bind' or 'resume'."""

    __slots__ = (
        '_attempts', '_bind_id', '_bindings', '_bytes', '_elements', '_emit', '_end', '_failures', '_identities',
        '_later', '_local', '_mechanism', '_parser', '_random', '_scram', '_secure', '_settings', 'bare', 'domain',
        'greeted', 'lang', 'over', 'waiting', 'wrap',
    )  # fmt: skip

    def __init__(self, settings: StreamSettings, emit: Callable[[Event], None]) -> None:
        self._settings = settings
        self._emit = emit
        self._random = settings.random
        self._parser = StreamParser(settings.limits.before_auth_bytes)
        self._secure = False
        self._bindings: dict[str, tuple[bytes, ...]] = {}
        self._identities: frozenset[str] = frozenset()
        self._bytes = 0
        self._elements = 0
        self._failures = 0
        self._attempts = 0
        self._mechanism = ''
        self._scram: sasl.Scram | None = None
        self._local = ''
        self._bind_id = ''
        self._end = 0
        self._later = b''
        self.bare = ''
        self.domain = ''
        self.lang = ''
        self.wrap: bytes | None = None
        self.greeted = False
        self.over = False
        self.waiting = ''

    def receive(self, data: bytes) -> None:
        """Bytes from the client."""
        limits = self._settings.limits
        self._bytes += len(data)
        if not self.bare and self._bytes > limits.before_auth_bytes:
            raise StreamError('policy-violation', f'At most {limits.before_auth_bytes} bytes before authentication.')
        if self.waiting == 'tls':
            raise StreamError('policy-violation', 'Nothing may be sent between <proceed/> and the TLS handshake.')
        if self.waiting:
            self._later += data
            if len(self._later) > _WAITING_BYTES:
                raise StreamError('policy-violation', 'Too much was sent before the answer.')
            return
        self._feed(data)
        self.pump()

    def pump(self) -> None:
        """Handle what is complete, as far as no answer is awaited."""
        while not self.waiting and not self.over:
            if self._later:
                data, self._later = self._later, b''
                self._feed(data)
            if not self._parser.items:
                if self._parser.error is not None:
                    raise self._parser.error
                return
            item = self._parser.items.popleft()
            self._end = item.end
            if isinstance(item, Child):
                self._on_child(item)
            elif isinstance(item, Header):
                self._on_header(item)
            elif isinstance(item, End):
                raise StreamEnd

    def _feed(self, data: bytes) -> None:
        before = self._parser.elements
        self._parser.feed(data)
        self._elements += self._parser.elements - before
        if not self.bare and self._elements > self._settings.limits.before_auth_elements:
            most = self._settings.limits.before_auth_elements
            self._parser.error = StreamError('policy-violation', f'At most {most} elements before authentication.')
            self._parser.items.clear()

    def rest(self) -> bytes:
        """The bytes behind the newest element that was handled."""
        return self._parser.rest(self._end) + self._later

    def stop(self) -> None:
        """Let go of everything."""
        self.over = True
        self._parser.close()
        self._scram = None
        self._bindings = {}

    def _restart(self) -> None:
        rest = self.rest()
        self._parser.close()
        limits = self._settings.limits
        self._parser = StreamParser(limits.stanza_bytes if self.bare else limits.before_auth_bytes)
        self._end = 0
        self.greeted = False
        self._later = rest

    # Stream headers and features

    def greeting(self, sender: str = '') -> bytes:
        """Our stream header."""
        self.greeted = True
        origin = f" from='{escape(self.domain)}'" if self.domain else ''
        to = f" to='{escape(sender)}'" if sender else ''
        return (
            f"<?xml version='1.0'?><stream:stream xmlns='{ns.CLIENT}' xmlns:stream='{ns.STREAMS}'"
            f" id='{self._random(10).hex()}'{origin}{to} version='1.0' xml:lang='en'>"
        ).encode()

    def _on_header(self, header: Header) -> None:
        namespace, _, name = header.name.rpartition(' ')
        if namespace != ns.STREAMS:
            raise StreamError('invalid-namespace', f'The stream namespace must be {ns.STREAMS}.')
        if name != 'stream':
            raise StreamError('bad-format', 'The first element must be <stream:stream>.')
        if header.content not in (ns.CLIENT, ns.STREAMS, ''):
            raise StreamError('invalid-namespace', f'The default namespace must be {ns.CLIENT}.')
        if not header.attrs.get('to'):
            raise StreamError('improper-addressing', "The stream header needs 'to', the domain to log in to.")
        try:
            domain = jid.prepare_domain(header.attrs['to'])
        except jid.InvalidJID:
            domain = ''
        if domain not in self._settings.domains:
            raise StreamError('host-unknown', 'This domain is not served here.')
        if self.bare and domain != self.domain:
            raise StreamError('host-unknown', 'You have logged in to another domain.')
        self.domain = domain
        major, _, minor = header.attrs.get('version', '0').partition('.')
        if not (major.isdecimal() and minor.isdecimal() and int(major[:9]) >= 1):
            raise StreamError('unsupported-version', 'Version 1.0 is needed.')
        sender = self._header_sender(header.attrs.get('from', ''))
        # Both are kept for the whole session and touched at every stanza.
        if header.wrap is not None and len(header.wrap) > _HEADER_BYTES:
            raise StreamError('policy-violation', f'The stream header may have at most {_HEADER_BYTES} bytes.')
        lang = header.attrs.get(LANG, '')
        self.lang = lang if _LANGUAGE.fullmatch(lang) else ''
        self.wrap = header.wrap
        self._emit(Send(self.greeting(sender) + self._features()))

    def _header_sender(self, sender: str) -> str:
        if not sender:
            return ''
        try:
            bare = jid.bare(sender)
        except jid.InvalidJID:
            bare = ''
        if not bare or (self.bare and bare != self.bare):
            raise StreamError('invalid-from', "'from' of the stream header is not your address.")
        return sender

    def _offered(self) -> list[str]:
        names = self._settings.mechanisms
        if self._secure:
            external = ['EXTERNAL'] if any(one.endswith(f'@{self.domain}') for one in self._identities) else []
            return external + [name for name in names if self._bindings or not name.endswith('-PLUS')]
        if self._settings.tls_required:
            return []
        return [name for name in names if name.startswith('SCRAM-') and not name.endswith('-PLUS')]

    def _announced(self, names: Sequence[str]) -> list[str]:
        """Types of channel binding told of (XEP-0440): those there are, when a mechanism of ``names`` can use them."""
        if not any(name.endswith('-PLUS') for name in names):
            return []
        return [name for name in _BINDING_ORDER if name in self._bindings]

    def _features(self) -> bytes:
        if self.bare:
            more = self._settings.features + (self._settings.dual if self._secure else b'')
            return b'<stream:features>%b%b</stream:features>' % (_AFTER_LOGIN, more)
        parts = []
        if not self._secure and self._settings.tls_available:
            required = '<required/>' if self._settings.tls_required else ''
            parts.append(f"<starttls xmlns='{ns.TLS}'>{required}</starttls>")
        if names := self._offered():
            listed = ''.join(f'<mechanism>{name}</mechanism>' for name in names)
            parts.append(f"<mechanisms xmlns='{ns.SASL}'>{listed}</mechanisms>")
            if bindings := self._announced(names):
                listed = ''.join(f"<channel-binding type='{name}'/>" for name in bindings)
                parts.append(f"<sasl-channel-binding xmlns='{ns.CHANNEL_BINDING}'>{listed}</sasl-channel-binding>")
        return f'<stream:features>{"".join(parts)}</stream:features>'.encode()

    def _on_child(self, child: Child) -> None:
        namespace, _, name = child.name.rpartition(' ')
        if namespace == ns.TLS and name == 'starttls':
            self._on_starttls()
        elif namespace == ns.SASL and name in ('auth', 'response', 'abort'):
            self._on_sasl(name, child)
        elif namespace == ns.STREAM_MANAGEMENT and self.bare and name in ('enable', 'resume'):
            self._on_management(name, child)
        elif namespace == ns.CLIENT and name in ('iq', 'message', 'presence'):
            if not self.bare or name != 'iq':
                raise StreamError('not-authorized', 'Log in and bind a resource first.')
            self._on_iq(child)
        else:
            raise StreamError('unsupported-stanza-type', f'<{name}/> is not expected here.')

    # STARTTLS

    def _on_starttls(self) -> None:
        if self._secure or self.bare or not self._settings.tls_available:
            self._emit(Send(f"<failure xmlns='{ns.TLS}'/>".encode()))
            raise StreamEnd
        if self.rest().strip(b' \t\r\n'):
            # Plain text behind <starttls/> would be read as if it had come through TLS.
            raise StreamError('policy-violation', 'Nothing may follow <starttls/> before <proceed/>.')
        self.waiting = 'tls'
        self._emit(Send(f"<proceed xmlns='{ns.TLS}'/>".encode()))
        self._emit(StartTLS())

    def tls_established(self, bindings: sasl.Bindings, identities: Collection[str] = ()) -> None:
        """TLS is up: a new stream begins, everything said before is forgotten. ``identities``: the bare JIDs in the
        certificate that the client has proven to be its own."""
        self._secure = True
        self._identities = frozenset(one for one in identities if one.rpartition('@')[2] in self._settings.domains)
        self._bindings = {kind: data for kind, data in bindings.items() if data and kind in _BINDING_ORDER}
        self._mechanism, self._scram, self.waiting = '', None, ''
        self._restart()
        self._later = b''

    # SASL

    def _on_sasl(self, verb: str, child: Child) -> None:
        if self.bare:
            raise StreamError('policy-violation', 'You have logged in already.')
        try:
            if verb == 'auth':
                self._on_auth(child)
            elif verb == 'abort':
                raise sasl.Failure('aborted')
            elif not self._mechanism:
                raise sasl.Failure('malformed-request', 'No login is going on.')
            else:
                self._step(sasl.decode(_text(child, self.wrap)))
        except sasl.Failure as failure:
            self._fail(failure)

    def _on_auth(self, child: Child) -> None:
        mechanism = child.attrs.get('mechanism', '')
        if self._mechanism:
            raise sasl.Failure('malformed-request', 'A login is going on.')
        if not self._secure and self._settings.tls_required:
            raise sasl.Failure('encryption-required', 'Start TLS first.')
        if mechanism not in self._offered():
            raise sasl.Failure('invalid-mechanism', 'This mechanism is not offered.')
        self._mechanism = mechanism
        text = _text(child, self.wrap)
        if text:
            self._step(sasl.decode(text))
        else:
            self._emit(Send(f"<challenge xmlns='{ns.SASL}'/>".encode()))

    def _step(self, message: bytes) -> None:
        mechanism = self._mechanism
        if mechanism == 'PLAIN':
            local, password = sasl.plain(message, self.domain)
            self.waiting = 'password'
            self._local = local
            self._emit(NeedPasswordCheck(local, self.domain, password))
        elif mechanism == 'EXTERNAL':
            self._local = sasl.external(message, self._identities, self.domain)
            self.waiting = 'credentials'
            self._emit(NeedCredentials(mechanism, self._local, self.domain))
        elif self._scram is None:
            self._scram = scram = sasl.Scram(mechanism)
            plus = mechanism.endswith('-PLUS')
            offered = any(name.endswith('-PLUS') for name in self._offered())
            scram.first(message, plus, offered, self._bindings, self.domain)
            self.waiting = 'credentials'
            self._emit(NeedCredentials(mechanism, scram.localpart, self.domain))
        else:
            self._succeed(self._scram.localpart, self._scram.final(message))

    def credentials(self, verifiers: Verifiers | None) -> None:
        """Answer to NeedCredentials."""
        if self.waiting == 'credentials' and self._mechanism == 'EXTERNAL':
            self.waiting = ''
            if verifiers is None:
                self._fail(sasl.Failure('not-authorized'))
            else:
                self._succeed(self._local, b'')
        elif self.waiting == 'credentials' and self._scram is not None:
            self.waiting = ''
            address = f'{self._scram.localpart}@{self.domain}'
            known = verifiers if self._scram.localpart else None
            names = self._offered()
            offer = sasl.advertised(names, self._announced(names))
            message = self._scram.challenge(known, address, self._settings.secret, self._random, offer)
            self._emit(Send(b"<challenge xmlns='%b'>%b</challenge>" % (ns.SASL.encode(), base64.b64encode(message))))

    def password_checked(self, right: bool) -> None:
        """Answer to NeedPasswordCheck."""
        if self.waiting == 'password':
            self.waiting = ''
            if right and self._local:
                self._succeed(self._local, b'')
            else:
                self._fail(sasl.Failure('not-authorized'))

    def auth_refused(self, condition: str, text: str) -> None:
        """Answer to either."""
        if self.waiting in ('credentials', 'password'):
            self.waiting = ''
            self._fail(sasl.Failure(condition, text))

    def _succeed(self, local: str, message: bytes) -> None:
        self.bare = f'{local}@{self.domain}'
        mechanism, self._mechanism, self._scram = self._mechanism, '', None
        self._restart()
        self._emit(Send(b"<success xmlns='%b'>%b</success>" % (ns.SASL.encode(), base64.b64encode(message))))
        self._emit(Authenticated(self.bare, mechanism))

    def _fail(self, failure: sasl.Failure) -> None:
        local = self._scram.localpart if self._scram is not None else self._local
        mechanism, self._mechanism, self._scram, self._local = self._mechanism, '', None, ''
        words = f"<text xml:lang='en'>{escape(failure.text)}</text>" if failure.text else ''
        self._emit(Send(f"<failure xmlns='{ns.SASL}'><{failure.condition}/>{words}</failure>".encode()))
        self._emit(AuthFailed(mechanism, local, self.domain, failure.condition))
        self._failures += 1
        if self._failures >= self._settings.limits.auth_failures:
            raise StreamError('policy-violation', 'Too many failed logins.')
        if mechanism == 'EXTERNAL' and failure.condition in ('invalid-authzid', 'not-authorized'):
            raise StreamEnd  # XEP-0178 2: nothing the client could say would change it

    # Resource binding

    def _on_iq(self, child: Child) -> None:
        plain = self.wrap is None and child.raw.startswith(b'<iq')
        iq = parse(child.raw if plain else standalone(child.raw, self.wrap))
        payload = iq.payload
        self._bind_id = iq.id or ''
        if iq.type != 'set' or payload is None or payload.tag != f'{{{ns.BIND}}}bind':
            raise StreamError('not-authorized', 'Bind a resource first.')
        self._count_attempt()
        wanted = payload.findtext(f'{{{ns.BIND}}}resource') or ''
        inactive = payload.find(f'{{{ns.DUAL}}}inactive') is not None
        if inactive and not (self._secure and self._settings.dual):
            self._refuse_bind('not-allowed', 'Dual connections are not offered.')
            return
        try:
            resource = jid.prepare_resource(wanted) if wanted else self._random(8).hex()
        except jid.InvalidJID:
            self._refuse_bind('bad-request', 'The resource is not valid.')
            return
        self.waiting = 'bind'
        self._emit(BindRequest(self.bare, resource, inactive))

    def _count_attempt(self) -> None:
        self._attempts += 1
        if self._attempts > _BIND_ATTEMPTS:
            raise StreamError('policy-violation', 'Too many attempts to bind or resume.')

    # Stream management before bind (XEP-0198 5)

    def _on_management(self, name: str, child: Child) -> None:
        self._count_attempt()
        if not self._settings.resumption:
            self._emit(Send(sm.failed('feature-not-implemented')))
        elif name == 'enable':
            self._emit(Send(sm.failed('unexpected-request', 'Bind a resource first.')))
        else:
            try:
                wanted = sm.read_resume(child.attrs)
            except sm.Malformed as error:
                self._emit(Send(sm.failed('bad-request', str(error))))
                return
            self.waiting = 'resume'
            self._emit(ResumeRequest(self.bare, wanted.previd, wanted.h))

    def answer_resume(self, answers: Sequence[bytes]) -> None:
        """Answer to ResumeRequest."""
        self.waiting = ''
        for answer in answers:
            self._emit(Send(answer))

    def bound(self, full: str) -> None:
        """Answer to BindRequest."""
        self.waiting = ''
        self._emit(
            Send(
                f"<iq type='result' id='{escape(self._bind_id)}'><bind xmlns='{ns.BIND}'>"
                f'<jid>{escape(full)}</jid></bind></iq>'.encode()
            )
        )

    def bind_refused(self, condition: str, text: str) -> None:
        """Other answer to BindRequest."""
        if self.waiting == 'bind':
            self.waiting = ''
            self._refuse_bind(condition, text)

    def _refuse_bind(self, condition: str, text: str) -> None:
        words = f"<text xmlns='{ns.STANZA_ERRORS}' xml:lang='en'>{escape(text)}</text>" if text else ''
        kind = ERROR_TYPES[condition]
        self._emit(
            Send(
                f"<iq type='error' id='{escape(self._bind_id)}'><error type='{kind}'>"
                f"<{condition} xmlns='{ns.STANZA_ERRORS}'/>{words}</error></iq>".encode()
            )
        )


def _text(child: Child, wrap: bytes | None) -> str:
    if bare := _BASE64.fullmatch(child.raw):
        return bare.group(1).decode().strip()
    tree: Any = parse(standalone(child.raw, wrap)).tree
    if len(tree):
        raise sasl.Failure('malformed-request', 'No elements are allowed in here.')
    return (tree.text or '').strip()


_AFTER_LOGIN: Final = (
    f"<bind xmlns='{ns.BIND}'/><session xmlns='{ns.SESSION}'><optional/></session>"
    f"<ver xmlns='{ns.ROSTER_VERSIONING}'/><sub xmlns='{ns.PRE_APPROVAL}'/>"
).encode()
