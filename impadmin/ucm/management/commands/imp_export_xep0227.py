"""``manage.py imp_export_xep0227 FILE``: all users as a XEP-0227 document, for another XMPP server or as a copy."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from impadmin.ucm.models import EndUser
from impadmin.ucm.portable.exporting import export


class Command(BaseCommand):
    """Write the document."""

    help = (
        'Writes users, password verifiers, contact lists, offline messages, vCards, private data, privacy lists and'
        ' personal nodes.'
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Where to, and whom."""
        parser.add_argument('file', type=Path, help='the document; must not exist yet')
        parser.add_argument('--user', action='append', default=[], help='only this user ID; may be repeated')

    def handle(self, *args: Any, **options: Any) -> None:
        """Export. The file is readable by its owner only: verifiers are as good as passwords to some."""
        people = EndUser.objects.all()
        if wanted := options['user']:
            people = people.filter(user_id__in=wanted)
            if missing := sorted(set(wanted) - set(people.values_list('user_id', flat=True))):
                raise CommandError(f'There is no user {", ".join(missing)}.')
        path: Path = options['file']
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise CommandError(f'{path} exists already. Choose another name.') from None
        except OSError as error:
            raise CommandError(f'{path}: {error.strerror}.') from error
        with os.fdopen(handle, 'w', encoding='utf-8') as out:
            counts = export(people, out)
        for name, count in sorted(counts.items()):
            note = ' (not exported)' if name == 'without address' else ''
            if count or not note:
                self.stdout.write(f'{name}: {count}{note}')
