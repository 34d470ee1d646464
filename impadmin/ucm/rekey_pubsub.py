"""Publish-subscribe follows IM addresses when these change: affiliations, subscriptions, creators, publishers.

Nodes of accounts and push registrations belong to users by id and need nothing. ``mapping`` as in rekey.py.
"""

from __future__ import annotations

from django.db import connection, transaction

_LISTS = {
    # table: columns with the address as m.new, columns that change on a conflict
    'pubsub_affiliation': (('node_id', 'jid', 'affiliation'), 'jid', ('affiliation',)),
    'pubsub_subscription': (
        ('node_id', 'jid', 'bare', 'subid', 'pending', 'deliver'),
        'bare',
        ('subid', 'pending', 'deliver'),
    ),
}
_COLUMNS = {'pubsub_node': 'creator', 'pubsub_item': 'publisher'}


def rekey(mapping: str, journal: bool = False) -> None:
    """Give everything its new addresses, in one transaction; with ``journal`` the old rows go to address_journal."""
    with transaction.atomic(), connection.cursor() as cursor:
        for table, (columns, bare, updated) in _LISTS.items():
            if journal:
                cursor.execute(
                    f'INSERT INTO address_journal (kind, key, row) SELECT %s, t.node_id, to_jsonb(t) FROM {table} t'  # noqa: S608
                    f' WHERE t.{bare} IN (SELECT old FROM {mapping} UNION SELECT new FROM {mapping})',
                    [table],
                )
            moved = ', '.join(
                f't.{name}'
                if name not in ('jid', 'bare')
                else f'm.new || substr(t.{name}, length(m.old) + 1) AS {name}'
                for name in columns
            )
            names = ', '.join(columns)
            # a table of its own, so that users may swap addresses
            cursor.execute(
                f'CREATE TEMP TABLE moved_{table} ON COMMIT DROP AS SELECT {moved} FROM {table} t'  # noqa: S608
                f' JOIN {mapping} m ON m.old = t.{bare} WHERE m.new IS NOT NULL'
            )
            cursor.execute(
                f'DELETE FROM {table} t USING {mapping} m WHERE m.old = t.{bare} AND m.new IS NOT NULL'  # noqa: S608
            )
            sets = ', '.join(f'{name} = excluded.{name}' for name in updated)
            cursor.execute(
                f'INSERT INTO {table} ({names}) SELECT DISTINCT ON (node_id, jid) {names} FROM moved_{table}'  # noqa: S608
                f' ON CONFLICT (node_id, jid) DO UPDATE SET {sets}'
            )
            cursor.execute(f'DROP TABLE moved_{table}')
        for table, column in _COLUMNS.items():
            if journal:
                cursor.execute(
                    f'INSERT INTO address_journal (kind, key, row) SELECT %s, t.id, jsonb_build_object(%s, t.{column})'  # noqa: S608
                    f' FROM {table} t JOIN {mapping} m ON m.old = t.{column} WHERE m.new IS NOT NULL',
                    [table, column],
                )
            cursor.execute(
                f'UPDATE {table} t SET {column} = m.new FROM {mapping} m'  # noqa: S608
                f' WHERE m.old = t.{column} AND m.new IS NOT NULL'
            )


def restore(mapping: str) -> None:
    """Give back what ``rekey`` journaled."""
    with transaction.atomic(), connection.cursor() as cursor:
        for table, (columns, bare, _updated) in _LISTS.items():
            cursor.execute(
                f'DELETE FROM {table} t WHERE t.{bare} IN (SELECT old FROM {mapping} UNION SELECT new FROM {mapping})'  # noqa: S608
                ' AND EXISTS (SELECT 1 FROM address_journal WHERE kind = %s)',
                [table],
            )
            old = ', '.join(f'(r).{name}' for name in columns)
            cursor.execute(
                f'INSERT INTO {table} ({", ".join(columns)}) SELECT {old} FROM ('  # noqa: S608
                f'SELECT jsonb_populate_record(NULL::{table}, row) AS r FROM address_journal WHERE kind = %s) AS old',
                [table],
            )
        for table, column in _COLUMNS.items():
            cursor.execute(
                f'UPDATE {table} t SET {column} = j.row->>%s FROM address_journal j'  # noqa: S608
                ' WHERE j.kind = %s AND j.key = t.id',
                [column, table],
            )
        cursor.execute("DELETE FROM address_journal WHERE kind LIKE 'pubsub%%'")
