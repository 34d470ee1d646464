"""Template tags of the console: icons, state marks, page URLs, ages and numbers."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django import template
from django.templatetags.static import static
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext

from impadmin.console import registry, tables
from impadmin.console.page import BasePage

register = template.Library()


@register.simple_tag
def icon(name: str, classes: str = '') -> SafeString:
    """An icon of the sprite, e.g. ``{% icon 'plus' %}``."""
    return format_html(
        '<svg class="i {}" aria-hidden="true" focusable="false"><use href="{}#i-{}"/></svg>',
        classes,
        static('icons.svg'),
        name,
    )


@register.simple_tag
def mark(name: str, classes: str = '') -> SafeString:
    """A filled mark: ok, warn, bad, busy, off, unk or info."""
    return format_html(
        '<svg class="i n-{} {}" aria-hidden="true" focusable="false"><use href="{}#s-{}"/></svg>',
        name,
        classes,
        static('icons.svg'),
        name,
    )


@register.simple_tag
def state(name: str, word: Any, classes: str = '') -> SafeString:
    """A state: mark and word, e.g. ``{% state 'ok' 'Running' %}``."""
    return tables.state_html(name, word, classes)


@register.simple_tag
def page_url(page: BasePage | str, verb: str = '', pk: Any = None) -> str:
    """The path of a page or of one of its parts, see ``registry.page_url``."""
    return registry.page_url(page, verb, pk)


@register.filter
def age(value: datetime | None) -> str:
    """How long ago: 40 s, 12 min, 4 h 3 min, 21 d 4 h."""
    if value is None:
        return '–'
    return lasting((timezone.now() - value).total_seconds())


@register.filter
def lasting(value: float) -> str:
    """How long it takes, in the same form."""
    seconds = max(0, int(value))
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if minutes < 1:
        return gettext('%(s)s s') % {'s': seconds}
    if hours < 1:
        return gettext('%(min)s min') % {'min': minutes}
    if days < 1:
        return gettext('%(h)s h %(min)s min') % {'h': hours, 'min': minutes % 60}
    return gettext('%(d)s d %(h)s h') % {'d': days, 'h': hours % 24}


@register.filter
def num(value: Any) -> str:
    """A number with the separators of the language."""
    return tables.number(value)


@register.filter
def stamp(value: datetime | None) -> str:
    """Date and time to the second."""
    return '–' if value is None else tables.exactly_when(value)


@register.filter
def when(value: datetime | None) -> str:
    """Today as a time, yesterday as a word, else the date."""
    return '–' if value is None else tables.when(value)


@register.filter
def day(value: datetime | None) -> str:
    """The date in words, today and yesterday called so."""
    return '–' if value is None else tables.day(value)


@register.filter
def lang(value: Any) -> str:
    """'ja' or 'ko' when the script of the text says so, else ''."""
    return tables.language_of(str(value))
