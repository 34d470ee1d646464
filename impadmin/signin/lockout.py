"""Failed attempts: counted per user and address, per user, and per address; too many wait.

A user name that does not exist is counted like one that does, so nobody learns which exist.
"""

from __future__ import annotations

from datetime import timedelta

from django.db import connection, transaction
from django.db.models import Count, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce, Lower
from django.db.models.lookups import GreaterThanOrEqual
from django.utils import timezone

from impadmin.console.models import Administrator, AuditEntry, LoginFailure
from impadmin.signin.models import SignInPolicy, policy

KEEP = timedelta(days=1)


def _limits(rules: SignInPolicy, username: str, address: str) -> list[tuple[QuerySet[LoginFailure], int]]:
    recent = LoginFailure.objects.filter(at__gt=timezone.now() - timedelta(minutes=rules.lockout_minutes))
    return [
        (recent.filter(username=username, address=address), rules.failures),
        (recent.filter(username=username), rules.account_failures),
        (recent.filter(address=address), rules.address_failures),
    ]


def wait_seconds(username: str, address: str) -> int:
    """How long attempts for this user name (lower case) from this address must still wait; 0 when they need not."""
    rules, wait = policy(), 0
    for failures, most in _limits(rules, username, address):
        counted = list(failures.order_by('-at').values_list('at', flat=True)[:most])
        if len(counted) == most:
            until = counted[-1] + timedelta(minutes=rules.lockout_minutes) - timezone.now()
            wait = max(wait, 1, int(until.total_seconds()) + 1)
    return wait


def claim(username: str, address: str) -> int:
    """Count the attempt as failed before the password is looked at, so that parallel attempts cannot outrun the limit.

    Returns 0, or the seconds to wait when this attempt is one too many; then it is not counted.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        for lock in sorted({f'user {username}', f'address {address}'}):
            cursor.execute('SELECT pg_advisory_xact_lock(hashtext(%s))', [f'sign-in {lock}'])
        if wait := wait_seconds(username, address):
            return wait
        LoginFailure.objects.filter(at__lt=timezone.now() - KEEP).delete()
        LoginFailure.objects.create(username=username, address=address)
    return 0


def forgive(username: str, address: str) -> None:
    """A correct password: what this user failed from here no longer counts."""
    LoginFailure.objects.filter(username=username, address=address).delete()


def take_back(username: str, address: str) -> None:
    """This attempt was right as far as it went: it alone no longer counts."""
    newest = LoginFailure.objects.filter(username=username, address=address).order_by('-pk').values('pk')[:1]
    LoginFailure.objects.filter(pk__in=list(newest.values_list('pk', flat=True))).delete()


def locked(username: str) -> bool:
    """Whether the user cannot sign in from one address or from anywhere."""
    rules = policy()
    recent = LoginFailure.objects.filter(
        username=username.lower(), at__gt=timezone.now() - timedelta(minutes=rules.lockout_minutes)
    )
    counts: dict[str, int] = {}
    for address in recent.values_list('address', flat=True)[: rules.account_failures]:
        counts[address] = counts.get(address, 0) + 1
    return sum(counts.values()) >= rules.account_failures or max(counts.values(), default=0) >= rules.failures


def with_locked(users: QuerySet[Administrator]) -> QuerySet[Administrator]:
    """``users`` with ``is_locked``, what ``locked`` says of each, in the same query."""
    rules = policy()
    recent = LoginFailure.objects.filter(
        username=Lower(OuterRef('username')), at__gt=timezone.now() - timedelta(minutes=rules.lockout_minutes)
    ).order_by()
    all_ = recent.values('username').annotate(n=Count('pk')).values('n')
    worst = recent.values('username', 'address').annotate(n=Count('pk')).order_by('-n').values('n')[:1]
    return users.annotate(
        is_locked=Q(GreaterThanOrEqual(Coalesce(Subquery(all_), 0), rules.account_failures))
        | Q(GreaterThanOrEqual(Coalesce(Subquery(worst), 0), rules.failures))
    )


def strangers(address: str) -> int:
    """How often the history tells lately of somebody without a name who failed from here."""
    since = timezone.now() - timedelta(minutes=policy().lockout_minutes)
    found = AuditEntry.objects.filter(action='sign-in-failed', at__gt=since, object_label='', source=address)
    return found.count()


def unlock(username: str) -> int:
    """Forget every failed attempt of this user; how many."""
    return LoginFailure.objects.filter(username=username.lower()).delete()[0]
