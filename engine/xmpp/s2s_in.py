"""The receiving side of a stream between servers: who is it, and which of our domains may it send to.

Order of XEP-0170: STARTTLS, SASL EXTERNAL (XEP-0178), dialback (XEP-0220, with several pairs of domains on one stream).
A certificate that proves the domain also answers a dialback request without asking back (XEP-0344 2.4).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from engine.xmpp import dialback, ns, sasl
from engine.xmpp.dialback import Answer
from engine.xmpp.events import Send
from engine.xmpp.parser import Child, Header, StreamError
from engine.xmpp.s2s import (
    Authorized,
    ServerEvent,
    ServerSettings,
    ServerStream,
    Verify,
    domain,
    domain_of,
    header,
)
from engine.xmpp.stanza import escape

_FAILURES: Final = 3
_UNDECIDED: Final = 10
"""Dialback requests of one stream that may wait for their answer at the same time."""


class ReceivingStream(ServerStream):
    """``pairs`` holds the verified (remote, local) pairs; ``local`` and ``remote`` are those of the header, '' when
    not given; ``bidi`` is true when the peer asked for stanzas on this stream."""

    __slots__ = ('_external', '_failures', '_sent_header', '_undecided', 'bidi', 'local', 'pairs', 'remote')

    def __init__(self, settings: ServerSettings, emit: Callable[[ServerEvent], None], now: float) -> None:
        super().__init__(settings, emit, now + settings.limits.before_auth_s)
        self.local = ''
        self.remote = ''
        self.pairs: set[tuple[str, str]] = set()
        self.bidi = False
        self._undecided: dict[tuple[str, str], str] = {}
        self._external = False
        self._failures = 0
        self._sent_header = False

    # ---- header and features

    def _restart(self) -> None:
        super()._restart()
        self._sent_header = False

    def _greeted(self) -> bool:
        return self._sent_header

    def _greeting(self) -> bytes:
        self._sent_header = True
        self.id = self.settings.random(16).hex()
        return header(ns.SERVER, self.local, self.remote, self.id, version=self.version or self._parser is not None)

    def _on_header(self, header: Header) -> None:
        self._sent_header = False
        settings = self.settings
        to, sender = header.attrs.get('to', ''), header.attrs.get('from', '')
        local, remote = domain(to), domain(sender)
        if to and not (local and settings.is_local(local)):
            raise StreamError('host-unknown', 'This domain is not served here.')
        if sender and not remote:
            raise StreamError('improper-addressing', "'from' of the stream header is not a domain name.")
        if self.trusted and (local, remote) != (self.local, self.remote):
            raise StreamError('invalid-from', "'from' and 'to' must stay the same on one connection.")
        self.local, self.remote = local, remote
        if remote:
            self._check_peer(remote)
        greeting = self._greeting()
        self.emit(Send(greeting + (self._features() if self.version else b'')))

    def _check_peer(self, remote: str) -> None:
        settings = self.settings
        if settings.is_local(remote):
            raise StreamError('invalid-from', f'{remote} is served here.')
        if not settings.may(remote, 'incoming'):
            raise StreamError('policy-violation', f'Federation with {remote} is not allowed here.')
        if self.secure and settings.require_certificates and (reason := self._certificate(remote)):
            raise StreamError('not-authorized', f'The certificate does not prove that you are {remote}: {reason}')

    def _features(self) -> bytes:
        settings = self.settings
        parts = []
        starttls = not self.secure and settings.security != 'none'
        if starttls:
            required = '<required/>' if settings.security == 'required' else ''
            parts.append(f"<starttls xmlns='{ns.TLS}'>{required}</starttls>")
        if self.secure or settings.security != 'required':
            self._external = bool(
                self.secure
                and settings.external_in
                and not self.trusted
                and self.remote
                and self.local
                and not self._certificate(self.remote)
            )
            if self._external:
                parts.append(f"<mechanisms xmlns='{ns.SASL}'><mechanism>EXTERNAL</mechanism></mechanisms>")
            if settings.secret:
                parts.append(f"<dialback xmlns='{ns.DIALBACK_FEATURE}'><errors/></dialback>")
            if settings.bidi and not self.trusted:
                parts.append(f"<bidi xmlns='{ns.BIDI_FEATURE}'/>")
        return f'<stream:features>{"".join(parts)}</stream:features>'.encode()

    # ---- negotiation

    def _on_element(self, namespace: str, name: str, child: Child) -> None:
        if namespace == ns.DIALBACK and name in ('result', 'verify'):
            if 'type' not in child.attrs:  # an answer nobody asked for on this stream is not looked at
                self._on_result(child) if name == 'result' else self._on_verify(child)
        elif namespace == ns.TLS and name == 'starttls':
            if self.secure or self.settings.security == 'none' or self.trusted:
                self.emit(Send(f"<failure xmlns='{ns.TLS}'/>".encode()))
                raise StreamError('policy-violation', 'STARTTLS is not offered now.')
            self._want_tls(f"<proceed xmlns='{ns.TLS}'/>".encode())
        elif namespace == ns.SASL and name in ('auth', 'response', 'abort'):
            self._on_sasl(name, child)
        elif namespace == ns.BIDI and name == 'bidi':
            self.bidi = self.bidi or (self.settings.bidi and not self.pairs and not self._undecided)
        else:
            raise StreamError('unsupported-stanza-type', f'<{name}/> is not expected here.')

    def _on_sasl(self, verb: str, child: Child) -> None:
        try:
            if verb == 'abort':
                raise sasl.Failure('aborted')
            if verb != 'auth' or child.attrs.get('mechanism') != 'EXTERNAL' or not self._external:
                raise sasl.Failure('invalid-mechanism', 'This mechanism is not offered.')
            text = (self._tree(child).text or '').strip()
            given = sasl.decode(text) if text else b''
            if given and domain(given.decode(errors='replace')) != self.remote:
                raise sasl.Failure('invalid-authzid', "The authorization identity must be 'from' of the stream.")
            if reason := self._certificate(self.remote):
                raise sasl.Failure('not-authorized', reason)
        except sasl.Failure as failure:
            words = f"<text xml:lang='en'>{escape(failure.text)}</text>" if failure.text else ''
            self.emit(Send(f"<failure xmlns='{ns.SASL}'><{failure.condition}/>{words}</failure>".encode()))
            self._failures += 1
            if self._failures >= _FAILURES:
                raise StreamError('policy-violation', 'Too many failed attempts.') from None
            return
        self._trust()
        self._external = False
        self.emit(Send(f"<success xmlns='{ns.SASL}'/>".encode()))
        self._authorize(self.remote, self.local, 'EXTERNAL')
        self._restart()

    def _authorize(self, remote: str, local: str, mechanism: str) -> None:
        self.pairs.add((remote, local))
        self._trust()
        self.emit(Authorized(remote, local, mechanism, self.bidi))

    # ---- dialback

    def _on_result(self, child: Child) -> None:
        remote, local = domain(child.attrs.get('from')), domain(child.attrs.get('to'))
        if not remote or not local:
            raise StreamError('improper-addressing', 'A dialback request needs from and to.')
        key = (self._tree(child).text or '').strip()
        pair = (remote, local)
        settings = self.settings
        if not settings.is_local(local):
            self._answer(pair, Answer('item-not-found', f'The domain {local} is not served here.'))
        elif settings.is_local(remote):
            raise StreamError('invalid-from', f'{remote} is served here.')
        elif not settings.secret:
            self._answer(pair, Answer('policy-violation', 'Dialback is not used here.'))
        elif settings.security == 'required' and not self.secure:
            self._answer(pair, Answer('policy-violation', 'Start TLS first.'))
        elif not settings.may(remote, 'incoming'):
            self._answer(pair, Answer('policy-violation', f'Federation with {remote} is not allowed here.'))
        elif not 0 < len(key) <= dialback.KEY_LENGTH:
            self._answer(pair, Answer('bad-request', 'The key is missing or too long.'))
        elif pair in self.pairs:
            self._answer(pair, Answer())
        elif pair in self._undecided:
            raise StreamError('policy-violation', 'This pair of domains is being verified already.')
        elif len(self._undecided) >= _UNDECIDED or len(self.pairs) >= settings.limits.pairs:
            self._answer(pair, Answer('resource-constraint', 'Too many domains on one stream.'))
        elif self.secure and not (reason := self._certificate(remote)):
            self._answer(pair, Answer())
        elif self.secure and settings.require_certificates:
            text = f'The certificate does not prove that you are {remote}: {reason}'
            self._answer(pair, Answer('not-authorized', text))
        else:
            self._undecided[pair] = key
            self.emit(Verify(remote, local, self.id, key))

    def verified(self, remote: str, local: str, answer: Answer) -> None:
        """Answer to Verify."""
        if not self.closed and self._undecided.pop((remote, local), None) is not None:
            self._answer((remote, local), answer)

    def _answer(self, pair: tuple[str, str], answer: Answer) -> None:
        remote, local = pair
        self.emit(Send(dialback.element('result', local, remote, answer=answer)))
        if answer.valid:
            if pair not in self.pairs:
                self._authorize(remote, local, 'dialback')
            return
        self._failures += 1
        if answer.condition == 'invalid' and not self.pairs:
            self.close('not-authorized', 'The dialback key is not right.')
        elif self._failures >= self.settings.limits.pairs or (self._failures >= _FAILURES and not self.pairs):
            self.close('policy-violation', 'Too many failed attempts.')

    def _on_verify(self, child: Child) -> None:
        """We are the authoritative server: is this our key?"""
        receiving, local = domain(child.attrs.get('from')), domain(child.attrs.get('to'))
        identity = child.attrs.get('id', '')
        if not receiving or not local or not identity or len(identity) > dialback.KEY_LENGTH:
            raise StreamError('improper-addressing', 'A verify request needs from, to and id.')
        settings = self.settings
        key = self._tree(child).text or ''
        if not settings.is_local(local):
            answer = Answer('item-not-found', f'The domain {local} is not served here.')
        elif not settings.secret or (settings.security == 'required' and not self.secure):
            answer = Answer('policy-violation', 'Start TLS first.' if settings.secret else 'Dialback is not used here.')
        else:
            right = dialback.is_right(settings.secret, receiving, local, identity, key)
            answer = Answer() if right else Answer('invalid')
        self.emit(Send(dialback.element('verify', local, receiving, id=identity, answer=answer)))

    # ---- stanzas

    def _on_stanza(self, name: str, attrs: dict[str, str], raw: bytes) -> None:
        if not self.pairs:
            raise StreamError('not-authorized', 'Prove your domain first.')
        remote, local = domain_of(attrs.get('from', '')), domain_of(attrs.get('to', ''))
        if not remote or not local:
            raise StreamError('improper-addressing', "A stanza between servers needs 'from' and 'to'.")
        if (remote, local) not in self.pairs:
            if not self.settings.is_local(local):
                raise StreamError('host-unknown', f'The domain {local} is not served here.')
            raise StreamError('invalid-from', f'This stream is not verified for {remote} to {local}.')
        assert self.on_stanza is not None
        self.on_stanza(remote, local, name, attrs, raw)
