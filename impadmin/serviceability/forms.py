"""Forms of the service commands; REST bodies are checked by the same."""

from __future__ import annotations

from django import forms
from django.utils.translation import gettext_lazy as _

from engine.contract.services import SERVICES
from impadmin.system.models import Node


class ServiceForm(forms.Form):
    """One service on one node."""

    node = forms.ModelChoiceField(label=_('Server'), queryset=Node.objects.order_by('id'), to_field_name='name')
    service = forms.ChoiceField(label=_('Service'), choices=[(service.key, _(service.name)) for service in SERVICES])


class ActivationForm(forms.Form):
    """The feature services that are activated on one node."""

    node = forms.ModelChoiceField(label=_('Server'), queryset=Node.objects.order_by('id'), to_field_name='name')
    services = forms.MultipleChoiceField(
        label=_('Services'),
        choices=[(service.key, _(service.name)) for service in SERVICES if service.kind == 'feature'],
        required=False,
    )


class ServerForm(forms.Form):
    """One node."""

    node = forms.ModelChoiceField(label=_('Server'), queryset=Node.objects.order_by('id'), to_field_name='name')
