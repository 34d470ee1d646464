"""vCards as clients sent them (table ``vcard``, XEP-0054), and the hash of their pictures (``end_user.avatar``)."""

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


async def load_with_avatar(store: Store, user_id: int) -> tuple[str, str]:
    """vCard ('' without one) and hash of the picture of a user."""
    row = await store.fetch_one(
        'SELECT v.xml, u.avatar FROM end_user u LEFT JOIN vcard v ON v.user_id = u.id WHERE u.id = %s', user_id
    )
    return (row[0] or '', row[1]) if row else ('', '')


async def save(store: Store, user_id: int, xml: str, avatar: str) -> None:
    """Replace the user's vCard; ``avatar`` is the hash of the picture in it, '' without one."""
    async with store.transaction() as connection:
        await connection.execute('UPDATE end_user SET avatar = %s WHERE id = %s', (avatar, user_id))
        await connection.execute(
            'INSERT INTO vcard (user_id, xml) SELECT id, %s FROM end_user WHERE id = %s'
            ' ON CONFLICT (user_id) DO UPDATE SET xml = EXCLUDED.xml',
            (xml, user_id),
        )
