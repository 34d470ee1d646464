"""Bulk work on the objects of a page: delete, edit, import. Few rows at once, many as a job.

Each row stands for itself: what its page refuses stays as it is and is told, the others are done. Rows go through
``actions.do_changes``, so rights, checks and messages are those of the edit page. All entries of one call have one
batch id, and each transaction (all rows at once, or CHUNK rows of a job) makes at most one configuration generation.

A job keeps the keys it was given: what was confirmed is what is done, whatever the search finds later. Each chunk is
one transaction with the job's position, so a worker that dies loses nothing and nothing is done twice.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

from django.db import models, transaction
from django.utils import translation
from django.utils.translation import gettext, gettext_lazy, gettext_noop

from impadmin.console import actions, audit, forms, foureyes, jobs, listview, registry
from impadmin.console.access import Grants, grants
from impadmin.console.actions import Actor, Change, Preview, Refused, Verdict
from impadmin.console.jobs import JobFailed, RunningJob
from impadmin.console.models import Administrator, Job, JobInput, JobState
from impadmin.console.page import Page
from impadmin.console.rehearsal import fields_json

AT_ONCE = 100
"""Most rows done within a request; a preview tries as many."""
MOST = 1_000_000
"""Most rows of one job."""
CHUNK = 100
"""Rows of one transaction of a job."""
DELETE, EDIT = 'bulk_delete', 'bulk_edit'
WORDS = {'create': 'created', 'update': 'changed', 'delete': 'deleted', '': 'unchanged', 'skip': 'skipped'}
"""Action of a verdict -> name of its count; what has problems is ``refused``."""
LABELS = {
    'created': ('ok', gettext_lazy('Added')),
    'changed': ('ok', gettext_lazy('Changed')),
    'deleted': ('ok', gettext_lazy('Deleted')),
    'unchanged': ('off', gettext_lazy('Unchanged')),
    'skipped': ('warn', gettext_lazy('Skipped')),
    'refused': ('bad', gettext_lazy('Refused')),
}
"""Count of an outcome -> (mark, word)."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a bulk call: a ``preview``, the ``verdicts`` of rows done at once, or the ``job`` for them."""

    total: int
    verdicts: tuple[Verdict, ...] = ()
    preview: Preview | None = None
    job: Job | None = None
    lines: tuple[int, ...] = ()
    """Of an import: the line of each verdict in the file."""

    @property
    def told(self) -> tuple[Verdict, ...]:
        """The verdicts, of what was done or of what would be."""
        return self.preview.verdicts if self.preview else self.verdicts

    @property
    def counts(self) -> dict[str, int]:
        """How many rows of each kind, see ``WORDS``."""
        return count(self.told)

    def as_json(self) -> dict[str, Any]:
        """For REST and the command line."""
        lines = self.lines or range(1, len(self.told) + 1)
        said = self.preview.as_json() if self.preview else {}
        return {
            **{name: said[name] for name in ('restarts', 'impact', 'users') if name in said},
            'dry_run': self.preview is not None,
            'total': self.total,
            'job': self.job.pk if self.job else None,
            'counts': self.counts,
            'not_tried': self.preview.left if self.preview else 0,
            'rows': [
                {
                    'line': line,
                    'object': one.name,
                    'result': word(one),
                    'reasons': [{'field': name, 'text': text} for name, text in one.problems],
                    **({'changes': fields_json(one.changes)} if said else {}),
                }
                for line, one in zip(lines, self.told, strict=True)
            ],
        }


def count(verdicts: Sequence[Verdict]) -> dict[str, int]:
    """How many rows of each kind, see ``WORDS``."""
    found: dict[str, int] = {}
    for verdict in verdicts:
        found[word(verdict)] = found.get(word(verdict), 0) + 1
    return found


def word(verdict: Verdict) -> str:
    """The kind of a verdict."""
    return 'refused' if verdict.problems and verdict.action != 'skip' else WORDS.get(verdict.action, verdict.action)


def reasons(page: Page, verdict: Verdict) -> str:
    """Why a row was refused: label of the field and text of every problem."""
    return ' '.join(f'{label}: {text}' if label else text for label, text in labelled(page, verdict))


def labelled(page: Page, verdict: Verdict) -> list[tuple[str, str]]:
    """(label of the field or '', text) of every problem."""
    return [(name and audit.label_on(page, name), text) for name, text in verdict.problems]


def bulk_names(page: Page) -> list[str]:
    """Fields that may be given one value for many objects: the declared ones, else every written model field that
    tells no objects apart (unique, or emptied when copying)."""
    if page.bulk is not None:
        return list(page.bulk)
    if 'edit' not in page.verbs:
        return []
    written = [(name, forms.model_field(page.model, name)) for name in forms.editable_names(page)]
    together = {name for group in page.model._meta.unique_together for name in group}
    return [
        name
        for name, found in written
        if found is not None and not found.unique and name not in together and name not in page.copy_clear
    ]


def delete(actor: Actor, page: Page, keys: Sequence[Any], *, dry_run: bool = False) -> Outcome:
    """Delete the objects of these primary keys. Raises PermissionDenied, Refused."""
    actions.require(actor, page, 'delete')
    if 'delete' not in page.verbs:
        raise Refused(gettext('Nothing can be deleted here.'))
    return rows(actor, page, DELETE, keys, {}, dry_run)


def edit(actor: Actor, page: Page, keys: Sequence[Any], values: Mapping[str, Any], *, dry_run: bool = False) -> Outcome:
    """Give the objects of these primary keys the cleaned ``values``. Raises PermissionDenied, Refused."""
    actions.require(actor, page, 'change')
    allowed = bulk_names(page)
    if unknown := [name for name in values if name not in allowed]:
        text = gettext('%(names)s cannot be edited in bulk. Fields: %(fields)s.')
        raise Refused(text % {'names': ', '.join(unknown), 'fields': ', '.join(allowed)})
    if not values:
        raise Refused(gettext('Choose at least one field.'))
    return rows(actor, page, EDIT, keys, {name: _storable(value) for name, value in values.items()}, dry_run)


def rows(actor: Actor, page: Page, kind: str, keys: Sequence[Any], values: Mapping[str, Any], dry_run: bool) -> Outcome:
    """Delete or edit (``kind``) the objects of these keys; ``values`` as JSON."""
    keys = list(dict.fromkeys(keys))
    if len(keys) > MOST:
        raise Refused(gettext('These are more than %(most)s rows. Narrow the search.') % {'most': MOST})
    if dry_run:
        changes, missing = _changes(actor, page, kind, keys[:AT_ONCE], values)
        found = actions.preview(actor, page, changes)
        verdicts = (*found.verdicts, *missing)
        left = max(0, len(keys) - AT_ONCE)
        users = None if left else found.users  # of some only, it would mislead
        return Outcome(len(keys), preview=replace(found, verdicts=verdicts, left=left, users=users))
    if len(keys) > AT_ONCE:
        foureyes.hold(
            actor,
            page,
            'delete' if kind == DELETE else 'change',
            lambda: {'do': 'bulk', 'kind': kind, 'keys': keys, 'values': dict(values)},
            lambda: rows(actor, page, kind, keys, values, True).preview or Preview(),
            f'{len(keys)}',
        )
        return Outcome(len(keys), job=submit(actor, page, kind, {'keys': keys, 'values': dict(values)}, len(keys)))
    changes, missing = _changes(actor, page, kind, keys, values)
    with audit.batch(uuid.uuid4().hex):
        return Outcome(len(keys), (*actions.do_changes(actor, page, changes), *missing))


def _changes(
    actor: Actor, page: Page, kind: str, keys: Sequence[Any], values: Mapping[str, Any]
) -> tuple[list[Change], list[Verdict]]:
    """One change for each object that is still there, one verdict for each that is not."""
    found = {obj.pk: obj for obj in listview.base_queryset(page, actor.grants).filter(pk__in=keys)}
    values = {name: _loaded(page, name, value) for name, value in values.items()}
    verb: Any = 'delete' if kind == DELETE else 'update'
    gone = (('', gettext('It was deleted in the meantime.')),)
    return (
        [Change(verb, values, found[key]) for key in keys if key in found],
        [Verdict(str(key), verb, problems=gone) for key in keys if key not in found],
    )


def _loaded(page: Page, name: str, value: Any) -> Any:
    """The keys of related objects as the objects, read once for all rows; what is not found is left to validation."""
    field = forms.model_field(page.model, name)
    if isinstance(field, models.ManyToManyField):
        return list(field.related_model._base_manager.filter(pk__in=value))
    if value is None or not isinstance(field, models.ForeignKey):
        return value
    return field.related_model._base_manager.filter(pk=value).first() or value


def _storable(value: Any) -> Any:
    """A cleaned value as JSON; the writers take keys of related objects and times as texts."""
    if isinstance(value, models.Model):
        return value.pk
    if isinstance(value, date | datetime):
        return value.isoformat()
    if isinstance(value, models.QuerySet | list | tuple | set):
        return [_storable(one) for one in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


# ---- as a job


def submit(
    actor: Actor, page: Page, kind: str, data: Mapping[str, Any], total: int, description: str = '', **parameters: Any
) -> Job:
    """Store a job of one page; ``data`` is what it works on."""
    with transaction.atomic():
        job = jobs.submit(
            actor,
            kind,
            {
                **parameters,
                'page': page.name,
                'source': actor.source,
                'channel': actor.channel,
                'approved_by': actor.approved_by,
                'grants': [sorted(one) for one in actor.grants.sets],
                'language': translation.get_language() or 'en',
            },
            description or f'{jobs.label(kind)}: {page.title}',
        )
        Job.objects.filter(pk=job.pk).update(total=total)
        JobInput.objects.create(job=job, data=dict(data))
    return job


def page_of(job: RunningJob) -> Page:
    """The page a job works on. Raises JobFailed when this release has none of that name."""
    name = job.parameters['page']
    found = next((page for page in registry.pages() if page.name == name), None)
    if not isinstance(found, Page):
        raise JobFailed(gettext_noop('There is no page %(name)s.'), name=name)
    return found


def actor_of(job: RunningJob) -> Actor:
    """Who submitted the job, with what he was allowed then and still is. Raises JobFailed when he is gone."""
    stored = job.parameters
    allowed = Grants(tuple(grants(one).sets[0] for one in stored['grants']))
    if stored['channel'] in ('browser', 'rest'):
        user = Administrator.objects.filter(username=job.record.submitted_by, is_active=True).first()
        if user is None:
            raise JobFailed(gettext_noop('The user who submitted the job is no longer active.'))
        allowed = allowed.limited_to(user.grants)
    return Actor(job.record.submitted_by, allowed, f'job {job.id}', 'job', stored.get('approved_by', ''))


def log_lines(job: RunningJob, state: JobState) -> Iterator[str]:
    """The log: counts, then one line for each row that was not done."""
    yield from jobs.log_head(job, state)
    for name in LABELS:
        if name in job.counts:
            yield f'{name.capitalize()}: {job.counts[name]}'
    yield f'Not processed: {max(job.record.total - job.record.done, 0)}'
    for row in job.record.rows.order_by('line', 'id').iterator(chunk_size=2000):
        yield f'line {row.line}: {row.subject} : {row.verdict} : {row.reason}'


def tell(job: RunningJob, page: Page, numbered: Sequence[tuple[int, Verdict]], position: int, **more: Any) -> None:
    """Store the verdicts of one chunk with the job's position; last in the transaction of the chunk."""
    counts = {name: job.counts.get(name, 0) for name in LABELS}
    for line, verdict in numbered:
        counts[word(verdict)] += 1
        if verdict.problems:
            job.row(line, verdict.name, word(verdict), reasons(page, verdict))
    done = job.record.done + len(numbered)
    job.checkpoint(position, done=done, failed=counts['refused'], **counts, **more)


def _run(job: RunningJob) -> None:
    page, actor = page_of(job), actor_of(job)
    given = JobInput.objects.values_list('data', flat=True).get(job_id=job.id)
    keys, values = given['keys'], given['values']
    with translation.override(job.parameters['language']), audit.batch(f'job-{job.id}'):
        while job.position < len(keys) and not job.stop_requested():
            part = keys[job.position : job.position + CHUNK]
            lines = {key: job.position + n for n, key in enumerate(part, 1)}
            with transaction.atomic():
                changes, missing = _changes(actor, page, job.record.kind, part, values)
                keyed = [lines[change.obj.pk] for change in changes]
                try:
                    verdicts = actions.do_changes(actor, page, changes)
                except Refused as error:
                    raise JobFailed(str(error)) from error
                numbered = list(zip(keyed, verdicts, strict=True))
                numbered += [(lines[key], one) for one in missing for key in part if str(key) == one.name]
                tell(job, page, numbered, job.position + len(part))


@jobs.runner(DELETE, label=gettext_lazy('Delete Selected'), queue='bat', log=log_lines)
def bulk_delete(job: RunningJob) -> None:
    """Delete the rows of a selection."""
    _run(job)


@jobs.runner(EDIT, label=gettext_lazy('Bulk Edit'), queue='bat', log=log_lines)
def bulk_edit(job: RunningJob) -> None:
    """Edit the rows of a selection."""
    _run(job)
