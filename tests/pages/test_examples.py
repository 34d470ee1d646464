"""*Do this by API*: on every page, true for every page, without a secret."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from impadmin.console import parameter_values, registry
from impadmin.console.page import Page, ViewPage
from tests.fixtures import data
from tests.pages.payload import create, lists

LISTED = [page for page in lists() if 'add' in page.verbs and page.sample]


def shown(answer: Any, kind: str) -> list[str]:
    """The examples on a page."""
    assert answer.status_code == 200
    text = answer.content.decode()
    return [
        html.unescape(one) for one in re.findall(rf'<pre[^>]*aria-label="{kind}: [^"]*"[^>]*>(.*?)</pre>', text, re.S)
    ]


def test_every_page_says_how(admin_client: Callable[..., Any]) -> None:
    """A list, a form, a report: as far as REST has it; a role that only reads sees only how to read."""
    client, reader = admin_client('administrator'), admin_client('read_only')
    for page in registry.pages():
        if not isinstance(page, ViewPage) or page.api is not None:
            answer = client.get(registry.page_url(page))
            assert any(f'/api/v1/{page.name}/' in one for one in shown(answer, 'curl')), page.name
            answer = reader.get(registry.page_url(page))
            if answer.status_code == 200:
                assert not [one for one in shown(answer, 'curl') if ' -X ' in one], page.name


@pytest.mark.parametrize('page', LISTED, ids=lambda page: page.name)
def test_the_values_of_an_object(page: Page, admin_client: Callable[..., Any]) -> None:
    """Read, change and delete, with its saved values; they are Python, and no secret is among them."""
    client = admin_client('administrator')
    obj = create(client, page, 1)
    answer = client.get(registry.page_url(page, 'edit', obj.pk))
    found = shown(answer, 'Python')
    assert any(f'/api/v1/{page.name}/{obj.pk}/' in one for one in found)
    for one in found:
        compile(one, page.name, 'exec')
    assert page.sample is not None
    for name, value in page.sample(1).items():
        if name in page.extra and isinstance(value, str) and len(value) > 6:
            assert value not in ''.join(found)


def test_what_is_typed_stands_there_and_no_secret(
    admin_client: Callable[..., Any], make_user: Callable[..., Any]
) -> None:
    """The values of the form as it is now, also when it is new or wrong; what was typed as a password never."""
    client, user = admin_client('administrator'), make_user('alice', department='Sales')
    url = registry.page_url('end-users', 'edit', user.pk)
    typed = {'user_id': 'alice', 'last_name': 'Alice', 'department': 'Support', 'home_node': 'nowhere', 'examples': '1'}
    found = shown(client.post(url, {**typed, 'password': 'tell nobody 1', 'password_again': 'tell nobody 1'}), 'Python')
    (change,) = [one for one in found if 'requests.patch' in one]
    assert "'department': 'Support'" in change
    assert "'home_node': 'nowhere'" in change, 'what is wrong stands there as it was typed'
    assert "'password': '<Password>'" in change
    assert 'tell nobody' not in ''.join(found)
    user.refresh_from_db()
    assert user.department == 'Sales', 'nothing is saved'
    added = shown(client.post(registry.page_url('domains', 'add'), {'name': 'one.example', 'examples': '1'}), 'curl')
    assert any('"name": "one.example"' in one for one in added)
    file = shown(client.get(registry.page_url('upload-download-files', 'add')), 'curl')
    assert any("-F 'file=@example.csv'" in one or '-F file=@example.csv' in one for one in file)


@pytest.fixture
def run(console_url: str) -> Callable[[str], str]:
    """Run an example as it stands, with a token; returns what it prints."""
    token = data.make_token('administrator')

    def done(example: str) -> str:
        command = ['bash', '-c', f'{example} -s -f']
        if example.startswith('import'):
            command = [sys.executable, '-c', f'token = {token!r}\n{example}']
        environment = {**os.environ, 'TOKEN': token}
        found = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
        assert found.returncode == 0, (example, found.stdout, found.stderr)
        return found.stdout

    return done


def test_they_work(
    admin_client: Callable[..., Any], console_url: str, run: Callable[[str], str], make_user: Callable[..., Any]
) -> None:
    """Run as they stand against the console: settings, a new object, an object, parameters, a command; what was typed
    is what is saved."""
    client, host = admin_client('administrator'), {'Host': console_url.partition('//')[2]}
    user = make_user('alice')
    node: Any = user.home_node

    def of(url: str, kind: str, text: str, **typed: str) -> str:
        if typed:  # what the script of the page sends while somebody types
            values = client.get(url).context['form'].initial
            sent = {
                name: 'on' if value is True else value
                for name, value in values.items()
                if value is not None and value is not False
            }
            answer = client.post(url, {**sent, **typed, 'examples': '1'}, headers=host)
        else:
            answer = client.get(url, headers=host)
        return next(one for one in shown(answer, kind) if text in one)

    settings = '/admin/messaging/messaging-settings/'
    assert '"im_enabled":true' in run(of(settings, 'curl', 'messaging-settings/')).replace(' ', '')
    run(of(settings, 'Python', 'requests.patch', suppress_offline='on'))
    domains = registry.page_url('domains')
    run(of(f'{domains}add/', 'curl', '-X POST', name='typed.example'))
    run(of(registry.page_url('end-users', 'edit', user.pk), 'Python', 'requests.patch', department='Support'))
    parameters = registry.page_url('service-parameters') + f'?node={node.pk}&service=xcp_router'
    run(of(parameters, 'curl', '-X PATCH', max_sessions_per_user='7'))
    enterprise = registry.page_url('enterprise-parameters')
    assert run(of(enterprise, 'Python', 'requests.patch'))
    assert 'domain' in run(of(domains, 'curl', 'domains/audit/'))
    saved: Any = registry.page('messaging-settings')
    assert saved.model._default_manager.get().suppress_offline is True
    assert registry.page('domains').model._default_manager.filter(name='typed.example').exists()  # type: ignore[union-attr]
    user.refresh_from_db()
    assert user.department == 'Support'
    assert parameter_values.in_force('xcp_router', node)['max_sessions_per_user'] == 7


def test_they_follow_the_form_in_a_browser(browser_page: Callable[..., Any]) -> None:
    page = browser_page('administrator')
    page.goto('/admin/messaging/messaging-settings/')
    page.locator('#by-api summary').click()
    page.get_by_text("'suppress_offline': False").wait_for()
    page.locator('#f-suppress_offline').check()
    page.get_by_text("'suppress_offline': True").wait_for()
