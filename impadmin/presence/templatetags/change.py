"""Who would have no IM address after a change of the default domain or the scheme."""

from __future__ import annotations

from django import template
from django.forms import Form
from django.utils.translation import gettext

from impadmin.presence import default_domain

register = template.Library()
SHOWN = 50


@register.simple_tag
def without_address(form: Form) -> list[tuple[int, str, str]]:
    """(key, user ID, what is wrong) of the first of them, while the form asks whether they may lose their address."""
    if 'accept_invalid' not in form.errors:
        return []
    found = default_domain.examine(form.cleaned_data['address_scheme'], form.cleaned_data['default_domain'].strip())
    return [(key, user_id, uri or gettext('no Directory URI')) for key, user_id, uri in found.invalid[:SHOWN]]
