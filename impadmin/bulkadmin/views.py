"""Views of the two job pages, and the files of Job Scheduler and Upload/Download Files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import render
from django.utils.translation import gettext

from impadmin.bulkadmin import contact_export, files
from impadmin.bulkadmin.forms import CATEGORIES, MATCH, OPERATORS, ContactExportForm, ExportForm, UsersForm, file_form
from impadmin.bulkadmin.inforce import import_rate, rules
from impadmin.bulkadmin.models import BulkFile
from impadmin.console import forms, jobs
from impadmin.console.access import grants_of, may
from impadmin.console.actions import Refused
from impadmin.console.bulk import csv_line, protect
from impadmin.console.models import Job, JobRow
from impadmin.console.page import Text, ViewPage
from impadmin.presence.models import PresenceSettings
from impadmin.ucm.models import EndUser

View = Callable[[HttpRequest, ViewPage], HttpResponse]
Count = Callable[[], int]
SHOWN = 50
"""Users shown by Find on the export page."""


def _writes(request: HttpRequest, page: ViewPage) -> bool:
    return may(grants_of(request), page, 'do/submit')


def maximums() -> dict[str, Any]:
    """Maximum Contact List Size and Maximum Watchers: in force, and saved where that differs."""
    force = rules()
    saved = PresenceSettings.objects.filter(pk=1).first()
    return {
        'max_contacts': force.max_contacts,
        'max_watchers': force.max_watchers,
        'saved_max_contacts': saved.max_contacts if saved else None,
        'saved_max_watchers': saved.max_watchers if saved else None,
        'limited': force.max_contacts is not None or force.max_watchers is not None,
        'differs': saved is not None
        and (saved.max_contacts, saved.max_watchers) != (force.max_contacts, force.max_watchers),
    }


def file_page(kind: str, warning: Text = '', limited: bool = False) -> View:
    """A page whose job reads a file: choose it, describe the job, submit. ``limited``: by the maximums."""

    def view(request: HttpRequest, page: ViewPage) -> HttpResponse:
        initial = {'run': 'now', 'file': request.GET.get('file', '')}
        form = file_form(kind)(initial=initial, auto_id='f-%s', label_suffix='')
        form.use_required_attribute = False
        context = {
            'page': page,
            'rows': forms.plain_rows(form),
            'has_files': BulkFile.objects.filter(transaction=kind).exists(),
            'warning': warning,
            'maximums': maximums() if limited else None,
            'rate': import_rate(),
            'writes': _writes(request, page),
        }
        return render(request, 'bulkadmin/import.html', context)

    return view


def file_api(kind: str, limited: bool = False) -> Callable[[HttpRequest], dict[str, Any]]:
    """Files that a job can read, and what it has to obey."""

    def api(request: HttpRequest) -> dict[str, Any]:
        found = BulkFile.objects.filter(transaction=kind).order_by('name')
        return {
            'files': [{'id': file.pk, 'name': file.name, 'size': file.size, 'sha256': file.sha256} for file in found],
            'contact_list_import_rate': import_rate(),
            **(maximums() if limited else {}),
        }

    return api


def everything_page(name: str, count: Count, label: Text) -> View:
    """A page whose job exports everything there is. ``name``: of the file; ``count()`` records called ``label``."""

    def view(request: HttpRequest, page: ViewPage) -> HttpResponse:
        form = ExportForm(initial={'run': 'now', 'cells': 'protect', 'name': name}, auto_id='f-%s', label_suffix='')
        form.use_required_attribute = False
        context = {
            'page': page,
            'rows': forms.plain_rows(form),
            'label': label,
            'total': count(),
            'writes': _writes(request, page),
        }
        return render(request, 'bulkadmin/export_all.html', context)

    return view


def _conditions(data: Any) -> list[list[str]]:
    """The conditions of the search sentence."""
    rows = zip(data.getlist('field'), data.getlist('operator'), data.getlist('text'), strict=False)
    return [[field, operator, text] for field, operator, text in rows if text or operator == 'empty']


def export_page(request: HttpRequest, page: ViewPage) -> HttpResponse:
    """Contact List > Export Contact List: step 1 chooses users (Find shows them), step 2 names the file."""
    data = request.GET
    asked = bool(data)
    chosen = UsersForm(
        {
            'category': data.get('category', 'all'),
            'node': data.get('node', ''),
            'match': data.get('match', 'all'),
            'conditions': _conditions(data),
        },
        auto_id='f-%s',
        label_suffix='',
    )
    chosen.use_required_attribute = False
    valid = chosen.is_valid()
    context: dict[str, Any] = {
        'page': page,
        'writes': _writes(request, page),
        'chosen': chosen,
        'asked': asked,
        'categories': CATEGORIES,
        'matches': MATCH,
        'operators': OPERATORS,
        'find_fields': [(name, EndUser._meta.get_field(name).verbose_name) for name in contact_export.FIND_FIELDS],
        'lines': [*_conditions(data), ['', 'contains', '']][:8],
        'category': data.get('category', 'all'),
        'match': data.get('match', 'all'),
        'nodes': [(node.name, node.name) for node in chosen.fields['node'].queryset],  # type: ignore[attr-defined]
        'node': data.get('node', ''),
        'problems': [str(text) for texts in chosen.errors.values() for text in texts],
    }
    if asked and valid:
        selection = chosen.cleaned_data
        node = selection['node']
        found = contact_export.users(
            selection['category'], node.pk if node else None, selection['match'], selection['conditions']
        )
        context['total'] = found.count()
        context['users'] = found.select_related('home_node').order_by('user_id')[:SHOWN]
        context['shown'] = SHOWN
        context['next'] = 'next' in data
        if 'next' in data:
            form = ContactExportForm(
                initial={'category': selection['category'], 'node': node.name if node else '',
                         'match': selection['match'], 'conditions': selection['conditions'],
                         'run': 'now', 'cells': 'protect', 'name': 'contact-lists'},
                auto_id='f-%s', label_suffix='',
            )  # fmt: skip
            form.use_required_attribute = False
            rows = forms.plain_rows(form)
            context['rows'] = [row for row in rows if row.name in ('name', 'cells', 'description', 'run')]
            context['hidden'] = [(name, form[name].value() or '') for name in ('category', 'node', 'match')]
            context['hidden'].append(('conditions', form['conditions'].value()))
    return render(request, 'bulkadmin/export.html', context)


def export_api(request: HttpRequest) -> dict[str, Any]:
    """How many users each category has."""
    return {
        'categories': {key: contact_export.users(key).count() for key in ('all', 'unassigned')},
        'find_fields': list(contact_export.FIND_FIELDS),
        'operators': [key for key, _ in OPERATORS],
    }


# ---- files


def file_content(request: HttpRequest, file: BulkFile) -> HttpResponseBase:
    """The bytes as they were uploaded or exported; ``?view=1`` shows them in the browser."""
    return files.send(request, files.path(file.pk), file.name, inline='view' in request.GET)


def file_zip(request: HttpRequest, nothing: None) -> HttpResponseBase:
    """The files named by ``?pk=`` in one ZIP archive."""
    keys = [int(key) for key in request.GET.getlist('pk') if key.isascii() and key.isdigit() and len(key) < 19]
    chosen = [file for file in BulkFile.objects.filter(pk__in=keys).order_by('name') if files.path(file.pk).exists()]
    if not chosen:
        raise Http404(gettext('Nothing is selected.'))
    response = StreamingHttpResponse(files.zipped(chosen), content_type='application/zip')
    response['Content-Disposition'] = 'attachment; filename="bulk-files.zip"'
    response['Cache-Control'] = 'private, no-store'
    return response


def _file_of(job: Job) -> BulkFile:
    pk = job.parameters.get('file') or job.counts.get('file')
    file = BulkFile.objects.filter(pk=pk or 0).first()
    if file is None:
        raise Refused(gettext('The file of the job was deleted or replaced, or is not written yet.'))
    return file


def job_csv(request: HttpRequest, job: Job) -> HttpResponseBase:
    """CSV File Name: the contents of the job's file, shown in the browser."""
    file = _file_of(job)
    return files.send(request, files.path(file.pk), file.name, inline='download' not in request.GET)


def job_log(request: HttpRequest, job: Job) -> HttpResponseBase:
    """Log File Name: the log, shown in the browser."""
    if not job.log_file:
        raise Refused(gettext('The log file is written when the job ends.'))
    return files.send(request, jobs.log_path(job), job.log_file, inline='download' not in request.GET)


def job_ignored(request: HttpRequest, job: Job) -> HttpResponseBase:
    """Line, record, result and reason of every row that was not imported, as CSV for a spreadsheet."""

    def lines() -> Iterator[str]:
        yield csv_line(('Line', 'Record', 'Result', 'Reason'))
        for row in JobRow.objects.filter(job=job).order_by('line', 'id').iterator(chunk_size=2000):
            yield csv_line((str(row.line), protect(row.subject), row.verdict, row.reason))

    response = StreamingHttpResponse(lines(), content_type='text/csv; charset=utf-8')
    response['Content-Disposition'] = f'attachment; filename="job-{job.pk}-ignored.csv"'
    response['Cache-Control'] = 'private, no-store'
    return response


def job_progress(request: HttpRequest, job: Job) -> HttpResponse:
    """The part of the job's page that changes while it runs."""
    return render(request, 'jobs/progress.html', {'object': job})
