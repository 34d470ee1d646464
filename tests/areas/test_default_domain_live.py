"""Acceptance 7: default domain changed with users online, by the page, with a real engine, worker and clients."""

from __future__ import annotations

import pytest

from tests.fixtures.processes import wait_until
from tests.proves import proves
from tests.xmppclient import SignInFailed

MANY, FRIENDS = 900, 12
PAGE = '/admin/presence/advanced-configuration/'


def latest():
    from impadmin.presence import default_domain

    return default_domain.latest()


def ended():
    job = latest()
    return job if job is not None and job.state not in ('pending', 'processing') else None


def entries(contacts):
    return {jid: (entry['name'], entry['subscription'], list(entry['groups'])) for jid, entry in contacts.items()}


def order_of_commands():
    from impadmin.system.models import ServiceCommand

    return [(c.verb, c.service) for c in ServiceCommand.objects.order_by('id')]


def befriend(users, friends=1000):
    """Everybody has everybody, or the next ``friends``, in the contact list, in a group named after the contact."""
    from impadmin.ucm import rekey
    from impadmin.ucm.models import RosterItem

    RosterItem.objects.bulk_create(
        RosterItem(user=one, jid=two.im_address, name=two.user_id, groups=[f'Group {two.user_id}'], subscription=3)
        for number, one in enumerate(users)
        for two in (users + users)[number + 1 : number + len(users)][:friends]
    )
    rekey.recount([user.pk for user in users])


def start_by_page(browser, **values):
    asked = browser.post(f'{PAGE}do/change/', values)
    assert 'accept_outage' in asked.content.decode()
    consents = {'accept_outage': 'on', 'clients_support_it': 'on', 'accept_invalid': 'on', 'confirmed': '1'}
    answer = browser.post(f'{PAGE}do/change/', values | consents)
    assert answer.status_code == 302, answer.content.decode()[:2000]


@proves('DOM-05', 'DOM-11', 'DOM-12', 'DOM-14', 'DOM-17', 'IMA-02', 'IMA-10', 'IMA-23', 'RST-R48')
def test_default_domain_changed_with_users_online(engine, worker, admin_client, api, make_user, xmpp):
    users = [make_user(name) for name in ('ann', 'bob', 'cid')]
    befriend(users)
    ann = xmpp('ann@example.com')
    bob = xmpp('bob@example.com')
    assert set(entries(ann.roster())) == {'bob@example.com', 'cid@example.com'}
    ann.available()
    bob.available()
    ann.say('cid@example.com', 'for later')  # cid is offline: stored
    from impadmin.messaging.models import OfflineMessage

    wait_until(OfflineMessage.objects.exists, 'the offline message to be stored')

    browser = admin_client('administrator')
    start_by_page(browser, default_domain='new.example', address_scheme='userid')
    job = wait_until(ended, 'the change to end', 60)
    assert job.state == 'completed', job.message

    commands = order_of_commands()
    stops = [service for verb, service in commands if verb == 'stop']
    starts = [service for verb, service in commands if verb == 'start']
    assert stops == ['sync_agent', 'client_profile_agent', 'presence_engine', 'xcp_router']
    assert starts[0] == 'xcp_router'
    assert starts[-2:] == ['client_profile_agent', 'sync_agent']
    services = api('operator').get('/api/v1/control-center/').json()['services']
    assert {entry['state'] for entry in services} <= {'Running', 'Not Activated'}
    assert not [e for e in api('operator').get('/api/v1/notifications/').json()['results'] if e['kind'] == 'restart']

    with pytest.raises(SignInFailed):
        xmpp('ann@example.com')
    ann = xmpp('ann@new.example')
    assert entries(ann.roster()) == {
        'bob@new.example': ('bob', 'both', ['Group bob']),
        'cid@new.example': ('cid', 'both', ['Group cid']),
    }
    ann.available()
    cid = xmpp('cid@new.example')
    cid.roster()
    cid.available()
    message = cid.expect('message', body='for later')
    assert message.get('from').startswith('ann@new.example/')
    cid.expect('presence', from_='ann@new.example')
    ann.say('cid@new.example', 'hello')
    cid.expect('message', body='hello')
    from impadmin.system.models import Node

    assert list(Node.objects.values_list('name', 'address')) == [('imp1', '127.0.0.1')]
    page = browser.get(PAGE).content.decode()
    assert 'Completed' in page


@proves('DOM-12', 'IMA-10', 'IMA-23')
def test_worker_killed_in_the_middle(engine, worker, admin_client, make_user, xmpp):
    """kill -9 of the worker at several places: the change goes on, nothing is converted twice, nothing is lost."""
    from impadmin.presence.default_domain import STEP
    from impadmin.ucm.models import EndUser, RosterItem

    first = make_user('user0', directory_uri='user1@example.com')
    EndUser.objects.bulk_create(
        EndUser(
            user_id=f'user{n}',
            last_name='User',
            im_address=f'user{n}@example.com',
            directory_uri=f'user{(n + 1) % MANY}@example.com',
            home_node=first.home_node,
            credentials=first.credentials,
        )
        for n in range(1, MANY)
    )
    befriend(list(EndUser.objects.order_by('id')), FRIENDS)
    before = {
        (i.user.user_id, i.name): (tuple(i.groups), i.subscription)
        for i in RosterItem.objects.select_related('user').iterator(chunk_size=1000)
    }
    start_by_page(admin_client('administrator'), default_domain='example.com', address_scheme='directory_uri')
    kills = 0
    for position in (1, STEP, 4 * STEP + 1):
        wait_until(lambda position=position: latest().position >= position, f'position {position}', 60, every_s=0.002)
        if not ended():
            worker.kill9()
            worker.restart()
            kills += 1
    assert kills == 3
    job = wait_until(ended, 'the change to end', 90)
    assert job.state == 'completed', job.message
    address = dict(EndUser.objects.values_list('user_id', 'im_address'))
    assert address == {f'user{n}': f'user{(n + 1) % MANY}@example.com' for n in range(MANY)}
    after = {}
    for item in RosterItem.objects.select_related('user').iterator(chunk_size=1000):
        assert item.jid == address[item.name]  # the entry follows the person, not the address
        after[item.user.user_id, item.name] = (tuple(item.groups), item.subscription)
    assert after == before
    assert job.counts['users'] == MANY
    assert job.counts['contacts'] == MANY * FRIENDS
    client = xmpp('user2@example.com')  # user1, under his new address
    assert entries(client.roster())['user3@example.com'] == ('user2', 'both', ['Group user2'])
