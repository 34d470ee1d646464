"""Connections to LDAP directories (RFC 4511), for the console's synchronization and for sign-ins at the nodes.

LDAPS only, never StartTLS (guide 2561-2563); referrals are not followed. Everything here blocks: call it in a thread.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import ldap3
from ldap3.core import results
from ldap3.core.exceptions import LDAPException, LDAPSASLPrepError
from ldap3.utils.conv import escape_filter_chars as escape

from engine.contract.config import LdapServer

__all__ = ['Access', 'NoAnswer', 'Refusal', 'connected', 'entries', 'escape', 'open_as', 'pages', 'say']

_PAGED: Final = '1.2.840.113556.1.4.319'
_BUSY: Final = frozenset({results.RESULT_BUSY, results.RESULT_UNAVAILABLE, results.RESULT_OTHER})
"""Another server, or the same one later, may do better."""


class NoAnswer(Exception):
    """The server cannot be reached, its certificate is not trusted, or the connection broke. The text says it."""


class Refusal(Exception):
    """The server answered that it does not do it. ``code``: result code of RFC 4511 4.1.9; the text is its name."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class Access:
    """Who asks, and how. ``authorities``: PEM of the trusted ones, '' for none; ``timeout_s``: how long connecting, and
    each answer, may take."""

    dn: str
    password: str
    timeout_s: float
    authorities: str = ''


def say(server: LdapServer) -> str:
    """host:port of a server."""
    return f'[{server.host}]:{server.port}' if ':' in server.host else f'{server.host}:{server.port}'


def open_as(server: LdapServer, access: Access, *, bind: bool = True) -> Any:
    """A connection, bound as ``access.dn``. Raises NoAnswer, Refusal."""
    if server.tls and not access.authorities:
        raise NoAnswer(f'{say(server)}: CERTIFICATE_VERIFY_FAILED: tomcat-trust is empty')
    validating = ldap3.Tls(validate=ssl.CERT_REQUIRED, ca_certs_data=access.authorities)
    target = ldap3.Server(
        server.host, server.port, use_ssl=server.tls, tls=validating if server.tls else None, get_info=ldap3.NONE,
        connect_timeout=access.timeout_s,
    )  # fmt: skip
    connection = ldap3.Connection(
        target, access.dn, access.password, authentication=ldap3.SIMPLE, read_only=True, auto_referrals=False,
        receive_timeout=access.timeout_s, check_names=False, return_empty_attributes=False,
    )  # fmt: skip
    try:
        connection.open()
        if bind:
            rebind(connection, access.dn, access.password)
    except (LDAPException, OSError) as error:
        raise NoAnswer(f'{say(server)}: {str(error)[:300] or type(error).__name__}') from error
    except Refusal:
        close(connection)
        raise
    return connection


def rebind(connection: Any, dn: str, password: str) -> None:
    """Become ``dn``. Raises Refusal, LDAPException, OSError. An empty password would be an anonymous bind, which
    succeeds (RFC 4513 5.1.2): it is refused here. So is one that SASLprep (RFC 4013) forbids: no server is asked, and
    none is at fault."""
    wrong = Refusal(results.RESULT_INVALID_CREDENTIALS, 'invalidCredentials')
    if not dn or not password:
        raise wrong
    try:
        connection.rebind(user=dn, password=password, authentication=ldap3.SIMPLE)
    except LDAPSASLPrepError:
        raise wrong from None
    _demand(connection)


def close(connection: Any) -> None:
    """Let go of a connection."""
    with suppress(LDAPException, OSError):
        connection.unbind()


@contextmanager
def connected(server: LdapServer, access: Access) -> Iterator[Any]:
    """A bound connection for a while. What breaks inside is raised as NoAnswer."""
    connection = open_as(server, access)
    try:
        yield connection
    except (LDAPException, OSError) as error:
        raise NoAnswer(f'{say(server)}: {str(error)[:300] or type(error).__name__}') from error
    finally:
        close(connection)


def entries(connection: Any, base: str, query: str, attributes: Sequence[str], most: int = 0) -> list[tuple[str, Any]]:
    """(distinguished name, raw attributes) of what is found below ``base``; with ``most``, of the first ones. Raises
    Refusal, LDAPException, OSError."""
    connection.search(base, query, ldap3.SUBTREE, attributes=list(attributes), size_limit=most)
    _demand(connection, *((results.RESULT_SIZE_LIMIT_EXCEEDED,) if most else ()))
    return _found(connection)[0]


def pages(
    connection: Any, base: str, query: str, attributes: Sequence[str], size: int
) -> Iterator[tuple[list[tuple[str, Any]], int]]:
    """The same, ``size`` entries at a time (RFC 2696), and how many referrals came with them: these are not followed.
    What ends before everything was told, at a size limit for example, raises Refusal."""
    cookie: Any = None
    while True:
        connection.search(
            base, query, ldap3.SUBTREE, attributes=list(attributes), paged_size=size, paged_cookie=cookie,
            paged_criticality=False,
        )  # fmt: skip
        _demand(connection)
        yield _found(connection)
        controls = (connection.result or {}).get('controls') or {}
        cookie = controls.get(_PAGED, {}).get('value', {}).get('cookie')
        if not cookie:
            return


def _found(connection: Any) -> tuple[list[tuple[str, Any]], int]:
    answers = connection.response or []
    found = [(str(one['dn']), one['raw_attributes']) for one in answers if one.get('type') == 'searchResEntry']
    return found, sum(one.get('type') == 'searchResRef' for one in answers)


def _demand(connection: Any, *also: int) -> None:
    result = connection.result or {}
    code = result.get('result', results.RESULT_OTHER)
    if code == results.RESULT_SUCCESS or code in also:
        return
    text = ' '.join(filter(None, (str(result.get('description', '')), str(result.get('message', ''))[:200])))
    if code in _BUSY:
        raise LDAPException(text or 'no answer')
    raise Refusal(code, text)
