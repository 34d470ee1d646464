"""SAML 2.0 service provider (pysaml2): signed requests by HTTP-Redirect or HTTP-POST, answers by HTTP-POST with signed
assertions, encrypted or not.

An answer is believed when the provider of the uploaded metadata signed the assertion, and it answers a request of this
console that was not answered yet, names this console as destination and audience, and is in its time. The browser that
brought it must be the one that was sent: it gets a ticket and shows it together with its cookie. A request leaves
nothing here: its ID proves itself, so nobody can fill a table by beginning to sign in.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import re
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from xml.etree.ElementTree import Element

from cryptography import x509
from defusedxml import ElementTree
from django.core import signing
from django.db import IntegrityError
from django.utils import timezone

from impadmin.signin import redirect, samldecrypt, samlkey, vault
from impadmin.signin.models import SamlAnswer, SamlSignOn

log = logging.getLogger(__name__)
ACS = '/saml/acs/'
SLO = '/saml/slo/'
METADATA = '/saml/metadata/'
BINDING_HTTP_POST = 'urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST'
BINDING_HTTP_REDIRECT = 'urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect'
LIFE = timedelta(minutes=10)
"""How long the user may take at the identity provider."""
TICKET_LIFE = timedelta(minutes=1)
LARGEST = 500_000
"""Characters of an answer or of metadata."""
SKEW_S = 60
PROTOCOL = '{urn:oasis:names:tc:SAML:2.0:protocol}'
_METADATA = '{urn:oasis:names:tc:SAML:2.0:metadata}'
_SIGNATURE = '{http://www.w3.org/2000/09/xmldsig#}'
_LOCATION = re.compile(r'https?://[\w.:\[\]-]+(/\S*)?', re.ASCII)
"""Where a browser may be sent."""
_signer = signing.TimestampSigner(sep='.', salt='imp.saml.request')


class Refused(Exception):
    """The answer or the metadata cannot be used; the text is the reason."""


@dataclass(frozen=True, slots=True)
class Assertion:
    """Whom the identity provider vouches for; ``idp``: what single logout calls the session (AdministratorSession)."""

    username: str
    groups: tuple[str, ...]
    idp: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sending:
    """How a browser takes a message to the provider: it goes to ``address``, or posts the fields of ``form`` there."""

    address: str
    form: Mapping[str, str] = field(default_factory=dict)


def settings_in_force() -> SamlSignOn | None:
    """The settings when single sign-on is on and possible: metadata and address are there, and the program."""
    row = SamlSignOn.objects.filter(pk=1, enabled=True).exclude(idp_metadata='').exclude(console_url='').first()
    return row if row is not None and shutil.which('xmlsec1') else None


def missing() -> str:
    """What this machine lacks for SAML, or ''."""
    return '' if shutil.which('xmlsec1') else 'xmlsec1'


def _provider(metadata: str) -> tuple[Element, Element]:
    """(EntityDescriptor, IDPSSODescriptor) of an identity provider's metadata. Raises Refused."""
    try:
        root = ElementTree.fromstring(metadata.encode())
    except Exception as error:  # defusedxml and expat have no common base
        raise Refused(f'this is no XML that can be read ({type(error).__name__})') from None
    found = [root] if root.tag == f'{_METADATA}EntityDescriptor' else root.findall(f'{_METADATA}EntityDescriptor')
    providers = [(entity, idp) for entity in found if (idp := entity.find(f'{_METADATA}IDPSSODescriptor')) is not None]
    if len(providers) != 1:
        raise Refused('the metadata must describe exactly one identity provider')
    return providers[0]


def entity_of(metadata: str) -> str:
    """The entity ID of an identity provider's metadata. Raises Refused."""
    entity, _ = _provider(metadata)
    if not certificates(metadata):
        raise Refused('the metadata has no signing certificate')
    _sign_on_service(metadata)
    return str(entity.get('entityID', ''))


def service(metadata: str, name: str, binding: str = BINDING_HTTP_REDIRECT) -> Element | None:
    """The service of the provider that takes messages so, or None."""
    found = _provider(metadata)[1].findall(f'{_METADATA}{name}')
    return next(
        (one for one in found if one.get('Binding') == binding and _LOCATION.fullmatch(one.get('Location', ''))), None
    )


def _sign_on_service(metadata: str) -> tuple[str, str]:
    """(binding, address) of what takes requests; HTTP-Redirect, which needs no page between, is preferred."""
    for binding in (BINDING_HTTP_REDIRECT, BINDING_HTTP_POST):
        if (found := service(metadata, 'SingleSignOnService', binding)) is not None:
            return binding, str(found.get('Location'))
    raise Refused('the metadata has no SingleSignOnService with HTTP-Redirect or HTTP-POST')


def certificates(metadata: str) -> list[x509.Certificate]:
    """The provider's certificates for signing. Raises Refused."""
    keys = [
        one for one in _provider(metadata)[1].findall(f'{_METADATA}KeyDescriptor') if one.get('use') != 'encryption'
    ]
    texts = [one.text or '' for key in keys for one in key.iter(f'{_SIGNATURE}X509Certificate')]
    try:
        return [x509.load_der_x509_certificate(base64.b64decode(text)) for text in texts]
    except ValueError:
        raise Refused('a certificate of the metadata cannot be read') from None


def _configuration(row: SamlSignOn, **more: Any) -> Any:
    """pysaml2's configuration. It is imported where it is used: it reads its XML schemas when it is imported."""
    from saml2.config import SPConfig

    base = row.console_url.rstrip('/')
    return SPConfig().load(
        {
            'entityid': base + METADATA,
            'xmlsec_binary': shutil.which('xmlsec1'),
            **more,
            'accepted_time_diff': SKEW_S,
            'allow_unknown_attributes': True,
            'metadata': {'inline': [row.idp_metadata]} if row.idp_metadata else {},
            'service': {
                'sp': {
                    'name': 'IM and Presence Service',
                    'endpoints': {
                        'assertion_consumer_service': [(base + ACS, BINDING_HTTP_POST)],
                        'single_logout_service': [(base + SLO, BINDING_HTTP_REDIRECT)],
                    },
                    'authn_requests_signed': True,
                    'want_assertions_signed': True,
                    'want_response_signed': False,
                    'allow_unsolicited': False,
                    'only_use_keys_in_metadata': True,
                }
            },
        }
    )


def own_metadata(row: SamlSignOn) -> str:
    """What the identity provider must know about this console: addresses, the certificates of its keys, and what
    assertions may be encrypted with."""
    from saml2.md import EncryptionMethod
    from saml2.metadata import entity_descriptor

    with (
        samlkey.as_file(samlkey.certificate(row)) as signing_,
        samlkey.as_file(samlkey.certificate(row, 'encryption')) as encryption,
    ):
        found = entity_descriptor(
            _configuration(row, cert_file=signing_, encryption_keypairs=[{'cert_file': encryption}])
        )
    for one in found.spsso_descriptor.key_descriptor:
        if one.use == 'encryption':
            one.encryption_method = [EncryptionMethod(algorithm=name) for name in samldecrypt.ALGORITHMS]
    return str(found)


def client(row: SamlSignOn, **more: Any) -> Any:
    """pysaml2's maker of messages."""
    from saml2.client import Saml2Client

    return Saml2Client(_configuration(row, **more))


def begin(row: SamlSignOn) -> tuple[str, Sending]:
    """(request ID, how the browser takes the signed request to the identity provider). Raises Refused."""
    request_id = '_' + _signer.sign(secrets.token_hex(16))
    try:
        binding, target = _sign_on_service(row.idp_metadata)
        if binding == BINDING_HTTP_POST:
            request = base64.b64encode(_signed_request(row, request_id, target).encode()).decode()
            return request_id, Sending(target, {'SAMLRequest': request})
        _, plain = client(row).create_authn_request(
            target, message_id=request_id, binding=BINDING_HTTP_POST, sign=False
        )
        return request_id, Sending(redirect.address(target, 'SAMLRequest', str(plain), samlkey.key(row)))
    except vault.Unreadable:
        raise Refused('the key cannot be read any more: renew it') from None
    except Refused:
        raise
    except Exception as error:
        log.warning('SAML: no request could be made', exc_info=True)
        raise Refused(f'no request could be made: {error}'[:300]) from error


def _signed_request(row: SamlSignOn, request_id: str, target: str) -> str:
    """The request with its signature inside, as HTTP-POST wants it (SAML Bindings 3.5.5.2)."""
    from saml2.xmldsig import DIGEST_SHA256, SIG_RSA_SHA256

    with samlkey.signing_key(row) as path:
        _, request = client(row, key_file=path).create_authn_request(
            target, message_id=request_id, binding=BINDING_HTTP_POST, sign=True, sign_alg=SIG_RSA_SHA256,
            digest_alg=DIGEST_SHA256,
        )  # fmt: skip
    return str(request)


def answered(row: SamlSignOn, encoded: str, *, often: bool = False) -> str:
    """Take an answer that a browser posted; the ticket for ``claim``. ``often``: its address failed often lately.
    Raises Refused."""
    xml = _decoded(encoded)
    request_id = _request_of(xml)
    if SamlAnswer.objects.filter(request_id=request_id).exists():
        raise Refused('answered already')
    try:
        clear = samldecrypt.opened(xml, lambda: samlkey.key(row, 'encryption'), often=often)
    except samldecrypt.Unreadable as error:
        raise Refused(str(error)) from None
    except vault.Unreadable:
        raise Refused('the key cannot be read any more: renew it') from None
    if clear is not xml and _request_of(clear) != request_id:
        raise Refused('not asked for')
    found = _verified(row, base64.b64encode(clear).decode(), request_id)
    ticket = secrets.token_urlsafe(32)
    SamlAnswer.objects.filter(at__lt=timezone.now() - LIFE).delete()
    try:
        SamlAnswer.objects.create(
            request_id=request_id, ticket=_digest(ticket), username=found.username[:150], groups=list(found.groups),
            idp=dict(found.idp),
        )  # fmt: skip
    except IntegrityError:
        raise Refused('answered already') from None
    return ticket


def claim(request_id: str, ticket: str) -> Assertion:
    """Whom the ticket is for, once, for the browser that made the request. Raises Refused."""
    row = SamlAnswer.objects.filter(
        request_id=request_id, ticket=_digest(ticket), at__gt=timezone.now() - TICKET_LIFE
    ).first()
    if row is None or not SamlAnswer.objects.filter(pk=row.pk, ticket=row.ticket).update(ticket=''):
        raise Refused('another browser, or too late')
    return Assertion(row.username, tuple(row.groups), row.idp)


def _digest(ticket: str) -> str:
    return hashlib.sha256(ticket.encode()).hexdigest()


def _decoded(encoded: str) -> bytes:
    if len(encoded) > LARGEST:
        raise Refused('too large')
    try:
        return base64.b64decode(encoded)
    except ValueError:
        raise Refused('not readable') from None


def _request_of(xml: bytes) -> str:
    """ID of the request of this console that an answer says it answers; cheap, before anything is verified."""
    try:
        root = ElementTree.fromstring(xml)
    except Exception:  # not XML, or XML with entities
        raise Refused('not readable') from None
    wanted = str(root.get('InResponseTo', ''))[:100]
    try:
        _signer.unsign(wanted.removeprefix('_'), max_age=LIFE)
    except signing.BadSignature:
        wanted = ''
    if root.tag != f'{PROTOCOL}Response' or not wanted:
        raise Refused('not asked for')
    return wanted


def _verified(row: SamlSignOn, encoded: str, request_id: str) -> Assertion:
    """What pysaml2 and the checks that it leaves open agree on."""
    base = row.console_url.rstrip('/')
    try:
        answer: Any = client(row).parse_authn_request_response(
            encoded, BINDING_HTTP_POST, outstanding={request_id: '/'}
        )
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
    return Assertion(names[0].strip(), values.get(row.group_attribute, ()), _session_of(answer))


def _session_of(answer: Any) -> dict[str, Any]:
    """NameID and session index, as single logout needs them."""
    name = answer.name_id
    if name is None or not name.text:
        return {}
    parts = {part: getattr(name, part) for part in ('text', 'format', 'name_qualifier', 'sp_name_qualifier')}
    index = next((one.session_index for one in answer.assertion.authn_statement or () if one.session_index), '')
    return {'name_id': {part: value for part, value in parts.items() if value}, 'index': index}
