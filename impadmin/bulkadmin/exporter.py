"""Exports of Bulk Administration: one machine for every kind of file (guide 10880-11011, 9297-9310)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.db import connection, transaction
from django.utils import timezone
from django.utils.functional import Promise

from impadmin.bulkadmin import files
from impadmin.bulkadmin.formats import FORMATS
from impadmin.bulkadmin.models import BulkFile
from impadmin.console import jobs
from impadmin.console.bulk import keep_apart, protect
from impadmin.console.jobs import JobFailed, RunningJob
from impadmin.console.models import JobState

STEP = 2000
"""Rows the database hands over at a time."""
Selection = tuple[int, Iterator[Sequence[str]]]
"""How many records there are, and the lines of each."""


@dataclass(frozen=True, slots=True)
class Export:
    """One kind of export. ``kind`` is that of its job and of its files.

    counted  name of the count of records written; ``noun`` is what the log calls them
    nothing  why a job fails that selects nothing
    select   ``select(parameters, counts)`` within the snapshot; adds to ``counts`` while its lines are read
    selected what the log calls the selected records when they are something else; ``counts`` are further ones for it
    """

    kind: str
    label: str | Promise
    counted: str
    noun: str
    nothing: str
    select: Callable[[Mapping[str, Any], dict[str, int]], Selection]
    selected: str = ''
    counts: tuple[tuple[str, str], ...] = ()


def register(entry: Export) -> None:
    """Make the jobs of this kind run."""

    def log(job: RunningJob, state: JobState) -> Iterator[str]:
        return log_lines(job, state, entry)

    jobs.runner(entry.kind, label=entry.label, queue='bat', log=log)(lambda job: run(job, entry))


def log_lines(job: RunningJob, state: JobState, entry: Export) -> Iterator[str]:
    """Start and end, file, what was selected and written."""
    record, counts = job.record, job.counts
    yield from jobs.log_head(job, state, f'  File: {record.output_file or job.parameters.get("name", "")}')
    selected = entry.selected or entry.noun
    yield f'{selected} selected: {record.total}'
    for name, text in ((entry.counted, f'{entry.noun} exported'), ('rows', 'Rows written'), *entry.counts):
        yield f'{text}: {counts.get(name, 0)}'
    yield f'{selected} not processed: {max(record.total - record.done, 0)}'


def cell(chosen: Mapping[str, Any]) -> Callable[[str], str]:
    """How cells are written: protected against spreadsheets that run formulas, or as the original does."""
    return protect if chosen['safe'] else keep_apart


def run(job: RunningJob, entry: Export) -> None:
    """Write everything that is selected, as it is at one moment.

    An export that was interrupted starts again: half of one moment and half of another would be no export.
    """
    target = files.incoming(f'export-{job.id}')
    counts = dict.fromkeys((entry.counted, 'rows', *(name for name, _ in entry.counts)), 0)
    try:
        with target.open('w', encoding='utf-8', newline='', buffering=1 << 18) as file:
            with transaction.atomic():
                _snapshot()
                total, records = entry.select(job.parameters, counts)
                for done, lines in enumerate(records, 1):
                    file.writelines(lines)
                    counts['rows'] += len(lines)
                    if job.progress(done, total):
                        return
            if not total:
                raise JobFailed(entry.nothing)
        _publish(job, target, entry.kind, total, counts)
    finally:
        target.unlink(missing_ok=True)


def _snapshot() -> None:
    """Let every statement of this transaction see the same moment."""
    with connection.cursor() as cursor:
        cursor.execute('SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY')


def _publish(job: RunningJob, target: Path, kind: str, total: int, counts: dict[str, int]) -> None:
    """Give the finished file its name and time stamp and list it under Upload/Download Files."""
    stem = str(job.parameters['name']).removesuffix('.csv')
    started = job.record.started_at or timezone.now()
    stamp = timezone.localtime(started).strftime('%Y%m%d%H%M%S')
    with transaction.atomic():
        name = f'{stem}_{stamp}.csv'
        if BulkFile.objects.filter(name=name).exists():
            name = f'{stem}_{stamp}_{job.id}.csv'
        size, digest = files.measure(target)
        record = BulkFile.objects.create(
            name=name, target=FORMATS[kind].target, transaction=kind, size=size, sha256=digest,
            owner=job.record.submitted_by,
        )  # fmt: skip
        files.adopt(target, record.pk)
        job.checkpoint(1, done=total, total=total, output_file=name, file=record.pk, **counts)
