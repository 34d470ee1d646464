"""Diagnostics > System Dashboard: what nodes report, what the page shows of it, and how it stays current."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tests.fixtures.data import NODE, make_administrator
from tests.fixtures.processes import wait_until
from tests.proves import proves

PAGE = '/admin/diagnostics/system-dashboard/'
API = '/api/v1/system-dashboard/'


def test_a_node_samples_its_counters_and_names_its_certificates(engine, make_user, xmpp_client):
    """A slot of an earlier round of the ring is begun anew, so the table does not grow."""
    from impadmin.diagnostics.models import NodeSample
    from impadmin.osadmin.models import Certificate
    from impadmin.system.models import Node

    make_user('alice')
    start = int(timezone.now().timestamp()) // 600
    with transaction.atomic():
        NodeSample.objects.filter(step=600).delete()
        NodeSample.objects.bulk_create(
            (
                NodeSample(
                    node=Node.objects.get(), step=600, slot=slot % 1008, at=timezone.now() - timezone.timedelta(days=7),
                    seconds=900, sessions=9, users_online=9, queued_writes=9, queued_bytes=9, lag_ms=9, messages=5000,
                    logins=9, login_failures=9, peak=9,
                )
                for slot in (start, start + 1)
            ),
            ignore_conflicts=True,
        )  # fmt: skip
    xmpp_client('alice')
    wait_until(lambda: NodeSample.objects.filter(step=10, sessions=1).exists(), 'a sample with the session')
    latest = NodeSample.objects.filter(step=10).latest('at')
    assert (latest.sessions, latest.users_online) == (1, 1)
    assert 0 < latest.seconds < 30
    assert NodeSample.objects.filter(step=60).exists()
    begun = NodeSample.objects.filter(step=600).latest('at')
    assert (begun.messages, begun.sessions) == (0, 1)
    assert begun.seconds < 100
    assert NodeSample.objects.filter(step=600).count() == 2
    assert Certificate.objects.filter(node__name=NODE, name='cup-xmpp-ECDSA', origin='node').exists()


@proves('TRB-21')
def test_numbers_are_those_of_the_database(api, make_user):
    from impadmin.ucm.models import EndUser, RosterItem

    users = [make_user(f'user{n}', node=None if n == 3 else NODE) for n in range(4)]
    make_user('left', im_enabled=False)
    for n, user in enumerate(users[:3]):
        RosterItem.objects.bulk_create(RosterItem(user=user, jid=f'c{i}@example.com') for i in range(n))
        EndUser.objects.filter(pk=user.pk).update(contact_count=n)
    shown = api('read_only').get(API).json()['numbers']
    assert (shown['users'], shown['unassigned'], shown['contacts']) == (4, 1, RosterItem.objects.count())
    assert shown['messages_per_second'] is None  # nobody reported: nothing is claimed


@proves('PL-18')
def test_the_publisher_and_the_state_of_the_sync_agent(admin_client, api):
    """The address of the publisher, and whether Cisco Sync Agent runs there; on a subscriber it does not count."""
    from impadmin.system.models import Node, ServiceStatus

    now = timezone.now()
    Node.objects.update(address='192.0.2.7', heartbeat_at=now)
    status = ServiceStatus.objects.create(node=Node.objects.get(), service='sync_agent', state='Running', since=now)
    Node.objects.create(name='imp2', address='192.0.2.8', heartbeat_at=now)

    def card():
        text = admin_client('read_only').get(PAGE).content.decode()
        return text.partition('id="sync-agent"')[2].partition('</section>')[0]

    assert '192.0.2.7' in card()
    assert '>Running<' in card()
    status.state = 'Stopped'
    status.save()
    assert '>Stopped<' in card()
    assert '192.0.2.8' not in card()
    shown = api('read_only').get(API).json()['sync_agent']
    assert (shown['node'], shown['address'], shown['state']) == (NODE, '192.0.2.7', 'Stopped')


@proves('TRB-21')
def test_a_node_that_does_not_report_is_shown_as_such(admin_client, api):
    from impadmin.diagnostics.models import NodeSample
    from impadmin.system.models import Node

    now = timezone.now()
    NodeSample.objects.create(
        node=Node.objects.get(), step=10, slot=1, at=now - timezone.timedelta(minutes=3), seconds=10, sessions=7,
        users_online=7, queued_writes=0, queued_bytes=0, lag_ms=1, messages=420, logins=2, login_failures=1, peak=42,
    )  # fmt: skip
    Node.objects.update(heartbeat_at=now - timezone.timedelta(minutes=3), sessions=7, users_online=7, started_at=now)
    Node.objects.create(name='imp2', address='192.0.2.2')
    text = admin_client('read_only').get(PAGE).content.decode()
    for part in ('No report from imp1 since', 'no report since', 'imp2 has never reported', 'waits for its engine'):
        assert part in text
    data = api('read_only').get(API).json()
    gone, new = data['nodes']
    assert (gone['reports'], gone['sessions'], gone['now']) == (False, None, None)
    assert max(filter(None, gone['lines']['messages_per_second'])) == 42  # what was, was
    assert set(new['lines']['sessions']) == {None}
    assert (data['numbers']['online'], data['numbers']['messages_peak']) == (0, 42)


def test_a_card_is_only_for_those_who_may_see_its_page(admin_client, db):
    from impadmin.console.models import Role

    Role.objects.create(name='watch', permissions=['system-dashboard:view', 'job-scheduler:view'])
    make_administrator('watch')
    text = admin_client('watch').get(PAGE).content.decode()
    assert 'id="jobs"' in text
    assert not any(f'id="{card}"' in text for card in ('attention', 'nodes', 'numbers', 'changes', 'setup'))


def test_queries_do_not_grow_with_what_is_shown(admin_client, make_user):
    from impadmin.console.models import Job
    from impadmin.system.models import Node

    client = admin_client('administrator')
    client.get(PAGE)
    with CaptureQueriesContext(
        connection,
    ) as few:
        client.get(f'{PAGE}?part=cards')
    Node.objects.bulk_create(Node(name=f'imp{n}', address='192.0.2.9') for n in range(2, 7))
    Job.objects.bulk_create(Job(kind='import_contacts', submitted_by='x') for _ in range(30))
    for _ in range(20):
        make_user()
    with CaptureQueriesContext(connection) as many:
        client.get(f'{PAGE}?part=cards&range=7d')
    assert len(many) == len(few) < 50


def test_a_job_shows_its_rate_and_the_time_left(admin_client, db):
    from impadmin.console.models import Job, JobState

    job = Job.objects.create(
        kind='import_contacts', state=JobState.PROCESSING, total=100_000, done=40_000, rate=500, submitted_by='x',
        heartbeat_at=timezone.now(),
    )  # fmt: skip
    client = admin_client('bulk_operator')
    for url in (f'/admin/bulkadmin/job-scheduler/{job.pk}/', PAGE):
        text = client.get(url).content.decode()
        assert '500 per second' in text
        assert '2 min left' in text
    Job.objects.update(heartbeat_at=timezone.now() - timezone.timedelta(minutes=1))  # its worker is gone
    assert 'per second' not in client.get(f'/admin/bulkadmin/job-scheduler/{job.pk}/').content.decode()


def test_the_pace_is_that_of_lately(monkeypatch):
    from impadmin.console import pace as machine

    clock = [0.0]
    monkeypatch.setattr(machine, 'time', SimpleNamespace(monotonic=lambda: clock[0]))
    pace, done = machine.Pace(), 0
    assert pace(0) == 0
    for seconds, rate in ((30, 100), (60, 10)):
        for _ in range(seconds):
            clock[0] += 1
            done += rate
            found = pace(done)
        assert found == pytest.approx(rate, rel=0.5)
    assert pace(0) == found  # counted from the beginning again: nothing is known of that yet


def test_the_page_keeps_itself_current(engine, make_user, xmpp_client, browser_page, rest):
    """In a browser: a session, a change that waits for a restart, and a stopped service appear without a reload."""
    make_user('alice')
    page = browser_page('administrator')
    page.goto('/')
    assert page.url.endswith(PAGE)
    page.evaluate('window.here = true')
    page.wait_for_selector(f'#node-{NODE} [data-part=sessions]:text-is("0")')
    xmpp_client('alice')
    page.wait_for_selector(f'#node-{NODE} [data-part=sessions]:text-is("1")')
    rest('administrator')('PATCH', '/api/v1/messaging-settings/', {'im_enabled': False})
    page.wait_for_selector('#restarts >> text=Cisco XCP Router')
    assert page.evaluate('window.here')
    page.goto('/admin/messaging/messaging-settings/')
    page.wait_for_selector('#services >> text=Running, restart needed')
    page.evaluate('window.here = true')
    rest('administrator')('POST', '/api/v1/control-center-network/stop/', {'node': NODE, 'service': 'xcp_router'})
    page.wait_for_selector('#services .st-off >> text=Stopped')
    assert page.evaluate('window.here')
