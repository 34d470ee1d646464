"""Signed-in browsers: listed, ended when idle or old, and revoked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth import logout
from django.contrib.auth.signals import user_logged_in
from django.contrib.sessions.models import Session
from django.db.models import Subquery
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from impadmin.console import audit
from impadmin.console.actions import Actor, actor_of
from impadmin.console.models import Administrator
from impadmin.signin import lockout
from impadmin.signin.models import AdministratorSession, SignInPolicy, policy

TYPE, MENU = 'signin.SignIn', 'User Management > Sign-In History'
"""What the history calls entries about signing in, and the page they belong to."""
SEEN_EVERY = timedelta(minutes=1)
"""``last_seen_at`` is written at most this often."""


@receiver(user_logged_in)
def begun(sender: Any, request: HttpRequest, user: Administrator, **_: Any) -> None:
    """List the new session; forget those whose time is over."""
    Session.objects.filter(expire_date__lt=timezone.now()).delete()
    drop(AdministratorSession.objects.filter(began_at__lt=timezone.now() - timedelta(hours=policy().session_hours)))
    if request.session.session_key is None:
        request.session.save()
    AdministratorSession.objects.update_or_create(
        session_key=request.session.session_key,
        defaults={
            'administrator': user,
            'address': str(request.META.get('REMOTE_ADDR') or '')[:64],
            'browser': browser_of(request),
            'method': getattr(request, 'sign_in_method', 'password'),
            'idp': getattr(request, 'sign_in_idp', {}),
        },
    )


def browser_of(request: HttpRequest) -> str:
    """What the browser calls itself, cut to what is kept."""
    return ''.join(char for char in request.headers.get('User-Agent', '') if char.isprintable())[:200]


class SessionMiddleware:
    """Ends sessions that are revoked, idle or too old; notes when a session was last seen."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Look at the session before the view does."""
        if settings.SESSION_COOKIE_NAME in request.COOKIES and request.user.is_authenticated:
            self._check(request)
        return self.get_response(request)

    def _check(self, request: HttpRequest) -> None:
        row, now = _listed(request.session.session_key), timezone.now()
        reason = 'revoked' if row is None else ended(row) or _left(request)
        if reason:
            if row is not None:
                record(actor_of(request), 'sign-out', str(request.user), reason=reason)
                row.delete()
            logout(request)
        elif row is not None and now - row.last_seen_at > SEEN_EVERY and is_attended(request):
            AdministratorSession.objects.filter(pk=row.pk).update(last_seen_at=now)


def _left(request: HttpRequest) -> str:
    """Why a user of a directory may not go on, or ''. While it is silent, his session goes on: it ends by itself."""
    from impadmin.signin import vouching

    if getattr(request.user, 'origin', '') != Administrator.Origin.LDAP:
        return ''
    try:
        vouching.check(request.user, str(request.META.get('REMOTE_ADDR') or ''))  # type: ignore[arg-type]
    except vouching.NotVouched:
        return 'no longer vouched for'
    except vouching.Silent:
        pass
    return ''


def _listed(session_key: str | None) -> Any:
    """The session with the policy's limits, or None; one query: every request pays for it."""
    rules = SignInPolicy.objects.filter(pk=1)
    return (
        AdministratorSession.objects.filter(session_key=session_key)
        .annotate(idle=Subquery(rules.values('idle_minutes')), hours=Subquery(rules.values('session_hours')))
        .first()
    )


def stands(session_key: str) -> bool:
    """Whether the session is neither revoked nor idle nor too old."""
    row = _listed(session_key)
    return row is not None and not ended(row)


def is_attended(request: HttpRequest) -> bool:
    """Whether somebody sits there: parts that open pages fetch on their own keep no session alive."""
    return request.method == 'POST' or request.headers.get('Sec-Fetch-Mode', 'navigate') == 'navigate'


def ended(row: Any) -> str:
    """Why the session (with ``idle`` and ``hours`` of the policy) is over, or ''."""
    now, default = timezone.now(), SignInPolicy()
    if now - row.began_at > timedelta(hours=row.hours or default.session_hours):
        return 'session time over'
    return 'idle' if now - row.last_seen_at > timedelta(minutes=row.idle or default.idle_minutes) else ''


def drop(rows: Any, keep: str | None = None) -> int:
    """End sessions, except the one with the key ``keep``; how many ended."""
    keys = [key for key in rows.values_list('session_key', flat=True) if key != keep]
    Session.objects.filter(session_key__in=keys).delete()
    AdministratorSession.objects.filter(session_key__in=keys).delete()
    return len(keys)


def revoke(actor: Actor, row: AdministratorSession) -> None:
    """Writer of the page: end a session of somebody who has no more rights than the actor."""
    from impadmin.console import roles

    if row.administrator.username != actor.name:
        roles.require_covered(actor.grants, row.administrator.grants)
    drop(AdministratorSession.objects.filter(pk=row.pk))


def of(user: Administrator) -> Sequence[AdministratorSession]:
    """The sessions of one user, the newest first."""
    return list(AdministratorSession.objects.filter(administrator=user).order_by('-last_seen_at'))


def failed(actor: Actor, username: str, reason: str, **details: Any) -> None:
    """Record a failed attempt, and once that it locked the user out."""
    record(actor, 'sign-in-failed', username, reason=reason, **details)
    if lockout.wait_seconds(username.lower(), actor.source):
        record(actor, 'sign-in-locked', username, minutes=policy().lockout_minutes)


def record(actor: Actor, action: str, label: str, **details: Any) -> None:
    """An entry of the history about signing in: sign-in, sign-in-failed, sign-in-locked, sign-out, ..."""
    audit.record(actor, action, None, None, None, details or None, object_type=TYPE, label=label, menu=MENU)
