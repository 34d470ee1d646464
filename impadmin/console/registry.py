"""The registry of page declarations: filled at start from every area's ``pages.py``, then frozen."""

from __future__ import annotations

from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import autodiscover_modules

from impadmin.console.page import BasePage

_registered: list[BasePage] = []
_by_name: dict[str, BasePage] = {}
_frozen = False


def register(*pages: BasePage) -> None:
    """Add pages; called at the end of an area's ``pages.py``. After the start it raises ImproperlyConfigured."""
    if _frozen:
        raise ImproperlyConfigured('The page registry is frozen; register pages in pages.py of an installed app.')
    _registered.extend(pages)


def freeze() -> None:
    """Import ``pages.py`` of every installed app and close the registry. Called once, by the app's ``ready``."""
    global _frozen
    if _frozen:
        return
    autodiscover_modules('pages')
    for page in _registered:
        _by_name.setdefault(page.name, page)
    _frozen = True


def registered() -> tuple[BasePage, ...]:
    """Every declaration as registered, duplicates included (for the system checks)."""
    return tuple(_registered)


def pages() -> tuple[BasePage, ...]:
    """Every page, in order of registration."""
    return tuple(_by_name.values())


def page(name: str) -> BasePage:
    """The page called ``name``. KeyError when there is none."""
    return _by_name[name]


def by_console(console: str) -> tuple[BasePage, ...]:
    """The pages of one console, in order of registration."""
    return tuple(page for page in _by_name.values() if page.console == console)


def page_url(page: BasePage | str, verb: str = '', pk: object = None) -> str:
    """Path of a page or of one of its parts.

    verb  '' (list, form or view), 'add', 'edit' (needs ``pk``), 'copy', 'delete', 'history', 'delete-selected',
          or 'do/NAME' for a command (with ``pk``: of one object)
    """
    if isinstance(page, str):
        page = _by_name[page]
    path = f'/{page.console}/{page.area}/{page.name}/'
    if pk is not None and pk != '':
        path += f'{pk}/'
    if verb and verb != 'edit':
        path += f'{verb}/'
    return path
