"""Saved searches: a list as somebody wants to see it again, under a name; shared with a role when he says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from django.contrib import messages
from django.db.models import F, Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.translation import gettext

from impadmin.console import folding, listview, tables
from impadmin.console.models import Administrator, SavedSearch
from impadmin.console.page import Page
from impadmin.console.registry import page_url

MOST = 50
"""Searches of one administrator on one page."""


@dataclass(frozen=True, slots=True)
class Offered:
    """One saved search as the list offers it. owner: '' for one's own; shared_with: name of a role, or ''."""

    pk: int
    name: str
    url: str
    current: bool
    owner: str
    shared_with: str


def offered(request: HttpRequest, page: Page, query: str) -> list[Offered]:
    """One's own searches of a page and those shared with a role of one's own: one query, however many there are."""
    user: Any = request.user
    if not isinstance(user, Administrator):
        return []
    labels = dict(roles(user))
    found = _seen_by(user).filter(page=page.name).select_related('administrator')
    return [
        Offered(
            one.pk,
            one.name,
            page_url(page) + one.query,
            _parts(one.query) == _parts(query),
            '' if one.administrator_id == user.pk else one.administrator.username,
            labels.get(one.shared_with, one.shared_with),
        )
        for one in found[: MOST * 4]
    ]


def _seen_by(user: Administrator) -> QuerySet[SavedSearch]:
    """One's own and those shared with a role of one's own, by name."""
    shared = [name for name, _ in roles(user)]
    return SavedSearch.objects.filter(Q(administrator=user) | Q(shared_with__in=shared)).order_by('name', 'pk')


def named(user: Any, text: str) -> list[SavedSearch]:
    """Saved searches of every page whose name has all words of ``text``."""
    if not isinstance(user, Administrator):
        return []
    return list(_seen_by(user).filter(folding.all_words(folding.Fold(F('name')), text))[: MOST * 4])


def roles(user: Any) -> list[tuple[str, str]]:
    """(name, label) of the roles a search can be shared with: one's own."""
    return [(role.name, str(role)) for role in user.held_roles] if isinstance(user, Administrator) else []


def _parts(query: str) -> list[tuple[str, str]]:
    return parse_qsl(query.removeprefix('?'), keep_blank_values=True)


def save_view(request: HttpRequest, page: Page) -> HttpResponse:
    """Save the list of this URL under a name (again: replace it), or delete a search of one's own."""
    state = listview.read_state(page, tables.columns(page), request.GET, {})
    back = HttpResponseRedirect(page_url(page) + state.query(page=state.number))
    user: Any = request.user
    if request.method != 'POST' or not isinstance(user, Administrator):
        return back
    own = SavedSearch.objects.filter(administrator=user, page=page.name)
    if (gone := request.POST.get('delete', '')).isdecimal() and len(gone) < 19:
        own.filter(pk=gone).delete()
        return back
    name = ' '.join(request.POST.get('name', '').replace('\0', '').split())[:60]
    role = request.POST.get('shared_with', '')
    if not name:
        messages.error(request, gettext('Give the search a name.'))
    elif role and role not in dict(roles(user)):
        messages.error(request, gettext('Share a search with a role of your own.'))
    elif own.exclude(name=name).count() >= MOST:
        messages.error(request, gettext('You have %(most)s saved searches here. Delete one first.') % {'most': MOST})
    else:
        own.update_or_create(
            administrator=user, page=page.name, name=name, defaults={'query': state.query(), 'shared_with': role}
        )
        messages.success(request, gettext('The search %(name)s was saved.') % {'name': name})
    return back
