"""REST tokens: issued once in clear, kept as SHA-256, limited to their scopes and to what their user may.

Scopes are permissions (``access.Grants``). ``*:*`` is everything the user may, now and later.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext, gettext_lazy
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import APIException, AuthenticationFailed
from rest_framework.request import Request

from impadmin.console import audit, permissions, roles
from impadmin.console.access import EVERYTHING, NOBODY, Grants
from impadmin.console.actions import Actor, Refused
from impadmin.console.models import Administrator, ApiToken

MENU = 'User Management > API Tokens'
PREFIX = 'imp_'
"""Begins every token, so that secret scanners and people recognise one."""
USED_EVERY = timedelta(minutes=1)
"""``last_used_at`` is written at most this often."""
ALL = sorted(EVERYTHING.sets[0])
MOST = 100
"""Most tokens of one administrator."""


def digest(token: str) -> str:
    """What is stored of a token. It has 256 random bits, so a plain hash is enough."""
    return hashlib.sha256(token.encode()).hexdigest()


def _issue(actor: Actor, token: ApiToken) -> ApiToken:
    """Store a new token. The clear token is in the result's ``shown_once['token']`` and nowhere else."""
    from impadmin.signin import steps

    _require_covered(actor, token)
    if actor.channel == 'rest' and steps.has_second_factor(actor.name):
        raise Refused(gettext('You sign in with a second factor: add tokens in the browser, where it is asked for.'))
    if token.administrator.tokens.count() >= MOST:
        raise Refused(gettext('This user has %(most)d tokens. Delete those that are not used.') % {'most': MOST})
    clear = PREFIX + secrets.token_urlsafe(32)
    token.digest = digest(clear)
    token.save()
    token.shown_once = {'token': clear}  # type: ignore[attr-defined]
    return token


def _require_covered(actor: Actor, token: ApiToken) -> None:
    """Nobody gives or takes, by a token in another's name, rights that he does not have."""
    roles.require_covered(actor.grants, token.grants.limited_to(token.administrator.grants))


def scope_text(token: ApiToken) -> str:
    """The scopes in a list: the first few."""
    if token.scopes == ALL:
        return gettext('Everything its user may')
    return permissions.labels(token.scopes[:3]) + (' …' if len(token.scopes) > 3 else '')


# ---- the page of all tokens


def create(actor: Actor, values: Mapping[str, Any]) -> ApiToken:
    """Add a token, in anybody's name; the page shows it once."""
    return _issue(actor, ApiToken(**values))


def update(actor: Actor, token: ApiToken, values: Mapping[str, Any]) -> ApiToken:
    """Change name, scopes or expiry. The user stays: the program that has the token acts in his name."""
    _require_covered(actor, token)
    if 'administrator' in values and values['administrator'].pk != token.administrator_id:
        raise ValidationError({'administrator': gettext('A token keeps its user. Add another one.')})
    for name, value in values.items():
        setattr(token, name, value)
    _require_covered(actor, token)
    token.save()
    return token


def delete(actor: Actor, token: ApiToken) -> None:
    """Revoke: the next request with it is refused."""
    _require_covered(actor, token)
    token.delete()


def is_within_its_user(token: ApiToken, before: Any) -> None:
    """Scopes for single pages that the user may not use are a mistake worth telling."""
    asked = [one for one in token.scopes if not one.startswith('*:')]
    if more := roles.beyond(token.administrator.grants, Grants((frozenset(asked),))):
        text = gettext('The user %(user)s may not do this: %(names)s.')
        names = ', '.join(more[:5]) + (' …' if len(more) > 5 else '')
        raise ValidationError({'scopes': text % {'user': token.administrator.username, 'names': names}})


def expires_later(token: ApiToken, before: Any) -> None:
    """A token that has already expired is a slip of the pen."""
    if (
        token.expires_at
        and token.expires_at <= timezone.now()
        and (not before or before.expires_at != token.expires_at)
    ):
        raise ValidationError({'expires_at': gettext('This time is past. Enter a later one, or leave it empty.')})


# ---- one's own, and from the command line


def do_create_token(
    actor: Actor, owner: Administrator, name: str, scopes: Sequence[str], expires_at: datetime | None = None
) -> tuple[ApiToken, str]:
    """Issue a token outside of the page, with its audit entry. Returns it and the clear token."""
    token = ApiToken(administrator=owner, name=name.strip(), scopes=sorted(set(scopes)), expires_at=expires_at)
    token.full_clean(exclude={'digest'})
    is_within_its_user(token, None)
    expires_later(token, None)
    with transaction.atomic():
        _issue(actor, token)
        audit.record(actor, 'create', None, token, None, audit.snapshot(token), menu=MENU)
    return token, token.shown_once['token']  # type: ignore[attr-defined]


def do_revoke_own(actor: Actor, token: ApiToken) -> None:
    """Revoke a token of the actor himself, with its audit entry."""
    with transaction.atomic():
        audit.record(actor, 'delete', None, token, audit.snapshot(token), None, menu=MENU)
        token.delete()


class DirectoryIsSilent(APIException):
    """503: whether the user of a token is still there cannot be found out now."""

    status_code = 503
    default_detail = gettext_lazy('The directory that vouches for the user of this token does not answer. Try again.')


class TokenAuthentication(BaseAuthentication):
    """``Authorization: Bearer TOKEN``."""

    def authenticate(self, request: Request) -> tuple[Administrator, ApiToken] | None:
        """(user, token); None without the header, so that a browser session can be tried."""
        kind, _, clear = request.headers.get('Authorization', '').partition(' ')
        if kind.lower() != 'bearer':
            return None
        from impadmin.signin import sessions, vouching

        now = timezone.now()
        token = ApiToken.objects.select_related('administrator').filter(digest=digest(clear.strip())).first()
        if token is None or (token.expires_at is not None and token.expires_at <= now):
            raise AuthenticationFailed(gettext('The token is not valid or has expired.'))
        if not token.administrator.is_active:
            raise AuthenticationFailed(gettext('The user of this token is not active.'))
        try:
            token.administrator = vouching.check(token.administrator, request.META.get('REMOTE_ADDR') or '')
        except vouching.NotVouched:
            raise AuthenticationFailed(gettext('Nobody vouches for the user of this token any more.')) from None
        except vouching.Silent:
            raise DirectoryIsSilent from None
        if token.last_used_at is None or now - token.last_used_at > USED_EVERY:
            stale = Q(last_used_at=None) | Q(last_used_at__lt=now - USED_EVERY)
            first = token.last_used_at is None and bool(
                ApiToken.objects.filter(pk=token.pk, last_used_at=None).update(last_used_at=now)
            )
            ApiToken.objects.filter(stale, pk=token.pk).update(last_used_at=now)
            if first:
                sessions.record(
                    Actor(token.administrator.username, NOBODY, request.META.get('REMOTE_ADDR') or '', 'rest'),
                    'token-first-used', token.administrator.username, name=token.name,
                )  # fmt: skip
        return token.administrator, token

    def authenticate_header(self, request: Request) -> str:
        """Makes a refused request 401."""
        return 'Bearer realm="api"'
