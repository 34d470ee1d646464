"""Bulk Edit of everything a search finds, 75,000 users, by page and by REST: rate, memory, what others wait meanwhile.

    python -m tests.load.bulk_edit [--write docs/performance.md] [--users 75000] [--keep]

Options and database are those of tests.load.console_pages. The worker is killed (SIGKILL) in the middle of the first
job and started again; afterwards every user has the new value and exactly one entry in the history.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.load import own  # first: it completes the environment

os.environ['DJANGO_SETTINGS_MODULE'] = 'tests.settings'

import django

django.setup()

from django.utils import timezone  # noqa: E402

from impadmin.console import registry  # noqa: E402
from impadmin.console.models import AuditEntry, Job, JobState  # noqa: E402
from impadmin.system.models import Node  # noqa: E402
from impadmin.ucm.models import EndUser  # noqa: E402
from tests.areas.bulk import provisioning  # noqa: E402
from tests.fixtures import data  # noqa: E402
from tests.fixtures.browser import session_key  # noqa: E402
from tests.fixtures.processes import Console, Worker, wait_until  # noqa: E402
from tests.load import report  # noqa: E402
from tests.load.console_pages import fill  # noqa: E402

USERS = registry.page_url('end-users')
SEARCH = '?f=user_id&o=begins&v=u&j=and'
"""Everybody."""


def memory(pid: int) -> float:
    """Most resident memory of a process so far, in MiB (of Celery: of the process that does the work)."""
    children = Path(f'/proc/{pid}/task/{pid}/children').read_text().split()
    found = [Path(f'/proc/{one}/status').read_text() for one in (str(pid), *children)]
    return max(int(re.findall(r'VmHWM:\s+(\d+)', text)[0]) for text in found) / 1024


class Asker(threading.Thread):
    """Somebody else who opens a page again and again; ``most`` is the longest he waited, in ms."""

    def __init__(self, console: Console, cookie: str) -> None:
        super().__init__(daemon=True)
        self.url, self.cookie, self.most, self.ends = f'{console.url}/help/', cookie, 0.0, threading.Event()

    def run(self) -> None:
        """Ask until it ends; the node goes on reporting."""
        while not self.ends.wait(0.2):
            Node.objects.update(heartbeat_at=timezone.now())
            began = time.monotonic()
            urllib.request.urlopen(urllib.request.Request(self.url, headers={'Cookie': self.cookie})).read()  # noqa: S310
            self.most = max(self.most, 1000 * (time.monotonic() - began))

    def since(self) -> float:
        """The longest wait since the last question."""
        most, self.most = self.most, 0.0
        return most


def send(console: Console, cookie: str, path: str, form: dict[str, str]) -> tuple[str, str, float]:
    """Post a form: (address it led to, page, ms)."""
    token = 'a' * 32
    headers = {'Cookie': f'{cookie}; csrftoken={token}', 'X-CSRFToken': token}
    asked = urllib.request.Request(console.url + path, urlencode(form).encode(), headers)  # noqa: S310
    began = time.monotonic()
    with urllib.request.urlopen(asked) as answer:  # noqa: S310
        return answer.url, answer.read().decode(), 1000 * (time.monotonic() - began)


def by_page(console: Console, cookie: str, value: str) -> tuple[Job, dict[str, float]]:
    """Select all found, fill in the form, look at the preview, confirm: the job, and ms of each step."""
    took: dict[str, float] = {}
    _, _, took['select all'] = send(console, cookie, f'{USERS}select/{SEARCH}', {'mark': 'all'})
    _, page, took['the form'] = send(console, cookie, f'{USERS}bulk-edit/{SEARCH}', {'shown': ''})
    form = {name: re.findall(f'name="{name}" value="([^"]*)"', page)[0] for name in ('selection', 'expected')}
    form |= {'set': 'department', 'department': value}
    _, page, took['the preview'] = send(console, cookie, f'{USERS}bulk-edit/{SEARCH}', {**form, 'preview': '1'})
    assert 'name="confirmed"' in page
    url, _, took['submit'] = send(console, cookie, f'{USERS}bulk-edit/{SEARCH}', {**form, 'confirmed': '1'})
    return Job.objects.get(pk=int(url.rstrip('/').rpartition('/')[2])), took


def by_rest(console: Console, value: str) -> tuple[Job, dict[str, float]]:
    """The same by one request, after a dry run of it."""
    took: dict[str, float] = {}
    headers = {'Authorization': f'Bearer {data.make_token("administrator")}', 'Content-Type': 'application/json'}
    body = json.dumps({'all': True, 'do': 'update', 'values': {'department': value}}).encode()
    for name, query in (('dry run', '?dry_run=true'), ('submit', '')):
        asked = urllib.request.Request(f'{console.url}/api/v1/end-users/bulk/{query}', body, headers)  # noqa: S310
        began = time.monotonic()
        with urllib.request.urlopen(asked) as answer:  # noqa: S310
            found: dict[str, Any] = json.loads(answer.read())
        took[name] = 1000 * (time.monotonic() - began)
    return Job.objects.get(pk=found['job']), took


def follow(job: Job, value: str, killed: Worker | None) -> tuple[float, float]:
    """Wait for the job, whose worker is killed in the middle if there is one to kill: (rows a second, seconds without
    a worker that worked)."""
    began, lost = time.monotonic(), 0.0
    while job.state not in (JobState.COMPLETED, JobState.FAILED, JobState.INCOMPLETE):
        time.sleep(0.1)
        job.refresh_from_db()
        if killed is not None and job.done > job.total / 2:
            killed.kill9()
            at, stopped = Job.objects.get(pk=job.pk).done, time.monotonic()
            killed.restart()
            wait_until(lambda at=at: Job.objects.get(pk=job.pk).done > at, 'the job goes on', 120)
            lost, killed = time.monotonic() - stopped, None
    seconds = time.monotonic() - began - lost
    users = EndUser.objects.filter(user_id__startswith='u')
    assert job.state == JobState.COMPLETED, job.message
    assert users.filter(department=value).count() == job.total == users.count()
    entries = AuditEntry.objects.filter(batch=f'job-{job.pk}')
    assert entries.count() == entries.values('object_id').distinct().count() == job.total, 'nothing twice'
    return job.total / seconds, lost


def measure() -> str:
    """Both ways, as Markdown."""
    cookie = f'sessionid={session_key("administrator", "en")}'
    provisioning()
    console, worker = Console(), Worker()
    lines = ['| | by page | by REST |', '| --- | --- | --- |']
    columns: list[dict[str, str]] = []
    asker = Asker(console, cookie)
    try:
        wait_until(console.ready, 'the console answers')
        wait_until(worker.ready, 'the worker takes jobs')
        asker.start()
        for way in ('page', 'REST'):
            value, before = f'{way} {int(time.time())}', memory(console.pid)
            asker.since()
            job, took = by_page(console, cookie, value) if way == 'page' else by_rest(console, value)
            found = {f'{name}, ms': f'{ms:.0f}' for name, ms in took.items()}
            found['another page meanwhile, ms at most'] = f'{asker.since():.0f}'
            found['console: memory before, most, MiB'] = f'{before:.0f}, {memory(console.pid):.0f}'
            rate, lost = follow(job, value, worker if way == 'page' else None)
            found['rows a second'] = f'{rate:.0f}'
            found['another page while the job runs, ms at most'] = f'{asker.since():.0f}'
            found['worker: most memory, MiB'] = f'{memory(worker.pid):.0f}'
            if lost:
                found['kill -9 of the worker: goes on after, s'] = f'{lost:.0f}'
            columns.append(found)
    finally:
        asker.ends.set()
        worker.stop()
        console.stop()
    names = dict.fromkeys(name for found in columns for name in found)
    return '\n'.join(
        [*lines, *(f'| {one} | ' + ' | '.join(found.get(one, '-') for found in columns) + ' |' for one in names)]
    )


def main() -> None:
    """Read the options, then work with servers of its own or those given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--users', type=int, default=75_000)
    parser.add_argument('--contacts', type=int, default=100)
    parser.add_argument('--keep', action='store_true')
    parser.add_argument('--write', type=Path, help='put the table into this file, e.g. docs/performance.md')
    options = parser.parse_args()
    if options.keep and own.PLACE.postgres:
        parser.error('--keep needs a database that stays: set DATABASE_URL and REDIS_URL.')
    with own.servers():
        if not options.keep:
            fill(options.users, options.contacts, 1000)
        text = measure()
        print(text)
        if options.write:
            at = time.strftime('%Y-%m-%d %H:%M', time.gmtime())
            title = f'{at} UTC, {EndUser.objects.count():,} users; load afterwards {os.getloadavg()[0]:.1f}.'
            report.write(options.write, title, text, report.BULK)


if __name__ == '__main__':
    main()
