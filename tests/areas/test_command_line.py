"""``manage.py imp`` as a person or a script types it: a process of its own against the real database and engine."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.utils import timezone

from tests.fixtures.processes import environment, wait_until

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Answer:
    """What a command printed and its exit code."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def imp(db: None, capsys: Any) -> Any:
    """``imp('show', 'domains')``: the command as manage.py runs it, in this process (a process takes two seconds)."""
    from django.core.management import call_command

    def run(*words: str) -> Answer:
        capsys.readouterr()
        errors = io.StringIO()
        code = 0
        try:
            call_command('imp', *words, stderr=errors)
        except SystemExit as ended:
            code = int(ended.code or 0)
        printed = capsys.readouterr()
        return Answer(code, printed.out, printed.err + errors.getvalue())

    return run


def test_a_process_of_its_own(db: None) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, 'manage.py', 'imp', *words],
            cwd=ROOT, env=environment(), capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip

    assert json.loads(done(run('show', 'messaging-settings', '--format', 'json')))['im_enabled'] is True
    refused = run('set', 'messaging-settings', 'im_enabled=perhaps')
    assert (refused.returncode, refused.stdout) == (1, '')
    assert refused.stderr.startswith('im_enabled: ')


def done(answer: Any) -> str:
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert answer.stderr == ''
    return answer.stdout


def test_objects_from_the_first_to_the_last(imp: Any) -> None:
    assert 'domains' in done(imp('pages'))
    made = json.loads(done(imp('add', 'domains', 'name=Sales.Example.Com', '--format', 'json')))
    rows = json.loads(done(imp('list', 'domains', 'name__contains=sales', '--format', 'json')))
    assert [row['name'] for row in rows] == [made['name']]
    table = done(imp('list', 'domains', 'name__contains=sales')).splitlines()
    assert 'name' in table[0]
    assert 'sales.example.com' in table[2].lower()
    found = list(csv.DictReader(io.StringIO(done(imp('list', 'domains', '--format', 'csv', '--wide')))))
    assert made['name'] in [row['name'] for row in found]
    key = str(made['id'])
    shown = json.loads(done(imp('show', 'domains', key, '--format', 'json')))
    assert shown['name'] == made['name']
    done(imp('set', 'domains', key, 'name=lab.example.com'))
    history = json.loads(done(imp('history', 'domains', key, '--format', 'json')))
    assert [entry['action'] for entry in history] == ['update', 'create']
    assert {entry['channel'] for entry in history} == {'cli'}
    would = done(imp('delete', 'domains', key, '--dry-run'))
    assert 'Nothing was changed' in would
    assert 'deleted' in done(imp('delete', 'domains', key))
    assert imp('show', 'domains', key).returncode == 4


def test_settings_and_parameters(imp: Any) -> None:
    would = done(imp('set', 'messaging-settings', 'im_enabled:=false', '--dry-run'))
    assert 'true' in would.lower() or 'yes' in would.lower() or '->' in would
    assert json.loads(done(imp('show', 'messaging-settings', '--format', 'json')))['im_enabled'] is True
    done(imp('set', 'messaging-settings', 'im_enabled:=false'))
    assert json.loads(done(imp('show', 'messaging-settings', '--format', 'json')))['im_enabled'] is False
    words = ('service-parameters', 'imp1', 'xcp_router')
    done(imp('set', *words, 'max_sessions_per_user=5'))
    assert json.loads(done(imp('show', *words, '--format', 'json')))['max_sessions_per_user'] == 5


@pytest.mark.parametrize(
    ('words', 'code', 'text'),
    [
        (('show', 'domain'), 2, 'Did you mean domains'),
        (('frobnicate',), 2, 'There is no command "frobnicate"'),
        (('add', 'domains', 'name=-bad-'), 1, 'name: '),
        (('add', 'domains', 'nickname=x', 'name=ok.example'), 1, 'nickname: There is no such field.'),
        (('set', 'messaging-settings', 'im_enabled:=tru'), 2, 'is not JSON'),
        (('set', 'service-parameters', 'imp1', 'xcp_router', 'max_sessions_per_user=999'), 1, 'from 1 to 100'),
        (('set', 'service-parameters', 'imp9', 'xcp_router', 'max_sessions_per_user=9'), 4, 'There is no server imp9'),
        (('do', 'domains', 'explode'), 2, 'has no action explode'),
        (('show', 'domains'), 2, 'is a list'),
        (('show', 'domains', '999999'), 4, 'no such object'),
        (('list', 'domains', 'nosuch=1'), 1, 'no such filter'),
        (('delete', 'domains', '999999'), 1, 'do not exist'),
        (('utils', 'service', 'restart', 'Cisco Nothing'), 4, 'There is no service'),
        (('utils', 'service'), 2, 'utils service list'),
    ],
    ids=lambda value: '-'.join(value)[:40] if isinstance(value, tuple) else None,
)
def test_mistakes_get_a_sentence_and_an_exit_code(imp: Any, words: tuple[str, ...], code: int, text: str) -> None:
    answer = imp(*words)
    assert text in answer.stderr, answer.stderr
    assert 'Traceback' not in answer.stderr
    assert (answer.returncode, answer.stdout) == (code, '')


def test_the_words_of_the_guide(imp: Any, engine: Any) -> None:
    """utils service, show perf query counter: against a running node."""
    assert 'show perf query counter' in done(imp('words'))
    listed = json.loads(done(imp('utils', 'service', 'list', '--format=json')))
    assert {'service': 'Cisco XCP Router', 'node': 'imp1', 'state': 'Running'} in listed
    told = done(imp('utils', 'service', 'stop', 'Cisco', 'Presence', 'Engine'))
    assert 'Cisco Presence Engine on imp1' in told

    def state() -> str:
        rows = json.loads(done(imp('utils', 'service', 'list', '--format=json')))
        return next(row['state'] for row in rows if row['service'] == 'Cisco Presence Engine')

    wait_until(lambda: state() == 'Stopped', 'the service has stopped')
    refused = imp('utils', 'service', 'start', 'Cisco Bulk Nothing')
    assert refused.returncode == 4
    done(imp('utils', 'service', 'start', 'Cisco Presence Engine', '--node=imp1'))
    wait_until(lambda: state() == 'Running', 'the service runs again')
    words = ('show', 'perf', 'query', 'counter', 'Cisco Presence Engine', 'ActiveJsmSessions')
    wait_until(lambda: imp(*words).returncode == 0, 'the node has reported where its counters are')
    rows = json.loads(done(imp(*words, '--format=json')))
    assert [(row['counter'], row['value']) for row in rows] == [('ActiveJsmSessions', '0')]
    missing = imp('show', 'perf', 'query', 'counter', 'Cisco Presence Engine', 'Nothing')
    assert missing.returncode == 4
    assert 'ActiveJsmSessions' in missing.stderr


def test_a_dry_run_does_nothing_and_says_what_it_would_do(imp: Any, make_user: Any) -> None:
    """Actions and the words of the guide, too; several objects by name, with what is refused."""
    from impadmin.console.models import AuditEntry
    from impadmin.system.models import Node, ServiceActivation, ServiceCommand

    Node.objects.update(heartbeat_at=timezone.now())
    make_user('alice')
    imp('add', 'domains', 'name=free.example')
    imp('do', 'domains', 'audit')
    keys = [str(row['id']) for row in json.loads(done(imp('list', 'domains', '--format', 'json')))]
    count, active = AuditEntry.objects.count(), ServiceActivation.objects.count()
    for words, texts in (
        (
            ('do', 'control-center-network', 'restart', 'node=imp1', 'service=xcp_router'),
            ('These services stop with it',),
        ),
        (('utils', 'service', 'restart', 'Cisco', 'XCP', 'Router'), ('users touched: 1', 'when it is done:')),
        (('utils', 'service', 'deactivate', 'Cisco', 'Presence', 'Engine'), ('Cisco Presence Engine: On -> Off',)),
        (('delete', 'domains', *keys), ('delete: free.example', 'refused: example.com: It is the default domain')),
    ):
        found = imp(*words, '--dry-run')
        assert found.returncode == 0, (words, found)
        assert 'Nothing was changed' in found.stdout
        for text in texts:
            assert text in found.stdout, (words, found.stdout)
    assert not ServiceCommand.objects.exists()
    assert (AuditEntry.objects.count(), ServiceActivation.objects.count()) == (count, active)


def test_completion(imp: Any) -> None:
    assert 'complete -o default -F _imp' in done(imp('completion'))
    assert 'messaging-settings' in done(imp('completion', 'show')).split()
    assert 'restart' in done(imp('completion', 'do', 'control-center')).split()
    assert done(imp('completion', 'utils', 'service')).split() == [
        'activate',
        'deactivate',
        'list',
        'restart',
        'start',
        'stop',
    ]


def test_configuration_as_code(imp: Any, tmp_path: Path) -> None:
    """Exported, changed by hand, planned, applied, and back again to the letter."""
    done(imp('add', 'domains', 'name=one.example'))
    done(imp('add', 'roles', 'name=helpdesk', 'permissions:=["end-users:view"]'))
    done(imp('add', 'external-groups', 'source=ldap', 'name=cn=help', 'role=helpdesk'))
    done(imp('set', 'messaging-settings', 'suppress_offline:=true'))
    done(imp('set', 'service-parameters', 'imp1', 'xcp_router', 'max_sessions_per_user=5'))
    done(imp('set', 'service-parameters', 'imp1', 'xcp_connection_manager', 'client_port=5333'))
    first = done(imp('export'))
    document = yaml.safe_load(first)
    assert {'name': 'one.example'} in document['lists']['domains']
    assert [role['name'] for role in document['lists']['roles']] == ['helpdesk'], 'built-in ones come with the release'
    assert document['lists'].keys().isdisjoint({'end-users', 'application-users', 'api-tokens', 'webhooks'})
    document['lists']['roles'][0]['permissions'].append('domains:view')
    assert document['lists']['external-groups'] == [{'source': 'ldap', 'name': 'cn=help', 'role': 'helpdesk'}]
    document['lists']['external-groups'][0]['role'] = 'operator'
    assert document['settings']['messaging-settings']['suppress_offline'] is True
    assert document['parameters']['cluster'] == {'xcp_router': {'max_sessions_per_user': 5}}
    assert document['parameters']['nodes'] == {'imp1': {'xcp_connection_manager': {'client_port': 5333}}}
    path = tmp_path / 'configuration.yaml'
    path.write_text(first)
    assert 'nothing to do' in done(imp('apply', str(path)))

    document['lists']['domains'].append({'name': 'two.example'})
    document['lists']['domains'].remove({'name': 'one.example'})
    document['settings']['messaging-settings']['suppress_offline'] = False
    document['parameters']['cluster']['xcp_router']['max_sessions_per_user'] = None
    path.write_text(yaml.safe_dump(document))
    plan = done(imp('apply', str(path), '--dry-run', '--prune'))
    assert '+ lists domains two.example' in plan
    assert '- lists domains one.example' in plan
    assert 'suppress_offline: true -> false' in plan
    assert 'max_sessions_per_user: 5 -> 10' in plan
    assert '+ lists external-groups ldap, cn=help, operator' in plan
    assert '- lists external-groups ldap, cn=help, helpdesk' in plan
    assert '2 would be added, 3 would be changed, 2 would be deleted.' in plan
    assert done(imp('export')) == first, 'a dry run changes nothing'
    assert '2 added, 3 changed, 2 deleted.' in done(imp('apply', str(path), '--prune'))
    assert 'one.example' not in done(imp('export'))
    path.write_text(first)
    done(imp('apply', str(path), '--prune'))
    assert done(imp('export')) == first
    history = json.loads(done(imp('list', 'history', '--format', 'json')))
    assert {entry['channel'] for entry in history} <= {'cli', 'CLI'}


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('version: 2', 'version must be 1'),
        ('- a', 'must have the parts'),
        ('version: 1\nmore: {}', 'There is no part more'),
        ('version: 1\nversion: 1', 'version occurs twice'),
        ('a: &a [x]\nb: [*a, *a]', 'aliases are not allowed'),
        ('version: 1\nlists: {nothing: []}', 'lists nothing: is no list of configuration'),
        ('version: 1\nlists: {domains: [{name: -bad-}]}', 'lists domains -bad-: name: '),
        ('version: 1\nlists: {domains: [{}]}', 'each object needs its name'),
        (
            'version: 1\nsettings: {messaging-settings: {im_enabled: perhaps}}',
            'settings messaging-settings: im_enabled: ',
        ),
        ('version: 1\nparameters: {cluster: {xcp_router: {max_sessions_per_user: 0}}}', 'from 1 to 100'),
        ('version: 1\nparameters: {cluster: {nothing: {a: 1}}}', 'There is no service nothing'),
        (
            'version: 1\nsettings: {messaging-settings: {im_enabled: {from_env: IMP_NOT_SET}}}',
            'has no variable IMP_NOT_SET',
        ),
        ('{', 'This is not YAML'),
    ],
)
def test_a_wrong_document_changes_nothing(imp: Any, tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / 'wrong.yaml'
    good = '\nsettings: {messaging-settings: {suppress_offline: true}}' if 'settings' not in text else ''
    path.write_text(text + (good if text.startswith('version: 1\nlists') else ''))
    answer = imp('apply', str(path))
    assert message in answer.stderr, answer.stderr
    assert answer.returncode == 1
    assert json.loads(done(imp('show', 'messaging-settings', '--format', 'json')))['suppress_offline'] is False
