"""Headers of every answer; errors that say what is wrong and never show a traceback."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings

from impadmin.console import registry

TRACE = re.compile(rb'Traceback|File "|psycopg|django\.')


def test_headers_of_pages_and_rest(admin_client: Callable[..., Any], api: Callable[..., Any]) -> None:
    """No inline script or style, no other host, nothing kept by caches."""
    page = registry.page('domains')
    for answer in (
        admin_client('administrator').get(registry.page_url(page)),
        admin_client('').get('/login/'),
        admin_client('').get('/no/such/page/'),
        api('read_only').get('/api/v1/domains/'),
        api('').get('/api/v1/domains/'),
    ):
        policy = answer['Content-Security-Policy']
        assert "default-src 'self'" in policy
        assert 'unsafe' not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer['X-Frame-Options'] == 'DENY'
        assert answer['X-Content-Type-Options'] == 'nosniff'
        assert answer['Cross-Origin-Opener-Policy'] == 'same-origin'
        assert answer['Referrer-Policy'] == 'same-origin'
        assert 'camera=()' in answer['Permissions-Policy']
        assert 'no-store' in answer['Cache-Control']
        assert re.fullmatch(r'[0-9a-f]{16}', answer['X-Request-Id'])


def test_error_pages(admin_client: Callable[..., Any]) -> None:
    """400, 403, 404 as pages with a request id and a way out."""
    client = admin_client('read_only')
    for url, status in (
        ('/no/such/page/', 404),
        ('/admin/presence/domains/%00/', 400),
        (f'/search/?q={"x" * 9000}', 400),
        (registry.page_url(registry.page('application-users')), 403),
    ):
        answer = client.get(url)
        assert answer.status_code == status, url
        assert answer['X-Request-Id'].encode() in answer.content
        assert b'<h1>' in answer.content
        assert not TRACE.search(answer.content)


def test_rest_errors(api: Callable[..., Any]) -> None:
    """Each has a text and the request id."""
    client = api('administrator')
    bodies = {
        b'{': 400,
        b'[]': 400,
        b'"x"': 400,
        b'{"name": "a", "name": "b"}': 400,
        b'{"name": NaN}': 400,
        b'{"name": "\\ud800"}': 400,
        b'{"name": "a\\u0000b"}': 400,
        b'\xff\xfe{': 400,
        b'{"name": ' + b'[' * 100_000 + b']' * 100_000 + b'}': 400,
        b'{"name": ' + b'9' * 10_000 + b'}': 400,
        b'{"name": "' + b'x' * (settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 10) + b'"}': 400,
    }
    for body, status in bodies.items():
        answer = client.generic('POST', '/api/v1/domains/', body, content_type='application/json')
        assert answer.status_code == status, body[:40]
        data = answer.json()
        assert data.get('detail') or data.get('errors')
        assert data['request_id'] == answer['X-Request-Id']
        assert not TRACE.search(answer.content)
    assert client.generic('POST', '/api/v1/domains/', b'a=b', content_type='text/plain').status_code == 415
    assert client.get('/api/v1/domains/999999/').json()['detail']
    assert client.get('/api/v1/no-such-page/').status_code == 404
    assert client.get('/api/v1/no-such-page/').json()['detail']
    assert client.delete('/api/v1/domains/').status_code == 405


def test_an_unforeseen_error_is_a_plain_500(
    admin_client: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """No traceback for the user; the log has it under the request id."""
    from impadmin.console import navigation

    def broken(*args: Any) -> Any:
        raise RuntimeError('secret detail')

    client = admin_client('administrator')
    client.raise_request_exception = False
    monkeypatch.setattr(navigation, 'menus', broken)
    answer = client.get(registry.page_url(registry.page('domains')))
    assert answer.status_code == 500
    assert b'secret detail' not in answer.content
    assert answer['X-Request-Id'].encode() in answer.content
    assert 'secret detail' in caplog.text
    assert answer['X-Request-Id'] in caplog.text


def test_health(admin_client: Callable[..., Any]) -> None:
    """Open to the load balancer, and honest."""
    answer = admin_client('').get('/healthz')
    assert answer.status_code == 200
    assert answer.json()['database']['state'] == 'ok'
    assert answer.json()['redis']['state'] == 'ok'


def test_schema_and_docs(admin_client: Callable[..., Any], api: Callable[..., Any]) -> None:
    """Every REST route is in the OpenAPI document and on the page made from it."""
    from tests.security.test_access import REST, VALUES

    answer = api('read_only').get('/api/v1/schema/?format=json')
    assert answer.status_code == 200
    document = json.loads(answer.content)
    paths = {re.sub(r'\{(\w+)\}', lambda match: VALUES.get(match[1], '999999'), url) for url in document['paths']}
    assert set(REST) - {'/api/v1/schema/'} == paths
    ids = [op['operationId'] for item in document['paths'].values() for op in item.values() if isinstance(op, dict)]
    assert len(ids) == len(set(ids))
    assert api('').get('/api/v1/schema/').status_code == 401
    page = admin_client('read_only').get('/api/docs/')
    assert page.status_code == 200
    for operation in ids:
        assert f'id="{operation}"'.encode() in page.content
    assert b'<script>' not in page.content
    assert b'style=' not in page.content
