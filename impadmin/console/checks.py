"""Start-up checks of the page declarations: a bad one stops every process with a message that says where."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from django import forms as django_forms
from django.core import checks
from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured
from django.db import models
from django.template import TemplateDoesNotExist
from django.template.loader import get_template

from engine.contract.services import BY_KEY
from impadmin.console import diagnosis, filters, folding, navigation, registry
from impadmin.console.page import BasePage, Column, Page, ParameterPage, SettingsPage, ViewPage

Problem = tuple[str, str]
"""(what is wrong, what would be right)"""


def install() -> None:
    """Register the checks with Django."""
    checks.register(declarations)


def demand() -> None:
    """Raise ImproperlyConfigured when a declaration is wrong: for processes that do not run the system checks."""
    if found := declarations(None):
        raise ImproperlyConfigured('\n'.join(f'{problem.msg}. {problem.hint}' for problem in found))


def declarations(app_configs: Any, **kwargs: Any) -> list[checks.CheckMessage]:
    """Every problem of every declaration."""
    pages = registry.registered()
    found: list[checks.CheckMessage] = []
    for page in pages:
        for rule in RULES:
            found += [
                checks.Error(f'Page {page.name!r}: {what}', hint=hint, id='console.E001')
                for what, hint in rule(page, pages)
            ]
    found += [checks.Error(what, hint=hint, id='console.E002') for what, hint in diagnosis.problems()]
    return found


def _names(page: BasePage, pages: Sequence[BasePage]) -> Iterator[Problem]:
    if not page.name or not all(c.isascii() and (c.islower() or c.isdigit() or c == '-') for c in page.name):
        yield 'its name is not a slug', 'Use lower-case letters, digits and hyphens.'
    if Counter(p.name for p in pages)[page.name] > 1:
        yield 'another page has the same name', 'Names are unique over all consoles; they are the REST resources.'
    if Counter((p.console, p.menu) for p in pages)[page.console, page.menu] > 1:
        yield f'another page has the same menu path {page.menu!r}', 'One menu path opens one page.'
    if page.console not in navigation.CONSOLES:
        yield f'there is no console {page.console!r}', 'Consoles: ' + ', '.join(navigation.CONSOLES) + '.'
    if not page.menu or not all(navigation.menu_parts(page)) or len(navigation.menu_parts(page)) > 4:
        yield f'the menu path {page.menu!r} is not usable', 'One to four parts separated by " > ".'
    if not page.title:
        yield 'it has no title', 'Give the title the product shows.'
    if not page.intro or page.help is None or not page.help.when or not page.help.effect:
        yield 'it has no help', 'Give intro (what it is for) and help=Help(when=..., effect=..., guide=...).'
    if len(page.related) > 3:
        yield 'it has more than three related pages', 'Name at most three.'
    for key in page.works_through:
        if key not in BY_KEY:
            yield f'it works through the service {key!r}, which does not exist', 'Services: ' + ', '.join(BY_KEY) + '.'
    known = {p.name for p in pages}
    for name in page.related:
        if name not in known:
            yield f'its related page {name!r} does not exist', 'Name a registered page.'


def _has_field(model: type[models.Model], name: str) -> bool:
    try:
        filters.resolve(model, name)
    except (FieldDoesNotExist, AssertionError):
        return False
    return True


def _list(page: BasePage, pages: Sequence[BasePage]) -> Iterator[Problem]:
    if not isinstance(page, Page):
        return
    if not page.columns:
        yield 'it has no columns', 'Name at least one; the first links to the object.'
    names = [c.name if isinstance(c, Column) else c for c in page.columns]
    yield from _twice('column', names)
    for column in page.columns:
        if isinstance(column, str) and not _has_field(page.model, column):
            yield f'the column {column!r} is no field of {page.model.__name__}', 'Name a field or declare a Column.'
    for name in page.find:
        if not _has_field(page.model, name):
            yield f'the find field {name!r} is no field of {page.model.__name__}', 'Name a concrete model field.'
    for name in page.search:
        if not _has_field(page.model, name):
            yield f'the search field {name!r} is no field of {page.model.__name__}', 'Name a concrete model field.'
    kept, folded = folding.column(page.model)
    if kept and page.search and page.search != folded:
        yield f'search is not what the column {kept!r} is made of', f'Name the same fields: {folded}.'
    for name in page.personal:
        if not _has_field(page.model, name):
            yield f'the personal field {name!r} is no field of {page.model.__name__}', 'Name a concrete model field.'
    yield from _twice('tab', [slug for slug, _, _ in page.tabs])


def _twice(kind: str, names: Sequence[str]) -> Iterator[Problem]:
    for name, count in Counter(names).items():
        if count > 1:
            yield f'the {kind} {name!r} is there {count} times', 'Name it once.'


def _fields(page: BasePage, pages: Sequence[BasePage]) -> Iterator[Problem]:
    if not isinstance(page, Page | SettingsPage):
        return
    from impadmin.console.forms import computed, editable_names, fieldsets, model_field, shown_names

    if isinstance(page, SettingsPage) and not page.fieldsets:
        yield 'it has no fieldsets', 'Group the fields of the settings page.'
    extra = page.extra if isinstance(page, Page) else {}
    read_only = page.read_only if isinstance(page, Page) else ()
    shown = shown_names(page)
    yield from _twice('form field', shown)
    for name in shown:
        if name not in extra and not _is_attribute(page.model, name) and computed(page, name) is None:
            yield f'the form field {name!r} is no field of {page.model.__name__}', 'Name a field or an extra field.'
    for name in (*read_only, *(page.copy_clear if isinstance(page, Page) else ())):
        if not _is_attribute(page.model, name) and computed(page, name) is None:
            yield f'{name!r} is no field of {page.model.__name__}', 'Name a model field.'
    writes = isinstance(page, SettingsPage) or {'add', 'edit'} & set(page.verbs)
    for name in editable_names(page) if writes else ():
        found = model_field(page.model, name)
        assert found is not None
        if not _own_label(found):
            yield f'the field {name!r} has no label', 'Give the model field a verbose_name: the product’s label.'
        if not found.help_text:
            yield f'the field {name!r} has no help', 'Give the model field a help_text in a short plain sentence.'
    for name, factory in extra.items():
        built = factory(None)
        if not isinstance(built, django_forms.Field):
            yield f'the extra field {name!r} is no form field', 'Its factory returns a django.forms.Field.'
        elif not built.label or not built.help_text:
            yield f'the extra field {name!r} has no label or help', 'Give label and help_text.'
        if name not in shown:
            yield f'the extra field {name!r} is in no fieldset', 'Name it in a fieldset.'
    if unknown := set(page.consents if isinstance(page, Page) else ()) - set(extra):
        yield f'there is no extra field {min(unknown)!r}', 'Name consents of extra.'
    for name in page.choices if isinstance(page, Page) else ():
        if not isinstance(model_field(page.model, name), models.ForeignKey):
            yield f'{name!r} is no reference', 'Name references in choices.'
    if not fieldsets(page)[0].title:
        yield 'its first fieldset has no title', 'Give every fieldset a title.'
    for name in (*(page.bulk or ()), *page.key) if isinstance(page, Page) else ():
        if name not in editable_names(page):
            yield f'{name!r} is no field that the page writes', 'Name written model fields in bulk and key.'
    for name in page.bad:
        if name not in shown:
            yield f'the bad values name {name!r}, which is not on the form', 'Name a field of the form.'


def _is_attribute(model: type[models.Model], name: str) -> bool:
    return _has_field(model, name) or hasattr(model, name)


def _own_label(found: models.Field[Any, Any]) -> bool:
    """Whether the label was given: Django makes one from the name otherwise."""
    return str(found.verbose_name) != found.name.replace('_', ' ')


def _samples(page: BasePage, pages: Sequence[BasePage]) -> Iterator[Problem]:
    if isinstance(page, Page) and 'add' in page.verbs and page.sample is None:
        yield 'it can add but has no sample', 'Give sample(n) -> valid values: the generated tests need them.'
    if isinstance(page, Page) and 'copy' in page.verbs and 'add' not in page.verbs:
        yield 'it can copy but not add', 'A copy is saved by add.'


def _commands(page: BasePage, pages: Sequence[BasePage]) -> Iterator[Problem]:
    if not isinstance(page, Page | SettingsPage | ViewPage):
        return
    yield from _twice('command', [c.name for c in page.commands])
    for command in page.commands:
        if not isinstance(page, Page) and command.scope != 'page':
            yield f'the command {command.name!r} has scope {command.scope!r}', 'Only lists have objects to act on.'
        if not command.label:
            yield f'the command {command.name!r} has no label', 'Give the text of its button.'
        if command.danger and command.at_once:
            yield f'the command {command.name!r} is dangerous and does not ask', 'Leave out at_once.'
        if unknown := set(command.consents) - set(command.form.base_fields if command.form is not None else ()):
            yield f'the command {command.name!r} has no field {min(unknown)!r}', 'Name consents of its form.'


def _templates(page: BasePage, pages: Sequence[BasePage]) -> Iterator[Problem]:
    for panel in (getattr(page, 'panel', ''), *(command.panel for command in getattr(page, 'commands', ()))):
        try:
            get_template(panel or 'console/base.html')
        except TemplateDoesNotExist:
            yield f'its panel template {panel!r} does not exist', 'Put it below templates/.'


def _parameters(page: BasePage, pages: Sequence[BasePage]) -> Iterator[Problem]:
    if not isinstance(page, ParameterPage):
        return
    from engine.contract.services import ENTERPRISE_PARAMS, SERVICES

    groups = [(s.key, s.params) for s in SERVICES] if page.services else [('enterprise', ENTERPRISE_PARAMS)]
    for key, params in groups:
        for param in params:
            if not param.label or not param.help:
                yield f'the parameter {key}.{param.name} has no label or help', 'Give both beside the service.'
            if problem := param.error(param.default):
                yield f'the default of the parameter {key}.{param.name} is not valid: {problem}', 'Correct it.'


def _own(page: BasePage, pages: Sequence[BasePage]) -> Iterator[Problem]:
    """What the kind of the page knows itself (dashboards, task flows)."""
    own: Callable[[], Iterator[Problem]] | None = getattr(page, 'problems', None)
    if own is not None:
        yield from own()


RULES: tuple[Callable[[BasePage, Sequence[BasePage]], Iterator[Problem]], ...] = (
    _names,
    _list,
    _fields,
    _samples,
    _commands,
    _templates,
    _parameters,
    _own,
)
