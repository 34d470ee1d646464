"""Contact List > Update: the job that imports users' contacts (guide 11061-11082, log 11174-11201)."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import BinaryIO, TypeVar

from django.db import DatabaseError, InterfaceError, OperationalError, transaction
from django.utils.translation import gettext_lazy, gettext_noop

from engine.contract.events import ContactListsChanged
from impadmin.bulkadmin import files
from impadmin.bulkadmin.contactfile import COLUMNS, LEAST, SERVER_ERROR, Parser, Refusal, Row, subject
from impadmin.bulkadmin.inforce import Pace, listed_rows, rules
from impadmin.bulkadmin.merge import merge
from impadmin.bulkadmin.models import BulkFile
from impadmin.console import jobs
from impadmin.console.actions import Refused
from impadmin.console.bulk import BadFile, Batch, batches, count_records
from impadmin.console.generations import announce
from impadmin.console.jobs import JobFailed, RunningJob
from impadmin.console.models import JobRow, JobState
from impadmin.presence import change_guard

T = TypeVar('T')
KIND = 'import_contacts'
IGNORED, ERROR = 'ignored', 'error'
Parsed = tuple[Batch, list[tuple[int, list[str] | str, Row | Refusal]]]


def log_lines(job: RunningJob, state: JobState) -> Iterator[str]:
    """The import log: counts, then one line for each contact that was not imported."""
    counts = job.counts
    yield from jobs.log_head(job, state, f'  File: {job.parameters.get("name", "")}')
    yield f'Contacts imported: {counts.get("imported", 0)}'
    yield f'Internal server errors: {counts.get("errors", 0)}'
    yield f'Contacts ignored: {counts.get("ignored", 0)}'
    yield f'Contacts not processed: {counts.get("not_processed", 0)}'
    for verdict, title in ((ERROR, '-- Internal server errors --'), (IGNORED, '-- Ignored contacts --')):
        if not counts.get('errors' if verdict == ERROR else 'ignored'):
            continue
        yield title
        found = JobRow.objects.filter(job_id=job.id, verdict=verdict).order_by('line', 'id')
        for row in found.iterator(chunk_size=2000):
            yield f'line {row.line}: {row.subject} : {row.reason}'
    if counts.get('unlisted'):
        yield f'{counts["unlisted"]} further contacts that were not imported are counted above but not listed.'


def ended(job: RunningJob, state: JobState) -> None:
    """Settle what was not processed: every data row is imported, an error, ignored or not processed."""
    record = job.record
    record.counts = {**record.counts, 'not_processed': max(record.total - record.done, 0)}


@jobs.runner(KIND, label=gettext_lazy("Import Users' Contacts - Custom File"), queue='bat', log=log_lines, ended=ended)
def import_contacts(job: RunningJob) -> None:
    """Read the file from ``job.position`` (bytes) on and add its rows to the contact lists, chunk by chunk."""
    with _open(job) as file, _few_collections():
        if not job.counts.get('checked'):
            _check(job, file)
        counts = {'imported': 0, 'errors': 0, 'ignored': 0, 'reasons': {}, 'line': 1, **job.counts}
        job.listed_rows = listed_rows()
        pace = Pace()
        pace.read()
        parser = Parser()
        source = batches(file, COLUMNS, job.position, counts['line'], pace.rows)
        for batch, parsed in _ahead(lambda: _next(source, parser)):
            began = time.monotonic()
            _store(job, counts, batch, parsed)
            if job.stop_requested():
                return
            pace.read()
            pace.wait(len(batch.rows), time.monotonic() - began, job.stop_requested)


@contextmanager
def _few_collections() -> Iterator[None]:
    """Thousands of rows at a time make no garbage cycles; looking for them would take a third of the time."""
    before = gc.get_threshold()
    gc.set_threshold(500_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _open(job: RunningJob) -> BinaryIO:
    found = BulkFile.objects.filter(pk=job.parameters['file']).first()
    if found is None:
        raise JobFailed(gettext_noop('The file %(name)s no longer exists.'), name=job.parameters.get('name', ''))
    try:
        return files.path(found.pk).open('rb', buffering=1 << 18)
    except OSError as error:
        raise JobFailed(
            gettext_noop('The file %(name)s cannot be read: %(error)s.'), name=found.name, error=error.strerror
        ) from error


def _check(job: RunningJob, file: BinaryIO) -> None:
    """Look through the whole file before the first contact is touched, and count its rows."""
    try:
        total = count_records(file, COLUMNS, LEAST)
    except BadFile as error:
        raise JobFailed(error.text, **error.values) from error
    job.checkpoint(0, total=total, checked=1)


def _next(source: Iterator[Batch], parser: Parser) -> Parsed | None:
    batch = next(source, None)
    if batch is None:
        return None
    return batch, [(line, fields, parser.parse(fields)) for line, fields in batch.rows]


def _ahead(read: Callable[[], T | None]) -> Iterator[T]:
    """Results of ``read`` until it gives None; the next one is read while the database works on the present one."""
    with ThreadPoolExecutor(1, 'csv') as pool:
        future = pool.submit(read)
        while (result := future.result()) is not None:
            future = pool.submit(read)
            yield result


def _store(job: RunningJob, counts: dict, batch: Batch, parsed: list) -> None:
    """One transaction: the rows of a batch, their verdicts, the job's counts and position."""
    with transaction.atomic():
        try:
            change_guard.guard()
        except Refused as error:
            raise JobFailed(
                gettext_noop('The IM addresses are being changed. Run the job again when the change has ended.')
            ) from error
        verdicts, touched = _merge_all([entry[2] for entry in parsed if not isinstance(entry[2], Refusal)])
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
        after = {
            'imported': counts['imported'] + imported,
            'errors': counts['errors'] + errors,
            'ignored': counts['ignored'] + ignored,
            'reasons': reasons,
            'line': batch.line,
        }
        job.checkpoint(
            batch.end,
            done=job.record.done + len(parsed),
            failed=after['errors'] + after['ignored'],
            **after,
        )
        if touched:
            announce(ContactListsChanged(ids=sorted(touched)))
    counts.update(after)


def _merge_all(rows: list[Row]) -> tuple[list[str], Iterable[int]]:
    """Verdicts of all rows and ids of touched users. A row the database refuses is an error; the others go on."""
    if not rows:
        return [], ()
    try:
        with transaction.atomic():
            merged = merge(rows, rules())
            return merged.verdicts, merged.touched
    except (OperationalError, InterfaceError):
        raise
    except DatabaseError:
        if len(rows) == 1:
            return [SERVER_ERROR], ()
        half = len(rows) // 2
        first, touched = _merge_all(rows[:half])
        second, more = _merge_all(rows[half:])
        return first + second, {*touched, *more}
