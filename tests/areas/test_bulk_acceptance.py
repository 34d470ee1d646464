"""Issue 2, acceptance 4: upload and run in a browser, live progress, roster pushes, export gives back the import."""

from __future__ import annotations

import time

import pytest

from tests.areas import bulk
from tests.areas.bulk import fresh, set_rate, twenty_thousand
from tests.fixtures.processes import wait_until
from tests.proves import proves


@proves('BAT-04', 'BAT-05', 'BAT-08', 'BAT-13', 'BAT-16', 'BAT-20', 'BAT-22', 'BAT-23', 'BAT-30', 'BAT-31')
@pytest.mark.timeout(280)
def test_import_in_the_browser_with_clients_online(engine, worker, xmpp, browser_page, make_user, tmp_path):
    from impadmin.console.models import Job
    from impadmin.ucm.models import EndUser, RosterItem

    users = {f'm{n}': make_user(f'm{n}') for n in range(200)}
    full = make_user('full')
    RosterItem.objects.bulk_create(RosterItem(user=full, jid=f'o{n}@partner.example') for n in range(200))
    EndUser.objects.filter(pk=full.pk).update(contact_count=200, roster_version=1)
    bulk.settings(max_watchers=None)
    engine.restart()
    data, good, reasons = twenty_thousand()
    file = tmp_path / 'moves.csv'
    file.write_bytes(data)
    online = [xmpp(name) for name in ('m3', 'm77')]
    for one in online:
        assert one.roster() == {}
        one.available()
    set_rate(500)

    page = browser_page('bulk_operator')
    page.goto(bulk.FILES)
    page.get_by_role('link', name='Add').first.click()
    page.get_by_label('File', exact=False).first.set_input_files(file)
    page.get_by_label('Select the Target').select_option('contact_lists')
    page.get_by_label('Select Transaction Type').select_option('import_contacts')
    page.get_by_role('button', name='Save').click()
    page.get_by_text('moves.csv').first.wait_for()
    page.goto(bulk.UPDATE)
    page.get_by_label('File Name').select_option('moves.csv')
    page.get_by_label('Job Description').fill('Acceptance')
    page.get_by_role('button', name='Submit').click()
    page.wait_for_url('**' + bulk.JOBS + '*/')
    job = Job.objects.get()
    # live: the numbers move without a reload, and clients see contacts arrive
    seen = set()
    deadline = time.monotonic() + 15
    while len(seen) < 3 and time.monotonic() < deadline:
        seen.add(page.locator('.verdicts b').first.inner_text())
        page.wait_for_timeout(400)
    assert len(seen) >= 3, seen
    set_rate(0)
    wait_until(lambda: fresh(job).state not in ('processing', 'pending'), 'the job ends', 90)
    assert (job.state, job.counts['imported'], job.counts['ignored']) == ('completed', 19_800, 200), job.message
    page.get_by_text('Completed').first.wait_for()
    for one, name in zip(online, ('m3', 'm77'), strict=True):
        wait_until(lambda one=one, name=name: set(one.contacts) >= good[name], 'the client has all contacts')
        shown = one.roster()
        assert {jid for jid, entry in shown.items() if entry['name'].startswith('Contact ')} == good[name]
    page.allowed_errors.append('/file/log/')  # the browser asks for /favicon.ico beside a plain text
    with page.expect_navigation():
        page.get_by_role('link', name=f'job-{job.pk}.log').click()
    log = page.inner_text('body')
    assert 'Contacts imported: 19800' in log
    assert log.count(' -> ') == len(reasons)

    # export: what was imported comes back
    page.goto(bulk.EXPORT)
    page.get_by_role('button', name='Next').click()
    page.get_by_label('File Name').fill('everything')
    page.get_by_role('button', name='Submit').click()
    page.wait_for_url('**' + bulk.JOBS + '*/')
    export = Job.objects.order_by('-pk').first()
    wait_until(lambda: fresh(export).state not in ('processing', 'pending'), 'the export ends', 60)
    assert export.state == 'completed', export.message
    page.goto(bulk.FILES)
    page.get_by_role('link', name=export.output_file).first.click()
    with page.expect_download() as download:
        page.get_by_role('link', name='Download', exact=True).click()
    rows = download.value.path().read_text().splitlines()
    pairs = {tuple(row.split(',')[:4]) for row in rows}
    wanted = {(name, 'example.com', *jid.split('@')) for name in users for jid in good[name]} | {
        ('full', 'example.com', f'o{n}', 'partner.example') for n in range(200)
    }
    assert pairs == wanted
    bulk.counts_are_exact()


@proves('BAT-13')
@pytest.mark.timeout(120)
def test_a_connected_user_sees_the_sample_contact(engine, worker, xmpp, admin_client, make_user):
    make_user('userA')
    make_user('userB')
    client = admin_client('bulk_operator')
    alice = xmpp('usera')
    bob = xmpp('userb')
    for one in (alice, bob):
        one.roster()
        one.available()
    bulk.upload(client, 'one.csv', b'userA,example.com,userB,example.com,buddyB,General,0\n')
    job = bulk.submit(client, 'one.csv')
    found = alice.contact('userb@example.com', subscription='to')
    assert found['name'] == 'buddyB'
    alice.expect('presence', from_='userb@example.com', type='')
    wait_until(lambda: fresh(job).state == 'completed', 'the job ends')
