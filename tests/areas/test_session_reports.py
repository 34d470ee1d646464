"""IM and Presence User Sessions Report (guide 7019-7049): real clients, a running node, REST and the downloads."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from typing import Any

import pytest

from engine.session_report import device_type
from tests.areas.xmpp_fixtures import address, sign_in
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


@proves('MDM-39', 'MDM-41')
def test_the_report_counts_who_is_signed_in(
    rest: Callable[[str], Callable[..., Any]], admin_client: Any, sign_in: Callable[..., XmppClient]
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

    def generated(before: int) -> bool:
        newest = SessionsReport.objects.filter(finished_at__isnull=False).order_by('-id').first()
        return newest is not None and newest.pk > before

    answer = call('POST', f'{TOTALS}generate/', {})
    assert answer.status == 200, answer.body
    wait_until(lambda: generated(0), 'the report')
    rows = call('GET', TOTALS).json()['results']
    found = {(row['node'], row['one_device'], row['several_devices'], row['sessions']) for row in rows}
    assert found == {('', 1, 2, 6), (data.NODE, 1, 2, 6)}
    people = {row['user_id']: row for row in call('GET', USERS).json()['results']}
    assert {name: (row['sessions'], row['devices']) for name, row in people.items()} == {
        'alice': (1, 'Desktop'), 'bob': (2, 'iPad, iPhone'), 'carol': (3, 'Android, Desktop (2)'),
    }  # fmt: skip
    assert people['bob']['address'] == address('bob')

    browser = admin_client('administrator')
    shown = browser.get(PAGE).content.decode()
    assert f'href="{DETAIL}?f=node&amp;o=exactly&amp;v={data.NODE}"' in shown
    assert 'Generate Report' in shown
    assert browser.get(f'{PAGE}{rows[0]["id"]}/').status_code == 200
    detail = browser.get(f'{DETAIL}?f=node&o=exactly&v={data.NODE}').content.decode()
    assert 'iPad, iPhone' in detail
    assert 'iPad, iPhone' not in browser.get(f'{DETAIL}?f=node&o=exactly&v=elsewhere').content.decode()
    downloaded = b''.join(browser.get(f'{DETAIL}export/?format=csv&f=node&o=exactly&v={data.NODE}').streaming_content)
    assert [(row['user_id'], row['sessions']) for row in table(downloaded)] == [
        ('alice', '1'),
        ('bob', '2'),
        ('carol', '3'),
    ]

    # While another one is being generated: refused, and the report before is still there.
    waiting = SessionsReport.objects.create(requested_by='somebody', nodes=2)
    assert call('POST', f'{TOTALS}generate/', {}).status == 409
    assert len(call('GET', USERS).json()['results']) == 3
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
    ('resource', 'device'),
    [('jabber_1234', 'Desktop'), ('My iPhone', 'iPhone'), ('jabber_ipad', 'iPad'), ('android-9', 'Android'),
     ('android_tab_3', 'Desktop'), ('', 'Desktop')],
)  # fmt: skip
def test_device_types(resource: str, device: str) -> None:
    assert device_type(resource) == device
