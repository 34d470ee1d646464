"""Cisco UDS Tomcat: what clients are told of their user over HTTPS, with the user's own password."""

from __future__ import annotations

import base64
import contextlib
import http.client
import socket
import ssl
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import quote
from xml.etree.ElementTree import Element, fromstring

import pytest
from django.conf import settings

from tests.areas.xmpp_fixtures import command, in_force
from tests.fixtures import data
from tests.fixtures.processes import Engine, free_port, wait_until
from tests.proves import proves
from tests.services.rawclient import STREAM, RawClient
from tests.services.test_web_http import refused

SERVICE = 'uds_tomcat'


class Answer(NamedTuple):
    """Status, headers, and the document when it is one."""

    status: int
    headers: http.client.HTTPMessage
    xml: Element

    def names(self) -> list[str]:
        """Names of the UC services in it, in order."""
        return [one.text or '' for one in self.xml.iterfind('.//serviceProfileInfo/*/name')]


class Uds:
    """The listening service. TLS is verified against the certificate of the node."""

    def __init__(self, engine: Engine, port: int) -> None:
        self.engine, self.port = engine, port
        self.context = ssl.create_default_context(
            cafile=str(settings.VAR_DIR / 'tls' / data.NODE / 'tomcat' / 'xmpp.pem')
        )

    def __call__(self, path: str, user: str = '', password: str = data.PASSWORD, **request: Any) -> Answer:
        """One request."""
        connection = http.client.HTTPSConnection('127.0.0.1', self.port, context=self.context, timeout=20)
        headers = request.pop('headers', {})
        if user:
            headers['Authorization'] = 'Basic ' + base64.b64encode(f'{user}:{password}'.encode()).decode()
        connection.request(request.get('method', 'GET'), f'/cucm-uds/{path}', request.get('body'), headers)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return Answer(answer.status, answer.headers, fromstring(body) if body else Element('none'))  # noqa: S314

    def raw(self, sent: bytes) -> bytes:
        """What comes back for these bytes until the server closes."""
        plain = socket.create_connection(('127.0.0.1', self.port), 5)
        with self.context.wrap_socket(plain, server_hostname='127.0.0.1') as connection:
            connection.settimeout(20)
            connection.sendall(sent)
            seen = b''
            while more := connection.recv(65536):
                seen += more
            return seen


@pytest.fixture
def uds(db: None, request: pytest.FixtureRequest) -> Uds:
    """An engine with Cisco UDS Tomcat."""
    from impadmin.system.models import Node, ParameterValue, ServiceActivation

    node, port = Node.objects.get(name=data.NODE), free_port()
    ServiceActivation.objects.create(node=node, service=SERVICE)
    ParameterValue.objects.create(service=SERVICE, name='port', node=node, value=port)
    for name, value in (('request_timeout_s', 2), ('connections_per_ip', 20)):
        ParameterValue.objects.create(service=SERVICE, name=name, value=value)
    data.publish_configuration()
    engine = request.getfixturevalue('engine')

    def listens() -> bool:
        try:
            socket.create_connection(('127.0.0.1', port), 1).close()
        except OSError:
            return False
        return True

    wait_until(listens, 'User Data Services listen')
    return Uds(engine, port)


def add(api: Callable[..., Any], page: str, **values: Any) -> int:
    answer = api('administrator').post(f'/api/v1/{page}/', values, format='json')
    assert answer.status_code == 201, answer.content
    return int(answer.json()['id'])


def test_a_new_certificate_tomcat(uds: Uds, api: Callable[..., Any]) -> None:
    """It is shown after the restart of this service; that of XMPP clients is another one."""
    own = ssl.get_server_certificate(('127.0.0.1', uds.port))
    made = {'purpose': 'tomcat', 'distribution': data.NODE}
    answer = api('administrator').post('/api/v1/certificates/generate/', made, format='json')
    assert answer.status_code == 200, answer.content
    in_force()
    assert ssl.get_server_certificate(('127.0.0.1', uds.port)) == own
    command('restart', SERVICE)
    wait_until(lambda: ssl.get_server_certificate(('127.0.0.1', uds.port)) != own, 'the new certificate')
    row = api('administrator').get(f'/api/v1/certificates/{answer.json()["data"]["id"]}/').json()
    assert ssl.get_server_certificate(('127.0.0.1', uds.port)).split() == row['pem'].split()
    assert ssl.get_server_certificate(('127.0.0.1', uds.engine.tls_port)).split() != row['pem'].split()


@proves('US-08', 'HA-27')
def test_each_user_gets_his_own_profile(uds: Uds, api: Callable[..., Any], make_user: Callable[..., Any]) -> None:
    """Own profile, else the default of the system, else none; changes count at once. With high availability also the
    node that stands in for the home node, and when to sign in there."""
    from impadmin.system.models import Node, ParameterValue, RedundancyGroup

    for name in ('East', 'West', 'Spare'):
        add(api, 'uc-services', name=name, address=f'{name.lower()}.example.com', description='<&> 東')
    add(api, 'service-profiles', name='Eastern', imp_primary='East', imp_secondary='Spare')
    default = add(api, 'service-profiles', name='Everybody', imp_primary='West', is_default=True)
    alice, bob = make_user('alice', first_name='<Al & ice>'), make_user('bob smith', im_enabled=False, node=None)
    change = api('administrator').patch(f'/api/v1/end-users/{alice.pk}/', {'service_profile': 'Eastern'}, format='json')
    assert change.status_code == 200, change.content

    user = uds('user/alice', 'alice')
    assert user.status == 200
    assert user.headers['Content-Type'] == 'application/xml; charset=utf-8'
    assert user.headers['Cache-Control'] == 'no-store'
    assert user.xml.findtext('firstName') == '<Al & ice>'
    assert user.xml.findtext('imAndPresence/server') == '127.0.0.1'
    home = user.xml.find('homeCluster')
    assert home is not None
    assert (home.text, home.get('enableImAndPresence')) == ('true', 'true')
    place = f'https://127.0.0.1:{uds.port}/cucm-uds/user/alice/serviceProfile'
    assert user.xml.findtext('serviceProfile/uri') == place
    mine = uds('user/alice/serviceProfile', 'alice')
    assert mine.names() == ['East', 'Spare']
    assert mine.xml.findtext('.//primary/hostnameorip') == 'east.example.com'
    assert mine.xml.findtext('.//primary/description') == '<&> 東'
    path = quote(bob.user_id)
    assert uds(f'user/{path}/serviceProfile', 'Bob Smith').names() == ['West']  # whatever the case, IM or not
    enabled = uds(f'user/{path}', 'bob smith').xml.find('homeCluster')
    assert enabled is not None
    assert enabled.get('enableImAndPresence') == 'false'

    api('administrator').patch(f'/api/v1/service-profiles/{default}/', {'is_default': False}, format='json')
    gone = uds(f'user/{path}/serviceProfile', 'bob smith')
    assert (gone.status, gone.xml.findtext('error/message')) == (404, 'The user has no service profile.')
    assert uds(f'user/{path}', 'bob smith').xml.find('serviceProfile/uri') is None

    found = uds('clusterUser?username=alice', 'alice').xml
    assert found.find('result').get('found') == 'true'  # type: ignore[union-attr]
    assert found.findtext('homeCluster') == '127.0.0.1'
    assert uds('clusterUser?username=carol', 'alice').xml.find('result').get('found') == 'false'  # type: ignore[union-attr]
    assert [one.text for one in uds('servers').xml] == ['127.0.0.1']
    assert uds('version').xml.findtext('version')
    head = uds('user/alice', 'alice', method='HEAD')
    assert (head.status, head.xml.tag) == (200, 'none')

    assert user.xml.find('imAndPresence/backupServer') is None
    second = Node.objects.create(name='imp2', address='imp2.example.org')
    RedundancyGroup.objects.filter(server1=second).delete()
    RedundancyGroup.objects.update(server2=second, ha_enabled=True)
    ParameterValue.objects.create(
        service='server_recovery_manager', name='relogin_lower_s', node=Node.objects.get(name=data.NODE), value=33
    )
    data.publish_configuration()
    wait_until(lambda: uds('user/alice', 'alice').xml.find('imAndPresence/backupServer') is not None, 'who stands in')
    places = uds('user/alice', 'alice').xml.find('imAndPresence')
    assert places is not None
    assert [one.text for one in places] == ['127.0.0.1', 'imp2.example.org', '33', '537']


def test_only_the_user_with_the_right_password(uds: Uds, make_user: Callable[..., Any]) -> None:
    """Nobody reads another's data or learns who exists; wrong passwords count together with XMPP's."""
    make_user('alice')
    make_user('bob')
    make_user('mallory', active=False)
    asked = uds('user/alice')
    assert asked.status == 401
    assert asked.headers['WWW-Authenticate'].startswith('Basic realm=')
    assert uds('user/alice', 'bob').status == 403
    assert uds('user/nobody', 'bob').status == 403
    for headers in ({'Authorization': 'Basic %%%'}, {'Authorization': 'Bearer x'}, {'Authorization': 'Basic YWxpY2U='}):
        assert uds('user/alice', headers=headers).status == 401
    refusals = [uds('user/x', name, 'wrong') for name in ('alice', 'nobody')] + [uds('user/mallory', 'mallory')]
    assert {(one.status, one.xml.findtext('error/message')) for one in refusals} == {
        (401, 'The user ID or the password is wrong.')
    }
    for _ in range(4):
        assert uds('user/alice', 'alice', 'wrong').status == 401
    assert uds('user/alice', 'alice').status == 429  # even with the right one
    xmpp = RawClient(uds.engine.tls_port, tls=True)
    xmpp.send(STREAM).read_until(b'</stream:features>')
    assert b'temporary-auth-failure' in xmpp.plain('alice', data.PASSWORD)
    xmpp.close()
    assert uds('user/bob', 'bob').status == 200
    command('stop', 'xcp_authentication')
    assert uds('user/bob', 'bob').status == 503


HOSTILE: list[tuple[bytes, bytes]] = [
    (b'400', b'GARBAGE\r\n\r\n'),
    (b'400', b'GET /cucm-uds/version HTTP/1.1\r\n\r\n'),
    (b'400', b'GET http://x/cucm-uds/version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'),
    (b'400', b'GET /cucm-uds/user/%ff HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'),
    (b'404', b'GET /cucm-uds/../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'),
    (b'405', b'DELETE /cucm-uds/version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'),
    (b'413', b'POST /cucm-uds/version HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabcde'),
    (b'413', b'GET /cucm-uds/version HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'),
    (b'431', b'GET /cucm-uds/version HTTP/1.1\r\nHost: x\r\nX: ' + b'a' * 20000),
]


def test_hostile_requests(uds: Uds) -> None:
    """Each gets its status and nothing else suffers; slow and silent clients are hung up on; no clear text."""
    for status, sent in HOSTILE:
        answer = uds.raw(sent)
        assert answer.startswith(b'HTTP/1.1 ' + status), (sent[:80], answer[:200])
    again = b'GET /cucm-uds/version HTTP/1.1\r\nHost: <x>\r\n\r\n'
    both = uds.raw(again + again.replace(b'Host', b'Connection: close\r\nHost'))
    assert both.count(b'HTTP/1.1 200') == 2
    assert b'<x>' not in both
    assert uds.raw(b'GET /cucm-uds/ver') == b''  # hung up on after the time-out
    with socket.create_connection(('127.0.0.1', uds.port), 5) as clear:
        clear.settimeout(20)
        clear.sendall(again)
        with contextlib.suppress(ConnectionError):
            assert b'HTTP' not in clear.recv(1000)
    many = [socket.create_connection(('127.0.0.1', uds.port), 5) for _ in range(25)]
    wait_until(lambda: refused(uds.engine) >= 5, 'five connections too many were refused')
    for one in many:
        one.close()
    wait_until(lambda: _answers(uds), 'the service answers again')
    command('restart', SERVICE)  # the port is free at once
    assert uds('version').status == 200
    command('stop', SERVICE)
    with pytest.raises(ConnectionRefusedError):
        uds('version')


def _answers(uds: Uds) -> bool:
    try:
        return uds('version').status == 200
    except OSError:
        return False
