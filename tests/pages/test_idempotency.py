"""Idempotency-Key: what is sent twice is done once, whatever the two requests meet on their way."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.utils import timezone

from impadmin.console.models import AuditEntry, StoredAnswer

DOMAINS = '/api/v1/domains/'
KEY = {'Idempotency-Key': 'order-1'}


def test_sent_twice_is_done_once(api: Any) -> None:
    """The second answer is the first one, word for word; another request with the key is refused."""
    client = api('administrator')
    first = client.post(DOMAINS, {'name': 'one.example'}, headers=KEY)
    second = client.post(DOMAINS, {'name': 'one.example'}, headers=KEY)
    assert (first.status_code, second.status_code) == (201, 201)
    assert second.content == first.content
    assert second['Location'] == first['Location']
    assert second['Idempotency-Replayed'] == 'true'
    assert 'Idempotency-Replayed' not in first
    assert AuditEntry.objects.filter(action='create', object_label='one.example').count() == 1
    other = client.post(DOMAINS, {'name': 'two.example'}, headers=KEY)
    assert other.status_code == 422
    assert 'another request' in other.json()['detail']
    url = f'{DOMAINS}{first.json()["id"]}/'
    assert client.delete(url, headers=KEY).status_code == 422, 'another method is another request'
    for _ in range(2):
        assert client.delete(url, headers={'Idempotency-Key': 'gone'}).status_code == 204
    assert client.delete(url).status_code == 404


def test_a_refusal_is_repeated_and_nobody_elses(api: Any) -> None:
    client = api('administrator')
    wrong = client.post(DOMAINS, {'name': 'a_b'}, headers=KEY)
    again = client.post(DOMAINS, {'name': 'a_b'}, headers=KEY)
    assert (wrong.status_code, again.status_code) == (400, 400)
    assert again.content == wrong.content
    assert api('operator').post(DOMAINS, {'name': 'a_b'}, headers=KEY).status_code == 403
    assert StoredAnswer.objects.count() == 1


def test_keys_have_a_form_and_a_life(api: Any) -> None:
    client = api('administrator')
    for key in ('', ' ', 'ä', 'x' * 256, 'a b'):
        assert client.post(DOMAINS, {'name': 'no.example'}, headers={'Idempotency-Key': key}).status_code == 400
    assert client.get(DOMAINS, headers=KEY).status_code == 200
    client.post(DOMAINS, {'name': 'one.example'}, headers=KEY)
    StoredAnswer.objects.update(at=timezone.now() - timedelta(hours=25))
    assert client.post(DOMAINS, {'name': 'two.example'}, headers=KEY).status_code == 201
    assert StoredAnswer.objects.count() == 1, 'what has run out is deleted'


def test_one_under_way_is_not_begun_again(api: Any) -> None:
    """Another process holds the key: 409, and nothing is done."""
    client = api('administrator')
    client.post(DOMAINS, {'name': 'one.example'}, headers=KEY)
    name = StoredAnswer.objects.get().key
    with connection.cursor() as cursor:
        other = connection.copy()
        with other.cursor() as holder:
            holder.execute('SELECT pg_advisory_lock(%s)', [int(name[:15], 16)])
        assert client.post(DOMAINS, {'name': 'one.example'}, headers=KEY).status_code == 409
        other.close()
        cursor.execute('SELECT 1')


def test_many_at_once_make_one(rest: Any) -> None:
    call = rest('administrator')
    answers: list[Any] = []
    threads = [
        threading.Thread(target=lambda: answers.append(call('POST', DOMAINS, {'name': 'one.example'}, **KEY)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status for answer in answers} <= {201, 409}
    assert len({answer.body for answer in answers if answer.status == 201}) == 1
    assert AuditEntry.objects.filter(action='create', object_label='one.example').count() == 1


def test_what_is_shown_once_is_stored_encrypted(api: Any) -> None:
    client = api('administrator')
    body = {'name': 'script', 'administrator': 'test-administrator', 'scopes': ['*:view']}
    made = client.post('/api/v1/api-tokens/', body, headers=KEY)
    assert made.status_code == 201, made.content
    assert client.post('/api/v1/api-tokens/', body, headers=KEY).json()['token'] == made.json()['token']
    assert made.json()['token'] not in str(list(StoredAnswer.objects.values()))


def test_files_count_by_their_bytes(api: Any) -> None:
    client, url = api('administrator'), '/api/v1/upload-download-files/'

    def upload(content: bytes) -> Any:
        file = SimpleUploadedFile('a.csv', content)
        body = {'file': file, 'target': 'contact_lists', 'transaction': 'import_contacts'}
        return client.post(url, body, format='multipart', headers=KEY)

    rows = b'alice,example.com,bob,example.com,Bob,Friends,1\n'
    first, second = upload(rows), upload(rows)
    assert first.status_code == 201, first.content
    assert second.content == first.content
    assert upload(rows + rows).status_code == 422


def test_another_token_of_the_same_user_gets_no_answer(api: Any) -> None:
    """It may have narrower scopes; nothing is done a second time either."""
    body = {'name': 'script', 'administrator': 'test-administrator', 'scopes': ['*:view']}
    made = api('administrator').post('/api/v1/api-tokens/', body, headers=KEY)
    other = api('administrator').post('/api/v1/api-tokens/', body, headers=KEY)
    assert (made.status_code, other.status_code) == (201, 422)
    assert made.json()['token'] not in other.content.decode()
