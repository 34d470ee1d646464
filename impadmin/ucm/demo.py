"""A believable organisation for ``make demo``: two domains, 200 people in three scripts, contact lists with groups.

Everything follows from fixed lists and a seeded generator, so a second run finds the same people and changes nothing.
"""

from __future__ import annotations

import random
import unicodedata
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.db import connection, transaction

from engine.contract.credentials import verifiers
from engine.contract.services import XCP_ROUTER
from impadmin.console import generations
from impadmin.console.actions import SYSTEM
from impadmin.presence import change_guard, inventory
from impadmin.presence.models import Domain
from impadmin.presence.rules import NOT_SET
from impadmin.serviceability import commands
from impadmin.system.models import Node
from impadmin.system.state import in_contact
from impadmin.ucm import rekey
from impadmin.ucm.actions import announce_contact_lists, announce_users
from impadmin.ucm.addresses import address_of
from impadmin.ucm.assignment import BALANCED, assign_automatically
from impadmin.ucm.models import EndUser

DOMAINS = ('northwind.example', 'northwind.asia.example')
PASSWORD = 'northwind-demo'  # noqa: S105 - documented: people sign in to the demonstration with it
PEOPLE = 200
_NAMES = Path(__file__).with_name('demo_names.txt')
"""Lines of a kind and names; Chinese and Japanese ones as family/given in Latin letters, then in their own script."""
_DEPARTMENTS = ('Sales', 'Engineering', 'Support', 'Finance', 'Human Resources', 'Logistics', 'Legal', 'Management')
_GROUPS: Mapping[str, tuple[str, ...]] = {
    'latin': ('Team', 'Friends', 'Projects'),
    'chinese': ('团队', '朋友', '项目'),
    'japanese': ('チーム', '友人', 'プロジェクト'),
}


@dataclass(frozen=True, slots=True)
class Person:
    """One demonstration user."""

    user_id: str
    first: str
    last: str
    display: str
    script: str
    department: str
    domain: str


def people() -> list[Person]:
    """200 people: half with Latin names, a quarter Chinese, a quarter Japanese."""
    names: dict[str, list[str]] = defaultdict(list)
    for line in _NAMES.read_text(encoding='utf-8').splitlines():
        kind_of_name, *entries = line.split()
        names[kind_of_name] += entries
    found: dict[str, Person] = {}
    chooser = random.Random(14)  # noqa: S311 - the same people every time
    number = 0
    while len(found) < PEOPLE:
        kind = number % 4
        department = _DEPARTMENTS[number % len(_DEPARTMENTS)]
        number += 1
        if kind < 2:
            first, last = chooser.choice(names['latin-first']), chooser.choice(names['latin-last'])
            latin, display, script = (first, last), f'{first} {last}', 'latin'
        else:
            script = ('chinese', 'japanese')[kind - 2]
            family, given = (chooser.choice(names[script]).split('/') for _ in range(2))
            first, last = given[3], family[2]
            latin, display = (given[1], family[0]), last + first
        base = '.'.join(_ascii(part) for part in latin)
        user_id = base
        suffix = 2
        while user_id in found:
            user_id, suffix = f'{base}{suffix}', suffix + 1
        domain = DOMAINS[0] if script == 'latin' else DOMAINS[1]
        found[user_id] = Person(user_id, first, last, display, script, department, domain)
    return list(found.values())


def _ascii(text: str) -> str:
    """Latin letters without marks, for user IDs."""
    plain = text.lower().translate(str.maketrans({'ø': 'o', 'ł': 'l', 'ß': 'ss'}))
    return unicodedata.normalize('NFD', plain).encode('ascii', 'ignore').decode()


def create() -> dict[str, int]:
    """Make what is missing. Returns counts: domains, users, contacts."""
    with transaction.atomic():
        change_guard.guard()
        generation = generations.newest_number()
        settings = inventory.advanced()
        domains = sum(
            Domain.objects.get_or_create(key=name, defaults={'name': name, 'configured': True})[1] for name in DOMAINS
        )
        if not EndUser.objects.exists():  # on a fresh system one organisation with two domains needs this scheme
            settings.address_scheme = 'directory_uri'
            if settings.default_domain == NOT_SET:
                settings.default_domain = DOMAINS[0]
            settings.save()
        everybody = people()
        present = set(
            EndUser.objects.filter(user_id__in=[person.user_id for person in everybody]).values_list(
                'user_id', flat=True
            )
        )
        fresh = [_user(person, settings) for person in everybody if person.user_id not in present]
        taken = set(
            EndUser.objects.filter(im_address__in=[user.im_address for user in fresh]).values_list(
                'im_address', flat=True
            )
        )
        EndUser.objects.bulk_create(user for user in fresh if user.im_address not in taken)
        inventory.audit()
        generations.store_if_changed()
        if generations.newest_number() > generation:  # the router hosts new domains after a restart
            for node in Node.objects.order_by('id'):
                if in_contact(node):
                    commands.queue(SYSTEM.name, node, XCP_ROUTER, 'restart')
        ids = [user.pk for user in fresh if user.pk]
        contacts = _contact_lists(everybody, set(ids))
        if Node.objects.exists():
            assign_automatically(only=ids, use_mode=BALANCED)
        announce_users(ids)
    return {'domains': domains, 'users': len(ids), 'contacts': contacts}


def _user(person: Person, settings: Any) -> EndUser:
    user = EndUser(
        user_id=person.user_id,
        first_name=person.first,
        last_name=person.last,
        display_name=person.display,
        mail=f'{person.user_id}@{person.domain}',
        directory_uri=f'{person.user_id}@{person.domain}',
        department=person.department,
        credentials=verifiers(PASSWORD),
    )
    user.im_address = address_of(user, settings)
    return user


def _contact_lists(everybody: list[Person], ids: set[int]) -> int:
    """Mutual subscriptions of the new users: the department, some friends elsewhere. How many entries."""
    if not ids:
        return 0
    users = {user.user_id: user for user in EndUser.objects.filter(pk__in=ids).exclude(im_address=None)}
    known = [person for person in everybody if person.user_id in users]
    chooser = random.Random(1971)  # noqa: S311 - the same friendships every time
    pairs: dict[tuple[str, str], str] = {}
    for number, person in enumerate(known):
        team = [other for other in known[number + 1 :] if other.department == person.department]
        for other in team[:12]:
            pairs[person.user_id, other.user_id] = 'team'
        for other in chooser.sample(known, min(6, len(known))):
            if other is not person and (other.user_id, person.user_id) not in pairs:
                pairs.setdefault((person.user_id, other.user_id), chooser.choice(('friends', 'projects')))
    place = {'team': 0, 'friends': 1, 'projects': 2}
    by_id = {person.user_id: person for person in known}
    rows = []
    for (one, two), kind in pairs.items():
        for owner, contact in ((one, two), (two, one)):
            group = _GROUPS[by_id[owner].script][place[kind]]
            rows.append((users[owner].pk, users[contact].im_address, by_id[contact].display, [group], 3))
    owners = sorted({row[0] for row in rows})
    rekey.lock(owners)
    with connection.cursor() as cursor:
        cursor.executemany(
            'INSERT INTO roster_item (user_id, jid, name, groups, subscription, ask, pending_in, approved, is_contact, '
            'state, request) VALUES (%s, %s, %s, %s, %s, false, false, false, true, 0, NULL) '
            'ON CONFLICT (user_id, jid) DO NOTHING',
            rows,
        )
    rekey.recount(owners)
    announce_contact_lists(owners)
    return len(rows)
