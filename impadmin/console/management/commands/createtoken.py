"""``manage.py createtoken USER NAME [--scope PERMISSION ...] [--days N]``: issue a REST token and print it once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from impadmin.console.actions import Refused
from impadmin.console.management.commands.createadmin import cli_actor
from impadmin.console.models import Administrator
from impadmin.console.tokens import ALL, do_create_token


class Command(BaseCommand):
    """Only the token goes to standard output, so that a script can take it."""

    help = 'Issues a REST token for an administrator and prints it. It is not shown again.'

    def add_arguments(self, parser: CommandParser) -> None:
        """User, name of the token, scopes, life."""
        parser.add_argument('user', help='user ID of the administrator')
        parser.add_argument('name', help='where the token is used')
        parser.add_argument(
            '--scope', action='append', metavar='PERMISSION',
            help='what the token may do, e.g. domains:change or area.messaging:*; default: everything its user may',
        )  # fmt: skip
        parser.add_argument('--days', type=int, help='expires after so many days; default: never')

    def handle(self, *args: Any, **options: Any) -> None:
        """Issue and print."""
        owner = Administrator.objects.filter(username=options['user']).first()
        if owner is None:
            raise CommandError(f'There is no administrator {options["user"]}.')
        days = options['days']
        if days is not None and not 1 <= days <= 36500:
            raise CommandError('--days: enter a number from 1 to 36500.')
        expires = None if days is None else timezone.now() + timedelta(days=days)
        try:
            _, clear = do_create_token(cli_actor(), owner, options['name'], options['scope'] or ALL, expires)
        except (ValidationError, Refused) as error:
            raise CommandError(' '.join(getattr(error, 'messages', [str(error)]))) from error
        self.stdout.write(clear)
