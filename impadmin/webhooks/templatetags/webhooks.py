"""Template tag of the page of one delivery."""

from __future__ import annotations

import json
from typing import Any

from django import template

from impadmin.webhooks.models import Delivery, DeliveryState
from impadmin.webhooks.pages import MARKS

register = template.Library()


@register.simple_tag
def delivery_facts(delivery: Delivery) -> dict[str, Any]:
    """What ``webhooks/delivery.html`` draws: the mark of the state, whether it will be sent again, the data as JSON."""
    return {
        'mark': MARKS[delivery.state],
        'waits': delivery.state == DeliveryState.PENDING,
        'data': json.dumps(delivery.data, ensure_ascii=False, indent=2, sort_keys=True, default=str),
    }
