"""Give stored data new IM addresses: contact list entries, privacy lists and offline messages, by a mapping old -> new.

Set-based and per owner in one transaction, so that users may swap addresses or pass them on in a chain. ``mapping``
names a table with the columns ``user_id``, ``old`` and ``new``. Groups, names and subscriptions are kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from xml.sax.saxutils import escape, unescape

from django.db import connection, transaction

from engine.contract.jid import InvalidJID, bare
from impadmin.ucm import rekey_pubsub

COLUMNS = 'user_id, jid, name, groups, subscription, ask, pending_in, approved, is_contact, state, request, card'
_START_TAG = re.compile(rb'\s*<[^\s/>]+(?:\s+[^\s=>]+\s*=\s*(?:"[^"]*"|\'[^\']*\'))*\s*/?>')
_ADDRESS = re.compile(rb'(\s(?:from|to)\s*=\s*)("[^"]*"|\'[^\']*\')')
_ENTITIES = {'&quot;': '"', '&apos;': "'"}


def lock(owners: Iterable[int]) -> None:
    """Lock the contact lists of ``owners`` in ascending order, as every writer does."""
    with connection.cursor() as cursor:
        cursor.execute('SELECT id FROM end_user WHERE id = ANY(%s) ORDER BY id FOR UPDATE', [sorted(owners)])


def recount(owners: Iterable[int]) -> None:
    """Raise roster_version and make the counts of ``owners`` exact."""
    with connection.cursor() as cursor:
        cursor.execute(
            'UPDATE end_user u SET roster_version = u.roster_version + 1, contact_count = c.contacts, '
            'watcher_count = c.watchers FROM ('
            ' SELECT e.id, count(r.jid) FILTER (WHERE r.is_contact) AS contacts,'
            '  count(r.jid) FILTER (WHERE r.subscription IN (2, 3)) AS watchers'
            ' FROM end_user e LEFT JOIN roster_item r ON r.user_id = e.id WHERE e.id = ANY(%s) GROUP BY e.id'
            ') AS c WHERE c.id = u.id',
            [sorted(owners)],
        )


def owners_after(mapping: str, after: int, limit: int) -> list[int]:
    """Ids of the next users whose contact list names a mapped address, or who hold requests sent to their own."""
    with connection.cursor() as cursor:
        cursor.execute(
            f'SELECT DISTINCT r.user_id FROM roster_item r WHERE r.user_id > %s AND ('  # noqa: S608 - fixed table names
            f' EXISTS (SELECT 1 FROM {mapping} m WHERE m.old = r.jid AND m.new IS NOT NULL)'
            f' OR (r.request IS NOT NULL AND EXISTS (SELECT 1 FROM {mapping} m WHERE m.user_id = r.user_id))'
            f') ORDER BY r.user_id LIMIT %s',
            [after, limit],
        )
        return [row[0] for row in cursor.fetchall()]


def rekey_rosters(mapping: str, owners: list[int], journal: bool = False) -> int:
    """Give the entries of ``owners`` their new addresses; how many entries moved. Runs in the caller's transaction.

    Where an owner already has an entry under the new address (left by somebody who is gone), the two become one: the
    entry of the real user wins, groups of both are kept. With ``journal``, the rows as they were go to address_journal.
    """
    lock(owners)
    with connection.cursor() as cursor:
        cursor.execute('DROP TABLE IF EXISTS rekey_moved')
        cursor.execute(
            f'CREATE TEMP TABLE rekey_moved ON COMMIT DROP AS SELECT r.*, m.new AS new_jid FROM roster_item r '  # noqa: S608
            f'JOIN {mapping} m ON m.old = r.jid WHERE m.new IS NOT NULL AND r.user_id = ANY(%s)',
            [owners],
        )
        if journal:
            cursor.execute(
                "INSERT INTO address_journal (kind, key, row) SELECT 'roster', user_id, row FROM ("
                ' SELECT r.user_id, to_jsonb(r) AS row FROM roster_item r WHERE r.user_id = ANY(%s) AND ('
                '  r.request IS NOT NULL OR EXISTS (SELECT 1 FROM rekey_moved m'
                '   WHERE m.user_id = r.user_id AND r.jid IN (m.jid, m.new_jid)))'
                ') AS touched',
                [owners],
            )
        cursor.execute('DELETE FROM roster_item r USING rekey_moved m WHERE r.user_id = m.user_id AND r.jid = m.jid')
        moved = cursor.rowcount
        cursor.execute(
            f'INSERT INTO roster_item ({COLUMNS}) '  # noqa: S608
            f'SELECT {COLUMNS.replace("jid", "new_jid", 1)} FROM rekey_moved '
            'ON CONFLICT (user_id, jid) DO UPDATE SET '
            "name = CASE WHEN excluded.name <> '' THEN excluded.name ELSE roster_item.name END, "
            'groups = ARRAY(SELECT DISTINCT unnest(excluded.groups || roster_item.groups)), '
            'subscription = excluded.subscription, ask = excluded.ask, pending_in = excluded.pending_in, '
            'approved = excluded.approved, is_contact = excluded.is_contact OR roster_item.is_contact, '
            'state = excluded.state, request = excluded.request, card = coalesce(excluded.card, roster_item.card)'
        )
        cursor.execute(
            'SELECT user_id, jid, request FROM roster_item WHERE user_id = ANY(%s) AND request IS NOT NULL', [owners]
        )
        requests = cursor.fetchall()
        changed = [
            (new, user, jid)
            for (user, jid, raw), new in zip(
                requests, readdress_all(mapping, [row[2] for row in requests]), strict=True
            )
            if new != bytes(raw)
        ]
        if changed:
            cursor.executemany('UPDATE roster_item SET request = %s WHERE user_id = %s AND jid = %s', changed)
    recount(owners)
    return moved


def rekey_offline(mapping: str, after: int, limit: int, journal: bool = False) -> tuple[int, int]:
    """Give the next stored messages their new addresses. Returns (id of the last one or 0, how many changed)."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute('SELECT id, stanza FROM offline_message WHERE id > %s ORDER BY id LIMIT %s', [after, limit])
        rows = cursor.fetchall()
        if not rows:
            return 0, 0
        fresh = readdress_all(mapping, [row[1] for row in rows])
        changed = [(new, key) for (key, raw), new in zip(rows, fresh, strict=True) if new != bytes(raw)]
        if changed and journal:
            cursor.execute(
                "INSERT INTO address_journal (kind, key, row) SELECT 'offline', id, to_jsonb(o) "
                'FROM offline_message o WHERE id = ANY(%s)',
                [[key for _, key in changed]],
            )
        if changed:
            cursor.executemany('UPDATE offline_message SET stanza = %s WHERE id = %s', changed)
        return rows[-1][0], len(changed)


def rekey_privacy(mapping: str, journal: bool = False) -> int:
    """Privacy and block lists go on to concern the same people; how many entries changed."""
    mapped = (
        f"FROM privacy_item i JOIN {mapping} m ON m.old = split_part(i.value, '/', 1)"
        " WHERE i.type = 'jid' AND m.new IS NOT NULL"
    )
    with connection.cursor() as cursor:
        if journal:
            cursor.execute(f"INSERT INTO address_journal (kind, key, row) SELECT 'privacy', i.id, to_jsonb(i) {mapped}")
        cursor.execute(
            'WITH changed AS (UPDATE privacy_item o SET value = n.value FROM ('  # noqa: S608 - fixed table names
            f' SELECT i.id, m.new || substr(i.value, length(m.old) + 1) AS value {mapped}'
            ') AS n WHERE n.id = o.id RETURNING o.list_id), raised AS ('
            ' UPDATE end_user SET privacy_version = privacy_version + 1 WHERE id IN ('
            '  SELECT user_id FROM privacy_list WHERE id IN (SELECT list_id FROM changed))'
            ') SELECT count(*) FROM changed'
        )
        return int(cursor.fetchone()[0])


def restore_privacy() -> None:
    """Give every journaled entry of a privacy list its old address back."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "UPDATE privacy_item i SET value = j.row->>'value' FROM address_journal j"
            " WHERE j.kind = 'privacy' AND j.key = i.id"
        )
        cursor.execute("DELETE FROM address_journal WHERE kind = 'privacy'")


def restore_rosters(mapping: str, limit: int) -> int:
    """Give the next journaled owners their contact lists back; how many owners. Runs in the caller's transaction."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT DISTINCT key FROM address_journal WHERE kind = 'roster' ORDER BY key LIMIT %s", [limit])
        owners = [row[0] for row in cursor.fetchall()]
        if not owners:
            return 0
        lock(owners)
        cursor.execute(
            f"DELETE FROM roster_item r USING address_journal j LEFT JOIN {mapping} m ON m.old = j.row->>'jid' "  # noqa: S608
            "WHERE j.kind = 'roster' AND j.key = ANY(%s) AND r.user_id = j.key AND r.jid IN (j.row->>'jid', m.new)",
            [owners],
        )
        cursor.execute(
            f'INSERT INTO roster_item ({COLUMNS}) SELECT {", ".join("(r)." + name for name in COLUMNS.split(", "))} '  # noqa: S608
            'FROM (SELECT jsonb_populate_record(NULL::roster_item, row) AS r FROM address_journal '
            "WHERE kind = 'roster' AND key = ANY(%s)) AS old",
            [owners],
        )
        cursor.execute("DELETE FROM address_journal WHERE kind = 'roster' AND key = ANY(%s)", [owners])
    recount(owners)
    return len(owners)


def restore_offline() -> int:
    """Give every journaled offline message its old addresses back; how many."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "UPDATE offline_message o SET stanza = decode(substr(j.row->>'stanza', 3), 'hex') "
            "FROM address_journal j WHERE j.kind = 'offline' AND j.key = o.id"
        )
        count = cursor.rowcount
        cursor.execute("DELETE FROM address_journal WHERE kind = 'offline'")
        return count


def rekey_user(user_id: int, old: str, new: str) -> list[int]:
    """One user's address changed outside the big change: follow it everywhere. Ids of the lists that were written."""
    with connection.cursor() as cursor:
        cursor.execute('DROP TABLE IF EXISTS one_change')
        cursor.execute('CREATE TEMP TABLE one_change (user_id bigint, old text, new text) ON COMMIT DROP')
        cursor.execute('INSERT INTO one_change VALUES (%s, %s, %s)', [user_id, old, new])
        rekey_privacy('one_change')
        rekey_pubsub.rekey('one_change')
        owners = owners_after('one_change', 0, 2_000_000_000)
        if owners:
            rekey_rosters('one_change', owners)
        cursor.execute(
            'SELECT id, stanza FROM offline_message WHERE user_id = %s OR position(%s IN stanza) > 0 ORDER BY id',
            [user_id, old.encode()],
        )
        rows = cursor.fetchall()
        fresh = readdress_all('one_change', [row[1] for row in rows])
        changed = [(stanza, key) for (key, raw), stanza in zip(rows, fresh, strict=True) if stanza != bytes(raw)]
        if changed:
            cursor.executemany('UPDATE offline_message SET stanza = %s WHERE id = %s', changed)
    return owners


def readdress_all(mapping: str, stanzas: list[bytes]) -> list[bytes]:
    """The stanzas with the mapped bare addresses in ``from`` and ``to`` of the outer element replaced."""
    stanzas = [bytes(stanza) for stanza in stanzas]
    found = {address for stanza in stanzas for address in _addresses(stanza)}
    if not found:
        return stanzas
    with connection.cursor() as cursor:
        cursor.execute(
            f'SELECT old, new FROM {mapping} WHERE old = ANY(%s) AND new IS NOT NULL',  # noqa: S608
            [sorted(found)],
        )
        table = dict(cursor.fetchall())
    return [readdress(stanza, table) for stanza in stanzas] if table else stanzas


def _addresses(stanza: bytes) -> list[str]:
    tag = _START_TAG.match(stanza)
    return [_bare(value) for _, value in _ADDRESS.findall(tag[0])] if tag else []


def _bare(quoted: bytes) -> str:
    text = unescape(quoted[1:-1].decode(errors='replace'), _ENTITIES)
    try:
        return bare(text)
    except InvalidJID:
        return text


def readdress(stanza: bytes, table: Mapping[str, str]) -> bytes:
    """``stanza`` with the bare addresses of ``from`` and ``to`` replaced by ``table``; resources are kept."""
    tag = _START_TAG.match(stanza)
    if tag is None:
        return stanza

    def replace(match: re.Match[bytes]) -> bytes:
        new = table.get(_bare(match[2]))
        if new is None:
            return match[0]
        _, slash, resource = match[2][1:-1].partition(b'/')
        address = escape(new, {'"': '&quot;', "'": '&apos;'}).encode()
        quote = match[2][:1]
        return match[1] + quote + address + slash + resource + quote

    return _ADDRESS.sub(replace, tag[0]) + stanza[tag.end() :]
