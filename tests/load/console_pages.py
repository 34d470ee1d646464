"""How fast the console answers with 75,000 users and 7.5 million contacts: p95 of every page, over HTTP.

    python -m tests.load.console_pages [--users 75000] [--keep]

Without DATABASE_URL and REDIS_URL it starts servers of its own; a database that is given is emptied, but with
``--keep`` what a run before has filled in is used again. One console, one browser's worth of requests at a time,
without a connection kept open: what a person waits for besides the network.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
import urllib.request
from collections.abc import Iterator
from urllib.parse import quote, urlsplit

from tests.load import own  # first: it completes the environment

os.environ['DJANGO_SETTINGS_MODULE'] = 'tests.settings'  # one folder, one secret key with the console it starts

import django

django.setup()

from django.db import connection, transaction  # noqa: E402

from impadmin.console import generations, listview, registry  # noqa: E402
from impadmin.console.access import EVERYTHING  # noqa: E402
from impadmin.console.page import Page, SettingsPage  # noqa: E402
from impadmin.presence.models import AdvancedSettings, Domain  # noqa: E402
from impadmin.setup import install  # noqa: E402
from impadmin.system.models import Node  # noqa: E402
from tests.fixtures.browser import session_key  # noqa: E402
from tests.fixtures.processes import Console, wait_until  # noqa: E402

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


def fill(users: int, contacts: int) -> None:
    """A fresh system with so many users, and contacts for each of them, by set-based inserts."""
    with connection.cursor() as cursor:
        cursor.execute('TRUNCATE end_user, roster_item, job, job_row CASCADE')
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
        cursor.execute('ANALYZE')


def addresses() -> Iterator[tuple[str, str]]:
    """(type of page, path) of everything measured."""
    for page in registry.pages():
        url = registry.page_url(page)
        yield ('settings' if isinstance(page, SettingsPage) else 'list' if isinstance(page, Page) else 'page'), url
        yield 'help', registry.page_url(page, 'help')
        if isinstance(page, Page):
            if 'add' in page.verbs:
                yield 'add', registry.page_url(page, 'add')
            if (one := listview.base_queryset(page, EVERYTHING).order_by('-pk').first()) is not None:
                yield 'object', registry.page_url(page, 'edit', one.pk)
                if page.verbs:
                    yield 'history', registry.page_url(page, 'history', one.pk)
    users = registry.page_url('end-users')
    for query in ('sort=-last_name', 'sort=user_id&page=700', 'f=user_id&o=contains&v=99&j=and&rows=250',
                  'f=last_name&o=contains&v=nobody&j=and', 'tab=contact-limit', 'sort=home_node&rows=250'):  # fmt: skip
        yield 'list of 75,000', f'{users}?{query}'
    for text in ('u7', 'family399', 'Amélie', '遥', 'watchers', 'nothing at all', 'u74999', '即时'):
        yield 'search', f'/search/?q={quote(text)}'
    yield 'help index', '/help/'
    yield 'help index', '/help/?q=restart'


def measure(url: str, path: str, cookie: str, rounds: int) -> list[float]:
    """Milliseconds of each request. The first one, which fills caches, is left out."""
    took = []
    for _ in range(rounds + 1):
        request = urllib.request.Request(url + path, headers={'Cookie': cookie})  # noqa: S310
        began = time.perf_counter()
        with urllib.request.urlopen(request) as answer:  # noqa: S310
            assert urlsplit(answer.url).path == urlsplit(path).path, f'{path} leads to {answer.url}'
            answer.read()
        took.append(1000 * (time.perf_counter() - began))
    return took[1:]


def p95(values: list[float]) -> float:
    """The value that 95 % stay below."""
    return sorted(values)[max(0, round(0.95 * len(values)) - 1)]


def main() -> None:
    """Fill, measure, print a table by type of page and every path that misses the goal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--users', type=int, default=75_000)
    parser.add_argument('--contacts', type=int, default=100)
    parser.add_argument('--rounds', type=int, default=20)
    parser.add_argument('--keep', action='store_true')
    options = parser.parse_args()
    if options.keep and own.PLACE.postgres:
        parser.error('--keep needs a database that stays: set DATABASE_URL and REDIS_URL.')
    with own.servers():
        work(options)


def work(options: argparse.Namespace) -> None:
    """Fill, measure, print."""
    if not options.keep:
        began = time.monotonic()
        fill(options.users, options.contacts)
        print(f'filled in {time.monotonic() - began:.0f} s')
    cookie = f'sessionid={session_key("administrator", "en")}'
    console = Console()
    try:
        wait_until(console.ready, 'the console answers')
        kinds: dict[str, list[float]] = {}
        slow = []
        for kind, path in addresses():
            took = measure(console.url, path, cookie, options.rounds)
            kinds.setdefault(kind, []).extend(took)
            if p95(took) > GOAL:
                slow.append(f'{p95(took):.0f} ms {path}')
    finally:
        console.stop()
    print('| page | requests | median, ms | p95, ms | most, ms |\n| --- | --- | --- | --- | --- |')
    kinds['all'] = [one for values in kinds.values() for one in values]
    for kind, took in kinds.items():
        print(f'| {kind} | {len(took)} | {statistics.median(took):.0f} | {p95(took):.0f} | {max(took):.0f} |')
    print(f'above {GOAL} ms: ' + (', '.join(slow) or 'none'))


if __name__ == '__main__':
    main()
