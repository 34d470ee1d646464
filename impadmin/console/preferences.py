"""What one administrator chose: theme, language, and per list the columns, sort, page size, row height and search."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST

from impadmin.console.models import Administrator, Preference

THEMES = ('', 'light', 'dark')
THEME_COOKIE = 'theme'
YEAR = 365 * 24 * 3600


def load(user: Any, key: str) -> dict[str, Any]:
    """The stored value, or an empty dictionary."""
    if not isinstance(user, Administrator):
        return {}
    value = Preference.objects.filter(administrator=user, key=key).values_list('value', flat=True).first()
    return value if isinstance(value, dict) else {}


def store(user: Any, key: str, value: dict[str, Any]) -> None:
    """Remember ``value``."""
    if isinstance(user, Administrator):
        Preference.objects.update_or_create(administrator=user, key=key, defaults={'value': value})


def local_url(request: HttpRequest, url: str, default: str = '/') -> str:
    """``url`` when it stays on this console, else ``default``: no open redirect."""
    allowed = url_has_allowed_host_and_scheme(url, {request.get_host()}, require_https=request.is_secure())
    return url if allowed and url.startswith('/') else default


def keep(response: HttpResponse, name: str, value: str) -> None:
    """Set a year-long preference cookie; an empty value deletes it."""
    if value:
        response.set_cookie(name, value, max_age=YEAR, samesite='Lax', secure=settings.SECURE_COOKIES, httponly=True)
    else:
        response.delete_cookie(name, samesite='Lax')


@require_POST
def choose(request: HttpRequest) -> HttpResponse:
    """Theme and language, from the popover of every page and from the sign-in page."""
    response = HttpResponseRedirect(local_url(request, request.POST.get('next', '/')))
    user = request.user
    changed = []
    if (theme := request.POST.get('theme')) is not None and theme in THEMES:
        keep(response, THEME_COOKIE, theme)
        if isinstance(user, Administrator):
            user.theme = theme
            changed.append('theme')
    if (language := request.POST.get('language')) in dict(settings.LANGUAGES):
        keep(response, settings.LANGUAGE_COOKIE_NAME, language)
        if isinstance(user, Administrator):
            user.language = language
            changed.append('language')
    if isinstance(user, Administrator) and changed:
        user.save(update_fields=changed)
    return response
