"""Consoles and menus, built from the page declarations and filtered by role."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from django.utils.translation import gettext, gettext_lazy

from impadmin.console import registry
from impadmin.console.access import Grants, may
from impadmin.console.page import BasePage, Text


@dataclass(frozen=True, slots=True)
class Console:
    """One of the sibling consoles of the product: key (first part of its URLs), title, icon, one line about it."""

    key: str
    title: Text
    icon: str
    about: Text


CONSOLES: dict[str, Console] = {
    console.key: console
    for console in (
        Console(
            'admin',
            gettext_lazy('IM and Presence Administration'),
            'presence',
            gettext_lazy('System, Presence, Messaging, Bulk Administration'),
        ),
        Console('ucm', gettext_lazy('Unified CM Administration'), 'users', gettext_lazy('Users and servers')),
        Console(
            'serviceability',
            gettext_lazy('IM and Presence Serviceability'),
            'tools',
            gettext_lazy('Control Center, Service Activation'),
        ),
        Console(
            'reporting',
            gettext_lazy('IM and Presence Reporting'),
            'report',
            gettext_lazy('User Sessions Report'),
        ),
        Console(
            'os',
            gettext_lazy('IM and Presence OS Administration'),
            'system',
            gettext_lazy('Customized Logon Message'),
        ),
    )
}

ICONS = {
    'System': 'system',
    'Presence': 'presence',
    'Messaging': 'messaging',
    'Application': 'application',
    'Bulk Administration': 'bulk',
    'Diagnostics': 'diag',
    'User Management': 'users',
    'Software Upgrades': 'system',
    'Tools': 'tools',
    'Device': 'device',
}


MENUS = (
    'System',
    'Presence',
    'Messaging',
    'Application',
    'User Management',
    'Bulk Administration',
    'Software Upgrades',
    'Tools',
    'Diagnostics',
)
"""The product's order of menus; others follow in order of first appearance."""


@dataclass(slots=True)
class Leaf:
    """One entry of a menu that opens a page."""

    page: BasePage
    label: str
    url: str
    current: bool = False


@dataclass(slots=True)
class Section:
    """A small caption in a menu with its leaves; caption '' for leaves that stand directly in the menu."""

    caption: str
    leaves: list[Leaf] = field(default_factory=list)


@dataclass(slots=True)
class Menu:
    """One menu of the console; ``key`` is its English name."""

    key: str
    label: str
    icon: str
    sections: list[Section] = field(default_factory=list)
    open: bool = False


def menu_parts(page: BasePage) -> list[str]:
    """The menu path of a page, English, outermost first."""
    return [part.strip() for part in page.menu.split(' > ')]


def menu_path(page: BasePage, separator: str = ' > ') -> str:
    """The menu path of a page in the active language."""
    return separator.join(gettext(part) for part in menu_parts(page))


def visible(who: Grants, pages: Iterable[BasePage] | None = None) -> list[BasePage]:
    """The pages that ``who`` may open; those that still wait for their service are not shown anywhere."""
    found = registry.pages() if pages is None else pages
    return [page for page in found if may(who, page) and not page.waits_for]


def consoles(who: Grants) -> list[tuple[Console, str]]:
    """Consoles in which ``who`` may open at least one page, each with the URL of its start page."""
    return [
        (console, f'/{console.key}/') for console in CONSOLES.values() if visible(who, registry.by_console(console.key))
    ]


def menus(console: str, who: Grants, current: BasePage | None = None) -> list[Menu]:
    """The menus of one console for ``who``; the menu of ``current`` is open.

    Menus stand in the product's order; captions and leaves in order of first appearance, sorted by ``order``.
    """
    places = {key: n for n, key in enumerate(MENUS)}
    result: dict[str, Menu] = {}
    sections: dict[tuple[str, str], Section] = {}
    for page in sorted(visible(who, registry.by_console(console)), key=lambda page: page.order):
        head, *middle, leaf = menu_parts(page) if ' > ' in page.menu else (page.menu, page.menu)
        menu = result.get(head)
        if menu is None:
            menu = result[head] = Menu(head, gettext(head), ICONS.get(head, 'report'))
        caption = ' > '.join(middle)
        section = sections.get((head, caption))
        if not caption and section is not None and menu.sections[-1] is not section:
            section = None  # leaves after a captioned section stand after it, as in the product
        if section is None:
            section = sections[head, caption] = Section(' > '.join(gettext(part) for part in middle))
            menu.sections.append(section)
        is_current = current is not None and page.name == current.name
        section.leaves.append(Leaf(page, gettext(leaf), registry.page_url(page), is_current))
        menu.open = menu.open or is_current
    return sorted(result.values(), key=lambda menu: places.get(menu.key, len(MENUS)))
