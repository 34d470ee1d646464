"""REST filters from the declaration: every ``find`` field with operators, ``q``, ``tab``, ``ordering``, paging.

``?last_name__startswith=M&im_enabled=true&ordering=-last_name&limit=100&offset=200``. What is unknown or has no valid
form is 400 and named; nothing is silently ignored.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext
from rest_framework import serializers
from rest_framework.filters import BaseFilterBackend
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.pagination import LimitOffsetPagination
from rest_framework.request import Request

from impadmin.console import filters, tables
from impadmin.console.page import Page

SUFFIXES: dict[filters.Kind, dict[str, str]] = {
    'text': {
        '': 'exactly', 'exact': 'exactly', 'contains': 'contains', 'startswith': 'begins', 'endswith': 'ends',
        'isnull': 'empty',
    },
    'number': {'': 'exactly', 'exact': 'exactly', 'gte': 'at_least', 'lte': 'at_most', 'isnull': 'empty'},
    'bool': {'': 'exactly', 'exact': 'exactly'},
    'choice': {'': 'exactly', 'exact': 'exactly', 'not': 'not'},
    'time': {'gte': 'since', 'lt': 'before', 'isnull': 'empty'},
    'any': {'': 'contains'},
}  # fmt: skip
"""Kind of field -> name after ``__`` -> operator of the search sentence. ``isnull`` also finds the empty text."""
OTHER = frozenset({'tab', 'ordering', 'dry_run'})
LARGEST_OFFSET = 10**9


def wrong(name: str, text: str) -> serializers.ValidationError:
    """A 400 that names the query parameter."""
    return serializers.ValidationError({name: [text]})


def flag(request: Request, name: str) -> bool:
    """A boolean query parameter."""
    value = request.query_params.get(name, '')
    if value.lower() in ('1', 'true', 'yes'):
        return True
    if value.lower() in ('', '0', 'false', 'no'):
        return False
    raise wrong(name, gettext('Enter true or false.'))


class Pagination(LimitOffsetPagination):
    """limit and offset, at most 1,000 a page."""

    default_limit = 50
    max_limit = 1000

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any] | None:
        """One page of objects. The keys are sorted first and alone, as lists do it."""
        keys: list[Any] = super().paginate_queryset(queryset.values_list('pk', flat=True), request, view) or []
        objects = queryset.order_by().in_bulk(keys)
        return [objects[key] for key in keys if key in objects]

    def get_limit(self, request: Request) -> int:
        """Objects a page."""
        return _whole(request, 'limit', 1, self.max_limit, self.default_limit)

    def get_offset(self, request: Request) -> int:
        """Objects to skip."""
        return _whole(request, 'offset', 0, LARGEST_OFFSET, 0)


def _whole(request: Request, name: str, low: int, high: int, default: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 12 and low <= int(text) <= high):
        raise wrong(name, gettext('Enter a number from %(low)s to %(high)s.') % {'low': low, 'high': high})
    return int(text)


class OwnFormat(DefaultContentNegotiation):
    """``?format=`` means a kind of file, not of REST's answers."""

    def select_renderer(self, request: Request, renderers: Any, format_suffix: str | None = None) -> Any:
        """The only one."""
        return renderers[0], renderers[0].media_type


class PageFilter(BaseFilterBackend):
    """Applies the query parameters of a list request."""

    def filter_queryset(self, request: Request, queryset: QuerySet[Any], view: Any) -> QuerySet[Any]:
        """The objects asked for, in the order asked for."""
        page: Page = view.page
        found = filters.find_fields(page)
        for name in request.query_params:
            if name in OTHER or name in view.own_query:
                continue
            for value in request.query_params.getlist(name):
                queryset = queryset.filter(condition(found, name, value))
        if tab := request.query_params.get('tab'):
            tabs = {slug: query for slug, _, query in page.tabs}
            if tab not in tabs:
                raise wrong('tab', one_of(tabs))
            queryset = queryset.filter(tabs[tab])
        return queryset.order_by(*ordering(page, request.query_params.get('ordering', '')))

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        """The query parameters for the schema."""
        page: Page = view.page
        described = [
            _parameter(name, str(found.label) + (f' ({operator})' if suffix else ''))
            for field, found in filters.find_fields(page).items()
            for suffix, operator in SUFFIXES[found.kind].items()
            if suffix != 'exact'
            for name in [f'{field}__{suffix}' if suffix else field]
        ]
        if page.tabs:
            described.append({**_parameter('tab', ''), 'schema': {'type': 'string', 'enum': [t[0] for t in page.tabs]}})
        names = ', '.join(column.name for column in tables.columns(page) if column.order_by)
        described.append(_parameter('ordering', gettext('Comma-separated, “-” for descending: %s') % names))
        return described


def _parameter(name: str, text: str) -> dict[str, Any]:
    return {'name': name, 'in': 'query', 'required': False, 'description': text, 'schema': {'type': 'string'}}


def one_of(names: Any) -> str:
    return gettext('Choose one of: %(choices)s.') % {'choices': ', '.join(names)}


def condition(fields: dict[str, filters.FindField], name: str, value: str) -> Q:
    """The database filter of one query parameter. Raises a 400 that says what would be right."""
    base, _, suffix = name.rpartition('__')
    if name in fields:
        base, suffix = name, ''
    found = fields.get(base)
    if found is None:
        raise wrong(name, gettext('There is no such filter. %s') % one_of(sorted(fields)))
    suffixes = SUFFIXES[found.kind]
    if suffix not in suffixes:
        raise wrong(
            name, gettext('There is no such operator. %s') % one_of(f'{base}__{s}' if s else base for s in suffixes)
        )
    operator = suffixes[suffix]
    if suffix == 'isnull':
        if value not in ('true', 'false', '1', '0'):
            raise wrong(name, gettext('Enter true or false.'))
        operator = 'empty' if value in ('true', '1') else 'not_empty'
        return filters.expression(filters.Condition('and', found, operator, ''))
    if not value or len(value) > filters.LONGEST:
        raise wrong(name, gettext('Enter 1 to %(most)d characters.') % {'most': filters.LONGEST})
    if found.choices and value not in {key for key, _ in found.choices}:
        raise wrong(name, one_of(key for key, _ in found.choices))
    if found.kind == 'time' and (moment := _moment(value)) is not None:
        return Q(**{f'{found.path}__{suffix}': moment})
    one = filters.condition('and', found, operator, value)
    if one.error:
        raise wrong(name, one.error)
    return filters.expression(one)


def _moment(value: str) -> Any:
    try:
        moment = parse_datetime(value) if 'T' in value else None
    except ValueError:
        return None
    if moment is None or not 1900 < moment.year < 9000:
        return None
    return moment if timezone.is_aware(moment) else timezone.make_aware(moment)


def ordering(page: Page, text: str) -> Iterator[Any]:
    """Arguments of ``order_by``; always ends with the primary key, so that pages never overlap."""
    columns = tables.columns(page)
    known = [column.name for column in columns if column.order_by]
    keys = [key for key in text.split(',') if key]
    for key in keys:
        if key.removeprefix('-') not in known:
            raise wrong('ordering', one_of(known))
        yield tables.ordering(page, columns, key)[0]
    if not keys:
        yield from page.ordering
    yield 'pk'
