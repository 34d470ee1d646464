"""Columns and cells of Find and List."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import Any

from django.core.exceptions import FieldDoesNotExist
from django.db import models
from django.db.models import F
from django.db.models.functions import Lower
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
class Cell:
    """One cell as the template draws it."""

    kind: str
    text: str
    label: Text = ''
    url: str = ''
    mark: str = ''
    title: str = ''
    lang: str = ''


@dataclass(slots=True)
class Line:
    """One row of the list."""

    pk: Any
    name: str
    html: SafeString
    """The row of the table."""
    selected: bool = False


def box_html(pk: Any, label: str, selected: bool) -> str:
    """The cell that selects a row, with the key that says that the row was shown."""
    key, checked = escape(str(pk)), ' checked' if selected else ''
    return (
        f'<td class="check"><input type="hidden" name="shown" value="{key}"><input type="checkbox" class="ck" name="pk"'
        f' value="{key}" aria-label="{escape(label)}"{checked}></td>'
    )


def line_html(cells: Sequence[Cell]) -> SafeString:
    """The cells of one row. Written in Python because a page has thousands of cells; labels are HTML already."""
    parts = []
    for n, one in enumerate(cells):
        text, label = escape(one.text), one.label
        title = f' title="{escape(one.title)}"' if one.title else ''
        lang = f' lang="{one.lang}"' if one.lang else ''
        if n == 0:
            parts.append(
                f'<td class="wide prime"><a class="clip" href="{escape(one.url)}" title="{text}"{lang}>{text}</a></td>'
            )
        elif one.kind in ('state', 'bool'):
            title = f' title="{text}"' if len(one.text) > LONG_STATE else ''
            parts.append(f'<td data-l="{label}"{title}>{_state_begins(one.mark)}{text}</span></span></td>')
        elif one.kind == 'number':
            parts.append(f'<td class="num" data-l="{label}"{title}>{text}</td>')
        elif one.kind == 'time':
            parts.append(f'<td class="num nowrap muted" data-l="{label}"{title}>{text}</td>')
        elif one.url:
            parts.append(f'<td data-l="{label}"><a class="clip" href="{escape(one.url)}">{text}</a></td>')
        else:
            parts.append(f'<td data-l="{label}"><span class="clip"{title}{lang}>{text}</span></td>')
    return mark_safe(''.join(parts))  # noqa: S308 - every value is escaped above


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
        kind = 'number'
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
    folded = False
    if column.order_by:
        try:
            folded = isinstance(resolve(page.model, column.order_by), models.CharField | models.TextField)
        except FieldDoesNotExist:
            folded = False  # an annotation of the page's queryset
    value = column.value or _getter(column.name)
    return ResolvedColumn(
        column.name, column.label, column.kind, value, column.order_by, folded, column.default, hint=column.hint
    )


def ordering(page: Page, all_columns: Sequence[ResolvedColumn], sort: str) -> list[Any]:
    """Arguments of ``order_by`` for a sort key such as ``name`` or ``-name``; always ends with the primary key."""
    descending = sort.startswith('-')
    column = next((c for c in all_columns if c.name == sort.removeprefix('-') and c.order_by), None)
    if column is None:
        return [*page.ordering, 'pk']
    key: Any = Lower(column.order_by) if column.folded else F(column.order_by)
    last = (
        _can_be_null(page, column.order_by) or None
    )  # said where nothing is null it would keep indexes from being used
    return [key.desc(nulls_last=last) if descending else key.asc(nulls_last=last), 'pk']


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
    if _KANA.search(text):
        return 'ja'
    return 'ko' if _HANGUL.search(text) else ''


def when(value: datetime) -> str:
    """Today as 14:05, yesterday as a word, this year as day and month, else the date."""
    local, now = timezone.localtime(value), timezone.localtime()
    days = (now.date() - local.date()).days
    if days == 0:
        return date_format(local, 'H:i')
    if days == 1:
        return gettext('Yesterday')
    if local.year != now.year:
        return date(local)
    return date_format(local, 'j M' if get_language() == 'en' else 'MONTH_DAY_FORMAT')


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
    local = timezone.localtime(value)
    return f'{date(local)} {date_format(local, "H:i:s")}'


def date(local: datetime) -> str:
    """The date in figures, as the language writes it: 2026-03-17, 2026年3月17日."""
    return date_format(local, 'Y-m-d' if get_language() == 'en' else 'DATE_FORMAT')


def cell(column: ResolvedColumn, obj: Any) -> Cell:
    """One cell."""
    value = column.value(obj)
    if column.kind == 'state' and value:
        mark, word = value
        return Cell('state', str(word), column.label, mark=mark)
    if column.kind == 'link' and value:
        url, text = value
        return Cell('link', str(text), column.label, url=url)
    if value is None or value == '':
        return Cell(column.kind if column.kind in ('number', 'time') else 'text', '–', column.label)
    if column.kind == 'bool':
        return Cell('bool', gettext('yes') if value else gettext('no'), column.label, mark='ok' if value else 'off')
    if column.kind == 'number' and isinstance(value, int | float):
        return Cell('number', number(value), column.label, title=str(column.hint(obj)) if column.hint else '')
    if column.kind == 'time' and isinstance(value, datetime):
        return Cell('time', when(value), column.label, title=exactly_when(value))
    text = str(value)
    return Cell('text', text, column.label, title=text, lang=language_of(text))


def lines(
    page: Page,
    shown: Sequence[ResolvedColumn],
    objects: Iterable[Any],
    selected: Callable[[Any], bool],
) -> list[Line]:
    """The rows; the first column links to the object. ``selected(key)``: whether a row is."""
    select, url, result = gettext('Select %(name)s'), page_url(page), []
    shown = [dataclasses.replace(column, label=escape(str(column.label))) for column in shown]  # once, not in each cell
    for obj in objects:
        cells = [cell(column, obj) for column in shown]
        if cells and not cells[0].url:
            cells[0].url = f'{url}{obj.pk}/'
        name, chosen = str(obj), selected(obj.pk)
        box = box_html(obj.pk, select % {'name': name}, chosen)
        begin = '<tr aria-selected="true">' if chosen else '<tr>'
        html = mark_safe(f'{begin}{box}{line_html(cells)}</tr>')  # noqa: S308 - made of escaped parts
        result.append(Line(obj.pk, name, html, chosen))
    return result
