"""URLs of the console, one set per registered page. ``page`` is an argument of every view that belongs to a page."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.templatetags.static import static
from django.urls import URLPattern, URLResolver, include, path

from impadmin.console import (
    bulkview,
    commandview,
    context,
    downloads,
    editview,
    help,
    historyview,
    listview,
    navigation,
    parameterview,
    preferences,
    registry,
    search,
    searches,
    services,
)
from impadmin.console.access import for_page, grants_of, public, signed_in
from impadmin.console.page import BasePage, Page, ParameterPage, SettingsPage, ViewPage

START = ('system-dashboard', 'notifications')
"""Pages to start with: the first one of the console that the role may open."""


def home(request: HttpRequest, console: str = '') -> HttpResponse:
    """The start page of a console (or of the first one), else the first page that the role may open."""
    who = grants_of(request)
    open_pages = {page.name: page for page in navigation.visible(who)}
    for name in START:
        if name in open_pages and console in ('', open_pages[name].console):
            return HttpResponseRedirect(registry.page_url(name))
    for key in [console] if console else navigation.CONSOLES:
        for menu in navigation.menus(key, who):
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
        route: str, view: Callable[..., HttpResponseBase], name: str, action: str = '', always: bool = True
    ) -> URLPattern:
        # each URL has its own callable, because access rights are declared on the callable
        declared = for_page(page, partial(view), action, always=always and bool(action))
        return path(route, declared, {'page': page}, name=name)

    if isinstance(page, Page):
        return [
            part('', listview.list_view, 'list'),
            part('add/', editview.add_view, 'add', 'add'),
            part('select/', listview.select_view, 'select', 'view', always=False),
            part('searches/', searches.save_view, 'searches', 'view', always=False),
            part('delete-selected/', bulkview.delete_view, 'delete-selected', 'delete'),
            part('bulk-edit/', bulkview.edit_view, 'bulk-edit', 'change'),
            part('export/', bulkview.export_view, 'export', 'view', always=False),
            part('import/', bulkview.import_view, 'import'),
            part('lookup/<str:name>/', listview.lookup_view, 'lookup'),
            part('help/', help.page_help, 'help'),
            part('do/<str:command>/', commandview.command_view, 'do', 'do'),
            part('file/<str:name>/', downloads.file_view, 'file'),
            part('<str:pk>/', editview.edit_view, 'edit', 'change', always=False),
            part('<str:pk>/copy/', editview.copy_view, 'copy', 'add'),
            part('<str:pk>/delete/', editview.delete_view, 'delete', 'delete'),
            part('<str:pk>/history/', historyview.history_view, 'history'),
            part('<str:pk>/file/<str:name>/', downloads.file_view, 'file-object'),
            part('<str:pk>/do/<str:command>/', commandview.command_view, 'do-object', 'do'),
        ]
    history = part('history/', historyview.history_view, 'history')
    about = part('help/', help.page_help, 'help')
    command = part('do/<str:command>/', commandview.command_view, 'do', 'do')
    if isinstance(page, SettingsPage):
        return [part('', editview.settings_view, 'list', 'change', always=False), history, about, command]
    if isinstance(page, ParameterPage):
        return [part('', parameterview.parameters_view, 'list', 'change', always=False), history, about]
    assert isinstance(page, ViewPage)
    return [part('', view_of, 'list'), history, about, command]


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
    path('preferences/', public(preferences.choose), name='preferences'),
    path('search/', signed_in(search.search_view), name='search'),
    path('help/', signed_in(help.index), name='help'),
    path('service-states/', signed_in(services.states_view), name='service-states'),
    path('alerts/', signed_in(context.alerts_view), name='alerts'),
    path('', include((page_routes(), 'page'), namespace='page')),
    *(
        path(f'{key}/', signed_in(partial(home)), {'console': key}, name=f'console-{key}')
        for key in navigation.CONSOLES
    ),
]
