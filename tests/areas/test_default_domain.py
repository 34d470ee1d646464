"""Presence > Settings > Advanced Configuration: change of default domain and scheme (spec 01, 13, 18, 19)."""

from __future__ import annotations

import pytest

from tests.proves import proves

PAGE = '/admin/presence/advanced-configuration/'
API = '/api/v1/advanced-configuration/'
OK = {'clients_support_it': True, 'accept_invalid': True, 'accept_outage': True}


def start(client, domain='new.example', scheme='userid', **more):
    return client.post(f'{API}change/', {'default_domain': domain, 'address_scheme': scheme, **OK, **more})


def change(domain='new.example', scheme='userid'):
    """The job, submitted as the page does it, not yet run."""
    from impadmin.console.actions import SYSTEM
    from impadmin.presence import actions, default_domain

    actions.start_change(SYSTEM, [], {'default_domain': domain, 'address_scheme': scheme, **OK})
    return default_domain.latest()


def work():
    from impadmin.console import jobs
    from impadmin.presence import default_domain

    jobs.work('default')
    return default_domain.latest()


def befriend(one, two, group='Team', subscription=3):
    """Entries in both lists."""
    from impadmin.ucm.models import RosterItem

    back = {3: 3, 1: 2, 2: 1, 0: 0}[subscription]
    RosterItem.objects.create(user=one, jid=two.im_address, name=two.user_id, groups=[group], subscription=subscription)
    RosterItem.objects.create(user=two, jid=one.im_address, name=one.user_id, groups=[group], subscription=back)


def recount():
    from impadmin.ucm import rekey
    from impadmin.ucm.models import EndUser

    rekey.recount(EndUser.objects.values_list('id', flat=True))


def rosters():
    from impadmin.ucm.models import RosterItem

    return {
        (item.user.user_id, item.jid): (item.name, tuple(item.groups), item.subscription, item.is_contact)
        for item in RosterItem.objects.select_related('user')
    }


def addresses():
    from impadmin.ucm.models import EndUser

    return dict(EndUser.objects.values_list('user_id', 'im_address'))


def stanzas():
    from impadmin.messaging.models import OfflineMessage

    return [bytes(message.stanza) for message in OfflineMessage.objects.order_by('id')]


@pytest.fixture
def people(make_user):
    """Four users in a ring of friends, an external contact, a pending request, offline messages."""
    from django.utils import timezone

    from impadmin.messaging.models import OfflineMessage
    from impadmin.ucm.models import RosterItem

    users = {name: make_user(name) for name in ('ann', 'bob', 'cid', 'dee')}
    befriend(users['ann'], users['bob'])
    befriend(users['bob'], users['cid'], '团队', 1)
    RosterItem.objects.create(user=users['ann'], jid='x@elsewhere.example', name='Ex', groups=['Out'], subscription=1)
    RosterItem.objects.create(
        user=users['dee'],
        jid='ann@example.com',
        is_contact=False,
        pending_in=True,
        request=b"<presence from='ann@example.com' to=\"dee@example.com\" type='subscribe'/>",
    )
    for sender in ('ann@example.com/r1', 'x@elsewhere.example/ann@example.com'):
        OfflineMessage.objects.create(
            user=users['bob'],
            stored_at=timezone.now(),
            stanza=(
                f"<message from='{sender}' to='bob@example.com' type='chat'><body>ann@example.com</body></message>"
            ).encode(),
        )
    mine = users['ann'].privacy_lists.create(name='blocklist', is_default=True)
    for order, value in enumerate(('dee@example.com/desk', 'x@elsewhere.example', 'example.com'), 1):
        mine.items.create(order=order, type='jid', value=value, allow=False)
    recount()
    return users


def blocked():
    """What the block lists name."""
    from impadmin.presence.models import PrivacyItem

    return list(PrivacyItem.objects.order_by('order').values_list('value', flat=True))


@proves('IMA-23', 'DOM-14', 'DOM-11')
def test_every_stored_address_follows(people, api):
    from impadmin.presence.models import Domain
    from impadmin.system.models import Node
    from impadmin.ucm.models import EndUser

    names = list(Node.objects.values_list('name', 'address'))
    before = rosters()
    versions = dict(EndUser.objects.values_list('user_id', 'roster_version'))
    change()
    job = work()
    assert job.state == 'completed', job.message
    assert addresses() == {name: f'{name}@new.example' for name in people}
    assert rosters() == {(o, j.replace('@example.com', '@new.example')): v for (o, j), v in before.items()}
    assert stanzas() == [
        b"<message from='ann@new.example/r1' to='bob@new.example' type='chat'><body>ann@example.com</body></message>",
        b"<message from='x@elsewhere.example/ann@example.com' to='bob@new.example' type='chat'>"
        b'<body>ann@example.com</body></message>',
    ]
    assert blocked() == ['dee@new.example/desk', 'x@elsewhere.example', 'example.com']
    item = people['dee'].roster.get()
    assert bytes(item.request) == b"<presence from='ann@new.example' to=\"dee@new.example\" type='subscribe'/>"
    assert job.counts['users'] == 4
    assert job.counts['contacts'] == 5
    assert job.counts['messages'] == 2
    assert all(user.roster_version > versions[user.user_id] for user in EndUser.objects.all())
    ann = EndUser.objects.get(user_id='ann')
    assert (ann.contact_count, ann.watcher_count) == (2, 1)
    assert list(Node.objects.values_list('name', 'address')) == names
    shown = api('read_only').get(API).json()
    assert shown['default_domain'] == 'new.example'
    assert shown['change']['state'] == 'completed'
    assert {d.key: (d.configured, d.user_count) for d in Domain.objects.all()} == {
        'example.com': (True, 0),
        'new.example': (True, 4),
    }


@proves('IMA-23')
def test_users_may_swap_addresses(make_user):
    from impadmin.ucm.models import EndUser

    one = make_user('one', directory_uri='two@example.com')
    two = make_user('two', directory_uri='three@example.com')
    three = make_user('three', directory_uri='one@example.com')
    befriend(one, two, 'A')
    befriend(two, three, 'B')
    befriend(one, three, 'C')
    recount()
    change('example.com', 'directory_uri')
    job = work()
    assert job.state == 'completed', job.message
    new = dict(EndUser.objects.values_list('user_id', 'im_address'))
    assert new == {'one': 'two@example.com', 'two': 'three@example.com', 'three': 'one@example.com'}
    assert {(owner, jid): value[:2] for (owner, jid), value in rosters().items()} == {
        ('one', 'three@example.com'): ('two', ('A',)),
        ('two', 'two@example.com'): ('one', ('A',)),
        ('two', 'one@example.com'): ('three', ('B',)),
        ('three', 'three@example.com'): ('two', ('B',)),
        ('one', 'one@example.com'): ('three', ('C',)),
        ('three', 'two@example.com'): ('one', ('C',)),
    }


class Killed(BaseException):
    """The worker dies here."""


@proves('DOM-12', 'IMA-10', 'IMA-23')
@pytest.mark.parametrize('after', range(1, 17))
def test_killed_after_any_batch_and_resumed_gives_the_same_end(people, monkeypatch, after):
    from impadmin.console.jobs import RunningJob
    from impadmin.console.models import Job
    from impadmin.presence import default_domain

    monkeypatch.setattr(default_domain, 'USERS_AT_ONCE', 2)
    monkeypatch.setattr(default_domain, 'OWNERS_AT_ONCE', 1)
    monkeypatch.setattr(default_domain, 'MESSAGES_AT_ONCE', 1)
    before = rosters()
    job = change()
    real = RunningJob.checkpoint
    seen = []

    def checkpoint(self, *args, **values):
        real(self, *args, **values)
        seen.append(1)
        if len(seen) == after:
            raise Killed  # rolls this batch back, as a lost connection does

    monkeypatch.setattr(RunningJob, 'checkpoint', checkpoint)
    with pytest.raises(Killed):
        work()
    monkeypatch.setattr(RunningJob, 'checkpoint', real)
    Job.objects.filter(pk=job.pk).update(heartbeat_at=None)  # the lease has run out
    job = work()
    assert job.state == 'completed', job.message
    assert addresses() == {name: f'{name}@new.example' for name in people}
    assert rosters() == {(o, j.replace('@example.com', '@new.example')): v for (o, j), v in before.items()}
    assert job.counts == job.counts | {'users': 4, 'contacts': 5, 'messages': 2}
    assert all(b'@new.example' in stanza for stanza in stanzas())


@proves('DOM-12', 'IMA-10')
@pytest.mark.parametrize('after', range(1, 15))
def test_cancel_gives_back_exactly_what_was_there(people, monkeypatch, after):
    from impadmin.console.actions import SYSTEM
    from impadmin.console.jobs import RunningJob
    from impadmin.presence import actions, default_domain, inventory
    from impadmin.presence.models import AddressChange, AddressJournal
    from impadmin.ucm.models import RosterItem

    monkeypatch.setattr(default_domain, 'USERS_AT_ONCE', 2)
    monkeypatch.setattr(default_domain, 'OWNERS_AT_ONCE', 1)
    monkeypatch.setattr(default_domain, 'MESSAGES_AT_ONCE', 1)
    # an entry somebody who is gone left, under the address that ann gets
    RosterItem.objects.create(user=people['bob'], jid='ann@new.example', name='Old Ann', groups=['Gone'])
    recount()
    before, old, messages = rosters(), addresses(), stanzas()
    change()
    real = RunningJob.checkpoint
    seen = []

    def checkpoint(self, *args, **values):
        real(self, *args, **values)
        seen.append(1)
        if len(seen) == after:
            actions.cancel_change(SYSTEM, [], {})

    monkeypatch.setattr(RunningJob, 'checkpoint', checkpoint)
    job = work()
    assert job.state == 'cancelled', job.message
    assert addresses() == old
    assert rosters() == before
    assert stanzas() == messages
    assert inventory.advanced().default_domain == 'example.com'
    assert not AddressChange.objects.exists()
    assert not AddressJournal.objects.exists()
    assert blocked() == ['dee@example.com/desk', 'x@elsewhere.example', 'example.com']
    assert default_domain.under_way() is None


def test_an_entry_left_by_somebody_who_is_gone_is_merged(people):
    from impadmin.ucm.models import EndUser, RosterItem

    RosterItem.objects.create(user=people['bob'], jid='ann@new.example', name='Old Ann', groups=['Gone'])
    recount()
    change()
    assert work().state == 'completed'
    name, groups, subscription, is_contact = rosters()['bob', 'ann@new.example']
    assert (name, sorted(groups), subscription, is_contact) == ('ann', ['Gone', 'Team'], 3, True)
    assert EndUser.objects.get(user_id='bob').contact_count == 2


@proves('IMA-10')
def test_collisions_are_named_before_anything_is_touched(api, make_user):
    make_user('one', directory_uri='Same@example.com')
    make_user('two', directory_uri='same@EXAMPLE.com')
    old = addresses()
    answer = start(api('administrator'), 'example.com', 'directory_uri')
    assert answer.status_code == 400
    text = str(answer.json()['errors']['address_scheme'])
    assert 'one and two would both get same@example.com' in text
    assert addresses() == old


@proves('IMA-01', 'IMA-08', 'IMA-09')
def test_the_page_asks_before_it_starts(admin_client, make_user):
    from impadmin.presence import default_domain, inventory

    make_user('good', directory_uri='good@example.com')
    bad = make_user('bad', directory_uri='foo')
    browser = admin_client('administrator')
    values = {'default_domain': 'example.com', 'address_scheme': 'directory_uri'}
    text = browser.post(f'{PAGE}do/change/', values).content.decode()
    assert 'clients must support' in text.lower() or 'client must support' in text
    assert f'/ucm/ucm/end-users/{bad.pk}/' in text  # link to the user who would have no address
    assert default_domain.latest() is None  # Cancel: nothing changes
    assert inventory.advanced().address_scheme == 'userid'
    consents = {'clients_support_it': 'on', 'accept_invalid': 'on', 'accept_outage': 'on'}
    told = browser.post(f'{PAGE}do/change/', values | consents)
    assert ('IM Address Scheme', 'UserID@[Default_Domain]', 'Directory URI') in told.context['preview'].changes
    assert default_domain.latest() is None, 'told, not begun'
    answer = browser.post(f'{PAGE}do/change/', values | consents | {'confirmed': '1'})
    assert answer.status_code == 302
    assert work().state == 'completed'
    assert addresses() == {'good': 'good@example.com', 'bad': None}
    assert 'no IM address' in browser.get(PAGE).content.decode()


def test_derivation_of_the_worked_example(make_user):
    from impadmin.presence.models import AdvancedSettings
    from impadmin.ucm.addresses import address_of

    user = make_user('js12345', mail='jsmith@cisco-sales.com', directory_uri='jsmith@cisco-sales.com')
    settings = AdvancedSettings(default_domain='cisco.com')
    assert address_of(user, settings) == 'js12345@cisco.com'
    settings.address_scheme = 'directory_uri'
    assert address_of(user, settings) == 'jsmith@cisco-sales.com'
    user.directory_uri = 'john.smith@webex.com'
    assert address_of(user, settings) == 'john.smith@webex.com'
    other = make_user('amckenzie@example.com')
    settings = AdvancedSettings(default_domain='sales-example.com')
    assert address_of(other, settings) == 'amckenzie\\40example.com@sales-example.com'


@proves('DOM-11')
def test_wrong_domains_and_roles_are_refused(api, db):
    client = api('administrator')
    assert '“1om”' in str(start(client, 'a.1om').json()['errors']['default_domain'])
    assert start(client, 'example.com').status_code == 400  # nothing would change
    assert start(api('operator'), 'new.example').status_code == 403
    assert client.post(f'{API}change/', {'default_domain': 'x.example'}).status_code == 400
    assert client.post(f'{API}retry/', {}).status_code == 409
    assert client.post(f'{API}cancel/', {}).status_code == 409


@proves('IMA-15')
def test_users_cannot_be_saved_while_addresses_change(people, api, monkeypatch):
    from impadmin.console.jobs import RunningJob

    job = change()
    real = RunningJob.checkpoint

    def checkpoint(self, *args, **values):
        real(self, *args, **values)
        if args[0] // 10**12 == 3:
            raise Killed

    monkeypatch.setattr(RunningJob, 'checkpoint', checkpoint)
    with pytest.raises(Killed):
        work()
    monkeypatch.setattr(RunningJob, 'checkpoint', real)
    client = api('administrator')
    for answer in (
        client.post('/api/v1/end-users/', {'user_id': 'new', 'last_name': 'New'}),
        client.patch(f'/api/v1/end-users/{people["ann"].pk}/', {'directory_uri': 'q@example.com'}),
        client.delete(f'/api/v1/end-users/{people["ann"].pk}/'),
        client.post('/api/v1/domains/', {'name': 'x.example'}),
    ):
        assert answer.status_code == 409
        assert 'Advanced Configuration' in answer.json()['detail']
    from impadmin.console.models import Job

    Job.objects.filter(pk=job.pk).update(heartbeat_at=None)
    assert work().state == 'completed'
    assert client.post('/api/v1/end-users/', {'user_id': 'new', 'last_name': 'New'}).status_code == 201
    assert addresses()['new'] == 'new@new.example'


def test_only_one_change_at_a_time(api, db):
    client = api('administrator')
    assert start(client).status_code == 200
    assert start(client, 'other.example').status_code == 409


def test_bulk_jobs_wait_for_the_change_and_the_change_for_them(api, db):
    from impadmin.console import jobs
    from impadmin.console.models import Job

    running = Job.objects.create(kind='export_contacts', state='processing', submitted_by='x')
    client = api('administrator')
    assert 'bulk job' in start(client).json()['detail']
    running.delete()
    assert start(client).status_code == 200
    assert 'Advanced Configuration' in jobs.blocked('bat')
    work()
    assert jobs.blocked('bat') == '' or 'Advanced Configuration' not in jobs.blocked('bat')


@proves('DOM-12', 'IMA-10')
@pytest.mark.parametrize('choice', ['retry', 'cancel'])
def test_a_node_that_does_not_answer_leaves_retry_and_cancel(people, api, admin_client, monkeypatch, choice):
    """The node is in contact, its services do not stop: the change stops before it touches anything."""
    from django.utils import timezone

    from impadmin.presence import default_domain
    from impadmin.system import maintenance
    from impadmin.system.models import Node, ServiceStatus

    monkeypatch.setattr(maintenance, 'SERVICE_TIMEOUT_S', 0.3)
    Node.objects.update(heartbeat_at=timezone.now())
    ServiceStatus.objects.create(node=Node.objects.get(), service='xcp_router', state='Running', since=timezone.now())
    old = addresses()
    client = api('administrator')
    start(client)
    job = work()
    assert job.state == 'failed'
    found = client.get(API).json()['change']
    assert (found['can_retry'], found['can_cancel']) == (True, True)
    assert 'Cisco XCP Router did not stop' in found['message']
    page = admin_client('administrator').get(PAGE).content.decode()
    assert f'{PAGE}do/retry/' in page
    assert f'{PAGE}do/cancel/' in page
    assert f'{PAGE}do/retry/' not in admin_client('read_only').get(PAGE).content.decode()
    assert addresses() == old
    assert start(client, 'other.example').status_code == 409  # the first one must end
    ServiceStatus.objects.update(state='Stopped')
    Node.objects.update(heartbeat_at=None)  # its engine has been stopped
    answer = admin_client('administrator').post(f'{PAGE}do/{choice}/', {'confirmed': '1'})
    assert answer.status_code == 302
    job = work()
    if choice == 'retry':
        assert job.state == 'completed', job.message
        assert addresses() == {name: f'{name}@new.example' for name in people}
    else:
        assert job.state == 'cancelled', job.message
        assert addresses() == old
    assert default_domain.under_way() is None
    assert start(client, 'third.example').status_code == 200


@pytest.mark.parametrize(
    ('raw', 'expected'),
    [
        (b"<message to='a@x/r'>", b"<message to='b@y/r'>"),
        (b'<message id="1" to="A@X" from = \'q@z\'/>', b'<message id="1" to="b@y" from = \'q@z\'/>'),
        (b"<message to='a@x'><from to='a@x'/></message>", b"<message to='b@y'><from to='a@x'/></message>"),
        (b'<message data-to="a@x" to="&apos;@x"/>', b'<message data-to="a@x" to="&apos;@x"/>'),
        (b'not xml', b'not xml'),
    ],
)
def test_only_outer_addresses_are_replaced(raw, expected):
    from impadmin.ucm.rekey import readdress

    assert readdress(raw, {'a@x': 'b@y'}) == expected
