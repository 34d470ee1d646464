"""Workbooks (XLSX) that people upload, read row by row as the texts of the CSV dialect.

The first visible worksheet is read (ECMA-376 part 1, 18). Formulas and error values are refused with their cell: what a
formula would give is not known here, and its text is not meant. Whatever the file says about itself, memory, time and
what comes out are bounded: no document types (entities), limited parts, strings, columns and rows.
"""

from __future__ import annotations

import io
import posixpath
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any, BinaryIO
from xml.parsers import expat

from django.utils.translation import gettext_noop

from impadmin.console.bulk import BLOCK, BadFile, csv_line, keep_apart

MAGIC = b'PK\x03\x04'
OLD_MAGIC = b'\xd0\xcf\x11\xe0'
LARGEST = 64 << 20
"""Bytes of one workbook."""
LARGEST_DIRECTORY = 1 << 20
LARGEST_PART = 256 << 20
"""Bytes of one part of it, unpacked."""
MOST_ELEMENTS = 10_000_000
"""XML elements of one part: two for each cell."""
LARGEST_STRINGS = 128 << 20
"""Characters of all shared strings, each counted as 50 more: what it takes to keep it."""
LARGEST_TEXT = 512 << 20
"""Characters that come out."""
LONGEST_CELL = 32_767
MOST_COLUMNS = 500
MOST_ROWS = 1_048_576

_BROKEN = (
    zipfile.BadZipFile, zlib.error, expat.ExpatError, LookupError, ValueError, OverflowError, EOFError, StopIteration,
    NotImplementedError, RuntimeError,
)  # fmt: skip
"""What a file that is no workbook makes of its reader."""

NO_WORKBOOK = gettext_noop('The workbook cannot be read. Save it as XLSX, or as CSV UTF-8, and upload it again.')
OLD = gettext_noop('The file is an old or protected workbook. Save it as XLSX without a password and upload it again.')
TOO_MUCH = gettext_noop('The workbook is too large. Save it as CSV UTF-8 and upload it again.')

_REFERENCE = re.compile('([A-Z]{1,3})[0-9]{1,7}')
_ESCAPED = re.compile('_x([0-9A-Fa-f]{4})_')
_DATE_FORMATS = frozenset({*range(14, 23), *range(27, 37), *range(45, 48), *range(50, 59)})
"""Built-in number formats (18.8.30) that show a date or a time."""
_LITERAL = re.compile(r'"[^"]*"|\\.|_.|\[(?!h+\]|m+\]|s+\])[^\]]*\]', re.IGNORECASE)


def is_workbook(head: bytes) -> bool:
    """Whether a file that begins so is to be read here."""
    return head[:4] in (MAGIC, OLD_MAGIC)


def blocks(file: BinaryIO) -> Iterator[bytes]:
    """The worksheet as CSV, a line for each row, in blocks. Raises BadFile."""
    lines: list[str] = []
    written = size = 0
    for cells in rows(file):
        lines.append(csv_line(map(keep_apart, cells)) if any(cells) else '\n')
        size += len(lines[-1])
        if size > BLOCK // 4:
            written += size
            if written > LARGEST_TEXT:
                raise BadFile(TOO_MUCH)
            yield ''.join(lines).encode(errors='replace')
            lines.clear()
            size = 0
    yield ''.join(lines).encode(errors='replace')


def rows(file: BinaryIO) -> Iterator[list[str]]:
    """The rows of the first visible worksheet, each as wide as the first one that has something. Raises BadFile."""
    try:
        with zipfile.ZipFile(_checked(file)) as archive:
            width = 0
            for cells in _Book(archive).rows():
                width = width or len(cells)
                yield cells + [''] * (width - len(cells)) if cells else []
    except BadFile:
        raise
    except _BROKEN as error:
        raise BadFile(NO_WORKBOOK) from error


def _checked(file: BinaryIO) -> BinaryIO:
    """The file when its directory can be read into memory."""
    file.seek(0)
    if file.read(4) == OLD_MAGIC:
        raise BadFile(OLD)
    size = file.seek(0, io.SEEK_END)
    if size > LARGEST:
        raise BadFile(TOO_MUCH)
    file.seek(max(0, size - 66_000))
    tail = file.read()
    end = tail.rfind(b'PK\x05\x06')
    if end < 0 or b'PK\x06\x07' in tail[max(0, end - 20) : end]:
        raise BadFile(NO_WORKBOOK)
    if int.from_bytes(tail[end + 12 : end + 16], 'little') > LARGEST_DIRECTORY:
        raise BadFile(TOO_MUCH)
    return file


class _Book:
    """The parts of a workbook that tell how its first worksheet is read."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self.archive = archive
        main = next(path for kind, path in self._related('').values() if kind == 'officeDocument')
        related = self._related(main)
        sheets, self.is_1904 = self._sheets(main)
        self.sheet = next(path for name in sheets for kind, path in [related[name]] if kind == 'worksheet')
        paths = dict(related.values())
        self.strings = self._strings(paths['sharedStrings']) if paths.get('sharedStrings') else []
        self.dates = self._dates(paths['styles']) if paths.get('styles') else {}

    def rows(self) -> Iterator[list[str]]:
        """The rows of the worksheet, an empty one for each that the file leaves out."""
        sheet = _Sheet(self.strings, self.dates, self.is_1904)
        for _ in self._parsed(self.sheet, sheet.start, sheet.end, sheet.text):
            yield from sheet.done
            sheet.done.clear()
        yield from sheet.done

    def _parsed(
        self,
        path: str,
        start: Callable[[str, dict[str, str]], None],
        end: Callable[[str], None] = lambda tag: None,
        text: Callable[[str], None] = lambda text: None,
    ) -> Iterator[None]:
        """Feed a part to these functions, a block at a time. Names come without their namespaces."""
        parser, size, elements = expat.ParserCreate(namespace_separator=' '), 0, 0

        def begin(tag: str, given: dict[str, str]) -> None:
            nonlocal elements
            elements += 1
            if elements > MOST_ELEMENTS:
                raise BadFile(TOO_MUCH)
            start(tag.rpartition(' ')[2], given)

        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = _no_document_type
        parser.StartElementHandler = begin
        parser.EndElementHandler = lambda tag: end(tag.rpartition(' ')[2])
        parser.CharacterDataHandler = text
        with self.archive.open(path) as part:
            while block := part.read(BLOCK):
                size += len(block)
                if size > LARGEST_PART:
                    raise BadFile(TOO_MUCH)
                parser.Parse(block)
                yield
        parser.Parse(b'', True)

    def _read(self, path: str, start: Callable[[str, dict[str, str]], None], *others: Any) -> None:
        for _ in self._parsed(path, start, *others):
            pass

    def _related(self, path: str) -> dict[str, tuple[str, str]]:
        """Id -> (kind, path) of the parts that a part names."""
        folder, name = posixpath.split(path)
        found: dict[str, tuple[str, str]] = {}

        def start(tag: str, given: dict[str, str]) -> None:
            if tag == 'Relationship' and given.get('TargetMode') != 'External':
                target = posixpath.normpath(posixpath.join('/', folder, given['Target'])).lstrip('/')
                found[given['Id']] = given['Type'].rpartition('/')[2], target

        self._read(posixpath.join(folder, '_rels', f'{name}.rels'), start)
        return found

    def _sheets(self, path: str) -> tuple[list[str], bool]:
        """Ids of the visible worksheets; whether days are counted from 1904."""
        found: list[str] = []
        is_1904 = False

        def start(tag: str, given: dict[str, str]) -> None:
            nonlocal is_1904
            if tag == 'sheet' and given.get('state', 'visible') == 'visible':
                found.append(next(value for name, value in given.items() if name.endswith(' id')))
            elif tag == 'workbookPr':
                is_1904 = given.get('date1904') in ('1', 'true')

        self._read(path, start)
        return found, is_1904

    def _strings(self, path: str) -> list[str]:
        """The shared strings, without the readings of East Asian ones."""
        found: list[str] = []
        parts: list[str] = []
        inside, kept = '', 0

        def start(tag: str, given: dict[str, str]) -> None:
            nonlocal inside
            if tag in ('t', 'rPh') and inside != 'rPh':
                inside = tag

        def end(tag: str) -> None:
            nonlocal inside, kept
            if tag == inside:
                inside = ''
            if tag == 'si':
                found.append(_unescaped(''.join(parts)))
                kept += len(found[-1]) + 50
                parts.clear()
                if kept > LARGEST_STRINGS:
                    raise BadFile(TOO_MUCH)

        self._read(path, start, end, lambda text: parts.append(text) if inside == 't' else None)
        return found

    def _dates(self, path: str) -> dict[int, str]:
        """Number of a cell's style -> what it shows of a date: some of d, t."""
        shown = dict.fromkeys(_DATE_FORMATS, 'dt')
        shown |= dict.fromkeys((14, 15, 16, 17), 'd') | dict.fromkeys((18, 19, 20, 21, 45, 46, 47), 't')
        found: dict[int, str] = {}
        inside, number = False, 0

        def start(tag: str, given: dict[str, str]) -> None:
            nonlocal inside, number
            if tag == 'numFmt':
                code = _LITERAL.sub('', given['formatCode']).lower()
                kinds = ('d' if set(code) & set('yd') else '') + ('t' if set(code) & set('hs') else '')
                shown[int(given['numFmtId'])] = kinds or ('d' if 'm' in code else '')
            elif tag == 'cellXfs':
                inside = True
            elif tag == 'xf' and inside:
                if kinds := shown.get(int(given.get('numFmtId', 0)), ''):
                    found[number] = kinds
                number += 1

        def end(tag: str) -> None:
            nonlocal inside
            inside = inside and tag != 'cellXfs'

        self._read(path, start, end)
        return found


class _Sheet:
    """Makes rows of a worksheet's elements; ``done`` are those that are complete."""

    def __init__(self, strings: list[str], dates: dict[int, str], is_1904: bool) -> None:
        self.strings, self.dates, self.is_1904 = strings, dates, is_1904
        self.done: list[list[str]] = []
        self.number = 0
        self.cells: list[str] = []
        self.column, self.reference, self.kind, self.style = 0, '', '', 0
        self.parts: list[str] = []
        self.inside = ''

    def start(self, tag: str, given: dict[str, str]) -> None:
        """An element begins."""
        if tag == 'row':
            number = int(given.get('r', self.number + 1))
            if not self.number < number <= MOST_ROWS:
                raise BadFile(NO_WORKBOOK)
            self.done += [[] for _ in range(number - self.number - 1)]
            self.number, self.column, self.cells = number, 0, []
        elif tag == 'c':
            self.reference = given.get('r', '')
            self.column = _column(self.reference) if self.reference else self.column + 1
            self.kind, self.style = given.get('t', 'n'), int(given.get('s', 0))
            self.parts.clear()
        elif tag == 'f':
            raise BadFile(gettext_noop('Cell %(cell)s has a formula. Paste its value instead.'), cell=self._place())
        elif tag in ('v', 't', 'rPh') and self.inside != 'rPh':
            self.inside = tag

    def end(self, tag: str) -> None:
        """An element ends."""
        if tag == self.inside:
            self.inside = ''
        elif tag == 'c' and (text := self._value(''.join(self.parts))):
            if self.column > MOST_COLUMNS or self.column <= len(self.cells):
                raise BadFile(TOO_MUCH if self.column > MOST_COLUMNS else NO_WORKBOOK)
            self.cells += [''] * (self.column - len(self.cells) - 1)
            self.cells.append(text)
        elif tag == 'row':
            self.done.append(self.cells)

    def text(self, text: str) -> None:
        """Characters of an element."""
        if self.inside in ('v', 't'):
            self.parts.append(text)
            if len(self.parts) > 1000 or len(text) > LONGEST_CELL:
                raise BadFile(TOO_MUCH)

    def _place(self) -> str:
        return self.reference or f'{self.number}:{self.column}'

    def _value(self, text: str) -> str:
        """A cell as CSV has it, before protection."""
        if not text:
            return ''
        if self.kind == 's':
            return self.strings[int(text)]
        if self.kind in ('inlineStr', 'str'):
            return _unescaped(text)
        if self.kind == 'b':
            return 'true' if text in ('1', 'true') else 'false'
        if self.kind == 'e':
            text_ = gettext_noop('Cell %(cell)s has the error %(error)s. Enter a value.')
            raise BadFile(text_, cell=self._place(), error=text[:20])
        if self.kind == 'd':
            return text
        number = float(text)
        if self.style in self.dates:
            return _moment(number, self.is_1904, self.dates[self.style])
        return str(int(number)) if number.is_integer() and abs(number) < 10**15 else repr(number)


def _no_document_type(*given: Any) -> None:
    raise BadFile(NO_WORKBOOK)


def _column(reference: str) -> int:
    """Number of the column of a cell such as AB12, from 1."""
    found = _REFERENCE.fullmatch(reference)
    if found is None:
        raise BadFile(NO_WORKBOOK)
    number = 0
    for letter in found[1]:
        number = 26 * number + ord(letter) - 64
    return number


def _unescaped(text: str) -> str:
    """Text with ``_x000D_`` as the character it stands for (22.4.2.4)."""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text) if '_x' in text else text


def _moment(days: float, is_1904: bool, shown: str) -> str:
    """A day number (18.17.4.1) as ISO 8601, as far as the cell shows it; 1900 counts as a leap year there."""
    first = datetime(1904, 1, 1) if is_1904 else datetime(1899, 12, 31 if days < 60 else 30)  # noqa: DTZ001 - it has none
    moment = first + timedelta(milliseconds=round(days * 86_400_000))
    moment = moment.replace(microsecond=0) + timedelta(seconds=moment.microsecond >= 500_000)
    if shown == 't' and days < 1:
        return moment.time().isoformat()
    return moment.date().isoformat() if shown == 'd' and days.is_integer() else moment.isoformat()
