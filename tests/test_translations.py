"""Every string of the console exists in English, Simplified Chinese and Japanese, with the product's own terms."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import polib
import pytest

from impadmin.console.management.commands import imp_messages

ROOT = Path(__file__).resolve().parent.parent
LOCALE = ROOT / 'impadmin' / 'locale'
PLACEHOLDER = re.compile(r'%\([a-z_]+\)[sd]|%[sd]|\{[a-z_]*\}')
LANGUAGES = list(imp_messages.LANGUAGES)


def catalogue(code: str) -> polib.POFile:
    """The committed translations of one language."""
    return polib.pofile(str(LOCALE / code / 'LC_MESSAGES' / 'django.po'))


@pytest.mark.parametrize('code', LANGUAGES)
def test_every_string_is_translated(code: str) -> None:
    missing = [entry.msgid for entry in catalogue(code) if not entry.translated() or entry.fuzzy]
    assert not missing, f'{len(missing)} strings without a translation into {code}: {missing[:20]}'


@pytest.mark.parametrize('code', LANGUAGES)
def test_placeholders_survive(code: str) -> None:
    wrong = []
    for entry in catalogue(code):
        wanted = set(PLACEHOLDER.findall(entry.msgid_plural or entry.msgid))
        texts = entry.msgstr_plural.values() or [entry.msgstr]
        wrong += [(entry.msgid, text) for text in texts if set(PLACEHOLDER.findall(text)) != wanted]
    assert not wrong


@pytest.mark.parametrize('code', LANGUAGES)
def test_product_terms_are_the_product_s(code: str) -> None:
    terms = imp_messages.glossary()
    wrong = {
        entry.msgid: entry.msgstr
        for entry in catalogue(code)
        if entry.msgid in terms and not entry.msgctxt and entry.msgstr != terms[entry.msgid][code]
    }
    assert not wrong


def test_the_catalogues_hold_every_string_of_the_source(tmp_path: Path) -> None:
    assert shutil.which('xgettext'), 'xgettext is missing: install the Debian package gettext'
    assert (LOCALE.parent / 'terms.py').read_text() == imp_messages.terms_module(), 'run: manage.py imp_messages'
    for part in ('impadmin', 'templates'):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns('__pycache__', '*.po', '*.mo'))
    subprocess.run(
        [sys.executable, '-m', 'django', *imp_messages.EXTRACT, '--settings=impadmin.settings'],
        cwd=tmp_path,
        check=True,
        env={**os.environ, 'PYTHONPATH': f'{tmp_path}:{ROOT}', 'IMP_VAR': str(tmp_path / 'var')},
    )
    for code in LANGUAGES:
        fresh = {entry.msgid for entry in polib.pofile(str(tmp_path / f'impadmin/locale/{code}/LC_MESSAGES/django.po'))}
        known = {entry.msgid for entry in catalogue(code)}
        assert fresh <= known, f'run manage.py imp_messages; new strings: {sorted(fresh - known)[:20]}'
