"""Which page uses a file."""

from __future__ import annotations

from django import template

from impadmin.bulkadmin.models import BulkFile
from impadmin.console import registry
from impadmin.console.page import BasePage

register = template.Library()
PAGES = {
    'rename_contacts': 'contact-list-rename',
    'import_contacts': 'contact-list-update',
    'import_non_presence': 'non-presence-import',
    'import_locations': 'user-location-import',
}
"""Transaction type of a file -> page whose job reads it."""


@register.simple_tag
def job_page(file: BulkFile) -> BasePage | None:
    """The page whose job reads the file; None for a file that a job wrote."""
    name = PAGES.get(file.transaction)
    return registry.page(name) if name else None
