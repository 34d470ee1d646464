"""How fast a contact list import is, beside raw psql-style COPY into the same tables, in interleaved rounds.

    python -m tests.load.import_bench [--users 2000] [--contacts 100] [--rounds 3]

Without DATABASE_URL and REDIS_URL it starts servers of its own; a database that is given is emptied. Scenarios:
external contacts (one entry per row), local contacts with automatic approval (two entries per row), the same file
again, Rename Contacts of all of them, non-presence contacts, user locations. Raw COPY: ready rows sent in 128 KiB
blocks into roster_item with all its indexes and its foreign key, and into a bare table with only the unique
(user_id, jid).
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
import uuid

import django

from tests.load import own  # first: it completes the environment

os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'impadmin.settings')
django.setup()

from django.db import connection, transaction  # noqa: E402
from django.utils import timezone  # noqa: E402

from engine.contract.services import BULK_PROVISIONING  # noqa: E402
from impadmin.bulkadmin import files  # noqa: E402
from impadmin.bulkadmin.formats import FORMATS  # noqa: E402
from impadmin.bulkadmin.models import BulkFile  # noqa: E402
from impadmin.console import generations, jobs  # noqa: E402
from impadmin.console.actions import SYSTEM  # noqa: E402
from impadmin.presence.models import AdvancedSettings, Domain, PresenceSettings  # noqa: E402
from impadmin.system.models import Node, ServiceStatus  # noqa: E402
from impadmin.ucm.models import EndUser  # noqa: E402

DOMAIN = 'bench.example'


def prepare(users: int) -> None:
    """One node, one domain, no limits, ``users`` end users with empty lists."""
    with connection.cursor() as cursor:
        cursor.execute('TRUNCATE end_user, roster_item, job, job_row, bulk_file CASCADE')
    node, _ = Node.objects.update_or_create(publisher=True, defaults={'name': 'bench', 'address': '127.0.0.1'})
    ServiceStatus.objects.update_or_create(
        node=node, service=BULK_PROVISIONING, defaults={'state': 'Running', 'since': timezone.now()}
    )
    unlimited = {'max_contacts': None, 'max_watchers': None, 'auto_approve': True}
    PresenceSettings.objects.update_or_create(pk=1, defaults=unlimited)
    AdvancedSettings.objects.update_or_create(pk=1, defaults={'default_domain': DOMAIN})
    Domain.objects.get_or_create(name=DOMAIN, key=DOMAIN)
    with transaction.atomic():
        generations.store_if_changed()
    EndUser.objects.bulk_create(
        [
            EndUser(user_id=f'u{n}', last_name=f'U{n}', im_address=f'u{n}@{DOMAIN}', home_node=node)
            for n in range(users)
        ],
        batch_size=2000,
    )


def empty() -> None:
    """All contact lists empty again, tables as after a vacuum."""
    with connection.cursor() as cursor:
        cursor.execute('TRUNCATE roster_item, pubsub_node CASCADE')
        cursor.execute('UPDATE end_user SET roster_version = 0, contact_count = 0, watcher_count = 0')
        cursor.execute('VACUUM ANALYZE end_user')
        cursor.execute('CHECKPOINT')


def contacts_csv(users: int, contacts: int, local: bool) -> bytes:
    """``users`` x ``contacts`` rows."""
    lines = []
    for user in range(users):
        for number in range(1, contacts + 1):
            if local:
                other = f'u{(user + number) % users},{DOMAIN}'
            else:
                other = f'c{(user * 7 + number) % 50_000},partner.example'
            lines.append(f'u{user},{DOMAIN},{other},Nick {number},Group {number % 5},0\n')
    return ''.join(lines).encode()


def cards_csv(users: int, contacts: int) -> bytes:
    """As many non-presence contacts, each with a card of six properties."""
    card = 'BEGIN:VCARD ADR;TYPE=WORK:;;123 Dublin rd;Galway;;;Ireland EMAIL:c%d@test.example N:Test;User NICKNAME:n%d'
    return ''.join(
        f'u{user}@{DOMAIN},{uuid.UUID(int=user << 64 | number)},Group {number % 5},text/directory,3,'
        f'{card % (number, number)} TEL;TYPE=WORK,VOICE:53235 VERSION:3.0 END:VCARD\n'
        for user in range(users)
        for number in range(contacts)
    ).encode()


def locations_csv(users: int, items: int) -> bytes:
    """As many locations."""
    return ''.join(
        f'u{user}@{DOMAIN},W,{uuid.UUID(int=user << 64 | number)},'
        f'2021-01-22 10:11:{number % 60:02}.{number:06},jabber_1,'
        f"<geoloc xmlns='http://jabber.org/protocol/geoloc'><description>place {number}</description></geoloc>\n"
        for user in range(users)
        for number in range(items)
    ).encode()


def renames_csv() -> bytes:
    """Another address for every contact of ``contacts_csv``."""
    return ''.join(f'c{n}@partner.example,r{n}@partner.example\n' for n in range(50_000)).encode()


def run_import(data: bytes, kind: str = 'import_contacts', all_rows: bool = True) -> float:
    """Seconds one import job takes, from claim to end."""
    record = BulkFile.objects.create(
        name=f'bench-{time.monotonic_ns()}.csv', target=FORMATS[kind].target, transaction=kind, owner='bench'
    )
    files.path(record.pk).write_bytes(data)
    job = jobs.submit(SYSTEM, kind, {'file': record.pk, 'name': record.name})
    began = time.perf_counter()
    jobs.work('bat')
    took = time.perf_counter() - began
    job.refresh_from_db()
    assert job.state == 'completed', (job.state, job.message)
    assert not all_rows or job.counts['imported'] == job.total, job.counts
    return took


def raw_copy(users: int, contacts: int, bare: bool) -> float:
    """Seconds of COPY of the same number of ready rows."""
    with connection.cursor() as cursor:
        cursor.execute('SELECT id FROM end_user ORDER BY id')
        ids = [row[0] for row in cursor.fetchall()]
        lines = [
            f'{ids[user]}\tc{(user * 7 + number) % 50_000}@partner.example\tNick {number}\t{{"Group {number % 5}"}}\t'
            f'0\tt\tf\tf\tt\t0\t\\N\n'
            for user in range(users)
            for number in range(1, contacts + 1)
        ]
        data = ''.join(lines).encode()
        table = 'roster_item'
        if bare:
            table = 'bench_bare'
            cursor.execute('DROP TABLE IF EXISTS bench_bare')
            cursor.execute('CREATE TABLE bench_bare (LIKE roster_item, UNIQUE (user_id, jid))')
        began = time.perf_counter()
        with cursor.copy(
            f'COPY {table} (user_id, jid, name, groups, subscription, ask, pending_in, approved, is_contact, state,'
            ' request) FROM STDIN'
        ) as copy:
            for start in range(0, len(data), 1 << 17):
                copy.write(data[start : start + (1 << 17)])
        took = time.perf_counter() - began
        cursor.execute('DROP TABLE IF EXISTS bench_bare')
    return took


def main() -> None:
    """Print rows per second of every scenario: median (least - most)."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--users', type=int, default=2000)
    parser.add_argument('--contacts', type=int, default=100)
    parser.add_argument('--rounds', type=int, default=3)
    chosen = parser.parse_args()
    with own.servers():
        measure(chosen)


def measure(chosen: argparse.Namespace) -> None:
    """All scenarios in rounds, and the table."""
    rows = chosen.users * chosen.contacts
    prepare(chosen.users)
    external = contacts_csv(chosen.users, chosen.contacts, local=False)
    local = contacts_csv(chosen.users, chosen.contacts, local=True)
    cards = cards_csv(chosen.users, chosen.contacts)
    locations = locations_csv(chosen.users, chosen.contacts)
    found: dict[str, list[float]] = {}
    for _ in range(chosen.rounds):
        empty()
        found.setdefault('raw COPY, bare table', []).append(rows / raw_copy(chosen.users, chosen.contacts, bare=True))
        empty()
        found.setdefault('raw COPY, roster_item', []).append(rows / raw_copy(chosen.users, chosen.contacts, bare=False))
        empty()
        found.setdefault('import, external contacts', []).append(rows / run_import(external))
        found.setdefault('import, the same again', []).append(rows / run_import(external))
        found.setdefault('rename contacts', []).append(rows / run_import(renames_csv(), 'rename_contacts', False))
        empty()
        found.setdefault('import, local contacts', []).append(rows / run_import(local))
        empty()
        found.setdefault('import, non-presence contacts', []).append(rows / run_import(cards, 'import_non_presence'))
        found.setdefault('import, user locations', []).append(rows / run_import(locations, 'import_locations'))
    reference = statistics.median(found['raw COPY, roster_item'])
    for name, rates in found.items():
        middle = statistics.median(rates)
        print(f'{name:30} {middle:9,.0f} rows/s ({min(rates):,.0f} - {max(rates):,.0f})  {middle / reference:6.0%}')


if __name__ == '__main__':
    main()
