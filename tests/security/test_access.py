"""Every URL and every REST route x every role: exactly what the table of rights allows, nothing undeclared."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from impadmin.console import registry
from impadmin.console.access import RIGHTS, Requirement, Right, level, may_read, may_write, requirement_of
from impadmin.console.page import BasePage

ROLES = ('', *RIGHTS)
METHODS = ('GET', 'POST', 'PUT', 'PATCH', 'DELETE')
PUBLIC = {'/login/', '/preferences/', '/favicon.ico', '/healthz'}
"""The only addresses that answer without signing in."""
CONVERTER = re.compile(r'<(?:\w+:)?(\w+)>')
VALUES = {
    'pk': '999999',
    'command': 'no-such-command',
    'name': 'no-such-field',
    'server': 'imp1',
    'service': 'xcp_router',
}


def patterns(found: Any = None, prefix: str = '') -> Iterator[tuple[str, Any]]:
    """(path with sample values, view) of every URL there is."""
    for entry in found if found is not None else get_resolver().url_patterns:
        route = prefix + str(entry.pattern)
        if isinstance(entry, URLResolver):
            yield from patterns(entry.url_patterns, route)
        elif isinstance(entry, URLPattern):
            yield '/' + CONVERTER.sub(lambda match: VALUES[match[1]], route), entry.callback


EVERY = dict(patterns())
HTML = {url: view for url, view in EVERY.items() if not url.startswith('/api/v1/')}
REST = {url: view for url, view in EVERY.items() if url.startswith('/api/v1/')}


def page_of(url: str) -> BasePage:
    """The page of a REST route."""
    return registry.page(url.split('/')[3])


def test_the_table_of_rights() -> None:
    """The rights of the four roles, written out by hand: a change of the table must be meant."""
    short = {role: ''.join(level(role, right)[0] for right in Right) for role in RIGHTS}
    #                       configuration, users, services, bulk, monitor, administrators
    assert short == {'administrator': 'wwwwww', 'operator': 'rwwwwn', 'bulk_operator': 'rrrwrn', 'read_only': 'rrrrrn'}
    assert not any(may_read('no-such-role', right) for right in Right)
    assert not may_write('administrator+read_only', Right.USERS)
    assert may_write('operator+bulk_operator', Right.BULK)
    assert not may_write('operator+bulk_operator', Right.USERS)


def test_every_url_is_declared() -> None:
    """No view without a declaration, and no public one beyond those that must be."""
    assert len(EVERY) > 100
    undeclared = [url for url, view in EVERY.items() if requirement_of(view) is None]
    assert not undeclared
    assert {url for url, view in EVERY.items() if requirement_of(view).who == 'public'} == PUBLIC
    assert {url for url, view in EVERY.items() if requirement_of(view).who == 'rest'} == set(REST)


def expected_html(role: str, requirement: Requirement, method: str) -> set[int] | None:
    """Statuses that are right; None: whatever the view answers to somebody who may, but no refusal."""
    if requirement.who == 'public':
        return None
    if not role:
        return {302}
    return None if requirement.allows(role, method) else {403}


@pytest.mark.parametrize('role', ROLES)
def test_every_page_for_every_role(role: str, admin_client: Callable[..., Any]) -> None:
    """GET and the writing methods on every URL of the console."""
    client, wrong = admin_client(role), []
    for url, view in HTML.items():
        requirement = requirement_of(view)
        assert requirement is not None
        for method in ('GET', 'POST'):
            answer = client.generic(method, url)
            if 'logout' in url:
                client = admin_client(role)
            wanted = expected_html(role, requirement, method)
            login = answer.status_code == 302 and answer['Location'].startswith(settings.LOGIN_URL)
            if wanted is None:
                bad = answer.status_code in (401, 500) or (login and url not in PUBLIC and 'logout' not in url)
                if answer.status_code == 403 and requirement.right is not None:
                    bad = may_write(role, requirement.right)  # a view may refuse more, never whom it must let in
            else:
                bad = answer.status_code not in wanted or (wanted == {302} and not login)
            if bad:
                wrong.append((role, method, url, answer.status_code))
    assert not wrong


@pytest.mark.parametrize('role', ROLES)
def test_every_rest_route_for_every_role(role: str, api: Callable[..., Any]) -> None:
    """Every verb on every route, with a body that changes nothing when it is let through."""
    client, wrong = api(role), []
    for url in REST:
        for method in METHODS:
            answer = client.generic(method, url, b'{"no_such_field": 1}', content_type='application/json')
            code = answer.status_code
            if not role:
                right = code == 401
            elif url == '/api/v1/schema/':
                right = code in (200, 405)
            else:
                page = page_of(url)
                allowed = may_read(role, page.right) if method == 'GET' else may_write(role, page.right)
                right = (code not in (401, 403, 500)) if allowed else code == 403
            if not right:
                wrong.append((role, method, url, code))
    assert not wrong


def test_an_undeclared_view_is_refused(admin_client: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody forgets to declare a view: nobody gets in, not even the administrator."""
    view = EVERY['/search/']
    monkeypatch.delattr(view, 'access')
    assert admin_client('administrator').get('/search/').status_code == 404


def test_csrf_is_enforced_for_browser_sessions(admin_client: Callable[..., Any]) -> None:
    """A session without the CSRF token writes nothing, by page or by REST."""
    signed_in = admin_client('administrator')
    client = Client(enforce_csrf_checks=True)
    client.cookies = signed_in.cookies
    assert client.get('/api/v1/messaging-settings/').status_code in (200, 404)
    page = next(p for p in registry.pages() if p.name == 'domains')
    for url in (registry.page_url(page, 'add'), '/api/v1/domains/'):
        answer = client.post(url, {'name': 'a.example'}, content_type='application/json')
        assert answer.status_code == 403, url
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM im_domain WHERE key = 'a.example'")
        assert cursor.fetchone() == (0,)


def test_a_token_has_never_more_rights_than_its_user(api: Callable[..., Any]) -> None:
    """A user who loses rights takes them from his tokens; an inactive user's tokens end."""
    from impadmin.console.models import Administrator

    client = api('administrator')
    assert client.post('/api/v1/domains/', {'name': 'one.example'}).status_code == 201
    Administrator.objects.filter(username='test-administrator').update(role='read_only')
    assert client.get('/api/v1/domains/').status_code == 200
    assert client.post('/api/v1/domains/', {'name': 'two.example'}).status_code == 403
    assert client.get('/api/v1/application-users/').status_code == 403
    Administrator.objects.filter(username='test-administrator').update(is_active=False)
    assert client.get('/api/v1/domains/').status_code == 401


def test_tokens(api: Callable[..., Any]) -> None:
    """Shown once, stored as a hash, expires, says when it was used."""
    from datetime import timedelta

    from django.utils import timezone
    from rest_framework.test import APIClient

    from impadmin.console.models import ApiToken

    body = {'name': 'inventory', 'administrator': 'test-administrator', 'role': 'read_only'}
    made = api('administrator').post('/api/v1/api-tokens/', body).json()
    clear = made['token']
    assert len(clear) > 40
    row = ApiToken.objects.get(pk=made['id'])
    assert clear not in str(row.__dict__)
    assert 'token' not in api('administrator').get(f'/api/v1/api-tokens/{made["id"]}/').json()
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f'Bearer {clear}')
    assert client.get('/api/v1/domains/').status_code == 200
    assert client.post('/api/v1/domains/', {'name': 'x.example'}).status_code == 403
    row.refresh_from_db()
    assert row.last_used_at is not None
    ApiToken.objects.filter(pk=row.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    answer = client.get('/api/v1/domains/')
    assert answer.status_code == 401
    assert answer['WWW-Authenticate'].startswith('Bearer')
    for wrong in ('', 'x', clear + 'x', clear.upper(), 'ü', 'a b'):
        client.credentials(HTTP_AUTHORIZATION=f'Bearer {wrong}')
        assert client.get('/api/v1/domains/').status_code == 401
