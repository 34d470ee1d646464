"""What every answer carries and no request may contain: security headers, request id, refused bytes; health."""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Callable
from typing import Any

from django.core.exceptions import BadRequest
from django.db import DatabaseError, connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.cache import patch_vary_headers
from django.utils.translation import gettext
from django.views.decorators.http import require_safe
from redis import RedisError

from impadmin.console.access import public
from impadmin.console.generations import redis

log = logging.getLogger('impadmin.access')

CONTENT_SECURITY_POLICY = '; '.join(
    (
        "default-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "object-src 'none'",
        "img-src 'self' data:",
    )
)
"""Nothing inline, nothing from another host; data: only for the arrows in the stylesheet."""
HEADERS = {
    'Content-Security-Policy': CONTENT_SECURITY_POLICY,
    'Permissions-Policy': 'camera=(), geolocation=(), microphone=(), payment=(), usb=(), browsing-topics=()',
    'Cross-Origin-Opener-Policy': 'same-origin',
    'Cross-Origin-Resource-Policy': 'same-origin',
    'X-Content-Type-Options': 'nosniff',
    'X-Frame-Options': 'DENY',
    'Referrer-Policy': 'same-origin',
}
LONGEST_URL = 8000
"""Longest path with query, in characters; a browser never sends more from these pages."""
_GIVEN_ID = re.compile(r'[A-Za-z0-9._-]{8,64}')
_NUL = re.compile(r'%00|\0')


class HeadersMiddleware:
    """Gives each request an id, refuses bytes nothing can store, and sets the headers of every answer."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer with headers."""
        request.request_id = request_id(request)  # type: ignore[attr-defined]
        if problem := refusal(request):
            from impadmin.console.errors import bad_request

            response = bad_request(request, BadRequest(problem))
        else:
            response = self.get_response(request)
        self._dress(request, response)
        return response

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Answer what an action refused and the view did not catch."""
        from impadmin.console.errors import of_exception

        return of_exception(request, exception)

    def _dress(self, request: HttpRequest, response: HttpResponse) -> None:
        response['X-Request-Id'] = request.request_id  # type: ignore[attr-defined]
        for name, value in HEADERS.items():
            response.setdefault(name, value)
        if not request.path.startswith('/static/'):
            response.setdefault('Cache-Control', 'no-store')
            patch_vary_headers(response, ('Cookie',))


def request_id(request: HttpRequest) -> str:
    """The id a proxy gave, when it looks like one, else a new one."""
    given = request.headers.get('X-Request-Id', '')
    return given if _GIVEN_ID.fullmatch(given) else secrets.token_hex(8)


def refusal(request: HttpRequest) -> str:
    """Why the request line cannot be served, or ''."""
    query = request.META.get('QUERY_STRING', '')
    if _NUL.search(request.path) or _NUL.search(query):
        return gettext('The address contains a NUL character. Remove it.')
    if len(request.path) + len(query) > LONGEST_URL:
        return gettext('The address is longer than %(most)d characters. Shorten the search.') % {'most': LONGEST_URL}
    return ''


@public
@require_safe
def health(request: HttpRequest) -> HttpResponse:
    """``/healthz``: 200 when the console reaches PostgreSQL and Redis, else 503; each part with ok or failed."""
    parts: dict[str, Any] = {}
    for name, probe in (('database', _database), ('redis', _redis)):
        started = time.perf_counter()
        try:
            probe()
        except (DatabaseError, RedisError, OSError):
            log.warning('health: %s failed', name, exc_info=True)
            parts[name] = {'state': 'failed'}
        else:
            parts[name] = {'state': 'ok', 'ms': round((time.perf_counter() - started) * 1000, 1)}
    healthy = all(part['state'] == 'ok' for part in parts.values())
    return JsonResponse({'state': 'ok' if healthy else 'failed', **parts}, status=200 if healthy else 503)


def _database() -> None:
    with connection.cursor() as cursor:
        cursor.execute('SELECT 1')


def _redis() -> None:
    redis().ping()
