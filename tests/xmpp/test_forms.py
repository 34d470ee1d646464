"""Data forms (XEP-0004, 0068) and date and time profiles (XEP-0082) without a connection."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta, timezone
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.xmpp import datetimes, forms
from engine.xmpp.forms import Field, Form, FormError, parse, submitted
from engine.xmpp.stanza import parse_tree

TYPE = 'urn:example:form'
FIELDS = {
    'who': Field('who', 'jid-single', required=True),
    'watchers': Field('watchers', 'jid-multi'),
    'full': Field('full', 'boolean'),
    'model': Field('model', 'list-single', options=(('open', 'Everyone'), ('presence', ''))),
    'most': Field('most'),
}


def element(inside: str, kind: str = 'submit') -> ElementTree.Element:
    return parse_tree(f"<x xmlns='jabber:x:data' type='{kind}'>{inside}</x>".encode())


def field(var: str, *values: str, type: str = '') -> str:
    kind = f" type='{type}'" if type else ''
    return f"<field var='{var}'{kind}>{''.join(f'<value>{value}</value>' for value in values)}</field>"


WHO = field('who', 'Bob@Example.COM')


def test_a_submission_is_read() -> None:
    form = submitted(
        element(field('FORM_TYPE', TYPE, type='hidden') + WHO + field('full', 'true') + field('most', ' 17 ')),
        TYPE, FIELDS,
    )  # fmt: skip
    assert form.text('who') == 'bob@example.com'
    assert form.flag('full') is True
    assert form.number('most') == 17
    assert form.values('watchers') == ()
    assert 'full' in form
    assert 'model' not in form
    assert submitted(element('', 'cancel'), TYPE, FIELDS, cancel=True).kind == 'cancel'


@pytest.mark.parametrize(
    ('inside', 'message'),
    [
        ('', "'who' is required"),
        (field('who'), "'who' is required"),
        (field('who', 'a@b', 'c@d'), 'has one value, not 2'),
        (field('who', 'a@b@c d'), 'not a JID'),
        (WHO + field('watchers', 'a@b.c', 'A@b.c'), 'twice'),
        (WHO + WHO, "'who' is there twice"),
        (WHO + field('nothing', 'x'), 'There is no field'),
        (WHO + field('full', 'yes'), '0, 1, true or false'),
        (WHO + field('model', 'whitelist'), 'one of: open, presence'),
        (WHO + field('FORM_TYPE', 'urn:other'), "FORM_TYPE is 'urn:example:form'"),
        (WHO + '<field><value>x</value></field>', "attribute 'var'"),
        (WHO + "<field var='most'><value><b/></value></field>", 'text without elements'),
        (WHO + "<field var='most'><option/></field>", 'exactly one value'),
    ],
)
def test_a_wrong_submission_says_what_is_wrong(inside: str, message: str) -> None:
    with pytest.raises(FormError, match=message):
        submitted(element(inside), TYPE, FIELDS)


@pytest.mark.parametrize('value', ['x', '-1', '101', '9' * 30, '٣', '1.5'])
def test_numbers(value: str) -> None:
    form = submitted(element(WHO + field('most', value)), TYPE, FIELDS)
    with pytest.raises(FormError, match='whole number from 0 to 100'):
        form.number('most', high=100)


def test_wrong_forms() -> None:
    with pytest.raises(FormError, match='must be of the type submit, not form'):
        submitted(element(WHO, 'form'), TYPE, FIELDS)
    with pytest.raises(FormError, match='submit, not cancel'):
        submitted(element('', 'cancel'), TYPE, FIELDS)
    with pytest.raises(FormError, match='Send a form'):
        submitted(None, TYPE, FIELDS)
    with pytest.raises(FormError, match='one of cancel, form, result, submit'):
        parse(element('', 'query'))
    with pytest.raises(FormError, match='namespace'):
        parse(ElementTree.Element('x'))


def test_bombs_are_bounded() -> None:
    with pytest.raises(FormError, match='at most 256 fields'):
        parse(element(''.join(field(f'f{n}') for n in range(257))))
    with pytest.raises(FormError, match='at most 2000 values'):
        parse(element(''.join(field(f'f{n}', *['x'] * 100) for n in range(21))))
    with pytest.raises(FormError, match='at most 65536 characters'):
        parse(element(field('a', 'x' * 65537)))
    with pytest.raises(FormError, match='at most 2000 items'):
        parse(element('<item/>' * 2001, 'result'))


text = st.text(st.characters(codec='utf-8', categories=('L', 'N', 'P', 'S', 'Zs')), max_size=20)
fields = st.lists(
    st.builds(
        Field,
        st.text('abc#:/', min_size=1, max_size=8),
        st.sampled_from(sorted(forms.TYPES)),
        st.lists(text, max_size=3).map(tuple),
        text,
        st.lists(st.tuples(text, text), max_size=2).map(tuple),
        st.booleans(),
        text,
    ),
    unique_by=lambda entry: entry.var,
    max_size=5,
).map(tuple)


@given(fields, text, st.sampled_from(['form', 'result']))
def test_what_is_built_reads_the_same(entries: tuple[Field, ...], title: str, kind: forms.FormKind) -> None:
    form = Form(kind, entries, title, (title,))
    assert parse(parse_tree(form.xml().encode())) == form


def test_a_table_reads_the_same() -> None:
    form = Form(
        'result', (forms.hidden(TYPE),), reported=(Field('jid', 'jid-single', label='Who'), Field('n')),
        items=({'jid': ('a@b',), 'n': ('1 < 2',)}, {'jid': ('c@d',), 'n': ()}),
    )  # fmt: skip
    assert parse(parse_tree(form.xml().encode())) == form
    assert form.form_type == TYPE


zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
moments = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=zones)  # noqa: DTZ001


@given(moments)
def test_a_moment_comes_back(when: datetime) -> None:
    assert datetimes.parse(datetimes.format(when, 6)) == when
    assert datetimes.parse(when.isoformat()) == when  # any offset means the same moment
    assert datetimes.parse(datetimes.format(when)).tzinfo is UTC
    assert abs(datetimes.parse(datetimes.format(when, 0)) - when) < timedelta(seconds=1)


@given(st.text('0123456789-:TZ.+ ', max_size=70) | st.text(max_size=70))
def test_any_text_is_read_or_refused(text: str) -> None:
    for read in (datetimes.parse, datetimes.parse_date, datetimes.parse_time):
        with contextlib.suppress(datetimes.InvalidTime):
            read(text)


@pytest.mark.parametrize(
    'wrong',
    [
        '2026-02-30T00:00:00Z', '2026-01-01T24:00:00Z', '2026-01-01T00:00:60Z', '2026-01-01T00:00:00',
        '2026-01-01 00:00:00Z', '20260101T00:00:00', '2026-01-01T00:00:00+15:00', '2026-01-01T00:00:00.Z',
        '0000-01-01T00:00:00Z', '0001-01-01T00:00:00+01:00', '２026-01-01T00:00:00Z', '2026-01-01T00:00:00z', '',
    ],
)  # fmt: skip
def test_wrong_moments(wrong: str) -> None:
    with pytest.raises(datetimes.InvalidTime):
        datetimes.parse(wrong)


def test_dates_and_clock_times() -> None:
    assert datetimes.parse('1969-07-20T21:56:15-05:00') == datetime(1969, 7, 21, 2, 56, 15, tzinfo=UTC)
    assert datetimes.parse('2026-01-01T00:00:00.1234567Z').microsecond == 123456
    assert datetimes.parse_date('1969-07-21').isoformat() == '1969-07-21'
    assert datetimes.parse_time('16:00:00')[1] is None
    assert datetimes.parse_time('16:00:00.5-08:00')[1] == timedelta(hours=-8)
    assert datetimes.parse_time('16:00:00Z')[1] == timedelta()
