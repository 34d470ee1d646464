"""System > Task Flows: checklists that know which steps are done."""

from __future__ import annotations

import pytest
from django.utils import timezone

from tests.fixtures.data import NODE
from tests.fixtures.processes import wait_until
from tests.proves import proves

RESTART = '/api/v1/restart-services/'
SETUP = '/api/v1/first-set-up/'


def statuses(client, url):
    """{step: status}"""
    return {step['name']: step['status'] for step in client.get(url).json()['steps']}


@pytest.fixture
def node(db):
    """The installed node as its engine would describe it."""
    from engine.contract.services import SERVICES
    from impadmin.console import generations
    from impadmin.system.models import Node, ServiceStatus

    Node.objects.update(heartbeat_at=timezone.now(), users_online=7, sessions=9)
    found = Node.objects.get()
    number = generations.newest_number()
    ServiceStatus.objects.bulk_create(
        ServiceStatus(node=found, service=s.key, state='Running', since=timezone.now(), generation=number)
        for s in SERVICES
    )
    return found


def test_a_restart_with_its_gates(node, api):
    """Steps in their order: what the system sees ticks itself, the rest somebody ticks; nothing is skipped."""
    from impadmin.console.models import AuditEntry, TaskFlowRun
    from impadmin.system.models import Node, ServiceCommand, ServiceStatus

    client = api('operator')
    assert statuses(client, RESTART) == dict.fromkeys(
        ('record', 'ha-off', 'restart', 'services', 'sessions', 'ha-on'), 'waits'
    )
    refused = client.post(f'{RESTART}tick/', {'step': 'record'}, format='json')
    assert (refused.status_code, refused.json()['detail']) == (409, 'Press Start first.')
    ServiceCommand.objects.create(node=node, service='xcp_router', verb='restart', finished_at=timezone.now())  # before
    assert client.post(f'{RESTART}start/', {}, format='json').status_code == 200
    assert statuses(client, RESTART)['record'] == 'next'
    refused = client.post(f'{RESTART}tick/', {'step': 'restart'}, format='json')
    assert refused.json()['detail'] == 'First: Disable High Availability in every group.'
    done = client.post(f'{RESTART}tick/', {'step': 'record'}, format='json').json()
    assert done['data']['recorded'] == {NODE: 7}
    assert statuses(client, RESTART)['restart'] == 'next'  # what was restarted before does not count
    command = ServiceCommand.objects.create(node=node, service='xcp_router', verb='restart')
    Node.objects.update(users_online=0)
    assert statuses(client, RESTART)['restart'] == 'next'
    ServiceCommand.objects.filter(pk=command.pk).update(finished_at=timezone.now())
    ServiceStatus.objects.filter(service='presence_engine').update(state='Starting')
    shown = statuses(client, RESTART)
    assert (shown['restart'], shown['services'], shown['sessions']) == ('done', 'next', 'waits')
    refused = client.post(f'{RESTART}tick/', {'step': 'services'}, format='json')
    assert (refused.status_code, 'Cisco Presence Engine' in refused.json()['detail']) == (409, True)
    ServiceStatus.objects.update(state='Running')
    sessions = client.get(RESTART).json()['steps'][-2]
    assert (sessions['status'], sessions['text']) == ('next', f'{NODE}: 0 / 7')
    Node.objects.update(users_online=7)
    assert statuses(client, RESTART)['sessions'] == 'done'
    Node.objects.update(users_online=6)
    assert client.post(f'{RESTART}tick/', {'step': 'sessions'}, format='json').status_code == 200  # a person decides
    assert client.post(f'{RESTART}untick/', {'step': 'sessions'}, format='json').status_code == 200
    assert statuses(client, RESTART)['sessions'] == 'next'
    assert client.post(f'{RESTART}reset/', {}, format='json').status_code == 200
    assert set(statuses(client, RESTART).values()) == {'waits'}
    assert TaskFlowRun.objects.get().ended_at
    actions = AuditEntry.objects.filter(page__contains='Restart Services').order_by('pk')
    assert list(actions.values_list('action', flat=True)) == ['start', 'tick', 'tick', 'untick', 'reset']


def test_who_may_tick_and_what_is_no_step(node, api):
    assert api('read_only').post(f'{RESTART}start/', {}, format='json').status_code == 403
    assert api('operator').post(f'{SETUP}tick/', {'step': 'presence'}, format='json').status_code == 403
    wrong = api('administrator').post(f'{SETUP}tick/', {'step': 'nowhere'}, format='json')
    assert (wrong.status_code, list(wrong.json()['errors'])) == (400, ['step'])
    listed = api('read_only').get('/api/v1/task-flows/').json()['flows']
    assert [flow['name'] for flow in listed if flow['begun']] == ['first-set-up', 'user-settings-flow']


def test_an_import_of_contact_lists(node, api, make_user):
    from impadmin.bulkadmin.models import BulkFile
    from impadmin.console.models import Job

    client, url = api('administrator'), '/api/v1/import-contact-lists/'
    BulkFile.objects.create(name='old.csv', target='contact_lists', transaction='import_contacts', owner='x')
    client.post(f'{url}start/', {}, format='json')
    assert statuses(client, url)['users'] == 'next'
    make_user('alice')
    client.post(f'{url}tick/', {'step': 'limits'}, format='json')
    assert (statuses(client, url)['service'], statuses(client, url)['upload']) == ('done', 'next')
    BulkFile.objects.create(name='new.csv', target='contact_lists', transaction='import_contacts', owner='x')
    job = Job.objects.create(kind='import_contacts', state='processing', total=4, done=1, submitted_by='x')
    ended = client.get(url).json()['steps'][5]
    assert (ended['status'], ended['text']) == ('next', f'Job {job.pk}: Processing, 25 %.')
    Job.objects.update(state='completed')
    assert statuses(client, url)['log'] == 'next'


def test_the_change_of_the_default_domain_counts_from_its_start(node, api):
    from impadmin.console.models import Job

    client, url = api('administrator'), '/api/v1/default-domain-change/'
    Job.objects.create(kind='default_domain_change', state='completed', submitted_by='x')
    client.post(f'{url}start/', {}, format='json')
    ready = client.get(url).json()['steps'][0]
    assert (ready['status'], 'not Directory URI' in ready['text']) == ('next', True)
    client.post(f'{url}tick/', {'step': 'ready'}, format='json')
    client.post(f'{url}tick/', {'step': 'record'}, format='json')
    assert (statuses(client, url)['idle'], statuses(client, url)['change']) == ('done', 'next')
    Job.objects.create(kind='default_domain_change', state='completed', submitted_by='x')
    client.post(f'{url}tick/', {'step': 'certificates'}, format='json')
    assert statuses(client, url) == dict.fromkeys(statuses(client, url), 'done')


@proves('DOM-19')
def test_what_a_change_of_the_default_domain_needs(node, api):
    """Every node runs one version, and addresses come from the Directory URI; else the step says what is missing."""
    from impadmin.presence.models import AdvancedSettings
    from impadmin.system.models import Node

    client, url = api('administrator'), '/api/v1/default-domain-change/'
    Node.objects.update(version='0.1.0')
    Node.objects.create(name='imp2', address='127.0.0.2', version='0.0.9', heartbeat_at=timezone.now())
    client.post(f'{url}start/', {}, format='json')
    ready = client.get(url).json()['steps'][0]
    assert (ready['status'], '0.0.9' in ready['text'], '0.1.0' in ready['text']) == ('next', True, True)
    Node.objects.update(version='0.1.0')
    ready = client.get(url).json()['steps'][0]
    assert (ready['status'], 'not Directory URI' in ready['text']) == ('next', True)
    AdvancedSettings.objects.update(address_scheme='directory_uri')
    assert client.get(url).json()['steps'][0]['status'] == 'done'
    assert statuses(client, url)['record'] == 'next'


@proves('IMA-25')
def test_the_change_of_the_address_scheme(node, api, make_user):
    """The steps in the guide's order; addresses that could not be formed hold it up."""
    from impadmin.console.models import Job
    from impadmin.system.models import Node
    from impadmin.ucm.models import EndUser

    client, url = api('administrator'), '/api/v1/address-scheme-change/'
    make_user('alice')
    EndUser.objects.update(directory_uri='alice@@example.com')
    client.post(f'{url}start/', {}, format='json')
    assert list(statuses(client, url)) == [
        'valid', 'unique', 'record', 'idle', 'ha-off', 'change', 'certificates', 'services', 'sessions', 'ha-on',
    ]  # fmt: skip
    valid = client.get(url).json()['steps'][0]
    assert (valid['status'], 'alice@@example.com' in valid['text']) == ('next', True)
    early = client.post(f'{url}tick/', {'step': 'record'}, format='json')
    assert early.json()['detail'] == 'First: No two users have the same Directory URI.'
    EndUser.objects.update(directory_uri='alice@example.com')
    client.post(f'{url}tick/', {'step': 'record'}, format='json')
    assert statuses(client, url)['change'] == 'next'
    Job.objects.create(kind='default_domain_change', state='completed', submitted_by='x')
    client.post(f'{url}tick/', {'step': 'certificates'}, format='json')
    assert client.get(url).json()['steps'][-1]['text'] == f'Sessions are missing: {NODE}: 0 / 1'
    Node.objects.update(active_jsm_sessions=1)
    assert statuses(client, url) == dict.fromkeys(statuses(client, url), 'done')


def test_first_set_up_in_the_browser_and_on_the_command_line(engine, make_user, browser_page, api, capsys):
    """The dashboard offers it; what is there is done; the rest is ticked, in the page and by ``imp``."""
    from django.core.management import call_command

    make_user('alice')
    api('administrator')
    page = browser_page('administrator')
    page.goto('/')
    page.click('#setup a')
    page.wait_for_selector('#step-domain.is-done >> text=example.com')
    page.click('#step-presence button:has-text("Done")')
    page.wait_for_selector('#step-presence.is-done >> text=ticked by test-administrator')
    call_command('imp', 'do', 'first-set-up', 'tick', 'step=messaging')
    assert 'Done: Decide on instant messages.' in capsys.readouterr().out
    client = api('administrator')
    wait_until(lambda: set(statuses(client, SETUP).values()) == {'done'}, 'every step done')
    page.goto('/')
    page.wait_for_selector('#numbers')
    assert page.locator('#setup').count() == 0
