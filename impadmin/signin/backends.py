"""Who a user name and password belong to: a local user or one of the directory."""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib.auth.hashers import check_password, make_password

from impadmin.console.models import Administrator


@dataclass(frozen=True, slots=True)
class Verdict:
    """The user, or None and the reason for the history; people read only that it did not work."""

    user: Administrator | None = None
    reason: str = ''
    method: str = 'password'


def local(username: str, password: str) -> Verdict:
    """Check against the local users. A name that does not exist takes as long as a wrong password."""
    user = Administrator.objects.filter(username__iexact=username, origin=Administrator.Origin.LOCAL).first()
    if user is None:
        make_password(password)
        return Verdict(reason='unknown user')
    if not check_password(password, user.password, setter=lambda raw: _upgrade(user, raw)):
        return Verdict(reason='wrong password')
    return Verdict(user) if user.is_active else Verdict(reason='not active')


def _upgrade(user: Administrator, password: str) -> None:
    """Keep the same password under the present hash."""
    Administrator.objects.filter(pk=user.pk).update(password=make_password(password))


def check(username: str, password: str) -> Verdict:
    """Ask the directory when it is on, and the local users as far as they may."""
    return local(username, password)
