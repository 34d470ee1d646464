"""Certificates of the nodes, their sealed keys, and what they trust. Read by engine/store/certificates.py."""

from __future__ import annotations

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from engine.contract.certificates import IDENTITIES, NODE_LINK, STORES


class Kind(models.TextChoices):
    """What a row is."""

    IDENTITY = 'identity', _('Own certificate')
    CSR = 'csr', _('Signing request')
    TRUST = 'trust', _('Trusted certificate')


class Origin(models.TextChoices):
    """Where a row comes from."""

    NODE = 'node', _('Made by the node')
    FILE = 'file', _('File of the node')
    GENERATED = 'generated', _('Generated')
    UPLOADED = 'uploaded', _('Uploaded')
    IMPORTED = 'imported', _('Imported')


class Certificate(models.Model):
    """Security > Certificate Management: one certificate or signing request by the product's name."""

    name = models.CharField(
        _('Certificate'), max_length=40, choices=[(name, name) for name in (*IDENTITIES, NODE_LINK, *STORES)]
    )
    kind = models.CharField(_('Kind'), max_length=10, choices=Kind.choices)
    node = models.ForeignKey('system.Node', models.CASCADE, null=True, verbose_name=_('Node'), related_name='+')
    """None: of every node (Multi-Server), or trusted by every node."""
    origin = models.CharField(_('Origin'), max_length=10, choices=Origin.choices, editable=False)
    description = models.CharField(_('Description'), max_length=255, blank=True, db_default='')
    common_name = models.CharField(_('Common Name'), max_length=250)
    issuer = models.CharField(_('Issued By'), max_length=250, blank=True, db_default='')
    serial = models.CharField(_('Serial Number'), max_length=50, blank=True, db_default='')
    key_type = models.CharField(_('Key Type'), max_length=20)
    names = models.TextField(_('Subject Alternative Names'), blank=True, db_default='')
    starts_at = models.DateTimeField(_('Valid From'), null=True)
    ends_at = models.DateTimeField(_('Expiration'), null=True)
    fingerprint = models.CharField(_('SHA-256'), max_length=64, blank=True, db_default='')
    self_signed = models.BooleanField(_('Self-signed'), default=False, db_default=False)
    key_id = models.CharField(max_length=64, editable=False)
    """SHA-256 of the public key."""
    pem = models.TextField(editable=False)
    chain = models.TextField(editable=False, blank=True, db_default='')
    """PEM certificates of the authorities between this one and a trusted one."""
    created_at = models.DateTimeField(_('Created'), auto_now_add=True, db_default=models.functions.Now())
    noticed_at = models.DateTimeField(null=True, editable=False)
    """When Certificate Monitor last told that it expires."""

    class Meta:
        db_table = 'certificate'
        verbose_name = _('Certificate')
        verbose_name_plural = _('Certificates')
        constraints = [
            models.UniqueConstraint(
                fields=['node', 'name', 'kind'],
                condition=~models.Q(kind='trust'),
                nulls_distinct=False,
                name='one_certificate_of_a_name',
            ),
            models.UniqueConstraint(
                fields=['name', 'fingerprint'], condition=models.Q(kind='trust'), name='trusted_once'
            ),
        ]

    def __str__(self) -> str:
        return f'{self.name} {self.common_name if self.kind == Kind.TRUST else self.place}'

    @property
    def place(self) -> str:
        """Whose it is: the product's Distribution."""
        return self.node.name if self.node is not None else str(_('Multi-Server(SAN)'))

    @property
    def own(self) -> bool:
        """Whether the administrator has put it there: the node does not renew it."""
        return self.origin != Origin.NODE


class CertificateKey(models.Model):
    """The private key of a certificate, sealed to a node (engine/contract/issuing.py)."""

    certificate = models.ForeignKey(Certificate, models.CASCADE, related_name='keys')
    node = models.ForeignKey('system.Node', models.CASCADE, related_name='+')
    sealed = models.TextField()

    class Meta:
        db_table = 'certificate_key'
        verbose_name_plural = _('Certificate keys')
        constraints = [models.UniqueConstraint(fields=['certificate', 'node'], name='one_key_per_node')]


class NodeKey(models.Model):
    """The public key to which what is meant for one node is sealed; written by the node at its start."""

    node = models.OneToOneField('system.Node', models.CASCADE, primary_key=True, related_name='+')
    public = models.CharField(max_length=64)

    class Meta:
        db_table = 'node_key'
        verbose_name_plural = _('Node keys')


class SecuritySettings(models.Model):
    """System > Security > Settings (guide 4945-4961, 4657-4675)."""

    client_secure_mode = models.BooleanField(
        _('Enable XMPP Client To IM/P Service Secure Mode'), default=True,
        help_text=_('Clients must use TLS. Without it they may sign in unencrypted, with SCRAM only.'),
    )  # fmt: skip
    wildcards = models.BooleanField(
        _('Enable Wildcards in XMPP Federation Security Certificates'), default=False,
        help_text=_('cup-xmpp-s2s also names *.DOMAIN for every hosted domain. Regenerate it on every node, in every '
                    'cluster.'),
    )  # fmt: skip

    class Meta:
        db_table = 'security_settings'
        verbose_name = _('Security Settings')
        verbose_name_plural = _('Security Settings')


class CertificateMonitor(models.Model):
    """Security > Certificate Monitor (guide 4843-4852)."""

    start_days = models.IntegerField(
        _('Notification Start Time'), default=30, validators=[MinValueValidator(1), MaxValueValidator(365)],
        help_text=_('Days before a certificate expires, 1 to 365.'),
    )  # fmt: skip
    frequency = models.IntegerField(
        _('Notification Frequency'), default=7, validators=[MinValueValidator(1), MaxValueValidator(365)],
        help_text=_('After so long it is told again, 1 to 365.'),
    )  # fmt: skip
    unit = models.CharField(
        _('Unit'), max_length=5, default='days', choices=[('days', _('Days')), ('hours', _('Hours'))],
        help_text=_('It is looked once a day, once an hour within the last day.'),
    )  # fmt: skip

    class Meta:
        db_table = 'certificate_monitor'
        verbose_name = _('Certificate Monitor')
        verbose_name_plural = _('Certificate Monitor')

    @property
    def frequency_h(self) -> int:
        """Hours between two notices."""
        return self.frequency * (24 if self.unit == 'days' else 1)
