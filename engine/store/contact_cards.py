"""Cards of the contacts of one user (``roster_item.card``): non-presence contacts."""

from __future__ import annotations

from engine.contract import cards
from engine.contract.cards import Card
from engine.store.pool import Store


async def load(store: Store, user_id: int, jid: str) -> Card | None:
    """The card of a contact; None when the user has no such contact or knows nothing of it."""
    row = await store.fetch_one(
        'SELECT card FROM roster_item WHERE user_id = %s AND jid = %s AND is_contact AND card IS NOT NULL', user_id, jid
    )
    return cards.load(row[0]) if row else None


async def save(store: Store, user_id: int, jid: str, card: Card) -> bool:
    """Replace the card of a contact; False when the user has no such contact."""
    async with store.transaction() as connection:
        await connection.execute('SELECT 1 FROM end_user WHERE id = %s FOR NO KEY UPDATE', (user_id,))
        cursor = await connection.execute(
            'UPDATE roster_item SET card = %s WHERE user_id = %s AND jid = %s AND is_contact',
            (cards.dump(card), user_id, jid),
        )
        return cursor.rowcount > 0
