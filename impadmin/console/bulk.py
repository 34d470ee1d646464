"""Files in and out: limited uploads, one CSV dialect, checks of a whole file before work begins.

Dialect (spec 14): UTF-8 with optional BOM, LF or CRLF, commas, blanks around a field trimmed, RFC 4180 double quotes
(also over several lines), empty lines ignored, a first row that equals the column names skipped.

Formula protection: a spreadsheet runs cells that begin with ``= + - @``, a tab or a line break. ``protect`` puts an
apostrophe before such a cell, and one more before a cell that already has apostrophes there; ``unprotect`` takes
exactly one away. So ``unprotect(protect(x)) == x`` for every text, and files of other origin stay as they are.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import IO, Any, BinaryIO

from django.core.files.uploadedfile import SimpleUploadedFile, UploadedFile
from django.core.files.uploadhandler import FileUploadHandler
from django.utils.translation import gettext_noop

UPLOAD_LIMIT = 1 << 30
"""Bytes of one uploaded file."""
LINE_LIMIT = 64 * 1024
"""Bytes of one line; no legal row comes near it."""
RECORD_LINES = 100
"""Lines one quoted record may span."""
BLOCK = 256 * 1024
BOM = codecs.BOM_UTF8

_TRIGGERS = '=+\\-@\t\r\n＝＋－＠'
_RISKY = re.compile(f"'*[{_TRIGGERS}]")
_PROTECTED = re.compile(f"'+[{_TRIGGERS}]")
_MARK = '"'
_QUOTE = re.compile(r'[",\r\n]|^[ \t]|[ \t]$')
_FIELD = re.compile(r'[ \t]*(?:"((?:[^"]|"")*+)"[ \t]*|([^",\r\n][^,\r\n]*|))(,|\r?\n?\Z)')
_SPECIAL = ('"', '\r', '\t', '\v', '\f', ', ', ' ,', '\n ', ' \n', '\n\n')
_OPEN = re.compile(r'[ \t]*"(?:[^"]|"")*+\Z')

TOO_LARGE = gettext_noop('The file is larger than 1 GiB. Split it and upload the parts.')


@dataclass(frozen=True, slots=True)
class Layout:
    """How the rows of a file differ from plain CSV.

    free        number of columns when the last one is text up to the end of the line, commas and quotation marks
                included, unless it begins with a quotation mark; 0: no such column
    also        column names in a second order that a first row may have as well
    line_limit  most bytes of one line
    """

    free: int = 0
    also: tuple[str, ...] = ()
    line_limit: int = LINE_LIMIT


PLAIN = Layout()
NOT_CLOSED = gettext_noop('A quotation mark is not closed')
STRAY_CR = gettext_noop('A carriage return stands inside the row')
BAD_QUOTES = gettext_noop('The quotation marks are not balanced')


class BadFile(Exception):
    """The whole file is refused; ``text`` says what is wrong and what would be right, ``values`` fill its blanks."""

    def __init__(self, text: str, **values: Any) -> None:
        super().__init__(text % values if values else text)
        self.text, self.values = text, values


class TooLarge(SimpleUploadedFile):
    """Stands for an upload beyond the limit, whose bytes were not kept."""


class LimitedUploadHandler(FileUploadHandler):
    """First upload handler: lets no more than UPLOAD_LIMIT bytes through, none when the request says it is larger."""

    def handle_raw_input(
        self, input_data: Any, META: Any, content_length: int | None, boundary: Any, encoding: str | None = None
    ) -> None:
        """Look at the announced length before anything is stored."""
        self.over = (content_length or 0) > UPLOAD_LIMIT + BLOCK

    def receive_data_chunk(self, raw_data: bytes, start: int) -> bytes | None:
        """Pass the data on, or swallow it once there is too much."""
        self.over = self.over or start + len(raw_data) > UPLOAD_LIMIT
        return None if self.over else raw_data

    def file_complete(self, file_size: int) -> Any:
        """A marker in place of a file that is too large; None leaves the file to the next handler."""
        return TooLarge(self.file_name or 'file', b'') if self.over else None


def limit_body(app: Any) -> Any:
    """ASGI middleware: a request body beyond the upload limit is read and thrown away, never stored, then refused.

    Reading it to the end lets a browser show the answer; it would report a broken connection otherwise.
    """

    async def limited(scope: Any, receive: Any, send: Any) -> None:
        headers = dict(scope['headers'])
        announced = headers.get(b'content-length', b'0')
        if not announced.isdigit() or int(announced) <= UPLOAD_LIMIT + BLOCK:
            await app(scope, receive, send)
            return
        if headers.get(b'expect', b'').lower() != b'100-continue':
            while (await receive()).get('more_body'):
                pass
        body = TOO_LARGE.encode()
        kind = b'text/plain; charset=utf-8'
        if scope['path'].startswith('/api/'):
            body, kind = json.dumps({'detail': TOO_LARGE}).encode(), b'application/json'
        length = str(len(body)).encode()
        await send(
            {
                'type': 'http.response.start',
                'status': 413,
                'headers': [(b'content-type', kind), (b'content-length', length), (b'connection', b'close')],
            }
        )
        await send({'type': 'http.response.body', 'body': body})

    return limited


@dataclass(frozen=True, slots=True)
class Batch:
    """Some consecutive records. rows: (line, fields or what is wrong); end: offset after them; line: the next one."""

    rows: list[tuple[int, list[str] | str]]
    end: int
    line: int


def protect(text: str) -> str:
    """The cell as it may be opened in a spreadsheet."""
    return "'" + text if _RISKY.match(text) else text


def keep_apart(text: str) -> str:
    """The cell for other systems: only what ``unprotect`` would take for protection gets an apostrophe."""
    return "'" + text if _PROTECTED.match(text) else text


def unprotect(text: str) -> str:
    """Undo ``protect`` or ``keep_apart``."""
    return text[1:] if _PROTECTED.match(text) else text


def csv_line(fields: Iterable[str]) -> str:
    """One RFC 4180 record, quoted where needed, with LF."""
    return ','.join(_quote(field) if _QUOTE.search(field) else field for field in fields) + '\n'


def free_line(fields: Sequence[str]) -> str:
    """One record whose last column is free text in one line (``Layout.free``), with LF."""
    last = fields[-1]
    head = csv_line(fields[:-1]).removesuffix('\n')
    return f'{head},{_quote(last) if last.startswith(_MARK) else last}\n'


def _quote(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def inspect_head(head: bytes, columns: Sequence[str], least: int) -> None:
    """Refuse from its first bytes what is no CSV of this kind. Raises BadFile. ``least``: columns a row must have."""
    if not head:
        raise BadFile(gettext_noop('The file is empty. Choose a CSV file with at least one row.'))
    if head[:2] in (b'\xff\xfe', b'\xfe\xff') or _looks_utf16(head):
        raise BadFile(gettext_noop('The file is UTF-16. Save it as CSV UTF-8 and upload it again.'))
    if head[:4] == b'PK\x03\x04':
        raise BadFile(gettext_noop('The file is a workbook or ZIP archive. Save it as CSV UTF-8 and upload it again.'))
    if b'\0' in head:
        line = head[: head.index(b'\0')].count(b'\n') + 1
        raise BadFile(gettext_noop('Line %(line)s has a NUL byte. The file must be text in UTF-8.'), line=line)
    if b'\r' in head and b'\n' not in head:
        raise BadFile(gettext_noop('The lines end in CR only. Save the file with line ends LF or CRLF.'))
    records = []
    for raw in head.removeprefix(BOM).splitlines(keepends=True)[:-1][:200] or [head.removeprefix(BOM)]:
        text = raw.decode('utf-8', 'replace')
        if raw.strip():
            records.append(text)
    if not records:
        return
    sample = records[:20]
    if any('"' in text for text in sample):
        return
    widths = [text.count(',') + 1 for text in sample]
    if max(widths) >= least:
        return
    for char, name in ((';', ';'), ('\t', 'TAB'), ('|', '|')):
        if all(text.count(char) + 1 >= least for text in sample):
            raise BadFile(
                gettext_noop('The columns are separated by %(char)s. Save the file with commas as separators.'),
                char=name,
            )
    raise BadFile(
        gettext_noop('The rows have %(found)s columns, but %(count)s are needed: %(columns)s.'),
        found=max(widths), count=len(columns), columns=', '.join(columns),
    )  # fmt: skip


def _looks_utf16(head: bytes) -> bool:
    sample = head[:512]
    return len(sample) >= 4 and (sample[1::2].count(0) > len(sample) // 3 or sample[::2].count(0) > len(sample) // 3)


class ByteCheck:
    """Fed with a file's bytes as they pass: refuses NUL bytes, text that is not UTF-8, and endless lines."""

    def __init__(self, line_limit: int = LINE_LIMIT) -> None:
        self._limit = line_limit
        self._decoder = codecs.getincrementaldecoder('utf-8')()
        self._lines = 0
        self._tail = 0

    def feed(self, block: bytes, final: bool = False) -> None:
        """Check the next bytes (at most some 100 KiB each). Raises BadFile naming the line."""
        if b'\0' in block:
            line = self._lines + block[: block.index(b'\0')].count(b'\n') + 1
            raise BadFile(gettext_noop('Line %(line)s has a NUL byte. The file must be text in UTF-8.'), line=line)
        try:
            self._decoder.decode(block, final)
        except UnicodeDecodeError as error:
            line = self._lines + bytes(error.object)[: error.start].count(b'\n') + 1
            raise BadFile(
                gettext_noop('Line %(line)s is not UTF-8. Save the file as CSV UTF-8 and upload it again.'), line=line
            ) from error
        pieces = block.split(b'\n') if len(block) + self._tail > self._limit else ()
        lengths = [len(piece) for piece in pieces]
        if lengths:
            lengths[0] += self._tail
            if max(lengths) > self._limit:
                line = self._lines + next(n for n, length in enumerate(lengths) if length > self._limit) + 1
                raise BadFile(
                    gettext_noop('Line %(line)s is longer than %(limit)s bytes. Check the line ends of the file.'),
                    line=line, limit=self._limit,
                )  # fmt: skip
            self._tail = lengths[-1]
        else:
            last = block.rfind(b'\n')
            self._tail = self._tail + len(block) if last < 0 else len(block) - last - 1
        self._lines += block.count(b'\n')


def receive(
    upload: UploadedFile[Any],
    file: BinaryIO,
    columns: Sequence[str],
    least: int,
    layout: Layout = PLAIN,
    blocks: Iterable[bytes] | None = None,
) -> tuple[int, str]:
    """Check an upload (or ``blocks`` made of it) while it streams into ``file``; its size and SHA-256, once it is on
    the disk. Raises BadFile."""
    if isinstance(upload, TooLarge):
        raise BadFile(TOO_LARGE)
    digest, size, check = hashlib.sha256(), 0, ByteCheck(layout.line_limit)
    for block in upload.chunks(BLOCK) if blocks is None else blocks:
        if not size:
            inspect_head(block[:BLOCK], columns, least)
        check.feed(block)
        digest.update(block)
        file.write(block)
        size += len(block)
    if not size:
        inspect_head(b'', columns, least)
    check.feed(b'', final=True)
    file.flush()
    os.fsync(file.fileno())
    return size, digest.hexdigest()


def count_records(file: BinaryIO, columns: Sequence[str], least: int, layout: Layout = PLAIN) -> int:
    """Check a whole file, then count its data rows. Raises BadFile. Memory does not grow with the file."""
    file.seek(0)
    check, quoted, first = ByteCheck(layout.line_limit), False, True
    while block := file.read(BLOCK):
        if first:
            inspect_head(block, columns, least)
            first = False
        check.feed(block)
        quoted = quoted or b'"' in block
    if first:
        inspect_head(b'', columns, least)
    check.feed(b'', final=True)
    file.seek(0)
    if quoted:
        total = sum(len(batch.rows) for batch in batches(file, columns, layout=layout))
    else:
        total = 0
        if file.read(len(BOM)) != BOM:
            file.seek(0)
        start = file.tell()
        while lines := file.readlines(BLOCK):
            total += sum(1 for line in lines if not line.isspace())
        file.seek(start)
        head = next((line for line in file if not line.isspace()), b'')
        total -= is_header([field.strip(' \t\r\n') for field in head.decode().split(',')], columns, layout.also)
    if not total:
        raise BadFile(gettext_noop('The file has no data rows.'))
    return total


def is_header(fields: Sequence[str], *orders: Sequence[str]) -> bool:
    """Whether a first row only names the columns, in one of these orders (the last ones may be missing)."""
    found = [field.casefold() for field in fields]
    return len(fields) > 1 and any(found == [name.casefold() for name in order[: len(fields)]] for order in orders)


def split_quoted(text: str, free: int = 0) -> list[str] | None:
    """Fields of one record with quotation marks; None when a quotation is still open. Raises ValueError.

    ``free`` as in Layout.
    """
    fields: list[str] = []
    at = 0
    while True:
        if len(fields) == free - 1 and not (rest := text[at:].strip(' \t\r\n')).startswith(_MARK):
            return [*fields, rest]
        found = _FIELD.match(text, at)
        if found is None:
            if _OPEN.match(text, at):
                return None
            raise ValueError(BAD_QUOTES)
        quoted, plain, separator = found.groups()
        fields.append(plain.strip(' \t') if quoted is None else quoted.replace('""', '"'))
        if separator != ',':
            return fields
        at = found.end()


def batches(
    file: BinaryIO, columns: Sequence[str], offset: int = 0, line: int = 1, size: int | Any = 5000,
    layout: Layout = PLAIN,
) -> Iterator[Batch]:  # fmt: skip
    """Records of a checked file from ``offset`` (a batch's end) and its line number on, ``size`` lines at a time.

    A record whose quotation never closes is wrong by itself; reading goes on at the next line. ``size`` may be a
    function, asked before every batch.
    """
    file.seek(offset)
    first = offset == 0
    if first and file.read(len(BOM)) != BOM:
        file.seek(0)
    position = file.tell()
    pending: list[bytes] = []
    while True:
        want = size() if callable(size) else size
        lines = pending + list(islice(file, max(0, want - len(pending))))
        pending = []
        if not lines:
            return
        if not first and not layout.free and (plain := _plain(lines)) is not None:
            position += sum(map(len, lines))
            yield Batch(list(zip(range(line, line + len(lines)), plain, strict=True)), position, line + len(lines))
            line += len(lines)
            continue
        rows: list[tuple[int, list[str] | str]] = []
        at = 0
        while at < len(lines):
            raw = lines[at]
            at += 1
            line += 1
            position += len(raw)
            if raw.isspace():
                continue
            number = line - 1
            simple = _simple(raw, layout.free)
            if simple is not None:
                fields: list[str] | str = simple if b'\r' not in raw[:-2] else STRAY_CR
            else:
                fields, used = _quoted(file, lines, at - 1, layout)
                for extra in lines[at : at + used - 1]:
                    position += len(extra)
                    line += 1
                at += used - 1
            if first:
                first = False
                if isinstance(fields, list) and is_header(fields, columns, layout.also):
                    continue
            rows.append((number, fields))
            if len(rows) >= want and at < len(lines):
                pending = lines[at:]
                break
        yield Batch(rows, position, line)


def _plain(lines: list[bytes]) -> list[list[str]] | None:
    """Fields of lines that have nothing special about them, all at once; None when one may have."""
    text = b''.join(lines).decode().replace('\r\n', '\n')
    if any(mark in text for mark in _SPECIAL) or text[0] in ' \n' or text[-1] == ' ':
        return None
    return [row.split(',') for row in text.removesuffix('\n').split('\n')]


def _simple(raw: bytes, free: int) -> list[str] | None:
    """Fields of a line without quoted ones, else None."""
    if not free:
        return None if b'"' in raw else [field.strip(' \t\r\n') for field in raw.decode().split(',')]
    fields = [field.strip(' \t\r\n') for field in raw.decode().split(',', free - 1)]
    if any(_MARK in field for field in fields[: free - 1]) or fields[-1].startswith(_MARK):
        return None
    return fields


def _quoted(file: IO[bytes], lines: list[bytes], at: int, layout: Layout) -> tuple[list[str] | str, int]:
    """The record that starts at ``lines[at]`` and how many lines it takes; reads more lines into ``lines``."""
    text = ''
    for used in range(1, RECORD_LINES + 1):
        if at + used > len(lines):
            more = file.readline(layout.line_limit * 2)
            if not more:
                return NOT_CLOSED, 1
            lines.append(more)
        text += lines[at + used - 1].decode()
        if len(text) > layout.line_limit:
            return NOT_CLOSED, 1
        try:
            fields = split_quoted(text, layout.free)
        except ValueError:
            return BAD_QUOTES, 1
        if fields is not None:
            return fields, used
    return NOT_CLOSED, 1
