"""History > Revert: through the console, REST and for every page kind; what cannot be taken back says why."""

from __future__ import annotations

from typing import Any

import pytest

DOMAINS = '/api/v1/domains/'
SETTINGS = '/api/v1/messaging-settings/'


def newest(client: Any, **conditions: str) -> Any:
    """The newest entry, as REST lists it."""
    rows = client.get('/api/v1/history/', {'limit': 1, 'tab': 'changes', **conditions}).json()['results']
    return rows[0]


def revert(client: Any, entry: Any) -> Any:
    return client.post(f'/api/v1/history/{entry["id"]}/revert/', {})


def test_settings_go_back_with_their_restart(api: Any, admin_client: Any) -> None:
    client = api('administrator')
    client.patch(SETTINGS, {'im_enabled': False, 'suppress_offline': True})
    entry = newest(client)
    browser = admin_client('administrator')
    dialog = browser.get(f'/admin/diagnostics/history/{entry["id"]}/do/revert/').content.decode()
    assert '<td>Enable instant messaging</td><td><del>Off</del></td><td><ins>On</ins></td>' in dialog
    assert client.get(SETTINGS).json()['im_enabled'] is False, 'asking changes nothing'
    done = browser.post(f'/admin/diagnostics/history/{entry["id"]}/do/revert/', {'confirmed': '1'}, follow=True)
    assert '2 fields were set back.' in done.content.decode()
    assert client.get(SETTINGS).json()['im_enabled'] is True
    again = newest(client, action='update')
    assert (again['actor'], again['page']) == ('test-administrator', 'Messaging > Settings')


def test_only_the_fields_of_the_entry_go_back(api: Any) -> None:
    client = api('administrator')
    client.patch(SETTINGS, {'im_enabled': False})
    entry = newest(client)
    client.patch(SETTINGS, {'cut_and_paste': False})
    assert revert(client, entry).status_code == 200
    found = client.get(SETTINGS).json()
    assert (found['im_enabled'], found['cut_and_paste']) == (True, False)


def test_added_changed_and_deleted_objects(api: Any) -> None:
    client = api('administrator')
    made = client.post(DOMAINS, {'name': 'one.example'}).json()
    added = newest(client)
    client.patch(f'{DOMAINS}{made["id"]}/', {'name': 'two.example'})
    assert revert(client, newest(client)).json()['message'] == '1 field was set back.'
    assert client.get(f'{DOMAINS}{made["id"]}/').json()['name'] == 'one.example'
    client.delete(f'{DOMAINS}{made["id"]}/')
    deleted = newest(client)
    refused = revert(client, added)
    assert (refused.status_code, refused.json()['detail']) == (409, 'The object was deleted since.')
    assert revert(client, deleted).json()['message'] == 'one.example was added again.'
    names = [row['name'] for row in client.get(DOMAINS, {'limit': 100}).json()['results']]
    assert 'one.example' in names
    assert revert(client, deleted).status_code == 400, 'the rules of the page hold: the name is taken'
    assert revert(client, newest(client, q='one.example')).status_code in (200, 409)


def test_parameters(api: Any) -> None:
    client = api('administrator')
    path = '/api/v1/service-parameters/imp1/xcp_router/'
    client.patch(path, {'max_sessions_per_user': 5})
    client.patch(path, {'max_sessions_per_user': 6})
    assert revert(client, newest(client)).status_code == 200
    assert client.get(path).json()['max_sessions_per_user'] == 5


def test_who_may_not_change_the_page_may_not_revert(api: Any, admin_client: Any) -> None:
    api('administrator').patch(SETTINGS, {'im_enabled': False})
    entry = newest(api('administrator'))
    for role in ('read_only', 'bulk_operator', 'operator'):
        assert revert(api(role), entry).status_code == 403, role
    assert api('administrator').get(SETTINGS).json()['im_enabled'] is False
    page = admin_client('operator').get('/admin/messaging/messaging-settings/history/').content.decode()
    assert 'do/revert' not in page
    page = admin_client('administrator').get('/admin/messaging/messaging-settings/history/').content.decode()
    assert 'do/revert' in page


@pytest.mark.parametrize('action', ['sign-in', 'audit'])
def test_what_is_no_change_cannot_be_reverted(api: Any, action: str) -> None:
    from impadmin.console import audit
    from impadmin.console.actions import SYSTEM

    client = api('administrator')
    entry = audit.record(SYSTEM, action, None, None, None, None, object_type='x', label='x')
    answer = client.post(f'/api/v1/history/{entry.pk}/revert/', {})
    assert answer.status_code == 409
    assert 'Only what was added, changed or deleted' in answer.json()['detail']
