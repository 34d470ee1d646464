"""Start, stop and restart of services on nodes: the queue that the nodes work off, and what each click means."""

from __future__ import annotations

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from engine.contract.events import CommandQueued
from engine.contract.services import (
    AUTHENTICATION,
    BULK_PROVISIONING,
    BY_KEY,
    CERTIFICATE_EXPIRY_MONITOR,
    CLIENT_PROFILE_AGENT,
    CONFIG_AGENT,
    CONNECTION_MANAGER,
    DATA_MONITOR,
    PRESENCE_ENGINE,
    SIP_PROXY,
    SYNC_AGENT,
    UDS_TOMCAT,
    WEB_CONNECTION_MANAGER,
    XCP_ROUTER,
    dependents,
)
from impadmin.console import generations
from impadmin.system.models import Node, ServiceActivation, ServiceCommand
from impadmin.system.state import in_contact

VERBS = ('start', 'stop', 'restart')


def queue(requested_by: str, node: Node, service: str, verb: str) -> ServiceCommand:
    """Queue a command for ``node`` and nudge it after commit."""
    command = ServiceCommand.objects.create(node=node, service=service, verb=verb, requested_by=requested_by)
    generations.announce(CommandQueued(node.name))
    return command


def why_not(node: Node, service: str, verb: str) -> str:
    """Why the command is not possible now, or ''."""
    declared = BY_KEY[service]
    shown = {'node': node.name, 'service': _(declared.name)}
    if declared.publisher_only and not node.publisher:
        return _('%(service)s exists on the publisher only, not on %(node)s.') % shown
    if not in_contact(node):
        return _('%(node)s is not running. Start its engine first.') % shown
    if verb != 'stop' and declared.kind == 'feature':
        activated = ServiceActivation.objects.filter(node=node, service=service).exists()
        if not activated:
            return _('%(service)s is not activated on %(node)s. Activate it on Tools > Service Activation.') % shown
    return ''


def outcome(command: ServiceCommand) -> str:
    """queued, done or failed."""
    if command.finished_at is None:
        return 'queued'
    return 'failed' if command.error else 'done'


def consequence(node: Node, service: str, verb: str) -> str:
    """What users notice, in numbers."""
    if verb == 'start':
        return ''
    users = node.users_online
    shown = {'count': users, 'node': node.name}
    if service == XCP_ROUTER:
        others = _(', ').join(_(BY_KEY[key].name) for key in dependents(service))
        text = ngettext(
            '%(count)d user on %(node)s is disconnected.', '%(count)d users on %(node)s are disconnected.', users
        )
        return ' '.join([text % shown, _('These services stop with it: %(services)s.') % {'services': others}])
    if service == WEB_CONNECTION_MANAGER:
        return _('Web clients on %(node)s are disconnected.') % shown
    if service in (CONNECTION_MANAGER, AUTHENTICATION):
        if service == AUTHENTICATION:
            return _('Nobody can sign in on %(node)s until it runs again.') % shown
        text = ngettext(
            '%(count)d user on %(node)s is disconnected.', '%(count)d users on %(node)s are disconnected.', users
        )
        return text % shown
    if service == PRESENCE_ENGINE:
        text = ngettext(
            '%(count)d user on %(node)s loses availability until it runs again. Instant messages still work.',
            '%(count)d users on %(node)s lose availability until it runs again. Instant messages still work.',
            users,
        )
        return text % shown
    return {
        CONFIG_AGENT: _('Settings saved meanwhile do not reach %(node)s until it runs again.') % shown,
        DATA_MONITOR: _('%(node)s no longer watches its database until it runs again.') % shown,
        SYNC_AGENT: _('New users are not assigned and domains are not audited until it runs again.'),
        CLIENT_PROFILE_AGENT: _('Clients do not get their profile from %(node)s until it runs again.') % shown,
        BULK_PROVISIONING: _('Bulk jobs wait until it runs again.'),
        CERTIFICATE_EXPIRY_MONITOR: _('Nobody is told of expiring certificates until a day after it runs again.'),
        SIP_PROXY: _('SIP clients and trunks cannot reach %(node)s until it runs again.') % shown,
        UDS_TOMCAT: _('Clients cannot read the data of their users from %(node)s until it runs again.') % shown,
    }.get(service, '')
