"""How many users are at the limits of Standard Configuration."""

from __future__ import annotations

from django import template
from django.db.models import Count, Q

from impadmin.presence.models import PresenceSettings
from impadmin.ucm.models import EndUser

register = template.Library()


@register.simple_tag
def limit_facts() -> dict[str, int]:
    """Users at the saved contact list limit and at the saved watcher limit."""
    limits = PresenceSettings.objects.get_or_create(pk=1)[0]
    at = {'contacts': ('contact_count', limits.max_contacts), 'watchers': ('watcher_count', limits.max_watchers)}
    counts = {
        name: Count('pk', filter=Q(**{f'{column}__gte': limit}))
        for name, (column, limit) in at.items()
        if limit is not None
    }
    return dict.fromkeys(at, 0) | (EndUser.objects.aggregate(**counts) if counts else {})
