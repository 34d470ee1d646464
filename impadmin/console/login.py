"""Sign in, throttled per user name and address; sign out by POST."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth import authenticate, login, logout
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.utils import timezone
from django.utils.translation import gettext
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from impadmin.console import audit
from impadmin.console.access import NOBODY
from impadmin.console.actions import Actor, actor_of
from impadmin.console.models import Administrator, LoginFailure
from impadmin.console.navigation import CONSOLES
from impadmin.console.preferences import THEME_COOKIE, keep, local_url

FAILURES = 5
"""Failed attempts for one user name from one address before further ones wait."""
WINDOW = timedelta(minutes=5)
"""Failures older than this do not count; waiting ends when the oldest counted one gets this old."""
KEEP = timedelta(days=1)


def address_of(request: HttpRequest) -> str:
    """Where the request comes from: the address the connection has, no header is believed."""
    return str(request.META.get('REMOTE_ADDR') or '')[:64]


def wait_seconds(username: str, address: str) -> int:
    """How long attempts for this user name from this address must still wait; 0 when they need not."""
    now = timezone.now()
    recent = LoginFailure.objects.filter(username=username, address=address, at__gt=now - WINDOW)
    newest = list(recent.order_by('-at').values_list('at', flat=True)[:FAILURES])
    return max(1, int((newest[-1] + WINDOW - now).total_seconds()) + 1) if len(newest) == FAILURES else 0


def _claim(username: str, address: str) -> LoginFailure | None:
    """Count the attempt as failed before the password is looked at, so that parallel attempts cannot outrun the limit.

    None when this attempt is one too many.
    """
    LoginFailure.objects.filter(at__lt=timezone.now() - KEEP).delete()
    attempt = LoginFailure.objects.create(username=username, address=address)
    before = LoginFailure.objects.filter(
        username=username, address=address, at__gt=timezone.now() - WINDOW, pk__lt=attempt.pk
    )
    if before.count() < FAILURES:
        return attempt
    attempt.delete()
    return None


def _audit(actor: Actor, action: str, label: str) -> None:
    audit.record(actor, action, None, None, None, None, object_type='console.Administrator', label=label)


@never_cache
@sensitive_post_parameters('password')
@require_http_methods(['GET', 'HEAD', 'POST'])
def login_view(request: HttpRequest) -> HttpResponse:
    """The sign-in page. ``next`` is followed only on this console."""
    target = local_url(request, request.POST.get('next') or request.GET.get('next', ''), '/')
    if request.method != 'POST' and request.user.is_authenticated:
        return HttpResponseRedirect(target)
    context: dict[str, Any] = {
        'next': target,
        'consoles': [(c.key, c.title, target.startswith(f'/{c.key}/')) for c in CONSOLES.values()],
        'failures': FAILURES,
    }
    if request.method != 'POST':
        return render(request, 'console/login.html', context)
    username = request.POST.get('username', '').replace('\0', '').strip()[:150]
    context['username'] = username
    address = address_of(request)
    if wait_seconds(username.lower(), address) or _claim(username.lower(), address) is None:
        wait = wait_seconds(username.lower(), address) or 1
        context['problem'] = gettext('Too many failed attempts. Try again in %(seconds)s seconds.') % {'seconds': wait}
        response = render(request, 'console/login.html', context, status=429)
        response['Retry-After'] = str(wait)
        return response
    user = authenticate(request, username=username, password=request.POST.get('password', '').replace('\0', ''))
    if not isinstance(user, Administrator):
        _audit(Actor(username, NOBODY, address, 'browser'), 'sign-in-failed', username)
        context['problem'] = gettext('The user name or the password is wrong.')
        return render(request, 'console/login.html', context)
    LoginFailure.objects.filter(username=username.lower(), address=address).delete()
    login(request, user)
    _audit(actor_of(request), 'sign-in', user.username)
    chosen = request.POST.get('console', '')
    if target == '/' and chosen in CONSOLES:
        target = f'/{chosen}/'
    answer = HttpResponseRedirect(target)
    keep(answer, THEME_COOKIE, user.theme)
    if user.language:
        keep(answer, settings.LANGUAGE_COOKIE_NAME, user.language)
    return answer


@require_POST
def logout_view(request: HttpRequest) -> HttpResponse:
    """Sign out and go to the sign-in page."""
    if request.user.is_authenticated:
        _audit(actor_of(request), 'sign-out', str(request.user))
    logout(request)
    return HttpResponseRedirect(settings.LOGIN_URL)
