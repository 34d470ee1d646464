"""Properties of the CSV reader: every file splits the same way however it is read, and what is written comes back."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from impadmin.bulkadmin.contactfile import COLUMNS, LEAST, Parser, Refusal, export_fields
from impadmin.console.bulk import BadFile, batches, count_records, csv_line, keep_apart, protect, unprotect
from tests.proves import proves

TEXT = st.text(alphabet=st.sampled_from('ab ,"\'=+-@\t\n\r;é漢＝'), max_size=12)
LINES = st.lists(st.text(alphabet=st.sampled_from('ab ,"\'=\t\r;é漢'), max_size=16), max_size=12)


def read(data, size=5000, offset=0, line=1):
    return [row for batch in batches(io.BytesIO(data), COLUMNS, offset, line, size) for row in batch.rows]


@given(LINES, st.sampled_from(['\n', '\r\n']), st.integers(1, 4))
@settings(max_examples=400, deadline=None)
def test_batch_size_and_resuming_change_nothing(lines, end, size):
    data = end.join(lines).encode()
    whole = read(data)
    assert read(data, size) == whole
    # a worker that goes on at any batch's end sees exactly the rest
    for batch in batches(io.BytesIO(data), COLUMNS, 0, 1, size):
        if batch.end and batch.end < len(data):
            rest = read(data, 3, batch.end, batch.line)
            assert rest == [row for row in whole if row[0] >= batch.line]


@given(st.lists(st.lists(TEXT, min_size=2, max_size=7), min_size=1, max_size=8))
@settings(max_examples=400, deadline=None)
def test_what_is_written_is_read_back(rows):
    data = ''.join(csv_line(row) for row in rows).encode()
    expected = [row for row in rows if not ''.join(csv_line(row)).encode().isspace()]
    assert [fields for _, fields in read(data)] == expected
    # and an independent reader agrees
    parsed = list(csv.reader(io.StringIO(data.decode(), newline='')))
    assert parsed == expected


@given(st.binary(max_size=300))
@settings(max_examples=400, deadline=None)
def test_any_bytes_are_refused_or_counted_exactly(data):
    try:
        total = count_records(io.BytesIO(data), COLUMNS, LEAST)
    except BadFile:
        return
    assert total == len(read(data)) == len(read(data, 1))
    parser = Parser()
    for _, fields in read(data):
        parser.parse(fields)


@given(LINES)
@settings(max_examples=300, deadline=None)
def test_count_equals_rows(lines):
    data = '\n'.join(lines).encode()
    try:
        total = count_records(io.BytesIO(data), COLUMNS, 1)
    except BadFile:
        assert not read(data) or '\r' in data.decode()
        return
    assert total == len(read(data))


@given(TEXT)
@settings(max_examples=500, deadline=None)
def test_formula_protection_is_undone_exactly(text):
    assert unprotect(protect(text)) == text
    assert unprotect(keep_apart(text)) == text
    assert protect(text)[:1] not in tuple('=+-@\t\r\n＝')


@proves('BAT-09', 'BAT-30')
@given(
    st.sampled_from(['a\\40b', '+49', '-x', 'o\\27neil', 'plain', 'x\\2fy']),
    TEXT.filter(lambda t: '\r' not in t),
    st.lists(TEXT.filter(str.strip), max_size=3, unique=True),
    st.sampled_from([protect, keep_apart]),
)
@settings(max_examples=300, deadline=None)
def test_export_rows_parse_to_the_same_contact(local, name, groups, cell):
    lines = export_fields(f'{local}@example.com', f'{local}@partner.example', name, groups, 7, cell)
    data = ''.join(csv_line(fields) for fields in lines).encode()
    parser = Parser()
    found = [parser.parse(fields) for _, fields in read(data)]
    assert [row[:5] for row in found if not isinstance(row, Refusal)] == [
        (f'{local}@example.com', f'{local}@partner.example', name, group, 7) for group in groups or ['General']
    ]


@pytest.mark.parametrize(
    ('text', 'rows'),
    [
        ('a,"b\nc",d\ne,f,g\n', [(1, ['a', 'b\nc', 'd']), (3, ['e', 'f', 'g'])]),
        ('a, "b" ,c\n', [(1, ['a', 'b', 'c'])]),
        ('a,5" pipe,c\n', [(1, ['a', '5" pipe', 'c'])]),
        ('a,"open\nb,c\n', [(1, 'A quotation mark is not closed'), (2, ['b', 'c'])]),
        ('a,"x"y,c\nb,c\n', [(1, 'The quotation marks are not balanced'), (2, ['b', 'c'])]),
        ('\ufeff\n \nUser ID,User Domain\na,b', [(4, ['a', 'b'])]),
    ],
)
def test_examples(text, rows):
    assert read(text.encode()) == rows
    assert read(text.encode(), 1) == rows
