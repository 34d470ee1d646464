"""Push registrations (table ``push_registration``, XEP-0357)."""

from __future__ import annotations

from typing import NamedTuple

from engine.store.pool import Store


class Registration(NamedTuple):
    """Where one client of a user wants to be told. ``options`` is the form to send along, b'' for none; ``home`` the
    home node of the user."""

    service: str
    node: str
    resource: str
    options: bytes
    home: int | None = None


async def load(store: Store) -> dict[str, tuple[Registration, ...]]:
    """Every registration of every live user, by IM address, oldest first."""
    rows = await store.fetch(
        'SELECT u.im_address, p.service, p.node, p.resource, p.options, u.home_node_id FROM push_registration p'
        ' JOIN end_user u ON u.id = p.user_id WHERE u.active AND u.im_enabled AND u.im_address IS NOT NULL'
        ' ORDER BY p.created_at'
    )
    found: dict[str, list[Registration]] = {}
    for bare, service, node, resource, options, home in rows:
        found.setdefault(bare, []).append(Registration(service, node, resource, bytes(options), home))
    return {bare: tuple(entries) for bare, entries in found.items()}


async def save(store: Store, user_id: int, new: Registration, most: int) -> None:
    """Add or replace a registration; beyond ``most`` the oldest ones of the user leave."""
    async with store.transaction() as connection:
        await connection.execute(
            'INSERT INTO push_registration (user_id, service, node, resource, options, created_at)'
            ' SELECT id, %s, %s, %s, %s, now() FROM end_user WHERE id = %s'
            ' ON CONFLICT (user_id, service, node) DO UPDATE SET resource = EXCLUDED.resource,'
            ' options = EXCLUDED.options, created_at = EXCLUDED.created_at',
            (new.service, new.node, new.resource, new.options, user_id),
        )
        await connection.execute(
            'DELETE FROM push_registration p USING (SELECT service, node FROM push_registration WHERE user_id = %s'
            ' ORDER BY created_at DESC OFFSET %s) old'
            ' WHERE p.user_id = %s AND p.service = old.service AND p.node = old.node',
            (user_id, most, user_id),
        )


async def of(store: Store, user_id: int) -> tuple[Registration, ...]:
    """The registrations of one user, oldest first."""
    rows = await store.fetch(
        'SELECT p.service, p.node, p.resource, p.options, u.home_node_id FROM push_registration p'
        ' JOIN end_user u ON u.id = p.user_id WHERE u.id = %s ORDER BY p.created_at',
        user_id,
    )
    return tuple(Registration(row[0], row[1], row[2], bytes(row[3]), row[4]) for row in rows)


async def remove(store: Store, bare: str, service: str, node: str | None) -> int:
    """Forget the registrations of a user at a service, all or one node; how many there were."""
    return await store.execute(
        'DELETE FROM push_registration p USING end_user u WHERE u.id = p.user_id AND u.im_address = %s'
        ' AND p.service = %s AND (%s::text IS NULL OR p.node = %s)',
        bare,
        service,
        node,
        node,
    )


async def waiting(store: Store, bare: str) -> int:
    """Messages on disk for a user."""
    row = await store.fetch_one(
        'SELECT count(*) FROM offline_message m JOIN end_user u ON u.id = m.user_id WHERE u.im_address = %s', bare
    )
    return row[0] if row else 0
