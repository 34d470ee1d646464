"""Many objects in one request: verdicts by row, all or nothing, everything a filter finds, large ones as a job."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from impadmin.console import registry
from impadmin.console.api import takes_files
from impadmin.console.jobs import ENDED
from impadmin.console.models import AuditEntry, ConfigGeneration, Job, JobInput
from impadmin.console.page import Page
from tests.areas.bulk import provisioning
from tests.fixtures.processes import wait_until
from tests.pages.test_rest_round_trip import ADDING, PAGES, body_of

DOMAINS = '/api/v1/domains/'
BULK = f'{DOMAINS}bulk/'
FILES = {name for name in ADDING if takes_files(PAGES[name])}
"""Pages whose objects are files: JSON has none."""


def names(client: Any) -> set[str]:
    """The domains there are."""
    return {row['name'] for row in client.get(DOMAINS, {'limit': 1000}).json()['results']}


@pytest.mark.parametrize('name', [name for name in ADDING if name not in FILES])
def test_every_page_takes_rows(name: str, api: Callable[..., Any]) -> None:
    """Two added, one of them changed back to itself, both deleted: as far as the page can; wrong rows are named."""
    page, client = PAGES[name], api('administrator')
    bodies = [body_of(page, n) for n in (1, 2)]
    rows = [{'do': 'create', 'values': body} for body in bodies]
    url = f'/api/v1/{name}/bulk/'
    dry = client.post(f'{url}?dry_run=true', {'rows': rows})
    assert dry.status_code == 200, dry.content
    assert dry.json()['counts'] == {'created': 2}, dry.json()
    count = page.model._default_manager.count()
    done = client.post(url, {'rows': rows, 'atomic': True})
    assert done.json()['counts'] == {'created': 2}, done.json()
    assert page.model._default_manager.count() == count + 2
    made = [row['id'] for row in done.json()['rows']]
    last = [{'do': 'update', 'id': made[0], 'values': {}}] if 'edit' in page.verbs else []
    last += [{'do': 'delete', 'id': key} for key in made] if 'delete' in page.verbs else []
    answer = client.post(url, {'rows': last})
    assert not [row for row in answer.json()['rows'] if row['reasons']], answer.json()


def test_each_row_has_its_verdict(api: Any) -> None:
    """Good rows are done although others are refused; one generation, one batch."""
    client = api('administrator')
    kept = client.post(DOMAINS, {'name': 'kept.example'}).json()['id']
    tag = client.get(f'{DOMAINS}{kept}/')['ETag']
    generations = ConfigGeneration.objects.count()
    rows = [
        {'do': 'create', 'values': {'name': 'one.example'}},
        {'do': 'create', 'values': {'name': 'a_b'}},
        {'do': 'create', 'values': {'nome': 'x.example'}},
        {'do': 'update', 'id': kept, 'etag': '"old"', 'values': {'name': 'lost.example'}},
        {'do': 'update', 'id': kept, 'etag': tag, 'values': {'name': 'new.example'}},
        {'do': 'delete', 'id': 999_999},
    ]
    answer = client.post(BULK, {'rows': rows})
    assert answer.status_code == 200, answer.content
    found = answer.json()
    assert [row['result'] for row in found['rows']] == [
        'created',
        'refused',
        'refused',
        'refused',
        'changed',
        'refused',
    ]
    assert found['rows'][1]['reasons'][0]['field'] == 'name'
    assert {reason['field'] for reason in found['rows'][2]['reasons']} == {'nome', 'name'}
    assert 'Somebody else' in found['rows'][3]['reasons'][0]['text']
    assert {'one.example', 'new.example'} <= names(client)
    assert ConfigGeneration.objects.count() == generations + 1
    entries = client.get(f'{DOMAINS}{found["rows"][0]["id"]}/history/').json()['results']
    assert [entry['action'] for entry in entries] == ['create']


def test_all_or_nothing(api: Any) -> None:
    client = api('administrator')
    before = names(client)
    audits, generations = AuditEntry.objects.count(), ConfigGeneration.objects.count()
    rows = [{'do': 'create', 'values': {'name': name}} for name in ('one.example', 'a_b', 'one.example')]
    answer = client.post(BULK, {'rows': rows, 'atomic': True})
    assert answer.status_code == 400
    assert set(answer.json()['errors']) == {'rows[1].name', 'rows[2].name'}
    assert names(client) == before
    assert (AuditEntry.objects.count(), ConfigGeneration.objects.count()) == (audits, generations)


def test_everything_that_the_filters_find(api: Any, make_user: Any) -> None:
    client, url = api('administrator'), '/api/v1/end-users/bulk/'
    for n in range(3):
        make_user(f'sales{n}', department='Sales')
    make_user('other', department='Support')
    body = {'all': True, 'do': 'update', 'values': {'department': 'Field'}}
    tried = client.post(f'{url}?department=Sales&dry_run=true', body)
    assert tried.json()['counts'] == {'changed': 3}, tried.json()
    assert tried.json()['users'] == 3
    change = [{'field': 'Department', 'before': 'Sales', 'after': 'Field'}]
    assert [row['changes'] for row in tried.json()['rows']] == [change] * 3
    done = client.post(f'{url}?department=Sales', body)
    assert done.json()['counts'] == {'changed': 3}, done.json()
    assert client.get('/api/v1/end-users/?department=Field').json()['count'] == 3
    assert client.get('/api/v1/end-users/?department=Support').json()['count'] == 1
    assert client.post(f'{url}?departmant=Field', {'all': True, 'do': 'delete'}).status_code == 400
    assert client.post(f'{url}?department=Field', {'all': True, 'do': 'delete'}).json()['counts'] == {'deleted': 3}
    assert client.get('/api/v1/end-users/').json()['count'] == 1


@pytest.mark.parametrize(
    'body',
    [
        {}, {'rows': []}, {'rows': {}}, {'rows': [1]}, {'rows': [{'do': 'burn'}]}, {'rows': [{'do': ['create']}]},
        {'rows': [{'do': 'create', 'values': [], 'x': 1}]}, {'rows': [{'do': 'delete', 'id': True}]}, {'all': True},
        {'rows': [{'do': 'delete'}]}, {'all': 1, 'do': 'delete'}, {'rows': [{'do': 'delete', 'id': 1}], 'atomic': 'no'},
        {'all': True, 'do': 'create'}, {'rows': [{'do': 'delete', 'id': 1}], 'all': True},
        {'rows': [{'do': 'delete', 'id': 1}] * 10_001},
    ],
)  # fmt: skip
def test_what_is_no_bulk_request(body: dict[str, Any], api: Any) -> None:
    answer = api('administrator').post(BULK, body)
    assert answer.status_code == 400
    assert answer.json()['errors']


def test_rights_are_asked_row_by_row(api: Any) -> None:
    """Who may not write is refused at once; nobody deletes by a permission to add."""
    assert api('read_only').post(BULK, {'rows': [{'do': 'delete', 'id': 1}]}).status_code == 403
    owner = api('administrator')
    body = {'name': 'adder', 'administrator': 'test-administrator', 'scopes': ['domains:view', 'domains:add']}
    token = owner.post('/api/v1/api-tokens/', body).json()['token']
    owner.credentials(HTTP_AUTHORIZATION=f'Bearer {token}')
    key = owner.post(DOMAINS, {'name': 'kept.example'}).json()['id']
    rows = [{'do': 'create', 'values': {'name': 'mine.example'}}, {'do': 'delete', 'id': key}]
    found = owner.post(BULK, {'rows': rows}).json()
    assert [row['result'] for row in found['rows']] == ['created', 'refused']


def test_a_large_request_is_a_job(rest: Any, worker: Any) -> None:
    """202 with the address of the job; its rows are kept encrypted; atomic ones change nothing when one is refused."""
    provisioning()
    call = rest('administrator')
    rows = [{'do': 'create', 'values': {'name': f'd{n}.example'}} for n in range(149)]
    rows.append({'do': 'create', 'values': {'name': 'a_b'}})

    def result(answer: Any) -> Any:
        assert answer.status == 202, answer.body
        path = (
            '/api/' + {name.lower(): value for name, value in answer.headers.items()}['location'].partition('/api/')[2]
        )
        jobs = Job.objects.filter(pk=path.rstrip('/').rpartition('/')[2], state__in=ENDED)
        wait_until(jobs.exists, 'the job has ended')
        return call('GET', path).json()

    assert result(call('POST', BULK, {'rows': rows, 'atomic': True}))['state'] == 'failed'
    assert 'd1.example' not in str(list(JobInput.objects.values('data')))
    assert call('GET', f'{DOMAINS}?name=d1.example').json()['count'] == 0
    assert result(call('POST', BULK, {'rows': rows}))['state'] == 'completed'
    assert call('GET', f'{DOMAINS}?name__startswith=d&limit=1000').json()['count'] == 149


def test_every_writing_page_has_the_route(api: Any) -> None:
    document = api('administrator').get('/api/v1/schema/?format=json').json()
    for page in registry.pages():
        if isinstance(page, Page) and {'add', 'edit', 'delete'} & set(page.verbs):
            assert 'post' in document['paths'][f'/api/v1/{page.name}/bulk/']
