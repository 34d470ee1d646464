"""Find and List of any page: search sentence, sort, pages, columns, tabs, selection; state lives in the URL."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.core.exceptions import EmptyResultSet
from django.db import connection
from django.db.models import Count, Q, QuerySet
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


def _rows(queryset: QuerySet[Any], order: list[Any], first: int, count: int, related: Sequence[str]) -> list[Any]:
    """One page of objects. The keys are sorted first and alone: sorting whole rows takes several times as long."""
    keys = list(queryset.order_by(*order).values_list('pk', flat=True)[first : first + count])
    objects = queryset.filter(pk__in=keys).order_by()
    by_key = {obj.pk: obj for obj in (objects.select_related(*related) if related else objects)}
    return [by_key[key] for key in keys if key in by_key]


def counted(page: Page, base: QuerySet[Any], query: Q) -> tuple[int, int, list[int]]:
    """How many objects of ``base`` there are, how many of them ``query`` finds, and how many each tab. Counting stops
    at COUNTED, because nobody pages that far. Tabs of a table below that are counted by one reading of it."""
    every, *found = _bounded([base, *([base.filter(query)] if query else [])])
    total = found[0] if found else every
    parts = [base.filter(tab) for _, _, tab in page.tabs]
    if not parts or every == COUNTED or not all(map(_is_one_to_one, parts)):
        return every, total, _bounded(parts)
    asked = {f'n{n}': Count('pk', filter=tab) for n, (_, _, tab) in enumerate(page.tabs)}
    counts = base.order_by().aggregate(**asked)
    return every, total, [counts[name] for name in asked]


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
                'kind': column.kind,
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
    from impadmin.console import bulkwork, imports, searches  # they are built on lists

    started = time.monotonic()
    key = f'list:{page.name}'
    stored = preferences.load(request.user, key)
    all_columns = tables.columns(page)
    state = read_state(page, all_columns, request.GET, stored)
    redraw = 'redraw' in request.GET
    if not redraw and (worth := _worth_remembering(state)) != stored:
        preferences.store(request.user, key, worth)
    shown = [column for column in all_columns if column.name in state.chosen]
    who = grants_of(request)
    queryset = found(page, who, state.conditions, state.tab)
    every, total, counts = counted(page, base_queryset(page, who), narrowed(page, state.conditions, state.tab))
    if redraw or any(one.error for one in state.conditions):
        total = 0
    pages = max(1, -(-total // state.rows))
    state.number = min(state.number, pages)
    first = (state.number - 1) * state.rows
    related = [column.related for column in shown if column.related]
    allowed = [c for c in page.commands if may(who, page, f'do/{c.name}')]
    commands = [c for c in allowed if c.scope == 'selection']
    deletes = 'delete' in page.verbs and may(who, page, 'delete')
    edits = bool(bulkwork.bulk_names(page)) and may(who, page, 'change')
    chosen = selection.kept(request.user, page, state.search)
    order = tables.ordering(page, all_columns, state.sort)
    objects = _rows(queryset, order, first, state.rows, related) if total else []
    lines = tables.lines(page, shown, objects, chosen.has)
    here = sum(line.selected for line in lines)
    default_sort = page.ordering[0] if page.ordering else ''
    searching = bool(filters.combine(state.conditions)) or any(c.error for c in state.conditions)
    context = {
        'page': page,
        'state': state,
        'query': state.query(),
        'tabs': _tabs(page, state, every, counts),
        'find': _lines_of_find(page, state, request.GET),
        'heads': _heads(state, shown, default_sort),
        'lines': lines,
        'columns': [(c.name, c.label, c.name in state.chosen, n == 0) for n, c in enumerate(all_columns)],
        'many': len(shown) > 6,
        'dense': len(shown) > 8,
        'wide': len(shown) > 10,
        'sizes': [(n, n == state.rows) for n in SIZES],
        'heights': [(slug, label, slug == state.height) for slug, label in HEIGHTS],
        'total': total,
        'beyond': total == COUNTED,
        'first': first + 1 if total else 0,
        'last': min(first + state.rows, total),
        'previous': state.query(page=state.number - 1) if state.number > 1 else '',
        'next': state.query(page=state.number + 1) if state.number < pages else '',
        'here': state.query(page=state.number),
        'selected': chosen.count(total),
        'elsewhere': chosen.count(total) - here,
        'everything': chosen.everything,
        'edits': edits,
        'imports': imports.importable(page) and may_write(who, page),
        'searches': searches.offered(request, page, state.query()),
        'roles': searches.roles(request.user),
        'select_url': page_url(page, 'select') + state.query(page=state.number),
        'link': request.build_absolute_uri(page_url(page) + state.query()),
        'clear': _cleared(state),
        'deletes': deletes,
        'adds': 'add' in page.verbs and may(who, page, 'add'),
        'selection_commands': commands,
        'page_commands': [c for c in allowed if c.scope == 'page'],
        'searching': searching,
        'sentence': filters.sentence(state.conditions),
        'noun': page.model._meta.verbose_name,
        'milliseconds': round((time.monotonic() - started) * 1000),
    }
    return render(request, 'console/list.html', context)


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
