"""Contact List > Rename Contacts: every contact list, both halves of subscriptions, and what clients see (spec 14)."""

from __future__ import annotations

import pytest

from tests.areas import bulk
from tests.areas.xmpp_fixtures import address, sign_in, user
from tests.proves import proves
from tests.xmppclient import condition

__all__ = ['sign_in']
KIND = 'rename_contacts'
HEADER = 'Contact ID, New Contact ID'
SAMPLE = 'john.smith@example.com, jsmith@example.com'
OLD, NEW = 'john.smith@example.com', 'jsmith@example.com'


@pytest.fixture
def client(admin_client, db):
    bulk.provisioning()
    return admin_client('bulk_operator')


def put(owner, jid, name='', groups=(), **values):
    """An entry as a migration left it."""
    from impadmin.ucm.models import RosterItem
    from impadmin.ucm.rekey import recount

    RosterItem.objects.create(user=owner, jid=jid, name=name, groups=list(groups), **values)
    recount([owner.pk])


def lists():
    """(owner, contact) -> (name, groups, subscription, ask, pending_in, is_contact) of all entries."""
    from impadmin.ucm.models import RosterItem

    return {
        (item.user.user_id, item.jid): (
            item.name, sorted(item.groups), item.subscription, item.ask, item.pending_in, item.is_contact,
        )
        for item in RosterItem.objects.select_related('user')
    }  # fmt: skip


def halves_agree():
    """What one side says of a subscription between two users here, the other says too."""
    from impadmin.ucm.models import EndUser, RosterItem

    bulk.counts_are_exact()
    known = set(EndUser.objects.values_list('im_address', flat=True))
    items = {(item.user.im_address, item.jid): item for item in RosterItem.objects.select_related('user')}
    for (owner, jid), item in items.items():
        if jid in known:
            back = items.get((jid, owner))
            assert bool(item.subscription & 1) == bool(back and back.subscription & 2), (owner, jid)
            assert item.ask == bool(back and back.pending_in), (owner, jid)


@proves('BAT-06', 'BAT-07')
@pytest.mark.parametrize('header', [HEADER + '\n', ''])
def test_sample_in_three_lists(client, make_user, header):
    make_user('jsmith')
    owners = [make_user(f'u{n}') for n in range(3)]
    for n, owner in enumerate(owners):
        put(owner, OLD, f'John {n}', ['Team', 'VIP'], subscription=3)
    page = client.get(bulk.PAGES[KIND]).content.decode()
    assert 'Renaming contacts in any other case is not supported' in page
    job = bulk.run_import(client, (header + SAMPLE + '\n').encode(), transaction=KIND)
    assert (job.state, job.counts['imported'], job.counts['lists'], job.counts['renamed']) == ('completed', 1, 3, 3)
    for n in range(3):
        assert lists()[f'u{n}', NEW] == (f'John {n}', ['Team', 'VIP'], 1, False, False, True)
        assert (f'u{n}', OLD) not in lists()
    halves_agree()
    log = bulk.log_of(client, job)
    assert 'Transaction: Rename Contacts - Custom File' in log
    assert 'Contact lists changed: 3\nContacts renamed: 3\n' in log
    assert 'Records not processed: 0\n' in log


ROWS = [
    ('a@old.example,b@new.example', ''),
    ('b@new.example , c@new.example', ''),
    ('a@old.example,other@new.example', 'The file renames this Contact ID already'),
    ('nobody@old.example,x@new.example', 'No contact list has this Contact ID'),
    ('Contact ID,New Contact ID', 'Invalid format'),
    ('a@old.example', 'Invalid format'),
    ('a@old.example,b@new.example,c', 'Invalid format'),
    (',b@new.example', 'Invalid format'),
    ('a@old.example,', 'Invalid format'),
    ('A@Old.example,a@old.example', 'Invalid format'),
    ('old.example,b@new.example', 'Invalid format'),
    ('a@old.example,b@no domain', 'Invalid format'),
    (f'{"a" * 250}@old.example,b@new.example', 'Invalid format'),
    ('blocked@old.example,blocked@new.example', ''),
]


@proves('BAT-06', 'BAT-22')
def test_chains_merges_and_verdicts(client, make_user):
    """Pairs are taken from the lists as they were; an entry that is there already is merged; block lists follow."""
    from impadmin.presence.models import PrivacyItem, PrivacyList

    owner, other = make_user('u1'), make_user('u2')
    put(owner, 'a@old.example', 'A', ['One'], subscription=1)
    put(owner, 'b@new.example', '', ['Two'], subscription=2, state=7)
    put(other, 'b@new.example', 'B', ['Three'], ask=True)
    put(other, 'c@new.example', 'C', ['Four'], subscription=1)
    listed = PrivacyList.objects.create(user=owner, name='blocked', is_default=True)
    PrivacyItem.objects.create(list=listed, order=1, type='jid', value='blocked@old.example/x', allow=False)
    job = bulk.run_import(client, bulk.csv(row for row, _ in ROWS), transaction=KIND)
    assert job.state == 'completed', job.message
    found = {row.line: row.reason.partition(' (')[0] for row in job.rows.all()}
    assert found == {line: reason for line, (_, reason) in enumerate(ROWS, 1) if reason}
    assert lists() == {
        ('u1', 'b@new.example'): ('A', ['One'], 1, False, False, True),
        ('u1', 'c@new.example'): ('', ['Two'], 2, False, False, True),
        ('u2', 'c@new.example'): ('B', ['Four', 'Three'], 1, False, False, True),
    }
    assert PrivacyItem.objects.get().value == 'blocked@new.example/x'
    assert user('u1').privacy_version == 1
    assert (job.counts['lists'], job.counts['renamed'], job.counts['privacy']) == (2, 3, 1)
    assert job.done == job.total == len(ROWS) + 2
    bulk.counts_are_exact()
    # two old addresses of one person, and one that would become the owner's own
    put(owner, 'p1@old.example', 'P', ['One'], subscription=1)
    put(owner, 'p2@old.example', 'Q', ['Two'], subscription=2)
    put(owner, 'me@old.example', 'Me')
    rows = ['p1@old.example,p@new.example', 'p2@old.example,p@new.example', 'me@old.example,u1@example.com']
    bulk.run_import(client, bulk.csv(rows), transaction=KIND)
    assert lists()['u1', 'p@new.example'] == ('P', ['One', 'Two'], 3, False, False, True)
    assert ('u1', 'me@old.example') in lists()
    bulk.counts_are_exact()


@proves('BAT-06')
@pytest.mark.parametrize('automatic', [True, False])
def test_subscriptions_between_users_here_agree(client, make_user, automatic):
    bulk.settings(auto_approve=automatic)
    new, former = make_user('jsmith'), make_user('former')
    names = ('both', 'asks', 'knows', 'granted', 'waits', 'plain')
    owners = {name: make_user(name) for name in names}
    put(owners['both'], OLD, subscription=3)
    put(owners['asks'], OLD, ask=True)
    put(owners['knows'], OLD, subscription=3)
    put(new, address('knows'), 'Knows')
    put(owners['granted'], OLD, subscription=2)
    put(owners['waits'], OLD, pending_in=True, is_contact=False, request=b"<presence from='x' type='subscribe'/>")
    put(owners['plain'], address('former'), subscription=1)
    put(former, address('plain'), subscription=2, is_contact=False)
    rows = [SAMPLE, f'{address("former")},someone@partner.example']
    job = bulk.run_import(client, bulk.csv(rows), transaction=KIND)
    assert job.state == 'completed', job.message
    halves_agree()
    found = lists()
    seen = (1, False) if automatic else (0, True)
    assert found['both', NEW][2:4] == seen
    assert found['asks', NEW][2:4] == seen
    assert found['knows', NEW][2:4] == (3, False), 'somebody in the own list needs no question'
    assert found['jsmith', address('knows')][2] == 3
    assert found['granted', NEW][2:4] == (0, False)
    assert user('granted').roster.get().approved, 'what was granted counts when the new address asks'
    assert ('waits', NEW) not in found
    assert found['plain', 'someone@partner.example'][2] == 1
    assert ('former', address('plain')) not in found


@proves('BAT-06', 'BAT-29')
def test_an_interrupted_job_goes_on_where_it_stood(client, make_user, monkeypatch):
    from impadmin.bulkadmin import rename
    from impadmin.console import jobs
    from impadmin.console.models import Job
    from impadmin.ucm.models import RosterItem

    for n in range(12):
        owner = make_user(f'u{n}')
        put(owner, 'a@old.example', 'A')
        put(owner, 'b@old.example', 'B')
    monkeypatch.setattr(rename, 'LISTS', 5)
    bulk.upload(client, 'r.csv', bulk.csv(['a@old.example,b@old.example', 'b@old.example,c@old.example']),
                transaction=KIND)  # fmt: skip
    job = bulk.submit(client, 'r.csv', transaction=KIND)
    real, calls = rename.rename_rosters, []

    class Killed(BaseException):
        pass

    def killed(owners):
        calls.append(owners)
        if len(calls) == 2:
            raise Killed  # as kill -9: nothing of this transaction is left, and nobody writes an end
        return real(owners)

    monkeypatch.setattr(rename, 'rename_rosters', killed)
    with pytest.raises(Killed):
        jobs.run(jobs.claim('bat'))
    assert RosterItem.objects.filter(jid='c@old.example').count() == 5
    Job.objects.filter(pk=job.pk).update(heartbeat_at=None)
    jobs.work('bat')
    job.refresh_from_db()
    assert (job.state, job.counts['lists'], job.counts['renamed']) == ('completed', 12, 24)
    assert {item.jid: item.name for item in user('u0').roster.all()} == {'b@old.example': 'A', 'c@old.example': 'B'}
    assert RosterItem.objects.filter(jid='a@old.example').count() == 0
    assert [len(owners) for owners in calls] == [5, 5, 5, 2]


@proves('BAT-07')
def test_it_runs_on_the_publisher_only(client, make_user):
    from django.utils import timezone

    from impadmin.console import jobs
    from impadmin.system.models import Node, ServiceStatus

    put(make_user('u1'), OLD)
    bulk.provisioning('Stopped')
    subscriber = Node.objects.create(name='imp2', address='127.0.0.2')
    ServiceStatus.objects.create(node=subscriber, service='bulk_provisioning', state='Running', since=timezone.now())
    bulk.upload(client, 'r.csv', SAMPLE.encode(), transaction=KIND)
    job = bulk.submit(client, 'r.csv', transaction=KIND)
    assert jobs.work('bat') == 0
    assert 'Bulk Provisioning Service of the publisher' in client.get(f'{bulk.JOBS}{job.pk}/').content.decode()
    bulk.provisioning()
    assert jobs.work('bat') == 1
    assert ('u1', NEW) in lists()


@proves('BAT-06')
@pytest.mark.timeout(120)
def test_clients_see_it_at_once(sign_in, admin_client, make_user):
    """Roster pushes take the old contact away and bring the new one; presence and blocks follow."""
    make_user('jsmith')
    ann, bob = sign_in('ann'), sign_in('bob')
    for one in (ann, bob):
        assert one.add_contact(OLD, 'John', ('Team',)) is None
    assert condition(bob.iq('set', "<block xmlns='urn:xmpp:blocking'><item jid='evil@old.example'/></block>")) is None
    john = sign_in('jsmith')
    bulk.provisioning()
    client = admin_client('bulk_operator')
    user('ann').roster.update(subscription=1)  # as the Microsoft server had it
    rows = [HEADER, SAMPLE, f'evil@old.example,{address("jsmith")}x']
    job = bulk.run_import(client, bulk.csv(rows), transaction=KIND)
    assert job.state == 'completed', job.message
    for one in (ann, bob):
        one.no_contact(OLD)
    ann.contact(NEW, name='John', groups=['Team'], subscription='to')
    bob.contact(NEW, name='John', groups=['Team'], subscription='none')
    ann.expect('presence', type='', from_=john.jid)
    john.contact(address('ann'), subscription='from')
    john.presence('unavailable')
    ann.expect('presence', type='unavailable', from_=john.jid)
    blocked = bob.iq('get', "<blocklist xmlns='urn:xmpp:blocking'/>")
    assert [item.get('jid') for item in blocked.iter('{urn:xmpp:blocking}item')] == [f'{address("jsmith")}x']
    assert set(sign_in('ann', 'second').contacts) == {NEW}
    halves_agree()
