"""The default domain is changed on two nodes with High Availability: by itself, and step by step (spec 01, 15)."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone

from engine.contract.services import SERVER_RECOVERY_MANAGER, SIP_PROXY
from tests.areas.test_task_flows import statuses
from tests.areas.xmpp_fixtures import parameter
from tests.fixtures import data
from tests.fixtures.nodes import OTHER, Cluster, cluster
from tests.fixtures.processes import free_port, wait_until
from tests.proves import proves

__all__ = ['cluster']
FLOW, CHANGE = '/api/v1/default-domain-change/', '/api/v1/advanced-configuration/'
NETWORK, ACTIVATION = '/api/v1/control-center-network/', '/serviceability/serviceability/service-activation/'
CONSENTS = {'accept_outage': True, 'clients_support_it': True, 'accept_invalid': True}
NODES = (data.NODE, OTHER)


def states(service: str) -> list[str]:
    """Of one service, on both nodes."""
    from impadmin.system.models import ServiceStatus

    return list(ServiceStatus.objects.filter(service=service).order_by('node').values_list('state', flat=True))


def start(cluster: Cluster) -> None:
    """Two nodes with every service of the procedure, Normal, High Availability on."""
    from impadmin.system.models import Node, NodeRecovery, ParameterValue, RedundancyGroup, ServiceActivation

    for name, value in (
        ('service_port', free_port()), ('keep_alive_interval_s', 1), ('keep_alive_timeout_s', 10),
        ('initialization_timeout_s', 40), ('critical_service_delay_s', 60),
    ):  # fmt: skip
        parameter(SERVER_RECOVERY_MANAGER, name, value)
    ServiceActivation.objects.create(node=Node.objects.get(), service=SIP_PROXY)
    cluster.addresses[OTHER] = '127.0.0.2'
    for name in ('port', 'tls_port', 'mutual_tls_port'):
        ParameterValue.objects.create(service=SIP_PROXY, name=name, node=Node.objects.get(), value=free_port())
    cluster.start(link=False)
    node = Node.objects.get(name=OTHER)
    for name in ('port', 'tls_port', 'mutual_tls_port'):
        ParameterValue.objects.create(service=SIP_PROXY, name=name, node=node, value=free_port())
    RedundancyGroup.of(node).delete()
    RedundancyGroup.objects.update(server2=node, ha_enabled=True)
    data.publish_configuration()
    wait_until(
        lambda: set(NodeRecovery.objects.values_list('state', flat=True)) == {'Normal'}, 'both Normal', timeout_s=60
    )
    wait_until(lambda: states(SIP_PROXY) == ['Running'] * 2, 'Cisco SIP Proxy runs on both nodes', timeout_s=60)


def change(call: Any, domain: str, scheme: str = 'userid') -> None:
    """The job, to its end."""
    from impadmin.presence import default_domain

    answer = call('POST', f'{CHANGE}change/', {'default_domain': domain, 'address_scheme': scheme, **CONSENTS})
    assert answer.status in (200, 202), answer.body
    job = wait_until(
        lambda: (found := default_domain.latest()).state not in ('pending', 'processing') and found, 'the change', 120
    )
    assert job.state == 'completed', job.message


@pytest.mark.long
@proves('DOM-20', 'DOM-22', 'DOM-24', 'DOM-25', 'IMA-12', 'IMA-13', 'IMA-14', 'IMA-22', 'RST-R47')
def test_by_itself_then_step_by_step(cluster: Cluster, rest: Any, worker: Any, admin_client: Any, api: Any) -> None:
    from impadmin.system.models import NodeRecovery, RedundancyGroup, ServiceActivation, ServiceCommand, ServiceStatus

    start(cluster)
    call, client, browser = rest('administrator'), api('administrator'), admin_client('administrator')

    began = timezone.now()
    change(call, 'first.example')  # High Availability is on: the change takes care of it
    commands = [
        (one.verb, one.service) for one in ServiceCommand.objects.filter(requested_at__gte=began).order_by('id')
    ]
    order = list(dict.fromkeys(service for verb, service in commands if verb == 'stop'))
    assert order == ['sync_agent', 'client_profile_agent', 'presence_engine', 'sip_proxy', 'xcp_router']
    assert commands.count(('stop', 'xcp_router')) == 2
    order = list(dict.fromkeys(service for verb, service in commands if verb == 'start'))
    assert (order[0], order[-2:]) == ('xcp_router', ['client_profile_agent', 'sync_agent'])
    since = lambda key: ServiceStatus.objects.filter(service=key).order_by('since').values_list('since', flat=True)  # noqa: E731
    for dependent in (SIP_PROXY, 'presence_engine'):  # the router starts them; first on all nodes, then the agents
        assert max(since('xcp_router')) <= max(since(dependent)) <= min(since('client_profile_agent'))
    group = RedundancyGroup.objects.get()
    assert group.ha_enabled
    assert group.ha_changed_at is not None
    assert group.ha_changed_at > began
    wait_until(lambda: set(NodeRecovery.objects.values_list('state', flat=True)) == {'Normal'}, 'Normal', timeout_s=60)

    assert client.post(f'{FLOW}start/', {}, format='json').status_code == 200
    for step in ('ready', 'record'):
        assert client.post(f'{FLOW}tick/', {'step': step}, format='json').status_code == 200
    early = client.post(f'{FLOW}tick/', {'step': 'change'}, format='json')
    assert early.json()['detail'] == 'First: Disable High Availability in every group.'
    url = f'/api/v1/presence-redundancy-groups/{group.pk}/'
    assert call('PATCH', url, {'ha_enabled': False}).status == 200
    wait_until(lambda: statuses(client, FLOW)['ha-off'] == 'done', 'High Availability is off on both nodes')
    for node in NODES:
        for service in ('client_profile_agent', *(('sync_agent',) if node == data.NODE else ()), 'xcp_router'):
            answer = call('POST', f'{NETWORK}stop/', {'node': node, 'service': service})
            assert answer.status in (200, 202), answer.body
    wait_until(lambda: states('xcp_router') == ['Stopped'] * 2, 'the routers stop')
    assert set(states('xcp_connection_manager')) == {'Stopped'}  # with the router
    active = {}
    for node in NODES:
        active[node] = set(ServiceActivation.objects.filter(node__name=node).values_list('service', flat=True))
        if node == OTHER:
            active[node].discard('bulk_provisioning')  # on the publisher only
        rest_of = sorted(active[node] - {'presence_engine', SIP_PROXY})
        saved = browser.post(f'{ACTIVATION}do/save/', {'node': node, 'services': rest_of, 'confirmed': '1'})
        assert saved.status_code == 302, saved.content.decode()[:2000]
    wait_until(lambda: states('presence_engine') == states(SIP_PROXY) == ['Not Activated'] * 2, 'both deactivated')
    cluster.engines[OTHER].restart()
    wait_until(lambda: states('xcp_router')[1] == 'Running', 'the second node again')
    assert states('presence_engine')[1] == states(SIP_PROXY)[1] == 'Not Activated'  # stopped would be running again

    change(call, 'second.example', 'directory_uri')
    assert states('presence_engine') == ['Not Activated'] * 2
    client.post(f'{FLOW}tick/', {'step': 'certificates'}, format='json')
    for node in NODES:
        for service in ('xcp_router', 'client_profile_agent', *(('sync_agent',) if node == data.NODE else ())):
            answer = call('POST', f'{NETWORK}restart/', {'node': node, 'service': service})
            assert answer.status in (200, 202), answer.body
        saved = browser.post(
            f'{ACTIVATION}do/save/', {'node': node, 'services': sorted(active[node]), 'confirmed': '1'}
        )
        assert saved.status_code == 302
    wait_until(lambda: statuses(client, FLOW)['services'] == 'done', 'every service runs', timeout_s=60)
    shown = client.get(FLOW).json()['steps'][-1]
    assert (shown['name'], 'DefaultCUPSubcluster' in shown['text'] or 'Sessions are missing' in shown['text']) == (
        'ha-on', True,
    )  # fmt: skip
    wait_until(
        lambda: 'Not enabled: DefaultCUPSubcluster' in client.get(FLOW).json()['steps'][-1]['text'],
        'every user has a session', timeout_s=60,
    )  # fmt: skip
    refused = call('PATCH', url, {'ha_enabled': True})
    if refused.status == 400:  # changed less than two minutes ago: somebody must agree
        assert 'two minutes' in refused.body.decode()
        assert call('PATCH', url, {'ha_enabled': True, 'proceed': True}).status == 200
    wait_until(lambda: statuses(client, FLOW)['ha-on'] == 'done', 'High Availability is on')
    assert statuses(client, FLOW) == dict.fromkeys(statuses(client, FLOW), 'done')
