"""How many users are at the limits of Standard Configuration."""

from __future__ import annotations

from django import template

from impadmin.presence.models import PresenceSettings
from impadmin.ucm.models import EndUser

register = template.Library()


@register.simple_tag
def limit_facts() -> dict[str, int]:
    """Users at the saved contact list limit and at the saved watcher limit."""
    limits = PresenceSettings.objects.get_or_create(pk=1)[0]
    return {
        name: EndUser.objects.filter(**{f'{column}__gte': limit}).count() if limit is not None else 0
        for name, column, limit in (
            ('contacts', 'contact_count', limits.max_contacts),
            ('watchers', 'watcher_count', limits.max_watchers),
        )
    }
