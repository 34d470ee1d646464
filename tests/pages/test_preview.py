"""Impact preview: what it says is what saving then does, and nothing is left of it. For every page of the registry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from engine.contract.services import SERVICES
from impadmin.console import actions, audit, forms, parameter_values, registry
from impadmin.console.actions import SYSTEM, Change
from impadmin.console.models import AuditEntry
from impadmin.console.page import Page, ParameterPage, SettingsPage
from tests.pages import payload
from tests.pages.test_rest_round_trip import body_of, sent
from tests.proves import proves

ADDABLE = [page for page in payload.lists() if 'add' in page.verbs]
USERS: Any = registry.page('end-users')


def named(page: Any) -> str:
    return str(page.name)


@pytest.fixture
def running(db: None) -> None:
    """Every service of imp1 has started with the newest generation, so that changes need restarts."""
    from impadmin.console import generations
    from impadmin.system.models import Node, ServiceStatus

    now = timezone.now()
    Node.objects.update(heartbeat_at=now)
    ServiceStatus.objects.bulk_create(
        ServiceStatus(
            node=Node.objects.get(), service=service.key, state='Running', since=now,
            generation=generations.newest_number(),
        )
        for service in SERVICES
    )  # fmt: skip


def everything() -> list[Any]:
    """A fingerprint of all that is stored: every row of every table."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT format('SELECT %L, count(*), sum(hashtext((to_jsonb(t) - ''last_used_at'')::text)::bigint)"
            " FROM %I t', tablename, tablename) FROM pg_tables"
            " WHERE schemaname = 'public' AND tablename <> 'django_session'"
        )
        cursor.execute(' UNION ALL '.join(row[0] for row in cursor.fetchall()))
        return sorted(cursor.fetchall())


def restarts(client: Any) -> set[tuple[str, str]]:
    """(service name, node) of the restarts that are asked for now."""
    rows = client.get('/api/v1/notifications/').json()['results']
    return {(row['service_name'], row['node']) for row in rows if row['kind'] == 'restart'}


def fields(entry: AuditEntry) -> list[dict[str, str]]:
    """What the history says changed, as a preview says it."""
    return [{'field': name, 'before': old, 'after': new} for name, old, new in audit.changes(entry)]


def rehearse(client: Any, method: str, url: str, body: Callable[[], dict[str, Any]], entries: int = 1) -> Any:
    """Preview, then do it: nothing is left of the preview, and it said which fields change and what must restart."""
    body()  # a sample may add what its values refer to
    waiting, before = restarts(client), everything()
    answer = sent(client, method, f'{url}?dry_run=true', body())
    assert answer.status_code == 200, answer.content
    assert everything() == before, 'a preview changes nothing'
    said = answer.json()
    count = AuditEntry.objects.count()
    done = sent(client, method, url, body())
    assert done.status_code in (200, 201, 204), done.content
    assert AuditEntry.objects.count() == count + entries
    assert said['changes'] == ([] if method == 'delete' else fields(AuditEntry.objects.latest('pk')))
    told = {(one['service'], node) for one in said['restarts'] for node in one['nodes']}
    now = restarts(client)
    assert now - waiting <= told <= now
    return said, done


@pytest.mark.parametrize('page', ADDABLE, ids=named)
def test_add_change_delete(page: Page, api: Any, running: None) -> None:
    client, url = api('administrator'), f'/api/v1/{page.name}/'
    said, done = rehearse(client, 'post', url, lambda: body_of(page, 1))
    assert said['changes']
    one = f'{url}{done.json()["id"]}/'
    if 'edit' in page.verbs:
        said, _ = rehearse(client, 'patch', one, lambda: body_of(page, 2))
        assert said['changes']
        nothing = sent(client, 'patch', f'{one}?dry_run=1', {}).json()
        assert (nothing['changes'], nothing['restarts'], nothing['users'] or 0) == ([], [], 0)
    if 'delete' in page.verbs:
        rehearse(client, 'delete', one, dict)


def other_value(page: SettingsPage, name: str, value: Any) -> Any:
    """Another value of a settings field, or None when there is no simple one."""
    field: Any = forms.model_field(page.model, name)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    return next((key for key, _ in field.flatchoices if key != value), None)


@pytest.mark.parametrize('page', payload.settings_pages(), ids=named)
def test_settings(page: SettingsPage, api: Any, make_user: Any, running: None) -> None:
    make_user('alice')
    make_user('bob', node=None)
    client, url = api('administrator'), f'/api/v1/{page.name}/'
    shown = client.get(url).json()
    for name in forms.editable_names(page)[:3]:
        value = other_value(page, name, shown.get(name))
        if value is None or sent(client, 'patch', f'{url}?dry_run=1', {name: value}).status_code != 200:
            continue
        said, _ = rehearse(client, 'patch', url, lambda name=name, value=value: {name: value})
        assert len(said['changes']) == 1
        assert said['users'] == (1 if page.configures or page.touches else None), 'one user is served by a node'
        client.patch(url, {name: shown[name]})


@pytest.mark.parametrize('page', [p for p in registry.pages() if isinstance(p, ParameterPage)], ids=named)
def test_parameters(page: ParameterPage, api: Any, make_user: Any, running: None) -> None:
    make_user('alice')
    url = f'/api/v1/{page.name}/' + ('imp1/xcp_router/' if page.services else '')
    client = api('administrator')
    declared = parameter_values.declared('xcp_router' if page.services else '')
    param = next(one for one in declared if one.type is bool or one.choices)
    value = client.get(url).json()[param.name]
    other = not value if param.type is bool else next(key for key, _ in param.choices if key != value)
    said, _ = rehearse(client, 'patch', url, lambda: {param.name: other})
    assert (len(said['changes']), said['users']) == (1, 1)


@proves('RST-05')
def test_revert_shows_its_own_preview(api: Any, admin_client: Any, make_user: Any, running: None) -> None:
    make_user('alice')
    client, browser = api('administrator'), admin_client('administrator')
    client.patch('/api/v1/messaging-settings/', {'im_enabled': False})
    entry = AuditEntry.objects.latest('pk')
    waiting = restarts(client)
    said = client.post(f'/api/v1/history/{entry.pk}/revert/?dry_run=1', {}).json()
    assert said['changes'] == [{'field': 'Enable instant messaging', 'before': 'Off', 'after': 'On'}]
    assert said['users'] == 1
    assert restarts(client) == waiting
    dialog = browser.get(f'/admin/diagnostics/history/{entry.pk}/do/revert/')
    assert dialog.context['preview'].changes == (('Enable instant messaging', 'Off', 'On'),)
    assert 'Users touched' in dialog.content.decode()


def test_a_command_says_what_it_changes(api: Any, make_user: Any) -> None:
    users = [make_user(name, node=None) for name in ('alice', 'bob')]
    client, url = api('administrator'), '/api/v1/assign-presence-users/assign/'
    body = {'ids': [user.pk for user in users], 'how': 'node', 'node': 'imp1'}
    client.get('/api/v1/assign-presence-users/')
    before = everything()
    said = client.post(f'{url}?dry_run=1', body, format='json')
    assert said.status_code == 200, said.content
    assert everything() == before
    found = said.json()
    home = [{'field': 'Home Node', 'before': '', 'after': 'imp1'}]
    assert {one['object']: one['changes'] for one in found['objects']} == {'alice': home, 'bob': home}
    assert (found['users'], found['message']) == (2, '2 users assigned.')
    assert client.post(url, body, format='json').status_code == 200
    entry = AuditEntry.objects.get(action='assign', object_label='alice')
    assert (entry.before['home_node'], entry.after['home_node']['label']) == (None, 'imp1')


def test_a_command_with_values_is_previewed_in_its_dialog(admin_client: Any, make_user: Any) -> None:
    user = make_user('alice', node=None)
    browser = admin_client('administrator')
    url = registry.page_url('assign-presence-users', 'do/assign')
    asked = browser.post(url, {'pk': [user.pk]}).content.decode()
    assert 'Preview impact' in asked
    values = {'pk': [user.pk], 'confirmed': '1', 'how': 'node', 'node': 'imp1'}
    text = browser.post(url, {**values, 'preview': '1'}).content.decode()
    assert 'Home Node' in text
    assert 'Nothing has been saved' in text
    user.refresh_from_db()
    assert user.home_node is None


def test_several_changes_each_by_itself(db: None, make_user: Any) -> None:
    alice, bob = make_user('alice'), make_user('bob')
    changes = [
        Change('update', {'department': 'Sales'}, alice),
        Change('update', {'mail': 'nobody'}, bob),
        Change('create', USERS.sample(7), name='row 3'),
        Change('create', {**USERS.sample(8), 'last_name': ''}, name='row 4'),
        Change('update', {}, alice),
        Change('delete', obj=bob),
    ]
    before = everything()
    found = actions.preview(SYSTEM, USERS, changes)
    assert everything() == before
    assert [(v.name, v.action, bool(v.problems)) for v in found.verdicts] == [
        ('alice', 'update', False),
        ('bob', 'update', True),
        ('row 3', 'create', False),
        ('row 4', 'create', True),
        ('alice', '', False),
        ('bob', 'delete', False),
    ]
    assert [v.problems[0][0] for v in found.refused] == ['mail', 'last_name']
    assert found.users == 3
    done = actions.do_changes(SYSTEM, USERS, changes)
    assert [(v.name, v.action, v.changes, v.problems) for v in done] == [
        (v.name, v.action, v.changes, v.problems) for v in found.verdicts
    ]
    assert set(USERS.model._default_manager.values_list('user_id', 'department')) == {
        ('alice', 'Sales'),
        ('jsmith7', 'Sales'),
    }


def test_refused_rows_are_named_and_the_others_go(admin_client: Any, api: Any, make_user: Any) -> None:
    client, browser = api('administrator'), admin_client('administrator')
    client.post('/api/v1/domains/', {'name': 'free.example'})
    rows = {row['name']: row['id'] for row in client.get('/api/v1/domains/').json()['results']}
    make_user('alice')
    client.post('/api/v1/domains/audit/')
    rows = {row['name']: row['id'] for row in client.get('/api/v1/domains/').json()['results']}
    said = client.post('/api/v1/domains/delete-selected/?dry_run=1', {'ids': list(rows.values())}, format='json').json()
    assert [one['object'] for one in said['objects']] == ['free.example']
    assert [one['object'] for one in said['refused']] == ['example.com']
    assert 'It is the default domain' in said['refused'][0]['reasons'][0]['text']
    asked = browser.post(registry.page_url('domains', 'delete-selected'), {'pk': list(rows.values())})
    text = asked.content.decode()
    assert '1 entry cannot be deleted' in text
    assert 'Delete free.example' in text


def test_a_preview_of_thousands_costs_no_more_queries(make_user: Any) -> None:
    """Deleting all that a search finds: rows beyond the first hundred are not deleted one by one to see."""
    first = make_user('first')
    model = USERS.model
    model._default_manager.bulk_create(
        model(user_id=f'user{n}', last_name='Many', im_address=f'user{n}@example.com', home_node=first.home_node)
        for n in range(1000)
    )
    counts = []
    for most in (actions.TRIED, 1001):
        objs = list(model._default_manager.order_by('pk')[:most])
        with CaptureQueriesContext(connection) as captured:
            found = actions.preview_delete(SYSTEM, USERS, objs)
        counts.append(len(captured))
        assert (found.users, found.left) == (most, most - actions.TRIED)
    assert counts[1] <= counts[0] + 200, counts
    assert model._default_manager.count() == 1001
