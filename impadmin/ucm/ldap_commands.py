"""What the buttons and writers of the LDAP pages do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from impadmin.console import jobs
from impadmin.console.actions import Actor, Refused
from impadmin.console.administrators import take_password
from impadmin.console.page import Result
from impadmin.ucm import ldap_access, ldap_sync
from impadmin.ucm.forms import password_again_field, password_field
from impadmin.ucm.ldap_models import Asked, LdapDirectory, LdapSystem, UserAuthentication


class SyncForm(forms.Form):
    """Asked only when the newest synchronization missed most users."""

    deactivate = forms.BooleanField(
        label=gettext_lazy('Make users inactive who are not found'), required=False,
        help_text=gettext_lazy('They cannot sign in, and are deleted after 24 hours.'),
    )  # fmt: skip


class PasswordForm(forms.Form):
    """The manager's password, twice."""

    password = password_field(None)
    password_again = password_again_field(None)


def manager_password_field(obj: Any) -> forms.Field:
    """The password of the manager."""
    found = password_field(obj)
    found.label = gettext_lazy('LDAP Password')
    if not obj or not obj.pk:
        found.help_text = gettext_lazy('Stored encrypted and never shown again.')
    return found


def update_system(actor: Actor, row: LdapSystem, values: Mapping[str, Any]) -> LdapSystem:
    """Save LDAP System. Switched on again, it keeps those who have left a directory for another 24 hours: what was put
    right meanwhile is synchronized before anybody is deleted."""
    from impadmin.ucm.models import EndUser

    was = row.enabled
    for name, value in values.items():
        setattr(row, name, value)
    row.save()
    if row.enabled and not was:
        EndUser.objects.filter(ldap_status='inactive').update(ldap_missing_at=timezone.now())
    return row


def create(actor: Actor, values: Mapping[str, Any]) -> LdapDirectory:
    """Add a directory; from a file it comes without its password, which is set later."""
    rest, password = take_password(actor, values)
    row = LdapDirectory(**rest, sealed_password=ldap_access.seal(password) if password else '')
    row.save()
    return row


def update(actor: Actor, row: LdapDirectory, values: Mapping[str, Any]) -> LdapDirectory:
    """Change a directory. A password goes to no server for which it was not entered."""
    rest, password = take_password(actor, values)
    before = ldap_access.protected(row)
    for name, value in rest.items():
        setattr(row, name, value)
    if password:
        row.sealed_password = ldap_access.seal(password)
    elif row.sealed_password and not ldap_access.protected(row) <= before:
        raise ValidationError({'password': _('Enter the password again: the manager or a server is another one.')})
    row.save()
    return row


def update_authentication(actor: Actor, row: UserAuthentication, values: Mapping[str, Any]) -> UserAuthentication:
    """Save LDAP Authentication, with the same care."""
    before = ldap_access.protected(row)
    for name, value in values.items():
        setattr(row, name, value)
    if row.sealed_password and not ldap_access.protected(row) <= before:
        if row.enabled:
            text = _('The manager or a server is another one. Save with this off, then set the manager password again.')
            raise ValidationError({'enabled': text})
        row.sealed_password = ''
    row.save()
    return row


def set_password(actor: Actor, objects: Sequence[Any], data: Mapping[str, Any]) -> Result:
    """Keep the password of the manager of LDAP Authentication."""
    _rest, password = take_password(actor, data)
    if not password:
        raise ValidationError({'password': _('This field must have a value.')})
    UserAuthentication.objects.update_or_create(pk=1, defaults={'sealed_password': ldap_access.seal(password)})
    return Result(_('The manager password is saved.'))


def test(actor: Actor, objects: Sequence[Asked], data: Mapping[str, Any]) -> Result:
    """Ask every server, with the saved settings."""
    row = objects[0] if objects else UserAuthentication.objects.get_or_create(pk=1)[0]
    found = ldap_access.test(row)
    if not found:
        raise Refused(_('Enter at least one server and save.'))
    if wrong := [f'{server}: {problem}' for server, problem in found if problem]:
        raise Refused('\n'.join(wrong))
    names = _(', ').join(server for server, _problem in found)
    return Result(_('Every server answers, its certificate is right and the search base is there: %(names)s.')
                  % {'names': names})  # fmt: skip


def full_sync(actor: Actor, objects: Sequence[Any], data: Mapping[str, Any]) -> Result:
    """Perform Full Sync Now."""
    row = LdapDirectory.objects.select_for_update().get(pk=objects[0].pk)
    if row.held_back and not data.get('deactivate'):
        text = ngettext(
            'The newest synchronization did not find %(count)d user, more than half of all, and left the user alone.',
            'The newest synchronization did not find %(count)d users, more than half of all, and left them alone.',
            row.held_back,
        )
        raise ValidationError({'deactivate': text % {'count': row.held_back}})
    job = ldap_sync.submit(actor, row, deactivate=bool(data.get('deactivate')))
    return Result(_('Job %(id)s was submitted.') % {'id': job.pk}, data={'job': job.pk})


def cancel_sync(actor: Actor, objects: Sequence[Any], data: Mapping[str, Any]) -> Result:
    """Cancel Sync Process."""
    job = ldap_sync.under_way(objects[0])
    if job is None:
        raise Refused(_('No synchronization is in progress.'))
    jobs.stop(job)
    return Result(_('The synchronization stops after the entries it is working on. What it has written stays.'))


def cannot_sync(row: LdapDirectory) -> str:
    """Why Perform Full Sync Now cannot be used."""
    if not row.sealed_password:
        return _('Set the LDAP password first.')
    return ldap_sync.hindrance() or (_('A synchronization is already in progress.') if ldap_sync.under_way(row) else '')


def cannot_cancel(row: LdapDirectory) -> str:
    """Why Cancel Sync Process cannot be used."""
    return '' if ldap_sync.under_way(row) else _('No synchronization is in progress.')


def cannot_delete(row: LdapDirectory) -> str:
    """Why a directory cannot be deleted."""
    return _('A synchronization is in progress. Cancel it first.') if ldap_sync.under_way(row) else ''


def delete(actor: Actor, row: LdapDirectory) -> None:
    """Delete a directory: its users become inactive, and are deleted after 24 hours."""
    ldap_sync.deactivate_all(row)
    row.delete()


def users_of(objects: Sequence[Any]) -> int:
    """How many users notice."""
    from impadmin.ucm.models import EndUser

    return EndUser.objects.filter(ldap_directory__in=objects, ldap_status='active').count()
