"""Security > Certificate Management (guide 4284-4818)."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from impadmin.console.access import Right
from impadmin.console.page import Column, Help, Page
from impadmin.console.registry import register
from impadmin.osadmin.models import Certificate, Kind


def _certificates() -> models.QuerySet[Certificate]:
    return Certificate.objects.select_related('node')


def type_of(one: Any) -> str:
    """Self-signed, CA-signed, or CSR Only: the product's Type."""
    if one.kind == Kind.CSR:
        return _('CSR Only')
    return _('Self-signed') if one.self_signed else _('CA-signed')


def distribution(one: Any) -> str:
    """The node, Multi-Server(SAN), or the name in a trusted certificate."""
    return one.common_name if one.kind == Kind.TRUST else one.place


CERTIFICATES = Page(
    name='certificates',
    console='os',
    area='osadmin',
    menu='Security > Certificate Management',
    title=gettext_lazy('Certificate Management'),
    right=Right.CONFIGURATION,
    intro=gettext_lazy('What the nodes show in TLS, what they trust, and requests for an authority to sign.'),
    help=Help(
        when=gettext_lazy(
            'Before other servers and clients check certificates, when one expires, and after a domain was added.'
        ),
        effect=gettext_lazy(
            'A new certificate is shown after the restart of the service that shows it; the old one serves until then. '
            'Private keys leave no node: what is kept of them only the node can read.'
        ),
        guide='4284-4818',
    ),
    related=('control-center', 'control-center-network', 'notifications'),
    model=Certificate,
    queryset=_certificates,
    columns=(
        'name',
        'common_name',
        Column('type', gettext_lazy('Type'), type_of, order_by='self_signed'),
        'key_type',
        Column('distribution', gettext_lazy('Distribution'), distribution, order_by='node__name'),
        'issuer',
        'ends_at',
        'description',
    ),
    find=('name', 'common_name', 'issuer', 'serial', 'description', 'ends_at', 'kind'),
    verbs=('delete',),
    tabs=(
        ('own', gettext_lazy('Own'), Q(kind=Kind.IDENTITY)),
        ('csr', gettext_lazy('Signing requests'), Q(kind=Kind.CSR)),
        ('trust', gettext_lazy('Trusted'), Q(kind=Kind.TRUST)),
    ),
    search=('name', 'common_name'),
    ordering=('name', 'node__name', 'common_name'),
    configures=True,
)
register(CERTIFICATES)
