"""Roles of one's own: made, given, and never more than the giver has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from impadmin.console import permissions, roles
from impadmin.console.models import Administrator, ApiToken, Role
from impadmin.signin.models import ExternalGroup
from tests.fixtures.data import make_administrator

ROLES = '/ucm/ucm/roles/'
DESK = ['roles:*', 'application-users:*', 'api-tokens:*', 'external-groups:*', 'end-users:view', 'domains:*',
        'administrator-sessions:*']  # fmt: skip
"""Somebody who manages administrators and may do little else."""


@pytest.fixture
def desk(db: None) -> Client:
    role = Role.objects.create(name='Desk', permissions=DESK)
    account = make_administrator('read_only', 'dora')
    account.roles.set([role])
    client = Client()
    client.force_login(account)
    return client


def test_a_role_is_copied_changed_and_given(admin_client: Callable[..., Any]) -> None:
    client = admin_client()
    operator = Role.objects.get(name='operator')
    shown = client.get(f'{ROLES}{operator.pk}/').content.decode()
    assert 'built in' in shown
    assert client.post(f'{ROLES}{operator.pk}/', {'name': 'operator', 'permissions': ['*:*']}).status_code == 403
    assert client.post(f'{ROLES}{operator.pk}/delete/', {'confirmed': '1'}).status_code == 200
    copy = client.get(f'{ROLES}{operator.pk}/copy/')
    assert 'right.users:*' in copy.context['form'].initial['permissions']
    data = {
        'name': 'Night shift',
        'permissions': ['right.services:view', 'control-center:do/restart', 'end-users:view'],
    }
    assert client.post(f'{ROLES}{operator.pk}/copy/', data).status_code == 302
    night = Role.objects.get(name='Night shift')
    nina = make_administrator('read_only', 'nina')
    nina.roles.set([night, Role.objects.get(name='bulk_operator')])
    own = Client()
    own.force_login(nina)
    page = own.get('/ucm/ucm/end-users/').content.decode()
    assert '/ucm/ucm/end-users/add/' not in page
    assert own.get('/ucm/ucm/end-users/add/').status_code == 403
    assert own.get('/serviceability/serviceability/control-center/').status_code == 200
    assert own.get('/admin/bulkadmin/job-scheduler/').status_code == 200, 'both roles count'
    assert own.post('/serviceability/serviceability/control-center/do/stop/').status_code == 403
    assert own.post('/serviceability/serviceability/control-center/do/restart/').status_code != 403
    night.permissions = ['end-users:view']
    night.save()
    assert own.get('/serviceability/serviceability/control-center/').status_code == 200, 'bulk operators read services'
    nina.roles.set([night])
    assert own.get('/serviceability/serviceability/control-center/').status_code == 403, 'from the next click on'
    assert client.post(f'{ROLES}{night.pk}/delete/', {'confirmed': '1'}).status_code == 200, 'still in use'
    assert Role.objects.filter(pk=night.pk).exists()


def test_nobody_gives_rights_he_does_not_have(desk: Client) -> None:
    def refused(url: str, data: dict[str, Any]) -> None:
        answer = desk.post(url, data, content_type='application/json')
        assert answer.status_code == 403, (url, data, answer.content)
        assert 'rights that you do not have' in answer.content.decode()

    users = '/api/v1/application-users/'
    boss = make_administrator('administrator', 'boss')
    refused('/api/v1/roles/', {'name': 'Mine', 'permissions': ['end-users:change']})
    refused('/api/v1/roles/', {'name': 'Mine', 'permissions': ['*:*']})
    refused('/api/v1/roles/', {'name': 'Mine', 'permissions': ['area.presence:view']})
    refused(users, {'username': 'friend', 'roles': ['operator'], 'password': 'a very long word 1'})
    refused('/api/v1/external-groups/', {'source': 'ldap', 'name': 'cn=x', 'role': 'administrator'})
    refused('/api/v1/api-tokens/', {'name': 'x', 'administrator': 'boss', 'scopes': ['*:*']})
    for answer in (
        desk.patch(f'{users}{boss.pk}/', {'password': 'a very long word 1'}, content_type='application/json'),
        desk.delete(f'{users}{boss.pk}/'),
        desk.post(f'{users}{boss.pk}/end-sessions/', {}, content_type='application/json'),
    ):
        assert answer.status_code in (403, 409), answer.content
    boss.refresh_from_db()
    assert boss.check_password('correct horse 1')
    me = Administrator.objects.get(username='dora')
    answer = desk.patch(f'{users}{me.pk}/', {'roles': ['administrator']}, content_type='application/json')
    assert answer.status_code == 403
    body = {'name': 'Less', 'permissions': ['domains:view', 'end-users:view']}
    assert desk.post('/api/v1/roles/', body, content_type='application/json').status_code == 201
    body = {'username': 'friend', 'roles': ['Less'], 'password': 'a very long word 1'}
    assert desk.post(users, body, content_type='application/json').status_code == 201
    assert ExternalGroup.objects.count() == ApiToken.objects.count() == 0


def test_permissions_cost_one_query(desk: Client) -> None:
    """However many roles there are and however often the page asks."""
    desk.get('/ucm/ucm/end-users/')
    Administrator.objects.get(username='dora').roles.add(*Role.objects.all())
    with CaptureQueriesContext(connection) as captured:
        assert desk.get('/ucm/ucm/end-users/').status_code == 200
    assert len([query for query in captured if 'administrator_role' in query['sql']]) == 1


def test_a_built_in_role_says_what_it_really_may(admin_client: Any) -> None:
    """In words and page by page, without boxes; the same for everybody who may not change a role."""
    texts = {}
    for name in roles.BUILT_IN:
        role = Role.objects.get(name=name)
        text = admin_client().get(f'/ucm/ucm/roles/{role.pk}/').content.decode()
        texts[name] = text.partition('class="perms"')[2].partition('</section>')[0]
        assert '*:*' not in texts[name]
        assert 'right.' not in texts[name]
        assert 'type="checkbox"' not in texts[name]
    found = {name: dict(permissions.overview(Role.objects.get(name=name).grants)) for name in roles.BUILT_IN}
    words = {name: {str(label): what for label, what in one.items()} for name, one in found.items()}
    assert set(words['administrator'].values()) == {'All pages'}
    assert words['read_only']['Change'] == 'No page'
    assert words['operator']['View'] == 'All pages but Administrators (group)'
    assert words['bulk_operator']['Delete'] in texts['bulk_operator']
    held = permissions.effective(Role.objects.get(name='operator').grants)
    assert {'end-users:*', 'messaging-settings:view'} <= held
    assert not {'messaging-settings:change', 'roles:view'} & held
