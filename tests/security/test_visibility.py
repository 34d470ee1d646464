"""History, requests, notifications and jobs say nothing of pages that the reader may not open."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from impadmin.console import local_api, notifications, registry
from impadmin.console.access import EVERYTHING, grants
from impadmin.console.actions import Actor
from impadmin.console.models import ApprovalRequest, ApprovalSettings, AuditEntry, Job, Role
from impadmin.webhooks.models import WebhookSettings
from tests.fixtures.data import make_administrator, make_token

READER = ['history:*', 'pending-approvals:*', 'notifications:view', 'job-scheduler:view', 'system-dashboard:view']
LISTS = ('history', 'pending-approvals', 'notifications', 'job-scheduler')
SECRET = 'hidden.example'


@pytest.fixture
def reader(db: None) -> Any:
    """``reader('domains:view')``: a browser and a REST client of somebody with READER and these permissions."""
    from rest_framework.test import APIClient

    def make(*more: str) -> tuple[Client, APIClient]:
        name = f'reader{len(more)}'
        Role.objects.update_or_create(name=name, defaults={'permissions': [*READER, *more]})
        browser, rest = Client(), APIClient()
        rest.default_format = 'json'
        browser.force_login(make_administrator(name))
        rest.credentials(HTTP_AUTHORIZATION=f'Bearer {make_token(name)}')
        return browser, rest

    return make


def happened(api: Any) -> None:
    """A domain with the name SECRET was added, changed and reverted; its deletion waits; a restart and a job too."""
    admin = api('administrator')
    made = admin.post('/api/v1/domains/', {'name': f'other-{SECRET}'}).json()
    admin.patch(f'/api/v1/domains/{made["id"]}/', {'name': SECRET})
    changed = AuditEntry.objects.filter(action='update', object_type='presence.Domain').latest('pk')
    assert admin.post(f'/api/v1/history/{changed.pk}/revert/', {}).status_code == 200
    ApprovalSettings.objects.update_or_create(pk=1, defaults={'permissions': ['domains:delete', 'history:do/revert']})
    assert admin.delete(f'/api/v1/domains/{made["id"]}/').status_code == 202
    assert admin.post(f'/api/v1/history/{changed.pk}/revert/', {}).status_code == 202
    Job.objects.create(kind='bulk_edit', description=SECRET, parameters={'page': 'domains'}, submitted_by='x')


def test_values_of_closed_pages_are_nowhere(api: Any, reader: Any) -> None:
    happened(api)
    for permissions, sees in (((), False), (('domains:view',), True)):
        browser, rest = reader(*permissions)
        role = Role.objects.get(name=f'reader{len(permissions)}')
        cli = Actor('root', grants(role.permissions), 'console', 'cli')
        texts = {}
        for name in LISTS:
            texts[name] = browser.get(registry.page_url(name)).content.decode()
            texts[f'{name} by REST'] = rest.get(f'/api/v1/{name}/').content.decode()
            texts[f'{name} by CLI'] = json.dumps(local_api.call(cli, 'GET', f'/api/v1/{name}/').data)
        for kind in ('csv', 'jsonl'):
            found: Any = browser.get(
                f'{registry.page_url("history", "export")}?format={kind}&column=label&column=after'
            )
            texts[f'export as {kind}'] = b''.join(found.streaming_content).decode()
        texts['dashboard'] = rest.get('/api/v1/system-dashboard/').content.decode()
        seen = sorted(name for name, text in texts.items() if SECRET in text)
        expected = [n for n in texts if 'notifications' not in n and 'waits' not in n] if sees else []
        assert seen == sorted(expected), permissions
        about = AuditEntry.objects.filter(object_label__contains=SECRET)
        assert {entry.action for entry in about} == {'create', 'update', 'revert'}
        urls = [('history', entry) for entry in about] + [
            ('pending-approvals', r) for r in ApprovalRequest.objects.all()
        ]
        for name, row in urls:
            for answer in (
                browser.get(registry.page_url(name, 'edit', row.pk)), rest.get(f'/api/v1/{name}/{row.pk}/'),
                rest.post(f'/api/v1/{name}/{row.pk}/{"revert" if name == "history" else "withdraw"}/', {}),
            ):  # fmt: skip
                assert (answer.status_code == 404) is not sees, (name, permissions)
        rows = rest.get('/api/v1/history/').json()
        assert rows['count'] == len(rows['results'])
        assert {row['page'] for row in rows['results']} <= ({'Presence > Domains'} if sees else set())


def test_sign_ins_are_for_those_who_may_open_their_page(api: Any, reader: Any) -> None:
    api('administrator').get('/api/v1/domains/')  # the first use of a token is told
    _, rest = reader()
    assert rest.get('/api/v1/history/', {'tab': 'sign-ins'}).json()['count'] == 0
    _, rest = reader('sign-ins:view')
    assert rest.get('/api/v1/history/', {'tab': 'sign-ins'}).json()['count'] >= 1


def test_the_history_of_an_object_leaves_out_what_closed_pages_did(api: Any, make_user: Any, reader: Any) -> None:
    user = make_user('alice', node=None)
    admin = api('administrator')
    admin.patch(f'/api/v1/end-users/{user.pk}/', {'last_name': 'Before'})
    admin.post('/api/v1/assign-presence-users/assign/', {'ids': [user.pk], 'how': 'node', 'node': 'imp1'})
    for permissions, actions in (
        (('end-users:view',), ['update']),
        (('end-users:view', 'assign-presence-users:view'), ['assign', 'update']),
    ):
        browser, rest = reader(*permissions)
        told = rest.get(f'/api/v1/end-users/{user.pk}/history/').json()['results']
        assert [row['action'] for row in told] == actions
        shown = browser.get(registry.page_url('end-users', 'history', user.pk)).content.decode()
        assert ('imp1' in shown.partition('<main')[2]) is ('assign' in actions)


def test_notifications_are_for_those_they_concern(api: Any, reader: Any) -> None:
    """Requests are told to those who may approve them, and to nobody else."""
    happened(api)
    request = ApprovalRequest.objects.get(page='domains')

    def told(client: Any) -> list[str]:
        rows = client.get('/api/v1/notifications/').json()['results']
        return [row['reason'] for row in rows if row['kind'] == 'approval' and str(request.pk) in row['reason']]

    assert not told(reader()[1])
    assert not told(reader('domains:view')[1])
    assert len(told(reader('domains:view', 'domains:delete')[1])) == 1
    assert not told(api('administrator')), 'who asked cannot approve'
    found = [notifications.Notification('k', 'restart', 'High', 'n', 's', 'Messaging > Settings', request.requested_at)]
    assert not notifications.readable(found, grants(READER))
    assert notifications.readable(found, grants([*READER, 'messaging-settings:view'])) == found
    assert notifications.readable(found, EVERYTHING) == found


def test_the_choice_is_one_condition_of_the_query(api: Any, reader: Any) -> None:
    AuditEntry.objects.bulk_create(
        AuditEntry(
            actor='a', channel='rest', action='update', object_type='x.Y', object_id=str(n), before={}, after={},
            page=('Presence > Domains', 'Messaging > Settings')[n % 100 == 0],
        )
        for n in range(5000)
    )  # fmt: skip
    _, rest = reader('messaging-settings:view')
    rest.get('/api/v1/history/')  # the first use of a token is recorded
    with CaptureQueriesContext(connection) as captured:
        answer = rest.get('/api/v1/history/', {'limit': 20, 'offset': 40}).json()
    assert (answer['count'], len(answer['results'])) == (50, 10)
    assert len(captured) <= 8, [query['sql'][:100] for query in captured]


def test_webhooks_and_their_deliveries(api: Any, reader: Any) -> None:
    """Who may not see every page cannot have changes sent to himself, nor read what was sent."""
    WebhookSettings.objects.update_or_create(pk=1, defaults={'allowed_networks': '127.0.0.0/8'})
    url, body = '/api/v1/webhooks/', {'name': 'w', 'url': 'http://127.0.0.1:9/', 'on_changes': True}
    _, rest = reader('webhooks:*', 'webhook-deliveries:view')
    assert rest.post(url, body).status_code == 403
    assert rest.post(url, {**body, 'on_changes': False, 'on_alarms': True}).status_code == 201
    made = api('administrator').post(url, {**body, 'name': 'all'})
    assert made.status_code == 201, made.content
    assert rest.patch(f'{url}{made.json()["id"]}/', {'url': 'http://127.0.0.1:10/'}).status_code == 403
    happened(api)
    sent = '/api/v1/webhook-deliveries/'
    assert SECRET in api('administrator').get(sent).content.decode()
    assert rest.get(sent).json()['count'] == 0
