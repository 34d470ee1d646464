"""The files of Bulk Administration: columns and layout of each transaction type, and the target it belongs to."""

from __future__ import annotations

from dataclasses import dataclass

from impadmin.bulkadmin import cardfile, contactfile, locationfile, renamefile
from impadmin.console.bulk import PLAIN, Layout


@dataclass(frozen=True, slots=True)
class Format:
    """``least``: columns a row must have for the file to be looked at at all."""

    target: str
    columns: tuple[str, ...]
    least: int
    layout: Layout = PLAIN


_CONTACTS = Format('contact_lists', contactfile.COLUMNS, contactfile.LEAST)
_CARDS = Format('non_presence', cardfile.COLUMNS, len(cardfile.COLUMNS), cardfile.LAYOUT)
_LOCATIONS = Format('locations', locationfile.COLUMNS, len(locationfile.COLUMNS), locationfile.LAYOUT)
FORMATS = {
    'rename_contacts': Format('contacts', renamefile.COLUMNS, len(renamefile.COLUMNS)),
    'import_contacts': _CONTACTS,
    'import_non_presence': _CARDS,
    'import_locations': _LOCATIONS,
    'export_contacts': _CONTACTS,
    'export_non_presence': _CARDS,
    'export_locations': _LOCATIONS,
}
"""By transaction type, which is also the kind of the job."""
