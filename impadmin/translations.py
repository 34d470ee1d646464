"""Compiled translations: .po files are the source, .mo files are made where the product runs (no gettext needed)."""

from __future__ import annotations

import os
from pathlib import Path

import polib


def compile_translations(folder: Path) -> None:
    """Write the .mo file beside every .po file under ``folder`` that is newer than it."""
    for source in folder.rglob('*.po'):
        target = source.with_suffix('.mo')
        if target.exists() and target.stat().st_mtime_ns >= source.stat().st_mtime_ns:
            continue
        temporary = target.with_suffix(f'.{os.getpid()}')  # another process may do the same
        polib.pofile(str(source), encoding='utf-8').save_as_mofile(str(temporary))
        temporary.replace(target)
