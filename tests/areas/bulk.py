"""What the tests of Bulk Administration share."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

from django.core.files.uploadedfile import SimpleUploadedFile

FILES = '/admin/bulkadmin/upload-download-files/'
UPDATE = '/admin/bulkadmin/contact-list-update/'
EXPORT = '/admin/bulkadmin/contact-list-export/'
JOBS = '/admin/bulkadmin/job-scheduler/'
TARGETS = {'rename_contacts': 'contacts', 'import_non_presence': 'non_presence', 'import_locations': 'locations'}
PAGES = {
    'rename_contacts': '/admin/bulkadmin/contact-list-rename/',
    'import_contacts': UPDATE,
    'import_non_presence': '/admin/bulkadmin/non-presence-import/',
    'import_locations': '/admin/bulkadmin/user-location-import/',
    'export_non_presence': '/admin/bulkadmin/non-presence-export/',
    'export_locations': '/admin/bulkadmin/user-location-export/',
}


def provisioning(state: str = 'Running') -> None:
    """The Cisco Bulk Provisioning Service of the publisher is in ``state``, as its node would report it."""
    from django.utils import timezone

    from impadmin.system.models import Node, ServiceStatus

    ServiceStatus.objects.update_or_create(
        node=Node.objects.get(publisher=True), service='bulk_provisioning',
        defaults={'state': state, 'since': timezone.now()},
    )  # fmt: skip


def csv(rows: Iterable[str]) -> bytes:
    """Rows as a file."""
    return ''.join(row + '\n' for row in rows).encode()


def upload(client: Any, name: str, data: bytes, overwrite: bool = False, transaction: str = 'import_contacts') -> Any:
    """Upload/Download Files > Add New > Save."""
    values = {
        'file': SimpleUploadedFile(name, data, 'text/csv'), 'transaction': transaction,
        'target': TARGETS.get(transaction, 'contact_lists'),
    }  # fmt: skip
    if overwrite:
        values['overwrite'] = 'on'
    return client.post(FILES + 'add/', values)


def submit(
    client: Any, name: str, run: str = 'now', description: str = '', transaction: str = 'import_contacts'
) -> Any:
    """Submit of the page of a transaction; the job, or the answer when it was refused."""
    from impadmin.console.models import Job

    answer = client.post(
        PAGES[transaction] + 'do/submit/', {'confirmed': '1', 'file': name, 'run': run, 'description': description}
    )
    return Job.objects.order_by('-pk').first() if answer.status_code == 302 else answer


def run_import(client: Any, data: bytes, name: str = 'moves.csv', transaction: str = 'import_contacts') -> Any:
    """Upload, submit and run a file; the ended job."""
    from impadmin.console import jobs

    answer = upload(client, name, data, overwrite=True, transaction=transaction)
    assert answer.status_code == 302, answer.content.decode()
    job = submit(client, name, transaction=transaction)
    jobs.work('bat')
    job.refresh_from_db()
    return job


def run_export(client: Any, transaction: str, **values: str) -> tuple[Any, bytes]:
    """Submit and run an export of everything; the ended job and its file."""
    from impadmin.console import jobs
    from impadmin.console.models import Job

    answer = client.post(PAGES[transaction] + 'do/submit/', {'confirmed': '1', 'name': 'all', **values})
    assert answer.status_code == 302, answer.content.decode()
    jobs.work('bat')
    job = Job.objects.latest('pk')
    if not job.output_file:
        return job, b''
    return job, b''.join(client.get(f'{JOBS}{job.pk}/file/csv/').streaming_content)


def log_of(client: Any, job: Any) -> str:
    """The log as Job Scheduler > Log File Name shows it."""
    answer = client.get(f'{JOBS}{job.pk}/file/log/')
    assert answer.status_code == 200
    return b''.join(answer.streaming_content).decode()


def contacts(user: Any) -> dict[str, Any]:
    """The contacts of a user by address."""
    from impadmin.ucm.models import RosterItem

    return {item.jid: item for item in RosterItem.objects.filter(user=user, is_contact=True)}


def counts_are_exact() -> None:
    """contact_count and watcher_count of every user say what the lists hold."""
    from django.db.models import Count, F, Q

    from impadmin.ucm.models import EndUser

    wrong = EndUser.objects.annotate(
        c=Count('roster', filter=Q(roster__is_contact=True)),
        w=Count('roster', filter=Q(roster__subscription__in=(2, 3))),
    ).exclude(contact_count=F('c'), watcher_count=F('w'))  # fmt: skip
    assert not list(wrong.values_list('user_id', 'contact_count', 'c', 'watcher_count', 'w'))


def settings(**values: Any) -> None:
    """Presence settings, in force (no service runs that keeps older ones)."""
    from impadmin.presence.models import PresenceSettings
    from tests.fixtures.data import publish_configuration

    PresenceSettings.objects.filter(pk=1).update(**values)
    publish_configuration()


def rows(count, start=0, user='userA'):
    """``count`` rows of one user."""
    return csv(f'{user},example.com,c{n},partner.example,,General,0' for n in range(start, start + count))


def fresh(job):
    """The job as the table has it now."""
    job.refresh_from_db()
    return job


def set_rate(rate):
    """Contact List Import Rate."""
    set_parameter('contact_list_import_rate', rate)


def set_parameter(name, value):
    """A service parameter of the Cisco Bulk Provisioning Service."""
    from impadmin.system.models import ParameterValue
    from tests.fixtures.data import publish_configuration

    ParameterValue.objects.update_or_create(
        service='bulk_provisioning', name=name, node=None, defaults={'value': value}
    )
    publish_configuration()


def twenty_thousand():
    """(csv, expected imported by user, expected reasons by line): 200 users x 100 rows, 1 % bad in every way."""
    bad = [
        (',example.com,x,partner.example,,G,0', 'Invalid format'),
        ('{u},example.com,x,partner.example,,,0', 'Invalid format'),
        ('{u},example.com,x', 'Invalid format'),
        ('{u},example.com,x,part_ner.example,,G,0', 'Invalid contact domain'),
        ('{u},example.com,{u},example.com,,G,0', 'Cannot add self as a contact'),
        ('nobody,example.com,x,partner.example,,G,0', 'User is not assigned to local node'),
        ('full,example.com,x{n},partner.example,,G,0', 'User contact list size exceeds maximum'),
    ]
    lines, reasons, good = [], {}, {}
    order = random.Random(7)
    places = set(order.sample(range(20_000), 200))
    for n in range(20_000):
        user = f'm{n % 200}'
        if n in places:
            text, reason = bad[len(reasons) % len(bad)]
            lines.append(text.format(u=user, n=n))
            reasons[n + 1] = reason
        else:
            if n % 2:
                jid = f'c{n // 200}@partner.example'
            else:
                jid = f'm{(n * 7 + n // 200 + 1) % 200}@example.com'
                if jid == f'{user}@example.com':
                    jid = f'c{n // 200}@partner.example'
            local, _, domain = jid.partition('@')
            lines.append(f'{user},example.com,{local},{domain},Contact {n},Group {n % 3},0')
            good.setdefault(user, set()).add(jid)
    return csv(lines), good, reasons
