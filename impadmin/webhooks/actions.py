"""Writers, rules and commands of the webhook pages."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext

from impadmin.console import roles
from impadmin.console.access import grants
from impadmin.console.actions import Actor, Refused
from impadmin.console.page import Result
from impadmin.webhooks import delivery, guard, outbox, signing
from impadmin.webhooks.models import Delivery, DeliveryState, Webhook

MOST = 50
"""Most webhooks."""


def create(actor: Actor, values: Mapping[str, Any]) -> Webhook:
    """Add a webhook with its first secret, which is shown once."""
    if Webhook.objects.count() >= MOST:
        raise Refused(gettext('There are %(most)d webhooks. Delete one that is not used.') % {'most': MOST})
    webhook = Webhook(**values)
    _require_sight(actor, webhook)
    clear = signing.new_secret(webhook, timezone.now())
    webhook.save()
    webhook.shown_once = {'secret': clear}  # type: ignore[attr-defined]
    return webhook


def update(actor: Actor, webhook: Webhook, values: Mapping[str, Any]) -> Webhook:
    """Change a webhook; one that is activated again begins without failures."""
    again = values.get('active', webhook.active) and not webhook.active
    for name, value in values.items():
        setattr(webhook, name, value)
    _require_sight(actor, webhook)
    webhook.save(update_fields=[*values])
    if again:
        delivery.settle(webhook)
    return webhook


def _require_sight(actor: Actor, webhook: Webhook) -> None:
    """Changes and jobs of every page are told: nobody has them sent who may not see them himself."""
    if webhook.on_changes or webhook.on_jobs:
        roles.require_covered(actor.grants, grants(['*:view']))


def delete(actor: Actor, webhook: Webhook) -> None:
    """Delete a webhook with its deliveries."""
    delivery.settle(webhook)
    webhook.delete()


def url_is_reachable(webhook: Webhook, before: Any) -> None:
    """The address is one; an IP address may be reached, http only within allowed networks."""
    allowed = guard.networks(delivery.settings().allowed_networks)
    try:
        where = guard.target(webhook.url)
        try:
            address = ipaddress.ip_address(where.host)
        except ValueError:
            return
        if text := guard.refusal(address, where.secure, allowed):
            raise ValidationError(text)
    except ValidationError as error:
        raise ValidationError({'url': error.messages}) from None


def networks_are_networks(row: Any, before: Any) -> None:
    """Each line is a network."""
    try:
        guard.networks(row.allowed_networks)
    except ValidationError as error:
        raise ValidationError({'allowed_networks': error.messages}) from None


def rotate(actor: Actor, objects: Sequence[Any], data: Mapping[str, Any]) -> Result:
    """A new secret; the old one signs, too, for a day."""
    webhook = objects[0]
    clear = signing.new_secret(webhook, timezone.now())
    webhook.save(update_fields=['sealed', 'sealed_before', 'before_until'])
    text = gettext('The secret of %(name)s is replaced. For 24 hours both secrets sign.')
    return Result(text % {'name': webhook}, shown_once={'secret': clear})


def rotation(objects: Sequence[Any]) -> str:
    """What rotating means."""
    return gettext('Deliveries carry signatures with both secrets for 24 hours. Give the new one to the receiver.')


def ping(actor: Actor, objects: Sequence[Any], data: Mapping[str, Any]) -> Result:
    """Send an event that means nothing."""
    outbox.tell('ping', 'ping', {'text': 'Hello'}, to=objects[0])
    return Result(gettext('A test is on its way. Its result is in Webhook Deliveries.'))


def cannot_ping(webhook: Any) -> str:
    """Why no test is sent, or ''."""
    return '' if webhook.active else gettext('The webhook is not active.')


def redeliver(actor: Actor, objects: Sequence[Any], data: Mapping[str, Any]) -> Result:
    """Send again: the same event under the same id."""
    keys = [one.pk for one in objects if one.state != DeliveryState.PENDING or one.attempts]
    now = timezone.now()
    count = Delivery.objects.filter(pk__in=keys).update(state=DeliveryState.PENDING, attempts=0, next_at=now)
    transaction.on_commit(outbox.wake)
    return Result(gettext('%(count)d deliveries are sent again.') % {'count': count})
