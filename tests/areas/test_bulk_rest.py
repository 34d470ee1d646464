"""Bulk Administration by REST over HTTP: upload, submit, poll, log, export, schedule, refusals (spec 14)."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
import uuid

import pytest

from tests.areas import bulk
from tests.fixtures import data as fixture_data
from tests.fixtures.processes import wait_until
from tests.proves import proves

FILES = '/api/v1/upload-download-files/'
JOBS = '/api/v1/job-scheduler/'


@pytest.fixture(autouse=True)
def running(db):
    bulk.provisioning()


@pytest.fixture
def send_file(console_url):
    """``send_file(role, name, data, **fields)``: multipart upload; (status, JSON)."""

    def send(role, name, data, **fields):
        boundary = uuid.uuid4().hex
        values = {'target': 'contact_lists', 'transaction': 'import_contacts', **fields}
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
            for key, value in values.items()
        ]
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
        parts.append(head.encode() + b'Content-Type: text/csv\r\n\r\n' + data + f'\r\n--{boundary}--\r\n'.encode())
        request = urllib.request.Request(  # noqa: S310
            console_url + FILES, b''.join(parts), method='POST',
            headers={
                'Authorization': f'Bearer {fixture_data.make_token(role)}', 'Accept': 'application/json',
                'Content-Type': f'multipart/form-data; boundary={boundary}',
            },
        )  # fmt: skip
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    return send


@proves('BAT-04', 'BAT-13', 'BAT-20', 'BAT-22', 'BAT-31')
@pytest.mark.timeout(120)
def test_upload_submit_poll_log_export(rest, send_file, make_user, worker):
    call = rest('bulk_operator')
    make_user('userA')
    body = b'userA,example.com,c,partner.example,Nick,General,0\nuserA,example.com,c\n'
    status, file = send_file('bulk_operator', 'rest.csv', body)
    assert status == 201, file
    assert (file['name'], file['size']) == ('rest.csv', len(body))
    assert call('GET', f'{FILES}{file["id"]}/file/content/').body == body
    answer = call('POST', '/api/v1/contact-list-update/submit/', {'file': 'rest.csv', 'description': 'by REST'})
    assert answer.status == 200, answer.body
    job = answer.json()['data']['job']
    found = wait_until(
        lambda: (now := call('GET', f'{JOBS}{job}/').json())['state'] == 'completed' and now, 'the job ends', 30
    )
    assert (found['total'], found['counts']['imported'], found['counts']['ignored']) == (2, 1, 1)
    log = call('GET', f'{JOBS}{job}/file/log/').body.decode()
    assert 'line 2: userA@example.com -> c@ : Invalid format' in log
    selection = {'name': 'out', 'conditions': [['user_id', 'begins', 'u']]}
    answer = call('POST', '/api/v1/contact-list-export/submit/', selection)
    assert answer.status == 200, answer.body
    export = answer.json()['data']['job']
    found = wait_until(
        lambda: (now := call('GET', f'{JOBS}{export}/').json())['state'] == 'completed' and now, 'the export ends', 30
    )
    assert call('GET', f'{JOBS}{export}/file/csv/').body == b'usera,example.com,c,partner.example,Nick,General,0\n'
    listed = call('GET', FILES).json()['results']
    assert found['output_file'] in {one['name'] for one in listed}


@proves('BAT-05', 'BAT-20', 'BAT-21')
def test_refusals_are_json(rest, send_file, make_user):
    call = rest('bulk_operator')
    status, answer = send_file('bulk_operator', 'bad.csv', 'a,b\n'.encode('utf-16'))
    assert status == 400
    assert 'UTF-16' in answer['errors']['file'][0]
    assert send_file('read_only', 'a.csv', b'x')[0] == 403
    row = b'userA,example.com,c,partner.example,,General,0\n'
    status, file = send_file('bulk_operator', 'a.csv', row)
    assert status == 201
    status, answer = send_file('bulk_operator', 'a.csv', row)
    assert (status, list(answer['errors'])) == (400, ['file'])
    assert send_file('bulk_operator', 'a.csv', row * 2, overwrite='true')[0] == 201
    answer = call('POST', '/api/v1/contact-list-update/submit/', {'file': 'missing.csv'})
    assert (answer.status, list(answer.json()['errors'])) == (400, ['file'])
    held = call('POST', '/api/v1/contact-list-update/submit/', {'file': 'a.csv', 'run': 'later'}).json()['data']
    assert held['state'] == 'hold'
    assert call('GET', f'{JOBS}{held["job"]}/file/log/').status == 409
    file = call('GET', FILES).json()['results'][0]
    assert call('DELETE', f'{FILES}{file["id"]}/').status == 409
    assert call('DELETE', f'{JOBS}{held["job"]}/').status == 204
    assert call('DELETE', f'{FILES}{file["id"]}/').status == 204
    secret = [['password', 'contains', 'x']]
    for wrong in ({'name': '../x'}, {'name': 'a', 'category': 'some'}, {'name': 'a', 'conditions': secret}):
        assert call('POST', '/api/v1/contact-list-export/submit/', wrong).status == 400


def test_a_body_beyond_the_limit_is_answered_before_it_is_sent(console_url, db):
    import socket
    from urllib.parse import urlsplit

    where = urlsplit(console_url)
    with socket.create_connection((where.hostname, where.port), timeout=10) as client:
        client.sendall(
            f'POST {FILES} HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Length: {5 << 30}\r\n'
            'Expect: 100-continue\r\nContent-Type: multipart/form-data; boundary=x\r\n\r\n'.encode()
        )
        answer = b''.join(iter(lambda: client.recv(65536), b'')).decode()
    assert ' 413 ' in answer.splitlines()[0]
    assert 'larger than 1 GiB' in answer
