"""How every page looks and behaves in a real Chromium: accessible in light and dark, 400 pixels wide, still while it
loads, light enough; and pictures of every type of page, in ``var/shots``.

``IMP_SHOTS=all pytest tests/pages/test_looks.py -k pictures`` takes every page in every language, light and dark, wide
and narrow: about a thousand pictures in ten minutes, on a busy machine in forty.
"""

from __future__ import annotations

import functools
import gzip
import os
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
from tests.fixtures.browser import LANGUAGES

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
        page.evaluate(_axe())
    options = rules | {'resultTypes': ['violations'], 'preload': False}
    found = page.evaluate('options => axe.run(document, options)', options)['violations']
    return [f'{page.url} {v["id"]}: {v["nodes"][0]["html"][:200]}' for v in found]


@functools.cache
def _axe() -> str:
    return str(Axe().axe_script)


@functools.cache
def compressed(url: str) -> int:
    """Bytes of a style sheet or script as it is sent."""
    return len(gzip.compress(Path(finders.find(url.partition('/static/')[2])).read_bytes(), 6))


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
    'list': 'end-users', 'settings': 'standard-configuration', 'control-center': 'control-center',
    'history': 'history', 'dashboard': 'system-dashboard', 'topology': 'presence-topology',
    'notifications': 'notifications', 'task-flow': 'first-set-up',
}  # fmt: skip
"""Pages that stand for their type in the pictures."""


def shifts(page: Any) -> list[Any]:
    """What moved on the page since it was loaded, and how much."""
    return [shift for shift in page.evaluate('window.shifts ?? []') if shift[0] > 0.002]


@pytest.mark.long
@pytest.mark.parametrize('half', [0, 1])
def test_every_page(half: int, organisation: None, browser_page: Callable[..., Any]) -> None:
    """Accessible in light and dark, no wider than a phone, nothing jumps, light enough; all of it in one load."""
    page = browser_page()
    page.allowed_errors += ['404']
    page.add_init_script(WATCH_SHIFTS)
    paths = [(one.name, registry.page_url(one)) for one in registry.pages()]
    found = []
    consoles: set[str] = set()
    for _, path in [*paths, *others()][half::2]:
        page.goto(path)
        assert '/login/' not in page.url
        if shifts(page):  # a busy machine now and then paints half of a page: what is wrong moves each time
            page.goto(path)
        found += [f'{path} moves: {shift}' for shift in shifts(page)]
        if (console := path.split('/')[1]) in consoles:  # its menu and bar are the same, and half of the work
            page.evaluate("document.querySelectorAll('#nav, .topbar').forEach((one) => one.replaceChildren())")
        consoles.add(console)
        found += violations(page, LIGHT)
        if page.locator('.field.is-changed').count():
            found.append(f'{path} has changes nobody made')
        page.emulate_media(color_scheme='dark')
        found += violations(page, DARK)
        page.emulate_media(color_scheme='light')
        page.set_viewport_size({'width': 400, 'height': 900})
        if (width := page.evaluate('document.documentElement.scrollWidth')) > 400:
            found.append(f'{path} is {width} pixels wide on a phone')
        page.set_viewport_size({'width': 1280, 'height': 900})
        files = page.evaluate("performance.getEntriesByType('resource').map((one) => one.name)")
        weight = sum(compressed(one) for one in files if one.endswith(('.css', '.js')))
        if not 10_000 < weight <= HEAVIEST:
            found.append(f'{path}: {weight} bytes of style sheets and scripts')
    assert not found, '\n'.join(found)


Look = tuple[str, str, Callable[[Any], None] | None]
"""Name of a picture, path, what is done before it is taken."""


def changed(page: Any) -> None:
    """A value was changed and its impact looked at."""
    page.fill('#f-max_contacts', '150')
    page.get_by_role('button').filter(has=page.locator('use[href$="#i-eye"]')).click()
    page.wait_for_selector('#preview:not([hidden]) *')


def refused(page: Any) -> None:
    """A wrong value was to be saved."""
    page.fill('#f-adhoc_ttl_s', '20')
    page.click('.savebar .btn-primary')
    page.wait_for_selector('.err')


def searched(page: Any) -> None:
    """Something is typed into the search palette."""
    page.keyboard.press('Control+k')
    page.fill('#palette input', 'con')
    page.wait_for_selector('#hits b')


def selected(page: Any) -> None:
    """Rows are selected."""
    for n in range(3):
        page.locator('tbody .ck').nth(n).check()


def asked(page: Any) -> None:
    """The deletion of an object asks first."""
    page.click('.page-head .btn-danger')
    page.wait_for_selector('dialog[open]')


def looks(everything: bool) -> Iterator[Look]:
    """What pictures are taken of: every type of page and what needs a click, or every page."""
    settings, users = registry.page_url('standard-configuration'), f'{registry.page_url("end-users")}?clear=1'
    parts = dict(others())
    yield 'preview', settings, changed
    yield 'error', settings, refused
    yield 'palette', users, searched
    yield 'selected', users, selected
    yield 'confirm', parts['object'], asked
    for name, page in TYPES.items():
        yield name, registry.page_url(page), None
    yield from ((name, path, None) for name, path in parts.items())
    if everything:
        yield from ((one.name, registry.page_url(one), None) for one in registry.pages())


def picture(page: Any, name: str, width: int) -> None:
    """Keep the page as it stands, as a window as high as the page would show it."""
    page.set_viewport_size({'width': width, 'height': 900})
    height = min(page.evaluate('document.documentElement.scrollHeight'), 3000)
    if height > 900:
        page.set_viewport_size({'width': width, 'height': height})
    page.screenshot(path=SHOTS / f'{name}.png')


EVERYTHING = os.environ.get('IMP_SHOTS') == 'all'


@pytest.mark.timeout(7200 if EVERYTHING else 300)
def test_pictures(organisation: None, browser_page: Callable[..., Any]) -> None:
    """Every type of page once, each in another combination; with ``IMP_SHOTS=all`` every page in all of them."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    pages = {language: browser_page(language=language) for language in LANGUAGES}
    ways = [(width, scheme) for width in (1280, 400) for scheme in ('light', 'dark')]
    for n, (name, path, do) in enumerate(looks(EVERYTHING)):
        for language in pages if EVERYTHING else [list(pages)[n % 3]]:
            page = pages[language]
            page.allowed_errors += ['404', 'htmx:sendAbort', 'htmx:afterRequest']  # a page left while it asks
            page.set_viewport_size({'width': 1280, 'height': 900})
            page.goto(path)
            if do:
                do(page)
            for width, scheme in ways if EVERYTHING else [ways[n % 4]]:
                page.emulate_media(color_scheme=scheme)
                picture(page, f'{name}-{language}-{width}-{scheme}', width)
    picture(browser_page(''), 'login-en-1280-light', 1280)
