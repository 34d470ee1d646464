"""Background jobs: submitted into the table ``job``, claimed by a lease, resumed where a dead worker left off.

The table is the queue. Celery messages only wake a worker ("look at queue X"), so a lost or doubled message loses or
doubles nothing. A job belongs to the worker whose token stands in its row; every checkpoint compares that token in
the transaction of the work itself, so work of a worker that lost its lease is rolled back, never counted twice.

Register a kind in ``<area>/tasks.py``::

    @runner('import_contacts', label=_("Import Users' Contacts - Custom File"), queue='bat')
    def import_contacts(job: RunningJob) -> None:
        for chunk in read_from(job.position):
            with transaction.atomic():
                ...                                  # the work
                job.checkpoint(position, done=n)     # last: same transaction
            if job.stop_requested():
                return
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.models import DateTimeField, Func
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.module_loading import autodiscover_modules
from django.utils.translation import gettext, gettext_noop
from redis import RedisError

from engine.contract import messages
from engine.contract.events import LIVE, JobLive, encode
from impadmin.console.actions import Actor, Refused
from impadmin.console.generations import redis
from impadmin.console.models import Job, JobRow, JobState
from impadmin.console.pace import LEASE_S, Pace
from impadmin.console.workers import is_gone, worker_token

log = logging.getLogger(__name__)

QUEUES = ('bat', 'default')
SERIAL = 'bat'
"""Jobs of this queue run one at a time, in submit order."""
HEARTBEAT_S = 2.0
RETRY_S = float(os.environ.get('IMP_JOB_RETRY_S', '30'))
"""How long a job without progress is tried again while the database does not answer."""
PUBLISH_S = 0.25
CLOCK = Func(function='clock_timestamp', output_field=DateTimeField())
ENDED = (JobState.COMPLETED, JobState.INCOMPLETE, JobState.FAILED, JobState.CANCELLED)

When = Literal['now', 'hold'] | datetime


class JobFailed(Exception):
    """The job cannot go on; the text tells the user why and what to do. ``values`` fill its placeholders."""

    def __init__(self, text: str | Promise, **values: Any) -> None:
        super().__init__(str(text) % values if values else str(text))
        self.text, self.values = text, values


class LeaseLost(Exception):
    """Another worker took the job over; this one must stop at once and roll back."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of job. ``log(job, state)`` gives the lines of its log file, ``ended(job, state)`` settles counts.

    words  its counts and the verdicts on its rows, each with mark and word, where it has its own; the job is listed
           with those of the queue ``bat`` then
    """

    name: str
    label: str | Promise
    queue: str
    run: Callable[[RunningJob], None]
    log: Callable[[RunningJob, JobState], Iterable[str]]
    ended: Callable[[RunningJob, JobState], None] | None
    words: Mapping[str, tuple[str, str | Promise]]


_kinds: dict[str, Kind] = {}
listeners: list[Callable[[Job], None]] = []
"""Called with every job that has ended, in the transaction of its end."""
_conditions: dict[str, list[Callable[[], str]]] = {queue: [] for queue in QUEUES}


def runner(
    kind: str,
    *,
    label: str | Promise,
    queue: Literal['bat', 'default'] = 'default',
    log: Callable[[RunningJob, JobState], Iterable[str]] | None = None,
    ended: Callable[[RunningJob, JobState], None] | None = None,
    words: Mapping[str, tuple[str, str | Promise]] | None = None,
) -> Callable[[Callable[[RunningJob], None]], Callable[[RunningJob], None]]:
    """Decorator: ``fn(job)`` does the work of jobs of this kind, from ``job.position`` on, and returns when done.

    Raise ``JobFailed`` to end with a message (Failed when nothing was done yet, else Incomplete). Database errors are
    tried again from the last checkpoint for ``RETRY_S`` seconds.
    """

    def register(run: Callable[[RunningJob], None]) -> Callable[[RunningJob], None]:
        _kinds[kind] = Kind(kind, label, queue, run, log or default_log, ended, words or {})
        return run

    return register


def start_condition(queue: Literal['bat', 'default']) -> Callable[[Callable[[], str]], Callable[[], str]]:
    """Decorator: ``fn()`` says why jobs of ``queue`` cannot start now (they stay Pending and show it), or ''."""

    def register(condition: Callable[[], str]) -> Callable[[], str]:
        _conditions[queue].append(condition)
        return condition

    return register


def kind(name: str) -> Kind:
    """The registered kind. KeyError when no installed area has it."""
    if name not in _kinds:
        autodiscover_modules('tasks')
    return _kinds[name]


def kinds(queue: str) -> list[str]:
    """Names of the kinds of one queue."""
    autodiscover_modules('tasks')
    return [entry.name for entry in _kinds.values() if entry.queue == queue]


def listed() -> list[str]:
    """Names of the kinds that Job Scheduler lists."""
    autodiscover_modules('tasks')
    return [entry.name for entry in _kinds.values() if entry.queue == SERIAL or entry.words]


def words(name: str) -> Mapping[str, tuple[str, str | Promise]]:
    """The words of a kind that has its own, see ``Kind``."""
    try:
        return kind(name).words
    except KeyError:
        return {}


def label(name: str) -> str:
    """What Job Scheduler shows as transaction."""
    try:
        return str(kind(name).label)
    except KeyError:
        return name


def message(text: str | Promise, **values: Any) -> str:
    """A message as it is stored: the English source and its values, so that every reader sees his language."""
    from django.utils.translation import override

    with override('en'):
        return messages.pack(str(text), values)


def message_text(job: Job) -> str:
    """The message of a job in the active language."""
    return messages.decode(job.message, gettext)


def submit(actor: Actor, kind_name: str, parameters: dict[str, Any], description: str = '', when: When = 'now') -> Job:
    """Store a job. 'now' starts it after commit, 'hold' waits for Job Scheduler, a datetime waits for that time."""
    entry = kind(kind_name)
    job = Job.objects.create(
        kind=kind_name,
        description=description or str(entry.label),
        state=JobState.HOLD if when == 'hold' else JobState.PENDING,
        parameters=parameters,
        submitted_by=actor.name,
        scheduled_at=when if isinstance(when, datetime) else None,
    )
    publish(job)
    wake(entry.queue)
    return job


def schedule(job: Job, at: datetime | None) -> None:
    """Set the scheduled time of a job that has not started; it starts once it is activated as well."""
    if not Job.objects.filter(pk=job.pk, state__in=(JobState.HOLD, JobState.PENDING)).update(scheduled_at=at):
        raise Refused(gettext('The job has already started, its time cannot change.'))
    job.scheduled_at = at


def activate(job: Job) -> None:
    """Release a job on hold: it starts at its scheduled time, or at once when that is past or not set."""
    if not Job.objects.filter(pk=job.pk, state=JobState.HOLD).update(state=JobState.PENDING, message=''):
        raise Refused(gettext('Only a job on hold can be activated.'))
    job.state = JobState.PENDING
    publish(job)
    wake(kind(job.kind).queue)


def stop(job: Job) -> None:
    """Cancel a waiting job, or ask a running one to stop after the rows it is at."""
    waiting = Job.objects.filter(pk=job.pk, state__in=(JobState.HOLD, JobState.PENDING))
    with connection.cursor() as cursor:
        cursor.execute('SELECT clock_timestamp()')
        now = cursor.fetchone()[0]
    text = message(gettext_noop('The job was stopped before it began.'))
    if waiting.update(state=JobState.CANCELLED, ended_at=now, message=text):
        job.refresh_from_db()
        publish(job)
    elif not Job.objects.filter(pk=job.pk, state=JobState.PROCESSING).update(stop_requested=True):
        raise Refused(gettext('The job has already ended.'))


def remove(job: Job) -> None:
    """Delete a job, its rows, and after commit its log file."""
    where = log_path(job)
    job.delete()
    transaction.on_commit(lambda: where.unlink(missing_ok=True))


def publish(job: Job) -> None:
    """Tell open pages, after commit."""
    update = JobLive(job=job.pk, state=str(job.state), done=job.done, total=job.total)

    transaction.on_commit(lambda: _send(update))


def _send(update: JobLive) -> None:
    try:
        redis().publish(LIVE, encode(update))
    except (RedisError, OSError):
        log.warning('progress of job %s could not be published', update.job, exc_info=True)


def wake(queue: str) -> None:
    """Wake a worker of ``queue`` after commit. When the broker is away the next beat does it."""

    def send() -> None:
        from impadmin.console.tasks import work

        try:
            work.apply_async([queue], queue=queue, retry=False)
        except Exception:
            log.warning('the broker could not be reached; jobs start with the next beat', exc_info=True)

    transaction.on_commit(send)


def folder(name: str) -> Path:
    """``var/files/NAME``, made when missing."""
    path = Path(settings.MEDIA_ROOT) / name
    path.mkdir(mode=0o750, parents=True, exist_ok=True)
    return path


def log_path(job: Job) -> Path:
    """Where the log file of a job is."""
    return folder('logs') / f'job-{job.pk}.log'


@dataclass(slots=True)
class RunningJob:
    """A claimed job, as its runner sees it. ``position`` is in the runner's own unit, 0 at the first start.

    At most ``listed_rows`` verdicts are stored; counts ``listed`` and ``unlisted`` say how many are and are not.
    """

    record: Job
    token: str
    listed_rows: int = 1_000_000
    stopped: bool = False
    resumed: bool = False
    _pace: Pace = field(default_factory=Pace)
    _rows: list[JobRow] = field(default_factory=list)
    _asked_at: float = 0.0
    _published_at: float = 0.0

    @property
    def id(self) -> int:
        """Job ID."""
        return int(self.record.pk)

    @property
    def parameters(self) -> dict[str, Any]:
        """What was submitted."""
        return dict(self.record.parameters)

    @property
    def position(self) -> int:
        """Where to go on."""
        return self.record.position

    @property
    def counts(self) -> dict[str, Any]:
        """Named results as of the last checkpoint."""
        return dict(self.record.counts)

    def row(self, line: int, subject: str, verdict: str, reason: str) -> None:
        """The verdict on one input row; stored with the next checkpoint."""
        self._rows.append(
            JobRow(job_id=self.record.pk, line=line, subject=subject[:600], verdict=verdict, reason=reason[:400])
        )

    def checkpoint(
        self,
        position: int,
        *,
        done: int | None = None,
        total: int | None = None,
        failed: int | None = None,
        output_file: str | None = None,
        **counts: Any,
    ) -> None:
        """Store progress, as the last statement of the work's own transaction. Raises LeaseLost.

        ``done``, ``total``, ``failed`` and named counts are new absolute values; what is not given stays.
        """
        record = self.record
        given = {'done': done, 'total': total, 'failed': failed, 'output_file': output_file}
        now: dict[str, Any] = {name: getattr(record, name) if value is None else value for name, value in given.items()}
        listed = record.counts.get('listed', 0)
        rows = self._rows[: max(self.listed_rows - listed, 0)]
        if self._rows:
            counts['listed'] = listed + len(rows)
        if left := len(self._rows) - len(rows):
            counts['unlisted'] = record.counts.get('unlisted', 0) + left
        now |= {'position': position, 'counts': {**record.counts, **counts}}
        with transaction.atomic():
            if rows:
                store_rows(rows)
            held = Job.objects.filter(pk=record.pk, worker=self.token, state=JobState.PROCESSING)
            if not held.update(**now, rate=self._pace(now['done']), heartbeat_at=CLOCK):
                raise LeaseLost(record.pk)
        transaction.on_commit(lambda: self._committed(now))

    def _committed(self, now: Mapping[str, Any]) -> None:
        """The record as the database has it."""
        self._rows.clear()
        for name, value in now.items():
            setattr(self.record, name, value)
        if time.monotonic() - self._published_at >= PUBLISH_S:
            self._published_at = time.monotonic()
            publish(self.record)

    def progress(self, done: int, total: int) -> bool:
        """Show progress from within a long transaction, by a connection of its own; whether to stop.

        Does something at most 4 times a second. Nothing of it is needed for going on after a crash.
        """
        if time.monotonic() - self._asked_at < PUBLISH_S:
            return self.stopped
        self._asked_at = time.monotonic()
        self.record.done, self.record.total = done, total
        with closing(connection.copy()) as own, own.cursor() as cursor:
            cursor.execute(
                'UPDATE job SET done = %s, total = %s, rate = %s, heartbeat_at = clock_timestamp()'
                ' WHERE id = %s AND worker = %s RETURNING stop_requested',
                [done, total, self._pace(done), self.record.pk, self.token],
            )
            found = cursor.fetchone()
        if found is None:
            raise LeaseLost(self.record.pk)
        self.stopped = bool(found[0])
        _send(JobLive(job=self.id, state=JobState.PROCESSING.value, done=done, total=total))
        return self.stopped

    def reload(self) -> None:
        """Read the record again: after a lost connection only the database knows whether the last commit happened."""
        self._rows.clear()
        self.record.refresh_from_db()
        if self.record.worker != self.token:
            raise LeaseLost(self.record.pk)

    def stop_requested(self) -> bool:
        """Whether Stop Job was pressed; return from the runner when it is so. Asks the database at most 4 times/s."""
        if not self.stopped and time.monotonic() - self._asked_at >= PUBLISH_S:
            self._asked_at = time.monotonic()
            self.stopped = bool(Job.objects.values_list('stop_requested', flat=True).get(pk=self.record.pk))
        return self.stopped


def store_rows(rows: Sequence[JobRow]) -> None:
    """COPY verdicts into job_row in the caller's transaction."""
    with (
        connection.cursor() as cursor,
        cursor.copy('COPY job_row (job_id, line, subject, verdict, reason) FROM STDIN') as copy,
    ):
        for row in rows:
            copy.write_row((row.job_id, row.line, row.subject, row.verdict, row.reason))


def blocked(queue: str) -> str:
    """Why jobs of ``queue`` cannot start now (a stored message), or ''."""
    for condition in _conditions[queue]:
        if reason := condition():
            return reason
    return ''


def claim(queue: str) -> RunningJob | None:
    """Take the next job of ``queue`` that is due and that no living worker holds, or None."""
    names = kinds(queue)
    token = worker_token()
    with transaction.atomic(), connection.cursor() as cursor:
        # one claimer per queue at a time: submit order and "one at a time" need no further thought
        cursor.execute('SELECT pg_advisory_xact_lock(hashtext(%s))', [f'imp:jobs:{queue}'])
        cursor.execute(
            "SELECT id, state, worker, heartbeat_at IS NULL OR heartbeat_at < clock_timestamp() - %s * interval '1 s'"
            " FROM job WHERE kind = ANY(%s) AND (state = 'processing' OR state = 'pending'"
            ' AND (scheduled_at IS NULL OR scheduled_at <= clock_timestamp()))'
            " ORDER BY state <> 'processing', greatest(submitted_at, scheduled_at), id",
            [LEASE_S, names],
        )
        for pk, state, holder, expired in cursor.fetchall():
            if state == JobState.PROCESSING and not (expired or is_gone(holder)):
                if queue == SERIAL:
                    return None
                continue
            if reason := blocked(queue):
                cursor.execute('UPDATE job SET message = %s WHERE id = %s AND message <> %s', [reason, pk, reason])
                if queue == SERIAL:
                    return None
                continue
            cursor.execute(
                "UPDATE job SET state = 'processing', worker = %s, heartbeat_at = clock_timestamp(), message = '',"
                ' started_at = coalesce(started_at, clock_timestamp()) WHERE id = %s AND state = %s AND worker = %s',
                [token, pk, state, holder],
            )
            if cursor.rowcount:
                resumed = state == JobState.PROCESSING
                log.info('job %s %s', pk, 'taken over from a worker that is gone' if resumed else 'started')
                record = Job.objects.get(pk=pk)
                publish(record)
                return RunningJob(record, token, resumed=resumed)
    return None


def is_due(queue: str) -> bool:
    """Whether a job of ``queue`` waits to start, or was left by a worker that no longer renews its lease."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT 1 FROM job WHERE kind = ANY(%s) AND (state = 'pending' AND"
            " (scheduled_at IS NULL OR scheduled_at <= clock_timestamp()) OR state = 'processing' AND"
            " (heartbeat_at IS NULL OR heartbeat_at < clock_timestamp() - %s * interval '1 s')))",
            [kinds(queue), LEASE_S],
        )
        return bool(cursor.fetchone()[0])


def work(queue: str) -> int:
    """Run the due jobs of ``queue`` until none is left; how many ran."""
    ran = 0
    while (job := claim(queue)) is not None:
        run(job)
        ran += 1
    return ran


def run(job: RunningJob) -> None:
    """Run one claimed job to its end state."""
    quit_ = threading.Event()
    heart = threading.Thread(target=_beat, args=(job.id, job.token, quit_), name=f'job-{job.id}', daemon=True)
    heart.start()
    try:
        state, text = _attempts(job)
        _finish(job, state, text)
    except LeaseLost:
        log.warning('job %s was taken over by another worker', job.id)
    finally:
        quit_.set()
        heart.join()


def _beat(pk: int, token: str, quit_: threading.Event) -> None:
    """Keep the lease, from a thread with a connection of its own."""
    with closing(connection.copy()) as own:
        while not quit_.wait(HEARTBEAT_S):
            try:
                with own.cursor() as cursor:
                    cursor.execute(
                        'UPDATE job SET heartbeat_at = clock_timestamp() WHERE id = %s AND worker = %s', [pk, token]
                    )
            except (OperationalError, InterfaceError):
                own.close()


def _attempts(job: RunningJob) -> tuple[JobState, str]:
    """Call the runner, again after database errors; the end state and the stored message."""
    entry = kind(job.record.kind)
    last_position, since, pause, again = job.position, time.monotonic(), 0.5, False
    while True:
        try:
            if again:
                job.reload()
            if job.position != last_position:
                last_position, since, pause = job.position, time.monotonic(), 0.5
            if not job.stop_requested():
                entry.run(job)
            if job.stopped:
                return JobState.CANCELLED, message(gettext_noop('The job was stopped on request.'))
            return JobState.COMPLETED, ''
        except (OperationalError, InterfaceError) as error:
            log.warning('job %s: database error at position %s: %s', job.id, job.position, error)
            connection.close()
            again = True
            if time.monotonic() - since > RETRY_S and job.position == last_position:
                text = gettext_noop('The database did not answer. Run the job again: it adds what is missing.')
                return _broken(job), message(text)
            time.sleep(pause)
            pause = min(pause * 2, 5.0)
        except LeaseLost:
            raise
        except JobFailed as error:
            return _broken(job), message(error.text, **error.values)
        except Exception:
            log.exception('job %s failed at position %s', job.id, job.position)
            text = gettext_noop('An internal error ended the job. The log of the worker has the details of job %(id)s.')
            return _broken(job), message(text, id=job.id)


def _broken(job: RunningJob) -> JobState:
    return JobState.INCOMPLETE if job.record.done else JobState.FAILED


def _finish(job: RunningJob, state: JobState, text: str) -> None:
    """Settle counts, write the log file, store the end state; waits for the database when it is away."""
    entry = kind(job.record.kind)
    pause = 0.5
    while True:
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute('SELECT worker, clock_timestamp() FROM job WHERE id = %s FOR UPDATE', [job.id])
                found = cursor.fetchone()
                if found is None or found[0] != job.token:
                    raise LeaseLost(job.id)
                job.reload()
                record = job.record
                record.state, record.message, record.ended_at = state, text, found[1]
                if entry.ended is not None:
                    entry.ended(job, state)
                record.log_file = _write_log(job, state, entry)
                record.save(
                    update_fields=['state', 'message', 'ended_at', 'counts', 'total', 'done', 'failed', 'log_file']
                )
                publish(record)
                for listener in listeners:
                    listener(record)
            log.info('job %s: %s', job.id, state)
            return
        except (OperationalError, InterfaceError):
            connection.close()
            time.sleep(pause)
            pause = min(pause * 2, 5.0)


def _write_log(job: RunningJob, state: JobState, entry: Kind) -> str:
    path = log_path(job.record)
    partial = path.with_suffix('.part')
    with partial.open('w', encoding='utf-8', newline='\n') as file:
        for line in entry.log(job, state):
            file.write(line + '\n')
    partial.replace(path)
    return path.name


def log_head(job: RunningJob, state: JobState, about: str = '') -> Iterable[str]:
    """The first lines every log file has. Log files are English, like the product's."""
    from django.utils import translation

    record = job.record
    with translation.override('en'):
        yield f'Job ID: {job.id}  Transaction: {label(record.kind)}{about}'
        started, ended = (
            timezone.localtime(at).strftime('%Y-%m-%d %H:%M:%S') if at else '-'
            for at in (record.started_at, record.ended_at)
        )
        yield f'Start: {started}  End: {ended}'
        yield f'Status: {state.label}'
        if record.message:
            yield f'Message: {message_text(record)}'


def default_log(job: RunningJob, state: JobState) -> Iterable[str]:
    """Start, end, status and counts."""
    yield from log_head(job, state)
    yield f'Records: {job.record.total}  processed: {job.record.done}  failed: {job.record.failed}'
    for name, value in job.counts.items():
        yield f'{name.replace("_", " ").capitalize()}: {value}'
