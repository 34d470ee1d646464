"""The real console over a socket: bodies too large, foreign host names, half requests."""

from __future__ import annotations

import http.client
import socket
from typing import Any

from tests.fixtures import data


def ask(url: str, method: str, path: str, body: bytes = b'', **headers: str) -> tuple[int, bytes, Any]:
    """Status, body, headers of one answer."""
    connection = http.client.HTTPConnection(url.removeprefix('http://'), timeout=20)
    try:
        connection.request(method, path, body, {name.replace('_', '-'): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers
    finally:
        connection.close()


def test_large_bodies_foreign_hosts_and_half_requests(console_url: str, db: None) -> None:
    token = f'Bearer {data.make_token("administrator")}'
    large = b'{"a": "' + b'x' * 10_000_000 + b'"}'
    for path, kind in (('/api/v1/end-users/', 'application/json'), ('/login/', 'application/x-www-form-urlencoded')):
        status, answer, _ = ask(console_url, 'POST', path, large, Content_Type=kind, Authorization=token)
        assert 400 <= status < 500, (path, status)
        assert b'Traceback' not in answer
    for host in ('evil.example', 'localhost.evil.example', '127.0.0.1@evil.example', '', 'a' * 300):
        status, answer, _ = ask(console_url, 'GET', '/login/', Host=host)
        assert status == 400, host
        assert b'evil' not in answer
    status, _, headers = ask(console_url, 'GET', '/', X_Forwarded_Host='evil.example')
    assert status == 302
    assert 'evil' not in headers['Location']
    override = {'X_HTTP_Method_Override': 'DELETE', 'Authorization': token, 'Content_Type': 'application/json'}
    assert ask(console_url, 'POST', '/api/v1/cluster-topology/1/', b'{"_method": "DELETE"}', **override)[0] == 405
    port = int(console_url.rpartition(':')[2])
    halves = [socket.create_connection(('127.0.0.1', port), 5) for _ in range(50)]
    for half in halves:
        half.sendall(b'POST /login/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\nusername=')
    assert ask(console_url, 'GET', '/healthz')[0] == 200
    for half in halves:
        half.close()
    assert ask(console_url, 'GET', '/healthz')[0] == 200
