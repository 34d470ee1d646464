"""Peer clusters (guide chapter 13): how they are reached, and what they last said about themselves.

Everything but ``InterclusterPeer`` is a copy of what the peer has: the synchronisation replaces it, nobody edits it.
"""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils.translation import gettext_lazy as _


class ClusterIdentity(models.Model):
    """One row, id 1: by what other clusters know this one, whatever it is called."""

    uid = models.UUIDField(default=uuid.uuid4)

    class Meta:
        db_table = 'cluster_identity'
        verbose_name_plural = _('Cluster identity')


class PeerState(models.TextChoices):
    """What the last synchronisation came to."""

    NEW = 'new', _('Not synchronised yet')
    SYNCED = 'synced', _('Synchronised')
    FAILED = 'failed', _('Failed')


class InterclusterPeer(models.Model):
    """Presence > Inter-Clustering: one peer cluster."""

    address = models.CharField(
        _('Peer Address'), max_length=255, unique=True,
        help_text=_('Name or address of the publisher of the peer cluster, as its Cluster Topology shows it. '
                    'Its console answers there.'),
    )  # fmt: skip
    port = models.PositiveIntegerField(
        _('Port'), default=443, validators=[MinValueValidator(1), MaxValueValidator(65535)],
        help_text=_('Where its console answers over HTTPS.'),
    )  # fmt: skip
    fingerprint = models.CharField(
        _('Certificate Fingerprint'), max_length=95, blank=True,
        help_text=_('SHA-256 of the certificate that its console shows; nothing is sent to anybody who shows another. '
                    'Empty: the peer is asked, and what it shows is offered for comparison.'),
    )  # fmt: skip
    description = models.CharField(_('Description'), max_length=128, blank=True, help_text=_('At most 128 characters.'))
    sealed = models.TextField(default='', editable=False)
    """The token, encrypted (console/sealed.py)."""
    created_at = models.DateTimeField(_('Created'), auto_now_add=True)
    # written by the synchronisation
    uid = models.UUIDField(null=True, editable=False)
    cluster = models.CharField(_('Cluster ID'), max_length=50, blank=True, editable=False)
    state = models.CharField(
        _('Status'), max_length=10, choices=PeerState.choices, default=PeerState.NEW, editable=False
    )
    problem = models.TextField(_('Last error'), blank=True, editable=False)
    synced_at = models.DateTimeField(_('Last synchronisation'), null=True, editable=False)
    tried_at = models.DateTimeField(null=True, editable=False)
    next_at = models.DateTimeField(_('Next synchronisation'), null=True, editable=False)
    """None: at once."""
    users = models.IntegerField(_('Associated Users'), default=0, editable=False)
    duplicates = models.IntegerField(_('Duplicate users'), default=0, editable=False)
    duplicate_names: models.JSONField[Any] = models.JSONField(default=list, editable=False)
    """The first of them."""
    recoveries = models.IntegerField(default=0, editable=False)
    """How often its failures had the agent restarted since the last success."""
    version = models.BigIntegerField(default=0, editable=False)
    """Grows with every change of what is copied: what engines compare."""

    class Meta:
        db_table = 'intercluster_peer'
        verbose_name = _('Inter-cluster Peer')
        verbose_name_plural = _('Inter-cluster Peers')

    def __str__(self) -> str:
        return self.address


class PeerNode(models.Model):
    """A node of a peer cluster."""

    peer = models.ForeignKey(InterclusterPeer, models.CASCADE, related_name='nodes')
    remote_id = models.BigIntegerField()
    """Its id over there."""
    name = models.CharField(max_length=255)
    address = models.CharField(max_length=255)
    port = models.IntegerField()
    publisher = models.BooleanField(default=False)
    certificate = models.TextField(blank=True)
    """PEM; what it shows on links between clusters. '': it has never been started."""

    class Meta:
        db_table = 'intercluster_node'
        verbose_name_plural = _('Nodes of peer clusters')
        constraints = [models.UniqueConstraint(fields=['peer', 'remote_id'], name='intercluster_node_once')]

    def __str__(self) -> str:
        return self.name


class PeerUsers(models.Model):
    """The users of a peer whose address falls into one of 256 buckets: what is compared and replaced as a whole.
    ``nodes`` has the id of the home node (``PeerNode.remote_id``) of the address at the same place."""

    peer = models.ForeignKey(InterclusterPeer, models.CASCADE, related_name='buckets')
    bucket = models.SmallIntegerField()
    digest = models.CharField(max_length=32)
    addresses = ArrayField(models.TextField())
    nodes = ArrayField(models.BigIntegerField())

    class Meta:
        db_table = 'intercluster_users'
        verbose_name_plural = _('Users of peer clusters')
        constraints = [models.UniqueConstraint(fields=['peer', 'bucket'], name='intercluster_users_once')]


class PeerDomain(models.Model):
    """An IM address domain of a peer."""

    peer = models.ForeignKey(InterclusterPeer, models.CASCADE, related_name='domains')
    key = models.CharField(max_length=255)
    name = models.CharField(max_length=255)
    configured = models.BooleanField()
    users = models.IntegerField()

    class Meta:
        db_table = 'intercluster_domain'
        verbose_name_plural = _('Domains of peer clusters')
        constraints = [models.UniqueConstraint(fields=['peer', 'key'], name='intercluster_domain_once')]


class PeerLink(models.Model):
    """The link from a node here to a node of a peer cluster, written by the node here."""

    node = models.ForeignKey('system.Node', models.CASCADE, related_name='peer_links')
    other = models.ForeignKey(PeerNode, models.CASCADE, related_name='links')
    up = models.BooleanField()
    since = models.DateTimeField()

    class Meta:
        db_table = 'intercluster_link'
        verbose_name_plural = _('Links to peer clusters')
        constraints = [models.UniqueConstraint(fields=['node', 'other'], name='intercluster_link_once')]
