"""Bulk jobs with a real worker and beat: kill -9, stop, schedule (spec 14, issue 2 acceptance 4).

The worker lives as long as this module, so tests that run jobs in the test process are elsewhere.
"""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.areas import bulk
from tests.areas.bulk import fresh, rows, set_rate, twenty_thousand
from tests.fixtures.processes import wait_until
from tests.proves import proves


@pytest.fixture(autouse=True)
def running(db):
    bulk.provisioning()


@pytest.fixture
def client(admin_client):
    return admin_client('bulk_operator')


@proves('BAT-13', 'BAT-23', 'BAT-24', 'BAT-25', 'BAT-26', 'BAT-27', 'BAT-28')
@pytest.mark.timeout(180)
def test_kill_9_in_the_middle_changes_no_number(client, make_user, worker):
    from impadmin.ucm.models import EndUser, RosterItem

    users = {f'm{n}': make_user(f'm{n}') for n in range(200)}
    full = make_user('full')
    RosterItem.objects.bulk_create(RosterItem(user=full, jid=f'o{n}@partner.example') for n in range(200))
    EndUser.objects.filter(pk=full.pk).update(contact_count=200, roster_version=1)
    data, good, reasons = twenty_thousand()
    set_rate(500)  # slow enough to be killed in the middle
    bulk.upload(client, 'big.csv', data)
    job = bulk.submit(client, 'big.csv')
    kills = []
    for target in (1000, 2500):
        wait_until(lambda target=target: fresh(job).done >= target, f'{target} rows are done', 60)
        worker.kill9()
        kills.append(fresh(job).done)
        worker.restart()
    set_rate(0)
    wait_until(lambda: fresh(job).state not in ('processing', 'pending'), 'the job ends', 90)
    assert all(0 < done < 20_000 for done in kills)
    assert job.state == 'completed', job.message
    assert (job.total, job.done) == (20_000, 20_000)
    assert job.counts['imported'] == 20_000 - 200
    assert job.counts['ignored'] == 200
    assert {row.line: row.reason.partition(' (')[0] for row in job.rows.all()} == reasons
    for name, user in users.items():
        assert set(bulk.contacts(user)) == good[name]
    assert len(bulk.contacts(full)) == 200
    bulk.counts_are_exact()
    log = bulk.log_of(client, job)
    assert f'Contacts imported: {20_000 - 200}\n' in log
    assert log.count(' -> ') == 200


@pytest.mark.timeout(120)
@proves('BAT-22')
def test_stop_job(client, make_user, worker):
    make_user('userA')
    bulk.settings(max_contacts=None)
    set_rate(100)
    bulk.upload(client, 'a.csv', rows(3000))
    job = bulk.submit(client, 'a.csv')
    wait_until(lambda: fresh(job).done > 20, 'rows are done')
    client.post(f'{bulk.JOBS}{job.pk}/do/stop/', {'confirmed': '1'})
    wait_until(lambda: fresh(job).state == 'cancelled', 'the job stops')
    assert job.counts['imported'] + job.counts['not_processed'] == 3000
    assert 'Status: Cancelled' in bulk.log_of(client, job)


@pytest.mark.timeout(150)
@proves('BAT-21')
def test_beat_starts_a_scheduled_job_within_60_seconds(client, make_user, worker, beat):
    from django.utils import timezone

    make_user('userA')
    bulk.upload(client, 'a.csv', rows(3))
    job = bulk.submit(client, 'a.csv', run='later')
    at = timezone.localtime() + timedelta(seconds=5)
    text = at.strftime('%Y-%m-%dT%H:%M:%S')
    client.post(f'{bulk.JOBS}{job.pk}/do/schedule/', {'confirmed': '1', 'scheduled_at': text})
    client.post(f'{bulk.JOBS}{job.pk}/do/activate/', {'confirmed': '1'})
    wait_until(lambda: fresh(job).state == 'completed', 'the job ran', 70)
    assert timedelta(seconds=-1) <= job.started_at - at <= timedelta(seconds=60)


@pytest.mark.timeout(180)
def test_kill_9_while_users_are_deleted(admin_client, make_user, worker):
    """Delete Selected of all found, as a job: the next worker goes on; every user is deleted and recorded once."""
    from impadmin.console.models import AuditEntry, Job
    from impadmin.ucm.models import EndUser

    for n in range(260):
        make_user(f'gone{n:03}')
    make_user('stays')
    admin = admin_client('administrator')
    query = '?f=user_id&o=begins&v=gone&j=and'
    url = '/ucm/ucm/end-users/'
    admin.post(f'{url}select/{query}', {'mark': 'all'})
    shown = [line.pk for line in admin.get(url + query).context['lines']]
    asked = admin.post(f'{url}delete-selected/{query}', {'shown': shown, 'pk': shown})
    confirmed = {'selection': asked.context['selection'], 'expected': '260', 'confirmed': '1'}
    assert admin.post(f'{url}delete-selected/{query}', confirmed).status_code == 302
    job = Job.objects.get(kind='bulk_delete')
    wait_until(lambda: fresh(job).done > 0, 'some are deleted', 60)
    worker.kill9()
    assert EndUser.objects.count() == 261 - fresh(job).done, 'what is counted is committed, and nothing else'
    worker.restart()
    wait_until(lambda: fresh(job).state not in ('processing', 'pending'), 'the job ends', 90)
    assert (job.state, job.done, job.counts['deleted'], job.failed) == ('completed', 260, 260, 0)
    assert list(EndUser.objects.values_list('user_id', flat=True)) == ['stays']
    entries = AuditEntry.objects.filter(action='delete', batch=f'job-{job.pk}')
    assert entries.count() == entries.values('object_id').distinct().count() == 260
