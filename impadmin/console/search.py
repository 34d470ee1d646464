"""Console-wide search: pages, settings, parameters, actions, help, and the objects of searchable pages, weighted.

In a group better matches stand first. Objects of exactly that name come before pages and settings, other objects after.
One query for each searchable page, whatever the text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from django.db.models import Case, IntegerField, Q, Value, When
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils.translation import get_language, gettext, gettext_lazy, pgettext, pgettext_lazy

from impadmin.console import listview, navigation, search_index
from impadmin.console.access import Grants, grants_of, may
from impadmin.console.page import BasePage, Page, Text
from impadmin.console.registry import page_url
from impadmin.console.search_index import ABOUT, CONTAINS, EXACT, STARTS, WORD, Entry, fold

EACH = 8
"""Most results of one group on the page of results."""
QUICK = 5
"""Most results of one group in the palette."""
LONGEST = 100
"""Longest text to search for; more is cut."""
GROUPS: tuple[tuple[search_index.Kind, Text], ...] = (
    ('page', pgettext_lazy('search results', 'Pages')),
    ('setting', gettext_lazy('Settings')),
    ('action', gettext_lazy('Actions')),
    ('help', gettext_lazy('Help')),
)


@dataclass(slots=True)
class Hit:
    """One result: text, where it is, and its URL. ``parts``: text before, in and after the match; ``note``: more."""

    text: str
    place: str
    url: str
    icon: str
    score: int = 0
    note: str = ''
    parts: tuple[str, str, str] = ('', '', '')
    english: bool = False
    """Whether ``note`` is the English name, by which it was found."""


@dataclass(slots=True)
class Hits:
    """One group of results; ``more``: URL of the list with all of them."""

    title: str
    hits: list[Hit] = field(default_factory=list)
    more: str = ''


def clean(text: str) -> str:
    """What is searched for."""
    return text.replace('\0', '').strip()[:LONGEST]


def find(who: Grants, text: str, each: int = EACH) -> list[Hits]:
    """Everything ``who`` may open that matches ``text``, in groups; empty groups are left out."""
    wanted = clean(text)
    pages = navigation.visible(who)
    if not wanted:
        hits = [_hit(one, ABOUT, '') for one in _known(pages) if one.kind == 'page']
        return [Hits(pgettext('search results', 'Pages'), hits[: 3 * EACH])] if hits else []
    known = {
        kind: [
            (score, one)
            for one in _known(pages, kind)
            if may(who, one.page, one.action) and (score := one.score(fold(wanted)))
        ]
        for kind, _ in GROUPS
    }
    settings = {one.text for _, one in known['setting']}
    known['help'] = [(score, one) for score, one in known['help'] if score == ABOUT or one.text not in settings]
    static = {kind: Hits(str(title), _best(known[kind], wanted, each)) for kind, title in GROUPS}
    objects = [_objects(page, who, wanted, each) for page in pages if isinstance(page, Page) and page.search]
    objects.sort(key=lambda group: not _is_exact(group))
    exact = sum(map(_is_exact, objects))
    groups = [*objects[:exact], static['page'], static['setting'], *objects[exact:], static['action'], static['help']]
    return [group for group in groups if group.hits]


def _is_exact(group: Hits) -> bool:
    return bool(group.hits) and group.hits[0].score == EXACT


def in_help(pages: Sequence[BasePage], wanted: str) -> list[Hits]:
    """What the help of ``pages`` says about ``wanted``: pages first, then fields."""
    found = [(score, one) for one in _known(pages, 'help') if (score := one.score(fold(wanted)))]
    hits = _best(found, wanted, 10 * EACH)
    return [Hits(gettext('Help'), hits)] if hits else []


def _known(pages: Sequence[BasePage], kind: str = '') -> Iterator[Entry]:
    names = {page.name for page in pages}
    for one in search_index.entries(get_language() or 'en'):
        if one.page.name in names and kind in ('', one.kind):
            yield one


def _best(found: list[tuple[int, Entry]], wanted: str, most: int = EACH) -> list[Hit]:
    ranked = sorted(found, key=lambda pair: -pair[0])
    return [_hit(one, score, wanted) for score, one in ranked[:most]]


def _hit(one: Entry, score: int, wanted: str) -> Hit:
    parts = split(one.text, wanted)
    also = one.english if wanted and not parts[1] and fold(wanted) in fold(one.english) else ''
    return Hit(one.text, one.place, one.url, one.icon, score, also or one.note, parts, bool(also))


def split(text: str, wanted: str) -> tuple[str, str, str]:
    """``text`` cut before and after the first match, for bold type."""
    start = text.lower().find(wanted.lower()) if wanted else -1
    if start < 0 or len(text) != len(text.lower()):
        return text, '', ''
    return text[:start], text[start : start + len(wanted)], text[start + len(wanted) :]


def _objects(page: Page, who: Grants, wanted: str, each: int) -> Hits:
    """The objects of one page, ranked by the database."""
    number = wanted.isdigit() and len(wanted) < 15 and page.model._meta.pk.get_internal_type().endswith('AutoField')
    by_key = Q(pk=int(wanted)) if number else Q()
    ranks = [(EXACT, 'iexact', ''), (STARTS, 'istartswith', ''), (WORD, 'icontains', ' '), (CONTAINS, 'icontains', '')]
    cases = [
        When(_any(page, lookup, before + wanted) | (by_key if rank == EXACT else Q()), then=Value(rank))
        for rank, lookup, before in ranks[:-1]
    ]
    found = (
        listview.base_queryset(page, who)
        .filter(_any(page, 'icontains', wanted) | by_key)
        .annotate(rank=Case(*cases, default=Value(CONTAINS), output_field=IntegerField()))
        .order_by('-rank', 'pk')[: each + 1]
    )
    hits = [_object(page, obj, wanted) for obj in found]
    return Hits(str(page.title), hits[:each], _more(page, wanted) if len(hits) > each else '')


def _any(page: Page, lookup: str, value: str) -> Q:
    query = Q()
    for name in page.search:
        query |= Q(**{f'{name}__{lookup}': value})
    return query


def _object(page: Page, obj: Any, wanted: str) -> Hit:
    """The object's name and, when the match is elsewhere, the value that matched."""
    name = str(obj)
    if fold(wanted) not in fold(name):
        values = (str(getattr(obj, one, '') or '') for one in page.search)
        name = next((f'{name} – {value}' for value in values if fold(wanted) in fold(value)), name)
    url = page_url(page, 'edit', obj.pk)
    return Hit(name, str(page.title), url, search_index.icon(page), obj.rank, '', split(name, wanted))


def _more(page: Page, wanted: str) -> str:
    """The list with every match, where its search sentence has the fields."""
    names = [name for name in page.search if name in page.find]
    pairs = [pair for name in names for pair in (('j', 'or'), ('f', name), ('o', 'contains'), ('v', wanted))]
    return f'{page_url(page)}?{urlencode(pairs)}' if names else ''


def search_view(request: HttpRequest) -> HttpResponse:
    """Results as a page, as a part of the palette (htmx), or as JSON (``Accept: application/json``)."""
    text = clean(request.GET.get('q', ''))
    palette = bool(request.htmx)  # type: ignore[attr-defined]
    groups = find(grants_of(request), text, QUICK if palette else EACH)
    if request.headers.get('Accept', '').startswith('application/json'):
        return JsonResponse({'groups': [{'title': g.title, 'results': [_plain(h) for h in g.hits]} for g in groups]})
    template = 'console/hits.html' if palette else 'console/search.html'
    context = {'groups': groups, 'q': text, 'title': gettext('Search'), 'palette': palette}
    return render(request, template, context)


def _plain(hit: Hit) -> dict[str, Text]:
    return {'text': hit.text, 'place': hit.place, 'url': hit.url}
