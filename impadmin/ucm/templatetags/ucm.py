"""Facts about one end user for the panel of the user page."""

from __future__ import annotations

from collections import Counter
from typing import Any

from django import template
from django.utils.translation import gettext as _

from engine.contract import phones
from impadmin.console.registry import page_url
from impadmin.presence.models import PresenceSettings, UserPresencePolicy
from impadmin.ucm import ldap_sync
from impadmin.ucm.models import WITHOUT_PRESENCE, EndUser, LdapDirectory, UserProfile
from impadmin.ucm.pages import user_state
from impadmin.ucm.phone_settings import model_of

register = template.Library()
LOCATIONS = 'http://jabber.org/protocol/geoloc'
SUBSCRIPTIONS = ('none', 'to', 'from', 'both')


@register.simple_tag
def contact_list_facts(user: EndUser) -> dict[str, Any]:
    """Counts against limits, groups with their sizes, pending requests of one user (TRB-19)."""
    limits = PresenceSettings.objects.get_or_create(pk=1)[0]
    groups: Counter[str] = Counter()
    ungrouped = 0
    waiting = 0
    without_presence = 0
    entries = user.roster.annotate(without_presence=WITHOUT_PRESENCE)
    for names, is_contact, pending, known in entries.values_list(
        'groups', 'is_contact', 'pending_in', 'without_presence'
    ):
        waiting += pending
        if not is_contact:
            continue
        without_presence += known
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
        'without_presence': without_presence,
        'locations': sum(user.pubsub_nodes.filter(name=LOCATIONS).values_list('items', flat=True)),
        'offline': user.offline_messages.count(),
        **_availability(user, limits),
    }


def _availability(user: EndUser, settings: PresenceSettings) -> dict[str, str]:
    """Why others see the user or do not, and how requests are answered: the user's word or the cluster's."""
    policy = UserPresencePolicy.objects.filter(pk=user.pk).first() or UserPresencePolicy()
    if not settings.availability_sharing:
        sharing = 'off', _('Off for the cluster')
    elif policy.sharing is False:
        sharing = 'warn', _('Off by the user')
    else:
        sharing = 'ok', _('On by the user') if policy.sharing else _('On for the cluster')
    if policy.automatic is None:
        approval = _('Automatic for the cluster') if settings.auto_approve else _('The cluster lets the user decide')
    else:
        approval = _('Automatic, chosen by the user') if policy.automatic else _('The user wants to be asked')
    return {'sharing_mark': sharing[0], 'sharing': sharing[1], 'approval': approval}


def _percent(count: int, limit: int | None) -> int:
    return min(100, round(100 * count / limit)) if limit else 0


@register.simple_tag
def line_facts(user: EndUser) -> dict[str, Any]:
    """The user profile in force, what the line follows from it, and the devices, as clients are told them."""
    profile = user.user_profile or UserProfile.objects.filter(is_default=True).first()
    template = profile.line_template if profile is not None else None
    mask = template.external_mask if template is not None else ''
    return {
        'profile': profile,
        'number': phones.external_number(mask, user.extension),
        'devices': [
            (page_url('phones', 'edit', one.pk), one.name, model_of(one)) for one in user.phones.order_by('name')
        ],
    }


@register.simple_tag
def ldap_runs(row: LdapDirectory) -> list[dict[str, Any]]:
    """The newest synchronizations of a directory."""
    return ldap_sync.facts(row)
