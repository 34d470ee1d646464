"""The server side of one client connection up to bind, then the cutting of its stanzas (RFC 6120, XEP-0170).

Sans-io: the shell (connection manager) feeds bytes, answers and time and carries out the events. Usage:

    stream = ClientStream(settings, emit, now)         # emit(event) is called for every event, in order
    stream.tls_established(bindings)                   # direct TLS: before the first byte; STARTTLS: after the handshake
    stream.receive(data)                               # -> events through emit; after bind stanzas through on_stanza
    stream.tick(now)                                   # when stream.deadline has passed

Answers may be given at once, inside ``emit``, or later; bytes that arrive in between wait, in order. After ``Close``
nothing more comes out. No method raises for what the peer sends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from engine.xmpp.stanza import Stanza

Verifiers = Mapping[str, Any]
"""As stored by engine.contract.credentials.verifiers: mechanism -> [salt, iterations, StoredKey, ServerKey]."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a client may use. The first three hold until it has authenticated (the time: until it has bound)."""

    before_auth_bytes: int = 8192
    before_auth_elements: int = 32
    before_auth_s: float = 30.0
    auth_failures: int = 3
    """So many failed logins on one connection end it."""
    stanza_bytes: int = 262_144
    """The largest stanza; a longer one ends the stream with policy-violation."""


class StreamSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What every stream of one listener shares. Replace ``ClientStream.settings`` of new streams on a new generation."""

    domains: frozenset[str]
    """Hosted domains, prepared (lower case)."""
    secret: bytes
    """Any stable secret of the cluster: salts shown for unknown users derive from it."""
    random: Callable[[int], bytes]
    """Source of random bytes (os.urandom in production)."""
    tls_required: bool = True
    """False only when the administrator switched secure mode off: then SASL is offered without TLS too (never PLAIN)."""
    limits: Limits = Limits()
    mechanisms: tuple[str, ...] = (
        'SCRAM-SHA-256-PLUS', 'SCRAM-SHA-1-PLUS', 'SCRAM-SHA-256', 'SCRAM-SHA-1', 'PLAIN',
    )  # fmt: skip
    """Offered mechanisms, strongest first. The -PLUS ones appear only under TLS with bindings, PLAIN only under TLS."""
    features: bytes = b''
    """More stream features after login, complete elements (entity capabilities, stream management)."""
    nonzas: frozenset[str] = frozenset()
    """'namespace name' of top-level elements other than stanzas that on_stanza takes after bind (e.g. 'urn:xmpp:sm:3 r');
    their Stanza has this whole string as name and no from stamped. All others end the stream."""


class Send(msgspec.Struct, frozen=True):
    """Write these bytes."""

    data: bytes


class StartTLS(msgspec.Struct, frozen=True):
    """Flush what was sent, do the TLS handshake, then call tls_established. Bytes read before it belong to nobody."""


class NeedCredentials(msgspec.Struct, frozen=True):
    """SCRAM: answer with ``credentials(verifiers)`` or ``credentials(None)`` for an unknown user, or ``auth_refused``."""

    mechanism: str
    localpart: str
    domain: str


class NeedPasswordCheck(msgspec.Struct, frozen=True):
    """PLAIN: answer with ``password_checked(bool)`` or ``auth_refused``. Slow (PBKDF2): check it in a thread."""

    localpart: str
    domain: str
    password: str

    def __repr__(self) -> str:
        return f'NeedPasswordCheck({self.localpart}@{self.domain})'


class AuthFailed(msgspec.Struct, frozen=True):
    """A login failed (already told to the client): for throttling, counters and the log. ``condition`` as in RFC 6120 6.5."""

    mechanism: str
    localpart: str
    domain: str
    condition: str


class Authenticated(msgspec.Struct, frozen=True):
    """The client is ``bare`` (prepared). No answer needed."""

    bare: str
    mechanism: str


class BindRequest(msgspec.Struct, frozen=True):
    """Answer with ``bound(full_jid)`` or ``bind_refused(condition)``. ``resource`` is prepared, never empty (made up by
    the stream when the client gave none)."""

    bare: str
    resource: str


class Close(msgspec.Struct, frozen=True):
    """Flush, then close the connection. ``condition`` is the stream error that was sent, '' for an orderly end."""

    condition: str = ''
    text: str = ''


Event = (
    Send | StartTLS | NeedCredentials | NeedPasswordCheck | AuthFailed | Authenticated | BindRequest | Close
)  # fmt: skip


class ClientStream:
    """One client connection. Public attributes: ``on_stanza`` (set it before ``bound``), ``jid`` (full JID after bind, else ''),
    ``deadline`` (time at which ``tick`` must be called, or None)."""

    __slots__ = ('deadline', 'emit', 'jid', 'on_stanza', 'settings')

    def __init__(self, settings: StreamSettings, emit: Callable[[Event], None], now: float) -> None:
        self.settings = settings
        self.emit = emit
        self.jid = ''
        self.on_stanza: Callable[[Stanza], None] | None = None
        self.deadline: float | None = now + settings.limits.before_auth_s

    def tls_established(self, bindings: Mapping[str, bytes]) -> None:
        """TLS is up. ``bindings``: channel binding type -> data ('tls-server-end-point', 'tls-exporter'), as far as known."""
        raise NotImplementedError

    def receive(self, data: bytes) -> None:
        """Bytes from the client. After bind each stanza in them goes to ``on_stanza``, in order, ``from`` stamped."""
        raise NotImplementedError

    def tick(self, now: float) -> None:
        """Time has passed; ends the stream with connection-timeout when the deadline was missed."""
        raise NotImplementedError

    def credentials(self, verifiers: Verifiers | None) -> None:
        """Answer to NeedCredentials."""
        raise NotImplementedError

    def password_checked(self, right: bool) -> None:
        """Answer to NeedPasswordCheck."""
        raise NotImplementedError

    def auth_refused(self, condition: str = 'temporary-auth-failure', text: str = '') -> None:
        """Other answer to NeedCredentials and NeedPasswordCheck: throttled, or account-disabled, credentials-expired."""
        raise NotImplementedError

    def bound(self, jid: str) -> None:
        """Answer to BindRequest: the session exists under this full JID. Stanzas that waited are delivered before it returns."""
        raise NotImplementedError

    def bind_refused(self, condition: str, text: str = '') -> None:
        """Answer to BindRequest: an IQ error (conflict, not-allowed, resource-constraint ...). The client may try again."""
        raise NotImplementedError

    def hold(self) -> None:
        """Stop delivering stanzas (back-pressure, or an answer that must come first). What arrives meanwhile waits."""
        raise NotImplementedError

    def release(self) -> None:
        """Deliver again, what waited first."""
        raise NotImplementedError

    def close(self, condition: str = '', text: str = '', host: str = '') -> None:
        """End the stream from our side: stream error ``condition`` (RFC 6120 4.9.3) or an orderly end, then Close.
        ``host`` is the other server of see-other-host."""
        raise NotImplementedError

    def eof(self) -> None:
        """The connection is gone; nothing is sent any more and no event comes."""
        raise NotImplementedError
