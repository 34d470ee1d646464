"""The synchronization of one LDAP directory: a job that reads every entry and writes users page by page.

It holds one page in memory. It can end at any moment without harm: entries are written where they differ, and users
count as vanished only after everything was read. Begun again, it begins at the first entry.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone, translation
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, gettext_noop

from engine.contract import ldap
from engine.contract.config import LdapServer
from engine.contract.services import DIRSYNC
from impadmin.console import audit, bulkwork, jobs, registry
from impadmin.console.actions import SYSTEM, Actor, Refused
from impadmin.console.jobs import JobFailed, RunningJob
from impadmin.console.models import Job, JobState
from impadmin.console.templatetags.jobs import MARKS
from impadmin.presence import change_guard
from impadmin.system.state import is_running
from impadmin.ucm import ldap_access, ldap_entries, ldap_merge
from impadmin.ucm.ldap_models import LdapDirectory, LdapSeen
from impadmin.ucm.ldap_rules import parameters

KIND = 'ldap_sync'
PAGE = 'ldap-directories'
SIZE = 500
"""Entries of one answer of the directory, and of one transaction."""
TRIES = 3
"""How often a server that does not answer is tried before the next one."""
MOST_GONE = 0.5
"""A larger share of a directory's users is not made inactive before somebody has agreed."""
SLICE_S = 0.5
OPEN = (JobState.HOLD, JobState.PENDING, JobState.PROCESSING)
DEACTIVATED = 'deactivated'
WORDS = {
    **{name: bulkwork.LABELS[name] for name in ('created', 'changed')},
    DEACTIVATED: ('warn', gettext_lazy('Made inactive')),
    **{name: bulkwork.LABELS[name] for name in ('unchanged', 'skipped', 'refused')},
}


def hindrance() -> str:
    """Why nothing can be synchronized now, or ''."""
    if not is_running(DIRSYNC):
        return _(
            'The Cisco DirSync service is not running on the publisher. Activate it under Tools > Service Activation.'
        )
    return '' if ldap_access.system().enabled else _('Synchronizing is switched off on System > LDAP > LDAP System.')


def under_way(row: LdapDirectory) -> Job | None:
    """The synchronization of a directory that has not ended."""
    return Job.objects.filter(kind=KIND, parameters__directory=row.pk, state__in=OPEN).first()


def submit(actor: Actor, row: LdapDirectory, *, deactivate: bool = False) -> Job:
    """Store the job, in a transaction that has locked ``row``. Raises Refused."""
    if reason := hindrance():
        raise Refused(reason)
    if under_way(row):
        raise Refused(_('A synchronization is already in progress.'))
    LdapDirectory.objects.filter(pk=row.pk).update(retry_at=None)
    return jobs.submit(
        actor,
        KIND,
        {'directory': row.pk, 'deactivate': deactivate, 'page': PAGE, 'language': translation.get_language() or 'en'},
        f'{jobs.label(KIND)}: {row.name}',
    )


def state(row: LdapDirectory) -> tuple[str, str]:
    """(mark, word) of the newest synchronization."""
    job = Job.objects.filter(kind=KIND, parameters__directory=row.pk).order_by('-pk').first()
    if job is None:
        return 'off', _('Never synchronized')
    return MARKS[JobState(job.state)], str(job.get_state_display())


def log_lines(job: RunningJob, state: JobState) -> Iterator[str]:
    """The log: counts, then one line for each entry that was not taken."""
    yield from jobs.log_head(job, state)
    yield f'Entries: {job.record.done}'
    for name in (*WORDS, 'referrals'):
        yield f'{name.capitalize()}: {job.counts.get(name, 0)}'
    for row in job.record.rows.order_by('line', 'id').iterator(chunk_size=2000):
        yield f'entry {row.line}: {row.subject} : {row.verdict} : {row.reason}'
    if job.counts.get('unlisted'):
        yield f'{job.counts["unlisted"]} further entries are counted above but not listed.'


@jobs.runner(KIND, label=gettext_lazy('LDAP synchronization'), queue='default', log=log_lines, words=WORDS)
def run(job: RunningJob) -> None:
    """Read the directory and write its users."""
    row = (
        LdapDirectory.objects.select_related('custom_filter', 'template').filter(pk=job.parameters['directory']).first()
    )
    if row is None:
        raise JobFailed(gettext_noop('The LDAP directory no longer exists.'))
    job.listed_rows = 10_000
    with translation.override(job.parameters['language']):
        try:
            _from_some_server(job, row)
        finally:
            LdapSeen.objects.filter(job_id=job.id).delete()


def _from_some_server(job: RunningJob, row: LdapDirectory) -> None:
    """Each server a few times, in their order; when none answers, all of it later."""
    problems: list[str] = []
    for server in ldap_access.servers(row):
        for attempt in range(TRIES):
            if attempt and not _pause(job, parameters()['host_retry_delay_s']):
                return
            try:
                if _from_server(job, row, server):
                    _settle(job, row)
                return
            except ldap.NoAnswer as error:
                problem = str(error)
            except ldap.Refusal as error:
                raise JobFailed(
                    gettext_noop('%(server)s: %(reason)s Nobody was made inactive.'),
                    server=ldap.say(server), reason=ldap_access.plain(error, row),
                ) from error  # fmt: skip
        problems.append(problem)
    later = timezone.now() + timedelta(minutes=parameters()['hostlist_retry_delay_m'])
    LdapDirectory.objects.filter(pk=row.pk).update(retry_at=later)
    raise JobFailed(
        gettext_noop('No server answered: %(problems)s. Nobody was made inactive. It is tried again at %(time)s.'),
        problems='; '.join(problems), time=timezone.localtime(later).strftime('%H:%M'),
    )  # fmt: skip


def _pause(job: RunningJob, seconds: float) -> bool:
    """Wait; False when the job is to stop."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and not job.stop_requested():
        time.sleep(min(left, SLICE_S))
    return not job.stop_requested()


def _from_server(job: RunningJob, row: LdapDirectory, server: LdapServer) -> bool:
    """Read everything from one server; False when the job is to stop. Raises ldap.NoAnswer, ldap.Refusal."""
    asked = ldap_entries.schema(row, ldap_access.system())
    _begin(job, row)
    with ldap.connected(server, ldap_access.access(row)) as directory:
        for found, referrals in ldap.pages(directory, row.search_base, asked.query, asked.asked, SIZE):
            place = job.record.done
            people = [ldap_entries.read(place + n, dn, raw, asked) for n, (dn, raw) in enumerate(found, 1)]
            _store(job, row, people, referrals)
            if job.stop_requested():
                return False
            if reason := hindrance():
                raise JobFailed(reason)
    return True


def _begin(job: RunningJob, row: LdapDirectory) -> None:
    """Nothing is read yet, whatever an earlier attempt has read. What it wrote stays counted."""
    with transaction.atomic():
        LdapSeen.objects.filter(job_id=job.id).delete()
        job.record.rows.all().delete()
        known = row.users.filter(ldap_status='active').count()
        fresh = dict.fromkeys(('unchanged', 'skipped', 'refused', 'referrals', 'listed', 'unlisted'), 0)
        job.checkpoint(0, done=0, total=known, failed=0, **fresh)


def _store(job: RunningJob, row: LdapDirectory, people: list[ldap_entries.Person], referrals: int) -> None:
    with transaction.atomic():
        try:
            change_guard.guard()
        except Refused as error:
            raise JobFailed(str(error)) from error
        counts = {name: job.counts.get(name, 0) for name in WORDS}
        for person, word, reason in ldap_merge.merge(row, job.id, people):
            counts[word] += 1
            if reason:
                job.row(person.place, person.shown, word, reason)
        done = job.record.done + len(people)
        job.checkpoint(
            job.position + 1, done=done, total=max(job.record.total, done), failed=counts['refused'],
            referrals=job.counts.get('referrals', 0) + referrals, **counts,
        )  # fmt: skip


def _settle(job: RunningJob, row: LdapDirectory) -> None:
    """Everything was read: who was not among it is gone."""
    most = 1.0 if job.parameters['deactivate'] else MOST_GONE
    with transaction.atomic():
        change_guard.guard()
        gone, held_back = ldap_merge.deactivate(row, job.id, most)
        job.checkpoint(job.position, total=job.record.done, **{DEACTIVATED: gone})
        LdapDirectory.objects.filter(pk=row.pk).update(
            synchronized_at=timezone.now(), retry_at=None, held_back=held_back
        )
        audit.record(_actor(job), 'full-sync', registry.page(PAGE), row, None, {
            name: job.counts.get(name, 0) for name in WORDS} | {DEACTIVATED: gone})  # fmt: skip
    if held_back:
        raise JobFailed(
            gettext_noop(
                'Users who were not found: %(count)s, more than half of all. They were left alone. If that is right, '
                'perform a full sync and agree.'
            ),
            count=held_back,
        )


def _actor(job: RunningJob) -> Actor:
    return Actor(job.record.submitted_by, SYSTEM.grants, f'job {job.id}', 'job')


def deactivate_all(row: LdapDirectory) -> None:
    """Make every user of a directory inactive."""
    change_guard.guard()
    ldap_merge.deactivate(row, None)


def facts(row: LdapDirectory) -> list[dict[str, Any]]:
    """The newest synchronizations, for the page of a directory."""
    found = Job.objects.filter(kind=KIND, parameters__directory=row.pk).order_by('-pk')[:5]
    return [
        {
            'job': job,
            'mark': MARKS[JobState(job.state)],
            'message': jobs.message_text(job),
            'counts': [(word, job.counts[name]) for name, (_mark, word) in WORDS.items() if job.counts.get(name)],
        }
        for job in found
    ]
