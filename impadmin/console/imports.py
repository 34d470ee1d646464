"""CSV files and workbooks into a page's objects: checked when uploaded, tried out, then added and changed row by row.

The first row names the columns, as an export does (names of REST, or labels). The key columns of the page tell which
object a row is about. What becomes of rows whose object is new or exists, and what an empty cell means, is chosen.
Values go through REST's serializer and ``actions.do_changes``: the same messages as on the page. Columns that are only
shown (state, counts) are ignored, so every export can be imported again. Secrets are taken where the form has them.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import UploadedFile
from django.db import models, transaction
from django.forms import FileField
from django.utils import translation
from django.utils.translation import gettext, gettext_lazy, gettext_noop
from rest_framework import serializers

from impadmin.console import actions, audit, bulkwork, exports, forms, foureyes, jobs, listview, workbooks
from impadmin.console.actions import Actor, Change, Preview, Refused, Verdict
from impadmin.console.bulk import BadFile, Batch, batches, count_records, receive, unprotect
from impadmin.console.bulkwork import Outcome
from impadmin.console.jobs import JobFailed, RunningJob
from impadmin.console.models import ApprovalRequest, Job, JobState, RequestState
from impadmin.console.page import Page

KIND = 'bulk_import'
FOLDER = 'imports'
KEPT_S = 24 * 3600
"""How long an uploaded file waits for its import."""


@dataclass(frozen=True, slots=True)
class Options:
    """What to do. new: rows whose object is not there; existing: rows whose object is; empty: what an empty cell
    means in a row that changes an object (in one that adds an object it is the default value)."""

    new: Literal['create', 'skip'] = 'create'
    existing: Literal['update', 'skip'] = 'update'
    empty: Literal['keep', 'clear'] = 'keep'


@dataclass(frozen=True, slots=True)
class Upload:
    """A stored file whose form was found right. token: its name in the folder; total: data rows."""

    token: str
    name: str
    total: int


def importable(page: Page) -> bool:
    """Whether rows of a file can become objects of this page: it adds or changes, and not by uploads."""
    uploads = any(isinstance(factory(None), FileField) for factory in page.extra.values())
    return bool(set(page.imports) & set(page.verbs)) and not uploads


def key_names(page: Page) -> tuple[str, ...]:
    """The fields that tell which object a row is about: declared, else the first unique one, else a unique group, else
    the first text."""
    if page.key:
        return page.key
    written = forms.editable_names(page)
    fields = [found for name in written if (found := forms.model_field(page.model, name)) is not None]
    order = [(name,) for name in written]
    unique = sorted(unique_groups(page.model), key=lambda group: order.index(group) if group in order else len(order))
    texts = [(field.name,) for field in fields if isinstance(field, models.CharField)]
    return next((group for group in (*unique, *texts) if group and set(group) <= set(written)), ())


def unique_groups(model: type[models.Model]) -> list[tuple[str, ...]]:
    """Fields that tell any two objects of a model apart: single ones, then groups."""
    meta = model._meta
    constraints = [c for c in meta.constraints if isinstance(c, models.UniqueConstraint) and c.condition is None]
    groups = [*map(tuple, meta.unique_together), *(tuple(one.fields) for one in constraints)]
    return [(field.name,) for field in meta.concrete_fields if field.unique] + groups


def column_names(page: Page) -> list[str]:
    """Columns that an import takes, in the order of the form."""
    return [name for name in forms.shown_names(page) if name in {*forms.editable_names(page), *page.extra}]


# ---- the file


def store(page: Page, upload: UploadedFile[Any]) -> Upload:
    """Keep an upload that has the right form. Raises ValidationError at ``file``."""
    sweep()
    token = secrets.token_urlsafe(24)
    where = path(token)
    try:
        with os.fdopen(os.open(where, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), 'wb') as file:
            receive(upload, file, column_names(page), 1, blocks=_blocks(upload))
        with where.open('rb') as checked:
            total = _check(page, checked)
    except BadFile as error:
        where.unlink(missing_ok=True)
        raise ValidationError({'file': [gettext(error.text) % error.values]}) from error
    except BaseException:
        where.unlink(missing_ok=True)
        raise
    return Upload(token, str(upload.name)[:150], total)


def _blocks(upload: UploadedFile[Any]) -> Iterator[bytes] | None:
    """A workbook as CSV; None for what is none."""
    head = upload.read(4)
    upload.seek(0)
    return workbooks.blocks(cast(BinaryIO, upload.file)) if workbooks.is_workbook(head) else None


def path(token: str) -> Path:
    """Where the bytes of an upload are."""
    return jobs.folder(FOLDER) / Path(token).name


def forget(token: str) -> None:
    """Delete an upload."""
    path(token).unlink(missing_ok=True)


def sweep() -> None:
    """Delete uploads that nobody imported within a day, but not what waits for approval."""
    waiting = Job.objects.filter(kind=KIND, state__in=(JobState.HOLD, JobState.PENDING, JobState.PROCESSING))
    used = set(waiting.values_list('parameters__upload', flat=True)) | _waited_for()
    for entry in jobs.folder(FOLDER).iterdir():
        if entry.name not in used and entry.stat().st_mtime < time.time() - KEPT_S:
            entry.unlink(missing_ok=True)


def _check(page: Page, file: BinaryIO) -> int:
    """Number of data rows of a file whose columns are known. Raises BadFile."""
    total = count_records(file, (), 1) - 1
    header(page, _first(file))
    if not total:
        raise BadFile(gettext_noop('The file has no data rows.'))
    if total > bulkwork.MOST:
        raise BadFile(gettext_noop('The file has more than %(most)s rows. Split it.'), most=bulkwork.MOST)
    return total


def _first(file: BinaryIO) -> Batch:
    """The first row of a file."""
    return next(batch for batch in batches(file, (), size=1) if batch.rows)


def header(page: Page, first: Batch) -> list[str]:
    """The field of each column ('' for one that is only shown). Raises BadFile naming what is wrong."""
    line, cells = first.rows[0]
    if isinstance(cells, str):
        raise BadFile(gettext_noop('Line %(line)s: %(reason)s.'), line=line, reason=gettext(cells))
    taken = column_names(page)
    known = {column.name: column.name if column.name in taken else '' for column in exports.columns(page)}
    known |= dict.fromkeys(('id', 'pk'), '') | {name: name for name in taken}
    labels = _labels(page, known)
    found = []
    for cell in cells:
        name = labels.get(unprotect(cell).strip().casefold())
        if name is None:
            raise _unknown(cell, taken)
        if name and name in found:
            raise BadFile(gettext_noop('The column %(name)s is there twice.'), name=name)
        found.append(name)
    if missing := [name for name in key_names(page) if name not in found]:
        text = gettext_noop('The column %(label)s (%(name)s) is missing: it tells which object a row is about.')
        raise BadFile(text, label=audit.label_on(page, missing[0]), name=missing[0])
    return found


def _labels(page: Page, known: Mapping[str, str]) -> dict[str, str]:
    """Field by folded name or label, in English and in the active language; a label of two fields is none."""
    result: dict[str, str] = {}
    for language in {'en', translation.get_language() or 'en'}:
        with translation.override(language):
            texts = [(column.name, str(column.label).casefold()) for column in exports.columns(page)]
            texts += [(name, label.casefold()) for name, label in audit.extra_labels(page).items()]
        for name, label in texts:
            if sum(1 for _, other in texts if other == label) == 1:
                result[label] = known[name]
    return result | {name.casefold(): field for name, field in known.items()}


def _unknown(cell: str, taken: Sequence[str]) -> BadFile:
    for char, shown in ((';', ';'), ('\t', 'TAB'), ('|', '|')):
        if char in cell:
            text = gettext_noop('The columns are separated by %(char)s. Save the file with commas as separators.')
            return BadFile(text, char=shown)
    text = gettext_noop('There is no column %(name)s. The first row names the columns: %(columns)s.')
    return BadFile(text, name=cell[:100] or '""', columns=', '.join(taken))


# ---- rows


class Rows:
    """Turns rows of one file into changes, for one page and one choice of options."""

    def __init__(self, actor: Actor, page: Page, options: Options, names: Sequence[str]) -> None:
        from impadmin.console.api_fields import serializer_of

        self.actor, self.page, self.options, self.names = actor, page, options, names
        self.keys = key_names(page)
        self.serializer: Any = serializer_of(page)(partial=True)
        self.columns = {column.name: column for column in exports.columns(page)}
        self.seen: set[int] = set()
        self.present: dict[tuple[str, ...], list[Any]] = {}
        self.references: dict[tuple[str, str], Any] = {}

    def asked(self, batch: Batch) -> list[tuple[int, Change | Verdict]]:
        """(line, what it asks for or why it is left) of each row; one query finds the objects of all of them."""
        self.present, self.references = {}, {}
        given = [dict(zip(self.names, cells, strict=False)) for _, cells in batch.rows if isinstance(cells, list)]
        lookups = {}
        for name in self.keys:
            field = forms.model_field(self.page.model, name)
            assert field is not None
            texts = {unprotect(row[name]) for row in given if name in row}
            if isinstance(field, models.ForeignKey):
                name, field = f'{name}__{forms.natural_field(field.remote_field.model)}', None
            lookups[f'{name}__in'] = [value for text in texts if (value := _as_key(field, text)) is not None]
        for obj in listview.base_queryset(self.page, self.actor.grants).filter(**lookups) if lookups else ():
            key = tuple(exports.text(self.columns[name].read(obj)) for name in self.keys)
            self.present.setdefault(key, []).append(obj)
        return [(line, self.change(cells)) for line, cells in batch.rows]

    def change(self, cells: list[str] | str) -> Change | Verdict:
        """What one row asks for, or why it is left."""
        if isinstance(cells, str):
            return _refused('', gettext(cells))
        if len(cells) != len(self.names):
            text = gettext('The row has %(found)s columns, the first row has %(count)s.')
            return _refused('', text % {'found': len(cells), 'count': len(self.names)})
        given = {name: unprotect(cell) for name, cell in zip(self.names, cells, strict=True) if name}
        label = ' '.join(given[name] for name in self.keys) or next(iter(given.values()), '')
        try:
            return self._change(label, given)
        except serializers.ValidationError as error:
            return Verdict(label, 'update', problems=tuple(problems(error.detail)))

    def _change(self, label: str, given: dict[str, str]) -> Change | Verdict:
        found: list[Any] = []
        if self.keys:
            if empty := [name for name in self.keys if not given[name]]:
                return _refused(label, gettext('The row has no key. Fill this cell.'), empty[0])
            key = tuple(given[name] for name in self.keys)
            if hash(key) in self.seen:
                return _refused(label, gettext('An earlier row of the file has the same key.'), self.keys[0])
            self.seen.add(hash(key))
            found = self.present.get(key, [])
        if len(found) > 1:
            return _refused(label, gettext('More than one object has this key.'), self.keys[0])
        if not found:
            if self.options.new == 'skip':
                return Verdict(label, 'skip', problems=(('', gettext('There is no such object.')),))
            if 'add' not in self.page.imports:
                return _refused(label, gettext('A file cannot add objects here. Add them on the page.'))
            return Change('create', self._values({n: v for n, v in given.items() if v}, clear=False), name=label)
        if self.options.existing == 'skip':
            return Verdict(label, 'skip', problems=(('', gettext('It exists already.')),))
        clear = self.options.empty == 'clear'
        values = self._values({n: v for n, v in given.items() if v or clear}, clear=clear)
        if all(name in self.columns and self._is(found[0], name, value) for name, value in values.items()):
            return Verdict(label)
        return Change('update', values, found[0], label)

    def _is(self, obj: Any, name: str, value: Any) -> bool:
        """Whether the object has this value already."""
        if self.columns[name].many:
            return {one.pk for one in value} == {one.pk for one in getattr(obj, name).all()}
        attribute = getattr(forms.model_field(self.page.model, name), 'attname', name)
        return bool(getattr(obj, attribute) == (value.pk if isinstance(value, models.Model) else value))

    def _values(self, given: Mapping[str, str], clear: bool) -> dict[str, Any]:
        """Texts as values. Raises serializers.ValidationError by field."""
        data: dict[str, Any] = {}
        found: dict[str, Any] = {}
        for name, cell in given.items():
            field = forms.model_field(self.page.model, name)
            if cell and isinstance(field, models.ForeignKey) and (obj := self._reference(field, cell)) is not None:
                found[name] = obj
                continue
            data[name] = cell
            if not cell and (field is None or field.null):
                if name not in self.page.extra:
                    data[name] = None
                elif clear:  # an empty password is no password: it stays as it is
                    del data[name]
            elif field is not None:
                data[name] = _plain(field, cell)
        for name in list(data):  # people type a password twice, files need not
            if f'{name}_again' in self.page.extra:
                data.setdefault(f'{name}_again', data[name])
        return {**self.serializer.to_internal_value(data), **found}

    def _reference(self, field: models.ForeignKey[Any, Any], cell: str) -> Any:
        """The object of this name, asked for once in a batch; None: REST's field says what is wrong with it."""
        if (field.name, cell) not in self.references:
            related: type[models.Model] = field.remote_field.model
            named = related._default_manager.filter(**{forms.natural_field(related): cell})
            self.references[field.name, cell] = named.first()
        return self.references[field.name, cell]


def _as_key(field: models.Field[Any, Any] | None, cell: str) -> Any:
    """A cell as a value of the key field; None when it cannot be one."""
    try:
        return cell if field is None else field.to_python(cell)
    except ValidationError:
        return None


def _refused(label: str, text: str, name: str = '') -> Verdict:
    return Verdict(label, 'update', problems=((name, text),))


BOOLEANS = {'true': True, 'yes': True, 'on': True, '1': True, 'false': False, 'no': False, 'off': False, '0': False}


def _plain(field: models.Field[Any, Any], cell: str) -> Any:
    """A cell as JSON would have it; what has no such form stays text, and REST's field says what is wrong with it."""
    if isinstance(field, models.BooleanField):
        return BOOLEANS.get(cell.casefold(), cell)
    if isinstance(field, models.IntegerField) and not field.choices:
        number = re.fullmatch(r'-?[0-9]{1,18}', cell)
        return int(cell) if number else cell
    if isinstance(field, models.ManyToManyField | models.JSONField) or hasattr(field, 'base_field'):
        return _json(field.name, cell)
    return cell


def _json(name: str, cell: str) -> Any:
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        raise serializers.ValidationError({name: [gettext('Enter a list as JSON, for example ["a", "b"].')]}) from None


def problems(detail: Any) -> Iterator[tuple[str, str]]:
    """(field name or '', text) of every message of REST's serializers."""
    if isinstance(detail, dict):
        for name, inner in detail.items():
            for below, text in problems(inner):
                yield below or ('' if name == 'non_field_errors' else name), text
    elif isinstance(detail, list):
        for one in detail:
            yield from problems(one)
    else:
        yield '', str(detail)


def _verdicts(make: Callable[[list[Change]], Sequence[Verdict]], rows: Rows, batch: Batch) -> list[tuple[int, Verdict]]:
    """(line, verdict) of each row of a batch; ``make`` does the changes and answers in their order."""
    asked = rows.asked(batch)
    made = iter(make([one for _, one in asked if isinstance(one, Change)]))
    return [(line, next(made) if isinstance(one, Change) else one) for line, one in asked]


def _maker(actor: Actor, page: Page, dry_run: bool) -> Callable[[list[Change]], Sequence[Verdict]]:
    def make(changes: list[Change]) -> Sequence[Verdict]:
        if dry_run:
            return actions.preview(actor, page, changes).verdicts
        verdicts: Sequence[Verdict] = actions.do_changes(actor, page, changes)
        return verdicts

    return make


# ---- at once and as a job


def run(actor: Actor, page: Page, upload: Upload, options: Options, *, dry_run: bool = False) -> Outcome:
    """Import a stored file. A dry run tries the first rows; all of them when ``check`` submits it as a job. Few rows
    are imported at once, many by a job. Raises PermissionDenied, Refused."""
    _require(actor, page, options)
    if not dry_run and upload.total > bulkwork.AT_ONCE:
        if options.existing == 'update':
            foureyes.hold(
                actor,
                page,
                'change',
                lambda: _waiting(page, upload, options),
                lambda: run(actor, page, upload, options, dry_run=True).preview or Preview(),
                upload.name,
            )
        return Outcome(upload.total, job=_submit(actor, page, upload, options, False))
    try:
        with path(upload.token).open('rb') as file:
            first = _first(file)
            rows = Rows(actor, page, options, header(page, first))
            source = (row for one in batches(file, (), first.end, first.line, bulkwork.AT_ONCE) for row in one.rows)
            batch = Batch(list(islice(source, bulkwork.AT_ONCE)), 0, 0)
    except FileNotFoundError:
        raise Refused(gettext('The file is no longer there. Upload it again.')) from None
    with audit.batch(uuid.uuid4().hex):
        if dry_run:
            asked = rows.asked(batch)
            found = actions.preview(actor, page, [one for _, one in asked if isinstance(one, Change)])
            made = iter(found.verdicts)
            told = [(line, next(made) if isinstance(one, Change) else one) for line, one in asked]
            preview = replace(found, verdicts=tuple(v for _, v in told), left=upload.total - len(told))
            return Outcome(upload.total, preview=preview, lines=tuple(line for line, _ in told))
        told = _verdicts(_maker(actor, page, False), rows, batch)
    forget(upload.token)
    return Outcome(upload.total, tuple(v for _, v in told), lines=tuple(line for line, _ in told))


def _waiting(page: Page, upload: Upload, options: Options) -> dict[str, Any]:
    """How to import the file later; it stays as it is until then. Raises Refused for secrets, which do not wait."""
    if upload.token in _waited_for():
        raise Refused(gettext('This file waits for approval already.'))
    with path(upload.token).open('rb') as file:
        for name in header(page, _first(file)):
            if name in page.extra:
                foureyes.refuse_secret(name, name, page.extra[name](None).widget)
    return {'do': 'import', 'upload': asdict(upload), 'options': asdict(options), 'digest': _digest(upload.token)}


def _waited_for() -> set[str]:
    """Uploads of requests that wait for approval."""
    waiting = ApprovalRequest.objects.filter(state=RequestState.WAITING, call__do='import')
    return set(waiting.values_list('call__upload__token', flat=True))


def _digest(token: str) -> str:
    with path(token).open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def again(actor: Actor, page: Page, call: Mapping[str, Any], dry_run: bool) -> Outcome:
    """What a request asked for that waited, see ``_waiting``. Raises PermissionDenied, Refused."""
    upload = Upload(**call['upload'])
    try:
        same = _digest(upload.token) == call['digest']
    except FileNotFoundError:
        raise Refused(gettext('The file is no longer there. Upload it again.')) from None
    if not same:
        raise Refused(gettext('The file is not the one that was uploaded. Reject the request.'))
    return run(actor, page, upload, Options(**call['options']), dry_run=dry_run)


def check(actor: Actor, page: Page, upload: Upload, options: Options) -> Job:
    """Submit a dry run of every row."""
    _require(actor, page, options)
    return _submit(actor, page, upload, options, True)


def _require(actor: Actor, page: Page, options: Options) -> None:
    if not importable(page):
        raise Refused(gettext('Nothing can be imported here.'))
    if options.new == 'skip' and options.existing == 'skip':
        raise Refused(gettext('New and existing objects would both be skipped. Choose one to import.'))
    if options.new == 'create' and 'add' in page.imports:
        actions.require(actor, page, 'add')
    if options.existing == 'update' and key_names(page):
        actions.require(actor, page, 'change')


def _submit(actor: Actor, page: Page, upload: Upload, options: Options, dry_run: bool) -> Job:
    if not path(upload.token).exists():
        raise Refused(gettext('The file is no longer there. Upload it again.'))
    title = gettext('Import (dry run)') if dry_run else gettext('Import')
    return bulkwork.submit(
        actor, page, KIND, {}, upload.total, f'{title}: {page.title}',
        upload=upload.token, name=upload.name, options=asdict(options), dry_run=dry_run,
    )  # fmt: skip


def _ended(job: RunningJob, state: JobState) -> None:
    """An import leaves no copy of its file behind; a dry run keeps it for the import that follows."""
    if not job.parameters['dry_run']:
        transaction.on_commit(lambda: forget(job.parameters['upload']))


@jobs.runner(KIND, label=gettext_lazy('Import'), queue='bat', log=bulkwork.log_lines, ended=_ended)
def bulk_import(job: RunningJob) -> None:
    """Import a file from ``job.position`` (bytes) on, one transaction for each chunk of rows."""
    page, actor = bulkwork.page_of(job), bulkwork.actor_of(job)
    dry_run = bool(job.parameters['dry_run'])
    with translation.override(job.parameters['language']), audit.batch(f'job-{job.id}'):
        try:
            with path(job.parameters['upload']).open('rb') as file:
                first = _first(file)
                rows = Rows(actor, page, Options(**job.parameters['options']), header(page, first))
                _remember(file, rows, first, job.position)
                source = batches(
                    file, (), job.position or first.end, job.counts.get('line', first.line), bulkwork.CHUNK
                )
                make = _maker(actor, page, dry_run)
                for batch in source:
                    with transaction.atomic():
                        bulkwork.tell(job, page, _verdicts(make, rows, batch), batch.end, line=batch.line)
                    if job.stop_requested():
                        return
        except FileNotFoundError as error:
            raise JobFailed(gettext_noop('The file is no longer there. Upload it again.')) from error
        except BadFile as error:
            raise JobFailed(error.text, **error.values) from error
        except Refused as error:
            raise JobFailed(str(error)) from error


def _remember(file: BinaryIO, rows: Rows, first: Batch, position: int) -> None:
    """Keys of the rows done before an interruption, so that a second row of one key is still told."""
    for batch in batches(file, (), first.end, first.line, 5000) if position else ():
        for _, cells in batch.rows:
            if isinstance(cells, list) and len(cells) == len(rows.names):
                given = dict(zip(rows.names, map(unprotect, cells), strict=True))
                rows.seen.add(hash(tuple(given[name] for name in rows.keys)))
        if batch.end >= position:
            return
