"""How every page looks and behaves in a real Chromium: accessible in light and dark, 400 pixels wide, still while it
loads, light enough; and pictures of every type of page, in ``var/shots``.

``IMP_SHOTS=all pytest tests/pages/test_looks.py -k pictures`` takes them all: light and dark, wide and narrow, every
language.
"""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.contrib.staticfiles import finders
from django.utils import timezone

from impadmin.console import registry
from impadmin.console.models import Job
from impadmin.console.page import Page

SHOTS = Path(__file__).resolve().parents[2] / 'var' / 'shots'
LIGHT = {'runOnly': ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa']}
DARK = {'runOnly': ['color-contrast']}
HEAVIEST = 80 * 1024
"""Bytes of style sheets and scripts of one page, compressed."""
WATCH_SHIFTS = """
window.shifts = [];
new PerformanceObserver((list) => list.getEntries().forEach((one) => {
  if (!one.hadRecentInput) window.shifts.push([one.value, ...one.sources.map((source) => source.node?.className)]);
})).observe({ type: 'layout-shift', buffered: true });
"""


def violations(page: Any, rules: dict[str, Any]) -> list[str]:
    """What axe finds wrong on the page as it stands."""
    if not page.evaluate('!!window.axe'):
        page.evaluate(Axe().axe_script)
    found = page.evaluate('rules => axe.run(document, rules)', rules | {'resultTypes': ['violations']})['violations']
    return [f'{page.url} {v["id"]}: {v["nodes"][0]["html"][:200]}' for v in found]


@pytest.fixture
def organisation(make_user: Callable[..., Any], admin_client: Any) -> None:
    """People with names of every kind, a job that ended with problems, and something in the history."""
    client = admin_client()
    for name in ('sales.example.com', 'example.org'):
        client.post(registry.page_url('domains', 'add'), {'name': name})
    names = (
        ('achterberg.wilhelmina', 'Wilhelmina', 'van den Achterberg-Oosterhuis-Gómez-Trénor'),
        ('haruka', '遥', '阿部'), ('chen.wei', '伟', '陈'), ('amelie', 'Amélie', 'Zola'), ('bob', 'Bob', 'Álvarez'),
        ('d' * 60, 'Dora', 'D' * 60), ('novak', 'Jana', 'Nováková'), ('smith', 'Ann', 'Smith'),
    )  # fmt: skip
    for n, (user, first, last) in enumerate(names):
        department = 'Sales' if n % 2 else '営業部'
        make_user(user, first_name=first, last_name=last, department=department, contact_count=n * 40)
    Job.objects.create(
        kind='import_contacts', state='incomplete', description='Contact lists of the Lisbon office', total=1204,
        done=1204, failed=13, counts={'imported': 1180, 'ignored': 11, 'errors': 13}, submitted_by='admin',
        started_at=timezone.now(), ended_at=timezone.now(),
    )  # fmt: skip


def others() -> Iterator[tuple[str, str]]:
    """(name, path) of what belongs to no page, and of one object's parts."""
    users = registry.page('end-users')
    assert isinstance(users, Page)
    one = users.model._default_manager.get(user_id='achterberg.wilhelmina')
    yield 'object', registry.page_url(users, 'edit', one.pk)
    yield 'object-history', registry.page_url(users, 'history', one.pk)
    yield 'add', registry.page_url(users, 'add')
    yield 'delete', registry.page_url(users, 'delete', one.pk)
    yield 'job', registry.page_url('job-scheduler', 'edit', Job.objects.get().pk)
    yield 'parameters', f'{registry.page_url("service-parameters")}?service=xcp_connection_manager'
    yield 'help', registry.page_url('standard-configuration', 'help')
    yield 'account', '/account/'
    yield 'role', registry.page_url('roles', 'add')
    yield 'help-index', '/help/'
    yield 'search', '/search/?q=contact'
    yield 'nothing-found', f'{registry.page_url(users)}?f=user_id&o=contains&v=nobody'
    yield 'missing', '/admin/nothing/here/'


TYPES = {
    'end-users': 'list', 'standard-configuration': 'settings', 'control-center': 'control-center', 'history': 'history',
    'system-dashboard': 'dashboard', 'presence-topology': 'topology', 'notifications': 'notifications',
}  # fmt: skip
"""Pages that stand for their type in the pictures."""


def picture(page: Any, name: str, full: bool = False) -> None:
    """Keep the page as it stands."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f'{name}.png', full_page=full)


@pytest.mark.long
@pytest.mark.parametrize('half', [0, 1])
def test_every_page(half: int, organisation: None, browser_page: Callable[..., Any]) -> None:
    """Accessible in light and dark, no wider than a phone, nothing jumps; pictures of the types on the way."""
    page = browser_page()
    page.allowed_errors += ['404']
    page.add_init_script(WATCH_SHIFTS)
    paths = [(one.name, registry.page_url(one)) for one in registry.pages()]
    found = []
    for name, path in [*paths, *others()][half::2]:
        page.goto(path)
        assert '/login/' not in page.url
        found += violations(page, LIGHT)
        if page.locator('.field.is-changed').count():
            found.append(f'{path} has changes nobody made')
        if name in TYPES or name not in dict(paths):
            picture(page, f'{TYPES.get(name, name)}-light')
        page.emulate_media(color_scheme='dark')
        found += violations(page, DARK)
        page.emulate_media(color_scheme='light')
        found += [f'{path} moves: {shift}' for shift in page.evaluate('window.shifts ?? []') if shift[0] > 0.001]
        page.set_viewport_size({'width': 400, 'height': 900})
        if (width := page.evaluate('document.documentElement.scrollWidth')) > 400:
            found.append(f'{path} is {width} pixels wide on a phone')
        page.set_viewport_size({'width': 1280, 'height': 900})
    assert not found, '\n'.join(found)


def steps(page: Any, tag: str) -> None:
    """Pictures of what needs a click: search palette, impact preview, wrong value."""
    page.goto(registry.page_url('standard-configuration'))
    page.fill('#f-max_contacts', '150')
    page.get_by_role('button').filter(has=page.locator('use[href$="#i-eye"]')).click()
    page.wait_for_selector('#preview:not([hidden]) *')
    picture(page, f'preview-{tag}')
    page.goto(registry.page_url('standard-configuration'))
    page.fill('#f-adhoc_ttl_s', '20')
    page.click('.savebar .btn-primary')
    page.wait_for_selector('.err')
    picture(page, f'error-{tag}')
    page.keyboard.press('Control+k')
    page.fill('#palette input', 'con')
    page.wait_for_selector('#hits b')
    picture(page, f'palette-{tag}')


def test_pictures(organisation: None, browser_page: Callable[..., Any]) -> None:
    """One picture of each dimension; with ``IMP_SHOTS=all`` every type in every combination."""
    everything = os.environ.get('IMP_SHOTS') == 'all'
    schemes, widths, languages = ('light', 'dark'), (1280, 400), ('en', 'zh-hans', 'ja')
    chosen = [(s, w, one) for s in schemes for w in widths for one in languages] if everything else [
        ('light', 1280, 'en'), ('dark', 1280, 'zh-hans'), ('light', 400, 'ja')]  # fmt: skip
    for scheme, width, language in chosen:
        page = browser_page(scheme=scheme, width=width, language=language)
        page.allowed_errors += ['404', 'htmx:sendAbort', 'htmx:afterRequest']  # a page left while it asks for a part
        tag = '-'.join((language, str(width), scheme))
        steps(page, tag)
        for name, path in [*((TYPES[n], registry.page_url(n)) for n in TYPES), *others()] if everything else ():
            page.goto(path)
            picture(page, f'{name}-{tag}', full=width == 400)
        if not everything:
            page.goto(registry.page_url('end-users'))
            picture(page, f'list-{tag}')
        page.context.close()
    page = browser_page('')
    picture(page, 'login-light')
    print(f'pictures: {SHOTS}')


def test_style_sheets_and_scripts_are_light(admin_client: Any) -> None:
    client = admin_client()
    sizes: dict[str, int] = {}
    for one in registry.pages():
        text = client.get(registry.page_url(one)).content.decode()
        files = re.findall(r'(?:<link rel="stylesheet" href|<script src)="/static/([^"]+)"', text)
        assert 'console.css' in files
        for name in files:
            if name not in sizes:
                sizes[name] = len(gzip.compress(Path(finders.find(name)).read_bytes(), 6))
        assert sum(sizes[name] for name in files) <= HEAVIEST, (one.name, sizes)
