"""Nobody changes addresses while the default domain or address scheme is being changed (spec 01, IMA-15)."""

from __future__ import annotations

from django.db import connection
from django.utils.translation import gettext as _

from impadmin.console import together
from impadmin.console.actions import Refused
from impadmin.presence.models import AddressChange

_LOCK = 0x494D_0001


def changing() -> bool:
    """Whether addresses are being changed right now (also while an interrupted change waits for Retry or Cancel)."""
    return AddressChange.objects.exists()


def guard() -> None:
    """Refuse while addresses are being changed. Call first in the transaction that writes users or domains."""
    together.once('change_guard', _pass)


def _pass() -> None:
    with connection.cursor() as cursor:
        cursor.execute('SELECT pg_advisory_xact_lock_shared(%s)', [_LOCK])
    together.forget()  # what was read while a change might still have been going on
    if changing():
        raise Refused(
            _(
                'The IM addresses of all users are being changed. '
                'Wait until the change on Presence > Settings > Advanced Configuration has ended, or cancel it there.'
            )
        )


def close() -> None:
    """Wait for writers that passed ``guard`` and keep new ones out until the transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute('SELECT pg_advisory_xact_lock(%s)', [_LOCK])
