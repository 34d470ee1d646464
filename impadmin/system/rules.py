"""Rules for nodes (guide 996, 1148-1185)."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from impadmin.system.models import Node, RedundancyGroup
from impadmin.system.state import in_contact

MAX_NODES = 6
_HOST = re.compile(
    r'(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*'
)


def is_host_name(text: str) -> bool:
    """Whether ``text`` is a host name or FQDN."""
    return bool(_HOST.fullmatch(text))


def is_ip_address(text: str) -> bool:
    """Whether ``text`` is an IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def names_are_hosts(node: Node, before: Any) -> None:
    """The name is a host name; the address a host name or IP address."""
    errors = {}
    if not is_host_name(node.name) or is_ip_address(node.name):
        errors['name'] = _('Enter a host name or FQDN, for example imp1.example.com.')
    if not is_host_name(node.address) and not is_ip_address(node.address):
        errors['address'] = _(
            'Enter a host name, an FQDN or an IP address, for example imp1.example.com or 192.0.2.10.'
        )
    if errors:
        raise ValidationError(errors)


def name_is_free(node: Node, before: Any) -> None:
    """Node names differ by more than case."""
    if Node.objects.filter(name__iexact=node.name).exclude(pk=node.pk).exists():
        raise ValidationError({'name': _('The node %(name)s already exists.') % {'name': node.name}})


def cluster_has_room(node: Node, before: Any) -> None:
    """At most six nodes (guide 996)."""
    if before is None and Node.objects.count() >= MAX_NODES:
        raise ValidationError(_('A cluster has at most %(count)d nodes.') % {'count': MAX_NODES})


def running_node_keeps_its_name(node: Node, before: Any) -> None:
    """The engine is known by the name it was started with."""
    if before is not None and before.name != node.name and in_contact(before):
        raise ValidationError({'name': _('The node is running under this name. Stop its engine first.')})


def _dns_domain(node: Node) -> str:
    for text in (node.name, node.address):
        if '.' in text and not is_ip_address(text):
            return text.partition('.')[2].lower()
    return ''


def bare_names_share_one_dns_domain(node: Node, before: Any) -> None:
    """If any node name is a bare host name, all nodes must be in one DNS domain (guide 1159)."""
    nodes = [*Node.objects.exclude(pk=node.pk), node]
    bare = [each.name for each in nodes if '.' not in each.name]
    domains = {_dns_domain(each) for each in nodes}
    if bare and len(domains) > 1:
        raise ValidationError(
            {
                'name': _(
                    'The node %(bare)s has a bare host name, so all nodes must be in one DNS domain; these are not: '
                    '%(domains)s. Use FQDNs for all node names.'
                )
                % {'bare': bare[0], 'domains': ', '.join(sorted(domain or _('none') for domain in domains))}
            }
        )


def node_is_needed(node: Node) -> str:
    """Why the node cannot be deleted, or ''."""
    users = node.users.count()  # type: ignore[attr-defined]
    if users:
        return ngettext(
            'One user is assigned to it. Assign the user to another node first.',
            '%(count)d users are assigned to it. Assign them to other nodes first.',
            users,
        ) % {'count': users}
    group = RedundancyGroup.of(node)
    if group is not None and len(group.nodes) > 1:
        return _('It is in the redundancy group %(group)s with another node. Take it out there first.') % {
            'group': group.name
        }
    if node.publisher and Node.objects.exclude(pk=node.pk).exists():
        return _('It is the publisher. Delete the other nodes first.')
    if in_contact(node):
        return _('It is running. Stop its engine first.')
    return ''
