"""Messaging > Group Chat and Persistent Chat, Server Alias Mapping, System Administrators (spec 08)."""

from __future__ import annotations

import html
from typing import Any

import pytest

from tests.areas.test_restarts_notifications import listed, running
from tests.proves import proves

__all__ = ['running']
ROOMS = '/api/v1/group-chat/'
ALIASES = '/api/v1/group-chat-aliases/'
ADMINISTRATORS = '/api/v1/group-chat-administrators/'
ENTERPRISE = '/api/v1/enterprise-parameters/'


@pytest.fixture
def client(api: Any, db: None) -> Any:
    """REST of an administrator."""
    return api('administrator')


def rows(client: Any, query: str = '') -> dict[str, tuple[str, bool]]:
    """alias -> (server name, primary)."""
    found = client.get(f'{ALIASES}{query}').json()['results']
    return {row['alias']: (str(row['node']), row['primary']) for row in found}


def node(name: str = 'imp1') -> Any:
    """A node; made when it is not there."""
    from impadmin.system.models import Node

    return Node.objects.get_or_create(name=name, defaults={'address': '127.0.0.1'})[0]


def primary(name: str = 'imp1', cluster: str = 'standalonecluster', domain: str = 'example.com') -> str:
    """The alias that the system makes for a node."""
    return f'conference-{node(name).pk}-{cluster}.{domain}'


def compiled() -> Any:
    """Group chat as the newest generation tells the nodes."""
    from impadmin.console import generations

    found = generations.newest()
    assert found is not None
    return found.chat


def hosted() -> dict[str, int]:
    """alias -> node id of the newest generation."""
    return {one.alias: one.node_id for one in compiled().aliases}


@proves('CHM-05', 'CHM-49', 'CHM-59')
def test_primary_aliases_follow_nodes_cluster_id_and_default_domain(client: Any, admin_client: Any) -> None:
    made = client.post('/api/v1/cluster-topology/', {'name': 'imp2', 'address': '192.0.2.2', 'description': ''})
    assert made.status_code == 201
    assert rows(client) == {primary(): ('imp1', True), primary('imp2'): ('imp2', True)}
    assert client.post(ALIASES, {'alias': 'Sales.Example.com', 'node': 'imp1'}).status_code == 201
    page = admin_client('administrator').get('/admin/messaging/group-chat-aliases/?tab=primary').content.decode()
    assert 'Primary Group Chat Server Aliases' in page
    assert (primary() in page, 'sales.example.com' in page) == (True, False)
    assert set(rows(client, '?tab=added')) == {'sales.example.com'}
    # the cluster ID is part of them; a name that would be no domain is refused
    for wrong in ('a_b', '-a', 'a-', 'a..b', 'x' * 46):
        assert client.patch(ENTERPRISE, {'cluster_id': wrong}).status_code == 400, wrong
    assert client.patch(ENTERPRISE, {'cluster_id': 'MyCup'}).status_code == 200
    new = {primary(name, 'mycup') for name in ('imp1', 'imp2')}
    assert set(rows(client, '?tab=primary')) == new
    assert set(hosted()) == {*new, 'sales.example.com'}
    # so is the default domain
    from tests.areas.test_default_domain import start, work

    assert start(client, 'new.example').status_code == 200
    assert work().state == 'completed'
    assert set(hosted()) == {*(primary(name, 'mycup', 'new.example') for name in ('imp1', 'imp2')), 'sales.example.com'}
    # and a node takes its alias along
    assert client.delete(f'/api/v1/cluster-topology/{node("imp2").pk}/').status_code == 204
    assert set(hosted()) == {primary(cluster='mycup', domain='new.example'), 'sales.example.com'}


@proves('CHM-06', 'CHM-48')
def test_without_management_they_stay_and_can_be_edited(client: Any, admin_client: Any) -> None:
    from impadmin.messaging.models import GroupChatAlias

    old, key = primary(), GroupChatAlias.objects.get().pk
    for answer in (client.patch(f'{ALIASES}{key}/', {'alias': 'a.example.com'}), client.delete(f'{ALIASES}{key}/')):
        assert answer.status_code == 409
        assert 'The system manages this alias.' in str(answer.json())
    form = admin_client('administrator').get(f'/admin/messaging/group-chat-aliases/{key}/').content.decode()
    assert 'The system manages this alias.' in form
    assert 'Save</button>' not in form
    before = compiled()
    assert client.patch(ROOMS, {'managed_aliases': False}).status_code == 200
    assert rows(client, '?tab=added') == {old: ('imp1', False)}
    assert hosted() == {one.alias: one.node_id for one in before.aliases}, 'rooms stay addressable'
    assert client.patch(ENTERPRISE, {'cluster_id': 'other'}).status_code == 200
    assert set(rows(client)) == {old}, 'it follows no more'
    assert client.patch(f'{ALIASES}{key}/', {'alias': 'rooms.example.com'}).status_code == 200
    assert client.patch(ROOMS, {'managed_aliases': True}).status_code == 200
    assert rows(client) == {primary(cluster='other'): ('imp1', True), 'rooms.example.com': ('imp1', False)}


@proves('CHM-46', 'CHM-47')
def test_an_alias_is_unique_and_nobody_elses_domain(client: Any) -> None:
    import uuid

    def refused(path: str, body: dict[str, Any], field: str) -> str:
        answer = client.post(path, body)
        assert answer.status_code == 400, answer.json()
        return str(answer.json()['errors'][field])

    good = {'alias': 'rooms.example.com', 'node': 'imp1'}
    assert client.post(ALIASES, good).status_code == 201
    assert client.post('/api/v1/external-components/', {
        'domain': 'fax.example.com', 'name': '', 'shared_secret': uuid.uuid4().hex,
    }).status_code == 201  # fmt: skip
    for alias, problem in (
        ('ROOMS.example.com', 'The group chat server alias rooms.example.com exists already.'),
        ('example.com', 'example.com is an IM address domain.'),
        ('fax.example.com', 'The component fax.example.com exists already.'),
        (primary(), 'already exists'),
        ('a_b.example.com', 'has the character “_”'),
        ('x' * 64 + '.example.com', 'longer than 63'),
    ):
        assert problem in refused(ALIASES, {**good, 'alias': alias}, 'alias'), alias
    assert 'rooms.example.com' in refused('/api/v1/domains/', {'name': 'Rooms.Example.com'}, 'name')
    assert 'rooms.example.com' in refused(
        '/api/v1/external-components/', {'domain': 'rooms.example.com', 'shared_secret': 'x' * 20}, 'domain'
    )
    from tests.areas.test_default_domain import start

    assert 'rooms.example.com' in str(start(client, 'rooms.example.com').json()['errors']['default_domain'])
    assert set(rows(client)) == {primary(), 'rooms.example.com'}


@proves('CHM-51', 'CHM-52')
def test_what_is_lost_is_said_before(client: Any, admin_client: Any) -> None:
    key = client.post(ALIASES, {'alias': 'rooms.example.com', 'node': 'imp1'}).json()['id']
    lost = 'Rooms with addresses at rooms.example.com can no longer be reached'
    preview = client.delete(f'{ALIASES}{key}/?dry_run=1').json()
    assert lost in str(preview['impact'])
    assert 'has no other alias' not in str(preview['impact'])
    asked = admin_client('administrator').get(f'/admin/messaging/group-chat-aliases/{key}/delete/')
    assert lost in asked.content.decode()
    assert lost in str(client.patch(f'{ALIASES}{key}/?dry_run=1', {'alias': 'new.example.com'}).json()['impact'])
    moved = client.patch(f'{ALIASES}{key}/?dry_run=1', {'node': node('imp2').name}).json()
    assert 'Rooms with addresses at rooms.example.com end on imp1' in str(moved['impact'])
    left = client.delete(f'/api/v1/cluster-topology/{node("imp2").pk}/?dry_run=1').json()
    assert {'text': 'Group Chat Server Aliases', 'count': 1} in left['impact']
    client.patch(ROOMS, {'managed_aliases': False})
    other = next(row['id'] for row in client.get(ALIASES).json()['results'] if row['alias'] == primary())
    client.delete(f'{ALIASES}{other}/')
    assert 'imp1 has no other alias' in str(client.delete(f'{ALIASES}{key}/?dry_run=1').json()['impact'])


def test_limits_bound_each_other(client: Any) -> None:
    """Acceptance 3 of the settings: the page says which field is wrong, and what would be right."""
    for field, body, most in (
        ('default_occupancy', {'default_occupancy': 2000}, 'Enter at most 1000'),
        ('history_default', {'history_default': 200}, 'Enter at most 100'),
        ('max_hidden', {'max_users': 500}, 'Enter at most 500'),
        ('max_rooms', {'max_rooms': 0}, 'equal to 1'),
        ('subject_level', {'subject_level': 'visitor'}, 'visitor'),
    ):
        answer = client.patch(ROOMS, body)
        assert answer.status_code == 400
        assert most in str(answer.json()['errors'][field]), answer.json()
    assert client.patch(ROOMS, {'max_users': 500, 'max_hidden': 500}).status_code == 200
    assert compiled().settings.max_users == 500


@proves('GC-26')
def test_the_page_warns_of_rooms_that_cisco_jabber_cannot_use(client: Any, admin_client: Any) -> None:
    url, names = '/admin/messaging/group-chat/', ('anonymous', 'owners_change_anonymous')
    warning = 'Chat rooms do not work in Cisco Jabber while'

    def told() -> tuple[bool, str]:
        tests = client.get('/api/v1/system-troubleshooter/').json()['tests']
        page = html.unescape(admin_client('administrator').get(url).content.decode())
        return warning in page, next(one['outcome'] for one in tests if one['name'] == 'chat-anonymity')

    assert told() == (False, 'passed')
    for name in names:
        preview = client.patch(f'{ROOMS}?dry_run=1', {name: True}).json()
        assert 'Cisco Jabber' in str(preview['impact'])
        assert client.patch(ROOMS, {name: True}).status_code == 200
        assert told() == (True, 'warning')
        assert client.patch(ROOMS, {name: False}).status_code == 200
    assert told() == (False, 'passed')


@proves('CHM-45')
def test_set_to_default(client: Any, admin_client: Any) -> None:
    from engine.contract.chat import RoomSettings

    before = client.get(ROOMS).json()
    changed = {'managed_aliases': False, 'max_rooms': 7, 'members_only': True, 'subject_level': 'moderator'}
    assert client.patch(ROOMS, changed).status_code == 200
    assert compiled().settings != RoomSettings()
    browser, url = admin_client('administrator'), '/admin/messaging/group-chat/'
    asked = browser.post(f'{url}do/set-to-default/')
    assert 'Every setting of this page goes back to its default value.' in asked.content.decode()
    assert client.get(ROOMS).json()['max_rooms'] == 7, 'it asks first'
    assert browser.post(f'{url}do/set-to-default/', {'confirmed': '1'}).status_code in (302, 204)
    assert client.get(ROOMS).json() == before
    assert compiled().settings == RoomSettings()
    assert rows(client) == {primary(): ('imp1', True)}


@proves('GC-11', 'GC-12')
def test_system_administrators(client: Any) -> None:
    for wrong in ('bob', '@x', 'bob@example.com/desk', ''):
        answer = client.post(ADMINISTRATORS, {'address': wrong, 'nickname': 'Bob'})
        assert answer.status_code == 400, wrong
    assert 'The IM address must have the form name@domain.' in str(
        client.post(ADMINISTRATORS, {'address': 'bob', 'nickname': 'Bob'}).json()
    )
    added = client.post(ADMINISTRATORS, {'address': 'Bob@Example.com', 'nickname': 'Bob', 'description': 'Help desk'})
    assert added.status_code == 201
    assert client.post(ADMINISTRATORS, {'address': 'bob@example.com', 'nickname': 'B'}).status_code == 400
    assert [(one.jid, one.nickname) for one in compiled().administrators] == [('bob@example.com', 'Bob')]
    tests = client.get('/api/v1/system-troubleshooter/').json()['tests']
    assert next(one['outcome'] for one in tests if one['name'] == 'chat-administrators') == 'warning'
    assert (
        client.patch('/api/v1/group-chat-administrator-settings/', {'administrators_enabled': True}).status_code == 200
    )
    assert compiled().administrators_enabled is True
    assert client.delete(f'{ADMINISTRATORS}{added.json()["id"]}/').status_code == 204
    assert compiled().administrators == ()


@proves('RST-R03', 'RST-R06')
def test_who_must_restart(client: Any, running: Any) -> None:
    """Each node for its own aliases; the router after an addition only, and never for the list of administrators."""
    rooms, router = 'text_conference_manager', 'xcp_router'
    running('imp1')
    running('imp2')
    enable = '/api/v1/group-chat-administrator-settings/'
    assert client.patch(enable, {'administrators_enabled': True}).status_code == 200
    assert listed(client) == {(name, router, 'RST-R03') for name in ('imp1', 'imp2')}
    running('imp1')
    running('imp2')
    assert client.post(ADMINISTRATORS, {'address': 'bob@example.com', 'nickname': 'Bob'}).status_code == 201
    assert listed(client) == set()
    alias = {'alias': 'rooms.example.com', 'node': 'imp1'}
    would = client.post(f'{ALIASES}?dry_run=1', alias).json()['restarts']
    assert would == [{'service': 'Cisco XCP Text Conference Manager', 'nodes': ['imp1']}]
    key = client.post(ALIASES, alias).json()['id']
    assert listed(client) == {('imp1', rooms, 'RST-R06')}
    found = client.get('/api/v1/notifications/').json()['results']
    assert {(one['service'], one['rule'], one['kind'], one['severity']) for one in found} == {
        (rooms, 'RST-R06', 'restart', 'Medium'), (router, 'RST-R06', 'advice', 'Low'),
    }  # fmt: skip
    running('imp1')
    assert client.delete(f'{ALIASES}{key}/').status_code == 204
    assert listed(client) == {('imp1', rooms, 'RST-R06')}


def test_configuration_as_code_leaves_out_what_follows_by_itself(client: Any) -> None:
    from impadmin.console import configuration
    from impadmin.console.actions import SYSTEM

    client.post(ALIASES, {'alias': 'rooms.example.com', 'node': 'imp1'})
    client.patch(ROOMS, {'moderated': True})
    document = configuration.export(SYSTEM)
    assert document['lists']['group-chat-aliases'] == [{'alias': 'rooms.example.com', 'node': 'imp1'}]
    assert document['settings']['group-chat']['moderated'] is True
    client.patch(ROOMS, {'moderated': False})
    document['lists']['group-chat-aliases'] = []
    plan = configuration.apply(SYSTEM, document, prune=True)
    assert (plan.problems, compiled().settings.moderated, set(hosted())) == ([], True, {primary()})
