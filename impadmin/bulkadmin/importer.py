"""Imports of Bulk Administration: one machine for every kind of file (guide 11061-11141, log 11174-11201)."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeVar

from django.db import DatabaseError, InterfaceError, OperationalError, transaction
from django.utils.functional import Promise
from django.utils.translation import gettext_noop

from impadmin.bulkadmin import files
from impadmin.bulkadmin.contactfile import SERVER_ERROR, Refusal
from impadmin.bulkadmin.formats import FORMATS
from impadmin.bulkadmin.inforce import Pace, listed_rows
from impadmin.bulkadmin.merge import Merged
from impadmin.bulkadmin.models import BulkFile
from impadmin.console import jobs
from impadmin.console.actions import Refused
from impadmin.console.bulk import BadFile, Batch, batches, count_records
from impadmin.console.jobs import JobFailed, RunningJob
from impadmin.console.models import JobRow, JobState
from impadmin.presence import change_guard

T = TypeVar('T')
IGNORED, ERROR = 'ignored', 'error'
Fields = list[str] | str
"""The fields of a row, or what is wrong with it."""
Parse = Callable[[Fields], Any]
"""A row, or a Refusal."""
Parsed = tuple[Batch, list[tuple[int, Fields, Any]]]


@dataclass(frozen=True, slots=True)
class Import:
    """One kind of import. ``kind`` is that of its job and of its files.

    noun      what a row holds, for the log: 'Contacts'
    parser    a new ``parse`` for each run, which may remember what it has seen
    subject   what the log calls a row
    merge     writes rows (file order) in the caller's transaction; one verdict for each
    announce  tells the nodes, in that transaction, which users were touched
    """

    kind: str
    label: str | Promise
    noun: str
    parser: Callable[[], Parse]
    subject: Callable[[Fields], str]
    merge: Callable[[Sequence[Any]], Merged]
    announce: Callable[[Iterable[int]], None]


def register(entry: Import) -> None:
    """Make the jobs of this kind run."""

    def log(job: RunningJob, state: JobState) -> Iterator[str]:
        return log_lines(job, state, entry.noun)

    jobs.runner(entry.kind, label=entry.label, queue='bat', log=log, ended=ended)(lambda job: run(job, entry))


def log_lines(job: RunningJob, state: JobState, noun: str) -> Iterator[str]:
    """The import log: counts, then one line for each row that was not imported."""
    counts = job.counts
    yield from jobs.log_head(job, state, f'  File: {job.parameters.get("name", "")}')
    yield f'{noun} imported: {counts.get("imported", 0)}'
    yield f'Internal server errors: {counts.get("errors", 0)}'
    yield f'{noun} ignored: {counts.get("ignored", 0)}'
    yield f'{noun} not processed: {counts.get("not_processed", 0)}'
    yield from refused_rows(job, noun)


def refused_rows(job: RunningJob, noun: str) -> Iterator[str]:
    """One line for each row that has a verdict of its own."""
    counts = job.counts
    for verdict, title in ((ERROR, '-- Internal server errors --'), (IGNORED, f'-- Ignored {noun.lower()} --')):
        if not counts.get('errors' if verdict == ERROR else 'ignored'):
            continue
        yield title
        found = JobRow.objects.filter(job_id=job.id, verdict=verdict).order_by('line', 'id')
        for row in found.iterator(chunk_size=2000):
            yield f'line {row.line}: {row.subject} : {row.reason}'
    if counts.get('unlisted'):
        yield f'{counts["unlisted"]} further {noun.lower()} that were not imported are counted above but not listed.'


def ended(job: RunningJob, state: JobState) -> None:
    """Settle what was not processed: every data row is imported, an error, ignored or not processed."""
    record = job.record
    record.counts = {**record.counts, 'not_processed': max(record.total - record.done, 0)}


def run(job: RunningJob, entry: Import) -> None:
    """Read the file from ``job.position`` (bytes) on and write its rows, chunk by chunk."""
    form = FORMATS[entry.kind]
    with opened(job) as file, few_collections():
        if not job.counts.get('checked'):
            check(job, file)
        counts = {'imported': 0, 'errors': 0, 'ignored': 0, 'reasons': {}, 'line': 1, **job.counts}
        job.listed_rows = listed_rows()
        pace = Pace()
        pace.read()
        parse = entry.parser()
        source = batches(file, form.columns, job.position, counts['line'], pace.rows, form.layout)
        for batch, parsed in ahead(lambda: _next(source, parse)):
            began = time.monotonic()
            _store(job, counts, batch, parsed, entry)
            if job.stop_requested():
                return
            pace.read()
            pace.wait(len(batch.rows), time.monotonic() - began, job.stop_requested)


@contextmanager
def few_collections() -> Iterator[None]:
    """Thousands of rows at a time make no garbage cycles; looking for them would take a third of the time."""
    before = gc.get_threshold()
    gc.set_threshold(500_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def opened(job: RunningJob) -> BinaryIO:
    """The file of a job. Raises JobFailed."""
    found = BulkFile.objects.filter(pk=job.parameters['file']).first()
    if found is None:
        raise JobFailed(gettext_noop('The file %(name)s no longer exists.'), name=job.parameters.get('name', ''))
    try:
        return files.path(found.pk).open('rb', buffering=1 << 18)
    except OSError as error:
        raise JobFailed(
            gettext_noop('The file %(name)s cannot be read: %(error)s.'), name=found.name, error=error.strerror
        ) from error


def check(job: RunningJob, file: BinaryIO) -> None:
    """Look through the whole file before anything is written, and count its rows."""
    form = FORMATS[job.record.kind]
    try:
        total = count_records(file, form.columns, form.least, form.layout)
    except BadFile as error:
        raise JobFailed(error.text, **error.values) from error
    job.checkpoint(0, total=total, checked=1)


def _next(source: Iterator[Batch], parse: Parse) -> Parsed | None:
    batch = next(source, None)
    if batch is None:
        return None
    return batch, [(line, fields, parse(fields)) for line, fields in batch.rows]


def ahead(read: Callable[[], T | None]) -> Iterator[T]:
    """Results of ``read`` until it gives None; the next one is read while the database works on the present one."""
    with ThreadPoolExecutor(1, 'csv') as pool:
        future = pool.submit(read)
        while (result := future.result()) is not None:
            future = pool.submit(read)
            yield result


def addresses_stand_still() -> None:
    """First in every transaction that writes. Raises JobFailed while IM addresses are being changed."""
    try:
        change_guard.guard()
    except Refused as error:
        raise JobFailed(
            gettext_noop('The IM addresses are being changed. Run the job again when the change has ended.')
        ) from error


def _store(job: RunningJob, counts: dict[str, Any], batch: Batch, parsed: list[Any], entry: Import) -> None:
    """One transaction: the rows of a batch, their verdicts, the job's counts and position."""
    with transaction.atomic():
        addresses_stand_still()
        merged = _merge_all([row[2] for row in parsed if not isinstance(row[2], Refusal)], entry)
        after = judge(job, counts, batch, parsed, merged.verdicts, entry.subject)
        job.checkpoint(
            batch.end,
            done=job.record.done + len(parsed),
            failed=after['errors'] + after['ignored'],
            **after,
        )
        if merged.touched:
            entry.announce(merged.touched)
    counts.update(after)


def judge(
    job: RunningJob,
    counts: dict[str, Any],
    batch: Batch,
    parsed: list[Any],
    verdicts: Iterable[str],
    subject: Callable[[Fields], str],
) -> dict[str, Any]:
    """Counts after a batch. ``verdicts``: of the rows that were not refused, '' for imported."""
    done = iter(verdicts)
    imported = errors = ignored = 0
    reasons = dict(counts['reasons'])
    for line, fields, result in parsed:
        refusal = result if isinstance(result, Refusal) else None
        reason = refusal.text if refusal else next(done)
        if not reason:
            imported += 1
        elif reason == SERVER_ERROR:
            errors += 1
            job.row(line, subject(fields), ERROR, reason)
        else:
            ignored += 1
            key = refusal.reason if refusal else reason
            reasons[key] = reasons.get(key, 0) + 1
            job.row(line, subject(fields), IGNORED, reason)
    return {
        'imported': counts['imported'] + imported,
        'errors': counts['errors'] + errors,
        'ignored': counts['ignored'] + ignored,
        'reasons': reasons,
        'line': batch.line,
    }


def _merge_all(rows: list[Any], entry: Import) -> Merged:
    """Verdicts of all rows and ids of touched users. A row the database refuses is an error; the others go on."""
    if not rows:
        return Merged()
    try:
        with transaction.atomic():
            return entry.merge(rows)
    except (OperationalError, InterfaceError):
        raise
    except DatabaseError:
        if len(rows) == 1:
            return Merged([SERVER_ERROR])
        half = len(rows) // 2
        first, second = _merge_all(rows[:half], entry), _merge_all(rows[half:], entry)
        return Merged(first.verdicts + second.verdicts, sorted({*first.touched, *second.touched}))
