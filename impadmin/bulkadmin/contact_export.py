"""Contact List > Export Contact List: contact lists of chosen users (guide 10880-10957, 9297-9310)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from django.db import connection
from django.db.models import Q, QuerySet
from django.utils.translation import gettext_lazy, gettext_noop

from impadmin.bulkadmin import exporter
from impadmin.bulkadmin.contactfile import export_fields
from impadmin.console.bulk import csv_line
from impadmin.ucm.models import EndUser

KIND = 'export_contacts'
OPERATORS = {'begins': 'istartswith', 'contains': 'icontains', 'ends': 'iendswith', 'exactly': 'iexact'}
FIND_FIELDS = ('user_id', 'first_name', 'last_name', 'im_address', 'directory_uri', 'mail', 'department')


def users(category: str, node: int | None = None, match: str = 'all', conditions: Any = ()) -> QuerySet[EndUser]:
    """The users of a category: 'all', 'node' (of ``node``) or 'unassigned', narrowed by Find conditions.

    conditions: (field, operator, text); operator 'begins', 'contains', 'ends', 'exactly' or 'empty'. ``match``: 'all'
    conditions or 'any' of them.
    """
    found = EndUser.objects.exclude(im_address=None).exclude(im_address='')
    if category == 'node':
        found = found.filter(home_node=node)
    elif category == 'unassigned':
        found = found.filter(home_node=None)
    wanted = Q()
    for field, operator, text in conditions:
        if field not in FIND_FIELDS:
            continue
        if operator == 'empty':
            one = Q(**{field: ''}) | Q(**{f'{field}__isnull': True})
        elif text:
            one = Q(**{f'{field}__{OPERATORS[operator]}': text})
        else:
            continue
        wanted = wanted | one if match == 'any' else wanted & one
    return found.filter(wanted)


def select(chosen: Mapping[str, Any], counts: dict[str, int]) -> exporter.Selection:
    """The lists of the chosen users, in order of user ID; non-presence contacts have a file of their own."""
    selected = users(chosen['category'], chosen.get('node'), chosen['match'], chosen['conditions'])
    cell = exporter.cell(chosen)

    def records() -> Iterator[list[str]]:
        for owner, entries in _lists(selected):
            written = 0
            lines: list[str] = []
            for jid, name, groups, state, without_presence in entries:
                if '@' not in jid or without_presence:
                    counts['skipped'] += 1
                    continue
                lines += [csv_line(fields) for fields in export_fields(owner, jid, name, groups, state, cell)]
                written += 1
            counts['contacts'] += written
            counts['users'] += bool(written)
            yield lines

    return selected.count(), records()


def _lists(selected: QuerySet[EndUser]) -> Iterator[tuple[str, list[tuple[Any, ...]]]]:
    """(IM address, entries) of every selected user, read as a stream by a server-side cursor."""
    page: list[tuple[int, str]] = []
    weight = 0
    query = selected.order_by('user_id', 'pk').values_list('pk', 'im_address', 'contact_count')
    for user_id, owner, contacts in query.iterator(chunk_size=exporter.STEP):
        page.append((user_id, owner or ''))
        weight += max(contacts, 1)
        if len(page) >= exporter.STEP or weight > 20_000:
            yield from _entries(page)
            page, weight = [], 0
    yield from _entries(page)


def _entries(page: list[tuple[int, str]]) -> Iterator[tuple[str, list[tuple[Any, ...]]]]:
    lists: dict[int, list[tuple[Any, ...]]] = {}
    with connection.cursor() as cursor:
        cursor.execute(
            'SELECT user_id, jid, name, groups, state, card IS NOT NULL AND subscription = 0 AND NOT ask'
            ' FROM roster_item WHERE user_id = ANY(%s) AND is_contact ORDER BY user_id, jid',
            [[user_id for user_id, _ in page]],
        )
        for user_id, *entry in cursor:
            lists.setdefault(user_id, []).append(tuple(entry))
    for user_id, owner in page:
        yield owner, lists.get(user_id, [])


exporter.register(
    exporter.Export(
        kind=KIND,
        label=gettext_lazy('Export Contact List'),
        selected='Users',
        counted='contacts',
        noun='Contacts',
        counts=(('users', 'Users with contacts exported'), ('skipped', 'Non-presence contacts, not exported')),
        nothing=gettext_noop('No user fits the selection.'),
        select=select,
    )
)
