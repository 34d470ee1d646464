"""``manage.py createtoken USER NAME [--role ROLE] [--days N]``: issue a REST token and print it once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from impadmin.console import roles
from impadmin.console.management.commands.createadmin import cli_actor
from impadmin.console.models import Administrator
from impadmin.console.tokens import do_create_token


class Command(BaseCommand):
    """Only the token goes to standard output, so that a script can take it."""

    help = 'Issues a REST token for an administrator and prints it. It is not shown again.'

    def add_arguments(self, parser: CommandParser) -> None:
        """User, name of the token, role, life."""
        parser.add_argument('user', help='user ID of the administrator')
        parser.add_argument('name', help='where the token is used')
        parser.add_argument('--role', help='name of a role; default: the first role of the user')
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
            role = roles.named([options['role']])[0] if options['role'] else owner.held_roles[0]
            _, clear = do_create_token(cli_actor(), owner, options['name'], role, expires)
        except ValidationError as error:
            raise CommandError(' '.join(error.messages)) from error
        self.stdout.write(clear)
