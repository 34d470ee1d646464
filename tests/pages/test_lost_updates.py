"""No update is lost: who saves what somebody else changed in the meantime is told, and sees both."""

from __future__ import annotations

import re
import threading
from typing import Any

from django.db import connections

from impadmin.console import audit, generations, registry
from impadmin.console.models import AuditEntry, Job
from impadmin.console.page import SettingsPage
from tests.areas.bulk import provisioning
from tests.fixtures.processes import wait_until
from tests.pages.payload import encode, present

PARAMETERS = '/api/v1/service-parameters/imp1/xcp_router/'
SETTINGS = '/api/v1/messaging-settings/'


def test_parameters_have_an_etag(api: Any) -> None:
    client = api('administrator')
    tag = client.get(PARAMETERS)['ETag']
    first = client.patch(PARAMETERS, {'max_sessions_per_user': 5}, format='json', headers={'If-Match': tag})
    assert first.status_code == 200
    second = client.patch(PARAMETERS, {'reply_lock_timeout_s': 60}, format='json', headers={'If-Match': tag})
    assert second.status_code == 412
    assert 'Somebody else' in second.json()['detail']
    newer = client.patch(PARAMETERS, {'reply_lock_timeout_s': 60}, format='json', headers={'If-Match': first['ETag']})
    assert newer.status_code == 200
    found = client.get(PARAMETERS).json()
    assert (found['max_sessions_per_user'], found['reply_lock_timeout_s']) == (5, 60)


def test_an_object_changed_since_the_question_is_not_deleted(api: Any, admin_client: Any) -> None:
    client, browser = api('administrator'), admin_client('administrator')
    made = client.post('/api/v1/domains/', {'name': 'one.example'}).json()
    url = f'/admin/presence/domains/{made["id"]}/delete/'
    version = re.search(r'name="version" value="(\w+)"', browser.get(url).content.decode())
    assert version
    client.patch(f'/api/v1/domains/{made["id"]}/', {'name': 'important.example'})
    answer = browser.post(url, {'confirmed': '1', 'expected': '1', 'version': version[1]})
    assert 'Somebody else changed it in the meantime' in answer.content.decode()
    assert client.get(f'/api/v1/domains/{made["id"]}/').status_code == 200


def edit_page(client: Any, times: int) -> None:
    """One editor: opens Messaging > Settings, turns one box, saves; opens it again when somebody was faster."""
    page = registry.page('messaging-settings')
    assert isinstance(page, SettingsPage)
    url, saved = registry.page_url(page), 0
    while saved < times:
        version = re.search(r'name="version" value="(\w+)"', client.get(url).content.decode())
        row = page.model._default_manager.get()
        assert version
        if audit.digest(row) != version[1]:
            continue  # changed since the form was drawn: it is drawn again
        row.suppress_offline = not row.suppress_offline
        saved += client.post(url, {**encode(page, present(page, row)), 'version': version[1]}).status_code == 302
    connections.close_all()


def test_many_writers_at_once_lose_nothing(rest: Any, admin_client: Any, worker: Any) -> None:
    """Ten clients raise one number, each reading, adding one and writing with If-Match until it is taken; two editors
    turn a box of a page six times each; a job adds 120 domains: every step of everybody is there in the end."""
    provisioning()
    call = rest('administrator')
    rows = [{'do': 'create', 'values': {'name': f'd{n}.example'}} for n in range(120)]
    assert call('PATCH', PARAMETERS, {'max_offline_messages': 100}).status == 200
    taken: list[int] = []
    wrong: list[Any] = []

    def raise_it(times: int) -> None:
        for _ in range(times):
            for _ in range(500):
                read = call('GET', PARAMETERS)
                value = read.json()['max_offline_messages'] + 1
                tag = {name.lower(): text for name, text in read.headers.items()}['etag']
                answer = call('PATCH', PARAMETERS, {'max_offline_messages': value}, **{'If-Match': tag})
                if answer.status == 200:
                    taken.append(value)
                    break
                if answer.status != 412:
                    wrong.append(answer)
                    return

    editors = [admin_client('administrator') for _ in range(2)]
    assert call('POST', '/api/v1/domains/bulk/', {'rows': rows}).status == 202
    threads = [threading.Thread(target=raise_it, args=(4,)) for _ in range(10)]
    threads += [threading.Thread(target=edit_page, args=(client, 6)) for client in editors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert sorted(taken) == list(range(101, 141)), 'every step was taken once'
    assert call('GET', PARAMETERS).json()['max_offline_messages'] == 140
    history = call('GET', '/api/v1/history/?limit=100&object_label__contains=XCP%20Router').json()['results']
    assert len([entry for entry in history if entry['action'] == 'update']) == 40
    turned = AuditEntry.objects.filter(object_type='messaging.MessagingSettings', action='update').order_by('pk')
    values = [(entry.before['suppress_offline'], entry.after['suppress_offline']) for entry in turned]
    assert values == [(False, True), (True, False)] * 6, 'every editor saw what the other had saved'
    wait_until(Job.objects.filter(state='completed').exists, 'the job has ended')
    assert call('GET', '/api/v1/domains/?name__startswith=d&limit=1000').json()['count'] == 120
    newest = generations.newest()
    assert newest is not None
    assert {row['values']['name'] for row in rows} <= set(newest.domains)
