"""End users who come from a directory: what cannot be changed here, and Convert to Local User (guide 2842-2854)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from impadmin.console.actions import Actor
from impadmin.console.page import Command, Result
from impadmin.ucm.actions import announce_users
from impadmin.ucm.ldap_entries import MAPPED
from impadmin.ucm.models import EndUser, LdapStatus

_MARKS = {LdapStatus.ACTIVE: 'ok', LdapStatus.INACTIVE: 'bad'}


def status(user: EndUser) -> tuple[str, str]:
    """(mark, word) of User Status."""
    return _MARKS.get(LdapStatus(user.ldap_status), 'off'), str(user.get_ldap_status_display())


def is_synchronized(user: EndUser) -> bool:
    """Whether a directory writes the user."""
    return user.ldap_status in (LdapStatus.ACTIVE, LdapStatus.INACTIVE)


def from_directory(user: EndUser) -> list[str]:
    """The fields of a user that the directory writes."""
    if not is_synchronized(user) or user.ldap_directory is None:
        return []
    return ['user_id', *(name for name in MAPPED if getattr(user.ldap_directory, f'{name}_from'))]


def synchronized_fields_stay(user: EndUser, before: EndUser | None) -> None:
    """What comes from the directory is changed there."""
    if before is None:
        return
    text = _('This comes from the LDAP directory %(name)s. Change it there, or convert the user to a local user.')
    changed = [name for name in from_directory(before) if getattr(user, name) != getattr(before, name)]
    if changed:
        raise ValidationError(dict.fromkeys(changed, text % {'name': before.ldap_directory}))
    if before.ldap_status == LdapStatus.INACTIVE and user.active:
        raise ValidationError(
            {'active': _('The user is no longer in the directory. Convert the user to a local user first.')}
        )


def convert(actor: Actor, users: Sequence[EndUser], data: Mapping[str, Any]) -> Result:
    """Make synchronized users local for good: they can be edited, and no synchronization touches them any more."""
    keys = [user.pk for user in users]
    found = list(EndUser.objects.select_for_update().filter(pk__in=keys).order_by('pk'))
    refused = [(user.user_id, reason) for user in found if (reason := cannot_convert(user))]
    converted = [user.pk for user in found if not cannot_convert(user)]
    EndUser.objects.filter(pk__in=converted).update(
        ldap_status=LdapStatus.CONVERTED, ldap_directory=None, ldap_missing_at=None, active=True
    )
    announce_users(converted)
    text = ngettext('%(count)d user is local now.', '%(count)d users are local now.', len(converted))
    return Result(text % {'count': len(converted)}, refused=refused)


def cannot_convert(user: EndUser) -> str:
    """Why a user cannot be converted."""
    return '' if is_synchronized(user) else _('The user is a local user.')


def conversion_means(users: Sequence[EndUser]) -> str:
    """What a conversion takes away."""
    return _('No synchronization updates or deletes them any more, and they need a password of their own here. '
             'There is no way back.')  # fmt: skip


CONVERT = Command(
    'convert-to-local',
    gettext_lazy('Convert to Local User'),
    convert,
    confirm=conversion_means,
    when=cannot_convert,
)
