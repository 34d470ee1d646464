"""Pages of bulk work: Delete Selected and Bulk Edit with previews, Export, Import, and what became of each row."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from dataclasses import asdict
from typing import Any

from django import forms as django_forms
from django.contrib import messages
from django.core import signing
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect, QueryDict
from django.shortcuts import render
from django.utils.translation import gettext, gettext_lazy, ngettext

from impadmin.console import bulkwork, editview, exports, forms, imports, listview, selection, tables
from impadmin.console.access import grants_of, may_write
from impadmin.console.actions import Refused, actor_of
from impadmin.console.bulkwork import Outcome
from impadmin.console.forms import PageForm
from impadmin.console.imports import Options, Upload
from impadmin.console.page import Page
from impadmin.console.registry import page_url

SHOWN = 100
"""Verdicts shown on a page."""
SALT = 'imp.upload'
JOBS_PAGE = 'job-scheduler'


def verdicts(page: Page, outcome: Outcome) -> dict[str, Any]:
    """Counts and rows of an outcome as ``verdicts.html`` shows them: what was refused first."""
    rows = list(zip(outcome.lines or range(1, len(outcome.told) + 1), outcome.told, strict=True))
    rows.sort(key=lambda row: (not row[1].problems, row[0]))
    return {
        'outcome': outcome,
        'numbered': bool(outcome.lines),
        'counts': [
            (mark, label, outcome.counts[name])
            for name, (mark, label) in bulkwork.LABELS.items()
            if name in outcome.counts
        ],
        'rows': [
            (line, one, bulkwork.labelled(page, one), *bulkwork.LABELS[bulkwork.word(one)])
            for line, one in rows[:SHOWN]
        ],
        'more': max(0, len(rows) - SHOWN),
        'left': outcome.preview.left if outcome.preview else 0,
        'preview': outcome.preview,
    }


# ---- what the selection is, and whether it still is


def _selected(request: HttpRequest, page: Page) -> tuple[selection.Selection, list[Any]]:
    """The selection of a form and the keys of its rows as they are now."""
    chosen = listview.selection_of(request, page)
    return chosen, list(
        listview.selected(page, grants_of(request), chosen)
        .order_by('pk')
        .values_list('pk', flat=True)[: bulkwork.MOST + 1]
    )


def _changed(request: HttpRequest, keys: list[Any]) -> str:
    """What to say when the selection has not the number of rows that was confirmed; '' when it has."""
    expected = request.POST.get('expected', str(len(keys)))
    if expected == str(len(keys)):
        return ''
    return gettext('The list changed in the meantime. Check the number and confirm again.')


def _answer(request: HttpRequest, page: Page, outcome: Outcome, title: str, done: Callable[[int], str]) -> HttpResponse:
    """After the work: to the job, back to the list with a message, or to the verdicts when some rows were refused."""
    if outcome.job is not None:
        messages.success(request, gettext('Job %(id)s was submitted.') % {'id': outcome.job.pk})
        return HttpResponseRedirect(page_url(JOBS_PAGE, 'edit', outcome.job.pk))
    made = [one for one in outcome.verdicts if not one.problems and one.action]
    selection.keep(request.user, page, selection.Selection())
    if made:
        editview.say_done(request, page, done(len(made)))
    if not any(one.problems for one in outcome.verdicts):
        if not made:
            messages.info(request, gettext('Nothing was changed.'))
        return HttpResponseRedirect(page_url(page))
    context = {'page': page, 'title': title, 'back': page_url(page), **verdicts(page, outcome)}
    return render(request, 'console/bulk_done.html', context)


def _back(request: HttpRequest, page: Page) -> str:
    """The list the selection was made in."""
    return page_url(page) + listview.read_state(page, tables.columns(page), request.GET, {}).query()


Checked = Callable[[HttpRequest, Page, selection.Selection, list[Any], str], HttpResponse]


def _of_selection(offered: Callable[[Page], Any]) -> Callable[[Checked], Callable[[HttpRequest, Page], HttpResponse]]:
    """For the form of a list: ``view(request, page, selection, keys of its rows now, what is wrong with them or '')``.
    What is refused leads back to the list; so does a GET, which has no selection. 404 unless ``offered``."""

    def decorate(view: Checked) -> Callable[[HttpRequest, Page], HttpResponse]:
        @functools.wraps(view)
        def checked(request: HttpRequest, page: Page) -> HttpResponse:
            if not offered(page):
                raise Http404
            if request.method != 'POST':
                return HttpResponseRedirect(page_url(page))
            try:
                chosen, keys = _selected(request, page)
                if not keys:
                    raise Refused(gettext('Nothing is selected.'))
                return view(request, page, chosen, keys, _changed(request, keys))
            except (Refused, ValidationError) as error:
                messages.error(request, ' '.join(error.messages) if isinstance(error, ValidationError) else str(error))
                return HttpResponseRedirect(_back(request, page))

        return checked

    return decorate


def _confirmation(
    request: HttpRequest, page: Page, chosen: selection.Selection, keys: list[Any], problem: str
) -> dict[str, Any]:
    """What a page needs that asks before it works on a selection."""
    return {
        'page': page,
        'expected': len(keys),
        'as_job': len(keys) > bulkwork.AT_ONCE,
        'problem': problem,
        'back': _back(request, page),
        'action': request.get_full_path(),
        'selection': selection.sign(page, chosen),
        'noun': page.model._meta.verbose_name,
        'nouns': page.model._meta.verbose_name_plural,
    }


# ---- Delete Selected


@_of_selection(lambda page: 'delete' in page.verbs)
def delete_view(
    request: HttpRequest, page: Page, chosen: selection.Selection, keys: list[Any], problem: str
) -> HttpResponse:
    """Ask, then delete every selected row that can be deleted."""
    rehearse = 'confirmed' not in request.POST or bool(problem)
    outcome = bulkwork.delete(actor_of(request), page, keys, dry_run=rehearse)
    if outcome.preview is None:

        def said(n: int) -> str:
            if n == 1:
                return gettext('%(name)s was deleted.') % {
                    'name': next(v.name for v in outcome.verdicts if not v.problems)
                }
            return ngettext('%(count)s entry was deleted.', '%(count)s entries were deleted.', n) % {'count': n}

        return _answer(request, page, outcome, gettext('Delete Selected'), said)
    refused = outcome.preview.refused
    count = outcome.total - len(refused)
    context = {
        **_confirmation(request, page, chosen, keys, problem),
        'gone': [one.name for one in outcome.told if not one.problems][: editview.NAMED],
        'more': max(0, count - editview.NAMED),
        'count': count,
        'kept': [(one.name, bulkwork.reasons(page, one)) for one in refused[: editview.NAMED]],
        'kept_count': len(refused),
        'impact': outcome.preview,
    }
    template = 'console/delete_dialog.html' if request.htmx else 'console/delete.html'  # type: ignore[attr-defined]
    return render(request, template, context)


# ---- Bulk Edit


def edit_form(page: Page, data: Any = None, names: Collection[str] | None = None) -> PageForm:
    """The form of Bulk Edit: those of the page's own fields that can be edited in bulk; of these only ``names``."""
    form = forms.make(page, None, data)
    for name in list(form.fields):
        if name not in bulkwork.bulk_names(page) or (names is not None and name not in names):
            del form.fields[name]
    return form


@_of_selection(bulkwork.bulk_names)
def edit_view(
    request: HttpRequest, page: Page, chosen: selection.Selection, keys: list[Any], problem: str
) -> HttpResponse:
    """Choose fields and values for the selected rows, see what would happen, then do it."""
    data = request.POST
    asked = 'preview' in data or 'confirmed' in data
    form = edit_form(page, data, data.getlist('set')) if asked else edit_form(page)
    outcome: Outcome | None = None
    if asked and form.is_valid():
        rehearse = 'confirmed' not in data or bool(problem)
        try:
            outcome = bulkwork.edit(actor_of(request), page, keys, form.values(), dry_run=rehearse)
        except Refused as error:
            problem = str(error)
    if outcome is not None and outcome.preview is None:
        return _answer(
            request, page, outcome, gettext('Bulk Edit'),
            lambda n: ngettext('%(count)s entry was changed.', '%(count)s entries were changed.', n) % {'count': n},
        )  # fmt: skip
    drawn = form
    if asked:  # every field again, those that were not chosen too
        drawn = edit_form(page, data)
        drawn.is_valid()
        drawn._errors = form.errors  # type: ignore[attr-defined]
    context = {
        **_confirmation(request, page, chosen, keys, problem),
        'title': gettext('Bulk Edit'),
        'groups': drawn.groups(),
        'set': data.getlist('set'),
        'problems': forms.problems(form) if asked else [],
        **(verdicts(page, outcome) if outcome else {}),
    }
    return render(request, 'console/bulk_edit.html', context)


# ---- Export


def export_view(request: HttpRequest, page: Page) -> HttpResponseBase:
    """The file of a list: what is selected in it (POST), else what the search of this URL finds; in its order. Without
    ``format`` the choices for it."""
    state, columns = listview.read_state(page, tables.columns(page), request.GET, {}), tables.columns(page)
    who, signed = grants_of(request), ''
    queryset = listview.found(page, who, state.conditions, state.tab)
    if request.method == 'POST':
        try:
            chosen = listview.selection_of(request, page)
            queryset = listview.selected(page, who, chosen)
        except Refused as error:
            messages.error(request, str(error))
            return HttpResponseRedirect(_back(request, page))
        if not queryset.exists():
            messages.info(request, gettext('Nothing is selected.'))
            return HttpResponseRedirect(_back(request, page))
        signed = selection.sign(page, chosen)
    options = request.POST if signed else request.GET
    if (kind := options.get('format', '')) in exports.KINDS:
        return export(request, page, queryset.order_by(*tables.ordering(page, columns, state.sort)), kind, options)
    known = exports.columns(page)
    written = [column.name for column in known if column.written]
    context = {
        'page': page,
        'title': gettext('Export'),
        'state': state,
        'columns': [(c.name, c.label, c.written or not written) for c in known],
        'count': queryset.count(),
        'back': page_url(page) + state.query(),
        'imports': imports.importable(page),
        'action': request.get_full_path(),
        'selection': signed,
    }
    return render(request, 'console/export.html', context)


def export(request: HttpRequest, page: Page, queryset: Any, kind: str, options: QueryDict) -> HttpResponseBase:
    """A file of these objects. options: ``column`` (repeated), ``bom``, ``cells`` ('original': not protected)."""
    return exports.answer(
        request,
        page,
        queryset,
        kind,
        options.getlist('column'),
        bom=bool(options.get('bom')),
        safe=options.get('cells') != 'original',
    )


# ---- Import


class ImportForm(django_forms.Form):
    """A file and what to do with its rows."""

    use_required_attribute = False
    file = django_forms.FileField(
        label=gettext_lazy('File'), allow_empty_file=True,
        help_text=gettext_lazy('CSV in UTF-8, or XLSX. The first row names the columns, as in an export.'),
    )  # fmt: skip
    new = django_forms.ChoiceField(
        label=gettext_lazy('Objects that are not there'), initial='create', widget=django_forms.RadioSelect,
        choices=(('create', gettext_lazy('Add them')), ('skip', gettext_lazy('Skip the row'))),
    )  # fmt: skip
    existing = django_forms.ChoiceField(
        label=gettext_lazy('Objects that exist'), initial='update', widget=django_forms.RadioSelect,
        choices=(('update', gettext_lazy('Change them')), ('skip', gettext_lazy('Skip the row'))),
    )  # fmt: skip
    empty = django_forms.ChoiceField(
        label=gettext_lazy('An empty cell'), initial='keep', widget=django_forms.RadioSelect,
        choices=(('keep', gettext_lazy('Leaves the value as it is')), ('clear', gettext_lazy('Empties the value'))),
        help_text=gettext_lazy('In rows that add an object, an empty cell is the default value.'),
    )  # fmt: skip


def import_view(request: HttpRequest, page: Page) -> HttpResponse:
    """Upload a file, see what it would do, then do it: few rows at once, many as a job."""
    if not imports.importable(page):
        raise Http404
    if not may_write(grants_of(request), page):
        raise PermissionDenied(gettext('Your role does not allow this.'))
    actor, context = actor_of(request), {'page': page, 'title': gettext('Import'), 'back': page_url(page)}
    again = request.POST.get('upload', '')
    form = ImportForm(request.POST or None, request.FILES or None, auto_id='f-%s', label_suffix='')
    try:
        if again:
            upload, options = _unsigned(page, again)
            if 'check' in request.POST:
                context['checking'] = imports.check(actor, page, upload, options)
            elif 'confirmed' in request.POST:
                outcome = imports.run(actor, page, upload, options)
                return _answer(
                    request, page, outcome, gettext('Import'),
                    lambda n: ngettext('%(n)s row was imported.', '%(n)s rows were imported.', n) % {'n': n},
                )  # fmt: skip
            return _tried(request, page, upload, options, context)
        if request.method == 'POST' and form.is_valid():
            values = form.cleaned_data
            options = Options(values['new'], values['existing'], values['empty'])
            return _tried(request, page, imports.store(page, values['file']), options, context)
    except ValidationError as error:
        form.add_error('file', error.message_dict['file'])
    except (Refused, PermissionDenied) as error:
        context['problem'] = str(error)
        form = ImportForm(auto_id='f-%s', label_suffix='')
    names = imports.key_names(page)
    columns = {column.name: column.label for column in exports.columns(page)}
    context |= {
        'rows': forms.plain_rows(form),
        'problems': forms.problems(form) if form.is_bound else [],
        'form': form,
        'keys': [columns[name] for name in names],
        'columns': imports.column_names(page),
    }
    return render(request, 'console/import.html', context)


def _tried(request: HttpRequest, page: Page, upload: Upload, options: Options, context: dict[str, Any]) -> HttpResponse:
    outcome = imports.run(actor_of(request), page, upload, options, dry_run=True)
    context |= {
        'upload': upload,
        'signed': signing.dumps([page.name, asdict(upload), asdict(options)], salt=SALT),
        'as_job': upload.total > bulkwork.AT_ONCE,
        **verdicts(page, outcome),
    }
    return render(request, 'console/import_check.html', context)


def _unsigned(page: Page, text: str) -> tuple[Upload, Options]:
    try:
        name, upload, options = signing.loads(text, salt=SALT, max_age=imports.KEPT_S)
    except (signing.BadSignature, ValueError):
        name = ''
    if name != page.name:
        raise Refused(gettext('The file is no longer there. Upload it again.'))
    return Upload(**upload), Options(**options)
