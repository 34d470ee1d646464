"""The help of every page, made from its declaration, its fields and the restart rules of the engine's contract."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from django.db import models
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext

from engine.contract.params import Param
from engine.contract.services import ENTERPRISE_PARAMS, SERVICES
from impadmin.console import navigation, restarts
from impadmin.console.access import grants_of
from impadmin.console.editview import service_name
from impadmin.console.forms import display_value, fieldsets, model_field, unit_of
from impadmin.console.page import BasePage, Page, ParameterPage, SettingsPage, Text, ViewPage


@dataclass(frozen=True, slots=True)
class Entry:
    """Help on one field or parameter. ``services`` must restart before a change takes effect."""

    anchor: str
    label: str
    text: str
    facts: tuple[tuple[str, str], ...] = ()
    services: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Section:
    """Entries under one title, as on the page."""

    title: str
    entries: tuple[Entry, ...]


def sections(page: BasePage) -> list[Section]:
    """Every field of a page with its help, in the order of the page."""
    if isinstance(page, Page | SettingsPage):
        found = list(_fieldsets(page))
    elif isinstance(page, ParameterPage):
        found = list(_parameters(page))
    else:
        assert isinstance(page, ViewPage)
        found = []
    return [*found, *_commands(page)]


def services(page: BasePage) -> list[str]:
    """Names of every service that some change on this page asks to restart."""
    return list(dict.fromkeys(name for names in restarts.by_field(page).values() for name in names))


def _fieldsets(page: Page | SettingsPage) -> Iterator[Section]:
    needs = restarts.by_field(page)
    extra = page.extra if isinstance(page, Page) else {}
    writes = isinstance(page, SettingsPage) or {'add', 'edit'} & set(page.verbs)
    for group in fieldsets(page) if writes else ():
        entries = []
        facts: tuple[tuple[str, str], ...]
        for name in group.fields:
            if name in extra:
                built = extra[name](None)
                label, text, facts = built.label or name, built.help_text, ()
            elif (field := model_field(page.model, name)) is not None:
                label, text, facts = field.verbose_name, field.help_text, tuple(_facts(field))
            else:
                continue
            if text:
                entries.append(Entry(name, str(label), str(text), facts, needs.get(name, ())))
        if entries:
            yield Section(str(group.title), tuple(entries))


def _facts(field: models.Field[object, object]) -> Iterator[tuple[str, str]]:
    if unit := unit_of(field.name):
        yield gettext('Unit'), str(unit)
    if field.choices:
        yield gettext('Choices'), gettext(', ').join(str(text) for _, text in field.flatchoices)
    if field.has_default() and not callable(field.default) and field.default != '':
        yield gettext('Default'), display_value(field, field.default)


def _parameters(page: ParameterPage) -> Iterator[Section]:
    groups = [(s.name, s.key, s.params) for s in SERVICES] if page.services else [('', '', ENTERPRISE_PARAMS)]
    for name, key, params in groups:
        entries = tuple(_parameter(f'{key}.{param.name}' if key else param.name, param) for param in params)
        if entries:
            yield Section(gettext(name) if name else str(page.title), entries)


def _parameter(anchor: str, param: Param) -> Entry:
    from impadmin.console.parameterview import text_of

    facts = [(gettext('Unit'), gettext(param.unit))] if param.unit else []
    if param.low is not None and param.high is not None:
        facts.append((gettext('Range'), f'{display_value(None, param.low)} – {display_value(None, param.high)}'))
    if param.choices:
        facts.append((gettext('Choices'), gettext(', ').join(gettext(text) for _, text in param.choices)))
    facts.append((gettext('Default'), text_of(param, param.default)))
    if param.scope == 'cluster':
        facts.append((gettext('Applies to'), gettext('All servers')))
    return Entry(
        anchor,
        gettext(param.label),
        gettext(param.help),
        tuple(facts),
        tuple(map(service_name, param.restart)),
    )


def _commands(page: BasePage) -> Iterator[Section]:
    for command in page.commands if isinstance(page, Page | SettingsPage | ViewPage) else ():
        fields = command.form.base_fields if command.form is not None else {}
        entries = tuple(
            Entry(f'{command.name}.{name}', str(field.label or name), str(field.help_text))
            for name, field in fields.items()
            if field.help_text
        )
        if entries:
            yield Section(str(command.label), entries)


def page_help(request: HttpRequest, page: BasePage) -> HttpResponse:
    """The help of one page."""
    context = {
        'page': page,
        'title': page.title,
        'sections': sections(page),
        'services': services(page),
    }
    return render(request, 'console/help.html', context)


@dataclass(frozen=True, slots=True)
class Chapter:
    """The pages of one menu in the index."""

    title: Text
    pages: list[BasePage]


def index(request: HttpRequest) -> HttpResponse:
    """Every page with one sentence about it, or what the help says about ``q``."""
    from impadmin.console import search

    who = grants_of(request)
    wanted = search.clean(request.GET.get('q', ''))
    chapters: list[tuple[navigation.Console, list[Chapter]]] = []
    for console, _ in [] if wanted else navigation.consoles(who):
        menus = navigation.menus(console.key, who)
        parts = [Chapter(m.label, [leaf.page for section in m.sections for leaf in section.leaves]) for m in menus]
        chapters.append((console, parts))
    groups = search.in_help(navigation.visible(who), wanted) if wanted else []
    context = {'q': wanted, 'groups': groups, 'chapters': chapters, 'title': gettext('Help')}
    return render(request, 'console/help_index.html', context)
