"""First set-up, administrators and tokens from the command line, as processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from rest_framework.test import APIClient

from tests.fixtures import forking, servers, snapshot
from tests.proves import proves

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


@proves('DOM-13')
def test_the_default_domain_is_learned_from_unified_cm(
    db: None, manage: Manage, admin_client: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its Organization Top Level Domain, else the domain of the host, else DOMAIN.NOT.SET, which the console then
    wants to be set and proposes the parameter for."""
    from impadmin import setup
    from impadmin.console.actions import SYSTEM
    from impadmin.console.parameter_values import do_set_parameters, in_force
    from impadmin.presence.models import AdvancedSettings, Domain
    from impadmin.system.models import ParameterValue

    def installed(host: str, **environment: str) -> tuple[str, str]:
        """(default domain, Organization Top Level Domain) of a fresh installation on this host."""
        snapshot.restore(refill=False)
        if host:
            program = (
                f'import runpy, socket, sys; socket.gethostname = lambda: {host!r};'
                " sys.argv = ['manage.py', 'imp_setup']; runpy.run_path('manage.py', run_name='__main__')"
            )
            command = [sys.executable, '-c', program]
            subprocess.run(command, cwd=forking.ROOT, env=servers.environment(**environment), check=True, timeout=120)
        else:
            assert manage('imp_setup', **environment)[0] == 0
        return AdvancedSettings.objects.get().default_domain, in_force('', None)['organization_domain']

    assert installed('', IMP_ORGANIZATION_DOMAIN='Corp.Example') == ('corp.example', 'Corp.Example')
    assert list(Domain.objects.values_list('name', flat=True)) == ['corp.example']
    wrong = manage('imp_setup', IMP_ORGANIZATION_DOMAIN='a..b')
    assert wrong[0] == 0, 'read at the first start only'
    assert installed('imp1.sales.example.net') == ('sales.example.net', 'sales.example.net')
    given = {'IMP_DOMAIN': 'im.example.org', 'IMP_ORGANIZATION_DOMAIN': 'corp.example'}
    assert installed('', **given) == ('im.example.org', '')
    for host in ('imp1.lan', 'localhost.localdomain', 'imp1.a..b'):
        monkeypatch.setattr('socket.gethostname', lambda host=host: host)
        assert setup._host_domain() == '', host
    monkeypatch.undo()
    snapshot.restore(refill=False)
    ParameterValue.objects.create(service='', name='organization_domain', value='known.example')
    assert manage('imp_setup', IMP_ORGANIZATION_DOMAIN='other.example')[0] == 0
    assert AdvancedSettings.objects.get().default_domain == 'known.example', 'Unified CM has it already'

    assert installed('', IMP_ORGANIZATION_DOMAIN='DOMAIN.NOT.SET') == ('DOMAIN.NOT.SET', '')
    browser = admin_client('administrator')
    page = '/admin/presence/advanced-configuration/'
    assert 'The default domain is not set' in browser.get(page).content.decode()
    do_set_parameters(SYSTEM, '', None, {'organization_domain': 'later.example'})
    shown = browser.get(page).content.decode()
    assert 'Organization Top Level Domain of Unified CM is later.example' in shown
    assert 'value="later.example"' in shown
    assert AdvancedSettings.objects.get().default_domain == 'DOMAIN.NOT.SET'
