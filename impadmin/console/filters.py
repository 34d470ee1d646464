"""The search sentence of Find and List: the product's operators, any number of conditions joined by AND or OR."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from django.core.exceptions import FieldDoesNotExist
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.dateparse import parse_date
from django.utils.translation import gettext, gettext_lazy

from impadmin.console import folding
from impadmin.console.page import Page, Text

Kind = Literal['text', 'number', 'bool', 'choice', 'time', 'any']
LONGEST = 400
"""Longest search value; more is cut."""
MOST = 12
"""Most conditions of one sentence."""

_EMPTY: tuple[tuple[str, Text], ...] = (
    ('empty', gettext_lazy('is empty')),
    ('not_empty', gettext_lazy('is not empty')),
)
OPERATORS: dict[Kind, tuple[tuple[str, Text], ...]] = {
    'text': (
        ('begins', gettext_lazy('begins with')),
        ('contains', gettext_lazy('contains')),
        ('ends', gettext_lazy('ends with')),
        ('exactly', gettext_lazy('is exactly')),
        *_EMPTY,
    ),
    'number': (
        ('exactly', gettext_lazy('is exactly')),
        ('at_least', gettext_lazy('is at least')),
        ('at_most', gettext_lazy('is at most')),
        *_EMPTY,
    ),
    'bool': (('exactly', gettext_lazy('is exactly')),),
    'choice': (('exactly', gettext_lazy('is exactly')), ('not', gettext_lazy('is not'))),
    'time': (('since', gettext_lazy('is on or after')), ('before', gettext_lazy('is before')), *_EMPTY),
    'any': (('contains', gettext_lazy('contains')),),
}
_LOOKUPS = {'begins': 'istartswith', 'contains': 'icontains', 'ends': 'iendswith', 'exactly': 'iexact'}
_FOLDED = {'begins': folding.Begins, 'contains': folding.Contains, 'ends': folding.Ends}
VALUELESS = frozenset({'empty', 'not_empty'})
ANY = 'q'
"""Name of the find field that stands for all texts of an object: every word of its value must be in one of them."""


@dataclass(frozen=True, slots=True)
class FindField:
    """One field offered in the sentence. ``path`` is the lookup, into the related object for a reference; ``folded``:
    the text as it is compared (see folding.py), or None where case is all that is ignored."""

    name: str
    label: Text
    kind: Kind
    path: str
    nullable: bool
    choices: tuple[tuple[str, Text], ...] = ()
    folded: Any = field(default=None, compare=False, repr=False)

    @property
    def operators(self) -> tuple[tuple[str, Text], ...]:
        """The operators that make sense for this field."""
        found = OPERATORS[self.kind]
        return (
            found if self.nullable or self.kind in ('text', 'any') else tuple(o for o in found if o[0] not in VALUELESS)
        )


@dataclass(frozen=True, slots=True)
class Condition:
    """One line of the sentence. ``join`` ('and', 'or') ties it to the lines before, from left to right."""

    join: str
    field: FindField
    operator: str
    value: str
    error: str = ''


def resolve(model: type[models.Model], path: str) -> models.Field[Any, Any]:
    """The model field at a lookup path such as ``home_node__name``. FieldDoesNotExist when there is none."""
    found: Any = None
    for part in path.split('__'):
        if model is None:
            raise FieldDoesNotExist(path)
        found = model._meta.get_field(part)
        model = found.remote_field.model if getattr(found, 'remote_field', None) else None  # type: ignore[assignment]
    assert isinstance(found, models.Field)
    return found


def find_field(page: Page, name: str) -> FindField:
    """How one find field of a page is searched."""
    from impadmin.console.forms import natural_field

    found = resolve(page.model, name)
    label = page.model._meta.get_field(name.split('__')[0]).verbose_name if '__' in name else found.verbose_name  # type: ignore[union-attr]
    if isinstance(found, models.ForeignKey):
        path = f'{name}__{natural_field(found.remote_field.model)}'
        return FindField(name, label, 'text', path, True, folded=folding.value(page.model, path))
    if found.choices:
        choices = tuple((str(key), text) for key, text in found.flatchoices)
        return FindField(name, label, 'choice', name, found.null, choices)
    if isinstance(found, models.BooleanField):
        return FindField(
            name, label, 'bool', name, found.null, (('true', gettext_lazy('yes')), ('false', gettext_lazy('no')))
        )
    if isinstance(found, models.IntegerField | models.FloatField | models.DecimalField):
        return FindField(name, label, 'number', name, found.null)
    if isinstance(found, models.DateTimeField | models.DateField):
        return FindField(name, label, 'time', name, found.null)
    return FindField(name, label, 'text', name, True, folded=folding.value(page.model, name))


def find_fields(page: Page) -> dict[str, FindField]:
    """Every find field of a page by name, then all its texts together as ``ANY``."""
    found = {name: find_field(page, name) for name in page.find}
    if paths := page.search or [one.path for one in found.values() if _is_text(page.model, one)]:
        texts = folding.texts(page.model, paths)
        found[ANY] = FindField(ANY, gettext_lazy('Any field'), 'any', paths[0], True, folded=texts)
    return found


def _is_text(model: type[models.Model], one: FindField) -> bool:
    return one.kind == 'text' and isinstance(resolve(model, one.path), models.CharField | models.TextField)


def read(page: Page, data: Any) -> list[Condition]:
    """The conditions in a query string (``f``, ``o``, ``v`` and ``j``, repeated); what is unknown is left out."""
    fields = find_fields(page)
    rows = zip(data.getlist('f'), data.getlist('o'), _padded(data.getlist('v')), strict=False)
    joins = data.getlist('j')
    result: list[Condition] = []
    for n, (name, operator, value) in enumerate(rows):
        found = fields.get(name)
        if found is None or len(result) == MOST:
            continue
        join = joins[n] if n < len(joins) and joins[n] in ('and', 'or') else 'and'
        result.append(condition(join, found, operator, value))
    return result


def _padded(values: list[str]) -> list[str]:
    return values + [''] * MOST


def condition(join: str, found: FindField, operator: str, value: str) -> Condition:
    """A checked condition: an operator of another kind of field becomes the first one of this kind."""
    if operator not in {key for key, _ in found.operators}:
        operator = found.operators[0][0]
    value = value.replace('\0', '')[:LONGEST].strip()
    if found.choices and value and value not in {key for key, _ in found.choices}:
        value = ''
    return Condition(join, found, operator, value, _error(found, operator, value))


def _error(found: FindField, operator: str, value: str) -> str:
    if not value or operator in VALUELESS:
        return ''
    if found.kind == 'number' and _number(value) is None:
        return gettext('Enter a number.')
    if found.kind == 'time' and _time(value) is None:
        return gettext('Enter a date as YYYY-MM-DD.')
    return ''


def _number(value: str) -> decimal.Decimal | None:
    try:
        number = decimal.Decimal(value.replace(',', ''))
    except decimal.InvalidOperation:
        return None
    return number if number.is_finite() and abs(number) < decimal.Decimal(10) ** 18 else None


def _time(value: str) -> datetime.datetime | None:
    try:
        date = parse_date(value)
    except ValueError:
        return None
    if date is None or not 1900 < date.year < 9000:
        return None
    return timezone.make_aware(datetime.datetime.combine(date, datetime.time.min))


def expression(one: Condition) -> Q:
    """The database filter of one condition; a condition without a value finds everything."""
    path = one.field.path
    if one.operator in VALUELESS:
        empty = Q(**{f'{path}__isnull': True})
        if one.field.kind == 'text':
            empty |= Q(**{path: ''})
        return empty if one.operator == 'empty' else ~empty
    if not one.value or one.error:
        return Q()
    if one.field.kind == 'number':
        suffix = {'at_least': '__gte', 'at_most': '__lte'}.get(one.operator, '')
        return Q(**{f'{path}{suffix}': _number(one.value)})
    if one.field.kind == 'bool':
        return Q(**{path: one.value == 'true'})
    if one.field.kind == 'choice':
        query = Q(**{path: one.value})
        return ~query if one.operator == 'not' else query
    if one.field.kind == 'time':
        return Q(**{f'{path}__{"gte" if one.operator == "since" else "lt"}': _time(one.value)})
    if one.field.kind == 'any':
        return folding.all_words(one.field.folded, one.value)
    if one.field.folded is not None and one.operator in _FOLDED:
        return Q(_FOLDED[one.operator](one.field.folded, folding.sought(one.value)))
    return Q(**{f'{path}__{_LOOKUPS[one.operator]}': one.value})


def combine(conditions: Sequence[Condition]) -> Q:
    """All conditions, joined from left to right: ``a or b and c`` is ``(a or b) and c``."""
    result = Q()
    for one in conditions:
        part = expression(one)
        if not part:
            continue
        result = part if not result else (result | part if one.join == 'or' else result & part)
    return result


def sentence(conditions: Sequence[Condition]) -> str:
    """The search in words, for the *nothing found* state."""
    parts: list[str] = []
    for one in conditions:
        if not one.value and one.operator not in VALUELESS:
            continue
        operator = str(dict(one.field.operators)[one.operator])
        shown = str(dict(one.field.choices).get(one.value, one.value))
        text = f'{one.field.label} {operator}' + (f' “{shown}”' if one.operator not in VALUELESS else '')
        parts.append(f'{gettext("and") if one.join == "and" else gettext("or")} {text}' if parts else text)
    return ' '.join(parts)
