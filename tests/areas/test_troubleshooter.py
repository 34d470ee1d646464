"""Diagnostics > System Troubleshooter: tests against the real state, each problem with its solution and fix link."""

from __future__ import annotations

import pytest
from django.utils import timezone

from tests.fixtures.data import NODE
from tests.fixtures.processes import wait_until
from tests.proves import proves

PAGE = '/admin/diagnostics/system-troubleshooter/'
API = '/api/v1/system-troubleshooter/'


@pytest.fixture
def outcomes(api):
    """``outcomes()`` -> {name: test} as REST shows them."""
    client = api('read_only')
    return lambda: {test['name']: test for test in client.get(API).json()['tests']}


def alive(**fields):
    """The installed node, as its engine would describe it; further nodes by name."""
    from engine.contract.services import SERVICES
    from impadmin.system.models import Node, ServiceActivation, ServiceStatus

    name = fields.pop('name', NODE)
    node, _ = Node.objects.get_or_create(name=name, defaults={'address': '192.0.2.2'})
    Node.objects.filter(pk=node.pk).update(**{'heartbeat_at': timezone.now(), 'version': '0.1.0'} | fields)
    for service in SERVICES:
        if service.default_active and service.kind == 'feature':
            ServiceActivation.objects.get_or_create(node=node, service=service.key)
        ServiceStatus.objects.create(node=node, service=service.key, state='Running', since=timezone.now())
    return Node.objects.get(pk=node.pk)


@proves('TRB-01', 'TRB-02', 'TRB-03', 'TRB-05', 'TRB-18')
def test_a_stopped_service_fails_its_tests_and_passes_when_it_runs_again(outcomes, admin_client, db):
    from impadmin.system.models import ServiceStatus

    alive()
    second = alive(name='imp2')
    status = ServiceStatus.objects.filter(node=second, service='presence_engine')
    status.update(state='Stopped')
    found = outcomes()
    assert found['presence-engine']['outcome'] == found['services']['outcome'] == 'failed'
    assert found['xcp']['outcome'] == 'passed'
    (problem,) = found['presence-engine']['problems']
    assert problem['problem'] == 'Cisco Presence Engine on imp2 is stopped.'
    assert problem['fix'] == '/serviceability/serviceability/control-center/'
    assert found['idle-nodes']['outcome'] == 'warning'
    text = admin_client('read_only').get(PAGE).content.decode()
    for part in ('Test failed', 'Test warning', 'Test passed', problem['problem'], f'href="{problem["fix"]}"'):
        assert part in text
    status.update(state='Running')
    ServiceStatus.objects.filter(service='xcp_router', node=second).update(state='Failed', detail='The port is in use.')
    found = outcomes()
    assert found['presence-engine']['outcome'] == 'passed'
    assert found['xcp']['problems'][0]['problem'] == 'Cisco XCP Router on imp2 has failed. The port is in use.'


@proves('TRB-05')
def test_nodes_that_are_gone_or_differ_and_jobs_that_failed(outcomes, db):
    from impadmin.console.models import Job
    from impadmin.osadmin.models import Certificate

    node = alive()
    alive(name='imp2', version='0.0.9')
    alive(name='imp3', heartbeat_at=timezone.now() - timezone.timedelta(minutes=1))
    Job.objects.create(kind='import_contacts', state='failed', submitted_by='x', ended_at=timezone.now())
    for name, days in (('cup-xmpp', 400), ('cup-xmpp-s2s', 3)):
        ends = timezone.now() + timezone.timedelta(days=days, hours=1)
        Certificate.objects.create(node=node, name=name, kind='identity', origin='node', ends_at=ends)
    found = outcomes()
    assert found['nodes']['problems'][0]['problem'].startswith('No report from imp3 since ')
    assert '0.0.9, 0.1.0' in found['versions']['problems'][0]['problem']
    assert found['certificates']['problems'][0]['problem'] == (
        'The certificate cup-xmpp-s2s of imp1 expires in 3 days.'
    )
    assert len(found['certificates']['problems']) == 1
    assert found['jobs']['outcome'] == 'warning'
    assert found['jobs']['problems'][0]['fix'].startswith('/admin/bulkadmin/job-scheduler/')


@proves('TRB-19', 'IM-11', 'IMA-11', 'IC-07')
def test_users(outcomes, make_user):
    from impadmin.presence.models import PresenceSettings
    from impadmin.ucm.models import EndUser

    def users(*rows):
        EndUser.objects.bulk_create(EndUser(last_name='x', **row) for row in rows)

    users(*({'user_id': f'twin{n:02}', 'directory_uri': f'Pair{n // 2}@example.com'} for n in range(12)))
    users({'user_id': 'same'}, {'user_id': 'SAME'})
    users({'user_id': 'odd', 'directory_uri': 'asdf@ASDF@asdf@ADSF@cisco', 'mail': 'A@b.example'})
    users({'user_id': 'long', 'directory_uri': f'{"l" * 80}@example.com', 'mail': 'a@b.example'})
    found = outcomes()
    assert found['uris-unique']['problems'][0]['problem'] == (
        '12 users have a value that another user has too: '
        + ', '.join(f'twin{n:02} (Pair{n // 2}@example.com)' for n in range(10))
        + ' and 2 more.'
    )
    assert 'SAME (SAME), same (same)' in found['user-ids']['problems'][0]['problem']
    assert found['uris-present']['outcome'] == 'warning'
    assert 'SAME, same' in found['uris-present']['problems'][0]['problem']
    assert found['uris-valid']['problems'][0]['problem'] == (
        '1 Directory URI is not valid: odd (asdf@ASDF@asdf@ADSF@cisco).'
    )
    assert 'long (a@b.example), odd (A@b.example)' in found['mail-ids']['problems'][0]['problem']
    assert found['contact-limit']['outcome'] == 'passed'
    PresenceSettings.objects.update(max_contacts=3)
    make_user('full', contact_count=3)
    limit = outcomes()['contact-limit']
    assert limit['outcome'] == 'warning'
    assert '1 user has reached the maximum contact list size of 3: full.' in limit['problems'][0]['problem']
    assert limit['problems'][0]['fix'] == '/admin/presence/standard-configuration/'
    PresenceSettings.objects.update(max_contacts=None)
    assert outcomes()['contact-limit']['outcome'] == 'passed'


def test_a_test_that_does_not_end_holds_up_no_other(outcomes, monkeypatch, db):
    from django.db import connection

    from impadmin.console import diagnosis

    def endless(facts):
        with connection.cursor() as cursor:
            cursor.execute('SELECT pg_sleep(60)')
        return []

    monkeypatch.setattr(diagnosis, 'TIMEOUT_S', 1)
    slow = diagnosis.Check(name='slow', section=diagnosis.SYSTEM, title='Slow', page='notifications', run=endless)
    monkeypatch.setattr(diagnosis, '_checks', [slow, *diagnosis.checks()])
    found = outcomes()
    assert found['slow']['outcome'] == 'warning'
    assert 'did not end within 1 seconds' in found['slow']['problems'][0]['problem']
    assert found['user-ids']['outcome'] == 'passed'


@proves('TRB-01')
def test_a_running_system_passes(engine, outcomes):
    """With a real engine everything of the cluster passes; nothing is left of its absence."""
    bad = lambda: {name for name, test in outcomes().items() if test['outcome'] == 'failed'}  # noqa: E731
    wait_until(lambda: not bad(), 'no failed test')


@proves('TRB-20')
def test_the_tools_are_chosen_from_the_menu(browser_page):
    """Choose Diagnostics, then one of the tools (guide 11251-11263): the dashboard or the troubleshooter."""
    page = browser_page('read_only')
    page.goto('/admin/messaging/messaging-settings/')
    for tool, title in (
        ('System Dashboard', 'System Dashboard'),
        ('System Troubleshooter', 'System Configuration Troubleshooter'),
    ):
        menu = page.locator('#nav > details').filter(has=page.locator('summary', has_text='Diagnostics'))
        if menu.get_attribute('open') is None:
            menu.locator('summary').click()
        menu.get_by_role('link', name=tool, exact=True).click()
        page.get_by_role('heading', name=title, level=1).wait_for()
        assert menu.locator('a[aria-current="page"]').inner_text() == tool
