"""The menus of Bulk Administration as a migration walks through them: in the browser, and by REST over HTTP."""

from __future__ import annotations

import pytest

from tests.areas import bulk
from tests.areas.bulk import fresh
from tests.areas.test_bulk_locations import EXPORTED, IMPORTED
from tests.areas.test_bulk_non_presence import SAMPLE
from tests.areas.test_bulk_rest import FILES, JOBS, send_file
from tests.fixtures.processes import wait_until
from tests.proves import proves

__all__ = ['send_file']
MENU = [
    'Upload/Download Files',
    'Contact List: Rename Contacts',
    'Contact List: Export Contact List',
    'Contact List: Update',
    'Non-presence Contact List: Export Non-presence Contact List',
    'Non-presence Contact List: Import Non-presence Contact List',
    'User Location Migration: Export User Location Details',
    'User Location Migration: Import User Location Details',
    'Job Scheduler',
]


@proves('BAT-01', 'BAT-04', 'BAT-06', 'BAT-07', 'BAT-20')
@pytest.mark.timeout(120)
def test_menu_and_rename_in_the_browser(worker, browser_page, make_user, tmp_path):
    from impadmin.console.models import Job
    from impadmin.ucm.models import RosterItem

    bulk.provisioning()
    owner = make_user('u1')
    RosterItem.objects.create(user=owner, jid='john.smith@example.com', name='John', groups=['Team'])
    file = tmp_path / 'lync.csv'
    file.write_text('Contact ID, New Contact ID\njohn.smith@example.com, jsmith@example.com\n')
    page = browser_page('bulk_operator')
    page.goto(bulk.FILES)
    menu = page.locator('nav', has_text='Upload/Download Files').first
    shown = menu.inner_text()
    for entry in MENU:
        for part in entry.split(': '):
            assert part in shown, part
    page.goto(bulk.FILES + 'add/')
    page.get_by_label('File', exact=False).first.set_input_files(file)
    targets = page.get_by_label('Select the Target').locator('option').all_inner_texts()
    assert targets[-4:] == ['Contacts', 'Contact Lists', 'Non-presence Contact Lists', 'User Location Migration']
    page.get_by_label('Select the Target').select_option(label='Contact Lists')
    page.get_by_label('Select Transaction Type').select_option(label='Rename Contacts - Custom File')
    page.get_by_role('button', name='Save').click()
    page.get_by_text('This transaction type belongs to another target.').wait_for()
    page.get_by_label('File', exact=False).first.set_input_files(file)
    page.get_by_label('Select the Target').select_option(label='Contacts')
    page.get_by_role('button', name='Save').click()
    page.get_by_role('link', name='Rename Contacts').last.click()
    page.wait_for_url(f'**{bulk.PAGES["rename_contacts"]}*')
    assert 'Only for users who move here from a Microsoft server' in page.locator('#warning').inner_text()
    page.get_by_label('File Name').select_option('lync.csv')
    page.get_by_label('Job Description').fill('From Lync')
    page.get_by_role('button', name='Submit').click()
    page.wait_for_url(f'**{bulk.JOBS}*/')
    job = Job.objects.get()
    wait_until(lambda: fresh(job).state == 'completed', 'the job ends')
    page.get_by_text('Completed').first.wait_for()
    assert RosterItem.objects.get().jid == 'jsmith@example.com'


@proves('BAT-10', 'BAT-11', 'BAT-17', 'BAT-18', 'BAT-20', 'BAT-30')
@pytest.mark.timeout(120)
def test_files_of_the_original_by_rest(rest, send_file, make_user, worker):
    """The samples of the guide go in over HTTP, and the exports give back the same bytes."""
    bulk.provisioning()
    call = rest('bulk_operator')
    make_user('userA')
    make_user('user2')

    def run(page, **body):
        answer = call('POST', f'/api/v1/{page}/submit/', body)
        assert answer.status == 200, answer.body
        number = answer.json()['data']['job']
        return wait_until(
            lambda: (now := call('GET', f'{JOBS}{number}/').json())['state'] in ('completed', 'failed') and now,
            'the job ends', 30,
        )  # fmt: skip

    for name, target, transaction, page, text in (
        ('np.csv', 'non_presence', 'import_non_presence', 'non-presence-import', SAMPLE),
        ('places.csv', 'locations', 'import_locations', 'user-location-import', IMPORTED.replace("'", '"')),
    ):
        status, file = send_file('bulk_operator', name, text.encode() + b'\r\n', target=target, transaction=transaction)
        assert status == 201, file
        assert [entry['name'] for entry in call('GET', f'/api/v1/{page}/').json()['files']] == [name]
        job = run(page, file=name)
        assert (job['state'], job['counts']['imported']) == ('completed', 1), job
    assert call('POST', '/api/v1/user-location-import/submit/', {'file': 'np.csv'}).status == 400
    assert call('GET', '/api/v1/non-presence-export/').json() == {'contacts': 1}
    assert call('GET', '/api/v1/user-location-export/').json() == {'locations': 1}
    for page, text in (('non-presence-export', SAMPLE), ('user-location-export', EXPORTED.replace('userA', 'usera'))):
        job = run(page, name='out')
        assert job['state'] == 'completed', job
        assert call('GET', f'{JOBS}{job["id"]}/file/csv/').body == text.encode() + b'\n'
    assert len(call('GET', FILES).json()['results']) == 4
    status, answer = send_file(
        'bulk_operator', 'wrong.csv', b'a,b\n', target='locations', transaction='import_contacts'
    )
    assert (status, list(answer['errors'])) == (400, ['transaction'])
    assert rest('read_only')('POST', '/api/v1/contact-list-rename/submit/', {'file': 'np.csv'}).status == 403
