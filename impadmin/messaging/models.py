"""Messaging settings and stored offline instant messages."""

from __future__ import annotations

from typing import Any

from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from impadmin.messaging.chat_models import ChatRoomSettings as ChatRoomSettings
from impadmin.messaging.chat_models import GroupChatAdministrator as GroupChatAdministrator
from impadmin.messaging.chat_models import GroupChatAlias as GroupChatAlias
from impadmin.messaging.chat_models import GroupChatSettings as GroupChatSettings


class MessagingSettings(models.Model):
    """Messaging > Settings (guide 5574-5589): one row, id 1."""

    im_enabled = models.BooleanField(
        _('Enable instant messaging'), default=True,
        help_text=_('When this is off, instant messages are refused. Availability still works.'),
    )  # fmt: skip
    suppress_offline = models.BooleanField(
        _('Suppress Offline Instant Messaging'), default=False,
        help_text=_('When this is on, messages to users who are not signed in are refused instead of stored.'),
    )  # fmt: skip
    client_history = models.BooleanField(
        _('Allow clients to log instant message history (on supported clients only)'), default=True,
        help_text=_('A policy handed to clients; the server cannot enforce it.'),
    )  # fmt: skip
    cut_and_paste = models.BooleanField(
        _('Allow cut & paste in instant messages'), default=True,
        help_text=_('A policy handed to clients; the server cannot enforce it.'),
    )  # fmt: skip

    class Meta:
        db_table = 'messaging_settings'
        verbose_name = _('Settings')


class OfflineMessage(models.Model):
    """One instant message waiting for its user (XEP-0160). Written and deleted by the engine."""

    user = models.ForeignKey('ucm.EndUser', models.CASCADE, related_name='offline_messages')
    stored_at = models.DateTimeField()
    stanza = models.BinaryField()

    class Meta:
        db_table = 'offline_message'
        verbose_name_plural = _('Offline messages')
        indexes = [models.Index(fields=['user', 'id'])]


class ArchivedMessage(models.Model):
    """One instant message in the archive of one user (XEP-0313). Written, read and deleted by the engine.

    The id is a UUID of version 7, so it holds the time, and rows of a user are in order of time by their key.
    """

    pk = models.CompositePrimaryKey('user_id', 'id')
    user = models.ForeignKey('ucm.EndUser', models.CASCADE, related_name='archived_messages', db_index=False)
    id = models.UUIDField()
    peer = models.TextField()
    """Bare JID of the other side."""
    resource = models.TextField()
    """Resource of the other side, '' when it was addressed or spoke without one."""
    stanza = models.BinaryField()

    class Meta:
        db_table = 'archive_message'
        verbose_name_plural = _('Archived messages')
        indexes = [
            models.Index(fields=['user', 'peer', 'id']),
            BrinIndex(fields=['id'], pages_per_range=32, name='archive_message_age'),
        ]


class ArchiveAccount(models.Model):
    """Size of a user's archive, and what the user wants in it (XEP-0441). Written by the engine."""

    user = models.OneToOneField('ucm.EndUser', models.CASCADE, primary_key=True, related_name='archive_account')
    messages = models.IntegerField()
    preferences: models.JSONField[Any] = models.JSONField(null=True)
    """{default: always, never or roster; always: [JIDs]; never: [JIDs]}; null: the user decided nothing."""

    class Meta:
        db_table = 'archive_account'
        verbose_name_plural = _('Archives')


class ExternalComponent(models.Model):
    """A program that serves a domain of its own through Cisco XCP Router (XEP-0114)."""

    domain = models.CharField(
        _('Component domain'), max_length=255, unique=True,
        help_text=_('The domain the component serves, for example gateway.example.com. No user has an address in it.'),
    )  # fmt: skip
    name = models.CharField(
        _('Description'), max_length=100, blank=True,
        help_text=_('What clients show in the list of services.'),
    )  # fmt: skip
    secret = models.CharField(_('Secret'), max_length=200, editable=False)

    class Meta:
        db_table = 'external_component'
        verbose_name = _('External component')
        verbose_name_plural = _('External components')

    def __str__(self) -> str:
        return self.domain


class SessionsReport(models.Model):
    """One run of the IM and Presence User Sessions Report. Its nodes write their part (engine/store/session_report.py)
    and the last one finishes it, which removes the reports before it."""

    requested_by = models.CharField(max_length=150)
    requested_at = models.DateTimeField(auto_now_add=True)
    nodes = models.IntegerField()
    """How many nodes were asked."""
    finished_at = models.DateTimeField(null=True)

    class Meta:
        db_table = 'sessions_report'
        verbose_name_plural = _('Session reports')


class SessionsTotal(models.Model):
    """A row of the report: the cluster (no group, no node), a presence redundancy group (no node), or one node."""

    report = models.ForeignKey(SessionsReport, models.CASCADE, related_name='totals')
    redundancy_group = models.CharField(_('Presence Redundancy Group'), max_length=255, blank=True)
    node = models.CharField(_('Node Name'), max_length=255, blank=True)
    one_device = models.IntegerField(_('Users logged in from one device'))
    several_devices = models.IntegerField(_('Users logged in from multiple devices'))
    sessions = models.IntegerField(_('Number of Sessions'))
    composed = models.IntegerField(_('Composed sessions'), db_default=0)
    internal = models.IntegerField(_('Internal sessions'), db_default=0)
    off_site = models.IntegerField(_('Off-site sessions'), db_default=0)
    phantom = models.IntegerField(_('Phantom sessions'), db_default=0)

    class Meta:
        db_table = 'sessions_total'
        verbose_name = _('User Sessions Report')
        verbose_name_plural = _('User Sessions Reports')
        constraints = [
            models.UniqueConstraint(fields=['report', 'redundancy_group', 'node'], name='one_total_per_node')
        ]

    def __str__(self) -> str:
        return self.node or self.redundancy_group or gettext('Cluster')


class UserSessions(models.Model):
    """A user of one report: a snapshot, so it names and does not refer."""

    report = models.ForeignKey(SessionsReport, models.CASCADE, related_name='users')
    redundancy_group = models.CharField(_('Presence Redundancy Group'), max_length=255, blank=True, db_default='')
    node = models.CharField(_('Node Name'), max_length=255)
    user_id = models.CharField(_('User ID'), max_length=255)
    address = models.CharField(_('IM Address'), max_length=3071)
    sessions = models.IntegerField(_('Number of Sessions'))
    devices = models.CharField(_('Device Type'), max_length=255)

    class Meta:
        db_table = 'user_sessions'
        verbose_name = _('Sessions of a user')
        verbose_name_plural = _('Sessions of users')
        indexes = [models.Index(fields=['report', 'node', 'user_id'])]

    def __str__(self) -> str:
        return self.user_id
