"""Nodes, service activation and state, commands to nodes, service and enterprise parameters."""

from __future__ import annotations

import re
from typing import Any

from django.db import models, transaction
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
    active_jsm_sessions = models.IntegerField(_('Active Sessions'), default=0, db_default=0, editable=False)
    """Composed sessions that are active here, one of each user the node serves, connected or not."""
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

    def save(self, *args: Any, **kwargs: Any) -> None:
        """A node that is new gets a redundancy group: every node is always in exactly one (guide 2016)."""
        new = self._state.adding
        with transaction.atomic():
            super().save(*args, **kwargs)
            if new:
                RedundancyGroup.house(self)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        """The node leaves its group; a group without a node goes with it."""
        with transaction.atomic():
            group = RedundancyGroup.of(self)
            if group is not None:
                group.remove(self)
            return super().delete(*args, **kwargs)


DEFAULT_GROUP = 'DefaultCUPSubcluster'
"""The group of the first node (guide 9866)."""


class RedundancyGroup(models.Model):
    """Unified CM Administration > System > Presence Redundancy Groups: one node, or two that stand in for each other.

    Also called subcluster (guide 1999-2031, 2113-2133).
    """

    name = models.CharField(
        _('Name'), max_length=128, unique=True, help_text=_('1 to 128 letters, digits, underscores and hyphens.')
    )
    description = models.CharField(
        _('Description'), max_length=128, blank=True, help_text=_('At most 128 characters, without " % & \\ < >.')
    )
    server1 = models.ForeignKey(
        Node, models.CASCADE, related_name='+', verbose_name=_('Presence Server (1)'),
        help_text=_('A node that is in no other group. Active-Standby puts every user on this one.'),
    )  # fmt: skip
    server2 = models.ForeignKey(
        Node, models.SET_NULL, related_name='+', null=True, blank=True, verbose_name=_('Presence Server (2)'),
        help_text=_('The node that stands in for the first one, and the first one for it.'),
    )  # fmt: skip
    ha_enabled = models.BooleanField(
        _('Enable High Availability'), default=False,
        help_text=_('When a node or a critical service fails, the other node takes over its users.'),
    )  # fmt: skip
    ha_changed_at = models.DateTimeField(null=True, editable=False)
    """When High Availability was last switched on or off: the nodes need two minutes to settle (guide 1235)."""
    automatic = models.BooleanField(default=False, editable=False)
    """Made because its one node has no other group; it goes when the node is put into another."""

    class Meta:
        db_table = 'redundancy_group'
        verbose_name = _('Presence Redundancy Group')
        verbose_name_plural = _('Presence Redundancy Groups')
        constraints = [  # of what is there: the one in which a node is put has its automatic group deleted first
            models.UniqueConstraint(fields=['server1'], condition=models.Q(automatic=False), name='first_once'),
            models.UniqueConstraint(fields=['server2'], condition=models.Q(automatic=False), name='second_once'),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def nodes(self) -> list[Node]:
        """Its nodes, Presence Server (1) first."""
        return [node for node in (self.server1, self.server2) if node is not None]

    @classmethod
    def of(cls, node: Node) -> RedundancyGroup | None:
        """The group ``node`` is in."""
        return cls.objects.filter(models.Q(server1=node) | models.Q(server2=node)).first()

    @classmethod
    def house(cls, node: Node) -> None:
        """Give ``node`` a group of its own unless it is in one: the first group of a cluster is the default group."""
        if cls.of(node) is not None:
            return
        first = not cls.objects.exists()
        stem = DEFAULT_GROUP if first else re.sub(r'[^A-Za-z0-9_-]', '-', node.name)[:120]
        taken = {name.lower() for name in cls.objects.filter(name__istartswith=stem).values_list('name', flat=True)}
        names = (stem if n == 1 else f'{stem}-{n}' for n in range(1, len(taken) + 2))
        cls.objects.create(
            name=next(name for name in names if name.lower() not in taken), server1=node, automatic=not first
        )

    def remove(self, node: Node) -> None:
        """Take ``node`` out; what is left has one node and no High Availability, or nothing and is deleted."""
        if self.server1_id == node.pk:
            if self.server2 is None:
                self.delete()
                return
            self.server1 = self.server2
        self.server2 = None
        self.ha_enabled = False
        self.save()


class NodeRecovery(models.Model):
    """High availability of one node and of the users homed on it. The nodes write it; no row means Unknown."""

    node = models.OneToOneField(Node, models.CASCADE, primary_key=True, related_name='recovery')
    state = models.CharField(max_length=60)
    reason = models.CharField(max_length=80)
    since = models.DateTimeField()
    owner = models.ForeignKey(Node, models.CASCADE, related_name='owned_homes')
    """The node that serves the users homed on ``node`` now."""
    epoch = models.BigIntegerField(default=1, db_default=1)
    """Grows by one with every change of ``owner``."""
    lease_until = models.DateTimeField(null=True)
    """Until when ``owner`` may serve these users without asking again."""
    run_id = models.CharField(max_length=40, default='', db_default='')
    boot_id = models.CharField(max_length=40, default='', db_default='')
    peer_heard_at = models.DateTimeField(null=True)
    critical: models.JSONField[Any] = models.JSONField(default=dict, db_default={})
    """Service key -> ``{"up": bool, "down_since": ISO time or null}``."""
    record: models.JSONField[Any] = models.JSONField(default=dict, db_default={})
    """Private to the recovery manager: the running transition, its step, who began it."""
    progress = models.IntegerField(null=True)
    """Users moved so far in the running step, of ``total``."""
    total = models.IntegerField(null=True)

    class Meta:
        db_table = 'node_recovery'
        verbose_name_plural = _('Node recovery states')


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
