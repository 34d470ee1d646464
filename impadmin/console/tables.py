"""Columns and cells of Find and List."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date as Day
from datetime import datetime
from html import escape
from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import FieldDoesNotExist
from django.db import models
from django.db.models import F, Func, Value
from django.db.models.functions import Lower
from django.template.defaultfilters import filesizeformat
from django.templatetags.static import static
from django.utils import timezone
from django.utils.formats import date_format, number_format
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe
from django.utils.text import capfirst
from django.utils.translation import get_language, gettext

from impadmin.console.filters import resolve
from impadmin.console.page import Column, Page, Text
from impadmin.console.registry import page_url

_KANA = re.compile('[\u3040-\u30ff]')
_HANGUL = re.compile('[\uac00-\ud7af]')
NUMERIC = frozenset({'number', 'bytes', 'time'})
"""Kinds of columns that stand to the right."""
FEW = 50
"""Objects that a reference can lead to, up to which their places are looked up."""
LONG_STATE = 16
"""Characters of a state that may be cut where there is little room: the rest is in its title."""


@dataclass(frozen=True, slots=True)
class ResolvedColumn:
    """A column with everything the list needs. ``related`` is a path for select_related, or ''."""

    name: str
    label: Text
    kind: str
    value: Callable[[Any], Any]
    order_by: str
    folded: bool
    """Text that is sorted without regard to case."""
    default: bool
    related: str = ''
    hint: Callable[[Any], Text] | None = None


@dataclass(slots=True)
class Line:
    """One row of the list."""

    pk: Any
    name: str
    html: SafeString
    """The row of the table."""
    selected: bool = False


def box_html(pk: Any, label: str, selected: bool) -> str:
    """The cell that selects a row, with the key that says that the row was shown; ``label`` is HTML already."""
    key, checked = escape(str(pk)), ' checked' if selected else ''
    return (
        f'<td class="check"><input type="hidden" name="shown" value="{key}"><input type="checkbox" class="ck" name="pk"'
        f' value="{key}" aria-label="{label}"{checked}></td>'
    )


def state_html(mark: str, word: Any, classes: str = '') -> SafeString:
    """A state: mark (ok, warn, bad, busy, off) and word."""
    return format_html('{}{}</span></span>', _state_begins(mark, classes), word)


@functools.lru_cache(maxsize=100)
def _state_begins(mark: str, classes: str = '') -> SafeString:
    """A state up to its word; the same for most rows of a list."""
    return format_html(
        '<span class="st st-{} {}"><svg class="i" aria-hidden="true" focusable="false">'
        '<use href="{}#s-{}"/></svg><span>',
        mark,
        classes,
        static('icons.svg'),
        mark,
    )


def columns(page: Page) -> list[ResolvedColumn]:
    """Every column of a page."""
    return [_declared(page, c) if isinstance(c, Column) else _plain(page, c) for c in page.columns]


def _plain(page: Page, name: str) -> ResolvedColumn:
    found = resolve(page.model, name)
    kind, related, value = 'text', '', _getter(name)
    order_by = name
    if isinstance(found, models.ForeignKey):
        from impadmin.console.forms import natural_field

        related = name
        order_by = f'{name}__{natural_field(found.remote_field.model)}'
    elif found.choices:
        choices = dict(found.flatchoices)

        def value(obj: Any, name: str = name, choices: dict[Any, Any] = choices) -> Any:
            held = getattr(obj, name)
            return choices.get(held, held)
    elif isinstance(found, models.BooleanField):
        kind = 'bool'
    elif isinstance(found, models.IntegerField | models.FloatField | models.DecimalField):
        kind = 'bytes' if name.endswith('_bytes') else 'number'
    elif isinstance(found, models.DateTimeField):
        kind = 'time'
    if '__' in name:
        related = name.rpartition('__')[0]
    folded = isinstance(found, models.CharField | models.TextField | models.ForeignKey)
    return ResolvedColumn(name, capfirst(found.verbose_name), kind, value, order_by, folded, True, related)


def _getter(name: str) -> Callable[[Any], Any]:
    parts = name.split('__')

    def value(obj: Any) -> Any:
        for part in parts:
            obj = None if obj is None else getattr(obj, part)
        return obj

    return value


def _declared(page: Page, column: Column) -> ResolvedColumn:
    if column.value is None and column.name in {one.name for one in page.model._meta.concrete_fields}:
        plain = _plain(page, column.name)
        given: dict[str, Any] = {'order_by': column.order_by} if column.order_by else {}
        given |= {'kind': column.kind} if column.kind else {}
        return replace(plain, label=column.label, default=column.default, hint=column.hint, **given)
    folded = False
    if column.order_by:
        try:
            folded = isinstance(resolve(page.model, column.order_by), models.CharField | models.TextField)
        except FieldDoesNotExist:
            folded = False  # an annotation of the page's queryset
    value = column.value or _getter(column.name)
    return ResolvedColumn(
        column.name,
        column.label,
        column.kind or 'text',
        value,
        column.order_by,
        folded,
        column.default,
        hint=column.hint,
    )


def ordering(page: Page, all_columns: Sequence[ResolvedColumn], sort: str) -> list[Any]:
    """Arguments of ``order_by`` for a sort key such as ``name`` or ``-name``; always ends with the primary key."""
    descending = sort.startswith('-')
    column = next((c for c in all_columns if c.name == sort.removeprefix('-') and c.order_by), None)
    if column is None:
        return [*page.ordering, 'pk']
    key: Any = _place_of(page, column) or (Lower(column.order_by) if column.folded else F(column.order_by))
    last = (
        _can_be_null(page, column.order_by) or None
    )  # said where nothing is null it would keep indexes from being used
    return [key.desc(nulls_last=last) if descending else key.asc(nulls_last=last), 'pk']


def _place_of(page: Page, column: ResolvedColumn) -> Any:
    """For a reference to one of few objects: its place among them by name, a number. To join their names to each row
    and compare these takes twice as long. None where it does not apply."""
    field = next((one for one in page.model._meta.concrete_fields if one.name == column.name), None)
    if not isinstance(field, models.ForeignKey) or not column.order_by.startswith(f'{column.name}__'):
        return None
    related, natural = field.remote_field.model, column.order_by.removeprefix(f'{column.name}__')
    keys = list(related._default_manager.order_by(Lower(natural), 'pk').values_list('pk', flat=True)[: FEW + 1])
    if not keys or len(keys) > FEW or not all(isinstance(key, int) for key in keys):
        return None
    places = Value(keys, ArrayField(models.BigIntegerField()))
    return Func(places, F(field.attname), function='array_position', output_field=models.IntegerField())


def _can_be_null(page: Page, path: str) -> bool:
    try:
        return '__' in path or resolve(page.model, path).null
    except FieldDoesNotExist:
        return True  # an annotation of the page's queryset


def number(value: Any) -> str:
    """A number with the separators of the language; other values as text."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return _number(value, get_language())


@functools.lru_cache(maxsize=10_000)
def _number(value: float, language: str | None) -> str:
    return str(number_format(value, use_l10n=True, force_grouping=True))


def language_of(text: str) -> str:
    """'ja' or 'ko' when the script says so, so that a name gets its own glyphs; '' otherwise."""
    if text.isascii():
        return ''
    if _KANA.search(text):
        return 'ja'
    return 'ko' if _HANGUL.search(text) else ''


def when(value: datetime) -> str:
    """Today as 14:05, yesterday as a word, this year as day and month, else the date."""
    return _when(timezone.localtime(value), timezone.localtime().date())


def _when(local: datetime, today: Day) -> str:
    days = (today - local.date()).days
    if days == 0:
        return f'{local:%H:%M}'
    if days == 1:
        return gettext('Yesterday')
    if local.year != today.year:
        return date(local)
    return _date(local.date(), 'j M' if get_language() == 'en' else 'MONTH_DAY_FORMAT', get_language())


def day(value: datetime) -> str:
    """The date in words: 17 March 2026; today and yesterday are called so."""
    local, now = timezone.localtime(value), timezone.localtime()
    text = date_format(local, 'j F Y' if get_language() == 'en' else 'DATE_FORMAT')
    days = (now.date() - local.date()).days
    if days == 0:
        return gettext('Today, %(date)s') % {'date': text}
    return gettext('Yesterday, %(date)s') % {'date': text} if days == 1 else text


def exactly_when(value: datetime) -> str:
    """Date and time to the second, in the console's time zone."""
    return _exactly(timezone.localtime(value))


def _exactly(local: datetime) -> str:
    return f'{date(local)} {local:%H:%M:%S}'


def date(local: datetime) -> str:
    """The date in figures, as the language writes it: 2026-03-17, 2026年3月17日."""
    return _date(local.date(), 'Y-m-d' if get_language() == 'en' else 'DATE_FORMAT', get_language())


@functools.lru_cache(maxsize=1000)
def _date(value: Day, form: str, language: str | None) -> str:
    return str(date_format(value, form))


# ---- cells: written in Python, column by column, because a page has thousands of them


def writer(column: ResolvedColumn) -> Callable[[Any], str]:
    """What writes the cells of a column. Everything that is the same for all of them is made once."""
    read, label = column.value, f' data-l="{escape(str(column.label))}"'
    write = _WRITERS.get(column.kind, _text_cell)(column, label)
    empty = (
        f'<td class="num"{label}>–</td>' if column.kind in NUMERIC else f'<td{label}><span class="clip">–</span></td>'
    )

    def cell(obj: Any) -> str:
        value = read(obj)
        return empty if value is None or value == '' else write(obj, value)

    return cell


def first_writer(column: ResolvedColumn, url: str) -> Callable[[Any], str]:
    """The same for the first column, which leads to the object: ``url`` is that of the page."""

    def cell(obj: Any) -> str:
        value, target = column.value(obj), f'{url}{obj.pk}/'
        if value and column.kind == 'link':
            target, value = value
        elif value and column.kind == 'state':
            value = value[1]
        text = '–' if value is None or value == '' else _words(column.kind, value)
        lang = _lang(text) if column.kind == 'text' else ''
        text = escape(text)
        return f'<td class="wide prime"><a class="clip" href="{escape(target)}" title="{text}"{lang}>{text}</a></td>'

    return cell


def _words(kind: str, value: Any) -> str:
    """A value as people read it, whatever the cell looks like."""
    if kind == 'bool':
        return gettext('yes') if value else gettext('no')
    if kind == 'time' and isinstance(value, datetime):
        return when(value)
    if kind in NUMERIC:
        return size(value) if kind == 'bytes' else number(value)
    return str(value)


def _text_cell(column: ResolvedColumn, label: str) -> Callable[[Any, Any], str]:
    def write(obj: Any, value: Any) -> str:
        plain = str(value)
        text = escape(plain)
        return f'<td{label}><span class="clip" title="{text}"{_lang(plain)}>{text}</span></td>'

    return write


def _link_cell(column: ResolvedColumn, label: str) -> Callable[[Any, Any], str]:
    def write(obj: Any, value: Any) -> str:
        url, text = value
        return f'<td{label}><a class="clip" href="{escape(url)}">{escape(str(text))}</a></td>'

    return write


def _state_cell(column: ResolvedColumn, label: str) -> Callable[[Any, Any], str]:
    @functools.cache
    def state(mark: str, word: str) -> str:
        text = escape(word)
        title = f' title="{text}"' if len(word) > LONG_STATE else ''
        return f'<td{label}{title}>{_state_begins(mark)}{text}</span></span></td>'

    return lambda obj, value: state(value[0], str(value[1]))


def _bool_cell(column: ResolvedColumn, label: str) -> Callable[[Any, Any], str]:
    state, words = _state_cell(column, label), {True: ('ok', gettext('yes')), False: ('off', gettext('no'))}
    return lambda obj, value: state(obj, words[bool(value)])


def _number_cell(column: ResolvedColumn, label: str) -> Callable[[Any, Any], str]:
    language, hint = get_language(), column.hint

    def write(obj: Any, value: Any) -> str:
        text = _number(value, language) if type(value) is int else number(value)
        said = str(hint(obj)) if hint else f'{text} B' if column.kind == 'bytes' else ''
        title = f' title="{escape(said)}"' if said else ''
        return f'<td class="num"{label}{title}>{escape(size(value) if column.kind == "bytes" else text)}</td>'

    return write


def _time_cell(column: ResolvedColumn, label: str) -> Callable[[Any, Any], str]:
    zone, today = timezone.get_current_timezone(), timezone.localtime().date()

    def write(obj: Any, value: Any) -> str:
        local = value.astimezone(zone)
        text, title = escape(_when(local, today)), escape(_exactly(local))
        return f'<td class="num nowrap muted"{label} title="{title}">{text}</td>'

    return write


_WRITERS = {
    'link': _link_cell,
    'state': _state_cell,
    'bool': _bool_cell,
    'number': _number_cell,
    'bytes': _number_cell,
    'time': _time_cell,
}


def _lang(text: str) -> str:
    found = language_of(text)
    return f' lang="{found}"' if found else ''


def size(value: Any) -> str:
    """A number of bytes with its unit: 240 bytes, 1.2 MB."""
    return str(filesizeformat(value))


def lines(
    page: Page,
    shown: Sequence[ResolvedColumn],
    objects: Iterable[Any],
    selected: Callable[[Any], bool],
) -> list[Line]:
    """The rows; the first column links to the object. ``selected(key)``: whether a row is."""
    before, _, after = escape(gettext('Select %(name)s')).partition('%(name)s')
    url, result = page_url(page), []
    writers = [first_writer(shown[0], url), *map(writer, shown[1:])] if shown else []
    for obj in objects:
        name, chosen = str(obj), selected(obj.pk)
        box = box_html(obj.pk, f'{before}{escape(name)}{after}', chosen)
        cells = ''.join([write(obj) for write in writers])
        begin = '<tr aria-selected="true">' if chosen else '<tr>'
        html = mark_safe(f'{begin}{box}{cells}</tr>')  # noqa: S308 - every value is escaped above
        result.append(Line(obj.pk, name, html, chosen))
    return result
