"""Webhooks: signed, at least once, in order, to a real HTTP receiver; nowhere they must not go."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import ipaddress
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import trustme
from django.utils import timezone

from impadmin.console.models import AuditEntry
from impadmin.webhooks import delivery, guard, outbox
from impadmin.webhooks.models import Delivery, Webhook

HOOKS = '/api/v1/webhooks/'
DOMAINS = '/api/v1/domains/'


class Receiver:
    """An HTTP server on 127.0.0.1 that keeps what it gets and answers what it is told, 204 at the end."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers['Content-Length']))
                receiver.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(receiver.answers.pop(0) if receiver.answers else 204)
                self.send_header('Location', 'http://127.0.0.1:1/')
                self.send_header('Content-Length', '0')
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.url = f'http://127.0.0.1:{self.server.server_address[1]}/hook'
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def events(self) -> list[dict[str, Any]]:
        """The bodies."""
        return [json.loads(body) for _, body in self.got]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    one = Receiver()
    yield one
    one.server.shutdown()
    one.server.server_close()


@pytest.fixture
def hook(api: Any, receiver: Receiver) -> dict[str, Any]:
    """A webhook for the receiver, whose network is allowed."""
    client = api('administrator')
    assert client.patch('/api/v1/webhook-settings/', {'allowed_networks': '127.0.0.0/8'}).status_code == 200
    made = client.post(HOOKS, {'name': 'tickets', 'url': receiver.url, 'on_jobs': True, 'on_alarms': True})
    assert made.status_code == 201, made.content
    return dict(made.json())


def signed(secret: str, headers: dict[str, str], body: bytes) -> bool:
    """What a receiver checks."""
    parts = [part.partition('=')[::2] for part in headers['imp-signature'].split(',')]
    stamp = dict(parts)['t']
    wanted = hmac.new(secret.encode(), f'{stamp}.'.encode() + body, hashlib.sha256).hexdigest()
    fresh = abs(int(stamp) - time.time()) < 300
    return fresh and any(name == 'v1' and hmac.compare_digest(value, wanted) for name, value in parts)


def turn(hook: dict[str, Any]) -> None:
    """What the worker does, once."""
    for key in delivery.look():
        delivery.work(key)


def test_the_secret_is_shown_once_and_rotates(hook: Any, receiver: Receiver, api: Any) -> None:
    client, url = api('administrator'), f'{HOOKS}{hook["id"]}/'
    stored = str(list(Webhook.objects.values())) + str(list(AuditEntry.objects.values())) + str(client.get(url).json())
    assert hook['secret'] not in stored
    fresh = client.post(f'{url}rotate-secret/', {}).json()['data']['secret']
    assert fresh not in str(list(AuditEntry.objects.values()))
    client.post(f'{url}ping/', {})
    turn(hook)
    headers, body = receiver.got[-1]
    assert signed(fresh, headers, body)
    assert signed(hook['secret'], headers, body), 'for a day the old one is good, too'
    Webhook.objects.update(before_until=timezone.now())
    client.post(f'{url}ping/', {})
    turn(hook)
    assert signed(fresh, *receiver.got[-1])
    assert not signed(hook['secret'], *receiver.got[-1])


def test_the_secret_is_on_the_page_that_answers(admin_client: Any, receiver: Receiver) -> None:
    browser = admin_client('administrator')
    answer = browser.post(
        '/admin/webhooks/webhooks/add/', {'name': 'x', 'url': 'https://hooks.example.com/', 'active': 'on'}
    )
    assert answer.status_code == 200
    assert b'whs_' in answer.content
    assert b'whs_' not in browser.get(f'/admin/webhooks/webhooks/{Webhook.objects.get().pk}/').content


def test_failures_are_tried_again_in_order(hook: Any, receiver: Receiver, api: Any) -> None:
    """The first attempt fails: what is about the same object waits behind it, others do not."""
    client = api('administrator')
    Delivery.objects.all().delete()
    receiver.answers = [500]
    made = client.post(DOMAINS, {'name': 'one.example'}).json()
    client.patch(f'{DOMAINS}{made["id"]}/', {'name': 'two.example'})
    turn(hook)
    client.post(DOMAINS, {'name': 'other.example'})
    turn(hook)
    names = [one['data']['object'] for one in receiver.events()]
    assert names == ['one.example', 'other.example']
    first = Delivery.objects.order_by('pk')[0]
    assert (first.state, first.status, first.attempts) == ('pending', 500, 1)
    assert first.next_at > timezone.now() + timedelta(seconds=5)
    Delivery.objects.update(next_at=timezone.now())
    turn(hook)
    assert [one['data']['object'] for one in receiver.events()][2:] == ['one.example', 'two.example']
    ids = [headers['imp-delivery'] for headers, _ in receiver.got]
    assert ids[0] == ids[2], 'the same delivery under the same id'
    assert receiver.got[2][0]['imp-attempt'] == '2'
    assert not Delivery.objects.filter(state='pending').exists()


def test_what_is_rolled_back_is_not_told(hook: Any, api: Any) -> None:
    client = api('administrator')
    Delivery.objects.all().delete()
    client.post(f'{DOMAINS}?dry_run=true', {'name': 'one.example'})
    client.post(DOMAINS, {'name': 'a_b'})
    assert not Delivery.objects.exists()


def test_a_dead_receiver_is_deactivated_and_said(hook: Any, receiver: Receiver, api: Any) -> None:
    client = api('administrator')
    client.patch('/api/v1/webhook-settings/', {'disable_after': 2})
    Delivery.objects.all().delete()
    receiver.answers = [302, 404]
    client.post(DOMAINS, {'name': 'one.example'})
    for _ in range(2):
        turn(hook)
        Delivery.objects.update(next_at=timezone.now())
    assert len(receiver.got) == 2, 'the redirect is not followed'
    row = client.get(f'{HOOKS}{hook["id"]}/').json()
    assert row['active'] is False
    assert 'HTTP 404' in row['state']
    shown = client.get('/api/v1/notifications/').json()['results']
    assert any('tickets: 2 deliveries in a row failed' in one['reason'] for one in shown), shown
    client.patch(f'{HOOKS}{hook["id"]}/', {'active': True})
    assert 'tickets' not in str(client.get('/api/v1/notifications/').json())
    turn(hook)
    assert [one['data']['object'] for one in receiver.events() if one['event'] == 'change'][-1] == 'tickets'
    assert client.get(f'{HOOKS}{hook["id"]}/').json()['state'] == 'Active'


def test_redeliver(hook: Any, receiver: Receiver, api: Any) -> None:
    client = api('administrator')
    turn(hook)
    before = len(receiver.got)
    client.post(f'{HOOKS}{hook["id"]}/ping/', {})
    turn(hook)
    last = client.get('/api/v1/webhook-deliveries/?event=ping').json()['results'][0]
    assert (last['result'], last['status'], last['attempts']) == ('Delivered', 204, 1)
    Delivery.objects.filter(event='change').delete()
    again = client.post('/api/v1/webhook-deliveries/redeliver/', {'ids': [last['id']]})
    assert again.status_code == 200, again.content
    turn(hook)
    pings = [headers['imp-delivery'] for headers, body in receiver.got[before:] if json.loads(body)['event'] == 'ping']
    assert len(pings) == 2
    assert len(set(pings)) == 1


def test_alarms_are_told_once_each_way(hook: Any, receiver: Receiver) -> None:
    from impadmin.system.models import Alarm, Node

    alarm = Alarm.objects.create(name='ServiceFailed', node=Node.objects.get(), severity='error', text='Broken')
    turn(hook)
    turn(hook)
    Alarm.objects.filter(pk=alarm.pk).update(cleared_at=timezone.now())
    turn(hook)
    turn(hook)
    told = [one['data'] for one in receiver.events() if one['event'] == 'alarm']
    assert [(one['alarm'], one['node'], one['state']) for one in told] == [
        ('ServiceFailed', 'imp1', 'raised'), ('ServiceFailed', 'imp1', 'cleared'),
    ]  # fmt: skip


def test_the_queue_is_bounded(hook: Any, api: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(outbox, 'MOST', 3)
    client = api('administrator')
    Delivery.objects.all().delete()
    for n in range(5):
        client.post(DOMAINS, {'name': f'd{n}.example'})
    assert Delivery.objects.count() == 3
    delivery.look()
    assert client.get(f'{HOOKS}{hook["id"]}/').json()['active'] is False


@pytest.mark.parametrize(
    ('address', 'reached'),
    [
        ('127.0.0.1', False), ('10.1.2.3', False), ('169.254.169.254', False), ('192.168.0.1', False), ('::1', False),
        ('fe80::1', False), ('fc00::1', False), ('::ffff:10.0.0.1', False), ('64:ff9b::a00:1', False),
        ('2002:7f00:1::', False), ('100.64.0.1', False), ('224.0.0.1', False), ('0.0.0.0', False),
        ('8.8.8.8', True), ('2606:4700::1111', True),
    ],
)  # fmt: skip
def test_what_is_not_public_is_not_reached(address: str, reached: bool) -> None:
    assert (guard.refusal(ipaddress.ip_address(address), True, ()) == '') is reached


def test_a_name_that_leads_inside_is_refused_when_it_is_used(hook: Any, receiver: Receiver, api: Any) -> None:
    """DNS decides at the moment of sending: the name of this very machine is no way in."""
    client = api('administrator')
    client.patch('/api/v1/webhook-settings/', {'allowed_networks': ''})
    Delivery.objects.all().delete()
    port = receiver.server.server_address[1]
    answer = client.patch(f'{HOOKS}{hook["id"]}/', {'url': f'https://localhost:{port}/'})
    assert answer.status_code == 200, 'a name is resolved when something is sent'
    turn(hook)
    assert not receiver.got
    assert 'is not public' in Delivery.objects.order_by('pk')[0].answer


def test_only_administrators_see_webhooks(api: Any) -> None:
    for name in ('webhooks', 'webhook-deliveries', 'webhook-settings'):
        assert api('operator').get(f'/api/v1/{name}/').status_code == 403


def test_an_answer_that_never_ends_is_cut_off_in_tls_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver that sends one byte now and then would hold a worker for ever."""
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert('localhost').configure_cert(server)
    authority.configure_trust(client)
    monkeypatch.setattr(ssl, 'create_default_context', lambda: client)
    listener = socket.create_server(('127.0.0.1', 0))

    def drip() -> None:
        with contextlib.suppress(OSError), server.wrap_socket(listener.accept()[0], server_side=True) as sock:
            for byte in b'HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n':
                sock.sendall(bytes([byte]))
                time.sleep(0.1)

    thread = threading.Thread(target=drip)
    thread.start()
    url, allowed = f'https://localhost:{listener.getsockname()[1]}/', guard.networks('127.0.0.0/8')
    with pytest.raises((OSError, http.client.HTTPException)):
        guard.post(url, b'{}', {}, allowed, 1)
    listener.close()
    thread.join(10)
