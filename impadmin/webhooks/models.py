"""Webhooks, what they still have to send and have sent, and whom they may reach."""

from __future__ import annotations

import uuid
from typing import Any

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils.translation import gettext_lazy as _


class Webhook(models.Model):
    """An address of another system that is told what happens here."""

    name = models.CharField(_('Name'), max_length=100, unique=True, help_text=_('1 to 100 characters.'))
    url = models.CharField(
        _('URL'), max_length=500,
        help_text=_('An https address. http is taken for the networks that Webhook Settings allow.'),
    )  # fmt: skip
    on_changes = models.BooleanField(
        _('Changes'), default=True, help_text=_('Everything that History shows, except sign-ins.')
    )
    on_jobs = models.BooleanField(_('Jobs'), default=False, help_text=_('Bulk jobs that have ended.'))
    on_alarms = models.BooleanField(_('Alarms'), default=False, help_text=_('Alarms that are raised or cleared.'))
    active = models.BooleanField(
        _('Active'), default=True, help_text=_('Off: nothing is sent, and new events are not kept for it.')
    )
    sealed = models.TextField(editable=False)
    sealed_before = models.TextField(editable=False, blank=True, db_default='')
    before_until = models.DateTimeField(editable=False, null=True)
    failures = models.IntegerField(_('Failures in a row'), default=0, editable=False)
    problem = models.CharField(_('Last problem'), max_length=300, blank=True, db_default='', editable=False)
    last_at = models.DateTimeField(_('Last sent'), null=True, editable=False)
    created_at = models.DateTimeField(_('Created'), auto_now_add=True)

    class Meta:
        db_table = 'webhook'
        verbose_name = _('Webhook')
        verbose_name_plural = _('Webhooks')

    def __str__(self) -> str:
        return self.name


class DeliveryState(models.TextChoices):
    """How far a delivery is."""

    PENDING = 'pending', _('Waiting')
    DELIVERED = 'delivered', _('Delivered')
    FAILED = 'failed', _('Failed')


class Delivery(models.Model):
    """One event for one webhook. Written in the transaction of the event, so none is lost."""

    webhook = models.ForeignKey(Webhook, models.CASCADE, related_name='deliveries', verbose_name=_('Webhook'))
    uuid = models.UUIDField(_('Delivery'), default=uuid.uuid4, unique=True)
    event = models.CharField(_('Event'), max_length=20)
    subject = models.CharField(_('About'), max_length=250)
    """What must be told in order: one object, one job, one alarm of one node."""
    data: models.JSONField[Any] = models.JSONField(_('Data'))
    state = models.CharField(_('Status'), max_length=10, choices=DeliveryState.choices, default=DeliveryState.PENDING)
    attempts = models.IntegerField(_('Attempts'), default=0)
    created_at = models.DateTimeField(_('Time'), auto_now_add=True)
    next_at = models.DateTimeField(_('Next attempt'))
    sent_at = models.DateTimeField(_('Last attempt'), null=True)
    status = models.IntegerField(_('HTTP status'), null=True)
    milliseconds = models.IntegerField(_('Milliseconds'), null=True)
    answer = models.CharField(_('Answer'), max_length=300, blank=True, db_default='')

    class Meta:
        db_table = 'webhook_delivery'
        verbose_name = _('Webhook delivery')
        verbose_name_plural = _('Webhook deliveries')
        indexes = [
            models.Index(
                fields=['webhook', 'subject', 'id'], condition=models.Q(state='pending'), name='delivery_pending'
            ),
            models.Index(fields=['created_at'], name='delivery_created'),
        ]

    def __str__(self) -> str:
        return f'{self.event}: {self.subject}'


class ToldAlarm(models.Model):
    """An alarm that webhooks were told of."""

    alarm = models.BigIntegerField(primary_key=True)
    cleared = models.BooleanField(default=False)

    class Meta:
        db_table = 'webhook_alarm'
        verbose_name_plural = _('Alarms told')


class WebhookSettings(models.Model):
    """Whom webhooks may reach, and how long they try."""

    allowed_networks = models.TextField(
        _('Allowed Private Networks'), blank=True, default='',
        help_text=_(
            'Webhooks reach public addresses only. Name the networks of your own that they may reach too, '
            'one a line, e.g. 192.0.2.0/24.'
        ),
    )  # fmt: skip
    disable_after = models.IntegerField(
        _('Deactivate After Failures'), default=20, validators=[MinValueValidator(1), MaxValueValidator(1000)],
        help_text=_('A webhook is deactivated after so many failures in a row, 1 to 1000.'),
    )  # fmt: skip
    timeout_s = models.IntegerField(
        _('Time for an Answer'), default=5, validators=[MinValueValidator(1), MaxValueValidator(30)],
        help_text=_('1 to 30 seconds.'),
    )  # fmt: skip

    class Meta:
        db_table = 'webhook_settings'
        verbose_name = _('Webhook Settings')
        verbose_name_plural = _('Webhook Settings')
