"""What the search knows without the database: pages, settings, parameters, actions and help, in one language.

Every name is there in the active language and in English, so that either word finds it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlencode

from django.utils.translation import gettext, override

from engine.contract.services import ENTERPRISE_PARAMS, SERVICES
from impadmin.console import help as page_help
from impadmin.console import navigation, registry
from impadmin.console.folding import fold
from impadmin.console.page import BasePage, Page, ParameterPage, SettingsPage, ViewPage
from impadmin.console.registry import page_url

Kind = Literal['page', 'setting', 'action', 'help']
EXACT, STARTS, WORD, CONTAINS, SCATTERED, ABOUT = 6, 5, 4, 3, 2, 1
"""How well a name matches, best first; SCATTERED: every word somewhere in the names; ABOUT: in the help text."""
_WORDS = re.compile(r'\w+')


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing to find. ``names`` and ``about`` are folded; ``english``: its text in English, where that is another;
    ``action``: what one must be allowed to do there."""

    kind: Kind
    page: BasePage
    text: str
    place: str
    url: str
    icon: str
    names: tuple[str, ...]
    about: str = ''
    note: str = ''
    english: str = ''
    action: str = 'view'

    def score(self, wanted: str) -> int:
        """How well the folded text ``wanted`` matches; 0: not at all."""
        names = '\n'.join(self.names)
        if wanted in names and (best := max(score(name, wanted) for name in self.names)):
            return best
        words = _WORDS.findall(wanted)
        if not words:
            return 0
        if all(word in names for word in words):
            return SCATTERED
        return ABOUT if self.about and all(word in self.about for word in words) else 0


def score(name: str, wanted: str) -> int:
    """How well a folded name matches a folded text; 0: not at all."""
    if name == wanted:
        return EXACT
    if name.startswith(wanted):
        return STARTS
    found = name.find(wanted)
    if found < 0:
        return 0
    return WORD if not name[found - 1].isalnum() or f' {wanted}' in name else CONTAINS


def icon(page: BasePage) -> str:
    """The icon of the page's menu."""
    return navigation.ICONS.get(navigation.menu_parts(page)[0], 'report')


@functools.cache
def entries(language: str) -> tuple[Entry, ...]:
    """Everything to find, in ``language`` (Django's code). Made once: declarations do not change while running."""
    with override('en'):
        english = list(_entries())
    with override(language):
        local = list(_entries())
    return tuple(
        Entry(
            one.kind, one.page, one.text, one.place, one.url, one.icon,
            tuple(dict.fromkeys((*one.names, *other.names))), f'{one.about} {other.about}'.strip(),
            one.note, other.text if other.text != one.text else '', one.action,
        )
        for one, other in zip(local, english, strict=True)
    )  # fmt: skip


def _entries() -> Iterator[Entry]:
    for page in registry.pages():
        if not page.waits_for:
            yield _page(page)
            yield from _settings(page)
            yield from _actions(page)
            yield from _help(page)


def _page(page: BasePage) -> Entry:
    parts = [gettext(part) for part in navigation.menu_parts(page)]
    names = (page.title, parts[-1], ' > '.join(parts), page.name)
    place = ' > '.join(parts[:-1])
    return Entry('page', page, str(page.title), place, page_url(page), icon(page), tuple(fold(name) for name in names))


def _settings(page: BasePage) -> Iterator[Entry]:
    if isinstance(page, ParameterPage):
        yield from _parameters(page)
    elif isinstance(page, SettingsPage) or (isinstance(page, Page) and 'edit' in page.verbs):
        from impadmin.console.forms import editable_names, model_field

        for name in editable_names(page):
            if (held := model_field(page.model, name)) is not None:
                label = str(held.verbose_name)
                anchor = f'#f-{name}' if isinstance(page, SettingsPage) else ''
                names = (fold(label), fold(name.replace('_', ' ')))
                yield Entry('setting', page, label, str(page.title), page_url(page) + anchor, 'system', names)


def _parameters(page: ParameterPage) -> Iterator[Entry]:
    groups = [(s.key, s.name, s.params) for s in SERVICES] if page.services else [('', '', ENTERPRISE_PARAMS)]
    for key, service, params in groups:
        for param in params:
            label = gettext(param.label)
            query = f'?{urlencode({"service": key})}' if key else ''
            place = ' > '.join(filter(None, (str(page.title), service and gettext(service))))
            names = (fold(label), fold(param.name.replace('_', ' ')))
            yield Entry('setting', page, label, place, f'{page_url(page)}{query}#f-{param.name}', 'system', names)


def _actions(page: BasePage) -> Iterator[Entry]:
    title = str(page.title)
    if isinstance(page, Page) and 'add' in page.verbs:
        label = gettext('Add %(type)s') % {'type': page.model._meta.verbose_name}
        yield Entry('action', page, label, title, page_url(page, 'add'), 'plus', (fold(label),), action='add')
    for command in page.commands if isinstance(page, Page | SettingsPage | ViewPage) else ():
        if command.scope == 'page' and not command.at_once:
            verb, label = f'do/{command.name}', str(command.label)
            yield Entry('action', page, label, title, page_url(page, verb), icon(page), (fold(label),), action=verb)


def _help(page: BasePage) -> Iterator[Entry]:
    url = page_url(page, 'help')
    texts = [str(page.intro)] + ([str(page.help.when), str(page.help.effect)] if page.help is not None else [])
    about = ' '.join(filter(None, texts))
    names = (fold(page.title),)
    yield Entry('help', page, str(page.title), gettext('Help'), url, 'help', names, fold(about), str(page.intro))
    for section in page_help.sections(page):
        for one in section.entries:
            place = f'{page.title} > {section.title}' if section.title != str(page.title) else section.title
            about = fold(one.text)
            yield Entry(
                'help', page, one.label, place, f'{url}#{one.anchor}', 'help', (fold(one.label),), about, one.text
            )
