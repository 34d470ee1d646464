"""Commands of Application User: unlock, end the sessions, take the second factor away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from impadmin.console import roles
from impadmin.console.actions import Actor, Refused
from impadmin.console.models import Administrator
from impadmin.console.page import Command, Result, Text
from impadmin.signin import lockout, sessions, totp
from impadmin.signin.models import AdministratorSession


def state(user: Administrator) -> tuple[str, Text]:
    """(mark, word): whether the user can sign in."""
    if not user.is_active:
        return 'off', _('Not active')
    if user.is_locked if hasattr(user, 'is_locked') else lockout.locked(user.username):
        return 'bad', _('Locked')
    return 'ok', _('Active')


def unlock(actor: Actor, objects: Sequence[Any], data: Mapping[str, Any]) -> Result:
    """Let the user try again at once."""
    lockout.unlock(objects[0].username)
    return Result(_('%(user)s can sign in again.') % {'user': objects[0]})


def end_sessions(actor: Actor, objects: Sequence[Any], data: Mapping[str, Any]) -> Result:
    """Sign the user out everywhere."""
    user = objects[0]
    roles.require_covered(actor.grants, user.grants)
    count = sessions.drop(AdministratorSession.objects.filter(administrator=user))
    return Result(_('Ended sessions: %(count)d') % {'count': count})


def reset(actor: Actor, objects: Sequence[Any], data: Mapping[str, Any]) -> Result:
    """Take the second factor of somebody away who lost it; his sessions end."""
    user = objects[0]
    if user.username == actor.name:  # there the code is asked for
        raise Refused(_('Remove your own second factor in My account.'))
    roles.require_covered(actor.grants, user.grants)
    totp.remove(user)
    sessions.drop(AdministratorSession.objects.filter(administrator=user))
    return Result(_('%(user)s signs in without a second factor until a new one is set up.') % {'user': user})


COMMANDS = (
    Command(
        'unlock',
        gettext_lazy('Unlock'),
        unlock,
        when=lambda user: '' if lockout.locked(user.username) else _('The user is not locked.'),
    ),
    Command(
        'end-sessions',
        gettext_lazy('End Sessions'),
        end_sessions,
        confirm=lambda users: _('%(user)s is signed out everywhere.') % {'user': users[0]},
        when=lambda user: '' if sessions.of(user) else _('The user is not signed in.'),
    ),
    Command(
        'reset-second-factor',
        gettext_lazy('Reset Second Factor'),
        reset,
        confirm=lambda users: (
            _('%(user)s signs in with the password alone until a new second factor is set up. All sessions end.')
            % {'user': users[0]}
        ),
        when=lambda user: '' if totp.active(user) else _('The user has no second factor.'),
        danger=True,
    ),
)
