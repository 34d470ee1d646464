"""What the commands of Certificate Management ask."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID
from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from engine.contract.certificates import ECDSA, IDENTITIES, STORES, purpose_of
from engine.contract.issuing import CURVES, HASHES, RSA_BITS
from impadmin.system.models import Node

MULTI = 'Multi-Server(SAN)'
MOST_NAMES = 200
_HOST = re.compile(r'(?=.{1,253}\Z)(\*\.)?([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z')
SUBJECT = {
    'organization': NameOID.ORGANIZATION_NAME,
    'unit': NameOID.ORGANIZATIONAL_UNIT_NAME,
    'locality': NameOID.LOCALITY_NAME,
    'state': NameOID.STATE_OR_PROVINCE_NAME,
    'country': NameOID.COUNTRY_NAME,
}
"""Fields of a request -> parts of its subject."""


def _part(label: Any) -> forms.CharField:
    return forms.CharField(label=label, max_length=64, required=False)


class PurposeForm(forms.Form):
    """A certificate to be made."""

    purpose = forms.ChoiceField(
        label=gettext_lazy('Certificate Purpose'), choices=[(name, name) for name in IDENTITIES],
        help_text=gettext_lazy('Names with -ECDSA have an elliptic-curve key, the others an RSA key.'),
    )  # fmt: skip
    distribution = forms.ChoiceField(
        label=gettext_lazy('Distribution'),
        help_text=gettext_lazy('A node, or Multi-Server(SAN): one certificate for all nodes.'),
    )
    common_name = forms.CharField(
        label=gettext_lazy('Common Name'), max_length=64, required=False,
        help_text=gettext_lazy('Empty: the name of the node, for all nodes that of the publisher with -ms.'),
    )  # fmt: skip
    names = forms.CharField(
        label=gettext_lazy('Subject Alternative Names (SANs)'), required=False,
        widget=forms.Textarea(attrs={'rows': 4}),
        help_text=gettext_lazy(
            'One a line. Empty: names and addresses of the nodes, and every hosted domain where peers check it.'
        ),
    )  # fmt: skip
    key_length = forms.ChoiceField(
        label=gettext_lazy('Key Length'), required=False,
        choices=[('', 'RSA 2048, EC 256'), *((str(bits), f'RSA {bits}') for bits in RSA_BITS),
                 *((str(bits), f'EC {bits}') for bits in CURVES)],
    )  # fmt: skip
    algorithm = forms.ChoiceField(
        label=gettext_lazy('Hash Algorithm'), required=False, choices=[(name, name) for name in HASHES]
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        nodes = list(Node.objects.order_by('-publisher', 'name').values_list('name', flat=True))
        field: Any = self.fields['distribution']
        field.choices = [(name, name) for name in (*nodes, MULTI)]

    def clean_names(self) -> list[str]:
        """DNS names and addresses, each of which ``general_name`` takes."""
        lines = [line.strip().lower() for line in self.cleaned_data['names'].splitlines() if line.strip()]
        if len(lines) > MOST_NAMES:
            raise ValidationError(_('At most %(most)d names.') % {'most': MOST_NAMES})
        for line in lines:
            general_name(line)
        return list(dict.fromkeys(lines))

    def clean_algorithm(self) -> str:
        """SHA256 unless chosen otherwise."""
        return self.cleaned_data['algorithm'] or 'SHA256'

    def clean(self) -> dict[str, Any]:
        """The key length fits the purpose, and the purpose may be shared."""
        data = super().clean() or self.cleaned_data
        name = data.get('purpose')
        if not name:
            return data
        fitting = tuple(CURVES) if name.endswith(ECDSA) else RSA_BITS
        if data.get('key_length') and int(data['key_length']) not in fitting:
            shown = {'name': name, 'lengths': ', '.join(map(str, fitting))}
            self.add_error('key_length', _('%(name)s has one of these key lengths: %(lengths)s.') % shown)
        data['bits'] = int(data.get('key_length') or fitting[0])
        if data.get('distribution') == MULTI and not purpose_of(name).multi:
            self.add_error('distribution', _('%(name)s exists for single nodes only. Choose a node.') % {'name': name})
        return data


class SelfSignedForm(PurposeForm):
    """Generate New Self-signed Certificate."""

    days = forms.IntegerField(
        label=gettext_lazy('Validity Period (days)'), min_value=1, max_value=3650, required=False, initial=1825,
        help_text=gettext_lazy('1 to 3650 days. Empty: 1825, five years.'),
    )  # fmt: skip


class CsrForm(PurposeForm):
    """Generate Certificate Signing Request: the fields of the subject that authorities ask for."""

    organization = _part(gettext_lazy('Organization'))
    unit = _part(gettext_lazy('Unit'))
    locality = _part(gettext_lazy('Location'))
    state = _part(gettext_lazy('State'))
    country = forms.RegexField(
        '^[A-Z]{2}$', label=gettext_lazy('Country'), required=False, max_length=2,
        help_text=gettext_lazy('Two capital letters, e.g. JP.'),
    )  # fmt: skip


class UploadForm(forms.Form):
    """Upload Certificate/Certificate Chain."""

    purpose = forms.ChoiceField(
        label=gettext_lazy('Certificate Purpose'), choices=[(name, name) for name in (*IDENTITIES, *STORES)],
        help_text=gettext_lazy('What the certificate is for, or the trust store (-trust) of an authority.'),
    )  # fmt: skip
    description = forms.CharField(label=gettext_lazy('Description'), max_length=255, required=False)
    preceding = forms.CharField(
        label=gettext_lazy('Root Certificate'), max_length=250, required=False,
        help_text=gettext_lazy(
            'For an intermediate authority: Common Name of the certificate before it in the chain. Not needed when the '
            'file has that one too.'
        ),
    )  # fmt: skip
    file = forms.FileField(
        label=gettext_lazy('Upload File'),
        help_text=gettext_lazy('PEM, DER or PKCS #7. A chain may be in one file, in any order.'),
    )


def general_name(line: str) -> x509.GeneralName:
    """A DNS name or an address as a certificate has it. Raises ValidationError."""
    try:
        return x509.IPAddress(ipaddress.ip_address(line))
    except ValueError:
        if not _HOST.match(line):
            text = _('%(name)s is no DNS name and no IP address. Write international names in their ASCII form.')
            raise ValidationError(text % {'name': line}) from None
        return x509.DNSName(line)
