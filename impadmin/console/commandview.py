"""Commands of pages: the dialog that asks and says what would happen, and running them.

A POST with ``confirmed`` runs, any other rehearses and shows the dialog: with what a list has selected, with what a
page's own form sent, or (``preview``) with what was typed into the dialog itself. Nothing is saved by looking.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.forms import BoundField, Form
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.utils.translation import gettext

from impadmin.console import actions, forms, listview, selection
from impadmin.console.access import grants_of
from impadmin.console.actions import Preview, Refused, actor_of
from impadmin.console.editview import NAMED, must, object_of, say_done, settings_row, shown_once
from impadmin.console.page import BasePage, Command, Page, SettingsPage, ViewPage
from impadmin.console.registry import page_url

PREVIEW = 'command-preview'
"""Part of the dialog that a preview fills, so that what was typed and chosen (a file) stays."""


def command_view(request: HttpRequest, page: BasePage, command: str, pk: str | None = None) -> HttpResponse:
    """Ask for what a command needs and say what it would do, or run it."""
    must(request, page, f'do/{command}')
    declared: Sequence[Command] = page.commands if isinstance(page, Page | SettingsPage | ViewPage) else ()
    found = next((c for c in declared if c.name == command), None)
    if found is None or (found.scope == 'object') != (pk is not None):
        raise Http404
    objects, carried = _objects(request, page, found, pk)
    back = page_url(page, 'edit', pk) if pk is not None else page_url(page)
    if found.scope == 'selection' and not objects:
        messages.info(request, gettext('Nothing is selected.'))
        return HttpResponseRedirect(back)
    asked = 'preview' in request.POST
    run = request.method == 'POST' and ('confirmed' in request.POST or found.at_once) and not asked
    form = _form(request, found)
    ready = (form is not None and form.is_valid()) if found.form is not None else (asked or run or not found.at_once)
    problem = _cannot(found, objects or ([settings_row(page)] if isinstance(page, SettingsPage) else []))
    result: Any = None
    if ready and not problem:
        data = form.cleaned_data if form is not None else _posted(request)
        try:
            result = actions.do_command(actor_of(request), page, found, objects, data, dry_run=not run)
        except ValidationError as error:
            problem = _refuse(form, error)
        except Refused as error:
            problem = str(error)
    if run and result is not None:
        if result.message:
            say_done(request, page, str(result.message))
        if result.shown_once:
            return shown_once(request, page, result.shown_once, result.url or back)
        return HttpResponseRedirect(result.url or back)
    if run and found.at_once and form is None:
        messages.error(request, problem)
        return HttpResponseRedirect(back)
    drawn = form or _made(found)
    kept = _kept(found, form) if not run and not asked else []
    context = {
        'page': page,
        'command': found,
        'form': drawn,
        'rows': rows(found, drawn, kept) if drawn is not None else [],
        'hidden': [*(drawn.hidden_fields() if drawn is not None else ()), *(bound.as_hidden() for bound in kept)],
        'problems': forms.problems(form) if form is not None else [],
        'problem': problem or _hidden_problems(form),
        'preview': result if isinstance(result, Preview) else None,
        'text': found.confirm(objects) if found.confirm else '',
        'objects': objects[:NAMED] if found.scope != 'page' else [],
        'more': max(0, len(objects) - NAMED),
        'back': back,
        'action': request.get_full_path(),
        'selection': carried.get('selection', ''),
        'expected': carried.get('count', ''),
    }
    return render(request, f'console/{_template(request)}.html', context)


def _template(request: Any) -> str:
    if not request.htmx:
        return 'command'
    return 'command_preview' if request.htmx.target == PREVIEW else 'command_dialog'


def _form(request: HttpRequest, command: Command) -> Form | None:
    """The command's form with what was sent; None when it has none, or nothing of it was sent yet."""
    if command.form is None or request.method != 'POST':
        return None
    given = {*request.POST, *request.FILES}
    if not given & {'confirmed', 'preview', *command.form.base_fields}:
        return None
    return _made(command, request.POST, request.FILES)


def _made(command: Command, data: Any = None, files: Any = None) -> Form | None:
    if command.form is None:
        return None
    form = command.form(data, files, auto_id='f-%s', label_suffix='')
    form.use_required_attribute = False
    return form


def _kept(command: Command, form: Form | None) -> list[BoundField]:
    """The fields of a page's own form: they stand on the page, and the dialog only carries what is right."""
    return [b for b in (form.visible_fields() if form else ()) if not b.errors and b.name not in command.consents]


def rows(command: Command, form: Form, kept: Sequence[BoundField]) -> list[forms.Row]:
    """The fields as the dialog draws them; consents only where they were asked for or given."""
    found = []
    for row in forms.plain_rows(form):
        if row.bound is None or row.bound in kept:
            continue
        if row.name in command.consents:
            if not row.errors and not row.bound.value():
                continue
            row.help, row.errors = ' '.join(row.errors) or row.help, []
            forms.decorate(row, row.bound)
        found.append(row)
    return found


def _hidden_problems(form: Form | None) -> str:
    hidden = form.hidden_fields() if form is not None else []
    return ' '.join(str(text) for bound in hidden for text in bound.errors)


def _cannot(command: Command, subjects: Sequence[Any]) -> str:
    """Why the command cannot be used now, or ''."""
    if command.when is None:
        return ''
    return next((str(reason) for obj in subjects if (reason := command.when(obj))), '')


def _objects(
    request: HttpRequest, page: BasePage, command: Command, pk: str | None
) -> tuple[list[Any], dict[str, Any]]:
    if not isinstance(page, Page) or command.scope == 'page':
        return [], {}
    if pk is not None:
        return [object_of(page, grants_of(request), pk)], {}
    chosen = listview.selection_of(request, page)
    objects = list(listview.selected(page, grants_of(request), chosen).order_by('pk'))
    expected = request.POST.get('expected', str(len(objects)))
    if expected != str(len(objects)):
        raise Refused(gettext('The list changed in the meantime. Check the number and confirm again.'))
    return objects, {'selection': selection.sign(page, chosen), 'count': len(objects)}


def _posted(request: HttpRequest) -> dict[str, Any]:
    """What a page's own form sent: single values as text, repeated ones as lists."""
    skipped = {'csrfmiddlewaretoken', 'confirmed', 'preview', 'pk', 'mark', 'shown', 'selection', 'expected'}
    return {
        key: values[0] if len(values) == 1 else values
        for key, values in request.POST.lists()
        if key not in skipped and values
    }


def _refuse(form: Form | None, error: ValidationError) -> str:
    """Put messages at the fields of a command's form; returns the text of what belongs to none."""
    if form is None or not hasattr(error, 'error_dict'):
        return ' '.join(error.messages)
    rest = []
    for name, found in error.message_dict.items():
        if name in form.fields:
            form.add_error(name, found)
        else:
            rest += found
    return ' '.join(rest)
