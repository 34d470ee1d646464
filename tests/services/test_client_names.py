"""Host names of client addresses: looked up beside the handshake when an administrator wants them in the log."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from tests.fixtures import data
from tests.fixtures.federation import Zone
from tests.fixtures.processes import Engine, wait_until
from tests.proves import proves
from tests.services.rawclient import STREAM, RawClient

SERVICE = 'xcp_connection_manager'
COUNTER = 'imp_reverse_lookups_failed_total'


def failed(engine: Engine) -> float:
    """Lookups without an answer so far."""
    with urllib.request.urlopen(f'http://127.0.0.1:{engine.metrics_port}/metrics', timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return next((float(line.split()[-1]) for line in lines if line.startswith(COUNTER)), 0)


def connect(engine: Engine, source: str) -> None:
    """A client of this address that gets through the handshake and signs in."""
    client = RawClient(engine.tls_port, tls=True, source=source)
    client.send(STREAM).read_until(b'</stream:features>')
    assert b'<success' in client.plain('alice', data.PASSWORD)
    client.close()


@proves('US-15')
def test_no_handshake_waits_for_dns(db: None, request: pytest.FixtureRequest, make_user: Callable[..., Any]) -> None:
    """A silent name server keeps nobody waiting: the log names the address, and the name where there is one."""
    from impadmin.system.models import Node, ParameterValue

    zone, node = Zone(), Node.objects.get(name=data.NODE)
    request.addfinalizer(zone.close)
    zone.silent = True
    zone.records['3.0.0.127.in-addr.arpa', 'PTR'] = ['vpn-3.example.com.']
    ParameterValue.objects.create(service=SERVICE, name='reverse_lookup', value=True)
    ParameterValue.objects.create(service=SERVICE, name='dns_servers', node=node, value=zone.address)
    make_user('alice')
    engine: Engine = request.getfixturevalue('engine')

    connect(engine, '127.0.0.2')
    wait_until(lambda: failed(engine) == 1, 'the failure is counted')
    assert 'reverse lookup failed' in engine.log()
    assert '127.0.0.2' in engine.log()

    zone.silent = False
    connect(engine, '127.0.0.3')
    wait_until(lambda: 'vpn-3.example.com' in engine.log(), 'the log has the name')
    connect(engine, '127.0.0.3')
    connect(engine, '127.0.0.4')  # an address without a name
    wait_until(lambda: failed(engine) == 2, 'the failure is counted')
    assert zone.asked['3.0.0.127.in-addr.arpa', 'PTR'] == 1, 'an address is asked for once'
