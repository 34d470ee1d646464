"""Contact List > Rename Contacts: other addresses for contacts in all contact lists (guide 10826-10878).

Three steps, each resumed where it stood: the pairs are read and checked; every list is rewritten, all pairs at once, so
that a chain (A to B, B to C) and a swap are taken from the lists as they were; then subscriptions between two users of
this system are brought to agree again (``agreement``), since the new address has a contact list of its own.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from django.db import connection, transaction
from django.utils.translation import gettext_lazy

from impadmin.bulkadmin import agreement, importer, renamefile
from impadmin.bulkadmin.contactfile import Refusal
from impadmin.bulkadmin.contacts import lists_changed
from impadmin.bulkadmin.inforce import Pace, listed_rows
from impadmin.bulkadmin.models import ContactRename
from impadmin.bulkadmin.renamefile import NOWHERE, TWICE, Row
from impadmin.console import jobs
from impadmin.console.bulk import batches
from impadmin.console.jobs import RunningJob
from impadmin.console.models import JobState
from impadmin.ucm import rekey, rekey_pubsub
from impadmin.ucm.actions import announce_users

KIND = 'rename_contacts'
WARNING = gettext_lazy(
    'Only for users who move here from a Microsoft server, such as Lync. Renaming contacts in any other case is not '
    'supported. The job runs on the publisher.'
)
LISTS = 500
"""Contact lists of one transaction."""
_MAPPING = 'contact_rename'
_LISTS = (
    'FROM contact_rename m JOIN roster_item r ON r.jid = m.old JOIN end_user u ON u.id = r.user_id'
    ' WHERE m.new IS DISTINCT FROM u.im_address'
)
"""The entries to rename: all but one that would become its owner's own address."""
_BLOCKERS = (
    'SELECT DISTINCT l.user_id FROM privacy_list l JOIN privacy_item i ON i.list_id = l.id JOIN contact_rename m'
    " ON m.new = split_part(i.value, '/', 1) WHERE i.type = 'jid'"
)


def log_lines(job: RunningJob, state: JobState) -> Iterator[str]:
    """Counts of the file and of the lists, then the rows that rename nothing."""
    counts = job.counts
    yield from jobs.log_head(job, state, f'  File: {job.parameters.get("name", "")}')
    yield f'Contact IDs accepted: {counts.get("imported", 0)}'
    yield f'Internal server errors: {counts.get("errors", 0)}'
    yield f'Contact IDs ignored: {counts.get("ignored", 0)}'
    yield f'Contact lists changed: {counts.get("lists", 0)}'
    yield f'Contacts renamed: {counts.get("renamed", 0)}'
    yield f'Entries of privacy lists renamed: {counts.get("privacy", 0)}'
    yield f'Records not processed: {max(job.record.total - job.record.done, 0)}'
    yield from importer.refused_rows(job, 'Contact IDs')


@jobs.runner(KIND, label=gettext_lazy('Rename Contacts - Custom File'), queue='bat', log=log_lines)
def run(job: RunningJob) -> None:
    """The records of the job are the rows of its file, then the contact lists to change."""
    counts = {
        'imported': 0,
        'errors': 0,
        'ignored': 0,
        'reasons': {},
        'line': 1,
        'lists': 0,
        'renamed': 0,
        **job.counts,
    }
    job.listed_rows = listed_rows()
    pace = Pace()
    for name, step in (('read', _read), ('rewritten', _rewrite), ('agreed', _agree)):
        if not counts.get(name):
            step(job, counts, pace)
            if job.stop_requested():
                return
            job.checkpoint(0, **{name: 1})
    job.checkpoint(0, total=job.record.done)
    ContactRename.objects.all().delete()


def _wait(pace: Pace, records: int, began: float, job: RunningJob) -> None:
    pace.read()
    pace.wait(records, time.monotonic() - began, job.stop_requested)


def _read(job: RunningJob, counts: dict[str, Any], pace: Pace) -> None:
    """The file into the table of pairs, from ``job.position`` (bytes) on."""
    with importer.opened(job) as file, importer.few_collections():
        if not job.counts.get('checked'):
            importer.check(job, file)
        if not job.position:
            ContactRename.objects.all().delete()  # of a job that was stopped
        for batch in batches(file, renamefile.COLUMNS, job.position, counts['line'], 5000):
            parsed = [(line, fields, renamefile.parse(fields)) for line, fields in batch.rows]
            with transaction.atomic():
                importer.addresses_stand_still()
                verdicts = _remember([row[2] for row in parsed if not isinstance(row[2], Refusal)])
                after = importer.judge(job, counts, batch, parsed, verdicts, renamefile.subject)
                job.checkpoint(
                    batch.end, done=job.record.done + len(parsed), failed=after['errors'] + after['ignored'], **after
                )
            counts.update(after)
            if job.stop_requested():
                return


def _remember(rows: Sequence[Row]) -> list[str]:
    """Keep the pairs that rename something; one verdict for each row."""
    with connection.cursor() as cursor:
        cursor.execute(
            'SELECT o.old, EXISTS (SELECT 1 FROM contact_rename m WHERE m.old = o.old),'
            ' EXISTS (SELECT 1 FROM roster_item r WHERE r.jid = o.old) OR o.old IN ('
            "  SELECT split_part(value, '/', 1) FROM privacy_item WHERE type = 'jid')"
            ' FROM unnest(%s::text[]) AS o (old)',
            [sorted({row.old for row in rows})],
        )
        known = {row[0]: row[1:] for row in cursor.fetchall()}
        verdicts: list[str] = []
        new: dict[str, str] = {}
        for row in rows:
            seen, used = known[row.old]
            verdicts.append(TWICE if seen or row.old in new else '' if used else NOWHERE)
            if not verdicts[-1]:
                new[row.old] = row.new
        ContactRename.objects.bulk_create(ContactRename(old=old, new=to) for old, to in new.items())
    return verdicts


def _rewrite(job: RunningJob, counts: dict[str, Any], pace: Pace) -> None:
    """Every contact list that names an old address, by user id; before the first, the lists of blocked people."""
    if not counts.get('counted'):
        with transaction.atomic(), connection.cursor() as cursor:
            importer.addresses_stand_still()
            cursor.execute(f'SELECT count(DISTINCT r.user_id) {_LISTS}')
            lists = int(cursor.fetchone()[0])
            after = {'counted': 1, 'after': 0, 'privacy': rekey.rekey_privacy(_MAPPING)}
            _rename_people(cursor)
            cursor.execute(_BLOCKERS)
            announce_users(row[0] for row in cursor.fetchall())
            job.checkpoint(0, total=job.record.total + lists, **after)
        counts.update(after)
    while owners := _owners(counts['after']):
        began = time.monotonic()
        with transaction.atomic():
            importer.addresses_stand_still()
            moved = rename_rosters(owners)
            after = {
                'after': owners[-1], 'lists': counts['lists'] + len(owners), 'renamed': counts['renamed'] + moved
            }  # fmt: skip
            job.checkpoint(0, done=min(job.record.done + len(owners), job.record.total), **after)
            lists_changed(owners)
        counts.update(after)
        if job.stop_requested():
            return
        _wait(pace, moved, began, job)


def _owners(after: int) -> list[int]:
    """Ids of the next users whose contact list names an old address that is not renamed to the user's own."""
    with connection.cursor() as cursor:
        cursor.execute(
            f'SELECT DISTINCT r.user_id {_LISTS} AND r.user_id > %s ORDER BY r.user_id LIMIT %s',
            [after, LISTS],
        )
        return [row[0] for row in cursor.fetchall()]


def _rename_people(cursor: Any) -> None:
    """Lists of publish-subscribe nodes follow those who have no account here under the old address."""
    cursor.execute('DROP TABLE IF EXISTS renamed_people')
    cursor.execute(
        'CREATE TEMP TABLE renamed_people ON COMMIT DROP AS SELECT m.user_id, m.old, m.new FROM contact_rename m'
        ' WHERE NOT EXISTS (SELECT 1 FROM end_user u WHERE u.im_address = m.old)'
    )
    rekey_pubsub.rekey('renamed_people')


_COLUMNS = rekey.COLUMNS
_INSERT = f"""
INSERT INTO roster_item ({_COLUMNS})
SELECT m.user_id, m.new_jid, (array_agg(m.name ORDER BY m.name = '', m.jid))[1],
    coalesce(array_agg(DISTINCT g.name) FILTER (WHERE g.name IS NOT NULL), '{{}}'), bit_or(m.subscription),
    bool_or(m.ask) AND bit_or(m.subscription) & 1 = 0, bool_or(m.pending_in) AND bit_or(m.subscription) & 2 = 0,
    bool_or(m.approved) AND bit_or(m.subscription) & 2 = 0, bool_or(m.is_contact), max(m.state), NULL, min(m.card)
FROM renamed m LEFT JOIN LATERAL unnest(m.groups) AS g (name) ON true
GROUP BY m.user_id, m.new_jid
ON CONFLICT (user_id, jid) DO UPDATE SET
    name = CASE WHEN excluded.name <> '' THEN excluded.name ELSE roster_item.name END,
    groups = ARRAY(SELECT DISTINCT unnest(excluded.groups || roster_item.groups)),
    subscription = excluded.subscription | roster_item.subscription,
    ask = (excluded.ask OR roster_item.ask) AND (excluded.subscription | roster_item.subscription) & 1 = 0,
    pending_in = (excluded.pending_in OR roster_item.pending_in)
        AND (excluded.subscription | roster_item.subscription) & 2 = 0,
    approved = (excluded.approved OR roster_item.approved)
        AND (excluded.subscription | roster_item.subscription) & 2 = 0,
    is_contact = excluded.is_contact OR roster_item.is_contact,
    state = greatest(excluded.state, roster_item.state),
    card = coalesce(roster_item.card, excluded.card)
"""  # noqa: S608 - fixed column names
"""Several old addresses may become one new one, which may be there already: groups of all, the stronger state (spec
14). A stored request is not kept: it names the old address; clients get a plain one instead."""


def rename_rosters(owners: Sequence[int]) -> int:
    """Rewrite the lists of ``owners``; how many entries got another address. Runs in the caller's transaction.

    Only the entry that would become the owner's own address stays as it is.
    """
    rekey.lock(owners)
    with connection.cursor() as cursor:
        cursor.execute('DROP TABLE IF EXISTS renamed')
        cursor.execute(
            'CREATE TEMP TABLE renamed ON COMMIT DROP AS SELECT r.*, m.new AS new_jid'
            f' {_LISTS} AND r.user_id = ANY(%s)',
            [list(owners)],
        )
        cursor.execute('DELETE FROM roster_item r USING renamed m WHERE r.user_id = m.user_id AND r.jid = m.jid')
        moved = int(cursor.rowcount)
        cursor.execute(_INSERT)
    rekey.recount(owners)
    return moved


def _agree(job: RunningJob, counts: dict[str, Any], pace: Pace) -> None:
    """The users of this system behind the old and the new addresses, by user id."""
    after = counts.get('agreed_to', 0)
    while ids := _renamed_users(after):
        began = time.monotonic()
        with transaction.atomic():
            importer.addresses_stand_still()
            touched, looked = agreement.agree(ids)
            job.checkpoint(0, agreed_to=ids[-1])
            if touched:
                lists_changed(touched)
        after = ids[-1]
        if job.stop_requested():
            return
        _wait(pace, looked, began, job)


def _renamed_users(after: int) -> list[int]:
    """Ids of the next users who have an old or a new address, as many as have 20,000 entries in their lists or one."""
    with connection.cursor() as cursor:
        cursor.execute(
            'SELECT id, contact_count + watcher_count FROM end_user u WHERE id > %s AND ('
            ' EXISTS (SELECT 1 FROM contact_rename m WHERE m.old = u.im_address)'
            ' OR EXISTS (SELECT 1 FROM contact_rename m WHERE m.new = u.im_address)) ORDER BY id LIMIT %s',
            [after, LISTS],
        )
        ids: list[int] = []
        weight = 0
        for user_id, entries in cursor.fetchall():
            weight += entries
            if ids and weight > 20_000:
                break
            ids.append(user_id)
    return ids
