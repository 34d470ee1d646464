"""What every page of the console shows around its content."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import get_language, gettext, gettext_lazy

from impadmin.console import access, generations, navigation, notifications, registry, services
from impadmin.console.editview import control_center, service_name
from impadmin.console.models import Job, JobState
from impadmin.console.page import BasePage, Text
from impadmin.console.preferences import THEME_COOKIE

VERSION = '0.1.0'
LANGUAGES = (('en', 'en', 'English'), ('zh-hans', 'zh-Hans', '简体中文'), ('ja', 'ja', '日本語'))
"""(Django's code, the code of the lang attribute, the language's own name)"""
THEMES: tuple[tuple[str, Text, str], ...] = (
    ('', gettext_lazy('Same as the device'), 'theme'),
    ('light', gettext_lazy('Light'), 'theme'),
    ('dark', gettext_lazy('Dark'), 'theme'),
)
MARKS = {'High': 'bad', 'Medium': 'warn', 'Low': 'info'}


@dataclass(slots=True)
class Cause:
    """Active notifications with one cause: the same page, severity and services, on some nodes."""

    severity: str
    mark: str
    title: str
    text: str
    since: datetime
    page: str
    url: str
    rule: str = ''
    nodes: list[str] = field(default_factory=list)


def causes(active: list[notifications.Notification]) -> list[Cause]:
    """Notifications grouped by what caused them, in the order of the first of each group."""
    grouped: dict[tuple[str, ...], list[notifications.Notification]] = {}
    for one in active:
        key = (one.kind, one.severity, one.rule, one.reason)
        grouped.setdefault(key, []).append(one)
    result = []
    for members in grouped.values():
        first = members[0]
        services = list(dict.fromkeys(service_name(m.service) for m in members if m.service))
        nodes = list(dict.fromkeys(m.node for m in members if m.node))
        page = next((p for p in registry.pages() if p.menu == first.page), None)
        place = navigation.menu_path(page) if page is not None else first.page
        result.append(
            Cause(
                severity=first.severity,
                mark=MARKS.get(first.severity, 'warn'),
                title=gettext(', ').join(services) or place or first.alarm or gettext('System'),
                text=first.reason if first.kind == 'restart' else first.said,
                since=min(m.since for m in members),
                page=place,
                url=registry.page_url(page) if page is not None else '',
                rule=first.rule,
                nodes=nodes,
            )
        )
    return result


@dataclass(slots=True)
class Pin:
    """A page at the top of every menu; ``count`` is what needs a look there, ``live`` says what keeps it current."""

    label: str
    url: str
    icon: str
    current: bool = False
    count: int = 0
    live: str = ''


PINNED = (
    ('system-dashboard', 'gauge'),
    ('notifications', 'bell'),
    ('job-scheduler', 'bulk'),
    ('history', 'history'),
    ('end-users', 'users'),
)
"""(page, icon) of the pages that every menu has at its top."""


class Shell:
    """The shell of one request; everything is computed when a template asks for it."""

    version = VERSION
    themes = THEMES
    languages = LANGUAGES

    def __init__(self, request: HttpRequest) -> None:
        self.request = request
        match = request.resolver_match
        self.page: BasePage | None = match.kwargs.get('page') if match is not None else None
        self.user = request.user if request.user.is_authenticated else None
        self.grants = access.grants_of(request)

    @functools.cached_property
    def theme(self) -> str:
        """'light', 'dark' or '' (as the device)."""
        theme = getattr(self.user, 'theme', '') if self.user else self.request.COOKIES.get(THEME_COOKIE, '')
        return theme if theme in ('light', 'dark') else ''

    @functools.cached_property
    def language(self) -> str:
        """The lang attribute of the page."""
        return next((tag for code, tag, _ in LANGUAGES if code == get_language()), 'en')

    @functools.cached_property
    def console(self) -> navigation.Console:
        """The console the page belongs to; the first one for pages of none."""
        key = self.page.console if self.page is not None else self.request.path.strip('/').split('/')[0]
        return navigation.CONSOLES.get(key) or next(iter(navigation.CONSOLES.values()))

    @functools.cached_property
    def consoles(self) -> list[tuple[navigation.Console, str]]:
        """The consoles the role may open."""
        return navigation.consoles(self.grants)

    @functools.cached_property
    def menus(self) -> list[navigation.Menu]:
        """The left menu."""
        return navigation.menus(self.console.key, self.grants, self.page)

    @functools.cached_property
    def pinned(self) -> list[Pin]:
        """The pages the role may open of those at the top of every menu."""
        known = {page.name: page for page in navigation.visible(self.grants)}
        result = []
        for name, icon in PINNED:
            if name not in known:
                continue
            page = known[name]
            pin = Pin(gettext(navigation.menu_parts(page)[-1]), registry.page_url(page), icon, page is self.page)
            if name == 'notifications':
                pin.count, pin.live = len(self.active), 'notifications'
            elif name == 'job-scheduler':
                pin.count, pin.live = len(self.running_jobs), 'jobs'
            result.append(pin)
        return result

    @functools.cached_property
    def running_jobs(self) -> list[int]:
        """Numbers of the jobs that are processing."""
        return list(Job.objects.filter(state=JobState.PROCESSING).order_by('pk').values_list('pk', flat=True)[:100])

    @functools.cached_property
    def publisher(self) -> str:
        """Name of the publisher, the node whose settings are edited here; '' before there is one."""
        nodes = generations.stored(self.generation).nodes if self.generation else ()
        return next((node.name for node in nodes if node.publisher), '')

    @functools.cached_property
    def crumbs(self) -> list[str]:
        """The product's path to the page."""
        return [gettext(part) for part in navigation.menu_parts(self.page)] if self.page is not None else []

    @functools.cached_property
    def home(self) -> str:
        """URL of the page itself, for the last crumb."""
        return registry.page_url(self.page) if self.page is not None else '/'

    @functools.cached_property
    def related(self) -> list[tuple[str, Text]]:
        """(URL, title) of the related pages the role may open."""
        if self.page is None:
            return []
        known = {page.name: page for page in registry.pages()}
        pages = navigation.visible(self.grants, [known[name] for name in self.page.related if name in known])
        return [(registry.page_url(page), page.title) for page in pages]

    @functools.cached_property
    def help_url(self) -> str:
        """URL of the help of the page, or of the help index."""
        return registry.page_url(self.page, 'help') if self.page is not None else reverse('help')

    @functools.cached_property
    def active(self) -> list[notifications.Notification]:
        """Active Notifications."""
        return notifications.of(self.request) if self.user else []

    @functools.cached_property
    def causes(self) -> list[Cause]:
        """Active Notifications by cause."""
        return causes(self.active)

    @functools.cached_property
    def unseen(self) -> list[Cause]:
        """Causes the pop-up shows: what needs a restart or raised an alarm and was not dismissed in this session."""
        if not self.active:
            return []
        return causes([one for one in notifications.unseen(self.request) if one.kind != 'advice'])[:3]

    @functools.cached_property
    def address(self) -> str:
        """Where the browser is: of the page itself, also when only a part is asked for again."""
        return '/' if self.request.path == reverse('alerts') else self.request.get_full_path()

    @functools.cached_property
    def counts(self) -> list[tuple[str, str, int]]:
        """(severity, mark, how many) of each severity that occurs, High first."""
        found = [(s, mark, sum(1 for one in self.active if one.severity == s)) for s, mark in MARKS.items()]
        return [entry for entry in found if entry[2]]

    @functools.cached_property
    def services(self) -> list[services.Line]:
        """The services the page names, with their state."""
        keys = services.named(self.page, self.request.GET.get('service', '')) if self.page is not None else ()
        return services.lines(self.grants, keys)

    @functools.cached_property
    def notifications_url(self) -> str:
        """URL of the Notifications page when there is one."""
        return next((registry.page_url(p) for p in registry.pages() if p.name == 'notifications'), '')

    @functools.cached_property
    def control_center(self) -> str:
        """URL of the Control Center, or ''."""
        return control_center()

    @functools.cached_property
    def generation(self) -> int:
        """Number of the newest configuration generation."""
        return generations.newest_number()

    @functools.cached_property
    def cluster(self) -> str:
        """The Cluster ID."""
        return generations.stored(self.generation).cluster_name if self.generation else ''

    @functools.cached_property
    def now(self) -> datetime:
        """The time of the console."""
        return timezone.localtime()

    @functools.cached_property
    def initials(self) -> str:
        """Two letters of the user name."""
        name = str(self.user or '')
        parts = [part for part in name.replace('.', ' ').replace('_', ' ').replace('-', ' ').split() if part]
        return ''.join(part[0] for part in parts[:2]).upper() if len(parts) > 1 else name[:2].upper()

    @functools.cached_property
    def role_name(self) -> str:
        """The roles in words."""
        return gettext(', ').join(str(role) for role in getattr(self.user, 'held_roles', ()))


def shell(request: HttpRequest) -> dict[str, Any]:
    """The template context processor."""
    return {'shell': Shell(request), 'debug': settings.DEBUG}


def alerts_view(request: HttpRequest) -> HttpResponse:
    """The Active Notifications summary and its list, asked for again when something changed."""
    return render(request, 'console/alerts.html')
