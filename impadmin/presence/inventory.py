"""The inventory of IM address domains: which are in use, by how many users (guide 1135-1146, spec 01 section 10).

A domain is in use when it is the domain of a user's IM address or Directory URI. Rows change at once with each user;
the nightly audit rebuilds every count in one statement and adds what is missing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from django.db import connection, transaction

from engine.contract.jid import InvalidJID, prepare_domain
from impadmin.console import generations, together
from impadmin.presence.models import AdvancedSettings, Domain, PeerDomain
from impadmin.presence.rules import NOT_SET, name_error

_IN_USE = """
    SELECT domain, count(*) FROM (
        SELECT id, lower(substring(im_address FROM '[^@]+$')) AS domain FROM end_user WHERE im_address LIKE '%@%'
        UNION
        SELECT id, lower(substring(directory_uri FROM '[^@]+$')) FROM end_user WHERE directory_uri LIKE '%@_%'
    ) AS used GROUP BY domain
"""


def advanced() -> AdvancedSettings:
    """The one row of Advanced Configuration."""
    found: AdvancedSettings = together.once('advanced', lambda: AdvancedSettings.objects.get_or_create(pk=1)[0])
    return found


def domain_of(address: str | None) -> str:
    """Prepared domain of an IM address or Directory URI, or '' when there is none that could be hosted."""
    local, at, domain = (address or '').strip().rpartition('@')
    if not (local and at and domain):
        return ''
    try:
        prepared = prepare_domain(domain)
    except InvalidJID:
        return ''
    return '' if name_error(prepared) else prepared


def domains_of(im_address: str | None, directory_uri: str) -> set[str]:
    """The one or two domains that one user keeps in use."""
    return {domain_of(im_address), domain_of(directory_uri)} - {''}


def moved(changes: Iterable[tuple[set[str], set[str]]]) -> None:
    """Users went from domains to domains, one pair of sets per user: counts follow, missing rows are added.

    Runs inside the caller's transaction; a domain that is new becomes hosted in the same transaction.
    """
    together.merged(_move, changes)


def _move(changes: Iterable[tuple[set[str], set[str]]]) -> None:
    delta: Counter[str] = Counter()
    for before, after in changes:
        delta.update(after - before)
        delta.subtract(before - after)
    added = False
    for key, difference in sorted(delta.items()):  # one order for everybody: no deadlock
        if difference:
            added |= _shift(key, difference)
    if added:
        generations.store_if_changed()


def _shift(key: str, difference: int) -> bool:
    """Add ``difference`` users to a domain; whether it was not hosted here before."""
    with connection.cursor() as cursor:
        cursor.execute(
            'UPDATE im_domain SET user_count = greatest(0, user_count + %s) WHERE key = %s AND local',
            [difference, key],
        )
        if cursor.rowcount or difference < 0:
            return False
        cursor.execute(
            'INSERT INTO im_domain (name, key, configured, user_count, created_at) VALUES (%s, %s, false, %s, now()) '
            'ON CONFLICT (key) DO UPDATE SET user_count = im_domain.user_count + excluded.user_count, local = true',
            [key, key, difference],
        )
        return True


def audit() -> dict[str, int]:
    """Rebuild the inventory from the users. Returns counts: domains, added, in_use."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute('LOCK TABLE im_domain IN SHARE ROW EXCLUSIVE MODE')
        cursor.execute(_IN_USE)
        used: Counter[str] = Counter()
        for raw, count in cursor.fetchall():
            if key := domain_of(f'x@{raw}'):
                used[key] += count
        default = advanced().default_domain
        wanted = dict.fromkeys(used)
        if default != NOT_SET:
            wanted[default.lower()] = None
        ours = Domain.objects.filter(local=False, key__in=wanted).update(local=True)
        rows = {domain.key: domain for domain in Domain.objects.all()}
        new = [
            Domain(name=key, key=key, configured=key == default.lower(), user_count=used[key])
            for key in wanted
            if key not in rows
        ]
        Domain.objects.bulk_create(new)
        changed = [domain for domain in rows.values() if domain.user_count != used[domain.key]]
        for domain in changed:
            domain.user_count = used[domain.key]
        Domain.objects.bulk_update(changed, ['user_count'])
        follow_peers()
        if new or ours:
            generations.store_if_changed()
    return {'domains': len(rows) + len(new), 'added': len(new) + ours, 'in_use': len(used)}


def follow_peers() -> None:
    """List the domains that only peer clusters have (guide 1144, 1359-1363), and no others that are not here."""
    known = dict(PeerDomain.objects.order_by('-peer').values_list('key', 'name'))
    Domain.objects.filter(local=False).exclude(key__in=known).delete()
    Domain.objects.bulk_create(
        (Domain(name=name, key=key, configured=False, local=False) for key, name in known.items()),
        ignore_conflicts=True,
    )
