"""The web port as an HTTP server: hostile requests, discovery, origins, without TLS (XEP-0156, RFC 9112)."""

from __future__ import annotations

import http.client
import json
import socket
import time
import urllib.request
from collections.abc import Callable
from typing import Any
from xml.etree.ElementTree import fromstring

import pytest

from tests.fixtures import data
from tests.fixtures.processes import Engine, wait_until
from tests.fixtures.tls import trusting
from tests.services.test_web_clients import mechanisms
from tests.services.webclient import HTTPBIND, SASL, STREAMS, Web, plain, start


def raw(web: Web, request: bytes, timeout: float = 10, to_end: bool = False) -> bytes:
    """Send bytes over TLS, read until the server closes or (not ``to_end``) a complete response has come."""
    with web.socket() as sock:
        sock.settimeout(timeout)
        sock.sendall(request)
        seen = b''
        while True:
            try:
                more = sock.recv(65536)
            except OSError:
                return seen
            if not more:
                return seen
            seen += more
            head, separator, rest = seen.partition(b'\r\n\r\n')
            if separator and not to_end and b'connection: close' not in head.lower():
                length = int(head.lower().partition(b'content-length: ')[2].partition(b'\r\n')[0] or 0)
                if len(rest) >= length:
                    return seen


POST = b'POST /httpbinding HTTP/1.1\r\nHost: x\r\n'
BODY = f"<body xmlns='{HTTPBIND}' rid='5' to='{data.DOMAIN}' wait='5' hold='1' ver='1.6'/>".encode()
HOSTILE: list[tuple[bytes, bytes]] = [
    (b'400', POST + b'Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'),
    (b'400', POST + b'Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef'),
    (b'400', POST + b'Content-Length: 5, 6\r\n\r\nabcde'),
    (b'400', POST + b'Content-Length: -1\r\n\r\n'),
    (b'400', POST + b'Content-Length: +5\r\n\r\nabcde'),
    (b'400', POST + b'Content-Length : 5\r\n\r\nabcde'),
    (b'501', POST + b'Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n'),
    (b'400', POST.replace(b'1.1', b'1.0') + b'Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n'),
    (b'400', POST + b'Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n'),
    (b'413', POST + b'Content-Length: 99999999\r\n\r\n'),
    (b'413', POST + b'Transfer-Encoding: chunked\r\n\r\n8000\r\n' + b'a' * 0x8000 + b'\r\n90000\r\n' + b'a' * 0x90000),
    (b'431', POST + b'X-Long: ' + b'a' * 20000 + b'\r\n\r\n'),
    (b'431', POST + b'X: y\r\n' * 4000),
    (b'400', b'POST /httpbinding HTTP/1.1\r\n\r\n'),
    (b'400', POST + b'Host: y\r\n\r\n'),
    (b'400', b'GET http://elsewhere/ HTTP/1.1\r\nHost: x\r\n\r\n'),
    (b'400', b'GARBAGE\r\n\r\n'),
    (b'404', b'GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n'),
    (b'404', b'GET / HTTP/1.1\r\nHost: x\r\n\r\n'),
    (b'405', b'DELETE /httpbinding HTTP/1.1\r\nHost: x\r\n\r\n'),
    (b'405', b'POST /.well-known/host-meta HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n'),
    (b'403', POST + b'Origin: https://evil.example\r\nContent-Length: 0\r\n\r\n'),
    (b'403', b'OPTIONS /httpbinding HTTP/1.1\r\nHost: x\r\nOrigin: https://evil.example\r\n\r\n'),
]  # fmt: skip


def test_hostile_http(request: pytest.FixtureRequest, db: None, make_user: Callable[..., Any]) -> None:
    """Doubtful framing, sizes, slow requests, clear text: refused, the connection ends, the service lives on."""
    web = start(request, preauth_timeout_s=2, connections_per_ip=30)
    wrong = []
    for status, sent in HOSTILE:
        answer = raw(web, sent)
        if not answer.startswith(b'HTTP/1.1 ' + status):
            wrong.append((status, sent[:120], answer[:120]))
        if b'Traceback' in answer:
            wrong.append((status, sent[:120], answer))
    assert not wrong
    # Two requests in one: the second is a request of its own, not part of the first.
    both = (
        POST
        + b'Content-Length: %d\r\n\r\n' % len(BODY)
        + BODY
        + b'GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'
    )
    answer = raw(web, both, to_end=True)
    assert answer.startswith(b'HTTP/1.1 200')
    assert answer.count(b'HTTP/1.1 404') == 1
    chunked = POST + b'Transfer-Encoding: chunked\r\n\r\n%x\r\n' % len(BODY) + BODY + b'\r\n0\r\n\r\n'
    assert b"sid='" in raw(web, chunked)
    expecting = POST + b'Expect: 100-continue\r\nContent-Length: %d\r\n\r\n' % len(BODY)
    assert raw(web, expecting).startswith(b'HTTP/1.1 100')

    # Clear text at the secure port (spec: an HTTP POST in clear is refused).
    clear = socket.create_connection(('127.0.0.1', web.port), 5)
    clear.settimeout(5)
    clear.sendall(POST + b'Content-Length: 0\r\n\r\n')
    assert b'HTTP' not in _rest(clear)

    # Slow: headers that never end, a body that never comes, a TLS handshake that never begins, silence.
    began = time.monotonic()
    slow = [web.socket() for _ in range(3)] + [socket.create_connection(('127.0.0.1', web.port), 5)]
    slow[0].sendall(POST)
    slow[1].sendall(POST + b'Content-Length: 100\r\n\r\n<bo')
    for one in slow:
        one.settimeout(20)
    answers = [_rest(one) for one in slow]
    assert time.monotonic() - began < 20
    assert answers[0].startswith(b'HTTP/1.1 408')
    assert answers[1].startswith(b'HTTP/1.1 408')
    # One drop at a time does not buy time.
    drops = web.socket()
    drops.settimeout(8)
    began, closed = time.monotonic(), False
    for byte in (POST + b'X: ' + b'a' * 1000)[:200]:
        try:
            drops.sendall(bytes([byte]))
        except OSError:
            closed = True
            break
        time.sleep(0.05)
    assert closed or _rest(drops).startswith(b'HTTP/1.1 408')
    # A BOSH session that does not sign in ends by the same deadline.
    silent = web.bosh()
    silent.open(wait=1)
    assert wait_until(lambda: silent.post().get('condition'), 'unauthenticated session ends') in (
        'item-not-found',
        'remote-stream-error',
    )
    # Connections and sessions of one address are limited: what is over the limit is closed at once.
    many = [socket.create_connection(('127.0.0.1', web.port), 5) for _ in range(35)]
    wait_until(lambda: refused(web.engine) >= 5, 'connections over the limit are refused')
    for one in many:
        one.close()
    make_user('alice')
    wait_until(lambda: _works(web), 'connections are free again')


def refused(engine: Engine) -> float:
    """Connections over the limit per address so far."""
    with urllib.request.urlopen(f'http://127.0.0.1:{engine.metrics_port}/metrics', timeout=5) as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith('imp_connections_refused_total'):
                return float(line.rsplit(' ', 1)[1])
    return 0


def _works(web: Web) -> bool:
    try:
        web.bosh().login('alice').terminate()
    except (OSError, AssertionError, http.client.HTTPException):
        return False
    return True


def _rest(sock: socket.socket) -> bytes:
    seen = b''
    try:
        while more := sock.recv(65536):
            seen += more
    except OSError:
        pass
    return seen


def test_discovery_and_origins(request: pytest.FixtureRequest, db: None, make_user: Callable[..., Any]) -> None:
    """XEP-0156 in XML and JSON; pages of allowed sites may connect (CORS, Origin), and only those."""
    web = start(request, allowed_origins='https://app.example http://127.0.0.1:8123', bosh_path='/bosh')
    https = http.client.HTTPSConnection('127.0.0.1', web.port, context=trusting())

    def get(path: str, method: str = 'GET', **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
        https.request(method, path, headers={key.replace('_', '-'): value for key, value in headers.items()})
        response = https.getresponse()
        return response, response.read()

    base = f'127.0.0.1:{web.port}'
    wanted = {
        'urn:xmpp:alt-connections:xbosh': f'https://{base}/bosh',
        'urn:xmpp:alt-connections:websocket': f'wss://{base}/websocket',
    }
    response, content = get('/.well-known/host-meta', Origin='https://anywhere.example')
    assert response.status == 200
    assert response.getheader('Content-Type') == 'application/xrd+xml; charset=utf-8'
    assert response.getheader('Access-Control-Allow-Origin') == '*'
    found = fromstring(content)  # noqa: S314
    assert {link.attrib['rel']: link.attrib['href'] for link in found} == wanted
    response, content = get('/.well-known/host-meta.json')
    assert {link['rel']: link['href'] for link in json.loads(content)['links']} == wanted
    response, content = get('/.well-known/host-meta.json', 'HEAD')
    assert (response.status, content) == (200, b'')

    response, _ = get('/bosh', 'OPTIONS', Origin='https://app.example', Access_Control_Request_Method='POST')
    assert response.status == 204
    assert response.getheader('Access-Control-Allow-Origin') == 'https://app.example'
    assert response.getheader('Access-Control-Allow-Headers') == 'Content-Type'
    for origin, status in (
        ('https://app.example', 204),
        ('http://127.0.0.1:8123', 204),
        ('https://127.0.0.1:9999', 204),  # the node itself
        ('http://127.0.0.1:8124', 403),
        ('https://app.example.evil.example', 403),
        ('http://app.example', 403),
        ('null', 403),
        ('https://[', 403),
    ):
        response, _ = get('/bosh', 'OPTIONS', Origin=origin)
        assert response.status == status, origin
        assert (response.getheader('Access-Control-Allow-Origin') == origin) == (status == 204)
    web.websocket(origin='https://app.example').open()


def test_without_tls_behind_a_proxy(request: pytest.FixtureRequest, db: None, make_user: Callable[..., Any]) -> None:
    """Secure mode off: HTTP, the public address in discovery, and never a password in the clear."""
    web = start(request, secure_mode=False, public_url='https://im.example.com')
    plain_http = http.client.HTTPConnection('127.0.0.1', web.port)
    plain_http.request('GET', '/.well-known/host-meta.json')
    links = json.loads(plain_http.getresponse().read())['links']
    assert [link['href'] for link in links] == ['https://im.example.com/httpbinding', 'wss://im.example.com/websocket']
    answer = web.bosh(secure=False).open()
    features = answer.find(f'{{{STREAMS}}}features')
    assert features is not None
    assert mechanisms(features) == {'SCRAM-SHA-256', 'SCRAM-SHA-1'}
    client = web.websocket(secure=False, origin='http://127.0.0.1')
    assert mechanisms(client.open()) == {'SCRAM-SHA-256', 'SCRAM-SHA-1'}
    make_user('alice')
    failure = client.send(plain('alice')).read()
    assert failure.find(f'{{{SASL}}}invalid-mechanism') is not None
