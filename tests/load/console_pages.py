"""How fast the console answers with 75,000 users and 7.5 million contacts: every kind of page and REST, over HTTP.

    python -m tests.load.console_pages [--write docs/performance.md] [--users 75000] [--keep]

Without DATABASE_URL and REDIS_URL it starts servers of its own; a database that is given is emptied, but with
``--keep`` what a run before has filled in is used again. One console, one request at a time, no connection kept open:
what a person waits for besides the network. Beside that the CPU of the console's process for each request, which says
more when others use the machine.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode, urlsplit

from tests.load import own  # first: it completes the environment

os.environ['DJANGO_SETTINGS_MODULE'] = 'tests.settings'  # one folder, one secret key with the console it starts

import django

django.setup()

from django.db import connection, transaction  # noqa: E402
from django.db.models import Model  # noqa: E402

from impadmin.console import generations, listview, registry  # noqa: E402
from impadmin.console.access import EVERYTHING  # noqa: E402
from impadmin.console.models import AuditEntry  # noqa: E402
from impadmin.console.page import BasePage, Page, SettingsPage  # noqa: E402
from impadmin.presence.models import AdvancedSettings, Domain  # noqa: E402
from impadmin.setup import install  # noqa: E402
from impadmin.system.models import Node  # noqa: E402
from impadmin.ucm.models import EndUser, RosterItem  # noqa: E402
from tests.fixtures.browser import session_key  # noqa: E402
from tests.fixtures.processes import Console, wait_until  # noqa: E402
from tests.load import report  # noqa: E402
from tests.pages import payload  # noqa: E402

DOMAIN = 'bench.example'
GOAL = 150
"""Milliseconds: the p95 no page may pass."""
USERS = """
INSERT INTO end_user (user_id, first_name, last_name, display_name, mail, directory_uri, department,
    home_cluster, im_enabled, active, home_node_id, im_address, credentials, contact_count, watcher_count,
    roster_version, created_at, updated_at)
SELECT 'u' || n, (ARRAY['Amélie','Bob','遥','Wilhelmina','Chen'])[n % 5 + 1], 'Family' || n % 4000,
    'Person ' || n, 'u' || n || '@mail.example', 'u' || n || '@{domain}', 'Department ' || n % 90,
    true, n % 50 > 0, true, {node}, 'u' || n || '@{domain}', '{{}}', {contacts}, {contacts}, 1, now(), now()
FROM generate_series(1, {users}) AS n"""
CONTACTS = """
INSERT INTO roster_item (user_id, jid, name, groups, subscription, ask, pending_in, approved, is_contact, state)
SELECT o.id, 'u' || (o.n + k * 37) % {users} + 1 || '@{domain}', 'Person ' || k, '{{General}}', 3, false, false,
    false, true, 0
FROM (SELECT id, row_number() OVER (ORDER BY id) AS n FROM end_user) AS o, generate_series(1, {contacts}) AS k"""

CHANGES = """
INSERT INTO audit_entry (at, actor, source, channel, action, page, object_type, object_id, object_label, before, after)
SELECT now() - n * interval '1 minute', 'admin' || n % 20, '192.0.2.1', 'browser', 'update',
    'User Management > End User', 'ucm.EndUser', (SELECT max(id) FROM end_user) - n % 5000, 'u' || n % 5000,
    '{{"last_name": "Old"}}', '{{"last_name": "New"}}'
FROM generate_series(1, {changes}) AS n"""


def fill(users: int, contacts: int, changes: int) -> None:
    """A fresh system with so many users, contacts for each of them, and entries of history, by set-based inserts."""
    with connection.cursor() as cursor:
        cursor.execute('TRUNCATE end_user, roster_item, job, job_row, audit_entry CASCADE')
    install()
    AdvancedSettings.objects.update_or_create(pk=1, defaults={'default_domain': DOMAIN})
    Domain.objects.get_or_create(name=DOMAIN, key=DOMAIN)
    with transaction.atomic():
        generations.store_if_changed()
    values = {'users': users, 'contacts': contacts, 'domain': DOMAIN, 'node': Node.objects.get(publisher=True).pk}
    with connection.cursor() as cursor:
        cursor.execute(USERS.format(**values))
        cursor.execute('DROP INDEX IF EXISTS roster_item_jid')
        cursor.execute(CONTACTS.format(**values))
        cursor.execute('CREATE INDEX roster_item_jid ON roster_item (jid)')
        cursor.execute(CHANGES.format(changes=changes))
        cursor.execute('VACUUM ANALYZE')  # as autovacuum leaves it


@dataclass(frozen=True, slots=True)
class Request:
    """One request that is measured. form: what is posted, or ''."""

    kind: str
    path: str
    form: str = ''


def requests() -> Iterator[Request]:
    """Everything measured."""
    for page in registry.pages():
        yield from _of_page(page)
    users = registry.page_url('end-users')
    for query in ('sort=-last_name', 'sort=user_id&page=700', 'f=user_id&o=contains&v=99&j=and&rows=250',
                  'tab=contact-limit', 'f=last_name&o=contains&v=nobody&j=and',
                  'f=q&o=contains&v=am%C3%A9lie+family39&rows=250',
                  'f=first_name&o=contains&v=%E9%81%A5&j=and&rows=250', 'sort=home_node&rows=250'):  # fmt: skip
        yield Request('list of 75,000', f'{users}?{query}')
    for query in ('limit=100', 'limit=100&offset=74000', 'q=family399', 'last_name__contains=y39', 'user_id=u74999'):
        yield Request('REST list of 75,000', f'/api/v1/end-users/?{query}')
    for text in ('u', 'u7', 'family399', 'Amélie', 'amelie family4', '遥', 'watchers', 'nothing at all', 'u74999'):
        yield Request('search', f'/search/?q={quote(text)}')
    yield Request('help', '/help/')
    yield Request('help', '/help/?q=restart')


def _of_page(page: BasePage) -> Iterator[Request]:
    kind = 'list' if isinstance(page, Page) else 'settings' if isinstance(page, SettingsPage) else 'other views'
    yield Request('dashboard' if page.name == 'system-dashboard' else kind, registry.page_url(page))
    yield Request('help', registry.page_url(page, 'help'))
    if isinstance(page, SettingsPage):
        yield Request('history', registry.page_url(page, 'history'))
        yield Request('REST object', f'/api/v1/{page.name}/')
        yield from _preview(page, page.model._default_manager.get_or_create(pk=1)[0], registry.page_url(page))
    if not isinstance(page, Page):
        return
    yield Request('REST list', f'/api/v1/{page.name}/')
    yield Request('export', registry.page_url(page, 'export'))
    if 'add' in page.verbs:
        yield Request('add', registry.page_url(page, 'add'))
    if (one := listview.base_queryset(page, EVERYTHING).order_by('-pk').first()) is not None:
        yield Request('edit', registry.page_url(page, 'edit', one.pk))
        yield Request('REST object', f'/api/v1/{page.name}/{one.pk}/')
        if page.verbs:
            yield Request('history', registry.page_url(page, 'history', one.pk))
        if 'edit' in page.verbs and not (page.locked and page.locked(one)):
            yield from _preview(page, one, registry.page_url(page, 'edit', one.pk))


def _preview(page: Page | SettingsPage, obj: Model, url: str) -> Iterator[Request]:
    """The form as it is, previewed."""
    if values := payload.encode(page, payload.present(page, obj)):
        yield Request('preview of an edit', url, urlencode({**values, 'preview': '1'}, doseq=True))


def cpu_ms(pid: int) -> float:
    """Milliseconds of CPU that a process has used, with its threads that have ended (clock_getcpuclockid(3))."""
    return 1000 * time.clock_gettime((~pid << 3) | 2)


def measure(console: Console, request: Request, cookie: str, rounds: int) -> list[tuple[float, float]]:
    """(milliseconds, of CPU of the console) of each round. The first one, which fills caches, is left out."""
    took = []
    token = 'a' * 32
    headers = {'Cookie': f'{cookie}; csrftoken={token}', 'X-CSRFToken': token, 'Accept': '*/*'}
    for _ in range(rounds + 1):
        asked = urllib.request.Request(console.url + request.path, request.form.encode() or None, headers)  # noqa: S310
        used, began = cpu_ms(console.pid), time.perf_counter()
        with urllib.request.urlopen(asked) as answer:  # noqa: S310
            assert urlsplit(answer.url).path == urlsplit(request.path).path, f'leads to {answer.url}:'
            answer.read()
        took.append((1000 * (time.perf_counter() - began), cpu_ms(console.pid) - used))
    return took[1:]


def p95(values: list[float]) -> float:
    """The value that 95 % stay below."""
    return sorted(values)[max(0, round(0.95 * len(values)) - 1)]


def table(kinds: dict[str, list[tuple[float, float]]]) -> str:
    """Markdown: a line for each kind of page, then all together."""
    lines = [
        '| page | requests | ms, median | ms, p95 | ms, most | CPU ms, median | CPU ms, p95 |',
        '| --- | --- | --- | --- | --- | --- | --- |',
    ]
    for kind, took in {**kinds, '**all**': [one for values in kinds.values() for one in values]}.items():
        wall, cpu = [one for one, _ in took], [one for _, one in took]
        figures = (statistics.median(wall), p95(wall), max(wall), statistics.median(cpu), p95(cpu))
        lines.append(f'| {kind} | {len(took)} | ' + ' | '.join(f'{figure:.0f}' for figure in figures) + ' |')
    return '\n'.join(lines)


def main() -> None:
    """Read the options, then work with servers of its own or those given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--users', type=int, default=75_000)
    parser.add_argument('--contacts', type=int, default=100)
    parser.add_argument('--changes', type=int, default=200_000, help='entries of the history')
    parser.add_argument('--rounds', type=int, default=20)
    parser.add_argument('--keep', action='store_true')
    parser.add_argument('--write', type=Path, help='put the table into this file, e.g. docs/performance.md')
    options = parser.parse_args()
    if options.keep and own.PLACE.postgres:
        parser.error('--keep needs a database that stays: set DATABASE_URL and REDIS_URL.')
    with own.servers():
        work(options)


def work(options: argparse.Namespace) -> None:
    """Fill, measure, print a table by kind of page and every request that misses the goal."""
    if not options.keep:
        began = time.monotonic()
        fill(options.users, options.contacts, options.changes)
        print(f'filled in {time.monotonic() - began:.0f} s', flush=True)
    cookie = f'sessionid={session_key("administrator", "en")}'
    asked = list(requests())
    load = os.getloadavg()[0]
    console = Console()
    kinds: dict[str, list[tuple[float, float]]] = {}
    slow: list[tuple[float, str]] = []
    try:
        wait_until(console.ready, 'the console answers')
        for request in asked:
            try:
                took = measure(console, request, cookie, options.rounds)
            except (AssertionError, OSError) as error:  # said, and the other pages are measured
                slow.append((float('inf'), f'not measured: {error} {request.path}'))
                continue
            kinds.setdefault(request.kind, []).extend(took)
            if (found := p95([one for one, _ in took])) > GOAL:
                slow.append((found, f'{found:.0f} ms (CPU {p95([one for _, one in took]):.0f}) {request.path}'))
    finally:
        console.stop()
    missed = '\n'.join(f'- {text}' for _, text in sorted(slow, reverse=True)) or 'None.'
    text = f'{table(kinds)}\n\nRequests whose p95 is above {GOAL} ms:\n\n{missed}'
    print(text)
    if options.write:
        stored = f'{EndUser.objects.count():,} users, {RosterItem.objects.count():,} contact list entries'
        stored += f', {AuditEntry.objects.count():,} entries of history'
        at = time.strftime('%Y-%m-%d %H:%M', time.gmtime())
        loads = f'load before and after {load:.1f}, {os.getloadavg()[0]:.1f}'
        title = f'{at} UTC, {options.rounds} rounds, {stored}; {loads}.'
        report.write(options.write, title, text, report.CONSOLE)


if __name__ == '__main__':
    main()
