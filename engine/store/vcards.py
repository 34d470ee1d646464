"""vCards as clients sent them (table ``vcard``, XEP-0054)."""

from __future__ import annotations

from engine.store.pool import Store


async def load(store: Store, bare: str) -> str | None:
    """The vCard element of a live user as text; None when there is none."""
    row = await store.fetch_one(
        'SELECT v.xml FROM vcard v JOIN end_user u ON u.id = v.user_id WHERE u.im_address = %s AND u.active'
        ' AND u.im_enabled',
        bare,
    )
    return row[0] if row else None


async def save(store: Store, user_id: int, xml: str) -> None:
    """Replace the user's vCard."""
    await store.execute(
        'INSERT INTO vcard (user_id, xml) SELECT id, %s FROM end_user WHERE id = %s'
        ' ON CONFLICT (user_id) DO UPDATE SET xml = EXCLUDED.xml',
        xml,
        user_id,
    )
