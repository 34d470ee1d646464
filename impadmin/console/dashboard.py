"""Dashboards: pages made of cards. A card is declared: who may see it, what it reads, how it looks and as data.

The page works without scripts; with them it is asked for again when something happened (live.js), and only its cards
are sent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template import TemplateDoesNotExist
from django.template.loader import get_template
from django.utils.translation import gettext_lazy

from impadmin.console import registry
from impadmin.console.access import Grants, grants_of, may
from impadmin.console.facts import Facts
from impadmin.console.page import Text, ViewPage

SPANS: dict[str, tuple[Text, int]] = {
    '1h': (gettext_lazy('1 h'), 3600),
    '24h': (gettext_lazy('24 h'), 24 * 3600),
    '7d': (gettext_lazy('7 d'), 7 * 24 * 3600),
}
"""What charts can show: name in the address -> (label, seconds)."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What a card is shown for: ``span`` in seconds, to whom, and the facts of this request."""

    span: int
    who: Grants
    facts: Facts = field(default_factory=Facts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One card.

    name      key of its data in REST
    page      name of the page it comes from: only who may look there sees the card
    read      ``read(shown) -> data``: plain values for the template and, with ``api``, for REST
    template  the card as HTML, given ``card`` and ``data``
    place     top: the whole width, above; main: the wide column; side: the narrow one
    api       ``api(data) -> JSON data``; default: ``read``'s own
    """

    name: str
    page: str
    read: Callable[[Shown], Mapping[str, Any]]
    template: str
    place: Literal['top', 'main', 'side'] = 'main'
    api: Callable[[Mapping[str, Any]], Any] = dict


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard(ViewPage):
    """A page of cards, in their order. ``every``: seconds between two refreshes while numbers only move."""

    cards: tuple[Card, ...]
    every: int = 10
    view: Callable[..., Any] = field(default_factory=lambda: dashboard_view)

    def __post_init__(self) -> None:
        """The page as data is made from its cards."""
        object.__setattr__(self, 'api', partial(as_json, self))

    def problems(self) -> Iterator[tuple[str, str]]:
        """(what is wrong, what would be right) of its cards, for the start-up checks."""
        pages = {page.name for page in registry.registered()}
        for name, count in Counter(card.name for card in self.cards).items():
            if count > 1:
                yield f'the card {name!r} is there {count} times', 'Name every card once.'
        for card in self.cards:
            if card.page not in pages:
                yield f'the card {card.name!r} names the page {card.page!r}, which does not exist', 'Name a page.'
            try:
                get_template(card.template)
            except TemplateDoesNotExist:
                yield f'the template {card.template!r} of the card {card.name!r} does not exist', 'Add it.'


def visible(request: HttpRequest, page: Dashboard) -> list[Card]:
    """The cards whose pages this user may look at."""
    who = grants_of(request)
    return [card for card in page.cards if may(who, registry.page(card.page))]


def shown(request: HttpRequest) -> tuple[str, Shown]:
    """(name of the span, what to show): ``?range=`` of the address; an unknown one is the first."""
    wanted = request.GET.get('range', '')
    name = wanted if wanted in SPANS else next(iter(SPANS))
    return name, Shown(SPANS[name][1], grants_of(request))


def dashboard_view(request: HttpRequest, page: Dashboard) -> HttpResponse:
    """The page, or with ``?part=cards`` only its cards."""
    name, what = shown(request)
    places: dict[str, list[tuple[Card, Mapping[str, Any]]]] = {'top': [], 'main': [], 'side': []}
    for card in visible(request, page):
        places[card.place].append((card, card.read(what)))
    context = {
        'page': page,
        'places': places,
        'range': name,
        'ranges': [(key, label, key == name) for key, (label, _) in SPANS.items()],
    }
    part = request.GET.get('part') == 'cards'
    return render(request, 'console/dashboard_cards.html' if part else 'console/dashboard.html', context)


def as_json(page: Dashboard, request: HttpRequest) -> dict[str, Any]:
    """Every card's data by its name."""
    _, what = shown(request)
    return {card.name: card.api(card.read(what)) for card in visible(request, page)}
