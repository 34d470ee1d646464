"""Which fields of a page need which services restarted, from the restart rules of the engine's contract."""

from __future__ import annotations

from django.utils.translation import gettext

from engine.contract.restarts import RULES
from engine.contract.services import BY_KEY
from impadmin.console.page import BasePage


def by_field(page: BasePage) -> dict[str, tuple[str, ...]]:
    """Names of the services in the active language, by field: the last part of the configuration path."""
    return {
        path.rpartition('.')[2]: tuple(gettext(BY_KEY[key].name) for key in rule.services)
        for rule in RULES
        if rule.page == page.menu
        for path in rule.paths
    }


def sentence(names: tuple[str, ...]) -> str:
    """What stands under a field."""
    return gettext('Restarts: %(services)s.') % {'services': gettext(', ').join(names)} if names else ''
