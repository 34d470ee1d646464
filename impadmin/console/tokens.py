"""REST tokens: issued once in clear, kept as SHA-256, with a role of their own that never exceeds their user's."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from impadmin.console import actions, audit, registry, roles
from impadmin.console.actions import Actor
from impadmin.console.models import Administrator, ApiToken, Role

PREFIX = 'imp_'
"""Begins every token, so that secret scanners and people recognise one."""
USED_EVERY = timedelta(minutes=1)
"""``last_used_at`` is written at most this often."""


def digest(token: str) -> str:
    """What is stored of a token. It has 256 random bits, so a plain hash is enough."""
    return hashlib.sha256(token.encode()).hexdigest()


def issue(administrator: Administrator, name: str, role: Role, expires_at: datetime | None = None) -> ApiToken:
    """Store a new token. The clear token is in the result's ``shown_once['token']`` and nowhere else."""
    clear = PREFIX + secrets.token_urlsafe(32)
    token = ApiToken.objects.create(
        name=name, administrator=administrator, role=role, expires_at=expires_at, digest=digest(clear)
    )
    token.shown_once = {'token': clear}  # type: ignore[attr-defined]
    return token


def do_create_token(
    actor: Actor, administrator: Administrator, name: str, role: Role, expires_at: datetime | None = None
) -> tuple[ApiToken, str]:
    """Issue a token outside of a page (command line), with its audit entry. Returns it and the clear token."""
    actions.require(actor, registry.page('api-tokens'), 'add')
    roles.require_covered(actor.grants, role.grants)
    if roles.beyond(administrator.grants, role.grants):
        raise ValidationError({'role': gettext('A token cannot have more rights than its user.')})
    if expires_at is not None and expires_at <= timezone.now():
        raise ValidationError({'expires_at': gettext('Enter a time in the future.')})
    with transaction.atomic():
        token = issue(administrator, name, role, expires_at)
        audit.record(actor, 'create', None, token, None, audit.snapshot(token), menu='User Management > API Tokens')
    return token, token.shown_once['token']  # type: ignore[attr-defined]


class TokenAuthentication(BaseAuthentication):
    """``Authorization: Bearer TOKEN``."""

    def authenticate(self, request: Request) -> tuple[Administrator, ApiToken] | None:
        """(user, token); None without the header, so that a browser session can be tried."""
        kind, _, clear = request.headers.get('Authorization', '').partition(' ')
        if kind.lower() != 'bearer':
            return None
        now = timezone.now()
        token = ApiToken.objects.select_related('administrator', 'role').filter(digest=digest(clear.strip())).first()
        if token is None or (token.expires_at is not None and token.expires_at <= now):
            raise AuthenticationFailed(gettext('The token is not valid or has expired.'))
        if not token.administrator.is_active:
            raise AuthenticationFailed(gettext('The user of this token is not active.'))
        if token.last_used_at is None or now - token.last_used_at > USED_EVERY:
            stale = Q(last_used_at=None) | Q(last_used_at__lt=now - USED_EVERY)
            ApiToken.objects.filter(stale, pk=token.pk).update(last_used_at=now)
        return token.administrator, token

    def authenticate_header(self, request: Request) -> str:
        """Makes a refused request 401."""
        return 'Bearer realm="api"'
