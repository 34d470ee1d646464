"""URLs of the console, one set per registered page. ``page`` is an argument of every view that belongs to a page."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.templatetags.static import static
from django.urls import URLPattern, URLResolver, include, path

from impadmin.console import (
    context,
    downloads,
    editview,
    historyview,
    listview,
    login,
    navigation,
    parameterview,
    preferences,
    registry,
    search,
)
from impadmin.console.access import for_page, public, signed_in
from impadmin.console.page import BasePage, Page, ParameterPage, SettingsPage, ViewPage

START = ('presence-topology', 'notifications')
"""Pages to start with: the first one of the console that the role may open."""


def home(request: HttpRequest, console: str = '') -> HttpResponse:
    """The start page of a console (or of the first one), else the first page that the role may open."""
    role = request.user.role  # type: ignore[union-attr]
    open_to_role = {page.name: page for page in navigation.visible(role)}
    for name in START:
        if name in open_to_role and console in ('', open_to_role[name].console):
            return HttpResponseRedirect(registry.page_url(name))
    for key in [console] if console else navigation.CONSOLES:
        for menu in navigation.menus(key, role):
            for section in menu.sections:
                return HttpResponseRedirect(section.leaves[0].url)
    raise Http404


def favicon(request: HttpRequest) -> HttpResponse:
    """Where browsers look for the icon on their own, e.g. for a downloaded file."""
    return HttpResponseRedirect(static('favicon.svg'))


def view_of(request: HttpRequest, page: ViewPage) -> HttpResponse:
    """A page with its own view."""
    answer: HttpResponse = page.view(request, page)
    return answer


def patterns(page: BasePage) -> list[URLPattern]:
    """The parts of one page; the first is the page itself."""

    def part(
        route: str, view: Callable[..., HttpResponse], name: str, writes: Literal['unsafe', 'always'] = 'unsafe'
    ) -> URLPattern:
        # each URL has its own callable, because access rights are declared on the callable
        return path(route, for_page(page, partial(view), writes=writes), {'page': page}, name=name)

    if isinstance(page, Page):
        return [
            part('', listview.list_view, 'list'),
            part('add/', editview.add_view, 'add', 'always'),
            part('delete-selected/', editview.delete_selected_view, 'delete-selected', 'always'),
            part('lookup/<str:name>/', listview.lookup_view, 'lookup'),
            part('do/<str:command>/', editview.command_view, 'do', 'always'),
            part('file/<str:name>/', downloads.file_view, 'file'),
            part('<str:pk>/', editview.edit_view, 'edit'),
            part('<str:pk>/copy/', editview.copy_view, 'copy', 'always'),
            part('<str:pk>/delete/', editview.delete_view, 'delete', 'always'),
            part('<str:pk>/history/', historyview.history_view, 'history'),
            part('<str:pk>/file/<str:name>/', downloads.file_view, 'file-object'),
            part('<str:pk>/do/<str:command>/', editview.command_view, 'do-object', 'always'),
        ]
    history = part('history/', historyview.history_view, 'history')
    command = part('do/<str:command>/', editview.command_view, 'do', 'always')
    if isinstance(page, SettingsPage):
        return [part('', editview.settings_view, 'list'), history, command]
    if isinstance(page, ParameterPage):
        return [part('', parameterview.parameters_view, 'list'), history]
    assert isinstance(page, ViewPage)
    return [part('', view_of, 'list'), history, command]


def page_routes() -> list[URLPattern | URLResolver]:
    """Every page below /CONSOLE/AREA/NAME/."""
    routes: list[URLPattern | URLResolver] = []
    for page in registry.pages():
        route = registry.page_url(page).lstrip('/')
        parts = patterns(page)
        routes.append(path(route, parts[0].callback, {'page': page}, name=page.name))
        routes.append(path(route, include((parts, page.name), namespace=page.name)))
    return routes


urlpatterns = [
    path('', signed_in(partial(home)), name='home'),
    path('favicon.ico', public(favicon), name='favicon'),
    path('login/', public(login.login_view), name='login'),
    path('logout/', signed_in(login.logout_view), name='logout'),
    path('preferences/', public(preferences.choose), name='preferences'),
    path('search/', signed_in(search.search_view), name='search'),
    path('alerts/', signed_in(context.alerts_view), name='alerts'),
    path('', include((page_routes(), 'page'), namespace='page')),
    *(
        path(f'{key}/', signed_in(partial(home)), {'console': key}, name=f'console-{key}')
        for key in navigation.CONSOLES
    ),
]
