"""IM and Presence User Sessions Report (guide 7019-7049): real clients, a running node, REST and the downloads."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from typing import Any

import pytest

from engine.features.devices import Client, device_type
from tests.areas.test_xmpp_multi_device import metric
from tests.areas.test_xmpp_pep import INFO, interested
from tests.areas.xmpp_fixtures import address, in_force, parameter, sign_in
from tests.fixtures import data
from tests.fixtures.processes import wait_until
from tests.proves import proves
from tests.xmppclient import XmppClient

__all__ = ['sign_in']
TOTALS, USERS = '/api/v1/user-sessions-report/', '/api/v1/user-sessions/'
PAGE, DETAIL = '/reporting/system-reports/user-sessions-report/', '/reporting/system-reports/user-sessions/'


def table(page: bytes) -> list[dict[str, str]]:
    """A downloaded CSV."""
    return list(csv.DictReader(io.StringIO(page.decode('utf-8-sig'))))


def announce(client: XmppClient, system: str, kind: str) -> None:
    """Say in capabilities (XEP-0115) what the client is; answer the server's question about them."""
    software = {'FORM_TYPE': 'urn:xmpp:dataforms:softwareinfo', 'os': system}
    fields = ''.join(f"<field var='{name}'><value>{value}</value></field>" for name, value in software.items())
    interested(client, ver=system)
    question = client.expect('iq', type='get', has=f'{{{INFO}}}query')
    client.raw(
        f"<iq type='result' id='{question.get('id')}' to='{question.get('from')}'>"
        f"<query xmlns='{INFO}'><identity category='client' type='{kind}'/>"
        f"<x xmlns='jabber:x:data' type='result'>{fields}</x></query></iq>"
    )
    client.sync()


@proves('MDM-32', 'MDM-39', 'MDM-40', 'MDM-41', 'MDM-42')
def test_the_report_counts_who_is_signed_in(
    rest: Callable[[str], Callable[..., Any]],
    admin_client: Any,
    sign_in: Callable[..., XmppClient],
    request: pytest.FixtureRequest,
) -> None:
    from impadmin.messaging.models import SessionsReport

    call = rest('administrator')
    refused = call('POST', f'{TOTALS}generate/', {})
    assert refused.status == 409
    assert 'No node is running' in refused.body.decode()
    for user, resources in (
        ('alice', ['jabber_7']),
        ('bob', ['jabber_iphone_1', 'jabber_iPad']),
        ('carol', ['jabber_1', 'jabber_android_1', 'Android_Tablet']),
    ):
        for resource in resources:
            sign_in(user, resource)
    announce(sign_in('erin', 'x1'), 'iOS', 'phone')
    announce(sign_in('erin', 'x2'), 'Windows 11', 'pc')
    engine = request.getfixturevalue('engine')  # not before: nothing runs at the beginning
    assert metric(engine, 'JsmInternalSessionsActive') == 8
    assert metric(engine, 'JsmOffsiteSessionsActive') == 0
    parameter('xcp_router', 'internal_networks', '10.0.0.0/8')
    in_force()
    waits = sign_in('frank', 'x3')
    waits.raw("<enable xmlns='urn:xmpp:sm:3' resume='true'/>")
    waits.sync()
    waits.abort()
    wait_until(lambda: metric(engine, 'JsmPhantomSessionsActive') == 1, 'a session that waits for its client')
    assert metric(engine, 'JsmOffsiteSessionsActive') == metric(engine, 'JsmClientSessionsActive') == 8
    assert metric(engine, 'JsmHybridSessionsActive') == 0

    def generated(before: int) -> bool:
        newest = SessionsReport.objects.filter(finished_at__isnull=False).order_by('-id').first()
        return newest is not None and newest.pk > before

    answer = call('POST', f'{TOTALS}generate/', {})
    assert answer.status == 200, answer.body
    wait_until(lambda: generated(0), 'the report')
    rows = call('GET', TOTALS).json()['results']
    names = ('one_device', 'several_devices', 'sessions', 'composed', 'internal', 'off_site', 'phantom')
    found = {(row['redundancy_group'], row['node']): tuple(row[name] for name in names) for row in rows}
    counts = (2, 3, 9, 5, 0, 8, 1)
    group = 'DefaultCUPSubcluster'
    assert found == {('', ''): counts, (group, ''): counts, (group, data.NODE): counts}
    people = {row['user_id']: row for row in call('GET', USERS).json()['results']}
    assert {name: (row['sessions'], row['devices']) for name, row in people.items()} == {
        'alice': (1, 'Desktop'), 'bob': (2, 'iPad, iPhone'), 'carol': (3, 'Android, Desktop (2)'),
        'erin': (2, 'Desktop, iPhone'), 'frank': (1, 'Desktop'),
    }  # fmt: skip
    assert people['bob']['address'] == address('bob')

    browser = admin_client('administrator')
    shown = browser.get(PAGE).content.decode()
    assert f'href="{DETAIL}?f=node&amp;o=exactly&amp;v={data.NODE}"' in shown
    assert 'Generate Report' in shown
    assert browser.get(f'{PAGE}{rows[0]["id"]}/').status_code == 200
    detail = browser.get(f'{DETAIL}?f=node&o=exactly&v={data.NODE}').content.decode()
    assert '<td class="num" data-l="Number of Sessions" title="Device Type: iPad, iPhone">2</td>' in detail
    assert 'iPad, iPhone' not in browser.get(f'{DETAIL}?f=node&o=exactly&v=elsewhere').content.decode()
    downloaded = b''.join(browser.get(f'{DETAIL}export/?format=csv&f=node&o=exactly&v={data.NODE}').streaming_content)
    assert [(row['user_id'], row['sessions']) for row in table(downloaded)] == [
        ('alice', '1'),
        ('bob', '2'),
        ('carol', '3'),
        ('erin', '2'),
        ('frank', '1'),
    ]
    for level, expected in (('cluster', ('', '')), ('subclusters', (group, '')), ('nodes', (group, data.NODE))):
        (row,) = table(b''.join(browser.get(f'{PAGE}export/?format=csv&tab={level}').streaming_content))
        assert (row['redundancy_group'], row['node']) == expected
        assert row['sessions'] == '9'

    # While another one is being generated: refused, and the report before is still there.
    waiting = SessionsReport.objects.create(requested_by='somebody', nodes=2)
    assert call('POST', f'{TOTALS}generate/', {}).status == 409
    assert len(call('GET', USERS).json()['results']) == 5
    before = waiting.pk
    waiting.delete()
    sign_in('dave', 'x')
    assert call('POST', f'{TOTALS}generate/', {}).status == 200
    wait_until(lambda: generated(before), 'the next report')
    assert SessionsReport.objects.count() == 1
    assert 'dave' in {row['user_id'] for row in call('GET', USERS).json()['results']}
    assert rest('read_only')('GET', USERS).status == 200
    assert rest('read_only')('POST', f'{TOTALS}generate/', {}).status == 403


@pytest.mark.parametrize(
    ('resource', 'types', 'words', 'device'),
    [('jabber_1234', '', '', 'Desktop'), ('My iPhone', '', '', 'iPhone'), ('jabber_ipad', '', '', 'iPad'),
     ('android-9', '', '', 'Android'), ('android_tab_3', '', '', 'Desktop'), ('', '', '', 'Desktop'),
     ('x', 'phone', 'conversations android 14', 'Android'), ('x', 'tablet', 'android 14', 'Desktop'),
     ('x', 'phone', 'siskin ios 17.2', 'iPhone'), ('x', 'tablet', 'ios', 'iPad'), ('x', 'phone', 'kaios', 'Mobile'),
     ('x', '', 'previous version', 'Desktop'), ('x', '', 'gajim linux', 'Desktop')],
)  # fmt: skip
def test_device_types(resource: str, types: str, words: str, device: str) -> None:
    assert device_type(resource, Client(frozenset(types.split()), words)) == device
