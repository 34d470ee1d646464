"""Where the server of a domain is: SRV records _xmpp-server._tcp and _xmpps-server._tcp (RFC 6120 3.2, XEP-0368), else
the domain itself. Answers, also negative ones, are kept as long as DNS says, within limits."""

from __future__ import annotations

import asyncio
import ipaddress
import random
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import dns.asyncresolver
import dns.exception
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.resolver
import dns.reversename

from engine.recent import remember

LEAST_S: Final = 5.0
MOST_S: Final = 3600.0
NEGATIVE_S: Final = 60.0
"""How long "there is no such domain" is kept when DNS does not say."""
NEGATIVE_MOST_S: Final = 300.0
CACHED: Final = 10_000
"""Domains kept; above it the oldest goes."""
DEFAULT_PORT: Final = 5269
MOST_TARGETS: Final = 20


class NotFound(Exception):
    """DNS says that the domain has no server; the text says how."""


class Unreachable(Exception):
    """DNS does not answer."""


@dataclass(frozen=True, slots=True)
class Target:
    """One host to try. ``direct``: TLS begins with the first byte."""

    host: str
    port: int
    direct: bool = False


class Resolver:
    """``servers``: addresses like ``192.0.2.1``, ``192.0.2.1:5353`` or ``[2001:db8::1]:53``; none: those of the
    operating system. Raises ValueError naming a wrong one."""

    def __init__(self, servers: Iterable[str] = (), timeout_s: float = 10.0, port: int = DEFAULT_PORT) -> None:
        given = [_server(text) for text in servers]
        self._resolver = dns.asyncresolver.Resolver(configure=not given)
        if given:
            self._resolver.nameservers = [dns.nameserver.Do53Nameserver(host, number) for host, number in given]
        self._resolver.timeout = min(3.0, timeout_s)
        self._resolver.lifetime = timeout_s
        self._port = port
        self._cache: OrderedDict[str, tuple[float, list[tuple[int, int, Target]] | str]] = OrderedDict()

    async def targets(self, domain: str, direct: bool = True) -> list[Target]:
        """Hosts of a domain in the order to try them: by priority, within one weighted at random. ``direct`` False
        leaves out those with TLS from the first byte. Raises NotFound, Unreachable."""
        now = asyncio.get_running_loop().time()
        kept = self._cache.get(domain)
        if kept is None or kept[0] < now:
            found, life = await self._look_up(domain)
            kept = (now + life, found)
            remember(self._cache, domain, kept, CACHED)
        if isinstance(kept[1], str):
            raise NotFound(kept[1])
        usable = [one for one in kept[1] if direct or not one[2].direct]
        if not usable:
            raise NotFound(f'{domain} has no server that can be used here.')
        return _in_order(usable)

    async def addresses(self, host: str) -> list[str]:
        """IPv6 and IPv4 addresses of a host, IPv6 first. Raises NotFound, Unreachable."""
        answers = await asyncio.gather(
            self._query(host, dns.rdatatype.AAAA), self._query(host, dns.rdatatype.A), return_exceptions=True
        )
        found = [
            str(record.address) for answer in answers if not isinstance(answer, BaseException) for record in answer
        ]
        if found:
            return found
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, NotFound):
                raise answer
        raise NotFound(f'{host} has no address.')

    async def name_of(self, address: str) -> str:
        """The host name of an IP address. Raises NotFound, Unreachable."""
        answer = await self._query(dns.reversename.from_address(address).to_text(), dns.rdatatype.PTR)
        return str(answer[0].target.to_text(omit_final_dot=True))

    async def _look_up(self, domain: str) -> tuple[list[tuple[int, int, Target]] | str, float]:
        plain, direct = await asyncio.gather(
            self._services(f'_xmpp-server._tcp.{domain}'), self._services(f'_xmpps-server._tcp.{domain}')
        )
        found = [(p, w, Target(host, port, False)) for p, w, host, port in plain[0] if host]
        found += [(p, w, Target(host, port, True)) for p, w, host, port in direct[0] if host]
        life = min(plain[1], direct[1])
        if found:
            return sorted(found, key=lambda one: one[0])[:MOST_TARGETS], life
        if plain[0] or direct[0]:
            return f'{domain} says that it has no XMPP server.', life
        return [(0, 0, Target(domain, self._port))], life

    async def _services(self, name: str) -> tuple[list[tuple[int, int, str, int]], float]:
        """(priority, weight, host, port) of an SRV name, host '' for "not available"; how long it holds."""
        try:
            answer = await self._query(name, dns.rdatatype.SRV)
        except NotFound as missing:
            return [], min(NEGATIVE_MOST_S, missing.args[1] if len(missing.args) > 1 else NEGATIVE_S)
        records = [
            (record.priority, record.weight, record.target.to_text(omit_final_dot=True).lower(), record.port)
            for record in answer
        ]
        life = min(MOST_S, max(LEAST_S, float(answer.rrset.ttl)))
        return [(p, w, '' if host in ('', '.', '@') else host, port) for p, w, host, port in records], life

    async def _query(self, name: str, kind: Any) -> Any:
        try:
            return await self._resolver.resolve(dns.name.from_text(name), kind, search=False)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer) as error:
            raise NotFound(f'{name} is not in DNS.', _negative_life(error)) from None
        except (dns.name.LabelTooLong, dns.name.NameTooLong, dns.name.EmptyLabel):
            raise NotFound(f'{name} is no DNS name.') from None
        except (dns.exception.DNSException, OSError) as error:
            raise Unreachable(f'DNS does not answer for {name}: {error}') from None


def _negative_life(error: Any) -> float:
    """RFC 2308: the smaller of the SOA's TTL and its minimum."""
    responses = error.kwargs.get('responses', {}).values() if isinstance(error, dns.resolver.NXDOMAIN) else ()
    response = next(iter(responses), None) or error.kwargs.get('response')
    for rrset in response.authority if response is not None else ():
        if rrset.rdtype == dns.rdatatype.SOA:
            return max(LEAST_S, float(min(rrset.ttl, rrset[0].minimum)))
    return NEGATIVE_S


def _in_order(found: list[tuple[int, int, Target]]) -> list[Target]:
    """RFC 2782: lower priority first; within one, each next one drawn with a chance by its weight."""
    result = []
    for priority in sorted({one[0] for one in found}):
        group = [one for one in found if one[0] == priority]
        while group:
            drawn = random.choices(group, [one[1] + 0.001 for one in group])[0]  # noqa: S311 - no secret
            group.remove(drawn)
            result.append(drawn[2])
    return result


def _server(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(':')
    if not colon or (':' in host and not host.startswith('[')):
        host, port = text, '53'
    host = host.strip('[]')
    try:
        ipaddress.ip_address(host)
        return host, int(port)
    except ValueError:
        raise ValueError(f'{text} is no address of a name server; write 192.0.2.1 or 192.0.2.1:53.') from None
