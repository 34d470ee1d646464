"""Four eyes: guarded actions wait for a second administrator, on every page and through every door."""

from __future__ import annotations

import io
import os
from datetime import timedelta
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from impadmin.console import actions, approvals, bulkwork, configuration, imports, jobs, registry
from impadmin.console.access import EVERYTHING
from impadmin.console.actions import Actor, Refused
from impadmin.console.foureyes import Waiting
from impadmin.console.models import ApprovalRequest, ApprovalSettings, AuditEntry, Job, Role
from impadmin.console.page import Page
from tests.areas.bulk import provisioning
from tests.fixtures.data import make_administrator, make_token
from tests.pages import payload

DELETABLE = [page for page in payload.lists() if {'add', 'delete'} <= set(page.verbs)]
REQUESTS = '/api/v1/pending-approvals/'
DOMAINS = '/api/v1/domains/'


def guard(*permissions: str) -> None:
    """These actions wait for approval."""
    ApprovalSettings.objects.update_or_create(pk=1, defaults={'permissions': list(permissions)})


@pytest.fixture
def second(db: None) -> Client:
    """Another administrator at the console."""
    client = Client()
    client.force_login(make_administrator('administrator', 'second'))
    return client


def decide(client: Client, request: ApprovalRequest, verb: str = 'approve', **values: Any) -> Any:
    """Press Approve, Reject or Withdraw."""
    url = registry.page_url('pending-approvals', f'do/{verb}', request.pk)
    return client.post(url, {'confirmed': '1', **values}, follow=True)


def entries() -> list[tuple[str, str, str]]:
    """(action, who, approved by) of what was changed, the newest first."""
    found = AuditEntry.objects.exclude(object_type='signin.SignIn').order_by('-pk')
    return list(found.values_list('action', 'actor', 'approved_by'))


@pytest.mark.parametrize('page', DELETABLE, ids=lambda page: str(page.name))
def test_delete_waits_and_is_done_by_approval(page: Page, admin_client: Any, second: Client) -> None:
    first = admin_client('administrator')
    obj = payload.create(first, page, 1)
    guard(f'{page.name}:delete')
    count = AuditEntry.objects.count()
    answer = first.post(registry.page_url(page, 'delete', obj.pk), {'confirmed': '1'}, follow=True)
    request = ApprovalRequest.objects.get()
    assert answer.redirect_chain[-1][0] == registry.page_url('pending-approvals', 'edit', request.pk)
    assert 'waits for the approval of another administrator' in answer.content.decode()
    assert page.model._default_manager.filter(pk=obj.pk).exists()
    assert AuditEntry.objects.count() == count, 'nothing was done'
    own = decide(first, request).content.decode()
    assert 'You cannot decide on your own request' in own
    shown = second.get(registry.page_url('pending-approvals', 'edit', request.pk)).content.decode()
    assert str(obj) in shown
    assert 'What it would do now' in shown
    done = decide(second, request)
    assert 'done.' in done.content.decode()
    assert not page.model._default_manager.filter(pk=obj.pk).exists()
    assert entries()[:2] == [('approve', 'second', ''), ('delete', 'test-administrator', 'second')]
    request.refresh_from_db()
    assert (request.state, request.decided_by, request.call) == ('approved', 'second', {})
    assert 'The request is closed' in decide(second, request).content.decode()


def test_off_by_default_and_only_for_what_is_named(api: Any) -> None:
    client = api('administrator')
    made = client.post(DOMAINS, {'name': 'one.example'}).json()
    assert client.delete(f'{DOMAINS}{made["id"]}/').status_code == 204
    guard('right.users:delete')
    made = client.post(DOMAINS, {'name': 'one.example'}).json()
    assert client.delete(f'{DOMAINS}{made["id"]}/').status_code == 204
    guard('area.presence:delete')
    made = client.post(DOMAINS, {'name': 'one.example'}).json()
    waiting = client.delete(f'{DOMAINS}{made["id"]}/')
    assert waiting.status_code == 202
    request = ApprovalRequest.objects.get()
    assert waiting['Location'] == f'{REQUESTS}{request.pk}/'
    assert waiting.json()['request'] == request.pk
    assert client.get(waiting['Location']).json()['requested_by'] == 'test-administrator'
    assert client.get(f'{DOMAINS}{made["id"]}/').status_code == 200
    assert client.delete(f'{DOMAINS}{made["id"]}/?dry_run=1').status_code == 200, 'a preview needs nobody'


def test_every_kind_of_action(api: Any, second: Client, make_user: Any) -> None:
    """Edit, settings, parameters, a command with values, Revert: each waits, then does what it would have done."""
    client = api('administrator')
    user = make_user('alice', node=None)
    domain = client.post(DOMAINS, {'name': 'one.example'}).json()
    settings = '/api/v1/messaging-settings/'
    client.patch(settings, {'cut_and_paste': False})
    entry = AuditEntry.objects.filter(object_type='messaging.MessagingSettings').latest('pk')
    guard('*:*')
    router = '/api/v1/service-parameters/imp1/xcp_router/'
    calls = [
        ('patch', f'{DOMAINS}{domain["id"]}/', {'name': 'two.example'}),
        ('patch', settings, {'im_enabled': False}),
        ('patch', router, {'max_sessions_per_user': 3}),
        ('post', '/api/v1/assign-presence-users/assign/', {'ids': [user.pk], 'how': 'node', 'node': 'imp1'}),
        ('post', f'/api/v1/history/{entry.pk}/revert/', {}),
        ('post', f'{DOMAINS}delete-selected/', {'ids': [domain['id']]}),
    ]
    for method, url, body in calls:
        answer = getattr(client, method)(url, body, format='json')
        assert answer.status_code == 202, (url, answer.content)
        assert client.patch('/api/v1/approval-settings/', {'permissions': []}).status_code == 202, 'the rule as well'
        ApprovalRequest.objects.latest('pk').delete()
        request = ApprovalRequest.objects.latest('pk')
        assert 'done.' in decide(second, request).content.decode(), url
    assert client.get(settings).json()['im_enabled'] is False
    assert client.get(settings).json()['cut_and_paste'] is True, 'reverted'
    assert client.get(router).json()['max_sessions_per_user'] == 3
    assert client.get(f'{DOMAINS}{domain["id"]}/').status_code == 404
    user.refresh_from_db()
    assert user.home_node.name == 'imp1'
    assert {by for action, _, by in entries() if action in ('assign', 'revert')} == {'second'}


def test_what_changed_since_must_be_accepted(api: Any, second: Client) -> None:
    client = api('administrator')
    made = client.post('/api/v1/xmpp-federation-domains/', {'domain': 'a.example', 'direction': 'both'}).json()
    url = f'/api/v1/xmpp-federation-domains/{made["id"]}/'
    guard('xmpp-federation-domains:change')
    assert client.patch(url, {'comment': 'new'}).status_code == 202
    request = ApprovalRequest.objects.get()
    guard()
    client.patch(url, {'comment': 'meanwhile'})
    shown = second.get(registry.page_url('pending-approvals', 'edit', request.pk)).content.decode()
    assert 'It would do something else now than when it was requested' in shown
    assert 'What was requested' in shown
    refused = decide(second, request).content.decode()
    assert 'Look at it, then tick this' in refused
    assert client.get(url).json()['comment'] == 'meanwhile'
    assert 'done.' in decide(second, request, accept_changes='on').content.decode()
    assert client.get(url).json()['comment'] == 'new'


def test_languages_make_no_difference(api: Any, second: Client) -> None:
    client = api('administrator')
    guard('messaging-settings:change')
    client.patch('/api/v1/messaging-settings/', {'im_enabled': False}, headers={'Accept-Language': 'ja'})
    request = ApprovalRequest.objects.get()
    second.cookies['django_language'] = 'zh-hans'
    assert not approvals.differs(request)


def test_reject_withdraw_expire_and_who_may(api: Any, admin_client: Any, second: Client) -> None:
    client, first = api('administrator'), admin_client('administrator')
    made = client.post(DOMAINS, {'name': 'one.example'}).json()
    guard('domains:delete')

    def asked() -> ApprovalRequest:
        assert client.delete(f'{DOMAINS}{made["id"]}/').status_code == 202
        return ApprovalRequest.objects.latest('pk')

    request = asked()
    for role in ('operator', 'bulk_operator', 'read_only'):
        answer = api(role).post(f'{REQUESTS}{request.pk}/approve/', {})
        assert answer.status_code == 403, role
    assert 'This field is required' in decide(second, request, 'reject').content.decode()
    decide(second, request, 'reject', reason='Partner still uses it')
    request.refresh_from_db()
    assert (request.state, request.reason) == ('rejected', 'Partner still uses it')
    request = asked()
    assert 'Only who asked can withdraw' in decide(second, request, 'withdraw').content.decode()
    decide(first, request, 'withdraw')
    request.refresh_from_db()
    assert request.state == 'withdrawn'
    request = asked()
    ApprovalRequest.objects.filter(pk=request.pk).update(expires_at=timezone.now() - timedelta(minutes=1))
    assert 'The request has expired' in decide(second, request).content.decode()
    assert approvals.expire() == 1
    assert approvals.expire() == 0
    request.refresh_from_db()
    assert request.state == 'expired'
    assert client.get(f'{DOMAINS}{made["id"]}/').status_code == 200


def test_a_token_approves_only_what_it_may_do_itself(api: Any, second: Client) -> None:
    """Both are asked for: the right to approve, and the approved action with all that it does."""
    client = api('administrator')
    made = client.post(DOMAINS, {'name': 'one.example'}).json()
    url = f'{DOMAINS}{made["id"]}/'
    client.patch(url, {'name': 'two.example'})
    entry = AuditEntry.objects.filter(action='update').latest('pk')
    guard('domains:delete', 'history:do')
    approving = ['pending-approvals:view', 'pending-approvals:do/approve']

    def approve(*scopes: str) -> Any:
        with_token = APIClient()
        with_token.credentials(HTTP_AUTHORIZATION=f'Bearer {make_token("administrator", "second", scopes)}')
        return with_token.post(f'{REQUESTS}{ApprovalRequest.objects.latest("pk").pk}/approve/', {}, format='json')

    assert client.delete(url).status_code == 202
    assert approve('domains:*').status_code == 403, 'it may delete, but not approve'
    assert approve(*approving).status_code == 404, 'it may approve, but does not see what'
    assert approve(*approving, 'domains:view', 'domains:change').status_code == 403
    assert client.get(url).status_code == 200
    assert client.post(f'/api/v1/history/{entry.pk}/revert/', {}).status_code == 202
    reverting = [*approving, 'history:view', 'history:do/revert', 'domains:view']
    refused = approve(*reverting)
    assert refused.status_code == 403, 'Revert changes a domain, which the token may not'
    assert client.get(url).json()['name'] == 'two.example'
    assert approve(*reverting, 'domains:change').status_code == 200
    assert client.get(url).json()['name'] == 'one.example'
    assert {by for action, _, by in entries() if action == 'revert'} == {'second'}


def test_a_requester_who_left_cannot_act_any_more(api: Any, second: Client) -> None:
    client = api('operator')
    user = client.post('/api/v1/end-users/', {'user_id': 'alice', 'last_name': 'A'}).json()
    guard('end-users:delete')
    assert client.delete(f'/api/v1/end-users/{user["id"]}/').status_code == 202
    make_administrator('operator').__class__.objects.filter(username='test-operator').update(is_active=False)
    text = decide(second, ApprovalRequest.objects.get()).content.decode()
    assert 'no longer active' in text
    assert api('administrator').get(f'/api/v1/end-users/{user["id"]}/').status_code == 200


def test_secrets_do_not_wait(api: Any) -> None:
    client = api('administrator')
    user = client.post('/api/v1/end-users/', {'user_id': 'alice', 'last_name': 'A'}).json()
    guard('end-users:change')
    answer = client.patch(f'/api/v1/end-users/{user["id"]}/', {'password': 'correct horse battery'})
    assert (answer.status_code, 'secrets' in answer.json()['detail']) == (409, True)
    assert not ApprovalRequest.objects.exists()


def test_approvers_are_notified(api: Any, second: Client) -> None:
    client = api('administrator')
    guard('messaging-settings:change')
    client.patch('/api/v1/messaging-settings/', {'im_enabled': False})

    def told() -> list[str]:
        rows = second.get('/api/v1/notifications/').json()['results']
        return [row['reason'] for row in rows if row['kind'] == 'approval']

    request = ApprovalRequest.objects.get()
    assert told() == [f'test-administrator waits for approval (request {request.pk}).']
    decide(second, request, 'reject', reason='no')
    assert told() == []


def test_many_rows_wait_as_one(api: Any, second: Client, make_user: Any) -> None:
    users = registry.page('end-users')
    assert isinstance(users, Page)
    users.model._default_manager.bulk_create(
        users.model(user_id=f'u{n}', last_name='Many', im_address=f'u{n}@example.com')
        for n in range(bulkwork.AT_ONCE + 1)
    )
    keys = list(users.model._default_manager.values_list('pk', flat=True))
    guard('end-users:delete')
    actor = Actor('test-administrator', EVERYTHING, '', 'browser')
    make_administrator('administrator')
    with pytest.raises(Waiting):
        bulkwork.delete(actor, users, keys)
    with pytest.raises(Waiting):
        bulkwork.delete(actor, users, keys[:2])
    assert not Job.objects.exists()
    few, many = ApprovalRequest.objects.order_by('-pk')
    assert 'done.' in decide(second, few).content.decode()
    assert users.model._default_manager.count() == len(keys) - 2
    decide(second, many, accept_changes='on')
    assert Job.objects.get().parameters['approved_by'] == 'second'


@pytest.fixture
def many(db: None, monkeypatch: pytest.MonkeyPatch) -> Page:
    """End Users with more rows than are done at once, and a worker that may start."""
    monkeypatch.setattr(bulkwork, 'AT_ONCE', 3)
    provisioning()
    users = registry.page('end-users')
    assert isinstance(users, Page)
    users.model._default_manager.bulk_create(
        users.model(user_id=f'u{n}', last_name='Before', im_address=f'u{n}@example.com') for n in range(4)
    )
    make_administrator('administrator')
    return users


def imported(users: Page, columns: str = 'user_id,last_name', more: str = '') -> ApprovalRequest:
    """Everybody's new last name in a file whose import waits."""
    ids = users.model._default_manager.values_list('user_id', flat=True)
    text = '\n'.join([columns, *(f'{one},After{more}' for one in ids)])
    upload = imports.store(users, SimpleUploadedFile('names.csv', text.encode()))
    actor = Actor('test-administrator', EVERYTHING, '', 'browser')
    with pytest.raises(Waiting) as waiting:
        imports.run(actor, users, upload, imports.Options())
    return waiting.value.request


def test_a_large_import_waits_with_its_file(many: Page, second: Client) -> None:
    """The file is kept until somebody decides, is the one that was uploaded, and runs in the requester's name."""
    guard('end-users:change')
    request = imported(many)
    assert not Job.objects.exists()
    assert request.preview['not_tried'] == 1
    file = imports.path(request.call['upload']['token'])
    os.utime(file, (1, 1))
    imports.sweep()
    assert file.exists(), 'a day is not the end of what waits'
    shown = second.get(registry.page_url('pending-approvals', 'edit', request.pk)).content.decode()
    assert 'names.csv' in shown
    assert 'After' in shown
    content = file.read_bytes()
    file.write_bytes(content.replace(b'After', b'Other'))
    refused = decide(second, request, accept_changes='on').content.decode()
    assert 'not the one that was uploaded' in refused
    file.write_bytes(content)
    assert 'was submitted' in decide(second, request).content.decode()
    jobs.work('bat')
    assert set(many.model._default_manager.values_list('last_name', flat=True)) == {'After'}
    assert entries()[:4] == [('update', 'test-administrator', 'second')] * 4
    assert not file.exists()


def test_files_go_with_their_requests_and_secrets_do_not_wait(many: Page, second: Client) -> None:
    guard('end-users:change')
    files = []
    for verb in ('reject', 'expire'):
        request = imported(many)
        files.append(imports.path(request.call['upload']['token']))
        with pytest.raises(Refused, match='waits for approval already'):
            imports.run(
                Actor('test-administrator', EVERYTHING, '', 'rest'),
                many,
                imports.Upload(**request.call['upload']),
                imports.Options(),
            )
        if verb == 'reject':
            decide(second, request, 'reject', reason='no')
        else:
            ApprovalRequest.objects.filter(pk=request.pk).update(expires_at=timezone.now() - timedelta(minutes=1))
            assert approvals.expire() == 1
    assert not any(file.exists() for file in files)
    with pytest.raises(Refused, match='secrets and files cannot wait'):
        imported(many, 'user_id,last_name,password', ',correct horse 1')


def test_many_rows_of_rest_wait(many: Page, api: Any, second: Client) -> None:
    guard('end-users:change')
    keys = list(many.model._default_manager.values_list('pk', flat=True))
    rows = [{'do': 'update', 'id': key, 'values': {'last_name': 'After'}} for key in keys]
    answer = api('administrator').post('/api/v1/end-users/bulk/', {'rows': rows})
    assert answer.status_code == 202, answer.content
    assert not Job.objects.exists()
    request = ApprovalRequest.objects.get(pk=answer.json()['request'])
    assert 'was submitted' in decide(second, request).content.decode()
    jobs.work('bat')
    assert set(many.model._default_manager.values_list('last_name', flat=True)) == {'After'}


def test_everybody_withdraws_his_own(make_user: Any, admin_client: Any) -> None:
    """Also who may not open Pending Approvals: his requests are in My account."""
    Role.objects.create(name='clerk', permissions=['end-users:*'])
    clerk, other = Client(), Client()
    clerk.force_login(make_administrator('clerk'))
    other.force_login(make_administrator('clerk', 'other'))
    user = make_user('alice')
    guard('end-users:delete')
    url = registry.page_url('end-users', 'delete', user.pk)
    answer = clerk.post(url, {'confirmed': '1'})
    assert answer['Location'] == '/account/#requests'
    request = ApprovalRequest.objects.get()
    button = f'name="request" value="{request.pk}"'
    assert button in clerk.get('/account/').content.decode()
    assert button not in other.get('/account/').content.decode()
    other.post('/account/', {'do': 'withdraw', 'request': request.pk})
    request.refresh_from_db()
    assert request.state == 'waiting'
    assert (
        'was withdrawn'
        in clerk.post('/account/', {'do': 'withdraw', 'request': request.pk}, follow=True).content.decode()
    )
    request.refresh_from_db()
    assert (request.state, entries()[0][:2]) == ('withdrawn', ('withdraw', 'test-clerk'))


def test_configuration_is_applied_by_approval(api: Any, second: Client) -> None:
    client = api('administrator')
    guard('messaging-settings:change')
    document = {
        'version': 1,
        'lists': {'domains': [{'name': 'one.example'}]},
        'settings': {'messaging-settings': {'im_enabled': False}},
    }
    cli = Actor('root', EVERYTHING, 'console', 'cli')
    assert not configuration.apply(cli, document, dry_run=True).problems
    with pytest.raises(Waiting):
        configuration.apply(cli, document)
    names = [row['name'] for row in client.get(DOMAINS).json()['results']]
    assert 'one.example' not in names, 'all of it waits'
    request = ApprovalRequest.objects.get()
    assert str(request) == 'Apply configuration'
    assert 'done.' in decide(second, request).content.decode()
    assert client.get('/api/v1/messaging-settings/').json()['im_enabled'] is False
    assert 'one.example' in [row['name'] for row in client.get(DOMAINS).json()['results']]


def test_the_command_line_says_so(api: Any) -> None:
    guard('messaging-settings:change')
    err = io.StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command('imp', 'set', 'messaging-settings', 'im_enabled:=false', stderr=err)
    assert ended.value.code == 6
    assert actions.SYSTEM.name != ApprovalRequest.objects.get().requested_by


def test_settings_refuse_what_never_waits(api: Any) -> None:
    answer = api('administrator').patch('/api/v1/approval-settings/', {'permissions': ['domains:view', 'domains:add']})
    assert answer.status_code == 400
    assert 'never wait' in answer.json()['errors']['permissions'][0]


def test_in_a_browser(make_user: Any, browser_page: Any) -> None:
    """From the notification to the request, its preview, and Approve."""
    users = registry.page('end-users')
    assert isinstance(users, Page)
    asked = [make_user('alice')]
    make_administrator('administrator', 'somebody')
    guard('end-users:delete')
    with pytest.raises(Waiting):
        actions.do_delete(Actor('somebody', EVERYTHING, '192.0.2.7', 'browser'), users, asked)
    page = browser_page('administrator')
    page.goto('/admin/system/notifications/')
    page.locator('#notifications').get_by_text('somebody waits for approval').wait_for()
    page.locator('#notifications').get_by_role('link', name='Pending Approvals').click()
    page.get_by_role('link', name='Delete: User Management > End User: alice').click()
    page.get_by_role('heading', name='What it would do now').wait_for()
    page.get_by_role('link', name='Approve').click()
    dialog = page.locator('#dialog')
    dialog.get_by_label('Reason').fill('Left the company')
    dialog.get_by_role('button', name='Preview impact').click()
    dialog.get_by_text('Nothing has been saved').wait_for()
    assert users.model._default_manager.exists()
    dialog.get_by_role('button', name='Approve').click()
    page.get_by_text('Delete: User Management > End User: alice: done.').wait_for()
    assert not users.model._default_manager.exists()
