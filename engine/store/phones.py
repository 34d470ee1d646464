"""Devices of end users: what clients are told of them, and self-provisioning (guide 2413)."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from engine.store.pool import Store
from engine.store.user_data import USER_PROFILE


class Device(NamedTuple):
    """A device; ``description``: its own, else that of the universal device template of its kind, else ''."""

    id: int
    name: str
    description: str


class Outcome(Enum):
    """What became of a request to add a device."""

    ADDED = 'added'
    THERE = 'there'
    NOT_ALLOWED = 'not allowed'
    NO_LINE = 'no line'
    LIMIT = 'limit'
    TAKEN = 'taken'


_TEMPLATE = (
    f'FROM phone p JOIN end_user u ON u.id = p.user_id LEFT JOIN user_profile v ON {USER_PROFILE}'
    ' LEFT JOIN universal_device_template t'
    " ON t.id = CASE WHEN p.name LIKE 'SEP%%' THEN v.desk_template_id ELSE v.mobile_template_id END"
)


async def devices(store: Store, user_id: int) -> list[Device]:
    """The devices of a user, by name."""
    rows = await store.fetch(
        "SELECT p.id, p.name, coalesce(nullif(p.description, ''), t.device_description, '')"
        f' {_TEMPLATE} WHERE p.user_id = %s ORDER BY p.name',
        user_id,
    )
    return [Device(*row) for row in rows]


async def provision(store: Store, user_id: int, name: str, *, mobile: bool) -> Outcome:
    """Add the device ``name`` for a user, if the user profile in force allows it. Requests of one user wait for each
    other, so that the limit holds."""
    async with store.transaction() as connection:
        await connection.execute('SELECT 1 FROM end_user WHERE id = %s FOR NO KEY UPDATE', (user_id,))
        template = 'v.mobile_template_id' if mobile else 'v.desk_template_id'
        cursor = await connection.execute(
            f"SELECT v.self_provisioning AND {template} IS NOT NULL, u.extension <> '',"  # noqa: S608
            ' (SELECT count(*) FROM phone p WHERE p.user_id = u.id) < v.most_phones,'
            ' EXISTS (SELECT 1 FROM phone p WHERE p.user_id = u.id AND p.name = %s)'
            f' FROM end_user u LEFT JOIN user_profile v ON {USER_PROFILE} WHERE u.id = %s',
            (name, user_id),
        )
        allowed, line, room, there = await cursor.fetchone() or (False, False, False, False)
        if there:
            return Outcome.THERE
        if not allowed:
            return Outcome.NOT_ALLOWED
        if not line:
            return Outcome.NO_LINE
        if not room:
            return Outcome.LIMIT
        cursor = await connection.execute(
            'INSERT INTO phone (name, user_id) VALUES (%s, %s)'
            ' ON CONFLICT (name) DO UPDATE SET user_id = excluded.user_id WHERE phone.user_id IS NULL',
            (name, user_id),
        )
        return Outcome.ADDED if cursor.rowcount else Outcome.TAKEN
