"""Non-presence contacts: contact list entries without a subscription that carry a card (docs/decisions/0029).

Import and export of Non-presence Contact List (guide 10959-10982, 11084-11112).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django.db.models import QuerySet
from django.utils.translation import gettext_lazy, gettext_noop

from engine.contract import cards
from engine.contract.cards import Card
from impadmin.bulkadmin import addressing, cardfile, exporter, importer, merge
from impadmin.bulkadmin.cardfile import Row
from impadmin.bulkadmin.contactfile import NOT_LOCAL, SELF, SIZE
from impadmin.bulkadmin.contacts import lists_changed
from impadmin.bulkadmin.inforce import rules
from impadmin.bulkadmin.merge import Item, Merged, User
from impadmin.console.bulk import free_line
from impadmin.ucm.models import WITHOUT_PRESENCE, RosterItem

IMPORT_KIND, EXPORT_KIND = 'import_non_presence', 'export_non_presence'


def store(rows: Sequence[Row]) -> Merged:
    """Add rows (file order) to the contact lists, without any subscription. Runs in the caller's transaction."""
    users = merge.lock({row.owner for row in rows})
    items = merge.existing(((row.owner, row.jid) for row in rows), users)
    limit = rules().max_contacts
    result = Merged([_add(row, users.get(row.owner), items, limit) for row in rows])
    new = sorted(key for key, item in items.items() if not item.stored)
    merge.write([items[key] for key in new], [item for item in items.values() if item.stored and item.changed])
    result.touched = merge.count(users.values())
    return result


def _add(row: Row, owner: User | None, items: dict[tuple[int, str], Item], limit: int | None) -> str:
    """The verdict on one row. A name that the user gave stays; the card of the file replaces an older one."""
    if owner is None or not owner.eligible:
        return NOT_LOCAL
    if row.jid == row.owner:
        return SELF
    key = (owner.id, row.jid)
    item = items.get(key)
    if item is None or not item.is_contact:
        if limit is not None and owner.contacts + owner.new_contacts >= limit:
            return SIZE
        item = item or items.setdefault(key, Item(*key))
        item.is_contact = item.changed = True
        owner.new_contacts += 1
    if row.group and row.group not in item.groups:
        item.groups, item.changed = (*item.groups, row.group), True
    if row.name and not item.name:
        item.name, item.changed = row.name, True
    if row.card != item.card:
        item.card, item.changed = row.card, True
    owner.touched = owner.touched or item.changed
    return ''


importer.register(
    importer.Import(
        kind=IMPORT_KIND,
        label=gettext_lazy("Import Users' Non-presence Contacts"),
        noun='Contacts',
        parser=lambda: cardfile.parse,
        subject=cardfile.subject,
        merge=store,
        announce=lists_changed,
    )
)


def count() -> int:
    """Non-presence contacts of the cluster."""
    return _all().count()


def _all() -> QuerySet[RosterItem]:
    return RosterItem.objects.filter(WITHOUT_PRESENCE, is_contact=True).exclude(user__im_address=None)


def select(chosen: Mapping[str, Any], counts: dict[str, int]) -> exporter.Selection:
    """Every non-presence contact of the cluster, in order of user ID."""
    cell = exporter.cell(chosen)
    found = _all()

    def records() -> Iterator[list[str]]:
        ordered = found.order_by('user__user_id', 'jid').values_list(
            'user__im_address', 'jid', 'name', 'groups', 'card'
        )
        for owner, jid, name, groups, stored in ordered.iterator(chunk_size=exporter.STEP):
            card = cards.load(stored) if stored else named(name or jid)
            counts['contacts'] += 1
            yield [
                free_line(
                    [
                        cell(text)
                        for text in (addressing.shown(owner), addressing.shown(jid), group, card.type, card.version)
                    ]
                    + [cell(card.info)]
                )
                for group in groups or ('',)
            ]

    return found.count(), records()


def named(name: str) -> Card:
    """The card of a contact of whom nothing but a name is known."""
    text = name.translate(cards.ESCAPE)
    return Card(f'BEGIN:VCARD FN:{text} N:{text} VERSION:3.0 END:VCARD')


exporter.register(
    exporter.Export(
        kind=EXPORT_KIND,
        label=gettext_lazy('Export Non-presence Contact List'),
        counted='contacts',
        noun='Contacts',
        nothing=gettext_noop('There are no non-presence contacts.'),
        select=select,
    )
)
