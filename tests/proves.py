"""``@proves('BAT-23', ...)``: rows of docs/conformance/rows.csv a test demonstrates through the outermost door.

An id that is not in the list is an error while the test is collected. ``tests/conformance.py`` keeps the account.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROWS = Path(__file__).resolve().parent.parent / 'docs' / 'conformance' / 'rows.csv'


@functools.cache
def rows() -> dict[str, dict[str, str]]:
    """Row id -> its columns (id, spec, feature, kind, guide_lines), in the order of the list."""
    with ROWS.open(newline='', encoding='utf-8') as file:
        return {row['id']: row for row in csv.DictReader(file)}


def proves(*ids: str) -> Callable[[Any], Any]:
    """Mark a test function or class with the rows it demonstrates. Raises ValueError for an unknown id."""
    if unknown := [row for row in ids if row not in rows()]:
        raise ValueError(f'not in docs/conformance/rows.csv: {", ".join(unknown)}')
    return pytest.mark.proves(*ids)
