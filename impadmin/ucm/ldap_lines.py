"""Primary extensions of users whom a directory inserts: by mask from the telephone number, else from a pool of numbers
(guide 2713-2718)."""

from __future__ import annotations

from collections.abc import Sequence

from django.db import connection

from engine.contract.phones import digits, masked
from impadmin.ucm.ldap_models import LdapDirectory
from impadmin.ucm.models import EndUser

_LOCK = 0x494D_0005
_FREE = (
    "SELECT number FROM generate_series(%s::bigint, %s::bigint) n, lpad(n::text, %s, '0') number"
    " WHERE number <> ALL(%s) AND NOT EXISTS (SELECT 1 FROM end_user WHERE extension = number AND extension <> '')"
    ' ORDER BY n LIMIT %s'
)


def give(row: LdapDirectory, users: Sequence[EndUser]) -> None:
    """Give each of these users, not saved yet, a number that nobody has. Who finds none stays without."""
    if not users or not (row.use_mask or row.use_pool):
        return
    with connection.cursor() as cursor:
        cursor.execute('SELECT pg_advisory_xact_lock(%s)', [_LOCK])  # two directories may share a pool
        wanted = [masked(row.mask, digits(user.telephone_number)) if row.use_mask else '' for user in users]
        taken = set(
            EndUser.objects.filter(extension__in=[one for one in wanted if one]).values_list('extension', flat=True)
        )
        for user, number in zip(users, wanted, strict=True):
            if number and number not in taken:
                user.extension = number
                taken.add(number)
        left = [user for user in users if not user.extension]
        if left and row.use_pool:
            ends = [row.pool_start, row.pool_end, len(row.pool_start)]
            cursor.execute(_FREE, [*ends, list(taken), len(left)])
            for user, (number,) in zip(left, cursor.fetchall(), strict=False):
                user.extension = number
