"""Bulk Administration: Upload/Download Files, the job pages of its three menus, Job Scheduler (guide 10791-11201)."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import models
from django.utils.translation import gettext_lazy

from engine.contract.services import BULK_PROVISIONING
from impadmin.bulkadmin import actions, contact_export, contacts, files, locations, non_presence, rename, views
from impadmin.bulkadmin.forms import ContactExportForm, ExportForm, ScheduleForm, file_form
from impadmin.bulkadmin.models import BulkFile
from impadmin.console import jobs, visibility
from impadmin.console.access import Right
from impadmin.console.models import Job
from impadmin.console.page import Column, Command, Fieldset, Help, Page, ViewPage
from impadmin.console.registry import register
from impadmin.console.templatetags.jobs import MARKS


def _file_field(obj: Any) -> forms.Field:
    return forms.FileField(
        label=gettext_lazy('File'),
        help_text=gettext_lazy('CSV in UTF-8, at most 1 GiB. The name of the file is kept.'),
        max_length=200,
        allow_empty_file=True,
    )


def _overwrite_field(obj: Any) -> forms.Field:
    return forms.BooleanField(
        label=gettext_lazy('Overwrite file if it exists'),
        required=False,
        help_text=gettext_lazy('Without this, a file of the same name is refused.'),
    )


def _sample(n: int) -> dict[str, Any]:
    row = f'user{n},example.com,contact{n},example.com,Contact {n},General,0\n'
    upload = SimpleUploadedFile(f'sample-{n}.csv', row.encode(), 'text/csv')
    return {'file': upload, 'target': 'contact_lists', 'transaction': 'import_contacts'}


def _bulk_jobs() -> models.QuerySet[Job]:
    return Job.objects.filter(kind__in=jobs.listed())


FILES = Page(
    name=actions.FILES_PAGE,
    console='admin',
    area='bulkadmin',
    menu='Bulk Administration > Upload/Download Files',
    title=gettext_lazy('Upload/Download Files'),
    right=Right.BULK,
    intro=gettext_lazy('Files for bulk jobs, and the files that jobs wrote.'),
    help=Help(
        when=gettext_lazy('Before an import, to upload its CSV file; after an export, to download the result.'),
        effect=gettext_lazy('Nothing changes until a job uses the file. A file in use by a job cannot be deleted.'),
        guide='10836-10844, 10910-10932, 11037-11055',
    ),
    related=('contact-list-update', 'job-scheduler'),
    order=10,
    model=BulkFile,
    columns=(
        'name',
        'target',
        'transaction',
        Column('size', gettext_lazy('Size'), kind='bytes'),
        'uploaded_at',
        'owner',
        Column('sha256', gettext_lazy('SHA-256'), default=False),
    ),
    find=('name', 'target', 'transaction', 'owner'),
    ordering=('-uploaded_at',),
    fieldsets=(Fieldset(gettext_lazy('Upload the CSV file'), ('file', 'target', 'transaction', 'overwrite')),),
    extra={'file': _file_field, 'overwrite': _overwrite_field},
    verbs=('add', 'delete'),
    create=files.create,
    delete=files.delete,
    undeletable=files.in_use,
    commands=(
        Command(
            'download', gettext_lazy('Download Selected'), actions.download_selected, scope='selection', at_once=True
        ),
    ),
    files={'content': views.file_content, 'zip': views.file_zip},
    detail='bulkadmin/file.html',
    search=('name',),
    sample=_sample,
    bad={'target': ('nowhere',), 'transaction': ('nothing',)},
)


def _submit(run: actions.Submit, form: type[forms.Form]) -> tuple[Command, ...]:
    return (Command('submit', gettext_lazy('Submit'), run, scope='page', form=form),)


RENAME = ViewPage(
    name='contact-list-rename',
    works_through=(BULK_PROVISIONING,),
    console='admin',
    area='bulkadmin',
    menu='Bulk Administration > Contact List > Rename Contacts',
    title=gettext_lazy('Rename Contacts'),
    right=Right.BULK,
    intro=gettext_lazy('Gives contacts another IM address in the contact lists of all users.'),
    help=Help(
        when=gettext_lazy('When users come from a Microsoft server and have another address here. Never else.'),
        effect=gettext_lazy(
            'In every contact list the old address becomes the new one; name, groups and subscription stay. Block '
            'lists and privacy lists follow. Clients that are signed in see it at once.'
        ),
        guide='10826-10878',
    ),
    related=(actions.FILES_PAGE, 'contact-list-export', 'job-scheduler'),
    order=15,
    view=views.file_page(rename.KIND, warning=rename.WARNING),
    api=views.file_api(rename.KIND),
    commands=_submit(actions.submit_file(rename.KIND), file_form(rename.KIND)),
)

UPDATE = ViewPage(
    name='contact-list-update',
    works_through=(BULK_PROVISIONING,),
    console='admin',
    area='bulkadmin',
    menu='Bulk Administration > Contact List > Update',
    title=gettext_lazy('Update Contact List'),
    right=Right.BULK,
    intro=gettext_lazy(
        'Imports contacts into the contact lists of users. Contacts are added; what is in a list already stays.'
    ),
    help=Help(
        when=gettext_lazy('To fill contact lists from another system, or to add the same contacts for many people.'),
        effect=gettext_lazy(
            'A job adds the contacts and tells the clients that are signed in. Every row gets its own verdict.'
        ),
        guide='10802-10814, 11015-11082, 11143-11188',
    ),
    related=(actions.FILES_PAGE, 'standard-configuration', 'job-scheduler'),
    order=30,
    view=views.file_page(contacts.KIND, limited=True),
    api=views.file_api(contacts.KIND, limited=True),
    commands=_submit(actions.submit_file(contacts.KIND), file_form(contacts.KIND)),
)

EXPORT = ViewPage(
    name='contact-list-export',
    works_through=(BULK_PROVISIONING,),
    console='admin',
    area='bulkadmin',
    menu='Bulk Administration > Contact List > Export Contact List',
    title=gettext_lazy('Export Contact List'),
    right=Right.BULK,
    intro=gettext_lazy('Writes contact lists to a CSV file, one row for each contact and group.'),
    help=Help(
        when=gettext_lazy('To keep a copy of contact lists, or to take them to another cluster.'),
        effect=gettext_lazy('Nothing changes for users. The file can be downloaded when the job has ended.'),
        guide='10885-10957, 9297-9300',
    ),
    related=(actions.FILES_PAGE, 'job-scheduler'),
    order=20,
    view=views.export_page,
    api=views.export_api,
    commands=_submit(actions.submit_export(contact_export.KIND), ContactExportForm),
)

NON_PRESENCE_EXPORT = ViewPage(
    name='non-presence-export',
    works_through=(BULK_PROVISIONING,),
    console='admin',
    area='bulkadmin',
    menu='Bulk Administration > Non-presence Contact List > Export Non-presence Contact List',
    title=gettext_lazy('Export Non-presence Contact List'),
    right=Right.BULK,
    intro=gettext_lazy(
        'Writes the contacts without IM address of all users to a CSV file, with what is known of them.'
    ),
    help=Help(
        when=gettext_lazy('To keep a copy of these contacts, or to take them to another cluster.'),
        effect=gettext_lazy('Nothing changes for users. The file can be downloaded when the job has ended.'),
        guide='10885-10893, 10959-10982',
    ),
    related=(actions.FILES_PAGE, 'contact-list-export', 'job-scheduler'),
    order=50,
    view=views.everything_page('non-presence-contacts', non_presence.count, gettext_lazy('Non-presence contacts')),
    api=lambda request: {'contacts': non_presence.count()},
    commands=_submit(actions.submit_export(non_presence.EXPORT_KIND), ExportForm),
)

NON_PRESENCE_IMPORT = ViewPage(
    name='non-presence-import',
    works_through=(BULK_PROVISIONING,),
    console='admin',
    area='bulkadmin',
    menu='Bulk Administration > Non-presence Contact List > Import Non-presence Contact List',
    title=gettext_lazy('Import Non-presence Contact List'),
    right=Right.BULK,
    intro=gettext_lazy('Adds contacts without IM address to the contact lists of users.'),
    help=Help(
        when=gettext_lazy('To bring along the contacts without IM address of users who come from another cluster.'),
        effect=gettext_lazy(
            'The contacts stand in the lists of clients without availability; a client that asks for the vCard of one '
            'gets what the file says.'
        ),
        guide='11084-11112, 11156',
    ),
    related=(actions.FILES_PAGE, 'contact-list-update', 'job-scheduler'),
    order=60,
    view=views.file_page(non_presence.IMPORT_KIND, limited=True),
    api=views.file_api(non_presence.IMPORT_KIND, limited=True),
    commands=_submit(actions.submit_file(non_presence.IMPORT_KIND), file_form(non_presence.IMPORT_KIND)),
)

LOCATION_EXPORT = ViewPage(
    name='user-location-export',
    works_through=(BULK_PROVISIONING,),
    console='admin',
    area='bulkadmin',
    menu='Bulk Administration > User Location Migration > Export User Location Details',
    title=gettext_lazy('Export User Location Details'),
    right=Right.BULK,
    intro=gettext_lazy('Writes the locations that clients published for all users to a CSV file.'),
    help=Help(
        when=gettext_lazy('To take the locations of users to another cluster.'),
        effect=gettext_lazy('Nothing changes for users. The file can be downloaded when the job has ended.'),
        guide='10916-10932, 10984-11011',
    ),
    related=(actions.FILES_PAGE, 'user-location-import', 'job-scheduler'),
    order=70,
    view=views.everything_page('user-locations', locations.count, gettext_lazy('Locations')),
    api=lambda request: {'locations': locations.count()},
    commands=_submit(actions.submit_export(locations.EXPORT_KIND), ExportForm),
)

LOCATION_IMPORT = ViewPage(
    name='user-location-import',
    works_through=(BULK_PROVISIONING,),
    console='admin',
    area='bulkadmin',
    menu='Bulk Administration > User Location Migration > Import User Location Details',
    title=gettext_lazy('Import User Location Details'),
    right=Right.BULK,
    intro=gettext_lazy('Publishes locations in the name of their users.'),
    help=Help(
        when=gettext_lazy('To bring along the locations of users who come from another cluster.'),
        effect=gettext_lazy(
            'Clients find the locations at the account of the user. W: only those whom the user lists see them; R: '
            'those in contact list groups that the user names; O: everybody. What is stored is never opened to more '
            'people.'
        ),
        guide='11114-11141, 11157',
    ),
    related=(actions.FILES_PAGE, 'user-location-export', 'job-scheduler'),
    order=80,
    view=views.file_page(locations.IMPORT_KIND),
    api=views.file_api(locations.IMPORT_KIND),
    commands=_submit(actions.submit_file(locations.IMPORT_KIND), file_form(locations.IMPORT_KIND)),
)

JOB_SCHEDULER = Page(
    name=actions.JOBS_PAGE,
    works_through=(BULK_PROVISIONING,),
    console='admin',
    area='bulkadmin',
    menu='Bulk Administration > Job Scheduler',
    title=gettext_lazy('Job Scheduler'),
    right=Right.BULK,
    intro=gettext_lazy('Bulk jobs: what waits, what runs, and what came of those that ended.'),
    help=Help(
        when=gettext_lazy('To give a job its time, to follow it, and to read why rows were left out.'),
        effect=gettext_lazy(
            'A job runs in the background, one at a time. Stopping keeps what is done; the rest can be run again.'
        ),
        guide='10901-10904, 11174-11201, 9304-9310',
    ),
    related=(actions.FILES_PAGE, 'contact-list-update', 'standard-configuration'),
    order=90,
    model=Job,
    queryset=_bulk_jobs,
    seen_by=visibility.jobs,
    columns=(
        Column('id', gettext_lazy('Job ID'), order_by='id', kind='number'),
        Column('scheduled_at', gettext_lazy('Scheduled Time'), order_by='scheduled_at', kind='time'),
        Column('submitted_at', gettext_lazy('Submit Time'), order_by='submitted_at', kind='time'),
        'description',
        Column('transaction', gettext_lazy('Transaction'), value=lambda job: jobs.label(job.kind), order_by='kind'),
        Column(
            'state',
            gettext_lazy('Status'),
            value=lambda job: (MARKS[job.state], job.get_state_display()),
            order_by='state',
            kind='state',
        ),
        Column('submitted_by', gettext_lazy('User'), order_by='submitted_by'),
        Column('message', gettext_lazy('Message'), value=jobs.message_text, default=False),
        Column('log_file', gettext_lazy('Log File Name'), default=False),
        Column('output_file', gettext_lazy('Output File Name'), default=False),
    ),
    find=('id', 'description', 'state', 'submitted_by', 'submitted_at'),
    ordering=('-id',),
    fieldsets=(
        Fieldset(
            gettext_lazy('Job'),
            ('kind', 'description', 'state', 'submitted_by', 'submitted_at', 'scheduled_at', 'started_at', 'ended_at'),
        ),
        Fieldset(gettext_lazy('Job Results'), ('total', 'done', 'failed', 'counts', 'log_file', 'output_file')),
    ),
    read_only=(
        'kind',
        'description',
        'state',
        'submitted_by',
        'submitted_at',
        'scheduled_at',
        'started_at',
        'ended_at',
        'total',
        'done',
        'failed',
        'counts',
        'log_file',
        'output_file',
    ),
    verbs=('delete',),
    delete=actions.delete_job,
    undeletable=actions.cannot_delete,
    commands=(
        Command(
            'schedule', gettext_lazy('Set Time'), actions.schedule, form=ScheduleForm, when=actions.cannot_schedule
        ),
        Command('activate', gettext_lazy('Activate Job'), actions.activate, when=actions.cannot_activate),
        Command(
            'stop',
            gettext_lazy('Stop Job'),
            actions.stop,
            confirm=actions.stop_means,
            when=actions.cannot_stop,
            danger=True,
        ),
    ),
    files={
        'csv': views.job_csv,
        'log': views.job_log,
        'ignored': views.job_ignored,
        'progress': views.job_progress,
    },
    detail='jobs/detail.html',
    search=('description',),
    tabs=(
        ('open', gettext_lazy('Not ended'), models.Q(state__in=('hold', 'pending', 'processing'))),
        ('failed', gettext_lazy('With problems'), models.Q(state__in=('incomplete', 'failed'))),
    ),
)
register(
    FILES,
    RENAME,
    EXPORT,
    UPDATE,
    NON_PRESENCE_EXPORT,
    NON_PRESENCE_IMPORT,
    LOCATION_EXPORT,
    LOCATION_IMPORT,
    JOB_SCHEDULER,
)
