"""Forms of the service commands; REST bodies are checked by the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from engine.contract.services import SERVICES
from impadmin.system.models import Node

NODES: Any = Node.objects.order_by('id')


def _targets() -> list[tuple[str, str]]:
    return [
        (f'{name}:{service.key}', gettext('%(service)s on %(node)s') % {'service': gettext(service.name), 'node': name})
        for name in NODES.values_list('name', flat=True)
        for service in SERVICES
    ]


class ServiceForm(forms.Form):
    """One service on one node; or several, as the table of the Control Center sends them."""

    node = forms.ModelChoiceField(
        label=_('Server'), queryset=NODES, to_field_name='name', required=False, empty_label=_('Choose one')
    )
    service = forms.ChoiceField(
        label=_('Service'), choices=[(service.key, _(service.name)) for service in SERVICES], required=False
    )
    targets = forms.MultipleChoiceField(
        label=_('Services'), choices=_targets, required=False, widget=forms.MultipleHiddenInput,
        help_text=_('Instead of server and service: several of them, each as SERVER:SERVICE.'),
    )  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self['targets'].value() and not (self.data.get('node') or self.data.get('service')):
            del self.fields['node'], self.fields['service']

    def clean(self) -> dict[str, Any]:
        """Both, or targets."""
        data = super().clean() or self.cleaned_data
        several = bool(data.get('targets'))
        if several and 'node' in self.fields:
            self.add_error('targets', gettext('Give server and service, or several targets, not both.'))
        for name in ('node', 'service'):
            if not several and not data.get(name) and name not in self.errors:
                self.add_error(name, self.fields[name].error_messages['required'])
        return data

    @staticmethod
    def chosen(data: Mapping[str, Any]) -> list[tuple[Node, str]]:
        """(node, service key) of what was chosen."""
        if not data.get('targets'):
            return [(data['node'], data['service'])]
        nodes = {node.name: node for node in NODES.all()}
        pairs = [target.rpartition(':') for target in data['targets']]
        return [(nodes[name], service) for name, _colon, service in pairs]


class ActivationForm(forms.Form):
    """The feature services that are activated on one node."""

    node = forms.ModelChoiceField(label=_('Server'), queryset=NODES, to_field_name='name')
    services = forms.MultipleChoiceField(
        label=_('Services'),
        choices=[(service.key, _(service.name)) for service in SERVICES if service.kind == 'feature'],
        required=False,
    )


class ServerForm(forms.Form):
    """One node."""

    node = forms.ModelChoiceField(label=_('Server'), queryset=NODES, to_field_name='name')
