"""Writing users of a XEP-0227 document: new ones are made, existing ones get what they lack.

Every user stands for itself: written whole or, with a reason, not at all. For users who exist already the document adds
contacts, private data, privacy lists, personal nodes, offline messages and a vCard where there is none; it never takes
anything away and never changes a password. At the end subscriptions between two users here are made consistent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path

from django.core.exceptions import ValidationError
from django.db import DatabaseError, connection, transaction

from engine.contract import jid
from engine.contract.pubsub_nodes import Limits
from impadmin.messaging.models import OfflineMessage
from impadmin.presence import inventory
from impadmin.presence.change_guard import guard
from impadmin.presence.models import PrivacyItem, PrivacyList, PrivateData, VCard
from impadmin.system.models import Node
from impadmin.ucm import rekey
from impadmin.ucm.actions import announce_contact_lists, announce_users
from impadmin.ucm.addresses import address_of
from impadmin.ucm.models import EndUser, RosterItem
from impadmin.ucm.portable.node_rows import limits, write
from impadmin.ucm.portable.person import Contact, Person, read
from impadmin.ucm.portable.reading import Portable, Unknown, users

BATCH = 200
Report = Callable[[str, int, str, str], None]
"""``report(file, line, who, text)``: something was not imported."""


@dataclass(slots=True)
class _Run:
    report: Report
    dry: bool
    node: Node | None
    now: datetime
    counts: Counter[str] = field(default_factory=Counter)
    seen: set[str] = field(default_factory=set)
    written: list[int] = field(default_factory=list)
    limits: Limits = field(default_factory=limits)


def run(path: Path, report: Report, now: datetime, node: Node | None, dry: bool = False) -> Counter[str]:
    """Import a document; how many of what. ``node``: home node of new users, None leaves that to the Sync Agent.
    ``dry``: check everything, write nothing. Raises reading.Unreadable; what was written before that stays."""
    guard()
    work = _Run(report, dry, node, now)
    people = _people(path, work)
    try:
        while batch := list(islice(people, BATCH)):
            _write_batch(batch, work)
    finally:
        if work.written:
            _agree(work)
    return work.counts


def _people(path: Path, work: _Run) -> Iterator[tuple[Portable, Person]]:
    for event in users(path):
        if isinstance(event, Unknown):
            work.counts['skipped'] += 1
            work.report(event.file, event.line, '', f'{event.what} is not imported')
            continue
        person = read(event, work.now)
        if not person.error and person.address in work.seen:
            person.error = 'The user is in the document twice.'
        if person.error:
            work.counts['failed'] += 1
            work.report(event.file, event.line, event.name[:200], person.error)
            continue
        work.seen.add(person.address)
        for reason in person.skipped:
            work.counts['skipped'] += 1
            work.report(event.file, event.line, person.address, reason)
        yield event, person


def _write_batch(batch: list[tuple[Portable, Person]], work: _Run) -> None:
    with transaction.atomic():
        ids = []
        for portable, person in batch:
            try:
                with transaction.atomic():
                    ids.append(_write(person, work))
                for reason in person.late:
                    work.counts['skipped'] += 1
                    work.report(portable.file, portable.line, person.address, reason)
            except ValidationError as error:
                work.counts['failed'] += 1
                work.report(portable.file, portable.line, person.address, ' '.join(error.messages))
            except DatabaseError as error:
                work.counts['failed'] += 1
                work.report(portable.file, portable.line, person.address, str(error).partition('\n')[0])
        if work.dry:
            transaction.set_rollback(True)
            return
        announce_users(ids)
        announce_contact_lists(ids)
    work.written += ids


def _write(person: Person, work: _Run) -> int:
    user = EndUser.objects.select_for_update().filter(im_address=person.address).first()
    if user is None:
        user = _create(person, work)
        work.counts['users created'] += 1
    else:
        work.counts['users completed'] += 1
    _write_contacts(user, person, work)
    _write_rest(user, person, work)
    return user.pk


def _create(person: Person, work: _Run) -> EndUser:
    user_id = jid.unescape_local(person.local)
    settings = inventory.advanced()
    user = EndUser(
        user_id=user_id, first_name=person.first_name, last_name=person.last_name or user_id[:64],
        display_name=person.display_name, home_node=work.node, credentials=person.credentials, avatar=person.avatar,
    )  # fmt: skip
    if settings.address_scheme != 'userid':
        user.directory_uri = f'{user_id}@{person.host}'
    user.im_address = address_of(user, settings)
    if user.im_address != person.address:
        raise ValidationError(
            f'The IM address would be {user.im_address or "none"}: the address scheme or the default domain of this'
            ' system does not fit the document.'
        )
    user.full_clean(exclude=['im_address', 'credentials'])
    user.save()
    inventory.moved([(set(), inventory.domains_of(user.im_address, user.directory_uri))])
    if not person.credentials:
        work.counts['users without credentials'] += 1
    return user


def _row(user: EndUser, contact: Contact) -> RosterItem:
    return RosterItem(
        user=user, jid=contact.jid, name=contact.name, groups=list(contact.groups), subscription=contact.subscription,
        ask=contact.ask and not contact.subscription & 1, pending_in=contact.request is not None,
        request=contact.request,
        approved=contact.approved and not contact.subscription & 2, is_contact=contact.is_contact,
    )  # fmt: skip


def _write_contacts(user: EndUser, person: Person, work: _Run) -> None:
    existing = set(RosterItem.objects.filter(user=user, jid__in=list(person.contacts)).values_list('jid', flat=True))
    rows = [_row(user, contact) for contact in person.contacts.values() if contact.jid not in existing]
    if not rows:
        return
    RosterItem.objects.bulk_create(rows, batch_size=1000)
    rekey.recount([user.pk])
    work.counts['contacts'] += sum(row.is_contact for row in rows)
    work.counts['subscription requests'] += sum(row.pending_in for row in rows)


def _write_rest(user: EndUser, person: Person, work: _Run) -> None:
    OfflineMessage.objects.bulk_create(
        [OfflineMessage(user=user, stored_at=at, stanza=stanza) for at, stanza in person.messages], batch_size=1000
    )
    work.counts['offline messages'] += len(person.messages)
    if person.vcard and not VCard.objects.filter(user=user).exists():
        VCard.objects.create(user=user, xml=person.vcard)
        EndUser.objects.filter(pk=user.pk).update(avatar=person.avatar)
        work.counts['vCards'] += 1
    kept = set(PrivateData.objects.filter(user=user).values_list('namespace', 'name'))
    data = [PrivateData(user=user, namespace=key[0], name=key[1], xml=xml) for key, xml in person.private.items()
            if key not in kept]  # fmt: skip
    PrivateData.objects.bulk_create(data)
    work.counts['private data'] += len(data)
    _write_lists(user, person, work)
    if person.nodes:
        work.counts.update(write(user, person.nodes, work.limits, work.now, person.late.append))


def _write_lists(user: EndUser, person: Person, work: _Run) -> None:
    known = dict(PrivacyList.objects.filter(user=user).values_list('name', 'is_default'))
    added = False
    for name, items in person.lists.items():
        if name in known:
            continue
        default = name == person.default_list and not any(known.values())
        row = PrivacyList.objects.create(user=user, name=name, is_default=default)
        PrivacyItem.objects.bulk_create(
            [PrivacyItem(list=row, **item._asdict()) for item in items],
            batch_size=1000,
        )
        work.counts['privacy lists'] += 1
        added = True
    if added:
        EndUser.objects.filter(pk=user.pk).update(privacy_version=user.privacy_version + 1)


def _agree(work: _Run) -> None:
    """A user sees another one only if that one's list says so too: what the document left one-sided ends."""
    for start in range(0, len(work.written), 5000):
        ids = work.written[start : start + 5000]
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(
                'UPDATE roster_item r SET subscription = r.subscription & 2 FROM end_user owner, end_user other'
                ' WHERE r.user_id = ANY(%s) AND r.subscription & 1 = 1 AND owner.id = r.user_id'
                ' AND other.im_address = r.jid AND NOT EXISTS (SELECT 1 FROM roster_item o WHERE o.user_id = other.id'
                ' AND o.jid = owner.im_address AND o.subscription & 2 = 2) RETURNING r.user_id',
                [ids],
            )
            changed = [row[0] for row in cursor.fetchall()]
            work.counts['one-sided subscriptions ended'] += len(changed)
            rekey.recount(set(changed))
            announce_contact_lists(changed)
