"""Job Scheduler and the job machine: order, schedule, leases, outage, rate (spec 14)."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.areas import bulk
from tests.areas.bulk import fresh, rows, set_rate
from tests.proves import proves


@pytest.fixture(autouse=True)
def running(db):
    bulk.provisioning()


@pytest.fixture
def client(admin_client):
    return admin_client('bulk_operator')


@proves('BAT-20', 'BAT-21', 'BAT-22')
def test_run_later_waits_for_schedule_and_activation(client, make_user):
    from django.utils import timezone

    from impadmin.console import jobs
    from impadmin.console.models import Job

    make_user('userA')
    bulk.upload(client, 'a.csv', rows(3))
    page = client.get(bulk.UPDATE).content.decode()
    for text in ('File Name', 'Job Description', 'Run Immediately', 'Run Later', 'Submit'):
        assert text in page
    job = bulk.submit(client, 'a.csv', run='later', description='Move of the night')
    assert (job.state, job.description) == ('hold', 'Move of the night')
    assert jobs.work('bat') == 0
    listed = client.get(bulk.JOBS).content.decode()
    for text in ('Job ID', 'Scheduled Time', 'Submit Time', 'Transaction', 'Status', 'Move of the night', 'Hold'):
        assert text in listed
    at = (timezone.localtime() + timedelta(minutes=2)).strftime('%Y-%m-%dT%H:%M:%S')
    assert client.post(f'{bulk.JOBS}{job.pk}/do/schedule/', {'confirmed': '1', 'scheduled_at': at}).status_code == 302
    assert jobs.work('bat') == 0
    client.post(f'{bulk.JOBS}{job.pk}/do/activate/', {'confirmed': '1'})
    assert (fresh(job).state, jobs.work('bat')) == ('pending', 0)
    Job.objects.filter(pk=job.pk).update(scheduled_at=timezone.now())  # two minutes later
    assert jobs.work('bat') == 1
    assert fresh(job).state == 'completed'
    assert (
        'Only a job on hold'
        in client.post(f'{bulk.JOBS}{job.pk}/do/activate/', {'confirmed': '1'}, follow=True).content.decode()
    )


def test_jobs_wait_for_the_provisioning_service(client, make_user):
    from impadmin.console import jobs

    make_user('userA')
    bulk.provisioning('Stopped')
    bulk.upload(client, 'a.csv', rows(3))
    job = bulk.submit(client, 'a.csv')
    assert jobs.work('bat') == 0
    assert fresh(job).state == 'pending'
    page = client.get(f'{bulk.JOBS}{job.pk}/').content.decode()
    assert 'Waits for the Cisco Bulk Provisioning Service' in page
    bulk.provisioning()
    assert jobs.work('bat') == 1
    assert fresh(job).message == ''


@proves('BAT-20')
def test_submit_without_a_fitting_file_is_refused(client):
    bulk.upload(client, 'x.csv', rows(1), transaction='export_contacts')
    answer = bulk.submit(client, 'x.csv')
    assert 'There is no file of this name' in answer.content.decode()
    answer = client.post(bulk.UPDATE + 'do/submit/', {'confirmed': '1', 'file': 'x.csv', 'run': 'sometime'})
    assert answer.status_code != 302


def test_delete_takes_rows_and_log(client, make_user):
    from impadmin.console import jobs
    from impadmin.console.models import Job

    make_user('userA')
    job = bulk.run_import(client, rows(1) + b'bad\n')
    where = jobs.log_path(job)
    assert where.exists()
    client.post(f'{bulk.JOBS}{job.pk}/delete/', {'confirmed': '1', 'expected': '1'})
    assert not Job.objects.exists()
    assert not where.exists()


def test_two_workers_never_hold_one_job(client, make_user):
    from impadmin.console import jobs
    from impadmin.console.models import Job

    make_user('userA')
    bulk.upload(client, 'a.csv', rows(10))
    first = bulk.submit(client, 'a.csv')
    second = bulk.submit(client, 'a.csv')
    held = jobs.claim('bat')
    assert held is not None
    assert held.id == first.pk
    assert jobs.claim('bat') is None, 'the second job starts after the first has ended'
    # the lease runs out: another worker takes over, and the first one's work is rolled back
    Job.objects.filter(pk=first.pk).update(heartbeat_at=fresh(first).heartbeat_at - timedelta(minutes=1))
    taken = jobs.claim('bat')
    assert taken is not None
    assert taken.resumed
    with pytest.raises(jobs.LeaseLost):
        held.checkpoint(1, done=1)
    jobs.run(taken)
    assert fresh(first).counts['imported'] == 10
    jobs.work('bat')
    assert fresh(second).started_at >= fresh(first).ended_at


def test_an_internal_error_shows_no_traceback(client, make_user, monkeypatch):
    from impadmin.bulkadmin import importer

    make_user('userA')
    monkeypatch.setattr(importer, '_store', lambda *_: 1 / 0)
    job = bulk.run_import(client, rows(3))
    assert job.state == 'failed'
    page = client.get(f'{bulk.JOBS}{job.pk}/').content.decode()
    assert 'An internal error ended the job' in page
    assert 'ZeroDivision' not in page + bulk.log_of(client, job)
    assert 'Contacts not processed: 3' in bulk.log_of(client, job)


@proves('BAT-29')
def test_database_outage_mid_job(client, make_user, monkeypatch):
    from django.db import connection

    from impadmin.bulkadmin import importer, inforce
    from impadmin.console import jobs

    user = make_user('userA')
    bulk.settings(max_contacts=None)
    monkeypatch.setattr(jobs, 'RETRY_S', 1.0)
    monkeypatch.setattr(inforce, 'CHUNK', 100)
    real, calls = importer._store, []

    def store(*args):
        calls.append(1)
        if len(calls) > 3:  # the server ends our session in the middle of the work, again and again
            with connection.cursor() as cursor:
                cursor.execute('SELECT pg_terminate_backend(pg_backend_pid())')
        real(*args)

    monkeypatch.setattr(importer, '_store', store)
    data = rows(1000)
    job = bulk.run_import(client, data)
    assert job.state == 'incomplete'
    assert job.counts['imported'] == 300 == user.roster.count()
    assert job.counts['not_processed'] == 700
    assert 'Contacts not processed: 700' in bulk.log_of(client, job)
    assert 'The database did not answer' in client.get(f'{bulk.JOBS}{job.pk}/').content.decode()
    monkeypatch.setattr(importer, '_store', real)
    again = bulk.run_import(client, data)
    assert again.counts['imported'] == 1000
    assert user.roster.count() == 1000
    bulk.counts_are_exact()


@proves('BAT-02')
def test_rate_is_kept_within_ten_percent(client, make_user):
    make_user('userA')
    bulk.settings(max_contacts=None)
    set_rate(100)
    job = bulk.run_import(client, rows(400))
    took = (job.ended_at - job.started_at).total_seconds()
    assert 400 / took == pytest.approx(100, rel=0.1)


def test_lagging_nodes_slow_an_import_down(client, make_user):
    from django.utils import timezone

    from impadmin.bulkadmin.inforce import CHUNK, Pace
    from impadmin.system.models import Node

    pace = Pace()
    pace.read()
    assert (pace.brake, pace.rows()) == (0.0, CHUNK)
    Node.objects.update(loop_lag_ms=80, heartbeat_at=timezone.now())
    pace._read_at = -1.0
    pace.read()
    assert pace.brake >= 1.0
    assert pace.rows() < CHUNK
