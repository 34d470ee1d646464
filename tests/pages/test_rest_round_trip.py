"""Every page's objects over REST: add, read, list, filter, change, history, refuse, delete. From the registry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import models

from impadmin.console import registry
from impadmin.console.audit import SECRET
from impadmin.console.forms import editable_names, model_field, natural_field
from impadmin.console.models import AuditEntry
from impadmin.console.page import Page
from tests.pages import payload

PAGES = {page.name: page for page in registry.pages() if isinstance(page, Page)}
ADDING = [name for name, page in PAGES.items() if 'add' in page.verbs]


def body_of(page: Page, n: int) -> dict[str, Any]:
    """A sample as a client would send it: references by name."""
    assert page.sample is not None
    body = {}
    for name, value in page.sample(n).items():
        found = model_field(page.model, name)
        if isinstance(found, models.ForeignKey) and isinstance(value, int):
            value = found.remote_field.model._default_manager.get(pk=value)
        elif isinstance(found, models.ManyToManyField):
            chosen = found.remote_field.model._default_manager.filter(pk__in=value)
            value = [getattr(one, natural_field(type(one))) for one in chosen]
        body[name] = getattr(value, natural_field(type(value))) if isinstance(value, models.Model) else value
    return body


def sent(client: Any, method: str, url: str, body: dict[str, Any]) -> Any:
    """Send a body as JSON, or as a form when it has a file."""
    kind = 'multipart' if any(hasattr(value, 'read') for value in body.values()) else 'json'
    if kind == 'multipart':
        body = {name: value for name, value in body.items() if value is not None}
    return getattr(client, method)(url, body, format=kind)


def written(page: Page, body: dict[str, Any]) -> dict[str, Any]:
    """The part of a body that comes back when read."""
    return {name: value for name, value in body.items() if name in editable_names(page)}


@pytest.mark.parametrize('name', ADDING)
def test_round_trip(name: str, api: Callable[..., Any]) -> None:
    """What was sent is what is read, listed, filtered; a PUT of it changes nothing; each write has its audit entry."""
    page, client = PAGES[name], api('administrator')
    body = body_of(page, 1)
    preview = sent(client, 'post', f'/api/v1/{name}/?dry_run=true', body_of(page, 1))
    assert preview.status_code == 200, preview.content
    assert preview.json()['dry_run'] is True
    before = page.model._default_manager.count()
    answer = sent(client, 'post', f'/api/v1/{name}/', body)
    assert answer.status_code == 201, answer.content
    assert page.model._default_manager.count() == before + 1
    made = answer.json()
    assert {name: made[name] for name in written(page, body)} == written(page, body)
    url = f'/api/v1/{name}/{made["id"]}/'
    assert answer['Location'].endswith(url)
    read = client.get(url)
    assert read.status_code == 200
    assert read.json().items() <= made.items()
    secret = set(page.extra) & set(read.json())
    assert not secret, 'extra fields are never shown'

    listed = client.get(f'/api/v1/{name}/', {'limit': 1000})
    assert listed.status_code == 200
    assert made['id'] in [row['id'] for row in listed.json()['results']]
    for field in page.find:
        found = model_field(page.model, field)
        if isinstance(found, models.CharField) and not found.choices and made.get(field):
            hits = client.get(f'/api/v1/{name}/', {field: made[field]}).json()
            assert made['id'] in [row['id'] for row in hits['results']], field
            none = client.get(f'/api/v1/{name}/', {f'{field}__startswith': 'no such thing'}).json()
            assert none['count'] == 0

    if 'edit' in page.verbs:
        again = client.put(url, read.json(), format='json')
        assert again.status_code == 200, again.content
        assert written(page, again.json()) == written(page, read.json())
        stale = client.put(url, read.json(), format='json', headers={'If-Match': '"old"'})
        assert stale.status_code == 412
        assert AuditEntry.objects.filter(object_type=page.model._meta.label, object_id=str(made['id'])).count() == 1

    entries = client.get(f'{url}history/').json()
    assert entries['results'][-1]['action'] == 'create'
    assert entries['results'][-1]['channel'] == 'rest'
    for secret_name in SECRET & set(body):
        assert str(body[secret_name]) not in str(entries)

    if 'delete' in page.verbs:
        gone = client.delete(url)
        assert gone.status_code == 204, gone.content
        assert client.get(url).status_code == 404
        assert AuditEntry.objects.filter(
            object_type=page.model._meta.label, object_id=str(made['id']), action='delete'
        ).exists()


@pytest.mark.parametrize('name', ADDING)
def test_bad_values(name: str, api: Callable[..., Any]) -> None:
    """Every declared bad value, an unknown field, a read-only field and wrong types: 400 that names the field."""
    page, client = PAGES[name], api('administrator')
    count = page.model._default_manager.count()
    files = any(hasattr(value, 'read') for value in body_of(page, 2).values())
    for field, values in payload.bad(page).items():
        for value in values:
            answer = sent(client, 'post', f'/api/v1/{name}/', body_of(page, 2) | {field: value})
            assert answer.status_code == 400, (field, value, answer.content)
            assert answer.json()['errors'], (field, value)
    for field, value in (('no_such_field', 1), ('id', 4)):
        answer = sent(client, 'post', f'/api/v1/{name}/', body_of(page, 2) | {field: value})
        assert answer.status_code == 400
        assert field in answer.json()['errors']
    for field in editable_names(page):
        found = model_field(page.model, field)
        text = isinstance(found, models.CharField | models.TextField)
        many = isinstance(found, models.ManyToManyField)
        wrong: list[Any] = ['x' * 5000, 'a\x00b']
        wrong += [] if text or files else [10**30]
        wrong += [] if files else [{'a': 1}, ['x'] if many else [1]]
        for value in wrong:
            answer = sent(client, 'post', f'/api/v1/{name}/', body_of(page, 2) | {field: value})
            assert answer.status_code == 400, (field, value, answer.content)
    assert page.model._default_manager.count() == count


@pytest.mark.parametrize('name', [n for n in ADDING if 'delete' in PAGES[n].verbs])
def test_bulk_delete(name: str, api: Callable[..., Any]) -> None:
    """All of a selection or none; a wrong key is named."""
    page, client = PAGES[name], api('administrator')
    ids = [sent(client, 'post', f'/api/v1/{name}/', body_of(page, n)).json()['id'] for n in (3, 4)]
    url = f'/api/v1/{name}/delete-selected/'
    missing = client.post(url, {'ids': [*ids, 999999]}, format='json')
    assert missing.status_code == 400
    assert '999999' in str(missing.json()['errors']['ids'])
    assert client.post(f'{url}?dry_run=1', {'ids': ids}, format='json').json()['dry_run'] is True
    answer = client.post(url, {'ids': ids}, format='json')
    assert answer.status_code == 200, answer.content
    assert answer.json() == {'deleted': 2}


@pytest.mark.parametrize('name', list(PAGES))
def test_filters_and_paging(name: str, api: Callable[..., Any]) -> None:
    """Every filter with some of the hostile values, paging and ordering beyond their limits: an answer or 400, never an
    error."""
    client, url = api('administrator'), f'/api/v1/{name}/'
    hostile = [
        "' OR 1=1 --",
        '%',
        '_',
        '\\',
        '𝒳 名',
        'x' * 401,
        '',
        '1e999',
        '-1',
        'NaN',
        '\u202e',
        '"; DROP TABLE node',
    ]
    suffixes = ('', '__contains', '__startswith', '__endswith', '__exact', '__isnull', '__gte', '__lt', '__raw')
    for number, field in enumerate(PAGES[name].find):
        for turn, suffix in enumerate(suffixes, number + len(name)):
            for value in payload.some(hostile, 4 * turn, 4):
                assert client.get(url, {field + suffix: value}).status_code in (200, 400)
    for query in (
        'limit=0', 'limit=1001', 'limit=x', 'limit=-1', 'offset=-1', f'offset={10**30}', 'limit=%20',
        'ordering=nothing', 'ordering=pk;drop', 'nothing=1', 'id__in=1', 'password=x', 'q=' + 'x' * 401,
        'tab=nothing', 'limit=1%00',
    ):  # fmt: skip
        answer = client.get(f'{url}?{query}')
        assert answer.status_code == 400, query
        assert 'errors' in answer.json() or 'detail' in answer.json()
    for query in ('limit=1000', 'offset=1000000000', "q=' OR 1=1", 'q=%F0%9F'):
        assert client.get(f'{url}?{query}').status_code in (200, 400)
    for pk in ('0', '-1', 'x', '9' * 30, '1.5', "1'", '%F0%9F', '..'):
        assert client.get(f'{url}{pk}/').status_code == 404


def test_ordering_and_pages(api: Callable[..., Any], make_user: Callable[..., Any]) -> None:
    """Pages never overlap and follow the order asked for."""
    names = sorted(f'user{n}' for n in range(7))
    for name in names:
        make_user(name)
    client = api('read_only')
    seen = []
    for offset in (0, 3, 6):
        rows = client.get('/api/v1/end-users/', {'ordering': '-user_id', 'limit': 3, 'offset': offset}).json()
        seen += [row['user_id'] for row in rows['results']]
    assert seen == names[::-1]
    assert rows['count'] == 7
