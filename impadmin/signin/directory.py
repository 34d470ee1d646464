"""Signing in by LDAP (RFC 4511): find the user, prove the password by a bind, read the groups. Always over TLS."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import ldap3
from ldap3.core.exceptions import LDAPException
from ldap3.utils.conv import escape_filter_chars
from ldap3.utils.dn import parse_dn

from impadmin.signin import vault
from impadmin.signin.models import LdapAuthentication

PURPOSE = 'ldap manager'
LEVELS = 5
"""How deep nested groups are followed."""
MOST_GROUPS = 1000
_OK = 0
_DISABLED = ('userAccountControl', 'nsAccountLock', 'pwdAccountLockedTime')
_Answer = TypeVar('_Answer')


class Unreachable(Exception):
    """No server could be asked; the text says what each one answered."""


class Refused(Exception):
    """The directory does not vouch for the user; the text is the reason for the history."""


@dataclass(frozen=True, slots=True)
class Found:
    """A user whose password was right, and the distinguished names of his groups in comparable form."""

    dn: str
    groups: frozenset[str]


def servers(text: str) -> list[tuple[str, int | None]]:
    """(host, port or None) of each line. Raises ValueError with the wrong line."""
    found: list[tuple[str, int | None]] = []
    for line in filter(None, (line.strip() for line in text.splitlines())):
        host, colon, port = line.rpartition(':') if line.count(':') == 1 or ']:' in line else (line, '', '')
        host = host.strip('[]')
        if not host or any(char.isspace() or char in '/@' for char in host):
            raise ValueError(line)
        if colon and not (port.isdecimal() and 0 < int(port) < 65536):
            raise ValueError(line)
        found.append((host, int(port) if colon else None))
    return found


def comparable(dn: str) -> str:
    """A distinguished name in one spelling: attribute names and values lower case, no spaces around the signs."""
    try:
        return ''.join(f'{name}={value}{sign}' for name, value, sign in parse_dn(dn, strip=True)).lower()
    except LDAPException:
        return dn.strip().lower()


def find(settings: LdapAuthentication, username: str, password: str) -> Found:
    """The user of the directory. Raises Refused or Unreachable."""
    if not username or not password:  # an empty password would be an anonymous bind, which succeeds
        raise Refused('empty password')
    return _ask_one(settings, lambda connection: _find(settings, connection, username, password))


def look_up(settings: LdapAuthentication, username: str) -> Found:
    """The user as the manager sees him, without his password. Raises Refused (also for a disabled one), Unreachable."""
    return _ask_one(settings, lambda connection: _look_up(settings, connection, username))


def test(settings: LdapAuthentication) -> list[tuple[str, str]]:
    """(server, what is wrong or '') of every server: connection, certificate, bind, and the search base."""
    found = []
    for host, port in servers(settings.servers):
        problem = ''
        try:
            with _manager(settings, host, port) as connection:
                connection.search(settings.search_base, '(objectClass=*)', ldap3.BASE, attributes=['1.1'])
                if connection.result['result'] != _OK:
                    problem = f'{settings.search_base}: {_words(connection)}'
        except (LDAPException, OSError, Refused) as error:
            problem = str(error)[:300]
        found.append((f'{host}:{port}' if port else host, problem))
    return found


def _ask_one(settings: LdapAuthentication, question: Callable[[ldap3.Connection], _Answer]) -> _Answer:
    """Ask the first server that answers."""
    problems = []
    for host, port in servers(settings.servers):
        try:
            with _manager(settings, host, port) as connection:
                return question(connection)
        except (LDAPException, OSError) as error:
            problems.append(f'{host}: {str(error)[:200]}')
    raise Unreachable('; '.join(problems) or 'no server is configured')


@contextmanager
def _open(settings: LdapAuthentication, host: str, port: int | None, dn: str, password: str) -> Iterator[Any]:
    """A protected connection, not bound yet. Raises LDAPException when the server or its certificate is not right."""
    direct = settings.security == LdapAuthentication.Security.LDAPS
    tls = ldap3.Tls(validate=ssl.CERT_REQUIRED, ca_certs_data=settings.ca_certificate or None)
    server = ldap3.Server(
        host, port or (636 if direct else 389), use_ssl=direct, tls=tls, get_info=ldap3.NONE,
        connect_timeout=settings.timeout_s,
    )  # fmt: skip
    connection = ldap3.Connection(
        server, dn or None, password or None, authentication=ldap3.SIMPLE if dn else ldap3.ANONYMOUS,
        read_only=True, auto_referrals=False, receive_timeout=settings.timeout_s, raise_exceptions=False,
    )  # fmt: skip
    try:
        connection.open()
        if not direct and not connection.start_tls():
            raise LDAPException(f'StartTLS: {_words(connection)}')
        yield connection
    finally:
        with suppress(LDAPException, OSError):
            connection.unbind()


@contextmanager
def _manager(settings: LdapAuthentication, host: str, port: int | None) -> Iterator[Any]:
    """A connection bound as the manager, or anonymously when there is none."""
    try:
        password = vault.reveal(PURPOSE, settings.bind_password)
    except vault.Unreadable:
        raise LDAPException('The manager password cannot be read any more. Set it again.') from None
    if settings.bind_dn and not password:
        raise LDAPException('The manager has no password. Set it.')
    with _open(settings, host, port, settings.bind_dn, password) as connection:
        if not connection.bind():
            raise LDAPException(f'{settings.bind_dn or "anonymous"}: {_words(connection)}')
        yield connection


def _entry(settings: LdapAuthentication, connection: Any, username: str) -> tuple[str, Mapping[str, Any]]:
    """(distinguished name, attributes in lower case) of the one user. Raises Refused, LDAPException."""
    query = settings.user_filter.replace('{user}', escape_filter_chars(username))
    connection.search(settings.search_base, query, ldap3.SUBTREE, attributes=['memberOf', *_DISABLED], size_limit=2)
    if connection.result['result'] not in (_OK, ldap3.core.results.RESULT_SIZE_LIMIT_EXCEEDED):
        raise LDAPException(f'{settings.search_base}: {_words(connection)}')
    entries = [entry for entry in connection.response or () if entry.get('type') == 'searchResEntry']
    if len(entries) != 1:
        raise Refused('unknown user' if not entries else 'several users found')
    raw = {name.lower(): [str(value) for value in _list(held)] for name, held in entries[0]['attributes'].items()}
    return str(entries[0]['dn']), raw


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def is_disabled(attributes: Mapping[str, Sequence[str]]) -> bool:
    """Whether the directory keeps the account from signing in: Active Directory (flag ACCOUNTDISABLE), 389 Directory
    Server (nsAccountLock), OpenLDAP's password policy (locked for good)."""
    flags = next(iter(attributes.get('useraccountcontrol', ())), '0')
    locked = {value.lower() for value in attributes.get('nsaccountlock', ())}
    since = attributes.get('pwdaccountlockedtime', ())
    return bool(flags.isdecimal() and int(flags) & 2) or 'true' in locked or any(t.startswith('0000') for t in since)


def _look_up(settings: LdapAuthentication, connection: Any, username: str) -> Found:
    dn, attributes = _entry(settings, connection, username)
    if is_disabled(attributes):
        raise Refused('disabled')
    groups = _groups(settings, connection, dn, set(attributes.get('memberof', ())))
    return Found(dn, frozenset(comparable(group) for group in groups))


def _find(settings: LdapAuthentication, connection: Any, username: str, password: str) -> Found:
    dn, attributes = _entry(settings, connection, username)
    with _open(settings, connection.server.host, connection.server.port, dn, password) as own:
        if not own.bind():
            raise Refused('wrong password' if own.result['description'] == 'invalidCredentials' else _words(own))
    groups = _groups(settings, connection, dn, set(attributes.get('memberof', ())))
    return Found(dn, frozenset(comparable(group) for group in groups))


def _groups(settings: LdapAuthentication, connection: Any, dn: str, found: set[str]) -> set[str]:
    """Names of the groups of ``dn``; nested ones as deep as allowed."""
    if not settings.group_base:
        return found
    level = {dn}
    for _ in range(LEVELS if settings.nested else 1):
        parents: set[str] = set()
        for member in level:
            query = settings.group_filter.replace('{dn}', escape_filter_chars(member))
            connection.search(settings.group_base, query, ldap3.SUBTREE, attributes=['1.1'], size_limit=MOST_GROUPS)
            parents |= {str(e['dn']) for e in connection.response or () if e.get('type') == 'searchResEntry'}
        level = parents - found
        found |= parents
        if not level or len(found) > MOST_GROUPS:
            break
    return found


def _words(connection: Any) -> str:
    """What the server said."""
    result = connection.result or {}
    return ' '.join(filter(None, (str(result.get('description', '')), str(result.get('message', ''))))) or 'no answer'
