"""Restart rules: what is notified per service and node, when it clears, previews, and what the REST list says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.utils import timezone

from engine.contract.restarts import RULES
from engine.contract.services import SERVICES
from tests.fixtures.data import make_administrator, publish_configuration
from tests.fixtures.processes import wait_until
from tests.proves import proves

SETTINGS = '/api/v1/messaging-settings/'
STANDARD = '/api/v1/standard-configuration/'


def names(page: str) -> str:
    """REST address of the page with that menu path."""
    from impadmin.console import registry

    return next(f'/api/v1/{p.name}/' for p in registry.pages() if p.menu == page)


@pytest.fixture
def running(db: None) -> Callable[..., None]:
    """``running('imp1')``: the node reports every service as started with the newest generation."""
    from impadmin.console import generations
    from impadmin.system.models import Node, ServiceStatus

    def report(node: str = 'imp1', *services: str) -> None:
        now = timezone.now()
        found, made = Node.objects.get_or_create(name=node, defaults={'address': '127.0.0.1'})
        if made:
            publish_configuration()
        Node.objects.filter(pk=found.pk).update(heartbeat_at=now)
        for service in services or [s.key for s in SERVICES]:
            ServiceStatus.objects.update_or_create(
                node=found,
                service=service,
                defaults={'state': 'Running', 'since': now, 'generation': generations.newest_number()},
            )

    return report


def listed(client: Any) -> set[tuple[str, str, str]]:
    """(node, service, rule) of every active restart notification."""
    data = client.get('/api/v1/notifications/').json()
    assert data['count'] == len(data['results'])
    return {(row['node'], row['service'], row['rule']) for row in data['results'] if row['kind'] == 'restart'}


CHANGES = [
    ('RST-R10', 'Messaging > Settings', {'im_enabled': False}, {'xcp_router'}),
    ('RST-R10', 'Messaging > Settings', {'suppress_offline': True}, {'xcp_router'}),
    *(
        (
            'RST-R13',
            'Presence > Settings > Standard Configuration',
            change,
            {'presence_engine', 'xcp_router'},
        )
        for change in (
            {'availability_sharing': False},
            {'auto_approve': False},
            {'max_contacts': 5},
            {'max_watchers': None},
        )
    ),
    ('RST-R05', 'Messaging > Group Chat and Persistent Chat', {'max_rooms': 7}, {'text_conference_manager'}),
]


@pytest.mark.parametrize(('rule', 'page', 'change', 'services'), CHANGES)
def test_each_setting_names_its_services_and_clears(
    rule: str, page: str, change: dict[str, Any], services: set[str], api: Any, running: Any
) -> None:
    """Saved: exactly the services of the rule, on every node. Set back: gone. Restarted: gone, node by node."""
    client, url = api('administrator'), names(page)
    running('imp1')
    running('imp2')
    assert listed(client) == set()
    old = {name: client.get(url).json()[name] for name in change}
    preview = client.patch(f'{url}?dry_run=1', change).json()
    assert {(r['service'], *r['nodes']) for r in preview['restarts']} == {
        (s.name, 'imp1', 'imp2') for s in SERVICES if s.key in services
    }
    assert listed(client) == set()
    assert client.patch(url, change).status_code == 200
    assert listed(client) == {(node, service, rule) for node in ('imp1', 'imp2') for service in services}
    row = client.get('/api/v1/notifications/').json()['results'][0]
    assert row['severity'] == 'Medium'
    assert row['page'] == page
    assert len(row['changes']) == 1
    assert client.patch(url, old).status_code == 200
    assert listed(client) == set()
    client.patch(url, change)
    running('imp1')
    assert listed(client) == {('imp2', service, rule) for service in services}
    running('imp2')
    assert listed(client) == set()


@proves('RST-R50')
def test_parameters_have_the_scope_of_their_declaration(api: Any, running: Any) -> None:
    """A cluster-wide parameter is pending on every node, a node's own only there; read live: never."""
    client = api('administrator')
    running('imp1')
    running('imp2')
    router = '/api/v1/service-parameters/imp1/xcp_router/'
    assert client.patch(router, {'max_sessions_per_user': 3}).status_code == 200
    assert listed(client) == {(node, 'xcp_router', 'RST-R54') for node in ('imp1', 'imp2')}
    assert client.patch(router, {'max_sessions_per_user': None}).json()['max_sessions_per_user'] == 10
    assert listed(client) == set()
    ports = '/api/v1/service-parameters/imp2/xcp_connection_manager/'
    assert client.patch(ports, {'client_port': 5333}).status_code == 200
    assert listed(client) == {('imp2', 'xcp_connection_manager', 'RST-R50')}
    assert client.patch(router, {'max_offline_messages': 7}).status_code == 200
    assert listed(client) == {('imp2', 'xcp_connection_manager', 'RST-R50')}
    assert client.patch(router, {'stream_management_timeout_s': 40}).status_code == 200
    routers = {(node, 'xcp_router', 'RST-R50') for node in ('imp1', 'imp2')}
    assert listed(client) == {('imp2', 'xcp_connection_manager', 'RST-R50'), *routers}


def test_parameters_refuse_what_is_wrong(api: Any) -> None:
    """By name, with what would be right; nothing is saved."""
    from impadmin.system.models import ParameterValue

    client, url = api('administrator'), '/api/v1/service-parameters/imp1/xcp_connection_manager/'
    before = ParameterValue.objects.count()
    for body, name in (
        ({'client_port': 0}, 'client_port'),
        ({'client_port': '5222'}, 'client_port'),
        ({'client_port': True}, 'client_port'),
        ({'direct_tls_port': 5222}, 'direct_tls_port'),
        ({'bind_address': '1.2.3.4.5'}, 'bind_address'),
        ({'bind_address': 'a' * 50}, 'bind_address'),
        ({'nothing': 1}, 'nothing'),
    ):
        answer = client.patch(url, body)
        assert answer.status_code == 400, body
        assert name in answer.json()['errors'], body
    assert ParameterValue.objects.count() == before
    assert client.get('/api/v1/service-parameters/imp9/xcp_router/').status_code == 404
    assert client.get('/api/v1/service-parameters/imp1/nothing/').status_code == 404
    assert client.patch('/api/v1/enterprise-parameters/', {'cluster_id': 'a b'}).status_code == 400
    answer = client.patch('/api/v1/enterprise-parameters/', {'cluster_id': 'East-1'})
    assert answer.json()['cluster_id'] == 'East-1'


def test_a_setting_without_rule_notifies_nobody(api: Any, running: Any) -> None:
    """Saving a user or a live setting asks for no restart."""
    client = api('administrator')
    running('imp1')
    user = {'user_id': 'amy', 'last_name': 'Amy', 'home_node': 'imp1'}
    assert client.post('/api/v1/end-users/', user).status_code == 201
    assert client.patch(names('Messaging > Settings'), {'client_history': False}).status_code == 200
    assert listed(client) == set()


def test_two_rules_for_the_same_page_are_one_line_with_every_field(api: Any, running: Any) -> None:
    """One line per node, service and page; its severity is the highest, its time that of the first change."""
    client = api('administrator')
    running('imp1')
    client.patch(names('Messaging > Settings'), {'im_enabled': False})
    first = client.get('/api/v1/notifications/').json()['results']
    client.patch(names('Messaging > Settings'), {'suppress_offline': True})
    rows = client.get('/api/v1/notifications/').json()['results']
    assert len(rows) == 1
    assert [c['field'] for c in rows[0]['changes']] == [
        'Enable instant messaging',
        'Suppress Offline Instant Messaging',
    ]
    assert rows[0]['since'] == first[0]['since']


@proves('V6-06')
def test_header_summary_page_and_rest_agree(api: Any, admin_client: Any, running: Any) -> None:
    """The summary on every page, System > Notifications, and REST show the same."""
    from impadmin.console import registry

    client = admin_client('read_only')
    running('imp1')
    api('administrator').patch(names('Messaging > Settings'), {'im_enabled': False})
    assert listed(api('read_only')) == {('imp1', 'xcp_router', 'RST-R10')}
    for name in ('domains', 'end-users', 'notifications'):
        text = client.get(registry.page_url(registry.page(name))).content.decode()
        assert 'Cisco XCP Router' in text, name
    text = client.get(registry.page_url(registry.page('notifications'))).content.decode()
    assert 'Enable instant messaging' in text
    assert 'imp1' in text


def test_dismissed_for_the_session_only(admin_client: Any, api: Any, running: Any) -> None:
    """A dismissed pop-up does not come back; its notifications stay listed; other sessions still see it."""
    from django.test import RequestFactory

    from impadmin.console import notifications

    running('imp1')
    api('administrator').patch(names('Messaging > Settings'), {'im_enabled': False})
    one, two = admin_client('operator'), admin_client('operator')
    assert one.post('/alerts/dismiss/', headers={'HX-Request': 'true'}).status_code == 204
    request = RequestFactory().get('/')
    request.user, request.session = make_administrator('operator'), one.session
    assert notifications.unseen(request) == []
    request.session = two.session
    assert len(notifications.unseen(request)) == 1
    assert len(notifications.active()) == 1


def test_default_domain_not_set_is_a_standing_notification(api: Any) -> None:
    """Until an administrator sets it."""
    from impadmin.presence.models import AdvancedSettings
    from tests.fixtures.data import publish_configuration

    client = api('read_only')
    kinds = [row['kind'] for row in client.get('/api/v1/notifications/').json()['results']]
    assert 'advice' not in kinds
    AdvancedSettings.objects.update(default_domain='DOMAIN.NOT.SET')
    publish_configuration()
    rows = client.get('/api/v1/notifications/').json()['results']
    assert [(row['kind'], row['severity']) for row in rows] == [('advice', 'High')]


def test_alarm_recommends_a_restart_that_clears_it(api: Any, running: Any) -> None:
    """An open alarm is listed; the recommended restart takes it away."""
    from impadmin.system.models import Alarm, Node

    running('imp1')
    Alarm.objects.create(name='PEIDSQueryError', node=Node.objects.get(name='imp1'), severity='Error', text='query')
    Alarm.objects.create(name='Other', node=None, severity='Warning', text='look')
    client = api('read_only')
    rows = client.get('/api/v1/notifications/').json()['results']
    assert [(r['rule'], r['service'], r['severity']) for r in rows] == [
        ('RST-R34', 'presence_engine', 'High'),
        ('', '', 'Medium'),
    ]
    running('imp1')
    assert [r['reason'] for r in client.get('/api/v1/notifications/').json()['results']] == ['Other: look']


def test_every_rule_path_has_a_label(db: None) -> None:
    """No notification can show a path where a field name belongs."""
    from impadmin.console import notifications

    for rule in RULES:
        for path in rule.paths:
            assert notifications.path_label(path) not in ('', path), path


def test_one_query_when_nothing_changed(api: Any, running: Any, django_assert_num_queries: Any) -> None:
    """The summary stands on every page: it must stay cheap."""
    from impadmin.console import notifications

    running('imp1')
    api('administrator').patch(names('Messaging > Settings'), {'im_enabled': False})
    notifications.active()
    with django_assert_num_queries(1):
        assert len(notifications.active()) == 1


@proves('RST-06')
def test_a_real_engine_keeps_the_old_value_until_its_restart(engine: Any, rest: Any) -> None:
    """REST to the real console, a real engine: saved, notified, restarted by the Control Center, cleared by itself."""
    call = rest('administrator')

    def restarts() -> set[tuple[str, str]]:
        rows = call('GET', '/api/v1/notifications/').json()['results']
        return {(row['service'], row['rule']) for row in rows if row['kind'] == 'restart'}

    wait_until(lambda: restarts() == set(), 'no notification at first')
    assert call('PATCH', names('Messaging > Settings'), {'im_enabled': False}).status == 200
    assert restarts() == {('xcp_router', 'RST-R10')}
    assert call('PATCH', names('Presence > Settings > Standard Configuration'), {'max_contacts': 7}).status == 200
    assert restarts() == {('xcp_router', 'RST-R10'), ('xcp_router', 'RST-R13'), ('presence_engine', 'RST-R13')}
    restart_router(call)
    wait_until(lambda: restarts() == set(), 'the restart of the router, with what depends on it, clears both', 40)


@proves('RST-07')
def test_a_real_engine_raises_an_alarm_that_recommends_a_restart(engine: Any, rest: Any) -> None:
    """A node whose name nobody can resolve: alarm, recommended restart of Cisco XCP Router, which clears it."""
    call = rest('administrator')

    def recommended() -> list[dict[str, Any]]:
        rows = call('GET', '/api/v1/notifications/').json()['results']
        return [row for row in rows if row['kind'] == 'alarm']

    assert recommended() == []
    node = {'name': 'imp2', 'address': 'no-such-host-imp2', 'description': ''}
    made = call('POST', '/api/v1/cluster-topology/', node)
    assert made.status == 201, made.body
    wait_until(recommended, 'the alarm')
    row = recommended()[0]
    assert (row['rule'], row['service'], row['severity'], row['node']) == ('RST-R35', 'xcp_router', 'High', 'imp1')
    assert 'XCPConfigMgrHostNameResolutionFailed' in row['reason']
    assert 'no-such-host-imp2' in row['reason']
    path = f'/api/v1/cluster-topology/{made.json()["id"]}/'
    assert call('PATCH', path, {'address': '127.0.0.1'}).status == 200
    restart_router(call)
    wait_until(lambda: recommended() == [], 'the restart clears the recommendation', 40)


def restart_router(call: Any) -> None:
    """Control Center - Network Services: Restart."""
    answer = call('POST', '/api/v1/control-center-network/restart/', {'node': 'imp1', 'service': 'xcp_router'})
    assert answer.status == 200, answer.body
