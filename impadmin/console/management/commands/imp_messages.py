"""``manage.py imp_messages``: collect the strings to translate (needs Debian's gettext; a developer's tool).

Strings that stand in data rather than in gettext calls (menu paths, service and parameter declarations) are written to
``impadmin/terms.py``, where the extractor finds them (it skips every folder called locale). Product terms are filled in
from ``glossary.csv``.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polib
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandParser

from engine.contract import messages, recovery, restarts, services
from impadmin.console import registry

LANGUAGES = ('zh_Hans', 'ja')
EXTRACT = (
    'makemessages',
    *(f'--locale={code}' for code in LANGUAGES),
    *(f'--ignore={pattern}' for pattern in ('.venv/*', 'var/*', 'tests/*', 'docs/*')),
    '--no-wrap',
    '--no-location',
    '--no-obsolete',
    '--verbosity=0',
)
"""Arguments of the extraction, run in the root of the tree."""


def data_strings() -> list[str]:
    """Every English source string that stands in a declaration outside gettext calls."""
    return sorted({text for text in _data_strings() if text})


def _data_strings() -> Iterator[str]:
    for page in registry.pages():
        yield from page.menu.split(' > ')
    yield from (state.value for state in services.State)
    yield from (text.value for text in messages.Text)
    yield from recovery.texts()
    for rule in restarts.RULES:
        yield from rule.page.split(' > ')
        yield rule.severity
    for service in services.SERVICES:
        yield service.name
        yield service.group
    params = [param for service in services.SERVICES for param in service.params]
    for param in (*params, *services.ENTERPRISE_PARAMS):
        yield from (param.label, param.help, param.unit, param.section)
        yield from (label for _, label in param.choices)


def terms_module() -> str:
    """The text of ``impadmin/terms.py``."""
    lines = ['"""Strings of declarations, for the extractor only; written by manage.py imp_messages."""', '']
    lines += ['# ruff: noqa: E501', '# fmt: off', '']
    lines += ['from django.utils.translation import gettext_noop as _', '', 'TERMS = (']
    lines += [f'    _({text!r}),' for text in data_strings()]
    return '\n'.join([*lines, ')', ''])


def glossary() -> dict[str, dict[str, str]]:
    """English product term -> language -> translation."""
    path = Path(settings.LOCALE_PATHS[0]) / 'glossary.csv'
    with path.open(newline='') as file:
        return {row['en']: {code: row[code] for code in LANGUAGES} for row in csv.DictReader(file)}


class Command(BaseCommand):
    help = 'Collect the strings to translate into impadmin/locale and fill in the terms of the glossary.'

    def add_arguments(self, parser: CommandParser) -> None:
        """No arguments."""

    def handle(self, *args: Any, **options: Any) -> None:
        """Extract, merge, fill in glossary terms, report what is untranslated."""
        locale = Path(settings.LOCALE_PATHS[0])
        (locale.parent / 'terms.py').write_text(terms_module())
        call_command(*EXTRACT)
        terms = glossary()
        for code in LANGUAGES:
            path = locale / code / 'LC_MESSAGES' / 'django.po'
            catalogue = polib.pofile(str(path), wrapwidth=0)
            for entry in catalogue:
                if entry.fuzzy:  # a guess from a similar string is worse than none
                    entry.msgstr, entry.flags = '', [flag for flag in entry.flags if flag != 'fuzzy']
                    entry.msgstr_plural = dict.fromkeys(entry.msgstr_plural, '')
                if entry.msgid in terms and not entry.msgid_plural and not entry.msgctxt:
                    entry.msgstr = terms[entry.msgid][code]
            catalogue.save()
            missing = [entry for entry in catalogue if not entry.translated()]
            self.stdout.write(f'{code}: {len(catalogue)} strings, {len(missing)} to translate: {path}')
