"""Domain names are given once: to users, to a component, or to chat rooms."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext as _

from impadmin.messaging.models import ExternalComponent, GroupChatAlias
from impadmin.presence.models import AdvancedSettings, Domain


def taken(name: str, besides: models.Model | None = None) -> str:
    """Who has the domain ``name`` (lower case) already, as a sentence; '' when it is free. ``besides``: who asks."""
    shown = {'name': name}
    default = AdvancedSettings.objects.filter(default_domain__iexact=name)
    if default.exists() or Domain.objects.filter(key=name).exists():
        return _('%(name)s is an IM address domain.') % shown
    return given(name, besides)


def given(name: str, besides: models.Model | None = None) -> str:
    """The same of names that no users have."""
    shown = {'name': name}
    if _another(ExternalComponent.objects.filter(domain=name), besides):
        return _('The component %(name)s exists already.') % shown
    if _another(GroupChatAlias.objects.filter(alias=name), besides):
        return _('The group chat server alias %(name)s exists already.') % shown
    return ''


def _another(found: models.QuerySet[models.Model], besides: models.Model | None) -> bool:
    if isinstance(besides, found.model):
        found = found.exclude(pk=besides.pk)
    return found.exists()
