"""The address of a UC service: which kind it is, where it leads, and whether somebody answers there (guide 2482)."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from typing import Literal, NamedTuple

import dns.exception
import dns.name
import dns.resolver
from django.db.models import Q
from django.utils.translation import gettext as _

from engine.contract.services import CONNECTION_MANAGER
from impadmin.console.parameter_values import in_force
from impadmin.system.models import Node
from impadmin.system.rules import is_host_name, is_ip_address

LOOKUP_S = 5.0
CONNECT_S = 3.0
TOGETHER_S = 15.0
"""After so long the rest is not tried."""
MOST = 10
"""Servers that are tried."""
_SERVICE = re.compile(r'_[A-Za-z0-9](-?[A-Za-z0-9]){0,14}\._tcp\.(?P<domain>.+)')  # RFC 6335 5.1, RFC 2782


class Server(NamedTuple):
    """One address to connect to; ``name`` is what led there."""

    name: str
    address: str
    port: int


class NotFound(Exception):
    """The address leads nowhere; the text says why."""


def kind(text: str) -> Literal['ip', 'srv', 'host', '']:
    """What an address is: an IP address, a DNS SRV name, a host name, or none of these."""
    if is_ip_address(text):
        return 'ip'
    if found := _SERVICE.fullmatch(text):
        return 'srv' if is_host_name(found['domain']) else ''
    return 'host' if is_host_name(text) and not text.rpartition('.')[2].isdigit() else ''


def resolve(text: str) -> list[Server]:
    """Where clients end up, in the order they try. Raises NotFound."""
    if kind(text) == 'srv':
        found = [Server(name, address, port) for name, port in _records(text) for address in _addresses(name)]
    else:
        port = _client_port(text)
        found = [Server(text, address, port) for address in ([text] if kind(text) == 'ip' else _addresses(text))]
    if not found:
        raise NotFound(_('No server of this name has an address in DNS.'))
    return found


def probe(text: str) -> Iterator[tuple[Server, str]]:
    """(server, what is wrong or '') of each server behind an address: a connection is opened and closed, nothing is
    sent. Raises NotFound."""
    end = time.monotonic() + TOGETHER_S
    for server in resolve(text)[:MOST]:
        left = min(CONNECT_S, end - time.monotonic())
        if left <= 0:
            yield server, _('not tried, the others took too long')
            continue
        try:
            with socket.create_connection((server.address, server.port), left):
                yield server, ''
        except TimeoutError:
            yield server, _('no answer')
        except OSError as error:
            yield server, error.strerror or str(error)


def shown(server: Server) -> str:
    """The server as people read it."""
    place = f'[{server.address}]:{server.port}' if ':' in server.address else f'{server.address}:{server.port}'
    return place if server.name == server.address else f'{server.name} ({place})'


def _records(text: str) -> list[tuple[str, int]]:
    """(host, port) of SRV records: by priority, the heaviest first (RFC 2782)."""
    try:
        answer = dns.resolver.resolve(text, 'SRV', lifetime=LOOKUP_S, search=False)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        raise NotFound(_('DNS has no SRV record of this name.')) from None
    except dns.exception.DNSException:
        raise NotFound(_('DNS does not answer.')) from None
    found = sorted(answer, key=lambda record: (record.priority, -record.weight))
    return [
        (record.target.to_text(omit_final_dot=True), record.port) for record in found if record.target != dns.name.root
    ]


def _addresses(host: str) -> list[str]:
    """IP addresses of a host: from DNS, else as the operating system knows it; none: []."""
    try:
        return list(dns.resolver.resolve_name(host, lifetime=LOOKUP_S, search=False).addresses())
    except dns.exception.DNSException:
        try:
            known = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except OSError:
            return []
    return [str(address[0]) for *_rest, address in known]


def _client_port(text: str) -> int:
    """The port for XMPP clients of the node of this cluster with that name or address; of others the usual one."""
    node = Node.objects.filter(Q(name__iexact=text) | Q(address__iexact=text)).first()
    return int(in_force(CONNECTION_MANAGER, node)['client_port'])
