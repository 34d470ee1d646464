"""Lists as files: CSV that an import takes back, and XLSX for people. Written while they are read, row by row.

CSV names its columns as REST does and writes values in one form whatever the language: ``true``, ``2026-11-21T...``,
references by name, lists as JSON. Secrets are no columns. Cells that a spreadsheet would run are protected (bulk.py).
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import IO, Any

import xlsxwriter
from django.core.exceptions import FieldDoesNotExist
from django.db import models
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.utils.text import capfirst
from django.utils.translation import gettext

from impadmin.console import audit, downloads, forms, tables
from impadmin.console.bulk import BOM, csv_line, keep_apart, protect
from impadmin.console.page import Page, Text
from impadmin.console.rehearsal import Refused

KINDS = ('csv', 'xlsx', 'jsonl')
STEP = 2000
"""Rows read from the database at a time."""
MOST_XLSX = 1_048_575
"""Rows of a worksheet below its head."""
LONGEST_XLSX = 32_767
"""Characters of one cell."""


@dataclass(frozen=True, slots=True)
class ExportColumn:
    """One column of a file. written: an import can change it; related: a path for select_related, or ''."""

    name: str
    label: Text
    read: Callable[[Any], Any]
    written: bool
    related: str = ''
    many: bool = False


def columns(page: Page) -> list[ExportColumn]:
    """Everything of an object that can be exported: what the form writes, then what is only shown."""
    found: dict[str, ExportColumn] = {}
    written = forms.editable_names(page)
    for name in (*written, *sorted(forms.read_only_names(page))):
        try:
            field = page.model._meta.get_field(name)
        except FieldDoesNotExist:
            continue
        if isinstance(field, models.Field) and name not in audit.SECRET:
            found[name] = _of_field(field, name in written)
    for column in tables.columns(page):
        if column.name not in found and column.name not in audit.SECRET:
            found[column.name] = ExportColumn(column.name, column.label, _shown(column), False, column.related)
    return list(found.values())


def chosen_columns(page: Page, names: Iterable[str]) -> list[ExportColumn]:
    """The columns of these names; those that are written when none is named. Raises Refused for an unknown one."""
    known = {column.name: column for column in columns(page)}
    names = list(dict.fromkeys(names)) or [name for name, column in known.items() if column.written] or list(known)
    if unknown := [name for name in names if name not in known]:
        text = gettext('There is no column %(name)s. Columns: %(columns)s.')
        raise Refused(text % {'name': unknown[0][:100], 'columns': ', '.join(known)})
    return [known[name] for name in names]


def _of_field(field: models.Field[Any, Any], written: bool) -> ExportColumn:
    name, label = field.name, capfirst(field.verbose_name)
    if isinstance(field, models.ManyToManyField):
        natural = forms.natural_field(field.related_model)
        return ExportColumn(
            name,
            label,
            lambda obj: sorted(getattr(one, natural) for one in getattr(obj, name).all()),
            written,
            name,
            True,
        )
    if isinstance(field, models.ForeignKey):
        natural = forms.natural_field(field.remote_field.model)
        return ExportColumn(name, label, lambda obj: getattr(getattr(obj, name), natural, None), written, name)
    return ExportColumn(name, label, lambda obj: getattr(obj, name), written)


def _shown(column: tables.ResolvedColumn) -> Callable[[Any], Any]:
    def read(obj: Any) -> Any:
        value = column.value(obj)
        return value[1] if value and column.kind in ('state', 'link') else value

    return read


def text(value: Any) -> str:
    """A value as a CSV cell has it, before protection."""
    if value is None:
        return ''
    if isinstance(value, bool):
        return 'true' if value else 'false'
    if isinstance(value, date | datetime):
        return value.isoformat()
    if isinstance(value, list | tuple | dict):
        return json.dumps(value, ensure_ascii=False, sort_keys=True)
    return str(value)


def _objects(queryset: models.QuerySet[Any], chosen: Sequence[ExportColumn]) -> Iterator[Any]:
    """The rows as a stream: one query sees one moment, and memory does not grow with it."""
    if related := [column.related for column in chosen if column.related and not column.many]:
        queryset = queryset.select_related(*related)
    if many := [column.name for column in chosen if column.many]:
        queryset = queryset.prefetch_related(*many)
    return iter(queryset.iterator(chunk_size=STEP))


def csv(
    queryset: models.QuerySet[Any], chosen: Sequence[ExportColumn], *, bom: bool = False, safe: bool = True
) -> Iterator[bytes]:
    """A CSV file in blocks. bom: begin with a byte order mark, which some spreadsheets need to see UTF-8; safe:
    protect cells that a spreadsheet would run as a formula."""
    cell = protect if safe else keep_apart
    block = [csv_line(column.name for column in chosen)]
    yield BOM if bom else b''
    for obj in _objects(queryset, chosen):
        block.append(csv_line(cell(text(column.read(obj))) for column in chosen))
        if len(block) >= STEP:
            yield ''.join(block).encode()
            block.clear()
    yield ''.join(block).encode()


def jsonl(queryset: models.QuerySet[Any], chosen: Sequence[ExportColumn]) -> Iterator[bytes]:
    """One JSON object a line, in blocks."""
    block = []
    for obj in _objects(queryset, chosen):
        row = {column.name: column.read(obj) for column in chosen}
        block.append(json.dumps(row, ensure_ascii=False, default=text) + '\n')
        if len(block) >= STEP:
            yield ''.join(block).encode()
            block.clear()
    yield ''.join(block).encode()


def answer(
    request: HttpRequest,
    page: Page,
    queryset: models.QuerySet[Any],
    kind: str,
    names: Iterable[str],
    *,
    bom: bool = False,
    safe: bool = True,
) -> HttpResponseBase:
    """A file of these objects as a download; ``kind`` is one of KINDS, ``names`` are its columns."""
    chosen = chosen_columns(page, names)
    name = f'{page.name}-{timezone.localtime():%Y%m%d-%H%M%S}.{kind}'
    if kind == 'xlsx':
        book = xlsx(queryset, chosen, str(page.title))
        return downloads.streamed(request, downloads.file_blocks(book), name, downloads.XLSX)
    blocks = jsonl(queryset, chosen) if kind == 'jsonl' else csv(queryset, chosen, bom=bom, safe=safe)
    return downloads.streamed(request, blocks, name, downloads.JSON_LINES if kind == 'jsonl' else downloads.CSV)


def xlsx(queryset: models.QuerySet[Any], chosen: Sequence[ExportColumn], title: str) -> IO[bytes]:
    """An XLSX workbook as an open temporary file at its beginning. Labels are those of the active language; texts are
    texts whatever they begin with."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller sends and closes it
    options = {'constant_memory': True, 'strings_to_formulas': False, 'strings_to_urls': False, 'in_memory': False}
    with xlsxwriter.Workbook(file, options) as book:
        sheet = book.add_worksheet(_sheet_name(title))
        head, moment = book.add_format({'bold': True}), book.add_format({'num_format': 'yyyy-mm-dd hh:mm:ss'})
        plain = book.add_format({'quote_prefix': True})
        sheet.freeze_panes(1, 0)
        sheet.set_column(0, len(chosen) - 1, 20)
        for x, column in enumerate(chosen):
            sheet.write_string(0, x, str(column.label), head)
        for y, obj in enumerate(_objects(queryset, chosen), 1):
            if y > MOST_XLSX:
                raise Refused(gettext('A worksheet has at most %(most)s rows. Export as CSV.') % {'most': MOST_XLSX})
            for x, column in enumerate(chosen):
                _write(sheet, y, x, column.read(obj), moment, plain)
    file.seek(0)
    return file


def _write(sheet: Any, y: int, x: int, value: Any, moment: Any, plain: Any) -> None:
    if isinstance(value, bool):
        sheet.write_boolean(y, x, value)
    elif isinstance(value, int | float | Decimal) and -(10**15) < value < 10**15:
        sheet.write_number(y, x, value)
    elif isinstance(value, datetime):
        sheet.write_datetime(y, x, timezone.make_naive(value) if timezone.is_aware(value) else value, moment)
    elif shown := text(value)[:LONGEST_XLSX]:
        sheet.write_string(y, x, shown, plain if protect(shown) != shown else None)


def _sheet_name(title: str) -> str:
    """A worksheet's name has at most 31 characters, and not these."""
    return ''.join(' ' if char in "[]:*?/\\'" else char for char in title)[:31].strip() or 'Sheet1'
