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

from impadmin.console import registry
from impadmin.console.page import Page, SettingsPage, ViewPage
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
        if isinstance(page, Page | SettingsPage) or (isinstance(page, ViewPage) and page.api is not None):
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


def test_they_work(admin_client: Callable[..., Any], console_url: str) -> None:
    """The Python of a settings page, run as it stands, saves what is there; curl reads it."""

    host = console_url.partition('//')[2]
    answer = admin_client('administrator').get('/admin/messaging/messaging-settings/', headers={'Host': host})
    token = data.make_token('administrator')
    change = next(one for one in shown(answer, 'Python') if 'requests.patch' in one)
    done = subprocess.run(
        [sys.executable, '-c', f'token = {token!r}\n{change}'], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert 'im_enabled' in done.stdout
    read = next(one for one in shown(answer, 'curl') if '-X' not in one)
    done = subprocess.run(
        ['bash', '-c', f'{read} -s -f'], capture_output=True, text=True, timeout=60, env={**os.environ, 'TOKEN': token}
    )
    assert done.returncode == 0, done.stderr
    assert 'im_enabled' in done.stdout
