"""Merges one chunk of rows into the contact lists: locks, decides row by row in file order, writes set by set.

Everything happens in the caller's transaction. The owners' and contacts' ``end_user`` rows are locked first, in id
order, like every writer of roster_item does; with them held nobody else adds an entry, so new entries go straight
into the table by COPY, and only changed ones take the way through a staging table.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from xml.sax.saxutils import quoteattr

from django.db import connection

from impadmin.bulkadmin.contactfile import NOT_LOCAL, SELF, SIZE, Row
from impadmin.bulkadmin.inforce import Rules

TO, FROM = 1, 2

ORDER = attrgetter('user_id', 'jid')
_ESCAPES = str.maketrans({'\\': '\\\\', '\t': '\\t', '\n': '\\n', '\r': '\\r'})
_IN_ARRAY = str.maketrans({'\\': '\\\\', '"': '\\"'})


@dataclass(slots=True)
class User:
    """A locked end user: what of it the merge needs, and what it adds."""

    id: int
    eligible: bool
    contacts: int
    watchers: int
    has_roster: bool
    automatic: bool | None
    """Has requests approved without being asked; None: as the cluster does."""
    new_contacts: int = 0
    new_watchers: int = 0
    touched: bool = False


@dataclass(slots=True)
class Item:
    """One roster entry, stored or to be stored."""

    user_id: int
    jid: str
    name: str = ''
    groups: tuple[str, ...] = ()
    subscription: int = 0
    ask: bool = False
    pending_in: bool = False
    approved: bool = False
    is_contact: bool = False
    state: int = 0
    request: bytes | None = None
    card: str | None = None
    stored: bool = False
    changed: bool = False


@dataclass(slots=True)
class Merged:
    """verdicts: one per row, '' for imported, else the reason; touched: ids of users whose list changed."""

    verdicts: list[str] = field(default_factory=list)
    touched: list[int] = field(default_factory=list)


def merge(rows: Sequence[Row], rules: Rules) -> Merged:
    """Add rows (file order) to the contact lists. Runs in the caller's transaction."""
    wanted = {row[0] for row in rows}
    wanted.update(row[1] for row in rows if row[5] in rules.domains)
    users = lock(wanted)
    items = existing(((row[0], row[1]) for row in rows), users)
    result = Merged()
    verdict = result.verdicts.append
    new: list[tuple[int, str]] = []
    limit = rules.max_contacts
    for owner_jid, jid, name, group, state, domain in rows:
        owner = users.get(owner_jid)
        if owner is None or not owner.eligible:
            verdict(NOT_LOCAL)
            continue
        if jid == owner_jid:
            verdict(SELF)
            continue
        key = (owner.id, jid)
        item = items.get(key)
        if item is not None and item.is_contact:
            _add_to(item, name, group, state)
            owner.touched = owner.touched or item.changed
            verdict('')
            continue
        if limit is not None and owner.contacts + owner.new_contacts >= limit:
            verdict(SIZE)
            continue
        if item is None:
            item = items[key] = Item(owner.id, jid, name, (group,), 0, False, False, False, True, state)
            new.append(key)
        else:
            item.is_contact, item.name, item.groups, item.state = True, name, (group,), state
            item.changed = True
        owner.new_contacts += 1
        owner.touched = True
        if domain not in rules.domains:
            item.ask = not item.subscription & TO
        elif (contact := users.get(jid)) is not None:
            subscribe(item, owner_jid, contact, jid, rules, items, new)
        verdict('')
    new.sort()
    write([items[key] for key in new], [item for item in items.values() if item.stored and item.changed])
    result.touched = count(users.values())
    return result


def _add_to(item: Item, name: str, group: str, state: int) -> None:
    """A contact that is there already: the given nickname and state win, the group is added."""
    if name and name != item.name:
        item.name, item.changed = name, True
    if group not in item.groups:
        item.groups, item.changed = (*item.groups, group), True
    if state and state != item.state:
        item.state, item.changed = state, True


def subscribe(
    item: Item,
    owner_jid: str,
    contact: User,
    jid: str,
    rules: Rules,
    items: dict[tuple[int, str], Item],
    new: list[tuple[int, str]],
) -> None:
    """What a subscribe of the owner to a local contact comes to (spec 06, contact and watcher limits)."""
    if item.subscription & TO:
        return
    back = items.get((contact.id, owner_jid))
    if back is not None and back.subscription & FROM:
        item.subscription |= TO
        return
    knows = back is not None and back.is_contact
    if not knows and rules.max_contacts is not None and contact.contacts + contact.new_contacts >= rules.max_contacts:
        return
    if rules.max_watchers is not None and contact.watchers + contact.new_watchers >= rules.max_watchers:
        return
    if back is None:
        back = items[contact.id, owner_jid] = Item(contact.id, owner_jid)
        new.append((contact.id, owner_jid))
    back.changed = True
    contact.touched = True
    automatic = rules.auto_approve if contact.automatic is None else contact.automatic
    if knows or automatic or back.approved:
        item.subscription |= TO
        item.ask = False
        back.subscription |= FROM
        back.pending_in, back.approved, back.request = False, False, None
        contact.new_watchers += 1
    else:
        item.ask = True
        back.pending_in = True
        back.request = f'<presence from={quoteattr(owner_jid)} to={quoteattr(jid)} type="subscribe"/>'.encode()


def lock(jids: Iterable[str]) -> dict[str, User]:
    """The end users with these addresses, locked in id order."""
    with connection.cursor() as cursor:
        cursor.execute(
            'SELECT u.im_address, u.id, u.im_enabled AND u.active AND u.home_cluster AND u.home_node_id IS NOT NULL,'
            ' u.contact_count, u.watcher_count, u.roster_version > 0, p.automatic'
            ' FROM end_user u LEFT JOIN user_presence_policy p ON p.user_id = u.id'
            ' WHERE u.im_address = ANY(%s) ORDER BY u.id FOR NO KEY UPDATE OF u',
            [list(jids)],
        )
        return {row[0]: User(*row[1:]) for row in cursor.fetchall()}


def existing(about: Iterable[tuple[str, str]], users: dict[str, User]) -> dict[tuple[int, str], Item]:
    """Stored entries of these owners and contacts, on both sides. A list that was never written (version 0) is not
    asked for."""
    pairs: set[tuple[int, str]] = set()
    for owner_jid, jid in about:
        owner = users.get(owner_jid)
        if owner is None:
            continue
        if owner.has_roster:
            pairs.add((owner.id, jid))
        contact = users.get(jid)
        if contact is not None and contact.has_roster:
            pairs.add((contact.id, owner_jid))
    if not pairs:
        return {}
    ordered = sorted(pairs)
    with connection.cursor() as cursor:
        cursor.execute(
            'SELECT r.user_id, r.jid, r.name, r.groups, r.subscription, r.ask, r.pending_in, r.approved, r.is_contact,'
            ' r.state, r.request, r.card FROM unnest(%s::bigint[], %s::varchar[]) AS k (user_id, jid)'
            ' JOIN roster_item r ON r.user_id = k.user_id AND r.jid = k.jid',
            [[pair[0] for pair in ordered], [pair[1] for pair in ordered]],
        )
        return {
            (row[0], row[1]): Item(
                row[0], row[1], row[2], tuple(row[3]), *row[4:10], row[10] and bytes(row[10]), row[11], True
            )
            for row in cursor.fetchall()
        }


_COLUMNS = 'user_id, jid, name, groups, subscription, ask, pending_in, approved, is_contact, state, request, card'


def write(new: list[Item], changed: list[Item]) -> None:
    """Store new entries by COPY, sorted as the index is, and changed ones from a staging table."""
    with connection.cursor() as cursor:
        if new:
            with cursor.copy(f'COPY roster_item ({_COLUMNS}) FROM STDIN') as copy:
                for block in _blocks(new):
                    copy.write(block)
        if changed:
            changed.sort(key=ORDER)
            cursor.execute(
                'CREATE TEMP TABLE IF NOT EXISTS import_staging (user_id bigint, jid varchar, name varchar,'
                ' groups varchar[], subscription smallint, ask boolean, pending_in boolean, approved boolean,'
                ' is_contact boolean, state integer, request bytea, card text) ON COMMIT DELETE ROWS'
            )
            cursor.execute('TRUNCATE import_staging')
            with cursor.copy(f'COPY import_staging ({_COLUMNS}) FROM STDIN') as copy:
                for block in _blocks(changed):
                    copy.write(block)
            cursor.execute(
                'UPDATE roster_item r SET name = s.name, groups = s.groups, subscription = s.subscription,'
                ' ask = s.ask, pending_in = s.pending_in, approved = s.approved, is_contact = s.is_contact,'
                ' state = s.state, request = s.request, card = s.card FROM import_staging s'
                ' WHERE r.user_id = s.user_id AND r.jid = s.jid'
            )


def _blocks(items: list[Item]) -> Iterable[str]:
    """COPY text of the entries, some hundred at a time."""
    arrays: dict[tuple[str, ...], str] = {(): '{}'}
    for start in range(0, len(items), 1000):
        lines = []
        for item in items[start : start + 1000]:
            groups = arrays.get(item.groups)
            if groups is None:
                quoted = ','.join(f'"{group.translate(_IN_ARRAY)}"' for group in item.groups)
                groups = arrays[item.groups] = ('{' + quoted + '}').translate(_ESCAPES)
            request = '\\N' if item.request is None else '\\\\x' + item.request.hex()
            card = '\\N' if item.card is None else _text(item.card)
            lines.append(
                f'{item.user_id}\t{_text(item.jid)}\t{_text(item.name)}\t{groups}\t{item.subscription}\t{item.ask}\t'
                f'{item.pending_in}\t{item.approved}\t{item.is_contact}\t{item.state}\t{request}\t{card}\n'
            )
        yield ''.join(lines)


def _text(text: str) -> str:
    """One text column of COPY."""
    return text if text.isprintable() and '\\' not in text else text.translate(_ESCAPES)


def count(users: Iterable[User]) -> list[int]:
    """Bring counts and versions of the touched users up to date; their ids."""
    touched = sorted((user for user in users if user.touched), key=lambda user: user.id)
    if touched:
        with connection.cursor() as cursor:
            cursor.execute(
                'UPDATE end_user u SET roster_version = u.roster_version + 1,'
                ' contact_count = u.contact_count + d.contacts, watcher_count = u.watcher_count + d.watchers'
                ' FROM unnest(%s::bigint[], %s::integer[], %s::integer[]) AS d (id, contacts, watchers)'
                ' WHERE u.id = d.id',
                [
                    [user.id for user in touched],
                    [user.new_contacts for user in touched],
                    [user.new_watchers for user in touched],
                ],
            )
    return [user.id for user in touched]
