"""The default profile of its kind: one at most, and who has which profile in the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import models
from django.utils.translation import gettext as _

from impadmin.console import audit, registry
from impadmin.console.actions import Actor
from impadmin.ucm.models import EndUser, ServiceProfile, UserProfile

PAGES: dict[type[models.Model], str] = {ServiceProfile: 'service-profiles', UserProfile: 'user-profiles'}


def create_service_profile(actor: Actor, values: Mapping[str, Any]) -> ServiceProfile:
    """Add a service profile."""
    profile = ServiceProfile(**values)
    _save(actor, profile)
    return profile


def create_user_profile(actor: Actor, values: Mapping[str, Any]) -> UserProfile:
    """Add a user profile."""
    profile = UserProfile(**values)
    _save(actor, profile)
    return profile


def update(actor: Actor, profile: Any, values: Mapping[str, Any]) -> None:
    """Change a profile."""
    for name, value in values.items():
        setattr(profile, name, value)
    _save(actor, profile)


def _save(actor: Actor, profile: Any) -> None:
    """Save; when it becomes the default, the present one no longer is, which its history tells."""
    if profile.is_default:
        page = registry.page(PAGES[type(profile)])
        for other in type(profile).objects.select_for_update().filter(is_default=True).exclude(pk=profile.pk):
            before = audit.snapshot(other)
            other.is_default = False
            other.save(update_fields=['is_default'])
            audit.record(actor, 'update', page, other, before, audit.snapshot(other))
    profile.save()


def users_of_profile(profiles: Any) -> int:
    """How many users have one of these service profiles, by themselves or by default."""
    own = models.Q(service_profile__in=profiles)
    by_default = models.Q(service_profile=None) if any(one.is_default for one in profiles) else models.Q(pk=None)
    return EndUser.objects.filter(own | by_default).count()


def users_of_service(services: Any) -> int:
    """How many users have a service profile that names one of these UC services."""
    places = [models.Q(**{f'imp_{place}__in': services}) for place in ('primary', 'secondary', 'tertiary')]
    return users_of_profile(list(ServiceProfile.objects.filter(places[0] | places[1] | places[2])))


def default_service_profiles() -> models.QuerySet[ServiceProfile, str]:
    """The name of the default service profile, if there is one."""
    return ServiceProfile.objects.filter(is_default=True).values_list('name', flat=True)


def service_profile_of(user: Any) -> str:
    """The profile that counts, in words: the user's own, else the default of the system."""
    if user.service_profile is not None:
        return str(user.service_profile)
    known = hasattr(user, 'default_service_profile')
    default = user.default_service_profile if known else default_service_profiles().first()
    return _('%(name)s, from the system default') % {'name': default} if default else _('None')
