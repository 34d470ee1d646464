"""User Management: End User, Assign Presence Users, Application User, API Tokens (spec 03)."""

from __future__ import annotations

import pytest
from django.utils import timezone

from tests.fixtures.data import make_administrator
from tests.proves import proves

USERS = '/ucm/ucm/end-users/'
ASSIGN = '/ucm/ucm/assign-presence-users/'
API = '/api/v1/end-users/'


def add_node(name='imp2'):
    from impadmin.system.models import Node

    return Node.objects.create(name=name, address='127.0.0.1')


def counts():
    from django.db.models import Count

    from impadmin.system.models import Node

    return list(Node.objects.order_by('id').annotate(n=Count('users')).values_list('n', flat=True))


def many(number, **fields):
    from impadmin.ucm.models import EndUser

    start = EndUser.objects.count()
    return EndUser.objects.bulk_create(
        EndUser(user_id=f'm{start + n}', last_name='Many', im_address=f'm{start + n}@example.com', **fields)
        for n in range(number)
    )


def sync_agent_runs():
    from impadmin.system.models import Node, ServiceStatus

    node = Node.objects.get(publisher=True)
    Node.objects.filter(pk=node.pk).update(heartbeat_at=timezone.now())
    ServiceStatus.objects.create(node=node, service='sync_agent', state='Running', since=timezone.now())


def set_mode(mode):
    from impadmin.system.models import ParameterValue

    ParameterValue.objects.update_or_create(
        service='', name='user_assignment_mode', node=None, defaults={'value': mode}
    )


@proves('US-12', 'IMA-18')
def test_add_a_user_by_page(admin_client, db):
    from engine.contract.credentials import matches
    from impadmin.ucm.models import EndUser

    browser = admin_client('operator')
    values = {
        'user_id': 'JSmith',
        'password': 'pässword 1',
        'password_again': 'pässword 1',
        'last_name': 'Smith',
        'directory_uri': 'John.Smith@sales.example',
        'active': 'on',
        'home_cluster': 'on',
        'im_enabled': 'on',
        'home_node': '1',
        'version': '',
    }
    refused = browser.post(f'{USERS}add/', values | {'password_again': 'other'})
    assert refused.status_code in (200, 422)
    assert 'two passwords differ' in refused.content.decode()
    assert browser.post(f'{USERS}add/', values).status_code == 302
    user = EndUser.objects.get()
    assert user.im_address == 'jsmith@example.com'
    assert matches('pässword 1', user.credentials)
    kept = values | {'password': '', 'password_again': '', 'last_name': 'Smyth'}
    page = browser.get(f'{USERS}{user.pk}/').content.decode()
    assert 'jsmith@example.com' in page
    assert 'pässword' not in page
    version = page.partition('name="version" value="')[2].partition('"')[0]
    assert browser.post(f'{USERS}{user.pk}/', kept | {'version': version}).status_code == 302
    user.refresh_from_db()
    assert user.last_name == 'Smyth'
    assert matches('pässword 1', user.credentials)


@pytest.mark.parametrize(
    ('field', 'value', 'said'),
    [
        ('user_id', 'JSMITH', 'already'),
        ('user_id', 'a/b', 'Do not use'),
        ('user_id', 'x' * 133, '132'),
        ('user_id', '', ''),
        ('last_name', '', ''),
        ('mail', 'nobody', 'e-mail'),
        ('directory_uri', 'foo', 'user@domain'),
        ('directory_uri', 'a@-b.com', '“-b”'),
        ('directory_uri', 'a@b.1om', '“1om”'),
        ('home_node', 'nowhere', ''),
    ],
)
def test_bad_values_are_named_by_field(api, make_user, field, value, said):
    make_user('jsmith')
    values = {'user_id': 'new', 'last_name': 'New', field: value}
    answer = api('operator').post(API, values)
    assert answer.status_code == 400, answer.content
    assert said in str(answer.json()['errors'][field])


@proves('IMA-05')
def test_im_addresses_are_unique_without_regard_to_case(api, make_user):
    from impadmin.presence.models import AdvancedSettings

    AdvancedSettings.objects.update(address_scheme='directory_uri')
    client = api('operator')
    first = client.post(API, {'user_id': 'a', 'last_name': 'A', 'directory_uri': 'Same@x.example'})
    assert first.json()['im_address'] == 'same@x.example'
    answer = client.post(API, {'user_id': 'b', 'last_name': 'B', 'directory_uri': 'same@X.example'})
    assert answer.status_code == 400
    assert 'belongs to the user a' in str(answer.json()['errors']['directory_uri'])


@proves('IMA-06')
def test_nobody_sets_an_address_by_hand(api, make_user):
    client = api('operator')
    answer = client.post(API, {'user_id': 'a', 'last_name': 'A', 'im_address': 'boss@example.com'})
    if answer.status_code == 201:
        assert answer.json()['im_address'] == 'a@example.com'
    else:
        assert 'im_address' in answer.json()['errors']
    answer = client.post(API, {'user_id': 'c', 'last_name': 'C', 'address_scheme': 'directory_uri'})
    assert answer.status_code == 400


def test_secrets_are_never_shown(api, make_user):
    client = api('administrator')
    client.post(API, {'user_id': 'a', 'last_name': 'A', 'password': 'secret-1'})
    from impadmin.console.models import AuditEntry

    text = client.get(API).content.decode()
    assert 'credentials' not in text
    assert 'SCRAM' not in text
    assert 'secret-1' not in str(list(AuditEntry.objects.values()))


def test_a_new_user_id_takes_everything_along(api, make_user):
    from impadmin.ucm.models import EndUser, RosterItem

    ann, bob = make_user('ann'), make_user('bob')
    RosterItem.objects.create(user=ann, jid=bob.im_address, name='Bob', groups=['Team'], subscription=3)
    answer = api('operator').patch(f'{API}{bob.pk}/', {'user_id': 'robert'})
    assert answer.status_code == 200, answer.content
    item = RosterItem.objects.get()
    assert (item.jid, item.name, item.groups, item.subscription) == ('robert@example.com', 'Bob', ['Team'], 3)
    assert EndUser.objects.get(pk=ann.pk).roster_version == 1


def test_deleting_a_user_ends_the_subscriptions_of_others(api, make_user):
    from impadmin.ucm import rekey
    from impadmin.ucm.models import EndUser, RosterItem

    ann, bob, cid = make_user('ann'), make_user('bob'), make_user('cid')
    RosterItem.objects.create(user=ann, jid=bob.im_address, name='Bob', groups=['Team'], subscription=3)
    RosterItem.objects.create(user=bob, jid=ann.im_address, subscription=3)
    RosterItem.objects.create(user=cid, jid=bob.im_address, is_contact=False, subscription=2)
    rekey.recount([ann.pk, bob.pk, cid.pk])
    assert api('operator').delete(f'{API}{bob.pk}/').status_code == 204
    item = RosterItem.objects.get()
    assert (item.user_id, item.jid, item.subscription, item.ask, item.name) == (
        ann.pk,
        'bob@example.com',
        0,
        False,
        'Bob',
    )
    ann, cid = EndUser.objects.get(pk=ann.pk), EndUser.objects.get(pk=cid.pk)
    assert (ann.contact_count, ann.watcher_count) == (1, 0)
    assert (cid.contact_count, cid.watcher_count) == (0, 0)


def test_who_is_at_the_contact_limit(admin_client, api, make_user):
    from impadmin.presence.models import PresenceSettings
    from impadmin.ucm import rekey
    from impadmin.ucm.models import RosterItem

    full, free = make_user('full'), make_user('free')
    PresenceSettings.objects.update(max_contacts=5)
    RosterItem.objects.bulk_create(
        RosterItem(user=full, jid=f'c{n}@example.com', groups=['同事'] if n else []) for n in range(5)
    )
    rekey.recount([full.pk, free.pk])
    browser = admin_client('read_only')
    found = browser.get(f'{USERS}?tab=contact-limit').content.decode()
    assert 'At contact limit' in found
    assert f'{USERS}{full.pk}/' in found
    assert f'{USERS}{free.pk}/' not in found
    page = browser.get(f'{USERS}{full.pk}/').content.decode()
    assert 'The contact list has 5 contacts, the limit is 5.' in page
    assert '同事' in page
    assert 'The contact list has' not in browser.get(f'{USERS}{free.pk}/').content.decode()
    assert (
        '1 user is at the contact list limit' in browser.get('/admin/presence/standard-configuration/').content.decode()
    )


def test_status_says_what_keeps_a_user_out(admin_client, make_user):
    make_user('off', im_enabled=False)
    make_user('nowhere', node=None)
    make_user('noaddress', im_address=None)
    page = admin_client('read_only').get(USERS).content.decode()
    for word in ('Disabled', 'Not assigned', 'No IM address'):
        assert word in page
    assert 'nowhere' in admin_client('read_only').get(f'{USERS}?tab=not-assigned').content.decode()


# ---- assignment


@pytest.mark.parametrize(
    ('present', 'new', 'expected'),
    [
        ([0, 0], 101, [51, 50]),
        ([30, 10], 100, [40, 60]),
        ([50, 0], 30, [0, 30]),
        ([0], 7, [7]),
        ([5, 1, 3], 0, [0, 0, 0]),
        ([9, 1, 3], 4, [0, 3, 1]),
        ([], 4, []),
    ],
)
def test_quotas_even_out(present, new, expected):
    from impadmin.ucm.assignment import quotas

    assert quotas(present, new) == expected


def test_balanced(db):
    from impadmin.ucm.tasks import assign_users

    add_node()
    many(101)
    many(3, im_enabled=False)
    many(2, home_cluster=False)
    assign_users()
    assert counts() == [0, 0]  # the Sync Agent does not run
    sync_agent_runs()
    assign_users()
    assert counts() == [51, 50]
    third = add_node('imp3')
    many(20)
    assign_users()
    assert counts() == [51, 50, 20]
    assert third.users.count() == 20


def test_active_standby(db):
    from impadmin.system.models import RedundancyGroup
    from impadmin.ucm.tasks import assign_users

    second = add_node()
    RedundancyGroup.of(second).delete()
    RedundancyGroup.objects.update(server2=second)
    many(10)
    sync_agent_runs()
    assign_users()
    assert counts() == [5, 5]
    set_mode('active_standby')
    many(20)
    assign_users()
    assert counts() == [25, 5]  # nobody moved
    add_node('imp3')  # another subcluster, with fewer users
    many(40)
    assign_users()
    assert counts() == [30, 5, 35]


def test_mode_none(db, api):
    from impadmin.ucm.tasks import assign_users

    many(4)
    set_mode('none')
    sync_agent_runs()
    assign_users()
    assert counts() == [0]
    assert api('read_only').get('/api/v1/presence-topology/').json()['unassigned_users'] == 4


@proves('US-01')
def test_mode_is_an_enterprise_parameter(admin_client, db):
    page = admin_client('administrator').get('/admin/system/enterprise-parameters/').content.decode()
    assert 'User Assignment Mode for Presence Server' in page
    assert 'Balanced' in page
    assert 'Active-Standby' in page


def test_assignment_of_many_is_set_based(db, django_assert_max_num_queries):
    from impadmin.ucm.assignment import assign_automatically

    add_node()
    many(20_000)
    with django_assert_max_num_queries(15):
        done = assign_automatically()
    assert done.per_node == {'imp1': 10_000, 'imp2': 10_000}


def test_assign_presence_users_by_page(admin_client, db):
    from impadmin.ucm.models import EndUser

    add_node()
    users = many(6)
    many(1, home_cluster=False)
    other = EndUser.objects.get(home_cluster=False)
    browser = admin_client('operator')
    ids = [user.pk for user in users[:3]] + [other.pk]
    asked = browser.post(f'{ASSIGN}do/assign/', {'pk': ids}).content.decode()
    assert 'Home Node' in asked
    done = browser.post(
        f'{ASSIGN}do/assign/', {'pk': ids, 'confirmed': '1', 'how': 'node', 'node': 'imp2'}, follow=True
    ).content.decode()
    assert '3 users assigned.' in done
    assert 'another cluster is the home cluster' in done
    assert counts() == [0, 3]
    browser.post(
        f'{ASSIGN}do/assign/', {'pk': [u.pk for u in users], 'confirmed': '1', 'how': 'automatic'}, follow=True
    )
    assert counts() == [3, 3]
    browser.post(f'{ASSIGN}do/assign/', {'pk': [u.pk for u in users], 'confirmed': '1', 'how': 'none'}, follow=True)
    assert counts() == [0, 0]
    assert admin_client('read_only').post(f'{ASSIGN}do/assign/', {'pk': ids}).status_code == 403


# ---- application users and tokens


def test_the_last_administrator_stays(api, admin_client, db):
    from impadmin.console.models import Administrator

    client = api('administrator')
    me = Administrator.objects.get(username='test-administrator')
    one = f'/api/v1/application-users/{me.pk}/'
    for change in ({'roles': ['operator']}, {'is_active': False}):
        answer = client.patch(one, change)
        assert answer.status_code == 400, answer.content
    assert client.delete(one).status_code == 409
    second = client.post(
        '/api/v1/application-users/',
        {'username': 'second', 'roles': ['administrator'], 'password': 'correct-horse-battery'},
    )
    assert second.status_code == 201, second.content
    assert 'password' not in second.json()
    # with a second one: still not oneself
    answer = client.patch(one, {'roles': ['operator']})
    assert answer.status_code == 400
    assert 'your own rights' in str(answer.json())
    assert client.delete(one).status_code == 409
    other = f'/api/v1/application-users/{second.json()["id"]}/'
    assert client.patch(other, {'roles': ['read_only']}).status_code == 200
    assert client.delete(other).status_code == 204
    weak = client.post('/api/v1/application-users/', {'username': 'third', 'roles': ['operator'], 'password': 'short'})
    assert weak.status_code == 400
    assert 'password' in weak.json()['errors']


def test_a_token_is_shown_once_and_works(api, db):
    from impadmin.console.models import ApiToken

    client = api('administrator')
    reader = make_administrator('read_only', 'reader')
    values = {'name': 'script', 'administrator': reader.pk, 'scopes': ['domains:change']}
    answer = client.post('/api/v1/api-tokens/', values)
    assert answer.status_code == 400
    assert 'may not do this: domains:change' in str(answer.json()['errors']['scopes'])
    answer = client.post('/api/v1/api-tokens/', values | {'scopes': ['*:*']})
    assert answer.status_code == 201, answer.content
    clear = answer.json()['token']
    assert clear not in str(list(ApiToken.objects.values()))
    assert clear not in client.get('/api/v1/api-tokens/').content.decode()
    from rest_framework.test import APIClient

    script = APIClient()
    script.credentials(HTTP_AUTHORIZATION=f'Bearer {clear}')
    assert script.get('/api/v1/domains/').status_code == 200
    assert script.get('/api/v1/api-tokens/').status_code == 403
    assert script.post('/api/v1/domains/', {'name': 'x.example'}).status_code == 403


def test_demo_organisation_is_made_once(db):
    from django.core.management import call_command

    from impadmin.presence.models import Domain
    from impadmin.ucm.models import EndUser, RosterItem

    call_command('imp_demo')
    assert EndUser.objects.count() == 200
    assert set(Domain.objects.filter(user_count__gt=0).values_list('key', flat=True)) == {
        'northwind.example',
        'northwind.asia.example',
    }
    assert EndUser.objects.filter(home_node=None).count() == 0
    entries = {(i.user.im_address, i.jid): i.subscription for i in RosterItem.objects.select_related('user')}
    assert all(entries[jid, owner] == 3 for owner, jid in entries)  # mutual
    for user in EndUser.objects.all():
        assert user.contact_count == user.roster.count() == user.watcher_count
    number = len(entries)
    call_command('imp_demo')
    assert (EndUser.objects.count(), RosterItem.objects.count()) == (200, number)
