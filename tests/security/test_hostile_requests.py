"""Requests no browser sends, to every URL: wrong bodies, types, characters, keys, verbs. Each gets a clear refusal."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from impadmin.console import forms, registry
from impadmin.console.page import Page, SettingsPage
from tests.pages.payload import encode, lists, sample, settings_pages, some
from tests.pages.test_rest_round_trip import body_of
from tests.security.test_access import HTML, REST

SURROGATE = '\ud800'
KEYS = ('0', '-1', '9' * 40, '1.5', '1e3', 'None', 'true', '%20', "1'--", '%F0%9F%98%80', '%ED%A0%80', '..', '１２')
QUERIES = (
    'page=0', 'page=-1', 'page=' + '9' * 30, 'page=x', 'limit=0', 'limit=99999999999999999999', 'offset=-1', 'offset=x',
    'ordering=password', 'ordering=--pk', 'ordering=pk__in', 'sort=password', 'sort=', 'q=' + 'x' * 5000, 'q=%ff%fe',
    'q=%ED%A0%80', 'q=%25_%5C', 'id__in=1', 'pk__gt=0', 'password__startswith=a', 'credentials__contains=a', 'tab=x',
    'f0=x&o0=regex&v0=(', 'columns=password', 'columns=', 'size=100000', 'size=x', 'format=xml', 'a[]=1&a[]=2',
)  # fmt: skip
BODIES: tuple[tuple[str, bytes], ...] = (
    ('application/json', b''),
    ('application/json', b'[]'),
    ('application/json', b'[1]'),
    ('application/json', b'null'),
    ('application/json', b'"text"'),
    ('application/json', b'1e999'),
    ('application/json', b'NaN'),
    ('application/json', b'{'),
    ('application/json', b'{"a": 1, "a": 2}'),
    ('application/json', b'{"\\ud800": "\\ud800"}'),
    ('application/json', b'\xff\xfe{}'),
    ('application/json', '{"a": 1}'.encode('utf-16')),
    ('application/json', b'[' * 100_000),
    ('application/json', b'{"a":' * 50_000),
    ('application/json', b'{"id": ' + b'9' * 5000 + b'}'),
    ('application/xml', b'<a/>'),
    ('text/plain', b'a=1'),
    ('multipart/form-data', b'x'),
    ('multipart/form-data; boundary=', b'x'),
    ('multipart/form-data; boundary=x', b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n'),
    ('multipart/form-data; boundary=' + 'x' * 300, b'x'),
    ('application/x-www-form-urlencoded', b'a=%00&b=%ff'),
    ('application/x-www-form-urlencoded', b'&'.join(b'a%d=1' % n for n in range(2000))),
    ('application/x-www-form-urlencoded; charset=klingon', b'a=1'),
    ('application/json; charset=utf-7', b'{}'),
    ('', b'{}'),
)
VERBS = ('HEAD', 'TRACE', 'PROPFIND', 'PATCH', 'PUT', 'DELETE', 'BREW', 'get')


def failures(answers: Iterator[tuple[Any, Any]]) -> list[Any]:
    """The requests that were answered with an internal error."""
    return [(what, answer.status_code) for what, answer in answers if answer.status_code >= 500]


@pytest.fixture(autouse=True)
def _errors_are_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test client shows an internal error as its 500, like the server."""
    from django.test import Client
    from rest_framework.test import APIClient

    for kind in (Client, APIClient):
        original = kind.__init__

        def quiet(self: Any, *args: Any, _original: Any = original, **kwargs: Any) -> None:
            _original(self, *args, **kwargs)
            self.raise_request_exception = False

        monkeypatch.setattr(kind, '__init__', quiet)


def clients(api: Callable[..., Any], admin_client: Callable[..., Any]) -> list[tuple[Any, list[str]]]:
    """(client, URLs) for the pages and for REST."""
    html = [url for url in HTML if 'logout' not in url]
    return [(admin_client('administrator'), html), (api('administrator'), list(REST))]


@pytest.mark.long
def test_any_query(api: Callable[..., Any], admin_client: Callable[..., Any]) -> None:
    """Query strings nobody made from a form."""
    whole = {part + page.name + '/' for page in lists()[:4] for part in ('/api/v1/', '/admin/presence/')}
    for client, urls in clients(api, admin_client):
        assert not failures(
            ((url, query), client.get(f'{url}?{query}'))
            for number, url in enumerate(urls)
            for query in (QUERIES if url in whole else some(QUERIES, number, 1))
        )


@pytest.mark.long
def test_any_body(api: Callable[..., Any], admin_client: Callable[..., Any]) -> None:
    """Bodies of wrong types and broken ones."""
    for client, urls in clients(api, admin_client):
        assert not failures(
            ((method, url, kind, body[:40]), client.generic(method, url, body, content_type=kind))
            for number, url in enumerate(urls)
            for kind, body in some(BODIES, number, 1)
            for method in (('POST', 'PATCH') if url in REST else ('POST',))
        )


@pytest.mark.long
def test_any_verb(api: Callable[..., Any], admin_client: Callable[..., Any]) -> None:
    """Also that the method cannot be overridden by a header or a field."""
    for client, urls in clients(api, admin_client):
        assert not failures(
            ((verb, url), client.generic(verb, url))
            for number, url in enumerate(urls)
            for verb in ('OPTIONS', *some(VERBS, number, number % 2))
        )


@pytest.mark.long
def test_any_key(api: Callable[..., Any], admin_client: Callable[..., Any]) -> None:
    """Primary keys that are none: not found, whatever is asked. Each page gets five of them."""
    html, rest = admin_client('administrator'), api('administrator')
    wrong = []
    for number, page in enumerate(lists()):
        for key in some(KEYS, 5 * number, 5):
            for url in (registry.page_url(page) + f'{key}/', registry.page_url(page) + f'{key}/history/'):
                code = html.get(url).status_code
                wrong += [(url, code)] if code not in (404, 302, 403, 405) else []
            for method in ('get', 'patch', 'delete'):
                code = getattr(rest, method)(f'/api/v1/{page.name}/{key}/', {}, format='json').status_code
                if code not in (404, 405):
                    wrong.append((method, page.name, key, code))
            for name in ('ids', 'selected'):
                code = rest.post(f'/api/v1/{page.name}/delete-selected/', {name: [key, None, [], {}]}, format='json')
                if code.status_code >= 500:
                    wrong.append(('delete-selected', page.name, key, code.status_code))
                code = html.post(registry.page_url(page) + 'delete-selected/', {'pk': [key], name: [key]})
                if code.status_code >= 500:
                    wrong.append(('delete-selected html', page.name, key, code.status_code))
    assert not wrong


VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 10**30, 1.5, float('1e300'), '', ' ', 'x' * 100_000, 'a\0b', SURROGATE, '\u202e', '\x1b[31m',
    '\r\n', '<script>alert(1)</script>', "'; DROP TABLE end_user; --", [], [1], {}, {'a': 1}, ['x' * 5000], '😀' * 300,
)  # fmt: skip


@pytest.mark.long
def test_any_value_in_any_field_of_rest(api: Callable[..., Any]) -> None:
    """Every field of every page with every kind of value: taken or named, never an internal error."""
    client = api('administrator')
    wrong = []
    for page in [*lists(), *settings_pages()]:
        assert isinstance(page, Page | SettingsPage)
        adding = isinstance(page, Page)
        if adding and 'add' not in page.verbs:
            continue
        url = f'/api/v1/{page.name}/'
        base = body_of(page, 1) if isinstance(page, Page) else {}
        if any(hasattr(value, 'read') for value in base.values()):
            base = {name: value for name, value in base.items() if not hasattr(value, 'read')}
        names = set(base) | {str(name) for name in forms.editable_names(page)} | {'id', 'pk', 'no_such'}
        if isinstance(page, SettingsPage):
            names |= set(client.get(url).json())
        for number, name in enumerate(sorted(names)):
            for value in some(VALUES, number * 8, 8):
                body = json.dumps({**base, name: value})
                send = client.post if adding else client.patch
                answer = send(url + '?dry_run=true', body, content_type='application/json')
                if answer.status_code >= 500:
                    wrong.append((page.name, name, str(value)[:30].encode('utf-8', 'replace'), answer.status_code))
    assert not wrong


def test_any_value_in_any_field_of_a_form(admin_client: Callable[..., Any]) -> None:
    """The same through the forms, preview included."""
    client = admin_client('administrator')
    wrong = []
    for page in lists():
        if 'add' not in page.verbs or page.sample is None:
            continue
        base = encode(page, sample(page, 1))
        for name in base:
            for value in ('x' * 100_000, 'a\0b', ['9' * 40, '\u202e']):
                answer = client.post(registry.page_url(page, 'add'), {**base, name: value, '_preview': '1'})
                if answer.status_code >= 500:
                    wrong.append((page.name, name, str(value)[:30], answer.status_code))
    assert not wrong
