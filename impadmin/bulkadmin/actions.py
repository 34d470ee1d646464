"""What the buttons of Bulk Administration do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from django.core.exceptions import ValidationError
from django.utils.translation import gettext

from impadmin.bulkadmin.models import BulkFile
from impadmin.console import jobs
from impadmin.console.actions import Actor, Refused
from impadmin.console.models import Job, JobState
from impadmin.console.page import Result
from impadmin.console.registry import page_url

JOBS_PAGE = 'job-scheduler'
FILES_PAGE = 'upload-download-files'


def _submitted(job: Job) -> Result:
    if job.state == JobState.HOLD:
        text = gettext('Job %(id)s was stored. It starts when you have set its time and activated it.')
    else:
        text = gettext('Job %(id)s was submitted.')
    return Result(text % {'id': job.pk}, page_url(JOBS_PAGE, 'edit', job.pk), {'job': job.pk, 'state': job.state})


Submit = Callable[[Actor, Sequence[Any], Mapping[str, Any]], Result]


def _submit(actor: Actor, kind: str, parameters: dict[str, Any], data: Mapping[str, Any]) -> Result:
    when: jobs.When = 'hold' if data['run'] == 'later' else 'now'
    return _submitted(jobs.submit(actor, kind, parameters, data.get('description') or '', when))


def submit_file(kind: str) -> Submit:
    """Submit of a page whose job reads a file."""

    def submit(actor: Actor, objects: Sequence[Any], data: Mapping[str, Any]) -> Result:
        # the lock keeps the file from being deleted or replaced between now and the commit
        file = BulkFile.objects.select_for_update().filter(pk=data['file'].pk).first()
        if file is None:
            raise ValidationError({'file': [gettext('The file was deleted in the meantime.')]})
        return _submit(
            actor, kind, {'file': file.pk, 'name': file.name, 'sha256': file.sha256, 'size': file.size}, data
        )

    return submit


def submit_export(kind: str) -> Submit:
    """Submit of a page whose job writes a file."""

    def submit(actor: Actor, objects: Sequence[Any], data: Mapping[str, Any]) -> Result:
        parameters = {'name': data['name'], 'safe': data['cells'] == 'protect'}
        if 'category' in data:
            node = data.get('node')
            parameters |= {name: data[name] for name in ('category', 'match', 'conditions')}
            parameters['node'] = node.pk if node else None
        return _submit(actor, kind, parameters, data)

    return submit


def schedule(actor: Actor, objects: Sequence[Job], data: Mapping[str, Any]) -> Result:
    """Job Scheduler > Save."""
    for job in objects:
        jobs.schedule(job, data.get('scheduled_at'))
    return Result(gettext('The scheduled time was saved.'))


def activate(actor: Actor, objects: Sequence[Job], data: Mapping[str, Any]) -> Result:
    """Job Scheduler > Activate Job."""
    for job in objects:
        jobs.activate(job)
    return Result(gettext('The job was activated.'))


def stop(actor: Actor, objects: Sequence[Job], data: Mapping[str, Any]) -> Result:
    """Job Scheduler > Stop Job."""
    for job in objects:
        jobs.stop(job)
    return Result(gettext('The job stops after the rows it is working on.'))


def cannot_schedule(job: Job) -> str:
    """Why the time of a job cannot change."""
    return '' if job.state in (JobState.HOLD, JobState.PENDING) else gettext('The job has already started.')


def cannot_activate(job: Job) -> str:
    """Why a job cannot be activated."""
    return '' if job.state == JobState.HOLD else gettext('Only a job on hold can be activated.')


def cannot_stop(job: Job) -> str:
    """Why a job cannot be stopped."""
    if job.state in jobs.ENDED:
        return gettext('The job has already ended.')
    return gettext('The job is already being stopped.') if job.stop_requested else ''


def stop_means(objects: Sequence[Job]) -> str:
    """What Stop Job leads to."""
    return gettext('Rows that are imported already stay. The rest is not processed; submit the job again to add it.')


def cannot_delete(job: Job) -> str:
    """Why a job cannot be deleted."""
    if job.state in (JobState.PENDING, JobState.PROCESSING):
        return gettext('The job has not ended. Stop it first.')
    return ''


def delete_job(actor: Actor, job: Job) -> None:
    """Delete a job with its rows and log file."""
    if reason := cannot_delete(job):
        raise Refused(reason)
    jobs.remove(job)


def download_selected(actor: Actor, objects: Sequence[BulkFile], data: Mapping[str, Any]) -> Result:
    """Upload/Download Files > Download Selected: one file as it is, several as a ZIP archive."""
    if len(objects) == 1:
        url = page_url(FILES_PAGE, 'edit', objects[0].pk) + 'file/content/'
    else:
        url = page_url(FILES_PAGE) + 'file/zip/?' + '&'.join(f'pk={file.pk}' for file in objects)
    return Result('', url, {'files': [file.pk for file in objects]})
