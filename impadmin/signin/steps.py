"""What stands between a right password and the console: the logon message, a new password, a second factor.

A session keeps the open steps; until they are done it opens nothing else (``access.is_signed_in``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.contrib.auth import login
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

from impadmin.console.access import OPEN_STEPS, STEPS_URL
from impadmin.console.actions import actor_of
from impadmin.console.models import Administrator
from impadmin.console.preferences import THEME_COOKIE, keep
from impadmin.signin import lockout, passwords, sessions, totp
from impadmin.signin.models import LogonMessage, policy

AFTER = 'after_sign_in'


def message() -> str:
    """The logon message, or ''."""
    return LogonMessage.objects.filter(pk=1).values_list('text', flat=True).first() or ''


def open_for(user: Administrator) -> list[str]:
    """The steps this user still has to take: message, password, enrol."""
    rules, steps = policy(), []
    if message():
        steps.append('message')
    if user.origin == Administrator.Origin.LOCAL and passwords.expired(user, rules):
        steps.append('password')
    if needs_second_factor(user) and totp.active(user) is None:
        steps.append('enrol')
    return steps


def needs_second_factor(user: Administrator) -> bool:
    """Whether a role of ``user`` asks for a second factor."""
    wanted = set(policy().second_factor_roles.values_list('pk', flat=True))
    return any(role.pk in wanted for role in user.held_roles)


def has_second_factor(username: str) -> bool:
    """Whether this user signs in, or would have to, with a second factor."""
    user = Administrator.objects.filter(username=username).first()
    return user is not None and (totp.active(user) is not None or needs_second_factor(user))


def finish(
    request: HttpRequest, user: Administrator, target: str, method: str, idp: Mapping[str, Any], **details: Any
) -> HttpResponse:
    """Everything was right: begin the session and go to the first open step, else to ``target``."""
    address = str(request.META.get('REMOTE_ADDR') or '')[:64]
    lockout.forgive(user.username.lower(), address)
    request.sign_in_method, request.sign_in_idp = method, dict(idp)  # type: ignore[attr-defined]
    login(request, user, backend='django.contrib.auth.backends.ModelBackend')
    request.session.set_expiry(policy().session_hours * 3600)
    sessions.record(actor_of(request), 'sign-in', user.username, method=method, browser=sessions.browser_of(request),
                    **details)  # fmt: skip
    steps = open_for(user)
    if steps:
        request.session[OPEN_STEPS] = steps
        request.session[AFTER] = target
        target = STEPS_URL
    answer = HttpResponseRedirect(target)
    keep(answer, THEME_COOKIE, user.theme)
    if user.language:
        keep(answer, settings.LANGUAGE_COOKIE_NAME, user.language)
    return answer


def done(request: HttpRequest, step: str) -> HttpResponse:
    """One step is taken: the next one, else where the user wanted to go."""
    left = [one for one in request.session.get(OPEN_STEPS, []) if one != step]
    if left:
        request.session[OPEN_STEPS] = left
        return HttpResponseRedirect(STEPS_URL)
    request.session.pop(OPEN_STEPS, None)
    return HttpResponseRedirect(request.session.pop(AFTER, '/'))
