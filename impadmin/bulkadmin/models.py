"""Files of Bulk Administration."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

TARGETS = [
    ('contacts', _('Contacts')),
    ('contact_lists', _('Contact Lists')),
    ('non_presence', _('Non-presence Contact Lists')),
    ('locations', _('User Location Migration')),
]
TRANSACTIONS = [
    ('rename_contacts', _('Rename Contacts - Custom File')),
    ('import_contacts', _("Import Users' Contacts - Custom File")),
    ('import_non_presence', _("Import Users' Non-presence Contacts")),
    ('import_locations', _('Import User Location Details')),
    ('export_contacts', _('Export Contact List')),
    ('export_non_presence', _('Export Non-presence Contact List')),
    ('export_locations', _('Export User Location Details')),
]


class BulkFile(models.Model):
    """An uploaded or exported file; its bytes are under var/files/bulk/, named by id."""

    name = models.CharField(_('File Name'), max_length=200, unique=True)
    target = models.CharField(
        _('Select the Target'), max_length=40, choices=TARGETS, help_text=_('What the rows of the file are about.')
    )
    transaction = models.CharField(
        _('Select Transaction Type'), max_length=40, choices=TRANSACTIONS, help_text=_('The job that may use the file.')
    )
    size = models.BigIntegerField(_('Size'), editable=False, default=0)
    sha256 = models.CharField(_('SHA-256'), max_length=64, editable=False, blank=True)
    owner = models.CharField(_('User'), max_length=150, editable=False)
    uploaded_at = models.DateTimeField(_('Uploaded'), auto_now_add=True)

    class Meta:
        db_table = 'bulk_file'
        verbose_name = _('File')
        verbose_name_plural = _('Files')

    def __str__(self) -> str:
        return self.name


class ContactRename(models.Model):
    """A pair of the Rename Contacts job that runs: in every contact list ``old`` becomes ``new``."""

    old = models.CharField(max_length=3071, primary_key=True)
    new = models.CharField(max_length=3071)
    user_id = models.BigIntegerField(null=True)
    """Always None: no user of this system is renamed (what impadmin.ucm.rekey expects of a mapping)."""

    class Meta:
        db_table = 'contact_rename'
        verbose_name_plural = _('Contact IDs being renamed')
        indexes = [models.Index(fields=['new'], name='contact_rename_new')]
