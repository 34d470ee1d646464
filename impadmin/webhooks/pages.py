"""System > Webhooks: Webhooks, their deliveries, and whom they may reach."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.db import models
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from impadmin.console import visibility
from impadmin.console.access import Grants, Right
from impadmin.console.page import Column, Command, Fieldset, Help, Page, SettingsPage
from impadmin.console.registry import page_url, register
from impadmin.webhooks import actions, outbox
from impadmin.webhooks.models import Delivery, DeliveryState, Webhook, WebhookSettings

__all__ = ['outbox']
MARKS = {DeliveryState.PENDING: 'busy', DeliveryState.DELIVERED: 'ok', DeliveryState.FAILED: 'bad'}


def _state(webhook: Any) -> tuple[str, str]:
    if not webhook.active:
        return (
            ('bad', _('Deactivated: %(problem)s') % {'problem': webhook.problem})
            if webhook.failures
            else ('off', _('Off'))
        )
    return ('warn', webhook.problem) if webhook.failures else ('ok', _('Active'))


def _events(webhook: Any) -> str:
    chosen = ((webhook.on_changes, _('Changes')), (webhook.on_jobs, _('Jobs')), (webhook.on_alarms, _('Alarms')))
    return _(', ').join(text for on, text in chosen if on)


def _log(webhook: Any) -> tuple[str, str]:
    query = urlencode({'f': 'webhook__name', 'o': 'exactly', 'v': webhook.name})
    return f'{page_url("webhook-deliveries")}?{query}', _('Deliveries')


def _delivery_state(delivery: Any) -> tuple[str, str]:
    return MARKS[delivery.state], delivery.get_state_display()


def _deliveries() -> models.QuerySet[Delivery]:
    return Delivery.objects.select_related('webhook')


def _seen(rows: models.QuerySet[Delivery], who: Grants) -> models.QuerySet[Delivery]:
    """Deliveries about changes and jobs are for those who see every page."""
    return rows if visibility.sees_all(who) else rows.filter(event__in=('alarm', 'ping'))


WEBHOOKS = Page(
    name='webhooks',
    console='admin',
    area='webhooks',
    menu='System > Webhooks > Webhook',
    title=gettext_lazy('Webhooks'),
    right=Right.ADMINISTRATORS,
    intro=gettext_lazy('Other systems are told of changes, jobs and alarms by signed requests.'),
    help=Help(
        when=gettext_lazy('When another system should know at once what is changed or goes wrong here.'),
        effect=gettext_lazy(
            'Every event is sent at least once, in order for each object, again with growing pauses for two days. '
            'The header IMP-Signature has the time and an HMAC-SHA-256 of time and body.'
        ),
    ),
    related=('webhook-deliveries', 'webhook-settings'),
    model=Webhook,
    columns=(
        'name',
        'url',
        Column('events', gettext_lazy('Events'), value=_events),
        Column('state', gettext_lazy('Status'), value=_state, kind='state'),
        'last_at',
        Column('log', gettext_lazy('Deliveries'), value=_log, kind='link'),
    ),
    find=('name', 'url', 'active'),
    fieldsets=(
        Fieldset(gettext_lazy('Receiver'), ('name', 'url', 'active')),
        Fieldset(gettext_lazy('Events'), ('on_changes', 'on_jobs', 'on_alarms')),
    ),
    read_only=('last_at', 'created_at'),
    verbs=('add', 'edit', 'delete'),
    rules=(actions.url_is_reachable,),
    create=actions.create,
    update=actions.update,
    delete=actions.delete,
    ordering=('name',),
    commands=(
        Command('ping', gettext_lazy('Send Test'), actions.ping, when=actions.cannot_ping, at_once=True),
        Command('rotate-secret', gettext_lazy('Rotate Secret'), actions.rotate, confirm=actions.rotation),
    ),
    sample=lambda n: {'name': f'Ticket system {n}', 'url': f'https://hooks.example.com/imp/{n}', 'active': True},
    bad={
        'name': ('', 'x' * 101),
        'url': (
            '', 'hooks', 'ftp://hooks.example.com/', 'https://', 'https://me:pw@hooks.example.com/', 'https://a b/',
            'https://127.0.0.1/', 'https://[::1]/', 'https://169.254.169.254/latest', 'https://10.0.0.1/',
            'https://[::ffff:127.0.0.1]/', 'http://198.51.100.1/', 'https://0.0.0.0/', 'https://hooks.example.com:0/',
        ),
    },
)  # fmt: skip
DELIVERIES = Page(
    name='webhook-deliveries',
    console='admin',
    area='webhooks',
    menu='System > Webhooks > Webhook Deliveries',
    title=gettext_lazy('Webhook Deliveries'),
    right=Right.ADMINISTRATORS,
    intro=gettext_lazy('What was sent, what waits, and what receivers answered, for 14 days.'),
    help=Help(
        when=gettext_lazy('When a receiver has missed something, or says so.'),
        effect=gettext_lazy('Redeliver sends the same event again under the same id.'),
    ),
    related=('webhooks',),
    model=Delivery,
    queryset=_deliveries,
    seen_by=_seen,
    columns=(
        Column('id', gettext_lazy('ID'), order_by='id', kind='number'),
        'created_at',
        'webhook',
        'event',
        'subject',
        Column('result', gettext_lazy('Status'), value=_delivery_state, order_by='state', kind='state'),
        'attempts',
        'status',
        'answer',
        'milliseconds',
    ),
    find=('webhook__name', 'event', 'subject', 'state', 'created_at', 'answer'),
    verbs=(),
    ordering=('-id',),
    detail='webhooks/delivery.html',
    commands=(Command('redeliver', gettext_lazy('Redeliver'), actions.redeliver, scope='selection'),),
)
SETTINGS = SettingsPage(
    name='webhook-settings',
    console='admin',
    area='webhooks',
    menu='System > Webhooks > Webhook Settings',
    title=gettext_lazy('Webhook Settings'),
    right=Right.ADMINISTRATORS,
    intro=gettext_lazy('Whom webhooks may reach, and when they give up.'),
    help=Help(
        when=gettext_lazy('Before a webhook is added whose receiver is in a network of your own.'),
        effect=gettext_lazy('What is not public and not allowed here is refused, also after a name has been resolved.'),
    ),
    related=('webhooks',),
    model=WebhookSettings,
    fieldsets=(
        Fieldset(gettext_lazy('Reach'), ('allowed_networks',)),
        Fieldset(gettext_lazy('Patience'), ('disable_after', 'timeout_s')),
    ),
    rules=(actions.networks_are_networks,),
    configures=False,
    bad={'allowed_networks': ('everything', '10.0.0.1/8'), 'disable_after': (0, 1001), 'timeout_s': (0, 31)},
)
register(WEBHOOKS, DELIVERIES, SETTINGS)
