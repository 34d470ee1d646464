"""The console machine as a Django app: collects the page declarations and checks them at start."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class ConsoleConfig(AppConfig):
    """Freezes the registry when every app is loaded."""

    name = 'impadmin.console'
    verbose_name = _('Console')

    def ready(self) -> None:
        """Collect the pages of every area; a bad declaration is a start-up error."""
        from impadmin.console import checks, registry

        registry.freeze()
        checks.install()
