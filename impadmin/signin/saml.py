"""SAML 2.0 service provider: requests by HTTP-Redirect, answers by HTTP-POST with signed assertions (pysaml2).

An answer is believed when the provider of the uploaded metadata signed the assertion, and it answers a request of this
console that was not answered yet, names this console as destination and audience, and is in its time. The browser that
brought it must be the one that was sent: it gets a ticket and shows it together with its session.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import secrets
import shutil
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from defusedxml import ElementTree
from django.utils import timezone

from impadmin.signin.models import SamlRequest, SamlSignOn

log = logging.getLogger(__name__)
ACS = '/saml/acs/'
METADATA = '/saml/metadata/'
BINDING_HTTP_POST = 'urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST'
BINDING_HTTP_REDIRECT = 'urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect'
LIFE = timedelta(minutes=10)
"""How long the user may take at the identity provider."""
TICKET_LIFE = timedelta(minutes=1)
MOST_OPEN = 10_000
LARGEST = 500_000
"""Characters of an answer or of metadata."""
SKEW_S = 60
_PROTOCOL = '{urn:oasis:names:tc:SAML:2.0:protocol}'
_METADATA = '{urn:oasis:names:tc:SAML:2.0:metadata}'
_SIGNATURE = '{http://www.w3.org/2000/09/xmldsig#}'


class Refused(Exception):
    """The answer or the metadata cannot be used; the text is the reason."""


@dataclass(frozen=True, slots=True)
class Assertion:
    """Whom the identity provider vouches for."""

    username: str
    groups: tuple[str, ...]


def settings_in_force() -> SamlSignOn | None:
    """The settings when single sign-on is on and possible: metadata and address are there, and the program."""
    row = SamlSignOn.objects.filter(pk=1, enabled=True).exclude(idp_metadata='').exclude(console_url='').first()
    return row if row is not None and shutil.which('xmlsec1') else None


def missing() -> str:
    """What this machine lacks for SAML, or ''."""
    return '' if shutil.which('xmlsec1') else 'xmlsec1'


def entity_of(metadata: str) -> str:
    """The entity ID of an identity provider's metadata. Raises Refused."""
    try:
        root = ElementTree.fromstring(metadata.encode())
    except Exception as error:  # defusedxml and expat have no common base
        raise Refused(f'this is no XML that can be read ({type(error).__name__})') from None
    found = [root] if root.tag == f'{_METADATA}EntityDescriptor' else root.findall(f'{_METADATA}EntityDescriptor')
    providers = [(entity, entity.find(f'{_METADATA}IDPSSODescriptor')) for entity in found]
    providers = [(entity, idp) for entity, idp in providers if idp is not None]
    if len(providers) != 1:
        raise Refused('the metadata must describe exactly one identity provider')
    entity, provider = providers[0]
    if provider.find(f'.//{_SIGNATURE}X509Certificate') is None:
        raise Refused('the metadata has no signing certificate')
    services = provider.findall(f'{_METADATA}SingleSignOnService')
    if not any(service.get('Binding') == BINDING_HTTP_REDIRECT for service in services):
        raise Refused('the metadata has no SingleSignOnService with HTTP-Redirect')
    return str(entity.get('entityID', ''))


def _configuration(row: SamlSignOn) -> Any:
    """pysaml2's configuration. It is imported where it is used: it reads its XML schemas when it is imported."""
    from saml2.config import SPConfig

    base = row.console_url.rstrip('/')
    return SPConfig().load(
        {
            'entityid': base + METADATA,
            'xmlsec_binary': shutil.which('xmlsec1'),
            'accepted_time_diff': SKEW_S,
            'allow_unknown_attributes': True,
            'metadata': {'inline': [row.idp_metadata]} if row.idp_metadata else {},
            'service': {
                'sp': {
                    'name': 'IM and Presence Service',
                    'endpoints': {'assertion_consumer_service': [(base + ACS, BINDING_HTTP_POST)]},
                    'authn_requests_signed': False,
                    'want_assertions_signed': True,
                    'want_response_signed': False,
                    'allow_unsolicited': False,
                    'only_use_keys_in_metadata': True,
                }
            },
        }
    )


def own_metadata(row: SamlSignOn) -> str:
    """What the identity provider must know about this console."""
    from saml2.metadata import entity_descriptor

    return str(entity_descriptor(_configuration(row)))


def begin(row: SamlSignOn, target: str) -> tuple[str, str]:
    """(request ID, address of the identity provider with the request). Raises Refused."""
    from saml2.client import Saml2Client

    now = timezone.now()
    SamlRequest.objects.filter(at__lt=now - LIFE).delete()
    if SamlRequest.objects.count() >= MOST_OPEN:
        raise Refused('too many requests are open')
    try:
        client = Saml2Client(_configuration(row))
        request_id, sent = client.prepare_for_authenticate(row.idp_entity, binding=BINDING_HTTP_REDIRECT)
    except Exception as error:
        log.warning('SAML: no request could be made', exc_info=True)
        raise Refused(f'no request could be made: {error}'[:300]) from error
    SamlRequest.objects.create(request_id=request_id, target=target)
    return request_id, dict(sent['headers'])['Location']


def answered(row: SamlSignOn, encoded: str) -> str:
    """Take an answer that a browser posted; the ticket for ``claim``. Raises Refused."""
    request = _request_of(encoded)
    # from here on the request is spent, whatever comes out: one answer, one verification
    spent = SamlRequest.objects.filter(pk=request.pk, answered_at=None).update(answered_at=timezone.now())
    if spent != 1:
        raise Refused('answered already')
    found = _verified(row, encoded, request.request_id)
    ticket = secrets.token_urlsafe(32)
    SamlRequest.objects.filter(pk=request.pk).update(
        ticket=hashlib.sha256(ticket.encode()).hexdigest(), username=found.username[:150], groups=list(found.groups)
    )
    return ticket


def claim(request_id: str, ticket: str) -> tuple[Assertion, str]:
    """(whom the ticket is for, where he wanted to go), once, for the browser that made the request. Raises Refused."""
    row = SamlRequest.objects.filter(
        request_id=request_id, ticket=hashlib.sha256(ticket.encode()).hexdigest(),
        answered_at__gt=timezone.now() - TICKET_LIFE,
    ).first()  # fmt: skip
    if row is None or not request_id or not SamlRequest.objects.filter(pk=row.pk).delete()[0]:
        raise Refused('another browser, or too late')
    return Assertion(row.username, tuple(row.groups)), row.target


def _request_of(encoded: str) -> SamlRequest:
    """The open request that an answer says it answers; cheap, before anything is verified."""
    if len(encoded) > LARGEST:
        raise Refused('too large')
    try:
        root = ElementTree.fromstring(base64.b64decode(encoded))
    except Exception:  # not base64, not XML, or XML with entities
        raise Refused('not readable') from None
    wanted = str(root.get('InResponseTo', ''))[:100]
    found = SamlRequest.objects.filter(
        request_id=wanted, answered_at=None, at__gt=timezone.now() - LIFE
    ).first()  # fmt: skip
    if root.tag != f'{_PROTOCOL}Response' or found is None:
        raise Refused('not asked for')
    return found


def _verified(row: SamlSignOn, encoded: str, request_id: str) -> Assertion:
    """What pysaml2 and the checks that it leaves open agree on."""
    from saml2.client import Saml2Client

    configuration = _configuration(row)
    base = row.console_url.rstrip('/')
    try:
        client = Saml2Client(configuration)
        answer: Any = client.parse_authn_request_response(encoded, BINDING_HTTP_POST, outstanding={request_id: '/'})
    except Exception as error:
        log.info('SAML: refused', exc_info=True)
        raise Refused(f'{type(error).__name__}: {error}'[:200]) from error
    assertion = getattr(answer, 'assertion', None)
    if assertion is None:
        raise Refused('not valid')
    if answer.response.destination != base + ACS:
        raise Refused('wrong destination')
    if assertion.issuer is None or assertion.issuer.text != row.idp_entity:
        raise Refused('wrong issuer')
    if assertion.signature is None:
        raise Refused('the assertion is not signed')
    audiences = [
        audience.text
        for restriction in (assertion.conditions.audience_restriction if assertion.conditions else ())
        for audience in restriction.audience
    ]
    if base + METADATA not in audiences:
        raise Refused('wrong audience')
    values = {name: tuple(map(str, held)) for name, held in (answer.ava or {}).items()}
    if row.user_attribute:
        names = values.get(row.user_attribute, ())
    else:
        names = (str(answer.name_id.text),) if answer.name_id is not None else ()
    if len(names) != 1 or not names[0].strip():
        raise Refused('no user ID')
    return Assertion(names[0].strip(), values.get(row.group_attribute, ()))
