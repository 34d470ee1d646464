"""What users decided against the cluster's presence settings (table ``user_presence_policy``)."""

from __future__ import annotations

from typing import NamedTuple

from engine.store.pool import Store


class Policy(NamedTuple):
    """Share the own availability; approve requests automatically. None: as the cluster does."""

    sharing: bool | None = None
    automatic: bool | None = None


DEFAULT = Policy()


async def save(store: Store, user_id: int, policy: Policy) -> None:
    """Keep a user's decisions; a user without any has no row."""
    if policy == DEFAULT:
        await store.execute('DELETE FROM user_presence_policy WHERE user_id = %s', user_id)
        return
    await store.execute(
        'INSERT INTO user_presence_policy (user_id, sharing, automatic) SELECT id, %s, %s FROM end_user WHERE id = %s'
        ' ON CONFLICT (user_id) DO UPDATE SET sharing = EXCLUDED.sharing, automatic = EXCLUDED.automatic',
        policy.sharing,
        policy.automatic,
        user_id,
    )
