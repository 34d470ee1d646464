"""The browser's way through single sign-on: to the identity provider, back with its answer, into the console."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

from django.conf import settings
from django.core import signing
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.utils.translation import gettext
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_GET, require_POST

from impadmin.console.access import NOBODY
from impadmin.console.actions import Actor
from impadmin.console.models import Administrator
from impadmin.console.preferences import local_url
from impadmin.console.security import CONTENT_SECURITY_POLICY
from impadmin.signin import backends, lockout, saml, samllogout, sessions, vault
from impadmin.signin.models import SamlSignOn, policy

log = logging.getLogger(__name__)
SENT = 'saml_request'
"""Cookie: the ID of the request with which this browser was sent away, and where it wanted to go, signed."""
LONGEST_TARGET = 2000


def _settings() -> SamlSignOn:
    row = saml.settings_in_force()
    if row is None:
        raise Http404
    return row


def _failed(request: HttpRequest, username: str, reason: str, problem: str = '') -> HttpResponse:
    """The page that says so; the reason stands in the history only, as often as one address may fail."""
    from impadmin.signin.views import address_of

    actor = Actor(username, NOBODY, address_of(request), 'browser')
    if username or lockout.strangers(actor.source) < policy().address_failures:
        sessions.record(actor, 'sign-in-failed', username, reason=reason, method='SAML')
    else:
        log.warning('SAML: %s from %s', reason, actor.source)
    problem = problem or gettext('The identity provider did not sign you in to this console.')
    return render(request, 'signin/step.html', {'step': 'saml', 'problem': problem}, status=403)


@never_cache
@require_GET
def begin_view(request: HttpRequest) -> HttpResponse:
    """Send the browser to the identity provider. Nothing is kept of it here but in its cookie."""
    target = local_url(request, request.GET.get('next', ''), '/')
    try:
        request_id, way = saml.begin(_settings())
    except saml.Refused as error:
        return _failed(request, '', str(error))
    answer = _posting(request, way) if way.form else HttpResponseRedirect(way.address)
    kept = signing.dumps([request_id, target if len(target) <= LONGEST_TARGET else '/'], salt=SENT)
    answer.set_cookie(
        SENT, kept, max_age=saml.LIFE, path='/saml/', httponly=True, samesite='Lax',
        secure=bool(settings.SESSION_COOKIE_SECURE),
    )  # fmt: skip
    return answer


def _posting(request: HttpRequest, way: saml.Sending) -> HttpResponse:
    """A page whose form the browser posts to the provider, by itself or by its button. Where the provider leads on to
    is its own affair, and browsers ask the policy about that too: any address under https."""
    answer = render(request, 'signin/posting.html', {'way': way})
    parts = urlsplit(way.address)
    targets = f'form-action {parts.scheme}://{parts.netloc} https:'
    answer['Content-Security-Policy'] = CONTENT_SECURITY_POLICY.replace("form-action 'self'", targets)
    return answer


@csrf_exempt
@never_cache
@sensitive_post_parameters('SAMLResponse')
@require_POST
def acs_view(request: HttpRequest) -> HttpResponse:
    """Assertion Consumer Service. The post comes from another site, so it brings no session: a ticket goes on."""
    from impadmin.signin.views import address_of

    row = _settings()
    try:
        often = lockout.strangers(address_of(request)) >= policy().address_failures
        ticket = saml.answered(row, request.POST.get('SAMLResponse', ''), often=often)
    except saml.Refused as error:
        return _failed(request, '', str(error))
    return HttpResponseRedirect(f'/saml/finish/?{urlencode({"ticket": ticket})}', status=303)


@never_cache
@require_GET
def finish_view(request: HttpRequest) -> HttpResponse:
    """The browser that was sent away comes back with the ticket: it is signed in."""
    from impadmin.signin.views import proven

    _settings()
    try:
        request_id, target = signing.loads(request.COOKIES.get(SENT, ''), salt=SENT, max_age=saml.LIFE)
        found = saml.claim(str(request_id), request.GET.get('ticket', '')[:200])
    except signing.BadSignature:
        return _failed(request, '', 'another browser, or too late')
    except saml.Refused as error:
        return _failed(request, '', str(error))
    verdict = backends.admit(Administrator.Origin.SAML, found.username, found.groups, str.strip)
    if verdict.user is None:
        return _failed(request, found.username, verdict.reason)
    answer = proven(request, verdict.user, local_url(request, target, '/'), verdict.method, found.idp)
    answer.delete_cookie(SENT, path='/saml/')
    return answer


@never_cache
@require_GET
def logout_view(request: HttpRequest) -> HttpResponse:
    """Single Logout Service. The provider's signature is enough: from a frame of its page no cookie comes."""
    row = _settings()
    try:
        found = samllogout.received(row, request.META.get('QUERY_STRING', ''))
        if found.kind == 'SAMLResponse':
            return _left(request, samllogout.succeeded(found))
        for one in samllogout.sessions_of(found).select_related('administrator'):
            actor = Actor(one.administrator.username, NOBODY, one.address, 'browser')
            sessions.record(actor, 'sign-out', actor.name, reason='signed out at the identity provider')
            sessions.drop(type(one).objects.filter(pk=one.pk))
        return HttpResponseRedirect(samllogout.answer(row, found))
    except (saml.Refused, vault.Unreadable) as error:
        problem = gettext('A message about signing out came that the identity provider did not sign for this console.')
        return _failed(request, '', str(error) or 'the key cannot be read any more: renew it', problem)


def _left(request: HttpRequest, everywhere: bool) -> HttpResponse:
    if everywhere:
        return HttpResponseRedirect(f'{settings.LOGIN_URL}?signed-out=1')
    problem = gettext('You are signed out here. The identity provider did not confirm that you are signed out there.')
    return render(request, 'signin/step.html', {'step': 'saml', 'problem': problem})


def leave(idp: Mapping[str, Any]) -> str:
    """Where a browser goes whose session ended here, to be signed out at the provider; '' when nowhere."""
    row = saml.settings_in_force()
    try:
        return samllogout.begin(row, idp) if row is not None else ''
    except (saml.Refused, vault.Unreadable):
        log.warning('SAML: no logout request could be made', exc_info=True)
        return ''


@require_GET
def metadata_view(request: HttpRequest) -> HttpResponse:
    """The metadata of this service provider."""
    row = SamlSignOn.objects.filter(pk=1).exclude(console_url='').first()
    if row is None or saml.missing():
        raise Http404
    return HttpResponse(saml.own_metadata(row), content_type='application/samlmetadata+xml')
