"""Who a user name and password belong to: a local user or one of the directory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from django.contrib.auth.hashers import check_password, make_password
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from impadmin.console import audit
from impadmin.console.actions import SYSTEM
from impadmin.console.administrators import MENU
from impadmin.console.models import Administrator, Role
from impadmin.signin import directory
from impadmin.signin.models import ExternalGroup, LdapAuthentication

LOCAL = Administrator.Origin.LOCAL


@dataclass(frozen=True, slots=True)
class Verdict:
    """The user, or None and the reason for the history; people read only that it did not work."""

    user: Administrator | None = None
    reason: str = ''
    method: str = 'password'


def check(username: str, password: str) -> Verdict:
    """A local name is asked here only and no other name but in the directory, so no password goes astray."""
    settings = LdapAuthentication.objects.filter(pk=1, enabled=True).first()
    if not username.isascii():  # 'ſ' is 's' to database and directory, yet its failures would be counted apart
        return local('', password)
    if settings is None:
        return local(username, password)
    if Administrator.objects.filter(username__iexact=username, origin=LOCAL).exists():
        if settings.local_users or not any(not problem for _, problem in directory.test(settings)):
            return local(username, password)
        return Verdict(reason='local users are off')
    try:
        found = directory.find(settings, username, password)
    except directory.Refused as error:
        return Verdict(reason=str(error), method='LDAP')
    except directory.Unreachable as error:
        return Verdict(reason=f'LDAP: {error}'[:300], method='LDAP')
    return admit(Administrator.Origin.LDAP, username, found.groups, directory.comparable)


def local(username: str, password: str) -> Verdict:
    """Check against the local users. A name that does not exist takes as long as a wrong password."""
    user = Administrator.objects.filter(username__iexact=username, origin=LOCAL).first()
    if user is None:
        make_password(password)
        return Verdict(reason='unknown user')
    if not check_password(password, user.password, setter=lambda raw: _upgrade(user, raw)):
        return Verdict(reason='wrong password')
    return Verdict(user) if user.is_active else Verdict(reason='not active')


def _upgrade(user: Administrator, password: str) -> None:
    """Keep the same password under the present hash."""
    Administrator.objects.filter(pk=user.pk).update(password=make_password(password))


def admit(
    origin: Administrator.Origin, username: str, groups: Iterable[str], comparable: Callable[[str], str]
) -> Verdict:
    """The user somebody else vouches for, with the roles of his groups as they are now; made at the first sign-in."""
    held, method = {comparable(group) for group in groups}, str(origin.label)
    mapped = ExternalGroup.objects.filter(source=origin).select_related('role')
    given = {one.role for one in mapped if comparable(one.name) in held}
    with transaction.atomic():
        user = Administrator.objects.select_for_update().filter(username__iexact=username).first()
        if user is not None and user.origin != origin:
            return Verdict(reason=f'the name belongs to a user kept by {user.get_origin_display()}', method=method)
        if not given:
            if user is not None:
                dismiss(user)
            return Verdict(reason='no group with a role', method=method)
        if user is None:
            user = Administrator(username=username, origin=origin)
            user.set_unusable_password()
            try:
                user.full_clean(exclude=['roles'])
            except ValidationError:
                return Verdict(reason='not a possible user ID', method=method)
            user.save()
            audit.record(SYSTEM, 'create', None, user, None, audit.snapshot(user), menu=MENU)
        _give(user, given)
        user.vouched_at = timezone.now()
        user.save(update_fields=['vouched_at'])
    return Verdict(user, method=method) if user.is_active else Verdict(reason='not active', method=method)


def dismiss(user: Administrator) -> None:
    """Nobody vouches for the user any more: he has no role until somebody does."""
    with transaction.atomic():
        _give(user, set())


def _give(user: Administrator, given: set[Role]) -> None:
    """Set the roles, with an entry of the history when they change."""
    if set(user.held_roles) == given:
        return
    before = audit.snapshot(user)
    user.roles.set(given)
    for name in ('held_roles', 'grants'):
        user.__dict__.pop(name, None)
    audit.record(SYSTEM, 'update', None, user, before, audit.snapshot(user), menu=MENU)
