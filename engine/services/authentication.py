"""Cisco XCP Authentication Service: who may sign in, and how often a wrong password may be tried.

A user who is not eligible (not active, other home cluster, not enabled, not assigned) is answered exactly like a
wrong password. A user of another node is authenticated here; the router then names the right node (see-other-host).
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Protocol

import structlog

from engine.contract import credentials
from engine.contract.services import AUTHENTICATION
from engine.services.base import Service
from engine.store import users
from engine.store.batch import Batch

if TYPE_CHECKING:
    from engine.contract.config import Config
    from engine.node import Node
    from engine.services.ldap_authentication import Directory
    from engine.store.users import User

log = structlog.get_logger(__name__)

Credentials = dict[str, list[str | int]]
"""See engine.contract.credentials."""

MOST_TRACKED = 50_000
"""Pairs of user and address remembered at most; the oldest go first."""
PARALLEL = 10
"""Attempts of one user from one address that may be under way at once, beyond the failures still allowed: the many
clients of one person sign in together after a restart, but nobody tries a thousand passwords side by side."""


class Refused(Exception):
    """The attempt is not looked at: too many failures before it."""


class Undecided(Exception):
    """The password could not be checked: the directory cannot be asked. The text is for the log."""


class Subject(Protocol):
    """Whose password is checked. ``from_directory``: it is that of the directory, where there is one."""

    @property
    def user_id(self) -> str: ...

    @property
    def credentials(self) -> Credentials: ...

    @property
    def from_directory(self) -> bool: ...


class _Record:
    """Failures in a row, when the last was, attempts under way."""

    __slots__ = ('at', 'failures', 'under_way')

    def __init__(self) -> None:
        self.failures = 0
        self.at = 0.0
        self.under_way = 0


class AuthenticationService(Service):
    """Looks users up for SASL and throttles. While it is stopped nobody can sign in; sessions go on."""

    key: ClassVar[str] = AUTHENTICATION

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self._records: dict[tuple[str, str], _Record] = {}
        self._users: Batch[str, User] = Batch(partial(users.load_for_login, node.store))
        self._decoy = credentials.verifiers('decoy', salt=b'0123456789abcdef')
        self._directory: Directory | None = None

    def configure(self, newest: Config) -> None:
        """LDAP Authentication holds from the next sign-in on."""
        before = self.config.ldap
        super().configure(newest)
        if self.config.ldap != before:
            self._use_directory()

    async def start(self) -> None:
        """Begin to use the directory, if there is one."""
        self._use_directory()

    async def stop(self) -> None:
        """Let go of it."""
        if self._directory is not None:
            self._directory.close()

    def _use_directory(self) -> None:
        if self._directory is not None:
            self._directory.close()
        self._directory = None
        if self.config.ldap.enabled:
            from engine.services.ldap_authentication import Directory  # ldap3 is loaded only where it is needed

            self._directory = Directory(self.config.ldap, self.node.var)

    async def begin(self, bare: str, address: str, certificate: bool = False) -> User | None:
        """Begin one attempt: the user, or None when there is no such eligible user. ``certificate``: no password is
        needed. Raises Refused, or what the store raises. Unless it raises, ``finish`` must follow once."""
        record = self._admit(bare, address)
        record.under_way += 1
        try:
            user = await self._users.get(bare)
        except BaseException:
            record.under_way -= 1
            raise
        if user is None or not user.eligible:
            return None
        by_directory = self._directory is not None and user.from_directory
        return user if user.credentials or certificate or by_directory else None

    async def password_matches(self, user: Subject | None, name: str, password: str) -> bool:
        """Check a password; it takes as long for an unknown user, called ``name``, as for a known one.

        Raises Undecided."""
        if self._directory is not None and (user is None or user.from_directory):
            return await self._directory.matches(user.user_id if user else name, password, user is not None)
        stored = (user.credentials if user is not None else None) or self._decoy
        right = await asyncio.get_running_loop().run_in_executor(None, credentials.matches, password, stored)
        return right and stored is not self._decoy

    async def check(self, bare: str, address: str, user: Subject | None, name: str, password: str) -> bool:
        """Whether a password given elsewhere than in a sign-in is right. It counts like an attempt to sign in as
        ``bare``. Raises Refused, Undecided."""
        self._admit(bare, address).under_way += 1
        right = None
        try:
            right = await self.password_matches(user, name, password)
        finally:
            self.finish(bare, address, right)
        return right

    def finish(self, bare: str, address: str, right: bool | None) -> None:
        """The outcome of an attempt: True signed in, False wrong, None given up (no verdict)."""
        key = (bare, address)
        record = self._records.get(key)
        if record is not None:
            record.under_way = max(0, record.under_way - 1)
        if right:
            self.node.counters.auth_success += 1
            if record is not None and not record.under_way:
                del self._records[key]
            elif record is not None:
                record.failures = 0
        elif right is False:
            self.node.counters.auth_failures += 1
            if record is None:
                record = self._records[key] = _Record()
            record.failures += 1
            record.at = asyncio.get_running_loop().time()
            if record.failures == self.param('failed_logins'):
                log.warning('sign-ins are refused for a while', user=bare, address=address, failures=record.failures)
        elif record is not None and not record.under_way and not record.failures:
            del self._records[key]

    def _admit(self, bare: str, address: str) -> _Record:
        key = (bare, address)
        now = asyncio.get_running_loop().time()
        delay = self.param('failed_login_delay_s')
        limit = self.param('failed_logins')
        record = self._records.get(key)
        if record is None:
            if len(self._records) >= MOST_TRACKED:
                self._forget(now - delay)
            record = self._records[key] = _Record()
        elif record.failures and now - record.at >= delay:
            record.failures = 0
        if record.failures >= limit or record.failures + record.under_way >= limit + PARALLEL:
            self.node.counters.auth_throttled += 1
            raise Refused
        return record

    def _forget(self, before: float) -> None:
        for key in [key for key, record in self._records.items() if not record.under_way and record.at < before]:
            del self._records[key]
        while len(self._records) >= MOST_TRACKED:
            del self._records[next(iter(self._records))]
