"""Which fields of a page need which services restarted, from the restart rules of the engine's contract."""

from __future__ import annotations

from django.utils.translation import gettext

from engine.contract.restarts import RULES
from engine.contract.services import BY_KEY
from impadmin.console.page import BasePage


def by_field(page: BasePage) -> dict[str, tuple[str, ...]]:
    """Names of the services in the active language, by field: the last part of the configuration path."""
    found: dict[str, tuple[str, ...]] = {}
    for rule in RULES:
        for path in rule.paths if rule.page == page.menu and not rule.advice else ():
            name = path.rpartition('.')[2]
            found[name] = (*found.get(name, ()), *(gettext(BY_KEY[key].name) for key in rule.services))
    return found


def sentence(names: tuple[str, ...]) -> str:
    """What stands under a field."""
    return gettext('Restarts: %(services)s.') % {'services': gettext(', ').join(names)} if names else ''
