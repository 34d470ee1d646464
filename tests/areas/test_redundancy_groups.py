"""Unified CM Administration > System > Presence Redundancy Groups: page, REST, CLI, two real nodes (spec 02)."""

from __future__ import annotations

import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from tests.areas.xmpp_fixtures import parameter
from tests.fixtures import data
from tests.fixtures.nodes import OTHER, Cluster, cluster
from tests.fixtures.processes import free_port, wait_until
from tests.proves import proves

__all__ = ['cluster']
API, PAGE = '/api/v1/presence-redundancy-groups/', '/ucm/system/presence-redundancy-groups/'


def node(name: str, **values: Any) -> Any:
    from impadmin.system.models import Node

    return Node.objects.create(name=name, address='127.0.0.2', **values)


def group(name: str = 'DefaultCUPSubcluster') -> Any:
    from impadmin.system.models import RedundancyGroup

    return RedundancyGroup.objects.select_related('server1', 'server2').get(name=name)


def stand(first: str, second: str, reason: str = 'On Admin Request', owner: str = '') -> None:
    """What the recovery managers of imp1 and imp2 would have written; ``owner`` serves the users of imp1."""
    from impadmin.system.models import Node, NodeRecovery

    Node.objects.update(heartbeat_at=timezone.now())
    for name, state in ((data.NODE, first), (OTHER, second)):
        mine = Node.objects.get(name=name)
        serves = Node.objects.get(name=owner) if owner and name == data.NODE else mine
        NodeRecovery.objects.update_or_create(
            node=mine, defaults={'state': state, 'reason': reason, 'since': timezone.now(), 'owner': serves}
        )


@pytest.fixture
def pair(db: None) -> Any:
    """imp1 and imp2 in the default group with High Availability."""
    from impadmin.system.models import RedundancyGroup

    other = node(OTHER)
    RedundancyGroup.of(other).delete()
    RedundancyGroup.objects.update(server2=other, ha_enabled=True)
    data.publish_configuration()
    return group()


def test_a_restart_is_not_begun_twice(pair: Any) -> None:
    """Two administrators who saw the button in the same moment."""
    from django.db import transaction

    from impadmin.console.actions import SYSTEM, Refused
    from impadmin.console.models import Job
    from impadmin.ucm import group_restart

    stand('Normal', 'Normal', 'Normal')
    with transaction.atomic():
        group_restart.start(SYSTEM, [pair], {'services': ['presence_engine']})
    with transaction.atomic(), pytest.raises(Refused, match='under way'):
        group_restart.start(SYSTEM, [pair], {'services': ['presence_engine']})
    assert Job.objects.filter(kind='restart_group').count() == 1


@proves('HA-01', 'HA-02', 'HA-03', 'HA-04', 'HA-05', 'HA-06', 'HA-07', 'HA-08', 'HA-10', 'SRV-05')
def test_groups_and_their_rules(db: None, api: Any, admin_client: Any) -> None:
    from impadmin.system.models import Node

    client = api('administrator')
    two, three = node('imp2', version='1.1'), node('imp3')
    Node.objects.filter(name=data.NODE).update(version='1.0')
    assert [row['name'] for row in client.get(API).json()['results']] == ['DefaultCUPSubcluster', 'imp2', 'imp3']

    def refused(method: str, url: str, body: dict[str, Any], status: int, text: str) -> None:
        answer = getattr(client, method)(url, body, format='json')
        assert (answer.status_code, text in answer.content.decode()) == (status, True), answer.content

    default = f'{API}{group().pk}/'
    refused('patch', default, {'name': 'a b'}, 400, 'letters, digits')
    refused('patch', default, {'name': 'IMP2'}, 400, 'already exists')
    refused('patch', default, {'description': 'R&D'}, 400, 'Leave out &')
    refused('patch', default, {'server2': data.NODE}, 400, 'another node')
    refused('patch', default, {'ha_enabled': True}, 400, 'needs two nodes')
    refused('patch', default, {'server2': 'imp2'}, 400, 'imp1 runs 1.0, imp2 runs 1.1')
    body = {'name': 'PRG_1-east', 'description': 'R+D (site #1)', 'server1': 'imp2', 'server2': 'imp3'}
    assert client.post(API, body, format='json').status_code == 201
    assert [row['name'] for row in client.get(API).json()['results']] == ['DefaultCUPSubcluster', 'PRG_1-east']
    Node.objects.update(version='1.0')
    refused('patch', default, {'server2': 'imp2'}, 409, 'is in the group PRG_1-east already')
    offered = admin_client('administrator').get(f'{PAGE}{group().pk}/').content.decode()
    assert 'imp3</option>' not in offered

    two.users.create(user_id='u1', last_name='U', im_address='u1@example.com')
    three.users.create(user_id='u2', last_name='U', im_address='u2@example.com')
    east = f'{API}{group("PRG_1-east").pk}/'
    refused('patch', east, {'server2': None}, 409, 'assigned to imp3')
    refused('patch', default, {'server1': 'imp2'}, 409, 'PRG_1-east')
    assert client.delete(east).status_code == 409
    two.users.all().delete()
    three.users.all().delete()
    assert client.patch(east, {'server2': None}, format='json').status_code == 200
    assert group('imp3').automatic
    refused('patch', default, {'server1': 'imp3'}, 409, 'is the publisher')
    assert client.delete(f'{API}{group("imp3").pk}/').status_code == 409  # every node is in a group
    assert client.delete(east).status_code == 204
    assert client.patch(default, {'server2': 'imp3'}, format='json').status_code == 200
    refused('delete', f'/api/v1/cluster-topology/{three.pk}/', {}, 409, 'DefaultCUPSubcluster')
    created = client.post(API, {'name': 'west', 'server1': 'imp2'}, format='json')
    assert created.status_code == 201


@proves('HA-08', 'HA-11', 'HA-12', 'HA-15', 'HA-16', 'HA-09', 'DOM-25')
def test_what_fails_before_high_availability_must_be_consented_to(db: None, api: Any, admin_client: Any) -> None:
    from impadmin.console import generations
    from impadmin.console.models import AuditEntry
    from impadmin.system.models import Node, ServiceStatus

    other = node(OTHER)
    client, browser = api('administrator'), admin_client('administrator')
    url, page = f'{API}{group().pk}/', f'{PAGE}{group().pk}/'
    assert client.patch(url, {'server2': OTHER}, format='json').status_code == 200
    Node.objects.update(heartbeat_at=timezone.now(), generation=generations.newest_number())
    Node.objects.filter(pk=other.pk).update(generation=0)
    Node.objects.get(name=data.NODE).users.create(user_id='u1', last_name='U', im_address='u1@example.com')
    running = ('xcp_router', 'presence_engine', 'client_profile_agent', 'sync_agent')
    ServiceStatus.objects.bulk_create(
        ServiceStatus(node=one, service=key, state='Running', since=timezone.now())
        for one in Node.objects.all()
        for key in running
    )
    ServiceStatus.objects.filter(node__name=data.NODE, service='xcp_router').update(state='Stopped')
    answer = client.patch(url, {'ha_enabled': True}, format='json')
    assert answer.status_code == 400
    said = ' '.join(answer.json()['errors']['proceed'])
    for text in ('imp2: Runs configuration 0', 'imp1: not running: Cisco XCP Router', '0 of 1 sessions',
                 'An immediate failover may follow'):  # fmt: skip
        assert text in said
    sent = {'name': group().name, 'server1': group().server1.pk, 'server2': other.pk, 'ha_enabled': 'on'}
    assert 'name="proceed"' not in browser.get(page).content.decode()
    asked = browser.post(page, sent)
    assert (asked.status_code, 'name="proceed"' in asked.content.decode()) == (200, True)
    assert 'An immediate failover may follow' in asked.content.decode()
    assert not group().ha_enabled
    assert browser.post(page, {**sent, 'proceed': 'on'}).status_code == 302
    assert group().ha_enabled
    assert 'Save it all the same' in str(AuditEntry.objects.latest('pk').after) or (
        AuditEntry.objects.latest('pk').after['proceed'] is True
    )
    assert generations.newest().groups[0].ha
    refused = client.patch(url, {'server2': None, 'ha_enabled': False}, format='json')
    assert (refused.status_code, 'Disable High Availability' in refused.content.decode()) == (409, True)

    assert client.patch(url, {'ha_enabled': False}, format='json').status_code == 200
    Node.objects.update(generation=generations.newest_number(), active_jsm_sessions=1)
    ServiceStatus.objects.update(state='Running')
    again = client.patch(url, {'ha_enabled': True}, format='json')
    assert 'less than two minutes ago' in ' '.join(again.json()['errors']['proceed'])
    found = group()
    found.ha_changed_at -= timedelta(minutes=3)
    found.save()
    assert client.patch(url, {'ha_enabled': True}, format='json').status_code == 200  # nothing to ask


@proves('HA-36', 'HA-37', 'HA-38', 'HA-39', 'HA-40', 'HA-55')
def test_buttons_follow_the_pair_of_states(pair: Any, api: Any, admin_client: Any, capsys: Any) -> None:
    from django.core.management import call_command

    from impadmin.console.models import AuditEntry
    from impadmin.system.models import ServiceCommand

    client, url = api('administrator'), f'{API}{pair.pk}/'

    def order(name: str, server: str = '') -> Any:
        return client.post(f'{url}{name}/', {'node': server} if server else {}, format='json')

    def shown() -> str:
        return ' '.join(
            re.sub(r'<[^>]+>', ' ', admin_client('administrator').get(f'{PAGE}{pair.pk}/').content.decode()).split()
        )

    stand('Failing Over', 'Taking Over')
    for name, server in (('failover', data.NODE), ('fallback', data.NODE), ('recover', '')):
        answer = order(name, server)
        assert (answer.status_code, 'imp1: Failing Over; imp2: Taking Over' in answer.json()['detail']) == (409, True)
    assert 'moves the users of imp1 to imp2' in shown()
    assert not ServiceCommand.objects.exists()
    stand('Normal', 'Normal', 'Normal')
    assert api('operator').post(f'{url}failover/', {'node': OTHER}, format='json').status_code == 403
    rehearsed = client.post(f'{url}failover/?dry_run=true', {'node': OTHER}, format='json').json()
    assert 'Users of imp2 who are signed in are disconnected' in str(rehearsed)
    assert order('failover', OTHER).status_code == 200
    stand('Idle', 'Running in Backup Mode', owner=OTHER)
    assert order('failover', OTHER).status_code == 409
    assert 'served by imp2' in shown()
    assert order('fallback', data.NODE).status_code == 200
    stand('Running in Failed Mode', 'Running in Failed Mode', 'Unknown')
    assert order('recover').status_code == 200
    assert list(ServiceCommand.objects.order_by('pk').values_list('node__name', 'service', 'verb')) == [
        (OTHER, 'server_recovery_manager', 'ha-failover'),
        (data.NODE, 'server_recovery_manager', 'ha-fallback'),
        (data.NODE, 'server_recovery_manager', 'ha-recover'),
    ]
    assert list(AuditEntry.objects.order_by('pk').values_list('action', flat=True))[-3:] == [
        'failover', 'fallback', 'recover',
    ]  # fmt: skip
    call_command('imp', 'utils', 'ha', 'status', pair.name)
    said = capsys.readouterr().out
    assert ('Running in Failed Mode' in said, 'Use Recover' in said) == (True, True)
    for words in (('utils', 'dbreplication', 'status'), ('utils', 'dbreplication', 'runtimestate')):
        call_command('imp', *words)
    said = capsys.readouterr().out
    assert ('No errors or mismatches' in said, 'imp2' in said) == (True, True)


@proves('HA-71', 'SRV-02')
def test_while_a_node_is_failed_over_nobody_is_added(pair: Any, api: Any) -> None:
    from impadmin.system.models import Node
    from impadmin.ucm.models import EndUser
    from impadmin.ucm.tasks import assign_users
    from tests.areas.test_users import sync_agent_runs

    client, user = api('administrator'), {'user_id': 'new', 'last_name': 'New'}
    waiting = EndUser.objects.create(user_id='w', last_name='W', im_address='w@example.com')
    sync_agent_runs()
    stand('Failed Over with Critical Services Not Running', 'Running in Backup Mode', 'Critical Service Down', OTHER)
    answer = client.post('/api/v1/end-users/', user, format='json')
    assert answer.status_code == 409
    assert 'imp1 is Failed Over with Critical Services Not Running' in answer.json()['detail']
    body = {'rows': [{'do': 'create', 'values': user}]}
    (row,) = client.post('/api/v1/end-users/bulk/', body, format='json').json()['rows']
    assert 'imp1 is Failed Over with Critical Services Not Running' in str(row['reasons'])
    assert not EndUser.objects.filter(user_id='new').exists()
    one = client.post(
        '/api/v1/assign-presence-users/assign/', {'ids': [waiting.pk], 'how': 'node', 'node': OTHER}, format='json'
    )
    assert one.status_code == 409, one.content
    assign_users()
    assert EndUser.objects.get(pk=waiting.pk).home_node is None
    assert client.post('/api/v1/end-users/', {**user, 'im_enabled': False}, format='json').status_code == 201
    stand('Normal', 'Normal', 'Normal')
    assert client.post('/api/v1/end-users/', {**user, 'user_id': 'new2'}, format='json').status_code == 201
    Node.objects.update(heartbeat_at=timezone.now())
    assign_users()
    assert EndUser.objects.get(pk=waiting.pk).home_node is not None


SHOTS = Path(os.environ['IMP_SHOTS']) if 'IMP_SHOTS' in os.environ else None


def looked_at(page: Any, name: str) -> None:
    """A picture for whoever asks for it with IMP_SHOTS."""
    if SHOTS is not None:
        page.screenshot(path=SHOTS / f'{name}.png', full_page=True)


@proves('HA-13', 'HA-17', 'HA-36', 'HA-37', 'HA-39', 'RST-09')
def test_two_nodes_in_the_browser(cluster: Cluster, browser_page: Any, rest: Any, worker: Any, capsys: Any) -> None:
    """Enable High Availability, fail over, fall back, restart under it: with two engines, a worker and clients."""
    from django.core.management import call_command

    from impadmin.console.models import Job
    from impadmin.system.models import Node, NodeRecovery, RedundancyGroup, ServiceStatus

    for name, value in (
        ('service_port', free_port()), ('keep_alive_interval_s', 1), ('keep_alive_timeout_s', 10),
        ('initialization_timeout_s', 40), ('critical_service_delay_s', 60),
    ):  # fmt: skip
        parameter('server_recovery_manager', name, value)
    cluster.start(link=False)
    second = Node.objects.get(name=OTHER)
    from impadmin.system.models import ParameterValue

    ParameterValue.objects.create(
        service='server_recovery_manager', name='bind_address', node=second, value='127.0.0.2'
    )
    Node.objects.filter(pk=second.pk).update(address='127.0.0.2')
    RedundancyGroup.of(second).delete()
    RedundancyGroup.objects.update(server2=second)
    data.publish_configuration()
    call = rest('administrator')
    for name in (data.NODE, OTHER):
        call('POST', '/api/v1/control-center-network/restart/', {'node': name, 'service': 'server_recovery_manager'})
    alice = cluster.sign_in('alice')
    found = group()
    page = browser_page('administrator')
    page.goto(f'{PAGE}{found.pk}/')
    page.wait_for_selector('text=High Availability is off')
    for server in (data.NODE, OTHER):  # shown although High Availability is off
        wait_until(lambda s=server: Node.objects.get(name=s).active_jsm_sessions == 1, f'the session at {server}')
    page.check('[name=ha_enabled]')
    page.click('.savebar .btn-primary')
    page.locator('[name=proceed]').or_(page.get_by_text('was saved')).first.wait_for()
    if page.locator('[name=proceed]').count():  # the restart of a moment ago
        page.check('[name=proceed]')
        page.click('.savebar .btn-primary')
    states = lambda: tuple(NodeRecovery.objects.order_by('node').values_list('state', flat=True))  # noqa: E731
    wait_until(lambda: states() == ('Normal', 'Normal'), 'both Normal', timeout_s=60)
    page.wait_for_selector('text=Both nodes work normally')
    looked_at(page, 'normal')
    alice.sync()  # nobody was disconnected

    page.click(f'button:has-text("Failover: {data.NODE}")')
    page.wait_for_selector('dialog >> text=Users of imp1 who are signed in are disconnected')
    looked_at(page, 'failover-dialog')
    page.click('dialog button:has-text("Failover")')
    wait_until(lambda: states() == ('Idle', 'Running in Backup Mode'), 'failed over', timeout_s=60)
    page.wait_for_selector(f'#server-{second.pk} >> text=Running in Backup Mode')
    looked_at(page, 'failed-over')
    wait_until(lambda: Node.objects.get(name=OTHER).active_jsm_sessions == 2, 'the sessions at imp2')
    call_command('imp', 'utils', 'ha', 'fallback', data.NODE)
    assert 'done' in capsys.readouterr().out
    wait_until(lambda: states() == ('Normal', 'Normal'), 'both Normal', timeout_s=60)
    page.wait_for_selector('text=Both nodes work normally')

    began = timezone.now()
    page.click('.live-panel button:has-text("Restart services")')
    page.check('dialog >> text=Cisco Presence Engine')
    page.click('dialog button:has-text("Restart services")')
    wait_until(
        lambda: Job.objects.filter(kind='restart_group', state='completed').exists(), 'the restart', timeout_s=90
    )
    assert group().ha_enabled
    restarted = ServiceStatus.objects.filter(service='presence_engine', since__gt=began, state='Running')
    assert restarted.count() == 2
    page.wait_for_selector('text=Restart under High Availability')
    looked_at(page, 'restarted')
