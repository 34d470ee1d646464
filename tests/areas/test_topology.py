"""System > Cluster Topology and Presence Topology (spec 01 section 14, 02 section 5)."""

from __future__ import annotations

import pytest
from django.utils import timezone

from tests.proves import proves

API = '/api/v1/cluster-topology/'


@pytest.fixture
def fqdn(db):
    """The installed node with an FQDN, so that others may join."""
    from impadmin.system.models import Node

    Node.objects.update(name='imp1.east.example.com', address='imp1.east.example.com')
    return Node.objects.get()


def add(client, name, **more):
    return client.post(API, {'name': name, 'address': name, **more})


def test_nodes_may_be_in_different_dns_domains(api, fqdn):
    from impadmin.console import generations
    from impadmin.system.models import Node

    client = api('administrator')
    answer = add(client, 'imp2.west.example.org')
    assert answer.status_code == 201, answer.content
    node = Node.objects.get(name='imp2.west.example.org')
    assert not node.publisher
    assert set(node.activations.values_list('service', flat=True)) == {
        'presence_engine',
        'xcp_authentication',
        'xcp_connection_manager',
        'text_conference_manager',
    }
    assert generations.newest().node(node.name).activated


@proves('DOM-16')
def test_bare_host_names_need_one_dns_domain(api, db):
    answer = add(api('administrator'), 'imp2.other.example')
    assert answer.status_code == 400
    text = str(answer.json()['errors']['name'])
    assert 'imp1 has a bare host name' in text
    assert 'other.example' in text
    assert api('administrator').post(API, {'name': 'imp2', 'address': '127.0.0.2'}).status_code == 201


def test_limits_of_the_cluster(api, fqdn):
    client = api('administrator')
    for n in range(2, 7):
        assert add(client, f'imp{n}.example.com').status_code == 201
    answer = add(client, 'imp7.example.com')
    assert answer.status_code == 400
    assert 'at most 6' in str(answer.json())
    assert add(client, 'IMP2.example.com').status_code == 400


def test_a_node_that_is_needed_stays(api, fqdn, make_user):
    from impadmin.system.models import Node

    client = api('administrator')
    number = add(client, 'imp2.example.com').json()['id']
    user = make_user('ann', node='imp2.example.com')
    answer = client.delete(f'{API}{number}/')
    assert answer.status_code == 409
    assert 'One user is assigned' in answer.json()['detail']
    assert 'publisher' in client.delete(f'{API}{fqdn.pk}/').json()['detail']
    client.patch(f'/api/v1/end-users/{user.pk}/', {'home_node': None})
    Node.objects.filter(pk=number).update(heartbeat_at=timezone.now())
    assert 'running' in client.delete(f'{API}{number}/').json()['detail']
    answer = client.patch(f'{API}{number}/', {'name': 'imp3.example.com'})
    assert 'Stop its engine' in str(answer.json())
    Node.objects.filter(pk=number).update(heartbeat_at=None)
    assert client.delete(f'{API}{number}/').status_code == 204


@proves('DOM-21', 'IC-13')
def test_presence_topology_shows_users_and_sessions(api, admin_client, fqdn, make_user):
    from impadmin.system.models import Node

    make_user('ann', node=fqdn.name)
    make_user('bob', node=fqdn.name, im_enabled=False)
    make_user('cid', node=None)
    Node.objects.update(heartbeat_at=timezone.now(), sessions=3, users_online=1)
    found = api('read_only').get('/api/v1/presence-topology/').json()
    assert found['unassigned_users'] == 1
    node = found['nodes'][0]
    assert (node['assigned_users'], node['enabled_users'], node['users_online'], node['sessions']) == (2, 1, 1, 3)
    page = admin_client('read_only').get('/admin/system/presence-topology/').content.decode()
    assert '1 user is not assigned to a node' in page
    assert fqdn.name in page
    assert fqdn.address in page
    link = page.partition('<dd><a href="')[2].partition('"')[0].replace('&amp;', '&')
    listed = admin_client('read_only').get(link).content.decode()
    assert 'ann' in listed
    assert '>cid<' not in listed
    Node.objects.update(heartbeat_at=timezone.now() - timezone.timedelta(minutes=5))
    assert api('read_only').get('/api/v1/presence-topology/').json()['nodes'][0]['sessions'] == 0
