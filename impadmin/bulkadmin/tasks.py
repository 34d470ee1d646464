"""Registers the bulk jobs and says when they may start."""

from __future__ import annotations

from django.utils.translation import gettext_noop

from engine.contract.services import BULK_PROVISIONING, State
from impadmin.bulkadmin import contact_export, contacts, locations, non_presence, rename
from impadmin.console import api_bulk, bulkwork, imports, jobs
from impadmin.presence import change_guard
from impadmin.system.models import ServiceStatus

__all__ = ['api_bulk', 'bulkwork', 'contact_export', 'contacts', 'imports', 'locations', 'non_presence', 'rename']


@jobs.start_condition('bat')
def provisioning_runs() -> str:
    """Bulk jobs need the Cisco Bulk Provisioning Service of the publisher."""
    if ServiceStatus.objects.filter(service=BULK_PROVISIONING, node__publisher=True, state=State.RUNNING).exists():
        return ''
    return jobs.message(
        gettext_noop('Waits for the Cisco Bulk Provisioning Service of the publisher. Start it in the Control Center.')
    )


@jobs.start_condition('bat')
def addresses_stand_still() -> str:
    """IM addresses that are about to change must not be written into contact lists."""
    if not change_guard.changing():
        return ''
    return jobs.message(gettext_noop('Waits until the change of the IM addresses has ended.'))
