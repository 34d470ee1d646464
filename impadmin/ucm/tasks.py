"""Automatic assignment of users to nodes by the Cisco Sync Agent (guide 2454-2465)."""

from __future__ import annotations

import logging

from celery import shared_task

from engine.contract.services import SYNC_AGENT
from impadmin.celery import app
from impadmin.console import audit, registry
from impadmin.console.actions import SYSTEM
from impadmin.system import redundancy
from impadmin.system.state import is_running
from impadmin.ucm import ldap_tasks as ldap_tasks
from impadmin.ucm.actions import announce_users
from impadmin.ucm.assignment import assign_automatically

log = logging.getLogger(__name__)


@shared_task(name='ucm.assign_users')
def assign_users() -> None:
    """Every minute: give eligible users without a node one, by the User Assignment Mode. Nobody is moved."""
    if not is_running(SYNC_AGENT):
        log.info('Cisco Sync Agent is not running on the publisher; users are not assigned')
        return
    if reason := redundancy.blocking():
        log.info('users wait for a node: %s', reason)
        return
    done = assign_automatically()
    if not done.ids:
        return
    audit.record(
        SYSTEM,
        'assign',
        registry.page('assign-presence-users'),
        None,
        None,
        {'mode': done.mode, **done.per_node},
        object_type='ucm.EndUser',
    )
    announce_users(done.ids)
    log.info('assigned %d users (%s): %s', len(done.ids), done.mode, done.per_node)


app.add_periodic_task(60.0, app.signature('ucm.assign_users'), name='assign users to nodes')
