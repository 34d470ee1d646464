"""Subscriptions between users of this system agree on both sides (docs/decisions/0004), also after Rename Contacts.

An entry that now names a user here may say what that user's own list does not. What one side was granted under the
other's old address is a wish towards the new one: it is decided as a request would be; what a user granted to the old
address counts for the new one, by subscription where the other has the user in the list, else as approval in advance.
"""

from __future__ import annotations

from collections.abc import Iterable

from django.db import connection

from impadmin.bulkadmin import merge
from impadmin.bulkadmin.inforce import Rules, rules
from impadmin.bulkadmin.merge import FROM, TO, Item, User
from impadmin.ucm import rekey

Items = dict[tuple[int, str], Item]
_PAIRS = """
SELECT n.im_address, o.im_address FROM end_user n JOIN roster_item r ON r.jid = n.im_address
JOIN end_user o ON o.id = r.user_id WHERE n.id = ANY(%s) AND o.im_address IS NOT NULL AND o.id <> n.id
UNION
SELECT n.im_address, o.im_address FROM end_user n JOIN roster_item r ON r.user_id = n.id
JOIN end_user o ON o.im_address = r.jid WHERE n.id = ANY(%s) AND n.im_address IS NOT NULL AND o.id <> n.id
ORDER BY 1, 2
"""


def agree(ids: list[int]) -> tuple[list[int], int]:
    """Make every entry between these users and other users here agree with its other half.

    (ids of the users whose lists were written, pairs looked at). Runs in the caller's transaction.
    """
    with connection.cursor() as cursor:
        cursor.execute(_PAIRS, [ids, ids])
        pairs = cursor.fetchall()
    users = merge.lock({jid for pair in pairs for jid in pair})
    items = merge.existing(pairs, users)
    now = rules()
    for one, other in pairs:
        if one in users and other in users:
            for watcher, watched in ((one, other), (other, one)):
                _settle(watcher, watched, users, items, now)
    for item in items.values():
        item.changed = item.changed or not item.stored
    empty = [item for item in items.values() if item.stored and item.changed and _is_empty(item)]
    kept = [item for item in items.values() if item.changed and not _is_empty(item)]
    merge.write(sorted((i for i in kept if not i.stored), key=merge.ORDER), [i for i in kept if i.stored])
    _delete(empty)
    touched = sorted({item.user_id for item in (*kept, *empty)})
    if touched:
        rekey.recount(touched)
    return touched, len(pairs)


def _settle(watcher: str, watched: str, users: dict[str, User], items: Items, now: Rules) -> None:
    """One direction: whether ``watcher`` sees ``watched``, and whether it asks to."""
    mine = items.get((users[watcher].id, watched))
    theirs = items.get((users[watched].id, watcher))
    sees = bool(mine and mine.subscription & TO)
    shown = bool(theirs and theirs.subscription & FROM)
    if sees == shown and bool(mine and mine.ask) == bool(theirs and theirs.pending_in):
        return
    if shown and mine is not None and mine.is_contact:
        _set(mine, mine.subscription | TO, ask=False)
        return
    if theirs is not None and (shown or theirs.pending_in) and not (mine and mine.is_contact):
        _set_from(theirs, approved=shown and _renamed(mine, theirs))
    if mine is not None and (sees or mine.ask) and not shown:
        wished = mine.is_contact
        _set(mine, mine.subscription & ~TO, ask=False)
        if wished and users[watched].eligible:
            merge.subscribe(mine, watcher, users[watched], watched, now, items, [])
    elif theirs is not None and theirs.pending_in and mine is not None:
        mine.ask = mine.changed = True


def _renamed(mine: Item | None, theirs: Item) -> bool:
    """Whether a grant stands alone because the one who got it has no entry yet, not because he took it away."""
    return mine is None and theirs.is_contact


def _set(item: Item, subscription: int, ask: bool) -> None:
    item.changed = item.changed or (item.subscription, item.ask) != (subscription, ask)
    item.subscription, item.ask = subscription, ask


def _set_from(item: Item, approved: bool) -> None:
    """End what the other side sees or asks for."""
    item.subscription &= ~FROM
    item.pending_in, item.request = False, None
    item.approved = item.approved or approved
    item.changed = True


def _is_empty(item: Item) -> bool:
    return not (item.is_contact or item.subscription or item.ask or item.pending_in or item.approved)


def _delete(items: Iterable[Item]) -> None:
    gone = [(item.user_id, item.jid) for item in items]
    if gone:
        with connection.cursor() as cursor:
            cursor.execute(
                'DELETE FROM roster_item r USING unnest(%s::bigint[], %s::varchar[]) AS k (user_id, jid)'
                ' WHERE r.user_id = k.user_id AND r.jid = k.jid',
                [[pair[0] for pair in gone], [pair[1] for pair in gone]],
            )
