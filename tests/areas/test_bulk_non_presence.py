"""Non-presence Contact List: import, export, and what clients see of it (spec 14)."""

from __future__ import annotations

import pytest

from tests.areas import bulk
from tests.areas.xmpp_fixtures import sign_in, user
from tests.proves import proves
from tests.xmppclient import condition

__all__ = ['sign_in']
UUID = 'ce463d44-02c3-4975-a37f-d4553e3f17e1'
CARD = (
    r'BEGIN:VCARD ADR;TYPE=WORK:ADR\;WORK:\;\;123 Dublin rd\,\;Oranmore\;Galway\;\;Ireland'
    ' EMAIL;TYPE=X-CUSTOM1;X_LABEL=Custom:testuser01@test.com N:test;user;;; NICKNAME:pizzaguy01 ORG:ABC'
    ' TEL;TYPE=WORK,VOICE:5323534535 TITLE:QA VERSION:3.0 END:VCARD'
)
"""The sample of the guide (10978), on one line."""
SAMPLE = f'user2@example.com,{UUID},group01,text/directory,3,{CARD}'
KIND = 'import_non_presence'


@pytest.fixture
def client(admin_client, db):
    bulk.provisioning()
    return admin_client('bulk_operator')


VCARD = 'BEGIN:VCARD FN:A VERSION:3.0 END:VCARD'
ROWS = [
    (SAMPLE, ''),
    (f'user2@example.com,{UUID},"group, 02",text/directory,3,{CARD}', ''),
    (f'user2@example.com,{UUID},,text/directory,3,{CARD}', ''),
    (f'user2@example.com,b@partner.example,g,text/directory,3,{VCARD}', ''),
    ('user2@example.com,q,g,text/directory,3,"BEGIN:VCARD\r\nFN:Smith, ""J""\r\nVERSION:3.0\r\nEND:VCARD"', ''),
    ('user2@example.com,other,g,text/plain,1,anything, with commas', ''),
    ('User JID,Contact JID,Group Name,Content Type,Version,Info', 'Invalid format'),
    (f',{UUID},g,text/directory,3,{VCARD}', 'Invalid format'),
    (f'user2@example.com,,g,text/directory,3,{VCARD}', 'Invalid format'),
    (f'user2@example.com,{UUID},g,,3,{VCARD}', 'Invalid format'),
    (f'user2@example.com,{UUID},g,text/directory,,{VCARD}', 'Invalid format'),
    (f'user2@example.com,{UUID},g,text/directory,3,', 'Invalid format'),
    (f'user2@example.com,{UUID},g,text/directory', 'Invalid format'),
    (f'user2@example.com,{UUID},g,text/directory,3,FN:A', 'Invalid format'),
    (f'user2@example.com,{UUID},g,text/directory,3,BEGIN:VCARD FN:A', 'Invalid format'),
    (f'user2@example.com,{UUID},{"g" * 256},text/directory,3,{VCARD}', 'Invalid format'),
    (f'user2@example.com,x@no domain,g,text/directory,3,{VCARD}', 'Invalid format'),
    (f'user2@example.com,{UUID},g,text/directory,3,BEGIN:VCARD NOTE:{"x" * 30000} END:VCARD', 'Invalid format'),
    (f'user2@example.com,USER2@Example.com,g,text/directory,3,{VCARD}', 'Cannot add self as a contact'),
    (f'nobody@example.com,{UUID},g,text/directory,3,{VCARD}', 'User is not assigned to local node'),
    (f'away@example.com,{UUID},g,text/directory,3,{VCARD}', 'User is not assigned to local node'),
]


@proves('BAT-17', 'BAT-23', 'BAT-24', 'BAT-26', 'BAT-28')
def test_every_verdict_with_its_line(client, make_user):
    owner = make_user('user2')
    make_user('away', node=None)
    job = bulk.run_import(client, bulk.csv(row for row, _ in ROWS), transaction=KIND)
    assert job.state == 'completed', job.message
    good = sum(not reason for _, reason in ROWS)
    assert (job.total, job.counts['imported'], job.counts['ignored']) == (len(ROWS), good, len(ROWS) - good)
    first = {}  # a quoted card takes four lines
    line = 1
    for row, reason in ROWS:
        first[line] = reason
        line += row.count('\n') + 1
    found = {row.line: row.reason.partition(' (')[0] for row in job.rows.all()}
    assert found == {line: reason for line, reason in first.items() if reason}
    contacts = bulk.contacts(owner)
    assert set(contacts) == {UUID, 'b@partner.example', 'q', 'other'}
    sample = contacts[UUID]
    assert (sample.name, sample.groups, sample.subscription, sample.ask) == (
        'pizzaguy01', ['group01', 'group, 02'], 0, False,
    )  # fmt: skip
    bulk.counts_are_exact()
    log = bulk.log_of(client, job)
    assert f'Contacts imported: {good}\n' in log
    assert "Transaction: Import Users' Non-presence Contacts  File: moves.csv" in log
    # once more: nothing changes
    before = user('user2').roster_version
    bulk.run_import(client, bulk.csv(row for row, reason in ROWS if not reason), transaction=KIND)
    assert user('user2').roster_version == before
    # another card for the same contact: it counts, the name in the list stays
    bulk.run_import(client, bulk.csv([f'user2@example.com,{UUID},,text/directory,3,{VCARD}']), transaction=KIND)
    changed = bulk.contacts(owner)[UUID]
    assert (VCARD in changed.card, changed.name, len(changed.groups)) == (True, 'pizzaguy01', 2)


@proves('BAT-10', 'BAT-17', 'BAT-09', 'BAT-30', 'BAT-31')
@pytest.mark.parametrize('cells', ['protect', 'original'])
def test_export_gives_back_the_sample_byte_for_byte(client, make_user, cells):
    from impadmin.ucm.models import EndUser, RosterItem

    owner = make_user('user2')
    RosterItem.objects.create(user=owner, jid='friend@partner.example', name='Friend', groups=['General'], ask=True)
    RosterItem.objects.create(user=owner, jid='gateway.example', name='Old, gateway', groups=[])
    rows = [
        SAMPLE,
        f'user2@example.com,{UUID},"Räume, groß",text/directory,3,{CARD}',
        f'user2@example.com,known@partner.example,g,text/directory,3,{VCARD}',
        'user2@example.com,other,=1+1,text/plain,1,"quoted", and more',
    ]
    quoted = [*rows[:3], 'user2@example.com,other,=1+1,text/plain,1,"""quoted"", and more"']
    job = bulk.run_import(client, bulk.csv(quoted), transaction=KIND)
    assert job.counts['imported'] == 4, list(job.rows.values_list('reason'))
    page = client.get(bulk.PAGES['export_non_presence']).content.decode()
    assert '<span class="value" id="total">4</span>' in page
    job, data = bulk.run_export(client, 'export_non_presence', cells=cells)
    lines = data.decode().splitlines()
    assert lines[0] == SAMPLE
    assert lines[1] == quoted[1]
    gateway = r'user2@example.com,gateway.example,,text/directory,3,BEGIN:VCARD FN:Old\, gateway N:Old\, gateway'
    assert lines[2] == f'{gateway} VERSION:3.0 END:VCARD'
    assert lines[3] == rows[2]
    assert lines[4] == (quoted[3] if cells == 'original' else quoted[3].replace('=1', "'=1"))
    assert (job.counts['contacts'], job.counts['rows']) == (4, 5)
    assert 'Contacts exported: 4\nRows written: 5\n' in bulk.log_of(client, job)
    # they are in no contact list file
    answer = client.post(bulk.EXPORT + 'do/submit/', {'confirmed': '1', 'name': 'lists'})
    assert answer.status_code == 302
    from impadmin.console import jobs
    from impadmin.console.models import Job

    jobs.work('bat')
    lists = Job.objects.latest('pk')
    shown = b''.join(client.get(f'{bulk.JOBS}{lists.pk}/file/csv/').streaming_content)
    assert shown == b'user2,example.com,friend,partner.example,Friend,General,0\n'
    # another cluster: the same users, empty lists
    before = list(RosterItem.objects.exclude(card=None).values_list('jid', 'groups', 'card').order_by('jid'))
    RosterItem.objects.all().delete()
    EndUser.objects.update(contact_count=0)
    job = bulk.run_import(client, data, transaction=KIND)
    assert (job.counts['imported'], job.counts['ignored']) == (5, 0)
    after = RosterItem.objects.exclude(card=None).exclude(jid='gateway.example')
    assert list(after.values_list('jid', 'groups', 'card').order_by('jid')) == before
    assert bulk.run_export(client, 'export_non_presence', cells=cells)[1] == data


@proves('BAT-17', 'BAT-27')
def test_they_take_places_in_the_list(client, make_user):
    bulk.settings(max_contacts=2)
    make_user('user2')
    rows = [f'user2@example.com,c{n},g,text/directory,3,{VCARD}' for n in range(4)]
    job = bulk.run_import(client, bulk.csv(rows), transaction=KIND)
    assert (job.counts['imported'], job.counts['reasons']) == (2, {'User contact list size exceeds maximum': 2})
    assert 'Maximum Contact List Size (per user): 2' in client.get(bulk.PAGES[KIND]).content.decode()
    bulk.counts_are_exact()


VCARD_TEMP = '{vcard-temp}'


@proves('BAT-10', 'BAT-17')
@pytest.mark.timeout(120)
def test_clients_see_them_and_store_them(sign_in, admin_client, make_user):
    """They stand in the list of every client, which reads and keeps what is known of them as vCards."""
    make_user('user2')
    owner, other = sign_in('user2'), sign_in('alice')
    bulk.provisioning()
    client = admin_client('bulk_operator')
    bulk.run_import(client, bulk.csv([SAMPLE]), transaction=KIND)
    owner.contact(UUID, name='pizzaguy01', groups=['group01'], subscription='none')
    answer = owner.iq('get', "<vCard xmlns='vcard-temp'/>", to=UUID)
    assert condition(answer) is None
    read = {path: answer.findtext(f'{VCARD_TEMP}vCard/' + '/'.join(VCARD_TEMP + part for part in path.split('/')))
            for path in ('N/FAMILY', 'N/GIVEN', 'NICKNAME', 'ORG/ORGNAME', 'TEL/NUMBER', 'EMAIL/USERID', 'TITLE',
                         'ADR/STREET', 'ADR/LOCALITY', 'ADR/REGION', 'ADR/CTRY')}  # fmt: skip
    assert read == {
        'N/FAMILY': 'test', 'N/GIVEN': 'user', 'NICKNAME': 'pizzaguy01', 'ORG/ORGNAME': 'ABC',
        'TEL/NUMBER': '5323534535', 'EMAIL/USERID': 'testuser01@test.com', 'TITLE': 'QA',
        'ADR/STREET': '123 Dublin rd,', 'ADR/LOCALITY': 'Oranmore', 'ADR/REGION': 'Galway', 'ADR/CTRY': 'Ireland',
    }  # fmt: skip
    assert answer.find(f'{VCARD_TEMP}vCard/{VCARD_TEMP}TEL/{VCARD_TEMP}WORK') is not None
    # nobody else's
    assert condition(other.iq('get', "<vCard xmlns='vcard-temp'/>", to=UUID)) == 'remote-server-not-found'
    # a client keeps one of its own
    new = '11111111-2222-3333-4444-555555555555'
    assert owner.add_contact(new, 'Plumber', ('House',)) is None
    tel = '<TEL><CELL/><NUMBER>+353 1 234</NUMBER></TEL>'
    card = f"<vCard xmlns='vcard-temp'><FN>P; Lumber, Ltd</FN><N><FAMILY>Lumber</FAMILY></N>{tel}</vCard>"
    assert condition(owner.iq('set', card, to=new)) is None
    assert condition(other.iq('set', card, to=new)) == 'remote-server-not-found'
    big = f"<vCard xmlns='vcard-temp'><NOTE>{'x' * 30000}</NOTE></vCard>"
    assert condition(owner.iq('set', big, to=new)) == 'not-acceptable'
    _, data = bulk.run_export(client, 'export_non_presence')
    assert data.decode().splitlines() == [
        f'user2@example.com,{new},House,text/directory,3,'
        r'BEGIN:VCARD FN:P\; Lumber\, Ltd N:Lumber TEL;TYPE=CELL:+353 1 234 VERSION:3.0 END:VCARD',
        SAMPLE,
    ]
    page = admin_client().get(f'/ucm/ucm/end-users/{user("user2").pk}/').content.decode()
    assert 'Non-presence contacts' in page
    owner.remove_contact(UUID)
    owner.no_contact(UUID)
    assert condition(owner.iq('get', "<vCard xmlns='vcard-temp'/>", to=UUID)) == 'remote-server-not-found'
    bulk.counts_are_exact()
