"""System > LDAP > LDAP Authentication: real clients sign in with the password that a real directory knows."""

from __future__ import annotations

import base64
import re
from typing import Any

import pytest

from tests.areas.ldap import ldap_system
from tests.fixtures.data import PASSWORD
from tests.fixtures.directory import BASE, MANAGER, MANAGER_PASSWORD, PEOPLE_PASSWORD, Directory
from tests.fixtures.processes import Engine, free_port, wait_until
from tests.proves import proves
from tests.services.rawclient import STREAM, RawClient
from tests.xmppclient import SignInFailed

PAGE = '/api/v1/ldap-authentication/'


def offered(engine: Engine) -> set[str]:
    """Mechanisms under TLS."""
    client = RawClient(engine.tls_port, tls=True).send(STREAM)
    features = client.read_until(b'</stream:features>').decode()
    client.close()
    return set(re.findall('<mechanism>([^<]*)<', features))


@pytest.fixture
def signs_in(directory: Directory, api: Any, engine: Engine, xmpp: Any) -> Any:
    """LDAP Authentication is on at the engine, its first server is dead; ``signs_in(user, password)`` -> '' or the
    condition of the refusal."""
    client = api('administrator')
    ldap_system(client, directory)
    servers = {'host_1': '127.0.0.1', 'port_1': free_port(), 'host_2': '127.0.0.1', 'port_2': directory.tls_port}
    body = {'manager_dn': MANAGER, 'search_base': f'ou=people,{BASE}', **servers}
    assert client.patch(PAGE, body, format='json').status_code == 200
    early = client.patch(PAGE, {'enabled': True}, format='json')
    assert 'Set the manager password first' in str(early.json()['errors']['enabled'])
    assert client.post(f'{PAGE}set-password/', {'password': MANAGER_PASSWORD}, format='json').status_code == 200
    tested = client.post(f'{PAGE}test/')
    assert tested.status_code == 409
    assert f'127.0.0.1:{servers["port_1"]}' in tested.json()['detail'], 'the dead one is named'
    assert offered(engine) > {'SCRAM-SHA-256', 'PLAIN'}
    assert client.patch(PAGE, {'enabled': True}, format='json').status_code == 200
    wait_until(lambda: offered(engine) == {'PLAIN'}, 'LDAP authentication is in force')

    def attempt(user: str, password: str) -> str:
        try:
            xmpp(user, password=password).abort()
        except SignInFailed as refused:
            return str(refused)
        return ''

    return attempt


@proves('LD-27', 'LD-28', 'PL-07')
def test_the_directory_knows_the_password(signs_in: Any, directory: Directory, api: Any, make_user: Any) -> None:
    from impadmin.console.models import AuditEntry, ConfigGeneration

    make_user('ada', ldap_status='active')
    make_user('bo', ldap_status='active', credentials={})
    make_user('cy', ldap_status='active', active=False)
    make_user('local')
    assert signs_in('ada', PEOPLE_PASSWORD) == signs_in('bo', PEOPLE_PASSWORD) == ''
    assert signs_in('ada', PASSWORD) == 'not-authorized', 'a password kept here does not count'
    assert signs_in('local', PASSWORD) == '', 'local users keep theirs'
    assert signs_in('local', PEOPLE_PASSWORD) == 'not-authorized'
    for name in ('cy', 'nobody', '*', 'ada)(uid=*'):
        assert signs_in(name, PEOPLE_PASSWORD) == 'not-authorized', name

    directory.change(directory.person('ada'), userPassword='another word 2')
    assert signs_in('ada', PEOPLE_PASSWORD) == 'not-authorized'
    assert signs_in('ada', 'another word 2') == ''
    directory.change(directory.person('ada'), userPassword=PEOPLE_PASSWORD)

    stored = str(list(ConfigGeneration.objects.values_list('document', flat=True)))
    assert MANAGER in stored
    assert MANAGER_PASSWORD not in stored + str(list(AuditEntry.objects.values_list('before', 'after')))
    client = api('administrator')
    moved = client.patch(PAGE, {'host_2': 'ldap.evil.example'}, format='json')
    assert 'set the manager password again' in str(moved.json()['errors']['enabled'])


@proves('LD-28')
def test_a_directory_that_is_down_is_no_verdict(
    signs_in: Any, directory: Directory, make_user: Any, engine: Engine
) -> None:
    make_user('ada', ldap_status='active')
    make_user('local')
    assert signs_in('ada', PEOPLE_PASSWORD) == ''
    assert b'<not-authorized' in plain(engine, 'never \ue000 a password'), 'no fault of the server (RFC 4013)'
    directory.move('people', 'moved')
    for _ in range(12):  # each thread has its connections: one that searches no more is no verdict, and is told
        assert signs_in('ada', PEOPLE_PASSWORD) == 'temporary-auth-failure'
    directory.move('moved', 'people')
    wait_until(lambda: signs_in('ada', PEOPLE_PASSWORD) == '', 'the directory is there again')
    directory.stop()
    try:
        assert signs_in('ada', PEOPLE_PASSWORD) == 'temporary-auth-failure'
        assert signs_in('ada', PASSWORD) == 'temporary-auth-failure', 'never a fall back to what is kept here'
        assert signs_in('nobody', PASSWORD) == 'temporary-auth-failure', 'who exists is not told'
        assert signs_in('local', PASSWORD) == ''
    finally:
        directory.start()
    assert signs_in('ada', PEOPLE_PASSWORD) == '', 'failures of the directory lock nobody out'
    assert b'<success' not in plain(engine, ''), 'an empty password would be an anonymous bind'


def plain(engine: Engine, password: str) -> bytes:
    """The refusal of a password of ada that no client library would send."""
    client = RawClient(engine.tls_port, tls=True).send(STREAM)
    client.read_until(b'</stream:features>')
    said = base64.b64encode(f'\0ada\0{password}'.encode()).decode()
    client.send(f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{said}</auth>".encode())
    answer = client.read_until(b'</failure>')
    client.close()
    return answer
