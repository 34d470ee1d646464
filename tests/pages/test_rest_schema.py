"""The OpenAPI document is true: schemathesis asks the real console what the document promises, as every role."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from impadmin.console import registry, roles
from impadmin.console.page import Page
from tests.fixtures import data
from tests.fixtures.data import CUSTOM_ROLE as CUSTOM
from tests.pages.test_rest_round_trip import ADDING, PAGES, body_of, sent

CHECKS = (
    'not_a_server_error', 'status_code_conformance', 'content_type_conformance', 'response_schema_conformance',
    'negative_data_rejection', 'ignored_auth', 'unsupported_method', 'allow_header_conformance',
)  # fmt: skip
OTHERS = 'holds_for_every_role'
DEEP = '^(domains|messaging_settings|control_center)_'
"""Operations tried with every edge of their schema: the views of the other pages are the same, their fields differ."""
HALF = '^[a-l]'
EVERY = ('--checks', ','.join((*CHECKS, OTHERS)), '--phases', 'fuzzing', '-n', '2')
RUNS = {
    'deep': ('--checks', ','.join(CHECKS), '--phases', 'coverage', '--include-operation-id-regex', DEEP),
    'a-l': (*EVERY, '--include-operation-id-regex', HALF),
    'm-z': (*EVERY, '--exclude-operation-id-regex', HALF),
}
"""Options of schemathesis: a few operations with every edge case; and every operation, its first example with every
role: the built-in ones, and one that is composed (a page to read, one to add to but not to delete from, single
commands)."""


def configuration(api: Callable[..., Any], folder: Path) -> Path:
    """Requests for one object go to one that exists."""
    client, lines = api('administrator'), []
    for name in ADDING:
        made = sent(client, 'post', f'/api/v1/{name}/', body_of(PAGES[name], 1))
        assert made.status_code == 201, made.content
        lines += [
            '[[operations]]', f'include-path-regex = "^/api/v1/{name}/\\\\{{id\\\\}}/"',
            f'parameters = {{ id = {made.json()["id"]} }}',
        ]  # fmt: skip
    path = folder / 'schemathesis.toml'
    hooks = f'hooks = "{Path(__file__).with_name("every_role.py")}"'
    path.write_text('\n'.join([hooks, *lines]) + '\n')
    return path


def failures(url: str, configured: Path, *options: str) -> str:
    """What schemathesis complains about; '' when nothing."""
    tokens = [data.make_token(role) for role in (*sorted(set(roles.BUILT_IN) - {roles.ADMINISTRATOR}), CUSTOM)]
    command = [
        str(Path(sys.executable).with_name('st')), '--config-file', str(configured), 'run',
        f'{url}/api/v1/schema/?format=json', '-H', f'Authorization: Bearer {data.make_token(roles.ADMINISTRATOR)}',
        '--seed', '1', '--generation-deterministic',
        '--no-shrink', '--continue-on-failure', '--warnings', 'off', '--suppress-health-check', 'all', *options,
    ]  # fmt: skip
    environment = {**os.environ, 'NO_COLOR': '1', 'IMP_TOKENS': ','.join(tokens)}
    done = subprocess.run(command, cwd=configured.parent, capture_output=True, text=True, timeout=600, env=environment)
    tested = re.search(r'Tested: (\d+)', done.stdout)
    if done.returncode == 0 and tested and int(tested[1]) > 5:
        return ''
    return done.stdout[-20_000:] + done.stderr[-2000:]


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize('options', RUNS.values(), ids=RUNS)
def test_every_answer_is_as_documented(options: tuple[str, ...], api: Any, console_url: str, tmp_path: Path) -> None:
    found = failures(console_url, configuration(api, tmp_path), *options)
    assert not found, found


def test_every_role_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check fails for a role whose answer the document does not have."""
    monkeypatch.setenv('IMP_TOKENS', 'one,two')
    from tests.pages import every_role

    asked: list[str] = []

    class Case:
        class operation:
            label = 'GET /api/v1/domains/'

        def call(self, headers: dict[str, str]) -> str:
            asked.append(headers['Authorization'])
            return 'answer'

    def promise(context: Any, answer: Any, case: Any) -> None:
        assert len(asked) < 2, 'the second role'

    monkeypatch.setattr(every_role, 'PROMISES', (promise,))
    monkeypatch.setattr(every_role, 'seen', set())
    case: Any = Case()
    with pytest.raises(AssertionError, match='the second role'):
        every_role.holds_for_every_role(None, None, case)  # type: ignore[arg-type]
    every_role.holds_for_every_role(None, None, case)  # type: ignore[arg-type]
    assert asked == ['Bearer one', 'Bearer two'], 'once for each operation'


def test_the_document_is_complete(api: Any) -> None:
    """Version 3.1; every page with data has its paths; every operation says what it answers when refused."""
    document = api('administrator').get('/api/v1/schema/?format=json').json()
    assert document['openapi'].startswith('3.1')
    for page in registry.pages():
        if isinstance(page, Page):
            assert f'/api/v1/{page.name}/' in document['paths']
    for path, item in document['paths'].items():
        for operation in item.values():
            assert {'400', '401', '403', '404'} <= set(operation['responses']), path


def test_a_misspelled_parameter_is_refused(api: Any) -> None:
    """``?dryrun=true`` must not delete."""
    client = api('administrator')
    made = client.post('/api/v1/domains/', {'name': 'kept.example'}).json()
    answer = client.delete(f'/api/v1/domains/{made["id"]}/?dryrun=true')
    assert answer.status_code == 400
    assert 'dryrun' in answer.json()['errors']
    assert client.get(f'/api/v1/domains/{made["id"]}/').status_code == 200


@pytest.mark.parametrize(
    ('body', 'field'),
    [({'im_enabled': 1}, 'im_enabled'), ({'im_enabled': 'true'}, 'im_enabled'), ({'im_enabled': []}, 'im_enabled')],
)
def test_json_types_are_taken_literally(api: Any, body: dict[str, Any], field: str) -> None:
    answer = api('administrator').patch('/api/v1/messaging-settings/', body)
    assert answer.status_code == 400
    assert answer.json()['errors'] == {field: ['Enter true or false.']}


def test_options_names_the_methods(api: Any) -> None:
    answer = api('read_only').options('/api/v1/messaging-settings/')
    assert answer.status_code == 204
    assert answer['Allow'] == 'GET, PUT, PATCH, HEAD, OPTIONS'
    refused = api('administrator').delete('/api/v1/messaging-settings/')
    assert refused.status_code == 405
    assert refused['Allow'] == answer['Allow']
