"""Bulk work that every page gets: selections over pages, Delete Selected, Bulk Edit, export, import, saved searches."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test.utils import CaptureQueriesContext

from impadmin.console import audit, bulkwork, exports, forms, imports, jobs, registry
from impadmin.console.models import AuditEntry, ConfigGeneration, Job, JobState, SavedSearch
from impadmin.console.page import Page
from tests.areas.bulk import fresh, provisioning
from tests.pages import payload

LISTS = payload.lists()
ADDABLE = [page for page in LISTS if 'add' in page.verbs]
IMPORTS = [page for page in LISTS if imports.importable(page)]
USERS = registry.page('end-users')
assert isinstance(USERS, Page)
URL = registry.page_url(USERS)


@pytest.fixture(autouse=True)
def no_uploads(db: None) -> None:
    for left in jobs.folder(imports.FOLDER).iterdir():
        left.unlink()


def named(page: Page) -> str:
    """Test id."""
    return page.name


def rows_of(answer: Any) -> list[list[str]]:
    """The rows of a CSV answer."""
    assert answer.status_code == 200
    data = b''.join(answer.streaming_content) if answer.streaming else answer.content
    return list(csv.reader(io.StringIO(data.decode('utf-8-sig'))))


def text_of(rows: list[list[str]]) -> bytes:
    """Rows as a file."""
    out = io.StringIO()
    csv.writer(out, lineterminator='\n').writerows(rows)
    return out.getvalue().encode()


def send(client: Any, page: Page, data: bytes, **options: str) -> Any:
    """Import > Upload and check."""
    values = {'new': 'create', 'existing': 'update', 'empty': 'keep', **options}
    file = SimpleUploadedFile('rows.csv', data, 'text/csv')
    return client.post(registry.page_url(page, 'import'), {**values, 'file': file})


def confirm(client: Any, page: Page, answer: Any) -> Any:
    """Import."""
    assert answer.status_code == 200
    assert 'signed' in answer.context, payload.problems(answer)
    return client.post(registry.page_url(page, 'import'), {'upload': answer.context['signed'], 'confirmed': '1'})


# ---- every page


@pytest.mark.parametrize('page', IMPORTS, ids=named)
def test_export_then_import_changes_nothing(page: Page, admin_client: Any) -> None:
    client = admin_client('administrator')
    if 'add' in page.verbs:
        for n in (1, 2):
            payload.create(client, page, n)
    before = AuditEntry.objects.count()
    names = [('column', column.name) for column in exports.columns(page)]
    query = '&'.join(f'{key}={value}' for key, value in [('format', 'csv'), ('clear', '1'), ('bom', '1'), *names])
    rows = rows_of(client.get(f'{registry.page_url(page, "export")}?{query}'))
    assert rows[0] == [name for _, name in names]
    total = page.model._default_manager.count()
    assert len(rows) == total + 1
    asked = send(client, page, b'\xef\xbb\xbf' + text_of(rows), empty='clear')
    assert asked.status_code == 200, payload.problems(asked)
    assert asked.context['outcome'].counts == {'unchanged': total}, asked.context['rows']
    assert confirm(client, page, asked).status_code == 302
    assert AuditEntry.objects.count() == before
    book = client.get(f'{registry.page_url(page, "export")}?{query.replace("format=csv", "format=xlsx")}')
    asked = send(client, page, b''.join(book.streaming_content), empty='clear')
    assert asked.status_code == 200, payload.problems(asked)
    assert asked.context['outcome'].counts == {'unchanged': total}, asked.context['rows']
    assert not set(rows[0]) & {'password', 'credentials', 'digest', 'secret', 'shared_secret', 'token'}


@pytest.mark.parametrize('page', [page for page in IMPORTS if {'add', 'delete'} <= set(page.verbs)], ids=named)
def test_what_was_deleted_comes_back_from_its_export(page: Page, admin_client: Any) -> None:
    client = admin_client('administrator')
    obj = payload.create(client, page, 1)
    url = f'{registry.page_url(page, "export")}?format=csv&clear=1'
    rows = rows_of(client.get(url))
    key = imports.key_names(page)[-1]
    column = next(column for column in exports.columns(page) if column.name == key)
    mine = next(row for row in rows[1:] if row[rows[0].index(key)] == exports.text(column.read(obj)))
    secrets = [name for name in page.extra if name in payload.sample(page, 1)]
    head = [*rows[0], *secrets]
    body = [*mine, *(str(payload.sample(page, 1)[name]) for name in secrets)]
    assert client.post(registry.page_url(page, 'delete', obj.pk), {'confirmed': '1'}).status_code == 302
    before = AuditEntry.objects.count()
    skipped = send(client, page, text_of([head, body]), new='skip')
    assert skipped.context['outcome'].counts == {'skipped': 1}
    asked = send(client, page, text_of([head, body]))
    assert AuditEntry.objects.count() == before, 'a dry run saves nothing'
    if 'add' not in page.imports:
        assert asked.context['outcome'].counts == {'refused': 1}
        return
    assert asked.context['outcome'].counts == {'created': 1}, asked.context['rows']
    assert confirm(client, page, asked).status_code == 302
    assert rows_of(client.get(url)) == rows
    entry = AuditEntry.objects.latest('pk')
    assert (entry.action, entry.object_type) == ('create', page.model._meta.label)
    assert entry.batch


@pytest.mark.parametrize('page', [page for page in IMPORTS if 'add' in page.imports], ids=named)
def test_bad_values_of_a_file_are_told_with_line_and_field(page: Page, admin_client: Any) -> None:
    client = admin_client('administrator')
    count = page.model._default_manager.count()
    for name, values in payload.bad(page).items():
        for value in values:
            if isinstance(value, list) or value in ('', None):
                continue
            sample = {**payload.sample(page, 3), name: value}
            names = [n for n in sample if n in imports.column_names(page)]
            cells = [exports.text(_natural(sample[n])) for n in names]
            answer = send(client, page, text_of([names, cells]))
            assert answer.status_code == 200, payload.problems(answer)
            ((line, verdict, told, *_),) = answer.context['rows']
            assert line == 2
            assert verdict.problems, (name, value)
            assert name in [field for field, _ in verdict.problems] or len(verdict.problems) == 1, verdict.problems
            assert [label for label, _ in told] == [
                field and audit.label_on(page, field) for field, _ in verdict.problems
            ]
            assert not verdict.problems[0][0] or f'{told[0][0]}: ' in answer.content.decode(), 'the label of the field'
    assert page.model._default_manager.count() == count


def _natural(value: Any) -> Any:
    if isinstance(value, list):
        return [_natural(one) for one in value]
    return getattr(value, forms.natural_field(type(value))) if hasattr(value, '_meta') else value


@pytest.mark.parametrize('page', LISTS, ids=named)
def test_every_list_is_a_csv_file_and_a_workbook(page: Page, admin_client: Any) -> None:
    client = admin_client('administrator')
    url = registry.page_url(page, 'export')
    assert client.get(url).status_code == 200
    found = rows_of(client.get(f'{url}?format=csv'))
    assert found[0]
    book = client.get(f'{url}?format=xlsx')
    with zipfile.ZipFile(io.BytesIO(b''.join(book.streaming_content))) as archive:
        assert b'<f>' not in archive.read('xl/worksheets/sheet1.xml')
    assert client.get(f'{url}?format=csv&column=no_such_column').status_code == 409


@pytest.mark.parametrize(
    'page', [page for page in ADDABLE if 'edit' in page.verbs and bulkwork.bulk_names(page)], ids=named
)
def test_bulk_edit(page: Page, admin_client: Any) -> None:
    """One field of several objects: previewed, then changed, an entry each with one batch, one generation at most."""
    client = admin_client('administrator')
    objs = [payload.create(client, page, n) for n in (1, 2)]
    name, value = _other_value(page, objs)
    keys = {'pk': [obj.pk for obj in objs]}
    url = registry.page_url(page, 'bulk-edit')
    asked = client.post(url, keys)
    assert asked.status_code == 200
    offered = [row.name for group in asked.context['groups'] for row in group.rows]
    assert offered == [n for n in forms.shown_names(page) if n in bulkwork.bulk_names(page)]
    data = {'selection': asked.context['selection'], 'set': [name], **payload.encode(page, {name: value})}
    before, generations = AuditEntry.objects.count(), ConfigGeneration.objects.count()
    preview = client.post(url, {**data, 'expected': '2', 'preview': '1'})
    assert preview.status_code == 200
    assert preview.context['outcome'].counts.get('changed'), preview.context['rows']
    assert AuditEntry.objects.count() == before
    stale = client.post(url, {**data, 'expected': '3', 'confirmed': '1'})
    assert 'changed in the meantime' in stale.content.decode()
    assert AuditEntry.objects.count() == before
    assert client.post(url, {**data, 'expected': '2', 'confirmed': '1'}).status_code in (200, 302)
    entries = AuditEntry.objects.filter(action='update').order_by('-pk')[: AuditEntry.objects.count() - before]
    assert entries
    assert len({entry.batch for entry in entries}) == 1
    assert entries[0].batch
    assert ConfigGeneration.objects.count() <= generations + 1


def _other_value(page: Page, objs: list[Any]) -> tuple[str, Any]:
    """A field that Bulk Edit offers and a value that at least one of the objects has not."""
    for name in bulkwork.bulk_names(page):
        found = forms.model_field(page.model, name)
        assert found is not None
        present = {found.value_from_object(obj) if not found.many_to_many else None for obj in objs}
        for n in (7, 8, 9):
            value = payload.sample(page, n).get(name)
            if value not in (None, '', []) and not found.many_to_many and value not in present:
                return name, value
        if found.get_internal_type() == 'BooleanField':
            return name, not present.pop()
        if found.choices:
            for value, _label in found.flatchoices:
                if value not in {'', *present}:
                    return name, value
        if found.get_internal_type() in ('CharField', 'TextField'):
            return name, 'Other'
    raise AssertionError(f'{page.name}: give one of its fields another value in sample(7)')


@pytest.mark.parametrize('page', [p for p in LISTS if p.find], ids=named)
def test_a_list_makes_few_queries_whatever_it_holds(page: Page, admin_client: Any) -> None:
    """Every list, every sort and every filter: a bounded number of queries, and as many for 25 objects as for 5."""
    client = admin_client('administrator')
    url = registry.page_url(page)
    counts = []
    for many in (range(1, 3), range(3, 6)) if page in ADDABLE else ((),):
        for n in many:
            payload.create(client, page, n)
        client.get(url)
        with CaptureQueriesContext(
            connection,
        ) as queries:
            assert client.get(f'{url}?clear=1&rows=20').status_code == 200
        counts.append(len(queries))
    assert max(counts) <= 30
    assert counts[-1] <= counts[0], 'more rows, more queries'
    for field in page.find:
        with CaptureQueriesContext(connection) as queries:
            assert client.get(url, {'f': field, 'o': 'contains', 'v': '1', 'j': 'and'}).status_code == 200
        assert len(queries) <= 30


# ---- selections


@pytest.fixture
def people(make_user: Callable[..., Any]) -> list[Any]:
    return [make_user(f'person{n:02}', department='Sales' if n % 2 else 'Research') for n in range(45)]


def test_a_selection_survives_paging_and_sorting_without_scripts(people: list[Any], admin_client: Any) -> None:
    client = admin_client()
    first = client.get(f'{URL}?rows=20&sort=user_id&clear=1')
    shown = [line.pk for line in first.context['lines']]
    answer = client.post(first.context['select_url'], {'shown': shown, 'pk': shown[:2], 'next': first.context['next']})
    assert answer.status_code == 302
    second = client.get(answer['Location'])
    assert second.context['state'].number == 2
    assert second.context['selected'] == second.context['elsewhere'] == 2
    assert 'data-kept' in second.content.decode()
    shown2 = [line.pk for line in second.context['lines']]
    client.post(second.context['select_url'], {'shown': shown2, 'pk': shown2[-1:]})
    back = client.get(f'{URL}?rows=20&sort=-user_id&clear=1&page=3')
    assert [line.pk for line in back.context['lines'] if line.selected] == [shown[1], shown[0]]
    asked = client.post(f'{URL}delete-selected/?rows=20&sort=user_id&clear=1', {'shown': shown, 'pk': [shown[0]]})
    assert asked.context['count'] == 2, 'one was unticked, one is on another page'
    other = client.get(f'{URL}?f=department&o=exactly&v=Sales&j=and')
    assert other.context['selected'] == 0, 'another search has a selection of its own'
    done = client.post(
        asked.context['action'], {'selection': asked.context['selection'], 'expected': '2', 'confirmed': '1'}
    )
    assert done.status_code == 302
    left = set(USERS.model._default_manager.values_list('pk', flat=True))
    assert {shown[0], shown2[-1]}.isdisjoint(left)
    assert len(left) == 43


def test_all_found_travels_as_the_search_and_is_counted_again(
    people: list[Any], make_user: Callable[..., Any], admin_client: Any
) -> None:
    client = admin_client()
    query = '?rows=20&f=department&o=exactly&v=Sales&j=and'
    page = client.get(URL + query)
    shown = [line.pk for line in page.context['lines']]
    client.post(page.context['select_url'], {'shown': shown, 'mark': 'all'})
    page = client.get(URL + query)
    assert page.context['selected'] == 22
    asked = client.post(f'{URL}delete-selected/{query}', {'shown': shown, 'pk': shown[1:]})
    assert asked.context['count'] == 21
    signed = asked.context['selection']
    assert len(signed) < 400, 'the search, not the keys'
    confirmation = {'selection': signed, 'expected': '21', 'confirmed': '1'}
    make_user('late', department='Sales')
    again = client.post(asked.context['action'], confirmation)
    assert 'The list changed in the meantime' in again.content.decode()
    assert USERS.model._default_manager.filter(department='Sales').count() == 23
    forged = client.post(f'{URL}delete-selected/', {**confirmation, 'selection': signed[:-2] + 'xx'})
    assert forged.status_code == 302
    elsewhere = registry.page_url('api-tokens', 'delete-selected')
    assert client.post(elsewhere, confirmation).status_code == 302, 'of another page'
    assert USERS.model._default_manager.filter(department='Sales').count() == 23
    assert client.post(asked.context['action'], {**confirmation, 'expected': '22'}).status_code == 302
    assert list(USERS.model._default_manager.filter(department='Sales').values_list('pk', flat=True)) == [shown[0]]


def test_many_rows_are_deleted_by_a_job_with_a_verdict_each(
    people: list[Any], admin_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the job was given is what it deletes; a worker that dies is followed by one that goes on where it was."""
    monkeypatch.setattr(bulkwork, 'AT_ONCE', 10)
    monkeypatch.setattr(bulkwork, 'CHUNK', 10)
    provisioning()
    client = admin_client()
    page = client.get(f'{URL}?clear=1')
    client.post(page.context['select_url'], {'mark': 'all'})
    shown = [line.pk for line in page.context['lines']]
    asked = client.post(f'{URL}delete-selected/?clear=1', {'shown': shown, 'pk': shown})
    assert asked.context['impact'].left == 35
    answer = client.post(
        asked.context['action'], {'selection': asked.context['selection'], 'expected': '45', 'confirmed': '1'}
    )
    job = Job.objects.get(kind=bulkwork.DELETE)
    assert answer['Location'].endswith(f'{job.pk}/')
    people[30].delete()
    make = jobs.RunningJob.checkpoint

    def dies(self: Any, position: int, **values: Any) -> None:
        make(self, position, **values)
        if position == 20:
            raise KeyboardInterrupt

    monkeypatch.setattr(jobs.RunningJob, 'checkpoint', dies)
    with pytest.raises(KeyboardInterrupt):
        jobs.work('bat')
    assert USERS.model._default_manager.count() == 34, 'what was not committed is not done'
    monkeypatch.setattr(jobs.RunningJob, 'checkpoint', make)
    Job.objects.update(heartbeat_at=None)
    jobs.work('bat')
    job = fresh(job)
    assert (job.state, job.total, job.done, job.failed) == (JobState.COMPLETED, 45, 45, 1)
    assert job.counts['deleted'] == 44
    assert [(row.line, row.verdict) for row in job.rows.all()] == [(31, 'refused')]
    assert not USERS.model._default_manager.exists()
    entries = AuditEntry.objects.filter(action='delete', batch=f'job-{job.pk}')
    assert entries.count() == entries.values('object_id').distinct().count() == 44
    assert {entry.actor for entry in entries} == {'test-administrator'}
    shown = client.get(answer['Location']).content.decode()
    assert 'Deleted' in shown
    assert 'It was deleted in the meantime.' in shown


def test_a_job_does_not_outlive_the_rights_of_who_submitted_it(
    people: list[Any], admin_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from impadmin.console.models import Administrator, Role

    monkeypatch.setattr(bulkwork, 'AT_ONCE', 10)
    provisioning()
    client = admin_client('operator')
    asked = client.post(f'{URL}bulk-edit/', {'pk': [user.pk for user in people[:12]]})
    data = {'selection': asked.context['selection'], 'expected': '12', 'set': ['department'], 'department': 'Support'}
    assert client.post(asked.context['action'], {**data, 'confirmed': '1'}).status_code == 302
    Administrator.objects.get(username='test-operator').roles.set([Role.objects.get(name='read_only')])
    jobs.work('bat')
    job = Job.objects.get(kind=bulkwork.EDIT)
    assert (job.done, job.failed) == (12, 12)
    assert not USERS.model._default_manager.filter(department='Support').exists()


# ---- files


def test_cells_that_a_spreadsheet_would_run_are_protected(make_user: Callable[..., Any], admin_client: Any) -> None:
    make_user('evil', last_name='=HYPERLINK("http://x")', first_name="'=1", department='-1', display_name='+1, "x"')
    client = admin_client()
    for cells, first in (('', "'=HYPERLINK"), ('&cells=original', '=HYPERLINK')):
        answer = client.get(f'{URL}export/?format=csv&clear=1{cells}')
        data = b''.join(answer.streaming_content)
        row = next(csv.DictReader(io.StringIO(data.decode())))
        assert row['last_name'].startswith(first)
        asked = send(client, USERS, data)
        assert asked.context['outcome'].counts == {'unchanged': 1}
    book = client.get(f'{URL}export/?format=xlsx&clear=1')
    with zipfile.ZipFile(io.BytesIO(b''.join(book.streaming_content))) as archive:
        assert b'<f>' not in archive.read('xl/worksheets/sheet1.xml')
        assert b'quotePrefix="1"' in archive.read('xl/styles.xml')


@pytest.mark.parametrize(
    ('data', 'text'),
    [
        (b'', 'The file is empty'),
        (b'user_id,last_name\n', 'The file has no data rows'),
        ('user_id,last_name\na,b\n'.encode('utf-16'), 'The file is UTF-16'),
        (b'user_id,last_name\na,b\0\n', 'Line 2 has a NUL byte'),
        (b'user_id,last_name\na,\xff\n', 'Line 2 is not UTF-8'),
        (b'PK\x03\x04xxxx', 'The workbook cannot be read'),
        (b'\xd0\xcf\x11\xe0xxxx', 'old or protected workbook'),
        (b'user_id;last_name\na;b\n', 'separated by ;'),
        (b'last_name\nb\n', 'The column User ID (user_id) is missing'),
        (b'user_id,surname\na,b\n', 'There is no column surname'),
        (b'user_id,User ID\na,b\n', 'The column user_id is there twice'),
        (b'user_id,last_name\na,' + b'x' * 70_000 + b'\n', 'Line 2 is longer than'),
    ],
)
def test_files_that_cannot_be_imported_are_answered_clearly(
    data: bytes, text: str, db: None, admin_client: Any
) -> None:
    answer = send(admin_client(), USERS, data)
    assert answer.status_code == 200
    assert text in answer.content.decode()
    assert not list(jobs.folder(imports.FOLDER).iterdir())


def test_rows_are_judged_one_by_one(make_user: Callable[..., Any], admin_client: Any) -> None:
    make_user('known', last_name='Old', department='Sales')
    client = admin_client()
    data = (
        b'User ID,last_name,department,active\n'
        b'known,New,,true\n'
        b'fresh,Fresh,Research,false\n'
        b',Nobody,,true\n'
        b'fresh,Again,,true\n'
        b'short,Row\n'
        b'wrong,,,perhaps\n'
    )
    asked = send(client, USERS, data)
    verdicts = {line: (word, verdict.problems) for line, verdict, *_, word in asked.context['rows']}
    assert str(verdicts[2][0]) == 'Changed'
    assert str(verdicts[3][0]) == 'Added'
    assert verdicts[4][1][0][0] == 'user_id'
    assert 'An earlier row' in verdicts[5][1][0][1]
    assert 'The row has 2 columns' in verdicts[6][1][0][1]
    assert 'active' in dict(verdicts[7][1])
    done = confirm(client, USERS, asked)
    assert done.status_code == 200, 'some were refused: each is told'
    known = USERS.model._default_manager.get(user_id='known')
    assert (known.last_name, known.department) == ('New', 'Sales'), 'an empty cell leaves the value'
    assert USERS.model._default_manager.get(user_id='fresh').active is False
    assert not list(jobs.folder(imports.FOLDER).iterdir()), 'no copy of the file stays'
    cleared = send(client, USERS, b'user_id,department\nknown,\n', empty='clear', new='skip')
    confirm(client, USERS, cleared)
    known.refresh_from_db()
    assert known.department == ''
    kept = send(client, USERS, b'user_id,department\nknown,Support\n', existing='skip')
    assert kept.context['outcome'].counts == {'skipped': 1}
    both = send(client, USERS, b'user_id,department\nknown,Support\n', existing='skip', new='skip')
    assert 'would both be skipped' in both.content.decode()


def test_rows_of_several_lines_are_all_imported(db: None, admin_client: Any) -> None:
    """As many rows as are done at once, each over several lines of the file."""
    client = admin_client()
    cells = [[f'user{n}', 'Long', 'a\nb\nc'] for n in range(bulkwork.AT_ONCE)]
    asked = send(client, USERS, text_of([['user_id', 'last_name', 'department'], *cells]))
    assert len(asked.context['outcome'].told) == bulkwork.AT_ONCE
    assert confirm(client, USERS, asked).status_code == 302
    assert USERS.model._default_manager.count() == bulkwork.AT_ONCE


def test_passwords_come_in_but_never_out(make_user: Callable[..., Any], admin_client: Any) -> None:
    client = admin_client()
    page = registry.page('application-users')
    assert isinstance(page, Page)
    data = b'username,password,roles\nrobot,correct-horse-battery-9,"[""operator""]"\n'
    asked = send(client, page, data)
    assert asked.context['outcome'].counts == {'created': 1}, asked.context['rows']
    assert 'correct-horse' not in asked.content.decode()
    assert confirm(client, page, asked).status_code == 302
    assert page.model._default_manager.get(username='robot').check_password('correct-horse-battery-9')
    assert 'correct-horse' not in str(AuditEntry.objects.latest('pk').after)
    assert 'password' not in [column.name for column in exports.columns(page)]


def test_a_large_file_is_imported_by_a_job_that_goes_on(
    admin_client: Any, db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulkwork, 'AT_ONCE', 5)
    monkeypatch.setattr(bulkwork, 'CHUNK', 10)
    provisioning()
    client = admin_client()
    lines = [f'user{n},Name {n}' for n in range(30)] + ['user3,Again']
    asked = send(client, USERS, ('user_id,last_name\n' + '\n'.join(lines) + '\n').encode())
    assert asked.context['left'] == 26
    signed = asked.context['signed']
    checked = client.post(f'{URL}import/', {'upload': signed, 'check': '1'})
    assert checked.status_code == 200
    jobs.work('bat')
    trial = checked.context['checking']
    assert fresh(trial).counts['created'] == 30
    assert not USERS.model._default_manager.exists()
    assert [(row.line, row.verdict) for row in trial.rows.all()] == [(32, 'refused')]
    answer = client.post(f'{URL}import/', {'upload': signed, 'confirmed': '1'})
    assert answer.status_code == 302
    make = jobs.RunningJob.checkpoint

    def dies(self: Any, position: int, **values: Any) -> None:
        make(self, position, **values)
        raise KeyboardInterrupt

    monkeypatch.setattr(jobs.RunningJob, 'checkpoint', dies)
    with pytest.raises(KeyboardInterrupt):
        jobs.work('bat')
    monkeypatch.setattr(jobs.RunningJob, 'checkpoint', make)
    assert not USERS.model._default_manager.exists(), 'the chunk was not committed'
    Job.objects.update(heartbeat_at=None)
    jobs.work('bat')
    job = Job.objects.latest('pk')
    assert (job.state, job.counts['created'], job.counts['refused']) == (JobState.COMPLETED, 30, 1)
    assert [(row.line, row.verdict) for row in job.rows.all()] == [(32, 'refused')]
    assert not list(jobs.folder(imports.FOLDER).iterdir())
    assert 'Created: 30' in jobs.log_path(job).read_text()


def test_ticked_rows_are_exported(people: list[Any], admin_client: Any, api: Callable[..., Any]) -> None:
    """By anybody who may look: rows of several pages, or all found but a few; REST takes their keys."""
    client = admin_client('read_only')
    state = '?rows=20&sort=-user_id&clear=1&cols=user_id'
    first = client.get(f'{URL}{state}')
    shown = [line.pk for line in first.context['lines']]
    answer = client.post(first.context['select_url'], {'shown': shown, 'pk': shown[:2], 'next': first.context['next']})
    second = client.get(answer['Location'])
    shown2 = [line.pk for line in second.context['lines']]
    asked = client.post(f'{URL}export/{state}', {'shown': shown2, 'pk': shown2[:1]})
    assert asked.context['count'] == 3
    file = {'selection': asked.context['selection'], 'format': 'csv', 'column': ['user_id', 'department']}
    rows = rows_of(client.post(asked.context['action'], file))
    assert rows[0] == ['user_id', 'department']
    assert [row[0] for row in rows[1:]] == ['person44', 'person43', 'person24'], 'in the order of the list'
    client.post(first.context['select_url'], {'mark': 'all'})
    asked = client.post(f'{URL}export/{state}', {'shown': shown, 'pk': shown[5:]})
    file['selection'] = asked.context['selection']
    assert len(rows_of(client.post(asked.context['action'], file))) == 1 + 45 - 5
    book = client.post(asked.context['action'], {**file, 'format': 'xlsx'})
    with zipfile.ZipFile(io.BytesIO(b''.join(book.streaming_content))) as archive:
        assert archive.read('xl/worksheets/sheet1.xml').count(b'<row ') == 41
    client.post(first.context['select_url'], {'mark': 'none'})
    assert client.post(f'{URL}export/{state}', {'shown': shown}).status_code == 302, 'nothing is selected'
    rest = api('read_only')
    ids = ','.join(str(user.pk) for user in people[:3])
    url = '/api/v1/end-users/export/'
    found = rows_of(rest.get(url, {'ids': ids, 'column': ['user_id'], 'ordering': '-user_id'}))
    assert found == [['user_id'], ['person02'], ['person01'], ['person00']]
    assert len(rows_of(rest.get(url, {'department': 'Sales', 'format': 'csv'}))) == 23
    assert rest.get(url, {'department': 'Sales', 'format': 'jsonl'})['Content-Type'] == 'application/x-ndjson'
    wrong = ({'ids': '0'}, {'ids': 'x'}, {'format': 'pdf'}, {'limit': 5}, {'surname': 'x'}, {'cells': 'x'})
    assert [rest.get(url, one).status_code for one in wrong] == [400] * 6
    assert rest.get(url, {'column': 'credentials'}).status_code == 409


# ---- saved searches and shareable addresses


def test_saved_and_shared_searches(people: list[Any], admin_client: Any) -> None:
    client = admin_client('operator')
    query = '?sort=-last_name&rows=20&cols=user_id,last_name&height=compact&f=department&o=exactly&v=Sales&j=and'
    saved = client.post(f'{URL}searches/{query}', {'name': ' Sales  people ', 'shared_with': 'operator'})
    assert saved.status_code == 302
    (one,) = client.get(f'{URL}?clear=1').context['searches']
    assert (one.name, one.current) == ('Sales people', False)
    assert client.get(one.url).context['searches'][0].current
    foreign = client.post(f'{URL}searches/', {'name': 'x', 'shared_with': 'administrator'})
    assert foreign.status_code == 302
    assert SavedSearch.objects.count() == 1, 'only with a role of one’s own'
    colleague = admin_client('read_only')
    assert not colleague.get(f'{URL}?clear=1').context['searches']
    colleague.get(f'{URL}?sort=user_id&rows=50&clear=1')
    shown = colleague.get(client.get(one.url).context['link'].partition('testserver')[2])
    state = shown.context['state']
    assert (state.sort, state.rows, state.chosen, state.height) == (
        '-last_name',
        20,
        ['user_id', 'last_name'],
        'compact',
    )
    assert shown.context['total'] == 22, 'the address alone says everything'
    colleague.post(f'{URL}searches/', {'delete': str(one.pk)})
    assert SavedSearch.objects.count() == 1, 'nobody deletes those of others'
    client.post(f'{URL}searches/', {'delete': str(one.pk)})
    assert not SavedSearch.objects.exists()
