"""Find and List of any page: search sentence, sort, pages, columns, tabs, selection; state lives in the URL."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import or_
from typing import Any
from urllib.parse import urlencode

from django.core.exceptions import EmptyResultSet
from django.db import connection
from django.db.models import Count, Model, Q, QuerySet, Window
from django.db.models.sql.datastructures import Join
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.shortcuts import render
from django.utils.translation import gettext, gettext_lazy

from impadmin.console import filters, preferences, selection, tables
from impadmin.console.access import Grants, grants_of, may, may_write
from impadmin.console.page import Page
from impadmin.console.registry import page_url

COUNTED = 100_000
"""Rows are counted up to this many; pages end there too."""
SIZES = (20, 50, 100, 250)
LONGEST = 8000
"""Longest query string of a list that is followed."""
HEIGHTS = (
    ('normal', gettext_lazy('Normal rows')),
    ('compact', gettext_lazy('Compact rows')),
    ('roomy', gettext_lazy('Roomy rows')),
)


@dataclass(slots=True)
class State:
    """What the list shows; every part can be given in the URL, most are remembered per administrator."""

    conditions: list[filters.Condition]
    sort: str
    rows: int
    number: int
    chosen: list[str]
    height: str
    tab: str

    def query(self, **changes: Any) -> str:
        """The query string of this state with some parts replaced; None leaves a part out. It says everything: whoever
        opens it sees this list, whatever he looked at before."""
        parts: dict[str, Any] = {
            'tab': self.tab or None,
            'sort': self.sort,
            'rows': self.rows,
            'cols': ','.join(self.chosen),
            'height': self.height,
            'page': None,
        }
        parts.update(changes)
        pairs = [(key, str(value)) for key, value in parts.items() if value is not None]
        for one in self.conditions:
            pairs += [('j', one.join), ('f', one.field.name), ('o', one.operator), ('v', one.value)]
        return '?' + urlencode(pairs)

    @property
    def search(self) -> selection.Selection:
        """The search a selection belongs to, with nothing selected."""
        return selection.of_search(self.conditions, self.tab)


def read_state(page: Page, all_columns: Sequence[tables.ResolvedColumn], data: Any, stored: dict[str, Any]) -> State:
    """The state from the query string, what is absent from ``stored``, the rest from the declaration."""
    names = [c.name for c in all_columns]
    given = data.get('cols', '').split(',') if 'cols' in data else data.getlist('col') or stored.get('cols') or []
    chosen = [name for name in names if name in given] or [c.name for c in all_columns if c.default]
    if names and names[0] not in chosen:
        chosen.insert(0, names[0])
    sort = data.get('sort', stored.get('sort', ''))
    if sort.removeprefix('-') not in {c.name for c in all_columns if c.order_by}:
        sort = ''
    rows = _whole(data.get('rows', stored.get('rows', SIZES[1])))
    if 'f' in data or 'clear' in data:
        conditions = filters.read(page, data)
    else:
        conditions = [] if data else _stored_conditions(page, stored)
    if 'drop' in data and (n := _whole(data['drop'])) < len(conditions):
        del conditions[n]
    height = data.get('height', stored.get('height', 'normal'))
    return State(
        conditions=conditions,
        sort=sort,
        rows=rows if rows in SIZES else SIZES[1],
        number=max(1, _whole(data.get('page', 1))),
        chosen=chosen,
        height=height if height in dict(HEIGHTS) else 'normal',
        tab=data.get('tab', '') if data.get('tab', '') in {slug for slug, _, _ in page.tabs} else '',
    )


def _whole(value: Any) -> int:
    text = str(value)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else 0


def _stored_conditions(page: Page, stored: dict[str, Any]) -> list[filters.Condition]:
    fields = filters.find_fields(page)
    return [
        filters.condition(str(entry[0]), fields[entry[1]], str(entry[2]), str(entry[3]))
        for entry in stored.get('find', [])[: filters.MOST]
        if isinstance(entry, list) and len(entry) == 4 and entry[1] in fields
    ]


def _worth_remembering(state: State) -> dict[str, Any]:
    return {
        'cols': state.chosen,
        'sort': state.sort,
        'rows': state.rows,
        'height': state.height,
        'find': [[c.join, c.field.name, c.operator, c.value] for c in state.conditions],
    }


def base_queryset(page: Page, who: Grants) -> QuerySet[Any]:
    """The objects of a page, as far as ``who`` sees them."""
    objects = page.queryset() if page.queryset else page.model._default_manager.all()
    return page.seen_by(objects, who) if page.seen_by else objects


def found(page: Page, who: Grants, conditions: Sequence[filters.Condition], tab: str) -> QuerySet[Any]:
    """The objects the sentence and the tab find, not sorted."""
    queryset = base_queryset(page, who)
    return queryset.none() if any(c.error for c in conditions) else queryset.filter(narrowed(page, conditions, tab))


def narrowed(page: Page, conditions: Sequence[filters.Condition], tab: str) -> Q:
    """The sentence and the tab as one condition."""
    return next((query for slug, _, query in page.tabs if slug == tab), Q()) & filters.combine(conditions)


def selected(page: Page, who: Grants, chosen: selection.Selection) -> QuerySet[Any]:
    """The objects of a selection, as they are now."""
    if not chosen.everything:
        return base_queryset(page, who).filter(pk__in=chosen.keys)
    return found(page, who, selection.conditions(page, chosen), chosen.tab).exclude(pk__in=chosen.keys)


def selection_of(request: HttpRequest, page: Page) -> selection.Selection:
    """What a form of the list, or a confirmation that carries it signed, has selected. Raises Refused."""
    if signed := request.POST.get('selection'):
        return selection.unsign(page, signed)
    state = read_state(page, tables.columns(page), request.GET, {})
    if request.POST.keys().isdisjoint({'shown', 'mark'}):  # not from the list: only what it names
        return selection.marked(page, state.search, request.POST)
    chosen = selection.marked(page, selection.kept(request.user, page, state.search), request.POST)
    selection.keep(request.user, page, chosen)
    return chosen


def select_view(request: HttpRequest, page: Page) -> HttpResponse:
    """Remember what is ticked, or select all or nothing, then go on to ``next``, another view of the same list."""
    columns = tables.columns(page)
    if request.method == 'POST':
        selection_of(request, page)
    wanted = QueryDict(request.POST.get('next', '').partition('?')[2][:LONGEST]) or request.GET
    state = read_state(page, columns, wanted, preferences.load(request.user, f'list:{page.name}'))
    return HttpResponseRedirect(page_url(page) + state.query(page=state.number))


@dataclass(slots=True)
class Found:
    """One page of what a list finds. every: all objects of the list; counts: how many of them each tab has."""

    objects: list[Any]
    total: int
    every: int
    counts: list[int]


def _find(page: Page, who: Grants, state: State, columns: Sequence[tables.ResolvedColumn], hidden: bool) -> Found:
    """Count, go to the page asked for or the last one (``state.number``), read its objects; none when ``hidden``.

    What a search finds in a small table is counted and sorted by one reading of it; what a tab has is counted with all
    tabs."""
    base, query = base_queryset(page, who), narrowed(page, state.conditions, state.tab)
    queryset = base.filter(query) if query else base
    order = tables.ordering(page, columns, state.sort)
    small = bool(query or page.tabs) and _is_small(page.model)
    keys: list[Any] = []
    total = 0 if hidden else None
    if filters.combine(state.conditions) and small and not hidden:
        keys, total = _keys_and_total(queryset.order_by(*order), state)
    every, total, counts = _counted(page, base, queryset, total, small, state.tab)
    state.number = min(state.number, max(1, -(-total // state.rows)))
    if total and not keys:
        keys = list(queryset.order_by(*order).values_list('pk', flat=True)[_slice(state)])
    related = [one.related for one in columns if one.related and one.name in state.chosen]
    return Found(_objects(base, keys, related), total, every, counts)


def _slice(state: State) -> slice:
    first = (state.number - 1) * state.rows
    return slice(first, first + state.rows)


def _keys_and_total(queryset: QuerySet[Any], state: State) -> tuple[list[Any], int]:
    """The keys of one page, none when it is beyond the end, and how many there are."""
    counted = queryset.annotate(found_in_all=Window(Count('*')))
    rows = list(counted.values_list('pk', 'found_in_all')[_slice(state)])
    if not rows:
        return [], _bounded([queryset])[0] if state.number > 1 else 0
    return [key for key, _ in rows], min(rows[0][1], COUNTED)


def _objects(base: QuerySet[Any], keys: list[Any], related: Sequence[str]) -> list[Any]:
    """The objects of these keys, in their order. Keys are sorted first and alone: sorting whole rows takes several
    times as long. What the objects refer to is read once for all, not joined to each of them."""
    if not keys:
        return []
    objects = base.filter(pk__in=keys).order_by()
    joined = objects.query.select_related
    names = dict.fromkeys((*related, *(_paths(joined) if isinstance(joined, dict) else ())))
    by_key = {obj.pk: obj for obj in objects.select_related(None).prefetch_related(*names)}
    return [by_key[key] for key in keys if key in by_key]


def _paths(joined: dict[str, Any], before: str = '') -> Iterator[str]:
    """What ``select_related`` was given."""
    for name, inner in joined.items():
        yield before + name
        yield from _paths(inner, f'{before}{name}__')


def _is_small(model: type[Model]) -> bool:
    """Whether a table has fewer than COUNTED rows, as PostgreSQL remembers: then one reading of all of it is cheap."""
    with connection.cursor() as cursor:
        cursor.execute('SELECT reltuples < %s FROM pg_class WHERE oid = %s::regclass', [COUNTED, model._meta.db_table])
        return bool(cursor.fetchone()[0])


def _counted(
    page: Page, base: QuerySet[Any], queryset: QuerySet[Any], total: int | None, small: bool, tab: str
) -> tuple[int, int, list[int]]:
    """How many objects ``base`` has, ``queryset`` (``total``, where that is known; else it is ``base`` or what ``tab``
    has), and each tab. Counting stops at COUNTED, because nobody pages that far. A small table is read once for all."""
    if small and page.tabs and _is_one_to_one(base.filter(functools.reduce(or_, (tab for _, _, tab in page.tabs)))):
        asked = {f'n{n}': Count('pk', filter=tab) for n, (_, _, tab) in enumerate(page.tabs)}
        found = base.order_by().aggregate(every=Count('pk'), **asked)
        every, *counts = (min(found[name], COUNTED) for name in ('every', *asked))
        by_tab = {'': every, **{slug: count for (slug, _, _), count in zip(page.tabs, counts, strict=True)}}
        return every, by_tab[tab] if total is None else total, counts
    parts = [base.filter(tab) for _, _, tab in page.tabs]
    apart = [base] if parts and queryset is not base else []
    numbers = iter(_bounded([*([queryset] if total is None else []), *apart, *parts]))
    total = next(numbers) if total is None else total
    return next(numbers) if apart else total, total, list(numbers)


def _is_one_to_one(queryset: QuerySet[Any]) -> bool:
    """Whether each object is one row: no relation to many is joined, which would count it several times."""
    joins: list[Any] = [join.join_field for join in queryset.query.alias_map.values() if isinstance(join, Join)]
    return all(field.many_to_one or field.one_to_one for field in joins)


def _bounded(querysets: Sequence[QuerySet[Any]]) -> list[int]:
    """How many rows each finds, in one query, at most COUNTED."""
    if not querysets:
        return []
    parts: list[str] = []
    parameters: list[Any] = []
    found: dict[int, int] = {}
    for n, queryset in enumerate(querysets):
        try:
            sql, values = queryset.order_by().values('pk')[:COUNTED].query.sql_with_params()
        except EmptyResultSet:
            found[n] = 0
            continue
        parts.append(f'(SELECT count(*) FROM ({sql}) AS part{n})')  # noqa: S608 - Django's own SQL
        parameters += values
    with connection.cursor() as cursor:
        cursor.execute(f'SELECT {", ".join(parts) or "NULL"}', parameters)
        row = iter(cursor.fetchone())
    return [found[n] if n in found else next(row) for n in range(len(querysets))]


def _tabs(page: Page, state: State, all_: int, counts: Sequence[int]) -> list[dict[str, Any]]:
    """Saved searches with their counts."""
    if not page.tabs:
        return []
    result = [{'label': gettext('All'), 'count': all_, 'slug': '', 'current': not state.tab}]
    result += [
        {'label': label, 'count': count, 'slug': slug, 'current': state.tab == slug}
        for (slug, label, _), count in zip(page.tabs, counts, strict=True)
    ]
    for tab in result:
        tab['url'] = state.query(tab=tab['slug'] or None)
        tab['beyond'] = tab['count'] == COUNTED
    return result


def _heads(state: State, shown: Sequence[tables.ResolvedColumn], default: str) -> list[dict[str, Any]]:
    result = []
    sort = state.sort or default
    for column in shown:
        key = sort.removeprefix('-') == column.name
        descending = key and sort.startswith('-')
        result.append(
            {
                'label': column.label,
                'right': column.kind in tables.NUMERIC,
                'url': state.query(sort=column.name if descending or not key else f'-{column.name}')
                if column.order_by
                else '',
                'aria': ('descending' if descending else 'ascending') if key else '',
            }
        )
    return result


def _lines_of_find(page: Page, state: State, data: Any) -> list[dict[str, Any]]:
    """The rows of the search sentence as the template draws them, an empty one when there is none."""
    fields = list(filters.find_fields(page).values())
    if sum(one.kind == 'text' for one in fields) < 2:  # one text is any text
        fields = [one for one in fields if one.kind != 'any']
    if not fields:
        return []
    rows = list(state.conditions)
    if not rows or 'more' in data:
        rows.append(filters.Condition('and', fields[0], fields[0].operators[0][0], ''))
    return [
        {
            'number': n,
            'condition': row,
            'fields': [(f.name, f.label, f.name == row.field.name) for f in fields],
            'valueless': row.operator in filters.VALUELESS,
        }
        for n, row in enumerate(rows[: filters.MOST])
    ]


def list_view(request: HttpRequest, page: Page) -> HttpResponse:
    """The list page."""
    started = time.monotonic()
    columns = tables.columns(page)
    key = f'list:{page.name}'
    stored = preferences.load(request.user, key)
    state = read_state(page, columns, request.GET, stored)
    redraw = 'redraw' in request.GET
    if not redraw and (worth := _worth_remembering(state)) != stored:
        preferences.store(request.user, key, worth)
    wrong = any(one.error for one in state.conditions)
    found = _find(page, grants_of(request), state, columns, hidden=redraw or wrong)
    shown = [column for column in columns if column.name in state.chosen]
    chosen = selection.kept(request.user, page, state.search)
    lines = tables.lines(page, shown, found.objects, chosen.has)
    context = {
        'page': page,
        'state': state,
        'query': state.query(),
        'tabs': _tabs(page, state, found.every, found.counts),
        'find': _lines_of_find(page, state, request.GET),
        'heads': _heads(state, shown, page.ordering[0] if page.ordering else ''),
        'lines': lines,
        'columns': [(c.name, c.label, c.name in state.chosen, n == 0) for n, c in enumerate(columns)],
        'many': len(shown) > 6,
        'dense': len(shown) > 8,
        'wide': len(shown) > 10,
        'selected': chosen.count(found.total),
        'elsewhere': chosen.count(found.total) - sum(line.selected for line in lines),
        'everything': chosen.everything,
        'select_url': page_url(page, 'select') + state.query(page=state.number),
        'link': request.build_absolute_uri(page_url(page) + state.query()),
        'clear': _cleared(state),
        'searching': wrong or bool(filters.combine(state.conditions)),
        'sentence': filters.sentence(state.conditions),
        'noun': page.model._meta.verbose_name,
        **_pager(state, found.total),
        **_offers(request, page, state),
        'milliseconds': round((time.monotonic() - started) * 1000),
    }
    return render(request, 'console/list.html', context)


def _pager(state: State, total: int) -> dict[str, Any]:
    """What stands below the table."""
    first = (state.number - 1) * state.rows
    return {
        'sizes': [(n, n == state.rows) for n in SIZES],
        'heights': [(slug, label, slug == state.height) for slug, label in HEIGHTS],
        'total': total,
        'beyond': total == COUNTED,
        'first': first + 1 if total else 0,
        'last': min(first + state.rows, total),
        'previous': state.query(page=state.number - 1) if state.number > 1 else '',
        'next': state.query(page=state.number + 1) if first + state.rows < total else '',
        'here': state.query(page=state.number),
    }


def _offers(request: HttpRequest, page: Page, state: State) -> dict[str, Any]:
    """What this administrator can do in the list."""
    from impadmin.console import bulkwork, imports, searches  # they are built on lists

    who = grants_of(request)
    commands = [c for c in page.commands if may(who, page, f'do/{c.name}')]
    return {
        'edits': bool(bulkwork.bulk_names(page)) and may(who, page, 'change'),
        'imports': imports.importable(page) and may_write(who, page),
        'searches': searches.offered(request, page, state.query()),
        'roles': searches.roles(request.user),
        'deletes': 'delete' in page.verbs and may(who, page, 'delete'),
        'adds': 'add' in page.verbs and may(who, page, 'add'),
        'selection_commands': [c for c in commands if c.scope == 'selection'],
        'page_commands': [c for c in commands if c.scope == 'page'],
    }


def _cleared(state: State) -> str:
    """The list without its search."""
    empty = State([], state.sort, state.rows, 1, state.chosen, state.height, state.tab)
    return empty.query(clear='1')


def lookup_view(request: HttpRequest, page: Page, name: str) -> HttpResponse:
    """Suggestions (option elements) for a reference field of the page's form."""
    from impadmin.console.forms import editable_names, model_field, natural_field

    wanted = model_field(page.model, name)
    if wanted is None or wanted.remote_field is None or name not in editable_names(page):
        raise Http404
    model = wanted.remote_field.model
    natural = natural_field(model)
    text = request.GET.get('q', '').replace('\0', '')[:100]
    names = (
        model._default_manager.filter(Q(**{f'{natural}__icontains': text}))
        .order_by(natural)
        .values_list(natural, flat=True)[:20]
    )
    return render(request, 'console/options.html', {'names': list(names)})
