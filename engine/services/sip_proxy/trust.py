"""Who may speak for whom: the certificate of the connection, or the Incoming ACL (docs/decisions)."""

from __future__ import annotations

import ssl
from collections import OrderedDict
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, Final

import structlog
from cryptography import x509

from engine import tls
from engine.recent import remember
from engine.services.federation_manager.resolver import NotFound, Resolver, Unreachable
from engine.sip.address import read_uri, to_jid
from engine.sip.message import BadMessage

log = structlog.get_logger(__name__)

EVERYBODY: Final = 'ALL'
DNS_S: Final = 3.0
AGAIN_S: Final = 300.0
"""How long the names found for an address hold."""
KNOWN: Final = 10_000


class Trust:
    """``acl``: entries of System > Security > Incoming ACL. Raises ValueError naming a wrong name server."""

    def __init__(self, acl: Iterable[str], servers: list[str], udp: bool, clock: Any) -> None:
        self._networks: list[IPv4Network | IPv6Network] = []
        self._names: set[str] = set()
        self._everybody = False
        self._udp = udp
        self._clock = clock
        for entry in acl:
            if entry == EVERYBODY:
                self._everybody = True
                continue
            try:
                self._networks.append(ip_network(entry))
            except ValueError:
                self._names.add(entry.lower())
        self._resolver = Resolver(servers, DNS_S) if self._names else None
        self._found: OrderedDict[str, tuple[float, bool]] = OrderedDict()

    def users_of(self, transport: Any) -> frozenset[str]:
        """The bare JIDs of users in the certificate that a TLS peer showed."""
        connection: ssl.SSLObject | None = transport.get_extra_info('ssl_object')
        der = connection.getpeercert(binary_form=True) if connection is not None else None
        return tls.user_addresses(der) | _sip_users(der) if der else frozenset()

    def listed(self, address: str, transport: str) -> bool | None:
        """Whether the Incoming ACL lets requests from this address in; None: only DNS can tell, see ``look_up``."""
        if transport == 'UDP' and not self._udp:
            return False
        if self._everybody:
            return True
        one = ip_address(address)
        one = getattr(one, 'ipv4_mapped', None) or one
        if any(one.version == network.version and one in network for network in self._networks):
            return True
        if not self._names:
            return False
        kept = self._found.get(str(one))
        return kept[1] if kept is not None and kept[0] > self._clock() else None

    async def look_up(self, address: str) -> bool:
        """Whether the host with this address has a name of the list, or one below it, that leads back to it."""
        assert self._resolver is not None
        one = ip_address(address)
        one = getattr(one, 'ipv4_mapped', None) or one
        text = str(one)
        listed = await self._leads_here(text, self._names)
        if not listed:
            try:
                name = (await self._resolver.name_of(text)).lower()
            except (NotFound, Unreachable):
                name = ''
            if name and any(name.endswith(f'.{entry}') for entry in self._names):
                listed = await self._leads_here(text, {name})
        remember(self._found, text, (self._clock() + AGAIN_S, listed), KNOWN)
        return listed

    async def _leads_here(self, address: str, names: Iterable[str]) -> bool:
        assert self._resolver is not None
        for name in names:
            try:
                if address in await self._resolver.addresses(name):
                    return True
            except (NotFound, Unreachable) as problem:
                log.info('name of the Incoming ACL not found', name=name, reason=str(problem.args[0]))
        return False


def _sip_users(der: bytes) -> frozenset[str]:
    """SIP addresses of users among the alternative names (RFC 5922 7.1 has them for domains, RFC 3261 26.3 for
    users)."""
    try:
        names = x509.load_der_x509_certificate(der).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return frozenset()
    found = set()
    for text in names.value.get_values_for_type(x509.UniformResourceIdentifier):
        try:
            found.add(to_jid(read_uri(text)))
        except BadMessage:
            continue
    return frozenset(found)
