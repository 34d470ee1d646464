"""The browser's way through single sign-on: to the identity provider, back with its answer, into the console."""

from __future__ import annotations

import logging
from urllib.parse import urlencode

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
from impadmin.signin import backends, lockout, saml, sessions
from impadmin.signin.models import SamlSignOn, policy
from impadmin.signin.views import address_of, proven

log = logging.getLogger(__name__)
SENT = 'saml_request'
"""Session key: the ID of the request with which this browser was sent away."""


def _settings() -> SamlSignOn:
    row = saml.settings_in_force()
    if row is None:
        raise Http404
    return row


def _failed(request: HttpRequest, username: str, reason: str) -> HttpResponse:
    """The page that says so; the reason stands in the history only, as often as one address may fail."""
    actor = Actor(username, NOBODY, address_of(request), 'browser')
    if username or lockout.strangers(actor.source) < policy().address_failures:
        sessions.record(actor, 'sign-in-failed', username, reason=reason, method='SAML')
    else:
        log.warning('SAML: %s from %s', reason, actor.source)
    problem = gettext('The identity provider did not sign you in to this console.')
    return render(request, 'signin/step.html', {'step': 'saml', 'problem': problem}, status=403)


@never_cache
@require_GET
def begin_view(request: HttpRequest) -> HttpResponse:
    """Send the browser to the identity provider."""
    row = _settings()
    try:
        request_id, address = saml.begin(row, local_url(request, request.GET.get('next', ''), '/'))
    except saml.Refused as error:
        return _failed(request, '', str(error))
    request.session[SENT] = request_id
    if not request.user.is_authenticated:
        request.session.set_expiry(int(saml.LIFE.total_seconds()))
    return HttpResponseRedirect(address)


@csrf_exempt
@never_cache
@sensitive_post_parameters('SAMLResponse')
@require_POST
def acs_view(request: HttpRequest) -> HttpResponse:
    """Assertion Consumer Service. The post comes from another site, so it brings no session: a ticket goes on."""
    row = _settings()
    try:
        ticket = saml.answered(row, request.POST.get('SAMLResponse', ''))
    except saml.Refused as error:
        return _failed(request, '', str(error))
    return HttpResponseRedirect(f'/saml/finish/?{urlencode({"ticket": ticket})}', status=303)


@never_cache
@require_GET
def finish_view(request: HttpRequest) -> HttpResponse:
    """The browser that was sent away comes back with the ticket: it is signed in."""
    _settings()
    try:
        found, target = saml.claim(str(request.session.pop(SENT, '')), request.GET.get('ticket', '')[:200])
    except saml.Refused as error:
        return _failed(request, '', str(error))
    verdict = backends.admit(Administrator.Origin.SAML, found.username, found.groups, str.strip)
    if verdict.user is None:
        return _failed(request, found.username, verdict.reason)
    return proven(request, verdict.user, local_url(request, target, '/'), verdict.method)


@require_GET
def metadata_view(request: HttpRequest) -> HttpResponse:
    """The metadata of this service provider."""
    row = SamlSignOn.objects.filter(pk=1).exclude(console_url='').first()
    if row is None or saml.missing():
        raise Http404
    return HttpResponse(saml.own_metadata(row), content_type='application/samlmetadata+xml')
