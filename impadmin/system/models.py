"""Nodes, service activation and state, commands to nodes, service and enterprise parameters."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.utils.translation import gettext_lazy as _


class Node(models.Model):
    """One IM and Presence node. The first one is the publisher."""

    name = models.CharField(
        _('Node Name'), max_length=255, unique=True,
        help_text=_('Host name or FQDN of the node. An engine started with this name becomes this node.'),
    )  # fmt: skip
    address = models.CharField(
        _('Fully Qualified Domain Name/IP Address'), max_length=255,
        help_text=_('Where clients and other nodes reach it.'),
    )  # fmt: skip
    description = models.CharField(_('Description'), max_length=128, blank=True, help_text=_('At most 128 characters.'))
    publisher = models.BooleanField(_('Publisher'), default=False, editable=False)
    created_at = models.DateTimeField(_('Created'), auto_now_add=True)
    # written by the node itself
    heartbeat_at = models.DateTimeField(_('Last heard from'), null=True, editable=False)
    started_at = models.DateTimeField(_('Started'), null=True, editable=False)
    generation = models.BigIntegerField(_('Configuration generation'), default=0, editable=False)
    sessions = models.IntegerField(_('Sessions'), default=0, editable=False)
    """Connected client sessions."""
    users_online = models.IntegerField(_('Users online'), default=0, editable=False)
    loop_lag_ms = models.FloatField(_('Event loop lag'), default=0, editable=False)
    version = models.CharField(_('Version'), max_length=40, blank=True, editable=False)
    metrics_url = models.CharField(max_length=200, blank=True, editable=False)
    link_certificate = models.TextField(blank=True, default='', editable=False)
    """PEM certificate the node shows to the other nodes (decision 0011)."""

    class Meta:
        db_table = 'node'
        verbose_name = _('Node')
        verbose_name_plural = _('Nodes')

    def __str__(self) -> str:
        return self.name


class ServiceActivation(models.Model):
    """A feature service that is activated on a node."""

    node = models.ForeignKey(Node, models.CASCADE, related_name='activations')
    service = models.CharField(max_length=60)

    class Meta:
        db_table = 'service_activation'
        verbose_name_plural = _('Service activations')
        constraints = [models.UniqueConstraint(fields=['node', 'service'], name='activated_once')]


class ServiceStatus(models.Model):
    """State of one service on one node, written by the node."""

    node = models.ForeignKey(Node, models.CASCADE, related_name='services')
    service = models.CharField(max_length=60)
    state = models.CharField(max_length=20)
    since = models.DateTimeField()
    generation = models.BigIntegerField(default=0)
    """The configuration generation it started with; 0 when it does not run."""
    detail = models.CharField(max_length=400, blank=True)

    class Meta:
        db_table = 'service_status'
        verbose_name_plural = _('Service states')
        constraints = [models.UniqueConstraint(fields=['node', 'service'], name='one_status_per_service')]


class ServiceCommand(models.Model):
    """A command to one node, executed in order of id: start, stop, restart of a service."""

    node = models.ForeignKey(Node, models.CASCADE, related_name='commands')
    service = models.CharField(max_length=60)
    verb = models.CharField(max_length=20)
    requested_by = models.CharField(max_length=150)
    requested_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True)
    error = models.CharField(max_length=400, blank=True)

    class Meta:
        db_table = 'service_command'
        verbose_name_plural = _('Service commands')
        indexes = [models.Index(fields=['node', 'finished_at', 'id'])]


class ParameterValue(models.Model):
    """A service or enterprise parameter that differs from its default. ``service`` is '' for enterprise parameters."""

    service = models.CharField(max_length=60, blank=True)
    name = models.CharField(max_length=60)
    node = models.ForeignKey(Node, models.CASCADE, null=True, related_name='parameters')
    value: models.JSONField[Any] = models.JSONField()

    class Meta:
        db_table = 'parameter_value'
        verbose_name_plural = _('Parameter values')
        constraints = [
            models.UniqueConstraint(
                fields=['service', 'name', 'node'], name='one_parameter_value', nulls_distinct=False
            )
        ]


class Alarm(models.Model):
    """An alarm a node or a job raised; open until cleared."""

    name = models.CharField(_('Alarm'), max_length=100)
    node = models.ForeignKey(Node, models.CASCADE, null=True, related_name='alarms')
    severity = models.CharField(_('Severity'), max_length=10)
    text = models.TextField(_('Text'))
    raised_at = models.DateTimeField(_('Since'), auto_now_add=True)
    cleared_at = models.DateTimeField(_('Cleared'), null=True)

    class Meta:
        db_table = 'alarm'
        verbose_name_plural = _('Alarms')
        indexes = [models.Index(fields=['cleared_at', '-raised_at'])]


class IncomingAcl(models.Model):
    """System > Security > Incoming ACL (guide 3967, 12522): one entry of the list."""

    description = models.CharField(_('Description'), max_length=128, help_text=_('1 to 128 characters.'))
    address_pattern = models.CharField(
        _('Address Pattern'), max_length=255, unique=True,
        help_text=_('An IP address, a network such as 192.0.2.0/24, a host or domain name, or ALL.'),
    )  # fmt: skip

    class Meta:
        db_table = 'incoming_acl'
        verbose_name = _('Incoming ACL')
        verbose_name_plural = _('Incoming ACLs')

    def __str__(self) -> str:
        return self.address_pattern
