"""History: filters, files, and personal data that is shredded by rule or for one person."""

from __future__ import annotations

import csv
import io
import json
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from impadmin.console import audit, registry, shredding
from impadmin.console.actions import SYSTEM
from impadmin.console.models import AuditEntry, HistorySettings

USERS = '/api/v1/end-users/'
HISTORY = '/api/v1/history/'
PERSON = {'user_id': 'mmuster', 'first_name': 'Max', 'last_name': 'Muster', 'mail': 'mm@example.com'}
NAMES = ('mmuster', 'Max', 'Muster', 'mm@example.com', 'Maximilian')


def body(answer: Any) -> str:
    return b''.join(answer.streaming_content).decode()


@pytest.fixture
def person(api: Any) -> dict[str, Any]:
    """A user who was added, changed and assigned; the entries are two years old."""
    client = api('administrator')
    made = client.post(USERS, PERSON).json()
    client.patch(f'{USERS}{made["id"]}/', {'first_name': 'Maximilian', 'active': False})
    client.patch('/api/v1/messaging-settings/', {'im_enabled': False})
    AuditEntry.objects.update(at=timezone.now() - timedelta(days=730))
    found: dict[str, Any] = made
    return found


def stored() -> str:
    """Every entry as it stands in the database."""
    with connection.cursor() as cursor:
        cursor.execute('SELECT string_agg(t::text, chr(10)) FROM audit_entry t')
        return str(cursor.fetchone()[0])


def test_an_object_s_history_is_filtered_by_who_what_and_when(person: Any, api: Any, admin_client: Any) -> None:
    browser = admin_client('administrator')
    url = registry.page_url('end-users', 'history', person['id'])
    api('operator').patch(f'{USERS}{person["id"]}/', {'department': 'Sales'})

    def found(**query: str) -> list[str]:
        return [entry.action for entry, *_ in browser.get(url, query).context['entries']]

    assert found() == ['update', 'update', 'create']
    assert found(action='create') == ['create']
    assert found(who='test-op') == ['update']
    assert found(before='2100-01-01', who='test-administrator') == ['update', 'create']
    assert found(since=f'{timezone.localdate() - timedelta(days=2)}') == ['update']
    assert found(since='2100-01-01') == []
    wrong = browser.get(url, {'since': 'yesterday'})
    assert 'Enter a date as YYYY-MM-DD.' in wrong.content.decode()
    empty = browser.get(url, {'who': 'nobody'}).content.decode()
    assert 'No entry matches' in empty
    assert 'Clear Filter' in empty


def test_files_of_an_object_and_of_everything(person: Any, api: Any, admin_client: Any) -> None:
    api('administrator').patch(f'{USERS}{person["id"]}/', {'department': '=cmd|calc'})
    browser = admin_client('administrator')
    url = registry.page_url('end-users', 'history', person['id'])
    lines = [json.loads(line) for line in body(browser.get(url, {'format': 'jsonl'})).splitlines()]
    assert [line['action'] for line in lines] == ['update', 'update', 'create']
    assert lines[0]['after']['department'] == '=cmd|calc'
    assert lines[2]['before'] is None
    one = list(csv.DictReader(io.StringIO(body(browser.get(url, {'format': 'csv', 'action': 'create'})))))
    assert [row['label'] for row in one] == ['mmuster']
    everything = registry.page_url('history', 'export')
    audit.record(SYSTEM, 'update', None, None, None, None, object_type='x', label='=HYPERLINK("http://evil")')
    rows = list(csv.DictReader(io.StringIO(body(browser.get(everything, {'format': 'csv', 'column': 'label'})))))
    assert '\'=HYPERLINK("http://evil")' in {row['label'] for row in rows}
    search = {'format': 'jsonl', 'column': 'label', 'f': 'actor', 'o': 'exactly', 'v': 'system', 'j': 'and'}
    some = browser.get(everything, search)
    assert [json.loads(line)['label'] for line in body(some).splitlines()] == ['=HYPERLINK("http://evil")']


def test_old_personal_values_are_shredded_and_the_entries_stay(person: Any, api: Any, admin_client: Any) -> None:
    client = api('administrator')
    before = AuditEntry.objects.count()
    assert all(name in stored() for name in NAMES)
    assert shredding.shred_old() == 2
    assert not any(name in stored() for name in NAMES)
    assert AuditEntry.objects.count() == before + 1
    said = AuditEntry.objects.latest('pk')
    assert (said.action, said.after['entries'], said.actor) == ('shred', 2, 'system')
    changed = AuditEntry.objects.get(object_type='ucm.EndUser', object_id=person['id'], action='update')
    assert audit.changes(changed) == [('First Name', 'Shredded', 'Shredded'), ('Active', 'On', 'Off')]
    assert str(changed) == f'Shredded ({person["id"]})'
    text = admin_client().get(registry.page_url('end-users', 'history', person['id'])).content.decode()
    assert 'Personal values were shredded' in text
    assert 'do/revert' not in text
    for entry in AuditEntry.objects.filter(object_type='ucm.EndUser'):
        refused = client.post(f'{HISTORY}{entry.pk}/revert/', {})
        assert (refused.status_code, 'shredded' in refused.json()['detail']) == (409, True)
    settings = AuditEntry.objects.get(object_type='messaging.MessagingSettings')
    assert settings.shredded_at is None
    assert client.post(f'{HISTORY}{settings.pk}/revert/', {}).status_code == 200
    assert shredding.shred_old() == 0, 'what was looked at is not looked at again'
    assert client.get(f'{USERS}{person["id"]}/').json()['first_name'] == 'Maximilian', 'the person is untouched'


def test_the_rule_is_a_setting(person: Any, api: Any) -> None:
    client = api('administrator')
    HistorySettings.objects.get_or_create(pk=1)
    assert client.patch('/api/v1/history-settings/', {'personal_days': 1000}).status_code == 200
    assert shredding.shred_old() == 0
    client.patch('/api/v1/history-settings/', {'personal_days': None})
    assert shredding.shred_old() == 0
    client.patch('/api/v1/history-settings/', {'personal_days': 30})
    assert shredding.shred_old() == 2


def test_one_person_at_once(person: Any, api: Any, make_user: Any) -> None:
    client = api('administrator')
    other = client.post(USERS, {'user_id': 'other', 'last_name': 'Other'}).json()
    client.delete(f'{USERS}{person["id"]}/')
    url = '/api/v1/history-settings/shred/'
    assert api('operator').post(url, {'page': 'end-users', 'person': 'mmuster'}).status_code == 403
    wrong = client.post(url, {'page': 'end-users', 'person': 'nobody'})
    assert wrong.json()['errors']['person'] == ['The history has no entry about this person.']
    before = stored()
    asked = client.post(f'{url}?dry_run=1', {'page': 'end-users', 'person': 'mmuster'}).json()
    assert asked.get('message', asked) == '3 entries were shredded.'
    assert stored() == before
    assert client.post(url, {'page': 'end-users', 'person': 'MMuster'}).json()['data'] == {'entries': 3}
    assert not any(name.lower() in stored().lower() for name in NAMES), 'not even the entry about the shredding'
    assert AuditEntry.objects.get(object_type='ucm.EndUser', object_id=other['id']).shredded_at is None
    assert AuditEntry.objects.filter(object_type='ucm.EndUser', object_id=person['id'], shredded_at=None).count() == 0


def test_references_to_people_lose_the_name(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shredding, 'references', lambda: {'x.Team': {'lead': 'ucm.EndUser', 'members': 'ucm.EndUser'}})
    anna, ben = {'pk': 7, 'label': 'anna'}, {'pk': 8, 'label': 'ben'}
    values = {'lead': anna, 'members': [anna, ben], 'name': 'Team'}
    entry = audit.record(SYSTEM, 'update', None, None, values, values, object_type='x.Team', object_id='1', label='T')
    assert shredding.shred(entry)
    gone = {'pk': 7, 'label': audit.SHREDDED}
    assert entry.before == {'lead': gone, 'members': [gone, {'pk': 8, 'label': audit.SHREDDED}], 'name': 'Team'}
    assert entry.object_label == 'T'


def test_filters_use_indexes_and_a_bounded_number_of_queries(admin_client: Any) -> None:
    AuditEntry.objects.bulk_create(
        AuditEntry(
            actor=f'admin{n % 40}', channel='rest', action=('update', 'create')[n % 2], page='Page',
            object_type='ucm.EndUser', object_id=str(n % 5000), object_label=f'user{n % 5000}', before={}, after={},
        )
        for n in range(20_000)
    )  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute('ANALYZE audit_entry')
    browser = admin_client()
    url = registry.page_url('history')
    for query in (
        'f=object_label&o=exactly&v=user77&j=and',
        'f=object_label&o=begins&v=user4999&j=and',
        'f=actor&o=exactly&v=nobody&j=and',
        'tab=changes&page=300',
    ):
        browser.get(f'{url}?{query}')
        with CaptureQueriesContext(connection) as captured:
            assert browser.get(f'{url}?{query}').status_code == 200
        assert len(captured) <= 20, '\n'.join(q['sql'][:150] for q in captured)
        entries = [q['sql'] for q in captured if 'FROM "audit_entry"' in q['sql'] and 'UPPER' in q['sql']]
        for sql in entries:
            if ('part0' in sql and 'part1' in sql) or ' AS "n0"' in sql:
                continue  # the tabs are counted in one reading
            with connection.cursor() as cursor:
                cursor.execute(f'EXPLAIN {sql}')
                assert 'Seq Scan on audit_entry' not in '\n'.join(row[0] for row in cursor.fetchall()), sql
