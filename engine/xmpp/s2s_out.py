"""The initiating side of a stream between servers, for one pair of domains (RFC 6120, XEP-0170, XEP-0178, XEP-0220).

It waits after the features (``Ready``) until ``authenticate`` or ``verify`` is called: a stream that only asks for the
word of an authoritative server needs no proof of its own.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Final
from xml.etree.ElementTree import Element

from engine.xmpp import dialback, ns
from engine.xmpp.events import Send
from engine.xmpp.parser import Child, Header, StreamError
from engine.xmpp.s2s import (
    Opened,
    Ready,
    ServerEvent,
    ServerSettings,
    ServerStream,
    Verified,
    domain,
    domain_of,
    header,
    stream_error,
)

_BEGIN: Final = 'begin'
_READY: Final = 'ready'
_SASL: Final = 'sasl'
_RESTARTED: Final = 'restarted'
_DIALBACK: Final = 'dialback'
_OPEN: Final = 'open'


class InitiatingStream(ServerStream):
    """``local`` and ``remote`` are the pair. ``open`` says whether stanzas may be sent. ``has_certificate``: we showed
    one, so EXTERNAL makes sense. The peer's own reason to end the stream is in ``refusal`` (condition, text)."""

    __slots__ = ('_external', '_state', '_verifying', '_wanted', 'bidi', 'local', 'may_bidi', 'refusal', 'remote')

    def __init__(self, settings: ServerSettings, emit: Callable[[ServerEvent], None], local: str, remote: str) -> None:
        super().__init__(settings, emit, None)
        self.local = local
        self.remote = remote
        self.bidi = False
        self.may_bidi = False
        self.refusal: tuple[str, str] | None = None
        self._state = _BEGIN
        self._wanted = False
        self._external = False
        self._verifying: dict[str, str] = {}

    @property
    def open(self) -> bool:
        """Whether stanzas of the pair may be sent."""
        return self._state == _OPEN and not self.closed

    def start(self) -> None:
        """The connection (with direct TLS: the handshake) is there."""
        self.emit(Send(self._greeting()))

    def tls_established(self, certificate: Callable[[str], str]) -> None:
        """TLS is up: a new stream begins."""
        super().tls_established(certificate)
        if self.settings.require_certificates and (reason := certificate(self.remote)):
            self.close('not-authorized', f'The certificate does not prove that this is {self.remote}: {reason}')
            return
        self.start()

    def authenticate(self) -> None:
        """Stanzas are waiting: prove who we are, as soon as the features are known."""
        self._wanted = True
        self._go_on()

    def verify(self, stream_id: str, key: str) -> None:
        """Ask the peer, as the authoritative server of its domain, whether it made this key."""
        self._verifying[stream_id] = key
        if self._state in (_READY, _DIALBACK, _OPEN):
            self._ask(stream_id, key)

    # ---- negotiation

    def _greeted(self) -> bool:
        return True

    def _greeting(self) -> bytes:
        return header(ns.SERVER, self.local, self.remote)

    def _on_header(self, header: Header) -> None:
        sender = header.attrs.get('from')
        if sender and domain(sender) != self.remote:
            raise StreamError('invalid-from', f'This should be {self.remote}.')
        self.id = header.attrs.get('id', '')
        if len(self.id) > dialback.KEY_LENGTH:
            raise StreamError('policy-violation', 'The stream id is too long.')
        if not self.version:
            self._check_security(False)
            self._ready()

    def _check_security(self, starttls: bool) -> None:
        if self.settings.security == 'required' and not self.secure and not starttls:
            raise StreamError('policy-violation', f'{self.remote} does not offer TLS, which is required here.')

    def _on_element(self, namespace: str, name: str, child: Child) -> None:
        if namespace == ns.STREAMS and name == 'features':
            self._on_features(child)
        elif namespace == ns.TLS and name == 'proceed' and self._state == _BEGIN and not self.secure:
            self._want_tls(b'')
        elif namespace == ns.TLS and name == 'failure':
            raise StreamError('undefined-condition', f'{self.remote} refused to start TLS.')
        elif namespace == ns.SASL and self._state == _SASL and name in ('success', 'failure', 'challenge'):
            self._on_sasl(name)
        elif namespace == ns.DIALBACK and name in ('result', 'verify') and 'type' in child.attrs:
            self._on_answer(name, child)
        else:
            raise StreamError('unsupported-stanza-type', f'<{name}/> is not expected here.')

    def _on_features(self, child: Child) -> None:
        tree = self._tree(child)
        if self._state == _RESTARTED:
            self._opened('EXTERNAL')
            return
        if self._state != _BEGIN:
            raise StreamError('policy-violation', 'Features come once.')
        starttls = tree.find(f'{{{ns.TLS}}}starttls') is not None
        if not self.secure and self.settings.security != 'none' and starttls:
            self.emit(Send(f"<starttls xmlns='{ns.TLS}'/>".encode()))
            return
        self._check_security(False)
        offered = {(one.text or '').strip() for one in tree.iterfind(f'{{{ns.SASL}}}mechanisms/{{{ns.SASL}}}mechanism')}
        self._external = self.secure and self.settings.external_out and 'EXTERNAL' in offered
        self.may_bidi = (
            self.settings.bidi
            and tree.find(f'{{{ns.BIDI_FEATURE}}}bidi') is not None
            and self.settings.may(self.remote, 'incoming')
        )
        self._ready()

    def _ready(self) -> None:
        self._state = _READY
        self._trust()
        self.emit(Ready())
        for stream_id, key in self._verifying.items():
            self._ask(stream_id, key)
        self._go_on()

    def _go_on(self) -> None:
        if not self._wanted or self._state != _READY or self.closed:
            return
        if self.may_bidi:
            self.bidi = True
            self.emit(Send(f"<bidi xmlns='{ns.BIDI}'/>".encode()))
        # A verify request under way is answered on this stream: EXTERNAL would begin a new one under it.
        if self._external and not self._verifying:
            self._state = _SASL
            authzid = base64.b64encode(self.local.encode()).decode()
            self.emit(Send(f"<auth xmlns='{ns.SASL}' mechanism='EXTERNAL'>{authzid}</auth>".encode()))
        else:
            self._dialback()

    def _dialback(self) -> None:
        if not self.settings.secret:
            raise StreamError('not-authorized', f'{self.remote} does not take our certificate, dialback is not used.')
        self._state = _DIALBACK
        key = dialback.key(self.settings.secret, self.remote, self.local, self.id)
        self.emit(Send(dialback.element('result', self.local, self.remote, key)))

    def _on_sasl(self, name: str) -> None:
        if name == 'challenge':
            self.emit(Send(f"<response xmlns='{ns.SASL}'/>".encode()))
        elif name == 'success':
            self._restart()
            self._state = _RESTARTED
            self.start()
        else:
            self._external = False
            self._dialback()
            self._ask_all()

    def _opened(self, mechanism: str) -> None:
        self._state = _OPEN
        self.emit(Opened(mechanism, self.bidi))
        if mechanism == 'EXTERNAL':
            self._ask_all()

    # ---- dialback

    def _ask_all(self) -> None:
        for stream_id, key in self._verifying.items():
            self._ask(stream_id, key)

    def _ask(self, stream_id: str, key: str) -> None:
        self.emit(Send(dialback.element('verify', self.local, self.remote, key, stream_id)))

    def _on_answer(self, name: str, child: Child) -> None:
        attrs = child.attrs
        if (domain(attrs.get('from')), domain(attrs.get('to'))) != (self.remote, self.local):
            raise StreamError('invalid-from', 'This answer is for other domains.')
        answer = dialback.read_answer(attrs['type'], self._tree(child))
        if name == 'verify':
            stream_id = attrs.get('id', '')
            if self._verifying.pop(stream_id, None) is not None:
                self.emit(Verified(stream_id, answer))
            return
        if self._state != _DIALBACK:
            return
        if answer.valid:
            self._opened('dialback')
            return
        self.refusal = ('not-authorized', f'{self.remote} did not accept us: {answer.text or answer.condition}')
        self.close()

    def _on_error(self, tree: Element) -> None:
        self.refusal = stream_error(tree)

    # ---- stanzas

    def _on_stanza(self, name: str, attrs: dict[str, str], raw: bytes) -> None:
        if not self.bidi or not self.open:
            raise StreamError('not-authorized', 'Nothing but answers is expected on this stream.')
        remote, local = domain_of(attrs.get('from', '')), domain_of(attrs.get('to', ''))
        if not remote or not local:
            raise StreamError('improper-addressing', "A stanza between servers needs 'from' and 'to'.")
        if (remote, local) != (self.remote, self.local):
            raise StreamError('invalid-from', f'This stream is verified for {self.remote} to {self.local} only.')
        assert self.on_stanza is not None
        self.on_stanza(remote, local, name, attrs, raw)
