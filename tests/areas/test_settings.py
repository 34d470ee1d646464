"""Presence > Settings > Standard Configuration and Messaging > Settings (spec 06)."""

from __future__ import annotations

import pytest

from tests.proves import proves

STANDARD = '/admin/presence/standard-configuration/'
MESSAGING = '/admin/messaging/messaging-settings/'
STANDARD_API = '/api/v1/standard-configuration/'
MESSAGING_API = '/api/v1/messaging-settings/'


def newest():
    from impadmin.console import generations

    return generations.newest()


@proves('IM-22')
def test_every_field_with_its_label_and_help(admin_client, db):
    page = admin_client('administrator').get(STANDARD).content.decode()
    for label in (
        'Enable availability sharing',
        'Allow users to view the availability of other users without being prompted for approval',
        'Maximum Contact List Size (per user)',
        'Maximum Watchers (per user)',
        'Enable ad hoc presence subscriptions',
        'Maximum number of active ad hoc subscriptions',
        'Ad hoc subscription time-to-live',
        'No Limit',
        '30 to 3,600 seconds.',
    ):
        assert label in page
    page = admin_client('administrator').get(MESSAGING).content.decode()
    for label in (
        'Enable instant messaging',
        'Suppress Offline Instant Messaging',
        'Allow clients to log instant message history (on supported clients only)',
        'Allow cut &amp; paste in instant messages',
    ):
        assert label in page


def post_standard(browser, **changed):
    """Standard Configuration as the installed system shows it, sent with these changes."""
    page = browser.get(STANDARD).content.decode()
    version = page.partition('name="version" value="')[2].partition('"')[0]
    shown = {
        'version': version, 'availability_sharing': 'on', 'auto_approve': 'on', 'max_contacts': '200',
        'max_watchers': '200', 'adhoc_subscriptions': 'on', 'adhoc_max': '0', 'adhoc_ttl_s': '300',
    }  # fmt: skip
    return browser.post(STANDARD, {**shown, **changed})


@proves('IM-13', 'BAT-12')
def test_limits_default_to_200_and_can_be_lifted(admin_client, api, db):
    client = api('administrator')
    assert client.get(STANDARD_API).json()['max_contacts'] == 200
    assert client.get(STANDARD_API).json()['max_watchers'] == 200
    answer = post_standard(admin_client('administrator'), **{'max_contacts-nolimit': '1', 'max_watchers': '500'})
    assert answer.status_code == 302, answer.content.decode()[:3000]
    assert newest().presence.max_contacts is None
    assert newest().presence.max_watchers == 500
    assert client.patch(STANDARD_API, {'max_contacts': 1000}).status_code == 200
    assert newest().presence.max_contacts == 1000


@pytest.mark.parametrize(
    ('field', 'value'),
    [
        ('max_contacts', 0),
        ('max_contacts', 10001),
        ('max_contacts', 'many'),
        ('max_watchers', -1),
        ('adhoc_max', -1),
        ('adhoc_ttl_s', 29),
        ('adhoc_ttl_s', 3601),
        ('adhoc_ttl_s', ''),
        ('availability_sharing', 'perhaps'),
    ],
)
def test_values_beyond_the_limits_are_refused(api, db, field, value):
    before = newest()
    answer = api('administrator').patch(STANDARD_API, {field: value})
    assert answer.status_code == 400, answer.content
    assert field in answer.json()['errors']
    assert newest() == before


@proves('IM-23', 'RST-R13', 'RST-R10')
def test_which_fields_ask_for_which_restart(api, db):
    from django.utils import timezone

    from impadmin.console import generations
    from impadmin.system.models import Node, ServiceStatus

    node = Node.objects.get()
    Node.objects.update(heartbeat_at=timezone.now())
    for service in ('xcp_router', 'presence_engine', 'xcp_connection_manager'):
        ServiceStatus.objects.create(
            node=node, service=service, state='Running', since=timezone.now(), generation=generations.newest_number()
        )
    client = api('administrator')

    def asked():
        found = client.get('/api/v1/notifications/').json()['results']
        return {entry['service'] for entry in found if entry['service']}

    client.patch(STANDARD_API, {'adhoc_ttl_s': 60})
    assert asked() == set()
    client.patch(STANDARD_API, {'max_contacts': 5})
    assert asked() == {'xcp_router', 'presence_engine'}
    client.patch(STANDARD_API, {'max_contacts': 200})
    assert asked() == set()  # set back: nothing to restart
    client.patch(MESSAGING_API, {'client_history': False})
    assert asked() == set()
    client.patch(MESSAGING_API, {'suppress_offline': True})
    assert asked() == {'xcp_router'}


def test_preview_counts_the_users_beyond_a_new_limit(admin_client, make_user):
    from impadmin.ucm.models import EndUser

    make_user('full')
    EndUser.objects.update(contact_count=9)
    answer = post_standard(admin_client('administrator'), preview='1', max_contacts='5')
    text = answer.content.decode()
    assert 'users at or above the new contact list limit cannot add contacts' in text
    assert newest().presence.max_contacts == 200


def test_read_only_role_sees_and_cannot_save(admin_client, api, db):
    page = admin_client('read_only').get(MESSAGING).content.decode()
    assert 'Enable instant messaging' in page
    assert 'Save</button>' not in page
    assert admin_client('read_only').post(MESSAGING, {}).status_code == 403
    assert api('read_only').patch(MESSAGING_API, {'im_enabled': False}).status_code == 403


@proves('PL-01')
def test_a_node_is_configured_by_itself(admin_client, api):
    """Service Parameters in a browser: what is saved for one server is not in force on the other."""
    from impadmin.console import generations
    from impadmin.console.registry import page_url
    from impadmin.system.models import Node

    other = Node.objects.create(name='imp2', address='127.0.0.2')
    browser = admin_client('administrator')
    target = f'{page_url("service-parameters")}?node={other.pk}&service=xcp_connection_manager'
    page = browser.get(target)
    data = {name: value for name, value in page.context['form'].initial.items() if value is not False}
    saved = browser.post(target, {**data, 'version': page.context['version'], 'client_port': '15222'})
    assert saved.status_code == 302
    ports = {
        node: api('administrator')
        .get(f'/api/v1/service-parameters/{node}/xcp_connection_manager/')
        .json()['client_port']
        for node in ('imp1', 'imp2')
    }
    assert ports == {'imp1': 5222, 'imp2': 15222}
    document = generations.newest()
    assert [
        document.node(node).parameters.get('xcp_connection_manager', {}).get('client_port', 5222) for node in ports
    ] == [5222, 15222]
