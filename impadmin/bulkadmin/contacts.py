"""Contact List > Update: users' contacts from a file (guide 11061-11082)."""

from __future__ import annotations

from collections.abc import Iterable

from django.utils.translation import gettext_lazy

from engine.contract.events import ContactListsChanged
from impadmin.bulkadmin.contactfile import Parser, subject
from impadmin.bulkadmin.importer import Import, register
from impadmin.bulkadmin.inforce import rules
from impadmin.bulkadmin.merge import merge
from impadmin.console.generations import announce

KIND = 'import_contacts'


def lists_changed(ids: Iterable[int]) -> None:
    """Tell the nodes that these contact lists were written."""
    announce(ContactListsChanged(ids=sorted(ids)))


IMPORT = Import(
    kind=KIND,
    label=gettext_lazy("Import Users' Contacts - Custom File"),
    noun='Contacts',
    parser=lambda: Parser().parse,
    subject=subject,
    merge=lambda rows: merge(rows, rules()),
    announce=lists_changed,
)
register(IMPORT)
