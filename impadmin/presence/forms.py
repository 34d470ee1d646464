"""Form of Advanced Configuration."""

from __future__ import annotations

from django import forms
from django.utils.translation import gettext_lazy as _

from impadmin.presence.models import AdvancedSettings

_scheme = AdvancedSettings._meta.get_field('address_scheme')
_domain = AdvancedSettings._meta.get_field('default_domain')


class ChangeForm(forms.Form):
    """Default domain and scheme, and the confirmations that a change may need."""

    default_domain = forms.CharField(label=_domain.verbose_name, max_length=255, help_text=_domain.help_text)
    address_scheme = forms.ChoiceField(label=_scheme.verbose_name, choices=_scheme.choices, help_text=_scheme.help_text)
    clients_support_it = forms.BooleanField(
        label=_('All clients support Directory URI and several domains'), required=False
    )
    accept_invalid = forms.BooleanField(label=_('Users without a valid Directory URI cannot sign in'), required=False)
    accept_outage = forms.BooleanField(label=_('All users are signed out during the change'), required=False)


CONFIRMATIONS = ('clients_support_it', 'accept_invalid', 'accept_outage')
