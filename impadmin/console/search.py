"""Console-wide search: pages, settings, parameters, actions, help, and the objects of searchable pages, weighted.

In a group better matches stand first. Objects of exactly that name come before pages and settings, other objects after.
One query for each searchable page, and another where it finds something, whatever the text.
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

from impadmin.console import filters, folding, listview, navigation, search_index, searches
from impadmin.console.access import Grants, grants_of, may
from impadmin.console.folding import fold
from impadmin.console.page import BasePage, Page, Text
from impadmin.console.registry import page_url
from impadmin.console.search_index import ABOUT, CONTAINS, EXACT, SCATTERED, STARTS, WORD, Entry

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
    """What is searched for, its words apart by one blank."""
    return ' '.join(text.replace('\0', '').split())[:LONGEST].strip()


def find(who: Grants, text: str, each: int = EACH, user: Any = None) -> list[Hits]:
    """Everything ``who`` may open that matches ``text``, in groups; empty groups are left out. user: whose saved
    searches are found too."""
    wanted = clean(text)
    pages = navigation.visible(who)
    if not wanted:
        hits = [_hit(one, ABOUT, '') for one in _known(pages) if one.kind == 'page']
        return [Hits(pgettext('search results', 'Pages'), hits[: 3 * EACH])] if hits else []
    known: dict[str, list[tuple[int, Entry]]] = {kind: [] for kind, _ in GROUPS}
    for score, one in _scored(pages, wanted):
        if may(who, one.page, one.action):
            known[one.kind].append((score, one))
    settings = {one.text for _, one in known['setting']}
    known['help'] = [(score, one) for score, one in known['help'] if score == ABOUT or one.text not in settings]
    static = {kind: Hits(str(title), _best(known[kind], wanted, each)) for kind, title in GROUPS}
    objects = [_objects(page, who, wanted, each) for page in pages if isinstance(page, Page) and page.search]
    objects.append(_saved(pages, user, wanted, each))
    objects.sort(key=lambda group: not _is_exact(group))
    exact = sum(map(_is_exact, objects))
    groups = [*objects[:exact], static['page'], static['setting'], *objects[exact:], static['action'], static['help']]
    return [group for group in groups if group.hits]


def _saved(pages: Sequence[BasePage], user: Any, wanted: str, each: int) -> Hits:
    """Saved searches by name, the better matches first."""
    known, sought = {page.name: page for page in pages}, fold(wanted)
    hits = [
        Hit(
            one.name, str(page.title), page_url(page) + one.query, 'search',
            search_index.score(fold(one.name), sought) or SCATTERED, '', folding.split(one.name, wanted),
        )
        for one in searches.named(user, wanted)
        if (page := known.get(one.page)) is not None
    ]  # fmt: skip
    hits.sort(key=lambda hit: -hit.score)
    return Hits(gettext('Saved searches'), hits[:each])


def _is_exact(group: Hits) -> bool:
    return bool(group.hits) and group.hits[0].score == EXACT


def in_help(pages: Sequence[BasePage], wanted: str) -> list[Hits]:
    """What the help of ``pages`` says about ``wanted``: pages first, then fields."""
    found = [(score, one) for score, one in _scored(pages, wanted) if one.kind == 'help']
    hits = _best(found, wanted, 10 * EACH)
    return [Hits(gettext('Help'), hits)] if hits else []


def _known(pages: Sequence[BasePage]) -> Iterator[Entry]:
    names = {page.name for page in pages}
    for one in search_index.entries(get_language() or 'en'):
        if one.page.name in names:
            yield one


def _scored(pages: Sequence[BasePage], wanted: str) -> Iterator[tuple[int, Entry]]:
    """What matches, with its score."""
    sought = fold(wanted)
    for one in _known(pages):
        if score := one.score(sought):
            yield score, one


def _best(found: list[tuple[int, Entry]], wanted: str, most: int = EACH) -> list[Hit]:
    ranked = sorted(found, key=lambda pair: -pair[0])
    return [_hit(one, score, wanted) for score, one in ranked[:most]]


def _hit(one: Entry, score: int, wanted: str) -> Hit:
    parts = folding.split(one.text, wanted)
    also = one.english if wanted and not parts[1] and fold(wanted) in fold(one.english) else ''
    return Hit(one.text, one.place, one.url, one.icon, score, also or one.note, parts, bool(also))


def _objects(page: Page, who: Grants, wanted: str, each: int) -> Hits:
    """The objects of one page, ranked by the database: those in which every word occurs."""
    number = wanted.isdigit() and len(wanted) < 15 and page.model._meta.pk.get_internal_type().endswith('AutoField')
    is_key = Q(pk=int(wanted)) if number else Q()
    texts = folding.texts(page.model, page.search)
    ranks = {
        EXACT: is_key | Q(folding.Contains(texts, folding.sought(wanted, begins=True, ends=True))),
        STARTS: Q(folding.Contains(texts, folding.sought(wanted, begins=True))),
        WORD: Q(folding.Contains(texts, folding.sought(f' {wanted}'))),
        CONTAINS: Q(folding.Contains(texts, folding.sought(wanted))),
    }
    cases = [When(query, then=Value(rank)) for rank, query in ranks.items()]
    objects, rank = listview.base_queryset(page, who), Case(*cases, default=SCATTERED, output_field=IntegerField())
    found = objects.filter(folding.all_words(texts, wanted) | is_key).annotate(rank=rank).order_by('-rank', 'pk')
    best = dict(found.values_list('pk', 'rank')[: each + 1])  # whole objects take three times as long to sort
    by_key = objects.in_bulk(best) if best else {}
    hits = [_object(page, by_key[key], rank, wanted) for key, rank in best.items() if key in by_key]
    return Hits(str(page.title), hits[:each], _more(page, wanted) if len(hits) > each else '')


def _object(page: Page, obj: Any, rank: int, wanted: str) -> Hit:
    """The object's name and, when the match is elsewhere, the value that matched, or those that have its words."""
    name, sought = str(obj), fold(wanted)
    if sought not in fold(name):
        values = [(value, fold(value)) for one in page.search if (value := str(getattr(obj, one, '') or ''))]
        whole = [value for value, folded in values if sought in folded][:1]
        parts = [value for value, folded in values if any(word in folded for word in sought.split())]
        shown = [value for value in dict.fromkeys(whole or parts) if value != name][:3]
        name = ' – '.join((name, *shown))
    url = page_url(page, 'edit', obj.pk)
    return Hit(name, str(page.title), url, search_index.icon(page), rank, '', folding.split(name, wanted))


def _more(page: Page, wanted: str) -> str:
    """The list with every match."""
    return f'{page_url(page)}?{urlencode({"f": filters.ANY, "o": "contains", "v": wanted})}'


def search_view(request: HttpRequest) -> HttpResponse:
    """Results as a page, as a part of the palette (htmx), or as JSON (``Accept: application/json``)."""
    text = clean(request.GET.get('q', ''))
    palette = bool(request.htmx)  # type: ignore[attr-defined]
    groups = find(grants_of(request), text, QUICK if palette else EACH, request.user)
    if request.headers.get('Accept', '').startswith('application/json'):
        return JsonResponse({'groups': [{'title': g.title, 'results': [_plain(h) for h in g.hits]} for g in groups]})
    template = 'console/hits.html' if palette else 'console/search.html'
    context = {'groups': groups, 'q': text, 'title': gettext('Search'), 'palette': palette}
    return render(request, template, context)


def _plain(hit: Hit) -> dict[str, Text]:
    return {'text': hit.text, 'place': hit.place, 'url': hit.url}
