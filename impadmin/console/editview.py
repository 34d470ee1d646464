"""Add, Edit, Copy, Delete, settings forms, and their impact preview, from a declaration."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from django.contrib import messages
from django.core.exceptions import ObjectDoesNotExist, PermissionDenied, ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.shortcuts import render
from django.utils.html import format_html
from django.utils.translation import gettext

from impadmin.console import actions, audit, forms, listview, notifications, stale
from impadmin.console.access import Grants, grants_of, may
from impadmin.console.actions import Preview, Refused, Stale, actor_of
from impadmin.console.page import BasePage, Page, SettingsPage
from impadmin.console.registry import page_url

NAMED = 20
"""How many objects a confirmation names one by one."""


def changes(request: HttpRequest, page: BasePage) -> bool:
    """Whether the signed-in administrator may save this page's form."""
    return may(grants_of(request), page, 'change')


def must(request: HttpRequest, page: BasePage, action: str) -> None:
    """Refuse who may not do ``action``."""
    if not may(grants_of(request), page, action):
        raise PermissionDenied(gettext('Your role does not allow this.'))


def object_of(page: Page, who: Grants, pk: str) -> Any:
    """The object of a URL; 404 when there is none that ``who`` sees or the key has no valid form."""
    try:
        key = page.model._meta.pk.to_python(pk)
        return listview.base_queryset(page, who).get(pk=key)
    except (ObjectDoesNotExist, ValidationError, ValueError, OverflowError) as error:
        raise Http404(
            gettext('There is no such %(type)s. It may have been deleted.') % {'type': page.model._meta.verbose_name}
        ) from error


def settings_row(page: SettingsPage) -> Any:
    """The one row of a settings page, made with its defaults when it is not there yet."""
    return page.model._default_manager.get_or_create(pk=1)[0]


# ---- forms


def add_view(request: HttpRequest, page: Page) -> HttpResponse:
    """Add New."""
    return _form_view(request, page, None, None)


def copy_view(request: HttpRequest, page: Page, pk: str) -> HttpResponse:
    """Add New with the values of another object."""
    return _form_view(request, page, None, object_of(page, grants_of(request), pk))


def edit_view(request: HttpRequest, page: Page, pk: str) -> HttpResponse:
    """One object: edit it, or see it when it is locked or the role only reads."""
    return _form_view(request, page, object_of(page, grants_of(request), pk), None)


def settings_view(request: HttpRequest, page: SettingsPage) -> HttpResponse:
    """A settings page."""
    return _form_view(request, page, settings_row(page), None)


KEPT = 'kept'
"""Reason of pages without Edit, or without a field to edit: the form is closed, and there is nothing to explain."""


def closed_reason(request: HttpRequest, page: Page | SettingsPage, obj: Any) -> str:
    """Why the form cannot be saved, or ''."""
    if isinstance(page, Page) and obj is not None and 'edit' not in page.verbs:
        return KEPT
    if isinstance(page, SettingsPage) and not forms.editable_names(page):
        return KEPT
    if not changes(request, page):
        return gettext('Your role may see these values but not change them.')
    if isinstance(page, Page) and obj is not None and page.locked and (reason := page.locked(obj)):
        return str(reason)
    return ''


def _form_view(request: HttpRequest, page: Page | SettingsPage, obj: Any, source: Any) -> HttpResponse:
    adding = obj is None
    if adding:
        must(request, page, 'add')
        assert isinstance(page, Page)
        if ('copy' if source is not None else 'add') not in page.verbs:
            raise Http404
    if request.method != 'POST' and request.GET.get('part') == 'panel' and page.panel and not adding:
        return render(request, page.panel, {'page': page, 'object': obj})
    closed = closed_reason(request, page, obj)
    if request.method != 'POST':
        form = forms.make(page, obj, source=source)
        return _draw(request, page, form, obj, source, closed=closed)
    if closed == KEPT:
        return HttpResponseNotAllowed(['GET', 'HEAD'])
    if closed:
        raise PermissionDenied(closed)
    form = forms.make(page, obj, request.POST, request.FILES, source)
    if 'examples' in request.POST:
        return render(request, 'console/examples_renewed.html', {'page': page, 'form': form, 'object': obj})
    given = stale.answers(request.POST) if obj is not None else stale.Answers()
    preview = 'preview' in request.POST
    other = ''
    result: Any = None
    try:
        if request.POST.get('version', form.version) != form.version:
            raise Stale
        stale.settle(form, given.picks)
        if form.is_valid():
            result = _apply(request, page, obj, form.values(), preview)
    except ValidationError as error:
        form.refuse(error)
    except Stale:
        obj, form, other = _reload(request, page, obj, given)
    except Refused as error:
        form.add_error(None, str(error))
    if given.picks and not other:
        form.choices = stale.asked_again(given, form, form.saved, form.shown, _last_editor(obj))
    if preview:
        shown = result if isinstance(result, Preview) else None
        if request.htmx:  # type: ignore[attr-defined]
            return render(request, 'console/preview.html', {'preview': shown, 'form': form, 'stale': other})
        return _draw(request, page, form, obj, source, preview=shown, previewed=True, other=other)
    if form.errors or other:
        return _draw(request, page, form, obj, source, other=other)
    if secrets := getattr(result, 'shown_once', None):
        return shown_once(request, page, secrets, page_url(page, 'edit', result.pk))
    _say_saved(request, page, result, adding, [name for name in form.changed_data if name in form.cleaned_data])
    if isinstance(page, SettingsPage):
        return HttpResponseRedirect(page_url(page))
    return HttpResponseRedirect(page_url(page, 'edit', result.pk))


def shown_once(request: HttpRequest, page: BasePage, secrets: Mapping[str, str], back: str) -> HttpResponse:
    """A new secret, in this answer and nowhere else: no message or session carries it."""
    return render(request, 'console/shown_once.html', {'page': page, 'secrets': secrets, 'back': back})


def _apply(request: HttpRequest, page: Page | SettingsPage, obj: Any, values: Mapping[str, Any], dry_run: bool) -> Any:
    actor = actor_of(request)
    expected = request.POST.get('version', '')
    if isinstance(page, SettingsPage):
        return actions.do_update_settings(actor, page, values, expected=expected, dry_run=dry_run)
    if obj is None:
        return actions.do_create(actor, page, values, dry_run=dry_run)
    return actions.do_update(actor, page, obj, values, expected=expected, dry_run=dry_run)


def _reload(
    request: HttpRequest, page: Page | SettingsPage, obj: Any, given: stale.Answers
) -> tuple[Any, forms.PageForm, str]:
    """After a stale save: the saved object as it is now, the form with both versions, and who changed it."""
    who = grants_of(request)
    fresh = settings_row(page) if isinstance(page, SettingsPage) else object_of(page, who, str(obj.pk))
    form = forms.make(page, fresh, request.POST, request.FILES)
    other = _last_editor(fresh)
    form.choices = stale.choices(given, form, form.saved, form.shown, other)
    stale.settle(form, {name: 'theirs' for name, choice in form.choices.items() if choice.pick == 'theirs'})
    return fresh, form, other


def _last_editor(obj: Any) -> str:
    return stale.last_editor(object_type=obj._meta.label, object_id=str(obj.pk))


def _draw(
    request: HttpRequest,
    page: Page | SettingsPage,
    form: forms.PageForm,
    obj: Any,
    source: Any,
    *,
    closed: str = '',
    preview: Preview | None = None,
    previewed: bool = False,
    other: str = '',
) -> HttpResponse:
    groups = form.groups(closed=bool(closed))
    context = {
        'page': page,
        'form': form,
        'groups': groups,
        'choices': [row for group in groups for row in group.rows if row.choice],
        'object': obj,
        'title': _title(page, obj, source),
        'is_settings': isinstance(page, SettingsPage),
        'adding': obj is None,
        'closed': closed,
        'note': '' if closed == KEPT else closed,
        'warning': page.warning(obj) if isinstance(page, SettingsPage) and page.warning else '',
        'problems': forms.problems(form) if form.is_bound else [],
        'changed': [name for name in form.changed_data if name in form.fields] if form.is_bound else [],
        'preview': preview,
        'previewed': previewed,
        'stale': other,
        **(_offers(grants_of(request), page, obj) if obj is not None else {}),
    }
    return render(request, 'console/edit.html', context)


def _title(page: Page | SettingsPage, obj: Any, source: Any) -> Any:
    if isinstance(page, SettingsPage):
        return page.title
    if obj is not None:
        return str(obj)
    template = gettext('Copy of %(name)s') if source is not None else gettext('Add %(type)s')
    return template % {'name': source, 'type': page.model._meta.verbose_name}


def _offers(who: Grants, page: Page | SettingsPage, obj: Any) -> dict[str, Any]:
    """What can be done with an object, and what is shown beside its form."""
    lists = isinstance(page, Page)
    verbs = page.verbs if isinstance(page, Page) else ()
    undeletable = page.undeletable if isinstance(page, Page) else None
    commands = [
        (command, str(command.when(obj)) if command.when else '')
        for command in page.commands
        if may(who, page, f'do/{command.name}')
        and not command.in_panel
        and command.scope == ('object' if lists else 'page')
    ]
    deletes = 'delete' in verbs and may(who, page, 'delete')
    kept = str(undeletable(obj)) if undeletable else ''
    impossible = [(command.name, command.label, reason) for command, reason in commands if reason]
    return {
        'commands': commands,
        'copies': 'copy' in verbs and may(who, page, 'add'),
        'deletes': deletes,
        'undeletable': kept,
        'impossible': [*impossible, *([('delete', gettext('Delete'), kept)] if deletes and kept else [])],
        'panel': page.panel,
        'history_url': page_url(page, 'history', obj.pk if lists else None),
        'shows_history': not lists or bool(verbs),
    }


# ---- what the messages say


def pending_services(page: BasePage, names: Collection[str] | None = None) -> list[str]:
    """Names of the services that must restart for what this page saved, in the order of the notifications.

    ``names``: only for these fields or parameters (the last part of a configuration path); None: for any.
    """
    found: list[str] = []
    for one in notifications.active():
        if one.kind != 'restart' or one.page != page.menu:
            continue
        touched = names is None or any(path.rpartition('.')[2] in names for path, _, _ in one.paths)
        if touched and (name := service_name(one.service)) not in found:
            found.append(name)
    return found


def service_name(key: str) -> str:
    """The product's name of a service in the active language."""
    from engine.contract.services import BY_KEY

    return gettext(BY_KEY[key].name) if key in BY_KEY else key


def _say_saved(
    request: HttpRequest, page: Page | SettingsPage, obj: Any, adding: bool, changed: Collection[str]
) -> None:
    if not changed and not adding:
        messages.info(request, gettext('Nothing was changed.'))
        return
    name = str(page.title) if isinstance(page, SettingsPage) else str(obj)
    text = gettext('%(name)s was added.') if adding else gettext('%(name)s was saved.')
    say_done(request, page, text % {'name': name}, changed if isinstance(page, SettingsPage) else None)


def say_done(request: HttpRequest, page: BasePage, text: str, names: Collection[str] | None = None) -> None:
    """A message, with the services to restart and a link to the Control Center when a restart is needed.

    ``names``: the fields that were saved, see ``pending_services``.
    """
    services = pending_services(page, names)
    if not services:
        messages.success(request, text)
        return
    restart = gettext('It takes effect after a restart of: %(services)s.') % {'services': gettext(', ').join(services)}
    url = control_center()
    link = format_html(' <a href="{}">{}</a>', url, gettext('Open the Control Center')) if url else ''
    messages.warning(request, format_html('<b>{}</b> {}{}', text, restart, link))


def control_center() -> str:
    """URL of the first Control Center page, or '' when there is none."""
    from impadmin.console import registry

    pages = [page for page in registry.pages() if 'Control Center' in page.menu]
    return page_url(pages[0]) if pages else ''


# ---- delete


def delete_view(request: HttpRequest, page: Page, pk: str) -> HttpResponse:
    """Ask, then delete one object."""
    must(request, page, 'delete')
    if 'delete' not in page.verbs:
        raise Http404
    obj = object_of(page, grants_of(request), pk)
    problem, kept = '', str(page.undeletable(obj)) if page.undeletable else ''
    impact: Preview | None = None
    try:
        if request.method == 'POST' and 'confirmed' in request.POST and not kept:
            actions.do_delete(actor_of(request), page, [obj], expected=request.POST.get('version', ''))
            say_done(request, page, gettext('%(name)s was deleted.') % {'name': obj})
            return HttpResponseRedirect(page_url(page))
        if not kept:
            impact = actions.do_delete(actor_of(request), page, [obj], dry_run=True)
    except (Refused, ValidationError) as error:
        problem = ' '.join(error.messages) if isinstance(error, ValidationError) else str(error)
    context = {
        'page': page,
        'gone': [] if kept else [obj],
        'count': 0 if kept else 1,
        'version': audit.digest(obj),
        'kept': [(obj, kept)],
        'kept_count': 1 if kept else 0,
        'impact': impact,
        'problem': problem,
        'back': page_url(page, 'edit', pk),
        'action': request.get_full_path(),
        'nouns': page.model._meta.verbose_name_plural,
    }
    template = 'console/delete_dialog.html' if request.htmx else 'console/delete.html'  # type: ignore[attr-defined]
    return render(request, template, context)
