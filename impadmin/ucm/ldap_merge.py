"""A page of entries written into the table of users: a few statements whatever its size, one verdict for each entry."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import IntegrityError, connection, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from engine.contract.jid import im_address
from impadmin.console.actions import SYSTEM
from impadmin.presence import inventory
from impadmin.presence.models import AdvancedSettings
from impadmin.ucm import ldap_lines
from impadmin.ucm.actions import announce_users, update_user
from impadmin.ucm.addresses import address_of
from impadmin.ucm.ldap_entries import MAPPED, Person
from impadmin.ucm.ldap_models import LdapDirectory, LdapSeen
from impadmin.ucm.models import EndUser, LdapStatus
from impadmin.ucm.user_settings import settings_of

_OURS = ('ldap_status', 'ldap_directory', 'ldap_guid', 'ldap_missing_at', 'active')
CREATED, CHANGED, UNCHANGED, SKIPPED, REFUSED = 'created', 'changed', 'unchanged', 'skipped', 'refused'
"""Words of verdicts, as those of bulk work."""
_MET = 'EXISTS (SELECT 1 FROM ldap_seen s WHERE s.job_id = %s AND s.user_id = u.id)'
_THEIRS = "u.ldap_directory_id = %s AND u.ldap_status = 'active'"
_COUNT = f'SELECT count(*), count(*) FILTER (WHERE NOT {_MET}) FROM end_user u WHERE {_THEIRS}'  # noqa: S608
_DEACTIVATE = (
    "UPDATE end_user u SET ldap_status = 'inactive', active = false, ldap_missing_at = now(), updated_at = now()"  # noqa: S608
    f' WHERE {_THEIRS} AND NOT {_MET} RETURNING id'
)
Verdict = tuple[Person, str, str]
"""An entry, its word, and why it was left out or ''."""


@dataclass(slots=True)
class _Page:
    """What the database knows about the entries of one page."""

    users: dict[int, EndUser]
    by_guid: dict[str, EndUser]
    by_id: dict[str, EndUser]
    by_mail: dict[str, int]
    by_address: dict[str, int]
    seen: set[int]
    taken: set[tuple[str, str]] = field(default_factory=set)
    """User IDs, mail IDs and addresses that entries of this page have got."""


def merge(row: LdapDirectory, job: int, people: Sequence[Person]) -> list[Verdict]:
    """Write a page, inside the caller's transaction. Two who want the same at one moment are told apart one by one."""
    try:
        with transaction.atomic():
            return _merge(row, job, people)
    except IntegrityError:
        if len(people) == 1:
            return [(people[0], REFUSED, _('Another user has this address or user ID already.'))]
        half = len(people) // 2
        return merge(row, job, people[:half]) + merge(row, job, people[half:])


def _merge(row: LdapDirectory, job: int, people: Sequence[Person]) -> list[Verdict]:
    settings = inventory.advanced()
    page = _known(people, job, settings)
    template = settings_of(row.template) if row.template else {'home_cluster': False, 'im_enabled': False}
    verdicts: list[Verdict] = []
    born: dict[int, EndUser] = {}
    changed: list[tuple[EndUser, EndUser]] = []
    met: set[int] = set()
    for person in people:
        user = page.by_guid.get(person.guid) if person.guid else None
        user = user or page.by_id.get(person.user_id)
        if user is not None and user.pk in page.seen | met:
            verdicts.append((person, REFUSED, _('An entry before it has the same user ID.')))
            continue
        if user is not None and (reason := _not_ours(user, row)):
            verdicts.append((person, SKIPPED, reason))
            continue
        if user is not None:
            met.add(user.pk)  # it is there, whatever is wrong with it
        if reason := person.problem or _clash(page, person, user, settings):
            verdicts.append((person, REFUSED, reason))
        elif user is None:
            made = EndUser(**person.values, **template, **_wanted(person, row))
            made.im_address = address_of(made, settings)
            born[len(verdicts)] = made
            verdicts.append((person, CREATED, ''))
        else:
            wanted = {**person.values, **_wanted(person, row, user)}
            differs = any(getattr(user, name) != value for name, value in wanted.items())
            if differs:
                before = copy.copy(user)
                for name, value in wanted.items():
                    setattr(user, name, value)
                changed.append((before, user))
            verdicts.append((person, CHANGED if differs else UNCHANGED, ''))
    ldap_lines.give(row, list(born.values()))
    for place, user in born.items():
        if (row.use_mask or row.use_pool) and not user.extension:
            verdicts[place] = (verdicts[place][0], CREATED, _('No number is free: the user has no primary extension.'))
    _write(list(born.values()), changed, settings)
    met.update(user.pk for user in born.values())
    LdapSeen.objects.bulk_create(LdapSeen(job_id=job, user_id=pk) for pk in met)
    return verdicts


def _not_ours(user: EndUser, row: LdapDirectory) -> str:
    """Why an entry leaves its user alone."""
    if user.ldap_status == LdapStatus.CONVERTED:
        return _('The user was converted to a local user.')
    if user.ldap_status == LdapStatus.ACTIVE and user.ldap_directory_id not in (None, row.pk):
        return _('The user comes from the LDAP directory %(name)s.') % {'name': user.ldap_directory}
    return ''


def _wanted(person: Person, row: LdapDirectory, user: EndUser | None = None) -> dict[str, Any]:
    """What a user of the directory has besides the values of his entry."""
    back = {'active': True} if user is not None and user.ldap_status == LdapStatus.INACTIVE else {}
    return {
        **back, 'ldap_status': LdapStatus.ACTIVE, 'ldap_directory_id': row.pk, 'ldap_guid': person.guid,
        'ldap_missing_at': None,
    }  # fmt: skip


def _clash(page: _Page, person: Person, user: EndUser | None, settings: AdvancedSettings) -> str:
    """Whether somebody else has the entry's user ID, mail ID or IM address; else they are taken."""
    own = user.pk if user is not None else None
    other = page.by_id.get(person.user_id)
    if other is not None and other.pk != own:
        return _('The user ID %(id)s is already in use.') % {'id': person.user_id}
    mail = person.values.get('mail', '').lower()
    if mail and page.by_mail.get(mail, own) != own:
        return _('Another user has the mail ID %(mail)s.') % {'mail': mail}
    address = _address(person, settings)
    if address and page.by_address.get(address, own) != own:
        return _('The IM address %(address)s belongs to another user.') % {'address': address}
    wanted = {('id', person.user_id.upper()), ('mail', mail), ('address', address)}
    wanted -= {('mail', ''), ('address', '')}
    if page.taken & wanted:
        return _('An entry before it has the same user ID, mail ID or IM address.')
    page.taken |= wanted
    return ''


def _address(person: Person, settings: AdvancedSettings) -> str:
    uri = person.values.get('directory_uri', '')
    return im_address(settings.address_scheme, settings.default_domain, person.user_id, uri)


def _known(people: Sequence[Person], job: int, settings: AdvancedSettings) -> _Page:
    """Users whom the entries may be about, locked in one order."""
    guids = [person.guid for person in people if person.guid]
    names = list({person.user_id for person in people if person.user_id})
    mails = list({mail.lower() for person in people if (mail := person.values.get('mail'))})
    addresses = [address for person in people if not person.problem and (address := _address(person, settings))]
    by_id = dict(
        _pairs('SELECT given, id FROM unnest(%s::text[]) given JOIN end_user ON upper(user_id) = upper(given)', names)
    )
    by_mail = dict(
        _pairs("SELECT lower(mail), id FROM end_user WHERE lower(mail) = ANY(%s) AND ldap_status = 'active'", mails)
    )
    by_address = dict(_pairs('SELECT im_address, id FROM end_user WHERE im_address = ANY(%s)', addresses))
    found = EndUser.objects.defer('folded', 'credentials').select_for_update(of=('self',)).order_by('pk')
    by_guid = list(EndUser.objects.filter(ldap_guid__in=guids).values_list('pk', flat=True))
    users = {user.pk: user for user in found.filter(pk__in={*by_id.values(), *by_guid})}
    seen = LdapSeen.objects.filter(job_id=job, user_id__in=list(users)).values_list('user_id', flat=True)
    return _Page(
        users,
        {user.ldap_guid: user for user in users.values() if user.ldap_guid},
        {name: users[pk] for name, pk in by_id.items() if pk in users},
        by_mail,
        by_address,
        set(seen),
    )


def _pairs(query: str, values: list[str]) -> list[tuple[str, int]]:
    with connection.cursor() as cursor:
        cursor.execute(query, [values])
        return cursor.fetchall()


def _write(created: list[EndUser], changed: list[tuple[EndUser, EndUser]], settings: AdvancedSettings) -> None:
    EndUser.objects.bulk_create(created)
    moved: list[Any] = [(set(), inventory.domains_of(user.im_address, user.directory_uri)) for user in created]
    plain, ids = [], [user.pk for user in created]
    for before, user in changed:
        if address_of(user, settings) != before.im_address:
            names = ('user_id', *MAPPED, *_OURS)
            update_user(SYSTEM, before, {name: getattr(user, name) for name in names})  # what is stored follows
            continue
        user.updated_at = timezone.now()
        plain.append(user)
        ids.append(user.pk)
        domains = [inventory.domains_of(one.im_address, one.directory_uri) for one in (before, user)]
        moved += [tuple(domains)] if domains[0] != domains[1] else []
    EndUser.objects.bulk_update(plain, ['user_id', *MAPPED, *_OURS, 'updated_at'], batch_size=200)
    inventory.moved(moved)
    announce_users(ids)


def deactivate(row: LdapDirectory, job: int | None, most: float = 1.0) -> tuple[int, int]:
    """Make the users of a directory inactive whom synchronization ``job`` has not met (None: all of them), unless they
    are more than the share ``most``: (how many were made inactive, how many were left alone)."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_COUNT, [job, row.pk])
        total, gone = cursor.fetchone()
        if gone > total * most:
            return 0, gone
        cursor.execute(_DEACTIVATE, [row.pk, job])
        ids: Iterable[int] = [found[0] for found in cursor.fetchall()]
        announce_users(ids)
    return gone, 0
