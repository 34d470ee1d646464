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
from impadmin.console.access import NOBODY, Grants, Requirement, Right, grants, may, may_write, requirement_of
from impadmin.console.models import Administrator, Role
from impadmin.console.page import BasePage, Page
from impadmin.console.roles import BUILT_IN, beyond
from tests.fixtures.data import CUSTOM_PERMISSIONS, CUSTOM_ROLE

GRANTS = {name: grants(allowed) for name, (_, allowed) in BUILT_IN.items()} | {CUSTOM_ROLE: grants(CUSTOM_PERMISSIONS)}
ROLES = ('', *GRANTS)
METHODS = ('GET', 'POST', 'PUT', 'PATCH', 'DELETE')
PUBLIC = {
    '/login/',
    '/login/code/',
    '/saml/login/',
    '/saml/acs/',
    '/saml/finish/',
    '/saml/metadata/',
    '/saml/slo/',
    '/preferences/',
    '/favicon.ico',
    '/healthz',
}
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


def letter(who: Grants, pages: list[BasePage]) -> str:
    """w: may do everything there, r: only look, n: nothing; ?: something between."""
    if all(may(who, page, action) for page in pages for action in page.actions()):
        return 'w'
    writes = any(may_write(who, page) for page in pages)
    seen = [may(who, page) for page in pages]
    return '?' if writes or any(seen) != all(seen) else 'r' if all(seen) else 'n'


def action_of(url: str, method: str) -> str:
    """What a REST request does on its page, read from the URL as its documentation has it."""
    parts = url.strip('/').split('/')[3:]
    if method == 'GET':
        return 'view'
    commands = {command.name for command in getattr(page_of(url), 'commands', ())}
    if parts and parts[-1] in commands:
        return f'do/{parts[-1]}'
    if method == 'DELETE' or parts == ['delete-selected']:
        return 'delete'
    return 'add' if method == 'POST' else 'change'


def test_the_table_of_rights() -> None:
    """The rights of the built-in roles, written out by hand: a change of the table must be meant."""
    by_right = {right: [page for page in registry.pages() if page.right is right] for right in Right}
    short = {name: ''.join(letter(GRANTS[name], pages) for pages in by_right.values()) for name in BUILT_IN}
    #                       configuration, users, services, bulk, monitor, administrators
    assert short == {'administrator': 'wwwwww', 'operator': 'rwwwwn', 'bulk_operator': 'rrrwrn', 'read_only': 'rrrrrn'}
    users, bulk = registry.page('end-users'), registry.page('job-scheduler')
    assert not any(may(NOBODY, page) or may(Grants(()), page) for page in registry.pages())
    assert not may(GRANTS['administrator'].limited_to(GRANTS['read_only']), users, 'change')
    assert may(GRANTS['operator'].limited_to(GRANTS['bulk_operator']), bulk, 'delete')
    assert not may(GRANTS['operator'].limited_to(GRANTS['bulk_operator']), users, 'change')


def test_single_permissions() -> None:
    """A custom role: what it names and nothing beside it; nothing without View; wildcards reach new pages."""
    custom, page = GRANTS[CUSTOM_ROLE], registry.page
    assert may(custom, page('end-users'), 'change')
    assert not may(custom, page('end-users'), 'delete')
    assert may(custom, page('domains'), 'delete')
    assert may(custom, page('domains'), 'do/audit')
    assert may(custom, page('control-center'), 'do/restart')
    assert not may(custom, page('control-center-network'), 'do/restart')
    assert may(custom, page('control-center-network'))
    assert not may(grants(['domains:change']), page('domains'), 'change'), 'nothing changes what it cannot see'
    new = Page(name='new', console='admin', area='presence', menu='x', title='x', right=Right.CONFIGURATION,
               model=Role, columns=(), find=())  # fmt: skip
    assert may(custom, new)
    assert not may(custom, new, 'change')
    assert not may(custom, page('messaging-settings'))
    more = ['area.presence:view', 'domains:*', 'xmpp-federation-domains:add']
    assert beyond(GRANTS['operator'], custom) == more, 'areas mix rights'
    assert not beyond(GRANTS['administrator'], custom)
    assert beyond(custom, GRANTS['read_only'])
    assert not beyond(custom, custom)


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
    return None if requirement.allows(GRANTS[role], method, VALUES['command']) else {403}


@pytest.mark.long
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
                if answer.status_code == 403 and requirement.page is not None:
                    page = requirement.page  # a view may refuse more, never whom it must let in
                    bad = all(may(GRANTS[role], page, action) for action in page.actions())
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
                allowed = may(GRANTS[role], page, action_of(url, method))
                if url.endswith('/bulk/') and method != 'GET':
                    allowed = may_write(GRANTS[role], page)  # each row asks for its own right
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
    client = api('administrator')
    assert client.post('/api/v1/domains/', {'name': 'one.example'}).status_code == 201
    Administrator.objects.get(username='test-administrator').roles.set(Role.objects.filter(name='read_only'))
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

    body = {'name': 'inventory', 'administrator': 'test-administrator', 'scopes': ['*:view']}
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
