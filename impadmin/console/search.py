"""Console-wide search: pages, single settings and fields, service parameters, and the objects of searchable pages."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from django.db.models import Q
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils.translation import gettext

from engine.contract.services import ENTERPRISE_PARAMS, SERVICES
from impadmin.console import listview, navigation
from impadmin.console.access import Grants, grants_of, may
from impadmin.console.page import BasePage, Page, ParameterPage, SettingsPage, ViewPage
from impadmin.console.registry import page_url

EACH = 8
"""Most results of one group."""


@dataclass(slots=True)
class Hit:
    """One result: text with the match between ``before`` and ``after``, where it is, and its URL."""

    text: str
    place: str
    url: str
    icon: str
    parts: tuple[str, str, str] = ('', '', '')


@dataclass(slots=True)
class Hits:
    """One group of results."""

    title: str
    hits: list[Hit] = field(default_factory=list)


def find(who: Grants, text: str) -> list[Hits]:
    """Everything ``who`` may open that matches ``text``, in groups; empty groups are left out."""
    wanted = text.replace('\0', '').strip()[:100]
    pages = navigation.visible(who)
    groups = [Hits(gettext('Pages'), _pages(pages, wanted))]
    if wanted:
        groups.append(Hits(gettext('Settings'), _settings(pages, wanted)))
        groups += [_objects(page, wanted) for page in pages if isinstance(page, Page) and page.search]
        groups.append(Hits(gettext('Actions'), _actions(who, pages, wanted)))
    for group in groups:
        for hit in group.hits:
            hit.parts = split(hit.text, wanted)
    return [group for group in groups if group.hits]


def split(text: str, wanted: str) -> tuple[str, str, str]:
    """``text`` cut before and after the first match, for bold type."""
    start = text.lower().find(wanted.lower()) if wanted else -1
    if start < 0 or len(text) != len(text.lower()):
        return text, '', ''
    return text[:start], text[start : start + len(wanted)], text[start + len(wanted) :]


def _matches(text: str, wanted: str) -> bool:
    return wanted.casefold() in text.casefold()


def _icon(page: BasePage) -> str:
    return navigation.ICONS.get(navigation.menu_parts(page)[0], 'report')


def _pages(pages: list[BasePage], wanted: str) -> list[Hit]:
    found = []
    for page in pages:
        path = navigation.menu_path(page)
        names = (str(page.title), path, page.menu)
        if not wanted or any(_matches(name, wanted) for name in names):
            rank = 0 if _matches(str(page.title), wanted) else 1
            place = ' > '.join(gettext(part) for part in navigation.menu_parts(page)[:-1])
            found.append((rank, Hit(str(page.title), place, page_url(page), _icon(page))))
    found.sort(key=lambda pair: pair[0])
    return [hit for _, hit in found[: EACH if wanted else 3 * EACH]]


def _settings(pages: list[BasePage], wanted: str) -> list[Hit]:
    found: list[Hit] = []
    for page in pages:
        if isinstance(page, SettingsPage):
            found += _fields(page, wanted)
        elif isinstance(page, ParameterPage):
            found += _parameters(page, wanted)
        elif isinstance(page, Page) and 'edit' in page.verbs:
            found += _fields(page, wanted)
    return found[:EACH]


def _fields(page: Page | SettingsPage, wanted: str) -> list[Hit]:
    from impadmin.console.forms import editable_names, model_field

    result = []
    for name in editable_names(page):
        held = model_field(page.model, name)
        if held is not None and _matches(str(held.verbose_name), wanted):
            anchor = f'#f-{name}' if isinstance(page, SettingsPage) else ''
            result.append(Hit(str(held.verbose_name), str(page.title), page_url(page) + anchor, 'system'))
    return result


def _parameters(page: ParameterPage, wanted: str) -> list[Hit]:
    result = []
    groups = [(s.key, s.name, s.params) for s in SERVICES] if page.services else [('', '', ENTERPRISE_PARAMS)]
    for key, service, params in groups:
        for param in params:
            label = gettext(param.label)
            if _matches(label, wanted) or _matches(param.label, wanted):
                query = f'?{urlencode({"service": key})}' if key else ''
                place = ' > '.join(filter(None, (str(page.title), service and gettext(service))))
                result.append(Hit(label, place, f'{page_url(page)}{query}#f-{param.name}', 'system'))
    return result


def _objects(page: Page, wanted: str) -> Hits:
    query = Q()
    for name in page.search:
        query |= Q(**{f'{name}__icontains': wanted})
    if wanted.isdigit() and len(wanted) < 15 and page.model._meta.pk.get_internal_type().endswith('AutoField'):
        query |= Q(pk=int(wanted))
    found = listview.base_queryset(page).filter(query).order_by('pk')[:EACH]
    hits = [
        Hit(_name(page, obj, wanted), str(page.title), page_url(page, 'edit', obj.pk), _icon(page)) for obj in found
    ]
    return Hits(str(page.title), hits)


def _name(page: Page, obj: Any, wanted: str) -> str:
    """The object's name and, when the match is elsewhere, the value that matched."""
    name = str(obj)
    if _matches(name, wanted):
        return name
    for one in page.search:
        value = str(getattr(obj, one, '') or '')
        if _matches(value, wanted):
            return f'{name} – {value}'
    return name


def _actions(who: Grants, pages: list[BasePage], wanted: str) -> list[Hit]:
    found = []
    for page in pages:
        if isinstance(page, Page) and 'add' in page.verbs and may(who, page, 'add'):
            label = gettext('Add %(type)s') % {'type': page.model._meta.verbose_name}
            found.append(Hit(label, str(page.title), page_url(page, 'add'), 'plus'))
        if isinstance(page, Page | SettingsPage | ViewPage):
            found += [
                Hit(str(command.label), str(page.title), page_url(page, f'do/{command.name}'), _icon(page))
                for command in page.commands
                if command.scope == 'page'
                and may(who, page, f'do/{command.name}')
                and (command.form is not None or command.confirm is not None)
            ]
    return [hit for hit in found if _matches(hit.text, wanted)][:EACH]


def search_view(request: HttpRequest) -> HttpResponse:
    """Results as a page, as a part of the palette (htmx), or as JSON (``Accept: application/json``)."""
    text = request.GET.get('q', '')
    groups = find(grants_of(request), text)
    if request.headers.get('Accept', '').startswith('application/json'):
        return JsonResponse(
            {
                'groups': [
                    {'title': g.title, 'results': [{'text': h.text, 'place': h.place, 'url': h.url} for h in g.hits]}
                    for g in groups
                ]
            }
        )
    template = 'console/hits.html' if request.htmx else 'console/search.html'  # type: ignore[attr-defined]
    return render(request, template, {'groups': groups, 'q': text.strip(), 'title': gettext('Search')})
