"""Cisco SIP Proxy: what one client can take of the server, and how long connections stay."""

from __future__ import annotations

import contextlib

import pytest

from tests.services.test_sip import ALICE, BOB, CAROL, TRUNK, Sip, registered, sip, subscribe

__all__ = ['sip']


def test_limits(sip: Sip) -> None:
    """What one client can take of the server is bounded by the parameters."""
    limits = {'registration_s': 60, 'subscriptions': 1, 'max_body_bytes': 1300, 'idle_timeout_s': 2}
    for name, value in (limits | {'request_timeout_s': 1, 'connections_per_ip': 6}).items():
        sip.set(name, value)
    sip.start()
    alice = sip(ALICE)
    assert 'expires=60' in alice.register(9999)['Contact']
    assert subscribe(alice, BOB).status == 200
    alice.expect('NOTIFY')
    assert subscribe(alice, CAROL, Call_ID='another').status == 403
    assert alice.say(BOB, 'x' * 1300).status == 202
    large, idle, slow, stranger = sip(BOB), sip(BOB), sip(BOB), sip(BOB, bind=TRUNK)
    slow.send(b'OPTIONS sip:exa')
    with contextlib.suppress(OSError):
        large.send(large.compose('MESSAGE', f'sip:{ALICE}', 'x' * 1301))
    assert stranger.say(ALICE, 'x').status == 403
    for client in (large, idle, slow, stranger):
        with pytest.raises(ConnectionError):
            client.receive()
    assert alice.say(BOB, 'registered clients may be idle').status == 202
    kept = [sip(BOB) for _ in range(5)]
    with pytest.raises(ConnectionError):
        sip(BOB).receive()
    assert kept[-1].request('OPTIONS', 'sip:example.com').status == 200


def test_connections_that_do_not_persist(sip: Sip) -> None:
    """Persist TCP Connections off: a connection ends with its answers; that of a registered client stays."""
    sip.set('persist_tcp', False)
    sip.start()
    passing, alice = sip(ALICE), registered(sip(ALICE, 'TLS'))
    assert passing.request('OPTIONS', 'sip:example.com').status == 200
    with pytest.raises(ConnectionError):
        passing.receive()
    for _ in range(2):
        assert alice.request('OPTIONS', 'sip:example.com').status == 200
    assert alice.register(0).status == 200
    with pytest.raises(ConnectionError):
        alice.receive()
