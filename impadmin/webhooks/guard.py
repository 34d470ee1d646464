"""HTTP to addresses that users name: only where it may go, without redirects, within a time.

A name is resolved here, its addresses are checked, and the connection goes to the very address that was checked: a name
that resolves differently a moment later gains nothing.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from django.core.exceptions import ValidationError
from django.utils.translation import gettext

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_NAT64 = ipaddress.IPv6Network('64:ff9b::/96')
SHOWN = 200
"""Characters of an answer that are kept."""


class Blocked(Exception):
    """The address may not be reached; the text says why."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the other side answered."""

    status: int
    text: str
    milliseconds: int


@dataclass(frozen=True, slots=True)
class Target:
    """Where a URL points."""

    secure: bool
    host: str
    port: int
    path: str


def target(url: str) -> Target:
    """The parts of a URL. Raises ValidationError for what is none."""
    wrong = ValidationError(gettext('Enter an address such as https://hooks.example.com/imp.'))
    try:
        parts = urlsplit(url)
        port = parts.port
        host = (parts.hostname or '').encode('idna' if not (parts.hostname or '').isascii() else 'ascii').decode()
    except (ValueError, UnicodeError):
        raise wrong from None
    if parts.scheme not in ('http', 'https') or not host or port == 0:
        raise wrong
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise ValidationError(gettext('Leave user, password and “#” out of the address.'))
    if any(ord(char) <= 32 or ord(char) > 126 for char in url):
        raise ValidationError(gettext('Write blanks and other special characters of the address as %XX.'))
    secure = parts.scheme == 'https'
    path = (parts.path or '/') + (f'?{parts.query}' if parts.query else '')
    return Target(secure, host, port or (443 if secure else 80), path)


def networks(text: str) -> list[Network]:
    """Networks, one a line. Raises ValidationError naming what is none."""
    found = []
    for line in text.split():
        try:
            found.append(ipaddress.ip_network(line))
        except ValueError:
            raise ValidationError(
                gettext('%(line)s is no network. Write e.g. 192.0.2.0/24.') % {'line': line}
            ) from None
    return found


def refusal(address: Address, secure: bool, allowed: Sequence[Network]) -> str:
    """Why nothing is sent to ``address``, or ''."""
    real = _real(address)
    if real.is_multicast or real.is_unspecified:
        return gettext('%(address)s is no address of a host.') % {'address': address}
    if any(real in network for network in allowed if network.version == real.version):
        return ''
    if not real.is_global:
        text = gettext('%(address)s is not public. An administrator can allow its network in Webhook Settings.')
        return text % {'address': address}
    return '' if secure else gettext('Use https: http is taken for allowed private networks only.')


def _real(address: Address) -> Address:
    """The IPv4 address inside an IPv6 address that only carries one."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else address)


def reachable(where: Target, allowed: Sequence[Network]) -> list[str]:
    """The addresses of the host that may be reached. Raises Blocked when there are none, OSError by the resolver."""
    found = socket.getaddrinfo(where.host, where.port, type=socket.SOCK_STREAM)
    reason, usable = '', []
    for _family, _type, _protocol, _name, place in found:
        address = ipaddress.ip_address(str(place[0]).partition('%')[0])
        if text := refusal(address, where.secure, allowed):
            reason = text
        else:
            usable.append(str(address))
    if not usable:
        raise Blocked(reason or gettext('The name has no address.'))
    return usable


def post(url: str, body: bytes, headers: Mapping[str, str], allowed: Sequence[Network], timeout_s: float) -> Reply:
    """Send once. Raises Blocked, OSError or http.client.HTTPException."""
    where, began = target(url), time.monotonic()
    sock = socket.create_connection((reachable(where, allowed)[0], where.port), timeout_s)
    if where.secure:  # the socket given to it is detached: whatever is to be cut is this one
        sock = ssl.create_default_context().wrap_socket(sock, server_hostname=where.host, do_handshake_on_connect=False)
    late = threading.Timer(timeout_s, _cut, [sock])  # a time-out of the socket begins anew with every byte
    late.start()
    connection = http.client.HTTPConnection(where.host, where.port, timeout=timeout_s)
    try:
        connection.sock = sock
        if isinstance(sock, ssl.SSLSocket):
            sock.do_handshake()
        host = where.host if where.port == (443 if where.secure else 80) else f'{where.host}:{where.port}'
        connection.request('POST', where.path, body, {'Host': host, **headers})
        answer = connection.getresponse()
        text = answer.read(SHOWN * 4).decode('utf-8', 'replace')[:SHOWN]
        return Reply(answer.status, text.replace('\0', ''), round((time.monotonic() - began) * 1000))
    finally:
        late.cancel()
        connection.close()
        sock.close()


def _cut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)  # that of an SSLSocket would go on in clear
