"""Users whom a directory or an identity provider vouches for: their tokens and sessions last as long as it does.

LDAP: a user's entry and groups are read again at most every ``recheck_minutes`` while something of his is used. While
no server answers, the last answer holds for GRACE more. SAML has nobody to ask: the last sign-in counts for
``token_days``. Decision 0027.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from impadmin.console.access import NOBODY
from impadmin.console.actions import Actor
from impadmin.console.models import Administrator
from impadmin.signin import backends, directory, sessions
from impadmin.signin.models import LdapAuthentication, SamlSignOn

GRACE = timedelta(minutes=5)
AGAIN = timedelta(minutes=1)
"""How often a directory is asked that does not answer, or that does not know the user."""


class Silent(Exception):
    """No server of the directory answers, and the last answer is too old."""


class NotVouched(Exception):
    """Nobody vouches for the user any more; the text is the reason for the history."""


def check(user: Administrator, source: str = '') -> Administrator:
    """The user with the roles he has now. Raises NotVouched, Silent. Local users need nobody."""
    if user.origin == Administrator.Origin.LOCAL:
        return user
    try:
        if user.origin == Administrator.Origin.SAML:
            _recently_signed_in(user)
            return user
        return _asked(user)
    except NotVouched as error:
        # told once, not with every request of a forgotten script
        if Administrator.objects.filter(pk=user.pk, vouched_at__isnull=False).update(vouched_at=None):
            sessions.record(Actor(user.username, NOBODY, source, 'rest'), 'vouching-ended', user.username,
                            reason=str(error), method=user.get_origin_display())  # fmt: skip
        raise


def _recently_signed_in(user: Administrator) -> None:
    days = SamlSignOn.objects.filter(pk=1, enabled=True).values_list('token_days', flat=True).first()
    if days is None:
        raise NotVouched('single sign-on is off')
    if _age(user) > timedelta(days=days):
        raise NotVouched('last sign-in too long ago')


def _asked(user: Administrator) -> Administrator:
    settings = LdapAuthentication.objects.filter(pk=1, enabled=True).first()
    if settings is None:
        raise NotVouched('LDAP is off')
    most = timedelta(minutes=settings.recheck_minutes)
    if _age(user) <= most:
        return user
    reason = ''
    with transaction.atomic():
        held = Administrator.objects.select_for_update().get(pk=user.pk)  # requests at the same moment ask once
        if _age(held) > most and (held.asked_at is None or held.asked_at < timezone.now() - AGAIN):
            Administrator.objects.filter(pk=held.pk).update(asked_at=timezone.now())
            with suppress(directory.Unreachable):
                reason = _ask(settings, held)
                held = Administrator.objects.get(pk=held.pk)
    if reason or (held.vouched_at is None and not held.held_roles):
        raise NotVouched(reason)
    if _age(held) > most + GRACE:
        raise Silent
    return held


def _ask(settings: LdapAuthentication, user: Administrator) -> str:
    """Take over what the directory says now; why it does not vouch for the user, or ''. Raises Unreachable."""
    try:
        found = directory.look_up(settings, user.username)
    except directory.Refused as error:
        backends.dismiss(user)
        return str(error)
    return backends.admit(Administrator.Origin.LDAP, user.username, found.groups, directory.comparable).reason


def _age(user: Administrator) -> timedelta:
    return timezone.now() - user.vouched_at if user.vouched_at else timedelta.max
