"""Security > Certificate Management (guide 4284-4818)."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from engine.contract.services import CERTIFICATE_EXPIRY_MONITOR
from impadmin.console import generations
from impadmin.console.access import Right
from impadmin.console.page import Column, Command, Fieldset, Help, Page, SettingsPage
from impadmin.console.registry import register
from impadmin.osadmin import actions, naming, views
from impadmin.osadmin.forms import CsrForm, SelfSignedForm, UploadForm
from impadmin.osadmin.models import Certificate, CertificateMonitor, Kind, SecuritySettings

SOON = 30
"""Days before the end from which on a certificate is marked."""


def _certificates() -> models.QuerySet[Certificate]:
    """With what they should name, asked once for all."""
    config = generations.newest()
    wanted = naming.wanted_names(config) if config is not None else {}
    return Certificate.objects.select_related('node').annotate(
        wanted=models.Value(wanted, output_field=models.JSONField())
    )


def state(one: Any) -> tuple[str, str]:
    """(mark, word)."""
    if one.kind == Kind.CSR:
        return 'busy', _('Not signed yet')
    days = (one.ends_at - timezone.now()).days
    if days < 0:
        return 'bad', _('Expired')
    if count := len(naming.lacking(one, one.wanted)):
        return 'warn', ngettext('Lacks %(count)d domain', 'Lacks %(count)d domains', count) % {'count': count}
    if days < SOON:
        return 'warn', ngettext('%(days)d day left', '%(days)d days left', days) % {'days': days}
    return 'ok', _('Valid')


def type_of(one: Any) -> str:
    """Self-signed, CA-signed, or CSR Only: the product's Type."""
    if one.kind == Kind.CSR:
        return _('CSR Only')
    return _('Self-signed') if one.self_signed else _('CA-signed')


def distribution(one: Any) -> str:
    """The node, Multi-Server(SAN), or the name in a trusted certificate."""
    return one.common_name if one.kind == Kind.TRUST else one.place


def _nobody(objects: Any, data: Any = None) -> int:
    """Until a restart nobody notices a new certificate, and the restart says itself whom it touches."""
    return 0


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
        Column('common_name', gettext_lazy('Common Name'), order_by='common_name', default=False),
        Column('type', gettext_lazy('Type'), type_of, order_by='self_signed'),
        Column('key_type', gettext_lazy('Key Type'), order_by='key_type', default=False),
        Column('distribution', gettext_lazy('Distribution'), distribution, order_by='node__name'),
        'issuer',
        'ends_at',
        Column('state', gettext_lazy('Status'), state, order_by='ends_at', kind='state'),
        Column('description', gettext_lazy('Description'), order_by='description', default=False),
    ),
    find=('name', 'common_name', 'issuer', 'serial', 'description', 'ends_at', 'kind'),
    verbs=('delete',),
    read_only=('origin', 'pem', 'chain', 'created_at'),
    tabs=(
        ('own', gettext_lazy('Own'), Q(kind=Kind.IDENTITY)),
        ('csr', gettext_lazy('Signing requests'), Q(kind=Kind.CSR)),
        ('trust', gettext_lazy('Trusted'), Q(kind=Kind.TRUST)),
    ),
    search=('name', 'common_name'),
    ordering=('name', 'node__name', 'common_name'),
    configures=True,
    touches=_nobody,
    undeletable=actions.cannot_delete,
    detail='osadmin/certificate.html',
    files={'pem': views.pem, 'der': views.der, 'chain': views.chain},
    commands=(
        Command('generate', gettext_lazy('Generate Self-signed'), actions.generate, scope='page', form=SelfSignedForm),
        Command('csr', gettext_lazy('Generate CSR'), actions.request, scope='page', form=CsrForm),
        Command(
            'upload',
            gettext_lazy('Upload Certificate/Certificate Chain'),
            actions.upload,
            scope='page',
            form=UploadForm,
        ),
        Command(
            'regenerate',
            gettext_lazy('Regenerate'),
            actions.regenerate,
            when=actions.cannot_regenerate,
            confirm=lambda objects: _(
                'A new key and a new self-signed certificate are made, with the names it should have now. Peers that '
                'trust the old certificate itself must be given the new one.'
            ),
        ),
    ),
)
SECURITY = SettingsPage(
    name='security-settings',
    console='admin',
    area='osadmin',
    menu='System > Security > Settings',
    title=gettext_lazy('Security Settings'),
    right=Right.CONFIGURATION,
    intro=gettext_lazy('Whether clients must use TLS, and how federation certificates name domains.'),
    help=Help(
        when=gettext_lazy(
            'When clients cannot do TLS, and before chat rooms are used with partners that federate over TLS.'
        ),
        effect=gettext_lazy(
            'Without secure mode clients may sign in unencrypted, with SCRAM only, and what they say can be read on '
            'the way. Wildcards are in a certificate after it was regenerated.'
        ),
        guide='4657-4675, 4941-4961',
    ),
    related=('certificates', 'service-parameters'),
    model=SecuritySettings,
    fieldsets=(Fieldset(gettext_lazy('XMPP Security Settings'), ('client_secure_mode', 'wildcards')),),
)
MONITOR = SettingsPage(
    name='certificate-monitor',
    console='os',
    area='osadmin',
    menu='Security > Certificate Monitor',
    title=gettext_lazy('Certificate Monitor'),
    right=Right.CONFIGURATION,
    intro=gettext_lazy('From when on, and how often, an alarm tells that a certificate expires.'),
    help=Help(
        when=gettext_lazy('When it takes you longer or shorter to have a certificate signed anew.'),
        effect=gettext_lazy(
            'Cisco Certificate Expiry Monitor looks at own and trusted certificates a day after it starts and every '
            'day from then on, every hour while one expires within a day. Its alarms are Active Notifications; '
            'webhooks tell other systems of each.'
        ),
        guide='4820-4858',
    ),
    related=('certificates', 'notifications', 'webhooks'),
    works_through=(CERTIFICATE_EXPIRY_MONITOR,),
    model=CertificateMonitor,
    fieldsets=(Fieldset(gettext_lazy('Notification'), ('start_days', 'frequency', 'unit')),),
    bad={'start_days': (0, 366), 'frequency': (0,), 'unit': ('weeks',)},
)
register(CERTIFICATES, MONITOR, SECURITY)
