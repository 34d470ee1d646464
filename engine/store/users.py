"""End users as the engine needs them (table ``end_user``)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from engine.store.pool import Store
from engine.store.privacy import Default, load_defaults


@dataclass(slots=True)
class User:
    """One end user at the moment of reading.

    ``bare`` is the prepared IM address; ``credentials`` are SCRAM verifiers (engine.contract.credentials), forgotten
    when the user has signed in (``signed_in``); ``node_id`` is the home node; ``eligible`` says whether the user is
    live on the wire: active, in the home cluster, enabled for IM and Presence, assigned to a node (guide 2533). A user
    who is not eligible must be answered like a wrong password.
    """

    id: int
    user_id: str
    bare: str
    credentials: dict[str, list[str | int]]
    node_id: int | None
    eligible: bool
    roster_version: int
    contact_count: int = 0
    watcher_count: int = 0
    fingerprint: int = 0
    """Changes when anything changes that a session depends on: address, node, eligibility, credentials, lists."""
    password: int = 0
    """Changes when the credentials change."""
    privacy_version: int = 0
    privacy: Default | None = None
    """The default privacy list, on its way to the account's filter."""
    avatar: str = ''
    """SHA-1 of the picture in the vCard, '' without one."""
    archive: Any = None
    """What the user wants archived (``store.archive.rules``)."""
    from_directory: bool = False
    """Synchronized from a directory, which knows the password when sign-ins are checked there."""

    def signed_in(self) -> User:
        """The user as a session keeps him: without verifiers, which nobody needs any more and which are a kilobyte."""
        return replace(self, credentials={})


_ELIGIBLE = '(active AND home_cluster AND im_enabled AND home_node_id IS NOT NULL)'
_FINGERPRINT = (
    f"hashtextextended(concat_ws(' ', im_address, home_node_id, {_ELIGIBLE}, credentials, privacy_version), 0)"
)
_VERIFIERS = 'hashtextextended(credentials::text, 0)'
_ARCHIVE = '(SELECT preferences FROM archive_account a WHERE a.user_id = end_user.id)'
_COLUMNS = (
    f'id, user_id, im_address, credentials, home_node_id, {_ELIGIBLE}, roster_version, contact_count, watcher_count,'
    f" {_FINGERPRINT}, {_VERIFIERS}, privacy_version, avatar, {_ARCHIVE}, (ldap_status = 'active')"
)


def _user(row: tuple[Any, ...]) -> User:
    return User(
        row[0], row[1], row[2] or '', row[3], row[4], row[5], row[6], row[7], row[8], row[9], row[10],
        row[11], avatar=row[12], archive=row[13], from_directory=row[14],
    )  # fmt: skip


async def load_for_login(store: Store, addresses: Iterable[str]) -> dict[str, User]:
    """The users with these prepared IM addresses, eligible or not."""
    rows = await store.fetch(f'SELECT {_COLUMNS} FROM end_user WHERE im_address = ANY(%s)', list(addresses))  # noqa: S608
    found = {row[2]: _user(row) for row in rows}
    if with_lists := {user.id: user for user in found.values() if user.privacy_version}:
        for user_id, default in (await load_defaults(store, with_lists)).items():
            with_lists[user_id].privacy = default
    return found


async def load_many(store: Store, ids: Iterable[int]) -> dict[int, User]:
    """The users that still exist, by id."""
    rows = await store.fetch(f'SELECT {_COLUMNS} FROM end_user WHERE id = ANY(%s)', list(ids))  # noqa: S608
    return {row[0]: _user(row) for row in rows}


async def states(store: Store, ids: Iterable[int]) -> dict[int, tuple[int, int]]:
    """(roster_version, fingerprint) of each of these users that still exists."""
    rows = await store.fetch(
        f'SELECT id, roster_version, {_FINGERPRINT} FROM end_user WHERE id = ANY(%s)',  # noqa: S608
        list(ids),
    )
    return {row[0]: (row[1], row[2]) for row in rows}


async def find(store: Store, bare: str) -> tuple[int, bool] | None:
    """(id, eligible) of the user with this IM address, or None."""
    row = await store.fetch_one(f'SELECT id, {_ELIGIBLE} FROM end_user WHERE im_address = %s', bare)  # noqa: S608
    return (row[0], row[1]) if row else None
