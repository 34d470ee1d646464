"""Presence > Domains through the page and REST (spec 01, sections 10-12)."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tests.proves import proves

LIST = '/admin/presence/domains/'
API = '/api/v1/domains/'


def domains() -> dict[str, tuple[bool, int]]:
    from impadmin.presence.models import Domain

    return {domain.name: (domain.configured, domain.user_count) for domain in Domain.objects.all()}


def row(client, name):
    found = [entry for entry in client.get(API, {'limit': 1000}).json()['results'] if entry['name'] == name]
    return found[0] if found else None


LONG = '.'.join(['a' * 63, 'b' * 63, 'c' * 63, 'd' * 60 + 'com'])


@proves('DOM-06', 'DOM-07')
@pytest.mark.parametrize('name', ['example.org', 'EX-ample.Com', '3com.example', LONG, 'intranet'])
def test_names_that_are_accepted(admin_client, db, name):
    answer = admin_client('administrator').post(f'{LIST}add/', {'name': name, 'version': ''})
    assert answer.status_code == 302 or name.lower() == 'ex-ample.com'
    assert name in domains()
    assert domains()[name] == (True, 0)


@proves('DOM-07')
@pytest.mark.parametrize(
    ('name', 'said'),
    [
        ('x' * 256, '255'),
        ('Abc.1om', '“1om”'),
        ('-a.com', '“-a”'),
        ('a.-b.com', '“-b”'),
        ('b-.com', '“b-”'),
        ('a_b.com', '“a_b”'),
        ('a b.com', '“a b”'),
        ('10.1.1.1', '“1”'),
        ('exämple.com', 'ä'),
        ('a..com', 'empty'),
        ('.com', 'empty'),
        ('x' * 64 + '.com', '63'),
        ('DOMAIN.NOT.SET', 'reserved'),
        ('', ''),
    ],
)
def test_names_that_are_refused_say_which_part(admin_client, db, name, said):
    before = domains()
    answer = admin_client('administrator').post(f'{LIST}add/', {'name': name, 'version': ''})
    assert answer.status_code in (200, 422)
    text = answer.content.decode()
    assert said in text
    if name and len(name) < 256:
        assert f'value="{name}"' in text  # what was typed stays
    assert domains() == before


@proves('DOM-07')
def test_names_are_unique_without_regard_to_case_and_type(api, make_user):
    client = api('administrator')
    assert client.post(API, {'name': 'Sales.Example.Net'}).status_code == 201
    answer = client.post(API, {'name': 'sALES.example.net'})
    assert answer.status_code == 400
    assert 'already exists' in str(answer.json())
    # the other one is system managed only
    client.post('/api/v1/end-users/', {'user_id': 'x1', 'last_name': 'X', 'directory_uri': 'x@used.example'})
    answer = client.post(API, {'name': 'USED.example'})
    assert answer.status_code == 400


@proves('DOM-01', 'DOM-02')
def test_type_follows_use_at_once(api, admin_client, db):
    client = api('administrator')
    client.post(API, {'name': 'sales.example.com'})
    page = admin_client('administrator').get(LIST).content.decode()
    assert 'Administrator Managed' in page
    user = client.post(
        '/api/v1/end-users/', {'user_id': 'x1', 'last_name': 'X', 'directory_uri': 'a@SALES.example.com'}
    ).json()
    assert domains()['sales.example.com'] == (True, 1)
    assert 'System Managed' in admin_client('administrator').get(f'{LIST}?tab=system-managed').content.decode()
    client.patch(f'/api/v1/end-users/{user["id"]}/', {'directory_uri': 'a@other.example'})
    assert domains()['sales.example.com'] == (True, 0)
    assert domains()['other.example'] == (False, 1)
    client.delete(f'/api/v1/end-users/{user["id"]}/')
    assert domains()['other.example'] == (False, 0)
    # unused now: administrator managed, can be deleted
    assert client.delete(f'{API}{row(client, "other.example")["id"]}/').status_code == 204


def test_a_listed_domain_is_in_the_configuration(api, db):
    from impadmin.console import generations

    client = api('administrator')
    client.post(API, {'name': 'IM.test'})
    assert 'im.test' in generations.newest().domains
    client.patch(f'{API}{row(client, "IM.test")["id"]}/', {'name': 'new.test'})
    assert 'im.test' not in generations.newest().domains
    assert 'new.test' in generations.newest().domains


@proves('DOM-08')
def test_system_managed_and_default_domains_are_read_only(api, admin_client, make_user):
    client = api('administrator')
    client.post('/api/v1/end-users/', {'user_id': 'x1', 'last_name': 'X', 'directory_uri': 'x@used.example'})
    used = row(client, 'used.example')
    answer = client.patch(f'{API}{used["id"]}/', {'name': 'hacked.example'})
    assert answer.status_code == 409
    assert 'system managed' in answer.json()['detail']
    assert client.delete(f'{API}{used["id"]}/').status_code == 409
    assert 'used.example' in domains()
    page = admin_client('administrator').get(f'{LIST}{used["id"]}/').content.decode()
    assert 'system managed' in page
    run_audit(client)
    default = row(client, 'example.com')
    assert client.patch(f'{API}{default["id"]}/', {'name': 'other.example'}).status_code == 409
    answer = client.delete(f'{API}{default["id"]}/')
    assert answer.status_code == 409
    assert 'default domain' in answer.json()['detail']


@proves('DOM-09')
def test_delete_selected_of_a_mixed_selection_reports_and_keeps_the_used_one(api, admin_client, db):
    client = api('administrator')
    client.post(API, {'name': 'one.example'})
    client.post('/api/v1/end-users/', {'user_id': 'x1', 'last_name': 'X', 'directory_uri': 'x@used.example'})
    ids = [row(client, 'one.example')['id'], row(client, 'used.example')['id']]
    browser = admin_client('administrator')
    asked = browser.post(f'{LIST}delete-selected/', {'pk': ids})
    assert 'used.example' in asked.content.decode()
    assert 'one.example' in domains()  # nothing happens before OK
    browser.post(f'{LIST}delete-selected/', {'pk': ids, 'confirmed': '1'}, follow=True)
    assert 'used.example' in domains()
    browser.post(f'{LIST}delete-selected/', {'pk': ids[:1], 'confirmed': '1'}, follow=True)
    assert 'one.example' not in domains()


def run_audit(client):
    answer = client.post(f'{API}audit/', {})
    assert answer.status_code == 200, answer.content
    return answer.json()


def test_audit_finds_domains_in_any_case_once(api, db):
    from impadmin.ucm.models import EndUser

    EndUser.objects.bulk_create(
        EndUser(user_id=f'u{n}', last_name='U', directory_uri=f'u{n}@{"NEW" if n % 2 else "new"}.example.com')
        for n in range(10)
    )
    client = api('administrator')
    counts = run_audit(client)
    assert domains()['new.example.com'] == (False, 10)
    assert counts.get('data', counts)['added'] == 2  # and the default domain
    EndUser.objects.all().delete()
    run_audit(client)
    assert domains()['new.example.com'] == (False, 0)


def test_audit_of_many_users_is_set_based(api, db, django_assert_max_num_queries):
    from impadmin.presence import inventory
    from impadmin.ucm.models import EndUser

    EndUser.objects.bulk_create(
        (
            EndUser(
                user_id=f'u{n}', last_name='U', im_address=f'u{n}@example.com', directory_uri=f'u{n}@d{n % 40}.example'
            )
            for n in range(20_000)
        ),
        batch_size=5000,
    )
    with django_assert_max_num_queries(40):
        counts = inventory.audit()
    assert counts == {'domains': 41, 'added': 41, 'in_use': 41}
    assert domains()['d7.example'] == (False, 500)


def test_nightly_audit_is_due_once_a_night_and_catches_up():
    from impadmin.presence.tasks import is_due

    at = lambda day, hour: datetime(2026, 1, day, hour, 30, tzinfo=UTC)  # noqa: E731
    assert is_due(at(2, 1), None, 1)
    assert is_due(at(2, 1), at(1, 1), 1)
    assert not is_due(at(2, 0), at(1, 1), 1)
    assert not is_due(at(2, 5), at(2, 1), 1)
    assert is_due(at(2, 12), at(1, 12), 1)  # missed at night: caught up


def test_nightly_audit_waits_for_the_sync_agent(db):
    from django.utils import timezone

    from impadmin.presence import tasks
    from impadmin.system.models import Node, ServiceStatus
    from impadmin.ucm.models import EndUser

    EndUser.objects.create(user_id='a', last_name='A', directory_uri='a@late.example')
    tasks.domain_audit()
    assert 'late.example' not in domains()
    node = Node.objects.get()
    Node.objects.update(heartbeat_at=timezone.now())
    ServiceStatus.objects.create(node=node, service='sync_agent', state='Running', since=timezone.now())
    tasks.domain_audit()
    assert domains()['late.example'] == (False, 1)
    EndUser.objects.create(user_id='b', last_name='B', directory_uri='b@tomorrow.example')
    tasks.domain_audit()
    assert 'tomorrow.example' not in domains()


def test_two_roles(api, db):
    assert api('operator').post(API, {'name': 'x.example'}).status_code == 403
    assert api('read_only').get(API).status_code == 200
