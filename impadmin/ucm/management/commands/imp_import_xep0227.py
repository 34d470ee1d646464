"""``manage.py imp_import_xep0227 FILE``: users of another XMPP server from a XEP-0227 document."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from impadmin.console.actions import Refused
from impadmin.system.models import Node
from impadmin.ucm.portable.importing import run
from impadmin.ucm.portable.reading import Unreadable


class Command(BaseCommand):
    """Read the document."""

    help = (
        'Makes the users of a document, and gives existing ones what they lack. Prints what was not imported and why.'
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """What, and how."""
        parser.add_argument('file', type=Path, help='the document; it may include others below its directory')
        parser.add_argument('--dry-run', action='store_true', help='check everything, write nothing')
        parser.add_argument('--node', default='', help='home node of new users; without it the Sync Agent assigns them')

    def handle(self, *args: Any, **options: Any) -> None:
        """Import; ends with an error when some users could not be imported."""
        node = None
        if options['node']:
            node = Node.objects.filter(name=options['node']).first()
            if node is None:
                raise CommandError(f'There is no node {options["node"]}.')

        def report(file: str, line: int, who: str, text: str) -> None:
            self.stderr.write(f'{file}:{line}: {who + ": " if who else ""}{text}')

        try:
            counts = run(options['file'], report, timezone.now(), node, options['dry_run'])
        except Unreadable as error:
            raise CommandError(str(error)) from error
        except Refused as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(f'{options["file"]}: {error.strerror}.') from error
        for name, count in sorted(counts.items()):
            self.stdout.write(f'{name}: {count}')
        if options['dry_run']:
            self.stdout.write('Nothing was written (dry run).')
        if counts['failed']:
            raise CommandError(f'{counts["failed"]} users could not be imported; the reasons stand above.')
