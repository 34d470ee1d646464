"""``manage.py createadmin NAME [--role ROLE] [--reset]``: add an administrator, or give one a new password."""

from __future__ import annotations

import getpass
import os
import secrets
import sys
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from impadmin.console import administrators, roles
from impadmin.console.access import EVERYTHING
from impadmin.console.actions import Actor
from impadmin.console.models import Administrator


class Command(BaseCommand):
    """The password comes from IMP_ADMIN_PASSWORD, from a prompt, or without a terminal it is made up and printed."""

    help = 'Adds an administrator. The password is IMP_ADMIN_PASSWORD, or asked for, or made up and printed once.'

    def add_arguments(self, parser: CommandParser) -> None:
        """Name and role."""
        parser.add_argument('name', help='user ID: letters, digits and . _ @ -')
        parser.add_argument('--role', default=roles.ADMINISTRATOR, help='name of a role')
        parser.add_argument(
            '--reset',
            action='store_true',
            help='a new password for an existing administrator; unlocks, removes a second factor',
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Add or reset."""
        actor = cli_actor()
        found = Administrator.objects.filter(username=options['name']).first()
        if options['reset'] and found is None:
            raise CommandError(f'There is no administrator {options["name"]}.')
        password, made_up = self._password()
        try:
            if options['reset'] and found is not None:
                administrators.recover(actor, found, password)
            else:
                administrators.create(actor, options['name'], options['role'], password)
        except ValidationError as error:
            raise CommandError(' '.join(error.messages)) from error
        shown = f' Password: {password} (shown once)' if made_up else ''
        done = 'has a new password.' if options['reset'] else f'was added with the role {options["role"]}.'
        self.stdout.write(f'{options["name"]} {done}{shown}')

    def _password(self) -> tuple[str, bool]:
        """(password, whether it was made up here)."""
        if given := os.environ.get('IMP_ADMIN_PASSWORD'):
            return given, False
        if not sys.stdin.isatty():
            return secrets.token_urlsafe(12), True
        first = getpass.getpass('Password (empty: make one up): ')
        if not first:
            return secrets.token_urlsafe(12), True
        if getpass.getpass('Password again: ') != first:
            raise CommandError('The two passwords differ.')
        return first, False


def cli_actor() -> Actor:
    """Whoever has a shell on the machine."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = str(os.getuid())
    return Actor(f'cli:{name}', EVERYTHING, 'command line', 'cli')
