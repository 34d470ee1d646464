"""System > LDAP: users synchronized from a real directory; schedules, what is locked, who is gone."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import trustme
from django.utils import timezone

from tests.areas.ldap import DIRECTORIES, agreement, counted, dirsync, ldap_system, sync, trust
from tests.fixtures.directory import MANAGER_PASSWORD, Directory
from tests.fixtures.processes import free_port
from tests.pages.test_stale import hidden
from tests.proves import proves


@pytest.fixture
def client(api: Any, directory: Directory) -> Any:
    """An administrator; LDAP System is set up for slapd."""
    made = api('administrator')
    ldap_system(made, directory)
    return made


def users(**fields: Any) -> Any:
    from impadmin.ucm.models import EndUser

    return EndUser.objects.filter(**fields)


def said(job: Any) -> str:
    from impadmin.console import jobs

    return jobs.message_text(job)


@proves('LD-02', 'LD-05', 'LD-09', 'LD-10', 'LD-14', 'LD-18', 'LD-19', 'LD-20', 'US-10')
def test_a_full_sync(client: Any, directory: Directory) -> None:
    """Everybody is imported with the settings of the template, once; later runs write what changed and nothing else."""
    from impadmin.console.models import AuditEntry
    from impadmin.ucm.models import FeatureGroupTemplate, ServiceProfile
    from impadmin.ucm.tasks import assign_users

    profile = ServiceProfile.objects.create(name='Staff')
    template = FeatureGroupTemplate.objects.create(
        name='Everybody', home_cluster=True, im_enabled=True, service_profile=profile
    )
    ann = {'uid': 'ann', 'givenName': 'Ann', 'sn': 'Lee', 'displayName': 'Ann Lee', 'mail': 'ann@example.com',
           'departmentNumber': 'Sales'}  # fmt: skip
    base = directory.unit('full', ann, *({'uid': f'f{n:02}'} for n in range(24)))
    made = agreement(client, directory, base, template='Everybody')
    assert made['department_from'] == 'departmentNumber', 'as directories of this type have it'
    assert 'password' not in made
    job = sync(client, made['id'])
    assert (job.state, job.message, counted(job)) == ('completed', '', {'created': 25})
    user = users(user_id='ann').get()
    assert (user.first_name, user.last_name, user.display_name, user.mail, user.department, user.directory_uri) == (
        'Ann', 'Lee', 'Ann Lee', 'ann@example.com', 'Sales', 'ann@example.com')  # fmt: skip
    assert (user.im_address, user.ldap_status) == ('ann@example.com', 'active')
    assert users(home_cluster=True, im_enabled=True, service_profile=profile, ldap_status='active').count() == 25
    assert AuditEntry.objects.filter(action='full-sync', channel='job').get().after['created'] == 25
    assert not AuditEntry.objects.filter(object_type='ucm.EndUser').exists(), 'one entry, not one for each user'

    template.im_enabled = False
    template.save()
    directory.change(f'uid=ann,{base}', sn='Moss')
    directory.add(base, {'uid': 'new'})
    assert counted(sync(client, made['id'])) == {'created': 1, 'changed': 1, 'unchanged': 24}
    assert users(user_id='ann').get().last_name == 'Moss'
    assert users(user_id='ann').get().im_enabled, 'the template is applied once'
    assert not users(user_id='new').get().im_enabled, 'and to new users as it is now'
    assert counted(sync(client, made['id'])) == {'unchanged': 26}

    one = f'{DIRECTORIES}{made["id"]}/'
    for name, value in (('template', None), ('search_base', 'ou=x,dc=example,dc=com'), ('mail_from', '')):
        answer = client.patch(one, {name: value}, format='json')
        assert answer.status_code == 400
        assert 'cannot be edited after the initial synchronization' in str(answer.json()['errors'][name])
    assert client.patch(one, {'interval': 3}, format='json').status_code == 200
    from impadmin.system.models import Node, ServiceStatus

    ServiceStatus.objects.create(node=Node.objects.get(), service='sync_agent', state='Running', since=timezone.now())
    assign_users()
    assert users(home_node__name='imp1').count() == 25, 'the Sync Agent assigns who is enabled'


@proves('LD-21', 'LD-42', 'LD-43')
def test_who_leaves_the_directory(client: Any, directory: Directory, admin_client: Any) -> None:
    """Inactive at once, gone after 24 hours, back when the entry is; converted users stay."""
    from impadmin.console.models import AuditEntry
    from impadmin.ucm import ldap_tasks
    from impadmin.ucm.models import EndUser

    base = directory.unit('leaving', *({'uid': f'l{n}'} for n in range(5)))
    made = agreement(client, directory, base)
    sync(client, made['id'])

    def url(name: str) -> str:
        return f'/api/v1/end-users/{users(user_id=name).get().pk}/'

    browser, page = admin_client('administrator'), f'/ucm/ucm/end-users/{users(user_id="l1").get().pk}/'
    form = browser.get(page).content.decode()
    assert 'name="im_enabled"' in form
    assert 'name="last_name"' not in form
    assert 'Active LDAP Synchronized User' in form
    answer = client.patch(url('l1'), {'last_name': 'Other'}, format='json')
    assert answer.status_code == 400
    assert 'comes from the LDAP directory' in str(answer.json()['errors']['last_name'])
    saved = browser.post(page, {**hidden(form), 'im_enabled': 'on', 'home_cluster': 'on', 'active': 'on'})
    assert saved.status_code == 302, 'what does not come from there can be changed'
    assert users(user_id='l1', im_enabled=True, last_name='l1').exists()
    assert client.post(url('l1') + 'convert-to-local/').status_code == 200
    assert client.post(url('l1') + 'convert-to-local/').status_code == 409
    assert client.patch(url('l1'), {'last_name': 'Other'}, format='json').status_code == 200

    directory.remove(f'uid=l0,{base}')
    job = sync(client, made['id'])
    assert counted(job) == {'deactivated': 1, 'unchanged': 3, 'skipped': 1}
    gone = users(user_id='l0').get()
    assert (gone.ldap_status, gone.active) == ('inactive', False)
    directory.add(base, {'uid': 'l0'})
    assert counted(sync(client, made['id'])) == {'changed': 1, 'unchanged': 3, 'skipped': 1}
    assert users(user_id='l0', ldap_status='active', active=True).get().pk == gone.pk

    for name in ('l0', 'l1'):
        directory.remove(f'uid={name},{base}')
    assert counted(sync(client, made['id'])) == {'deactivated': 1, 'unchanged': 3}
    EndUser.objects.filter(user_id='l0').update(ldap_missing_at=timezone.now() - timedelta(hours=23, minutes=59))
    ldap_tasks.collect_garbage()
    assert users(user_id='l0').exists()
    EndUser.objects.filter(user_id='l0').update(ldap_missing_at=timezone.now() - timedelta(hours=24))
    dirsync('Stopped')
    ldap_tasks.collect_garbage()
    assert users(user_id='l0').exists(), 'nobody is deleted while nothing is synchronized'
    dirsync()
    ldap_tasks.collect_garbage()
    assert not users(user_id='l0').exists()
    assert AuditEntry.objects.get(action='garbage-collection').before == {'deleted': 1, 'users': ['l0']}
    assert users(user_id='l1', ldap_status='converted', last_name='Other', active=True).exists()


def test_most_users_are_not_made_inactive_without_being_asked(client: Any, directory: Directory) -> None:
    from impadmin.ucm import ldap_tasks
    from impadmin.ucm.models import EndUser

    base = directory.unit('many', *({'uid': f'm{n}'} for n in range(4)))
    made = agreement(client, directory, base)
    sync(client, made['id'])
    for n in range(3):
        directory.remove(f'uid=m{n},{base}')
    job = sync(client, made['id'])
    assert (job.state, counted(job)) == ('incomplete', {'unchanged': 1})
    assert 'not found: 3, more than half' in said(job)
    assert users(ldap_status='active').count() == 4
    refused = sync(client, made['id'], 400)
    assert 'more than half of all' in str(refused['errors']['deactivate'])
    assert counted(sync(client, made['id'], deactivate=True)) == {'deactivated': 3, 'unchanged': 1}
    assert users(active=False).count() == 3
    EndUser.objects.filter(active=False).update(ldap_missing_at=timezone.now() - timedelta(hours=25))
    for enabled in (False, True):  # to put the directory right
        assert client.patch('/api/v1/ldap-system/', {'enabled': enabled}, format='json').status_code == 200
    ldap_tasks.collect_garbage()
    assert users(active=False).count() == 3, 'there is time to synchronize first'
    assert counted(sync(client, made['id'])) == {'unchanged': 1}


@proves('LD-25')
def test_each_bad_entry_has_its_verdict(client: Any, directory: Directory, make_user: Any) -> None:
    """They harm nobody else, and who is known stays who he is while his entry is wrong."""
    base = directory.unit(
        'bad', {'uid': 'b1', 'mail': 'same@example.com'}, {'uid': 'b2', 'mail': 'Same@example.com'},
        {'uid': 'b3', 'mail': 'no address'}, {'uid': 'b4'}, {'uid': 'b5'}, {'uid': 'a/b', 'cn': 'x'},
        {'uid': 'B4', 'cn': 'b4 again', 'ou': 'x'} | {'uid': 'b6'}, {'uid': 'b7', 'departmentNumber': 'x' * 100},
    )  # fmt: skip
    local = make_user('b5', last_name='Before')
    made = agreement(client, directory, base)
    job = sync(client, made['id'])
    assert counted(job) == {'created': 4, 'changed': 1, 'refused': 3}
    reasons = {row.subject.partition(' (')[0]: row.reason for row in job.rows.all()}
    assert set(reasons) == {'b2', 'b3', 'a/b'}
    assert 'mail' in reasons['b2']
    assert reasons['b3'].startswith('mail: ')
    assert reasons['a/b'].startswith('uid: ')
    local.refresh_from_db()
    assert (local.ldap_status, local.last_name, local.im_enabled) == ('active', 'b5', True), 'adopted, settings stay'
    assert users(user_id='b7').get().department == 'x' * 64
    directory.change(f'uid=b4,{base}', mail='broken')
    job = sync(client, made['id'])
    assert counted(job) == {'unchanged': 4, 'refused': 4}
    assert users(user_id='b4', ldap_status='active', active=True).exists()
    log = client.get(f'/api/v1/job-scheduler/{job.pk}/file/log/')
    assert 'b4 (uid=b4,ou=bad' in b''.join(log.streaming_content).decode()


@proves('LD-03', 'LD-04', 'LD-24')
def test_filters_and_several_directories(client: Any, directory: Directory) -> None:
    sales = {'departmentNumber': 'Sales (EU)'}
    base = directory.unit('two', {'uid': 't1'} | sales, {'uid': 't2'}, {'uid': 't3'} | sales)

    def named(text: str, status: int = 201, name: str = 'f') -> str:
        answer = client.post('/api/v1/ldap-filters/', {'name': name, 'filter': text}, format='json')
        assert answer.status_code == status, answer.content
        return str(answer.json().get('errors', {}).get('filter', ''))

    assert 'Enclose' in named('cn=*', 400)
    assert 'character 6' in named('(cn=a)(cn=b)', 400)
    assert 'character 5' in named(r'(cn=\zz)', 400)
    named(f'(cn={"x" * 1019})', name='long')
    named(f'(cn={"中" * 1019})', name='wide')
    named(f'(cn={"x" * 1020})', 400)
    named(r'(departmentNumber=Sales \28EU\29)')
    first = agreement(client, directory, base, name='Sales', custom_filter='f')
    assert counted(sync(client, first['id'])) == {'created': 2}
    second = agreement(client, directory, base, name='All')
    job = sync(client, second['id'])
    assert counted(job) == {'created': 1, 'skipped': 2}
    assert 'comes from the LDAP directory Sales' in job.rows.first().reason
    (used,) = client.get('/api/v1/ldap-filters/', {'name': 'f'}).json()['results']
    assert client.delete(f'/api/v1/ldap-filters/{used["id"]}/').status_code == 409
    assert client.delete(f'{DIRECTORIES}{second["id"]}/').status_code == 204
    assert users(user_id='t2', ldap_status='inactive', active=False, ldap_directory=None).exists()
    assert users(ldap_status='active').count() == 2


@proves('LD-17', 'LD-23', 'LD-34', 'LD-36', 'LD-37', 'LD-38', 'LD-39')
def test_servers_that_do_not_answer(client: Any, directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three tries each, then the next one; when none answers, later. A wrong password is tried once."""
    from impadmin.osadmin.models import Certificate
    from impadmin.ucm import ldap_sync, ldap_tasks
    from impadmin.ucm.models import LdapDirectory

    pauses: list[float] = []
    monkeypatch.setattr(ldap_sync, '_pause', lambda job, seconds: pauses.append(seconds) or True)
    base = directory.unit('away', {'uid': 'w1'}, {'uid': 'w2'})
    dead = {'host_1': '127.0.0.1', 'port_1': free_port()}
    made = agreement(client, directory, base, **dead, host_2='127.0.0.1', port_2=directory.tls_port)
    assert counted(sync(client, made['id'])) == {'created': 2}
    assert pauses == [5, 5]
    one = f'{DIRECTORIES}{made["id"]}/'
    parameters = {'host_retry_delay_s': 7, 'hostlist_retry_delay_m': 12, 'max_hosts': 2}
    answer = client.patch('/api/v1/service-parameters/imp1/dirsync/', parameters | {'ldap_timeout_s': 2}, format='json')
    assert answer.status_code == 200, answer.content
    refused = client.patch(one, {'host_3': 'ldap9.example.com'}, format='json')
    assert 'Maximum Number of Hosts allows 2' in str(refused.json()['errors']['host_3'])

    refused = client.patch(one, {'host_2': ''}, format='json')
    assert refused.status_code == 200, 'fewer servers need no password'
    refused = client.patch(one, {'host_2': 'ldap.evil.example'}, format='json')
    assert 'Enter the password again' in str(refused.json()['errors']['password'])
    pauses.clear()
    before = timezone.now()
    job = sync(client, made['id'])
    assert (job.state, pauses) == ('failed', [7, 7])
    assert 'Nobody was made inactive' in said(job)
    retry = LdapDirectory.objects.get().retry_at
    assert before + timedelta(minutes=11) < retry < timezone.now() + timedelta(minutes=12)
    assert users(ldap_status='active').count() == 2
    ldap_tasks.begin_due()
    assert ldap_sync.under_way(LdapDirectory.objects.get()) is None
    LdapDirectory.objects.update(retry_at=timezone.now())
    ldap_tasks.begin_due()
    assert ldap_sync.under_way(LdapDirectory.objects.get()) is not None, 'begun again by itself'
    assert client.post(f'{one}full-sync/').status_code == 409
    assert client.post(f'{one}cancel-sync/').status_code == 200

    pauses.clear()
    both = {'port_1': directory.tls_port, 'host_2': '127.0.0.1', 'port_2': directory.plain_port, 'tls_2': False}
    assert client.patch(one, both | {'password': 'wrong one'}, format='json').status_code == 200
    job = sync(client, made['id'])
    assert 'The manager or the password is wrong (49)' in said(job)
    assert not pauses, 'an account is not locked by trying again'
    for authority in ('', trustme.CA().cert_pem.bytes().decode()):
        Certificate.objects.all().delete()
        if authority:
            trust(authority)
        answer = client.post(f'{one}test/')
        assert answer.status_code == 409
        assert 'CERTIFICATE_VERIFY_FAILED' in answer.content.decode()
    trust(directory.ca)
    both |= {'password': MANAGER_PASSWORD, 'host_2': ''}
    assert client.patch(one, both, format='json').status_code == 200
    assert client.post(f'{one}test/').status_code == 200


@proves('LD-08', 'LD-35', 'LD-40')
def test_schedules(client: Any, directory: Directory) -> None:
    """Due ones begin by themselves, not too soon after Cisco DirSync has started."""
    from impadmin.console import jobs
    from impadmin.console.models import Job
    from impadmin.system.models import ServiceStatus
    from impadmin.ucm import ldap_tasks
    from impadmin.ucm.models import LdapDirectory

    base = directory.unit('due', {'uid': 'd1'})
    made = agreement(client, directory, base, interval=2, interval_unit='days')
    short = client.patch(f'{DIRECTORIES}{made["id"]}/', {'interval': 5, 'interval_unit': 'hours'}, format='json')
    assert 'at least 6 hours' in str(short.json()['errors']['interval'])
    at = timezone.now() - timedelta(days=3)
    LdapDirectory.objects.update(next_sync_at=at)
    ldap_tasks.begin_due()
    assert not Job.objects.exists(), 'Cisco DirSync does not run'
    dirsync()
    ServiceStatus.objects.filter(service='dirsync').update(since=timezone.now() - timedelta(minutes=4))
    ldap_tasks.begin_due()
    assert not Job.objects.exists(), 'it has just started'
    delayed = {'delayed_start_m': 6}
    assert client.patch('/api/v1/service-parameters/imp1/dirsync/', delayed, format='json').status_code == 200
    ServiceStatus.objects.filter(service='dirsync').update(since=timezone.now() - timedelta(minutes=7))
    ldap_tasks.begin_due()
    ldap_tasks.begin_due()
    assert Job.objects.count() == 1
    jobs.work('default')
    assert users(user_id='d1').exists()
    assert LdapDirectory.objects.get().next_sync_at == at + timedelta(days=4), 'the missed time is not caught up'
    LdapDirectory.objects.update(next_sync_at=at, sync_once=True)
    ldap_tasks.begin_due()
    assert LdapDirectory.objects.get().next_sync_at is None
    jobs.work('default')
    ldap_system(client, directory, enabled=False)
    assert 'switched off' in sync(client, made['id'], 409)['detail']
    most = {'max_agreements': 1}
    assert client.patch('/api/v1/service-parameters/imp1/dirsync/', most, format='json').status_code == 200
    refused = agreement(client, directory, base, 400, name='second')
    assert 'allows 1 LDAP directories' in str(refused['errors']['name'])
    refused = client.patch('/api/v1/ldap-system/', {'server_type': 'oracle'}, format='json')
    assert 'while there is an LDAP directory' in str(refused.json()['errors']['server_type'])


def test_troubleshooter_tells_what_is_wrong_with_directories(client: Any, directory: Directory, api: Any) -> None:
    def outcomes() -> dict[str, str]:
        tests = api('read_only').get('/api/v1/system-troubleshooter/').json()['tests']
        return {one['name']: one['outcome'] for one in tests if one['name'].startswith('ldap-')}

    base = directory.unit('trouble', {'uid': 'x1'}, {'uid': 'x2', 'mail': 'broken'})
    made = agreement(client, directory, base)
    assert outcomes()['ldap-dirsync'] == 'failed'
    sync(client, made['id'])
    assert outcomes() == {'ldap-dirsync': 'passed', 'ldap-runs': 'passed', 'ldap-entries': 'warning'}
    directory.remove(f'uid=x2,{base}')
    directory.remove(f'uid=x1,{base}')
    sync(client, made['id'])
    assert outcomes()['ldap-runs'] == 'failed'


@proves('LD-15', 'LD-16')
def test_primary_extensions_of_inserted_users(client: Any, directory: Directory, make_user: Any) -> None:
    """By mask from the telephone number, else the lowest free number of the pool; who was there before gets none."""
    make_user('p0', extension='1001')
    numbers = ('8889945', '+49 (89) 888-9945', '12', '', '7001')
    people = [{'uid': f'p{n}'} | ({'telephoneNumber': number} if number else {}) for n, number in enumerate(numbers, 1)]
    base = directory.unit('lines', {'uid': 'p0', 'telephoneNumber': '5556'}, *people)
    for values, name in (
        ({'use_mask': True}, 'mask'), ({'use_mask': True, 'mask': '1145'}, 'mask'), ({'use_pool': True}, 'pool_start'),
        ({'use_pool': True, 'pool_start': '1000', 'pool_end': '999'}, 'pool_end'),
        ({'use_pool': True, 'pool_start': '1000', 'pool_end': '0999'}, 'pool_end'),
    ):  # fmt: skip
        assert list(agreement(client, directory, base, 400, **values)['errors']) == [name]
    pool = {'use_pool': True, 'pool_start': '1000', 'pool_end': '1002'}
    made = agreement(client, directory, base, use_mask=True, mask='11XX', **pool)
    job = sync(client, made['id'])
    assert counted(job) == {'created': 5, 'changed': 1}

    def extensions() -> dict[str, str]:
        return dict(users(user_id__startswith='p').order_by('user_id').values_list('user_id', 'extension'))

    expected = {'p0': '1001', 'p1': '1145', 'p2': '1000', 'p3': '1112', 'p4': '1002', 'p5': '1101'}
    assert extensions() == expected
    assert users(user_id='p2').get().telephone_number == '+49 (89) 888-9945'
    directory.add(base, {'uid': 'p6'})
    directory.change(f'uid=p1,{base}', telephoneNumber='8889900')
    job = sync(client, made['id'])
    assert counted(job) == {'created': 1, 'changed': 1, 'unchanged': 5}
    assert extensions() == expected | {'p6': ''}, 'the pool is empty, and a number once given stays'
    (row,) = job.rows.all()
    assert 'No number is free' in row.reason
    locked = client.patch(f'{DIRECTORIES}{made["id"]}/', {'mask': '22XX'}, format='json')
    assert 'cannot be edited after the initial synchronization' in str(locked.json()['errors']['mask'])


@proves('IMA-16', 'IMA-17')
def test_where_directory_uris_come_from(client: Any, directory: Directory) -> None:
    """From mail or from the SIP address of Microsoft; after the first synchronization that stays, and who has none from
    the directory gets one by hand or by a bulk change, which later synchronizations leave alone."""

    def entries(name: str) -> str:
        both = {'mail': f'{name}@mail.example', 'msRTCSIP-PrimaryUserAddress': f'sip:{name}@sip.example'}
        return directory.unit(name, {'uid': name} | both, {'uid': f'{name}2'})

    def uri(name: str) -> str:
        return str(users(user_id=name).get().directory_uri)

    for attribute, domain in (('mail', 'mail.example'), ('msRTCSIP-PrimaryUserAddress', 'sip.example'), ('', '')):
        name = f'u{len(attribute)}'
        one = f'{DIRECTORIES}{agreement(client, directory, entries(name), directory_uri_from=attribute)["id"]}/'
        sync(client, client.get(one).json()['id'])
        assert uri(name) == (f'{name}@{domain}' if domain else '')
        assert uri(f'{name}2') == ''
        other = client.patch(one, {'directory_uri_from': '' if attribute else 'mail'}, format='json')
        assert 'cannot be edited after the initial' in str(other.json()['errors']['directory_uri_from'])
    last = client.get(one).json()['id']
    key, second = users(user_id='u0').get().pk, users(user_id='u02').get().pk
    by_hand = client.patch(f'/api/v1/end-users/{key}/', {'directory_uri': 'hand@example.com'}, format='json')
    assert by_hand.status_code == 200, by_hand.content
    rows = {'rows': [{'do': 'update', 'id': second, 'values': {'directory_uri': 'bulk@example.com'}}]}
    bulk = client.post('/api/v1/end-users/bulk/', rows, format='json')
    assert bulk.status_code == 200, bulk.content
    assert counted(sync(client, last)) == {'unchanged': 2}
    assert (uri('u0'), uri('u02')) == ('hand@example.com', 'bulk@example.com')
    theirs = client.patch(f'/api/v1/end-users/{users(user_id="u4").get().pk}/', {'directory_uri': 'x@y.example'},
                          format='json')  # fmt: skip
    assert 'comes from the LDAP directory' in str(theirs.json()['errors']['directory_uri'])
