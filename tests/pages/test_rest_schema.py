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
from tests.pages.test_rest_round_trip import ADDING, PAGES, body_of, sent

CHECKS = (
    'not_a_server_error', 'status_code_conformance', 'content_type_conformance', 'response_schema_conformance',
    'negative_data_rejection', 'ignored_auth', 'unsupported_method', 'allow_header_conformance',
)  # fmt: skip
DEEP = '^(domains|messaging_settings|control_center)_'
"""Operations tried with every edge of their schema: the views of the other pages are the same, their fields differ."""


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
    path.write_text('\n'.join(lines) + '\n')
    return path


def failures(url: str, role: str, configured: Path, *options: str) -> str:
    """What schemathesis complains about; '' when nothing."""
    command = [
        str(Path(sys.executable).with_name('st')), '--config-file', str(configured), 'run',
        f'{url}/api/v1/schema/?format=json', '-H', f'Authorization: Bearer {data.make_token(role)}',
        '--checks', ','.join(CHECKS), '--seed', '1', '--generation-deterministic',
        '--no-shrink', '--continue-on-failure', '--warnings', 'off', '--suppress-health-check', 'all', *options,
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=configured.parent, capture_output=True, text=True, timeout=280, env={**os.environ, 'NO_COLOR': '1'}
    )
    tested = re.search(r'Tested: (\d+)', done.stdout)
    if done.returncode == 0 and tested and int(tested[1]) > 5:
        return ''
    return done.stdout[-20_000:] + done.stderr[-2000:]


@pytest.mark.timeout(600)
def test_every_answer_is_as_documented(api: Any, console_url: str, tmp_path: Path) -> None:
    """Every operation as administrator, a few with every edge case; the other roles differ in what is refused."""
    configured = configuration(api, tmp_path)
    for role in sorted(roles.BUILT_IN):
        options = ('--phases', 'fuzzing', '-n', '1', '-m', 'positive')
        if role == roles.ADMINISTRATOR:
            found = failures(
                console_url, role, configured, '--phases', 'coverage', '--include-operation-id-regex', DEEP
            )
            assert not found, found
            options = ('--phases', 'fuzzing', '-n', '2')
        found = failures(console_url, role, configured, *options)
        assert not found, f'{role}: {found}'


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
