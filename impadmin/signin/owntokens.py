"""One's own REST tokens in My account: see, add, revoke."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest
from django.utils.translation import gettext

from impadmin.console import forms, registry, tokens
from impadmin.console.actions import Refused, actor_of
from impadmin.console.models import Administrator
from impadmin.signin import lockout, totp


def add(request: HttpRequest, user: Administrator, address: str) -> dict[str, Any]:
    """What the page draws: ``token_rows`` of the form, ``token_problem``, and ``token``, the clear one, shown once.

    A token signs in without the second factor, so making one asks for it.
    """
    asked = request.POST.get('do') == 'token'
    form, shown = _form(request.POST if asked else None), {}
    if asked and form.is_valid():
        try:
            _prove(user, request.POST.get('code', '')[:100], address)
            _, shown['token'] = tokens.do_create_token(actor_of(request), user, **form.values())
            form = _form(None)
        except ValidationError as error:
            form.refuse(error)
        except (Refused, PermissionDenied) as error:
            shown['token_problem'] = str(error)
    shown['token_rows'] = [row for group in form.groups() for row in group.rows]
    return shown


def revoke(request: HttpRequest, user: Administrator) -> None:
    """Revoke one of his own."""
    key = request.POST.get('token', '')
    token = user.tokens.filter(pk=int(key) if key.isdecimal() and len(key) < 15 else 0).first()
    if token is not None:
        tokens.do_revoke_own(actor_of(request), token)


def _form(data: Any) -> forms.PageForm:
    """The form of the page API Tokens without the user."""
    page: Any = registry.page('api-tokens')
    form = forms.make(page, None, data)
    del form.fields['administrator']
    return form


def _prove(user: Administrator, code: str, address: str) -> None:
    """Raise Refused unless the user has no second factor or ``code`` is right."""
    if totp.active(user) is None:
        return
    if wait := lockout.claim(user.username.lower(), address):
        raise Refused(gettext('Too many failed attempts. Try again in %(seconds)s seconds.') % {'seconds': wait})
    if not totp.spend(user, code):
        raise Refused(gettext('The code is wrong or was used already. Wait for the next one.'))
    lockout.forgive(user.username.lower(), address)
