"""Unified CM side: UC services, service profiles, feature group templates, and how users get them (guide 2378-2543)."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import dns.nameserver
import dns.resolver
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from impadmin.console import jobs, registry
from tests.areas.bulk import provisioning
from tests.fixtures import data
from tests.fixtures.federation import Zone
from tests.fixtures.processes import free_port
from tests.proves import proves

Api = Callable[..., Any]


@pytest.fixture
def post(api: Api) -> Callable[..., Any]:
    """``post('uc-services/', 201, name=...)`` as an administrator: the answer as data."""

    def send(path: str, status: int = 201, **body: Any) -> Any:
        answer = api('administrator').post(f'/api/v1/{path}', body, format='json')
        assert answer.status_code == status, answer.content
        return answer.json()

    return send


def change(api: Api, path: str, status: int = 200, **body: Any) -> Any:
    answer = api('administrator').patch(f'/api/v1/{path}', body, format='json')
    assert answer.status_code == status, answer.content
    return answer.json()


@proves('US-05')
def test_uc_services(post: Callable[..., Any], api: Api, admin_client: Callable[..., Any]) -> None:
    """Addresses of every kind, names used once, and no deletion while a profile names it."""
    for n, address in enumerate(('imp1.example.com', '192.0.2.7', '2001:db8::7', '_cuplogin._tcp.example.com', 'imp1')):
        post('uc-services/', name=f'Service {n}', address=address)
    missing = post('uc-services/', 400, name='Empty')
    assert list(missing['errors']) == ['address']
    wrong = post('uc-services/', 400, name='Wrong', address='bad host!')
    assert 'no host name, IP address or DNS SRV name' in str(wrong['errors']['address'])
    assert list(post('uc-services/', 400, name='Service 1', address='a.example.com')['errors']) == ['name']
    browser = admin_client('administrator')
    form = browser.get('/ucm/ucm/service-profiles/add/').content.decode()
    assert 'Service 3</option>' in form
    post('service-profiles/', name='Sales', imp_primary='Service 3')
    (used,) = api('administrator').get('/api/v1/uc-services/', {'name': 'Service 3'}).json()['results']
    refused = api('administrator').delete(f'/api/v1/uc-services/{used["id"]}/')
    assert refused.status_code == 409
    assert 'Sales' in refused.json()['detail']
    page = browser.get(f'/ucm/ucm/uc-services/{used["id"]}/delete/').content.decode()
    assert 'still in use by: Sales' in page


@pytest.fixture
def zone() -> Iterator[Zone]:
    """A name server that this process asks."""
    made, before = Zone(), dns.resolver.default_resolver
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers = [dns.nameserver.Do53Nameserver('127.0.0.1', made.port)]
    dns.resolver.default_resolver = resolver
    yield made
    dns.resolver.default_resolver = before
    made.close()


@proves('US-06')
def test_the_address_is_resolved_by_its_kind(zone: Zone, post: Callable[..., Any]) -> None:
    """Test: SRV records in their order, hosts, IP addresses; whether somebody answers there."""
    from impadmin.system.models import Node, ParameterValue

    def tried(address: str, status: int = 200) -> str:
        made = post('uc-services/', name=address[:50], address=address)
        return str(post(f'uc-services/{made["id"]}/test/', status)['message' if status == 200 else 'detail'])

    closed = free_port()
    with socket.create_server(('127.0.0.1', 0)) as listener:
        port = listener.getsockname()[1]
        node = Node.objects.get(name=data.NODE)
        values = {'service': 'xcp_connection_manager', 'name': 'client_port', 'node': node}
        ParameterValue.objects.create(**values, value=port)
        zone.server('example.org', (20, 0, port, 'two.example.org'), (10, 0, closed, 'one.example.org'),
                    service='_xmpp-client')  # fmt: skip
        zone.records['host.example.org', 'A'] = ['127.0.0.1']
        zone.records['_none._tcp.example.org', 'SRV'] = ['0 0 0 .']
        assert tried('_xmpp-client._tcp.example.org').split('; ') == [
            f'one.example.org (127.0.0.1:{closed}): Connection refused',
            f'two.example.org (127.0.0.1:{port}): answers',
        ]
        assert tried('127.0.0.1') == f'127.0.0.1:{port}: answers'  # a node of this cluster, with its own port
        ParameterValue.objects.filter(**values).update(value=closed)
        assert 'host.example.org (127.0.0.1:5222): Connection refused' in tried('host.example.org', 409)
        assert ('host.example.org', 'A') in zone.asked
        assert tried('_none._tcp.example.org', 409) == (
            '_none._tcp.example.org: No server of this name has an address in DNS.'
        )
        assert 'no SRV record' in tried('_nowhere._tcp.example.org', 409)
        assert 'No server of this name' in tried('nowhere.example.org', 409)


@proves('US-07')
def test_service_profiles(post: Callable[..., Any], api: Api, make_user: Callable[..., Any]) -> None:
    """Servers in their order, one default, and who has which profile in the end."""
    for name in ('One', 'Two'):
        post('uc-services/', name=name, address=f'{name}.example.com')
    twice = post('service-profiles/', 400, name='Twice', imp_primary='One', imp_secondary='One')
    assert list(twice['errors']) == ['imp_secondary']
    assert list(post('service-profiles/', 400, name='Gap', imp_secondary='One')['errors']) == ['imp_secondary']
    sales = post('service-profiles/', name='Sales', imp_primary='One', imp_secondary='Two', is_default=True)['id']
    support = post('service-profiles/', name='Support', imp_primary='Two', is_default=True)['id']
    client = api('administrator')
    assert client.get(f'/api/v1/service-profiles/{sales}/').json()['is_default'] is False
    last = client.get(f'/api/v1/service-profiles/{sales}/history/').json()['results'][0]
    assert (last['action'], last['after']['is_default']) == ('update', False)
    alice, bob = make_user('alice'), make_user('bob')
    change(api, f'end-users/{alice.pk}/', service_profile='Sales')

    def effective(user: Any) -> str:
        return str(client.get(f'/api/v1/end-users/{user.pk}/').json()['effective_service_profile'])

    assert (effective(alice), effective(bob)) == ('Sales', 'Support, from the system default')
    preview = client.patch(f'/api/v1/service-profiles/{support}/?dry_run=true', {'description': 'x'}, format='json')
    assert preview.json()['users'] == 1
    kept = client.delete(f'/api/v1/service-profiles/{sales}/')
    assert (kept.status_code, 'alice' in kept.json()['detail']) == (409, True)
    for n in range(7):
        make_user(f'more{n}', service_profile_id=sales)
    many = client.delete(f'/api/v1/service-profiles/{sales}/').json()['detail']
    assert 'alice, more0, more1, more2, more3, …' in many
    change(api, f'service-profiles/{support}/', is_default=False)
    assert effective(bob) == 'None'
    assert 'no default' not in client.get('/api/v1/end-users/').content.decode()


def test_feature_group_templates(
    post: Callable[..., Any], admin_client: Callable[..., Any], api: Api, make_user: Callable[..., Any]
) -> None:
    """Their fields; given to selected users once: what changes later does not reach them."""
    alone = post('feature-group-templates/', 400, name='Alone', im_enabled=True)
    assert list(alone['errors']) == ['im_enabled']
    post('service-profiles/', name='Sales')
    browser = admin_client('administrator')
    fields = {'name': 'Sellers', 'description': 'All of sales', 'home_cluster': 'on', 'im_enabled': 'on'}
    profile = api('administrator').get('/api/v1/service-profiles/').json()['results'][0]['id']
    url = '/ucm/ucm/feature-group-templates/'
    assert browser.post(f'{url}add/', {**fields, 'service_profile': profile}).status_code == 302
    (template,) = api('administrator').get('/api/v1/feature-group-templates/').json()['results']
    assert (template['service_profile'], template['im_enabled']) == ('Sales', True)
    users = [make_user(f'user{n}', im_enabled=False, home_cluster=False, node=None) for n in range(3)]
    chosen = [user.pk for user in users[:2]]
    done = post('end-users/apply-template/', 200, ids=chosen, template='Sellers')
    assert done['data'] == {'done': 2, 'refused': []}
    change(api, f'feature-group-templates/{template["id"]}/', im_enabled=False, home_cluster=False)
    for user in users:
        user.refresh_from_db()
    assert [(user.im_enabled, user.home_cluster, str(user.service_profile)) for user in users] == [
        (True, True, 'Sales'),
        (True, True, 'Sales'),
        (False, False, 'None'),
    ]
    refused = api('read_only').post('/api/v1/end-users/apply-template/', {'ids': chosen, 'template': 'Sellers'},
                                    format='json')  # fmt: skip
    assert refused.status_code == 403
    kept = api('administrator').delete(f'/api/v1/service-profiles/{profile}/').json()['detail']
    assert 'user0' in kept


@proves('US-11')
def test_a_file_gives_profiles_to_exactly_its_users(
    post: Callable[..., Any], admin_client: Callable[..., Any], make_user: Callable[..., Any]
) -> None:
    """100 rows; unknown users and profiles are told with line and reason; nobody else changes."""
    from impadmin.console.models import Job, JobState
    from impadmin.ucm.models import EndUser

    provisioning()
    for name in ('Sales', 'Support'):
        post('service-profiles/', name=name)
    for n in range(120):
        make_user(f'user{n:03}', department='Old')
    rows = [f'user{n:03},Sales,New' for n in range(100)] + ['nobody,Sales,New', 'user110,Marketing,New']
    text = '\n'.join(['user_id,service_profile,department', *rows]) + '\n'
    browser, url = admin_client('administrator'), registry.page_url(registry.page('end-users'), 'import')
    file = SimpleUploadedFile('profiles.csv', text.encode(), 'text/csv')
    asked = browser.post(url, {'new': 'skip', 'existing': 'update', 'empty': 'keep', 'file': file})
    assert asked.status_code == 200
    assert not EndUser.objects.exclude(service_profile=None).exists(), 'so far it was only checked'
    done = browser.post(url, {'upload': asked.context['signed'], 'confirmed': '1'})
    assert done.status_code == 302
    jobs.work('bat')
    changed = EndUser.objects.filter(service_profile__name='Sales', department='New')
    assert sorted(changed.values_list('user_id', flat=True)) == [f'user{n:03}' for n in range(100)]
    assert EndUser.objects.filter(service_profile=None, department='Old').count() == 20
    job = Job.objects.latest('pk')
    assert (job.state, job.total, job.failed, job.counts['changed']) == (JobState.COMPLETED, 102, 1, 100)
    told = {row.line: (row.verdict, row.reason) for row in job.rows.all()}
    assert (set(told), told[102][0], told[103][0]) == ({102, 103}, 'skipped', 'refused')
    assert 'Marketing' in str(told[103][1])


@proves('US-16', 'US-17')
def test_the_task_flow_knows_what_is_done(post: Callable[..., Any], api: Api, make_user: Callable[..., Any]) -> None:
    """Moves between clusters come first, then the four steps in their order, then the users."""
    url = '/api/v1/user-settings-flow/'

    def steps() -> dict[str, str]:
        return {step['name']: step['status'] for step in api('administrator').get(url).json()['steps']}

    names = ['moves', 'mode', 'service', 'profile', 'template', 'users']
    assert steps() == dict(zip(names, ['next'] + ['waits'] * 5, strict=True))
    early = post('user-settings-flow/tick/', 409, step='mode')
    assert early['detail'] == 'First: Users of other clusters have moved here.'
    post('user-settings-flow/tick/', 200, step='moves')
    mode = api('administrator').get(url).json()['steps'][1]
    assert (mode['status'], mode['text']) == ('next', 'Balanced')
    post('user-settings-flow/tick/', 200, step='mode')
    assert steps()['service'] == 'next'
    post('uc-services/', name='One', address='one.example.com')
    assert (steps()['service'], steps()['profile']) == ('done', 'next')
    post('service-profiles/', name='Empty')
    assert steps()['profile'] == 'next'
    post('service-profiles/', name='Sales', imp_primary='One')
    assert (steps()['profile'], steps()['template']) == ('done', 'next')
    post('feature-group-templates/', name='Old', service_profile='Empty', home_cluster=True, im_enabled=True)
    assert steps()['template'] == 'next'
    post('feature-group-templates/', name='New', service_profile='Sales', home_cluster=True, im_enabled=True)
    alice = make_user('alice')
    users = api('administrator').get(url).json()['steps'][5]
    assert users['text'] == '1 enabled user has no service profile with IM and Presence.'
    post('end-users/apply-template/', 200, ids=[alice.pk], template='New')
    assert set(steps().values()) == {'done'}
