"""SAML single logout (SAML Core 3.7), begun here or by the identity provider. Messages are signed both ways."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from xml.etree.ElementTree import Element

from defusedxml import ElementTree
from django.core import signing
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from impadmin.signin import redirect, saml, samlkey
from impadmin.signin.models import AdministratorSession, Method, SamlSignOn

SLO = saml.SLO
SUCCESS = 'urn:oasis:names:tc:SAML:2.0:status:Success'
_ASSERTION = '{urn:oasis:names:tc:SAML:2.0:assertion}'
_signer = signing.TimestampSigner(sep='.', salt='imp.saml.logout')


def begin(row: SamlSignOn, idp: Mapping[str, Any]) -> str:
    """Where to send the browser whose session ended here (``AdministratorSession.idp``), or '' when the provider has no
    single logout."""
    from saml2.saml import NameID

    location = saml.service(row.idp_metadata, 'SingleLogoutService')
    if location is None or not idp.get('name_id'):
        return ''
    client = saml.client(row)
    _, request = client.create_logout_request(
        location.get('Location'), row.idp_entity, name_id=NameID(**idp['name_id']), sign=False,
        message_id='_' + _signer.sign(secrets.token_hex(16)),
        session_indexes=[idp['index']] if idp.get('index') else None,
    )  # fmt: skip
    return redirect.address(str(location.get('Location')), 'SAMLRequest', str(request), samlkey.key(row))


def received(row: SamlSignOn, query: str) -> redirect.Message:
    """A logout message in a raw query string, signed by the provider, for this console, in its time. Raises
    saml.Refused."""
    try:
        found = redirect.verified(query, saml.certificates(row.idp_metadata))
        root = ElementTree.fromstring(found.xml)
    except redirect.Unsigned as error:
        raise saml.Refused(str(error)) from error
    except Exception:  # defusedxml and expat have no common base
        raise saml.Refused('not readable') from None
    wanted = 'LogoutRequest' if found.kind == 'SAMLRequest' else 'LogoutResponse'
    if root.tag != f'{saml.PROTOCOL}{wanted}':
        raise saml.Refused('not asked for')
    if root.findtext(f'{_ASSERTION}Issuer', '').strip() != row.idp_entity:
        raise saml.Refused('wrong issuer')
    if root.get('Destination') != row.console_url.rstrip('/') + SLO:
        raise saml.Refused('wrong destination')
    now, skew = timezone.now(), timedelta(seconds=saml.SKEW_S)
    issued, until = _moment(root, 'IssueInstant'), _moment(root, 'NotOnOrAfter')
    if issued is None or not now - saml.LIFE <= issued <= now + skew or (until is not None and until + skew <= now):
        raise saml.Refused('too late')
    return found


def sessions_of(message: redirect.Message) -> Any:
    """The sessions that a LogoutRequest means. Raises saml.Refused."""
    root = ElementTree.fromstring(message.xml)
    name = root.findtext(f'{_ASSERTION}NameID', '').strip()
    if not name:
        raise saml.Refused('no user ID')
    found = AdministratorSession.objects.filter(method=Method.SAML, idp__name_id__text=name)
    indexes = [one.text.strip() for one in root.findall(f'{saml.PROTOCOL}SessionIndex') if one.text]
    return found.filter(idp__index__in=indexes) if indexes else found


def answer(row: SamlSignOn, message: redirect.Message) -> str:
    """Where to send the browser with the LogoutResponse."""
    from saml2 import samlp
    from saml2.s_utils import success_status_factory
    from saml2.saml import Issuer
    from saml2.time_util import instant

    location = saml.service(row.idp_metadata, 'SingleLogoutService')
    if location is None:
        raise saml.Refused('the provider has no SingleLogoutService')
    target = str(location.get('ResponseLocation') or location.get('Location'))
    response = samlp.LogoutResponse(
        id='_' + secrets.token_hex(16), version='2.0', issue_instant=instant(), destination=target,
        in_response_to=ElementTree.fromstring(message.xml).get('ID'), status=success_status_factory(),
        issuer=Issuer(text=row.console_url.rstrip('/') + saml.METADATA),
    )  # fmt: skip
    return redirect.address(target, 'SAMLResponse', str(response), samlkey.key(row), message.relay_state[:1000])


def succeeded(message: redirect.Message) -> bool:
    """Whether a LogoutResponse answers a request of this console, and says that the user is signed out everywhere."""
    root = ElementTree.fromstring(message.xml)
    try:
        _signer.unsign(re.sub('^_', '', root.get('InResponseTo', '')), max_age=saml.LIFE)
    except signing.BadSignature:
        raise saml.Refused('not asked for') from None
    code = root.find(f'{saml.PROTOCOL}Status/{saml.PROTOCOL}StatusCode')
    return code is not None and code.get('Value') == SUCCESS


def _moment(root: Element, name: str) -> Any:
    try:
        found = parse_datetime(root.get(name, ''))
    except ValueError:
        return None
    return found if found is not None and timezone.is_aware(found) else None
