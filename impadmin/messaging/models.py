"""Messaging settings and stored offline instant messages."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


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
