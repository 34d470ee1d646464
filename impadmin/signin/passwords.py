"""Password rules of local administrators, from the credential policy (Django's password validators)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib.auth.hashers import check_password
from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.translation import gettext

from impadmin.console.actions import Actor
from impadmin.console.models import Administrator
from impadmin.signin import lockout, sessions
from impadmin.signin.models import PasswordRecord, SignInPolicy, policy

KEPT = 24
"""Remembered passwords per user: the most the policy can ask for."""


class Strength:
    """Length, kinds of characters, and not the user ID."""

    def validate(self, password: str, user: Any = None) -> None:
        """Raise ValidationError with everything that is wrong."""
        rules, wrong = policy(), []
        if len(password) < rules.min_length:
            wrong.append(
                gettext('The password is too short. Use at least %(count)d characters.') % {'count': rules.min_length}
            )
        kinds = {
            'A' if char.isupper() else 'a' if char.islower() else '1' if char.isdigit() else '.' for char in password
        }
        if len(kinds) < rules.min_classes:
            wrong.append(
                gettext(
                    'Use %(count)d of these: capital letters, small letters, digits, other characters.'
                ) % {'count': rules.min_classes}
            )  # fmt: skip
        name = str(getattr(user, 'username', '') or '').lower()
        if len(name) > 2 and name in password.lower():
            wrong.append(gettext('The password contains the user ID. Leave it out.'))
        if wrong:
            raise ValidationError(wrong)

    def get_help_text(self) -> str:
        """The rule."""
        return gettext('At least %(count)d characters.') % {'count': policy().min_length}


class NotUsedBefore:
    """None of the remembered passwords; remembers each new one."""

    def validate(self, password: str, user: Any = None) -> None:
        """Raise ValidationError when the user had this password."""
        depth = policy().history
        if user is None or user.pk is None or not depth:
            return
        hashes = PasswordRecord.objects.filter(administrator=user).order_by('-pk').values_list('hash', flat=True)
        if any(check_password(password, one) for one in list(hashes[:depth]) or [user.password]):
            raise ValidationError(
                gettext('You had this password before. Choose one that is not among the last %(count)d.')
                % {'count': depth}
            )

    def password_changed(self, password: str, user: Any = None) -> None:
        """Called by Django after the user with the new password was saved."""
        if isinstance(user, Administrator) and user.pk is not None:
            PasswordRecord.objects.create(administrator=user, hash=user.password)
            kept = PasswordRecord.objects.filter(administrator=user).order_by('-pk').values_list('pk', flat=True)
            PasswordRecord.objects.filter(administrator=user).exclude(pk__in=list(kept[:KEPT])).delete()

    def get_help_text(self) -> str:
        """The rule."""
        return gettext('Not one of the last %(count)d passwords.') % {'count': policy().history}


def prove(actor: Actor, user: Administrator, present: str) -> str:
    """'' when ``present`` is the password of ``user``, else what to tell him; counted and recorded like a sign-in."""
    if wait := lockout.claim(user.username.lower(), actor.source):
        return gettext('Too many failed attempts. Try again in %(seconds)s seconds.') % {'seconds': wait}
    if not check_password(present, user.password):
        sessions.failed(actor, user.username, 'wrong password')
        return gettext('Your present password is wrong.')
    lockout.forgive(user.username.lower(), actor.source)
    return ''


def expired(user: Administrator, rules: SignInPolicy) -> bool:
    """Whether a local user must choose a new password now."""
    if rules.max_age_days is None:
        return False
    newest = PasswordRecord.objects.filter(administrator=user).order_by('-pk').values_list('at', flat=True).first()
    return (newest or user.created_at) + timedelta(days=rules.max_age_days) <= timezone.now()
