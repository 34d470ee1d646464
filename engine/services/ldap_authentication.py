"""Passwords of users of a directory, checked by a bind there (guide 2579, 2790-2803).

ldap3 blocks, so it works in a few threads, each with two connections that it keeps: one of the manager, who searches,
and one that becomes each user in turn. That a directory cannot be asked is never a verdict on a password.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import structlog
from ldap3.core import results
from ldap3.core.exceptions import LDAPException

from engine.contract import ldap, sealing
from engine.contract.config import LdapAuthentication, LdapServer
from engine.services.authentication import Undecided

log = structlog.get_logger(__name__)

THREADS: Final = 8
WAITING: Final = 2000
"""Passwords that wait for a thread at most; who comes then is told to come again."""
KEPT_S: Final = 600.0
"""A connection is kept so long: then the first server is tried again."""
AVOIDED_S: Final = 30.0
"""A server that did not answer is tried last for so long."""
_WRONG: Final = frozenset(
    {
        results.RESULT_INVALID_CREDENTIALS,
        results.RESULT_INAPPROPRIATE_AUTHENTICATION,
        results.RESULT_NO_SUCH_OBJECT,
        results.RESULT_UNWILLING_TO_PERFORM,
        results.RESULT_CONSTRAINT_VIOLATION,
        results.RESULT_INSUFFICIENT_ACCESS_RIGHTS,
        results.RESULT_INVALID_DN_SYNTAX,
    }
)
"""Answers to the bind of a user that mean no: wrong, expired, locked, disabled."""


class _Kept(threading.local):
    """The connections of one thread."""

    manager: Any = None
    person: Any = None
    since: float = 0.0


class Directory:
    """One configuration of LDAP Authentication. ``close`` it when another one takes its place."""

    def __init__(self, settings: LdapAuthentication, var: Path) -> None:
        self._settings = settings
        sealed = sealing.unseal(sealing.LDAP, settings.password, sealing.installation_key(var))
        self._access = ldap.Access(
            settings.manager_dn, (sealed or b'').decode(), settings.timeout_s, settings.authorities
        )
        self._readable = bool(sealed)
        self._pool = ThreadPoolExecutor(THREADS, 'ldap')
        self._kept = _Kept()
        self._avoided: dict[LdapServer, float] = {}
        self._waiting = 0
        self._closed = False

    async def matches(self, user_id: str, password: str, known: bool) -> bool:
        """Whether the directory takes ``password`` from ``user_id``. Not ``known``: never, but it takes as long, and
        nobody's account is tried. Raises Undecided."""
        if not self._readable:
            raise Undecided('the manager password cannot be read: IMP_SECRET_KEY differs from that of the console')
        if self._waiting >= WAITING:
            raise Undecided('too many sign-ins wait for the directory')
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._pool, self._ask, user_id, password, known)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Take no more work; what is under way ends by its own time-out, and who waits for a thread comes again."""
        self._closed = True
        self._pool.shutdown(wait=False)

    # ---- in a thread

    def _ask(self, user_id: str, password: str, known: bool) -> bool:
        if not user_id or not password:
            return False
        if self._closed:
            raise Undecided('another configuration holds now')
        if self._kept.manager is not None and time.monotonic() - self._kept.since < KEPT_S:
            try:
                return self._verdict(user_id, password, known)
            except (LDAPException, OSError, ldap.Refusal):
                pass  # the server has closed a connection that rested, or searches no more: once with a new one
        problems = []
        for server in self._servers():
            try:
                self._connect(server)
                return self._verdict(user_id, password, known)
            except (ldap.NoAnswer, ldap.Refusal, LDAPException, OSError) as error:
                self._drop()
                self._avoided[server] = time.monotonic() + AVOIDED_S
                problems.append(str(error) if isinstance(error, ldap.NoAnswer) else f'{ldap.say(server)}: {error}')
        raise Undecided('; '.join(problems) or 'no server is configured')

    def _servers(self) -> Sequence[LdapServer]:
        now = time.monotonic()
        return sorted(self._settings.servers, key=lambda server: self._avoided.get(server, 0.0) > now)

    def _connect(self, server: LdapServer) -> None:
        self._drop()
        self._kept.manager = ldap.open_as(server, self._access)
        self._kept.person = ldap.open_as(server, self._access, bind=False)
        self._kept.since = time.monotonic()
        self._avoided.pop(server, None)

    def _drop(self) -> None:
        for connection in (self._kept.manager, self._kept.person):
            if connection is not None:
                ldap.close(connection)
        self._kept.manager = self._kept.person = None

    def _verdict(self, user_id: str, password: str, known: bool) -> bool:
        """Search the one entry, then become it. A refusal of the search is a fault of the configuration."""
        settings = self._settings
        query = f'({settings.user_id_attribute}={ldap.escape(user_id)})'
        found = ldap.entries(self._kept.manager, settings.search_base, query, ['1.1'], most=2)
        if known and len(found) != 1:
            log.warning('the directory has not one entry of a user', user=user_id, entries=len(found))
        right = known and len(found) == 1
        try:
            ldap.rebind(self._kept.person, found[0][0] if right else f'cn=nobody,{settings.search_base}', password)
        except ldap.Refusal as refusal:
            if refusal.code not in _WRONG:
                raise
            return False
        return right
