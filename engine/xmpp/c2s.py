"""The server side of one client connection up to bind, then the cutting of its stanzas (RFC 6120, XEP-0170).

Sans-io: the shell (connection manager) feeds bytes, answers and time and carries out the events. Usage:

    stream = ClientStream(settings, emit, now)   # emit(event) is called for every event, in order
    stream.tls_established(bindings)             # direct TLS: before the first byte; STARTTLS: after the handshake
    stream.receive(data)                         # events through emit; after bind stanzas through on_stanza
    stream.tick(now)                             # when stream.deadline has passed

Answers may be given at once, inside ``emit``, or later; bytes that arrive in between wait, in order. After ``Close``
nothing more comes out. No method raises for what the peer sends.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from typing import Final

from engine.contract import jid as jids
from engine.xmpp import ns, sasl
from engine.xmpp.events import (
    Authenticated,
    AuthFailed,
    BindRequest,
    Close,
    Event,
    Limits,
    NeedCredentials,
    NeedPasswordCheck,
    ResumeRequest,
    Send,
    StartTLS,
    StreamSettings,
    Verifiers,
)
from engine.xmpp.negotiation import Negotiation, StreamEnd
from engine.xmpp.parser import STREAM_OPEN, Child, SliceChecker, StreamError, StreamParser, standalone
from engine.xmpp.stanza import LANG, Stanza, escape, iq_result, with_attributes

__all__ = [
    'AuthFailed', 'Authenticated', 'BindRequest', 'ClientStream', 'Close', 'Event', 'Limits', 'NeedCredentials',
    'NeedPasswordCheck', 'ResumeRequest', 'Send', 'StartTLS', 'StreamSettings', 'Verifiers',
]  # fmt: skip

_NEGOTIATING: Final = 0
_OPEN: Final = 1
_HELD: Final = 2
_CLOSED: Final = 3

_SHAPES: Final = {
    ord('m'): (b'<message', b'</message>', 'jabber:client message', 'message'),
    ord('p'): (b'<presence', b'</presence>', 'jabber:client presence', 'presence'),
    ord('i'): (b'<iq', b'</iq>', 'jabber:client iq', 'iq'),
}
"""By the second byte."""
_NAMES: Final = {qualified: name for _, _, qualified, name in _SHAPES.values()}
_SPACES: Final = b' \t\r\n'
_SESSION: Final = ns.SESSION.encode()

_REQUEST: Final = f'{ns.STREAM_MANAGEMENT} r'
_ANSWER: Final = f'{ns.STREAM_MANAGEMENT} a'
_SM: Final = rb"xmlns=(?:'urn:xmpp:sm:3'|\"urn:xmpp:sm:3\")"
_H: Final = rb"h=(?:'([0-9]{1,10})'|\"([0-9]{1,10})\")"
_ACKNOWLEDGEMENT: Final = re.compile(rb'<(?:r %b|a (?:%b %b|%b %b)) ?/>' % (_SM, _SM, _H, _H, _SM))
"""<r/> and <a/> of XEP-0198 as everybody writes them; whatever else means the same goes the unusual way."""
_checker: Final = SliceChecker()


class ClientStream:
    """One client connection. Public attributes: ``on_stanza`` and ``on_nonza`` (set them before ``bound``), ``jid``
    (full JID after bind, else ''), ``deadline`` (time at which ``tick`` must be called, or None)."""

    __slots__ = (
        '_busy', '_held', '_lang', '_negotiation', '_slow', '_stamp', '_state', '_wrap', 'deadline', 'emit', 'jid',
        'on_nonza', 'on_stanza', 'settings',
    )  # fmt: skip

    def __init__(self, settings: StreamSettings, emit: Callable[[Event], None], now: float) -> None:
        self.settings = settings
        self.emit = emit
        self.jid = ''
        self.on_stanza: Callable[[Stanza], None] | None = None
        self.on_nonza: Callable[[str, dict[str, str]], None] | None = None
        """Called with 'namespace name' and the attributes of an element of ``settings.nonzas``. May raise
        StreamError."""
        self.deadline: float | None = now + settings.limits.before_auth_s
        self._negotiation: Negotiation | None = Negotiation(settings, emit)
        self._state = _NEGOTIATING
        self._busy = False  # bytes are being looked at: answers given inside a callback leave the rest to that loop
        self._held = b''
        self._slow: StreamParser | None = None
        self._wrap: bytes | None = None
        self._stamp = b''
        self._lang = ''

    def tls_established(self, bindings: sasl.Bindings, identities: Collection[str] = ()) -> None:
        """TLS is up. ``bindings``: channel binding type ('tls-server-end-point', 'tls-exporter') -> data, those
        known. ``identities``: the bare JIDs in the client's certificate, checked."""
        if self._negotiation is not None:
            self._negotiation.tls_established(bindings, identities)

    def receive(self, data: bytes) -> None:
        """Bytes from the client. After bind each stanza in them goes to ``on_stanza``, in order, ``from`` stamped."""
        if self._busy or self._state >= _HELD:
            if self._state != _CLOSED:
                self._held += data
            return
        if self._held:
            data = self._held + data
            self._held = b''
        self._busy = True
        try:
            if self._negotiation is not None:
                self._negotiation.receive(data)
                data, self._held = self._held, b''
            if self._state == _OPEN:
                if self._slow is None and self._wrap is None:
                    data = self._cut(data)
                if data or self._slow is not None:
                    self._follow(data)
            elif data and self._state == _HELD:
                self._held = data + self._held
        except StreamError as error:
            self.close(error.condition, error.text)
        except StreamEnd:
            self.close()
        finally:
            self._busy = False

    def tick(self, now: float) -> None:
        """Time has passed; ends the stream with connection-timeout when the deadline was missed."""
        if self.deadline is not None and now >= self.deadline:
            self.close('connection-timeout', 'You did not log in in time.')

    def credentials(self, verifiers: Verifiers | None) -> None:
        """Answer to NeedCredentials."""
        if self._negotiation is not None:
            self._answered(self._negotiation.credentials, verifiers)

    def password_checked(self, right: bool) -> None:
        """Answer to NeedPasswordCheck."""
        if self._negotiation is not None:
            self._answered(self._negotiation.password_checked, right)

    def auth_refused(self, condition: str = 'temporary-auth-failure', text: str = '') -> None:
        """Other answer to NeedCredentials and NeedPasswordCheck: throttled, or account-disabled,
        credentials-expired."""
        if self._negotiation is not None:
            self._answered(self._negotiation.auth_refused, condition, text)

    def _answered(self, take: Callable[..., None], *answer: object) -> None:
        try:
            take(*answer)
        except StreamError as error:
            self.close(error.condition, error.text)
        except StreamEnd:
            self.close()
        self._go_on()

    def bound(self, jid: str) -> None:
        """Answer to BindRequest: the session exists under this full JID. Stanzas that waited are delivered at once."""
        negotiation = self._negotiation
        if negotiation is None or negotiation.waiting != 'bind':
            return
        negotiation.bound(jid)
        self._open(negotiation, jid)

    def resumed(self, jid: str, answers: Sequence[bytes]) -> None:
        """Answer to ResumeRequest: the session with this full JID goes on here; these elements are sent first."""
        negotiation = self._negotiation
        if negotiation is None or negotiation.waiting != 'resume':
            return
        negotiation.answer_resume(answers)
        self._open(negotiation, jid)

    def resume_refused(self, answer: bytes) -> None:
        """Answer to ResumeRequest: ``answer`` says why not. The client may bind."""
        if self._negotiation is not None and self._negotiation.waiting == 'resume':
            self._negotiation.answer_resume((answer,))
            self._go_on()

    def _open(self, negotiation: Negotiation, jid: str) -> None:
        self.jid = jid
        self._stamp = f" from='{escape(jid)}'".encode()
        # Our own streams say xml:lang='en', so only another language of the client's stream must be written down.
        self._lang = '' if negotiation.lang.lower() == 'en' else negotiation.lang
        self._wrap = negotiation.wrap
        self._held = negotiation.rest()
        self._negotiation = None
        negotiation.stop()
        self.deadline = None
        self._state = _OPEN
        self._go_on()

    def bind_refused(self, condition: str, text: str = '') -> None:
        """Answer to BindRequest: an IQ error (conflict, not-allowed, resource-constraint ...). The client may retry."""
        if self._negotiation is not None:
            self._negotiation.bind_refused(condition, text)
            self._go_on()

    def hold(self) -> None:
        """Stop delivering stanzas (back-pressure, or an answer that must come first). What arrives meanwhile waits."""
        if self._state == _OPEN:
            self._state = _HELD

    def release(self) -> None:
        """Deliver again, what waited first."""
        if self._state == _HELD:
            self._state = _OPEN
            self._go_on()

    def close(self, condition: str = '', text: str = '', host: str = '', extra: bytes = b'') -> None:
        """End the stream from our side: stream error ``condition`` (RFC 6120 4.9.3) or an orderly end, then Close.
        ``host`` is the other server of see-other-host, ``extra`` an application-specific condition."""
        if self._state == _CLOSED:
            return
        negotiation = self._negotiation
        data = b'' if negotiation is None or negotiation.greeted else negotiation.greeting()
        self.eof()
        if condition:
            words = f"<text xmlns='{ns.STREAM_ERRORS}' xml:lang='en'>{escape(text)}</text>" if text else ''
            named = f"<{condition} xmlns='{ns.STREAM_ERRORS}'>{escape(host)}</{condition}>"
            data += f'<stream:error>{named}{words}'.encode() + extra + b'</stream:error>'
        self.emit(Send(data + b'</stream:stream>'))
        self.emit(Close(condition, text))

    def eof(self) -> None:
        """The connection is gone; nothing is sent any more and no event comes."""
        self._state = _CLOSED
        self.deadline = None
        self._held = b''
        self._drop_parser()
        if self._negotiation is not None:
            self._negotiation.stop()
            self._negotiation = None

    def _go_on(self) -> None:
        if not self._busy:
            self.receive(b'')

    # After bind

    def _follow(self, data: bytes) -> None:
        """What cannot be cut: a parser looks at it that knows the depth, until it stands between two stanzas."""
        if self._slow is None:
            self._slow = StreamParser(self.settings.limits.stanza_bytes, self._wrap or STREAM_OPEN)
        slow = self._slow
        if data:
            slow.feed(data)
        while slow.items and self._state == _OPEN:
            item = slow.items.popleft()
            if not isinstance(item, Child):
                raise StreamEnd
            self._deliver(item)
        if self._state == _OPEN:
            if slow.error is not None:
                raise slow.error
            if slow.idle:
                self._drop_parser()

    def _drop_parser(self) -> None:
        if self._slow is not None:
            self._slow.close()
            self._slow = None

    def _cut(self, data: bytes) -> bytes:
        """Deliver the stanzas of ``data`` one by one; what needs a depth-tracking parser is returned."""
        position, size = 0, len(data)
        limit = self.settings.limits.stanza_bytes
        stamp, lang, jid = self._stamp, self._lang, self.jid
        lang_stamp = f" xml:lang='{escape(lang)}'".encode() if lang else b''
        deliver, checker = self.on_stanza, _checker
        assert deliver is not None
        while position < size:
            shape = _SHAPES.get(data[position + 1]) if position + 1 < size else None
            if shape is None or not data.startswith(shape[0], position):
                if data[position] in _SPACES:
                    position += 1
                    continue
                known = _ACKNOWLEDGEMENT.match(data, position) if self.on_nonza is not None else None
                if known is not None and _REQUEST in self.settings.nonzas:
                    position = known.end()
                    self._acknowledgement(known)
                    if self._state != _OPEN:
                        if self._state == _HELD:
                            self._held = data[position:] + self._held
                        return b''
                    continue
                if size - position < 10 and b'>' not in data[position:]:
                    self._held = data[position:]
                    return b''
                return data[position:]
            opening, closing, qualified, name = shape
            piece = checker.cut(data, position, opening, closing, limit)
            if not piece or checker.name != qualified:
                if piece == b'':
                    self._held = data[position:]
                    return b''
                return data[position:]
            position += len(piece)
            attrs = checker.attrs
            if 'from' in attrs:
                self._check_sender(attrs['from'])
                piece = with_attributes(piece, {'from': None})
            attrs['from'] = jid
            if lang and LANG not in attrs:
                attrs[LANG] = lang
                raw = opening + stamp + lang_stamp + piece[len(opening) :]
            else:
                raw = opening + stamp + piece[len(opening) :]
            stanza = Stanza(name, attrs, raw)
            if name == 'iq' and _SESSION in piece and self._answer_session(stanza):
                continue
            deliver(stanza)
            if self._state != _OPEN:
                if self._state == _HELD:
                    self._held = data[position:] + self._held
                return b''
        return b''

    def _acknowledgement(self, known: re.Match[bytes]) -> None:
        assert self.on_nonza is not None
        if known.lastindex is None:
            self.on_nonza(_REQUEST, {})
        else:
            self.on_nonza(_ANSWER, {'h': known.group(known.lastindex).decode()})

    def _deliver(self, child: Child) -> None:
        """The same for a stanza that the depth-tracking parser has cut."""
        deliver = self.on_stanza
        assert deliver is not None
        raw = child.raw
        name = _NAMES.get(child.name)
        local = child.name.rpartition(' ')[2]
        if self._wrap is not None or not raw.startswith(b'<' + local.encode()):
            raw = standalone(raw, self._wrap)
        if name is None:
            if child.name in self.settings.nonzas and self.on_nonza is not None:
                self.on_nonza(child.name, child.attrs)
                return
            if local in _NAMES.values():
                raise StreamError('invalid-namespace', f'The namespace of stanzas is {ns.CLIENT}.')
            raise StreamError('unsupported-stanza-type', f'<{local}/> is not expected here.')
        attrs = child.attrs
        if 'from' in attrs:
            self._check_sender(attrs['from'])
            raw = with_attributes(raw, {'from': None})
        attrs['from'] = self.jid
        if self._lang and LANG not in attrs:
            attrs[LANG] = self._lang
            raw = with_attributes(raw, {'xml:lang': self._lang})
        length = len(name) + 1
        stanza = Stanza(name, attrs, raw[:length] + self._stamp + raw[length:])
        if name != 'iq' or _SESSION not in raw or not self._answer_session(stanza):
            deliver(stanza)

    def _check_sender(self, sender: str) -> None:
        """RFC 6120 8.1.2.1: a client may only be itself."""
        if sender == self.jid or sender == self.jid.partition('/')[0]:
            return
        try:
            local, domain, resource = jids.split(sender)
            if (local, domain) == jids.split(self.jid)[:2] and resource in ('', jids.split(self.jid)[2]):
                return
        except jids.InvalidJID:
            pass
        raise StreamError('invalid-from', "'from' is not your address.")

    def _answer_session(self, stanza: Stanza) -> bool:
        """RFC 3921 session establishment, which does nothing since RFC 6121 but is asked for by old clients."""
        payload = stanza.payload
        if stanza.type != 'set' or payload is None or payload.tag != f'{{{ns.SESSION}}}session':
            return False
        self.emit(Send(iq_result(stanza)))
        return True
