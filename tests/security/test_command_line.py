"""First set-up, administrators and tokens from the command line, as processes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from rest_framework.test import APIClient

from tests.fixtures import forking, snapshot

Manage = Callable[..., tuple[int, str, str]]


@pytest.fixture
def manage(tmp_path: Path) -> Manage:
    """``manage('createadmin', 'ann', IMP_ADMIN_PASSWORD=...)``: status, output, errors."""
    return partial(forking.manage, tmp_path)


def test_set_up_is_done_once(db: None, manage: Manage) -> None:
    """An empty database becomes a usable one; the made-up password is shown once; a second run adds nothing."""
    from impadmin.console.models import Administrator, ConfigGeneration
    from impadmin.system.models import Node

    snapshot.restore(refill=False)
    status, output, errors = manage('imp_setup', IMP_NODE_NAME='first.example.com', IMP_DOMAIN='Example.ORG')
    assert status == 0, errors
    password = output.split('password ')[1].split()[0]
    assert Administrator.objects.get().check_password(password)
    assert Node.objects.get().name == 'first.example.com'
    assert 'example.org' in ConfigGeneration.objects.latest('number').document
    status, output, errors = manage('imp_setup', IMP_NODE_NAME='other', IMP_DOMAIN='other.example')
    assert (status, output) == (0, ''), errors
    assert Node.objects.count() == 1
    assert ConfigGeneration.objects.count() == 1


@pytest.mark.parametrize('domain', ['-bad', 'exa mple.com', 'a..b'])
def test_a_wrong_domain_is_one_clear_line(domain: str, db: None, manage: Manage) -> None:
    """The setting is named, nothing is half done."""
    from impadmin.console.models import Administrator

    snapshot.restore(refill=False)
    status, _, errors = manage('imp_setup', IMP_DOMAIN=domain)
    assert status != 0
    assert 'IMP_DOMAIN' in errors
    assert 'Traceback' not in errors
    assert not Administrator.objects.exists()


def test_administrators_and_tokens(db: None, manage: Manage) -> None:
    """Add, refuse, reset; a token for REST."""
    from impadmin.console.models import Administrator, AuditEntry

    given = {'IMP_ADMIN_PASSWORD': 'a-long-enough-secret'}
    assert manage('createadmin', 'ann', '--role', 'operator', **given)[0] == 0
    assert Administrator.objects.get(username='ann').check_password(given['IMP_ADMIN_PASSWORD'])
    assert AuditEntry.objects.filter(channel='cli', action='create').count() == 1
    for arguments, password in ((['Ann'], 'another-long-secret'), (['bob'], 'short'), (['a b'], 'another-long-secret')):
        status, _, errors = manage('createadmin', *arguments, IMP_ADMIN_PASSWORD=password)
        assert status != 0, arguments
        assert 'Traceback' not in errors
    status, output, _ = manage('createadmin', 'ann', '--reset')
    assert status == 0
    assert Administrator.objects.get(username='ann').check_password(output.split('Password: ')[1].split()[0])
    status, token, _ = manage('createtoken', 'ann', 'inventory', '--days', '30')
    assert status == 0
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f'Bearer {token.strip()}')
    assert client.get('/api/v1/domains/').status_code == 200
    assert manage('createtoken', 'ann', 'more', '--scope', 'application-users:add')[0] != 0
    assert manage('createtoken', 'nobody', 'x')[0] != 0
