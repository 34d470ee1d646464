"""Workbooks in: what other programs write is read, what would cost too much or mean something else is refused."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import pytest
import xlsxwriter

from impadmin.console import workbooks
from impadmin.console.bulk import BadFile

MAIN = 'http://schemas.openxmlformats.org/spreadsheetml/2006/main'
OFFICE = 'http://schemas.openxmlformats.org/officeDocument/2006/relationships'
PARTS = {
    '_rels/.rels': '<Relationships><Relationship Id="a" Type="x/officeDocument" Target="xl/workbook.xml"/>'
    '</Relationships>',
    'xl/workbook.xml': f'<workbook xmlns="{MAIN}" xmlns:r="{OFFICE}"><sheets>'
    '<sheet name="hidden" state="hidden" r:id="h"/><sheet name="shown" r:id="s"/></sheets></workbook>',
    'xl/_rels/workbook.xml.rels': '<Relationships><Relationship Id="s" Type="x/worksheet" Target="/xl/sheets/1.xml"/>'
    '<Relationship Id="h" Type="x/worksheet" Target="sheets/no.xml"/>'
    '<Relationship Id="t" Type="x/sharedStrings" Target="strings.xml"/></Relationships>',
    'xl/strings.xml': '<sst><si><t>user_id</t></si>'
    '<si><r><t>山</t></r><r><t>田</t></r><rPh sb="0" eb="2"><t>やまだ</t></rPh></si><si><t>a_x000A_b</t></si></sst>',
}


def made(rows: str, **parts: str) -> io.BytesIO:
    """A workbook with these rows as another program may write it: prefixes, no cell references, no style."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as archive:
        sheet = f'<x:worksheet xmlns:x="{MAIN}"><x:sheetData>{rows}</x:sheetData></x:worksheet>'
        for name, text in {**PARTS, 'xl/sheets/1.xml': sheet, **parts}.items():
            archive.writestr(name, text)
    return file


def read(file: io.BytesIO) -> list[list[str]]:
    return list(workbooks.rows(file))


def test_values_are_read_as_csv_has_them() -> None:
    file = io.BytesIO()
    with xlsxwriter.Workbook(file, {'strings_to_formulas': False}) as book:
        sheet = book.add_worksheet('Users')
        cells: list[tuple[Any, Any]] = [
            ('name', None), ('  blanks ', None), ('=1+1', None), ("'+", None), (5, None), (2.5, None), (1e20, None),
            (True, None), (46347.586909722224, 'yyyy-mm-dd hh:mm:ss'), (46082, 'yyyy"y"m"m"'), (0.5, '[h]:mm'),
            (7, '[Red]0 "days"'), (45_000.25, 'General'),
        ]  # fmt: skip
        for x, (value, code) in enumerate(cells):
            sheet.write(2, x, value, book.add_format({'num_format': code}) if code else None)
        sheet.write(4, 1, 'last')
    assert read(file) == [
        [], [],
        ['name', '  blanks ', '=1+1', "'+", '5', '2.5', '1e+20', 'true', '2026-11-21T14:05:09', '2026-03-01',
         '12:00:00', '7', '45000.25'],
        [], ['', 'last', *[''] * 11],
    ]  # fmt: skip
    assert b''.join(workbooks.blocks(file)).decode().splitlines()[2].startswith('name,"  blanks ",=1+1,\'\'+,5')


def test_what_other_programs_write_is_read() -> None:
    cells = '<x:c t="s"><x:v>0</x:v></x:c><x:c t="s"><x:v>1</x:v></x:c>'
    row = f'<x:row>{cells}<x:c t="inlineStr"><x:is><x:t>in</x:t></x:is></x:c></x:row>'
    more = '<x:row r="3"><x:c r="A3"/><x:c r="B3" t="s"><x:v>2</x:v></x:c></x:row>'
    assert read(made(row + more)) == [['user_id', '山田', 'in'], [], ['', 'a\nb', '']]


@pytest.mark.parametrize(
    ('rows', 'parts', 'text'),
    [
        ('<x:row><x:c r="A1"><x:f>1+1</x:f><x:v>2</x:v></x:c></x:row>', {}, 'Cell A1 has a formula'),
        ('<x:row><x:c r="B1" t="e"><x:v>#N/A</x:v></x:c></x:row>', {}, 'Cell B1 has the error #N/A'),
        ('<x:row r="9999999999"/>', {}, 'cannot be read'),
        ('<x:row r="2"/><x:row r="1"/>', {}, 'cannot be read'),
        ('<x:row><x:c r="XFD1"><x:v>1</x:v></x:c></x:row>', {}, 'too large'),
        ('<x:row><x:c r="A1" t="s"><x:v>77</x:v></x:c></x:row>', {}, 'cannot be read'),
        ('<x:row>', {}, 'cannot be read'),
        ('', {'xl/strings.xml': '<!DOCTYPE a [<!ENTITY b "c">]><sst>&b;</sst>'}, 'cannot be read'),
        ('', {'xl/workbook.xml': '<workbook/>'}, 'cannot be read'),
        ('<x:row>' + '<x:c/>' * 100 + '<x:c><x:v>1' + ' ' * 40_000 + '</x:v></x:c></x:row>', {}, 'too large'),
    ],
)
def test_what_must_not_be_read_is_refused(rows: str, parts: dict[str, str], text: str) -> None:
    with pytest.raises(BadFile, match=text):
        read(made(rows, **parts))


def test_a_file_cannot_make_much_of_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part that unpacks to a thousand times its size, and one text that is named again and again."""
    monkeypatch.setattr(workbooks, 'LARGEST_PART', 1 << 20)
    with pytest.raises(BadFile, match='too large'):
        read(made('<x:row/>' * 200_000))
    monkeypatch.setattr(workbooks, 'MOST_ELEMENTS', 1000)
    with pytest.raises(BadFile, match='too large'):
        read(made('<x:c/>' * 1001))
    monkeypatch.setattr(workbooks, 'MOST_ELEMENTS', 10_000)
    monkeypatch.setattr(workbooks, 'LARGEST_STRINGS', 50 * 1000)
    with pytest.raises(BadFile, match='too large'):
        read(made('', **{'xl/strings.xml': '<sst>' + '<si/>' * 1001 + '</sst>'}))
    monkeypatch.setattr(workbooks, 'LARGEST_TEXT', 1 << 18)
    strings = {'xl/strings.xml': f'<sst><si><t>{"x" * 30_000}</t></si></sst>'}
    with pytest.raises(BadFile, match='too large'):
        list(workbooks.blocks(made('<x:row><x:c t="s"><x:v>0</x:v></x:c></x:row>' * 100, **strings)))
    with pytest.raises(BadFile, match='cannot be read'):
        read(io.BytesIO(b'PK\x03\x04' + bytes(1000)))
