"""Serviceability: Service Activation and Control Center, through pages and REST (spec 01 19.2, 15)."""

from __future__ import annotations

import pytest
from django.utils import timezone

FEATURE = '/serviceability/serviceability/control-center/'
NETWORK = '/serviceability/serviceability/control-center-network/'
ACTIVATION = '/serviceability/serviceability/service-activation/'
API = '/api/v1/control-center/'


@pytest.fixture
def node(db):
    """The installed node as its engine would describe it."""
    from engine.contract.services import SERVICES
    from impadmin.system.models import Node, ServiceStatus

    Node.objects.update(heartbeat_at=timezone.now(), users_online=7, sessions=9)
    found = Node.objects.get()
    from impadmin.console import generations

    ServiceStatus.objects.bulk_create(
        ServiceStatus(
            node=found, service=s.key, state='Running', since=timezone.now(), generation=generations.newest_number()
        )
        for s in SERVICES
    )
    return found


def states(client):
    return {entry['service']: entry['state'] for entry in client.get(API).json()['services']}


def test_matrix_shows_states_and_up_time(node, admin_client):
    from impadmin.system.models import ServiceStatus

    ServiceStatus.objects.filter(service='presence_engine').update(state='Failed', detail='The port is in use.')
    page = admin_client('read_only').get(FEATURE).content.decode()
    assert 'Cisco Presence Engine' in page
    assert 'The port is in use.' in page
    assert 'Cisco XCP Router' not in page
    assert 'type="checkbox"' not in page.partition('id="matrix"')[2].partition('</table>')[0]  # may not act
    page = admin_client('operator').get(NETWORK).content.decode()
    assert 'Cisco XCP Router' in page
    assert f'data-live="service:{node.name}:xcp_router"' in page


def test_a_node_that_is_gone_runs_nothing(node, api):
    from impadmin.system.models import Node

    client = api('operator')
    assert states(client)['xcp_router'] == 'Running'
    Node.objects.update(heartbeat_at=timezone.now() - timezone.timedelta(minutes=1))
    assert set(states(client).values()) == {'Stopped'}
    answer = client.post(f'{API}restart/', {'node': node.name, 'service': 'xcp_router'})
    assert answer.status_code == 409
    assert 'is not running' in answer.json()['detail']


def test_browser_asks_with_the_consequence_then_queues(node, admin_client):
    from impadmin.system.models import ServiceCommand

    browser = admin_client('operator')
    assert 'name="targets" value="imp1:xcp_router"' in browser.get(NETWORK).content.decode()
    chosen = {'targets': [f'{node.name}:xcp_router']}
    asked = browser.post(f'{NETWORK}do/restart/', chosen).content.decode()
    assert '7 users on imp1 are disconnected' in asked
    assert 'Cisco Presence Engine' in asked  # stops with it
    assert 'Users touched' in asked
    assert not ServiceCommand.objects.exists()
    done = browser.post(f'{NETWORK}do/restart/', {**chosen, 'confirmed': '1'}, follow=True).content.decode()
    assert 'Cisco XCP Router on imp1 is being restarted.' in done
    command = ServiceCommand.objects.get()
    assert (command.service, command.verb, command.requested_by) == ('xcp_router', 'restart', 'test-operator')
    assert 'Stopping' in browser.get(NETWORK).content.decode()


def test_several_services_what_is_possible_is_done(node, api):
    """Those of a node that does not run are left out and told; the preview says so before."""
    from impadmin.system.models import Node, ServiceCommand

    gone = Node.objects.create(name='imp2', address='127.0.0.2')
    targets = [f'{name}:{key}' for name in (node.name, gone.name) for key in ('presence_engine', 'xcp_authentication')]
    client = api('operator')
    said = client.post(f'{API}stop/?dry_run=1', {'targets': targets}).json()
    assert [one['object'] for one in said['refused']] == [
        'Cisco Presence Engine on imp2', 'Cisco XCP Authentication Service on imp2',
    ]  # fmt: skip
    assert 'is not running' in said['refused'][0]['reasons'][0]['text']
    assert [one['text'].partition(':')[0] for one in said['impact']] == [
        'Cisco Presence Engine on imp1', 'Cisco XCP Authentication Service on imp1',
    ]  # fmt: skip
    assert not ServiceCommand.objects.exists()
    done = client.post(f'{API}stop/', {'targets': targets}).json()
    assert {(one['node'], one['service']) for one in done['data']['commands']} == {
        ('imp1', 'presence_engine'),
        ('imp1', 'xcp_authentication'),
    }
    assert 'imp2 is not running' in done['message']
    both = client.post(f'{API}stop/', {'targets': targets, 'node': 'imp1', 'service': 'presence_engine'})
    assert 'not both' in str(both.json()['errors']['targets'])


def test_rest_gives_an_id_to_follow(node, api):
    from impadmin.console.models import AuditEntry
    from impadmin.system.models import ServiceCommand

    client = api('operator')
    answer = client.post(f'{API}stop/', {'node': node.name, 'service': 'presence_engine'})
    assert answer.status_code == 200, answer.content
    body = answer.json()
    number = body.get('data', body)['command']
    assert client.get(API, {'command': number}).json()['outcome'] == 'queued'
    ServiceCommand.objects.update(finished_at=timezone.now(), error='It did not stop.')
    found = client.get(API, {'command': number}).json()
    assert (found['outcome'], found['error']) == ('failed', 'It did not stop.')
    assert AuditEntry.objects.filter(action='stop').exists()


def test_bad_requests_say_what_is_wrong(node, api):
    client = api('operator')
    assert 'node' in client.post(f'{API}stop/', {'node': 'nowhere', 'service': 'xcp_router'}).json()['errors']
    assert 'service' in client.post(f'{API}stop/', {'node': node.name, 'service': 'sshd'}).json()['errors']
    assert client.get(API, {'command': '99'}).status_code in (404, 409)
    assert api('read_only').post(f'{API}stop/', {'node': node.name, 'service': 'xcp_router'}).status_code == 403


def test_activation_changes_the_configuration(node, admin_client, api):
    from impadmin.console import generations

    browser = admin_client('operator')
    page = browser.get(ACTIVATION).content.decode()
    assert 'Cisco XCP Connection Manager' in page
    chosen = {'node': node.name, 'services': ['xcp_connection_manager']}
    asked = browser.post(f'{ACTIVATION}do/save/', chosen)
    assert ('Cisco Presence Engine', 'On', 'Off') in asked.context['preview'].changes
    assert 'presence_engine' in generations.newest().node(node.name).activated
    answer = browser.post(f'{ACTIVATION}do/save/', {**chosen, 'confirmed': '1'})
    assert answer.status_code == 302
    assert answer['Location'] == f'{ACTIVATION}?node={node.name}'
    assert generations.newest().node(node.name).activated == ('xcp_connection_manager',)
    refused = api('operator').post(f'{API}start/', {'node': node.name, 'service': 'presence_engine'})
    assert refused.status_code == 409
    assert 'Service Activation' in refused.json()['detail']
    browser.post(f'{ACTIVATION}do/set-default/', {'node': node.name, 'confirmed': '1'})
    assert set(generations.newest().node(node.name).activated) == {
        'presence_engine',
        'xcp_authentication',
        'xcp_connection_manager',
        'text_conference_manager',
        'bulk_provisioning',
    }
    wrong = browser.post(f'{ACTIVATION}do/save/', {'node': node.name, 'services': ['sshd'], 'confirmed': '1'})
    assert 'sshd is not one of the available choices' in wrong.content.decode()


def test_restart_needed_is_shown_in_the_cell(node, admin_client, api):
    answer = api('administrator').patch('/api/v1/messaging-settings/', {'im_enabled': False})
    assert answer.status_code == 200, answer.content
    found = {e['service']: e['restart_needed'] for e in api('operator').get(API).json()['services']}
    assert found['xcp_router'] is True
    assert found['presence_engine'] is False
    assert 'Restart needed' in admin_client('operator').get(NETWORK).content.decode()
    page = admin_client('operator').get('/admin/system/notifications/').content.decode()
    assert 'Cisco XCP Router' in page
    assert 'Enable instant messaging' in page
    assert f'value="{node.name}:xcp_router"' in page  # the button leads to the confirmation
