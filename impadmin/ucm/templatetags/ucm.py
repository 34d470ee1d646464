"""Facts about one end user for the panel of the user page."""

from __future__ import annotations

from collections import Counter
from typing import Any

from django import template

from impadmin.presence.models import PresenceSettings
from impadmin.ucm.models import EndUser
from impadmin.ucm.pages import user_state

register = template.Library()
SUBSCRIPTIONS = ('none', 'to', 'from', 'both')


@register.simple_tag
def contact_list_facts(user: EndUser) -> dict[str, Any]:
    """Counts against limits, groups with their sizes, pending requests of one user (TRB-19)."""
    limits = PresenceSettings.objects.get_or_create(pk=1)[0]
    groups: Counter[str] = Counter()
    ungrouped = 0
    waiting = 0
    for names, is_contact, pending in user.roster.values_list('groups', 'is_contact', 'pending_in'):
        waiting += pending
        if not is_contact:
            continue
        groups.update(set(names))
        ungrouped += not names
    return {
        'state': user_state(user),
        'contacts': user.contact_count,
        'max_contacts': limits.max_contacts,
        'at_contact_limit': limits.max_contacts is not None and user.contact_count >= limits.max_contacts,
        'contacts_percent': _percent(user.contact_count, limits.max_contacts),
        'watchers': user.watcher_count,
        'max_watchers': limits.max_watchers,
        'at_watcher_limit': limits.max_watchers is not None and user.watcher_count >= limits.max_watchers,
        'watchers_percent': _percent(user.watcher_count, limits.max_watchers),
        'groups': sorted(groups.items()),
        'ungrouped': ungrouped,
        'waiting': waiting,
        'offline': user.offline_messages.count(),
    }


def _percent(count: int, limit: int | None) -> int:
    return min(100, round(100 * count / limit)) if limit else 0
