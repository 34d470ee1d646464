"""Tests of directories for System Troubleshooter (guide 11240-11241)."""

from __future__ import annotations

from collections.abc import Iterator

from django.db.models import Q
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from engine.contract.services import BY_KEY, DIRSYNC
from impadmin.console.diagnosis import Check, Problem, Section, register
from impadmin.console.facts import Facts
from impadmin.console.models import Job, JobState
from impadmin.system.state import is_running
from impadmin.ucm import ldap_access, ldap_sync
from impadmin.ucm.ldap_models import LdapDirectory

SECTION = Section(gettext_lazy('LDAP'), 95)


def synchronizes(facts: Facts) -> Iterator[Problem]:
    """Cisco DirSync runs where directories wait for it."""
    if not (ldap_access.system().enabled and LdapDirectory.objects.exists()) or is_running(DIRSYNC):
        return
    text = _('%(service)s does not run on the publisher.') % {'service': BY_KEY[DIRSYNC].name}
    yield Problem(text, _('Activate it under Tools > Service Activation, or start it.'), page='service-activation')


def newest_runs(facts: Facts) -> Iterator[Problem]:
    """The newest synchronization of each directory ended well."""
    for row in LdapDirectory.objects.order_by('name'):
        job = Job.objects.filter(kind=ldap_sync.KIND, parameters__directory=row.pk).order_by('-pk').first()
        if job is not None and job.state in (JobState.FAILED, JobState.INCOMPLETE):
            text = _('The newest synchronization of %(name)s: %(message)s') % {
                'name': row, 'message': ldap_sync.jobs.message_text(job),
            }  # fmt: skip
            yield Problem(text, _('Correct it, then perform a full sync.'), pk=row.pk, since=job.ended_at)


def entries_refused(facts: Facts) -> Iterator[Problem]:
    """No entry was refused."""
    for row in LdapDirectory.objects.order_by('name'):
        job = Job.objects.filter(Q(kind=ldap_sync.KIND, parameters__directory=row.pk)).order_by('-pk').first()
        if job is not None and job.failed:
            text = _('%(name)s: entries that were refused by the newest synchronization: %(count)d.') % {
                'name': row, 'count': job.failed,
            }  # fmt: skip
            yield Problem(text, _('The log of the job names them.'), 'job-scheduler', job.pk, warning=True)


register(
    Check(name='ldap-dirsync', section=SECTION, title=gettext_lazy('Cisco DirSync runs'), page='ldap-directories',
          run=synchronizes),
    Check(name='ldap-runs', section=SECTION, title=gettext_lazy('Synchronizations end well'), page='ldap-directories',
          run=newest_runs),
    Check(name='ldap-entries', section=SECTION, title=gettext_lazy('Every entry was imported'), page='ldap-directories',
          run=entries_refused),
)  # fmt: skip
