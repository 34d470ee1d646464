"""IMP_UNENCRYPTED_LOOPBACK: sign-in without TLS for measurements, and only there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from engine.contract import credentials
from engine.contract.services import CONNECTION_MANAGER
from tests.fixtures import data
from tests.fixtures.processes import Engine
from tests.load.client import PASSWORD, Client, login_all
from tests.services.rawclient import STREAM, RawClient
from tests.services.test_supervision import wait_state


def test_scram_without_tls_on_loopback_when_asked_for(
    make_engine: Callable[..., Engine], make_user: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Off by default; on, SCRAM works without TLS and PLAIN is not offered; TLS stays on offer."""
    user = make_user('quick')
    user.credentials = credentials.verifiers(PASSWORD)
    user.save()

    async def sign_in(port: int) -> None:
        client = Client('quick', data.DOMAIN)
        await login_all([client], port, tls=False)
        client.close()

    engine = make_engine()
    with pytest.raises(ConnectionError, match='refused'):
        uvloop.run(sign_in(engine.port))
    engine.stop()
    monkeypatch.setenv('IMP_UNENCRYPTED_LOOPBACK', '1')
    monkeypatch.setenv('IMP_BIND', '127.0.0.1')
    engine = make_engine()
    offered = RawClient(engine.port).send(STREAM).read_until(b'</stream:features>')
    assert b'<starttls' in offered
    assert b'<required/>' not in offered
    assert b'<mechanism>SCRAM-SHA-256</mechanism>' in offered
    assert b'PLAIN' not in offered
    assert b'-PLUS' not in offered
    uvloop.run(sign_in(engine.port))


def test_it_is_refused_on_other_addresses(make_engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch) -> None:
    """The Connection Manager does not start, and says why."""
    monkeypatch.setenv('IMP_UNENCRYPTED_LOOPBACK', '1')
    monkeypatch.setenv('IMP_BIND', '0.0.0.0')
    make_engine(wait=False)
    row = wait_state(CONNECTION_MANAGER, 'Failed')
    assert 'IMP_UNENCRYPTED_LOOPBACK' in row.detail
