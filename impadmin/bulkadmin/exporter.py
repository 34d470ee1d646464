"""Contact List > Export Contact List: the job that writes contact lists to a file (guide 10880-10957, 9297-9310)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.db import connection, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext_lazy, gettext_noop

from impadmin.bulkadmin import files
from impadmin.bulkadmin.contactfile import export_fields
from impadmin.bulkadmin.models import BulkFile
from impadmin.console import jobs
from impadmin.console.bulk import csv_line
from impadmin.console.jobs import JobFailed, RunningJob
from impadmin.console.models import JobState
from impadmin.ucm.models import EndUser

KIND = 'export_contacts'
STEP = 2000
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


def log_lines(job: RunningJob, state: JobState) -> Iterator[str]:
    """Start and end, file, users, contacts."""
    counts = job.counts
    yield from jobs.log_head(job, state, f'  File: {job.record.output_file or job.parameters.get("name", "")}')
    yield f'Users selected: {job.record.total}'
    yield f'Users with contacts exported: {counts.get("users", 0)}'
    yield f'Contacts exported: {counts.get("contacts", 0)}'
    yield f'Rows written: {counts.get("rows", 0)}'
    yield f'Contacts without a user part, not exported: {counts.get("skipped", 0)}'
    yield f'Users not processed: {max(job.record.total - job.record.done, 0)}'


@jobs.runner(KIND, label=gettext_lazy('Export Contact List'), queue='bat', log=log_lines)
def export_contacts(job: RunningJob) -> None:
    """Write the lists of the chosen users, in order of user ID, as they are at one moment.

    An export that was interrupted starts again: half of one moment and half of another would be no export.
    """
    chosen = job.parameters
    target = files.incoming(f'export-{job.id}')
    counts = {'users': 0, 'contacts': 0, 'rows': 0, 'skipped': 0}
    try:
        with target.open('w', encoding='utf-8', newline='', buffering=1 << 18) as file:
            with transaction.atomic():
                _snapshot()
                selected = users(chosen['category'], chosen.get('node'), chosen['match'], chosen['conditions'])
                total = selected.count()
                for done, (owner, rows) in enumerate(_lists(selected), 1):
                    _write(file, owner, rows, counts, bool(chosen['safe']))
                    if job.progress(done, total):
                        return
            if not total:
                raise JobFailed(gettext_noop('No user fits the selection.'))
        _publish(job, target, total, counts)
    finally:
        target.unlink(missing_ok=True)


def _snapshot() -> None:
    """Let every statement of this transaction see the same moment."""
    with connection.cursor() as cursor:
        cursor.execute('SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY')


def _lists(selected: QuerySet[EndUser]) -> Iterator[tuple[str, list[tuple]]]:
    """(IM address, entries) of every selected user, read as a stream by a server-side cursor."""
    page: list[tuple[int, str]] = []
    weight = 0
    query = selected.order_by('user_id', 'pk').values_list('pk', 'im_address', 'contact_count')
    for user_id, owner, contacts in query.iterator(chunk_size=STEP):
        page.append((user_id, owner))
        weight += max(contacts, 1)
        if len(page) >= STEP or weight > 20_000:
            yield from _entries(page)
            page, weight = [], 0
    yield from _entries(page)


def _entries(page: list[tuple[int, str]]) -> Iterator[tuple[str, list[tuple]]]:
    lists: dict[int, list[tuple]] = {}
    with connection.cursor() as cursor:
        cursor.execute(
            'SELECT user_id, jid, name, groups, state FROM roster_item WHERE user_id = ANY(%s) AND is_contact'
            ' ORDER BY user_id, jid',
            [[user_id for user_id, _ in page]],
        )
        for user_id, *entry in cursor:
            lists.setdefault(user_id, []).append(tuple(entry))
    for user_id, owner in page:
        yield owner, lists.get(user_id, [])


def _write(file: Any, owner: str, rows: list[tuple], counts: dict[str, int], safe: bool) -> None:
    written = 0
    for jid, name, groups, state in rows:
        if '@' not in jid:
            counts['skipped'] += 1
            continue
        for fields in export_fields(owner, jid, name, groups, state, safe):
            file.write(csv_line(fields))
            counts['rows'] += 1
        written += 1
    counts['contacts'] += written
    counts['users'] += bool(written)


def _publish(job: RunningJob, target: Any, total: int, counts: dict[str, int]) -> None:
    """Give the finished file its name and time stamp and list it under Upload/Download Files."""
    stem = str(job.parameters['name']).removesuffix('.csv')
    stamp = timezone.localtime(job.record.started_at).strftime('%Y%m%d%H%M%S')
    with transaction.atomic():
        name = f'{stem}_{stamp}.csv'
        if BulkFile.objects.filter(name=name).exists():
            name = f'{stem}_{stamp}_{job.id}.csv'
        size, digest = files.measure(target)
        record = BulkFile.objects.create(
            name=name, target='contact_lists', transaction=KIND, size=size, sha256=digest, owner=job.record.submitted_by
        )
        files.adopt(target, record.pk)
        job.checkpoint(1, done=total, total=total, output_file=name, file=record.pk, **counts)
