"""Template tag of the SAML page."""

from __future__ import annotations

from django import template

from impadmin.signin import saml, samlkey
from impadmin.signin.models import SamlSignOn

register = template.Library()


@register.simple_tag
def saml_missing() -> str:
    """The program this machine lacks for SAML, or ''."""
    return saml.missing()


@register.simple_tag
def saml_fingerprint(row: SamlSignOn) -> str:
    """SHA-256 of the certificate with which this console signs, or ''."""
    return samlkey.fingerprint(row)
