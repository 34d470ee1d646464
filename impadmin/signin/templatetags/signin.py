"""Template tag of the SAML page."""

from __future__ import annotations

from django import template

from impadmin.signin import saml

register = template.Library()


@register.simple_tag
def saml_missing() -> str:
    """The program this machine lacks for SAML, or ''."""
    return saml.missing()
