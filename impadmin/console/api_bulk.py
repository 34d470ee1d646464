"""``POST /api/v1/NAME/bulk/``: many objects in one request, with a verdict for each row.

Either ``{"rows": [{"do": "create", "values": {..}}, {"do": "update", "id": 5, "etag": "..", "values": {..}},
{"do": "delete", "id": 6}], "atomic": false}``, or for everything that the filters of the query string find
``{"all": true, "do": "update", "values": {..}}`` (or ``"do": "delete"``).

A row that is refused stays as it is and is told; the others are done. ``atomic``: all or none, and 400 names the rows.
More than ``bulkwork.AT_ONCE`` rows become a job: 202 with its address in ``Location``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import translation
from django.utils.translation import gettext, gettext_lazy, gettext_noop
from rest_framework import serializers

from impadmin.console import actions, audit, bulkwork, foureyes, imports, jobs, listview, registry
from impadmin.console.actions import Actor, Change, Preview, Verdict
from impadmin.console.api_fields import serializer_of
from impadmin.console.bulkwork import Outcome
from impadmin.console.jobs import JobFailed, RunningJob
from impadmin.console.models import Job, JobInput
from impadmin.console.page import Page
from impadmin.console.sealed import seal, unseal

KIND = 'rest_rows'
MOST = 10_000
"""Most rows of one request."""
NEEDS: dict[str, tuple[str, frozenset[str]]] = {
    'create': ('values', frozenset({'do', 'values'})),
    'update': ('id', frozenset({'do', 'id', 'etag', 'values'})),
    'delete': ('id', frozenset({'do', 'id', 'etag'})),
}
"""What a row does -> the name it must have, and those it may have."""
_PURPOSE = 'bulk rows'


class NotAll(Exception):
    """One row of an atomic request was refused: nothing is done."""

    def __init__(self, verdicts: Sequence[Verdict]) -> None:
        super().__init__()
        self.verdicts = verdicts


def run(actor: Actor, page: Page, rows: Any, *, atomic: bool, dry_run: bool) -> Outcome:
    """Do the rows, or hand them to a job. Raises ValidationError for what is no list of rows, and for an atomic
    request of which a row is refused."""
    check_shape(rows)
    if len(rows) > bulkwork.AT_ONCE and not dry_run:
        for verb, action in (('update', 'change'), ('delete', 'delete')):
            if any(row['do'] == verb for row in rows):
                foureyes.hold(
                    actor,
                    page,
                    action,
                    lambda: {'do': 'rows', 'rows': _storable(page, rows), 'atomic': atomic},
                    lambda: _first_rows(actor, page, rows).preview or Preview(),
                    f'{len(rows)}',
                )
        sealed = seal(_PURPOSE, json.dumps(rows).encode())  # rows may have passwords
        job = bulkwork.submit(actor, page, KIND, {'sealed': sealed}, len(rows), atomic=atomic)
        return Outcome(len(rows), job=job)
    if dry_run:
        changes, wrong = changes_of(actor, page, rows)
        found = actions.do_changes(actor, page, list(changes.values()), dry_run=True)
        return Outcome(len(rows), in_order(changes, found.verdicts, wrong), preview=found)
    try:
        return Outcome(len(rows), tuple(do(actor, page, rows, atomic=atomic)))
    except NotAll as error:
        raise ValidationError(errors(error.verdicts)) from error


def _storable(page: Page, rows: Sequence[Any]) -> list[dict[str, Any]]:
    """Rows as they can wait. Raises Refused for secrets."""
    return [{**row, **({'values': foureyes.values_of(page, row['values'])} if 'values' in row else {})} for row in rows]


def _first_rows(actor: Actor, page: Page, rows: Sequence[Any]) -> Outcome:
    """A preview of many rows: the first ones."""
    found = run(actor, page, rows[: bulkwork.AT_ONCE], atomic=False, dry_run=True)
    left = len(rows) - bulkwork.AT_ONCE
    return replace(
        found, total=len(rows), preview=replace(found.preview or Preview(), verdicts=found.verdicts, left=left)
    )


def again(actor: Actor, page: Page, call: Mapping[str, Any], dry_run: bool) -> Outcome:
    """What a request asked for that waited for approval."""
    if dry_run:
        return _first_rows(actor, page, call['rows'])
    return run(actor, page, call['rows'], atomic=call['atomic'], dry_run=False)


def do(actor: Actor, page: Page, rows: Sequence[Any], *, atomic: bool) -> Sequence[Verdict]:
    """Do the rows in one transaction; a verdict for each. Raises NotAll."""
    with transaction.atomic():
        changes, wrong = changes_of(actor, page, rows)
        verdicts = in_order(changes, actions.do_changes(actor, page, list(changes.values())), wrong)
        if atomic and any(verdict.problems for verdict in verdicts):
            raise NotAll(verdicts)
    return verdicts


def in_order(
    changes: Mapping[int, Change], made: Sequence[Verdict], wrong: Mapping[int, Verdict]
) -> tuple[Verdict, ...]:
    """The verdicts in the order of the rows."""
    found = {**dict(zip(changes, made, strict=True)), **wrong}
    return tuple(found[number] for number in sorted(found))


def errors(verdicts: Sequence[Verdict]) -> dict[str, list[str]]:
    """The problems of rows as a 400 names them: ``rows[3].name``."""
    found: dict[str, list[str]] = {}
    for number, verdict in enumerate(verdicts):
        for name, text in verdict.problems:
            found.setdefault(f'rows[{number}]' + (f'.{name}' if name else ''), []).append(text)
    return found


def check_shape(rows: Any) -> None:
    """Refuse what is no list of rows, and name the first few that are none."""
    if not isinstance(rows, list) or not 1 <= len(rows) <= MOST:
        raise ValidationError({'rows': gettext('Send a list of 1 to %(most)d rows.') % {'most': MOST}})
    wrong: dict[str, str] = {}
    for number, row in enumerate(rows):
        if text := _shape(row):
            wrong[f'rows[{number}]'] = text
            if len(wrong) == 20:
                break
    if wrong:
        raise ValidationError(wrong)


def _shape(row: Any) -> str:
    verb = row.get('do') if isinstance(row, dict) else None
    if not isinstance(verb, str) or verb not in NEEDS:
        return gettext('Send an object with "do": create, update or delete.')
    needed, known = NEEDS[verb]
    if needed not in row:
        return gettext('"%(name)s" is missing.') % {'name': needed}
    if unknown := sorted(set(row) - known):
        return gettext('There is no such field: %(names)s.') % {'names': ', '.join(unknown)[:200]}
    if not isinstance(row.get('values', {}), dict) or not isinstance(row.get('etag', ''), str):
        return gettext('"values" is an object with named values, "etag" a text.')
    if needed == 'id' and (isinstance(row['id'], bool) or not isinstance(row['id'], int | str)):
        return gettext('"id" is a primary key.')
    return ''


def changes_of(actor: Actor, page: Page, rows: Sequence[Any]) -> tuple[dict[int, Change], dict[int, Verdict]]:
    """(changes, verdicts on what cannot become one) by number of the row."""
    keys = {number: _key(page, row['id']) for number, row in enumerate(rows) if 'id' in row}
    objects = {
        obj.pk: obj for obj in listview.base_queryset(page, actor.grants).filter(pk__in={k for k in keys.values() if k})
    }
    kind = serializer_of(page)
    changes: dict[int, Change] = {}
    wrong: dict[int, Verdict] = {}
    for number, row in enumerate(rows):
        verb, obj = row['do'], objects.get(keys.get(number))
        if verb != 'create' and obj is None:
            gone = gettext('There is no such object. It may have been deleted.')
            wrong[number] = Verdict(str(row['id'])[:100], verb, problems=(('', gone),))
            continue
        etag = str(row.get('etag', '')).removeprefix('W/').strip('"')
        if verb == 'delete':
            changes[number] = Change(verb, obj=obj, expected=etag)
            continue
        try:
            changes[number] = Change(verb, cleaned(kind, row.get('values', {}), obj), obj, expected=etag)
        except serializers.ValidationError as error:
            wrong[number] = Verdict(str(obj or ''), verb, problems=tuple(imports.problems(error.detail)))
    return changes, wrong


def cleaned(kind: type[Any], values: Any, obj: Any, *, partial: bool = False) -> Any:
    """The values of one row as the writers take them. Raises serializers.ValidationError."""
    serializer = kind(obj, data=values, partial=partial or obj is not None)
    serializer.is_valid(raise_exception=True)
    return serializer.validated_data


def _key(page: Page, given: Any) -> Any:
    pk = page.model._meta.pk
    try:
        key = pk.to_python(given)
        pk.run_validators(key)
    except (ValidationError, ValueError, TypeError, OverflowError):
        return None
    return key


def as_json(outcome: Outcome, rows: Sequence[Any]) -> dict[str, Any]:
    """The answer: as every bulk call's, with what each row asked and the key of the object it is about."""
    found = outcome.as_json()
    for row, given, verdict in zip(found['rows'], rows, outcome.told, strict=False):
        pk = getattr(verdict.obj, 'pk', None)
        row |= {'do': given['do'], 'id': pk if pk is not None and not found['dry_run'] else given.get('id')}
    return found


def job_url(job: Job) -> str:
    """REST address of a job."""
    name = next(page.name for page in registry.pages() if isinstance(page, Page) and page.model is Job)
    return f'/api/v1/{name}/{job.pk}/'


@jobs.runner(KIND, label=gettext_lazy('Rows sent to REST'), queue='bat', log=bulkwork.log_lines)
def rest_rows(job: RunningJob) -> None:
    """Do the rows of a large request: by chunks, or when it is atomic in one transaction."""
    page, actor = bulkwork.page_of(job), bulkwork.actor_of(job)
    clear = unseal(_PURPOSE, JobInput.objects.get(job_id=job.id).data['sealed'])
    if clear is None:
        raise JobFailed(gettext_noop('The rows can no longer be read: the secret key of the console has changed.'))
    rows, atomic = json.loads(clear), bool(job.parameters['atomic'])
    size = len(rows) if atomic else bulkwork.CHUNK
    with translation.override(job.parameters['language']), audit.batch(f'job-{job.id}'):
        while job.position < len(rows) and not job.stop_requested():
            part = rows[job.position : job.position + size]
            try:
                with transaction.atomic():
                    verdicts = do(actor, page, part, atomic=atomic)
                    bulkwork.tell(job, page, list(enumerate(verdicts, job.position + 1)), job.position + len(part))
            except NotAll as error:
                refused = [(n, one) for n, one in enumerate(error.verdicts, 1) if one.problems]
                with transaction.atomic():
                    bulkwork.tell(job, page, refused, 0)
                    job.checkpoint(0, done=0)
                raise JobFailed(gettext_noop('Rows were refused, so nothing was done.')) from error
