"""Writers of application users: the people and programs that sign in to the console."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils.translation import gettext

from impadmin.console import audit, roles
from impadmin.console.access import Grants, grants
from impadmin.console.actions import Actor, Refused
from impadmin.console.models import Administrator, Role
from impadmin.console.rehearsal import rehearses

MENU = 'User Management > Application User'


# ---- writers of the page


def create_administrator(actor: Actor, values: Mapping[str, Any]) -> Administrator:
    """Add an application user, with no more rights than the actor has."""
    values = {name: value for name, value in values.items() if name != 'present_password'}
    rest, sent, password = _taken(actor, values)
    given = sent or []
    roles.require_covered(actor.grants, together(given))
    administrator = Administrator(**rest)
    if not password:
        raise ValidationError({'password': gettext('Enter a password.')})
    check_password(password, administrator)
    administrator.set_password(password)
    administrator.save()
    administrator.roles.set(given)
    return administrator


def update_administrator(actor: Actor, administrator: Administrator, values: Mapping[str, Any]) -> Administrator:
    """Change an application user: nobody takes rights from himself or touches somebody who has more than he."""
    values = dict(values)
    present = values.pop('present_password', None) or ''
    rest, sent, password = _taken(actor, values)
    before = Administrator.objects.select_for_update().get(pk=administrator.pk)
    held = before.held_roles
    given = held if sent is None else sent
    roles.require_covered(actor.grants, before.grants)
    roles.require_covered(actor.grants, together(given))
    for name, value in rest.items():
        setattr(administrator, name, value)
    if before.origin != Administrator.Origin.LOCAL and (password or set(given) != set(held)):
        field = 'password' if password else 'roles'
        raise ValidationError({field: gettext('It comes from the directory or identity provider. Change it there.')})
    if password and before.username == actor.name:
        _prove_own(actor, before, present)
    if before.username == actor.name and (set(given) != set(held) or not administrator.is_active):
        field = 'roles' if set(given) != set(held) else 'is_active'
        raise ValidationError({field: gettext('You cannot change your own rights. Ask another administrator.')})
    if _is_full(held, before.is_active, before.origin) and not _is_full(given, administrator.is_active, before.origin):
        _lock_full()
        if not others_remain(administrator):
            field = 'is_active' if _is_full(given, True, before.origin) else 'roles'
            raise ValidationError({field: LAST()})
    administrator.password = before.password
    if password:
        check_password(password, administrator)
        administrator.set_password(password)
    administrator.save()
    administrator.roles.set(given)
    return administrator


def _prove_own(actor: Actor, administrator: Administrator, present: str) -> None:
    """His own password changes only who knows the present one: a browser left open or a stolen token does not."""
    from impadmin.signin.apart import apart
    from impadmin.signin.passwords import prove

    if actor.channel == 'cli' or rehearses():
        return
    if problem := apart(lambda: prove(actor, administrator, present)):
        raise ValidationError({'present_password': problem})


def delete_administrator(actor: Actor, administrator: Administrator) -> None:
    """Delete an application user with his tokens; never oneself and never the last administrator."""
    if administrator.username == actor.name:
        raise Refused(gettext('You cannot delete yourself. Ask another administrator.'))
    roles.require_covered(actor.grants, administrator.grants)
    _lock_full()
    if reason := is_needed(administrator):
        raise Refused(reason)
    administrator.delete()


def is_needed(administrator: Administrator) -> str:
    """Why this application user cannot be deleted, or ''."""
    full = _is_full(administrator.held_roles, administrator.is_active, administrator.origin)
    return LAST() if full and not others_remain(administrator) else ''


def LAST() -> str:
    """Why the last administrator stays."""
    return gettext('This is the last active administrator. Give another user the role Administrator first.')


def username_is_free(administrator: Administrator, before: Any) -> None:
    """User names of administrators differ by more than case."""
    if Administrator.objects.filter(username__iexact=administrator.username).exclude(pk=administrator.pk).exists():
        raise ValidationError(
            {'username': gettext('The user ID %(id)s is already in use.') % {'id': administrator.username}}
        )


def others_remain(without: Administrator) -> bool:
    """Whether another active administrator with the role Administrator can sign in when ``without`` no longer can."""
    return bool(_full().exclude(pk=without.pk).exists())


def together(given: Iterable[Role]) -> Grants:
    """What these roles together allow."""
    return grants(permission for role in given for permission in role.allowed)


def _full() -> Any:
    """Local ones only: a directory may take its own away at any time."""
    return Administrator.objects.filter(
        roles__name=roles.ADMINISTRATOR, is_active=True, origin=Administrator.Origin.LOCAL
    )


def _is_full(held: Iterable[Role], active: bool, origin: str) -> bool:
    return active and origin == Administrator.Origin.LOCAL and any(role.name == roles.ADMINISTRATOR for role in held)


def _lock_full() -> None:
    """Two administrators who demote each other at the same moment wait for each other."""
    list(_full().select_for_update().order_by('pk'))


def _taken(actor: Actor, values: Mapping[str, Any]) -> tuple[dict[str, Any], list[Role] | None, str]:
    """(model values, roles or None when not sent, new password or '')."""
    rest, password = take_password(actor, values)
    given = rest.pop('roles', None)
    return rest, None if given is None else list(given), password


def take_password(actor: Actor, values: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """(the other values, the new password or ''). Programs need not repeat it, people must."""
    rest = dict(values)
    password = rest.pop('password', None) or ''
    repeated = rest.pop('password_again', None) or ''
    if actor.channel == 'rest' and not repeated:
        repeated = password
    if password != repeated:
        raise ValidationError({'password_again': gettext('The two passwords differ. Enter the same password twice.')})
    return rest, password


def check_password(password: str, administrator: Administrator) -> None:
    """Raise ValidationError at ``password`` when it is too weak."""
    try:
        validate_password(password, administrator)
    except ValidationError as error:
        raise ValidationError({'password': error.messages}) from None


# ---- from the command line


def create(actor: Actor, username: str, role_name: str, password: str) -> Administrator:
    """Add an administrator with its audit entry. Raises ValidationError by field."""
    given = roles.named([role_name])
    administrator = Administrator(username=username)
    check_password(password, administrator)
    administrator.set_password(password)
    with transaction.atomic():
        administrator.full_clean()
        username_is_free(administrator, None)
        administrator.save()
        administrator.roles.set(given)
        audit.record(actor, 'create', None, administrator, None, audit.snapshot(administrator), menu=MENU)
    return administrator


def recover(actor: Actor, administrator: Administrator, password: str) -> None:
    """Let somebody in again who lost password or second factor; he becomes a local user."""
    from impadmin.signin import lockout, totp

    with transaction.atomic():
        administrator.origin = Administrator.Origin.LOCAL
        administrator.is_active = True
        administrator.save(update_fields=['origin', 'is_active'])
        set_password(actor, administrator, password)
        totp.remove(administrator)
        lockout.unlock(administrator.username)


def set_password(actor: Actor, administrator: Administrator, password: str) -> None:
    """Give an administrator a new password; every session of his ends."""
    check_password(password, administrator)
    with transaction.atomic():
        administrator.set_password(password)
        administrator.save(update_fields=['password'])
        audit.record(actor, 'update', None, administrator, None, {'password': audit.HIDDEN}, menu=MENU)
