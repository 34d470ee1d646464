"""What a fresh installation needs before it can be used. Idempotent: what is there stays as it is."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
from dataclasses import dataclass

from django.db import transaction

from engine.contract.jid import prepare_domain
from impadmin.console import audit, generations, roles
from impadmin.console.actions import SYSTEM
from impadmin.console.administrators import create
from impadmin.console.models import Administrator
from impadmin.console.parameter_values import in_force
from impadmin.messaging.models import MessagingSettings
from impadmin.presence.models import (
    AdvancedSettings,
    Domain,
    PresenceSettings,
    XmppFederationPolicy,
    XmppFederationSettings,
)
from impadmin.presence.rules import NOT_SET, name_error
from impadmin.system.actions import create_node
from impadmin.system.models import Node, ParameterValue

_ORGANIZATION_DOMAIN = 'organization_domain'
"""The enterprise parameter."""


class WrongSetting(Exception):
    """An environment variable has a value that cannot be used; the text names it."""


@dataclass(frozen=True, slots=True)
class Installed:
    """What set-up did. ``password`` is '' unless it was made up here: show it, it is kept nowhere."""

    node: str
    domain: str
    generation: int
    administrator: str = ''
    password: str = ''


def install() -> Installed:
    """Settings rows, first node, default domain, first administrator, first configuration generation.

    Environment: IMP_NODE_NAME (imp-1), IMP_NODE_ADDRESS (127.0.0.1), IMP_DOMAIN (what Unified CM says),
    IMP_ORGANIZATION_DOMAIN (the domain of this host), IMP_ADMIN_PASSWORD (random). They are read only for what does not
    exist yet.
    """
    with transaction.atomic():
        roles.install()
        PresenceSettings.objects.get_or_create(pk=1)
        MessagingSettings.objects.get_or_create(pk=1)
        XmppFederationSettings.objects.get_or_create(pk=1)
        XmppFederationPolicy.objects.get_or_create(pk=1)
        domain = _domain()
        node = _node()
        name, password = _administrator()
        generations.store_if_changed()
    return Installed(node.name, domain, generations.newest_number(), name, password)


def _domain() -> str:
    row = AdvancedSettings.objects.filter(pk=1).first()
    if row is None:
        given = _given('IMP_DOMAIN') or _learned()
        if given != NOT_SET:
            given = prepare_domain(given)
            Domain.objects.get_or_create(key=given, defaults={'name': given, 'configured': False})
        row = AdvancedSettings.objects.create(pk=1, default_domain=given)
    return row.default_domain


def _given(name: str) -> str:
    """A domain from the environment."""
    given = os.environ.get(name, '').strip()
    if given not in ('', NOT_SET) and (error := name_error(given)):
        raise WrongSetting(f'{name}: {error}')
    return given


def _learned() -> str:
    """What Unified CM says the default domain is (guide 1302): its Organization Top Level Domain, which is the domain
    of the host it is installed on unless somebody named it."""
    known = in_force('', None)[_ORGANIZATION_DOMAIN]
    if not known and (known := _given('IMP_ORGANIZATION_DOMAIN') or _host_domain()) not in ('', NOT_SET):
        ParameterValue.objects.create(service='', name=_ORGANIZATION_DOMAIN, node=None, value=known)
    return known or NOT_SET


def _host_domain() -> str:
    """The DNS domain of this host, '' without one. One label (lan, local) names a network, not an organization."""
    name = socket.gethostname()
    if '.' not in name:
        with contextlib.suppress(OSError):
            name = socket.getaddrinfo(name, None, flags=socket.AI_CANONNAME)[0][3]
    domain = name.partition('.')[2].rstrip('.')
    return domain if '.' in domain and not name_error(domain) else ''


def _node() -> Node:
    found = Node.objects.order_by('-publisher', 'pk').first()
    if found is not None:
        return found
    node = create_node(
        SYSTEM,
        {
            'name': os.environ.get('IMP_NODE_NAME', '').strip() or 'imp-1',
            'address': os.environ.get('IMP_NODE_ADDRESS', '').strip() or '127.0.0.1',
        },
    )
    audit.record(SYSTEM, 'create', None, node, None, audit.snapshot(node), menu='System > Cluster Topology')
    return node


def _administrator() -> tuple[str, str]:
    """(name, password to show): ('', '') when there is an administrator already."""
    if Administrator.objects.exists():
        return '', ''
    given = os.environ.get('IMP_ADMIN_PASSWORD', '')
    password = given or secrets.token_urlsafe(12)
    create(SYSTEM, 'admin', 'administrator', password)
    return 'admin', '' if given else password
