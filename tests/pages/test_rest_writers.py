"""What every write guarantees, shown over REST: rights, all or nothing, stale saves, audit, generations, dry runs."""

from __future__ import annotations

import itertools
import threading
from typing import Any

import pytest

from impadmin.console.models import AuditEntry, ConfigGeneration


def messaging() -> str:
    """REST address of Messaging > Settings."""
    from impadmin.console import registry

    return next(f'/api/v1/{page.name}/' for page in registry.pages() if page.menu == 'Messaging > Settings')


def changes() -> int:
    """Entries of changes: the first use of a token has one of its own."""
    return AuditEntry.objects.exclude(object_type='signin.SignIn').count()


def test_a_dry_run_leaves_nothing(api: Any) -> None:
    """No row, no audit entry, no generation, no number used up that a reader could see."""
    client = api('administrator')
    audits, generations = changes(), ConfigGeneration.objects.count()
    answer = client.patch(f'{messaging()}?dry_run=true', {'im_enabled': False}).json()
    assert answer['changes'] == [{'field': 'Enable instant messaging', 'before': 'On', 'after': 'Off'}]
    assert client.post('/api/v1/domains/?dry_run=1', {'name': 'dry.example'}).status_code == 200
    assert client.post('/api/v1/domains/?dry_run=1', {'name': 'bad_.example'}).status_code == 400
    assert (changes(), ConfigGeneration.objects.count()) == (audits, generations)
    assert client.get(messaging()).json()['im_enabled'] is True


def test_audit_and_generation_go_with_the_change(api: Any) -> None:
    """One entry with before, after, who, from where; one generation; none for a save that changes nothing."""
    client = api('administrator')
    audits, generations = changes(), ConfigGeneration.objects.count()
    assert client.patch(messaging(), {'im_enabled': False}).status_code == 200
    assert client.patch(messaging(), {'im_enabled': False}).status_code == 200
    assert changes() == audits + 1
    assert ConfigGeneration.objects.count() == generations + 1
    entry = AuditEntry.objects.latest('pk')
    assert (entry.actor, entry.channel, entry.source) == ('test-administrator', 'rest', '127.0.0.1')
    assert entry.before['im_enabled'] is True
    assert entry.after['im_enabled'] is False


def test_a_stale_save_is_refused(api: Any) -> None:
    """If-Match with an old ETag: 412 and nothing changes."""
    client = api('administrator')
    seen = client.get(messaging())['ETag']
    assert client.patch(messaging(), {'suppress_offline': True}, headers={'If-Match': seen}).status_code == 200
    late = client.patch(messaging(), {'im_enabled': False}, headers={'If-Match': seen})
    assert late.status_code == 412
    assert client.get(messaging()).json()['im_enabled'] is True


def test_simultaneous_writers_lose_nothing(rest: Any, db: None) -> None:
    """Twelve clients add domains at once, each twice: every domain once, every generation complete and in order."""
    from engine.contract import config

    call = rest('administrator')
    statuses: list[int] = []

    def add(n: int) -> None:
        statuses.append(call('POST', '/api/v1/domains/', {'name': f'd{n}.example'}).status)

    threads = [threading.Thread(target=add, args=(n // 2,)) for n in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses.count(201) == 12
    assert set(statuses) <= {201, 400, 409}
    found = [config.decode(row.document) for row in ConfigGeneration.objects.order_by('number')]
    assert {f'd{n}.example' for n in range(12)} <= set(found[-1].domains)
    for earlier, later in itertools.pairwise(found):
        assert set(earlier.domains) < set(later.domains)
        assert earlier.generation < later.generation


def test_partial_failure_of_a_bulk_delete_deletes_nothing(api: Any) -> None:
    """One of the selected objects cannot go: 409 that names it, all stay."""
    client = api('administrator')
    rows = client.get('/api/v1/application-users/').json()['results']
    mine = next(row['id'] for row in rows if row['username'] == 'test-administrator')
    other = client.post(
        '/api/v1/application-users/',
        {
            'username': 'second',
            'roles': ['operator'],
            'is_active': True,
            'password': 'correct-horse-9',
            'password_again': 'correct-horse-9',
        },
    ).json()['id']
    answer = client.post('/api/v1/application-users/delete-selected/', {'ids': [other, mine]})
    assert answer.status_code == 409
    assert answer.json()['detail']
    assert client.get(f'/api/v1/application-users/{other}/').status_code == 200


def test_passwords_leave_no_trace(api: Any) -> None:
    """Neither REST, history, audit table nor configuration has a password or what it was turned into."""
    client = api('administrator')
    body = {
        'user_id': 'pat',
        'last_name': 'Pat',
        'password': 'tell-nobody-77',
        'password_again': 'tell-nobody-77',
    }
    made = client.post('/api/v1/end-users/', body)
    assert made.status_code == 201, made.content
    url = f'/api/v1/end-users/{made.json()["id"]}/'
    everything = str(made.content) + str(client.get(url).content) + str(client.get(f'{url}history/').content)
    everything += str(list(AuditEntry.objects.values())) + str(list(ConfigGeneration.objects.values()))
    assert 'tell-nobody' not in everything
    assert 'SCRAM' not in everything
    assert '********' in everything


def test_commands_check_their_fields(api: Any) -> None:
    """Unknown and missing fields are named; a read-only role cannot run one."""
    client = api('administrator')
    url = '/api/v1/control-center-network/restart/'
    answer = client.post(url, {'node': 'imp9', 'service': 'nothing', 'more': 1})
    assert answer.status_code == 400
    assert 'more' in answer.json()['errors']
    answer = client.post(url, {'node': 'imp9', 'service': 'nothing'})
    assert set(answer.json()['errors']) == {'node', 'service'}
    assert api('read_only').post(url, {'node': 'imp1', 'service': 'xcp_router'}).status_code == 403


@pytest.mark.parametrize(
    ('service', 'values', 'field'),
    [
        ('xcp_router', {'component_port': 7401}, 'component_port'),
        ('xcp_connection_manager', {'client_port': 5223}, 'direct_tls_port'),
        ('xcp_web_connection_manager', {'bosh_path': '/ws', 'websocket_path': '/ws'}, 'websocket_path'),
    ],
)
def test_listeners_of_one_service_differ(api: Any, service: str, values: dict[str, Any], field: str) -> None:
    """What one value alone cannot tell is refused at its field, and nothing is saved."""
    client = api('administrator')
    path = f'/api/v1/service-parameters/imp1/{service}/'
    before = client.get(path).json()
    answer = client.patch(path, values, format='json')
    assert answer.status_code == 400
    assert 'must differ' in answer.json()['errors'][field][0]
    assert client.get(path).json() == before
