"""User Location Migration: import, export, and what clients read at the account (spec 14; XEP-0080, XEP-0163)."""

from __future__ import annotations

import pytest

from tests.areas import bulk
from tests.areas.test_xmpp_pep import (
    GEOLOC,
    OWNER,
    event,
    friends,
    ids,
    interested,
    items,
    listening,
    publish,
    specific,
)
from tests.areas.xmpp_fixtures import address, parameter, sign_in
from tests.proves import proves
from tests.xmppclient import condition

__all__ = ['sign_in']
ITEM = '7d0ec34c-458f-4fd2-9d15-58accac4af00'
AT = '2021-01-22 10:11:18.000001'
PAYLOAD = (
    '<geoloc xmlns="http://jabber.org/protocol/geoloc"><description>newlocation104</description>'
    '<street>104</street><mobile>0</mobile><enable>1</enable></geoloc>'
)
EXPORTED = f'userA@example.com,W,{AT},{ITEM},jabber_7151,{PAYLOAD}'
IMPORTED = f'userA@example.com,W,{ITEM},{AT},jabber_7151,{PAYLOAD.replace(chr(34), chr(39))}'
"""The samples of the guide (11007, 11123), each on one line, the broken start tag of the second one mended."""
KIND = 'import_locations'
EMPTY = f"<geoloc xmlns='{GEOLOC}'/>"


def row(item='i1', access='W', at=AT, user='userA@example.com', resource='r', text=EMPTY):
    """A row in import order."""
    return f'{user},{access},{item},{at},{resource},{text}'


@pytest.fixture
def client(admin_client, db):
    bulk.provisioning()
    return admin_client('bulk_operator')


def stored(user_id='usera'):
    """(item id, resource, payload) of the stored locations of a user, oldest first."""
    from impadmin.presence.models import PubSubItem

    found = PubSubItem.objects.filter(node__owner__im_address=f'{user_id}@example.com').order_by('id')
    return [(item.item_id, item.resource, bytes(item.payload).decode()) for item in found]


ROWS = [
    (EXPORTED, ''),
    ('User JID,Access Type,Item ID,Created Time,Resource ID,Message Text', 'Invalid format'),
    (row('i2', resource='r' * 1023, text=f"<geoloc xmlns='{GEOLOC}'><text>a, b</text></geoloc>"), ''),
    (row('i3', at='2021-01-22 10:11:18'), ''),
    (row('ignore'), ''),
    (row('x' * 50), ''),
    (row('i4', text=f"<geoloc xmlns='{GEOLOC}'><text>{'位' * (30000 - 72)}</text></geoloc>"), ''),
    (row('i5', text=f"<geoloc xmlns='{GEOLOC}'><text>{'位' * (30000 - 71)}</text></geoloc>"), 'Invalid format'),
    (row('x' * 51), 'Invalid format'),
    (row(''), 'Invalid format'),
    (row('no blanks'), 'Invalid format'),
    (row(access='X'), 'Invalid format'),
    (row(access=''), 'Invalid format'),
    (row(access='W' * 129), 'Invalid format'),
    (row(at='yesterday'), 'Invalid format'),
    (row(at='2021-13-22 10:11:18'), 'Invalid format'),
    (row(at='2021-01-22 10:11:18.0000012'), 'Invalid format'),
    (row(resource=''), 'Invalid format'),
    (row(resource='r' * 1024), 'Invalid format'),
    (row(user=f'{"u" * 250}@example.com'), 'Invalid format'),
    (row(text='<geoloc/>'), 'Invalid format'),
    (row(text=f"<geoloc xmlns='{GEOLOC}'>description</description></geoloc>"), 'Invalid format'),
    (row(text=f"<!DOCTYPE x [<!ENTITY a 'b'>]><geoloc xmlns='{GEOLOC}'>&a;</geoloc>"), 'Invalid format'),
    (row(text=f"<geoloc xmlns='{GEOLOC}'><x:y/></geoloc>"), 'Invalid format'),
    (row(text=f"<geoloc xmlns='{GEOLOC}'>{'<a>' * 20}{'</a>' * 20}</geoloc>"), 'Invalid format'),
    (row(text=EMPTY + '<message/>'), 'Invalid format'),
    ('userA@example.com,W,i,2021-01-22 10:11:18', 'Invalid format'),
    (row(user='nobody@example.com'), 'User is not assigned to local node'),
    (row(user='away@example.com'), 'User is not assigned to local node'),
    (row(ITEM, at='2020-01-22 10:11:18'), 'A newer location is stored'),
]


@proves('BAT-18', 'BAT-19', 'BAT-23', 'BAT-24', 'BAT-28')
def test_every_verdict_with_its_line(client, make_user):
    make_user('userA')
    make_user('away', node=None)
    job = bulk.run_import(client, bulk.csv(text for text, _ in ROWS), transaction=KIND)
    assert job.state == 'completed', job.message
    found = {entry.line: entry.reason.partition(' (')[0] for entry in job.rows.all()}
    assert found == {line: reason for line, (_, reason) in enumerate(ROWS, 1) if reason}
    good = sum(not reason for _, reason in ROWS)
    assert (job.total, job.counts['imported'], job.counts['ignored']) == (len(ROWS), good, len(ROWS) - good)
    before = stored()
    assert len(before) == good
    log = bulk.log_of(client, job)
    assert f'Locations imported: {good}\n' in log
    assert '-- Ignored locations --\nline 2: ' in log
    assert 'line 9: userA@example.com xxxx' in log
    # once more: nothing changes, also for the row without an id of its own
    bulk.run_import(client, bulk.csv(text for text, reason in ROWS if not reason), transaction=KIND)
    assert stored() == before


@proves('BAT-11', 'BAT-18', 'BAT-30', 'BAT-31')
def test_both_orders_and_the_way_back_byte_for_byte(client, make_user):
    from impadmin.presence.models import PubSubNode

    for name in ('userA', 'bjones@usa', 'carol'):
        make_user(name)
    header = 'User JID,Access Type,Item ID,Created Time,Resource ID,Message Text'
    job = bulk.run_import(client, bulk.csv([header, IMPORTED]), transaction=KIND)
    assert (job.total, job.counts['imported']) == (1, 1)
    assert stored() == [(ITEM, 'jabber_7151', PAYLOAD.replace('"', "'"))]
    rows = [
        f'bjones@usa@example.com,O,2019-01-01 00:00:00.000000,a,+49,{EMPTY}',
        f"carol@example.com,R,{AT},b,r,<geoloc xmlns='{GEOLOC}'><text>“x”, “y”</text></geoloc>",
        EXPORTED,
        f'userA@example.com,W,2022-01-22 10:11:18.000001,newer,r,{EMPTY}',
    ]
    data = bulk.csv(rows)
    bulk.run_import(client, data, transaction=KIND)
    page = client.get(bulk.PAGES['export_locations']).content.decode()
    assert '<span class="value" id="total">4</span>' in page
    job, exported = bulk.run_export(client, 'export_locations', cells='original')
    assert exported.decode().replace('usera@', 'userA@') == data.decode()
    assert 'Locations exported: 4\nRows written: 4\n' in bulk.log_of(client, job)
    assert b",'+49," in bulk.run_export(client, 'export_locations')[1]
    # another cluster
    PubSubNode.objects.all().delete()
    job = bulk.run_import(client, exported, transaction=KIND)
    assert job.counts['imported'] == 4
    assert bulk.run_export(client, 'export_locations', cells='original')[1] == exported


@proves('BAT-18')
def test_limits_order_and_stricter_access(client, make_user):
    from impadmin.presence.models import PubSubNode

    make_user('userA')
    days = [f'2021-01-{day:02} 00:00:00' for day in range(1, 10)]
    rows = [row(f'i{n}', 'O', at) for n, at in enumerate(days)]
    bulk.run_import(client, bulk.csv([rows[5], rows[2]]), transaction=KIND)
    bulk.run_import(client, bulk.csv([rows[4], rows[8], rows[0]]), transaction=KIND)
    assert [entry[0] for entry in stored()] == ['i0', 'i2', 'i4', 'i5', 'i8'], 'the newest is the last one'
    node = PubSubNode.objects.get()
    assert (node.items, node.size, node.config['access_model']) == (5, 5 * (len(EMPTY) + 2), 'open')
    bulk.run_import(client, bulk.csv([row('i2', 'W', days[3], text=PAYLOAD)]), transaction=KIND)
    assert PubSubNode.objects.get().config['access_model'] == 'whitelist'
    assert [entry[0] for entry in stored()] == ['i0', 'i4', 'i2', 'i5', 'i8'] or stored()[1][0] == 'i2'
    bulk.run_import(client, bulk.csv([row('i6', 'O', days[6])]), transaction=KIND)
    assert PubSubNode.objects.get().config['access_model'] == 'whitelist', 'an import opens nothing'
    parameter('xcp_router', 'pubsub_items_per_node', 7)
    job = bulk.run_import(client, bulk.csv(rows), transaction=KIND)
    assert job.counts['reasons'] == {'A newer location is stored': 1, 'The user has the maximum number of locations': 2}
    assert len(stored()) == 7
    parameter('xcp_router', 'pubsub_bytes_per_owner', 65536)
    large = row('i8', 'W', days[8], text=f"<geoloc xmlns='{GEOLOC}'><text>{'位' * 29000}</text></geoloc>")
    job = bulk.run_import(client, bulk.csv([large]), transaction=KIND)
    assert job.counts['reasons'] == {'The storage of the user is full': 1}


@proves('BAT-11', 'BAT-18', 'BAT-19')
@pytest.mark.timeout(120)
def test_clients_read_them_at_the_account(sign_in, admin_client, make_user):
    make_user('usera')
    owner, friend = sign_in('usera', 'jabber_1'), sign_in('bob')
    bulk.provisioning()
    client = admin_client('bulk_operator')
    rows = [EXPORTED, f'bob@example.com,O,open,{AT},r,{EMPTY}', f'carol@example.com,R,group,{AT},r,{EMPTY}']
    make_user('carol')
    job = bulk.run_import(client, bulk.csv(rows), transaction=KIND)
    assert job.counts['imported'] == 3, list(job.rows.values_list('reason'))
    answer = items(owner, GEOLOC)
    assert ids(answer) == [ITEM]
    location = answer.find(f'.//{{{GEOLOC}}}geoloc')
    assert location.findtext(f'{{{GEOLOC}}}description') == 'newlocation104'
    # W: strangers and contacts are refused; who is listed reads. O: everybody. R: nobody before groups are named
    friends(friend, owner)
    refused = items(friend, GEOLOC, to=address('usera'))
    assert (condition(refused), specific(refused)) == ('not-allowed', 'closed-node')
    member = f"<affiliation jid='{address('bob')}' affiliation='member'/>"
    inside = f"<affiliations node='{GEOLOC}'>{member}</affiliations>"
    assert condition(owner.iq('set', f"<pubsub xmlns='{OWNER}'>{inside}</pubsub>")) is None
    assert ids(items(friend, GEOLOC, to=address('usera'))) == [ITEM]
    assert ids(items(owner, GEOLOC, to=address('bob'))) == ['open']
    assert condition(items(owner, GEOLOC, to=address('carol'))) == 'not-authorized'
    # clients that want to hear get the newest one at once
    listening(owner, GEOLOC)
    assert event(owner, GEOLOC, address('usera')).find(f'.//{{{GEOLOC}}}street') is not None
    interested(friend, GEOLOC)
    event(friend, GEOLOC, address('usera'))
    for one in (owner, friend):
        one.forget()
    newer = f"userA@example.com,W,second,2023-01-01 00:00:00,r2,<geoloc xmlns='{GEOLOC}'><area>x</area></geoloc>"
    bulk.run_import(client, bulk.csv([newer]), transaction=KIND)
    for one in (owner, friend):
        assert event(one, GEOLOC, address('usera')).findtext(f'.//{{{GEOLOC}}}area') == 'x'
    # what a client publishes is exported with its resource
    assert ids(publish(owner, GEOLOC, f"<geoloc xmlns='{GEOLOC}'>\n<text>a\nb</text></geoloc>", 'mine')) == ['mine']
    _, data = bulk.run_export(client, 'export_locations')
    lines = [line for line in data.decode().splitlines() if line.startswith('usera')]
    assert lines[0] == EXPORTED.replace('userA', 'usera')
    assert lines[2].split(',', 5)[3:] == [
        'mine', 'jabber_1', f"<geoloc xmlns='{GEOLOC}'>&#10;<text>a&#10;b</text></geoloc>",
    ]  # fmt: skip
