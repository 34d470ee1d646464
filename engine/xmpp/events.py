"""What a client stream is told to do, and what it tells its shell to do. Import these from ``engine.xmpp.c2s``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

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
    """What every stream of one listener shares. Replace ``ClientStream.settings`` of new streams on a new
    generation."""

    domains: frozenset[str]
    """Hosted domains, prepared (lower case)."""
    secret: bytes
    """Any stable secret of the cluster: salts shown for unknown users derive from it."""
    random: Callable[[int], bytes]
    """Source of random bytes (os.urandom in production)."""
    tls_required: bool = True
    """False only when the administrator switched secure mode off: then SASL is offered without TLS too (never
    PLAIN)."""
    tls_available: bool = True
    """False when the listener has no certificate: STARTTLS is not offered."""
    limits: Limits = Limits()
    mechanisms: tuple[str, ...] = (
        'SCRAM-SHA-256-PLUS', 'SCRAM-SHA-1-PLUS', 'SCRAM-SHA-256', 'SCRAM-SHA-1', 'PLAIN',
    )  # fmt: skip
    """Offered mechanisms, strongest first. The -PLUS ones appear only under TLS with bindings, PLAIN only under TLS."""
    features: bytes = b''
    """More stream features after login, complete elements (entity capabilities, stream management)."""
    dual: bytes = b''
    """The feature of dual connections, offered under TLS only; b'': inactive connections are refused."""
    nonzas: frozenset[str] = frozenset()
    """'namespace name' of top-level elements other than stanzas that on_nonza takes after bind (e.g. 'urn:xmpp:sm:3
    r'). All others end the stream."""
    resumption: bool = False
    """Whether <resume/> is taken before bind (XEP-0198); ``features`` must offer it too."""


class Send(msgspec.Struct, frozen=True):
    """Write these bytes."""

    data: bytes


class StartTLS(msgspec.Struct, frozen=True):
    """Flush what was sent, do the TLS handshake, then call tls_established. Bytes read before it belong to nobody."""


class NeedCredentials(msgspec.Struct, frozen=True):
    """SCRAM: answer with ``credentials(verifiers)`` or ``credentials(None)`` for an unknown user, or
    ``auth_refused``. EXTERNAL: the same; the certificate has proven who it is, any verifiers mean "may sign in"."""

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
    """A login failed (already told to the client): for throttling, counters and the log. ``condition`` as in RFC 6120
    6.5."""

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
    the stream when the client gave none). ``inactive``: the second of dual connections."""

    bare: str
    resource: str
    inactive: bool = False


class ResumeRequest(msgspec.Struct, frozen=True):
    """Answer with ``resumed(full_jid, answers)`` or ``resume_refused(answer)`` (XEP-0198 5); ``h`` is what the client
    has handled."""

    bare: str
    previd: str
    h: int


class Close(msgspec.Struct, frozen=True):
    """Flush, then close the connection. ``condition`` is the stream error that was sent, '' for an orderly end."""

    condition: str = ''
    text: str = ''


Event = (
    Send | StartTLS | NeedCredentials | NeedPasswordCheck | AuthFailed | Authenticated | BindRequest | ResumeRequest
    | Close
)  # fmt: skip
