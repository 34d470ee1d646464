"""The server side of a stream with an external component (XEP-0114): handshake, then stanzas of its own domain."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable

import msgspec

from engine.xmpp import ns
from engine.xmpp.events import Send
from engine.xmpp.parser import Child, Header, StreamError
from engine.xmpp.s2s import Limits, ServerSettings, ServerStream, domain, domain_of, header


class Connected(msgspec.Struct, frozen=True):
    """The component has shown the secret of ``domain``."""

    domain: str


class ComponentStream(ServerStream):
    """``secret_of(domain)`` gives the secret of a configured component, '' when there is none. ``domain`` is what the
    component asked for; after Connected it is proven."""

    __slots__ = ('_secret_of', '_sent_header', 'domain')

    def __init__(
        self,
        limits: Limits,
        random: Callable[[int], bytes],
        secret_of: Callable[[str], str],
        emit: Callable[[object], None],
        now: float,
    ) -> None:
        settings = ServerSettings(
            is_local=_yes, may=lambda _domain, _direction: True, random=random, secret='', limits=limits
        )
        super().__init__(settings, emit, now + limits.before_auth_s)
        self.namespace = ns.COMPONENT
        self.domain = ''
        self._secret_of = secret_of
        self._sent_header = False

    def _greeted(self) -> bool:
        return self._sent_header

    def _greeting(self) -> bytes:
        self._sent_header = True
        self.id = self.settings.random(16).hex()
        return header(self.namespace, self.domain, '', self.id, version=False)

    def _on_header(self, header: Header) -> None:
        wanted = domain(header.attrs.get('to'))
        if not wanted:
            raise StreamError('improper-addressing', "The stream header needs 'to', the domain of the component.")
        if not self._secret_of(wanted):
            raise StreamError('host-unknown', f'There is no component {wanted} under External Components.')
        self.domain = wanted
        self.emit(Send(self._greeting()))

    def _on_element(self, namespace: str, name: str, child: Child) -> None:
        if (namespace, name) != (self.namespace, 'handshake') or self.trusted:
            raise StreamError('unsupported-stanza-type', f'<{name}/> is not expected here.')
        right = hashlib.sha1(f'{self.id}{self._secret_of(self.domain)}'.encode()).hexdigest()  # noqa: S324 - the protocol
        given = (self._tree(child).text or '').strip().lower()
        if not self._secret_of(self.domain) or not hmac.compare_digest(right.encode(), given.encode()):
            raise StreamError('not-authorized', 'The secret is not right.')
        self._trust()
        self.emit(Send(b'<handshake/>'))
        self.emit(Connected(self.domain))  # type: ignore[arg-type]

    def _on_stanza(self, name: str, attrs: dict[str, str], raw: bytes) -> None:
        if not self.trusted:
            raise StreamError('not-authorized', 'Do the handshake first.')
        to = domain_of(attrs.get('to', ''))
        if 'from' not in attrs or not to:
            raise StreamError('improper-addressing', "A stanza of a component needs 'from' and 'to'.")
        if domain_of(attrs['from']) != self.domain:
            raise StreamError('invalid-from', f"'from' must be an address of {self.domain}.")
        assert self.on_stanza is not None
        self.on_stanza(self.domain, to, name, attrs, raw)


def _yes(_domain: str) -> bool:
    return True
