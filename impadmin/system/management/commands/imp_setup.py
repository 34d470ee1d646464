"""``manage.py imp_setup``: make a migrated database usable. Run again at every start; it only adds what is missing."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from impadmin import setup


class Command(BaseCommand):
    """First node, settings, default domain, first administrator, first configuration generation."""

    help = __doc__

    def handle(self, *args: Any, **options: Any) -> None:
        """Print what an operator must know: the first administrator and a password that was made up."""
        try:
            done = setup.install()
        except setup.WrongSetting as error:
            raise CommandError(str(error)) from error
        if done.administrator:
            shown = f'password {done.password} (shown once)' if done.password else 'password as given'
            self.stdout.write(f'First administrator: {done.administrator}, {shown}')
