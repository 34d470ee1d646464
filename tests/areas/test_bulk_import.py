"""Contact List > Update through the pages: verdicts, merge, limits, subscriptions, log (spec 14)."""

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


@proves('BAT-13', 'BAT-16', 'BAT-22', 'BAT-23')
def test_sample_row_and_merge(client, make_user):
    user, other = make_user('userA'), make_user('userB')
    job = bulk.run_import(client, bulk.csv(['userA,example.com,userB,example.com,buddyB,General,0']))
    assert (job.state, job.counts['imported'], job.total) == ('completed', 1, 1)
    item = bulk.contacts(user)['userb@example.com']
    assert (item.name, item.groups, item.state, item.subscription) == ('buddyB', ['General'], 0, 1)
    back = other.roster.get()
    assert (back.jid, back.is_contact, back.subscription) == ('usera@example.com', False, 2)
    # adding to an existing list: another group and nickname for the same contact, a new one beside it
    again = bulk.csv(['userA,example.com,userB,example.com,Bob,Team,5', 'userA,example.com,x,partner.example,,Team,7'])
    job = bulk.run_import(client, again)
    assert job.counts['imported'] == 2
    found = bulk.contacts(user)
    assert (found['userb@example.com'].name, found['userb@example.com'].groups) == ('Bob', ['General', 'Team'])
    assert (found['x@partner.example'].state, found['x@partner.example'].ask) == (7, True)
    user.refresh_from_db()
    assert (user.contact_count, user.roster_version) == (2, 2)
    bulk.counts_are_exact()
    page = client.get(f'{bulk.JOBS}{job.pk}/').content.decode()
    assert f'{job.pk}/file/csv/' in page
    assert f'{job.pk}/file/log/' in page
    shown = client.get(f'{bulk.JOBS}{job.pk}/file/csv/')
    assert shown['Content-Type'].startswith('text/plain')
    assert b''.join(shown.streaming_content) == again
    log = bulk.log_of(client, job)
    assert re.search(rf"Job ID: {job.pk}  Transaction: Import Users' Contacts - Custom File  File: moves\.csv\n", log)
    assert re.search(r'\nStart: \d{4}-\d\d-\d\d \d\d:\d\d:\d\d  End: \d{4}-', log)
    for line in ('imported: 2', 'ignored: 0', 'not processed: 0'):
        assert f'Contacts {line}\n' in log
    assert 'Internal server errors: 0\n' in log


LONG_DOMAIN = '.'.join(['a' * 60, 'b' * 60, 'example'])
ROWS = [
    ('userA,example.com,b,example.org,,General,0', ''),
    ('User ID,User Domain,Contact ID,Contact Domain,Nickname,Group Name,State', 'Invalid format'),
    (',example.com,b,example.org,,General,0', 'Invalid format'),
    ('userA,,b,example.org,,General,0', 'Invalid format'),
    ('userA,example.com,,example.org,,General,0', 'Invalid format'),
    ('userA,example.com,b,,,General,0', 'Invalid format'),
    ('userA,example.com,b,example.org,,,0', 'Invalid format'),
    ('userA,example.com,b,example.org', 'Invalid format'),
    ('userA,example.com,b,example.org,n,g,0,more', 'Invalid format'),
    ('userA,example.com,b,example.org,n,g,-1', 'Invalid format'),
    ('userA,example.com,b,example.org,n,g,x', 'Invalid format'),
    ('userA,example.com,"b,example.org,n,g,0', 'Invalid format'),
    ('userA,example.com,b,example.org,a\x01b,g,0', 'Invalid format'),
    (f'{"u" * 133},example.com,b,example.org,n,g,0', 'Invalid format'),
    (f'{"u" * 132},example.com,b,example.org,n,g,0', 'User is not assigned to local node'),
    (f'userA,example.com,{"u" * 133},example.org,n,g,0', 'Invalid format'),
    (f'userA,example.com,{"u" * 132},example.org,n,g,0', ''),
    (f'userA,{"d" * 129},b,example.org,n,g,0', 'Invalid format'),
    (f'userA,example.com,b,example.org,{"n" * 256},g,0', 'Invalid format'),
    (f'userA,example.com,b255,example.org,{"n" * 255},{"g" * 255},0', ''),
    (f'userA,example.com,b,example.org,n,{"g" * 256},0', 'Invalid format'),
    ('userA,example.com,b,exa_mple.com,,General,0', 'Invalid contact domain'),
    ('userA,example.com,b,-ex.com,,General,0', 'Invalid contact domain'),
    ('userA,example.com,b,ex-.com,,General,0', 'Invalid contact domain'),
    ('userA,example.com,b,a.c,,General,0', 'Invalid contact domain'),
    ('userA,example.com,b,ex.c0m,,General,0', 'Invalid contact domain'),
    ('userA,example.com,b,localhost,,General,0', 'Invalid contact domain'),
    (f'userA,example.com,b,{"a" * 64}.com,,General,0', 'Invalid contact domain'),
    (f'userA,example.com,b,{LONG_DOMAIN},,General,0', 'Invalid contact domain'),
    (f'userA,example.com,b,{"a" * 63}.com,,General,0', ''),
    ('userA,example.com,USERa,Example.COM,,General,0', 'Cannot add self as a contact'),
    ('nobody,example.com,b,example.org,,General,0', 'User is not assigned to local node'),
    ('away,example.com,b,example.org,,General,0', 'User is not assigned to local node'),
    ('off,example.com,b,example.org,,General,0', 'User is not assigned to local node'),
    ('userA,elsewhere.example,b,example.org,,General,0', 'User is not assigned to local node'),
    ('  userA , example.com ,  six , example.org , Six Columns , General ', ''),
    ('userA,example.com,"q","example.org","Smith, ""J""",General,0', ''),
]


@proves('BAT-03', 'BAT-14', 'BAT-15', 'BAT-23', 'BAT-24', 'BAT-25', 'BAT-26', 'BAT-28')
def test_every_verdict_with_its_line(client, make_user):
    user = make_user('userA')
    make_user('away', node=None)
    make_user('off', im_enabled=False)
    # line 1 is the header, line 3 is empty: both keep their numbers and count nothing
    header = 'user id,USER DOMAIN,Contact ID,Contact Domain,Nickname,Group Name,State'
    lines = [header, ROWS[0][0], '', *(row for row, _ in ROWS[1:])]
    job = bulk.run_import(client, b'\xef\xbb\xbf' + '\r\n'.join(lines).encode() + b'\r\n\r\n')
    assert job.state == 'completed', job.message
    good = [row for row, reason in ROWS if not reason]
    expected = {n: reason for n, (_, reason) in zip([2, *range(4, len(ROWS) + 3)], ROWS, strict=True) if reason}
    assert job.total == len(ROWS) == job.counts['imported'] + job.counts['ignored']
    assert job.counts['imported'] == len(good)
    found = {row.line: row.reason.partition(' (')[0] for row in job.rows.all()}
    assert found == expected
    log = bulk.log_of(client, job)
    tail = log.partition('-- Ignored contacts --\n')[2].splitlines()
    assert [int(re.match(r'line (\d+): ', line)[1]) for line in tail] == sorted(expected)
    assert 'userA@example.com -> USERa@Example.COM : Cannot add self as a contact' in log
    names = {jid: item.name for jid, item in bulk.contacts(user).items()}
    assert names['six@example.org'] == 'Six Columns'
    assert names['q@example.org'] == 'Smith, "J"'
    bulk.counts_are_exact()
    page = client.get(f'{bulk.JOBS}{job.pk}/').content.decode()
    assert 'Invalid contact domain' in page
    ignored = b''.join(client.get(f'{bulk.JOBS}{job.pk}/file/ignored/').streaming_content).decode()
    assert ignored.count('\n') >= len(expected)


@proves('BAT-27', 'BAT-12')
def test_maximum_fills_in_file_order(client, make_user):
    bulk.settings(max_contacts=3)
    user = make_user('userA')
    bulk.run_import(client, bulk.csv(f'userA,example.com,old{n},example.org,,G,0' for n in range(2)))
    data = bulk.csv(
        [
            'userA,example.com,new0,example.org,,G,0',
            'userA,example.com,old1,example.org,,Second,0',
            *(f'userA,example.com,new{n},example.org,,G,0' for n in range(1, 4)),
        ]
    )
    job = bulk.run_import(client, data)
    assert (job.counts['imported'], job.counts['ignored']) == (2, 3)
    assert {row.reason for row in job.rows.all()} == {'User contact list size exceeds maximum'}
    assert [row.line for row in job.rows.order_by('line')] == [3, 4, 5]
    assert set(bulk.contacts(user)) == {'old0@example.org', 'old1@example.org', 'new0@example.org'}
    page = client.get(bulk.UPDATE).content.decode()
    assert 'Maximum Contact List Size (per user): 3' in page
    assert '/admin/presence/standard-configuration/' in page
    bulk.settings(max_contacts=None)
    assert 'No Limit' in client.get(bulk.UPDATE).content.decode()
    job = bulk.run_import(client, data)
    assert job.counts['imported'] == 5
    assert len(bulk.contacts(user)) == 6
    bulk.counts_are_exact()


@proves('BAT-12')
def test_maximum_in_force_is_the_one_the_router_started_with(client, make_user):
    from django.utils import timezone

    from impadmin.console import generations
    from impadmin.system.models import Node, ServiceStatus

    ServiceStatus.objects.create(
        node=Node.objects.get(publisher=True), service='xcp_router', state='Running', since=timezone.now(),
        generation=generations.newest_number(),
    )  # fmt: skip
    bulk.settings(max_contacts=1)
    make_user('userA')
    data = bulk.csv(f'userA,example.com,c{n},example.org,,G,0' for n in range(3))
    assert bulk.run_import(client, data).counts['imported'] == 3
    assert 'take effect after a restart' in client.get(bulk.UPDATE).content.decode()


@proves('BAT-13')
def test_subscriptions(client, make_user):
    alice, bob, carol = (make_user(name) for name in ('alice', 'bob', 'carol'))
    bulk.run_import(client, bulk.csv([
        'alice,example.com,bob,example.com,,G,0',
        'bob,example.com,alice,example.com,,G,0',
        'alice,example.com,ghost,example.com,,G,0',
        'alice,example.com,ext,partner.example,,G,0',
    ]))  # fmt: skip
    found = bulk.contacts(alice)
    assert [(found[jid].subscription, found[jid].ask) for jid in sorted(found)] == [(3, False), (0, True), (0, False)]
    assert bulk.contacts(bob)['alice@example.com'].subscription == 3
    bulk.counts_are_exact()
    bulk.settings(auto_approve=False)
    bulk.run_import(
        client, bulk.csv(['carol,example.com,alice,example.com,,G,0', 'bob,example.com,carol,example.com,,G,0'])
    )
    assert (bulk.contacts(carol)['alice@example.com'].subscription, bulk.contacts(carol)['alice@example.com'].ask) == (
        0,
        True,
    )
    waiting = alice.roster.get(jid='carol@example.com')
    assert (waiting.pending_in, waiting.is_contact, waiting.subscription) == (True, False, 0)
    assert b'type="subscribe"' in bytes(waiting.request)
    # somebody who is in the contact's list already is approved without being asked
    bulk.run_import(client, bulk.csv(['alice,example.com,carol,example.com,,G,0']))
    assert bulk.contacts(alice)['carol@example.com'].subscription == 1
    bulk.counts_are_exact()


@proves('BAT-12')
def test_maximum_watchers_refuses_the_subscription_not_the_contact(client, make_user):
    bulk.settings(max_watchers=2)
    star = make_user('star')
    fans = [make_user(f'fan{n}') for n in range(4)]
    job = bulk.run_import(client, bulk.csv(f'fan{n},example.com,star,example.com,,G,0' for n in range(4)))
    assert job.counts['imported'] == 4
    assert [bulk.contacts(fan)['star@example.com'].subscription for fan in fans] == [1, 1, 0, 0]
    star.refresh_from_db()
    assert star.watcher_count == 2
    bulk.counts_are_exact()


WHOLE_FILES = [
    (b'', 'The file is empty'),
    ('userA,example.com,b,example.org,,G,0\n'.encode('utf-16'), 'UTF-16'),
    ('userA,example.com,b,example.org,,G,0\n'.encode('utf-16-le'), 'UTF-16'),
    (b'userA,example.com,b,example.org,,G,0\nuserA,exam\0ple.com,b,example.org,,G,0\n', 'Line 2 has a NUL byte'),
    (b'userA,example.com,b,example.org,,G,0\nuserA,example.com,b,example.org,\xe9,G,0\n', 'Line 2 is not UTF-8'),
    (b'userA;example.com;b;example.org;;G;0\n', 'separated by ;'),
    (b'userA,example.com,b\n', 'rows have 3 columns'),
    (b'PK\x03\x04rest of a workbook', 'workbook'),
    (b'a,' * 40000 + b'\n', 'longer than 65536 bytes'),
    (b'userA,example.com,b,example.org,,G,0\ruserA,example.com,c,example.org,,G,0\r', 'CR only'),
]  # fmt: skip


@pytest.mark.parametrize(('data', 'text'), WHOLE_FILES, ids=[text for _, text in WHOLE_FILES])
@proves('BAT-24')
def test_files_that_are_no_csv_are_refused_at_once(client, data, text):
    from impadmin.bulkadmin.models import BulkFile

    answer = bulk.upload(client, 'bad.csv', data)
    assert answer.status_code in (200, 422), answer.status_code  # the form again
    page = answer.content.decode()
    assert text in page
    assert 'Traceback' not in page
    assert not BulkFile.objects.exists()


def test_file_with_a_header_only_fails_clearly(client):
    job = bulk.run_import(client, b'User ID,User Domain,Contact ID,Contact Domain,Nickname,Group Name,State\n')
    assert job.state == 'failed'
    assert 'no data rows' in client.get(f'{bulk.JOBS}{job.pk}/').content.decode()


def test_a_file_of_bad_rows_fills_no_table(client, make_user):
    """*Maximum number of rows listed per job*: further bad rows are counted, and page and log say how many."""
    from impadmin.console.models import JobRow

    make_user('userA')
    bulk.set_parameter('listed_rows', 1000)
    rows = ['userA,example.com,good,partner.example,,General,0']
    rows += [f'nobody{n},example.com,b,example.org,,General,0' for n in range(2500)]
    job = bulk.run_import(client, bulk.csv(rows))
    assert (job.state, job.counts['imported'], job.counts['ignored']) == ('completed', 1, 2500)
    assert JobRow.objects.filter(job=job).count() == 1000
    assert '1,500 further rows are counted but not listed' in client.get(f'{bulk.JOBS}{job.pk}/').content.decode()
    log = bulk.log_of(client, job)
    assert '1500 further contacts that were not imported are counted above but not listed.' in log
    assert log.count('line ') == 1000
