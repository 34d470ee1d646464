"""Sign in, sign out, the steps in between, and what is one's own: password, second factor, sessions, tokens."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import logout, update_session_auth_hash
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from impadmin.console import approvals
from impadmin.console.access import NOBODY, OPEN_STEPS
from impadmin.console.actions import Actor, actor_of
from impadmin.console.administrators import check_password as check_new_password
from impadmin.console.administrators import set_password
from impadmin.console.models import Administrator
from impadmin.console.navigation import CONSOLES
from impadmin.console.preferences import local_url
from impadmin.console.tokens import scope_text
from impadmin.signin import backends, lockout, owntokens, passwords, saml, samlviews, sessions, steps, totp
from impadmin.signin.models import AdministratorSession, RecoveryCode, policy

HALF = 'half_sign_in'
"""Session key of somebody whose password was right and whose code is not yet given."""
HALF_S = 300
RECOVERY = frozenset({'recovery', 'signed-out'})
"""With one of these in the query the sign-in page is shown even when single sign-on is on."""
CODE_URL = '/login/code/'
ACCOUNT_URL = '/account/'


def address_of(request: HttpRequest) -> str:
    """Where the request comes from: the address the connection has, no header is believed."""
    return str(request.META.get('REMOTE_ADDR') or '')[:64]


def _waits(request: HttpRequest, username: str, template: str, context: dict[str, Any]) -> HttpResponse | None:
    """Count the attempt; the answer when it must wait."""
    address = address_of(request)
    wait = lockout.claim(username.lower(), address)
    if not wait:
        return None
    context['problem'] = gettext('Too many failed attempts. Try again in %(seconds)s seconds.') % {'seconds': wait}
    response = render(request, template, context, status=429)
    response['Retry-After'] = str(wait)
    return response


def _failed(request: HttpRequest, username: str, reason: str, method: str) -> None:
    """Record a failed attempt of this browser."""
    actor = Actor(username, NOBODY, address_of(request), 'browser')
    sessions.failed(actor, username, reason, method=method, browser=sessions.browser_of(request))


@never_cache
@sensitive_post_parameters('password')
@require_http_methods(['GET', 'HEAD', 'POST'])
def login_view(request: HttpRequest) -> HttpResponse:
    """The sign-in page. ``next`` is followed only on this console."""
    target = local_url(request, request.POST.get('next') or request.GET.get('next', ''), '/')
    if request.method != 'POST' and request.user.is_authenticated:
        return HttpResponseRedirect(target)
    sso = saml.settings_in_force() is not None
    if request.method != 'POST' and sso and not RECOVERY.intersection(request.GET):
        return HttpResponseRedirect(f'{reverse("saml-login")}?{urlencode({"next": target})}')
    rules = policy()
    context: dict[str, Any] = {
        'next': target,
        'consoles': [(c.key, c.title, target.startswith(f'/{c.key}/')) for c in CONSOLES.values()],
        'failures': rules.failures,
        'minutes': rules.lockout_minutes,
        'message': steps.message(),
        'sso': sso,
    }
    if request.method != 'POST':
        return render(request, 'console/login.html', context)
    username = request.POST.get('username', '').replace('\0', '').strip()[:150]
    context['username'] = username
    if context['message'] and not request.POST.get('acknowledge'):
        context['problem'] = gettext('Read the message and acknowledge it to sign in.')
        return render(request, 'console/login.html', context)
    if (answer := _waits(request, username, 'console/login.html', context)) is not None:
        return answer
    verdict = backends.check(username, request.POST.get('password', '').replace('\0', ''))
    if verdict.user is None:
        _failed(request, username, verdict.reason, verdict.method)
        context['problem'] = gettext('The user name or the password is wrong.')
        return render(request, 'console/login.html', context)
    lockout.take_back(username.lower(), address_of(request))
    chosen = request.POST.get('console', '')
    if target == '/' and chosen in CONSOLES:
        target = f'/{chosen}/'
    return proven(request, verdict.user, target, verdict.method)


def proven(
    request: HttpRequest, user: Administrator, target: str, method: str, idp: Mapping[str, Any] = MappingProxyType({})
) -> HttpResponse:
    """The first factor was right: ask for the second one, or begin the session. ``idp``: see AdministratorSession."""
    if totp.active(user) is None:
        return steps.finish(request, user, target, method, idp)
    request.session.cycle_key()
    request.session[HALF] = {'user': user.pk, 'at': time.time(), 'target': target, 'method': method, 'idp': dict(idp)}
    return HttpResponseRedirect(CODE_URL)


@never_cache
@sensitive_post_parameters('code')
@require_http_methods(['GET', 'HEAD', 'POST'])
def code_view(request: HttpRequest) -> HttpResponse:
    """The code of the second factor, or a recovery code."""
    half = request.session.get(HALF)
    user = Administrator.objects.filter(pk=half['user'], is_active=True).first() if half else None
    if half is None or user is None or time.time() - half['at'] > HALF_S:
        request.session.pop(HALF, None)
        return HttpResponseRedirect(settings.LOGIN_URL)
    context: dict[str, Any] = {'step': 'code'}
    if request.method != 'POST':
        return render(request, 'signin/step.html', context)
    if (answer := _waits(request, user.username, 'signin/step.html', context)) is not None:
        return answer
    used = totp.spend(user, request.POST.get('code', '')[:100])
    if not used:
        _failed(request, user.username, 'wrong code', half['method'])
        context['problem'] = gettext('The code is wrong or was used already. Wait for the next one.')
        return render(request, 'signin/step.html', context)
    del request.session[HALF]
    return steps.finish(request, user, half['target'], half['method'], half['idp'], second_factor=used)


@require_POST
def logout_view(request: HttpRequest) -> HttpResponse:
    """Sign out, at the identity provider too, and go to the sign-in page."""
    rows = AdministratorSession.objects.filter(session_key=request.session.session_key)
    idp = rows.values_list('idp', flat=True).first() or {}
    if request.user.is_authenticated:
        sessions.record(actor_of(request), 'sign-out', str(request.user))
        sessions.drop(rows)
    logout(request)
    if idp and (address := samlviews.leave(idp)):
        # by a page, not by a redirect: the form of the button may only lead within this console
        answer = render(request, 'signin/step.html', {'step': 'leaving', 'address': address})
        answer['Refresh'] = f'0; url={address}'
        return answer
    asked = '?signed-out=1' if saml.settings_in_force() is not None else ''  # else single sign-on signs in again
    return HttpResponseRedirect(settings.LOGIN_URL + asked)


@never_cache
@sensitive_post_parameters('password', 'new', 'again', 'code')
@require_http_methods(['GET', 'HEAD', 'POST'])
def step_view(request: HttpRequest) -> HttpResponse:
    """The first step that is still open."""
    user = _me(request)
    left = request.session.get(OPEN_STEPS, [])
    if not left:
        return steps.done(request, '')
    step = left[0]
    context: dict[str, Any] = {'step': step, 'message': steps.message()}
    if step == 'enrol':
        return _enrol(request, user, context, step)
    if request.method != 'POST':
        return render(request, 'signin/step.html', context)
    if step == 'message':
        if not request.POST.get('acknowledge'):
            context['problem'] = gettext('Read the message and acknowledge it to go on.')
            return render(request, 'signin/step.html', context)
        sessions.record(actor_of(request), 'message-acknowledged', user.username)
    elif problems := change_password(request, user):
        context['problems'] = problems
        return render(request, 'signin/step.html', context)
    return steps.done(request, step)


def _enrol(request: HttpRequest, user: Administrator, context: dict[str, Any], step: str) -> HttpResponse:
    """Show the secret as QR code and text; after a right code, the recovery codes."""
    if request.method == 'POST' and 'seen' in request.POST and totp.active(user) is not None:
        return steps.done(request, step)
    if request.method == 'POST' and totp.active(user) is None:
        codes = totp.confirm(user, request.POST.get('code', '')[:100])
        if codes:
            sessions.record(actor_of(request), 'second-factor-set', user.username)
            return render(request, 'signin/step.html', {**context, 'step': 'codes', 'codes': codes})
        context['problem'] = gettext('The code is wrong. Check the clock of your device and enter the newest code.')
    if totp.active(user) is not None:  # the codes were shown, the page was loaded again
        return steps.done(request, step)
    secret = totp.prepare(user)
    context['secret'] = ' '.join(secret[n : n + 4] for n in range(0, len(secret), 4))
    context['picture'] = totp.picture(user, secret, gettext('IM and Presence Service'))
    return render(request, 'signin/step.html', context)


def change_password(request: HttpRequest, user: Administrator) -> list[str]:
    """Give ``user`` the new password of the form; what is wrong with it. Every other session of his ends."""
    present, new, again = (request.POST.get(name, '').replace('\0', '') for name in ('password', 'new', 'again'))
    if user.origin != Administrator.Origin.LOCAL:
        return [gettext('Your password is kept by the directory. Change it there.')]
    if problem := passwords.prove(actor_of(request), user, present):
        return [problem]
    if new != again:
        return [gettext('The two passwords differ. Enter the same password twice.')]
    try:
        check_new_password(new, user)
    except ValidationError as error:
        return error.messages
    set_password(actor_of(request), user, new)
    old = request.session.session_key
    sessions.drop(AdministratorSession.objects.filter(administrator=user), keep=old)
    update_session_auth_hash(request, user)  # also gives the session a new key
    AdministratorSession.objects.filter(session_key=old).update(session_key=request.session.session_key)
    return []


def _me(request: HttpRequest) -> Administrator:
    user = request.user
    if not isinstance(user, Administrator):
        raise Http404
    return user


@never_cache
@sensitive_post_parameters('password', 'new', 'again', 'code')
@require_http_methods(['GET', 'HEAD', 'POST'])
def account_view(request: HttpRequest) -> HttpResponse:
    """What is one's own: password, second factor, sessions, tokens."""
    user = _me(request)
    context: dict[str, Any] = {'title': gettext('My account'), 'me': user}
    action = request.POST.get('do', '') if request.method == 'POST' else ''
    if action == 'password':
        context['problems'] = change_password(request, user)
        if not context['problems']:
            messages.success(request, gettext('Your password was changed. Your other sessions have ended.'))
            return HttpResponseRedirect(ACCOUNT_URL)
    elif action == 'end':
        _end(request, user)
        return HttpResponseRedirect(ACCOUNT_URL)
    elif action == 'revoke':
        owntokens.revoke(request, user)
        return HttpResponseRedirect(ACCOUNT_URL)
    elif action == 'withdraw':
        _withdraw(request, user)
        return HttpResponseRedirect(ACCOUNT_URL)
    elif action in ('confirm', 'codes', 'remove'):
        _second_factor(request, user, action, context)
    factor = totp.active(user)
    if factor is None:
        secret = totp.prepare(user)
        context['secret'] = ' '.join(secret[n : n + 4] for n in range(0, len(secret), 4))
        context['picture'] = totp.picture(user, secret, gettext('IM and Presence Service'))
    context.update(
        owntokens.add(request, user, address_of(request)),
        tokens=[(token, scope_text(token)) for token in user.tokens.order_by('name', 'pk')],
        factor=factor,
        requests=approvals.own(user.username),
        codes_left=RecoveryCode.objects.filter(administrator=user).count(),
        local=user.origin == Administrator.Origin.LOCAL,
        sessions=[(row, row.session_key == request.session.session_key) for row in sessions.of(user)],
    )
    return render(request, 'signin/account.html', context)


def _withdraw(request: HttpRequest, user: Administrator) -> None:
    """Take back one's own request for approval, whatever the role."""
    key = request.POST.get('request', '')
    found = approvals.own(user.username).filter(pk=int(key) if key.isdecimal() and len(key) < 15 else 0).first()
    if found is not None:
        messages.success(request, approvals.do_withdraw_own(actor_of(request), found).message)


def _end(request: HttpRequest, user: Administrator) -> None:
    """End one other session, or all others."""
    rows = AdministratorSession.objects.filter(administrator=user)
    wanted = request.POST.get('session', '')
    if wanted != 'others':
        rows = rows.filter(pk=int(wanted) if wanted.isdecimal() and len(wanted) < 15 else 0)
    count = sessions.drop(rows, keep=request.session.session_key)
    sessions.record(actor_of(request), 'sessions-ended', user.username, count=count)
    messages.success(request, gettext('Ended sessions: %(count)d') % {'count': count})


def _second_factor(request: HttpRequest, user: Administrator, action: str, context: dict[str, Any]) -> None:
    """Set up, renew the recovery codes of, or remove the second factor. The latter two need a code, the first one the
    present password: else a browser left open would be enough to lock its user out."""
    code = request.POST.get('code', '')[:100]
    wrong = gettext('The code is wrong or was used already. Wait for the next one.')
    if action == 'confirm' and user.origin == Administrator.Origin.LOCAL:
        present = request.POST.get('password', '').replace('\0', '')
        if problem := passwords.prove(actor_of(request), user, present):
            context['code_problem'] = problem
            return
    if wait := lockout.claim(user.username.lower(), address_of(request)):
        context['code_problem'] = gettext('Too many failed attempts. Try again in %(seconds)s seconds.') % {
            'seconds': wait
        }
        return
    if action == 'confirm':
        context['codes'] = [] if totp.active(user) else totp.confirm(user, code)
        if not context['codes']:
            context['code_problem'] = wrong
            return
        sessions.record(actor_of(request), 'second-factor-set', user.username)
    elif not totp.spend(user, code):
        context['code_problem'] = wrong
        return
    elif action == 'codes':
        context['codes'] = totp.new_codes(user)
        sessions.record(actor_of(request), 'recovery-codes-renewed', user.username)
    else:
        if steps.needs_second_factor(user):
            raise PermissionDenied(gettext('Your role needs a second factor.'))
        totp.remove(user)
        sessions.record(actor_of(request), 'second-factor-removed', user.username)
    lockout.forgive(user.username.lower(), address_of(request))
