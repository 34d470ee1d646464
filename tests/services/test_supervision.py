"""The named services of a real engine process: order, dependencies, failures, restarts (spec 01 19.2, 15)."""

from __future__ import annotations

import os
import signal
import socket
import urllib.request
from datetime import timedelta
from typing import Any

import pytest

from engine.contract import messages
from engine.contract.services import BY_KEY, SERVICES, dependents
from tests.areas.xmpp_fixtures import outcome as command
from tests.fixtures import data
from tests.fixtures.processes import Engine, wait_until
from tests.proves import proves

ROUTER = 'xcp_router'
MANAGER = 'xcp_connection_manager'


def status(service: str) -> Any:
    """The row of one service of the installed node."""
    from impadmin.system.models import ServiceStatus

    return ServiceStatus.objects.get(node__name=data.NODE, service=service)


def states() -> dict[str, str]:
    """Service -> state, of those that are activated after an installation."""
    from impadmin.system.models import ServiceStatus

    rows = ServiceStatus.objects.filter(node__name=data.NODE).values_list('service', 'state')
    return {key: state for key, state in rows if BY_KEY[key].default_active}


def wait_state(service: str, state: str, timeout_s: float = 40) -> Any:
    """Wait for a state; the row."""
    wait_until(lambda: states().get(service) == state, f'{service} {state}', timeout_s)
    return status(service)


def listens(port: int) -> bool:
    """Whether somebody accepts connections."""
    try:
        socket.create_connection(('127.0.0.1', port), 2).close()
    except OSError:
        return False
    return True


@proves('RST-08')
def test_stop_and_start_of_the_router(engine: Engine) -> None:
    wait_until(lambda: set(states().values()) == {'Running'}, 'all services run')
    detail = messages.load(status(MANAGER).detail)
    assert f'127.0.0.1:{engine.port} (STARTTLS)' in detail
    assert f':{engine.tls_port} (TLS)' in detail

    refused = command('start', 'no_such_service')
    assert refused == 'There is no service no_such_service.'

    assert command('stop', ROUTER) == ''
    now = states()
    assert now[ROUTER] == 'Stopped'
    assert {now[key] for key in dependents(ROUTER) if key in now} == {'Stopped'}
    assert {now[s.key] for s in SERVICES if s.key in now and s.key != ROUTER and ROUTER not in s.depends} == {'Running'}
    assert not listens(engine.port)
    assert not listens(engine.tls_port)
    assert status(ROUTER).generation == 0

    error = command('start', MANAGER)
    assert error == (
        'Cisco XCP Connection Manager cannot start because Cisco XCP Router is not running.'
        ' Start Cisco XCP Router first.'
    )
    # Starting the router after a plain stop brings its activated dependents back.
    assert command('start', ROUTER) == ''
    now = states()
    assert {now[key] for key in dependents(ROUTER) if key in now} == {'Running'}
    assert listens(engine.port)


@proves('RST-08')
def test_restart_brings_back_what_was_active_and_nothing_else(engine: Engine) -> None:
    wait_state(MANAGER, 'Running')
    assert command('stop', 'presence_engine') == ''
    before = {key: status(key).since for key in (ROUTER, MANAGER, 'sync_agent')}
    assert command('restart', ROUTER) == ''
    assert states()['presence_engine'] == 'Stopped'
    assert states()[MANAGER] == 'Running'
    assert status(ROUTER).since > before[ROUTER]
    assert status(MANAGER).since > before[MANAGER]
    assert status('sync_agent').since == before['sync_agent']


def test_port_in_use_fails_that_service_only(db: None, make_engine: Any) -> None:
    engine = make_engine(wait=False)
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(('127.0.0.1', engine.port))
        squatter.listen()
        row = wait_state(MANAGER, 'Failed')
        assert messages.load(row.detail) == f'port {engine.port} is in use'
        assert {state for key, state in states().items() if key != MANAGER} == {'Running'}
        from impadmin.system.models import Alarm

        alarm = wait_until(lambda: Alarm.objects.filter(cleared_at=None).first(), 'alarm')
        assert str(engine.port) in alarm.text
    # It tries again by itself.
    wait_state(MANAGER, 'Running', 40)
    engine.wait_ready()
    wait_until(lambda: not Alarm.objects.filter(cleared_at=None).exists(), 'alarm cleared')


def test_activation_starts_and_stops_at_once(engine: Engine) -> None:
    from impadmin.system.models import Node, ServiceActivation

    wait_state('presence_engine', 'Running')
    ServiceActivation.objects.filter(service='presence_engine').delete()
    data.publish_configuration()
    wait_state('presence_engine', 'Not Activated', 10)
    error = command('start', 'presence_engine')
    assert 'is not activated on imp1' in error
    ServiceActivation.objects.create(node=Node.objects.get(name=data.NODE), service='presence_engine')
    data.publish_configuration()
    wait_state('presence_engine', 'Running', 10)


def test_bad_generation_keeps_the_old_one(engine: Engine) -> None:
    from impadmin.console.models import ConfigGeneration
    from impadmin.system.models import Alarm, Node

    wait_state(MANAGER, 'Running')
    good = ConfigGeneration.objects.order_by('-number').first()
    assert good is not None
    bad = ConfigGeneration.objects.create(document=good.document.replace('"max_contacts":200', '"max_contacts":"many"'))
    assert bad.document != good.document
    alarm = wait_until(lambda: Alarm.objects.filter(name='ConfigurationInvalid', cleared_at=None).first(), 'alarm')
    assert '$.presence.max_contacts' in alarm.text
    wait_until(lambda: Node.objects.get(name=data.NODE).generation == good.number, 'old generation in force')
    engine.kill9()
    engine.restart()
    wait_state(MANAGER, 'Running')
    fixed = ConfigGeneration.objects.create(document=good.document)
    wait_until(lambda: Node.objects.get(name=data.NODE).generation == fixed.number, 'new generation in force')
    wait_until(lambda: not Alarm.objects.filter(name='ConfigurationInvalid', cleared_at=None).exists(), 'cleared')


def test_stopped_config_agent_takes_no_configuration(engine: Engine) -> None:
    from impadmin.console.models import ConfigGeneration
    from impadmin.system.models import Node

    assert command('stop', 'config_agent') == ''
    before = Node.objects.get(name=data.NODE).generation
    good = ConfigGeneration.objects.get(pk=before)
    new = ConfigGeneration.objects.create(document=good.document)
    assert command('restart', ROUTER) == ''
    assert status(ROUTER).generation == before
    assert command('start', 'config_agent') == ''
    wait_until(lambda: Node.objects.get(name=data.NODE).generation == new.number, 'new generation in force')


def test_data_monitor_holds_services_until_the_database_is_ready(db: None, make_engine: Any) -> None:
    from django.db import connection

    from impadmin.system.models import Alarm, ParameterValue

    ParameterValue.objects.create(service='data_monitor', name='release_timeout_s', value=600)
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE django_migrations SET name = '0001_later' WHERE app = 'presence' AND name = '0001_initial'"
        )
    try:
        engine = make_engine(wait=False)
        alarm = wait_until(lambda: Alarm.objects.filter(name='ReplicationSetupDelayed').first(), 'alarm')
        assert 'presence.0001_initial' in alarm.text
        assert 'Cisco XCP Router' in alarm.text
        assert status(ROUTER).state == 'Starting'
        assert messages.load(status(ROUTER).detail) == 'waiting for Cisco IM and Presence Data Monitor'
        assert not listens(engine.port)
    finally:
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE django_migrations SET name = '0001_initial' WHERE app = 'presence' AND name = '0001_later'"
            )
    engine.wait_ready()
    wait_until(lambda: Alarm.objects.filter(name='ReplicationSetupRestored').exists(), 'notice')
    assert Alarm.objects.get(name='ReplicationSetupDelayed').cleared_at


def test_publisher_releases_after_the_timeout(db: None, make_engine: Any) -> None:
    from django.db import connection
    from django.utils import timezone

    from impadmin.system.models import ParameterValue

    ParameterValue.objects.create(service='data_monitor', name='release_timeout_s', value=10)
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE django_migrations SET name = '0001_later' WHERE app = 'presence' AND name = '0001_initial'"
        )
    try:
        began = timezone.now()
        engine = make_engine(wait=False)
        wait_state(ROUTER, 'Running', 30)
        assert status(ROUTER).since - began > timedelta(seconds=9)
        engine.wait_ready()
    finally:
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE django_migrations SET name = '0001_initial' WHERE app = 'presence' AND name = '0001_later'"
            )


def test_kill9_and_start_again(engine: Engine, make_user: Any, xmpp_client: Any) -> None:
    from impadmin.system.models import Node, ServiceCommand

    make_user('alice')
    xmpp_client('alice')
    wait_until(lambda: Node.objects.get(name=data.NODE).sessions == 1, 'one session counted')
    engine.kill9()
    # What was under way when the process died is not done again; what waited is.
    node = Node.objects.get(name=data.NODE)
    started = ServiceCommand.objects.create(
        node=node, service=ROUTER, verb='stop', error='The node stopped while it executed this command.'
    )
    waiting = ServiceCommand.objects.create(node=node, service='sync_agent', verb='stop')
    engine.restart()
    wait_until(lambda: ServiceCommand.objects.get(pk=waiting.pk).finished_at, 'waiting command')
    started.refresh_from_db()
    assert started.finished_at
    assert 'stopped while' in started.error
    assert states()['sync_agent'] == 'Stopped'
    assert states()[ROUTER] == 'Running'
    xmpp_client('alice')


def test_sigterm_stops_cleanly(engine: Engine, make_user: Any, xmpp_client: Any) -> None:
    from impadmin.system.models import Node

    make_user('alice')
    alice = xmpp_client('alice')
    wait_state(MANAGER, 'Running')
    engine.process.send_signal(signal.SIGTERM)
    assert alice.closed() == 'system-shutdown'
    assert engine.process.wait(40) == 0
    assert {state for key, state in states().items()} == {'Stopped'}
    assert Node.objects.get(name=data.NODE).sessions == 0


def test_one_engine_per_node(engine: Engine) -> None:
    wait_until(lambda: set(states().values()) == {'Running'}, 'all services run')
    second = Engine.__new__(Engine)
    Engine.__bases__[0].__init__(second, 'second', ['manage.py', 'engine', '--node', data.NODE])
    assert second.process.wait(20) == 5
    assert "Another engine already runs as node 'imp1'" in second.log()
    assert set(states().values()) == {'Running'}
    assert engine.alive()


def test_unknown_node_ends_with_one_clear_line(db: None) -> None:
    process = Engine.__new__(Engine)
    Engine.__bases__[0].__init__(process, 'unknown', ['manage.py', 'engine', '--node', 'nowhere'])
    assert process.process.wait(20) == 3
    assert "There is no node 'nowhere'" in process.log()
    assert 'imp1' in process.log()
    assert 'Traceback' not in process.log()


def test_metrics(engine: Engine, make_user: Any, xmpp_client: Any) -> None:
    make_user('alice')
    xmpp_client('alice')

    def metrics() -> str:
        with urllib.request.urlopen(f'http://127.0.0.1:{engine.metrics_port}/metrics', timeout=5) as answer:
            return answer.read().decode()

    active = 'imp_active_jsm_sessions{counter="ActiveJsmSessions",node="imp1",object="Cisco Presence Engine"} 1.0'
    wait_until(lambda: active in metrics(), 'the new user is counted')
    text = metrics()
    assert 'imp_service_running{node="imp1",service="Cisco XCP Router"} 1.0' in text
    assert 'process_resident_memory_bytes' in text


@pytest.mark.parametrize('verb', ['stop', 'start'])
def test_client_policy_follows_its_service(engine: Engine, make_user: Any, xmpp_client: Any, verb: str) -> None:
    from tests.xmppclient import condition

    make_user('alice')
    alice = xmpp_client('alice')
    question = "<policy xmlns='urn:imp:client-policy:0'/>"
    assert command('stop', 'client_profile_agent') == ''
    if verb == 'stop':
        assert condition(alice.iq('get', question)) == 'service-unavailable'
        return
    assert command('start', 'client_profile_agent') == ''
    answer = alice.iq('get', question)
    assert answer.findtext('.//{urn:imp:client-policy:0}im-history') == 'true'

    from impadmin.messaging.models import MessagingSettings

    MessagingSettings.objects.update(client_history=False)
    data.publish_configuration()
    push = alice.expect('iq', type='set', has='{urn:imp:client-policy:0}policy')
    assert push.findtext('.//{urn:imp:client-policy:0}im-history') == 'false'
    assert push.findtext('.//{urn:imp:client-policy:0}cut-paste') == 'true'


def test_engine_lives_without_redis(db: None, make_user: Any) -> None:
    """Redis refuses every connection: the node starts, takes configurations and commands, serves clients."""
    from tests.xmppclient import XmppClient

    make_user('alice')
    engine = Engine.__new__(Engine)
    engine.node = data.NODE
    from tests.fixtures.processes import free_port

    engine.port, engine.tls_port, engine.metrics_port, engine.link_port = (free_port() for _ in range(4))
    engine.set_ports()
    Engine.__bases__[0].__init__(
        engine,
        'no-redis',
        ['manage.py', 'engine', '--node', data.NODE],
        REDIS_URL='unix:///nonexistent/redis.sock?db=0',
    )
    try:
        engine.wait_ready()
        assert command('restart', ROUTER) == ''
        engine.wait_ready()
        alice = XmppClient('alice@example.com', data.PASSWORD, port=engine.port).connect()
        alice.sync()
        alice.close()
    finally:
        assert engine.stop() == 0
    assert engine.log().count('Redis cannot be reached') == 1
    assert os.path.exists(engine.log_path)


@proves('RST-08')
def test_stopping_the_router_ends_every_stream(engine: Engine, make_user: Any, xmpp_client: Any) -> None:
    """Two clients over STARTTLS and direct TLS talk; the router stops: both are told, and nobody can connect."""
    make_user('alice')
    make_user('bob')
    alice, bob = xmpp_client('alice'), xmpp_client('bob', direct_tls=True)
    alice.available()
    bob.available()
    bob.sync()
    alice.say('bob@example.com', 'hello')
    bob.expect('message', body='hello', from_=alice.jid)
    bob.say(alice.jid, 'good morning')
    alice.expect('message', body='good morning', from_=bob.jid)
    assert command('stop', ROUTER) == ''
    assert alice.closed() == 'system-shutdown'
    assert bob.closed() == 'system-shutdown'
    assert not listens(engine.port)
    assert not listens(engine.tls_port)
    assert command('start', ROUTER) == ''
    xmpp_client('alice').sync()


def test_certificate_follows_the_domains_at_restart(engine: Engine) -> None:
    """A domain added in the console is served, and named in the certificate, after the router restarted; not before."""
    import ssl

    from cryptography import x509

    from impadmin.console.models import ConfigGeneration
    from impadmin.presence.models import Domain
    from impadmin.system.models import Node
    from tests.services.rawclient import STREAM, RawClient

    def names() -> list[str]:
        client = RawClient(engine.tls_port, tls=True)
        assert isinstance(client.socket, ssl.SSLSocket)
        der = client.socket.getpeercert(binary_form=True)
        assert der is not None
        extension = x509.load_der_x509_certificate(der).extensions.get_extension_for_class(x509.SubjectAlternativeName)
        return extension.value.get_values_for_type(x509.DNSName)

    wait_state(MANAGER, 'Running')
    Domain.objects.create(name='Second.example', key='second.example')
    data.publish_configuration()
    newest = ConfigGeneration.objects.order_by('-number').values_list('number', flat=True)[0]
    wait_until(lambda: Node.objects.get(name=data.NODE).generation == newest, 'generation in force')
    header = STREAM.replace(b'example.com', b'second.example')
    assert 'second.example' not in names()
    assert b'<host-unknown ' in RawClient(engine.port).send(header).read_all()
    assert command('restart', MANAGER) == ''
    assert 'second.example' not in names()
    assert command('restart', ROUTER) == ''
    assert {'example.com', 'second.example'} <= set(names())
    RawClient(engine.port).send(header).read_until(b'</stream:features>')
